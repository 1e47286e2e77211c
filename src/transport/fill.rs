// SPDX-License-Identifier: BSD-2-Clause
//! How much waits in the perf buffers, by the positions of their two ends.

use std::ptr;
use std::sync::atomic::Ordering;
use std::sync::atomic::fence;

use libbpf_rs::AsRawLibbpf as _;
use libbpf_rs::PerfBuffer;
use libbpf_rs::libbpf_sys;
use nix::libc;

/// Bytes between tail and head, of the fullest CPU's buffer.
pub(super) fn perf(buffer: &PerfBuffer<'_>) -> u64 {
    let buffers = buffer.as_libbpf_object().as_ptr();
    let mut most = 0;
    for index in 0.. {
        let (mut place, mut size) = (ptr::null_mut(), 0);
        // SAFETY: writes address and size of a mapping that lives as long as the buffer.
        match unsafe { libbpf_sys::perf_buffer__buffer(buffers, index, &mut place, &mut size) } {
            0 => {}
            error if error == -libc::ENOENT => continue, // a CPU that is not online
            _ => break,
        }
        let page: *const libbpf_sys::perf_event_mmap_page = place.cast_const().cast();
        // SAFETY: the mapping begins with this page (perf_event_open(2)); the kernel moves
        // the head, hello alone the tail.
        let (head, tail) = unsafe {
            (
                ptr::read_volatile(&raw const (*page).data_head),
                ptr::read_volatile(&raw const (*page).data_tail),
            )
        };
        fence(Ordering::Acquire);
        most = most.max(head.saturating_sub(tail));
    }
    most
}
