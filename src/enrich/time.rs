// SPDX-License-Identifier: BSD-2-Clause
//! Kernel time stamps as wall-clock time.

use std::fmt;

use nix::time::ClockId;

use super::clocks::SECOND;
use super::clocks::read;

/// A change of the difference between the clocks by more than this (ns) is a step of
/// the wall clock or a time of suspend.
const STEP: u64 = 1_000_000;

/// An event that differs from the clocks as read here by less than this (ns) says
/// the same: its two clocks are read one after the other, and in between comes an
/// interrupt at times.
const NEAR: u64 = STEP / 2;

/// So much (ns) may pass at worst: the program was preempted, or its CPU stolen.
const DELAY: i128 = 100_000_000;

/// Clocks read within so much (ns) are read well; else hello was interrupted.
const WIDTH: u64 = 100_000;

/// So many steps are remembered: far more than there can be events waiting for.
const STEPS: usize = 64;

/// What to add to CLOCK_MONOTONIC to get CLOCK_REALTIME, as it was at each moment.
///
/// One difference will not do: the wall clock is stepped, and CLOCK_MONOTONIC stands
/// still in suspend. Between such steps it is constant, as both clocks are slewed
/// alike. An event is told by the difference that held when it happened, not by
/// today's; its second clock (`hello_task.wall`) says which one that was.
///
/// It is not told by its second clock itself, except where nothing else is known:
/// the two are not read in one instant, so of two events on two CPUs the first could
/// then be told as the later one.
#[derive(Clone, Debug)]
pub struct Clock {
    /// The last one holds.
    steps: Vec<Step>,
    /// CLOCK_TAI minus CLOCK_REALTIME, whole seconds: now, and before that was set.
    tai: [i128; 2],
    /// When the clocks were last read.
    read_at: u64,
}

/// What held from some time on.
#[derive(Clone, Copy, Debug)]
struct Step {
    /// When it was seen first: CLOCK_MONOTONIC, ns.
    since: u64,
    /// CLOCK_REALTIME minus CLOCK_MONOTONIC.
    mono: i128,
    /// CLOCK_REALTIME minus CLOCK_BOOTTIME.
    boot: i128,
}

impl Step {
    fn distance(&self, other: &Self) -> u128 {
        let mono = self.mono.abs_diff(other.mono);
        mono.max(self.boot.abs_diff(other.boot))
    }
}

/// All clocks, read one after the other.
#[derive(Clone, Copy, Debug)]
struct Reading {
    step: Step,
    tai: i128,
    /// How long that took, and so how far from the truth it can be.
    width: u64,
}

impl Reading {
    fn take() -> Self {
        let before = read(ClockId::CLOCK_MONOTONIC);
        let boot = read(ClockId::CLOCK_BOOTTIME);
        let real = read(ClockId::CLOCK_REALTIME);
        let tai = read(ClockId::CLOCK_TAI);
        let after = read(ClockId::CLOCK_MONOTONIC);
        Self {
            step: Step {
                since: u64::try_from(after).unwrap_or(0),
                mono: real - i128::midpoint(before, after),
                boot: real - boot,
            },
            tai: (tai - real + SECOND / 2).div_euclid(SECOND) * SECOND,
            width: u64::try_from(after - before).unwrap_or(u64::MAX),
        }
    }

    /// The best of a few.
    fn good() -> Self {
        let mut best = Self::take();
        for _ in 0..4 {
            if best.width <= WIDTH {
                break;
            }
            let again = Self::take();
            if again.width < best.width {
                best = again;
            }
        }
        best
    }
}

impl Clock {
    /// Reads all clocks.
    pub fn now() -> Self {
        let reading = Reading::good();
        let first = Step {
            since: 0,
            ..reading.step
        };
        Self {
            steps: vec![first],
            tai: [reading.tai; 2],
            read_at: reading.step.since,
        }
    }

    /// Reads them again: now and then, and at once when the wall clock was set.
    pub fn refresh(&mut self) {
        self.observe(Reading::good());
    }

    fn observe(&mut self, reading: Reading) {
        self.read_at = reading.step.since;
        if reading.width <= WIDTH && reading.tai != self.tai[0] {
            self.tai = [reading.tai, self.tai[0]];
        }
        let last = self.steps.len() - 1;
        let by = reading.step.distance(&self.steps[last]);
        if by <= u128::from(reading.width) {
            // No more than it is uncertain: the clocks are where they were, and what
            // is told stays in order.
        } else if by < u128::from(STEP) {
            self.steps[last].mono = reading.step.mono;
            self.steps[last].boot = reading.step.boot;
        } else {
            if self.steps.len() == STEPS {
                self.steps.remove(0);
            }
            self.steps.push(reading.step);
        }
    }

