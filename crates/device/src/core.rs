//! What both engines share: validation, the tables, fencing, and what happens when an operation ends.
//!
//! An engine calls [`Core::admit`] for each request. It either deals with the request at once, or returns the index of an
//! in-flight entry that the engine has to start. When the operation ends the engine calls [`Core::finish`], which either
//! queues the completion or asks for the operation to be started again where it stopped.
//!
//! Fault model: requests may hold garbage (answered, never acted on); transfers may be short, interrupted or refused for
//! the moment (continued); a sync may fail (the device is fenced against writes for good, because nobody can know
//! what it lost); an operation may never end (see [`Core::give_up_overdue`]).

use std::collections::VecDeque;
use std::os::fd::OwnedFd;

use crate::arena::Arena;
use crate::checksums::{Checksum, store_checksums};
use crate::engine::EngineConfig;
use crate::files::{Fence, FileKind, FileTable};
use crate::inflight::{InFlight, InFlightTable, State};
use crate::request::{
    COMPLETION_ABANDONED, COMPLETION_LATE, COMPLETION_MISMATCH, Completion, FLAG_FUA, FLAG_WAIT_ALL, Op, Request,
    Vector,
};
use crate::socket::PeerAddress;

mod admission;

use admission::Plan;

/// Kind of an extent that holds data, in what [`Op::Extents`] lists.
pub const EXTENT_DATA: u64 = 0;
/// Kind of an extent that is not allocated and reads as zeroes (NBD's `HOLE | ZERO`).
pub const EXTENT_HOLE: u64 = 3;
/// Bytes of one listed extent.
pub const EXTENT_BYTES: u32 = 16;

/// Transfers are continued at this granularity; a device that stops elsewhere is broken.
const SECTOR_BYTES: u32 = 512;

/// Whether an operation has ended.
#[derive(Debug, PartialEq, Eq)]
pub enum Ending {
    /// Its completion is queued.
    Done,
    /// It must be started again, from where it stopped.
    Again,
}

/// Tables and rules common to all engines.
pub struct Core {
    /// Where payloads are.
    pub arena: Arena,
    /// What is open.
    pub files: FileTable,
    /// What has been started.
    pub inflight: InFlightTable,
    /// Completions that are waiting to be collected.
    pub ready: VecDeque<Completion>,
    /// Slots whose last operation has ended after they were closed.
    pub idle_closed: Vec<u32>,
    checksum: Checksum,
    now_ms: u64,
}

impl Core {
    /// Empty tables of the sizes that `config` says.
    pub fn new(config: &EngineConfig) -> Core {
        Core {
            arena: config.arena,
            files: FileTable::new(config.files_max),
            inflight: InFlightTable::new(config.operations_max),
            ready: VecDeque::with_capacity(config.operations_max as usize),
            idle_closed: Vec::new(),
            checksum: config.checksum,
            now_ms: coarse_now_ms(),
        }
    }

    /// Reads the coarse clock; once per batch is enough.
    pub fn tick(&mut self) {
        self.now_ms = coarse_now_ms();
    }

    /// Validates `request` and carries out what needs no waiting. Returns the entry to start, if one is to be started.
    pub fn admit(&mut self, request: &Request, vectors: &[Vector]) -> Option<u32> {
        match self.check(request, vectors) {
            Ok(Plan::Start) => self.enter(request, vectors),
            Ok(Plan::Complete(result)) => {
                self.complete(request.token, result);
                None
            }
            Ok(Plan::Silent) => None,
            Ok(Plan::Mismatch) => {
                let (token, extra) = (request.token, request.memory_used());
                let completion = Completion { token, result: -libc::EBADMSG, flags: COMPLETION_MISMATCH, extra };
                self.ready.push_back(completion);
                None
            }
            Err(errno) => {
                self.complete(request.token, -errno);
                None
            }
        }
    }

    /// Queues a completion.
    pub fn complete(&mut self, token: u32, result: i32) {
        self.ready.push_back(Completion::new(token, result));
    }

