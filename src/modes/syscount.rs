// SPDX-License-Identifier: BSD-2-Clause
//! syscount: system calls counted, over the whole system or by any axis; what they
//! return and how long they take, where that is asked for. Kernel side:
//! src/bpf/syscount.bpf.c.

use std::cell::RefCell;

use anyhow::Result;

use super::counts;
use super::counts::Counts;
use super::counts::Kind;
use super::counts::Look;
use super::counts::Order;
use super::counts::Store;
use crate::cli::Args;
use crate::cli::Axis;
use crate::cli::Hook;
use crate::cli::ModeInfo;
use crate::cli::UsageError;
use crate::enrich::syscalls::Call;
use crate::preflight;
use crate::session;
use crate::session::Context;
use crate::session::Report;
use crate::session::Session;
use crate::session::Setup;
use crate::session::Size;
use crate::wire::types::hello_row;
use crate::wire::types::hello_timed;
use crate::wire::types::hello_watch;

skeleton!("syscount");

/// What the command line has to know.
pub const INFO: ModeInfo = ModeInfo {
    name: "syscount",
    about: "system calls counted, from one raw tracepoint; with --latency timed",
    hooks: &[Hook::RawTp],
    options: &[
        "syscalls",
        "interval",
        "by",
        "top",
        "failed",
        "latency",
        "histogram",
        "cumulative",
        "max-entries",
        "max-cpu",
        "pin",
    ],
    columns: &[counts::COLUMNS],
    shown: &[],
};

/// The array of histograms has one for each call and CPU: not where that is too much.
const ARRAY_BYTES: u32 = 128 << 20;
const ARRAY_ELEMENTS: u32 = 512;

/// Keys beside such an array: calls of other ABIs, and numbers that no call has. To make a
/// hash for 65536 is a fifth of the time until hello is attached.
const BESIDE_ARRAY: u32 = 4096;

/// Bytes of a key in a hash beside its value (kernel/bpf/hashtab.c).
const KEY_BYTES: u32 = 96;

/// Runs the mode.
///
/// # Errors
/// An unknown system call; options that contradict each other; what [`Session`] says.
pub fn run(cx: &mut Context) -> Result<Report> {
    let mut axes = counts::axes(cx, Axis::Syscall);
    if cx.args.failed && !axes.contains(&Axis::Errno) {
        axes.push(Axis::Errno);
    }
    let (calls, histogram) = calls(&cx.args, &axes)?;
    let look = look(&cx.args, &axes, histogram);
    let mut setup = Setup::at(&INFO, calls);
    setup.remembers = true;
    setup.config.count_by = counts::bits(&axes);
    setup.config.pick = u32::from(!setup.calls.is_empty());
    let stores = plan(cx, &axes, &look, &mut setup);
    setup.pins = counts::pins(&stores, &axes, &look);
    let source = RefCell::new(Counts::new(cx, stores, axes, Order::Count, look)?);
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

/// The calls to look at, none for all, and those whose histogram is wanted.
fn calls(args: &Args, axes: &[Axis]) -> Result<(Vec<Call>, Vec<Call>), UsageError> {
    let calls = super::named_calls(&args.syscalls)?;
    let histogram = super::named_calls(&args.histogram)?;
    if histogram.is_empty() {
        return Ok((calls, histogram));
    }
    let calls = if calls.is_empty() {
        histogram.clone()
    } else {
        calls
    };
    for name in &args.histogram {
        let named = super::named_calls(std::slice::from_ref(name))?;
        if !named.iter().any(|call| calls.contains(call)) {
            return Err(UsageError(format!(
                "--histogram {name}: --syscalls leaves that call out"
            )));
        }
        let is_alone = calls.iter().all(|call| named.contains(call));
        if !axes.contains(&Axis::Syscall) && !is_alone {
            return Err(UsageError(format!(
                "--histogram {name}: that call is counted together with others; add syscall to --by"
            )));
        }
    }
    Ok((calls, histogram))
}

fn look(args: &Args, axes: &[Axis], histogram: Vec<Call>) -> Look {
    let times = args.latency || !histogram.is_empty();
    // COMMAND, and no wish for anything else than what strace -c shows.
    let summary = !args.command.is_empty()
        && args.by.is_empty()
        && args.top.is_none()
        && args.interval.is_none()
        && args.pin.is_none()
        && args.max_cpu.is_none()
        && args.columns.is_empty()
        && !args.failed
        && !times;
    Look {
        exits: times || summary || args.failed || axes.contains(&Axis::Errno),
        failed: args.failed,
        times: times || summary,
        histogram,
        cumulative: args.cumulative || args.pin.is_some(),
        summary,
        budget: args.max_cpu.is_some(),
    }
}

/// Which programs and maps this run needs, of what size.
fn plan(cx: &Context, axes: &[Axis], look: &Look, setup: &mut Setup) -> Vec<Store> {
    let cpus = preflight::possible_cpus();
    let row = size_of::<hello_row>() as u32 * cpus;
    let by_call = axes == [Axis::Syscall];
    let array = size_of::<hello_timed>() as u32 * ARRAY_ELEMENTS;
    let in_array = by_call && look.times && array.saturating_mul(cpus) <= ARRAY_BYTES;
    let mut room = counts::room(cx, KEY_BYTES + row);
    if cx.args.max_entries.is_none() && (in_array || by_call && !look.exits) {
        room = room.min(BESIDE_ARRAY);
    }
    // A key has several buckets.
    let buckets = room.saturating_mul(4).min(1 << 24);

    let watch = [
        (look.exits, hello_watch::HELLO_WATCH_EXITS),
        (look.times, hello_watch::HELLO_WATCH_TIMES),
        (look.failed, hello_watch::HELLO_WATCH_FAILED),
        (in_array, hello_watch::HELLO_WATCH_ARRAY),
    ];
    let on = watch.iter().filter(|(on, _)| *on);
    setup.config.watch = on.fold(0, |all, (_, bit)| all | bit.0);
    setup.config.budget = u32::from(look.budget);
    setup.sizes = vec![
        ("syscount_counts", Size::Entries(room)),
        ("syscount_counts", Size::Value(row)),
        ("syscount_zero", Size::Value(row)),
        ("syscount_buckets", Size::Entries(buckets)),
    ];
    let needs = [
        (!look.exits, "syscount_raw_tp"),
        (look.exits, "syscount_entry"),
        (look.exits, "syscount_exit"),
        (look.exits, "hello_forget"),
        (look.exits, "hello_call_slots"),
        (look.exits, "hello_call_hash"),
        (by_call && !look.exits, "syscount_calls"),
        (in_array, "syscount_timed"),
        (look.times, "syscount_buckets"),
        (look.budget, "syscount_sampling"),
    ];
    let not_needed = needs.iter().filter(|(on, _)| !on);
    setup.leave_out = not_needed.map(|(_, name)| *name).collect();

    let all = [
        ("syscount_calls", Kind::Calls),
        ("syscount_timed", Kind::Timed),
        ("syscount_counts", Kind::Rows),
        ("syscount_buckets", Kind::Buckets),
    ];
    all.into_iter()
        .filter(|(name, _)| !setup.leave_out.contains(name))
        .collect()
}
