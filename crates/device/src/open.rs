//! Opening devices so that nobody else can use them at the same time.
//!
//! A block device is opened with `O_EXCL`, which fails while it is mounted, part of an array, or open in this way elsewhere.
//! Everything is also locked with `flock` on the very description that does the I/O (udev keeps away from a locked disk),
//! so that the lock lives exactly as long as I/O may still be in flight: also after its process has died. A loop
//! device's backing file is locked too, because it is the same storage under another name.
//!
//! Nothing is decided by a path that can change: the file is opened first, and all questions are asked of the descriptor.

use std::fmt;
use std::fs::{self, Metadata};
use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, Instant};

use crate::files::FileKind;
use crate::geometry::{self, Geometry};
use crate::signature::{ReadAt, find_signatures};
use crate::socket::c_path;

/// The smallest device worth opening: one block.
pub const DEVICE_BYTES_MIN: u64 = 4096;
/// The largest unit of addressing: scratch blocks and the room before buffers hold one of this size.
const LOGICAL_BLOCK_BYTES_MAX: u64 = 4096;
/// How long a lock is waited for whose holder has ended, and the time between looks: nothing tells when it comes free.
const DEAD_HOLDER_PATIENCE: Duration = Duration::from_secs(2);
const DEAD_HOLDER_STEP: Duration = Duration::from_millis(10);
/// Alignment that satisfies every device for the few reads made here.
const READ_ALIGN_BYTES: u64 = 4096;

/// Why a device was not opened. [`OpenError::code`] is stable; the message is for people.
#[derive(Debug)]
pub struct OpenError {
    /// A stable word, such as `IN_USE`.
    pub code: &'static str,
    /// What happened and why.
    pub message: String,
    /// The system's error number, 0 if there is none.
    pub errno: i32,
}

impl OpenError {
    fn new(code: &'static str, message: impl Into<String>) -> OpenError {
        OpenError { code, message: message.into(), errno: 0 }
    }

    pub(crate) fn system(path: &Path, doing: &str, error: &io::Error) -> OpenError {
        let errno = error.raw_os_error().unwrap_or(0);
        let code = match errno {
            libc::ENOENT | libc::ENXIO | libc::ENODEV => "NOT_FOUND",
            libc::EACCES | libc::EPERM => "NO_PERMISSION",
            libc::EROFS => "READ_ONLY",
            libc::EBUSY => "IN_USE",
            _ => "IO",
        };
        OpenError { code, message: format!("cannot {doing} {}: {}", path.display(), plain(error)), errno }
    }
}

fn plain(error: &io::Error) -> String {
    let text = error.to_string();
    match text.find(" (os error") {
        Some(at) => text[..at].to_owned(),
        None => text,
    }
}

impl fmt::Display for OpenError {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(&self.message)
    }
}

impl std::error::Error for OpenError {}

/// An open, locked device.
#[derive(Debug)]
pub struct OpenDevice {
    /// The descriptor that all I/O goes through; it holds the lock.
    pub fd: OwnedFd,
    /// The backing file of a loop device, held only for its lock.
    pub backing: Option<OwnedFd>,
    /// What it is.
    pub facts: DeviceFacts,
}

/// What is known of a device.
#[derive(Clone, Debug)]
pub struct DeviceFacts {
    /// The path after following what may be followed.
    pub path: PathBuf,
    /// Block device or regular file.
    pub kind: FileKind,
    /// Sizes and limits.
    pub geometry: Geometry,
    /// Names of the formats found on it.
    pub signatures: Vec<String>,
    /// Who uses it, in words; empty if nobody does.
    pub users: Vec<String>,
    /// Device number of a block device, or of the file system of a file.
    pub device_number: u64,
    /// Inode of the file or device node.
    pub inode: u64,
}

struct Located {
    path: PathBuf,
    kind: FileKind,
    metadata: Metadata,
}

/// Finds what `path` names, without opening it.
fn locate(path: &Path) -> Result<Located, OpenError> {
    let metadata = fs::symlink_metadata(path).map_err(|error| OpenError::system(path, "open", &error))?;
    let (path, metadata) = if metadata.file_type().is_symlink() { follow(path)? } else { (path.to_owned(), metadata) };
    let file_type = metadata.file_type();
    let kind = if file_type.is_block_device() {
        FileKind::Block
    } else if file_type.is_file() {
        FileKind::Regular
    } else {
        let what = if file_type.is_fifo() {
            "a FIFO"
        } else if file_type.is_dir() {
            "a directory"
        } else if file_type.is_socket() {
            "a socket"
        } else {
            "a character device"
        };
        let message = format!("{} is {what}, not a block device or a regular file", path.display());
        return Err(OpenError::new("NOT_A_DEVICE", message));
    };
    Ok(Located { path, kind, metadata })
}

