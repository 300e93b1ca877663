//! Checksums of what device reads and writes carry: one word for each block, put where the request wants them.
//!
//! A producer in JavaScript would pay for a call into native code per block; this way it finds a list of words when the
//! transfer completes. Which checksum it is, the engine does not know: its producer lends it a function.

use crate::arena::Arena;
use crate::request::Request;

/// Bytes that one checksum covers.
pub const CHECKSUM_BLOCK_BYTES: u32 = 4096;
/// Bytes of one checksum: a `u32` in native order.
pub const CHECKSUM_BYTES: u32 = 4;

/// A checksum of so many bytes at an address.
///
/// It takes a pointer and not a slice because the bytes may be shared with other threads and with the kernel. Whoever
/// calls it guarantees that they are readable during the call; if they change meanwhile, the result means nothing.
pub type Checksum = unsafe fn(*const u8, usize) -> u32;

/// Whether `request`, a read or write whose payload lies within `arena`, may have its checksums where it wants them.
/// Errors: `EINVAL` for a payload that is not whole blocks, a place that is not aligned, or one that is part of the
/// payload; `EFAULT` for a place outside of the arena.
pub fn check_checksums(arena: &Arena, request: &Request) -> Result<(), i32> {
    if request.checksums == 0 {
        return Ok(());
    }
    if !request.length.is_multiple_of(CHECKSUM_BLOCK_BYTES) || !request.checksums.is_multiple_of(CHECKSUM_BYTES) {
        return Err(libc::EINVAL);
    }
    let list_bytes = request.length / CHECKSUM_BLOCK_BYTES * CHECKSUM_BYTES;
    arena.at(request.checksums, list_bytes).ok_or(libc::EFAULT)?;
    // Both ranges lie within the arena, so their ends are numbers of 32 bits.
    let apart =
        request.checksums + list_bytes <= request.memory || request.memory + request.length <= request.checksums;
    if apart { Ok(()) } else { Err(libc::EINVAL) }
}

/// Whether the payload of `request` has the checksums that are where its own would go; [`check_checksums`] has passed it.
pub fn has_checksums(arena: &Arena, checksum: Checksum, request: &Request) -> bool {
    (0..request.length / CHECKSUM_BLOCK_BYTES).all(|block| {
        let expected = arena.word(request.checksums + block * CHECKSUM_BYTES);
        expected == Some(checksum_of(arena, checksum, request, block))
    })
}

fn checksum_of(arena: &Arena, checksum: Checksum, request: &Request, block: u32) -> u32 {
    let Some(bytes) = arena.at(request.memory + block * CHECKSUM_BLOCK_BYTES, CHECKSUM_BLOCK_BYTES) else {
        unreachable!("the payload lies within the arena");
    };
    // SAFETY: the block lies within the arena, and belongs to this request until it completes: other threads leave it
    // alone, and the kernel is not using it when a write has not been started or a read has ended.
    unsafe { checksum(bytes, CHECKSUM_BLOCK_BYTES as usize) }
}

/// Puts the checksums of the payload where `request` wants them, if it does; [`check_checksums`] has passed it.
pub fn store_checksums(arena: &Arena, checksum: Checksum, request: &Request) {
    if request.checksums == 0 {
        return;
    }
    for block in 0..request.length / CHECKSUM_BLOCK_BYTES {
        let word = checksum_of(arena, checksum, request, block);
        arena.store(request.checksums + block * CHECKSUM_BYTES, &word.to_ne_bytes());
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::request::Op;

    #[test]
    fn places_that_cannot_be_are_refused() {
        let memory = Box::leak(vec![0u8; 65536].into_boxed_slice());
        // SAFETY: the memory is leaked, so it outlives everything.
        let arena = unsafe { Arena::new(memory.as_mut_ptr(), memory.len()) };
        let mut request = Request::new(Op::Read, 1);
        (request.memory, request.length) = (8192, 8192);
        for (checksums, expected) in [
            (0, Ok(())),
            (4, Ok(())),
            (6, Err(libc::EINVAL)),
            (8192 - 8, Ok(())),
            (8192 - 4, Err(libc::EINVAL)),
            (16384 - 4, Err(libc::EINVAL)),
            (16384, Ok(())),
            (65536 - 8, Ok(())),
            (65536 - 4, Err(libc::EFAULT)),
            (u32::MAX - 3, Err(libc::EFAULT)),
        ] {
            request.checksums = checksums;
            assert_eq!(check_checksums(&arena, &request), expected, "{checksums}");
        }
        (request.checksums, request.length) = (4, 4096 + 512);
        assert_eq!(check_checksums(&arena, &request), Err(libc::EINVAL));
        // Nobody is bound to whole blocks who asks for no checksums.
        request.checksums = 0;
        assert_eq!(check_checksums(&arena, &request), Ok(()));
    }
}
