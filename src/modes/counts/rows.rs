// SPDX-License-Identifier: BSD-2-Clause
//! The rows of a table: what each column has to say of a key.

use std::io::Write as _;

use super::Look;
use super::read::Tally;
use crate::cli::Axis;
use crate::enrich::escape::escape;
use crate::enrich::flags::errno_name;
use crate::enrich::host::Host;
use crate::enrich::syscalls::Abi;
use crate::enrich::syscalls::Call;
use crate::enrich::time::length;
use crate::output::Row;
use crate::output::json::Object as Json;
use crate::wire;
use crate::wire::types::hello_key;

/// The line of the book: `ID 0: 332` and so on, with tabs between.
pub(super) struct Line<'a>(pub(super) &'a [(hello_key, Tally)]);

impl Row for Line<'_> {
    fn kind(&self) -> &'static str {
        "count"
    }

    fn text(&self, line: &mut Vec<u8>) {
        for (index, (key, tally)) in self.0.iter().enumerate() {
            let tab = if index > 0 { "\t" } else { "" };
            let _ = write!(line, "{tab}ID {}: {}", key.uid, tally.calls);
        }
    }

    fn json(&self, _: &mut Json<'_>) {}
}

/// One column of the text.
pub(super) struct Column {
    name: &'static str,
    width: usize,
    right: bool,
    cell: fn(&CountRow<'_>, &mut Vec<u8>),
}

const fn right(name: &'static str, width: usize, cell: fn(&CountRow<'_>, &mut Vec<u8>)) -> Column {
    Column {
        name,
        width,
        right: true,
        cell,
    }
}

const fn left(name: &'static str, width: usize, cell: fn(&CountRow<'_>, &mut Vec<u8>)) -> Column {
    Column {
        name,
        width,
        right: false,
        cell,
    }
}

const COUNT: Column = right("COUNT", 10, |row, cell| number(cell, Some(row.tally.calls)));
const ERRORS: Column = right("ERRORS", 8, |row, cell| {
    number(cell, Some(row.tally.errors));
});
const IN_FLIGHT: Column = right("INFLIGHT", 8, |row, cell| {
    number(cell, Some(row.tally.in_flight));
});
const TIMES: [Column; 5] = [
    right("TOTAL", 7, |row, cell| time(cell, row.total_ns())),
    right("MEAN", 7, |row, cell| time(cell, row.tally.mean_ns())),
    right("P50", 7, |row, cell| time(cell, row.tally.percentile(50))),
    right("P99", 7, |row, cell| time(cell, row.tally.percentile(99))),
    right("MAX", 7, |row, cell| time(cell, row.tally.longest_ns())),
];
const SYSCALL: Column = left("SYSCALL", 20, |row, cell| {
    let _ = write!(cell, "{}", row.key.call());
});
const ERRNO: Column = left("ERRNO", 12, |row, cell| {
    cell.extend(row.errno().as_deref().unwrap_or("-").as_bytes());
});
const UID: Column = left("UID", 10, |row, cell| match row.user {
    Some(user) => escape(cell, user.as_bytes()),
    None => number(cell, Some(row.key.uid)),
});
const PID: Column = right("PID", 7, |row, cell| number(cell, Some(row.key.pid)));
const COMM: Column = left("COMM", 15, |row, cell| {
    escape(cell, wire::text(&row.key.comm));
});
const CGROUP: Column = left("CGROUP", 0, |row, cell| {
    escape(cell, row.cgroup.as_deref().unwrap_or("?").as_bytes());
});

fn number(cell: &mut Vec<u8>, value: Option<impl std::fmt::Display>) {
    match value {
        Some(value) => _ = write!(cell, "{value}"),
        None => cell.push(b'-'),
    }
}

fn time(cell: &mut Vec<u8>, ns: Option<u64>) {
    number(cell, ns.map(length));
}

/// The columns of a table: numbers first, then what they are counted by.
pub(super) fn columns(axes: &[Axis], look: &Look) -> Vec<Column> {
    let mut columns = vec![COUNT];
    if look.exits {
        columns.push(ERRORS);
    }
    if look.exits && !look.failed {
        columns.push(IN_FLIGHT);
    }
    if look.times {
        columns.extend(TIMES);
    }
    // Of no fixed width, so last: the control group.
    let order = [
        (Axis::Syscall, SYSCALL),
        (Axis::Errno, ERRNO),
        (Axis::Uid, UID),
        (Axis::Pid, PID),
        (Axis::Comm, COMM),
        (Axis::Cgroup, CGROUP),
    ];
    let asked = order.into_iter().filter(|(axis, _)| axes.contains(axis));
    columns.extend(asked.map(|(_, column)| column));
    columns
}

