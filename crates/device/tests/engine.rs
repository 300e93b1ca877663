//! What both engines must do, run against each of them.

mod support;

use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::time::Duration;

use strake_device::engine::open_engine;
use strake_device::faults::{FaultAction, FaultFilter, FaultRule};
use strake_device::files::{Fence, FileKind};
use strake_device::request::{FLAG_FAST_ONLY, FLAG_FUA, FLAG_KEEP_ALLOCATED, FLAG_WAIT_ALL, Op, Request};
use strake_device::{socket, wake};
use support::{ARENA_BYTES, Rig, Scratch, add, config, fnv1a, range, transfer, variants};

const MIB: u64 = 1 << 20;

fn each_variant(test: impl Fn(&mut Rig)) {
    for variant in variants() {
        println!("{variant:?}");
        test(&mut Rig::new(variant));
    }
}

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

#[test]
fn a_failed_sync_fences_the_device_for_good() {
    for variant in variants() {
        let config = config(variant.1);
        let engine = open_engine(variant.0, config).unwrap();
        let rule =
            FaultRule { op: Some(Op::Sync), skip: 1, count: 1, ..FaultRule::always(FaultAction::Error(libc::EIO)) };
        let filter = FaultFilter::new(engine, config.arena, config.checksum, vec![rule]);
        let mut rig = Rig::over(Box::new(filter), config.arena);
        let scratch = Scratch::file("fence", MIB);
        let file = add(&mut rig, Some(scratch.open()), FileKind::Regular);
        assert_eq!(rig.run(transfer(Op::Sync, 1, file, 0, 0, 0)), 0);
        assert_eq!(rig.engine.fence_of(file), Some(Fence::Open));
        assert_eq!(rig.run(transfer(Op::Sync, 2, file, 0, 0, 0)), -libc::EIO);
        assert_eq!(rig.engine.fence_of(file), Some(Fence::Writes));
        for op in [Op::Sync, Op::Write, Op::Discard, Op::Zero] {
            assert_eq!(rig.run(transfer(op, 3, file, 0, 4096, 0)), -libc::EIO, "{op:?}");
        }
        assert_eq!(rig.run(transfer(Op::Read, 4, file, 0, 4096, 0)), 4096);
    }
}

#[test]
fn a_late_write_takes_its_payload_in_time() {
    for variant in variants() {
        let config = config(variant.1);
        let engine = open_engine(variant.0, config).unwrap();
        let late = FaultRule { op: Some(Op::Write), ..FaultRule::always(FaultAction::DelayMs(5)) };
        let mut rig =
            Rig::over(Box::new(FaultFilter::new(engine, config.arena, config.checksum, vec![late])), config.arena);
        let scratch = Scratch::file("late", MIB);
        let file = add(&mut rig, Some(scratch.open()), FileKind::Regular);
        rig.store(0, &[3u8; 4096]);
        let mut write = transfer(Op::Write, 1, file, 8192, 4096, 0);
        (write.copy_from, write.copy_length) = (0, 4096);
        rig.push(write);
        rig.store(0, &[4u8; 4096]);
        assert_eq!(rig.complete(1).result, 4096);
        assert_eq!(std::fs::read(&scratch.path).unwrap()[..4096], [3u8; 4096]);
    }
}

