// SPDX-License-Identifier: BSD-2-Clause
//! What hello wants to cost at most, and what it does.

use crate::measure::Measured;
use crate::measure::Results;
use crate::measure::Sample;
use crate::report;
use crate::report::NOTHING;
use crate::report::best_peer;
use crate::rows;
use crate::rows::Job;
use crate::rows::ROWS;
use crate::rows::Tracing;
use crate::rows::UNTRACED;
use crate::stats;
use crate::stats::Estimate;
use crate::stats::figure;
use crate::storm::Storm;
use crate::tracer::mebibytes;
use crate::turn::By;
use crate::workload::Work;

/// One target.
#[derive(Debug)]
struct Target {
    what: &'static str,
    measured: Option<Estimate>,
    limit: f64,
    unit: &'static str,
    /// What goes with the figure.
    note: String,
}

/// What was measured elsewhere.
#[derive(Debug, Default)]
pub(crate) struct Else {
    /// Bytes of the program.
    pub(crate) size: Option<f64>,
    /// The ratio to untraced by fexit, and where: 1.01 on 6.12.107.
    pub(crate) fexit: Option<(Estimate, String)>,
}

/// The table.
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
    let value = target.measured.map(|measure| measure.value);
    let value = value.filter(|value| value.is_finite());
    let measured = value.map_or_else(|| NOTHING.into(), show);
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
        measured: rows::row(row)
            .and_then(|row| results.estimate(|sample| sample.ratio(row.name, row.floor, work))),
        limit,
        unit: " × floor",
        note: String::new(),
    };
    let to_peer = |what, row: &str, job, work, limit| {
        let best = best_peer(results, job, work).map(|(name, _)| name);
        Target {
            what,
            measured: best
                .and_then(|peer| results.estimate(|sample| sample.ratio(row, peer, work))),
            limit,
            unit: " × peer",
            note: best.unwrap_or_default().into(),
        }
    };
    // Each event is to be shown: turns in which some were not do not count, and are to be few.
    let few_lose = |row: &str| {
        let losing = results.of(row).map(Measured::losing);
        losing.is_some_and(|(losing, turns)| losing * 10 <= turns)
    };
    let losing = |row: &str| {
        results
            .of(row)
            .and_then(report::losing_turns)
            .unwrap_or_default()
    };
    let to_opensnoop = |what, row: &str| Target {
        what,
        measured: results
            .estimate(|sample| {
                let ratio = sample.ratio(row, "libbpf-tools opensnoop", Work::Open)?;
                Some(ratio * 100.0)
            })
            .filter(|_| few_lose(row)),
        limit: 12.5,
        unit: " % of opensnoop",
        note: losing(row),
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
                .map(|outcome| Estimate::exact(lost(outcome.opens.saturating_sub(outcome.shown)))),
            limit: 0.0,
            unit: " lost",
            note: outcome.map_or_else(String::new, |outcome| {
                format!("of {}", stats::thousands(lost(outcome.opens)))
            }),
        }
    };
    let exec = |what, row: &str| Target {
        what,
        measured: results
            .estimate(|sample| {
                let untraced = sample.ns(UNTRACED, Work::Exec, By::Mean)?;
                Some(sample.added(row, Work::Exec, By::Mean)? / untraced * 100.0)
            })
            .filter(|_| few_lose(row)),
        limit: 5.0,
        unit: " %",
        note: losing(row),
    };
    let hello = ROWS
        .iter()
        .filter(|row| matches!(row.tracing, Tracing::Hello(_)));
    let slowest = |sample: Sample<'_>| {
        let starts = hello
            .clone()
            .filter_map(|row| Some((sample.start(row.name)?, row.name)));
        starts.max_by(|one, other| one.0.total_cmp(&other.0))
    };
    let in_turns = hello.clone().filter_map(|row| {
        let memory = results.of(row.name)?.memory.process;
        (memory > 0).then(|| (mebibytes(memory), row.name.to_owned()))
    });
    let in_storms = storms
        .iter()
        .filter(|storm| storm.name.starts_with("hello"))
        .filter_map(|storm| Some((storm.name, storm.outcome.as_ref().ok()?)))
        .map(|(name, outcome)| (outcome.memory, format!("{name} in the storm")));
    let largest = in_turns
        .chain(in_storms)
        .max_by(|one, other| one.0.total_cmp(&other.0));
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
            "selection by pid, file, an open not selected",
            "hello file -p OTHER",
            Work::RefusedOpen,
            1.15,
        ),
        to_floor(
            "selection by pid, file, open and close not selected",
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
        Target {
            what: "start to attached, slowest mode",
            measured: results.estimate(|sample| slowest(sample).map(|(start, _)| start)),
            limit: 60.0,
            unit: " ms",
            note: results
                .whole(slowest)
                .map_or_else(String::new, |(_, name)| name.into()),
        },
        Target {
            what: "peak memory, largest mode",
            measured: largest.as_ref().map(|(memory, _)| Estimate::exact(*memory)),
            limit: 16.0,
            unit: " MiB",
            note: largest.map_or_else(String::new, |(_, name)| name),
        },
        Target {
            what: "static binary",
            measured: other
                .size
                .map(|bytes| Estimate::exact(bytes / f64::from(1 << 20))),
            limit: 4.0,
            unit: " MiB",
            note: String::new(),
        },
    ]
}
