//! What a device already holds, judged by the magic numbers of the formats that people keep data in.
//!
//! The offsets and bytes are those of the formats' own documentation and of util-linux's libblkid. A hit means "somebody's
//! data may be here", so doubtful cases count as hits.

use std::io;

/// Reads bytes of a device, at any alignment.
pub trait ReadAt {
    /// Fills `bytes` from `offset`.
    fn read_at(&self, offset: u64, bytes: &mut [u8]) -> io::Result<()>;
}

/// Where a magic number lies.
enum Place {
    /// Bytes from the start.
    Start(u64),
    /// Bytes from the end.
    End(u64),
}

struct Magic {
    name: &'static str,
    place: Place,
    bytes: &'static [u8],
}

const fn start(name: &'static str, offset: u64, bytes: &'static [u8]) -> Magic {
    Magic { name, place: Place::Start(offset), bytes }
}

const fn end(name: &'static str, offset: u64, bytes: &'static [u8]) -> Magic {
    Magic { name, place: Place::End(offset), bytes }
}

const MD_MAGIC: &[u8] = b"\xfc\x4e\x2b\xa9";
const BCACHE_MAGIC: &[u8] = b"\xc6\x85\x73\xf6\x4e\x1a\x45\xca\x82\x65\xf5\x7f\x48\xba\x6d\x81";
const BCACHEFS_MAGIC: &[u8] = b"\xc6\x85\x73\xf6\x66\xce\x90\xa9\xd9\x6a\x60\xcf\x80\x3d\xf7\xef";

const MAGICS: &[Magic] = &[
    start("gpt", 512, b"EFI PART"),
    start("gpt", 4096, b"EFI PART"),
    end("gpt backup", 512, b"EFI PART"),
    end("gpt backup", 4096, b"EFI PART"),
    start("ext2/3/4", 0x438, b"\x53\xef"),
    start("xfs", 0, b"XFSB"),
    start("btrfs", 0x10040, b"_BHRfS_M"),
    start("f2fs", 0x400, b"\x10\x20\xf5\xf2"),
    start("bcachefs", 0x1018, BCACHEFS_MAGIC),
    start("bcache", 0x1018, BCACHE_MAGIC),
    start("ntfs", 3, b"NTFS    "),
    start("exfat", 3, b"EXFAT   "),
    start("vfat", 0x36, b"FAT12   "),
    start("vfat", 0x36, b"FAT16   "),
    start("vfat", 0x52, b"FAT32   "),
    start("jfs", 0x8000, b"JFS1"),
    start("reiserfs", 0x10034, b"ReIsEr"),
    start("nilfs2", 0x406, b"\x34\x34"),
    start("ocfs2", 0x2000, b"OCFSV2"),
    start("gfs2", 0x10000, b"\x01\x16\x19\x70"),
    start("hfs+", 0x400, b"H+\x00\x04"),
    start("hfsx", 0x400, b"HX\x00\x05"),
    start("apfs", 32, b"NXSB"),
    start("iso9660", 0x8001, b"CD001"),
    start("udf", 0x8001, b"BEA01"),
    start("squashfs", 0, b"hsqs"),
    start("erofs", 1024, b"\xe2\xe1\xf5\xe0"),
    start("swap", 4096 - 10, b"SWAPSPACE2"),
    start("swap", 65536 - 10, b"SWAPSPACE2"),
    start("swap", 4096 - 10, b"SWAP-SPACE"),
    start("hibernation image", 4096 - 10, b"S1SUSPEND"),
    start("luks", 0, b"LUKS\xba\xbe"),
    start("linux raid 1.1", 0, MD_MAGIC),
    start("linux raid 1.2", 4096, MD_MAGIC),
    start("ceph bluestore", 0, b"bluestore block device"),
    start("vmfs", 0x20_0000, b"\x5e\xf1\xab\x2f"),
    start("qcow2", 0, b"QFI\xfb"),
    start("vmdk", 0, b"KDMV"),
    start("vhdx", 0, b"vhdxfile"),
    start("vhd", 0, b"conectix"),
    end("vhd", 512, b"conectix"),
    start("vdi", 0x40, b"\x7f\x10\xda\xbe"),
    start("strake", 0, b"STRAKE\r\n"),
    end("strake", 4096, b"STRAKE\r\n"),
];

/// Names of the formats whose magic numbers the device holds, without repetition, in the table's order.
pub fn find_signatures(device: &dyn ReadAt, size_bytes: u64) -> io::Result<Vec<&'static str>> {
    let mut found: Vec<&'static str> = Vec::new();
    let mut add = |name| {
        if !found.contains(&name) {
            found.push(name);
        }
    };
    for magic in MAGICS {
        let at = match magic.place {
            Place::Start(offset) => Some(offset),
            Place::End(offset) => size_bytes.checked_sub(offset),
        };
        if let Some(at) = at
            && holds(device, size_bytes, at, magic.bytes)?
        {
            add(magic.name);
        }
    }
    if holds_mbr(device, size_bytes)? {
        add("dos partition table");
    }
    if holds_lvm(device, size_bytes)? {
        add("lvm2");
    }
    if holds_old_raid(device, size_bytes)? {
        add("linux raid");
    }
    if holds_drbd(device, size_bytes)? {
        add("drbd");
    }
    if holds_zfs(device, size_bytes)? {
        add("zfs");
    }
    Ok(found)
}

fn holds(device: &dyn ReadAt, size_bytes: u64, at: u64, bytes: &[u8]) -> io::Result<bool> {
    let mut read = [0u8; 32];
    let read = &mut read[..bytes.len()];
    if at + bytes.len() as u64 > size_bytes {
        return Ok(false);
    }
    device.read_at(at, read)?;
    Ok(read == bytes)
}

