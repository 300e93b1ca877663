//! What the machine allows, and small services that JavaScript is too slow for.

use napi::{Error, Result, Status};
use napi_derive::napi;
use strake_device::engine::probe_uring;

use crate::views::View;

/// Whether io_uring can be used.
#[napi(object)]
pub struct UringSupport {
    /// Whether it can.
    pub available: bool,
    /// The kernel's answer if not.
    pub errno: i32,
    /// Why not, in words.
    pub reason: String,
}

/// Tries whether io_uring can be used here.
#[napi]
pub fn uring_support() -> UringSupport {
    match probe_uring() {
        Ok(()) => UringSupport { available: true, errno: 0, reason: String::new() },
        Err(denied) => UringSupport { available: false, errno: denied.errno, reason: denied.reason },
    }
}

/// The limit of locked memory in bytes; infinite where there is none.
#[napi]
pub fn memlock_limit_bytes() -> f64 {
    let mut limit = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
    // SAFETY: `limit` is a valid place for the result.
    unsafe { libc::getrlimit(libc::RLIMIT_MEMLOCK, &mut limit) };
    if limit.rlim_cur == libc::RLIM_INFINITY { f64::INFINITY } else { limit.rlim_cur as f64 }
}

/// Milliseconds of CLOCK_BOOTTIME, which counts what the host has slept.
#[napi]
pub fn boottime_ms() -> f64 {
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: `time` is a valid place for the result. The clock is there since Linux 2.6.39.
    unsafe { libc::clock_gettime(libc::CLOCK_BOOTTIME, &mut time) };
    time.tv_sec as f64 * 1e3 + time.tv_nsec as f64 / 1e6
}

/// Copies `length` bytes between typed arrays; either may be shared between threads.
#[napi(
    ts_args_type = "target: Uint8Array, targetOffset: number, source: Uint8Array, sourceOffset: number, length: number"
)]
pub fn copy_bytes(target: View, target_offset: u32, source: View, source_offset: u32, length: u32) -> Result<()> {
    let (to, from, length) = (target_offset as usize, source_offset as usize, length as usize);
    if to + length > target.length || from + length > source.length {
        return Err(Error::new(Status::InvalidArg, "the range leaves the array"));
    }
    // SAFETY: both ranges lie within their arrays, which JavaScript keeps alive during the call.
    unsafe { std::ptr::copy(source.base.add(from), target.base.add(to), length) };
    Ok(())
}

/// The address of a typed array's first byte, for alignment.
#[napi(ts_args_type = "view: Uint8Array")]
pub fn address_of(view: View) -> f64 {
    view.base as usize as f64
}

/// CRC32C of `length` bytes of a typed array, from `offset`. The array may be shared between threads.
///
/// An engine's memory is summed by this too: a call of a method costs three times as much as one of a function, which
/// is more than the sum of a block.
#[napi(js_name = "crc32c", ts_args_type = "bytes: Uint8Array, offset: number, length: number")]
pub fn crc32c(bytes: View, offset: f64, length: f64) -> Result<u32> {
    // Numbers as JavaScript has them: converted to 32 bits, one that is out of range would wrap around into it.
    let whole = |value: f64| value >= 0.0 && value.fract() == 0.0;
    if !whole(offset) || !whole(length) || offset + length > bytes.length as f64 {
        return Err(Error::new(Status::InvalidArg, "the range leaves the array"));
    }
    let from = bytes.base.wrapping_add(offset as usize);
    // SAFETY: the range lies within the array, which JavaScript keeps alive during the call. A shared array may change
    // meanwhile, which makes the result meaningless and nothing else.
    Ok(unsafe { strake_codec::crc32c::crc32c_at(from, length as usize) })
}

/// CRC32C of each of `count` blocks of 4096 bytes of a typed array, from `offset` on, in the first words of `sums`: one
/// call for all blocks of a request.
#[napi(js_name = "blockSums", ts_args_type = "bytes: Uint8Array, offset: number, count: number, sums: Uint32Array")]
pub fn block_sums(bytes: View, offset: f64, count: u32, sums: View) -> Result<()> {
    const BLOCK: usize = strake_device::checksums::CHECKSUM_BLOCK_BYTES as usize;
    let whole = offset >= 0.0 && offset.fract() == 0.0;
    let count = count as usize;
    if !whole || offset + (count * BLOCK) as f64 > bytes.length as f64 {
        return Err(Error::new(Status::InvalidArg, "the range leaves the array"));
    }
    let words = sums.entries::<u32>().filter(|(_, length)| count <= *length);
    let Some((words, _)) = words else {
        return Err(Error::new(Status::InvalidArg, "there are fewer words than blocks"));
    };
    for block in 0..count {
        let from = bytes.base.wrapping_add(offset as usize + block * BLOCK);
        // SAFETY: as in `crc32c`; the word lies within its array.
        unsafe { words.add(block).write(strake_codec::crc32c::crc32c_at(from, BLOCK)) };
    }
    Ok(())
}

/// Name of the CRC32C kernel that this processor runs.
#[napi(js_name = "crc32cKernel")]
pub fn crc32c_kernel() -> String {
    strake_codec::crc32c::kernel()
}