/// Their names.
pub(super) fn header(columns: &[Column]) -> String {
    let mut line = Vec::new();
    for column in columns {
        let start = line.len();
        line.extend(column.name.as_bytes());
        pad(&mut line, start, column);
    }
    String::from_utf8_lossy(line.trim_ascii_end()).into_owned()
}

/// Brings what was written from `start` on to the column's width, and adds a space.
fn pad(line: &mut Vec<u8>, start: usize, column: &Column) {
    let wide = String::from_utf8_lossy(&line[start..]).chars().count();
    let missing = column.width.saturating_sub(wide);
    if column.right {
        line.splice(start..start, std::iter::repeat_n(b' ', missing));
    } else {
        line.resize(line.len() + missing, b' ');
    }
    line.push(b' ');
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
    pub(super) columns: &'a [Column],
}

/// A key and what is known of its calls.
pub(super) struct CountRow<'a> {
    frame: Frame<'a>,
    key: &'a hello_key,
    tally: &'a Tally,
    ts: humantime::Rfc3339Timestamp,
    user: Option<&'a str>,
    cgroup: Option<String>,
}

impl<'a> CountRow<'a> {
    /// Looks the names up.
    pub(super) fn new(frame: Frame<'a>, entry: &'a (hello_key, Tally), host: &'a mut Host) -> Self {
        let (key, tally) = entry;
        Self {
            frame,
            key,
            tally,
            ts: host.clock.wall(),
            cgroup: host.cgroups.path(key.cgroup_id).map(str::to_owned),
            user: host.users.name(key.uid),
        }
    }

    /// The error's name, or its number if it has none; none for success.
    fn errno(&self) -> Option<String> {
        let error = self.key.error;
        let name = || errno_name(-i64::from(error)).map(str::to_owned);
        (error != 0).then(|| name().unwrap_or_else(|| error.to_string()))
    }

    fn total_ns(&self) -> Option<u64> {
        (self.tally.returned > 0).then_some(self.tally.total_ns)
    }

    /// The key, and when the table was read.
    fn head(&self, object: &mut Json<'_>) {
        object.plain("ts", &self.ts);
        object.num("table", self.frame.table);
        for axis in self.frame.axes {
            match axis {
                Axis::Uid => {
                    object.num("uid", self.key.uid);
                    object.opt_str("user", self.user);
                }
                Axis::Pid => object.num("pid", self.key.pid),
                Axis::Comm => object.bytes("comm", wire::text(&self.key.comm)),
                Axis::Syscall => {
                    object.str("abi", self.key.call().abi.name());
                    object.num("nr", self.key.call().number());
                    object.opt_str("syscall", self.key.call().name());
                }
                Axis::Cgroup => object.opt_str("cgroup", self.cgroup.as_deref()),
                Axis::Errno => object.opt_str("errno", self.errno().as_deref()),
            }
        }
    }
}

impl Row for CountRow<'_> {
    fn kind(&self) -> &'static str {
        "count"
    }

    fn text(&self, line: &mut Vec<u8>) {
        for column in self.frame.columns {
            let start = line.len();
            (column.cell)(self, line);
            pad(line, start, column);
        }
        line.truncate(line.trim_ascii_end().len());
    }

    fn json(&self, object: &mut Json<'_>) {
        self.head(object);
        object.num("count", self.tally.calls);
        if self.frame.look.exits {
            object.num("errors", self.tally.errors);
        }
        // One that has not returned has not failed either.
        if self.frame.look.exits && !self.frame.look.failed {
            object.num("in_flight", self.tally.in_flight);
        }
        if self.frame.look.times {
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

/// The longest bar.
const BAR: u64 = 40;

impl Row for HistogramRow<'_> {
    fn kind(&self) -> &'static str {
        "histogram"
    }

    fn text(&self, line: &mut Vec<u8>) {
        let rows = self.0.tally.spread.by_doubling();
        let most = rows.iter().map(|(_, _, count)| *count).max().unwrap_or(0);
        // Whose it is, by the row's own columns.
        let mut name = Vec::new();
        for column in self.0.frame.columns {
            if column.name == SYSCALL.name || self.0.frame.columns.len() == 1 {
                (column.cell)(&self.0, &mut name);
            }
        }
        let _ = write!(line, "{:>9} {:>9} {:>10} ", "FROM", "TO", "COUNT");
        line.extend(&name);
        for (from, to, count) in rows {
            let filled = (u128::from(count) * u128::from(BAR)).div_ceil(u128::from(most.max(1)));
            let bar = "@".repeat(usize::try_from(filled).unwrap_or(0));
            let (from, to) = (length(from), length(to));
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
