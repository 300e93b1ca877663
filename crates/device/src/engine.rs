//! The interface that both engines implement, and the choice between them.

use std::io;
use std::os::fd::{OwnedFd, RawFd};
use std::time::Duration;

use crate::arena::Arena;
use crate::checksums::Checksum;
use crate::files::{Fence, FileKind};
use crate::request::{Completion, Request, Vector};
use crate::socket::PeerAddress;
use crate::threads::ThreadsEngine;
use crate::uring::UringEngine;

/// Which engine does the work.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EngineKind {
    /// io_uring with registered buffers and files.
    Uring,
    /// System calls on threads, sockets by epoll.
    Threads,
}

/// Who waits for completions, which decides how the ring is set up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WaitMode {
    /// An event loop polls [`Engine::poll_fd`] and then collects.
    Poll,
    /// The owning thread calls [`Engine::wait`], and the engine watches the event loop's descriptor for it.
    Block,
}

/// Sizes and shared memory of an engine.
#[derive(Clone, Copy, Debug)]
pub struct EngineConfig {
    /// Where payloads are.
    pub arena: Arena,
    /// The most operations in flight, from 1 to 16384.
    pub operations_max: u32,
    /// The most open files, from 1 to 16384.
    pub files_max: u32,
    /// How completions are waited for.
    pub wait_mode: WaitMode,
    /// Token of the completion that tells of a wake-up by another thread.
    pub wake_token: u32,
    /// Threads for device operations, in the thread-pool engine.
    pub threads: usize,
    /// The most bytes to register where locked memory is limited: what one engine takes, others lack.
    pub locked_bytes_max: usize,
    /// The most bytes to register in any case: what lies behind is used by plain addresses, and takes no memory before that.
    pub registered_bytes_max: usize,
    /// The checksum that reads and writes can ask for.
    pub checksum: Checksum,
}

/// What an engine is doing and could do.
#[derive(Clone, Copy, Debug)]
pub struct EngineStatus {
    /// Which one it is.
    pub kind: EngineKind,
    /// Bytes at the start of the arena that are registered with the kernel.
    pub registered_bytes: usize,
    /// Operations that have not ended.
    pub in_flight: usize,
    /// Files that are open or closing.
    pub files: usize,
}

/// Asynchronous device and socket operations for one thread.
///
/// Requests are pushed, then submitted together; completions are collected together. Every request that is pushed
/// completes exactly once, but for copies and fills, which are done when `push` returns.
pub trait Engine {
    /// Figures for people and tests.
    fn status(&self) -> EngineStatus;

    /// Readable when there is something to collect.
    fn poll_fd(&self) -> RawFd;

    /// This engine's identifier, by which other threads wake it.
    fn id(&self) -> u32;

    /// Adds a file. `fd` is `None` for a null device. Errors: `ENFILE` when the table is full.
    fn add_file(&mut self, fd: Option<OwnedFd>, kind: FileKind) -> io::Result<u32>;

    /// Adds a socket that [`Op::Connect`] is to connect to `peer`. Errors: `ENFILE` when the table is full.
    fn add_connecting(&mut self, fd: OwnedFd, peer: PeerAddress) -> io::Result<u32>;

    /// Closes a file once nothing is in flight on it; new requests for it fail at once. A connect that is in flight is given up.
    fn close_file(&mut self, slot: u32);

    /// Ends the conversation on a socket: what is in flight on it completes.
    fn shutdown_socket(&mut self, slot: u32);

    /// Makes the device at `slot` accept less, for good.
    fn fence(&mut self, slot: u32, fence: Fence);

    /// What the device at `slot` still accepts; `None` if nothing is open there.
    fn fence_of(&self, slot: u32) -> Option<Fence>;

    /// Accepts one request. `vectors` are the pieces of a gathered send.
    fn push(&mut self, request: &Request, vectors: &[Vector]);

    /// Hands what was pushed to the kernel.
    fn submit(&mut self) -> io::Result<()>;

    /// Hands over what was pushed, then waits until something can be collected, the watched descriptor is readable or
    /// `timeout` (`None`: for ever) has passed.
    fn wait(&mut self, timeout: Option<Duration>) -> io::Result<()>;

