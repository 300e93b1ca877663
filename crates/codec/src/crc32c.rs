//! CRC32C, the Castagnoli polynomial 0x1EDC6F41 (RFC 3720, appendix B.4): reflected, initial value and final inversion of
//! all ones.
//!
//! The kernel is chosen at run time by `crc-fast`, which folds several streams with carry-less multiplication; measured
//! here, it is faster than ISA-L at every size. [`reference`] is the definition, bit by bit, and its oracle.

use crc_fast::CrcAlgorithm::Crc32Iscsi;

/// The CRC32C of `bytes`. `initial` is the result for what came before, 0 for nothing.
///
/// ```
/// use strake_codec::crc32c::crc32c;
/// assert_eq!(crc32c(0, b"123456789"), 0xe306_9283);
/// assert_eq!(crc32c(crc32c(0, b"12345"), b"6789"), 0xe306_9283);
/// ```
pub fn crc32c(initial: u32, bytes: &[u8]) -> u32 {
    if initial == 0 {
        return crc_fast::checksum(Crc32Iscsi, bytes) as u32;
    }
    let rest = crc_fast::checksum(Crc32Iscsi, bytes);
    crc_fast::checksum_combine(Crc32Iscsi, initial as u64, rest, bytes.len() as u64) as u32
}

/// The CRC32C of `length` bytes at `bytes`, which may be null if there are none.
///
/// # Safety
/// The bytes must be readable during the call, and lie in one allocation. Nothing else may change them meanwhile. Memory
/// that is shared cannot always promise that; a change in mid-call makes the result meaningless, and no access leaves the
/// range whatever the bytes are.
pub unsafe fn crc32c_at(bytes: *const u8, length: usize) -> u32 {
    if length == 0 {
        return 0;
    }
    // SAFETY: by the contract above. The slice does not outlive this call, and is only read.
    crc32c(0, unsafe { std::slice::from_raw_parts(bytes, length) })
}

/// Name of the kernel in use, such as `x86_64-avx512-vpclmulqdq`.
pub fn kernel() -> String {
    crc_fast::get_calculator_target(Crc32Iscsi)
}

/// The same by the definition, one bit at a time.
pub fn reference(initial: u32, bytes: &[u8]) -> u32 {
    const REFLECTED: u32 = 0x82f6_3b78;
    let mut crc = !initial;
    for byte in bytes {
        crc ^= u32::from(*byte);
        for _ in 0..8 {
            crc = if crc & 1 == 1 { (crc >> 1) ^ REFLECTED } else { crc >> 1 };
        }
    }
    !crc
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn the_vectors_of_rfc_3720() {
        let ascending: Vec<u8> = (0..32).collect();
        let descending: Vec<u8> = (0..32).rev().collect();
        for (bytes, expected) in [
            (vec![0u8; 32], 0x8a91_36aa),
            (vec![0xff; 32], 0x62a8_ab43),
            (ascending, 0x46dd_794e),
            (descending, 0x113f_db5c),
        ] {
            assert_eq!(crc32c(0, &bytes), expected);
            assert_eq!(reference(0, &bytes), expected);
        }
        assert_eq!(crc32c(0, b""), 0);
    }

    #[test]
    fn the_same_by_address() {
        let bytes = b"123456789";
        // SAFETY: the bytes are constant; there is nothing at the null address, and nothing is asked of it.
        let sums = unsafe { [crc32c_at(bytes.as_ptr(), bytes.len()), crc32c_at(std::ptr::null(), 0)] };
        assert_eq!(sums, [0xe306_9283, 0]);
    }

    proptest! {
        #[test]
        fn agrees_with_the_reference(bytes in proptest::collection::vec(any::<u8>(), 0..5000), start in 0usize..64) {
            // Every alignment, as kernels treat heads and tails apart.
            let bytes = &bytes[start.min(bytes.len())..];
            prop_assert_eq!(crc32c(0, bytes), reference(0, bytes));
        }

        #[test]
        fn can_be_continued_anywhere(bytes in proptest::collection::vec(any::<u8>(), 0..3000), cut in 0usize..3000) {
            let (head, tail) = bytes.split_at(cut.min(bytes.len()));
            prop_assert_eq!(crc32c(crc32c(0, head), tail), reference(0, &bytes));
        }

        #[test]
        fn one_flipped_bit_changes_it(bytes in proptest::collection::vec(any::<u8>(), 1..4096), bit in any::<u32>()) {
            let mut flipped = bytes.clone();
            let bit = bit as usize % (bytes.len() * 8);
            flipped[bit / 8] ^= 1 << (bit % 8);
            prop_assert_ne!(crc32c(0, &flipped), crc32c(0, &bytes));
        }
    }
}
