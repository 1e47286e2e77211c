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
use crate::wire::types::hello_bucket_count;
use crate::wire::types::hello_bucket_key;
use crate::wire::types::hello_count_limits;
use crate::wire::types::hello_key;
use crate::wire::types::hello_row;
use crate::wire::types::hello_sum;
use crate::wire::types::hello_tally;
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
    /// How many calls that is the time of.
    pub(super) timed: u64,
    /// Of `calls`, where some stand for others that were left out (`--max-cpu`).
    pub(super) variance: u64,
    pub(super) max_ns: u64,
    pub(super) in_flight: u64,
    pub(super) spread: Spread,
}

impl Tally {
    fn add_sum(&mut self, sum: &hello_sum) {
        self.calls += sum.calls;
        self.variance += sum.variance;
    }

    /// Adds what `tally` has. Its longest time counts if it is of `epoch`.
    fn add(&mut self, tally: &hello_tally, epoch: u32) {
        self.add_sum(&tally.sum);
        self.gone += tally.gone;
        self.returned += tally.returned;
        self.errors += tally.errors;
        self.total_ns += tally.total_ns;
        self.timed += tally.timed;
        if tally.epoch == u64::from(epoch) {
            self.max_ns = self.max_ns.max(tally.max_ns);
        }
    }

    /// What came since `old`. Calls in flight are those that are so now, and the longest
    /// time is the one that is told.
    pub(super) fn since(&self, old: &Self) -> Self {
        Self {
            calls: self.calls.saturating_sub(old.calls),
            gone: self.gone.saturating_sub(old.gone),
            returned: self.returned.saturating_sub(old.returned),
            errors: self.errors.saturating_sub(old.errors),
            total_ns: self.total_ns.saturating_sub(old.total_ns),
            timed: self.timed.saturating_sub(old.timed),
            variance: self.variance.saturating_sub(old.variance),
            max_ns: self.max_ns,
            in_flight: self.in_flight,
            spread: self.spread.since(&old.spread),
        }
    }

    /// Have the same calls begun and returned?
    pub(super) fn counts_as(&self, other: &Self) -> bool {
        let of = |tally: &Self| (tally.calls, tally.gone, tally.returned);
        of(self) == of(other)
    }

    /// Has nothing happened? A call may have begun in an epoch of the other parity.
    fn is_empty(&self) -> bool {
        self.calls + self.gone + self.returned == 0
    }

    /// How far `calls` may be off, in 19 of 20 cases, where one of `every` may have been
    /// taken: two standard deviations, of three calls taken more than there were. So it is
    /// right as well for a key of which few or none were.
    pub(super) fn margin(&self, every: u32) -> u64 {
        let one = f64::from(every) * f64::from(every.saturating_sub(1));
        // Of 64 bits a float has the first 53: enough for an error.
        (2.0 * (self.variance as f64 + 3.0 * one).sqrt()).ceil() as u64
    }

    pub(super) fn mean_ns(&self) -> Option<u64> {
        self.total_ns.checked_div(self.timed)
    }

    /// Is there a time that found no room in the histogram?
    pub(super) fn is_cut(&self) -> bool {
        self.spread.len() < self.timed
    }

    /// See [`Spread::percentile`]; none of a histogram that is not whole.
    pub(super) fn percentile(&self, percent: u32) -> Option<u64> {
        let told = self.spread.percentile(percent).filter(|_| !self.is_cut());
        // The middle of the last bucket may be beyond all that is in it.
        told.map(|ns| ns.min(self.max_ns))
    }

    pub(super) fn longest_ns(&self) -> Option<u64> {
        (self.timed > 0).then_some(self.max_ns)
    }
}

/// All counters that are not zero.
pub(super) type Snapshot = HashMap<Key, Tally>;

fn bytes(key: &hello_key) -> Key {
    wire::bytes(key).try_into().unwrap_or([0; size_of::<Key>()])
}

/// The key in the bytes of a map's key.
pub(super) fn id(key: &[u8]) -> Result<Key> {
    Ok(bytes(&wire::decode(key)?))
}

/// What the rows of a key say, of all CPUs, of even and odd epochs: the calls that were
/// made in each, with the longest time of one of them.
pub(super) fn of_rows(rows: &[u8], epoch: u32) -> Result<[Tally; 2]> {
    let mut parts = [Tally::default(), Tally::default()];
    for cpu in rows.chunks_exact(size_of::<hello_row>()) {
        let row: hello_row = wire::decode(cpu)?;
        for (part, tally) in parts.iter_mut().zip(&row.by_parity) {
            part.add(tally, epoch);
        }
    }
    Ok(parts)
}

/// What both have together.
pub(super) fn join(mut one: Snapshot, other: &Snapshot) -> Snapshot {
    for (key, tally) in other {
        one.entry(*key).or_default().join(tally);
    }
    one
}

fn native(nr: u32) -> Key {
    bytes(&hello_key {
        nr,
        ..Default::default()
    })
}

