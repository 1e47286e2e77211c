// SPDX-License-Identifier: BSD-2-Clause
//! The table of `strace -c -f`, column by column of the same width.

use std::io::Write as _;

use super::Entry;
use super::read::Tally;
use super::rows::KeyExt as _;
use crate::enrich::syscalls::Call;
use crate::output::Output;
use crate::output::Row;
use crate::output::columns::Layout;
use crate::output::json::Object as Json;

/// The names of the columns.
const HEADER: &str = "% time     seconds  usecs/call     calls    errors syscall";
/// The line below them and above the total.
const RULE: &str = "------ ----------- ----------- --------- --------- ----------------";

/// Prints what `strace -c` would.
pub(super) fn print(output: &mut Output, shown: &[Entry], events: impl Fn(&Entry) -> u64) {
    let mut total = Tally::default();
    for (_, tally) in shown {
        total.join(tally);
    }
    output.say(HEADER.as_bytes());
    output.say(RULE.as_bytes());
    let row = |call, tally| SummaryRow {
        call,
        tally,
        all_ns: total.total_ns,
    };
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

impl Row for SummaryRow<'_> {
    fn kind(&self) -> &'static str {
        "count"
    }

    fn cell(&self, _: &str, _: &mut Vec<u8>) {}

    fn text(&self, _: &Layout, line: &mut Vec<u8>) {
        let ns = self.tally.total_ns;
        let share = match (&self.call, self.all_ns) {
            (None, _) => 100.0,
            (_, 0) => 0.0,
            (_, all) => ns as f64 * 100.0 / all as f64,
        };
        let micros = self.tally.mean_ns().unwrap_or(0) / 1000;
        let seconds = format!("{}.{:06}", ns / 1_000_000_000, ns / 1000 % 1_000_000);
        let errors = match self.tally.errors {
            0 => String::new(),
            errors => errors.to_string(),
        };
        let calls = self.tally.calls;
        let _ = write!(
            line,
            "{share:6.2} {seconds:>11} {micros:>11} {calls:>9} {errors:>9} "
        );
        let _ = match &self.call {
            Some(call) => write!(line, "{call}"),
            None => write!(line, "total"),
        };
    }

    fn json(&self, _: &mut Json<'_>) {}
}
