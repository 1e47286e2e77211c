// SPDX-License-Identifier: BSD-2-Clause
//! `--max-cpu`: a budget for what the programs cost, kept by looking less closely.

/// The fewest calls that are ever counted: one of so many. Below, a call that is left out
/// costs as much as it would save.
pub const EVERY_MAX: u32 = 1024;

/// Windows within half of the budget before hello looks more closely again …
const CALM: u32 = 3;

/// … and at the most, where each time that it did the budget was exceeded again at once.
const CALM_MAX: u32 = 24;

/// How closely the kernel side looks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Level {
    /// Calls are timed, where the mode does.
    pub timing: bool,
    /// One call of so many is counted, for all of them; 1 for each.
    pub every: u32,
}

impl Default for Level {
    fn default() -> Self {
        Self {
            timing: true,
            every: 1,
        }
    }
}

impl std::fmt::Display for Level {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match *self {
            Self { every: 1, timing } if timing => write!(f, "all is counted, exactly"),
            Self { every: 1, .. } => write!(f, "all is counted, exactly, but not timed"),
            Self { every, .. } => write!(f, "1 of {every} calls is counted, counts are estimates"),
        }
    }
}

/// The budget of a run, and what it has led to.
#[derive(Debug)]
pub(super) struct Budget {
    /// Share of one CPU.
    limit: f64,
    can_time: bool,
    level: Level,
    /// Windows in a row within half of the budget, and how many it takes.
    calm: u32,
    needed: u32,
    /// Windows until it is known that the budget allows to look as closely as it does now.
    on_trial: u32,
    /// Calls have been left out.
    has_sampled: bool,
    /// That the least is too much has been said, of this load.
    has_given_up: bool,
}

impl Budget {
    /// Of so many percent of one CPU, for a mode that times calls or does not.
    pub(super) fn new(percent: f64, can_time: bool) -> Self {
        Self {
            limit: percent / 100.0,
            can_time,
            level: Level::default(),
            calm: 0,
            needed: CALM,
            on_trial: 0,
            has_sampled: false,
            has_given_up: false,
        }
    }

    /// Have counts been estimated?
    pub(super) fn has_sampled(&self) -> bool {
        self.has_sampled
    }

    /// Takes note of what the programs cost in a window, as a share of one CPU. Says, and
    /// returns, what is to be done differently.
    pub(super) fn judge(&mut self, cost: f64) -> Option<Level> {
        let next = self.next(cost);
        if next == self.level {
            return None;
        }
        crate::say!(
            "hello: --max-cpu: programs take {:.2} % of a CPU: {next}",
            cost * 100.0
        );
        self.level = next;
        self.has_sampled |= next.every > 1;
        Some(next)
    }

    fn next(&mut self, cost: f64) -> Level {
        let Level { timing, every } = self.level;
        if cost > self.limit {
            self.calm = 0;
            if std::mem::take(&mut self.on_trial) > 0 {
                self.needed = (self.needed * 2).min(CALM_MAX);
            }
            return if timing && self.can_time {
                Level {
                    timing: false,
                    every,
                }
            } else {
                self.sample(cost, every)
            };
        }
        if self.on_trial > 0 {
            self.on_trial -= 1;
            if self.on_trial == 0 {
                self.needed = CALM;
            }
        }
        if cost > self.limit / 2.0 {
            self.calm = 0;
            return self.level;
        }
        self.calm += 1;
        if self.calm < self.needed || self.level == Level::default() {
            return self.level;
        }
        // What all the cost would be if each call counted took its part of it: no less
        // than it will be.
        let mut next = every;
        while next > 1 && cost * f64::from(every) <= self.limit * 0.8 * f64::from(next / 2) {
            next /= 2;
        }
        let next = Level {
            timing: timing || every == 1,
            every: next,
        };
        if next != self.level {
            self.calm = 0;
            self.has_given_up = false;
            self.on_trial = CALM;
        }
        next
    }

    /// The next power of two that would do if all the cost went by the calls counted.
    fn sample(&mut self, cost: f64, every: u32) -> Level {
        let mut next = every;
        while next < EVERY_MAX && cost * f64::from(every) > self.limit * f64::from(next) {
            next *= 2;
        }
        if next == every && !std::mem::replace(&mut self.has_given_up, true) {
            crate::say!(
                "hello: --max-cpu: programs take {:.2} % of a CPU, and no less can be had",
                cost * 100.0
            );
        }
        Level {
            timing: self.level.timing,
            every: next,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn level(timing: bool, every: u32) -> Level {
        Level { timing, every }
    }

    #[test]
    fn first_no_times_then_fewer_calls_and_back() {
        let mut budget = Budget::new(2.0, true);
        assert_eq!(budget.judge(0.019), None);
        assert_eq!(budget.judge(0.09), Some(level(false, 1)));
        assert_eq!(budget.judge(0.07), Some(level(false, 4)));
        assert_eq!(budget.judge(0.015), None);
        assert!(budget.has_sampled());
        let mut levels = Vec::new();
        for cost in [
            0.005, 0.005, 0.005, 0.001, 0.001, 0.001, 0.001, 0.001, 0.001,
        ] {
            levels.extend(budget.judge(cost));
        }
        assert_eq!(levels, [level(false, 2), level(false, 1), level(true, 1)]);
        assert_eq!(budget.judge(0.001), None);
    }

    #[test]
    fn who_was_wrong_waits_longer() {
        let mut budget = Budget::new(1.0, false);
        assert_eq!(budget.judge(0.019), Some(level(true, 2)));
        let calm = |budget: &mut Budget| (1..99).find(|_| budget.judge(0.003).is_some());
        assert_eq!(calm(&mut budget), Some(3));
        assert_eq!(budget.judge(0.019), Some(level(true, 2)));
        assert_eq!(calm(&mut budget), Some(6));
        // It was right this time, and is not to wait any longer the next.
        assert_eq!((0..9).find_map(|_| budget.judge(0.003)), None);
        assert_eq!(budget.judge(0.019), Some(level(true, 2)));
        assert_eq!(calm(&mut budget), Some(3));
    }

    #[test]
    fn who_was_wrong_often_does_not_wait_for_ever() {
        let mut budget = Budget::new(1.0, true);
        let mut waits = Vec::new();
        for _ in 0..6 {
            assert_eq!(budget.judge(0.011), Some(level(false, 1)));
            waits.extend((1..999).find(|_| budget.judge(0.004).is_some()));
        }
        assert_eq!(waits, [3, 6, 12, 24, 24, 24]);
    }

    #[test]
    fn what_changes_nothing_is_no_trial() {
        let mut budget = Budget::new(1.0, false);
        assert_eq!(budget.judge(0.019), Some(level(true, 2)));
        // Calm, but twice as much would not be.
        for _ in 0..9 {
            assert_eq!(budget.judge(0.0045), None);
        }
        assert_eq!(budget.judge(0.019), Some(level(true, 4)));
        assert_eq!(budget.needed, CALM);
    }

    #[test]
    fn there_is_a_least() {
        let mut budget = Budget::new(1.0, false);
        assert_eq!(budget.judge(80.0), Some(level(true, 1024)));
        assert_eq!(budget.judge(0.5), None);
        assert!(budget.has_given_up);
        // It went, and may come again.
        assert_eq!((1..99).find(|_| budget.judge(0.0).is_some()), Some(3));
        assert!(!budget.has_given_up);
    }
}
