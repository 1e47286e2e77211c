// SPDX-License-Identifier: BSD-2-Clause
//! map: how often each user made a system call, read from a hash map that several
//! programs share. Kernel side: src/bpf/map.bpf.c.

use std::cell::RefCell;

use anyhow::Result;

use super::counts;
use super::counts::Counts;
use super::counts::Order;
use crate::cli::Axis;
use crate::cli::Hook;
use crate::cli::ModeInfo;
use crate::enrich::syscalls;
use crate::session;
use crate::session::Context;
use crate::session::Report;
use crate::session::Session;
use crate::session::Setup;

skeleton!("map");

/// What the command line has to know.
pub const INFO: ModeInfo = ModeInfo {
    name: "map",
    about: "how often each user ran a program (or made other calls), from a hash map",
    hooks: &[Hook::Kprobe, Hook::Fentry, Hook::RawTp, Hook::Tracepoint],
    options: &["syscalls", "interval", "by", "top", "pin"],
    columns: &[counts::COLUMNS],
    shown: &[],
};

const MAPS: &[&str] = &["map_counts"];

/// Runs the mode.
///
/// # Errors
/// An unknown system call; what [`Session`] says.
pub fn run(cx: &mut Context) -> Result<Report> {
    let axes = counts::axes(cx, Axis::Uid);
    let calls = match cx.args.syscalls.as_slice() {
        [] => syscalls::execs(),
        names => super::named_calls(names)?,
    };
    let mut setup = Setup::at(&INFO, calls);
    setup.config.count_by = counts::bits(&axes);
    setup.pins = counts::pins(MAPS, &axes);
    let source = RefCell::new(Counts::new(cx, MAPS, axes, Order::Id)?);
    let mut storage = session::storage();
    Session::start(
        cx,
        &setup,
        &mut storage,
        skel::MapSkelBuilder::default,
        |_: &skel::MapSkel<'_>| Ok(()),
        &source,
    )?
    .run(cx)
}
