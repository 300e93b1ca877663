//! Device operations as plain system calls, and the threads that run them.
//!
//! The thread-pool engine does all device work here. The io_uring engine uses it for what has no io_uring operation
//! that waits without holding up others: discards, zeroing and listing extents.
//!
//! A job holds its own reference to the descriptor, so that a thread stuck in a dead device never sees its number reused.
//! Results that are more than a number are returned by value: only the engine's own thread writes lists into the arena.

use std::collections::VecDeque;
use std::io;
use std::os::fd::{AsRawFd, OwnedFd, RawFd};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;

use crate::arena::Arena;
use crate::core::{EXTENT_BYTES, EXTENT_DATA, EXTENT_HOLE};
use crate::event::EventFd;
use crate::files::FileKind;
use crate::request::{FLAG_FAST_ONLY, FLAG_FUA, FLAG_KEEP_ALLOCATED, Op, Request};

/// The most bytes one system call discards or zeroes, so that closing need not wait for terabytes.
const RANGE_STEP_BYTES: u64 = 1 << 30;
/// Bytes of zeroes written at a time where a device cannot zero by itself.
const ZERO_BUFFER_BYTES: usize = 1 << 20;
const BLKDISCARD: libc::c_ulong = 0x1277;

/// One device operation for a thread to run.
pub struct Job {
    /// Index of the in-flight entry.
    pub index: u32,
    /// What to do.
    pub request: Request,
    /// Bytes of it that are already done.
    pub done: u32,
    /// On what.
    pub fd: Arc<OwnedFd>,
    /// What that is.
    pub kind: FileKind,
}

/// How a [`Job`] ended.
pub struct Outcome {
    /// Index of the in-flight entry.
    pub index: u32,
    /// A count or a negative errno.
    pub result: i32,
    /// For [`Op::Extents`]: (bytes, kind) pairs.
    pub extents: Vec<(u64, u64)>,
}

struct Shared {
    queue: Mutex<Queue>,
    wake: Condvar,
    outcomes: Mutex<Vec<Outcome>>,
    event: Arc<EventFd>,
    arena: Arena,
}

struct Queue {
    jobs: VecDeque<Job>,
    /// Jobs that were given up while they ran: others have taken the places of their threads.
    retired: Vec<u32>,
    stopping: bool,
}

// SAFETY: `Arena` is only an address and a length; the rules for the bytes behind it are stated there.
unsafe impl Sync for Shared {}