    /// Stores extents where `request` wants them and returns their number, or `-EINVAL` if there is no room for one.
    pub fn store_extents(&mut self, request: &Request, extents: &[(u64, u64)]) -> i32 {
        let room = (request.length / EXTENT_BYTES) as usize;
        if room == 0 {
            return -libc::EINVAL;
        }
        let listed = &extents[..extents.len().min(room)];
        for (index, (length, kind)) in listed.iter().enumerate() {
            let at = request.memory + index as u32 * EXTENT_BYTES;
            self.arena.store(at, &(*length as f64).to_ne_bytes());
            self.arena.store(at + 8, &(*kind as f64).to_ne_bytes());
        }
        listed.len() as i32
    }

    fn enter(&mut self, request: &Request, vectors: &[Vector]) -> Option<u32> {
        let Some(index) = self.inflight.insert(request, self.now_ms) else {
            self.complete(request.token, -libc::EBUSY);
            return None;
        };
        if request.op == Op::Send as u32 {
            let message = self.inflight.get_mut(index).message();
            for (piece, vector) in message.vectors.iter_mut().zip(vectors) {
                piece.iov_base = self.arena.base().wrapping_byte_add(vector.memory as usize).cast();
                piece.iov_len = vector.length as usize;
            }
            message.first = 0;
            message.count = vectors.len();
        }
        if request.op != Op::Timeout as u32
            && let Some(file) = self.files.get_mut(request.file)
        {
            file.in_flight += 1;
        }
        Some(index)
    }

    /// Deals with the end of the operation at `index`; `result` is a count or a negative errno.
    pub fn finish(&mut self, index: u32, result: i32) -> Ending {
        let entry = self.inflight.get_mut(index);
        let request = entry.request;
        let op = Op::from_number(request.op).unwrap_or(Op::Nop);
        if entry.state == State::Abandoned {
            self.end(index, op, result);
            return Ending::Done;
        }
        // What became of a connect that was interrupted only its socket knows, and that is not asked twice.
        if (result == -libc::EINTR || result == -libc::EAGAIN) && op != Op::Connect {
            return Ending::Again;
        }
        let mut answer = result;
        if result > 0 {
            match op {
                Op::Read | Op::Write => {
                    entry.done += result as u32;
                    if entry.done < request.length {
                        if entry.done.is_multiple_of(SECTOR_BYTES) {
                            return Ending::Again;
                        }
                        answer = -libc::EIO;
                    } else {
                        answer = request.length as i32;
                    }
                }
                Op::Receive => {
                    entry.done += result as u32;
                    if request.flags & FLAG_WAIT_ALL != 0 && entry.done < request.length {
                        return Ending::Again;
                    }
                    answer = entry.done as i32;
                }
                Op::Send if entry.message().advance(result as usize) => return Ending::Again,
                _ => {}
            }
        } else if result == 0 {
            match op {
                // The device is shorter than it said, or takes nothing more: neither is a success.
                Op::Read | Op::Write if request.length > 0 => answer = -libc::EIO,
                Op::Send => answer = -libc::EPIPE,
                _ => {}
            }
        }
        if op == Op::Timeout && result == -libc::ETIME {
            answer = 0;
        }
        self.end(index, op, answer);
        Ending::Done
    }

    fn end(&mut self, index: u32, op: Op, answer: i32) {
        let entry = self.inflight.get_mut(index);
        let request = entry.request;
        let abandoned = entry.state == State::Abandoned;
        self.inflight.remove(index);
        let answer = if op == Op::Connect { self.end_connect(request.file, answer) } else { answer };
        // The producer was told that an abandoned read failed, so where its checksums were to go may be in use again.
        if op == Op::Read && answer >= 0 && !abandoned {
            store_checksums(&self.arena, self.checksum, &request);
        }
        if op != Op::Timeout {
            self.release_file(request.file);
            if fences(op, &request, answer) {
                self.fence(request.file, Fence::Writes);
            }
        }
        self.ready.push_back(Completion {
            token: request.token,
            result: answer,
            flags: if abandoned { COMPLETION_LATE } else { 0 },
            extra: request.memory_used(),
        });
    }