    /// Watches an event loop's descriptor in [`Engine::wait`], level-triggered.
    fn watch(&mut self, fd: RawFd);

    /// Whether the watched descriptor has become readable since the last call.
    fn take_watched(&mut self) -> bool;

    /// Moves completions to `out` until it is full. Returns the number moved.
    fn collect(&mut self, out: &mut CompletionSink) -> usize;

    /// Answers all operations of devices that have one older than `limit_ms`; see `Core::give_up_overdue`.
    fn give_up_overdue(&mut self, limit_ms: u64) -> usize;

    /// Shuts sockets down, waits at most `grace` for what is in flight, and closes what is idle. Returns the number of
    /// operations that have not ended: if it is not zero, the arena must never be reused.
    fn close(&mut self, grace: Duration) -> usize;
}

/// Where completions are collected: an array of entries in memory shared with the consumer.
pub struct CompletionSink {
    base: *mut Completion,
    capacity: usize,
    length: usize,
}

impl CompletionSink {
    /// A sink over `capacity` entries at `base`.
    ///
    /// # Safety
    /// The memory must be valid for writes of that many entries, aligned, and not be read elsewhere while it is filled.
    pub unsafe fn new(base: *mut Completion, capacity: usize) -> CompletionSink {
        CompletionSink { base, capacity, length: 0 }
    }

    /// Whether there is no room left.
    pub fn is_full(&self) -> bool {
        self.length == self.capacity
    }

    /// Adds an entry; the caller has checked that there is room.
    pub fn push(&mut self, completion: Completion) {
        assert!(!self.is_full(), "the caller checks for room");
        // SAFETY: `length` is below `capacity`.
        unsafe { self.base.add(self.length).write(completion) };
        self.length += 1;
    }

    /// The entry at `index`, which must be below [`CompletionSink::length`].
    pub fn get(&self, index: usize) -> Completion {
        assert!(index < self.length, "an entry that was added");
        // SAFETY: entries below `length` have been written.
        unsafe { self.base.add(index).read() }
    }

    /// Takes out the entry at `index`; later ones move down.
    pub fn remove(&mut self, index: usize) {
        assert!(index < self.length, "an entry that was added");
        let after = self.length - index - 1;
        // SAFETY: both ranges lie within the entries that have been written.
        unsafe { std::ptr::copy(self.base.add(index + 1), self.base.add(index), after) };
        self.length -= 1;
    }

    /// Entries so far.
    pub fn length(&self) -> usize {
        self.length
    }
}

/// Opens an engine of the given kind for the calling thread.
pub fn open_engine(kind: EngineKind, config: EngineConfig) -> io::Result<Box<dyn Engine>> {
    Ok(match kind {
        EngineKind::Uring => Box::new(UringEngine::new(config)?),
        EngineKind::Threads => Box::new(ThreadsEngine::new(config)?),
    })
}

/// Why io_uring cannot be used here.
#[derive(Debug, thiserror::Error)]
#[error("{reason}")]
pub struct UringDenied {
    /// What the kernel answered, 0 if it answered nothing.
    pub errno: i32,
    /// In words.
    pub reason: String,
}

/// Tries whether an io_uring of the kind that Strake needs can be made here, and says why not.
pub fn probe_uring() -> Result<(), UringDenied> {
    // Threads that serve wait in this mode, which asks more of the kernel than the other.
    match UringEngine::try_setup(8, WaitMode::Block) {
        Ok(_) => Ok(()),
        Err(error) => {
            let errno = error.raw_os_error().unwrap_or(0);
            let reason = match errno {
                libc::EPERM | libc::EACCES => {
                    "io_uring is denied: by a seccomp profile (container runtimes do that) or by the sysctl \
                     kernel.io_uring_disabled"
                }
                libc::ENOSYS => "io_uring is not in this kernel, or is hidden by a seccomp profile",
                libc::EINVAL => "this kernel's io_uring is too old; Linux 6.1 or newer is needed",
                libc::ENOMEM => "the locked-memory limit (RLIMIT_MEMLOCK) is too small for an io_uring",
                libc::EMFILE | libc::ENFILE => "the limit of open files is reached",
                _ => "io_uring cannot be set up",
            };
            Err(UringDenied { errno, reason: format!("{reason} ({error})") })
        }
    }
}
