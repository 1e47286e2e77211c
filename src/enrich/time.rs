// SPDX-License-Identifier: BSD-2-Clause
//! Kernel time stamps as wall-clock time.

use std::time::Duration;
use std::time::SystemTime;
use std::time::UNIX_EPOCH;

use nix::time::ClockId;
use nix::time::clock_gettime;

/// What to add to CLOCK_MONOTONIC to get CLOCK_REALTIME, at one moment.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Clock {
    /// Nanoseconds.
    offset: i128,
    /// CLOCK_MONOTONIC then, nanoseconds.
    read_at: u64,
}

impl Clock {
    /// Reads both clocks. To be read again now and then: the wall clock is
    /// stepped and slewed, and CLOCK_MONOTONIC stands still in suspend.
    pub fn now() -> Self {
        let read = |id| {
            clock_gettime(id).map_or(0, |t| {
                i128::from(t.tv_sec()) * 1_000_000_000 + i128::from(t.tv_nsec())
            })
        };
        let before = read(ClockId::CLOCK_MONOTONIC);
        let real = read(ClockId::CLOCK_REALTIME);
        let after = read(ClockId::CLOCK_MONOTONIC);
        Self {
            offset: real - (before + after) / 2,
            read_at: u64::try_from(after).unwrap_or(0),
        }
    }

    /// With a given difference, for tests.
    pub fn fixed(offset: Duration) -> Self {
        Self {
            offset: i128::try_from(offset.as_nanos()).unwrap_or(i128::MAX),
            read_at: 0,
        }
    }

    /// The time at which the clocks were read, as RFC 3339.
    pub fn wall(&self) -> humantime::Rfc3339Timestamp {
        self.rfc3339(self.read_at)
    }

    /// `ktime` (CLOCK_MONOTONIC, ns; `bpf_ktime_get_ns`) as RFC 3339 in UTC with
    /// nanoseconds: `2026-02-28T12:00:00.000000001Z`.
    pub fn rfc3339(&self, ktime: u64) -> humantime::Rfc3339Timestamp {
        let nanos = u64::try_from(i128::from(ktime) + self.offset).unwrap_or(0);
        let time: SystemTime = UNIX_EPOCH + Duration::from_nanos(nanos);
        humantime::format_rfc3339_nanos(time)
    }
}

/// A length of time for people, in three digits: `812ns`, `12.3us`, `1.50ms`, `101s`.
pub fn length(ns: u64) -> String {
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
            (u64::MAX, "18446744073s"),
        ] {
            assert_eq!(length(ns), text);
        }
    }

    #[test]
    fn nanoseconds_survive() {
        let clock = Clock::fixed(Duration::from_secs(1_772_280_000));
        assert_eq!(
            clock.rfc3339(1).to_string(),
            "2026-02-28T12:00:00.000000001Z"
        );
    }
}