/// Names in /dev, such as those in /dev/disk and /dev/mapper, are links made by the system, and followed. Any other link
/// could be changed by somebody else between two uses, so its target must be named instead.
fn follow(link: &Path) -> Result<(PathBuf, Metadata), OpenError> {
    let target = fs::canonicalize(link).map_err(|error| OpenError::system(link, "follow", &error))?;
    let metadata = fs::symlink_metadata(&target).map_err(|error| OpenError::system(&target, "open", &error))?;
    if metadata.file_type().is_block_device() && made_by_system(link) {
        return Ok((target, metadata));
    }
    let message = format!("{} is a symbolic link to {}; name the target itself", link.display(), target.display());
    Err(OpenError::new("SYMLINK", message))
}

/// Whether a name lies below /dev in a folder that only root can change; anybody can in /dev/shm.
pub(crate) fn made_by_system(link: &Path) -> bool {
    const OTHERS_WRITE: u32 = 0o022;
    let Some(folder) = link.parent().and_then(|parent| fs::canonicalize(parent).ok()) else { return false };
    let Ok(metadata) = fs::metadata(&folder) else { return false };
    folder.starts_with("/dev") && metadata.uid() == 0 && metadata.mode() & OTHERS_WRITE == 0
}

fn open_descriptor(located: &Located, flags: libc::c_int) -> io::Result<OwnedFd> {
    let path = c_path(&located.path)?;
    let flags = flags | libc::O_CLOEXEC | libc::O_NOFOLLOW | libc::O_NONBLOCK;
    // SAFETY: the path is terminated.
    let fd = unsafe { libc::open(path.as_ptr(), flags) };
    if fd < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: the descriptor is new and ours.
    let fd = unsafe { OwnedFd::from_raw_fd(fd) };
    // Not waiting was for opening what turns out to be something else, such as a FIFO. On some file systems it would keep
    // the kernel from finishing an operation in the background.
    // SAFETY: plain calls on an open descriptor.
    let set = unsafe {
        let status = libc::fcntl(fd.as_raw_fd(), libc::F_GETFL);
        libc::fcntl(fd.as_raw_fd(), libc::F_SETFL, status & !libc::O_NONBLOCK)
    };
    if set < 0 { Err(io::Error::last_os_error()) } else { Ok(fd) }
}

fn stat(fd: RawFd) -> io::Result<libc::stat> {
    // SAFETY: all zeroes is a valid value, and `fd` is open.
    let mut answer: libc::stat = unsafe { std::mem::zeroed() };
    // SAFETY: as above.
    let result = unsafe { libc::fstat(fd, &mut answer) };
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(answer) }
}

/// Opens `path` for direct I/O, and locks it: alone for writing, with other readers for reading.
pub fn open_device(path: &Path, read_only: bool) -> Result<OpenDevice, OpenError> {
    let located = locate(path)?;
    let block = located.kind == FileKind::Block;
    let mut flags = libc::O_DIRECT | if read_only { libc::O_RDONLY } else { libc::O_RDWR };
    if block && !read_only {
        flags |= libc::O_EXCL;
    }
    let fd = open_descriptor(&located, flags).map_err(|error| explain_open(&located, &error))?;
    let status = stat(fd.as_raw_fd()).map_err(|error| OpenError::system(path, "examine", &error))?;
    if status.st_ino != located.metadata.ino() || status.st_dev != located.metadata.dev() {
        let message = format!("{} was replaced while it was being opened", located.path.display());
        return Err(OpenError::new("NOT_FOUND", message));
    }
    if !block && !read_only {
        // Before it is locked: a loop device over it needs that lock, and whoever opens both must not depend on chance.
        refuse_users(&located.path, &users(&located))?;
    }
    lock(&fd, &located, status.st_ino, status.st_dev, read_only)?;
    let facts = facts(&located, &fd)?;
    check_usable(&facts, read_only)?;
    let backing = if block { lock_backing_file(&facts, read_only)? } else { None };
    Ok(OpenDevice { fd, backing, facts })
}