#[test]
fn fault_filters_stack() {
    for variant in variants() {
        let config = config(variant.1);
        let engine = open_engine(variant.0, config).unwrap();
        let late = FaultRule { op: Some(Op::Write), ..FaultRule::always(FaultAction::DelayMs(20)) };
        let corrupt =
            FaultRule { op: Some(Op::Read), start: 8192, end: 12288, ..FaultRule::always(FaultAction::Corrupt) };
        let broken = FaultRule { start: 65536, end: 131072, ..FaultRule::always(FaultAction::Error(libc::EIO)) };
        let inner = FaultFilter::new(engine, config.arena, config.checksum, vec![late, corrupt]);
        let outer = FaultFilter::new(Box::new(inner), config.arena, config.checksum, vec![broken]);
        let mut rig = Rig::over(Box::new(outer), config.arena);
        let scratch = Scratch::file("faults", MIB);
        let file = add(&mut rig, Some(scratch.open()), FileKind::Regular);
        rig.store(0, &[3u8; 4096]);
        assert_eq!(rig.run(transfer(Op::Write, 1, file, 0, 4096, 4096)), 4096);
        assert_eq!(rig.run(transfer(Op::Read, 2, file, 8192, 4096, 4096)), 4096);
        assert_eq!(rig.load(8192, 4096), [3u8; 4096]);
        assert_eq!(rig.run(transfer(Op::Write, 3, file, 0, 4096, 8192)), 4096);
        assert_eq!(rig.run(transfer(Op::Read, 4, file, 8192, 4096, 8192)), 4096);
        let different: u32 = rig.load(8192, 4096).iter().map(|byte| (byte ^ 3).count_ones()).sum();
        assert_eq!(different, 1);
        assert_eq!(rig.run(transfer(Op::Read, 5, file, 0, 4096, 65536)), -libc::EIO);
        assert_eq!(rig.run(transfer(Op::Read, 6, file, 0, 4096, 131072)), 4096);
    }
}

/// Payloads are at `PAYLOAD`, checksums at `SUMS`.
const PAYLOAD: u32 = 65536;
const SUMS: u32 = 4;

/// Three blocks that differ.
fn blocks() -> Vec<u8> {
    (0..3 * 4096u32).map(|at| (at.wrapping_mul(0x9e37_79b9) >> 24) as u8).collect()
}

fn sums_of(bytes: &[u8]) -> Vec<u32> {
    bytes.chunks(4096).map(fnv1a).collect()
}

fn summed(op: Op, token: u32, file: u32, offset: u64) -> Request {
    Request { checksums: SUMS, ..transfer(op, token, file, PAYLOAD, 3 * 4096, offset) }
}

#[test]
fn reads_and_writes_yield_a_checksum_for_each_block() {
    each_variant(|rig| {
        let scratch = Scratch::file("sums", MIB);
        let file = add(rig, Some(scratch.open()), FileKind::Regular);
        rig.store(PAYLOAD, &blocks());
        assert_eq!(rig.run(summed(Op::Write, 1, file, 8192)), 3 * 4096);
        assert_eq!(rig.checksums(SUMS, 4), [sums_of(&blocks()), vec![0]].concat());
        rig.store(SUMS, &[0; 16]);
        rig.store(PAYLOAD, &[0; 3 * 4096]);
        assert_eq!(rig.run(summed(Op::Read, 2, file, 8192)), 3 * 4096);
        assert_eq!(rig.checksums(SUMS, 4), [sums_of(&blocks()), vec![0]].concat());
        // None of those who ask for none.
        rig.store(SUMS, &[0; 16]);
        assert_eq!(rig.run(Request { checksums: 0, ..summed(Op::Read, 3, file, 8192) }), 3 * 4096);
        assert_eq!(rig.load(0, 64), [0; 64]);
    });
}

#[test]
fn checksums_of_a_write_are_those_of_the_copy_that_is_written() {
    each_variant(|rig| {
        let scratch = Scratch::file("sums-copy", MIB);
        let file = add(rig, Some(scratch.open()), FileKind::Regular);
        rig.store(MIB as u32 + 100, &blocks());
        let mut write = summed(Op::Write, 1, file, 0);
        (write.copy_from, write.copy_length) = (MIB as u32 + 100, 3 * 4096);
        assert_eq!(rig.run(write), 3 * 4096);
        assert_eq!(rig.checksums(SUMS, 3), sums_of(&blocks()));
        assert_eq!(std::fs::read(&scratch.path).unwrap()[..3 * 4096], blocks());
    });
}

