// SPDX-License-Identifier: BSD-2-Clause
//! syscount: system calls counted, over the whole system or by any axis. Kernel
//! side: src/bpf/syscount.bpf.c.

use std::cell::RefCell;

use anyhow::Result;

use super::counts;
use super::counts::Counts;
use super::counts::Order;
use crate::cli::Axis;
use crate::cli::Hook;
use crate::cli::ModeInfo;
use crate::session;
use crate::session::Context;
use crate::session::Report;
use crate::session::Session;
use crate::session::Setup;

skeleton!("syscount");

/// What the command line has to know.
pub const INFO: ModeInfo = ModeInfo {
    name: "syscount",
    about: "system calls counted, from one raw tracepoint",
    hooks: &[Hook::RawTp],
    options: &["syscalls", "interval", "by", "top", "pin"],
    columns: &[counts::COLUMNS],
    shown: &[],
};

const MAPS: &[&str] = &["syscount_calls", "syscount_counts"];

/// Runs the mode.
///
/// # Errors
/// An unknown system call; what [`Session`] says.
pub fn run(cx: &mut Context) -> Result<Report> {
    let axes = counts::axes(cx, Axis::Syscall);
    let mut setup = Setup::at(&INFO, super::named_calls(&cx.args.syscalls)?);
    setup.config.count_by = counts::bits(&axes);
    setup.config.pick = u32::from(!setup.calls.is_empty());
    setup.pins = counts::pins(MAPS, &axes);
    let source = RefCell::new(Counts::new(cx, MAPS, axes, Order::Count)?);
    let mut storage = session::storage();
    Session::start(
        cx,
        &setup,
        &mut storage,
        skel::SyscountSkelBuilder::default,
        |_: &skel::SyscountSkel<'_>| Ok(()),
        &source,
    )?
    .run(cx)
}
