// SPDX-License-Identifier: BSD-2-Clause
//! What the counting modes have in common: from counter maps to tables.

mod buckets;
mod plan;
mod read;
mod retire;
mod rows;
mod summary;

use std::cmp::Reverse;

use anyhow::Result;
use libbpf_rs::MapCore as _;
use libbpf_rs::MapFlags;
use libbpf_rs::Object;

use crate::cli::Axis;
use crate::enrich::host::Host;
use crate::enrich::syscalls::Call;
use crate::output::Format;
use crate::output::Output;
use crate::output::columns::Column;
use crate::preflight;
use crate::session;
use crate::session::Context;
use crate::session::Level;
use crate::session::Source;
use crate::session::find_map;
use crate::wire;
use crate::wire::types::hello_control;
use crate::wire::types::hello_key;
pub(super) use plan::axes;
pub(super) use plan::bits;
pub(super) use plan::pins;
pub(super) use plan::room;
pub(super) use read::Kind;
use read::Snapshot;
pub(super) use read::Store;
use read::Tally;
pub(super) use rows::COLUMNS;
use rows::CountRow;
use rows::Frame;
use rows::HistogramRow;
use rows::KeyExt as _;
use rows::Line;

/// In which order the rows of a table come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Order {
    /// By id where the id is all there is, as the book's dictionary prints it.
    Id,
    /// The largest count first.
    Count,
}

/// What is looked at beside how often calls are made, and what tables show of it.
#[derive(Debug, Default)]
pub(super) struct Look {
    /// What calls return.
    pub(super) exits: bool,
    /// Only those that fail.
    pub(super) failed: bool,
    /// How long they take.
    pub(super) times: bool,
    /// Calls whose histogram is shown.
    pub(super) histogram: Vec<Call>,
    /// Tables have all since the start.
    pub(super) cumulative: bool,
    /// The one table is that of `strace -c`.
    pub(super) summary: bool,
    /// Calls may go untimed or be sampled (`--max-cpu`).
    pub(super) budget: bool,
}

/// How a table looks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Shape {
    /// The line of the book: ids and counts.
    Line,
    /// As `strace -c` has it.
    Summary,
    /// By columns, or in JSON.
    Table,
}

/// The [`Source`] of a counting mode.
pub(super) struct Counts {
    stores: Vec<Store>,
    axes: Vec<Axis>,
    order: Order,
    look: Look,
    top: usize,
    host: Host,
    output: Output,
    explain: bool,
    shape: Shape,
    tables: u64,
    limit: Option<u64>,
    /// What the kernel side writes as `hello_control.epoch`: its counters of even and of
    /// odd epochs are kept apart, so that a table is of closed ones.
    epoch: u32,
    /// How closely the kernel side looks.
    level: Level,
    /// Calls have been left out.
    leaves_out: bool,
    /// The most that one call has stood for in the time of the next table, or earlier where
    /// calls that were left out then may be missing in it.
    every: u32,
    /// What was last read of the even and of the odd epochs.
    parts: [Snapshot; 2],
    /// What pinned counters said before this run.
    before: Snapshot,
    /// What the last table had been made of.
    last: Snapshot,
    /// Are counters of processes taken out when these have ended? hello has to know
    /// processes by the numbers of the kernel side.
    retires: bool,
    /// Calls whose counters have been taken out.
    retired: u64,
}

/// A row before it is one.
type Entry = (hello_key, Tally);

impl Counts {
    pub(super) fn new(
        cx: &Context,
        stores: Vec<Store>,
        axes: Vec<Axis>,
        order: Order,
        look: Look,
    ) -> Result<Self> {
        let names = rows::columns(&axes, &look);
        // What is not counted by has no column to choose.
        let there: Vec<&'static [Column]> = COLUMNS
            .iter()
            .filter(|column| column.name == "TIME" || names.contains(&column.name))
            .map(std::slice::from_ref)
            .collect();
        plan::check_columns(cx, &names, &axes, &look)?;
        let layout = cx.args.layout(&there, &names)?;
        let is_laid_out = !cx.args.columns.is_empty() || layout.has("TIME");
        let (shape, layout) = if is_laid_out || cx.args.output != Format::Text {
            (Shape::Table, layout)
        } else if look.summary {
            (Shape::Summary, summary::COLUMNS.iter().collect())
        } else if axes == [Axis::Uid] && !look.exits {
            (Shape::Line, rows::LINE.iter().collect())
        } else {
            (Shape::Table, layout)
        };
        let retires = axes.contains(&Axis::Pid)
            && !look.cumulative
            && preflight::kernel_version() >= (5, 14)
            && preflight::is_in_host_pid_namespace();
        Ok(Self {
            stores,
            axes,
            order,
            look,
            top: cx.args.top.map_or(usize::MAX, |top| {
                usize::try_from(top.get()).unwrap_or(usize::MAX)
            }),
            host: Host::new(cx.users.clone(), &cx.args),
            output: Output::new(cx.args.output, layout, None),
            explain: cx.args.explain,
            shape,
            tables: 0,
            limit: cx.args.count.map(std::num::NonZero::get),
            epoch: 0,
            level: Level::default(),
            leaves_out: false,
            every: 1,
            parts: Default::default(),
            before: Snapshot::new(),
            last: Snapshot::new(),
            retires,
            retired: 0,
        })
    }

