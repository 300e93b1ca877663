//! The checksums that reads and writes yield, on each engine.

mod support;

use strake_device::engine::open_engine;
use strake_device::faults::{FaultAction, FaultFilter, FaultRule};
use strake_device::files::FileKind;
use strake_device::request::{COMPLETION_MISMATCH, FLAG_SUMMED, Op, Request};
use support::{ARENA_BYTES, Rig, Scratch, add, config, each_variant, fnv1a, transfer, variants};

const MIB: u64 = 1 << 20;

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
fn a_write_that_has_not_the_checksums_that_it_is_to_have_reaches_no_device() {
    each_variant(|rig| {
        let scratch = Scratch::file("sums-given", MIB);
        let file = add(rig, Some(scratch.open()), FileKind::Regular);
        rig.store(PAYLOAD, &[0; 3 * 4096]);
        rig.store(MIB as u32 + 100, &blocks());
        let given = |sums: &[u32]| sums.iter().flat_map(|sum| sum.to_ne_bytes()).collect::<Vec<u8>>();
        // What counts is the copy that is written.
        let mut write = Request { flags: FLAG_SUMMED, ..summed(Op::Write, 1, file, 0) };
        (write.copy_from, write.copy_length) = (MIB as u32 + 100, 3 * 4096);
        let mut wrong = sums_of(&blocks());
        wrong[2] ^= 1;
        rig.store(SUMS, &given(&wrong));
        rig.push(write);
        let refused = rig.complete(1);
        assert_eq!((refused.result, refused.flags), (-libc::EBADMSG, COMPLETION_MISMATCH));
        assert_eq!(std::fs::read(&scratch.path).unwrap(), vec![0u8; MIB as usize]);
        rig.store(SUMS, &given(&sums_of(&blocks())));
        rig.push(write);
        let written = rig.complete(1);
        assert_eq!((written.result, written.flags), (3 * 4096, 0));
        assert_eq!(std::fs::read(&scratch.path).unwrap()[..3 * 4096], blocks());
        assert_eq!(rig.run(Request { checksums: 0, ..write }), -libc::EINVAL);
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
