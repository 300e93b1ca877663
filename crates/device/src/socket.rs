//! Listening sockets, and the options of connections.

use std::ffi::CString;
use std::io;
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::FileTypeExt;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::Duration;

use crate::request::FLAG_PEER;

/// Bytes of a connection's send buffer. A small one makes a full socket show early, so that replies leave in time
/// instead of piling up while the device idles.
const SEND_BUFFER_BYTES: libc::c_int = 64 << 10;
/// Bytes that a connection which was asked for holds and has not sent: what is behind them can still be overtaken, and a ping
/// waits for little.
const UNSENT_BYTES: libc::c_int = 64 << 10;
/// After how long a unix listener that had no room is asked again.
pub const CONNECT_AGAIN: Duration = Duration::from_millis(5);
/// Connections that the kernel holds before they are accepted.
const BACKLOG: libc::c_int = 128;
/// The longest path of a unix socket, without its terminating zero.
pub const UNIX_PATH_BYTES_MAX: usize = 107;

fn check(result: libc::c_int) -> io::Result<libc::c_int> {
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(result) }
}

/// Where to connect to, as the kernel wants it.
pub struct PeerAddress {
    storage: libc::sockaddr_storage,
    length: libc::socklen_t,
}

impl PeerAddress {
    fn empty() -> PeerAddress {
        // SAFETY: all zeroes is a valid value.
        PeerAddress { storage: unsafe { std::mem::zeroed() }, length: 0 }
    }

    /// The path of a unix socket. Errors: `ENAMETOOLONG` for what is empty, longer than [`UNIX_PATH_BYTES_MAX`] or has a zero
    /// byte.
    pub fn unix(path: &Path) -> io::Result<PeerAddress> {
        let bytes = path.as_os_str().as_bytes();
        if bytes.len() > UNIX_PATH_BYTES_MAX || bytes.is_empty() || bytes.contains(&0) {
            return Err(io::Error::from_raw_os_error(libc::ENAMETOOLONG));
        }
        let mut peer = PeerAddress::empty();
        // SAFETY: the storage is large enough and aligned for every kind of address.
        let address = unsafe { &mut *(&raw mut peer.storage).cast::<libc::sockaddr_un>() };
        address.sun_family = libc::AF_UNIX as libc::sa_family_t;
        for (place, byte) in address.sun_path.iter_mut().zip(bytes) {
            *place = *byte as libc::c_char;
        }
        let length = std::mem::offset_of!(libc::sockaddr_un, sun_path) + bytes.len() + 1;
        peer.length = length as libc::socklen_t;
        Ok(peer)
    }

    /// A TCP address.
    pub fn tcp(address: SocketAddr) -> PeerAddress {
        let mut peer = PeerAddress::empty();
        let storage = &raw mut peer.storage;
        match address {
            SocketAddr::V4(address) => {
                // SAFETY: as in `unix`.
                let place = unsafe { &mut *storage.cast::<libc::sockaddr_in>() };
                place.sin_family = libc::AF_INET as libc::sa_family_t;
                place.sin_port = address.port().to_be();
                place.sin_addr.s_addr = u32::from_ne_bytes(address.ip().octets());
                peer.length = size_of::<libc::sockaddr_in>() as libc::socklen_t;
            }
            SocketAddr::V6(address) => {
                // SAFETY: as in `unix`.
                let place = unsafe { &mut *storage.cast::<libc::sockaddr_in6>() };
                place.sin6_family = libc::AF_INET6 as libc::sa_family_t;
                place.sin6_port = address.port().to_be();
                place.sin6_addr.s6_addr = address.ip().octets();
                place.sin6_scope_id = address.scope_id();
                peer.length = size_of::<libc::sockaddr_in6>() as libc::socklen_t;
            }
        }
        peer
    }

    /// What the kernel reads, and how long it is.
    pub fn parts(&self) -> (*const libc::sockaddr, libc::socklen_t) {
        ((&raw const self.storage).cast(), self.length)
    }

    /// Whether it is that of a unix socket.
    pub fn is_unix(&self) -> bool {
        self.family() == libc::AF_UNIX
    }

