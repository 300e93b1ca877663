//! How both engines connect: to whom, what is left of a connection that does not come about, and how one is given up.

mod support;

use std::io::{Read, Write};
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener};
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;
use std::time::Duration;

use strake_device::files::FileKind;
use strake_device::request::{FLAG_PEER, Op, Request};
use strake_device::socket::{self, PeerAddress};
use support::{Rig, Scratch, add, each_variant, transfer};

/// Asks for a connection. Returns the slot that it will have.
fn ask(rig: &mut Rig, peer: PeerAddress, token: u32) -> u32 {
    let fd = socket::connecting_socket(&peer).unwrap();
    let slot = rig.engine.add_connecting(fd, peer).unwrap();
    let mut request = Request::new(Op::Connect, token);
    request.file = slot;
    rig.push(request);
    slot
}

fn option(fd: &OwnedFd, level: libc::c_int, name: libc::c_int) -> libc::c_int {
    raw_option(fd.as_raw_fd(), level, name)
}

fn raw_option(fd: libc::c_int, level: libc::c_int, name: libc::c_int) -> libc::c_int {
    let mut value: libc::c_int = 0;
    let mut length = size_of::<libc::c_int>() as libc::socklen_t;
    // SAFETY: `value` is valid for `length` bytes.
    let result = unsafe { libc::getsockopt(fd, level, name, (&raw mut value).cast(), &mut length) };
    assert_eq!(result, 0);
    value
}

fn exchange(rig: &mut Rig, slot: u32, peer: &mut (impl Read + Write)) {
    rig.store(0, b"question");
    rig.send(slot, &[(0, 8)], 90);
    assert!(rig.complete(90).result >= 0);
    let mut bytes = [0u8; 8];
    peer.read_exact(&mut bytes).unwrap();
    assert_eq!(&bytes, b"question");
    rig.push(transfer(Op::Receive, 91, slot, 4096, 64, 0));
    assert!(rig.turn(Duration::from_millis(5)).is_empty(), "a receive waits");
    peer.write_all(b"answer").unwrap();
    assert_eq!(rig.complete(91).result, 6);
    assert_eq!(rig.load(4096, 6), b"answer");
}

#[test]
fn a_unix_listener_is_reached_and_bytes_go_both_ways() {
    each_variant(|rig| {
        let scratch = Scratch::new("connect");
        let listener = UnixListener::bind(&scratch.path).unwrap();
        let slot = ask(rig, PeerAddress::unix(&scratch.path).unwrap(), 1);
        assert_eq!(rig.complete(1).result, slot as i32);
        let (mut peer, _) = listener.accept().unwrap();
        exchange(rig, slot, &mut peer);
        rig.engine.close_file(slot);
        assert_eq!(rig.engine.status().files, 0);
        assert_eq!(peer.read(&mut [0u8; 1]).unwrap(), 0);
    });
}

#[test]
fn tcp_listeners_of_both_families_are_reached() {
    each_variant(|rig| {
        for address in [SocketAddr::from((Ipv4Addr::LOCALHOST, 0)), SocketAddr::from((Ipv6Addr::LOCALHOST, 0))] {
            let Ok(listener) = TcpListener::bind(address) else {
                assert!(address.is_ipv6(), "IPv4 is there");
                println!("no IPv6 here");
                continue;
            };
            let slot = ask(rig, PeerAddress::tcp(listener.local_addr().unwrap()), 1);
            assert_eq!(rig.complete(1).result, slot as i32);
            let (mut peer, _) = listener.accept().unwrap();
            exchange(rig, slot, &mut peer);
            rig.engine.close_file(slot);
        }
        assert_eq!(rig.engine.status().files, 0);
    });
}

