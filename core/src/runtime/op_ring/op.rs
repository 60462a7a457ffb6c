//! Operations of the ring and the memory that they lend to the kernel.
//!
//! The unsafe idea is that of `op_ring.rs`: what an operation names is its own until the kernel has
//! answered. Here are the two ends of it: which addresses the kernel is given, and what is believed
//! of its answer.

use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};
use std::rc::Rc;

use io_uring::{opcode, squeue, types};
use millstream_storage::arena::Buffer;
use socket2::SockAddr;

/// One operation moves at most this much; callers go on from there.
const MOVED_BYTES_MAX: usize = 1 << 30;

/// One operation, with all that the kernel needs for it.
#[derive(Debug)]
pub(crate) enum Op {
    /// Reads at most `len` bytes from `offset` into the space behind the bytes in use, and counts
    /// what came as used.
    Read { file: Rc<OwnedFd>, offset: u64, len: usize, bytes: Bytes },
    /// Writes the bytes in use from `written` on, at `offset`.
    Write { file: Rc<OwnedFd>, offset: u64, bytes: Bytes, written: usize },
    /// Makes a file durable; with `data_only` without metadata that reading it does not need.
    Sync { file: Rc<OwnedFd>, data_only: bool },
    /// Takes one connection, or, with `goes_on` (Linux 5.19), one after the other.
    Accept { listener: Rc<OwnedFd>, goes_on: bool },
    /// Connects.
    Connect { socket: Rc<OwnedFd>, address: Box<SockAddr> },
    /// Receives into the space behind the bytes in use, and counts what came as used.
    Receive { socket: Rc<OwnedFd>, bytes: Bytes },
    /// Sends the bytes in use from `sent` on.
    Send { socket: Rc<OwnedFd>, bytes: Bytes, sent: usize },
    /// Completes when the eventfd is readable.
    Bell { eventfd: Rc<OwnedFd> },
    /// Completes after this time, with `ETIME`.
    Timer { after: Box<types::Timespec> },
}

/// Memory for an operation: a plain vector, or an aligned buffer for direct I/O.
#[derive(Debug)]
pub(crate) enum Bytes {
    Vec(Vec<u8>),
    Aligned(Buffer),
}

impl Op {
    /// The kernel's form. Points into what the operation owns.
    pub(super) fn entry(&mut self) -> squeue::Entry {
        match self {
            Self::Read { file, offset, len, bytes } => {
                let (start, spare) = bytes.spare();
                let len = spare.min((*len).min(MOVED_BYTES_MAX) as u32);
                opcode::Read::new(fd(file), start, len).offset(*offset).build()
            }
            Self::Write { file, offset, bytes, written } => {
                let (start, len) = bytes.used(*written);
                opcode::Write::new(fd(file), start, len).offset(*offset).build()
            }
            Self::Sync { file, data_only } => {
                let flags = if *data_only {
                    types::FsyncFlags::DATASYNC
                } else {
                    types::FsyncFlags::empty()
                };
                opcode::Fsync::new(fd(file)).flags(flags).build()
            }
            Self::Accept { listener, goes_on: true } => {
                opcode::AcceptMulti::new(fd(listener)).flags(libc::SOCK_CLOEXEC).build()
            }
            Self::Accept { listener, goes_on: false } => {
                let (nobody, no_len) = (std::ptr::null_mut(), std::ptr::null_mut());
                opcode::Accept::new(fd(listener), nobody, no_len).flags(libc::SOCK_CLOEXEC).build()
            }
            Self::Connect { socket, address } => {
                opcode::Connect::new(fd(socket), address.as_ptr().cast(), address.len()).build()
            }
            Self::Receive { socket, bytes } => {
                let (start, len) = bytes.spare();
                opcode::Recv::new(fd(socket), start, len).build()
            }
            Self::Send { socket, bytes, sent } => {
                let (start, len) = bytes.used(*sent);
                let flags = libc::MSG_NOSIGNAL | libc::MSG_WAITALL;
                opcode::Send::new(fd(socket), start, len).flags(flags).build()
            }
            Self::Bell { eventfd } => {
                opcode::PollAdd::new(fd(eventfd), libc::POLLIN as u32).build()
            }
            Self::Timer { after } => opcode::Timeout::new(&raw const **after).build(),
        }
    }

    /// Takes note of what the kernel has answered: bytes that it wrote, or a descriptor that it
    /// made, which is returned.
    pub(super) fn on_result(&mut self, result: u32) -> Option<OwnedFd> {
        match self {
            Self::Read { bytes, .. } | Self::Receive { bytes, .. } => {
                bytes.grow(result as usize);
                None
            }
            // SAFETY: the kernel made this descriptor for this answer and told nobody else.
            Self::Accept { .. } => Some(unsafe { OwnedFd::from_raw_fd(result as RawFd) }),
            _ => None,
        }
    }
}

fn fd(owned: &OwnedFd) -> types::Fd {
    types::Fd(owned.as_raw_fd())
}

impl Bytes {
    /// Bytes in use.
    pub(crate) fn len(&self) -> usize {
        match self {
            Self::Vec(bytes) => bytes.len(),
            Self::Aligned(buffer) => buffer.len(),
        }
    }

    /// Bytes that still fit.
    pub(crate) fn spare_bytes(&self) -> usize {
        match self {
            Self::Vec(bytes) => bytes.capacity() - bytes.len(),
            Self::Aligned(buffer) => buffer.spare_bytes(),
        }
    }

    /// The bytes in use.
    pub(crate) fn as_slice(&self) -> &[u8] {
        match self {
            Self::Vec(bytes) => bytes,
            Self::Aligned(buffer) => buffer.as_slice(),
        }
    }

    /// Where the kernel may write, and how much.
    fn spare(&mut self) -> (*mut u8, u32) {
        let (start, len) = match self {
            Self::Vec(bytes) => {
                let spare = bytes.spare_capacity_mut();
                (spare.as_mut_ptr().cast(), spare.len())
            }
            Self::Aligned(buffer) => {
                let spare = buffer.spare_mut();
                (spare.as_mut_ptr(), spare.len())
            }
        };
        (start, len.min(MOVED_BYTES_MAX) as u32)
    }

    /// Where the kernel may read, and how much.
    fn used(&self, from: usize) -> (*const u8, u32) {
        let bytes = &self.as_slice()[from..];
        (bytes.as_ptr(), bytes.len().min(MOVED_BYTES_MAX) as u32)
    }

    /// Counts `count` bytes behind those in use, which the kernel has written, as used.
    fn grow(&mut self, count: usize) {
        assert!(count <= self.spare_bytes(), "the kernel wrote more than it was given room for");
        match self {
            // SAFETY: the kernel was given this vector's spare capacity and has answered that it
            // wrote `count` bytes of it.
            Self::Vec(bytes) => unsafe { bytes.set_len(bytes.len() + count) },
            Self::Aligned(buffer) => buffer.set_len(buffer.len() + count),
        }
    }
}
