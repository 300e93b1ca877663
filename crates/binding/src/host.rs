//! The bridge between an engine and the event loop of the thread that owns it.
//!
//! ```text
//!   JavaScript ──writes──► submissions ──flush──► engine ──► kernel
//!        ▲                                           │
//!        └──one callback per batch── completions ◄───┘
//! ```
//!
//! In *poll* mode the loop polls the engine's descriptor; submissions are flushed after each callback and before the loop
//! sleeps. In *block* mode the engine does the sleeping: before the loop would poll, [`prepare`] waits in the engine for
//! completions, for as long as the loop itself would have slept, and watches the loop's own descriptor meanwhile. As long
//! as nothing but completions happens, control does not even return to the loop: one system call both submits a batch
//! and waits for the next. When it does return, an idle handle keeps the loop from sleeping a second time.
//!
//! The host is shared by a JavaScript object and by the loop's handles, all in one thread, and freed with the last of them.

use std::cell::{Cell, RefCell};
use std::ffi::c_void;
use std::ptr;
use std::rc::Rc;
use std::time::Duration;

use napi::sys;
use strake_device::engine::{CompletionSink, Engine, WaitMode};
use strake_device::request::{Completion, Request, Vector};

use crate::uv;

/// How long a thread that ends waits for device operations to end.
pub const EXIT_GRACE: Duration = Duration::from_secs(3);
/// Batches handled before control returns to the event loop, whatever happens.
const BATCHES_MAX: usize = 1024;

/// Completions delivered first when many have gathered; the batches after it double. What they lead to is submitted after
/// each, so that a device that has finished everything at once gets new work after a few completions, not after all.
const FIRST_BATCH: usize = 4;

/// Words of the control view.
const CONTROL_SUBMISSIONS: usize = 0;
const CONTROL_VECTORS: usize = 1;
const CONTROL_BATCHES: usize = 2;
/// Words that the control view must have.
pub const CONTROL_WORDS: usize = 4;

/// The memory through which the two sides talk.
#[derive(Clone, Copy, Debug)]
pub struct SharedMemory {
    pub control: *mut u32,
    pub submissions: *mut Request,
    pub submissions_count: usize,
    pub vectors: *mut Vector,
    pub vectors_count: usize,
    pub completions: *mut Completion,
    pub completions_count: usize,
}

/// See the module.
pub struct Host {
    env: sys::napi_env,
    uv_loop: *mut uv::Loop,
    mode: WaitMode,
    shared: SharedMemory,
    engine_id: u32,
    engine: RefCell<Option<Box<dyn Engine>>>,
    callback: Cell<sys::napi_ref>,
    context: Cell<sys::napi_async_context>,
    keep_alive: Vec<sys::napi_ref>,
    prepare: *mut uv::Handle,
    idle: *mut uv::Handle,
    poll: Cell<*mut uv::Handle>,
    open_handles: Cell<usize>,
    hook: Cell<sys::napi_async_cleanup_hook_handle>,
}

/// What [`Host::start`] needs.
pub struct HostParts {
    pub env: sys::napi_env,
    pub uv_loop: *mut uv::Loop,
    pub mode: WaitMode,
    pub shared: SharedMemory,
    pub engine: Box<dyn Engine>,
    pub callback: sys::napi_ref,
    pub context: sys::napi_async_context,
    pub keep_alive: Vec<sys::napi_ref>,
}

impl Host {
    /// Attaches an engine to the loop of the calling thread.
    pub fn start(parts: HostParts) -> napi::Result<Rc<Host>> {
        let poll_fd = parts.engine.poll_fd();
        let host = Rc::new(Host {
            env: parts.env,
            uv_loop: parts.uv_loop,
            mode: parts.mode,
            shared: parts.shared,
            engine_id: parts.engine.id(),
            engine: RefCell::new(Some(parts.engine)),
            callback: Cell::new(parts.callback),
            context: Cell::new(parts.context),
            keep_alive: parts.keep_alive,
            prepare: uv::allocate_handle(uv::PREPARE),
            idle: uv::allocate_handle(uv::IDLE),
            poll: Cell::new(ptr::null_mut()),
            open_handles: Cell::new(0),
            hook: Cell::new(ptr::null_mut()),
        });
        // SAFETY: the loop is this thread's; handles are freed in their close callbacks; each holds a reference to the host.
        unsafe {
            uv::uv_prepare_init(host.uv_loop, host.prepare);
            host.adopt(host.prepare);
            uv::uv_prepare_start(host.prepare, on_prepare);
            uv::uv_unref(host.prepare);
            uv::uv_idle_init(host.uv_loop, host.idle);
            host.adopt(host.idle);
            uv::uv_unref(host.idle);
            match host.mode {
                WaitMode::Block => {
                    let fd = uv::uv_backend_fd(host.uv_loop);
                    host.with_engine(|engine| engine.watch(fd));
                }
                WaitMode::Poll => host.start_polling(poll_fd)?,
            }
            let data = Rc::into_raw(Rc::clone(&host)) as *mut c_void;
            let mut hook = ptr::null_mut();
            sys::napi_add_async_cleanup_hook(host.env, Some(on_exit), data, &mut hook);
            host.hook.set(hook);
        }
        Ok(host)
    }

