//! The bounded table of operations that have been started and have not ended.
//!
//! Everything the kernel may look at while an operation runs (message headers, vectors, time-outs) lives in the entry,
//! whose address never changes. An entry is `Abandoned` when its operation was overdue and has been answered: it stays
//! until the kernel is done with its memory.

use crate::request::{Request, VECTORS_MAX};

/// Where an entry stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    /// Not in use.
    Free,
    /// Started; its completion is owed.
    Active,
    /// Answered as overdue; the kernel has not let go of its memory.
    Abandoned,
}

/// A message header with its vectors, for gathered sends.
pub struct Message {
    /// What the kernel reads; points to `vectors`.
    pub header: libc::msghdr,
    /// The pieces that are still to be sent, from `first`.
    pub vectors: [libc::iovec; VECTORS_MAX],
    /// The first piece that has not been sent whole.
    pub first: usize,
    /// The number of pieces.
    pub count: usize,
}

impl Message {
    fn new() -> Box<Message> {
        // SAFETY: both structs are plain data for which all zeroes is a valid value.
        Box::new(unsafe { std::mem::zeroed::<Message>() })
    }

    /// Steps over `sent` bytes. Returns whether anything is left.
    pub fn advance(&mut self, mut sent: usize) -> bool {
        while self.first < self.count {
            let piece = &mut self.vectors[self.first];
            if sent < piece.iov_len {
                piece.iov_base = piece.iov_base.wrapping_byte_add(sent);
                piece.iov_len -= sent;
                return true;
            }
            sent -= piece.iov_len;
            self.first += 1;
        }
        false
    }

    /// Points the header at the pieces that are left.
    pub fn prepare(&mut self) -> *const libc::msghdr {
        self.header.msg_iov = &mut self.vectors[self.first];
        self.header.msg_iovlen = self.count - self.first;
        &self.header
    }
}

/// One operation in flight.
pub struct InFlight {
    /// A copy of what was asked.
    pub request: Request,
    /// Bytes transferred so far.
    pub done: u32,
    /// Whether it is in use.
    pub state: State,
    /// When it was started, in milliseconds of the coarse monotonic clock.
    pub started_ms: u64,
    /// For [`crate::request::Op::Timeout`].
    pub timespec: io_uring::types::Timespec,
    message: Option<Box<Message>>,
}

impl InFlight {
    /// The entry's message; made at first use and kept.
    pub fn message(&mut self) -> &mut Message {
        self.message.get_or_insert_with(Message::new)
    }
}

/// Operations in flight, by index.
pub struct InFlightTable {
    entries: Box<[InFlight]>,
    free: Vec<u32>,
}

impl InFlightTable {
    /// A table with room for `capacity` operations.
    pub fn new(capacity: u32) -> InFlightTable {
        let entry = |_| InFlight {
            request: Request::new(crate::request::Op::Nop, 0),
            done: 0,
            state: State::Free,
            started_ms: 0,
            timespec: io_uring::types::Timespec::new(),
            message: None,
        };
        InFlightTable { entries: (0..capacity).map(entry).collect(), free: (0..capacity).rev().collect() }
    }

    /// Takes an entry for `request`; `None` when the table is full.
    pub fn insert(&mut self, request: &Request, now_ms: u64) -> Option<u32> {
        let index = self.free.pop()?;
        let entry = &mut self.entries[index as usize];
        entry.request = *request;
        entry.done = 0;
        entry.state = State::Active;
        entry.started_ms = now_ms;
        Some(index)
    }

    /// The entry at `index`, which must be in use.
    pub fn get_mut(&mut self, index: u32) -> &mut InFlight {
        &mut self.entries[index as usize]
    }

    /// Gives the entry back.
    pub fn remove(&mut self, index: u32) {
        let entry = &mut self.entries[index as usize];
        assert!(entry.state != State::Free, "an entry is freed once");
        entry.state = State::Free;
        self.free.push(index);
    }

    /// Operations in flight.
    pub fn len(&self) -> usize {
        self.entries.len() - self.free.len()
    }

    /// Whether nothing is in flight.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Indices of the entries for which `wanted` holds.
    pub fn select(&self, wanted: impl Fn(&InFlight) -> bool) -> Vec<u32> {
        let in_use = |entry: &InFlight| entry.state != State::Free && wanted(entry);
        (0..self.entries.len() as u32).filter(|index| in_use(&self.entries[*index as usize])).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::request::Op;

    #[test]
    fn the_table_is_bounded() {
        let mut table = InFlightTable::new(2);
        let request = Request::new(Op::Read, 7);
        let first = table.insert(&request, 0).unwrap();
        table.insert(&request, 0).unwrap();
        assert!(table.insert(&request, 0).is_none());
        table.remove(first);
        assert_eq!(table.insert(&request, 0), Some(first));
        assert_eq!(table.len(), 2);
    }

    #[test]
    fn a_partial_send_resumes_in_the_middle_of_a_piece() {
        let mut message = Message::new();
        let bytes = [0u8; 30];
        for (piece, range) in [0..10usize, 10..30].into_iter().enumerate() {
            message.vectors[piece].iov_base = bytes[range.clone()].as_ptr() as *mut _;
            message.vectors[piece].iov_len = range.len();
        }
        message.count = 2;
        assert!(message.advance(10));
        assert_eq!((message.first, message.vectors[1].iov_len), (1, 20));
        assert!(message.advance(5));
        assert_eq!((message.first, message.vectors[1].iov_len), (1, 15));
        assert_eq!(message.vectors[1].iov_base as usize, bytes[15..].as_ptr() as usize);
        assert!(!message.advance(15));
    }
}