    /// A socket has been connected, or will never be: then it is closed here, as its result tells nobody of a file.
    fn end_connect(&mut self, slot: u32, result: i32) -> i32 {
        let Some(file) = self.files.get_mut(slot) else { return -libc::EBADF };
        file.peer = None;
        if file.closing {
            return -libc::ECANCELED;
        }
        if result < 0 {
            file.closing = true;
            return result;
        }
        file.kind = FileKind::Stream;
        slot as i32
    }

    /// Says where a socket is to be connected to.
    pub fn set_peer(&mut self, slot: u32, peer: PeerAddress) {
        if let Some(file) = self.files.get_mut(slot) {
            file.peer = Some(Box::new(peer));
        }
    }

    /// The connect that is in flight on a file.
    pub fn connecting(&self, slot: u32) -> Option<u32> {
        let file = self.files.get(slot)?;
        if file.kind != FileKind::Connecting || file.in_flight == 0 {
            return None;
        }
        let wanted = |entry: &InFlight| entry.request.op == Op::Connect as u32 && entry.request.file == slot;
        self.inflight.select(wanted).first().copied()
    }

    fn release_file(&mut self, slot: u32) {
        if let Some(file) = self.files.get_mut(slot) {
            file.in_flight -= 1;
            if file.closing && file.in_flight == 0 {
                self.idle_closed.push(slot);
            }
        }
    }

    /// Fences the device at `slot`; a fence only ever tightens.
    pub fn fence(&mut self, slot: u32, fence: Fence) {
        if let Some(file) = self.files.get_mut(slot) {
            file.fence = file.fence.max(fence);
        }
    }

    /// Begins to close `slot`. Returns whether it is idle, so that the engine can drop it now.
    pub fn begin_close(&mut self, slot: u32) -> bool {
        match self.files.get_mut(slot) {
            Some(file) => {
                file.closing = true;
                file.in_flight == 0
            }
            None => false,
        }
    }

    /// Adds an accepted connection, or refuses it with the errno to report.
    pub fn add_connection(&mut self, fd: OwnedFd) -> i32 {
        match self.files.insert(Some(fd), FileKind::Stream) {
            Some(slot) => slot as i32,
            None => -libc::ENFILE,
        }
    }

    /// Answers every operation of each device that has one older than `limit_ms`, and fences that device wholly.
    ///
    /// The kernel cannot be made to forget a device operation. A late write could land on top of a newer one, so the
    /// device takes nothing any more; a late read could land in memory that has found another use, so the
    /// memory is reported as free only when the operation ends (`COMPLETION_LATE`). Returns those given up.
    ///
    /// Operations in `waiting` have not reached their device, so they say nothing of it: their time begins now.
    pub fn give_up_overdue(&mut self, limit_ms: u64, waiting: &[u32]) -> Vec<u32> {
        self.tick();
        let now_ms = self.now_ms;
        for index in waiting {
            self.inflight.get_mut(*index).started_ms = now_ms;
        }
        let is_device = |number: u32| Op::from_number(number).is_some_and(Op::is_device);
        let overdue = self.inflight.select(|entry| {
            entry.state == State::Active
                && is_device(entry.request.op)
                && now_ms.saturating_sub(entry.started_ms) > limit_ms
        });
        let mut stuck: Vec<u32> = Vec::new();
        for index in overdue {
            let file = self.inflight.get_mut(index).request.file;
            if !stuck.contains(&file) {
                stuck.push(file);
            }
        }
        let mut given_up = Vec::new();
        for file in stuck {
            self.fence(file, Fence::All);
            let doomed = self.inflight.select(|entry| {
                entry.state == State::Active && is_device(entry.request.op) && entry.request.file == file
            });
            for index in doomed {
                let entry = self.inflight.get_mut(index);
                entry.state = State::Abandoned;
                let (token, extra) = (entry.request.token, entry.request.memory_used());
                self.ready.push_back(Completion { token, result: -libc::EIO, flags: COMPLETION_ABANDONED, extra });
                given_up.push(index);
            }
        }
        given_up
    }
}