    fn family(&self) -> libc::c_int {
        self.storage.ss_family as libc::c_int
    }
}

impl std::fmt::Debug for PeerAddress {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(formatter, "PeerAddress of family {}", self.family())
    }
}

/// A socket that can be connected to `peer`, with the options of connections. Nothing is sent yet. One for a unix socket does not
/// block.
pub fn connecting_socket(peer: &PeerAddress) -> io::Result<OwnedFd> {
    let nonblocking = if peer.is_unix() { libc::SOCK_NONBLOCK } else { 0 };
    // SAFETY: a plain call.
    let fd = check(unsafe { libc::socket(peer.family(), libc::SOCK_STREAM | libc::SOCK_CLOEXEC | nonblocking, 0) })?;
    // SAFETY: the descriptor is new and ours.
    let fd = unsafe { OwnedFd::from_raw_fd(fd) };
    prepare_peer(fd.as_raw_fd());
    Ok(fd)
}

/// Sets what a connection between nodes should have. The kernel chooses how large its send buffer is, as much may be on the way;
/// little of it is unsent. A unix socket knows none of these options, and needs none. Failures are harmless.
pub fn prepare_peer(fd: RawFd) {
    set_option(fd, libc::IPPROTO_TCP, libc::TCP_NODELAY, 1);
    set_option(fd, libc::IPPROTO_TCP, libc::TCP_NOTSENT_LOWAT, UNSENT_BYTES);
    set_option(fd, libc::SOL_SOCKET, libc::SO_KEEPALIVE, 1);
}

/// Tries to connect a non-blocking socket, or asks again how that has ended. `EAGAIN` and `EINPROGRESS` as the kernel has them.
pub fn connect(fd: RawFd, peer: &PeerAddress) -> io::Result<()> {
    let (address, length) = peer.parts();
    // SAFETY: the address is valid for its length.
    match check(unsafe { libc::connect(fd, address, length) }) {
        Err(error) if error.raw_os_error() == Some(libc::EISCONN) => Ok(()),
        other => other.map(|_| ()),
    }
}

/// Listens on a unix socket that only its owner can reach (mode 0600 from the first moment).
///
/// A socket file that a dead server left behind is replaced; one that somebody answers on is `EADDRINUSE`, and any other
/// file at that path is `EEXIST`.
pub fn listen_unix(path: &Path) -> io::Result<OwnedFd> {
    let address = PeerAddress::unix(path)?;
    remove_stale(path)?;
    // SAFETY: a plain call.
    let fd = check(unsafe { libc::socket(libc::AF_UNIX, libc::SOCK_STREAM | libc::SOCK_CLOEXEC, 0) })?;
    // SAFETY: the descriptor is new and ours.
    let fd = unsafe { OwnedFd::from_raw_fd(fd) };
    // On Linux a socket's file is created with the socket's own mode (net/unix/af_unix.c), so there is no moment at which
    // somebody else could connect.
    // SAFETY: a plain call on an open descriptor.
    check(unsafe { libc::fchmod(fd.as_raw_fd(), 0o600) })?;
    let (address, length) = address.parts();
    // SAFETY: the address is valid for its length.
    check(unsafe { libc::bind(fd.as_raw_fd(), address, length) })?;
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

/// Sets what an accepted connection should have, by the flags of [`crate::request::Op::Accept`]. Failures are harmless: the
/// connection is only slower.
pub fn prepare_connection(fd: RawFd, flags: u32) {
    if flags & FLAG_PEER != 0 {
        return prepare_peer(fd);
    }
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
    change_flags(fd, |flags| flags | libc::O_NONBLOCK)
}

/// Makes a socket's calls wait.
pub fn set_blocking(fd: RawFd) -> io::Result<()> {
    change_flags(fd, |flags| flags & !libc::O_NONBLOCK)
}

fn change_flags(fd: RawFd, change: impl Fn(libc::c_int) -> libc::c_int) -> io::Result<()> {
    // SAFETY: plain calls on an open descriptor.
    let flags = check(unsafe { libc::fcntl(fd, libc::F_GETFL) })?;
    // SAFETY: as above.
    check(unsafe { libc::fcntl(fd, libc::F_SETFL, change(flags)) })?;
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
