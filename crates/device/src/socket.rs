//! Listening sockets, and the options of connections.

use std::ffi::CString;
use std::io;
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::FileTypeExt;
use std::os::unix::net::UnixStream;
use std::path::Path;

/// Bytes of a connection's send buffer. A small one makes a full socket show early, so that replies leave in time
/// instead of piling up while the device idles.
const SEND_BUFFER_BYTES: libc::c_int = 64 << 10;
/// Connections that the kernel holds before they are accepted.
const BACKLOG: libc::c_int = 128;
/// The longest path of a unix socket, without its terminating zero.
pub const UNIX_PATH_BYTES_MAX: usize = 107;

fn check(result: libc::c_int) -> io::Result<libc::c_int> {
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(result) }
}

/// Listens on a unix socket that only its owner can reach (mode 0600 from the first moment).
///
/// A socket file that a dead server left behind is replaced; one that somebody answers on is `EADDRINUSE`, and any other
/// file at that path is `EEXIST`.
pub fn listen_unix(path: &Path) -> io::Result<OwnedFd> {
    let bytes = path.as_os_str().as_bytes();
    if bytes.len() > UNIX_PATH_BYTES_MAX || bytes.is_empty() || bytes.contains(&0) {
        return Err(io::Error::from_raw_os_error(libc::ENAMETOOLONG));
    }
    remove_stale(path)?;
    // SAFETY: a plain call.
    let fd = check(unsafe { libc::socket(libc::AF_UNIX, libc::SOCK_STREAM | libc::SOCK_CLOEXEC, 0) })?;
    // SAFETY: the descriptor is new and ours.
    let fd = unsafe { OwnedFd::from_raw_fd(fd) };
    // On Linux a socket's file is created with the socket's own mode (net/unix/af_unix.c), so there is no moment at which
    // somebody else could connect.
    // SAFETY: a plain call on an open descriptor.
    check(unsafe { libc::fchmod(fd.as_raw_fd(), 0o600) })?;
    // SAFETY: all zeroes is a valid value.
    let mut address: libc::sockaddr_un = unsafe { std::mem::zeroed() };
    address.sun_family = libc::AF_UNIX as libc::sa_family_t;
    for (place, byte) in address.sun_path.iter_mut().zip(bytes) {
        *place = *byte as libc::c_char;
    }
    let length = std::mem::offset_of!(libc::sockaddr_un, sun_path) + bytes.len() + 1;
    // SAFETY: `address` is valid for `length` bytes.
    check(unsafe { libc::bind(fd.as_raw_fd(), (&raw const address).cast(), length as libc::socklen_t) })?;
    // SAFETY: a plain call on an open descriptor.
    check(unsafe { libc::listen(fd.as_raw_fd(), BACKLOG) })?;
    Ok(fd)
}

fn remove_stale(path: &Path) -> io::Result<()> {
    let metadata = match std::fs::symlink_metadata(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        other => other?,
    };
    if !metadata.file_type().is_socket() {
        return Err(io::Error::from_raw_os_error(libc::EEXIST));
    }
    match UnixStream::connect(path) {
        Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => std::fs::remove_file(path),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        _ => Err(io::Error::from_raw_os_error(libc::EADDRINUSE)),
    }
}

/// Listens on a TCP address. Returns the socket and the port that it got.
pub fn listen_tcp(address: SocketAddr) -> io::Result<(OwnedFd, u16)> {
    let listener = TcpListener::bind(address)?;
    let port = listener.local_addr()?.port();
    Ok((OwnedFd::from(listener), port))
}

/// Sets what every accepted connection should have. Failures are harmless: the connection is only slower.
pub fn prepare_connection(fd: RawFd) {
    set_option(fd, libc::SOL_SOCKET, libc::SO_SNDBUF, SEND_BUFFER_BYTES);
    set_option(fd, libc::IPPROTO_TCP, libc::TCP_NODELAY, 1);
    set_option(fd, libc::SOL_SOCKET, libc::SO_KEEPALIVE, 1);
}

fn set_option(fd: RawFd, level: libc::c_int, option: libc::c_int, value: libc::c_int) {
    let length = size_of::<libc::c_int>() as libc::socklen_t;
    // SAFETY: `value` is valid for `length` bytes.
    unsafe { libc::setsockopt(fd, level, option, (&raw const value).cast(), length) };
}

/// Makes operations in flight on a socket end.
pub fn shutdown(fd: RawFd) {
    // SAFETY: a plain call; a socket that is not connected any more is no error to us.
    unsafe { libc::shutdown(fd, libc::SHUT_RDWR) };
}

/// Makes a socket's calls return instead of waiting.
pub fn set_nonblocking(fd: RawFd) -> io::Result<()> {
    // SAFETY: plain calls on an open descriptor.
    let flags = check(unsafe { libc::fcntl(fd, libc::F_GETFL) })?;
    // SAFETY: as above.
    check(unsafe { libc::fcntl(fd, libc::F_SETFL, flags | libc::O_NONBLOCK) })?;
    Ok(())
}

/// The path as the kernel wants it.
pub fn c_path(path: &Path) -> io::Result<CString> {
    CString::new(path.as_os_str().as_bytes()).map_err(|_| io::Error::from_raw_os_error(libc::EINVAL))
}

/// Connects to a listener, for tests and probes.
pub fn connect_tcp(address: SocketAddr) -> io::Result<OwnedFd> {
    TcpStream::connect(address).map(OwnedFd::from)
}