/// Threads that run device operations and report through an event descriptor.
pub struct BlockingPool {
    shared: Arc<Shared>,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl BlockingPool {
    /// Starts `threads` threads. Each outcome signals `event`.
    pub fn new(threads: usize, arena: Arena, event: Arc<EventFd>) -> io::Result<BlockingPool> {
        let shared = Arc::new(Shared {
            queue: Mutex::new(Queue { jobs: VecDeque::new(), retired: Vec::new(), stopping: false }),
            wake: Condvar::new(),
            outcomes: Mutex::new(Vec::new()),
            event,
            arena,
        });
        let pool = BlockingPool { shared };
        for _ in 0..threads {
            pool.add_thread()?;
        }
        Ok(pool)
    }

    fn add_thread(&self) -> io::Result<()> {
        let shared = Arc::clone(&self.shared);
        thread::Builder::new().name("strake-io".to_owned()).stack_size(256 << 10).spawn(move || work(&shared))?;
        Ok(())
    }

    /// Queues a job. The caller bounds the number of jobs by its in-flight table.
    pub fn push(&self, job: Job) {
        lock(&self.shared.queue).jobs.push_back(job);
        self.shared.wake.notify_one();
    }

    /// Jobs that no thread has begun.
    pub fn waiting(&self) -> Vec<u32> {
        lock(&self.shared.queue).jobs.iter().map(|job| job.index).collect()
    }

    /// Takes back those of these jobs that no thread has begun, and returns them. The threads of the others may be stuck
    /// for ever: each is replaced, and ends when its job does.
    pub fn give_up(&self, jobs: &[u32]) -> Vec<u32> {
        let mut queue = lock(&self.shared.queue);
        let (doomed, kept) = std::mem::take(&mut queue.jobs).into_iter().partition(|job| jobs.contains(&job.index));
        let doomed: VecDeque<Job> = doomed;
        queue.jobs = kept;
        let unbegun: Vec<u32> = doomed.iter().map(|job| job.index).collect();
        let begun: Vec<u32> = jobs.iter().copied().filter(|index| !unbegun.contains(index)).collect();
        for index in begun {
            // Without a new thread the old one stays, and the others have more to do.
            if self.add_thread().is_ok() {
                queue.retired.push(index);
            }
        }
        unbegun
    }

    /// Takes the outcomes so far.
    pub fn take_outcomes(&self) -> Vec<Outcome> {
        std::mem::take(&mut *lock(&self.shared.outcomes))
    }
}

impl Drop for BlockingPool {
    /// Lets the threads end by themselves; one that is stuck in a system call is not waited for.
    fn drop(&mut self) {
        let mut queue = lock(&self.shared.queue);
        queue.stopping = true;
        queue.jobs.clear();
        self.shared.wake.notify_all();
    }
}

fn work(shared: &Shared) {
    loop {
        let job = {
            let mut queue = lock(&shared.queue);
            loop {
                if let Some(job) = queue.jobs.pop_front() {
                    break job;
                }
                if queue.stopping {
                    return;
                }
                queue = shared.wake.wait(queue).unwrap_or_else(PoisonError::into_inner);
            }
        };
        let mut extents = Vec::new();
        let result = match execute(&job, &shared.arena, &mut extents) {
            Ok(count) => count,
            Err(error) => -error.raw_os_error().unwrap_or(libc::EIO),
        };
        let index = job.index;
        // The descriptor must be free before the outcome is seen, so that closing after it really closes.
        drop(job);
        let retired = take_retired(shared, index);
        lock(&shared.outcomes).push(Outcome { index, result, extents });
        shared.event.signal();
        if retired {
            return;
        }
    }
}

fn take_retired(shared: &Shared, index: u32) -> bool {
    let mut queue = lock(&shared.queue);
    let found = queue.retired.iter().position(|retired| *retired == index);
    found.map(|at| queue.retired.swap_remove(at)).is_some()
}

fn execute(job: &Job, arena: &Arena, extents: &mut Vec<(u64, u64)>) -> io::Result<i32> {
    let request = &job.request;
    let fd = job.fd.as_raw_fd();
    let invalid = || io::Error::from_raw_os_error(libc::EINVAL);
    let offset = request.offset_bytes().ok_or_else(invalid)?;
    let span = request.span_bytes().ok_or_else(invalid)?;
    match Op::from_number(request.op).ok_or_else(invalid)? {
        Op::Read | Op::Write => transfer(job, arena, offset),
        Op::Sync => sync(fd),
        Op::Discard => {
            discard(fd, job.kind, offset, span)?;
            sync_if_asked(fd, request)
        }
        Op::Zero => {
            zero(fd, job.kind, offset, span, request.flags)?;
            sync_if_asked(fd, request)
        }
        Op::Extents => {
            *extents = list_extents(fd, job.kind, offset, span, (request.length / EXTENT_BYTES) as usize)?;
            Ok(0)
        }
        _ => Err(invalid()),
    }
}

fn transfer(job: &Job, arena: &Arena, offset: u64) -> io::Result<i32> {
    let request = &job.request;
    let left = request.length - job.done;
    let memory = arena.at(request.memory + job.done, left).ok_or_else(|| io::Error::from_raw_os_error(libc::EFAULT))?;
    let at = (offset + job.done as u64) as libc::off_t;
    let piece = libc::iovec { iov_base: memory.cast(), iov_len: left as usize };
    let fd = job.fd.as_raw_fd();
    let count = if request.op == Op::Read as u32 {
        // SAFETY: `piece` lies within the arena.
        unsafe { libc::preadv2(fd, &piece, 1, at, 0) }
    } else {
        let flags = if request.flags & FLAG_FUA != 0 { libc::RWF_DSYNC } else { 0 };
        // SAFETY: `piece` lies within the arena.
        unsafe { libc::pwritev2(fd, &piece, 1, at, flags) }
    };
    if count < 0 { Err(io::Error::last_os_error()) } else { Ok(count as i32) }
}

fn sync(fd: RawFd) -> io::Result<i32> {
    // SAFETY: a plain call on an open descriptor.
    check(unsafe { libc::fdatasync(fd) })?;
    Ok(0)
}

fn sync_if_asked(fd: RawFd, request: &Request) -> io::Result<i32> {
    if request.flags & FLAG_FUA == 0 {
        return Ok(0);
    }
    // Whatever it is called, a sync that fails is a broken promise, and not a refusal of the operation.
    sync(fd).map_err(|_| io::Error::from_raw_os_error(libc::EIO))
}

fn check(result: libc::c_int) -> io::Result<()> {
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

fn by_steps(offset: u64, span: u64, mut step: impl FnMut(u64, u64) -> io::Result<()>) -> io::Result<()> {
    let end = offset + span;
    let mut at = offset;
    while at < end {
        let length = (end - at).min(RANGE_STEP_BYTES);
        step(at, length)?;
        at += length;
    }
    Ok(())
}

fn fallocate(fd: RawFd, mode: libc::c_int, at: u64, length: u64) -> io::Result<()> {
    // SAFETY: a plain call on an open descriptor.
    check(unsafe { libc::fallocate(fd, mode, at as libc::off_t, length as libc::off_t) })
}

/// Discards are advice: a device that has no use for them has still done what was asked.
fn discard(fd: RawFd, kind: FileKind, offset: u64, span: u64) -> io::Result<()> {
    let result = by_steps(offset, span, |at, length| match kind {
        FileKind::Block => {
            let range = [at, length];
            // SAFETY: BLKDISCARD reads two 64-bit numbers.
            check(unsafe { libc::ioctl(fd, BLKDISCARD, &range) })
        }
        _ => fallocate(fd, libc::FALLOC_FL_PUNCH_HOLE | libc::FALLOC_FL_KEEP_SIZE, at, length),
    });
    match result {
        Err(error) if is_unsupported(&error) => Ok(()),
        other => other,
    }
}

fn is_unsupported(error: &io::Error) -> bool {
    matches!(error.raw_os_error(), Some(libc::EOPNOTSUPP | libc::ENOSYS | libc::ENOTTY))
}

/// Zeroes a range by the cheapest way that `flags` allow. On a block device `PUNCH_HOLE` means "zero, unmapping if you
/// like, but do not write zeroes", and `ZERO_RANGE` "zero, keep the space, write zeroes if you must" (block/fops.c).
fn zero(fd: RawFd, kind: FileKind, offset: u64, span: u64, flags: u32) -> io::Result<()> {
    let keep_size = libc::FALLOC_FL_KEEP_SIZE;
    let punch = libc::FALLOC_FL_PUNCH_HOLE | keep_size;
    let range = libc::FALLOC_FL_ZERO_RANGE | keep_size;
    let keep_allocated = flags & FLAG_KEEP_ALLOCATED != 0;
    let fast_only = flags & FLAG_FAST_ONLY != 0;
    let modes: &[libc::c_int] = match (kind, keep_allocated, fast_only) {
        // ZERO_RANGE may write on a block device, so it is not a fast way there.
        (FileKind::Block, true, true) => &[],
        (FileKind::Block, false, true) => &[punch],
        (_, false, _) => &[punch, range],
        (_, true, _) => &[range],
    };
    for mode in modes {
        match by_steps(offset, span, |at, length| fallocate(fd, *mode, at, length)) {
            Err(error) if is_unsupported(&error) => continue,
            other => return other,
        }
    }
    if fast_only {
        return Err(io::Error::from_raw_os_error(libc::EOPNOTSUPP));
    }
    write_zeroes(fd, offset, span)
}

fn write_zeroes(fd: RawFd, offset: u64, span: u64) -> io::Result<()> {
    let layout = std::alloc::Layout::from_size_align(ZERO_BUFFER_BYTES, 4096).map_err(io::Error::other)?;
    // SAFETY: the size is not zero; the block is freed below with the same layout.
    let zeroes = unsafe { std::alloc::alloc_zeroed(layout) };
    if zeroes.is_null() {
        return Err(io::Error::from_raw_os_error(libc::ENOMEM));
    }
    let end = offset + span;
    let mut at = offset;
    let mut result = Ok(());
    while at < end {
        let length = (end - at).min(ZERO_BUFFER_BYTES as u64) as usize;
        // SAFETY: `zeroes` holds at least `length` bytes.
        let count = unsafe { libc::pwrite(fd, zeroes.cast(), length, at as libc::off_t) };
        if count <= 0 {
            result =
                if count < 0 { Err(io::Error::last_os_error()) } else { Err(io::Error::from_raw_os_error(libc::EIO)) };
            break;
        }
        at += count as u64;
    }
    // SAFETY: allocated above with this layout.
    unsafe { std::alloc::dealloc(zeroes, layout) };
    result
}

/// Lists (bytes, kind) extents from `offset`, at most `room` of them. A block device does not tell, so it is all data.
fn list_extents(fd: RawFd, kind: FileKind, offset: u64, span: u64, room: usize) -> io::Result<Vec<(u64, u64)>> {
    if kind == FileKind::Block {
        return Ok(vec![(span, EXTENT_DATA)]);
    }
    let end = offset + span;
    // A file that somebody has cut short would look like a hole up to its old end.
    if seek(fd, 0, libc::SEEK_END)? < Some(end) {
        return Err(io::Error::from_raw_os_error(libc::EIO));
    }
    let mut extents = Vec::new();
    let mut at = offset;
    while at < end && extents.len() < room {
        let data = seek(fd, at, libc::SEEK_DATA)?.unwrap_or(end).min(end);
        if data > at {
            extents.push((data - at, EXTENT_HOLE));
            at = data;
            continue;
        }
        let hole = seek(fd, at, libc::SEEK_HOLE)?.unwrap_or(end).min(end);
        if hole <= at {
            // The file changed between the two calls. Calling it data is always true enough.
            extents.push((end - at, EXTENT_DATA));
            break;
        }
        extents.push((hole - at, EXTENT_DATA));
        at = hole;
    }
    Ok(extents)
}

/// `None` where there is nothing of that kind before the end of the file.
fn seek(fd: RawFd, at: u64, whence: libc::c_int) -> io::Result<Option<u64>> {
    // SAFETY: a plain call on an open descriptor; nobody uses its file position.
    let found = unsafe { libc::lseek(fd, at as libc::off_t, whence) };
    if found >= 0 {
        return Ok(Some(found as u64));
    }
    let error = io::Error::last_os_error();
    if error.raw_os_error() == Some(libc::ENXIO) { Ok(None) } else { Err(error) }
}
