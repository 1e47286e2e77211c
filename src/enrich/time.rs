// SPDX-License-Identifier: BSD-2-Clause
//! Kernel time stamps as wall-clock time.

use std::time::Duration;
use std::time::SystemTime;
use std::time::UNIX_EPOCH;

use nix::time::ClockId;
use nix::time::clock_gettime;

/// A change of the difference between the clocks by more than this (ns) is a step of
/// the wall clock or a time of suspend; less is slewing.
const STEP: u128 = 1_000_000;

/// What to add to CLOCK_MONOTONIC to get CLOCK_REALTIME, as it was at each moment.
///
/// One difference will not do: the wall clock is slewed and stepped, and
/// CLOCK_MONOTONIC stands still in suspend. An event is told by the difference that
/// held when it happened, not by today's.
#[derive(Clone, Debug)]
pub struct Clock {
    /// Since when (CLOCK_MONOTONIC, ns), and the difference (ns); the last one holds.
    steps: Vec<(u64, i128)>,
    /// When the clocks were last read.
    read_at: u64,
}

/// Nanoseconds of a clock.
fn read(id: ClockId) -> i128 {
    clock_gettime(id).map_or(0, |t| {
        i128::from(t.tv_sec()) * 1_000_000_000 + i128::from(t.tv_nsec())
    })
}

/// CLOCK_MONOTONIC in nanoseconds, the kernel side's `bpf_ktime_get_ns`.
pub fn ktime() -> u64 {
    u64::try_from(read(ClockId::CLOCK_MONOTONIC)).unwrap_or(0)
}

impl Clock {
    /// Reads both clocks.
    pub fn now() -> Self {
        let mut clock = Self {
            steps: Vec::new(),
            read_at: 0,
        };
        clock.refresh();
        clock
    }

    /// Reads them again: now and then, and at once when the wall clock was set.
    pub fn refresh(&mut self) {
        let before = read(ClockId::CLOCK_MONOTONIC);
        let real = read(ClockId::CLOCK_REALTIME);
        let after = read(ClockId::CLOCK_MONOTONIC);
        let at = u64::try_from(after).unwrap_or(0);
        self.observe(at, real - i128::midpoint(before, after));
    }

    fn observe(&mut self, at: u64, offset: i128) {
        self.read_at = at;
        match self.steps.last_mut() {
            Some((_, last)) if last.abs_diff(offset) < STEP => *last = offset,
            Some(_) => self.steps.push((at, offset)),
            None => self.steps.push((0, offset)),
        }
    }

    /// The time at which the clocks were read, as RFC 3339.
    pub fn wall(&self) -> humantime::Rfc3339Timestamp {
        self.rfc3339(self.read_at)
    }

    /// When the clocks were read (CLOCK_MONOTONIC, ns).
    pub fn read_at(&self) -> u64 {
        self.read_at
    }

    /// `ktime` (CLOCK_MONOTONIC, ns; `bpf_ktime_get_ns`) as RFC 3339 in UTC with
    /// nanoseconds: `2026-02-28T12:00:00.000000001Z`.
    pub fn rfc3339(&self, ktime: u64) -> humantime::Rfc3339Timestamp {
        let later = self.steps.partition_point(|(since, _)| *since <= ktime);
        let offset = self.steps.get(later.max(1) - 1).map_or(0, |step| step.1);
        let nanos = u64::try_from(i128::from(ktime) + offset).unwrap_or(0);
        let time: SystemTime = UNIX_EPOCH + Duration::from_nanos(nanos);
        humantime::format_rfc3339_nanos(time)
    }
}

/// A length of time for people, in three digits or so: `812ns`, `12.3us`, `1.50ms`,
/// `101s`, `20m34s`, `5h07m`, `2d07h`.
pub fn length(ns: u64) -> String {
    let seconds = ns / 1_000_000_000;
    match seconds {
        0..600 => {}
        600..3600 => return format!("{}m{:02}s", seconds / 60, seconds % 60),
        3600..172_800 => return format!("{}h{:02}m", seconds / 3600, seconds / 60 % 60),
        _ => return format!("{}d{:02}h", seconds / 86_400, seconds / 3600 % 24),
    }
    let units: [(_, u64); 4] = [
        ("ns", 1),
        ("us", 1_000),
        ("ms", 1_000_000),
        ("s", 1_000_000_000),
    ];
    let (unit, size) = units
        .into_iter()
        .rev()
        .find(|(_, size)| ns >= *size)
        .unwrap_or(units[0]);
    // Rounded down, so that 999.9 does not become 1000.
    let hundredths = u128::from(ns) * 100 / u128::from(size);
    let whole = hundredths / 100;
    match whole {
        _ if size == 1 => format!("{ns}{unit}"),
        0..10 => format!("{whole}.{:02}{unit}", hundredths % 100),
        10..100 => format!("{whole}.{}{unit}", hundredths % 100 / 10),
        _ => format!("{whole}{unit}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const START: i128 = 1_772_280_000_000_000_000;
    const HOUR: i128 = 3_600_000_000_000;

    fn clock() -> Clock {
        Clock {
            steps: vec![(0, START)],
            read_at: 0,
        }
    }

    #[test]
    fn lengths() {
        for (ns, text) in [
            (0, "0ns"),
            (999, "999ns"),
            (1_000, "1.00us"),
            (12_399, "12.3us"),
            (999_999, "999us"),
            (1_500_000, "1.50ms"),
            (101_000_000_000, "101s"),
            (1_234_000_000_000, "20m34s"),
            (18_420_000_000_000, "5h07m"),
            (200_000_000_000_000, "2d07h"),
            (u64::MAX, "213503d23h"),
        ] {
            assert_eq!(length(ns), text);
        }
    }

    #[test]
    fn nanoseconds_survive() {
        let text = clock().rfc3339(1).to_string();
        assert_eq!(text, "2026-02-28T12:00:00.000000001Z");
    }

    #[test]
    fn a_step_moves_only_what_comes_after() {
        let mut clock = clock();
        clock.observe(1000, START + 300_000); // slewed: still the same clock
        clock.observe(2000, START + HOUR);
        clock.observe(3000, START - HOUR);
        let hours = |ktime| clock.rfc3339(ktime).to_string()[11..19].to_owned();
        assert_eq!(hours(1999), "12:00:00");
        assert_eq!(hours(2000), "13:00:00");
        assert_eq!(hours(9999), "11:00:00");
        assert_eq!(clock.steps.len(), 3);
    }
}
