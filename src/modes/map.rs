// SPDX-License-Identifier: BSD-2-Clause
//! map: how often each user made a system call, read from a hash map that several
//! programs share. Kernel side: src/bpf/map.bpf.c.

use std::cell::RefCell;

use anyhow::Result;

use super::counts;
use super::counts::Counts;
use super::counts::Kind;
use super::counts::Look;
use super::counts::Order;
use super::counts::Store;
use crate::cli::Axis;
use crate::cli::Hook;
use crate::cli::ModeInfo;
use crate::cli::UsageError;
use crate::enrich::syscalls;
use crate::session;
use crate::session::Context;
use crate::session::Report;
use crate::session::Session;
use crate::session::Setup;
use crate::session::Size;

skeleton!("map");

/// What the command line has to know.
pub const INFO: ModeInfo = ModeInfo {
    name: "map",
    about: "how often each user ran a program (or made other calls), from a hash map",
    hooks: &[Hook::Kprobe, Hook::Fentry, Hook::RawTp, Hook::Tracepoint],
    options: &["syscalls", "interval", "by", "top", "pin", "max-entries"],
    columns: &[counts::COLUMNS],
    shown: &[],
};

const STORES: &[Store] = &[("map_counts", Kind::Sums)];

/// Bytes of a key in that map (kernel/bpf/hashtab.c).
const KEY_BYTES: u32 = 112;

/// Runs the mode.
///
/// # Errors
/// An unknown system call; what [`Session`] says.
pub fn run(cx: &mut Context) -> Result<Report> {
    let axes = counts::axes(cx, Axis::Uid);
    if axes.contains(&Axis::Errno) {
        return Err(UsageError("--by errno has no use in --mode map, which counts calls as they begin; it is for: syscount".into()).into());
    }
    let calls = match cx.args.syscalls.as_slice() {
        [] => syscalls::execs(),
        names => super::named_calls(names)?,
    };
    let mut setup = Setup::at(&INFO, calls);
    setup.config.count_by = counts::bits(&axes);
    setup.sizes = vec![("map_counts", Size::Entries(counts::room(cx, KEY_BYTES)))];
    // The book's dictionary: always all since the start.
    let look = Look {
        cumulative: true,
        ..Look::default()
    };
    setup.pins = counts::pins(STORES, &axes, &look);
    let source = RefCell::new(Counts::new(cx, STORES.into(), axes, Order::Id, look)?);
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
