//! Opening devices off the event loop, and keeping them until an engine adopts them.
//!
//! A device is opened in a background thread, because a dead disk can hold up `open` for long. It waits here under a
//! number, which can be handed to any thread of the process.

use std::collections::HashMap;
use std::os::fd::OwnedFd;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{LazyLock, Mutex, MutexGuard, PoisonError};

use napi::bindgen_prelude::AsyncTask;
use napi::{Env, Error, Result, Status, Task};
use napi_derive::napi;
use strake_device::files::FileKind;
use strake_device::open::{DeviceFacts, OpenDevice, inspect_device, open_device};

use crate::errors::open_error;

static WAITING: LazyLock<Mutex<HashMap<u32, OpenDevice>>> = LazyLock::new(Mutex::default);
static LOCKS: LazyLock<Mutex<HashMap<(u32, u32), OwnedFd>>> = LazyLock::new(Mutex::default);
static NEXT_HANDLE: AtomicU32 = AtomicU32::new(1);

fn lock<T>(mutex: &'static Mutex<T>) -> MutexGuard<'static, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Takes a waiting device.
pub fn take(handle: u32) -> Result<OpenDevice> {
    let unknown = || Error::new(Status::InvalidArg, format!("no open device {handle}"));
    lock(&WAITING).remove(&handle).ok_or_else(unknown)
}

/// Keeps the lock on a loop device's backing file as long as the device is open in an engine.
pub fn keep_lock(engine: u32, slot: u32, backing: OwnedFd) {
    lock(&LOCKS).insert((engine, slot), backing);
}

/// Gives up such a lock.
pub fn drop_lock(engine: u32, slot: u32) {
    lock(&LOCKS).remove(&(engine, slot));
}

/// Gives up all of an engine's.
pub fn drop_locks(engine: u32) {
    lock(&LOCKS).retain(|(owner, _), _| *owner != engine);
}

/// What is known of a device. Sizes are in bytes; where the kernel does not tell, a field is absent.
#[napi(object)]
pub struct NativeDeviceFacts {
    /// The path after following what may be followed.
    pub path: String,
    /// `block` or `file`.
    pub kind: String,
    /// Size.
    pub size_bytes: f64,
    /// Unit of addressing.
    pub logical_block_bytes: u32,
    /// Unit that is written without reading first.
    pub physical_block_bytes: u32,
    /// Alignment of memory.
    pub memory_align_bytes: u32,
    /// Whether it takes discards.
    pub discard: bool,
    /// Unit of discarding.
    pub discard_granularity_bytes: f64,
    /// The most that one discard covers.
    pub discard_max_bytes: f64,
    /// The most that it zeroes by itself.
    pub write_zeroes_max_bytes: f64,
    /// Volatile write cache.
    pub write_cache: Option<bool>,
    /// Forced unit access.
    pub fua: Option<bool>,
    /// Whether it spins.
    pub rotational: Option<bool>,
    /// Whether it is read-only.
    pub read_only: bool,
    /// Vendor's name.
    pub model: Option<String>,
    /// Formats found on it.
    pub signatures: Vec<String>,
    /// Who uses it.
    pub users: Vec<String>,
    /// `device:inode`, by which the same device is recognised.
    pub identity: String,
}

fn describe(facts: &DeviceFacts) -> NativeDeviceFacts {
    let geometry = &facts.geometry;
    NativeDeviceFacts {
        path: facts.path.to_string_lossy().into_owned(),
        kind: if facts.kind == FileKind::Block { "block" } else { "file" }.to_owned(),
        size_bytes: geometry.size_bytes as f64,
        logical_block_bytes: geometry.logical_block_bytes,
        physical_block_bytes: geometry.physical_block_bytes,
        memory_align_bytes: geometry.memory_align_bytes,
        discard: geometry.discard,
        discard_granularity_bytes: geometry.discard_granularity_bytes as f64,
        discard_max_bytes: geometry.discard_max_bytes as f64,
        write_zeroes_max_bytes: geometry.write_zeroes_max_bytes as f64,
        write_cache: geometry.write_cache,
        fua: geometry.fua,
        rotational: geometry.rotational,
        read_only: geometry.read_only,
        model: geometry.model.clone(),
        signatures: facts.signatures.clone(),
        users: facts.users.clone(),
        identity: format!("{}:{}", facts.device_number, facts.inode),
    }
}

/// An open, locked device that waits to be adopted.
#[napi(object)]
pub struct OpenedDevice {
    /// Its number.
    pub handle: u32,
    /// What it is.
    pub facts: NativeDeviceFacts,
}

/// Opens a device in the background.
pub struct OpenTask {
    path: PathBuf,
    read_only: bool,
}

impl Task for OpenTask {
    type Output = OpenedDevice;
    type JsValue = OpenedDevice;

    fn compute(&mut self) -> Result<OpenedDevice> {
        let device = open_device(&self.path, self.read_only).map_err(|error| open_error(&error))?;
        let facts = describe(&device.facts);
        let handle = NEXT_HANDLE.fetch_add(1, Ordering::Relaxed);
        lock(&WAITING).insert(handle, device);
        Ok(OpenedDevice { handle, facts })
    }

    fn resolve(&mut self, _env: Env, output: OpenedDevice) -> Result<OpenedDevice> {
        Ok(output)
    }
}

/// Looks at a device in the background.
pub struct InspectTask {
    path: PathBuf,
}

impl Task for InspectTask {
    type Output = NativeDeviceFacts;
    type JsValue = NativeDeviceFacts;

    fn compute(&mut self) -> Result<NativeDeviceFacts> {
        inspect_device(&self.path).map(|facts| describe(&facts)).map_err(|error| open_error(&error))
    }

    fn resolve(&mut self, _env: Env, output: NativeDeviceFacts) -> Result<NativeDeviceFacts> {
        Ok(output)
    }
}

/// Opens and locks a device for direct I/O: alone for writing, with other readers for reading.
#[napi(ts_return_type = "Promise<OpenedDevice>")]
pub fn open_native_device(path: String, read_only: bool) -> AsyncTask<OpenTask> {
    AsyncTask::new(OpenTask { path: PathBuf::from(path), read_only })
}

/// Looks at a device without locking it.
#[napi(ts_return_type = "Promise<NativeDeviceFacts>")]
pub fn inspect_native_device(path: String) -> AsyncTask<InspectTask> {
    AsyncTask::new(InspectTask { path: PathBuf::from(path) })
}

/// Closes a device that no engine has adopted.
#[napi]
pub fn close_native_device(handle: u32) {
    lock(&WAITING).remove(&handle);
}
