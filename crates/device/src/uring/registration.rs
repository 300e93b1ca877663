//! Registering the arena with a ring, as far as the limit of locked memory allows.

use io_uring::IoUring;

use crate::engine::EngineConfig;

/// The most bytes of one registered buffer (a kernel limit).
const REGISTERED_BYTES_MAX: usize = 1 << 30;
/// Below this, registering is not worth the trouble.
const REGISTERED_BYTES_MIN: usize = 64 << 10;
const HUGE_PAGE_BYTES: usize = 2 << 20;
const PAGE_BYTES: usize = 4096;
/// From here on an allocation is a mapping of its own, which takes what was advised of it along when it goes: glibc raises
/// its threshold as far as this (mallopt(3), M_MMAP_THRESHOLD).
const MAPPING_BYTES_MIN: usize = 32 << 20;

/// Registers as much of the arena as the limit of locked memory allows. Returns the bytes registered.
pub(super) fn register_arena(ring: &IoUring, config: &EngineConfig) -> usize {
    let base = config.arena.base();
    advise_huge_pages(base as usize, config.arena.length());
    keep_from_children(base as usize, config.arena.length());
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

/// Children of the process do without the arena. The kernel would copy pages that a ring has registered when the process
/// forks, instead of sharing them until somebody writes: all of the arena, each time that a program is started, and its huge
/// pages would be broken up (fork and `FOLL_PIN`, Documentation/core-api/pin_user_pages.rst in Linux). An arena that may
/// share its pages with other memory of the process is left as it is, since a child needs that until it runs its program.
fn keep_from_children(base: usize, length: usize) {
    if length < MAPPING_BYTES_MIN {
        return;
    }
    let start = base.next_multiple_of(PAGE_BYTES);
    let end = (base + length) / PAGE_BYTES * PAGE_BYTES;
    // SAFETY: the range lies within the arena, which no child uses; the advice changes nothing in this process.
    unsafe { libc::madvise(start as *mut libc::c_void, end - start, libc::MADV_DONTFORK) };
}
