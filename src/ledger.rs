// SPDX-License-Identifier: BSD-2-Clause
//! The account of a run: what was seen, and what became of it.

use std::fmt::Write as _;

use libbpf_rs::MapCore;
use libbpf_rs::MapFlags;

use crate::output::Output;
use crate::output::Row;
use crate::output::json::Object;
use crate::wire;
use crate::wire::types::hello_ledger;

/// All counts are exact sums over the CPUs, read when nothing runs any more:
/// `seen = filtered + emitted + lost`, `emitted = received`,
/// `received = printed + surplus + write_errors`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Ledger {
    /// Events that concerned the mode.
    pub seen: u64,
    /// Not selected.
    pub filtered: u64,
    /// Handed to user space: put into the buffer, or counted in a map.
    pub emitted: u64,
    /// Taken over by user space.
    pub received: u64,
    /// Written to standard output, in a line of their own or as part of a count.
    pub printed: u64,
    /// Beyond `--count`, in rows beyond `--top`, or wanted for something else only: for the
    /// command lines of ends (`exec`), for paths that user space had to tidy up (`file`).
    pub surplus: u64,
    /// Not written because standard output failed or was closed.
    pub write_errors: u64,
    /// What was lost, by reason.
    pub lost: Lost,
    /// User memory that could not be read; the event is there without it.
    pub unreadable: u64,
    /// Texts longer than a record can hold; the event is there with its beginning.
    pub truncated: u64,
    /// Exits without their entry: the call began before hello did, or its entry found
    /// no room and stands under lost as well.
    pub unmatched: u64,
    /// Calls were sampled (`--max-cpu`): the sums hold, of what the sample stands for.
    pub estimated: bool,
}

/// Lost events by reason.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Lost {
    /// Ring or perf buffer full; for `trace`, overwritten in the trace buffer.
    pub buffer_full: u64,
    /// Counter map full.
    pub map_full: u64,
    /// Scratch space in use by an interrupted run of the same program.
    pub scratch_busy: u64,
    /// Runs that the kernel skipped because a program was running on that CPU:
    /// `recursion_misses` of programs, `missed` of kprobes. Kernels before 6.7 count
    /// none for kprobes and classic tracepoints (commit dd8657894c11). On a shared
    /// hook some of them may not have concerned the mode.
    pub nested: u64,
    /// Descendants that could not be followed because the pid map was full: each
    /// stands for all that it would have done.
    pub unfollowed: u64,
}

impl Lost {
    /// All reasons together.
    pub fn total(&self) -> u64 {
        self.by_reason().iter().map(|(_, _, count)| count).sum()
    }

    /// Name in JSON, words for people, count.
    fn by_reason(&self) -> [(&'static str, &'static str, u64); 5] {
        [
            ("buffer_full", "buffer full", self.buffer_full),
            ("map_full", "map full", self.map_full),
            ("scratch_busy", "scratch busy", self.scratch_busy),
            ("nested", "nested", self.nested),
            ("unfollowed", "processes not followed", self.unfollowed),
        ]
    }
}

impl Ledger {
    /// Reads the kernel's part from the map `hello_ledger`.
    ///
    /// # Errors
    /// The kernel refuses the lookup.
    pub fn read(map: &dyn MapCore, nested: u64) -> anyhow::Result<Self> {
        let mut ledger = Self::default();
        for index in 0..map.max_entries() {
            let cpus = map.lookup_percpu(&index.to_ne_bytes(), MapFlags::ANY)?;
            for cpu in cpus.iter().flatten() {
                ledger.add(&wire::decode(cpu)?);
            }
        }
        // Skipped runs and unfollowed processes were never seen by a program.
        ledger.lost.nested = nested;
        ledger.seen += nested + ledger.lost.unfollowed;
        Ok(ledger)
    }

    /// Adds what a program has booked on a CPU. What it has taken back of another's
    /// bookings is negative: only the sum is a count (HELLO_LEDGER_EXITS).
    fn add(&mut self, part: &hello_ledger) {
        for (sum, part) in [
            (&mut self.seen, part.seen),
            (&mut self.filtered, part.filtered),
            (&mut self.emitted, part.emitted),
            (&mut self.lost.buffer_full, part.lost_buffer),
            (&mut self.lost.map_full, part.lost_map),
            (&mut self.lost.scratch_busy, part.lost_scratch),
            (&mut self.lost.unfollowed, part.unfollowed),
            (&mut self.unreadable, part.unreadable),
            (&mut self.truncated, part.truncated),
            (&mut self.unmatched, part.unmatched),
        ] {
            *sum = sum.wrapping_add(part);
        }
    }

