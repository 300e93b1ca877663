//! How one thread wakes the engine of another: `MSG_RING` between rings, an eventfd otherwise.
//!
//! Engines are known by identifiers that are never reused, so that a late wake-up reaches nobody rather than a stranger.

use std::collections::HashMap;
use std::os::fd::RawFd;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, LazyLock, Mutex, MutexGuard, PoisonError};

use crate::event::EventFd;

/// How an engine is woken.
#[derive(Clone, Debug)]
pub struct WakeTarget {
    /// Its ring, if it has one.
    pub ring: Option<RawFd>,
    /// Works for all.
    pub event: Arc<EventFd>,
}

static TARGETS: LazyLock<Mutex<HashMap<u32, WakeTarget>>> = LazyLock::new(Mutex::default);
static NEXT_ID: AtomicU32 = AtomicU32::new(1);

fn targets() -> MutexGuard<'static, HashMap<u32, WakeTarget>> {
    TARGETS.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Makes an engine known; returns its identifier.
pub fn register(target: WakeTarget) -> u32 {
    let id = NEXT_ID.fetch_add(1, Ordering::Relaxed);
    targets().insert(id, target);
    id
}

/// Forgets an engine.
pub fn unregister(id: u32) {
    targets().remove(&id);
}

/// How to wake the engine `id`, if it is still there.
pub fn target(id: u32) -> Option<WakeTarget> {
    targets().get(&id).cloned()
}

/// Wakes the engine `id` from any thread.
pub fn wake(id: u32) {
    if let Some(target) = target(id) {
        target.event.signal();
    }
}
