//! The io_uring engine: one ring, for one thread.
//!
//! ```text
//!   push ──► Core::admit ──► in-flight entry ──► SQE ──► kernel ──► CQE ──► Core::finish ──► ready ──► collect
//!                 └── answered at once ─────────────────────────────────────────────────────┘
//! ```
//!
//! A submission's user data is the index of its in-flight entry; the numbers above [`USER_EVENT`] are the engine's own.
//! Files are always registered, under their slot number. The arena is registered as fixed buffer 0 as far as the limit of
//! locked memory allows; operations beyond that use plain addresses.

use std::io;
use std::mem::MaybeUninit;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};
use std::sync::Arc;
use std::time::{Duration, Instant};

use io_uring::types::{CancelBuilder, SubmitArgs, Timespec};
use io_uring::{IoUring, cqueue, opcode, squeue};

use crate::blocking::BlockingPool;
use crate::core::{Core, Ending};
use crate::engine::{CompletionSink, Engine, EngineConfig, EngineKind, EngineStatus, WaitMode};
use crate::event::EventFd;
use crate::files::{Fence, FileKind};
use crate::inflight::State;
use crate::request::{COMPLETION_MORE, Op, Request, Vector};
use crate::socket::{self, PeerAddress};
use crate::wake::{self, WakeTarget};

mod registration;
mod start;

/// The event descriptor is readable.
const USER_EVENT: u64 = 1 << 40;
/// The watched descriptor is readable.
const USER_WATCH: u64 = 1 << 41;
/// Another ring woke this one.
const USER_WAKE: u64 = 1 << 42;
/// Nobody waits for this completion.
const USER_IGNORE: u64 = 1 << 43;

/// Submission entries; a fuller batch is submitted in parts.
const SUBMISSIONS: u32 = 1024;

/// See the module.
pub struct UringEngine {
    core: Core,
    ring: IoUring,
    id: u32,
    wake_token: u32,
    wait_mode: WaitMode,
    registered_bytes: usize,
    event: Arc<EventFd>,
    helpers: Option<BlockingPool>,
    watched: Option<RawFd>,
    watch_armed: bool,
    watch_fired: bool,
    signalled: bool,
    closed: bool,
}

impl UringEngine {
    /// A ring of the kind that the engine uses, to find out whether one can be had.
    pub fn try_setup(entries: u32, wait_mode: WaitMode) -> io::Result<IoUring> {
        let mut builder = IoUring::builder();
        builder.setup_single_issuer().setup_submit_all().setup_clamp();
        // The completion queue is larger than the submission queue: accepted operations outnumber a batch.
        builder.setup_cqsize(entries.saturating_mul(4));
        match wait_mode {
            // A ring that is polled through its descriptor must run its work by itself.
            WaitMode::Poll => builder.setup_coop_taskrun().setup_taskrun_flag(),
            WaitMode::Block => builder.setup_defer_taskrun().setup_taskrun_flag(),
        };
        builder.dontfork();
        let ring = builder.build(entries)?;
        if !ring.params().is_feature_ext_arg() || !ring.params().is_feature_nodrop() {
            return Err(io::Error::from_raw_os_error(libc::EINVAL));
        }
        Ok(ring)
    }

    /// Sets up a ring for the calling thread, which must make all later calls.
    pub fn new(config: EngineConfig) -> io::Result<UringEngine> {
        let ring = UringEngine::try_setup(SUBMISSIONS, config.wait_mode)?;
        ring.submitter().register_files_sparse(config.files_max)?;
        let event = Arc::new(EventFd::new()?);
        let registered_bytes = registration::register_arena(&ring, &config);
        let id = wake::register(WakeTarget { ring: Some(ring.as_raw_fd()), event: Arc::clone(&event) });
        let mut engine = UringEngine {
            core: Core::new(&config),
            ring,
            id,
            wake_token: config.wake_token,
            wait_mode: config.wait_mode,
            registered_bytes,
            event,
            helpers: None,
            watched: None,
            watch_armed: false,
            watch_fired: false,
            signalled: false,
            closed: false,
        };
        engine.arm_event();
        engine.submit()?;
        Ok(engine)
    }

    fn arm_event(&mut self) {
        let fd = io_uring::types::Fd(self.event.as_raw_fd());
        let entry = opcode::PollAdd::new(fd, libc::POLLIN as u32).build().user_data(USER_EVENT);
        self.queue(entry);
    }

    fn queue(&mut self, entry: squeue::Entry) {
        loop {
            // SAFETY: whatever the entry points to lives in an in-flight entry or in the arena, until its completion.
            if unsafe { self.ring.submission().push(&entry) }.is_ok() {
                return;
            }
            if let Err(error) = self.enter(0, None) {
                // A full completion queue is the only thing that passes by itself, and collecting helps it.
                assert!(is_transient(&error), "io_uring_enter: {error}");
                self.drain();
            }
        }
    }