    /// Reads what has happened up to the end of `epoch`, which is closed: of its parity
    /// from the kernel side, of the other as it was then.
    fn read(&mut self, object: &Object, epoch: u32, last: bool) -> Result<Snapshot> {
        let mut closed = read::read(object, &self.stores, epoch)?;
        let parity = (epoch % 2) as usize;
        let all = read::join(closed.clone(), &self.parts[1 - parity]);
        if !self.look.cumulative {
            // The longest of one interval is none of the next.
            closed.values_mut().for_each(|tally| tally.max_ns = 0);
        }
        self.parts[parity] = closed;
        read::settle(all, last)
    }

    /// Begins another epoch, and waits until nobody is left in the one before. Where
    /// tables have all since the start, the longest time is of both parities, and of no
    /// single epoch: there are only two of them.
    fn turn(&mut self, object: &Object) -> Result<()> {
        if self.look.exits {
            self.epoch = if self.look.cumulative {
                self.epoch ^ 1
            } else {
                self.epoch.wrapping_add(1)
            };
            self.control(object, true)?;
            session::grace_period();
        }
        Ok(())
    }

    /// Tells the kernel side to count or not, and in which epoch.
    fn control(&self, object: &Object, on: bool) -> Result<()> {
        if self.look.exits || self.look.budget {
            let control = hello_control {
                on: u32::from(on),
                epoch: self.epoch,
                every: self.level.every,
                untimed: u32::from(!self.level.timing),
                left_out: u32::from(self.leaves_out),
            };
            let map = find_map(object, ".data.control")?;
            map.update(&0u32.to_ne_bytes(), wire::bytes(&control), MapFlags::ANY)?;
        }
        Ok(())
    }

    /// The rows of a table; the `last` also has those that only wait.
    fn entries(&self, now: &Snapshot, last: bool) -> Result<Vec<Entry>> {
        let none = Tally::default();
        let mut entries = Vec::new();
        for (key, tally) in now {
            let mut shown = if self.look.cumulative {
                tally.clone()
            } else {
                tally.since(self.last.get(key).unwrap_or(&none))
            };
            // Those that a former run has left so are not, any more.
            let stale = self.before.get(key).map_or(0, |tally| tally.in_flight);
            shown.in_flight = shown.in_flight.saturating_sub(stale);
            if !self.look.exits {
                shown.in_flight = 0;
            }
            let waits = last && shown.in_flight > 0;
            if shown.calls + shown.returned > 0 || waits {
                entries.push((wire::decode(key)?, shown));
            }
        }
        Ok(entries)
    }

