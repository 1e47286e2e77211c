// SPDX-License-Identifier: BSD-2-Clause
//! Puts records into the order of their time stamps.
//!
//! Each CPU has a perf buffer of its own, and even in one ring a program that was
//! interrupted between reading the clock and sending its record comes late. So
//! records are kept for a moment, until nothing older can come.

use std::collections::VecDeque;

/// Nanoseconds that a program may take from reading the clock to sending its record:
/// longer than any interrupt, shorter than anybody notices.
pub(super) const SLACK: u64 = 20_000_000;

/// Memory (bytes) that is not given back after a storm.
const KEPT: usize = 1 << 20;

/// Records that wait for their turn, all in one piece of memory: what has been handed
/// on lies at its beginning and is removed when it is more than half of it, so no
/// byte is moved more than twice.
#[derive(Debug, Default)]
pub(super) struct Order {
    bytes: Vec<u8>,
    waiting: VecDeque<Slot>,
    /// Something in `waiting` is older than what stands before it.
    is_mixed: bool,
    newest: u64,
}

/// Where a record is.
#[derive(Clone, Copy, Debug)]
struct Slot {
    ktime: u64,
    start: usize,
    len: usize,
}

impl Order {
    /// Takes a record, which begins with its time stamp (`hello_task.ktime`).
    pub(super) fn push(&mut self, record: &[u8]) {
        let ktime = record
            .first_chunk()
            .map_or(0, |time| u64::from_ne_bytes(*time));
        self.is_mixed |= self.waiting.back().is_some_and(|last| last.ktime > ktime);
        self.waiting.push_back(Slot {
            ktime,
            start: self.bytes.len(),
            len: record.len(),
        });
        self.bytes.extend_from_slice(record);
        self.newest = self.newest.max(ktime);
    }

    /// Does nothing wait?
    pub(super) fn is_empty(&self) -> bool {
        self.waiting.is_empty()
    }

    /// The newest time stamp that has come since this was asked last; 0 if none has.
    pub(super) fn take_newest(&mut self) -> u64 {
        std::mem::take(&mut self.newest)
    }

    /// The newest time stamp that waits.
    pub(super) fn last(&self) -> Option<u64> {
        let newest = |slots: &VecDeque<Slot>| slots.iter().map(|slot| slot.ktime).max();
        if self.is_mixed {
            return newest(&self.waiting);
        }
        self.waiting.back().map(|slot| slot.ktime)
    }

    /// Hands on, in order, what happened up to then.
    pub(super) fn release(&mut self, until: u64, mut to: impl FnMut(&[u8])) {
        if self.is_mixed {
            // Stable, and quick where nearly all is in order.
            let slots = self.waiting.make_contiguous();
            slots.sort_by_key(|slot| slot.ktime);
            self.is_mixed = false;
        }
        while let Some(slot) = self.waiting.front().filter(|slot| slot.ktime <= until) {
            to(&self.bytes[slot.start..slot.start + slot.len]);
            self.waiting.pop_front();
        }
        self.tidy();
    }

    fn tidy(&mut self) {
        let Some(first) = self.waiting.front() else {
            self.bytes.clear();
            self.bytes.shrink_to(KEPT);
            self.waiting.shrink_to(KEPT / size_of::<Slot>());
            return;
        };
        if first.start <= self.bytes.len() / 2 {
            return;
        }
        let starts = self.waiting.iter().map(|slot| slot.start);
        let dead = starts.min().unwrap_or(0);
        self.bytes.copy_within(dead.., 0);
        self.bytes.truncate(self.bytes.len() - dead);
        for slot in &mut self.waiting {
            slot.start -= dead;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(time: u64, text: &str) -> Vec<u8> {
        [&time.to_ne_bytes()[..], text.as_bytes()].concat()
    }

    #[test]
    fn what_came_late_takes_its_place() {
        let mut order = Order::default();
        for (time, text) in [(5, "e"), (2, "b"), (9, "i"), (3, "c")] {
            order.push(&record(time, text));
        }
        let mut seen = String::new();
        let mut take = |record: &[u8]| seen.push(char::from(record[8]));
        assert_eq!((order.last(), order.take_newest()), (Some(9), 9));
        order.release(3, &mut take);
        order.push(&record(4, "d"));
        assert_eq!((order.last(), order.take_newest()), (Some(9), 4));
        order.release(5, &mut take);
        order.push(&record(7, "g"));
        assert!(!order.is_empty());
        order.release(u64::MAX, &mut take);
        assert_eq!((order.last(), order.is_empty()), (None, true));
        assert_eq!(seen, "bcdegi");
    }

    /// Much comes, a little stays, as in a storm: every record whole, in order, in memory
    /// that does not grow.
    #[test]
    fn what_stays_is_moved_whole() {
        let mut order = Order::default();
        let mut seen = 0u64;
        let mut largest = 0;
        for time in 0..1009u64 {
            let late = time ^ 3; // mixed up in groups of four
            order.push(&record(
                late,
                &format!("{late} {}", "x".repeat(late as usize % 97)),
            ));
            if time % 16 == 15 {
                order.release(time - 8, |record| {
                    let text = String::from_utf8_lossy(&record[8..]);
                    let (number, rest) = text.split_once(' ').expect("two words");
                    assert_eq!(number.parse(), Ok(seen));
                    assert_eq!(rest.len(), seen as usize % 97);
                    assert_eq!(record[..8], seen.to_ne_bytes());
                    seen += 1;
                });
                largest = largest.max(order.bytes.len());
            }
        }
        order.release(u64::MAX, |_| seen += 1);
        assert_eq!(seen, 1009);
        assert!(largest < 5000, "{largest}");
    }
}
