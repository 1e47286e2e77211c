// SPDX-License-Identifier: BSD-2-Clause
//! The rows of a table: what each column has to say of a key.

use std::io::Write as _;

use super::Look;
use super::read::Tally;
use crate::cli::Axis;
use crate::enrich::escape;
use crate::enrich::flags::errno_name;
use crate::enrich::host;
use crate::enrich::host::Host;
use crate::enrich::host::When;
use crate::enrich::syscalls::Abi;
use crate::enrich::syscalls::Call;
use crate::enrich::time::Length;
use crate::output::Row;
use crate::output::columns::Column;
use crate::output::columns::Layout;
use crate::output::json::Object as Json;
use crate::wire;
use crate::wire::types::hello_key;

/// What `--explain` says of [`Line`].
pub(super) const LINE: &[Column] = &[Column::text(
    "ID N: CALLS",
    0,
    "calls of the user of that number: all since the start, in syscount those since the line before unless cumulative",
)];

/// The line of the book: `ID 0: 332` and so on, with tabs between.
pub(super) struct Line<'a>(pub(super) &'a [(hello_key, Tally)]);

impl Row for Line<'_> {
    fn kind(&self) -> &'static str {
        "count"
    }

    fn cell(&self, _: &str, _: &mut Vec<u8>) {}

    fn text(&self, _: &Layout, line: &mut Vec<u8>) {
        for (index, (key, tally)) in self.0.iter().enumerate() {
            let tab = if index > 0 { "\t" } else { "" };
            let _ = write!(line, "{tab}ID {}: {}", key.uid, tally.calls);
        }
    }

    fn json(&self, _: &mut Json<'_>) {}
}

/// The columns of a table: numbers first, then what they are counted by. Times have a
/// unit: 12.3us.
pub(in crate::modes) const COLUMNS: &[Column] = &[
    host::TIME,
    Column::number(
        "COUNT",
        10,
        "calls: those that began in the time of the table; of failures and by errno those that returned in it",
    ),
    Column::number(
        "MARGIN",
        8,
        "the count may be off by so many, in 19 of 20 cases (--max-cpu)",
    ),
    Column::number("ERRORS", 8, "calls that returned with an error in it"),
    Column::number("INFLIGHT", 8, "calls that had not returned at its end"),
    Column::number(
        "TIMED",
        8,
        "how many of those that returned in it were timed (--max-cpu)",
    ),
    Column::number(
        "TOTAL",
        7,
        "time of those that returned in it (--latency; under --max-cpu of those that were timed)",
    ),
    Column::number("MEAN", 7, "time of one in the mean"),
    Column::number("P50", 7, "half of them took no longer, to a sixteenth"),
    Column::number("P99", 7, "99 of 100 took no longer, to a sixteenth"),
    Column::number("MAX", 7, "time of the longest"),
    Column::text(
        "SYSCALL",
        20,
        "the call, of another ABI than the native one as i386:NAME",
    ),
    Column::text("ERRNO", 12, "the error that it returned; - for none"),
    Column::text("USER", 10, "who, by name or number (real user id)"),
    Column::number("PID", 7, "process (thread group) id"),
    Column::text("COMM", 15, "name of the thread"),
    Column::text(
        "CONTAINER",
        12,
        "container id, its first 12 digits; - outside of containers",
    ),
    Column::text(
        "CGROUP",
        0,
        "version 2 control group; ? if it is gone or not visible here",
    ),
];

/// What of them is told of times.
pub(super) const TIMES: &[&str] = &["TOTAL", "MEAN", "P50", "P99", "MAX"];

/// What of them is counted by.
pub(super) const KEYS: &[(Axis, &str)] = &[
    (Axis::Syscall, "SYSCALL"),
    (Axis::Errno, "ERRNO"),
    (Axis::Uid, "USER"),
    (Axis::Pid, "PID"),
    (Axis::Comm, "COMM"),
    (Axis::Container, "CONTAINER"),
    (Axis::Cgroup, "CGROUP"),
];

