//! The thread-pool engine: what is used where io_uring is denied.
//!
//! Device operations are system calls on threads ([`BlockingPool`]); sockets are non-blocking and watched by epoll; time-outs
//! are a heap behind a timer descriptor. The epoll descriptor itself is what an event loop polls. It behaves as the
//! io_uring engine does, and passes the same tests; it has no speed to reach.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, HashMap};
use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};
use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::blocking::{BlockingPool, Job};
use crate::core::{Core, Ending};
use crate::engine::{CompletionSink, Engine, EngineConfig, EngineKind, EngineStatus};
use crate::event::EventFd;
use crate::files::{Fence, FileKind};
use crate::inflight::State;
use crate::request::{Op, Request, Vector};
use crate::socket::{self, PeerAddress};
use crate::wake::{self, WakeTarget};

const TAG_EVENT: u64 = u64::MAX;
const TAG_TIMER: u64 = u64::MAX - 1;
const TAG_WATCH: u64 = u64::MAX - 2;
/// Readiness reports taken at a time.
const EVENTS: usize = 128;

/// What waits for a socket to become ready: indices of in-flight entries. A producer has at most one of each.
#[derive(Default)]
struct Waiters {
    incoming: Option<u32>,
    outgoing: Option<u32>,
    registered: bool,
}

/// See the module.
pub struct ThreadsEngine {
    core: Core,
    id: u32,
    wake_token: u32,
    epoll: OwnedFd,
    timer: OwnedFd,
    event: Arc<EventFd>,
    pool: BlockingPool,
    sockets: HashMap<u32, Waiters>,
    timeouts: BinaryHeap<Reverse<(Instant, u32)>>,
    watched: Option<RawFd>,
    watch_fired: bool,
    signalled: bool,
    closed: bool,
}

fn check(result: libc::c_int) -> io::Result<libc::c_int> {
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(result) }
}

impl ThreadsEngine {
    /// Starts the threads of an engine for the calling thread, which must make all later calls.
    pub fn new(config: EngineConfig) -> io::Result<ThreadsEngine> {
        // SAFETY: plain calls; the descriptors are new and ours.
        let (epoll, timer) = unsafe {
            let epoll = OwnedFd::from_raw_fd(check(libc::epoll_create1(libc::EPOLL_CLOEXEC))?);
            let flags = libc::TFD_CLOEXEC | libc::TFD_NONBLOCK;
            let timer = OwnedFd::from_raw_fd(check(libc::timerfd_create(libc::CLOCK_MONOTONIC, flags))?);
            (epoll, timer)
        };
        let event = Arc::new(EventFd::new()?);
        let pool = BlockingPool::new(config.threads.max(1), config.arena, Arc::clone(&event))?;
        let mut engine = ThreadsEngine {
            core: Core::new(&config),
            id: 0,
            wake_token: config.wake_token,
            epoll,
            timer,
            event,
            pool,
            sockets: HashMap::new(),
            timeouts: BinaryHeap::new(),
            watched: None,
            watch_fired: false,
            signalled: false,
            closed: false,
        };
        engine.control(libc::EPOLL_CTL_ADD, engine.event.as_raw_fd(), libc::EPOLLIN, TAG_EVENT)?;
        engine.control(libc::EPOLL_CTL_ADD, engine.timer.as_raw_fd(), libc::EPOLLIN, TAG_TIMER)?;
        engine.id = wake::register(WakeTarget { ring: None, event: Arc::clone(&engine.event) });
        Ok(engine)
    }

    fn control(&self, operation: libc::c_int, fd: RawFd, events: libc::c_int, tag: u64) -> io::Result<()> {
        let mut event = libc::epoll_event { events: events as u32, u64: tag };
        // SAFETY: `event` is valid for the call.
        check(unsafe { libc::epoll_ctl(self.epoll.as_raw_fd(), operation, fd, &mut event) })?;
        Ok(())
    }

    fn start(&mut self, index: u32) {
        let entry = self.core.inflight.get_mut(index);
        let (request, done) = (entry.request, entry.done);
        match Op::from_number(request.op) {
            Some(op) if op.is_device() => {
                let file = self.core.files.get(request.file);
                match file.and_then(|file| Some((file.fd.clone()?, file.kind))) {
                    Some((fd, kind)) => self.pool.push(Job { index, request, done, fd, kind }),
                    None => self.finish(index, -libc::EBADF),
                }
            }
            Some(Op::Timeout) => {
                let due = Instant::now() + Duration::from_millis(request.offset as u64);
                self.timeouts.push(Reverse((due, index)));
                self.set_timer();
            }
            _ => self.attempt(index),
        }
    }

