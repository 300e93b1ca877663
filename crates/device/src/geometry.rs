//! What the kernel says about a device: sizes, alignments, limits.

use std::fs;
use std::io;
use std::os::fd::RawFd;
use std::path::PathBuf;

const BLKGETSIZE64: libc::c_ulong = 0x8008_1272;
const BLKSSZGET: libc::c_ulong = 0x1268;
const BLKPBSZGET: libc::c_ulong = 0x127b;
const BLKROGET: libc::c_ulong = 0x125e;
/// Alignment that suits every file system when the kernel does not tell (before Linux 6.1).
const FILE_ALIGN_BYTES: u32 = 4096;
/// Files are discarded and zeroed by changing their extents, as much as one likes.
const FILE_RANGE_BYTES_MAX: u64 = 1 << 50;

/// Sizes, alignments and limits of a device, in bytes unless the name says otherwise.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Geometry {
    /// Size.
    pub size_bytes: u64,
    /// The unit of addressing: offsets and lengths of direct I/O are multiples of it.
    pub logical_block_bytes: u32,
    /// The unit that the device writes without reading first.
    pub physical_block_bytes: u32,
    /// What memory addresses of direct I/O are multiples of.
    pub memory_align_bytes: u32,
    /// Whether the device takes discards.
    pub discard: bool,
    /// The unit of discarding; 0 where unknown.
    pub discard_granularity_bytes: u64,
    /// The most that one discard covers; 0 where there is none.
    pub discard_max_bytes: u64,
    /// The most that the device zeroes by itself in one command; 0 where it cannot.
    pub write_zeroes_max_bytes: u64,
    /// Whether the device has a volatile write cache; `None` where unknown.
    pub write_cache: Option<bool>,
    /// Whether the device can force a single write to its medium.
    pub fua: Option<bool>,
    /// Whether it spins.
    pub rotational: Option<bool>,
    /// Whether the device itself is read-only.
    pub read_only: bool,
    /// Vendor's name for it.
    pub model: Option<String>,
}

fn ioctl_number<T: Default>(fd: RawFd, request: libc::c_ulong) -> io::Result<T> {
    let mut value = T::default();
    // SAFETY: each caller names a request that stores a value of type `T`.
    let result = unsafe { libc::ioctl(fd, request, &mut value) };
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(value) }
}

fn statx(fd: RawFd) -> io::Result<libc::statx> {
    // SAFETY: all zeroes is a valid value.
    let mut answer: libc::statx = unsafe { std::mem::zeroed() };
    let mask = libc::STATX_BASIC_STATS | libc::STATX_DIOALIGN;
    // SAFETY: an empty path with AT_EMPTY_PATH means the descriptor itself.
    let result = unsafe { libc::statx(fd, c"".as_ptr(), libc::AT_EMPTY_PATH, mask, &mut answer) };
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(answer) }
}

/// The folder that describes a block device, `/sys/dev/block/MAJOR:MINOR`.
pub fn sysfs_folder(rdev: u64) -> PathBuf {
    let (major, minor) = (libc::major(rdev), libc::minor(rdev));
    PathBuf::from(format!("/sys/dev/block/{major}:{minor}"))
}

/// Reads an attribute of the device, or of the disk it is a partition of.
fn sysfs_text(rdev: u64, name: &str) -> Option<String> {
    let folder = sysfs_folder(rdev);
    let own = fs::read_to_string(folder.join(name));
    let text = own.or_else(|_| fs::read_to_string(folder.join("..").join(name))).ok()?;
    Some(text.trim().to_owned()).filter(|text| !text.is_empty())
}

fn sysfs_number(rdev: u64, name: &str) -> Option<u64> {
    sysfs_text(rdev, name)?.parse().ok()
}

/// Geometry of an open block device whose device number is `rdev`.
pub fn block_geometry(fd: RawFd, rdev: u64) -> io::Result<Geometry> {
    let logical: libc::c_int = ioctl_number(fd, BLKSSZGET)?;
    let physical: libc::c_uint = ioctl_number(fd, BLKPBSZGET)?;
    let read_only: libc::c_int = ioctl_number(fd, BLKROGET)?;
    let discard_max = sysfs_number(rdev, "queue/discard_max_bytes").unwrap_or(0);
    let dma_mask = sysfs_number(rdev, "queue/dma_alignment").unwrap_or(511);
    Ok(Geometry {
        size_bytes: ioctl_number(fd, BLKGETSIZE64)?,
        logical_block_bytes: logical as u32,
        physical_block_bytes: physical,
        memory_align_bytes: dma_mask as u32 + 1,
        discard: discard_max > 0,
        discard_granularity_bytes: sysfs_number(rdev, "queue/discard_granularity").unwrap_or(0),
        discard_max_bytes: discard_max,
        write_zeroes_max_bytes: sysfs_number(rdev, "queue/write_zeroes_max_bytes").unwrap_or(0),
        write_cache: sysfs_text(rdev, "queue/write_cache").map(|text| text == "write back"),
        fua: sysfs_number(rdev, "queue/fua").map(|value| value == 1),
        rotational: sysfs_number(rdev, "queue/rotational").map(|value| value == 1),
        read_only: read_only != 0,
        model: sysfs_text(rdev, "device/model"),
    })
}

/// Geometry of an open regular file. It has whatever cache its disk has, which is not asked here.
pub fn file_geometry(fd: RawFd) -> io::Result<Geometry> {
    let status = statx(fd)?;
    let told = status.stx_mask & libc::STATX_DIOALIGN != 0 && status.stx_dio_offset_align != 0;
    let (offset_align, memory_align) = if told {
        (status.stx_dio_offset_align, status.stx_dio_mem_align)
    } else {
        (FILE_ALIGN_BYTES, FILE_ALIGN_BYTES)
    };
    Ok(Geometry {
        size_bytes: status.stx_size,
        logical_block_bytes: offset_align.max(512),
        physical_block_bytes: status.stx_blksize.max(512),
        memory_align_bytes: memory_align,
        discard: true,
        discard_granularity_bytes: status.stx_blksize as u64,
        discard_max_bytes: FILE_RANGE_BYTES_MAX,
        write_zeroes_max_bytes: FILE_RANGE_BYTES_MAX,
        ..Geometry::default()
    })
}
