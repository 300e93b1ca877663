//! What the engine tests share: an engine with memory of its own, and files to work on.

#![allow(dead_code, missing_docs)]

use std::fs::{File, OpenOptions};
use std::io::Write;
use std::os::fd::OwnedFd;
use std::os::unix::fs::OpenOptionsExt;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use strake_device::arena::Arena;
use strake_device::engine::{CompletionSink, Engine, EngineConfig, EngineKind, WaitMode, open_engine, probe_uring};
use strake_device::files::FileKind;
use strake_device::request::{Completion, Op, Request, Vector};

pub const WAKE_TOKEN: u32 = 0xfeed;
pub const ARENA_BYTES: usize = 4 << 20;
/// Nothing here takes this long unless it hangs.
const PATIENCE: Duration = Duration::from_secs(20);

/// Page-aligned memory that lives until the end of the test process: operations may outlive an engine.
pub fn memory(length: usize) -> Arena {
    let layout = std::alloc::Layout::from_size_align(length, 4096).unwrap();
    // SAFETY: the size is not zero, and the memory is never freed.
    unsafe { Arena::new(std::alloc::alloc_zeroed(layout), length) }
}

/// FNV-1a of 32 bits: an engine takes any checksum, and this one is known to nothing else here.
pub fn fnv1a(bytes: &[u8]) -> u32 {
    bytes.iter().fold(0x811c_9dc5, |hash, byte| (hash ^ u32::from(*byte)).wrapping_mul(0x0100_0193))
}

unsafe fn fnv1a_at(bytes: *const u8, length: usize) -> u32 {
    // SAFETY: an engine guarantees that the bytes are readable, and nothing here changes them meanwhile.
    fnv1a(unsafe { std::slice::from_raw_parts(bytes, length) })
}

pub fn config(wait_mode: WaitMode) -> EngineConfig {
    EngineConfig {
        arena: memory(ARENA_BYTES),
        operations_max: 64,
        files_max: 16,
        wait_mode,
        wake_token: WAKE_TOKEN,
        threads: 4,
        locked_bytes_max: usize::MAX,
        registered_bytes_max: usize::MAX,
        checksum: fnv1a_at,
    }
}

/// Both engines, in the ways in which they are used; without io_uring where that is denied, which is said.
pub fn variants() -> Vec<(EngineKind, WaitMode)> {
    let uring = [(EngineKind::Uring, WaitMode::Poll), (EngineKind::Uring, WaitMode::Block)];
    let threads = (EngineKind::Threads, WaitMode::Poll);
    match probe_uring() {
        Ok(()) => [uring.as_slice(), &[threads]].concat(),
        Err(denied) => {
            // Past the capture of output by the test harness, for the runner that collects these lines.
            let line = format!("skipped: io_uring engine: {}\n", denied.reason);
            std::io::stderr().write_all(line.as_bytes()).unwrap();
            vec![threads]
        }
    }
}

pub struct Rig {
    pub engine: Box<dyn Engine>,
    pub arena: Arena,
    pub wakes: usize,
    stash: Vec<Completion>,
}

impl Rig {
    pub fn new(variant: (EngineKind, WaitMode)) -> Rig {
        let config = config(variant.1);
        Rig::over(open_engine(variant.0, config).unwrap(), config.arena)
    }

    pub fn over(engine: Box<dyn Engine>, arena: Arena) -> Rig {
        Rig { engine, arena, wakes: 0, stash: Vec::new() }
    }

    pub fn push(&mut self, request: Request) {
        self.engine.push(&request, &[]);
    }

    /// Collects what is there, waiting once.
    pub fn turn(&mut self, timeout: Duration) -> Vec<Completion> {
        self.engine.wait(Some(timeout)).unwrap();
        let mut entries = [Completion::new(0, 0); 16];
        // SAFETY: `entries` outlives the sink.
        let mut sink = unsafe { CompletionSink::new(entries.as_mut_ptr(), entries.len()) };
        self.engine.collect(&mut sink);
        let length = sink.length();
        let (wakes, others): (Vec<_>, Vec<_>) = entries[..length].iter().partition(|entry| entry.token == WAKE_TOKEN);
        self.wakes += wakes.len();
        others
    }

