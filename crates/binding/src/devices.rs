//! Opening devices off the event loop, and keeping them until an engine adopts them.
//!
//! A device is opened in a thread of its own, because a dead disk can hold up `open` for ever. It waits here under a
//! number, which can be handed to any thread of the process.

use std::collections::HashMap;
use std::os::fd::OwnedFd;
use std::path::Path;
use std::sync::atomic::{AtomicU32, AtomicUsize, Ordering};
use std::sync::{LazyLock, Mutex, MutexGuard, PoisonError};
use std::thread;

use napi::bindgen_prelude::{JsValuesTupleIntoVec, Uint8Array, Unknown};
use napi::threadsafe_function::{ThreadsafeFunction, ThreadsafeFunctionCallMode};
use napi::{Error, Result, Status};
use napi_derive::napi;
use strake_device::files::FileKind;
use strake_device::identity::{Identity, identify};
use strake_device::open::{DeviceFacts, OpenDevice, inspect_device, open_device, read_device};

use crate::errors::{busy_error, open_error, system_error};

static WAITING: LazyLock<Mutex<HashMap<u32, OpenDevice>>> = LazyLock::new(Mutex::default);
static LOCKS: LazyLock<Mutex<HashMap<(u32, u32), OwnedFd>>> = LazyLock::new(Mutex::default);
static NEXT_HANDLE: AtomicU32 = AtomicU32::new(1);

fn lock<T>(mutex: &'static Mutex<T>) -> MutexGuard<'static, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn unknown(handle: u32) -> Error {
    Error::new(Status::InvalidArg, format!("no open device {handle}"))
}

/// Takes a waiting device.
pub fn take(handle: u32) -> Result<OpenDevice> {
    lock(&WAITING).remove(&handle).ok_or_else(|| unknown(handle))
}

fn with_waiting<T>(handle: u32, look: impl FnOnce(&OpenDevice) -> T) -> Result<T> {
    lock(&WAITING).get(&handle).map(look).ok_or_else(|| unknown(handle))
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

/// What device a path names.
#[napi(object)]
pub struct NativeIdentity {
    /// The same for all names of a device: `block:number`, or `file:device:inode`.
    pub key: String,
    /// Whether the path is a link that is not followed, so that its target has to be named to open it.
    pub refused_link: bool,
}

/// Told what a thread has found. It does not keep the event loop alive: the device may never answer.
type Done<T> = ThreadsafeFunction<T, Unknown<'static>, T, Status, true, true>;

/// Threads that open, examine or read devices at a time. Each that hangs keeps its own for as long as it does.
const THREADS_MAX: usize = 128;
static THREADS: AtomicUsize = AtomicUsize::new(0);

/// Does something in a thread of its own, and tells the result. libuv's pool has few threads for everything that a process
/// does, and waits for them when the process ends: a few devices that never answer would hold up all of it.
fn in_thread<T>(done: Done<T>, work: impl FnOnce() -> Result<T> + Send + 'static) -> Result<()>
where
    T: JsValuesTupleIntoVec + Send + 'static,
{
    if THREADS.fetch_add(1, Ordering::Relaxed) >= THREADS_MAX {
        THREADS.fetch_sub(1, Ordering::Relaxed);
        return Err(busy_error(&format!("{THREADS_MAX} devices are being opened that have not answered")));
    }
    let run = move || {
        let result = work();
        THREADS.fetch_sub(1, Ordering::Relaxed);
        done.call(result, ThreadsafeFunctionCallMode::NonBlocking);
    };
    thread::Builder::new().name("strake-device".to_owned()).spawn(run).map(|_| ()).map_err(|error| {
        THREADS.fetch_sub(1, Ordering::Relaxed);
        system_error("pthread_create", &error)
    })
}

/// Opens and locks a device for direct I/O: alone for writing, with other readers for reading.
#[napi(ts_args_type = "path: string, readOnly: boolean, done: (error: Error | null, opened: OpenedDevice) => void")]
pub fn open_native_device(path: String, read_only: bool, done: Done<OpenedDevice>) -> Result<()> {
    in_thread(done, move || {
        let device = open_device(Path::new(&path), read_only).map_err(|error| open_error(&error))?;
        let facts = describe(&device.facts);
        let handle = NEXT_HANDLE.fetch_add(1, Ordering::Relaxed);
        lock(&WAITING).insert(handle, device);
        Ok(OpenedDevice { handle, facts })
    })
}

/// Looks at a device without locking it.
#[napi(ts_args_type = "path: string, done: (error: Error | null, facts: NativeDeviceFacts) => void")]
pub fn inspect_native_device(path: String, done: Done<NativeDeviceFacts>) -> Result<()> {
    in_thread(done, move || {
        inspect_device(Path::new(&path)).map(|facts| describe(&facts)).map_err(|error| open_error(&error))
    })
}

/// Tells which device a path names, without opening it.
#[napi(ts_args_type = "path: string, done: (error: Error | null, identity: NativeIdentity) => void")]
pub fn identify_native_device(path: String, done: Done<NativeIdentity>) -> Result<()> {
    in_thread(done, move || {
        let Identity { key, refused_link } = identify(Path::new(&path)).map_err(|error| open_error(&error))?;
        Ok(NativeIdentity { key, refused_link })
    })
}

/// Reads from a device that no engine has adopted.
#[napi(
    ts_args_type = "handle: number, offset: number, length: number, done: (error: Error | null, bytes: Uint8Array) => void"
)]
pub fn read_native_device(handle: u32, offset: f64, length: u32, done: Done<Uint8Array>) -> Result<()> {
    // Its own descriptor of the same opening: the device may be closed while it is read.
    let fd = with_waiting(handle, |device| device.fd.try_clone())?.map_err(|error| system_error("dup", &error))?;
    let size = with_waiting(handle, |device| device.facts.geometry.size_bytes)?;
    in_thread(done, move || {
        let mut bytes = vec![0; length as usize];
        read_device(&fd, size, offset as u64, &mut bytes).map_err(|error| system_error("read", &error))?;
        Ok(bytes.into())
    })
}

/// Closes a device that no engine has adopted.
#[napi]
pub fn close_native_device(handle: u32) {
    lock(&WAITING).remove(&handle);
}