    unsafe fn start_polling(self: &Rc<Self>, fd: i32) -> napi::Result<()> {
        let handle = uv::allocate_handle(uv::POLL);
        // SAFETY: as in `start`; a handle that was never initialised is freed at once.
        unsafe {
            let status = uv::uv_poll_init(self.uv_loop, handle, fd);
            if status < 0 {
                uv::free_handle(handle);
                return Err(napi::Error::from_reason(format!("uv_poll_init: error {status}")));
            }
            self.adopt(handle);
            self.poll.set(handle);
            uv::uv_poll_start(handle, uv::READABLE, on_readable);
            uv::uv_unref(handle);
        }
        Ok(())
    }

    /// Gives a handle its reference to the host.
    unsafe fn adopt(self: &Rc<Self>, handle: *mut uv::Handle) {
        let data = Rc::into_raw(Rc::clone(self)) as *mut c_void;
        // SAFETY: the handle is initialised.
        unsafe { uv::uv_handle_set_data(handle, data) };
        self.open_handles.set(self.open_handles.get() + 1);
    }

    /// Calls `action` with the engine, or returns `None` when it is closed.
    pub fn with_engine<R>(&self, action: impl FnOnce(&mut Box<dyn Engine>) -> R) -> Option<R> {
        self.engine.borrow_mut().as_mut().map(action)
    }

    /// Replaces the engine by something stacked on top of it.
    pub fn wrap_engine(&self, wrap: impl FnOnce(Box<dyn Engine>) -> Box<dyn Engine>) {
        let mut engine = self.engine.borrow_mut();
        *engine = engine.take().map(wrap);
    }

    /// Keeps the event loop alive, or lets it end.
    pub fn set_ref(&self, alive: bool) {
        let handle = if self.poll.get().is_null() { self.prepare } else { self.poll.get() };
        if self.engine.borrow().is_none() {
            return;
        }
        // SAFETY: the handle is open as long as there is an engine.
        unsafe { if alive { uv::uv_ref(handle) } else { uv::uv_unref(handle) } };
    }

    /// Moves what JavaScript has written to the engine. The count is trusted only as far as the memory goes.
    fn take_submissions(&self, engine: &mut dyn Engine) {
        let shared = &self.shared;
        // SAFETY: the control words are this thread's; the entries below their counts are fully written.
        unsafe {
            let count = shared.control.add(CONTROL_SUBMISSIONS).read_volatile() as usize;
            if count == 0 {
                return;
            }
            for index in 0..count.min(shared.submissions_count) {
                let request = shared.submissions.add(index).read();
                let first = (request.vector as usize).min(shared.vectors_count);
                let pieces = (request.vectors as usize).min(shared.vectors_count - first);
                let vectors = std::slice::from_raw_parts(shared.vectors.add(first), pieces);
                engine.push(&request, vectors);
            }
            shared.control.add(CONTROL_SUBMISSIONS).write_volatile(0);
            shared.control.add(CONTROL_VECTORS).write_volatile(0);
        }
    }

    /// Takes everything written so far, without handing it over.
    pub fn take(&self) {
        self.with_engine(|engine| self.take_submissions(engine.as_mut()));
    }

    /// Hands over everything written so far.
    pub fn flush(&self) -> std::io::Result<()> {
        let flushed = self.with_engine(|engine| {
            self.take_submissions(engine.as_mut());
            engine.submit()
        });
        flushed.unwrap_or(Ok(()))
    }