    fn enter(&mut self, want: usize, timeout: Option<Duration>) -> io::Result<()> {
        let submitter = self.ring.submitter();
        let result = match timeout {
            Some(timeout) if want > 0 => {
                let timespec = Timespec::from(timeout);
                submitter.submit_with_args(want, &SubmitArgs::new().timespec(&timespec))
            }
            _ => submitter.submit_and_wait(want),
        };
        match result {
            Ok(_) => Ok(()),
            Err(error) if matches!(error.raw_os_error(), Some(libc::ETIME | libc::EINTR)) => Ok(()),
            Err(error) => Err(error),
        }
    }

    fn take_helper_outcomes(&mut self) {
        let Some(helpers) = &self.helpers else { return };
        for outcome in helpers.take_outcomes() {
            let mut result = outcome.result;
            let entry = self.core.inflight.get_mut(outcome.index);
            if result == 0 && entry.request.op == Op::Extents as u32 && entry.state == State::Active {
                let request = entry.request;
                result = self.core.store_extents(&request, &outcome.extents);
            }
            self.finish(outcome.index, result);
        }
    }

    fn finish(&mut self, index: u32, result: i32) {
        let entry = self.core.inflight.get_mut(index);
        let mut result = result;
        if entry.request.op == Op::Connect as u32 && result == -libc::ETIME {
            // A listener that had no room is asked again.
            return self.start(index);
        }
        if entry.request.op == Op::Accept as u32 && result >= 0 {
            let flags = entry.request.flags;
            result = self.welcome(result, flags);
        }
        if self.core.finish(index, result) == Ending::Again {
            self.start(index);
        }
        while let Some(slot) = self.core.idle_closed.pop() {
            self.drop_file(slot);
        }
    }

    /// Registers a connection that the kernel has just accepted. Returns its slot or a negative errno.
    fn welcome(&mut self, fd: RawFd, flags: u32) -> i32 {
        // SAFETY: the descriptor is new and ours.
        let fd = unsafe { OwnedFd::from_raw_fd(fd) };
        socket::prepare_connection(fd.as_raw_fd(), flags);
        let raw = fd.as_raw_fd();
        let slot = self.core.add_connection(fd);
        if slot >= 0
            && let Err(error) = self.ring.submitter().register_files_update(slot as u32, &[raw])
        {
            self.core.files.take_idle(slot as u32);
            return -error.raw_os_error().unwrap_or(libc::EIO);
        }
        slot
    }

    /// Closing the descriptor alone would leave the ring's own reference, and with it the file, open.
    fn drop_file(&mut self, slot: u32) {
        if let Some(file) = self.core.files.take_idle(slot) {
            if file.fd.is_some() {
                let _ = self.ring.submitter().register_files_update(slot, &[-1]);
            }
            drop(file);
        }
    }

    /// Moves what the kernel has completed to the ready queue.
    fn drain(&mut self) {
        let mut batch = [const { MaybeUninit::<cqueue::Entry>::uninit() }; 64];
        loop {
            let entries = self.ring.completion().fill(&mut batch);
            if entries.is_empty() {
                return;
            }
            for entry in entries.iter() {
                self.settle(entry.user_data(), entry.result(), entry.flags());
            }
        }
    }

    fn settle(&mut self, user: u64, result: i32, flags: u32) {
        match user {
            USER_EVENT => {
                self.event.clear();
                self.signalled = false;
                self.take_helper_outcomes();
                self.core.complete(self.wake_token, 0);
                if !self.closed {
                    self.arm_event();
                }
            }
            USER_WATCH => {
                self.watch_armed = false;
                self.watch_fired = true;
            }
            USER_WAKE => self.core.complete(self.wake_token, 0),
            USER_IGNORE => {}
            index => {
                self.finish(index as u32, result);
                if cqueue::sock_nonempty(flags)
                    && let Some(last) = self.core.ready.back_mut()
                {
                    last.flags |= COMPLETION_MORE;
                }
            }
        }
    }

    fn wake_other(&mut self, id: u32) {
        let Some(target) = wake::target(id) else { return };
        match target.ring {
            Some(ring) => {
                let entry = opcode::MsgRingData::new(io_uring::types::Fd(ring), 0, USER_WAKE, None)
                    .build()
                    .flags(squeue::Flags::SKIP_SUCCESS)
                    .user_data(USER_IGNORE);
                self.queue(entry);
            }
            None => target.event.signal(),
        }
    }
}

/// Whether an operation is done by a helper.
fn is_helped(op: u32) -> bool {
    [Op::Discard, Op::Zero, Op::Extents].into_iter().any(|helped| helped as u32 == op)
}

fn is_transient(error: &io::Error) -> bool {
    matches!(error.raw_os_error(), Some(libc::EAGAIN | libc::EBUSY | libc::EINTR))
}

impl Engine for UringEngine {
    fn status(&self) -> EngineStatus {
        EngineStatus {
            kind: EngineKind::Uring,
            registered_bytes: self.registered_bytes,
            in_flight: self.core.inflight.len(),
            files: self.core.files.used(),
        }
    }

    fn poll_fd(&self) -> RawFd {
        self.ring.as_raw_fd()
    }