    /// Tries a socket operation, and waits for readiness if it cannot be done now.
    fn attempt(&mut self, index: u32) {
        let result = self.call(index);
        if result != -libc::EAGAIN && result != -libc::EINTR {
            return self.finish(index, result);
        }
        let entry = self.core.inflight.get_mut(index);
        let request = entry.request;
        let connecting = request.op == Op::Connect as u32;
        if connecting && entry.done == 0 {
            // Nothing tells when a unix listener has room again.
            self.timeouts.push(Reverse((Instant::now() + socket::CONNECT_AGAIN, index)));
            return self.set_timer();
        }
        let waiters = self.sockets.entry(request.file).or_default();
        if connecting || request.op == Op::Send as u32 {
            waiters.outgoing = Some(index);
        } else {
            waiters.incoming = Some(index);
        }
        self.watch_socket(request.file);
    }

    fn call(&mut self, index: u32) -> i32 {
        let entry = self.core.inflight.get_mut(index);
        let (request, done) = (entry.request, entry.done);
        let Some(fd) = self.core.files.get(request.file).map(|file| file.raw_fd()) else {
            return -libc::EBADF;
        };
        let result = match Op::from_number(request.op) {
            Some(Op::Receive) => {
                let Some(memory) = self.core.arena.at(request.memory + done, request.length - done) else {
                    return -libc::EFAULT;
                };
                let length = (request.length - done) as usize;
                // SAFETY: `memory` is valid for `length` bytes.
                unsafe { libc::recv(fd, memory.cast(), length, libc::MSG_DONTWAIT) }
            }
            Some(Op::Send) => {
                let message = entry.message().prepare();
                // SAFETY: the message points to vectors within the arena.
                unsafe { libc::sendmsg(fd, message, libc::MSG_DONTWAIT | libc::MSG_NOSIGNAL) }
            }
            Some(Op::Accept) => return self.accept(fd, request.flags),
            Some(Op::Connect) => return self.connect(fd, index),
            _ => return -libc::EINVAL,
        };
        if result < 0 { -last_errno() } else { result as i32 }
    }

    fn accept(&mut self, listener: RawFd, options: u32) -> i32 {
        let flags = libc::SOCK_CLOEXEC | libc::SOCK_NONBLOCK;
        // SAFETY: the peer's address is not asked for.
        let fd = unsafe { libc::accept4(listener, std::ptr::null_mut(), std::ptr::null_mut(), flags) };
        if fd < 0 {
            return -last_errno();
        }
        // SAFETY: the descriptor is new and ours.
        let fd = unsafe { OwnedFd::from_raw_fd(fd) };
        socket::prepare_connection(fd.as_raw_fd(), options);
        self.core.add_connection(fd)
    }

    /// `-EAGAIN` while it goes on; of one that is known to be under way, the entry has `done`.
    fn connect(&mut self, fd: RawFd, index: u32) -> i32 {
        let slot = self.core.inflight.get_mut(index).request.file;
        let Some(peer) = self.core.files.get(slot).and_then(|file| file.peer.as_deref()) else { return -libc::EBADF };
        let errno = match socket::connect(fd, peer) {
            Ok(()) => return 0,
            Err(error) => error.raw_os_error().unwrap_or(libc::EIO),
        };
        if errno != libc::EINPROGRESS && errno != libc::EALREADY {
            return -errno;
        }
        self.core.inflight.get_mut(index).done = 1;
        -libc::EAGAIN
    }

    fn watch_socket(&mut self, slot: u32) {
        let Some(fd) = self.core.files.get(slot).map(|file| file.raw_fd()) else { return };
        let Some(waiters) = self.sockets.get_mut(&slot) else { return };
        let mut events = libc::EPOLLONESHOT;
        if waiters.incoming.is_some() {
            events |= libc::EPOLLIN;
        }
        if waiters.outgoing.is_some() {
            events |= libc::EPOLLOUT;
        }
        let operation = if waiters.registered { libc::EPOLL_CTL_MOD } else { libc::EPOLL_CTL_ADD };
        waiters.registered = true;
        if let Err(error) = self.control(operation, fd, events, slot as u64) {
            let errno = error.raw_os_error().unwrap_or(libc::EIO);
            self.fail_waiters(slot, -errno);
        }
    }