    /// Waits for the completion of `token`; others are kept for later calls.
    pub fn complete(&mut self, token: u32) -> Completion {
        let deadline = Instant::now() + PATIENCE;
        loop {
            if let Some(at) = self.stash.iter().position(|entry| entry.token == token) {
                return self.stash.remove(at);
            }
            assert!(Instant::now() < deadline, "no completion for {token}");
            let entries = self.turn(Duration::from_millis(100));
            self.stash.extend(entries);
        }
    }

    pub fn run(&mut self, request: Request) -> i32 {
        self.push(request);
        self.complete(request.token).result
    }

    pub fn send(&mut self, slot: u32, pieces: &[(u32, u32)], token: u32) {
        let mut request = Request::new(Op::Send, token);
        request.file = slot;
        request.vectors = pieces.len() as u32;
        let vectors: Vec<Vector> =
            pieces.iter().map(|(memory, length)| Vector { memory: *memory, length: *length }).collect();
        self.engine.push(&request, &vectors);
    }

    pub fn store(&self, at: u32, bytes: &[u8]) {
        assert!(self.arena.store(at, bytes));
    }

    pub fn load(&self, at: u32, length: u32) -> Vec<u8> {
        let from = self.arena.at(at, length).unwrap();
        // SAFETY: nothing is in flight on this range when a test looks at it.
        unsafe { std::slice::from_raw_parts(from, length as usize).to_vec() }
    }

    /// `count` checksums as an engine puts them.
    pub fn checksums(&self, at: u32, count: u32) -> Vec<u32> {
        let words = self.load(at, count * 4);
        words.chunks(4).map(|word| u32::from_ne_bytes(word.try_into().unwrap())).collect()
    }

    pub fn until_woken(&mut self) {
        let deadline = Instant::now() + PATIENCE;
        while self.wakes == 0 {
            assert!(Instant::now() < deadline, "not woken");
            let entries = self.turn(Duration::from_millis(100));
            self.stash.extend(entries);
        }
    }
}

/// Runs a test on each engine.
pub fn each_variant(test: impl Fn(&mut Rig)) {
    for variant in variants() {
        println!("{variant:?}");
        test(&mut Rig::new(variant));
    }
}

pub fn transfer(op: Op, token: u32, file: u32, memory: u32, length: u32, offset: u64) -> Request {
    let mut request = Request::new(op, token);
    request.file = file;
    request.memory = memory;
    request.length = length;
    request.offset = offset as f64;
    request
}

pub fn range(op: Op, token: u32, file: u32, offset: u64, span: u64) -> Request {
    let mut request = Request::new(op, token);
    request.file = file;
    request.offset = offset as f64;
    request.span = span as f64;
    request
}

/// A file that is removed when the test ends.
pub struct Scratch {
    pub path: PathBuf,
}

impl Scratch {
    pub fn new(name: &str) -> Scratch {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let path = std::env::temp_dir().join(format!("strake-{}-{number}-{name}", std::process::id()));
        Scratch { path }
    }

    pub fn file(name: &str, size: u64) -> Scratch {
        let scratch = Scratch::new(name);
        File::create(&scratch.path).unwrap().set_len(size).unwrap();
        scratch
    }

    pub fn open(&self) -> OwnedFd {
        let mut options = OpenOptions::new();
        options.read(true).write(true).custom_flags(libc::O_DIRECT);
        options.open(&self.path).unwrap().into()
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.path);
    }
}

pub fn add(rig: &mut Rig, fd: Option<OwnedFd>, kind: FileKind) -> u32 {
    rig.engine.add_file(fd, kind).unwrap()
}
