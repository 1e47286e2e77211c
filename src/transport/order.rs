// SPDX-License-Identifier: BSD-2-Clause
//! Puts records into the order of their time stamps.
//!
//! Each CPU has a perf buffer of its own, and even in one ring a program that was
//! interrupted between reading the clock and sending its record comes late. So
//! records are kept for a moment, until nothing older can come.

/// Nanoseconds that a program may take from reading the clock to sending its record:
/// longer than any interrupt, shorter than anybody notices.
pub(super) const SLACK: u64 = 20_000_000;

/// Records that wait for their turn.
#[derive(Debug, Default)]
pub(super) struct Order {
    bytes: Vec<u8>,
    /// Time stamp, start and end in `bytes`.
    waiting: Vec<(u64, usize, usize)>,
    newest: u64,
}

impl Order {
    /// Takes a record, which begins with its time stamp (`hello_task.ktime`).
    pub(super) fn push(&mut self, record: &[u8]) {
        let ktime = record
            .first_chunk()
            .map_or(0, |time| u64::from_ne_bytes(*time));
        let start = self.bytes.len();
        self.bytes.extend_from_slice(record);
        self.waiting.push((ktime, start, self.bytes.len()));
        self.newest = self.newest.max(ktime);
    }

    /// The oldest time stamp that waits.
    pub(super) fn oldest(&self) -> Option<u64> {
        self.waiting.iter().map(|(ktime, ..)| *ktime).min()
    }

    /// The newest time stamp that has come.
    pub(super) fn newest(&self) -> u64 {
        self.newest
    }

    /// Hands on, in order, what happened up to then.
    pub(super) fn release(&mut self, until: u64, mut to: impl FnMut(&[u8])) {
        // Stable, and quick where all is in order already.
        self.waiting.sort_by_key(|(ktime, ..)| *ktime);
        let ready = self.waiting.partition_point(|(ktime, ..)| *ktime <= until);
        for (_, start, end) in self.waiting.drain(..ready) {
            to(&self.bytes[start..end]);
        }
        if self.waiting.is_empty() {
            self.bytes.clear();
            return;
        }
        if ready == 0 {
            return;
        }
        let mut kept = Vec::new();
        for (_, start, end) in &mut self.waiting {
            let moved = kept.len();
            kept.extend_from_slice(&self.bytes[*start..*end]);
            (*start, *end) = (moved, kept.len());
        }
        self.bytes = kept;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_came_late_takes_its_place() {
        let record = |time: u64, text: &[u8]| [&time.to_ne_bytes()[..], text].concat();
        let mut order = Order::default();
        for (time, text) in [(5, "e"), (2, "b"), (9, "i"), (3, "c")] {
            order.push(&record(time, text.as_bytes()));
        }
        let mut seen = String::new();
        let mut take = |record: &[u8]| seen.push(char::from(record[8]));
        assert_eq!((order.oldest(), order.newest()), (Some(2), 9));
        order.release(3, &mut take);
        order.push(&record(4, b"d"));
        order.release(5, &mut take);
        order.push(&record(7, b"g"));
        order.release(u64::MAX, &mut take);
        assert_eq!(order.oldest(), None);
        assert_eq!(seen, "bcdegi");
    }
}