    /// Moves at most `limit` completions to where JavaScript reads them. Returns their number.
    fn collect(&self, limit: usize) -> usize {
        let shared = &self.shared;
        let capacity = limit.min(shared.completions_count);
        self.with_engine(|engine| {
            // SAFETY: JavaScript reads these entries only during the callback, which has not begun.
            let mut sink = unsafe { CompletionSink::new(shared.completions, capacity) };
            engine.collect(&mut sink)
        })
        .unwrap_or(0)
    }

    /// Calls JavaScript for `count` completions. False when it cannot run any more.
    fn deliver(&self, count: usize) -> bool {
        let env = self.env;
        // SAFETY: the environment is this thread's and alive; handles made here are released by the scope.
        unsafe {
            let batches = self.shared.control.add(CONTROL_BATCHES);
            batches.write_volatile(batches.read_volatile().wrapping_add(1));
            let mut scope = ptr::null_mut();
            if sys::napi_open_handle_scope(env, &mut scope) != sys::Status::napi_ok {
                return false;
            }
            let (mut function, mut receiver, mut argument) = (ptr::null_mut(), ptr::null_mut(), ptr::null_mut());
            sys::napi_get_reference_value(env, self.callback.get(), &mut function);
            sys::napi_get_global(env, &mut receiver);
            sys::napi_create_uint32(env, count as u32, &mut argument);
            let status =
                sys::napi_make_callback(env, self.context.get(), receiver, function, 1, &argument, ptr::null_mut());
            let alive = status == sys::Status::napi_ok || self.report_exception(status);
            sys::napi_close_handle_scope(env, scope);
            alive
        }
    }

    /// An exception in the callback is a programmer's error: the thread ends with it, as with any uncaught exception.
    unsafe fn report_exception(&self, status: sys::napi_status) -> bool {
        if status == sys::Status::napi_pending_exception {
            let mut exception = ptr::null_mut();
            // SAFETY: as in `deliver`.
            unsafe {
                if sys::napi_get_and_clear_last_exception(self.env, &mut exception) == sys::Status::napi_ok {
                    sys::napi_fatal_exception(self.env, exception);
                }
            }
        }
        false
    }

    fn fail(&self, error: &std::io::Error) {
        let text = format!("the I/O engine failed: {error}");
        // SAFETY: as in `deliver`.
        unsafe {
            let mut scope = ptr::null_mut();
            sys::napi_open_handle_scope(self.env, &mut scope);
            let (mut message, mut exception) = (ptr::null_mut(), ptr::null_mut());
            sys::napi_create_string_utf8(self.env, text.as_ptr().cast(), text.len() as isize, &mut message);
            sys::napi_create_error(self.env, ptr::null_mut(), message, &mut exception);
            sys::napi_fatal_exception(self.env, exception);
            sys::napi_close_handle_scope(self.env, scope);
        }
    }

    /// Poll mode: deals with completions until there are none.
    fn pump(&self) {
        let mut limit = FIRST_BATCH;
        for _ in 0..BATCHES_MAX {
            let count = self.collect(limit);
            if count > 0 && !self.deliver(count) {
                return;
            }
            if let Err(error) = self.flush() {
                return self.fail(&error);
            }
            if count < limit {
                return;
            }
            limit *= 2;
        }
    }

    /// Block mode: submits, waits and delivers in place of the loop's own poll.
    fn run_instead_of_loop(&self) {
        // SAFETY: the idle handle is open as long as the prepare handle is. While it is active the loop's time-out is zero.
        unsafe { uv::uv_idle_stop(self.idle) };
        self.wait_and_deliver();
        if self.engine.borrow().is_some() {
            // SAFETY: as above.
            unsafe { uv::uv_idle_start(self.idle, on_idle) };
        }
    }

