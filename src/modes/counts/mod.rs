// SPDX-License-Identifier: BSD-2-Clause
//! What the counting modes have in common: from counter maps to tables.

use std::cmp::Reverse;
use std::collections::HashMap;
use std::io::Write as _;

use anyhow::Result;
use libbpf_rs::MapCore as _;
use libbpf_rs::MapType;
use libbpf_rs::Object;

use super::NR_MAX;
use crate::cli::Axis;
use crate::cli::Format;
use crate::enrich::host::Host;
use crate::enrich::syscalls::Abi;
use crate::enrich::syscalls::Call;
use crate::output::Output;
use crate::output::Row;
use crate::output::json::Object as Json;
use crate::output::text;
use crate::session::Context;
use crate::session::Source;
use crate::session::find_map;
use crate::wire;
use crate::wire::types::hello_axis;
use crate::wire::types::hello_key;

/// In which order the rows of a table come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Order {
    /// By id where the id is all there is, as the book's dictionary prints it.
    Id,
    /// The largest count first.
    Count,
}

/// The axes asked for, or the mode's own.
pub(super) fn axes(cx: &Context, default: Axis) -> Vec<Axis> {
    let mut axes = if cx.args.by.is_empty() {
        vec![default]
    } else {
        cx.args.by.clone()
    };
    axes.sort_unstable();
    axes.dedup();
    axes
}

/// `config.count_by` for them.
pub(super) fn bits(axes: &[Axis]) -> u32 {
    axes.iter()
        .map(|axis| {
            match axis {
                Axis::Syscall => hello_axis::HELLO_BY_SYSCALL,
                Axis::Uid => hello_axis::HELLO_BY_UID,
                Axis::Pid => hello_axis::HELLO_BY_PID,
                Axis::Comm => hello_axis::HELLO_BY_COMM,
                Axis::Cgroup => hello_axis::HELLO_BY_CGROUP,
            }
            .0
        })
        .fold(0, |all, bit| all | bit)
}

/// The names of the pinned files: counters by other axes are other counters.
pub(super) fn pins(maps: &[&'static str], axes: &[Axis]) -> Vec<(&'static str, String)> {
    let by: Vec<String> = axes
        .iter()
        .map(|axis| format!("{axis:?}").to_lowercase())
        .collect();
    maps.iter()
        .map(|map| (*map, format!("{map}_by_{}", by.join("_"))))
        .collect()
}

type Key = [u8; size_of::<hello_key>()];

/// The [`Source`] of a counting mode.
pub(super) struct Counts {
    maps: &'static [&'static str],
    axes: Vec<Axis>,
    order: Order,
    top: usize,
    host: Host,
    output: Output,
    tables: u64,
    limit: Option<u64>,
    /// What pinned counters said before this run.
    before: Option<HashMap<Key, u64>>,
}

impl Counts {
    pub(super) fn new(
        cx: &Context,
        maps: &'static [&'static str],
        axes: Vec<Axis>,
        order: Order,
    ) -> Self {
        Self {
            maps,
            axes,
            order,
            top: cx.args.top.map_or(usize::MAX, |top| {
                usize::try_from(top.get()).unwrap_or(usize::MAX)
            }),
            host: Host::new(cx.users.clone(), cx.args.output == Format::Json),
            output: Output::new(cx.args.output, None),
            tables: 0,
            limit: cx.args.count.map(std::num::NonZero::get),
            before: None,
        }
    }

    /// All counters that are not zero.
    fn read(&self, object: &Object) -> Result<Vec<(hello_key, u64)>> {
        let mut counts = Vec::new();
        for name in self.maps {
            let map = find_map(object, name)?;
            if map.map_type() == MapType::PercpuArray {
                for index in 0..map.max_entries() {
                    let count = wire::sum_u64(&map, &index.to_ne_bytes())?;
                    let key = hello_key {
                        abi: index / NR_MAX,
                        nr: index % NR_MAX,
                        ..Default::default()
                    };
                    counts.push((key, count));
                }
            } else {
                for key in map.keys() {
                    let count = wire::sum_u64(&map, &key)?;
                    counts.push((wire::decode(&key)?, count));
                }
            }
        }
        counts.retain(|(_, count)| *count > 0);
        Ok(counts)
    }

    /// Is the line of the book enough: one id, one count?
    fn is_line(&self) -> bool {
        self.axes == [Axis::Uid] && self.output.format() == Format::Text
    }

    /// Sorts, and leaves only the largest.
    fn choose<'c>(&self, counts: &'c mut [(hello_key, u64)]) -> &'c [(hello_key, u64)] {
        // Equal counts stay in an order that does not depend on hashing.
        counts.sort_by_key(|(key, count)| {
            (
                Reverse(*count),
                key.abi,
                key.nr,
                key.uid,
                key.pid,
                key.comm,
                key.cgroup_id,
            )
        });
        let top = counts.len().min(self.top);
        let shown = &mut counts[..top];
        if self.order == Order::Id && self.axes == [Axis::Uid] {
            shown.sort_by_key(|(key, _)| key.uid);
        }
        shown
    }

    fn print(&mut self, counts: &mut [(hello_key, u64)], is_final: bool) {
        self.tables += 1;
        // Only the final table accounts for the calls: the others count them again.
        let before = self.before.take().unwrap_or_default();
        let mine = |key: &hello_key, count: u64| {
            let old = before.get(wire::bytes(key)).copied().unwrap_or(0);
            if is_final { count - old.min(count) } else { 0 }
        };
        let shown = self.choose(counts);
        if self.is_line() {
            let events = shown.iter().map(|(key, count)| mine(key, *count)).sum();
            if !shown.is_empty() {
                self.output.row(&Line(shown), events);
            }
        } else {
            if self.tables > 1 {
                self.output.header("");
            }
            self.output.header(&header(&self.axes));
            for (key, count) in shown {
                let row = CountRow {
                    table: self.tables,
                    axes: &self.axes,
                    key,
                    count: *count,
                    ts: self.host.clock.wall(),
                    user: self.host.users.name(key.uid),
                    cgroup: self.host.cgroups.path(key.cgroup_id).map(str::to_owned),
                };
                self.output.row(&row, mine(key, *count));
            }
        }
        self.before = Some(before);
    }

    fn is_full(&self) -> bool {
        self.limit.is_some_and(|limit| self.tables >= limit)
    }
}

