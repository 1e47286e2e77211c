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

/// Records lie together in pieces of memory of so many bytes.
const PIECE: usize = 64 << 10;

/// Slots that are kept when nothing waits.
const KEPT: usize = 16 << 10;

/// Records that wait for their turn.
#[derive(Debug, Default)]
pub(super) struct Order {
    pieces: VecDeque<Piece>,
    /// How many pieces were given back: `Slot.piece` counts them too.
    gone: usize,
    waiting: VecDeque<Slot>,
    /// Something in `waiting` is older than what stands before it.
    is_mixed: bool,
    newest: u64,
}

/// Records one after the other, as they came.
#[derive(Debug)]
struct Piece {
    bytes: Vec<u8>,
    /// How many of them still wait.
    waiting: usize,
}

impl Default for Piece {
    fn default() -> Self {
        Self {
            bytes: Vec::with_capacity(PIECE),
            waiting: 0,
        }
    }
}

/// Where a record is.
#[derive(Clone, Copy, Debug)]
struct Slot {
    ktime: u64,
    piece: usize,
    start: u32,
    len: u32,
}

impl Order {
    /// Takes a record, which begins with its time stamp (`hello_task.ktime`), in one piece
    /// or in two.
    pub(super) fn push(&mut self, record: &[u8], rest: &[u8]) {
        let len = record.len() + rest.len();
        let ktime = record
            .first_chunk()
            .map_or(0, |time| u64::from_ne_bytes(*time));
        self.is_mixed |= self.waiting.back().is_some_and(|last| last.ktime > ktime);
        let has_room = |piece: &Piece| piece.bytes.len() + len <= PIECE;
        if !self.pieces.back().is_some_and(has_room) {
            self.pieces.push_back(Piece::default());
        }
        let last = self.pieces.len() - 1;
        let piece = &mut self.pieces[last];
        #[expect(
            clippy::cast_possible_truncation,
            reason = "a piece is PIECE long, or one record, which the kernel counts in u32"
        )]
        self.waiting.push_back(Slot {
            ktime,
            piece: self.gone + last,
            start: piece.bytes.len() as u32,
            len: len as u32,
        });
        piece.bytes.extend_from_slice(record);
        piece.bytes.extend_from_slice(rest);
        piece.waiting += 1;
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
            let piece = &mut self.pieces[slot.piece - self.gone];
            let start = slot.start as usize;
            to(&piece.bytes[start..start + slot.len as usize]);
            piece.waiting -= 1;
            self.waiting.pop_front();
            self.give_back();
        }
        if self.waiting.is_empty() {
            self.waiting.shrink_to(KEPT);
        }
    }

    /// Gives memory back as soon as all that lay in it has been handed on; the last piece
    /// is used again.
    fn give_back(&mut self) {
        while self.pieces.front().is_some_and(|piece| piece.waiting == 0) {
            if self.pieces.len() == 1 {
                self.pieces[0].bytes.clear();
                return;
            }
            self.pieces.pop_front();
            self.gone += 1;
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
            order.push(&record(time, text), &[]);
        }
        let mut seen = String::new();
        let mut take = |record: &[u8]| seen.push(char::from(record[8]));
        assert_eq!((order.last(), order.take_newest()), (Some(9), 9));
        order.release(3, &mut take);
        order.push(&record(4, "d"), &[]);
        assert_eq!((order.last(), order.take_newest()), (Some(9), 4));
        order.release(5, &mut take);
        order.push(&record(7, "g"), &[]);
        assert!(!order.is_empty());
        order.release(u64::MAX, &mut take);
        assert_eq!((order.last(), order.is_empty()), (None, true));
        assert_eq!(seen, "bcdegi");
    }

    /// Much comes, a little stays, as in a storm: every record whole, in order, in memory
    /// that does not grow; some are longer than a piece, most come in two.
    #[test]
    fn a_storm_takes_little_memory() {
        let length = |time: u64| match time % 1009 {
            500 => PIECE + 1,
            rest => rest as usize % 97,
        };
        let mut order = Order::default();
        let mut seen = 0u64;
        let mut largest = 0;
        for time in 0..10_000u64 {
            let late = time ^ 3; // mixed up in groups of four
            let record = record(late, &format!("{late} {}", "x".repeat(length(late))));
            let (first, rest) = record.split_at(8 + late as usize % (record.len() - 7));
            order.push(first, rest);
            if time % 16 == 15 {
                order.release(time - 8, |record| {
                    let text = String::from_utf8_lossy(&record[8..]);
                    let (number, rest) = text.split_once(' ').expect("two words");
                    assert_eq!(number.parse(), Ok(seen));
                    assert_eq!(rest.len(), length(seen));
                    assert_eq!(record[..8], seen.to_ne_bytes());
                    seen += 1;
                });
                largest = largest.max(order.pieces.len());
            }
        }
        order.release(u64::MAX, |_| seen += 1);
        assert_eq!((seen, order.pieces.len()), (10_000, 1));
        assert!(largest <= 3, "{largest} pieces");
    }
}
