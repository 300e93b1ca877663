//! The engine as JavaScript sees it.

use std::net::{IpAddr, SocketAddr};
use std::path::Path;
use std::ptr;
use std::rc::Rc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use napi::bindgen_prelude::{Function, Object};
use napi::{Env, Error, JsValue, Result, Status, sys};
use napi_derive::napi;
use strake_codec::crc32c::crc32c_at;
use strake_device::arena::Arena;
use strake_device::engine::{EngineConfig, EngineKind, WaitMode, open_engine};
use strake_device::faults::{FaultAction, FaultFilter, FaultRule};
use strake_device::files::{Fence, FileKind};
use strake_device::request::{Op, Request};
use strake_device::socket::{self, PeerAddress};

use crate::devices;
use crate::errors::system_error;
use crate::host::{CONTROL_WORDS, Host, HostParts, SharedMemory};
use crate::views::{view_if_any, view_of};

/// Operations that had not ended when their threads did.
static LEFT_IN_FLIGHT: AtomicU32 = AtomicU32::new(0);

/// Counts operations that outlived their engine.
pub fn record_exit(left: usize) {
    LEFT_IN_FLIGHT.fetch_add(left as u32, Ordering::Relaxed);
}

/// Sizes and modes of an engine.
#[napi(object)]
pub struct EngineOptions {
    /// `io_uring` or `threads`.
    pub kind: String,
    /// Whether this thread may sleep in the engine instead of in its event loop. For threads that serve.
    pub blocking: bool,
    /// The most operations in flight.
    pub operations_max: u32,
    /// The most open files.
    pub files_max: u32,
    /// Threads of the thread-pool engine.
    pub threads: u32,
    /// Token of wake-ups.
    pub wake_token: u32,
    /// The most bytes to register with the kernel where locked memory is limited.
    pub locked_bytes_max: f64,
    /// The most bytes to register in any case.
    pub registered_bytes_max: f64,
}

/// What an engine is doing.
#[napi(object)]
pub struct EngineStatus {
    /// `io_uring` or `threads`.
    pub kind: String,
    /// Bytes of the arena that are registered with the kernel.
    pub registered_bytes: f64,
    /// Operations that have not ended.
    pub in_flight: u32,
    /// Open files.
    pub files: u32,
}

/// One rule of fault injection; see `strake_device::faults`.
#[napi(object)]
pub struct FaultRuleOptions {
    /// `read`, `write`, `sync`, `discard`, `zero`, `extents`, or absent for all.
    pub op: Option<String>,
    /// First byte of the range.
    pub start: Option<f64>,
    /// End of the range.
    pub end: Option<f64>,
    /// Matches to let pass first.
    pub skip: Option<u32>,
    /// Matches to act on.
    pub count: Option<u32>,
    /// One match in this many.
    pub one_in: Option<u32>,
    /// Seed of that choice.
    pub seed: Option<u32>,
    /// Fail with this errno.
    pub errno: Option<i32>,
    /// Or be late by this many milliseconds.
    pub delay_ms: Option<u32>,
    /// Or return a flipped bit.
    pub corrupt: Option<bool>,
    /// Or a modification counts as done, and the device never sees it.
    pub lose: Option<bool>,
    /// Or end the process by SIGKILL: `before` the operation is carried out, or when it is `done`.
    pub kill: Option<String>,
}

/// A listening TCP socket.
#[napi(object)]
pub struct TcpListener {
    /// File slot.
    pub file: u32,
    /// The port it listens on.
    pub port: u32,
}

/// An engine of the calling thread. All calls must come from that thread.
#[napi]
pub struct NativeEngine {
    host: Rc<Host>,
    arena: Arena,
    id: u32,
}

fn parse_kind(kind: &str) -> Result<EngineKind> {
    match kind {
        "io_uring" => Ok(EngineKind::Uring),
        "threads" => Ok(EngineKind::Threads),
        _ => Err(Error::new(Status::InvalidArg, format!("unknown engine {kind:?}"))),
    }
}

fn reference(env: &Env, value: sys::napi_value) -> sys::napi_ref {
    let mut made = ptr::null_mut();
    // SAFETY: the value belongs to this environment.
    unsafe { sys::napi_create_reference(env.raw(), value, 1, &mut made) };
    made
}

