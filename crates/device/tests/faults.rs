//! What a failed sync, and faults that filters bring about, do to requests, on each engine.

mod support;

use strake_device::engine::open_engine;
use strake_device::faults::{FaultAction, FaultFilter, FaultRule};
use strake_device::files::{Fence, FileKind};
use strake_device::request::{Op, Request};
use support::{Rig, Scratch, add, config, transfer, variants};

const MIB: u64 = 1 << 20;

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
fn what_is_lost_counts_as_done() {
    for variant in variants() {
        let config = config(variant.1);
        let engine = open_engine(variant.0, config).unwrap();
        let lost = FaultRule { start: 4096, end: 8192, ..FaultRule::always(FaultAction::Lose) };
        let filter = FaultFilter::new(engine, config.arena, config.checksum, vec![lost]);
        let mut rig = Rig::over(Box::new(filter), config.arena);
        let scratch = Scratch::file("lost", MIB);
        let file = add(&mut rig, Some(scratch.open()), FileKind::Regular);
        rig.store(0, &[5u8; 4096]);
        for (token, offset) in [(1, 0.0), (2, 4096.0)] {
            // The checksum of what is lost is that of what was to be written, which is copied first.
            let mut write = transfer(Op::Write, token, file, 8192, 4096, offset as u64);
            (write.copy_from, write.copy_length, write.checksums) = (0, 4096, 16384 + 4 * token);
            assert_eq!(rig.run(write), 4096);
        }
        assert_eq!(rig.load(16384 + 4, 4), rig.load(16384 + 8, 4));
        assert_ne!(rig.load(16384 + 8, 4), [0u8; 4]);
        // Reads are carried out.
        assert_eq!(rig.run(transfer(Op::Read, 3, file, 0, 4096, 4096)), 4096);
        assert_eq!(rig.load(0, 4096), [0u8; 4096]);
        assert_eq!(std::fs::read(&scratch.path).unwrap()[..8192], [[5u8; 4096], [0u8; 4096]].concat());
        let mut zero = Request::new(Op::Zero, 4);
        (zero.file, zero.offset, zero.span) = (file, 4096.0, 4096.0);
        assert_eq!(rig.run(zero), 0);
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