    /// When the clocks were read (CLOCK_MONOTONIC, ns).
    pub fn read_at(&self) -> u64 {
        self.read_at
    }

    fn step_at(&self, ktime: u64) -> Step {
        let later = self.steps.partition_point(|step| step.since <= ktime);
        self.steps[later.max(1) - 1]
    }

    /// The time of day (CLOCK_REALTIME, ns) at `ktime` (CLOCK_MONOTONIC, ns;
    /// `bpf_ktime_get_ns`), as far as it was seen from here: for some time after a
    /// step the one of before.
    pub fn wall(&self, ktime: u64) -> u64 {
        add(ktime, self.step_at(ktime).mono)
    }

    /// The time of day of an event, from the two clocks in its `hello_task`.
    pub fn event(&mut self, ktime: u64, wall: i64) -> u64 {
        if wall == 0 {
            return self.wall(ktime);
        }
        let mut known = self.known(ktime, wall);
        if known.is_none() && self.read_at <= ktime {
            // The clock was stepped after it was read, and before the event.
            self.refresh();
            known = self.known(ktime, wall);
        }
        let mono = known
            .or_else(|| self.delayed(ktime, wall))
            .unwrap_or_else(|| self.says(ktime, wall, self.tai[0]));
        add(ktime, mono)
    }

    /// What the event itself says to add to its `ktime`.
    fn says(&self, ktime: u64, wall: i64, tai: i128) -> i128 {
        let clock = i128::from(wall);
        let real = if clock > 0 {
            clock - tai
        } else {
            -clock + self.step_at(ktime).boot
        };
        real - i128::from(ktime)
    }

    /// The same as it was read here, which is exact; `None` if it never was.
    fn known(&self, ktime: u64, wall: i64) -> Option<i128> {
        let now = self.step_at(ktime).mono;
        let newest_first = self.steps.iter().rev().map(|step| step.mono);
        let near = |says: i128, mono: &i128| says.abs_diff(*mono) < u128::from(NEAR);
        for tai in self.tai {
            let says = self.says(ktime, wall, tai);
            let mut candidates = std::iter::once(now).chain(newest_first.clone());
            if let Some(mono) = candidates.find(|mono| near(says, mono)) {
                return Some(mono);
            }
        }
        None
    }

    /// The same of an event whose second clock was read late.
    fn delayed(&self, ktime: u64, wall: i64) -> Option<i128> {
        let says = self.says(ktime, wall, self.tai[0]);
        let steps = self.steps.iter().map(|step| step.mono);
        steps
            .filter(|mono| (0..DELAY).contains(&(says - mono)))
            .max()
    }
}

fn add(ktime: u64, mono: i128) -> u64 {
    u64::try_from(i128::from(ktime) + mono).unwrap_or(0)
}

/// A length of time for people, in three digits or so: `812ns`, `12.3us`, `1.50ms`,
/// `101s`, `20m34s`, `5h07m`, `2d07h`.
#[derive(Clone, Copy, Debug)]
pub struct Length(
    /// Nanoseconds.
    pub u64,
);

impl fmt::Display for Length {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let seconds = self.0 / 1_000_000_000;
        match seconds {
            0..600 => short(f, self.0),
            600..3600 => write!(f, "{}m{:02}s", seconds / 60, seconds % 60),
            3600..172_800 => write!(f, "{}h{:02}m", seconds / 3600, seconds / 60 % 60),
            _ => write!(f, "{}d{:02}h", seconds / 86_400, seconds / 3600 % 24),
        }
    }
}

/// Three digits and a unit.
fn short(f: &mut fmt::Formatter<'_>, ns: u64) -> fmt::Result {
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
        _ if size == 1 => write!(f, "{ns}{unit}"),
        0..10 => write!(f, "{whole}.{:02}{unit}", hundredths % 100),
        10..100 => write!(f, "{whole}.{}{unit}", hundredths % 100 / 10),
        _ => write!(f, "{whole}{unit}"),
    }
}

#[cfg(test)]
mod tests {
    use super::super::stamp::Stamps;
    use super::*;
    use crate::enrich::clocks::ktime;

    const START: i128 = 1_772_280_000_000_000_000;
    const HOUR: i128 = 3600 * SECOND;
    const TAI: i128 = 37 * SECOND;

    fn reading(since: u64, mono: i128, boot: i128) -> Reading {
        Reading {
            step: Step { since, mono, boot },
            tai: TAI,
            width: 100,
        }
    }