/// Looks at `path` without locking it or keeping it open.
pub fn inspect_device(path: &Path) -> Result<DeviceFacts, OpenError> {
    let located = locate(path)?;
    let fd = match open_descriptor(&located, libc::O_DIRECT | libc::O_RDONLY) {
        Err(error) if error.raw_os_error() == Some(libc::EINVAL) => open_descriptor(&located, libc::O_RDONLY),
        other => other,
    };
    let fd = fd.map_err(|error| explain_open(&located, &error))?;
    let mut facts = facts(&located, &fd)?;
    if facts.users.is_empty()
        && located.kind == FileKind::Block
        && let Err(error) = open_descriptor(&located, libc::O_RDONLY | libc::O_EXCL)
        && error.raw_os_error() == Some(libc::EBUSY)
    {
        facts.users.push("opened exclusively by another program".to_owned());
    }
    if let Some(holder) = lock_holder(located.metadata.ino(), located.metadata.dev()) {
        facts.users.push(describe_holder(holder));
    }
    Ok(facts)
}

fn explain_open(located: &Located, error: &io::Error) -> OpenError {
    let path = located.path.display();
    match error.raw_os_error() {
        Some(libc::EBUSY) => {
            let users = users(located);
            let who = if users.is_empty() { "by the kernel or another program".to_owned() } else { users.join(", ") };
            OpenError { code: "IN_USE", message: format!("{path} is in use: {who}"), errno: libc::EBUSY }
        }
        Some(libc::EINVAL) => OpenError {
            code: "NO_DIRECT_IO",
            message: format!("the file system of {path} does not support direct I/O (O_DIRECT)"),
            errno: libc::EINVAL,
        },
        _ => OpenError::system(&located.path, "open", error),
    }
}

/// Locks at once or not at all, but for a holder that has ended: the kernel keeps its lock until its last I/O is done, so
/// that a server that was killed and started again would find its own device in use.
fn lock(fd: &OwnedFd, located: &Located, inode: u64, device: u64, read_only: bool) -> Result<(), OpenError> {
    let mode = if read_only { libc::LOCK_SH } else { libc::LOCK_EX };
    let deadline = Instant::now() + DEAD_HOLDER_PATIENCE;
    loop {
        // SAFETY: a plain call on an open descriptor.
        if unsafe { libc::flock(fd.as_raw_fd(), mode | libc::LOCK_NB) } == 0 {
            return Ok(());
        }
        let error = io::Error::last_os_error();
        if error.raw_os_error() != Some(libc::EWOULDBLOCK) {
            return Err(OpenError::system(&located.path, "lock", &error));
        }
        let holder = lock_holder(inode, device);
        // The lock of a process that has ended is not listed any more.
        if holder.is_none_or(has_ended) && Instant::now() < deadline {
            thread::sleep(DEAD_HOLDER_STEP);
            continue;
        }
        let words = holder.map_or_else(|| "locked by another program".to_owned(), describe_holder);
        return Err(OpenError {
            code: "IN_USE",
            message: format!("{} is in use: {words}", located.path.display()),
            errno: libc::EWOULDBLOCK,
        });
    }
}

/// Who holds a lock on the file, from /proc/locks (`1: FLOCK ADVISORY WRITE 123 fe:00:456 0 EOF`).
fn lock_holder(inode: u64, device: u64) -> Option<u32> {
    let wanted = format!("{:02x}:{:02x}:{inode}", libc::major(device), libc::minor(device));
    let locks = fs::read_to_string("/proc/locks").ok()?;
    let line = locks.lines().find(|line| line.split_whitespace().any(|word| word == wanted))?;
    line.split_whitespace().nth(4)?.parse().ok()
}

fn describe_holder(pid: u32) -> String {
    let name = fs::read_to_string(format!("/proc/{pid}/comm")).unwrap_or_default();
    let name = name.trim();
    if name.is_empty() { format!("locked by process {pid}") } else { format!("locked by process {pid} ({name})") }
}

/// Whether a process is gone, or is a zombie (`123 (name) Z ...`). One outside of our namespace has number 0, and lives.
fn has_ended(pid: u32) -> bool {
    if pid == 0 {
        return false;
    }
    match fs::read_to_string(format!("/proc/{pid}/stat")) {
        Err(error) => error.kind() == io::ErrorKind::NotFound,
        Ok(stat) => stat.rsplit(") ").next().is_some_and(|rest| rest.starts_with(['Z', 'X'])),
    }
}