#[napi]
impl NativeEngine {
    /// Starts an engine. `views` holds typed arrays: `control`, `submissions`, `vectors`, `completions` and `arena`, and perhaps
    /// `guest`, the arena of another engine, which is addressed behind this one's. `on_completions` is called with the number
    /// of entries at the start of `completions`.
    #[napi(
        constructor,
        ts_args_type = "options: EngineOptions, views: { control: Int32Array, submissions: Int32Array, vectors: \
                        Int32Array, completions: Int32Array, arena: Uint8Array, guest?: Uint8Array }, onCompletions: (count: number) => void"
    )]
    pub fn new(env: Env, options: EngineOptions, views: Object, on_completions: Function<u32, ()>) -> Result<Self> {
        let (control, control_value) = view_of(&views, "control")?;
        let (submissions, submissions_value) = view_of(&views, "submissions")?;
        let (vectors, vectors_value) = view_of(&views, "vectors")?;
        let (completions, completions_value) = view_of(&views, "completions")?;
        let (memory, arena_value) = view_of(&views, "arena")?;
        let invalid = |name: &str| Error::new(Status::InvalidArg, format!("{name}: too small or not aligned"));
        let (control, words) = control.entries().ok_or_else(|| invalid("control"))?;
        if words < CONTROL_WORDS {
            return Err(invalid("control"));
        }
        let (submissions, submissions_count) = submissions.entries().ok_or_else(|| invalid("submissions"))?;
        let (vectors, vectors_count) = vectors.entries().ok_or_else(|| invalid("vectors"))?;
        let (completions, completions_count) = completions.entries().ok_or_else(|| invalid("completions"))?;
        // SAFETY: the host keeps references to all views until the engine is closed; memory that operations may still
        // touch after that is kept by whoever allocated it, who is told of it.
        let arena = unsafe { Arena::new(memory.base, memory.length) };
        let guest = view_if_any(&views, "guest")?;
        let arena = match &guest {
            // SAFETY: as above.
            Some((memory, _)) => unsafe { arena.with_guest(memory.base, memory.length) },
            None => arena,
        };
        let mode = if options.blocking { WaitMode::Block } else { WaitMode::Poll };
        let config = EngineConfig {
            arena,
            operations_max: options.operations_max.clamp(1, 16384),
            files_max: options.files_max.clamp(1, 16384),
            wait_mode: mode,
            wake_token: options.wake_token,
            threads: options.threads.clamp(1, 256) as usize,
            locked_bytes_max: options.locked_bytes_max as usize,
            registered_bytes_max: options.registered_bytes_max as usize,
            checksum: crc32c_at,
        };
        let kind = parse_kind(&options.kind)?;
        // The thread-pool engine has no ring to sleep in.
        let mode = if kind == EngineKind::Threads { WaitMode::Poll } else { mode };
        let engine = open_engine(kind, config).map_err(|error| system_error("io_uring_setup", &error))?;
        let id = engine.id();
        let mut values = vec![control_value, submissions_value, vectors_value, completions_value, arena_value];
        values.extend(guest.map(|(_, value)| value));
        let host = Host::start(HostParts {
            env: env.raw(),
            uv_loop: env.get_uv_event_loop()?,
            mode,
            shared: SharedMemory {
                control,
                submissions,
                submissions_count,
                vectors,
                vectors_count,
                completions,
                completions_count,
            },
            engine,
            callback: reference(&env, on_completions.value().value),
            context: async_context(&env)?,
            keep_alive: values.iter().map(|value| reference(&env, value.value().value)).collect(),
        })?;
        Ok(NativeEngine { host, arena, id })
    }

    /// This engine's identifier, by which others wake it.
    #[napi(getter)]
    pub fn id(&self) -> u32 {
        self.id
    }

    /// Hands over the submissions written so far.
    #[napi]
    pub fn flush(&self) -> Result<()> {
        self.host.flush().map_err(|error| system_error("io_uring_enter", &error))
    }

    /// Takes the submissions written so far: copies among them are done when this returns, and the rest is handed over with the
    /// next flush.
    #[napi]
    pub fn take(&self) {
        self.host.take();
    }

    /// Moves an open device into this engine. Returns its file slot.
    #[napi]
    pub fn adopt_device(&self, handle: u32) -> Result<u32> {
        let device = devices::take(handle)?;
        let kind = device.facts.kind;
        let slot = self.add_file(Some(device.fd), kind)?;
        if let Some(backing) = device.backing {
            devices::keep_lock(self.id, slot, backing);
        }
        Ok(slot)
    }

    /// Adds a device without storage.
    #[napi]
    pub fn add_null_device(&self) -> Result<u32> {
        self.add_file(None, FileKind::Null)
    }

    fn add_file(&self, fd: Option<std::os::fd::OwnedFd>, kind: FileKind) -> Result<u32> {
        let added = self.host.with_engine(|engine| engine.add_file(fd, kind));
        let closed = || Error::new(Status::Closing, "the engine is closed");
        added.ok_or_else(closed)?.map_err(|error| system_error("register", &error))
    }

    /// Listens on a unix socket (mode 0600). Returns its file slot.
    #[napi]
    pub fn listen_unix(&self, path: String) -> Result<u32> {
        let fd = socket::listen_unix(Path::new(&path)).map_err(|error| system_error("listen", &error))?;
        self.add_file(Some(fd), FileKind::Listener)
    }

    /// Listens on a TCP address.
    #[napi]
    pub fn listen_tcp(&self, address: String, port: u32) -> Result<TcpListener> {
        let address: IpAddr =
            address.parse().map_err(|_| Error::new(Status::InvalidArg, format!("not an IP address: {address}")))?;
        let address = SocketAddr::new(address, port as u16);
        let (fd, port) = socket::listen_tcp(address).map_err(|error| system_error("listen", &error))?;
        let file = self.add_file(Some(fd), FileKind::Listener)?;
        Ok(TcpListener { file, port: port as u32 })
    }

    /// Asks for a connection to a unix socket. `token` completes with its file slot or a negative errno; the slot that is
    /// returned is the one that it will have, and closing it gives the connection up (`ECANCELED`).
    #[napi]
    pub fn connect_unix(&self, path: String, token: u32) -> Result<u32> {
        let peer = PeerAddress::unix(Path::new(&path)).map_err(|error| system_error("connect", &error))?;
        self.connect(peer, token)
    }

    /// The same to a TCP address.
    #[napi]
    pub fn connect_tcp(&self, address: String, port: u32, token: u32) -> Result<u32> {
        let address: IpAddr =
            address.parse().map_err(|_| Error::new(Status::InvalidArg, format!("not an IP address: {address}")))?;
        let port = u16::try_from(port).map_err(|_| Error::new(Status::InvalidArg, format!("not a port: {port}")))?;
        self.connect(PeerAddress::tcp(SocketAddr::new(address, port)), token)
    }

    fn connect(&self, peer: PeerAddress, token: u32) -> Result<u32> {
        let fd = socket::connecting_socket(&peer).map_err(|error| system_error("socket", &error))?;
        let begun = self.host.with_engine(|engine| {
            let slot = engine.add_connecting(fd, peer)?;
            let mut request = Request::new(Op::Connect, token);
            request.file = slot;
            engine.push(&request, &[]);
            Ok(slot)
        });
        let closed = || Error::new(Status::Closing, "the engine is closed");
        begun.ok_or_else(closed)?.map_err(|error: std::io::Error| system_error("connect", &error))
    }

    /// Closes a file once nothing is in flight on it.
    #[napi]
    pub fn close_file(&self, slot: u32) {
        self.host.with_engine(|engine| engine.close_file(slot));
        devices::drop_lock(self.id, slot);
    }

    /// Ends the conversation on a socket.
    #[napi]
    pub fn shutdown_socket(&self, slot: u32) {
        self.host.with_engine(|engine| engine.shutdown_socket(slot));
    }

    /// What a device still accepts: 0 everything, 1 reads, 2 nothing; -1 if nothing is open there.
    #[napi]
    pub fn fence_of(&self, slot: u32) -> i32 {
        self.host.with_engine(|engine| engine.fence_of(slot)).flatten().map_or(-1, |fence| fence as i32)
    }

    /// Makes a device accept less: 1 only reads, 2 nothing. A fence only ever tightens.
    #[napi]
    pub fn fence_file(&self, slot: u32, fence: u32) {
        let fence = if fence > 1 { Fence::All } else { Fence::Writes };
        self.host.with_engine(|engine| engine.fence(slot, fence));
    }

    /// Answers the operations of devices that have one older than `limit_ms`. Returns how many.
    #[napi]
    pub fn give_up_overdue(&self, limit_ms: u32) -> u32 {
        self.host.with_engine(|engine| engine.give_up_overdue(limit_ms as u64)).unwrap_or(0) as u32
    }

    /// Figures for people and tests.
    #[napi]
    pub fn status(&self) -> Option<EngineStatus> {
        self.host.with_engine(|engine| {
            let status = engine.status();
            EngineStatus {
                kind: kind_name(status.kind).to_owned(),
                registered_bytes: status.registered_bytes as f64,
                in_flight: status.in_flight as u32,
                files: status.files as u32,
            }
        })
    }

    /// Puts a fault filter on top of the engine, for tests of what is above.
    #[napi]
    pub fn inject_faults(&self, rules: Vec<FaultRuleOptions>) -> Result<()> {
        let rules = rules.iter().map(parse_rule).collect::<Result<Vec<_>>>()?;
        let arena = self.arena;
        self.host.wrap_engine(|engine| Box::new(FaultFilter::new(engine, arena, crc32c_at, rules)));
        Ok(())
    }

    /// Keeps the event loop alive, or lets it end.
    #[napi]
    pub fn set_ref(&self, alive: bool) {
        self.host.set_ref(alive);
    }

    /// Closes everything, waiting at most `grace_ms` for operations in flight. Returns how many have not ended.
    #[napi]
    pub fn close(&self, grace_ms: u32) -> u32 {
        let left = self.host.close(Duration::from_millis(grace_ms as u64));
        self.host.release_references();
        devices::drop_locks(self.id);
        left as u32
    }
}