#[test]
fn a_connection_between_nodes_holds_little_that_is_not_sent_and_one_of_a_client_little_at_all() {
    let is_peer = |fd: &OwnedFd| {
        assert_eq!(option(fd, libc::IPPROTO_TCP, libc::TCP_NODELAY), 1);
        assert_eq!(option(fd, libc::SOL_SOCKET, libc::SO_KEEPALIVE), 1);
        let unsent = option(fd, libc::IPPROTO_TCP, libc::TCP_NOTSENT_LOWAT);
        // The kernel counts its own needs, and doubles what was set.
        (unsent == 64 << 10, option(fd, libc::SOL_SOCKET, libc::SO_SNDBUF) > 128 << 10)
    };
    let peer = PeerAddress::tcp(SocketAddr::from((Ipv4Addr::LOCALHOST, 1)));
    assert!(is_peer(&socket::connecting_socket(&peer).unwrap()).0);
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    for (flags, expected) in [(FLAG_PEER, (true, true)), (0, (false, false))] {
        let _client = std::net::TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let fd = OwnedFd::from(listener.accept().unwrap().0);
        socket::prepare_connection(fd.as_raw_fd(), flags);
        assert_eq!(is_peer(&fd), expected);
    }
}

/// The descriptor of this process that is connected to an address.
fn connected_to(address: SocketAddr) -> libc::c_int {
    let wanted = PeerAddress::tcp(address);
    let (wanted, length) = wanted.parts();
    // SAFETY: the address is valid for its length.
    let wanted = unsafe { std::slice::from_raw_parts(wanted.cast::<u8>(), length as usize) };
    let found = (0..1024).find(|fd| {
        let mut name = [0u8; 128];
        let mut room = name.len() as libc::socklen_t;
        // SAFETY: `name` has room for as many bytes as are said; other descriptors than sockets are an error.
        let result = unsafe { libc::getpeername(*fd, name.as_mut_ptr().cast(), &mut room) };
        result == 0 && &name[..wanted.len()] == wanted
    });
    found.unwrap()
}

#[test]
fn a_node_accepts_connections_of_nodes_as_such() {
    each_variant(|rig| {
        let (listener, port) = socket::listen_tcp(SocketAddr::from((Ipv4Addr::LOCALHOST, 0))).unwrap();
        let listener = add(rig, Some(listener), FileKind::Listener);
        for (token, flags) in [(1, FLAG_PEER), (2, 0)] {
            let mut accept = Request::new(Op::Accept, token);
            (accept.file, accept.flags) = (listener, flags);
            rig.push(accept);
            let client = std::net::TcpStream::connect((Ipv4Addr::LOCALHOST, port)).unwrap();
            let slot = rig.complete(token).result;
            assert!(slot >= 0, "{slot}");
            let fd = connected_to(client.local_addr().unwrap());
            let unsent = raw_option(fd, libc::IPPROTO_TCP, libc::TCP_NOTSENT_LOWAT);
            assert_eq!(unsent == 64 << 10, flags == FLAG_PEER);
            rig.engine.close_file(slot as u32);
        }
    });
}

#[test]
fn whoever_does_not_listen_is_an_answer_and_leaves_nothing() {
    each_variant(|rig| {
        let scratch = Scratch::new("nobody");
        ask(rig, PeerAddress::unix(&scratch.path).unwrap(), 1);
        assert_eq!(rig.complete(1).result, -libc::ENOENT);
        drop(UnixListener::bind(&scratch.path).unwrap());
        ask(rig, PeerAddress::unix(&scratch.path).unwrap(), 2);
        assert_eq!(rig.complete(2).result, -libc::ECONNREFUSED);
        let free = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap().local_addr().unwrap();
        ask(rig, PeerAddress::tcp(free), 3);
        assert_eq!(rig.complete(3).result, -libc::ECONNREFUSED);
        assert_eq!((rig.engine.status().files, rig.engine.status().in_flight), (0, 0));
    });
}

#[test]
fn a_path_that_no_socket_can_have_is_refused() {
    for path in ["", "a\0b", &"x".repeat(108)] {
        assert_eq!(PeerAddress::unix(Path::new(path)).unwrap_err().raw_os_error(), Some(libc::ENAMETOOLONG), "{path}");
    }
    assert!(PeerAddress::unix(Path::new(&"x".repeat(107))).is_ok());
}

