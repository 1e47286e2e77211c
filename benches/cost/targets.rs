// SPDX-License-Identifier: BSD-2-Clause
//! What hello wants to cost at most, and what it does.

use crate::measure::Results;
use crate::report;
use crate::report::NOTHING;
use crate::report::best_peer;
use crate::rows;
use crate::rows::Job;
use crate::rows::ROWS;
use crate::rows::Tracing;
use crate::rows::UNTRACED;
use crate::stats;
use crate::stats::figure;
use crate::storm::Storm;
use crate::tracer::mebibytes;
use crate::workload::Work;

/// One target.
#[derive(Debug)]
struct Target {
    what: &'static str,
    measured: Option<Measure>,
    limit: f64,
    unit: &'static str,
    /// What goes with the figure.
    note: String,
}

/// Quartiles of fewer rounds say nothing.
const ENOUGH: usize = 5;

/// A figure, and between what it may lie as the quartiles of its parts say.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Measure {
    pub(crate) value: f64,
    pub(crate) low: f64,
    pub(crate) high: f64,
}

impl Measure {
    /// What does not vary.
    fn exact(value: f64) -> Self {
        Self {
            value,
            low: value,
            high: value,
        }
    }

    fn of(values: &[f64]) -> Option<Self> {
        let value = stats::median(values)?;
        if values.len() < ENOUGH {
            return Some(Self {
                value,
                low: f64::NEG_INFINITY,
                high: f64::INFINITY,
            });
        }
        Some(Self {
            value,
            low: stats::quantile(values, 0.25)?,
            high: stats::quantile(values, 0.75)?,
        })
    }

    /// In units of another. Where that may be nothing, this may be anything.
    pub(crate) fn over(self, unit: Self) -> Self {
        if unit.low <= 0.0 {
            return Self {
                value: self.value / unit.value,
                low: f64::NEG_INFINITY,
                high: f64::INFINITY,
            };
        }
        let divided =
            |part: f64, small: f64, large: f64| part / if part < 0.0 { small } else { large };
        Self {
            value: self.value / unit.value,
            low: divided(self.low, unit.low, unit.high),
            high: divided(self.high, unit.high, unit.low),
        }
    }

    /// Is it at most so much? `None` if the run was not steady enough to say: no tracer
    /// makes anything faster, so by as much as a figure seems to, it is noise.
    pub(crate) fn at_most(self, limit: f64) -> Option<bool> {
        if self.low < -limit {
            None
        } else if self.high <= limit {
            Some(true)
        } else if self.low > limit {
            Some(false)
        } else {
            None
        }
    }
}

/// What a row added.
fn added(results: &Results, row: &str, work: Work) -> Option<Measure> {
    Measure::of(&results.added(row, work))
}

/// One percent of these.
fn hundredth(figures: Vec<f64>) -> Option<Measure> {
    let parts: Vec<f64> = figures.iter().map(|figure| figure / 100.0).collect();
    Measure::of(&parts)
}

/// What was measured elsewhere.
#[derive(Debug, Default)]
pub(crate) struct Else {
    /// Bytes of the program.
    pub(crate) size: Option<f64>,
    /// The ratio to untraced by fexit, and where: 1.01 on 6.12.107.
    pub(crate) fexit: Option<(Measure, String)>,
}

/// The table, and how many targets are met of how many that were measured.
pub(crate) fn table(results: &Results, storms: &[Storm], other: &Else) -> String {
    let lines: Vec<Vec<String>> = all(results, storms, other).iter().map(line).collect();
    report::table(&["target", "measured", "at most", "met"], &lines)
}

fn line(target: &Target) -> Vec<String> {
    let show = |value: f64| {
        let number = if value == 0.0 {
            "0".into()
        } else {
            figure(value)
        };
        format!("{number}{}", target.unit)
    };
    let note = if target.note.is_empty() {
        String::new()
    } else {
        format!(" ({})", target.note)
    };
    let measured = target
        .measured
        .map_or_else(|| NOTHING.into(), |measure| show(measure.value));
    let met = target.measured.map(|measure| measure.at_most(target.limit));
    vec![
        target.what.into(),
        format!("{measured}{note}"),
        show(target.limit),
        match met {
            Some(Some(true)) => "yes",
            Some(Some(false)) => "**no**",
            Some(None) => "unsure",
            None => "not measured",
        }
        .into(),
    ]
}

