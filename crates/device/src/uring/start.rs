//! How an operation that was admitted is started: as a submission to the ring, or by a helper thread.

use std::sync::Arc;
use std::time::Duration;

use io_uring::types::{Fixed, Timespec};
use io_uring::{opcode, squeue};

use crate::blocking::{BlockingPool, Job};
use crate::request::{FLAG_FUA, FLAG_POLL_FIRST, FLAG_WAIT_ALL, Op, Request};
use crate::socket;

use super::UringEngine;

/// Threads for discards, zeroing and extents, started at first use.
const HELPERS: usize = 2;

/// `IORING_RECVSEND_POLL_FIRST` (linux/io_uring.h): wait for readiness before the first attempt.
const RECVSEND_POLL_FIRST: u16 = 1;

impl UringEngine {
    /// Starts the operation of the in-flight entry `index`, or starts it again where it stopped.
    pub(super) fn start(&mut self, index: u32) {
        let entry = self.core.inflight.get_mut(index);
        let request = entry.request;
        let done = entry.done;
        let op = Op::from_number(request.op).unwrap_or(Op::Nop);
        let file = Fixed(request.file);
        let sqe = match op {
            Op::Read | Op::Write => self.transfer(op, &request, done),
            Op::Sync => opcode::Fsync::new(file).flags(io_uring::types::FsyncFlags::DATASYNC).build(),
            Op::Receive => {
                let Some(memory) = self.core.arena.at(request.memory + done, request.length - done) else {
                    unreachable!("admitted requests lie within the arena");
                };
                let wait_all = if request.flags & FLAG_WAIT_ALL != 0 { libc::MSG_WAITALL } else { 0 };
                let poll_first = request.flags & FLAG_POLL_FIRST != 0;
                opcode::Recv::new(file, memory, request.length - done)
                    .flags(wait_all)
                    .ioprio(if poll_first { RECVSEND_POLL_FIRST } else { 0 })
                    .build()
            }
            Op::Send => {
                let message = entry.message();
                if message.count - message.first == 1 {
                    let piece = message.vectors[message.first];
                    opcode::Send::new(file, piece.iov_base.cast(), piece.iov_len as u32)
                        .flags(libc::MSG_WAITALL | libc::MSG_NOSIGNAL)
                        .build()
                } else {
                    opcode::SendMsg::new(file, message.prepare())
                        .flags((libc::MSG_WAITALL | libc::MSG_NOSIGNAL) as u32)
                        .build()
                }
            }
            Op::Accept => {
                opcode::Accept::new(file, std::ptr::null_mut(), std::ptr::null_mut()).flags(libc::SOCK_CLOEXEC).build()
            }
            Op::Connect => return self.start_connect(index),
            Op::Timeout => {
                let delay = Duration::from_millis(request.offset as u64);
                entry.timespec = Timespec::from(delay);
                opcode::Timeout::new(&entry.timespec).build()
            }
            Op::Discard | Op::Zero | Op::Extents => return self.start_on_helper(index),
            Op::Wake | Op::Copy | Op::Fill | Op::Nop => unreachable!("dealt with when admitted"),
        };
        self.queue(sqe.user_data(index as u64));
    }

    /// Connects on TCP by the ring. A unix listener takes a connection at once, or has no room; nothing tells when it has some
    /// again, and a ring would let a thread wait for it that is not surely cancelled. So it is asked again after a while.
    fn start_connect(&mut self, index: u32) {
        let entry = self.core.inflight.get_mut(index);
        let slot = entry.request.file;
        // The address is in the file's entry, which stays until this has ended.
        let file =
            self.core.files.get(slot).and_then(|file| Some((file.raw_fd(), file.closing, file.peer.as_deref()?)));
        let sqe = match file {
            None => return self.finish(index, -libc::EBADF),
            Some((_, true, _)) => return self.finish(index, -libc::ECANCELED),
            Some((fd, _, peer)) if peer.is_unix() => match socket::connect(fd, peer) {
                Err(error) if error.raw_os_error() == Some(libc::EAGAIN) => {
                    entry.timespec = Timespec::from(socket::CONNECT_AGAIN);
                    opcode::Timeout::new(&entry.timespec).build()
                }
                Err(error) => return self.finish(index, -error.raw_os_error().unwrap_or(libc::EIO)),
                Ok(()) => {
                    let result = socket::set_blocking(fd).err().and_then(|error| error.raw_os_error());
                    return self.finish(index, -result.unwrap_or(0));
                }
            },
            Some((_, _, peer)) => {
                let (address, length) = peer.parts();
                opcode::Connect::new(Fixed(slot), address, length).build()
            }
        };
        self.queue(sqe.user_data(index as u64));
    }

    fn transfer(&self, op: Op, request: &Request, done: u32) -> squeue::Entry {
        let file = Fixed(request.file);
        let (at, length) = (request.memory + done, request.length - done);
        let Some(memory) = self.core.arena.at(at, length) else {
            unreachable!("admitted requests lie within the arena");
        };
        let offset = request.offset as u64 + done as u64;
        let registered = at as usize + length as usize <= self.registered_bytes;
        let durable = if request.flags & FLAG_FUA != 0 { libc::RWF_DSYNC } else { 0 };
        match (op, registered) {
            (Op::Read, true) => opcode::ReadFixed::new(file, memory, length, 0).offset(offset).build(),
            (Op::Read, false) => opcode::Read::new(file, memory, length).offset(offset).build(),
            (_, true) => opcode::WriteFixed::new(file, memory, length, 0).offset(offset).rw_flags(durable).build(),
            (_, false) => opcode::Write::new(file, memory, length).offset(offset).rw_flags(durable).build(),
        }
    }

    fn start_on_helper(&mut self, index: u32) {
        if self.helpers.is_none() {
            match BlockingPool::new(HELPERS, self.core.arena, Arc::clone(&self.event)) {
                Ok(pool) => self.helpers = Some(pool),
                Err(error) => {
                    self.core.finish(index, -error.raw_os_error().unwrap_or(libc::EAGAIN).max(libc::ENOMEM));
                    return;
                }
            }
        }
        let entry = self.core.inflight.get_mut(index);
        let (request, done) = (entry.request, entry.done);
        let file = self.core.files.get(request.file);
        let Some((fd, kind)) = file.and_then(|file| Some((file.fd.clone()?, file.kind))) else {
            self.core.finish(index, -libc::EBADF);
            return;
        };
        if let Some(helpers) = &self.helpers {
            helpers.push(Job { index, request, done, fd, kind });
        }
    }
}
