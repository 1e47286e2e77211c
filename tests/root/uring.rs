// SPDX-License-Identifier: BSD-2-Clause
//! Just enough io_uring(7), by hand, to open a file.

use std::ffi::CStr;
use std::process::exit;
use std::sync::atomic::AtomicU32;
use std::sync::atomic::Ordering;

use nix::libc;

const IORING_OP_OPENAT: u8 = 18;
const IORING_OP_OPENAT2: u8 = 28;
/// By a worker of the kernel.
const IOSQE_ASYNC: u8 = 1 << 4;
const IORING_OFF_SQES: i64 = 0x1000_0000;
const IORING_ENTER_GETEVENTS: u32 = 1;
/// Completion ring in the same mapping as the submission ring (Linux 5.4).
const IORING_FEAT_SINGLE_MMAP: u32 = 1;

#[repr(C)]
#[derive(Default)]
struct Offsets {
    head: u32,
    tail: u32,
    ring_mask: u32,
    ring_entries: u32,
    /// flags, dropped, array; or overflow, cqes, flags.
    rest: [u32; 3],
    more: [u32; 3],
}

#[repr(C)]
#[derive(Default)]
struct Params {
    sq_entries: u32,
    cq_entries: u32,
    flags: u32,
    sq_thread_cpu: u32,
    sq_thread_idle: u32,
    features: u32,
    wq_fd: u32,
    resv: [u32; 3],
    sq_off: Offsets,
    cq_off: Offsets,
}

#[repr(C)]
#[derive(Default)]
struct Request {
    opcode: u8,
    flags: u8,
    ioprio: u16,
    fd: i32,
    off: u64,
    addr: u64,
    len: u32,
    open_flags: u32,
    user_data: u64,
    rest: [u64; 3],
}

/// A ring of one entry at a time.
pub(crate) struct Ring {
    fd: i32,
    rings: *mut u8,
    requests: *mut Request,
    params: Params,
}

fn map(fd: i32, bytes: usize, offset: i64) -> *mut u8 {
    let access = libc::PROT_READ | libc::PROT_WRITE;
    // SAFETY: a new mapping of the ring's own file.
    let at = unsafe {
        libc::mmap(
            std::ptr::null_mut(),
            bytes,
            access,
            libc::MAP_SHARED,
            fd,
            offset,
        )
    };
    if at == libc::MAP_FAILED {
        eprintln!("cannot map the ring");
        exit(96);
    }
    at.cast()
}

impl Ring {
    /// Ends the program with status 95 where the kernel has no io_uring.
    pub(crate) fn new() -> Self {
        let mut params = Params::default();
        let at = std::ptr::from_mut(&mut params);
        // SAFETY: io_uring_setup(2) with parameters that live through the call.
        let fd = unsafe { libc::syscall(libc::SYS_io_uring_setup, 4, at) };
        if fd < 0 || params.features & IORING_FEAT_SINGLE_MMAP == 0 {
            exit(95);
        }
        let fd = i32::try_from(fd).unwrap_or(-1);
        Self {
            fd,
            rings: map(fd, 4096, 0),
            requests: map(fd, 4096, IORING_OFF_SQES).cast(),
            params,
        }
    }

    fn word(&self, offset: u32) -> &AtomicU32 {
        // SAFETY: an offset that the kernel gave, of an aligned word in the mapping.
        unsafe { &*self.rings.add(offset as usize).cast() }
    }

    /// Opens for reading and waits until it is done.
    pub(crate) fn openat(&mut self, dirfd: i32, path: &CStr) {
        self.submit(Request {
            opcode: IORING_OP_OPENAT,
            fd: dirfd,
            addr: path.as_ptr() as u64,
            open_flags: libc::O_CLOEXEC.cast_unsigned(),
            ..Request::default()
        });
    }

    /// The same by openat2 (flags, mode, resolve), at once or by a worker.
    pub(crate) fn openat2(&mut self, path: &CStr, how: [u64; 3], by_worker: bool) {
        self.submit(Request {
            opcode: IORING_OP_OPENAT2,
            flags: if by_worker { IOSQE_ASYNC } else { 0 },
            fd: libc::AT_FDCWD,
            off: how.as_ptr() as u64,
            addr: path.as_ptr() as u64,
            len: 24,
            ..Request::default()
        });
    }

    fn submit(&mut self, request: Request) {
        let sq = &self.params.sq_off;
        let tail = self.word(sq.tail).load(Ordering::Acquire);
        let index = tail & self.word(sq.ring_mask).load(Ordering::Relaxed);
        // SAFETY: index is below the number of entries, which fit into the mapping.
        unsafe { self.requests.add(index as usize).write(request) };
        let array = sq.rest[2] + 4 * index;
        self.word(array).store(index, Ordering::Relaxed);
        self.word(sq.tail).store(tail + 1, Ordering::Release);
        let cq = &self.params.cq_off;
        let head = self.word(cq.head).load(Ordering::Acquire);
        while self.word(cq.tail).load(Ordering::Acquire) == head {
            // SAFETY: io_uring_enter(2) with integers and a null mask.
            unsafe {
                libc::syscall(
                    libc::SYS_io_uring_enter,
                    self.fd,
                    1,
                    1,
                    IORING_ENTER_GETEVENTS,
                    std::ptr::null::<u8>(),
                    0,
                );
            }
        }
        self.word(cq.head).store(head + 1, Ordering::Release);
    }
}
