//! Device and socket I/O for Strake.
//!
//! An [`engine::Engine`] takes 64-byte [`request::Request`]s and returns 16-byte [`request::Completion`]s. There are two
//! of them with one interface: io_uring with registered buffers and files, and, where that is denied, threads and
//! epoll. Payloads live in an [`arena::Arena`] that the producer owns. [`faults::FaultFilter`] stacks on either.
//! [`open`] opens devices exclusively and tells what they are. Nothing here knows of Node.js.

#[cfg(not(target_os = "linux"))]
compile_error!("Strake drives Linux block devices; it builds on Linux only");

pub mod arena;
pub mod blocking;
pub mod checksums;
pub mod core;
pub mod engine;
pub mod event;
pub mod faults;
pub mod files;
pub mod geometry;
pub mod identity;
pub mod inflight;
pub mod open;
pub mod request;
pub mod signature;
pub mod socket;
pub mod threads;
pub mod uring;
pub mod wake;
