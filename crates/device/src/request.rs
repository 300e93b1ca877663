//! The entries that cross between a producer (TypeScript, or a Rust test) and an engine.
//!
//! A [`Request`] is 64 bytes, a [`Completion`] 16, both in native byte order: they live in memory that both sides
//! map and never leave the process. Producers are trusted to follow the protocol, not to be free of errors: an engine
//! copies an entry out before it looks at it, and answers a malformed one with `EINVAL` instead of acting on it.
//!
//! ```text
//!  byte   0    4     8     12     16       24      28     32     40         44           48      52       56   60
//!        op  token  file  length  offset   memory  flags  span   copy_from  copy_length  vector  vectors  aux  checksums
//!        u32  u32   u32   u32     f64      u32     u32    f64    u32        u32          u32     u32      u32  u32
//! ```

/// Bytes in one [`Request`].
pub const REQUEST_BYTES: usize = 64;
/// Bytes in one [`Completion`].
pub const COMPLETION_BYTES: usize = 16;
/// Bytes in one [`Vector`].
pub const VECTOR_BYTES: usize = 8;
/// The most vectors one gathered send may name.
pub const VECTORS_MAX: usize = 128;
/// `copy_from` of a write whose payload already lies where the device reads it.
pub const NO_COPY: u32 = u32::MAX;

/// What a [`Request`] asks for. The numbers are the ones in [`Request::op`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[repr(u32)]
pub enum Op {
    /// Read `length` bytes at device `offset` into `memory`. With `checksums`, those of what was read are there when it
    /// completes.
    Read = 1,
    /// Write `length` bytes from `memory` at device `offset`; [`FLAG_FUA`] makes them durable before the completion.
    /// With `copy_from`, `copy_length` bytes are first copied from there to `memory + aux`. With `checksums`, those of
    /// what will be written are put there before the device sees it.
    Write = 2,
    /// Make every completed write durable (`fdatasync`).
    Sync = 3,
    /// Discard `span` bytes at `offset`; their content is undefined afterwards.
    Discard = 4,
    /// Zero `span` bytes at `offset`; [`FLAG_KEEP_ALLOCATED`] and [`FLAG_FAST_ONLY`] apply.
    Zero = 5,
    /// List the extents of `span` bytes at `offset` as (f64 length, f64 kind) pairs at `memory`, `length` bytes of room.
    /// The result is the number of pairs.
    Extents = 6,
    /// Accept one connection; the result is its file slot. [`FLAG_PEER`] applies.
    Accept = 7,
    /// Receive at most `length` bytes into `memory`; [`FLAG_WAIT_ALL`] and [`FLAG_POLL_FIRST`] apply. 0 is end of stream.
    Receive = 8,
    /// Send `vectors` pieces, whole, starting with entry `vector` of the vector table.
    Send = 9,
    /// Complete after `offset` milliseconds.
    Timeout = 10,
    /// Wake the engine whose identifier is `file`.
    Wake = 11,
    /// Copy `length` bytes from `copy_from` to `memory` at once. No completion.
    Copy = 12,
    /// Set `length` bytes at `memory` to the byte `aux` at once. No completion.
    Fill = 13,
    /// Complete with the result `aux` (an `i32`) without doing anything.
    Nop = 14,
    /// Connect the socket at `file` to the address that it was added with; the result is `file`, as a connection. If that
    /// fails, or the file is closed meanwhile (`ECANCELED`), nothing is left of the file.
    Connect = 15,
}

impl Op {
    /// The operation with this number, if there is one.
    pub fn from_number(number: u32) -> Option<Op> {
        const ALL: [Op; 15] = [
            Op::Read,
            Op::Write,
            Op::Sync,
            Op::Discard,
            Op::Zero,
            Op::Extents,
            Op::Accept,
            Op::Receive,
            Op::Send,
            Op::Timeout,
            Op::Wake,
            Op::Copy,
            Op::Fill,
            Op::Nop,
            Op::Connect,
        ];
        ALL.get((number as usize).wrapping_sub(1)).copied()
    }

    /// Whether the operation goes to a device, as opposed to a socket or the engine itself.
    pub fn is_device(self) -> bool {
        self <= Op::Extents
    }

    /// Whether the operation changes what a device holds, or what it promises to hold.
    pub fn modifies_device(self) -> bool {
        matches!(self, Op::Write | Op::Sync | Op::Discard | Op::Zero)
    }
}

/// [`Op::Write`]: the completion promises durability. [`Op::Discard`], [`Op::Zero`]: likewise, by a sync at the end.
pub const FLAG_FUA: u32 = 1 << 0;
/// [`Op::Zero`]: keep the range allocated (NBD's `NO_HOLE`).
pub const FLAG_KEEP_ALLOCATED: u32 = 1 << 1;
/// [`Op::Zero`]: fail with `EOPNOTSUPP` instead of writing zeroes (NBD's `FAST_ZERO`).
pub const FLAG_FAST_ONLY: u32 = 1 << 2;
/// [`Op::Receive`]: complete only when all `length` bytes are there, or the stream ended.
pub const FLAG_WAIT_ALL: u32 = 1 << 3;
/// [`Op::Receive`]: nothing is expected to be there yet, so wait for readiness before the first attempt.
pub const FLAG_POLL_FIRST: u32 = 1 << 4;
/// [`Op::Accept`]: the connection is one between nodes, and has the options of one that was asked for ([`Op::Connect`]).
pub const FLAG_PEER: u32 = 1 << 5;

