//! The memory that payloads live in: one region, allocated by the producer, borrowed by the engine.
//!
//! An engine may be lent a second region, the arena of another engine of the process. Its bytes are addressed behind those of
//! the first, so that a device of the one can be read and written straight from the memory of the other:
//!
//! ```text
//!   offset   0                      length                  length + guest length
//!            │ the engine's own     │ guest                 │
//! ```
//!
//! No range lies in both.
//!
//! Other threads, and the kernel, touch these bytes at any time, so no reference to them is ever formed: offsets become
//! raw pointers after a bounds check, and bytes move by `ptr::copy`.

use std::ptr;

/// A borrowed region of memory that requests address by offset.
#[derive(Clone, Copy, Debug)]
pub struct Arena {
    base: *mut u8,
    length: usize,
    guest_base: *mut u8,
    guest_length: usize,
}

// SAFETY: the region is plain memory that outlives the engine (see `Arena::new`), and no references to it are formed.
unsafe impl Send for Arena {}

impl Arena {
    /// Borrows `length` bytes at `base`.
    ///
    /// # Safety
    /// The region must stay mapped, readable and writable until the engine that uses it has been closed with nothing in
    /// flight, and its bytes must only be touched as raw memory elsewhere.
    pub unsafe fn new(base: *mut u8, length: usize) -> Arena {
        assert!(length <= u32::MAX as usize, "an arena is addressed by 32-bit offsets");
        Arena { base, length, guest_base: ptr::null_mut(), guest_length: 0 }
    }

    /// The same with a second region, of `length` bytes at `base`, behind it.
    ///
    /// # Safety
    /// As for [`Arena::new`].
    pub unsafe fn with_guest(self, base: *mut u8, length: usize) -> Arena {
        let end = self.length.checked_add(length);
        assert!(end.is_some_and(|end| end <= u32::MAX as usize), "an arena is addressed by 32-bit offsets");
        Arena { guest_base: base, guest_length: length, ..self }
    }

    /// First byte of the engine's own region.
    pub fn base(&self) -> *mut u8 {
        self.base
    }

    /// Bytes in the engine's own region.
    pub fn length(&self) -> usize {
        self.length
    }

    /// The address of `length` bytes at `offset`, if they lie within one of the regions.
    pub fn at(&self, offset: u32, length: u32) -> Option<*mut u8> {
        let end = offset as usize + length as usize;
        if end <= self.length {
            // SAFETY: `offset` is within the region, as `end` is.
            return Some(unsafe { self.base.add(offset as usize) });
        }
        let from = (offset as usize).checked_sub(self.length)?;
        // SAFETY: `from` is within the second region, as the end is.
        (end - self.length <= self.guest_length).then(|| unsafe { self.guest_base.add(from) })
    }

    /// The address of a piece of a message, which lies in the engine's own region.
    pub fn own(&self, offset: u32, length: u32) -> Option<*mut u8> {
        (offset as usize + length as usize <= self.length).then(|| self.base.wrapping_add(offset as usize))
    }

    /// Copies `length` bytes from `from` to `to`; the ranges may overlap. False if either leaves the region.
    pub fn copy(&self, from: u32, to: u32, length: u32) -> bool {
        let (Some(source), Some(target)) = (self.at(from, length), self.at(to, length)) else {
            return false;
        };
        // SAFETY: both ranges lie within the region.
        unsafe { ptr::copy(source, target, length as usize) };
        true
    }

    /// Sets `length` bytes at `offset` to `value`. False if they leave the region.
    pub fn fill(&self, offset: u32, length: u32, value: u8) -> bool {
        let Some(target) = self.at(offset, length) else {
            return false;
        };
        // SAFETY: the range lies within the region.
        unsafe { ptr::write_bytes(target, value, length as usize) };
        true
    }

    /// Copies `bytes` to `offset`. False if they do not fit.
    pub fn store(&self, offset: u32, bytes: &[u8]) -> bool {
        let Some(target) = self.at(offset, bytes.len() as u32) else {
            return false;
        };
        // SAFETY: the range lies within the region, and `bytes` cannot overlap memory that no reference covers.
        unsafe { ptr::copy_nonoverlapping(bytes.as_ptr(), target, bytes.len()) };
        true
    }

    /// Reads four bytes at `offset`, in native order; `None` if they leave the region.
    pub fn word(&self, offset: u32) -> Option<u32> {
        let from = self.at(offset, 4)?;
        // SAFETY: `at` checked the range, and a word need not be aligned to be read so.
        Some(unsafe { from.cast::<u32>().read_unaligned() })
    }

    /// Flips one bit, for fault injection. False if it lies outside of the region.
    pub fn flip(&self, offset: u32, bit: u8) -> bool {
        let Some(target) = self.at(offset, 1) else {
            return false;
        };
        // SAFETY: the byte lies within the region.
        unsafe { target.write(target.read() ^ (1 << (bit & 7))) };
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn arena(bytes: &mut [u8]) -> Arena {
        // SAFETY: the tests keep `bytes` alive and look at it only between calls.
        unsafe { Arena::new(bytes.as_mut_ptr(), bytes.len()) }
    }

    #[test]
    fn ranges_that_leave_the_region_are_refused() {
        let mut bytes = [0u8; 64];
        let arena = arena(&mut bytes);
        assert!(arena.at(0, 64).is_some());
        assert!(arena.at(64, 0).is_some());
        assert!(arena.at(1, 64).is_none());
        assert!(arena.at(u32::MAX, u32::MAX).is_none());
        assert!(!arena.copy(60, 0, 8));
        assert!(!arena.copy(0, 60, 8));
        assert!(!arena.fill(63, 2, 1));
    }

    #[test]
    fn a_guest_lies_behind_and_no_range_in_both() {
        let (mut bytes, mut others) = ([1u8; 64], [2u8; 32]);
        // SAFETY: as in `arena`.
        let arena = unsafe { arena(&mut bytes).with_guest(others.as_mut_ptr(), others.len()) };
        assert_eq!(arena.at(64, 32), Some(others.as_mut_ptr()));
        assert_eq!(arena.at(95, 1), Some(others.as_mut_ptr().wrapping_add(31)));
        assert!(arena.at(63, 2).is_none());
        assert!(arena.at(95, 2).is_none());
        assert!(arena.at(u32::MAX, u32::MAX).is_none());
        assert!(arena.own(60, 4).is_some());
        assert!(arena.own(60, 5).is_none());
        assert!(arena.own(64, 1).is_none());
        assert!(arena.copy(64, 8, 4));
        assert!(arena.fill(90, 6, 3));
        assert_eq!(bytes[7..13], [1, 2, 2, 2, 2, 1]);
        assert_eq!(others[25..], [2, 3, 3, 3, 3, 3, 3]);
    }

    #[test]
    fn copies_may_overlap() {
        let mut bytes = [1u8, 2, 3, 4, 0, 0];
        assert!(arena(&mut bytes).copy(0, 2, 4));
        assert_eq!(bytes, [1, 2, 1, 2, 3, 4]);
    }
}