/// The boot signature alone is common, so at least one entry must be a partition with a sane boot flag.
fn holds_mbr(device: &dyn ReadAt, size_bytes: u64) -> io::Result<bool> {
    if !holds(device, size_bytes, 510, b"\x55\xaa")? {
        return Ok(false);
    }
    let mut table = [0u8; 64];
    device.read_at(446, &mut table)?;
    let entries: Vec<&[u8]> = table.chunks(16).collect();
    let sane = entries.iter().all(|entry| matches!(entry[0], 0 | 0x80));
    Ok(sane && entries.iter().any(|entry| entry[4] != 0))
}

fn holds_lvm(device: &dyn ReadAt, size_bytes: u64) -> io::Result<bool> {
    for sector in 0..4u64 {
        let label = holds(device, size_bytes, sector * 512, b"LABELONE")?;
        if label && holds(device, size_bytes, sector * 512 + 24, b"LVM2 001")? {
            return Ok(true);
        }
    }
    Ok(false)
}

/// Version 0.90 lies 64 to 128 KiB before the end, version 1.0 at least 8 KiB before it (linux/raid/md_p.h).
fn holds_old_raid(device: &dyn ReadAt, size_bytes: u64) -> io::Result<bool> {
    let version_0 = (size_bytes & !0xffff).checked_sub(0x10000);
    let version_1 = (size_bytes & !511).checked_sub(8192).map(|at| at & !4095);
    for at in [version_0, version_1].into_iter().flatten() {
        if holds(device, size_bytes, at, MD_MAGIC)? {
            return Ok(true);
        }
    }
    Ok(false)
}

/// Internal metadata of DRBD 8 and 9 ends the device; the magic number is at byte 60 of its last 4 KiB.
fn holds_drbd(device: &dyn ReadAt, size_bytes: u64) -> io::Result<bool> {
    let Some(at) = (size_bytes & !4095).checked_sub(4096) else { return Ok(false) };
    for magic in [b"\x83\x74\x02\x6b", b"\x83\x74\x02\x6c", b"\x83\x74\x02\x6d"] {
        if holds(device, size_bytes, at + 60, magic)? {
            return Ok(true);
        }
    }
    Ok(false)
}

/// Uberblocks lie in the second half of each 256 KiB label, at a step that depends on the sector size.
fn holds_zfs(device: &dyn ReadAt, size_bytes: u64) -> io::Result<bool> {
    let magics: [&[u8]; 2] = [b"\x0c\xb1\xba\x00\x00\x00\x00\x00", b"\x00\x00\x00\x00\x00\xba\xb1\x0c"];
    for label in [0u64, 256 << 10] {
        for block in 0..128u64 {
            let at = label + (128 << 10) + block * 1024;
            for magic in magics {
                if holds(device, size_bytes, at, magic)? {
                    return Ok(true);
                }
            }
        }
    }
    Ok(false)
}

#[cfg(test)]
mod tests {
    use super::*;

    impl ReadAt for Vec<u8> {
        fn read_at(&self, offset: u64, bytes: &mut [u8]) -> io::Result<()> {
            let at = offset as usize;
            bytes.copy_from_slice(&self[at..at + bytes.len()]);
            Ok(())
        }
    }

    const SIZE: usize = 4 << 20;

    #[test]
    fn an_empty_device_and_one_full_of_noise_hold_nothing() {
        let empty = vec![0u8; SIZE];
        assert!(find_signatures(&empty, SIZE as u64).unwrap().is_empty());
        let noise: Vec<u8> = (0..SIZE as u32).map(|i| (i.wrapping_mul(2_654_435_761) >> 24) as u8 | 1).collect();
        assert!(find_signatures(&noise, SIZE as u64).unwrap().is_empty());
    }

    #[test]
    fn every_magic_number_is_found_where_it_belongs() {
        for magic in MAGICS {
            let mut device = vec![0u8; SIZE];
            let at = match magic.place {
                Place::Start(offset) => offset as usize,
                Place::End(offset) => SIZE - offset as usize,
            };
            device[at..at + magic.bytes.len()].copy_from_slice(magic.bytes);
            let found = find_signatures(&device, SIZE as u64).unwrap();
            assert!(found.contains(&magic.name), "{} in {found:?}", magic.name);
        }
    }

    #[test]
    fn formats_with_rules_of_their_own_are_found() {
        let plant = |places: &[(usize, &[u8])]| {
            let mut device = vec![0u8; SIZE];
            for (at, bytes) in places {
                device[*at..*at + bytes.len()].copy_from_slice(bytes);
            }
            find_signatures(&device, SIZE as u64).unwrap()
        };
        assert_eq!(plant(&[(510, b"\x55\xaa")]), [""; 0]);
        assert_eq!(plant(&[(510, b"\x55\xaa"), (446 + 4, b"\x83")]), ["dos partition table"]);
        assert_eq!(plant(&[(512, b"LABELONE"), (512 + 24, b"LVM2 001")]), ["lvm2"]);
        assert_eq!(plant(&[(SIZE - 65536, MD_MAGIC)]), ["linux raid"]);
        assert_eq!(plant(&[(SIZE - 8192, MD_MAGIC)]), ["linux raid"]);
        assert_eq!(plant(&[(SIZE - 4096 + 60, b"\x83\x74\x02\x6d")]), ["drbd"]);
        assert_eq!(plant(&[((128 << 10) + 4096, b"\x0c\xb1\xba\x00\x00\x00\x00\x00")]), ["zfs"]);
    }

    #[test]
    fn a_device_too_small_for_a_magic_number_is_no_error() {
        for size in [0usize, 1, 511, 512, 4096] {
            assert!(find_signatures(&vec![0u8; size], size as u64).unwrap().is_empty());
        }
    }
}
