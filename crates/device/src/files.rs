//! The table of what an engine has open: devices, listeners and connections, by slot number.
//!
//! A slot is given up in two steps. `close` makes later requests fail at once; the descriptor itself is closed when the
//! last operation in flight on it has ended, so that a slot number is never reused under an operation.

use std::os::fd::{AsRawFd, OwnedFd, RawFd};
use std::sync::Arc;

use crate::socket::PeerAddress;

/// What a file is, which decides how operations on it are carried out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FileKind {
    /// A block device.
    Block,
    /// A regular file.
    Regular,
    /// A device without storage: reads give zeroes, writes vanish. It measures everything but the device.
    Null,
    /// A listening socket.
    Listener,
    /// A connected stream socket.
    Stream,
    /// A stream socket that is not connected yet; it becomes a stream, or is closed.
    Connecting,
}

impl FileKind {
    /// Whether device operations apply.
    pub fn is_device(self) -> bool {
        matches!(self, FileKind::Block | FileKind::Regular | FileKind::Null)
    }
}

/// What a device still accepts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[repr(u32)]
pub enum Fence {
    /// Everything.
    Open = 0,
    /// Reads only: a flush failed, so what the device holds of earlier writes is unknown, for good.
    Writes = 1,
    /// Nothing: an operation was overdue and may still land.
    All = 2,
}

/// One open file.
#[derive(Debug)]
pub struct FileEntry {
    /// The descriptor; a thread that is blocked in a system call on it holds another reference.
    pub fd: Option<Arc<OwnedFd>>,
    /// What it is.
    pub kind: FileKind,
    /// What it still accepts.
    pub fence: Fence,
    /// Operations that have not ended.
    pub in_flight: u32,
    /// Closed by the producer, and waiting for `in_flight` to reach zero.
    pub closing: bool,
    /// Where a socket is to be connected to. The kernel looks at it until that has ended, so it does not move.
    pub peer: Option<Box<PeerAddress>>,
}

impl FileEntry {
    /// The raw descriptor, or -1 for a null device.
    pub fn raw_fd(&self) -> RawFd {
        self.fd.as_ref().map_or(-1, |fd| fd.as_raw_fd())
    }
}

/// Files by slot.
#[derive(Debug)]
pub struct FileTable {
    entries: Vec<Option<FileEntry>>,
    free: Vec<u32>,
}

impl FileTable {
    /// A table with room for `capacity` files.
    pub fn new(capacity: u32) -> FileTable {
        FileTable { entries: (0..capacity).map(|_| None).collect(), free: (0..capacity).rev().collect() }
    }

    /// Adds a file; `None` when the table is full, in which case the descriptor is closed.
    pub fn insert(&mut self, fd: Option<OwnedFd>, kind: FileKind) -> Option<u32> {
        let slot = self.free.pop()?;
        self.entries[slot as usize] = Some(FileEntry {
            fd: fd.map(Arc::new),
            kind,
            fence: Fence::Open,
            in_flight: 0,
            closing: false,
            peer: None,
        });
        Some(slot)
    }

    /// The file at `slot`, if it is open or closing.
    pub fn get(&self, slot: u32) -> Option<&FileEntry> {
        self.entries.get(slot as usize)?.as_ref()
    }

    /// Likewise, to be changed.
    pub fn get_mut(&mut self, slot: u32) -> Option<&mut FileEntry> {
        self.entries.get_mut(slot as usize)?.as_mut()
    }

    /// Takes the file out and frees its slot, if nothing is in flight on it.
    pub fn take_idle(&mut self, slot: u32) -> Option<FileEntry> {
        let entry = self.entries.get_mut(slot as usize)?;
        if entry.as_ref()?.in_flight > 0 {
            return None;
        }
        self.free.push(slot);
        entry.take()
    }

    /// Slots in use.
    pub fn used(&self) -> usize {
        self.entries.len() - self.free.len()
    }

    /// Slots of all open files.
    pub fn slots(&self) -> Vec<u32> {
        let open = |slot: &u32| self.entries[*slot as usize].is_some();
        (0..self.entries.len() as u32).filter(open).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_slot_is_not_reused_while_an_operation_is_in_flight() {
        let mut table = FileTable::new(1);
        let slot = table.insert(None, FileKind::Null).unwrap();
        table.get_mut(slot).unwrap().in_flight = 1;
        assert!(table.take_idle(slot).is_none());
        assert!(table.insert(None, FileKind::Null).is_none());
        table.get_mut(slot).unwrap().in_flight = 0;
        assert!(table.take_idle(slot).is_some());
        assert_eq!(table.insert(None, FileKind::Null), Some(slot));
    }
}