/// Whether this ending means that a promise of durability was broken. A write that found no room promised nothing.
fn fences(op: Op, request: &Request, answer: i32) -> bool {
    if answer >= 0 || answer == -libc::ECANCELED {
        return false;
    }
    let refused = [-libc::ENOSPC, -libc::EDQUOT, -libc::EINVAL, -libc::EOPNOTSUPP].contains(&answer);
    let promised = op.modifies_device() && request.flags & FLAG_FUA != 0;
    op == Op::Sync || (promised && !refused)
}

/// Milliseconds of the coarse monotonic clock, which costs a few nanoseconds to read.
pub fn coarse_now_ms() -> u64 {
    let mut now = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: `now` is a valid place for the result.
    unsafe { libc::clock_gettime(libc::CLOCK_MONOTONIC_COARSE, &mut now) };
    now.tv_sec as u64 * 1000 + now.tv_nsec as u64 / 1_000_000
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::WaitMode;

    fn core() -> Core {
        let memory = Box::leak(vec![0u8; 65536].into_boxed_slice());
        // SAFETY: the memory is leaked, so it outlives everything.
        let arena = unsafe { Arena::new(memory.as_mut_ptr(), memory.len()) };
        Core::new(&EngineConfig {
            arena,
            operations_max: 8,
            files_max: 4,
            wait_mode: WaitMode::Poll,
            wake_token: 0,
            threads: 1,
            locked_bytes_max: 0,
            registered_bytes_max: 0,
            checksum: |_, _| CHECKSUM,
        })
    }

    const CHECKSUM: u32 = 0x1234_5678;

    fn checksum_at(core: &Core, at: u32) -> u32 {
        // SAFETY: four bytes lie there, and nothing else touches them.
        unsafe { core.arena.at(at, 4).unwrap().cast::<u32>().read_unaligned() }
    }

    fn device(core: &mut Core) -> u32 {
        core.files.insert(None, FileKind::Regular).unwrap()
    }

    fn request(op: Op, token: u32, file: u32) -> Request {
        let mut request = Request::new(op, token);
        (request.file, request.length, request.memory) = (file, 4096, 8192);
        request
    }

    #[test]
    fn an_overdue_operation_is_answered_once_and_its_memory_comes_back_later() {
        let mut core = core();
        let (stuck, healthy) = (device(&mut core), device(&mut core));
        let write = core.admit(&request(Op::Write, 1, stuck), &[]).unwrap();
        let read = core.admit(&request(Op::Read, 2, healthy), &[]).unwrap();
        core.inflight.get_mut(write).started_ms -= 1000;
        assert_eq!(core.give_up_overdue(500, &[]), [write]);
        let answer = core.ready.pop_front().unwrap();
        assert_eq!((answer.token, answer.result, answer.flags), (1, -libc::EIO, COMPLETION_ABANDONED));
        assert_eq!(answer.extra, 8192);
        // Nothing is accepted any more, not even reads, and the slot of the file is kept.
        assert_eq!(core.admit(&request(Op::Read, 3, stuck), &[]), None);
        assert_eq!(core.ready.pop_front().unwrap().result, -libc::EIO);
        assert!(!core.begin_close(stuck));
        // The other device goes on.
        assert_eq!(core.finish(read, 4096), Ending::Done);
        assert_eq!(core.ready.pop_front().unwrap(), Completion { token: 2, result: 4096, flags: 0, extra: 8192 });
        // When the kernel lets go at last, the memory is reported, whatever the result.
        assert_eq!(core.finish(write, 512), Ending::Done);
        let late = core.ready.pop_front().unwrap();
        assert_eq!((late.token, late.flags, late.extra), (1, COMPLETION_LATE, 8192));
        assert_eq!(core.idle_closed, [stuck]);
        assert!(core.give_up_overdue(0, &[]).is_empty());
    }

    #[test]
    fn an_operation_that_has_not_reached_its_device_is_not_overdue() {
        let mut core = core();
        let (stuck, behind) = (device(&mut core), device(&mut core));
        let running = core.admit(&request(Op::Discard, 1, stuck), &[]).unwrap();
        let unbegun = core.admit(&request(Op::Discard, 2, stuck), &[]).unwrap();
        let waiting = core.admit(&request(Op::Discard, 3, behind), &[]).unwrap();
        for index in [running, unbegun, waiting] {
            core.inflight.get_mut(index).started_ms -= 1000;
        }
        let mut given_up = core.give_up_overdue(500, &[unbegun, waiting]);
        given_up.sort();
        let mut expected = [running, unbegun];
        expected.sort();
        assert_eq!(given_up, expected);
        assert_eq!(core.files.get(behind).unwrap().fence, Fence::Open);
    }

    #[test]
    fn short_transfers_go_on_where_they_stopped() {
        let mut core = core();
        let file = device(&mut core);
        let read = core.admit(&request(Op::Read, 1, file), &[]).unwrap();
        assert_eq!(core.finish(read, 512), Ending::Again);
        assert_eq!(core.finish(read, -libc::EINTR), Ending::Again);
        assert_eq!(core.finish(read, 3584), Ending::Done);
        assert_eq!(core.ready.pop_front().unwrap().result, 4096);
        let read = core.admit(&request(Op::Read, 2, file), &[]).unwrap();
        assert_eq!(core.finish(read, 100), Ending::Done);
        assert_eq!(core.ready.pop_front().unwrap().result, -libc::EIO);
    }

    #[test]
    fn checksums_of_a_read_are_there_when_it_has_succeeded_and_not_otherwise() {
        let mut core = core();
        let file = device(&mut core);
        let read = |token: u32, checksums: u32| Request { checksums, ..request(Op::Read, token, file) };
        let indices = [4, 8, 12].map(|checksums| core.admit(&read(checksums, checksums), &[]).unwrap());
        assert_eq!(core.finish(indices[0], 2048), Ending::Again);
        assert_eq!(checksum_at(&core, 4), 0);
        assert_eq!(core.finish(indices[0], 2048), Ending::Done);
        assert_eq!(core.finish(indices[1], -libc::EIO), Ending::Done);
        core.inflight.get_mut(indices[2]).started_ms -= 1000;
        assert_eq!(core.give_up_overdue(500, &[]), [indices[2]]);
        assert_eq!(core.finish(indices[2], 4096), Ending::Done);
        assert_eq!([4, 8, 12].map(|at| checksum_at(&core, at)), [CHECKSUM, 0, 0]);
    }

    #[test]
    fn only_broken_promises_fence() {
        for (op, flags, errno, expected) in [
            (Op::Sync, 0, libc::EIO, Fence::Writes),
            (Op::Sync, 0, libc::ENOSPC, Fence::Writes),
            (Op::Write, FLAG_FUA, libc::EIO, Fence::Writes),
            (Op::Write, FLAG_FUA, libc::ENOSPC, Fence::Open),
            (Op::Write, 0, libc::EIO, Fence::Open),
            (Op::Discard, FLAG_FUA, libc::EIO, Fence::Writes),
            (Op::Zero, FLAG_FUA, libc::EOPNOTSUPP, Fence::Open),
            (Op::Read, 0, libc::EIO, Fence::Open),
        ] {
            let mut core = core();
            let file = device(&mut core);
            let index = core.admit(&Request { flags, ..request(op, 1, file) }, &[]).unwrap();
            assert_eq!(core.finish(index, -errno), Ending::Done);
            assert_eq!(core.files.get(file).unwrap().fence, expected, "{op:?} {flags} {errno}");
        }
    }
}
