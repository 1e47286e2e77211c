// SPDX-License-Identifier: BSD-2-Clause
//! Histograms of times, as the kernel side keeps them: eight buckets to each power of
//! two (`hello_bucket` in src/bpf/count.bpf.h).

use std::collections::BTreeMap;

/// The times that fall into a bucket: from the first to before the second.
pub(super) fn range(bucket: u32) -> (u64, u64) {
    if bucket < 16 {
        return (u64::from(bucket), u64::from(bucket) + 1);
    }
    let width = 1u64 << (bucket / 8 - 1);
    let from = u64::from(8 + bucket % 8) * width;
    (from, from.saturating_add(width))
}

/// How many times there are in each bucket.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Spread(BTreeMap<u32, u64>);

impl Spread {
    /// Adds times to a bucket.
    pub(super) fn add(&mut self, bucket: u32, count: u64) {
        if count > 0 {
            *self.0.entry(bucket).or_default() += count;
        }
    }

    /// Adds all of another's.
    pub(super) fn join(&mut self, other: &Self) {
        for (bucket, count) in &other.0 {
            self.add(*bucket, *count);
        }
    }

    /// What came since `old`.
    pub(super) fn since(&self, old: &Self) -> Self {
        let fresh = self.0.iter().map(|(bucket, count)| {
            let before = old.0.get(bucket).copied().unwrap_or(0);
            (*bucket, count.saturating_sub(before))
        });
        Self(fresh.filter(|(_, count)| *count > 0).collect())
    }

    /// How many times there are.
    pub(super) fn len(&self) -> u64 {
        self.0.values().sum()
    }

    /// A time that `percent` of all are no longer than: the middle of the bucket that
    /// the real one is in, which is at most a sixteenth of it away.
    pub(super) fn percentile(&self, percent: u32) -> Option<u64> {
        let rank = (u128::from(self.len()) * u128::from(percent)).div_ceil(100);
        let mut passed = 0;
        self.0.iter().find_map(|(bucket, count)| {
            passed += u128::from(*count);
            let (from, to) = range(*bucket);
            (passed >= rank.max(1)).then_some(from + (to - from - 1) / 2)
        })
    }

    /// The buckets that something is in: from, to, how many.
    pub(super) fn buckets(&self) -> impl Iterator<Item = (u64, u64, u64)> {
        self.0.iter().map(|(bucket, count)| {
            let (from, to) = range(*bucket);
            (from, to, *count)
        })
    }

    /// The same in powers of two, without gaps between the first and the last.
    pub(super) fn by_doubling(&self) -> Vec<(u64, u64, u64)> {
        let mut rows: Vec<(u64, u64, u64)> = Vec::new();
        for (from, _, count) in self.buckets() {
            let low = if from == 0 { 0 } else { 1 << from.ilog2() };
            while rows.last().is_some_and(|(_, end, _)| *end < low) {
                let end = rows.last().map_or(low, |(_, end, _)| *end);
                rows.push((end, end.saturating_mul(2), 0));
            }
            match rows.last_mut() {
                Some((start, _, sum)) if *start == low => *sum += count,
                _ => rows.push((low, low.saturating_mul(2).max(1), count)),
            }
        }
        rows
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// As the kernel side does it.
    fn bucket(ns: u64) -> u32 {
        if ns < 8 {
            return ns as u32;
        }
        let log = ns.ilog2();
        (log - 2) * 8 + (ns >> (log - 3) & 7) as u32
    }

    /// A generator of numbers of all lengths (xorshift).
    fn numbers() -> impl Iterator<Item = u64> {
        let mut state = 0x9e37_79b9_7f4a_7c15u64;
        std::iter::repeat_with(move || {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            state >> (state % 64)
        })
    }

    fn spread(times: &[u64]) -> Spread {
        let mut spread = Spread::default();
        for time in times {
            spread.add(bucket(*time), 1);
        }
        spread
    }

    #[test]
    fn buckets_follow_each_other() {
        assert_eq!(bucket(u64::MAX), 495);
        for at in 0..495 {
            let (from, to) = range(at);
            assert_eq!((bucket(from), bucket(to - 1), bucket(to)), (at, at, at + 1));
        }
        for time in numbers().take(100_000) {
            let (from, to) = range(bucket(time));
            assert!(from <= time && (time < to || to == u64::MAX), "{time}");
        }
    }

    #[test]
    fn a_percentile_errs_by_a_sixteenth_at_most() {
        let mut random = numbers();
        for round in 1..500 {
            let mut times: Vec<u64> = random.by_ref().take(round).map(|n| n >> 1).collect();
            let spread = spread(&times);
            times.sort_unstable();
            for percent in [1, 50, 90, 99, 100] {
                let rank = (round * percent as usize).div_ceil(100).max(1);
                let exact = times[rank - 1];
                let told = spread.percentile(percent).expect("there are some");
                assert!(
                    u128::from(told.abs_diff(exact)) * 16 <= u128::from(exact),
                    "p{percent} of {round}: {told}, not {exact}"
                );
            }
        }
        assert_eq!(Spread::default().percentile(50), None);
    }

    #[test]
    fn differences_and_doublings() {
        let (old, new) = (spread(&[0, 3, 9]), spread(&[0, 3, 3, 9, 40, 41, 100]));
        assert_eq!(new.since(&old), spread(&[3, 40, 41, 100]));
        assert_eq!(
            new.by_doubling(),
            [
                (0, 1, 1),
                (1, 2, 0),
                (2, 4, 2),
                (4, 8, 0),
                (8, 16, 1),
                (16, 32, 0),
                (32, 64, 2),
                (64, 128, 1)
            ]
        );
        assert_eq!(spread(&[u64::MAX]).by_doubling().len(), 1);
    }
}