    /// Sorts, and leaves only the largest.
    fn choose<'e>(&self, entries: &'e mut [Entry]) -> &'e [Entry] {
        // Equal rows stay in an order that does not depend on hashing.
        let id = |key: &hello_key| {
            let call = (key.abi, key.nr, key.error);
            (
                call,
                key.uid,
                key.pid,
                key.comm,
                key.cgroup_id,
                key.container,
            )
        };
        entries.sort_by_key(|(key, tally)| (Reverse((tally.total_ns, tally.calls)), id(key)));
        let top = entries.len().min(self.top);
        let shown = &mut entries[..top];
        if self.order == Order::Id && self.axes == [Axis::Uid] {
            shown.sort_by_key(|(key, _)| key.uid);
        }
        shown
    }

    fn print(&mut self, now: &Snapshot, is_final: bool) -> Result<()> {
        self.tables += 1;
        let mut entries = self.entries(now, is_final)?;
        let shown = self.choose(&mut entries);
        // Where tables have all since the start, only the final one accounts for the
        // calls: those before count them again.
        let events = |entry: &Entry| match self.look.cumulative {
            false => entry.1.calls,
            true if is_final => {
                let key = wire::bytes(&entry.0);
                let old = self.before.get(key).map_or(0, |tally| tally.calls);
                entry.1.calls.saturating_sub(old)
            }
            true => 0,
        };
        match self.shape {
            Shape::Line if shown.is_empty() => {}
            Shape::Line => {
                let events = shown.iter().map(events).sum();
                self.output.row(&Line(shown), events);
            }
            Shape::Summary => summary::print(&mut self.output, shown, events),
            Shape::Table => self.table(shown, &shown.iter().map(events).collect::<Vec<_>>()),
        }
        Ok(())
    }

    fn table(&mut self, shown: &[Entry], events: &[u64]) {
        if self.tables > 1 {
            self.output.say(b"");
        }
        self.output.header();
        let frame = Frame {
            table: self.tables,
            axes: &self.axes,
            look: &self.look,
            at: self.host.clock.read_at(),
            every: self.every,
        };
        for (entry, events) in shown.iter().zip(events) {
            let row = CountRow::new(frame, entry, &mut self.host);
            self.output.row(&row, *events);
        }
        let by_call = self.axes.contains(&Axis::Syscall);
        let wanted = |(key, tally): &&Entry| {
            let is_asked = !by_call || self.look.histogram.contains(&key.call());
            is_asked && !self.look.histogram.is_empty() && tally.spread.len() > 0
        };
        for entry in shown.iter().filter(wanted) {
            self.output.say(b"");
            let row = CountRow::new(frame, entry, &mut self.host);
            self.output.row(&HistogramRow(row), 0);
        }
    }

    fn is_full(&self) -> bool {
        self.limit.is_some_and(|limit| self.tables >= limit)
    }

    /// What is said once, at the end, beside the tables.
    fn remark(&self, now: &Snapshot) {
        let cut = now.values().filter(|tally| tally.is_cut()).count();
        if self.look.times && cut > 0 {
            crate::say!(
                "hello: the histograms are full: no percentiles for {cut} keys; give --max-entries more"
            );
        }
        let open: u64 = now.values().map(|tally| tally.in_flight).sum();
        if self.look.summary && open > 0 {
            let calls = match open {
                1 => "1 call had not returned, and has".to_owned(),
                open => format!("{open} calls had not returned, and have"),
            };
            crate::say!("hello: {calls} no time");
        }
    }
}

impl Source for Counts {
    fn output(&mut self) -> &mut Output {
        self.output.tables_done = self.is_full();
        &mut self.output
    }

    fn loaded(&mut self, object: &Object, goes_on: bool) -> Result<()> {
        session::find_containers(object, &mut self.host.containers)?;
        if goes_on {
            self.read(object, 1, true)?;
            self.before = self.read(object, 0, true)?;
            if self.look.budget {
                // Nobody has kept how many calls were left out.
                self.every = session::EVERY_MAX;
            }
            self.last = self.before.clone();
        }
        Ok(())
    }

    fn attached(&mut self, object: &Object) -> Result<()> {
        self.control(object, true)
    }

    fn detaching(&mut self, object: &Object) -> Result<()> {
        self.control(object, false)
    }

    fn is_timing(&self) -> bool {
        self.look.times
    }

    fn throttle(&mut self, object: &Object, level: Level) -> Result<()> {
        self.level = level;
        self.leaves_out |= level.every > 1;
        self.every = self.every.max(level.every);
        self.control(object, true)
    }

    fn begin(&mut self) {
        if self.explain {
            self.output.explain();
        }
    }

    fn woke(&mut self) {
        self.host.clock.refresh();
    }

    fn tick(&mut self, object: &Object, last: bool) -> Result<()> {
        let closed = self.epoch;
        if !last {
            self.turn(object)?;
        }
        let mut now = self.read(object, closed, last)?;
        if !self.is_full() {
            let is_final = last || self.limit.is_some_and(|limit| self.tables + 1 >= limit);
            self.print(&now, is_final)?;
        }
        // Calls that are counted when they return may have been left out at any time before.
        let by_return = self.look.failed || self.axes.contains(&Axis::Errno);
        if !self.look.cumulative && !by_return {
            self.every = self.level.every;
        }
        if self.retires
            && !last
            && let Some(calls) = retire::retire(object, &self.stores, &now, &mut self.parts)?
        {
            self.retired += calls;
            now = read::settle(read::join(self.parts[0].clone(), &self.parts[1]), last)?;
        }
        if last {
            self.output.flush();
            self.remark(&now);
            let sum = |all: &Snapshot| all.values().map(|tally| tally.calls).sum::<u64>();
            self.output.received = (self.retired + sum(&now)).saturating_sub(sum(&self.before));
            let told = self.output.printed() + self.output.write_errors();
            self.output.surplus = self.output.received.saturating_sub(told);
        }
        self.last = now;
        Ok(())
    }

    fn is_table(&self) -> bool {
        true
    }
}
