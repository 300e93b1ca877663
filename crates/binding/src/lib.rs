//! The N-API addon: the only crate that knows Node.js.
//!
//! It lends JavaScript's memory to an engine, ties the engine to an event loop, and opens devices. All logic is elsewhere.
#![allow(missing_docs)]

mod devices;
mod engine;
mod errors;
mod host;
mod system;
mod uv;
mod views;
