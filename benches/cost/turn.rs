// SPDX-License-Identifier: BSD-2-Clause
//! A turn of a workload: its loops, of which those count that had the core for themselves.
//!
//! A virtual machine's CPU is a thread of a core, and who runs on the other thread takes a
//! third of the core's speed, for some milliseconds or for minutes. The workloads tell which
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

/// The figure of a turn.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Turn {
    /// Nanoseconds of a unit, the mean.
    pub(crate) ns: f64,
    /// The longest yardstick beside it, nanoseconds.
    pub(crate) yardstick: f64,
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

/// How long a loop is: short enough to be in one piece on an undisturbed core. An exec takes
/// half a millisecond.
fn loop_time(work: Work) -> Duration {
    Duration::from_millis(if work == Work::Exec { 2 } else { 1 })
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
    yardsticks: Vec<f64>,
    limit: Option<f64>,
}

impl Quiet {
    /// Looks at all yardsticks so far: the shorter ones are those of an undisturbed core.
    /// Returns how long one may be.
    pub(crate) fn learn(&mut self) -> Option<f64> {
        let shortest = stats::quantile(&self.yardsticks, SHORTEST);
        self.limit = shortest.map(|ns| ns * ALIKE);
        self.limit
    }

    /// Remembers the loops' yardsticks, and hands on those loops that were undisturbed.
    pub(crate) fn take(&mut self, mut loops: Vec<Loop>) -> Vec<Loop> {
        self.yardsticks
            .extend(loops.iter().map(|one| one.yardstick));
        let limit = self.limit.unwrap_or(f64::INFINITY);
        loops.retain(|one| one.yardstick <= limit);
        loops
    }

    /// The share of all loops that were undisturbed.
    pub(crate) fn share(&self) -> Option<f64> {
        let limit = self.limit?;
        let quiet = self.yardsticks.iter().filter(|ns| **ns <= limit).count();
        #[expect(clippy::cast_precision_loss, reason = "far below 2^53")]
        Some(quiet as f64 / self.yardsticks.len() as f64)
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
                return Ok(figure(&workload.loops(operations, 1)?));
            }
            Length::Time(time) => time * share(work),
        };
        let one = workload.operation()?;
        let operations = in_time(loop_time(work), one);
        let wanted = in_time(time, one.saturating_mul(operations));
        let mut quiet = Vec::new();
        for _ in 0..(PATIENCE * wanted).div_ceil(LOOPS) {
            quiet.extend(self.take(workload.loops(operations, LOOPS)?));
            if quiet.len() >= wanted as usize {
                break;
            }
        }
        // Of a few loops a figure would be a guess.
        Ok(figure(&quiet).filter(|_| quiet.len() >= wanted.div_ceil(2) as usize))
    }
}

/// How many of a duration fit into a time, one at least.
fn in_time(time: Duration, one: Duration) -> u32 {
    let fit = time.as_nanos() / one.as_nanos().max(1);
    u32::try_from(fit).unwrap_or(u32::MAX).max(1)
}

/// The mean of all but those loops that were interrupted.
pub(crate) fn figure(loops: &[Loop]) -> Option<Turn> {
    let all: Vec<f64> = loops.iter().map(|one| one.ns).collect();
    let median = stats::quantile(&all, 0.5)?;
    let kept = loops.iter().filter(|one| one.ns <= INTERRUPTED * median);
    let (mut sum, mut count, mut yardstick) = (0.0, 0.0, 0.0);
    for one in kept {
        sum += one.ns;
        count += 1.0;
        yardstick = f64::max(yardstick, one.yardstick);
    }
    Some(Turn {
        ns: sum / count,
        yardstick,
    })
}
