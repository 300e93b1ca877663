//! Fault filters: an engine on top of an engine, which lets chosen device operations fail.
//!
//! Filters implement the interface that they wrap, so they stack, and everything above meets a fault exactly where a broken
//! device would cause it. Rules are tried in order; the first that matches an operation decides.
//!
//! ```text
//!   push ──► [rule?] ── no ──► inner engine
//!               ├─ error:   a completion with that errno; a failed sync fences the device, as a real one does
//!               ├─ delay:   held behind a time-out, then passed on
//!               ├─ corrupt: passed on; one bit of what was read is flipped before the completion is seen, and checksums
//!               │           that were asked for become those of what is there then
//!               ├─ lose:    a modification counts as done, and the device never sees it
//!               └─ kill:    the process ends by SIGKILL, before the operation or at its completion, before anybody sees it
//! ```

use std::collections::HashMap;
use std::io;
use std::os::fd::{OwnedFd, RawFd};
use std::time::Duration;

use crate::arena::Arena;
use crate::checksums::{Checksum, check_checksums, store_checksums};
use crate::engine::{CompletionSink, Engine, EngineStatus};
use crate::files::{Fence, FileKind};
use crate::request::{FLAG_FUA, NO_COPY, Op, Request, Vector};
use crate::socket::PeerAddress;

/// Tokens from here on belong to filters.
pub const FILTER_TOKENS: u32 = 0xff00_0000;

/// What happens to an operation that a rule matches.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FaultAction {
    /// It fails with this errno (positive).
    Error(i32),
    /// It is carried out this many milliseconds late.
    DelayMs(u32),
    /// One bit of what it read is flipped.
    Corrupt,
    /// A modification counts as done, with its checksums, and the device never sees it. Whatever else it is goes on.
    Lose,
    /// The process ends by SIGKILL instead of carrying it out: a failpoint. What was pushed before may never be submitted.
    Kill,
    /// The process ends by SIGKILL when it has been carried out, and before its completion is seen.
    KillDone,
}

/// Which operations a rule matches, and what happens to them.
#[derive(Clone, Copy, Debug)]
pub struct FaultRule {
    /// The operation; `None` for every device operation.
    pub op: Option<Op>,
    /// The file slot; `None` for all.
    pub file: Option<u32>,
    /// First byte of the range it applies to.
    pub start: u64,
    /// End of that range, exclusive.
    pub end: u64,
    /// Matches to let pass first.
    pub skip: u32,
    /// Matches to act on after that; `u32::MAX` for all.
    pub count: u32,
    /// Acts on one match in this many, chosen by `seed`; 0 and 1 mean every match.
    pub one_in: u32,
    /// Seed of that choice.
    pub seed: u64,
    /// What happens.
    pub action: FaultAction,
}

impl FaultRule {
    /// A rule that always acts on every device operation.
    pub fn always(action: FaultAction) -> FaultRule {
        FaultRule {
            op: None,
            file: None,
            start: 0,
            end: u64::MAX,
            skip: 0,
            count: u32::MAX,
            one_in: 1,
            seed: 1,
            action,
        }
    }

    fn matches(&self, op: Op, request: &Request) -> bool {
        let wanted = self.op.is_none_or(|wanted| wanted == op) && self.file.is_none_or(|file| file == request.file);
        if op == Op::Sync {
            return wanted;
        }
        let offset = request.offset as u64;
        let length = if matches!(op, Op::Read | Op::Write) { request.length as u64 } else { request.span as u64 };
        wanted && offset < self.end && offset.saturating_add(length) > self.start
    }

    /// Whether this match is one to act on.
    fn acts(&mut self) -> bool {
        if self.skip > 0 {
            self.skip -= 1;
            return false;
        }
        if self.count == 0 {
            return false;
        }
        if self.one_in > 1 {
            // xorshift64 (Marsaglia, "Xorshift RNGs", 2003); any choice that a seed repeats will do.
            self.seed ^= self.seed << 13;
            self.seed ^= self.seed >> 7;
            self.seed ^= self.seed << 17;
            if !self.seed.is_multiple_of(self.one_in as u64) {
                return false;
            }
        }
        if self.count != u32::MAX {
            self.count -= 1;
        }
        true
    }
}

/// See the module.
pub struct FaultFilter {
    inner: Box<dyn Engine>,
    arena: Arena,
    checksum: Checksum,
    rules: Vec<FaultRule>,
    held: HashMap<u32, Request>,
    next_held: u32,
    corrupting: Vec<Request>,
    /// Tokens of operations that the process does not outlive.
    last: Vec<u32>,
}

/// Ends the process as a crash would: nothing is closed, flushed or told to anybody.
fn kill_process() -> ! {
    // SAFETY: sends a signal to this process, and touches no memory.
    unsafe { libc::kill(libc::getpid(), libc::SIGKILL) };
    // The signal is on its way; this thread does nothing more until it has come.
    loop {
        std::thread::park();
    }
}

fn is_modification(request: &Request) -> bool {
    Op::from_number(request.op).is_some_and(Op::modifies_device)
}

impl FaultFilter {
    /// Puts `rules` in front of `inner`, whose arena and checksum are these.
    pub fn new(inner: Box<dyn Engine>, arena: Arena, checksum: Checksum, rules: Vec<FaultRule>) -> FaultFilter {
        let (held, corrupting, last) = (HashMap::new(), Vec::new(), Vec::new());
        FaultFilter { inner, arena, checksum, rules, held, next_held: 0, corrupting, last }
    }

