//! What both engines must do, run against each of them.

mod support;

use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::time::Duration;

use strake_device::files::FileKind;
use strake_device::request::{FLAG_FAST_ONLY, FLAG_FUA, FLAG_KEEP_ALLOCATED, FLAG_WAIT_ALL, Op, Request};
use strake_device::{socket, wake};
use support::{Rig, Scratch, add, each_variant, range, transfer, variants};

const MIB: u64 = 1 << 20;

#[test]
fn what_is_written_is_read_back_and_lands_in_the_file() {
    each_variant(|rig| {
        let scratch = Scratch::file("rw", MIB);
        let file = add(rig, Some(scratch.open()), FileKind::Regular);
        rig.store(4096, &[7u8; 8192]);
        assert_eq!(rig.run(transfer(Op::Write, 1, file, 4096, 8192, 16384)), 8192);
        assert_eq!(rig.run(transfer(Op::Read, 2, file, 65536, 8192, 16384)), 8192);
        assert_eq!(rig.load(65536, 8192), [7u8; 8192]);
        assert_eq!(rig.run(transfer(Op::Sync, 3, file, 0, 0, 0)), 0);
        let bytes = std::fs::read(&scratch.path).unwrap();
        assert_eq!(bytes[16383..24577], [&[0][..], &[7; 8192], &[0]].concat());
    });
}

#[test]
fn a_write_can_take_its_payload_from_elsewhere() {
    each_variant(|rig| {
        let scratch = Scratch::file("copy", MIB);
        let file = add(rig, Some(scratch.open()), FileKind::Regular);
        rig.store(100, &[9u8; 1000]);
        let mut write = transfer(Op::Write, 1, file, 8192, 4096, 0);
        (write.copy_from, write.copy_length, write.aux) = (100, 1000, 24);
        write.flags = FLAG_FUA;
        assert_eq!(rig.run(write), 4096);
        let bytes = std::fs::read(&scratch.path).unwrap();
        assert_eq!((bytes[23], bytes[24], bytes[1023], bytes[1024]), (0, 9, 9, 0));
        // The copy must stay within the payload.
        write.aux = 4096 - 999;
        assert_eq!(rig.run(write), -libc::EFAULT);
    });
}

#[test]
fn many_operations_in_flight_each_complete_once() {
    each_variant(|rig| {
        let scratch = Scratch::file("many", MIB);
        let file = add(rig, Some(scratch.open()), FileKind::Regular);
        for round in 0..20u32 {
            for token in 0..64u32 {
                rig.push(transfer(Op::Write, token, file, token * 4096, 4096, (token as u64 * 4096) % MIB));
            }
            let mut seen = [false; 64];
            for token in 0..64u32 {
                assert_eq!(rig.complete(token).result, 4096, "round {round}");
                assert!(!std::mem::replace(&mut seen[token as usize], true));
            }
        }
        assert_eq!(rig.engine.status().in_flight, 0);
    });
}

#[test]
fn a_full_table_is_an_answer_not_a_wait() {
    each_variant(|rig| {
        for token in 0..64u32 {
            let mut timeout = Request::new(Op::Timeout, token);
            timeout.offset = 60_000.0;
            rig.push(timeout);
        }
        let mut one_more = Request::new(Op::Timeout, 64);
        one_more.offset = 1.0;
        assert_eq!(rig.run(one_more), -libc::EBUSY);
    });
}

#[test]
fn garbage_is_answered_and_never_acted_on() {
    each_variant(|rig| {
        let scratch = Scratch::file("garbage", MIB);
        let file = add(rig, Some(scratch.open()), FileKind::Regular);
        let good = transfer(Op::Write, 1, file, 0, 4096, 0);
        let cases: [(Request, i32); 9] = [
            (Request { op: 0, ..good }, libc::EINVAL),
            (Request { op: 99, ..good }, libc::EINVAL),
            (Request { op: u32::MAX, ..good }, libc::EINVAL),
            (Request { file: 15, ..good }, libc::EBADF),
            (Request { file: u32::MAX, ..good }, libc::EBADF),
            (Request { memory: u32::MAX, ..good }, libc::EFAULT),
            (Request { length: u32::MAX, ..good }, libc::EFAULT),
            (Request { offset: -4096.0, ..good }, libc::EINVAL),
            (Request { offset: f64::NAN, ..good }, libc::EINVAL),
        ];
        for (request, errno) in cases {
            assert_eq!(rig.run(request), -errno, "{request:?}");
        }
        assert_eq!(rig.run(Request { op: Op::Receive as u32, ..good }), -libc::EINVAL);
        assert_eq!(rig.run(Request { op: Op::Accept as u32, ..good }), -libc::EINVAL);
        assert_eq!(std::fs::read(&scratch.path).unwrap(), vec![0u8; MIB as usize]);
        assert_eq!(rig.engine.status().in_flight, 0);
    });
}

