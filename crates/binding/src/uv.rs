//! The few functions of libuv that the addon calls. Node.js exports them.
//!
//! No struct of libuv's is mirrored: handles are allocated by the size that libuv itself reports.

use std::ffi::{c_int, c_void};

use napi::sys;

/// libuv's event loop; opaque.
pub type Loop = sys::uv_loop_s;

/// `UV_IDLE`, `UV_POLL` and `UV_PREPARE` of `uv_handle_type` (uv.h).
pub const IDLE: c_int = 6;
/// See [`IDLE`].
pub const POLL: c_int = 8;
/// See [`IDLE`].
pub const PREPARE: c_int = 9;
/// `UV_READABLE` of `uv_poll_event` (uv.h).
pub const READABLE: c_int = 1;

/// Any handle; opaque.
#[repr(C)]
pub struct Handle {
    _opaque: [u8; 0],
}

pub type PollCallback = unsafe extern "C" fn(*mut Handle, status: c_int, events: c_int);
pub type LoopCallback = unsafe extern "C" fn(*mut Handle);
pub type CloseCallback = unsafe extern "C" fn(*mut Handle);

unsafe extern "C" {
    pub fn uv_handle_size(kind: c_int) -> usize;
    pub fn uv_handle_set_data(handle: *mut Handle, data: *mut c_void);
    pub fn uv_handle_get_data(handle: *const Handle) -> *mut c_void;
    pub fn uv_poll_init(uv_loop: *mut Loop, handle: *mut Handle, fd: c_int) -> c_int;
    pub fn uv_poll_start(handle: *mut Handle, events: c_int, callback: PollCallback) -> c_int;
    pub fn uv_prepare_init(uv_loop: *mut Loop, handle: *mut Handle) -> c_int;
    pub fn uv_prepare_start(handle: *mut Handle, callback: LoopCallback) -> c_int;
    pub fn uv_idle_init(uv_loop: *mut Loop, handle: *mut Handle) -> c_int;
    pub fn uv_idle_start(handle: *mut Handle, callback: LoopCallback) -> c_int;
    pub fn uv_idle_stop(handle: *mut Handle) -> c_int;
    pub fn uv_close(handle: *mut Handle, callback: CloseCallback);
    pub fn uv_ref(handle: *mut Handle);
    pub fn uv_unref(handle: *mut Handle);
    pub fn uv_backend_fd(uv_loop: *const Loop) -> c_int;
    pub fn uv_backend_timeout(uv_loop: *const Loop) -> c_int;
    pub fn uv_update_time(uv_loop: *mut Loop);
}

/// Allocates memory for a handle. It is freed by [`free_handle`], in the handle's close callback.
pub fn allocate_handle(kind: c_int) -> *mut Handle {
    // SAFETY: plain calls; a failed allocation is caught.
    let handle = unsafe { libc::calloc(1, uv_handle_size(kind)) };
    assert!(!handle.is_null(), "out of memory");
    handle.cast()
}

/// Frees what [`allocate_handle`] returned.
///
/// # Safety
/// The handle must have been closed, and its close callback called.
pub unsafe fn free_handle(handle: *mut Handle) {
    // SAFETY: by the contract of this function.
    unsafe { libc::free(handle.cast()) };
}