#[test]
fn a_null_device_yields_checksums_too() {
    each_variant(|rig| {
        let file = add(rig, None, FileKind::Null);
        rig.store(PAYLOAD, &blocks());
        assert_eq!(rig.run(summed(Op::Write, 1, file, 0)), 3 * 4096);
        assert_eq!(rig.checksums(SUMS, 3), sums_of(&blocks()));
        assert_eq!(rig.run(summed(Op::Read, 2, file, 0)), 3 * 4096);
        assert_eq!(rig.checksums(SUMS, 3), sums_of(&[0; 3 * 4096]));
    });
}

#[test]
fn checksums_that_cannot_be_had_are_refused() {
    each_variant(|rig| {
        let scratch = Scratch::file("sums-bad", MIB);
        let files = [add(rig, Some(scratch.open()), FileKind::Regular), add(rig, None, FileKind::Null)];
        rig.store(PAYLOAD, &blocks());
        for file in files {
            for op in [Op::Read, Op::Write] {
                let good = summed(op, 1, file, 0);
                for (request, errno) in [
                    (Request { length: 4096 + 512, ..good }, libc::EINVAL),
                    (Request { checksums: 6, ..good }, libc::EINVAL),
                    (Request { checksums: PAYLOAD + 4096, ..good }, libc::EINVAL),
                    (Request { checksums: ARENA_BYTES as u32 - 8, ..good }, libc::EFAULT),
                    (Request { checksums: u32::MAX - 3, ..good }, libc::EFAULT),
                ] {
                    assert_eq!(rig.run(request), -errno, "{request:?}");
                }
            }
        }
        assert_eq!(rig.load(PAYLOAD, 3 * 4096), blocks());
        assert_eq!(std::fs::read(&scratch.path).unwrap(), vec![0u8; MIB as usize]);
    });
}

#[test]
fn a_read_that_fails_yields_no_checksums() {
    each_variant(|rig| {
        let scratch = Scratch::file("sums-end", 8192);
        let file = add(rig, Some(scratch.open()), FileKind::Regular);
        assert_eq!(rig.run(summed(Op::Read, 1, file, 0)), -libc::EIO);
        assert_eq!(rig.checksums(SUMS, 3), [0; 3]);
    });
}

#[test]
fn checksums_of_a_corrupt_read_are_those_of_the_corrupt_bytes() {
    for variant in variants() {
        let config = config(variant.1);
        let engine = open_engine(variant.0, config).unwrap();
        let corrupt = FaultRule { op: Some(Op::Read), count: 2, ..FaultRule::always(FaultAction::Corrupt) };
        let late = FaultRule::always(FaultAction::DelayMs(1));
        let filter = FaultFilter::new(engine, config.arena, config.checksum, vec![corrupt]);
        let outer = FaultFilter::new(Box::new(filter), config.arena, config.checksum, vec![late]);
        let mut rig = Rig::over(Box::new(outer), config.arena);
        let scratch = Scratch::file("sums-rot", MIB);
        let files = [add(&mut rig, Some(scratch.open()), FileKind::Regular), add(&mut rig, None, FileKind::Null)];
        for file in files {
            rig.store(PAYLOAD, &blocks());
            assert_eq!(rig.run(summed(Op::Write, 1, file, 8192)), 3 * 4096);
            assert_eq!(rig.checksums(SUMS, 3), sums_of(&blocks()));
            assert_eq!(rig.run(summed(Op::Read, 2, file, 8192)), 3 * 4096);
            let stored = if file == files[0] { blocks() } else { vec![0; 3 * 4096] };
            let read = rig.load(PAYLOAD, 3 * 4096);
            let flipped: u32 = read.iter().zip(&stored).map(|(is, was)| (is ^ was).count_ones()).sum();
            assert_eq!(flipped, 1);
            let sums = rig.checksums(SUMS, 3);
            assert_eq!(sums, sums_of(&read));
            assert_eq!(sums.iter().zip(sums_of(&stored)).filter(|(is, was)| **is != *was).count(), 1);
        }
    }
}