/// Reads from the maps what has happened in the even or in the odd epochs up to `epoch`,
/// which is of that parity. Counters that are not kept apart by it are even.
///
/// # Errors
/// The kernel refuses.
pub(super) fn read(object: &Object, stores: &[Store], epoch: u32) -> Result<Snapshot> {
    let parity = (epoch % 2) as usize;
    let mut all = Snapshot::new();
    for (name, kind) in stores {
        let map = find_map(object, name)?;
        match kind {
            Kind::Calls | Kind::Sums if parity != 0 => {}
            Kind::Calls => {
                for index in 0..map.max_entries() {
                    let key = hello_key {
                        abi: index / NR_MAX,
                        nr: index % NR_MAX,
                        ..Default::default()
                    };
                    let cpus = map.lookup_percpu(&index.to_ne_bytes(), MapFlags::ANY)?;
                    let mut tally = Tally::default();
                    for cpu in cpus.iter().flatten() {
                        tally.add_sum(&wire::decode(cpu)?);
                    }
                    if tally.calls > 0 {
                        all.entry(bytes(&key)).or_default().join(&tally);
                    }
                }
            }
            Kind::Timed => {
                for index in 0..map.max_entries() {
                    let mut tally = Tally::default();
                    let cpus = map.lookup_percpu(&index.to_ne_bytes(), MapFlags::ANY)?;
                    for cpu in cpus.iter().flatten() {
                        let timed: hello_timed = wire::decode(cpu)?;
                        tally.add(&timed.row.by_parity[parity], epoch);
                        for (bucket, count) in (0..).zip(timed.by_parity[parity].buckets) {
                            tally.spread.add(bucket, count);
                        }
                    }
                    if !tally.is_empty() {
                        all.entry(native(index)).or_default().join(&tally);
                    }
                }
            }
            Kind::Sums => {
                for key in map.keys() {
                    let calls = wire::sum_u64(&map, &key)?;
                    if calls > 0 {
                        all.entry(id(&key)?).or_default().calls += calls;
                    }
                }
            }
            Kind::Rows => {
                for key in map.keys() {
                    let rows = map.lookup(&key, MapFlags::ANY)?.unwrap_or_default();
                    let tally = &of_rows(&rows, epoch)?[parity];
                    if !tally.is_empty() {
                        all.entry(id(&key)?).or_default().join(tally);
                    }
                }
            }
            Kind::Buckets => {
                for key in map.keys() {
                    let at: hello_bucket_key = wire::decode(&key)?;
                    let Some(tally) = all.get_mut(&bytes(&at.key)) else {
                        continue;
                    };
                    let value = map.lookup(&key, MapFlags::ANY)?.unwrap_or_default();
                    let count: hello_bucket_count = wire::decode(&value)?;
                    tally.spread.add(at.bucket, count.by_parity[parity]);
                }
            }
        }
    }
    Ok(all)
}

const PENDING: i32 = hello_count_limits::HELLO_PENDING.0;

/// What to show of the counters. By error, calls are counted where their result puts
/// them; those that have none stand beside the successful ones, those in flight only
/// with `last`, as a later table has them elsewhere.
pub(super) fn settle(mut counters: Snapshot, last: bool) -> Result<Snapshot> {
    let mut pending = Vec::new();
    for (key, tally) in &mut counters {
        tally.in_flight = tally.calls.saturating_sub(tally.gone + tally.returned);
        let at: hello_key = wire::decode(key)?;
        if at.error == PENDING {
            pending.push((*key, at));
        }
    }
    for (key, at) in pending {
        let tally = counters.remove(&key).unwrap_or_default();
        let in_flight = if last { tally.in_flight } else { 0 };
        let successful = bytes(&hello_key { error: 0, ..at });
        counters.entry(successful).or_default().join(&Tally {
            calls: tally.gone + in_flight,
            gone: tally.gone,
            in_flight,
            ..Tally::default()
        });
    }
    counters.retain(|_, tally| tally.calls > 0);
    Ok(counters)
}

impl Tally {
    pub(super) fn join(&mut self, other: &Self) {
        self.calls += other.calls;
        self.gone += other.gone;
        self.returned += other.returned;
        self.errors += other.errors;
        self.total_ns += other.total_ns;
        self.timed += other.timed;
        self.variance += other.variance;
        self.max_ns = self.max_ns.max(other.max_ns);
        self.in_flight += other.in_flight;
        self.spread.join(&other.spread);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A tally of what CPUs say, and one time in each of the buckets.
    fn tally(cpus: &[(u64, u64)], epoch: u32, buckets: &[u32]) -> Tally {
        let mut tally = Tally::default();
        for &(of, max_ns) in cpus {
            let cpu = hello_tally {
                epoch: of,
                max_ns,
                ..Default::default()
            };
            tally.add(&cpu, epoch);
        }
        buckets.iter().for_each(|at| tally.spread.add(*at, 1));
        tally.returned = buckets.len() as u64;
        tally.timed = tally.returned;
        tally.total_ns = tally.returned * 10;
        tally
    }

    #[test]
    fn margins() {
        let mut tally = Tally::default();
        assert_eq!(tally.margin(1), 0);
        // Of none taken there were at most 3.46 times as many, in 97 of 100 cases.
        assert_eq!(tally.margin(1024), 3546);
        tally.variance = 50 * 8 * 7;
        assert_eq!((tally.margin(1), tally.margin(8)), (106, 109));
    }

    #[test]
    fn the_longest_time_is_of_its_epoch() {
        let first = tally(&[(0, 70), (0, 10)], 0, &[10, 32]);
        assert_eq!((first.max_ns, first.mean_ns()), (70, Some(10)));
        // Two epochs later, on one of the CPUs.
        let third = tally(&[(0, 70), (2, 20)], 2, &[10, 32, 18, 16]);
        let since = third.since(&first);
        assert_eq!((since.returned, since.max_ns), (2, 20));
        // Without any.
        let fifth = tally(&[(0, 70), (2, 20)], 4, &[10, 32, 18, 16]);
        assert_eq!(fifth.since(&third).longest_ns(), None);
    }

    #[test]
    fn no_percentile_beyond_the_longest_or_of_a_part() {
        let mut tally = tally(&[(0, 16)], 0, &[10, 10, 16]);
        tally.max_ns = 16; // of 16 and 17
        let both = |tally: &Tally| (tally.percentile(50), tally.percentile(99));
        assert_eq!(both(&tally), (Some(10), Some(16)));
        tally.timed = 4;
        assert!(tally.is_cut());
        assert_eq!(both(&tally), (None, None));
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