/// The names of those that a table has.
pub(super) fn columns(axes: &[Axis], look: &Look) -> Vec<&'static str> {
    let mut columns = vec!["COUNT"];
    columns.extend(look.budget.then_some("MARGIN"));
    columns.extend(look.exits.then_some("ERRORS"));
    columns.extend((look.exits && !look.failed).then_some("INFLIGHT"));
    columns.extend((look.budget && look.times).then_some("TIMED"));
    columns.extend(TIMES.iter().filter(|_| look.times));
    let asked = KEYS.iter().filter(|(axis, _)| axes.contains(axis));
    columns.extend(asked.map(|(_, name)| *name));
    columns
}

fn number(cell: &mut Vec<u8>, value: Option<impl std::fmt::Display>) {
    match value {
        Some(value) => _ = write!(cell, "{value}"),
        None => cell.push(b'-'),
    }
}

/// What a key says.
pub(super) trait KeyExt {
    /// The call.
    fn call(&self) -> Call;
}

impl KeyExt for hello_key {
    fn call(&self) -> Call {
        Call {
            abi: Abi::from_raw(self.abi),
            nr: self.nr,
        }
    }
}

/// What the rows of a table have in common.
#[derive(Clone, Copy)]
pub(super) struct Frame<'a> {
    /// The table's number.
    pub(super) table: u64,
    pub(super) axes: &'a [Axis],
    pub(super) look: &'a Look,
    /// When it was read (CLOCK_MONOTONIC, ns).
    pub(super) at: u64,
    /// The most that one of its calls may have stood for.
    pub(super) every: u32,
}

/// A key and what is known of its calls.
pub(super) struct CountRow<'a> {
    frame: Frame<'a>,
    key: &'a hello_key,
    tally: &'a Tally,
    when: When,
    user: Option<String>,
    cgroup: Option<String>,
    container: Option<String>,
}

impl<'a> CountRow<'a> {
    /// Looks the names up.
    pub(super) fn new(frame: Frame<'a>, entry: &'a (hello_key, Tally), host: &'a mut Host) -> Self {
        let (key, tally) = entry;
        Self {
            frame,
            key,
            tally,
            cgroup: host.cgroups.path(key.cgroup_id).map(str::to_owned),
            container: host.containers.id(key.container).map(str::to_owned),
            user: host.users.name(key.uid).map(str::to_owned),
            when: host.at(frame.at),
        }
    }

    /// The error's name, or its number if it has none; none for success.
    fn errno(&self) -> Option<String> {
        let error = self.key.error;
        let name = || errno_name(-i64::from(error)).map(str::to_owned);
        (error != 0).then(|| name().unwrap_or_else(|| error.to_string()))
    }

    fn total_ns(&self) -> Option<u64> {
        (self.tally.timed > 0).then_some(self.tally.total_ns)
    }

    /// The key, and when the table was read.
    fn head(&self, object: &mut Json<'_>) {
        self.when.json(object);
        object.num("table", self.frame.table);
        for axis in self.frame.axes {
            match axis {
                Axis::Uid => {
                    object.num("uid", self.key.uid);
                    object.opt_str("user", self.user.as_deref());
                }
                Axis::Pid => object.num("pid", self.key.pid),
                Axis::Comm => object.bytes("comm", wire::text(&self.key.comm)),
                Axis::Syscall => {
                    object.str("abi", self.key.call().abi.name());
                    object.num("nr", self.key.call().number());
                    object.opt_str("syscall", self.key.call().name());
                }
                Axis::Cgroup => object.opt_str("cgroup", self.cgroup.as_deref()),
                Axis::Container => object.opt_str("container", self.container.as_deref()),
                Axis::Errno => object.opt_str("errno", self.errno().as_deref()),
            }
        }
    }
}