    fn action_for(&mut self, request: &Request) -> Option<FaultAction> {
        let op = Op::from_number(request.op).filter(|op| op.is_device())?;
        let rule = self.rules.iter_mut().find(|rule| rule.matches(op, request))?;
        rule.acts().then_some(rule.action)
    }

    fn fail(&mut self, request: &Request, errno: i32) {
        let durable = request.op == Op::Sync as u32 || request.flags & FLAG_FUA != 0;
        if durable && errno != libc::ENOSPC {
            self.inner.fence(request.file, Fence::Writes);
        }
        let mut answer = Request::new(Op::Nop, request.token);
        answer.aux = -errno as u32;
        self.inner.push(&answer, &[]);
    }

    /// What a write copies from is its caller's again as soon as the write is pushed, so the copy is not late.
    fn copy_now(&self, request: &Request) -> Request {
        let mut copied = *request;
        if request.op != Op::Write as u32 || request.copy_from == NO_COPY {
            return copied;
        }
        let fits = request.aux as u64 + request.copy_length as u64 <= request.length as u64;
        let target = request.memory.checked_add(request.aux).filter(|_| fits);
        if target.is_some_and(|target| self.arena.copy(request.copy_from, target, request.copy_length)) {
            copied.copy_from = NO_COPY;
        }
        copied
    }

    /// Answers a modification as if it had been done. What is wrong with it, as with its place in the arena, is found by nobody.
    fn lose(&mut self, request: &Request) {
        let copied = self.copy_now(request);
        let write = request.op == Op::Write as u32;
        if write && check_checksums(&self.arena, &copied).is_ok() {
            store_checksums(&self.arena, self.checksum, &copied);
        }
        let mut answer = Request::new(Op::Nop, request.token);
        answer.aux = if write { request.length } else { 0 };
        self.inner.push(&answer, &[]);
    }

    fn hold(&mut self, request: &Request, delay_ms: u32) {
        let token = FILTER_TOKENS | (self.next_held & 0x00ff_ffff);
        self.next_held = self.next_held.wrapping_add(1);
        self.held.insert(token, self.copy_now(request));
        let mut timeout = Request::new(Op::Timeout, token);
        timeout.offset = delay_ms as f64;
        self.inner.push(&timeout, &[]);
    }
}

impl Engine for FaultFilter {
    fn status(&self) -> EngineStatus {
        self.inner.status()
    }

    fn poll_fd(&self) -> RawFd {
        self.inner.poll_fd()
    }

    fn id(&self) -> u32 {
        self.inner.id()
    }

    fn add_file(&mut self, fd: Option<OwnedFd>, kind: FileKind) -> io::Result<u32> {
        self.inner.add_file(fd, kind)
    }

    fn add_connecting(&mut self, fd: OwnedFd, peer: PeerAddress) -> io::Result<u32> {
        self.inner.add_connecting(fd, peer)
    }

    fn close_file(&mut self, slot: u32) {
        self.inner.close_file(slot);
    }

    fn shutdown_socket(&mut self, slot: u32) {
        self.inner.shutdown_socket(slot);
    }

    fn fence(&mut self, slot: u32, fence: Fence) {
        self.inner.fence(slot, fence);
    }

    fn fence_of(&self, slot: u32) -> Option<Fence> {
        self.inner.fence_of(slot)
    }

    fn push(&mut self, request: &Request, vectors: &[Vector]) {
        match self.action_for(request) {
            Some(FaultAction::Error(errno)) => self.fail(request, errno),
            Some(FaultAction::DelayMs(delay_ms)) => self.hold(request, delay_ms),
            Some(FaultAction::Corrupt) => {
                if request.op == Op::Read as u32 {
                    self.corrupting.push(*request);
                }
                self.inner.push(request, vectors);
            }
            Some(FaultAction::Lose) if is_modification(request) => self.lose(request),
            Some(FaultAction::Lose) => self.inner.push(request, vectors),
            Some(FaultAction::Kill) => kill_process(),
            Some(FaultAction::KillDone) => {
                self.last.push(request.token);
                self.inner.push(request, vectors);
            }
            None => self.inner.push(request, vectors),
        }
    }

    fn submit(&mut self) -> io::Result<()> {
        self.inner.submit()
    }

    fn wait(&mut self, timeout: Option<Duration>) -> io::Result<()> {
        self.inner.wait(timeout)
    }

    fn watch(&mut self, fd: RawFd) {
        self.inner.watch(fd);
    }

    fn take_watched(&mut self) -> bool {
        self.inner.take_watched()
    }

    fn collect(&mut self, out: &mut CompletionSink) -> usize {
        let before = out.length();
        self.inner.collect(out);
        let mut index = before;
        while index < out.length() {
            let completion = out.get(index);
            if self.last.contains(&completion.token) {
                kill_process();
            }
            if let Some(request) = self.held.remove(&completion.token) {
                out.remove(index);
                self.inner.push(&request, &[]);
                continue;
            }
            if let Some(at) = self.corrupting.iter().position(|request| request.token == completion.token) {
                let request = self.corrupting.swap_remove(at);
                if completion.result > 0 {
                    let bit = request.offset as u64 / 512;
                    self.arena.flip(request.memory + (bit as u32 % request.length), bit as u8);
                    store_checksums(&self.arena, self.checksum, &request);
                }
            }
            index += 1;
        }
        out.length() - before
    }

    fn give_up_overdue(&mut self, limit_ms: u64) -> usize {
        self.inner.give_up_overdue(limit_ms)
    }

    fn close(&mut self, grace: Duration) -> usize {
        self.inner.close(grace)
    }
}