    /// Read in the future, so that it is not read again.
    fn clock() -> Clock {
        Clock {
            steps: vec![reading(0, START, START).step],
            tai: [TAI; 2],
            read_at: u64::MAX,
        }
    }

    fn hour(wall: u64) -> String {
        String::from_utf8_lossy(&Stamps::default().of(wall)[11..19]).into_owned()
    }

    fn tai(ktime: u64, mono: i128) -> i64 {
        i64::try_from(i128::from(ktime) + mono + TAI).expect("before 2262")
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
            assert_eq!(Length(ns).to_string(), text);
        }
    }

    #[test]
    fn nanoseconds_survive() {
        let text = Stamps::default().of(clock().wall(1));
        assert_eq!(&text, b"2026-02-28T12:00:00.000000001Z");
    }

    #[test]
    fn a_step_moves_only_what_comes_after() {
        let mut clock = clock();
        clock.observe(reading(1000, START + 300_000, START)); // no step yet
        clock.observe(reading(2000, START + HOUR, START));
        clock.observe(reading(3000, START - HOUR, START));
        assert_eq!(hour(clock.wall(1999)), "12:00:00");
        assert_eq!(hour(clock.wall(2000)), "13:00:00");
        assert_eq!(hour(clock.wall(9999)), "11:00:00");
        assert_eq!(clock.steps.len(), 3);
    }

    #[test]
    fn readings_that_took_long_are_no_steps_and_steps_are_bounded() {
        let mut clock = clock();
        clock.observe(Reading {
            width: 9_000_000,
            ..reading(1000, START + 4_000_000, START)
        });
        assert_eq!(clock.steps.len(), 1);
        assert_eq!(clock.steps[0].mono, START);
        for number in 0..1000u64 {
            let mono = START + i128::from(number % 2 + 1) * HOUR;
            clock.observe(reading(2000 + number, mono, START));
        }
        assert_eq!(clock.steps.len(), STEPS);
        assert_eq!(hour(clock.wall(9999)), "14:00:00");
    }

    #[test]
    fn events_say_when_the_step_was() {
        let mut clock = clock();
        clock.observe(reading(5000, START + HOUR, START + HOUR));
        // Stepped at 3000, seen at 5000; a little passes between an event's clocks.
        let told = clock.event(2000, tai(2000, START) + 700);
        assert_eq!(i128::from(told), 2000 + START);
        let told = clock.event(4000, tai(4000, START + HOUR) + 900);
        assert_eq!(i128::from(told), 4000 + START + HOUR);
        let told = clock.event(6000, tai(6000, START + HOUR));
        assert_eq!(i128::from(told), 6000 + START + HOUR);
        // Interrupted between the two.
        let told = clock.event(4000, tai(4000, START + HOUR) + 9_000_000);
        assert_eq!(i128::from(told), 4000 + START + HOUR);
        // Stepped twice before anybody looked.
        let told = clock.event(4500, tai(4500, START + 2 * HOUR));
        assert_eq!(i128::from(told), 4500 + START + 2 * HOUR);
    }

    #[test]
    fn leap_seconds_may_be_set_late() {
        let mut clock = clock();
        let event = tai(1000, START);
        clock.observe(Reading {
            tai: 0,
            ..reading(2000, START, START)
        });
        assert_eq!(i128::from(clock.event(1000, event)), 1000 + START);
        let event = event - i64::try_from(TAI).expect("small");
        assert_eq!(i128::from(clock.event(1000, event)), 1000 + START);
    }

    #[test]
    fn boot_time_tells_of_suspend() {
        let mut clock = clock();
        // Woken at 3000 after an hour, seen at 5000.
        clock.observe(reading(5000, START + HOUR, START));
        let boot = |ktime: u64, slept: i128| {
            -i64::try_from(i128::from(ktime) + slept).expect("before 2262")
        };
        let told = clock.event(2000, boot(2000, 50));
        assert_eq!(i128::from(told), 2000 + START);
        let told = clock.event(4000, boot(4000, HOUR + 50));
        assert_eq!(i128::from(told), 4000 + START + HOUR);
    }

    #[test]
    fn this_clock_is_the_system_s() {
        let mut clock = Clock::now();
        let before = read(ClockId::CLOCK_REALTIME);
        let event = ktime();
        let tai = i64::try_from(read(ClockId::CLOCK_TAI)).expect("before 2262");
        let after = read(ClockId::CLOCK_REALTIME);
        clock.refresh();
        let told = i128::from(clock.event(event, tai));
        let error = i128::from(STEP);
        assert!((before - error..after + error).contains(&told));
    }
}