/// A listener that has no room for one more.
fn full_listener(scratch: &Scratch) -> (UnixListener, Vec<UnixStream>) {
    let listener = UnixListener::bind(&scratch.path).unwrap();
    // SAFETY: a plain call on an open descriptor: the backlog becomes as small as it can be.
    assert_eq!(unsafe { libc::listen(listener.as_raw_fd(), 0) }, 0);
    let waiting = vec![UnixStream::connect(&scratch.path).unwrap()];
    (listener, waiting)
}

#[test]
fn a_connect_that_hangs_is_given_up_by_closing_its_file() {
    each_variant(|rig| {
        let scratch = Scratch::new("full");
        let (_listener, _waiting) = full_listener(&scratch);
        for (token, shut) in [(1, false), (2, true)] {
            let slot = ask(rig, PeerAddress::unix(&scratch.path).unwrap(), token);
            assert!(rig.turn(Duration::from_millis(30)).is_empty());
            assert_eq!(rig.engine.status().files, 1);
            if shut {
                rig.engine.shutdown_socket(slot);
            }
            rig.engine.close_file(slot);
            assert_eq!(rig.complete(token).result, -libc::ECANCELED);
            assert_eq!((rig.engine.status().files, rig.engine.status().in_flight), (0, 0));
        }
    });
}

#[test]
fn a_listener_that_has_room_again_is_reached() {
    each_variant(|rig| {
        let scratch = Scratch::new("room");
        let (listener, _waiting) = full_listener(&scratch);
        let slot = ask(rig, PeerAddress::unix(&scratch.path).unwrap(), 1);
        assert!(rig.turn(Duration::from_millis(30)).is_empty());
        listener.accept().unwrap();
        assert_eq!(rig.complete(1).result, slot as i32);
        let (mut peer, _) = listener.accept().unwrap();
        exchange(rig, slot, &mut peer);
    });
}

/// Connects on TCP to a listener whose queue is full: the kernel drops what asks for more, and asks again for a minute.
#[test]
fn a_tcp_connect_that_nobody_answers_is_given_up() {
    each_variant(|rig| {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        // SAFETY: as above.
        assert_eq!(unsafe { libc::listen(listener.as_raw_fd(), 0) }, 0);
        let address = listener.local_addr().unwrap();
        let _first = std::net::TcpStream::connect(address).unwrap();
        let slot = ask(rig, PeerAddress::tcp(address), 1);
        assert!(rig.turn(Duration::from_millis(30)).is_empty());
        rig.engine.close_file(slot);
        assert_eq!(rig.complete(1).result, -libc::ECANCELED);
        assert_eq!((rig.engine.status().files, rig.engine.status().in_flight), (0, 0));
    });
}

#[test]
fn a_socket_is_of_no_use_before_it_is_connected_and_is_connected_once() {
    each_variant(|rig| {
        let scratch = Scratch::new("early");
        let (_listener, _waiting) = full_listener(&scratch);
        let slot = ask(rig, PeerAddress::unix(&scratch.path).unwrap(), 1);
        assert_eq!(rig.run(transfer(Op::Receive, 2, slot, 0, 64, 0)), -libc::EINVAL);
        let mut again = Request::new(Op::Connect, 3);
        again.file = slot;
        assert_eq!(rig.run(again), -libc::EALREADY);
        rig.engine.close_file(slot);
        assert_eq!(rig.complete(1).result, -libc::ECANCELED);
        assert_eq!(rig.run(Request { token: 4, ..again }), -libc::EBADF);
    });
}

#[test]
fn closing_the_engine_ends_connects() {
    each_variant(|rig| {
        let scratch = Scratch::new("end");
        let (_listener, _waiting) = full_listener(&scratch);
        ask(rig, PeerAddress::unix(&scratch.path).unwrap(), 1);
        rig.engine.submit().unwrap();
        assert_eq!(rig.engine.close(Duration::from_secs(10)), 0);
        assert_eq!(rig.engine.status().files, 0);
    });
}
