// SPDX-License-Identifier: BSD-2-Clause
//! What the kernel's clock adds to the time of each run that it measures.

use std::os::fd::AsFd as _;
use std::os::fd::AsRawFd as _;
use std::os::fd::FromRawFd as _;
use std::os::fd::OwnedFd;
use std::ptr;

use libbpf_rs::libbpf_sys;

use super::program_info;

/// Runs of one measurement, and how many are made: a disturbed one is too long.
const RUNS: i32 = 1000;
const TIMES: u32 = 7;

/// Nanoseconds that the kernel says an empty program takes for a run, which is one
/// reading of its clock. Only while it counts; `None` if it does not run programs for
/// trial (BPF_PROG_TEST_RUN).
pub(super) fn reading() -> Option<u64> {
    let program = empty_program()?;
    let runs = || {
        let info = program_info(program.as_fd())?;
        Some((info.run_cnt, info.run_time_ns))
    };
    let mut least = None;
    for _ in 0..TIMES {
        let before = runs()?;
        try_out(&program)?;
        let after = runs()?;
        let ns = (after.1 - before.1).checked_div(after.0 - before.0)?;
        least = Some(least.map_or(ns, |least: u64| least.min(ns)));
    }
    least
}

/// A program that returns 0.
fn empty_program() -> Option<OwnedFd> {
    let instruction = |code: u32| libbpf_sys::bpf_insn {
        code: code.try_into().unwrap_or(0),
        ..libbpf_sys::bpf_insn::default()
    };
    let code = [
        instruction(libbpf_sys::BPF_ALU64 | libbpf_sys::BPF_MOV | libbpf_sys::BPF_K),
        instruction(libbpf_sys::BPF_JMP | libbpf_sys::BPF_EXIT),
    ];
    // SAFETY: two NUL-terminated names and as many instructions as said, all of which
    // outlive the call.
    let fd = unsafe {
        libbpf_sys::bpf_prog_load(
            libbpf_sys::BPF_PROG_TYPE_SOCKET_FILTER,
            c"hello_empty".as_ptr(),
            c"GPL".as_ptr(),
            code.as_ptr(),
            code.len().try_into().unwrap_or(0),
            ptr::null_mut(),
        )
    };
    // SAFETY: a descriptor that the kernel has just made for us (close-on-exec).
    (fd >= 0).then(|| unsafe { OwnedFd::from_raw_fd(fd) })
}

fn try_out(program: &OwnedFd) -> Option<()> {
    // The kernel wants an Ethernet header.
    let packet = [0u8; 64];
    let mut options = libbpf_sys::bpf_test_run_opts {
        sz: size_of::<libbpf_sys::bpf_test_run_opts>().try_into().ok()?,
        data_in: packet.as_ptr().cast(),
        data_size_in: packet.len().try_into().ok()?,
        repeat: RUNS,
        ..libbpf_sys::bpf_test_run_opts::default()
    };
    // SAFETY: the packet outlives the call, which only reads it.
    let done = unsafe { libbpf_sys::bpf_prog_test_run_opts(program.as_raw_fd(), &raw mut options) };
    (done == 0).then_some(())
}