    fn fail_waiters(&mut self, slot: u32, result: i32) {
        let Some(waiters) = self.sockets.get_mut(&slot) else { return };
        let waiting = [waiters.incoming.take(), waiters.outgoing.take()];
        for index in waiting.into_iter().flatten() {
            self.finish(index, result);
        }
    }

    fn finish(&mut self, index: u32, result: i32) {
        if self.core.finish(index, result) == Ending::Again {
            self.start(index);
        }
        while let Some(slot) = self.core.idle_closed.pop() {
            self.drop_file(slot);
        }
    }

    fn drop_file(&mut self, slot: u32) {
        // Closing the last reference to a descriptor takes it out of the epoll set.
        self.core.files.take_idle(slot);
        self.sockets.remove(&slot);
    }

    fn ready_socket(&mut self, slot: u32) {
        let Some(waiters) = self.sockets.get_mut(&slot) else { return };
        let waiting = [waiters.incoming.take(), waiters.outgoing.take()];
        for index in waiting.into_iter().flatten() {
            self.attempt(index);
        }
    }

    fn take_outcomes(&mut self) {
        self.event.clear();
        self.signalled = false;
        for outcome in self.pool.take_outcomes() {
            let mut result = outcome.result;
            let entry = self.core.inflight.get_mut(outcome.index);
            if result == 0 && entry.request.op == Op::Extents as u32 && entry.state == State::Active {
                let request = entry.request;
                result = self.core.store_extents(&request, &outcome.extents);
            }
            self.finish(outcome.index, result);
        }
        self.core.complete(self.wake_token, 0);
    }

    fn take_timeouts(&mut self) {
        let mut count = [0u8; 8];
        // SAFETY: `count` has room for eight bytes.
        unsafe { libc::read(self.timer.as_raw_fd(), count.as_mut_ptr().cast(), count.len()) };
        let now = Instant::now();
        while let Some(Reverse((due, index))) = self.timeouts.peek().copied() {
            if due > now {
                break;
            }
            self.timeouts.pop();
            if self.core.inflight.get_mut(index).request.op == Op::Connect as u32 {
                self.attempt(index);
            } else {
                self.finish(index, -libc::ETIME);
            }
        }
        self.set_timer();
    }

    fn set_timer(&mut self) {
        let delay = self.timeouts.peek().map(|Reverse((due, _))| {
            // Zero would disarm the timer.
            due.saturating_duration_since(Instant::now()).max(Duration::from_nanos(1))
        });
        let delay = delay.unwrap_or(Duration::ZERO);
        let zero = libc::timespec { tv_sec: 0, tv_nsec: 0 };
        let setting = libc::itimerspec {
            it_interval: zero,
            it_value: libc::timespec {
                tv_sec: delay.as_secs() as libc::time_t,
                tv_nsec: delay.subsec_nanos() as libc::c_long,
            },
        };
        // SAFETY: `setting` is valid; the old setting is not asked for.
        unsafe { libc::timerfd_settime(self.timer.as_raw_fd(), 0, &setting, std::ptr::null_mut()) };
    }

    /// Deals with what is ready, waiting at most `timeout_ms` (-1: for ever) for something to be.
    fn poll(&mut self, timeout_ms: i32) -> usize {
        let mut events = [libc::epoll_event { events: 0, u64: 0 }; EVENTS];
        // SAFETY: `events` has room for the number of entries given.
        let count =
            unsafe { libc::epoll_wait(self.epoll.as_raw_fd(), events.as_mut_ptr(), EVENTS as libc::c_int, timeout_ms) };
        let count = count.max(0) as usize;
        for event in &events[..count] {
            match event.u64 {
                TAG_EVENT => self.take_outcomes(),
                TAG_TIMER => self.take_timeouts(),
                TAG_WATCH => self.watch_fired = true,
                slot => self.ready_socket(slot as u32),
            }
        }
        count
    }
}

fn last_errno() -> i32 {
    io::Error::last_os_error().raw_os_error().unwrap_or(libc::EIO)
}

impl Engine for ThreadsEngine {
    fn status(&self) -> EngineStatus {
        EngineStatus {
            kind: EngineKind::Threads,
            registered_bytes: 0,
            in_flight: self.core.inflight.len(),
            files: self.core.files.used(),
        }
    }

    fn poll_fd(&self) -> RawFd {
        self.epoll.as_raw_fd()
    }

    fn id(&self) -> u32 {
        self.id
    }