    fn wait_and_deliver(&self) {
        let mut limit = FIRST_BATCH;
        for _ in 0..BATCHES_MAX {
            // SAFETY: the loop is this thread's.
            let timeout_ms = unsafe { uv::uv_backend_timeout(self.uv_loop) };
            let timeout = u64::try_from(timeout_ms).ok().map(Duration::from_millis);
            let waited = self.with_engine(|engine| {
                self.take_submissions(engine.as_mut());
                engine.wait(timeout)
            });
            match waited {
                Some(Ok(())) => {}
                Some(Err(error)) => return self.fail(&error),
                None => return,
            }
            let count = self.collect(limit);
            if count > 0 && !self.deliver(count) {
                return;
            }
            limit = if count < limit { FIRST_BATCH } else { limit * 2 };
            let watched = self.with_engine(|engine| engine.take_watched());
            if timeout_ms == 0 || count == 0 || watched != Some(false) {
                break;
            }
            // SAFETY: the loop is this thread's. Its timers must see the time that passed here.
            unsafe { uv::uv_update_time(self.uv_loop) };
        }
        // What the last callback wrote should not wait for the loop to come round again.
        if let Err(error) = self.flush() {
            self.fail(&error);
        }
    }

    /// Closes the engine and detaches from the loop. Returns the number of operations that have not ended after `grace`.
    pub fn close(&self, grace: Duration) -> usize {
        let Some(mut engine) = self.engine.borrow_mut().take() else { return 0 };
        self.take_submissions(engine.as_mut());
        let _ = engine.submit();
        let left = engine.close(grace);
        if left > 0 {
            // The kernel may still look at its tables.
            std::mem::forget(engine);
        }
        // SAFETY: the handles are open until now; their callbacks release their references.
        unsafe {
            uv::uv_close(self.prepare, on_handle_closed);
            uv::uv_close(self.idle, on_handle_closed);
            if !self.poll.get().is_null() {
                uv::uv_close(self.poll.get(), on_handle_closed);
            }
        }
        left
    }

    /// Gives up the references to JavaScript values. Only for an environment that goes on.
    pub fn release_references(&self) {
        // SAFETY: each reference is released once, as the callback is cleared.
        unsafe {
            if self.callback.get().is_null() {
                return;
            }
            sys::napi_delete_reference(self.env, self.callback.replace(ptr::null_mut()));
            sys::napi_async_destroy(self.env, self.context.replace(ptr::null_mut()));
            for reference in &self.keep_alive {
                sys::napi_delete_reference(self.env, *reference);
            }
        }
    }
}

/// The host behind a handle; the handle keeps its reference.
unsafe fn host_of(handle: *mut uv::Handle) -> Rc<Host> {
    // SAFETY: `adopt` stored a pointer from `Rc::into_raw`, which is released only in `on_handle_closed`.
    unsafe {
        let host = uv::uv_handle_get_data(handle) as *const Host;
        Rc::increment_strong_count(host);
        Rc::from_raw(host)
    }
}

unsafe extern "C" fn on_prepare(handle: *mut uv::Handle) {
    // SAFETY: libuv passes a handle that was adopted.
    let host = unsafe { host_of(handle) };
    match host.mode {
        WaitMode::Block => host.run_instead_of_loop(),
        WaitMode::Poll => {
            if let Err(error) = host.flush() {
                host.fail(&error);
            }
        }
    }
}

/// The idle handle only has to be active.
unsafe extern "C" fn on_idle(_handle: *mut uv::Handle) {}

unsafe extern "C" fn on_readable(handle: *mut uv::Handle, _status: i32, _events: i32) {
    // SAFETY: libuv passes a handle that was adopted.
    unsafe { host_of(handle) }.pump();
}

unsafe extern "C" fn on_handle_closed(handle: *mut uv::Handle) {
    // SAFETY: this is the last use of the handle and of its reference to the host.
    unsafe {
        let host = Rc::from_raw(uv::uv_handle_get_data(handle) as *const Host);
        uv::free_handle(handle);
        host.open_handles.set(host.open_handles.get() - 1);
        let hook = host.hook.get();
        if host.open_handles.get() == 0 && !hook.is_null() {
            host.hook.set(ptr::null_mut());
            // The hook's own reference: it is not called any more, or has been.
            Rc::decrement_strong_count(Rc::as_ptr(&host));
            sys::napi_remove_async_cleanup_hook(hook);
        }
    }
}

/// The environment ends: a worker was stopped, or the process exits. Removing the hook lets it go on.
unsafe extern "C" fn on_exit(_handle: sys::napi_async_cleanup_hook_handle, data: *mut c_void) {
    // SAFETY: the hook's reference is still held.
    let host = unsafe { &*(data as *const Host) };
    let left = host.close(EXIT_GRACE);
    crate::engine::record_exit(left);
    crate::devices::drop_locks(host.engine_id);
}