fn facts(located: &Located, fd: &OwnedFd) -> Result<DeviceFacts, OpenError> {
    let raw = fd.as_raw_fd();
    let geometry = match located.kind {
        FileKind::Block => geometry::block_geometry(raw, located.metadata.rdev()),
        _ => geometry::file_geometry(raw),
    };
    let geometry = geometry.map_err(|error| OpenError::system(&located.path, "examine", &error))?;
    let reader = AlignedReader { fd: raw, size_bytes: geometry.size_bytes };
    let signatures = find_signatures(&reader, geometry.size_bytes)
        .map_err(|error| OpenError::system(&located.path, "read", &error))?;
    let block = located.kind == FileKind::Block;
    Ok(DeviceFacts {
        path: located.path.clone(),
        kind: located.kind,
        geometry,
        signatures: signatures.into_iter().map(str::to_owned).collect(),
        users: users(located),
        device_number: if block { located.metadata.rdev() } else { located.metadata.dev() },
        inode: located.metadata.ino(),
    })
}

fn check_usable(facts: &DeviceFacts, read_only: bool) -> Result<(), OpenError> {
    let path = facts.path.display();
    let size = facts.geometry.size_bytes;
    if size < DEVICE_BYTES_MIN {
        let message = format!("{path} has {size} bytes; a device needs at least {DEVICE_BYTES_MIN}");
        return Err(OpenError::new("TOO_SMALL", message));
    }
    let block = facts.geometry.logical_block_bytes as u64;
    if block > LOGICAL_BLOCK_BYTES_MAX {
        let message = format!("{path} has blocks of {block} bytes; at most {LOGICAL_BLOCK_BYTES_MAX} are supported");
        return Err(OpenError::new("NOT_SUPPORTED", message));
    }
    if !size.is_multiple_of(block) {
        let message = format!("the size of {path}, {size} bytes, is not a multiple of its block size, {block} bytes");
        return Err(OpenError::new("BAD_SIZE", message));
    }
    if facts.geometry.read_only && !read_only {
        return Err(OpenError::new("READ_ONLY", format!("{path} is a read-only device")));
    }
    if read_only { Ok(()) } else { refuse_users(&facts.path, &facts.users) }
}

fn refuse_users(path: &Path, users: &[String]) -> Result<(), OpenError> {
    if users.is_empty() {
        return Ok(());
    }
    Err(OpenError::new("IN_USE", format!("{} is in use: {}", path.display(), users.join(", "))))
}

/// Who uses the device or file, as far as the kernel tells: mounts, swap, device-mapper and md holders, loop devices.
fn users(located: &Located) -> Vec<String> {
    let mut users = Vec::new();
    if located.kind == FileKind::Block {
        let rdev = located.metadata.rdev();
        let family = device_family(rdev);
        users.extend(mounts_of(&family));
        users.extend(holders_of(rdev));
        users.extend(swaps_where(|metadata| family.contains(&metadata.rdev())));
    } else {
        let identity = (located.metadata.dev(), located.metadata.ino());
        users.extend(loops_over(identity));
        users.extend(swaps_where(|metadata| (metadata.dev(), metadata.ino()) == identity));
    }
    users
}

/// The device and its partitions.
fn device_family(rdev: u64) -> Vec<u64> {
    let mut family = vec![rdev];
    let Ok(entries) = fs::read_dir(geometry::sysfs_folder(rdev)) else { return family };
    for entry in entries.flatten() {
        let number = fs::read_to_string(entry.path().join("dev")).unwrap_or_default();
        if entry.path().join("partition").exists()
            && let Some((major, minor)) = number.trim().split_once(':')
            && let (Ok(major), Ok(minor)) = (major.parse(), minor.parse())
        {
            family.push(libc::makedev(major, minor));
        }
    }
    family
}

fn mounts_of(family: &[u64]) -> Vec<String> {
    let mounts = fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
    let mut found = Vec::new();
    for line in mounts.lines() {
        let mut words = line.split_whitespace();
        let (Some(number), Some(place)) = (words.nth(2), words.nth(1)) else { continue };
        let mounted = family.iter().any(|rdev| format!("{}:{}", libc::major(*rdev), libc::minor(*rdev)) == number);
        if mounted {
            found.push(format!("mounted at {}", place.replace("\\040", " ")));
        }
    }
    found
}