    fn add_file(&mut self, fd: Option<OwnedFd>, kind: FileKind) -> io::Result<u32> {
        if let Some(fd) = &fd
            && !kind.is_device()
        {
            socket::set_nonblocking(fd.as_raw_fd())?;
        }
        self.core.files.insert(fd, kind).ok_or_else(|| io::Error::from_raw_os_error(libc::ENFILE))
    }

    fn add_connecting(&mut self, fd: OwnedFd, peer: PeerAddress) -> io::Result<u32> {
        let slot = self.add_file(Some(fd), FileKind::Connecting)?;
        self.core.set_peer(slot, peer);
        Ok(slot)
    }

    fn close_file(&mut self, slot: u32) {
        let connecting = self.core.connecting(slot);
        if self.core.begin_close(slot) {
            self.drop_file(slot);
        }
        if let Some(index) = connecting {
            self.timeouts.retain(|Reverse((_, waiting))| *waiting != index);
            self.fail_waiters(slot, -libc::ECANCELED);
            // One that waited for a time, and not for the socket, has not ended by that.
            if self.core.connecting(slot) == Some(index) {
                self.finish(index, -libc::ECANCELED);
            }
        }
    }

    fn shutdown_socket(&mut self, slot: u32) {
        if let Some(file) = self.core.files.get(slot)
            && !file.kind.is_device()
        {
            if file.kind == FileKind::Connecting {
                return self.close_file(slot);
            }
            socket::shutdown(file.raw_fd());
            if file.kind == FileKind::Listener {
                // A listening unix socket does not become readable by being shut down.
                self.fail_waiters(slot, -libc::EINVAL);
            }
        }
    }

    fn fence(&mut self, slot: u32, fence: Fence) {
        self.core.fence(slot, fence);
    }

    fn fence_of(&self, slot: u32) -> Option<Fence> {
        self.core.files.get(slot).map(|file| file.fence)
    }

    fn push(&mut self, request: &Request, vectors: &[Vector]) {
        if request.op == Op::Wake as u32 {
            return wake::wake(request.file);
        }
        if let Some(index) = self.core.admit(request, vectors) {
            self.start(index);
        }
    }

    fn submit(&mut self) -> io::Result<()> {
        self.core.tick();
        if !self.core.ready.is_empty() && !self.signalled {
            self.signalled = true;
            self.event.signal();
        }
        Ok(())
    }

    fn wait(&mut self, timeout: Option<Duration>) -> io::Result<()> {
        self.core.tick();
        let timeout_ms = match timeout {
            _ if !self.core.ready.is_empty() => 0,
            None => -1,
            Some(timeout) => timeout.as_millis().min(i32::MAX as u128) as i32,
        };
        self.poll(timeout_ms);
        Ok(())
    }

    fn watch(&mut self, fd: RawFd) {
        if self.watched.is_none() && self.control(libc::EPOLL_CTL_ADD, fd, libc::EPOLLIN, TAG_WATCH).is_ok() {
            self.watched = Some(fd);
        }
    }

    fn take_watched(&mut self) -> bool {
        std::mem::take(&mut self.watch_fired)
    }

    fn collect(&mut self, out: &mut CompletionSink) -> usize {
        while self.poll(0) == EVENTS {}
        let before = out.length();
        while !out.is_full()
            && let Some(completion) = self.core.ready.pop_front()
        {
            out.push(completion);
        }
        if !self.core.ready.is_empty() {
            self.event.signal();
        }
        out.length() - before
    }

    fn give_up_overdue(&mut self, limit_ms: u64) -> usize {
        let given_up = self.core.give_up_overdue(limit_ms, &self.pool.waiting());
        for index in self.pool.give_up(&given_up) {
            self.finish(index, -libc::EIO);
        }
        given_up.len()
    }

    fn close(&mut self, grace: Duration) -> usize {
        if self.closed {
            return self.core.inflight.len();
        }
        self.closed = true;
        wake::unregister(self.id);
        for slot in self.core.files.slots() {
            self.shutdown_socket(slot);
        }
        while let Some(Reverse((_, index))) = self.timeouts.pop() {
            self.finish(index, -libc::ECANCELED);
        }
        let deadline = Instant::now() + grace;
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            self.core.ready.clear();
            if self.core.inflight.is_empty() || left.is_zero() {
                break;
            }
            self.poll(left.as_millis().clamp(1, 50) as i32);
        }
        for slot in self.core.files.slots() {
            self.close_file(slot);
        }
        self.core.inflight.len()
    }
}

impl Drop for ThreadsEngine {
    fn drop(&mut self) {
        self.close(Duration::ZERO);
    }
}