    fn id(&self) -> u32 {
        self.id
    }

    fn add_file(&mut self, fd: Option<OwnedFd>, kind: FileKind) -> io::Result<u32> {
        let raw = fd.as_ref().map(AsRawFd::as_raw_fd);
        let slot = self.core.files.insert(fd, kind).ok_or_else(|| io::Error::from_raw_os_error(libc::ENFILE))?;
        if let Some(raw) = raw
            && let Err(error) = self.ring.submitter().register_files_update(slot, &[raw])
        {
            self.core.files.take_idle(slot);
            return Err(error);
        }
        Ok(slot)
    }

    fn add_connecting(&mut self, fd: OwnedFd, peer: PeerAddress) -> io::Result<u32> {
        let slot = self.add_file(Some(fd), FileKind::Connecting)?;
        self.core.set_peer(slot, peer);
        Ok(slot)
    }

    fn close_file(&mut self, slot: u32) {
        if let Some(index) = self.core.connecting(slot) {
            let cancelled = CancelBuilder::user_data(index as u64);
            self.queue(opcode::AsyncCancel2::new(cancelled).build().user_data(USER_IGNORE));
        }
        if self.core.begin_close(slot) {
            self.drop_file(slot);
        }
    }

    fn shutdown_socket(&mut self, slot: u32) {
        let Some(file) = self.core.files.get(slot) else { return };
        match file.kind {
            // Shutting down a socket that is being connected would let the kernel begin anew.
            FileKind::Connecting => self.close_file(slot),
            kind if !kind.is_device() => socket::shutdown(file.raw_fd()),
            _ => {}
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
            return self.wake_other(request.file);
        }
        if let Some(index) = self.core.admit(request, vectors) {
            self.start(index);
        }
    }

    fn submit(&mut self) -> io::Result<()> {
        self.core.tick();
        if !self.ring.submission().is_empty() {
            match self.enter(0, None) {
                Err(error) if is_transient(&error) => self.drain(),
                other => other?,
            }
        }
        // A loop that polls the ring's descriptor must learn of completions that the kernel knows nothing of.
        if self.wait_mode == WaitMode::Poll && !self.core.ready.is_empty() && !self.signalled {
            self.signalled = true;
            self.event.signal();
        }
        Ok(())
    }

    fn wait(&mut self, timeout: Option<Duration>) -> io::Result<()> {
        self.core.tick();
        if let Some(fd) = self.watched
            && !self.watch_armed
        {
            let entry =
                opcode::PollAdd::new(io_uring::types::Fd(fd), libc::POLLIN as u32).build().user_data(USER_WATCH);
            self.queue(entry);
            self.watch_armed = true;
        }
        let idle = timeout.is_some_and(|timeout| timeout.is_zero())
            || !self.core.ready.is_empty()
            || !self.ring.completion().is_empty();
        if idle {
            let queue = self.ring.submission();
            let nothing_to_do = queue.is_empty() && !queue.taskrun();
            drop(queue);
            if nothing_to_do {
                return Ok(());
            }
        }
        // With nothing to wait for, this submits and runs the kernel's deferred work.
        match self.enter(usize::from(!idle), timeout) {
            Err(error) if is_transient(&error) => Ok(()),
            other => other,
        }
    }

    fn watch(&mut self, fd: RawFd) {
        self.watched = Some(fd);
    }

    fn take_watched(&mut self) -> bool {
        std::mem::take(&mut self.watch_fired)
    }

    fn collect(&mut self, out: &mut CompletionSink) -> usize {
        self.drain();
        let before = out.length();
        while !out.is_full()
            && let Some(completion) = self.core.ready.pop_front()
        {
            out.push(completion);
        }
        out.length() - before
    }

    fn give_up_overdue(&mut self, limit_ms: u64) -> usize {
        let waiting = self.helpers.as_ref().map(BlockingPool::waiting).unwrap_or_default();
        let given_up = self.core.give_up_overdue(limit_ms, &waiting);
        let Some(helpers) = &self.helpers else { return given_up.len() };
        let mut helped = given_up.clone();
        helped.retain(|index| is_helped(self.core.inflight.get_mut(*index).request.op));
        for index in helpers.give_up(&helped) {
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
        let cancel = opcode::AsyncCancel2::new(CancelBuilder::any()).build().user_data(USER_IGNORE);
        self.queue(cancel);
        let deadline = Instant::now() + grace;
        loop {
            self.drain();
            self.core.ready.clear();
            let left = deadline.saturating_duration_since(Instant::now());
            if self.core.inflight.is_empty() || left.is_zero() {
                break;
            }
            // Helpers report through the event descriptor, whose poll was cancelled: look again soon.
            let step = left.min(Duration::from_millis(5));
            if self.enter(1, Some(step)).is_err() {
                break;
            }
            self.take_helper_outcomes();
        }
        for slot in self.core.files.slots() {
            self.close_file(slot);
        }
        self.core.inflight.len()
    }
}

impl Drop for UringEngine {
    fn drop(&mut self) {
        self.close(Duration::ZERO);
    }
}