impl Row for CountRow<'_> {
    fn kind(&self) -> &'static str {
        "count"
    }

    fn cell(&self, column: &str, cell: &mut Vec<u8>) {
        let (key, tally) = (self.key, self.tally);
        let time = |cell: &mut Vec<u8>, ns: Option<u64>| number(cell, ns.map(Length));
        match column {
            "TIME" => self.when.cell(cell),
            "COUNT" => number(cell, Some(tally.calls)),
            "MARGIN" => number(cell, Some(tally.margin(self.frame.every))),
            "ERRORS" => number(cell, Some(tally.errors)),
            "INFLIGHT" => number(cell, Some(tally.in_flight)),
            "TIMED" => number(cell, Some(tally.timed)),
            "TOTAL" => time(cell, self.total_ns()),
            "MEAN" => time(cell, tally.mean_ns()),
            "P50" => time(cell, tally.percentile(50)),
            "P99" => time(cell, tally.percentile(99)),
            "MAX" => time(cell, tally.longest_ns()),
            "SYSCALL" => number(cell, Some(key.call())),
            "ERRNO" => number(cell, self.errno()),
            "USER" => host::user_cell(cell, self.user.as_deref(), key.uid),
            "PID" => number(cell, Some(key.pid)),
            "COMM" => escape::cell(cell, wire::text(&key.comm)),
            "CONTAINER" => cell.extend(host::short(self.container.as_deref()).as_bytes()),
            _ => escape::cell(cell, self.cgroup.as_deref().unwrap_or("?").as_bytes()),
        }
    }

    fn json(&self, object: &mut Json<'_>) {
        self.head(object);
        object.num("count", self.tally.calls);
        if self.frame.look.budget {
            let margin = self.tally.margin(self.frame.every);
            object.bool("estimated", margin > 0);
            object.num("margin", margin);
        }
        if self.frame.look.exits {
            object.num("errors", self.tally.errors);
        }
        // One that has not returned has not failed either.
        if self.frame.look.exits && !self.frame.look.failed {
            object.num("in_flight", self.tally.in_flight);
        }
        if self.frame.look.times {
            object.num("timed", self.tally.timed);
            object.num("total_ns", self.tally.total_ns);
            object.opt_num("mean_ns", self.tally.mean_ns());
            object.opt_num("p50_ns", self.tally.percentile(50));
            object.opt_num("p99_ns", self.tally.percentile(99));
            object.opt_num("max_ns", self.tally.longest_ns());
        }
    }
}

/// How the times of a row are spread.
pub(super) struct HistogramRow<'a>(pub(super) CountRow<'a>);

impl HistogramRow<'_> {
    /// Whose times they are: `getppid, pid 7, comm sh`.
    fn title(&self, line: &mut Vec<u8>) {
        let frame = &self.0.frame;
        if frame.axes.contains(&Axis::Syscall) {
            self.0.cell("SYSCALL", line);
        } else if let Some(call) = frame.look.histogram.first() {
            let _ = write!(line, "{call}");
        }
        let others = KEYS.iter().filter(|(axis, _)| *axis != Axis::Syscall);
        for (_, name) in others.filter(|(axis, _)| frame.axes.contains(axis)) {
            let _ = write!(line, ", {} ", name.to_lowercase());
            self.0.cell(name, line);
        }
    }
}

/// The longest bar.
const BAR: u64 = 40;

impl Row for HistogramRow<'_> {
    fn kind(&self) -> &'static str {
        "histogram"
    }

    fn cell(&self, _: &str, _: &mut Vec<u8>) {}

    fn text(&self, _: &Layout, line: &mut Vec<u8>) {
        let rows = self.0.tally.spread.by_doubling();
        let most = rows.iter().map(|(_, _, count)| *count).max().unwrap_or(0);
        let _ = write!(line, "{:>9} {:>9} {:>10} ", "FROM", "TO", "COUNT");
        self.title(line);
        for (from, to, count) in rows {
            let filled = (u128::from(count) * u128::from(BAR)).div_ceil(u128::from(most.max(1)));
            let bar = "@".repeat(usize::try_from(filled).unwrap_or(0));
            let (from, to) = (Length(from).to_string(), Length(to).to_string());
            let _ = write!(line, "\n{from:>9} {to:>9} {count:>10} {bar}");
        }
    }

    fn json(&self, object: &mut Json<'_>) {
        self.0.head(object);
        let spread = &self.0.tally.spread;
        object.num("count", spread.len());
        object.objects("buckets", spread.buckets(), |bucket, (from, to, count)| {
            bucket.num("from_ns", from);
            bucket.num("to_ns", to);
            bucket.num("count", count);
        });
    }
}
