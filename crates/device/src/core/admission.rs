//! Whether a request can be carried out: each field is validated against the tables and the arena before anything is
//! done with it. What needs no waiting (copies within the arena, and everything on a null device) is carried out at once.

use crate::checksums::{check_checksums, has_checksums, store_checksums};
use crate::files::{Fence, FileKind};
use crate::request::{FLAG_SUMMED, NO_COPY, Op, Request, VECTORS_MAX, Vector};

use super::{Core, EXTENT_HOLE};

/// What becomes of a request that is valid.
pub(super) enum Plan {
    /// An engine starts it.
    Start,
    /// It has ended, with this result.
    Complete(i32),
    /// It has ended, and has no completion.
    Silent,
    /// It is a write whose payload has other checksums than it is to have.
    Mismatch,
}

impl Core {
    /// Validates `request`; the error is the errno to answer with.
    pub(super) fn check(&mut self, request: &Request, vectors: &[Vector]) -> Result<Plan, i32> {
        let op = Op::from_number(request.op).ok_or(libc::EINVAL)?;
        match op {
            Op::Copy => {
                let copied = self.arena.copy(request.copy_from, request.memory, request.length);
                return if copied { Ok(Plan::Silent) } else { Err(libc::EFAULT) };
            }
            Op::Fill => {
                let filled = self.arena.fill(request.memory, request.length, request.aux as u8);
                return if filled { Ok(Plan::Silent) } else { Err(libc::EFAULT) };
            }
            Op::Nop => return Ok(Plan::Complete(request.aux as i32)),
            Op::Wake => return Err(libc::EINVAL),
            Op::Timeout => {
                request.offset_bytes().ok_or(libc::EINVAL)?;
                return Ok(Plan::Start);
            }
            _ => {}
        }
        let file = self.files.get(request.file).ok_or(libc::EBADF)?;
        if file.closing {
            return Err(libc::EBADF);
        }
        if op.is_device() { self.check_device(op, request) } else { self.check_socket(op, request, vectors) }
    }

    fn check_device(&mut self, op: Op, request: &Request) -> Result<Plan, i32> {
        let file = self.files.get(request.file).ok_or(libc::EBADF)?;
        if !file.kind.is_device() {
            return Err(libc::EINVAL);
        }
        let (kind, fence) = (file.kind, file.fence);
        request.offset_bytes().ok_or(libc::EINVAL)?;
        request.span_bytes().ok_or(libc::EINVAL)?;
        if matches!(op, Op::Read | Op::Write | Op::Extents) {
            self.arena.at(request.memory, request.length).ok_or(libc::EFAULT)?;
        }
        if matches!(op, Op::Read | Op::Write) {
            check_checksums(&self.arena, request)?;
        }
        let summed = op == Op::Write && request.flags & FLAG_SUMMED != 0;
        if summed && request.checksums == 0 {
            return Err(libc::EINVAL);
        }
        if op == Op::Write && request.copy_from != NO_COPY {
            let target = request.memory.checked_add(request.aux).ok_or(libc::EFAULT)?;
            let fits = request.aux as u64 + request.copy_length as u64 <= request.length as u64;
            if !fits || !self.arena.copy(request.copy_from, target, request.copy_length) {
                return Err(libc::EFAULT);
            }
        }
        if fence == Fence::All || (fence == Fence::Writes && op.modifies_device()) {
            return Err(libc::EIO);
        }
        if summed && !has_checksums(&self.arena, self.checksum, request) {
            return Ok(Plan::Mismatch);
        }
        if op == Op::Write && !summed {
            store_checksums(&self.arena, self.checksum, request);
        }
        if kind == FileKind::Null {
            return Ok(Plan::Complete(self.serve_null(op, request)));
        }
        Ok(Plan::Start)
    }

    fn check_socket(&mut self, op: Op, request: &Request, vectors: &[Vector]) -> Result<Plan, i32> {
        let file = self.files.get(request.file).ok_or(libc::EBADF)?;
        let wanted = match op {
            Op::Accept => FileKind::Listener,
            Op::Connect => FileKind::Connecting,
            _ => FileKind::Stream,
        };
        if file.kind != wanted {
            return Err(libc::EINVAL);
        }
        if op == Op::Connect && file.in_flight > 0 {
            return Err(libc::EALREADY);
        }
        if op == Op::Receive {
            self.arena.at(request.memory, request.length).ok_or(libc::EFAULT)?;
            if request.length == 0 {
                return Err(libc::EINVAL);
            }
        }
        if op == Op::Send {
            let fits = |vector: &Vector| self.arena.own(vector.memory, vector.length).is_some();
            if vectors.is_empty() || vectors.len() > VECTORS_MAX || !vectors.iter().all(fits) {
                return Err(libc::EFAULT);
            }
        }
        Ok(Plan::Start)
    }

    fn serve_null(&mut self, op: Op, request: &Request) -> i32 {
        match op {
            Op::Read => {
                self.arena.fill(request.memory, request.length, 0);
                store_checksums(&self.arena, self.checksum, request);
                request.length as i32
            }
            Op::Write => request.length as i32,
            Op::Extents => self.store_extents(request, &[(request.span as u64, EXTENT_HOLE)]),
            _ => 0,
        }
    }
}