    /// Adds user space's part.
    pub fn add_output(&mut self, output: &Output) {
        self.received = output.received;
        self.printed = output.printed();
        self.surplus += output.surplus;
        self.unmatched += output.unmatched;
        self.write_errors = output.write_errors();
    }

    /// Do the sums hold? If not, hello has a defect, and says so.
    pub fn balances(&self) -> bool {
        self.seen == self.filtered + self.emitted + self.lost.total()
            && self.emitted == self.received
            && self.received == self.printed + self.surplus + self.write_errors
    }

    /// The closing line: `hello: 23 events, 0 lost`, and whatever else there is to say.
    pub fn closing_line(&self, counting: bool) -> String {
        let shown = if counting {
            self.received
        } else {
            self.printed
        };
        let what = match (counting, shown) {
            (true, 1) => "call counted",
            (true, _) => "calls counted",
            (false, 1) => "event",
            (false, _) => "events",
        };
        let about = if self.estimated { "about " } else { "" };
        let mut line = format!("hello: {about}{shown} {what}");
        if self.surplus > 0 {
            let more = if counting { "of them" } else { "more" };
            let _ = write!(line, " ({} {more} not shown)", self.surplus);
        }
        let _ = write!(line, ", {} lost", self.lost.total());
        let reasons: Vec<String> = self
            .lost
            .by_reason()
            .iter()
            .filter(|(_, _, count)| *count > 0)
            .map(|(_, words, count)| format!("{count} {words}"))
            .collect();
        if !reasons.is_empty() {
            let _ = write!(line, " ({})", reasons.join(", "));
        }
        for (count, words) in [
            (self.filtered, "filtered out"),
            (self.write_errors, "not written"),
            (self.unreadable, "with unreadable memory"),
            (self.truncated, "truncated"),
            (self.unmatched, "unmatched"),
        ] {
            if count > 0 {
                let _ = write!(line, ", {count} {words}");
            }
        }
        if !self.balances() {
            let _ = write!(line, "; the sums do not hold, please report this: {self:?}");
        }
        line
    }
}

impl Row for Ledger {
    fn kind(&self) -> &'static str {
        "ledger"
    }

    /// It has no columns: text has the closing line, on standard error.
    fn cell(&self, _: &str, _: &mut Vec<u8>) {}

    fn json(&self, object: &mut Object<'_>) {
        object.num("seen", self.seen);
        object.num("filtered", self.filtered);
        object.num("emitted", self.emitted);
        object.num("received", self.received);
        object.num("printed", self.printed);
        object.num("surplus", self.surplus);
        object.num("write_errors", self.write_errors);
        object.object("lost", |lost| {
            lost.num("total", self.lost.total());
            for (name, _, count) in self.lost.by_reason() {
                lost.num(name, count);
            }
        });
        object.num("unreadable", self.unreadable);
        object.num("truncated", self.truncated);
        object.num("unmatched", self.unmatched);
        object.bool("estimated", self.estimated);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ledger() -> Ledger {
        Ledger {
            seen: 30,
            filtered: 5,
            emitted: 23,
            received: 23,
            printed: 23,
            ..Ledger::default()
        }
    }

    #[test]
    fn closing_lines() {
        let mut good = ledger();
        good.seen = 28;
        assert!(good.balances());
        assert_eq!(
            good.closing_line(false),
            "hello: 23 events, 0 lost, 5 filtered out"
        );

        let mut lossy = ledger();
        lossy.lost.buffer_full = 2;
        assert!(lossy.balances());
        assert_eq!(
            lossy.closing_line(false),
            "hello: 23 events, 2 lost (2 buffer full), 5 filtered out"
        );
        let mut cut = good;
        (cut.printed, cut.surplus) = (20, 3);
        assert!(cut.balances());
        assert_eq!(
            cut.closing_line(true),
            "hello: 23 calls counted (3 of them not shown), 0 lost, 5 filtered out"
        );
        assert_eq!(
            cut.closing_line(false),
            "hello: 20 events (3 more not shown), 0 lost, 5 filtered out"
        );
        assert!(ledger().closing_line(false).contains("do not hold"));
    }
}