#[test]
fn reading_past_the_end_is_an_error_not_a_short_success() {
    each_variant(|rig| {
        let scratch = Scratch::file("end", 8192);
        let file = add(rig, Some(scratch.open()), FileKind::Regular);
        assert_eq!(rig.run(transfer(Op::Read, 1, file, 0, 8192, 4096)), -libc::EIO);
        assert_eq!(rig.run(transfer(Op::Read, 2, file, 0, 4096, 8192)), -libc::EIO);
    });
}

#[test]
fn zeroing_discarding_and_extents_agree() {
    each_variant(|rig| {
        let scratch = Scratch::file("zero", MIB);
        let file = add(rig, Some(scratch.open()), FileKind::Regular);
        rig.store(0, &vec![5u8; MIB as usize]);
        assert_eq!(rig.run(transfer(Op::Write, 1, file, 0, MIB as u32, 0)), MIB as i32);
        assert_eq!(rig.run(range(Op::Discard, 2, file, 65536, 65536)), 0);
        assert_eq!(rig.run(range(Op::Zero, 3, file, 262144, 65536)), 0);
        let mut kept = range(Op::Zero, 4, file, 524288, 65536);
        kept.flags = FLAG_KEEP_ALLOCATED | FLAG_FUA | FLAG_FAST_ONLY;
        assert_eq!(rig.run(kept), 0);
        let bytes = std::fs::read(&scratch.path).unwrap();
        let zeroed = |at: usize| bytes[at..at + 65536].iter().all(|byte| *byte == 0);
        assert!(zeroed(65536) && zeroed(262144) && zeroed(524288));
        assert_eq!(bytes.iter().filter(|byte| **byte == 5).count(), MIB as usize - 3 * 65536);

        let mut list = range(Op::Extents, 5, file, 0, 262144 + 65536);
        (list.memory, list.length) = (2 << 20, 4096);
        assert_eq!(rig.run(list), 4);
        let listed = rig.load(2 << 20, 64);
        let number = |at: usize| f64::from_ne_bytes(listed[at..at + 8].try_into().unwrap()) as u64;
        let pairs: Vec<_> = (0..4).map(|index| (number(index * 16), number(index * 16 + 8))).collect();
        assert_eq!(pairs, [(65536, 0), (65536, 3), (131072, 0), (65536, 3)]);
        // Room for one extent: one extent.
        list.length = 16;
        assert_eq!(rig.run(list), 1);
    });
}

#[test]
fn a_null_device_reads_zeroes_and_takes_everything() {
    each_variant(|rig| {
        let file = add(rig, None, FileKind::Null);
        rig.store(0, &[1u8; 4096]);
        assert_eq!(rig.run(transfer(Op::Read, 1, file, 0, 4096, 1 << 40)), 4096);
        assert_eq!(rig.load(0, 4096), [0u8; 4096]);
        assert_eq!(rig.run(transfer(Op::Write, 2, file, 0, 4096, 0)), 4096);
        for op in [Op::Sync, Op::Discard, Op::Zero] {
            assert_eq!(rig.run(range(op, 3, file, 0, 4096)), 0);
        }
    });
}

#[test]
fn sockets_carry_bytes_both_ways_and_report_the_end() {
    each_variant(|rig| {
        let scratch = Scratch::new("socket");
        let listener = socket::listen_unix(&scratch.path).unwrap();
        let listener = add(rig, Some(listener), FileKind::Listener);
        let mut accept = Request::new(Op::Accept, 1);
        accept.file = listener;
        rig.push(accept);
        let mut client = UnixStream::connect(&scratch.path).unwrap();
        let slot = rig.complete(1).result;
        assert!(slot > 0, "{slot}");
        let slot = slot as u32;

        // Gathered, and larger than any socket buffer, so that it is sent in parts.
        let pieces: Vec<(u32, u32)> = (0..16).map(|index| (index * 65536, 65536)).collect();
        for (index, (at, length)) in pieces.iter().enumerate() {
            rig.store(*at, &vec![index as u8; *length as usize]);
        }
        rig.send(slot, &pieces, 2);
        let reader = std::thread::spawn(move || {
            let mut bytes = vec![0u8; 16 * 65536];
            client.read_exact(&mut bytes).unwrap();
            client.write_all(&bytes).unwrap();
            client
        });
        assert!(rig.complete(2).result > 0);
        let mut receive = transfer(Op::Receive, 3, slot, 2 << 20, MIB as u32, 0);
        receive.flags = FLAG_WAIT_ALL;
        assert_eq!(rig.run(receive), MIB as i32);
        assert_eq!(rig.load(2 << 20, MIB as u32), rig.load(0, MIB as u32));
        drop(reader.join().unwrap());
        assert_eq!(rig.run(transfer(Op::Receive, 4, slot, 0, 4096, 0)), 0);
        rig.send(slot, &[(0, 1 << 20)], 5);
        assert_eq!(rig.complete(5).result, -libc::EPIPE);
        rig.engine.close_file(slot);
        rig.engine.close_file(listener);
        assert_eq!(rig.engine.status().files, 0);
    });
}