fn holders_of(rdev: u64) -> Vec<String> {
    let Ok(entries) = fs::read_dir(geometry::sysfs_folder(rdev).join("holders")) else { return Vec::new() };
    let name = |entry: fs::DirEntry| entry.file_name().to_string_lossy().into_owned();
    entries.flatten().map(|entry| format!("held by {}", name(entry))).collect()
}

fn swaps_where(matches: impl Fn(&Metadata) -> bool) -> Vec<String> {
    let swaps = fs::read_to_string("/proc/swaps").unwrap_or_default();
    let paths = swaps.lines().skip(1).filter_map(|line| line.split_whitespace().next());
    let used = |path: &&str| fs::metadata(path).is_ok_and(|metadata| matches(&metadata));
    paths.filter(used).map(|_| "used as swap".to_owned()).collect()
}

fn loops_over(identity: (u64, u64)) -> Vec<String> {
    let Ok(entries) = fs::read_dir("/sys/block") else { return Vec::new() };
    let mut found = Vec::new();
    for entry in entries.flatten() {
        let backing = backing_file(&entry.path());
        let same = backing
            .and_then(|path| fs::metadata(path).ok())
            .is_some_and(|metadata| (metadata.dev(), metadata.ino()) == identity);
        if same {
            found.push(format!("attached to /dev/{}", entry.file_name().to_string_lossy()));
        }
    }
    found
}

fn backing_file(folder: &Path) -> Option<PathBuf> {
    let path = fs::read_to_string(folder.join("loop/backing_file")).ok()?;
    Some(PathBuf::from(path.trim_end_matches('\n')))
}

/// Locks the file under a loop device. A file that cannot be opened any more cannot be used by others either.
fn lock_backing_file(facts: &DeviceFacts, read_only: bool) -> Result<Option<OwnedFd>, OpenError> {
    let Some(path) = backing_file(&geometry::sysfs_folder(facts.device_number)) else { return Ok(None) };
    let Ok(metadata) = fs::symlink_metadata(&path) else { return Ok(None) };
    if !metadata.is_file() || metadata.permissions().mode() == 0 {
        return Ok(None);
    }
    let (inode, device) = (metadata.ino(), metadata.dev());
    let located = Located { path, kind: FileKind::Regular, metadata };
    let Ok(fd) = open_descriptor(&located, libc::O_RDONLY) else { return Ok(None) };
    lock(&fd, &located, inode, device, read_only)?;
    Ok(Some(fd))
}

/// Fills `bytes` from `offset` of an open device of this size.
pub fn read_device(fd: &OwnedFd, size_bytes: u64, offset: u64, bytes: &mut [u8]) -> io::Result<()> {
    AlignedReader { fd: fd.as_raw_fd(), size_bytes }.read_at(offset, bytes)
}

/// Reads at any offset through aligned direct reads.
struct AlignedReader {
    fd: RawFd,
    size_bytes: u64,
}

#[repr(align(4096))]
struct Block([u8; READ_ALIGN_BYTES as usize]);

impl ReadAt for AlignedReader {
    fn read_at(&self, offset: u64, bytes: &mut [u8]) -> io::Result<()> {
        let mut block = Block([0; READ_ALIGN_BYTES as usize]);
        let mut done = 0;
        while done < bytes.len() {
            let at = offset + done as u64;
            let start = at / READ_ALIGN_BYTES * READ_ALIGN_BYTES;
            let wanted = self.size_bytes.saturating_sub(start).min(READ_ALIGN_BYTES) as usize;
            // A device may end within a block of this size, but never within one of its own.
            // SAFETY: `block` has room for `wanted` bytes and is aligned.
            let count = unsafe { libc::pread(self.fd, block.0.as_mut_ptr().cast(), wanted, start as libc::off_t) };
            if count < 0 {
                return Err(io::Error::last_os_error());
            }
            let skip = (at - start) as usize;
            let usable = (count as usize).saturating_sub(skip).min(bytes.len() - done);
            if usable == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
            bytes[done..done + usable].copy_from_slice(&block.0[skip..skip + usable]);
            done += usable;
        }
        Ok(())
    }
}