/// [`Op::Write`]: the words at `checksums` are those that the payload is to have; if it has others the device does not see
/// it ([`COMPLETION_MISMATCH`]).
pub const FLAG_SUMMED: u32 = 1 << 6;

/// [`Completion::flags`]: the operation was given up as overdue. Its memory, at `extra`, still belongs to the kernel.
pub const COMPLETION_ABANDONED: u32 = 1 << 0;
/// [`Completion::flags`]: an operation given up earlier has now ended, and the memory at `extra` is free again.
pub const COMPLETION_LATE: u32 = 1 << 1;
/// [`Completion::extra`]: the operation has no memory.
pub const NO_MEMORY: u32 = u32::MAX;
/// [`Completion::flags`]: after this receive the socket held more.
pub const COMPLETION_MORE: u32 = 1 << 2;
/// [`Completion::flags`]: the payload of a write has other checksums than it was to have (`EBADMSG`).
pub const COMPLETION_MISMATCH: u32 = 1 << 3;

/// One operation asked of an engine. Fields that an operation does not name are ignored.
#[derive(Clone, Copy, Debug)]
#[repr(C, align(8))]
pub struct Request {
    /// An [`Op`].
    pub op: u32,
    /// Returned in the completion; meaningless to the engine.
    pub token: u32,
    /// File slot, or an engine's identifier for [`Op::Wake`].
    pub file: u32,
    /// Bytes at `memory`.
    pub length: u32,
    /// Bytes from the start of the device; a whole number below 2^53.
    pub offset: f64,
    /// Bytes from the start of the arena.
    pub memory: u32,
    /// `FLAG_*`.
    pub flags: u32,
    /// Bytes on the device, for the operations that carry no payload.
    pub span: f64,
    /// Where a copy takes its bytes from: bytes from the start of the arena, or [`NO_COPY`].
    pub copy_from: u32,
    /// Bytes to copy.
    pub copy_length: u32,
    /// First entry in the vector table.
    pub vector: u32,
    /// Number of entries.
    pub vectors: u32,
    /// See the operation.
    pub aux: u32,
    /// Where the checksums of a read or write go, or with [`FLAG_SUMMED`] are: bytes from the start of the arena, a
    /// multiple of 4, of one `u32` in native order for each 4096 bytes of `length`, which must be a multiple of that. 0
    /// for nowhere. They mean nothing if the operation fails.
    pub checksums: u32,
}

impl Request {
    /// A request for `op` that will complete with `token`; everything else is zero, and nothing is copied.
    pub fn new(op: Op, token: u32) -> Request {
        Request {
            op: op as u32,
            token,
            file: 0,
            length: 0,
            offset: 0.0,
            memory: 0,
            flags: 0,
            span: 0.0,
            copy_from: NO_COPY,
            copy_length: 0,
            vector: 0,
            vectors: 0,
            aux: 0,
            checksums: 0,
        }
    }

    /// `offset` as an integer, if it is a whole number from 0 to 2^53.
    pub fn offset_bytes(&self) -> Option<u64> {
        whole(self.offset)
    }

    /// `span` as an integer, if it is a whole number from 0 to 2^53.
    pub fn span_bytes(&self) -> Option<u64> {
        whole(self.span)
    }

    /// Where the memory begins that the kernel may use for a device operation, or [`NO_MEMORY`].
    pub fn memory_used(&self) -> u32 {
        if self.length == 0 { NO_MEMORY } else { self.memory }
    }
}

fn whole(value: f64) -> Option<u64> {
    const LIMIT: f64 = (1u64 << 53) as f64;
    let valid = (0.0..=LIMIT).contains(&value) && value.fract() == 0.0;
    valid.then_some(value as u64)
}

/// How one [`Request`] ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(C)]
pub struct Completion {
    /// The request's token.
    pub token: u32,
    /// Bytes, a slot or a count; a negative number is an errno.
    pub result: i32,
    /// `COMPLETION_*`.
    pub flags: u32,
    /// Of a device operation, where its memory begins, or [`NO_MEMORY`].
    pub extra: u32,
}

impl Completion {
    /// A completion without flags.
    pub fn new(token: u32, result: i32) -> Completion {
        Completion { token, result, flags: 0, extra: 0 }
    }
}

/// One piece of a gathered send.
#[derive(Clone, Copy, Debug)]
#[repr(C)]
pub struct Vector {
    /// Bytes from the start of the arena.
    pub memory: u32,
    /// Bytes.
    pub length: u32,
}

const _: () = assert!(size_of::<Request>() == REQUEST_BYTES);
const _: () = assert!(size_of::<Completion>() == COMPLETION_BYTES);
const _: () = assert!(size_of::<Vector>() == VECTOR_BYTES);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn operations_round_trip_through_their_numbers() {
        for number in 1..=15 {
            assert_eq!(Op::from_number(number).map(|op| op as u32), Some(number));
        }
        assert_eq!(Op::from_number(0), None);
        assert_eq!(Op::from_number(16), None);
    }

    #[test]
    fn offsets_that_are_not_whole_numbers_are_refused() {
        let mut request = Request::new(Op::Read, 1);
        for bad in [-1.0, 0.5, f64::NAN, f64::INFINITY, 9_007_199_254_740_994.0] {
            request.offset = bad;
            assert_eq!(request.offset_bytes(), None, "{bad}");
        }
        request.offset = 4096.0;
        assert_eq!(request.offset_bytes(), Some(4096));
    }
}