impl Source for Counts {
    fn output(&mut self) -> &mut Output {
        self.output.tables_done = self.is_full();
        &mut self.output
    }

    fn loaded(&mut self, object: &Object) -> Result<()> {
        let key = |key: &hello_key| wire::bytes(key).try_into().unwrap_or([0; size_of::<Key>()]);
        let counts = self.read(object)?;
        self.before = Some(counts.iter().map(|(k, count)| (key(k), *count)).collect());
        Ok(())
    }

    fn woke(&mut self) {
        self.host.clock = crate::enrich::time::Clock::now();
    }

    fn tick(&mut self, object: &Object, last: bool) -> Result<()> {
        let mut counts = self.read(object)?;
        let was_full = self.is_full();
        if !was_full {
            let is_final = last || self.limit.is_some_and(|limit| self.tables + 1 >= limit);
            self.print(&mut counts, is_final);
        }
        if last {
            self.output.flush();
            let before: u64 = self.before.iter().flat_map(HashMap::values).sum();
            let now: u64 = counts.iter().map(|(_, count)| count).sum();
            self.output.received = now.saturating_sub(before);
            let told = self.output.printed() + self.output.write_errors();
            self.output.surplus = self.output.received.saturating_sub(told);
        }
        Ok(())
    }

    fn is_table(&self) -> bool {
        true
    }
}

/// The line of the book: `ID 0: 332` and so on, with tabs between.
struct Line<'a>(&'a [(hello_key, u64)]);

impl Row for Line<'_> {
    fn kind(&self) -> &'static str {
        "count"
    }

    fn text(&self, line: &mut Vec<u8>) {
        for (index, (key, count)) in self.0.iter().enumerate() {
            let tab = if index > 0 { "\t" } else { "" };
            let _ = write!(line, "{tab}ID {}: {count}", key.uid);
        }
    }

    fn json(&self, _: &mut Json<'_>) {}
}

fn header(axes: &[Axis]) -> String {
    let mut line = format!("{:>10} ", "COUNT");
    for axis in axes {
        line += match axis {
            Axis::Uid => "UID        ",
            Axis::Pid => "    PID ",
            Axis::Comm => "COMM            ",
            Axis::Syscall => "SYSCALL              ",
            Axis::Cgroup => "CGROUP",
        };
    }
    line.trim_end().to_owned()
}

struct CountRow<'a> {
    table: u64,
    axes: &'a [Axis],
    key: &'a hello_key,
    count: u64,
    ts: humantime::Rfc3339Timestamp,
    user: Option<&'a str>,
    cgroup: Option<String>,
}

impl CountRow<'_> {
    fn call(&self) -> Call {
        Call {
            abi: Abi::from_raw(self.key.abi),
            nr: self.key.nr,
        }
    }
}

impl Row for CountRow<'_> {
    fn kind(&self) -> &'static str {
        "count"
    }

    fn text(&self, line: &mut Vec<u8>) {
        text::number(line, 10, self.count);
        for axis in self.axes {
            match axis {
                Axis::Uid => match self.user {
                    Some(user) => text::bytes(line, 10, user.as_bytes()),
                    None => text::word(line, 10, &self.key.uid.to_string()),
                },
                Axis::Pid => text::number(line, 7, self.key.pid),
                Axis::Comm => text::bytes(line, 15, wire::text(&self.key.comm)),
                Axis::Syscall => text::word(line, 20, &self.call().to_string()),
                Axis::Cgroup => {
                    text::bytes(line, 0, self.cgroup.as_deref().unwrap_or("?").as_bytes());
                }
            }
        }
        line.truncate(line.trim_ascii_end().len());
    }

    fn json(&self, object: &mut Json<'_>) {
        object.plain("ts", &self.ts);
        object.num("table", self.table);
        for axis in self.axes {
            match axis {
                Axis::Uid => {
                    object.num("uid", self.key.uid);
                    object.opt_str("user", self.user);
                }
                Axis::Pid => object.num("pid", self.key.pid),
                Axis::Comm => object.bytes("comm", wire::text(&self.key.comm)),
                Axis::Syscall => {
                    object.str("abi", self.call().abi.name());
                    object.num("nr", self.call().number());
                    object.opt_str("syscall", self.call().name());
                }
                Axis::Cgroup => object.opt_str("cgroup", self.cgroup.as_deref()),
            }
        }
        object.num("count", self.count);
    }
}
