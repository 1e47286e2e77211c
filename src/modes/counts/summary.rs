// SPDX-License-Identifier: BSD-2-Clause
//! The table of `strace -c -f`, column by column of the same width.

use std::io::Write as _;

use super::Entry;
use super::read::Tally;
use super::rows::KeyExt as _;
use crate::enrich::syscalls::Call;
use crate::output::Output;
use crate::output::Row;
use crate::output::columns::Column;
use crate::output::json::Object as Json;

/// What the table consists of.
pub(super) const COLUMNS: &[Column] = &[
    Column::number("% time", 6, "share of the time of all calls"),
    Column::number("seconds", 11, "how long the calls took together"),
    Column::number("usecs/call", 11, "of one call in the mean, microseconds"),
    Column::number("calls", 9, "how many"),
    Column::number("errors", 9, "of these, how many failed; nothing: none"),
    Column::text(
        "syscall",
        0,
        "the call, with its ABI if that is not the machine's",
    ),
];

/// Below the names and above the total.
const RULE: &str = "------ ----------- ----------- --------- --------- ----------------";

/// Prints what `strace -c` would; `output` has the [`COLUMNS`].
pub(super) fn print(output: &mut Output, shown: &[Entry], events: impl Fn(&Entry) -> u64) {
    let mut total = Tally::default();
    for (_, tally) in shown {
        total.join(tally);
    }
    let row = |call, tally| SummaryRow {
        call,
        tally,
        all_ns: total.total_ns,
    };
    output.header();
    output.say(RULE.as_bytes());
    for entry in shown {
        output.row(&row(Some(entry.0.call()), &entry.1), events(entry));
    }
    output.say(RULE.as_bytes());
    output.row(&row(None, &total), 0);
}

/// A call, or all of them.
struct SummaryRow<'a> {
    /// None for the total.
    call: Option<Call>,
    tally: &'a Tally,
    /// The time of all calls.
    all_ns: u64,
}

impl SummaryRow<'_> {
    fn percent(&self) -> f64 {
        match (&self.call, self.all_ns) {
            (None, _) => 100.0,
            (_, 0) => 0.0,
            (_, all) => self.tally.total_ns as f64 * 100.0 / all as f64,
        }
    }
}

impl Row for SummaryRow<'_> {
    fn kind(&self) -> &'static str {
        "count"
    }

    fn cell(&self, column: &str, cell: &mut Vec<u8>) {
        let tally = self.tally;
        let micros = tally.total_ns / 1000;
        // Writing to a Vec cannot fail.
        let _ = match column {
            "% time" => write!(cell, "{:.2}", self.percent()),
            "seconds" => write!(cell, "{}.{:06}", micros / 1_000_000, micros % 1_000_000),
            "usecs/call" => write!(cell, "{}", tally.mean_ns().unwrap_or(0) / 1000),
            "calls" => write!(cell, "{}", tally.calls),
            "errors" if tally.errors == 0 => Ok(()),
            "errors" => write!(cell, "{}", tally.errors),
            _ => match &self.call {
                Some(call) => write!(cell, "{call}"),
                None => write!(cell, "total"),
            },
        };
    }

    fn json(&self, _: &mut Json<'_>) {}
}