#[test]
fn a_slot_is_reused_only_after_its_operations_have_ended() {
    each_variant(|rig| {
        let (ours, theirs) = UnixStream::pair().unwrap();
        let slot = add(rig, Some(ours.into()), FileKind::Stream);
        rig.push(transfer(Op::Receive, 1, slot, 0, 4096, 0));
        rig.engine.submit().unwrap();
        rig.engine.close_file(slot);
        assert_eq!(rig.engine.status().files, 1);
        assert_eq!(rig.run(transfer(Op::Receive, 2, slot, 0, 4096, 0)), -libc::EBADF);
        rig.engine.shutdown_socket(slot);
        assert_eq!(rig.complete(1).result, 0);
        assert_eq!(rig.engine.status().files, 0);
        // The peer sees the end: nothing else holds the socket.
        let mut theirs = theirs;
        assert_eq!(theirs.read(&mut [0u8; 1]).unwrap(), 0);
    });
}

#[test]
fn timeouts_complete_in_order() {
    each_variant(|rig| {
        for (token, delay) in [(1u32, 60.0), (2, 5.0), (3, 30.0)] {
            let mut timeout = Request::new(Op::Timeout, token);
            timeout.offset = delay;
            rig.push(timeout);
        }
        let mut order = Vec::new();
        while order.len() < 3 {
            order.extend(rig.turn(Duration::from_secs(5)).iter().map(|entry| (entry.token, entry.result)));
        }
        assert_eq!(order, [(2, 0), (3, 0), (1, 0)]);
    });
}

#[test]
fn engines_wake_each_other_across_threads() {
    for variant in variants() {
        for other in variants() {
            let mut rig = Rig::new(variant);
            let id = rig.engine.id();
            let waker = std::thread::spawn(move || {
                let mut rig = Rig::new(other);
                let mut request = Request::new(Op::Wake, 0);
                request.file = id;
                rig.push(request);
                // A wake-up of nobody must be harmless.
                request.file = u32::MAX;
                rig.push(request);
                rig.engine.submit().unwrap();
            });
            rig.until_woken();
            waker.join().unwrap();
            let before = rig.wakes;
            wake::wake(id);
            while rig.wakes == before {
                rig.turn(Duration::from_secs(5));
            }
        }
    }
}

#[test]
fn waiting_ends_when_the_watched_descriptor_is_readable() {
    each_variant(|rig| {
        let (mut writer, watched) = UnixStream::pair().unwrap();
        rig.engine.watch(std::os::fd::AsRawFd::as_raw_fd(&watched));
        rig.turn(Duration::from_millis(1));
        assert!(!rig.engine.take_watched());
        writer.write_all(b"x").unwrap();
        while !rig.engine.take_watched() {
            rig.turn(Duration::from_secs(5));
        }
        // Level-triggered: it is still readable.
        while !rig.engine.take_watched() {
            rig.turn(Duration::from_secs(5));
        }
    });
}

#[test]
fn closing_ends_what_waits_for_a_peer() {
    each_variant(|rig| {
        let scratch = Scratch::new("close");
        let listener = socket::listen_unix(&scratch.path).unwrap();
        let listener = add(rig, Some(listener), FileKind::Listener);
        let mut accept = Request::new(Op::Accept, 1);
        accept.file = listener;
        rig.push(accept);
        let (ours, _theirs) = UnixStream::pair().unwrap();
        let slot = add(rig, Some(ours.into()), FileKind::Stream);
        rig.push(transfer(Op::Receive, 2, slot, 0, 4096, 0));
        let mut timeout = Request::new(Op::Timeout, 3);
        timeout.offset = 600_000.0;
        rig.push(timeout);
        rig.engine.submit().unwrap();
        assert_eq!(rig.engine.close(Duration::from_secs(10)), 0);
        assert_eq!(rig.engine.status().files, 0);
    });
}