fn all(results: &Results, storms: &[Storm], other: &Else) -> Vec<Target> {
    let to_floor = |what, row: &str, work, limit| Target {
        what,
        measured: rows::row(row).and_then(|row| {
            let floor = added(results, row.floor, work)?;
            Some(added(results, row.name, work)?.over(floor))
        }),
        limit,
        unit: " × floor",
        note: String::new(),
    };
    let to_peer = |what, row: &str, job, work, limit| {
        let best = best_peer(results, job, work);
        Target {
            what,
            measured: best.and_then(|(peer, _)| {
                Some(added(results, row, work)?.over(added(results, peer, work)?))
            }),
            limit,
            unit: " × peer",
            note: best.map_or_else(String::new, |(name, _)| name.into()),
        }
    };
    let to_opensnoop = |what, row: &str| {
        let peer = hundredth(results.added("libbpf-tools opensnoop", Work::Open));
        Target {
            what,
            measured: peer.and_then(|peer| Some(added(results, row, Work::Open)?.over(peer))),
            limit: 12.5,
            unit: " % of opensnoop",
            note: String::new(),
        }
    };
    let lost = |what, name| {
        let storm = storms.iter().find(|storm| storm.name == name);
        let outcome = storm.and_then(|storm| storm.outcome.as_ref().ok());
        #[expect(clippy::cast_precision_loss, reason = "far below 2^53")]
        let lost = |count: u64| count as f64;
        Target {
            what,
            // What is not shown is lost, whatever the ledger says.
            measured: outcome
                .map(|outcome| Measure::exact(lost(outcome.opens.saturating_sub(outcome.shown)))),
            limit: 0.0,
            unit: " lost",
            note: outcome.map_or_else(String::new, |outcome| {
                format!("of {}", stats::thousands(lost(outcome.opens)))
            }),
        }
    };
    let exec = |what, row: &str| Target {
        what,
        measured: hundredth(results.figures(UNTRACED, Work::Exec))
            .and_then(|untraced| Some(added(results, row, Work::Exec)?.over(untraced))),
        limit: 5.0,
        unit: " %",
        note: String::new(),
    };
    let rows = ROWS
        .iter()
        .filter(|row| matches!(row.tracing, Tracing::Hello(_)));
    let measured = rows.filter_map(|row| Some((row.name.to_owned(), results.of(row.name)?)));
    let starts = measured
        .clone()
        .filter_map(|(name, row)| Some((Measure::of(&row.starts)?, name)));
    let exact = |kib| Measure::exact(mebibytes(kib));
    let turns = measured
        .filter(|(_, row)| row.memory.process > 0)
        .map(|(name, row)| (exact(row.memory.process), name));
    let stormy = storms
        .iter()
        .filter(|storm| storm.name.starts_with("hello"))
        .filter_map(|storm| Some((storm.name, storm.outcome.as_ref().ok()?)))
        .map(|(name, outcome)| {
            (
                Measure::exact(outcome.memory),
                format!("{name} in the storm"),
            )
        });
    let memory = turns.chain(stormy);
    vec![
        to_floor("syscount, one call", "hello syscount", Work::Getppid, 1.15),
        to_peer(
            "syscount, against the best peer",
            "hello syscount",
            Job::Count,
            Work::Getppid,
            1.0,
        ),
        to_floor(
            "syscount --by pid,syscall",
            "hello syscount --by pid,syscall",
            Work::Getppid,
            2.0,
        ),
        to_floor(
            "syscount --latency",
            "hello syscount --latency",
            Work::Getppid,
            1.3,
        ),
        to_floor(
            "selection by pid, syscount, not selected",
            "hello syscount -p OTHER",
            Work::Getppid,
            1.15,
        ),
        to_floor(
            "selection by pid, file, not selected",
            "hello file -p OTHER",
            Work::Open,
            1.15,
        ),
        to_opensnoop("file, every open to a file as text", "hello file, text"),
        to_opensnoop("file, every open to a file as JSON", "hello file, JSON"),
        Target {
            what: "file by fexit, calls that open nothing",
            measured: other.fexit.as_ref().map(|(ratio, _)| *ratio),
            limit: 1.02,
            unit: " × untraced",
            note: other.fexit.as_ref().map_or_else(
                || "`make bench-vm`".into(),
                |(_, release)| format!("Linux {release}"),
            ),
        },
        lost("storm of opens, text", "hello file, text"),
        lost("storm of opens, JSON", "hello file, JSON"),
        exec(
            "exec, one vfork, exec and wait, as text",
            "hello exec, text",
        ),
        exec(
            "exec, one vfork, exec and wait, as JSON",
            "hello exec, JSON",
        ),
        worst("start to attached, slowest mode", 60.0, " ms", starts),
        worst("peak memory, largest mode", 16.0, " MiB", memory),
        Target {
            what: "static binary",
            measured: other
                .size
                .map(|bytes| Measure::exact(bytes / f64::from(1 << 20))),
            limit: 4.0,
            unit: " MiB",
            note: String::new(),
        },
    ]
}

/// The largest of hello's figures, each with its row's name.
fn worst(
    what: &'static str,
    limit: f64,
    unit: &'static str,
    figures: impl Iterator<Item = (Measure, String)>,
) -> Target {
    let worst = figures.max_by(|one, other| one.0.value.total_cmp(&other.0.value));
    let (measured, note) = worst.unzip();
    Target {
        what,
        measured,
        limit,
        unit,
        note: note.unwrap_or_default(),
    }
}
