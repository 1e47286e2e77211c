// SPDX-License-Identifier: BSD-2-Clause
//! A turn of a workload: its loops, of which those count that had the core for themselves.
//!
//! A virtual machine's CPU is a thread of a core, and who runs on the other thread takes a
//! quarter or more of its speed, for some milliseconds or for minutes. The workloads tell which
//! loops that happened to: beside each they measure by a yardstick, which takes longer then.

use std::time::Duration;

use anyhow::Result;

use crate::stats;
use crate::workload::Work;
use crate::workload::Workload;

/// How long a turn is.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Length {
    /// As many undisturbed loops as fit into a time, or what there is of them in six times
    /// as many.
    Time(Duration),
    /// One loop of so many operations, disturbed or not.
    Count(u32),
}

/// What one loop of a workload took.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Loop {
    /// Nanoseconds of a unit.
    pub(crate) ns: f64,
    /// Nanoseconds of the yardstick, of those before and after it the longer.
    pub(crate) yardstick: f64,
}

/// Which figure of a turn's loops stands for it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum By {
    /// Their mean.
    Mean,
    /// What a quarter of them stay below. Whoever uses the same caches and memory is not seen by
    /// the yardstick, and only lengthens loops: the mean differs four times as much from turn to
    /// turn.
    Quarter,
}

/// The figures of a turn.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Turn {
    /// Nanoseconds of a unit, by [`By::Mean`].
    pub(crate) mean: f64,
    /// The same by [`By::Quarter`].
    pub(crate) quarter: f64,
    /// The longest yardstick beside it, nanoseconds.
    pub(crate) yardstick: f64,
    /// The share of its loops that were undisturbed, and not interrupted.
    pub(crate) kept: f64,
}

impl Turn {
    /// Nanoseconds of a unit.
    pub(crate) fn ns(&self, by: By) -> f64 {
        match by {
            By::Mean => self.mean,
            By::Quarter => self.quarter,
        }
    }
}

/// How many loops are asked for at a time.
const LOOPS: u32 = 10;
/// A turn ends after so many times the loops that it wants.
const PATIENCE: u32 = 6;
/// Yardsticks that are alike differ by less.
const ALIKE: f64 = 1.02;
/// What few of all yardsticks stay below: single ones are too short.
const SHORTEST: f64 = 0.05;
/// Where a loop takes so many times as long as the median, the scheduler has run something
/// else.
const INTERRUPTED: f64 = 2.0;

/// How long a loop is: short enough to be in one piece on an undisturbed core. One exec takes
/// half of it, and is a loop: it differs so much from the next that many are wanted, of which
/// longer loops leave fewer.
fn loop_time(work: Work) -> Duration {
    if work == Work::Exec {
        Duration::ZERO
    } else {
        Duration::from_millis(1)
    }
}

/// How much longer turns are than that of the cheapest call. Events are read some sixty
/// times a second in a storm of them: a turn of opens is to have several of these moments.
fn share(work: Work) -> u32 {
    match work {
        Work::Getppid | Work::RefusedOpen => 1,
        Work::Open | Work::FailingOpen | Work::Mix | Work::Exec => 3,
    }
}

/// Knows an undisturbed core.
#[derive(Debug, Default)]
pub(crate) struct Quiet {
    /// Since it was last learned what is undisturbed.
    yardsticks: Vec<f64>,
    limit: Option<f64>,
    /// How many loops there were since it was first learned, and how many of them undisturbed.
    loops: usize,
    quiet: usize,
}

impl Quiet {
    /// Looks at the yardsticks since it did so last: the shortest are those of an undisturbed
    /// core, if shorter ones were never seen. Returns how long one may be.
    pub(crate) fn learn(&mut self) -> Option<f64> {
        let shortest = stats::quantile(&std::mem::take(&mut self.yardsticks), SHORTEST);
        let limits = [self.limit, shortest.map(|ns| ns * ALIKE)];
        self.limit = limits.into_iter().flatten().reduce(f64::min);
        self.limit
    }

    /// Remembers the loops' yardsticks, and hands on those loops that were undisturbed.
    pub(crate) fn take(&mut self, mut loops: Vec<Loop>) -> Vec<Loop> {
        self.yardsticks
            .extend(loops.iter().map(|one| one.yardstick));
        let Some(limit) = self.limit else {
            return loops;
        };
        self.loops += loops.len();
        loops.retain(|one| one.yardstick <= limit);
        self.quiet += loops.len();
        loops
    }

    /// The share of all loops that were undisturbed.
    pub(crate) fn share(&self) -> f64 {
        share_of(self.quiet, self.loops)
    }

    /// A turn; `None` if the core was disturbed all the time.
    pub(crate) fn turn(
        &mut self,
        work: Work,
        workload: &mut Workload,
        length: Length,
    ) -> Result<Option<Turn>> {
        let time = match length {
            // An exec takes so long that fewer do.
            Length::Count(count) => {
                let operations = if work == Work::Exec {
                    count.div_ceil(50)
                } else {
                    count
                };
                return Ok(figure(&workload.loops(operations, 1)?, 1));
            }
            Length::Time(time) => time * share(work),
        };
        let one = workload.operation()?;
        let operations = in_time(loop_time(work), one);
        let wanted = in_time(time, one.saturating_mul(operations));
        let (mut quiet, mut made) = (Vec::new(), 0);
        for _ in 0..(PATIENCE * wanted).div_ceil(LOOPS) {
            let loops = workload.loops(operations, LOOPS)?;
            made += loops.len();
            quiet.extend(self.take(loops));
            if quiet.len() >= wanted as usize {
                break;
            }
        }
        // Of a few loops a figure would be a guess.
        Ok(figure(&quiet, made).filter(|_| quiet.len() >= wanted.div_ceil(2) as usize))
    }
}

/// How many of a duration fit into a time, one at least.
fn in_time(time: Duration, one: Duration) -> u32 {
    let fit = time.as_nanos() / one.as_nanos().max(1);
    u32::try_from(fit).unwrap_or(u32::MAX).max(1)
}

/// What comes of all but those loops that were interrupted, of so many that were made.
pub(crate) fn figure(loops: &[Loop], made: usize) -> Option<Turn> {
    let all: Vec<f64> = loops.iter().map(|one| one.ns).collect();
    let limit = INTERRUPTED * stats::quantile(&all, 0.5)?;
    let kept: Vec<&Loop> = loops.iter().filter(|one| one.ns <= limit).collect();
    let ns: Vec<f64> = kept.iter().map(|one| one.ns).collect();
    #[expect(clippy::cast_precision_loss, reason = "few loops")]
    let count = ns.len() as f64;
    Some(Turn {
        mean: ns.iter().sum::<f64>() / count,
        quarter: stats::quantile(&ns, 0.25)?,
        yardstick: kept.iter().map(|one| one.yardstick).fold(0.0, f64::max),
        kept: share_of(kept.len(), made),
    })
}

#[expect(clippy::cast_precision_loss, reason = "far below 2^53")]
fn share_of(some: usize, all: usize) -> f64 {
    some as f64 / all.max(1) as f64
}
