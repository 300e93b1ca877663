//! Errors that carry what JavaScript needs to make its own, typed ones.

use napi::{Error, Status};
use strake_device::open::OpenError;

/// `CODE|errno|message`, taken apart by `src/uring/native.ts`.
fn encode(code: &str, errno: i32, message: &str) -> Error {
    Error::new(Status::GenericFailure, format!("{code}|{errno}|{message}"))
}

/// A system call's error.
pub fn system_error(call: &str, error: &std::io::Error) -> Error {
    let errno = error.raw_os_error().unwrap_or(0);
    encode("SYSTEM", errno, &format!("{call}: {error}"))
}

/// Nothing more can be begun at the moment.
pub fn busy_error(message: &str) -> Error {
    encode("BUSY", libc::EBUSY, message)
}

/// Why a device was not opened.
pub fn open_error(error: &OpenError) -> Error {
    encode(error.code, error.errno, &error.message)
}