/// Operations that had not ended when their threads did: memory that was theirs must not be used again.
#[napi]
pub fn left_in_flight() -> u32 {
    LEFT_IN_FLIGHT.load(Ordering::Relaxed)
}

fn kind_name(kind: EngineKind) -> &'static str {
    match kind {
        EngineKind::Uring => "io_uring",
        EngineKind::Threads => "threads",
    }
}

fn async_context(env: &Env) -> Result<sys::napi_async_context> {
    let name = env.create_string("strake:engine")?;
    let mut context = ptr::null_mut();
    // SAFETY: the name belongs to this environment; no resource object is attached.
    unsafe { sys::napi_async_init(env.raw(), ptr::null_mut(), name.value().value, &mut context) };
    Ok(context)
}

fn parse_rule(options: &FaultRuleOptions) -> Result<FaultRule> {
    let op = match options.op.as_deref() {
        None => None,
        Some("read") => Some(Op::Read),
        Some("write") => Some(Op::Write),
        Some("sync") => Some(Op::Sync),
        Some("discard") => Some(Op::Discard),
        Some("zero") => Some(Op::Zero),
        Some("extents") => Some(Op::Extents),
        Some(other) => return Err(Error::new(Status::InvalidArg, format!("unknown operation {other:?}"))),
    };
    let FaultRuleOptions { errno, delay_ms, corrupt, lose, kill, .. } = options;
    let action = match (errno, delay_ms, corrupt, lose, kill.as_deref()) {
        (Some(errno), None, None, None, None) if *errno > 0 => FaultAction::Error(*errno),
        (None, Some(delay), None, None, None) => FaultAction::DelayMs(*delay),
        (None, None, Some(true), None, None) => FaultAction::Corrupt,
        (None, None, None, Some(true), None) => FaultAction::Lose,
        (None, None, None, None, Some("before")) => FaultAction::Kill,
        (None, None, None, None, Some("done")) => FaultAction::KillDone,
        _ => return Err(Error::new(Status::InvalidArg, "one of errno, delayMs, corrupt, lose and kill is needed")),
    };
    Ok(FaultRule {
        op,
        start: options.start.unwrap_or(0.0) as u64,
        end: options.end.map_or(u64::MAX, |end| end as u64),
        skip: options.skip.unwrap_or(0),
        count: options.count.unwrap_or(u32::MAX),
        one_in: options.one_in.unwrap_or(1),
        seed: options.seed.unwrap_or(1).max(1) as u64,
        ..FaultRule::always(action)
    })
}
