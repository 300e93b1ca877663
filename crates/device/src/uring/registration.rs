//! Registering the arena with a ring, as far as the limit of locked memory allows.

use io_uring::IoUring;

use crate::engine::EngineConfig;

/// The most bytes of one registered buffer (a kernel limit).
const REGISTERED_BYTES_MAX: usize = 1 << 30;
/// Below this, registering is not worth the trouble.
const REGISTERED_BYTES_MIN: usize = 64 << 10;
const HUGE_PAGE_BYTES: usize = 2 << 20;

/// Registers as much of the arena as the limit of locked memory allows. Returns the bytes registered.
pub(super) fn register_arena(ring: &IoUring, config: &EngineConfig) -> usize {
    let base = config.arena.base();
    advise_huge_pages(base as usize, config.arena.length());
    let mut length = config.arena.length().min(REGISTERED_BYTES_MAX).min(config.registered_bytes_max) & !4095;
    if !may_lock_memory() {
        length = length.min(config.locked_bytes_max) & !4095;
    }
    while length >= REGISTERED_BYTES_MIN {
        let piece = libc::iovec { iov_base: base.cast(), iov_len: length };
        // SAFETY: the arena outlives the ring, by the contract of `Arena::new`.
        match unsafe { ring.submitter().register_buffers(&[piece]) } {
            Ok(()) => return length,
            // The capability may not count, as in a user namespace: then the limit is still there.
            Err(_) => length = (length / 8 * 7).min(config.locked_bytes_max) & !4095,
        }
    }
    0
}

/// Whether the limit of locked memory does not apply (CAP_IPC_LOCK in the effective set, see capabilities(7)).
fn may_lock_memory() -> bool {
    const CAP_IPC_LOCK: u32 = 14;
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let effective = status.lines().find_map(|line| line.strip_prefix("CapEff:"));
    let effective = effective.and_then(|digits| u64::from_str_radix(digits.trim(), 16).ok());
    effective.is_some_and(|set| set >> CAP_IPC_LOCK & 1 == 1)
}

/// Fewer, larger pages make registered buffers cheaper. It is advice only: nothing depends on it.
fn advise_huge_pages(base: usize, length: usize) {
    let start = base.next_multiple_of(HUGE_PAGE_BYTES);
    let end = (base + length) / HUGE_PAGE_BYTES * HUGE_PAGE_BYTES;
    if end > start {
        // SAFETY: the range lies within the arena; the advice changes no content.
        unsafe { libc::madvise(start as *mut libc::c_void, end - start, libc::MADV_HUGEPAGE) };
    }
}
