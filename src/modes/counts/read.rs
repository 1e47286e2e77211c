// SPDX-License-Identifier: BSD-2-Clause
//! From counter maps to what is known of each key.

use std::collections::HashMap;

use anyhow::Result;
use libbpf_rs::MapCore as _;
use libbpf_rs::MapFlags;
use libbpf_rs::Object;

use super::buckets::Spread;
use crate::modes::NR_MAX;
use crate::session::find_map;
use crate::wire;
use crate::wire::types::hello_bucket_key;
use crate::wire::types::hello_count_limits;
use crate::wire::types::hello_key;
use crate::wire::types::hello_row;
use crate::wire::types::hello_timed;

/// What a map has under its keys.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::modes) enum Kind {
    /// A number for each CPU, by ABI and number of the call.
    Calls,
    /// A row and its histogram for each CPU, by number of the native call.
    Timed,
    /// A number by key.
    Sums,
    /// A row for each CPU, by key.
    Rows,
    /// A number by key and bucket of its histogram.
    Buckets,
}

/// A map of counters.
pub(in crate::modes) type Store = (&'static str, Kind);

/// A [`hello_key`] that can be looked up.
pub(super) type Key = [u8; size_of::<hello_key>()];

/// What is known of the calls of one key.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Tally {
    pub(super) calls: u64,
    pub(super) gone: u64,
    pub(super) returned: u64,
    pub(super) errors: u64,
    pub(super) total_ns: u64,
    pub(super) max_ns: u64,
    pub(super) in_flight: u64,
    pub(super) spread: Spread,
    /// Times are missing in it, for which there was no room.
    cut: bool,
}

impl Tally {
    fn add(&mut self, row: &hello_row, epoch: u32) {
        self.calls += row.calls;
        self.gone += row.gone;
        self.returned += row.returned;
        self.errors += row.errors;
        self.total_ns += row.total_ns;
        let longest = |epoch: u32| {
            let slot = (epoch & 1) as usize;
            if row.epoch[slot] == epoch {
                row.max_ns[slot]
            } else {
                0
            }
        };
        // Calls that return while the table is read are of the next epoch already.
        let longest = longest(epoch).max(longest(epoch.wrapping_add(1)));
        self.max_ns = self.max_ns.max(longest);
    }

    /// What came since `old`. Calls in flight are those that are so now.
    pub(super) fn since(&self, old: &Self) -> Self {
        let mut since = Self {
            calls: self.calls.saturating_sub(old.calls),
            gone: self.gone.saturating_sub(old.gone),
            returned: self.returned.saturating_sub(old.returned),
            errors: self.errors.saturating_sub(old.errors),
            total_ns: self.total_ns.saturating_sub(old.total_ns),
            max_ns: self.max_ns,
            in_flight: self.in_flight,
            spread: self.spread.since(&old.spread),
            cut: self.cut,
        };
        // The longest was perhaps of a call that the table before counted while it was
        // read. The histogram tells, if it is whole.
        if !since.is_cut() {
            since.max_ns = since.spread.correct_longest(since.max_ns);
        }
        since
    }

    pub(super) fn mean_ns(&self) -> Option<u64> {
        self.total_ns.checked_div(self.returned)
    }

    /// Is there a time that found no room in the histogram?
    pub(super) fn is_cut(&self) -> bool {
        self.cut
    }

    /// Compares both. Of totals only: while the maps are read the histogram runs ahead of
    /// its row, now more, now less, so that of a difference it may be behind.
    fn compare(&mut self) {
        self.cut = self.spread.len() < self.returned;
    }

    /// See [`Spread::percentile`]; none of a histogram that is not whole.
    pub(super) fn percentile(&self, percent: u32) -> Option<u64> {
        let told = self.spread.percentile(percent).filter(|_| !self.is_cut());
        told.map(|ns| ns.min(self.max_ns))
    }

    pub(super) fn longest_ns(&self) -> Option<u64> {
        (self.returned > 0).then_some(self.max_ns)
    }
}

/// All counters that are not zero.
pub(super) type Snapshot = HashMap<Key, Tally>;

fn bytes(key: &hello_key) -> Key {
    wire::bytes(key).try_into().unwrap_or([0; size_of::<Key>()])
}

fn native(nr: u32) -> Key {
    bytes(&hello_key {
        nr,
        ..Default::default()
    })
}

/// Reads the maps. `epoch` is the interval whose longest times are asked for.
///
/// # Errors
/// The kernel refuses.
pub(super) fn read(object: &Object, stores: &[Store], epoch: u32) -> Result<Snapshot> {
    let mut all = Snapshot::new();
    // Histograms come last: they may be ahead of their rows, never behind.
    for (name, kind) in stores {
        let map = find_map(object, name)?;
        match kind {
            Kind::Calls => {
                for index in 0..map.max_entries() {
                    let key = hello_key {
                        abi: index / NR_MAX,
                        nr: index % NR_MAX,
                        ..Default::default()
                    };
                    let calls = wire::sum_u64(&map, &index.to_ne_bytes())?;
                    if calls > 0 {
                        all.entry(bytes(&key)).or_default().calls += calls;
                    }
                }
            }
            Kind::Timed => {
                for index in 0..map.max_entries() {
                    let mut tally = Tally::default();
                    let cpus = map.lookup_percpu(&index.to_ne_bytes(), MapFlags::ANY)?;
                    for cpu in cpus.iter().flatten() {
                        let timed: hello_timed = wire::decode(cpu)?;
                        tally.add(&timed.row, epoch);
                        for (bucket, count) in (0..).zip(timed.buckets) {
                            tally.spread.add(bucket, count);
                        }
                    }
                    if tally.calls > 0 {
                        all.entry(native(index)).or_default().join(&tally);
                    }
                }
            }
            Kind::Sums => {
                for key in map.keys() {
                    let calls = wire::sum_u64(&map, &key)?;
                    if calls > 0 {
                        all.entry(bytes(&wire::decode(&key)?)).or_default().calls += calls;
                    }
                }
            }
            Kind::Rows => {
                for key in map.keys() {
                    let rows = map.lookup(&key, MapFlags::ANY)?.unwrap_or_default();
                    let mut tally = Tally::default();
                    for cpu in rows.chunks_exact(size_of::<hello_row>()) {
                        tally.add(&wire::decode(cpu)?, epoch);
                    }
                    if tally.calls > 0 {
                        all.entry(bytes(&wire::decode(&key)?))
                            .or_default()
                            .join(&tally);
                    }
                }
            }
            Kind::Buckets => {
                for key in map.keys() {
                    let at: hello_bucket_key = wire::decode(&key)?;
                    let count = wire::sum_u64(&map, &key)?;
                    if let Some(tally) = all.get_mut(&bytes(&at.key)) {
                        tally.spread.add(at.bucket, count);
                    }
                }
            }
        }
    }
    all.values_mut().for_each(Tally::compare);
    Ok(all)
}

const PENDING: i32 = hello_count_limits::HELLO_PENDING.0;

/// What to show of the counters. By error, calls are counted where their result puts
/// them; those that have none stand beside the successful ones, those in flight only
/// with `last`, as a later table has them elsewhere.
pub(super) fn settle(counters: Snapshot, last: bool) -> Result<Snapshot> {
    let mut settled = Snapshot::new();
    for (key, mut tally) in counters {
        let mut at: hello_key = wire::decode(&key)?;
        let in_flight = tally.calls.saturating_sub(tally.gone + tally.returned);
        if at.error == PENDING {
            at.error = 0;
            let in_flight = if last { in_flight } else { 0 };
            tally = Tally {
                calls: tally.gone + in_flight,
                gone: tally.gone,
                in_flight,
                ..Tally::default()
            };
        } else {
            tally.in_flight = in_flight;
        }
        match settled.entry(bytes(&at)) {
            std::collections::hash_map::Entry::Vacant(vacant) => _ = vacant.insert(tally),
            std::collections::hash_map::Entry::Occupied(mut other) => other.get_mut().join(&tally),
        }
    }
    settled.retain(|_, tally| tally.calls > 0);
    Ok(settled)
}

impl Tally {
    pub(super) fn join(&mut self, other: &Self) {
        self.calls += other.calls;
        self.gone += other.gone;
        self.returned += other.returned;
        self.errors += other.errors;
        self.total_ns += other.total_ns;
        self.max_ns = self.max_ns.max(other.max_ns);
        self.in_flight += other.in_flight;
        self.spread.join(&other.spread);
        self.cut |= other.cut;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(epoch: [u32; 2], max_ns: [u64; 2]) -> hello_row {
        hello_row {
            max_ns,
            epoch,
            ..Default::default()
        }
    }

    /// A tally of rows at an epoch, with times in the given buckets.
    fn tally(rows: &[hello_row], epoch: u32, buckets: &[u32]) -> Tally {
        let mut tally = Tally::default();
        rows.iter().for_each(|row| tally.add(row, epoch));
        buckets.iter().for_each(|at| tally.spread.add(*at, 1));
        tally.returned = buckets.len() as u64;
        tally.compare();
        tally.total_ns = tally.returned * 10;
        tally
    }

    #[test]
    fn the_longest_time_is_of_its_interval() {
        // Buckets: 10 for 10 ns, 16 for 16 and 17, 18 for 20 and 21, 32 for 64 to 71.
        let first = tally(&[row([0, 0], [70, 0])], 0, &[10, 32]);
        assert_eq!((first.max_ns, first.mean_ns()), (70, Some(10)));
        // The second interval has a shorter one, on one of two CPUs.
        let rows = [row([0, 1], [70, 20]), row([0, 0], [30, 0])];
        let second = tally(&rows, 1, &[10, 32, 18, 16]);
        let since = second.since(&first);
        assert_eq!((since.returned, since.max_ns), (2, 20));
        // A call that returned while the first table was read: in that, not in the next.
        let early = tally(&[row([0, 1], [10, 70])], 0, &[10, 32]);
        assert_eq!(early.since(&Tally::default()).max_ns, 70);
        let next = tally(&[row([0, 1], [10, 70])], 1, &[10, 32, 16]);
        assert_eq!(next.since(&early).max_ns, 16);
        // A third interval without any.
        let third = tally(&rows, 2, &[10, 32, 18, 16]);
        assert_eq!(third.since(&second).longest_ns(), None);
    }

    #[test]
    fn calls_without_a_result_stand_beside_the_successful_ones() {
        let of = |error| hello_key {
            nr: 7,
            error,
            ..Default::default()
        };
        let pending = Tally {
            calls: 100,
            gone: 2,
            returned: 95,
            ..Tally::default()
        };
        let ended = |calls| Tally {
            calls,
            returned: calls,
            ..Tally::default()
        };
        let counters = Snapshot::from([
            (bytes(&of(PENDING)), pending),
            (bytes(&of(0)), ended(90)),
            (bytes(&of(2)), ended(5)),
        ]);
        let calls = |snapshot: &Snapshot, error| snapshot[&bytes(&of(error))].calls;
        let between = settle(counters.clone(), false).expect("keys are keys");
        assert_eq!((calls(&between, 0), calls(&between, 2)), (92, 5));
        let last = settle(counters, true).expect("keys are keys");
        assert_eq!((calls(&last, 0), calls(&last, 2), last.len()), (95, 5, 2));
        assert_eq!(last[&bytes(&of(0))].in_flight, 3);
    }
}
