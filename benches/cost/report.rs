// SPDX-License-Identifier: BSD-2-Clause
//! The tables, as Markdown that can be read on a terminal too.

use std::fmt::Write as _;

use crate::measure::Loss;
use crate::measure::Measured;
use crate::measure::Results;
use crate::rows::Job;
use crate::rows::ROWS;
use crate::rows::Row;
use crate::rows::Tracing;
use crate::rows::UNTRACED;
use crate::stats::Estimate;
use crate::stats::figure;
use crate::stats::thousands;
use crate::storm::Storm;
use crate::tracer::mebibytes;
use crate::turn::By;
use crate::workload::Work;

/// Why a row that attached has no figure of a workload.
const DISTURBED: &str = "the core was never undisturbed for long enough";

pub(crate) const NOTHING: &str = "–";

/// The cheapest peer of a job: its name, and what it added. `None` if one that attached has
/// no figure: it might be the cheapest.
pub(crate) fn best_peer(results: &Results, job: Job, work: Work) -> Option<(&'static str, f64)> {
    let attached = |row: &&Row| results.of(row.name).is_some_and(|row| row.why.is_none());
    let peers: Option<Vec<(&'static str, f64)>> = ROWS
        .iter()
        .filter(|row| row.job == job && matches!(row.tracing, Tracing::Peer(_)))
        .filter(|row| row.works.contains(&work))
        .filter(attached)
        .map(|row| {
            let added = results.whole(|sample| sample.added(row.name, work, row.by(work)))?;
            Some((row.name, added))
        })
        .collect();
    peers?
        .into_iter()
        .min_by(|one, other| one.1.total_cmp(&other.1))
        // Below nothing is noise, and nothing to divide by.
        .filter(|(_, added)| *added > 0.0)
}

/// Cells padded to columns, numbers to the right.
pub(crate) fn table(head: &[&str], lines: &[Vec<String>]) -> String {
    let width = |column: usize| {
        let cells = lines.iter().filter_map(|line| line.get(column));
        let widest = cells.map(|cell| cell.chars().count()).max().unwrap_or(0);
        widest.max(head[column].chars().count()).max(3)
    };
    let widths: Vec<usize> = (0..head.len()).map(width).collect();
    let mut text = String::from("|");
    line_of(&mut text, head, &widths);
    text.push_str("\n|");
    for (column, width) in widths.iter().enumerate() {
        let colon = if column == 0 { "-" } else { ":" };
        let _ = write!(text, " {}{colon} |", "-".repeat(width - 1));
    }
    for line in lines {
        text.push_str("\n|");
        line_of(&mut text, line, &widths);
    }
    text.push('\n');
    text
}

fn line_of(text: &mut String, cells: &[impl AsRef<str>], widths: &[usize]) {
    for (column, (cell, width)) in cells.iter().zip(widths).enumerate() {
        let cell = cell.as_ref();
        let _ = if column == 0 {
            write!(text, " {cell:width$} |")
        } else {
            write!(text, " {cell:>width$} |")
        };
    }
}

fn or_nothing(value: Option<f64>, show: impl Fn(f64) -> String) -> String {
    value.map_or_else(|| NOTHING.into(), show)
}

/// Where an estimate lies.
fn between(estimate: Estimate) -> String {
    if estimate.low.is_finite() {
        format!("{} … {}", figure(estimate.low), figure(estimate.high))
    } else {
        NOTHING.into()
    }
}

fn ratio(value: f64) -> String {
    format!("{value:.2}")
}

/// Table of a workload, and why rows of it have no figure.
fn work(results: &Results, work: Work, rows: &[&'static Row]) -> String {
    let mut lines = Vec::new();
    let mut missing = String::new();
    for row in rows.iter().filter(|row| row.works.contains(&work)) {
        let Some(measured) = results.of(row.name) else {
            continue;
        };
        if let Some(why) = &measured.why {
            let _ = writeln!(missing, "- {}: {why}", row.name);
            continue;
        }
        let ns = |by| results.whole(|sample| sample.ns(row.name, work, by));
        let (Some(mean), Some(quarter)) = (ns(By::Mean), ns(By::Quarter)) else {
            let (losing, turns) = measured.losing();
            let why = losing_turns(measured).filter(|_| losing == turns);
            let why = why.unwrap_or_else(|| DISTURBED.into());
            let _ = writeln!(missing, "- {}: {why}", row.name);
            continue;
        };
        let kept = results.whole(|sample| sample.kept(row.name, work));
        let by = row.by(work);
        let more = results
            .estimate(|sample| sample.added(row.name, work, by))
            .filter(|_| row.name != UNTRACED);
        let best = best_peer(results, row.job, work).filter(|_| row.job != Job::None);
        let peer = best
            .and_then(|(peer, _)| results.whole(|sample| sample.ratio(row.name, peer, work)))
            .filter(|ratio| ratio.is_finite());
        let floor = results
            .whole(|sample| sample.ratio(row.name, row.floor, work))
            .filter(|ratio| ratio.is_finite());
        lines.push(vec![
            row.name.into(),
            figure(mean),
            figure(quarter),
            match by {
                By::Mean => "mean",
                By::Quarter => "quarter",
            }
            .into(),
            or_nothing(more.map(|more| more.value), figure),
            more.map_or_else(|| NOTHING.into(), between),
            or_nothing(floor, ratio),
            or_nothing(peer, ratio),
            or_nothing(kept, |kept| format!("{:.0} %", kept * 100.0)),
        ]);
    }
    if lines.is_empty() && missing.is_empty() {
        return String::new();
    }
    let head = [
        "row",
        "mean",
        "quarter",
        "by",
        "added",
        "95 % interval",
        "× floor",
        "× best peer",
        "kept",
    ];
    let mut text = format!(
        "### {}: {}\n\n{}",
        work.name(),
        work.unit(),
        table(&head, &lines)
    );
    if !missing.is_empty() {
        let _ = write!(text, "\nWithout figures:\n\n{missing}");
    }
    text
}

/// Time to attach and memory, of all that run in a process of their own.
fn starts(results: &Results, rows: &[&'static Row]) -> String {
    let mut lines = Vec::new();
    for row in rows {
        let start = results.estimate(|sample| sample.start(row.name));
        let (Some(start), Some(measured)) = (start, results.of(row.name)) else {
            continue;
        };
        lines.push(vec![
            row.name.into(),
            figure(start.value),
            between(start),
            figure(mebibytes(measured.memory.process)),
            figure(mebibytes(measured.memory.maps)),
        ]);
    }
    if lines.is_empty() {
        return String::new();
    }
    let head = ["row", "ms to attached", "95 %", "peak MiB", "MiB of maps"];
    format!("### Start and memory\n\n{}", table(&head, &lines))
}

/// How many of a row's turns lost events; nothing where none did.
pub(crate) fn losing_turns(measured: &Measured) -> Option<String> {
    let (losing, all) = measured.losing();
    (losing > 0).then(|| format!("{losing} of {all} turns lost events"))
}

/// Rows of which turns do not count, because they lost events.
fn losses(results: &Results, rows: &[&'static Row]) -> String {
    let mut lines = Vec::new();
    for row in rows {
        let Some(measured) = results.of(row.name) else {
            continue;
        };
        let Some(turns) = losing_turns(measured) else {
            continue;
        };
        for Loss { events, stolen } in &measured.losses {
            #[expect(clippy::cast_precision_loss, reason = "far below 2^53")]
            let events = *events as f64;
            lines.push(vec![
                row.name.into(),
                turns.clone(),
                thousands(events),
                figure(stolen.as_secs_f64()),
            ]);
        }
    }
    if lines.is_empty() {
        return String::new();
    }
    let head = ["row", "turns", "lost in one of them", "stolen, CPU s"];
    format!("### Turns that lost events\n\n{}", table(&head, &lines))
}

fn storms(storms: &[Storm]) -> String {
    if storms.is_empty() {
        return String::new();
    }
    let mut lines = Vec::new();
    let mut missing = String::new();
    for storm in storms {
        match &storm.outcome {
            Ok(outcome) => {
                #[expect(clippy::cast_precision_loss, reason = "far below 2^53")]
                let [opens, shown, lost] = [
                    outcome.opens,
                    outcome.shown,
                    outcome.opens.saturating_sub(outcome.shown),
                ]
                .map(|count| count as f64);
                #[expect(clippy::cast_precision_loss, reason = "far below 2^53")]
                let said = |lost: u64| thousands(lost as f64);
                lines.push(vec![
                    storm.name.into(),
                    figure(outcome.seconds),
                    thousands(opens),
                    thousands(opens / outcome.seconds),
                    thousands(shown),
                    thousands(lost),
                    outcome.lost.map_or_else(|| "nothing".into(), said),
                    figure(outcome.cpu_per_million()),
                    figure(outcome.stolen.as_secs_f64()),
                    figure(outcome.memory),
                ]);
            }
            Err(why) => {
                let _ = writeln!(missing, "- {}: {why}", storm.name);
            }
        }
    }
    let head = [
        "row",
        "s",
        "opens made",
        "a second",
        "shown",
        "not shown",
        "says it lost",
        "CPU s per million shown",
        "stolen, CPU s",
        "peak MiB",
    ];
    let mut text = format!("### Storm of opens\n\n{}", table(&head, &lines));
    if !missing.is_empty() {
        let _ = write!(text, "\nWithout figures:\n\n{missing}");
    }
    text
}

/// All tables but the targets'.
pub(crate) fn all(results: &Results, rows: &[&'static Row], outcome: &[Storm]) -> String {
    let works = Work::ALL.into_iter().map(|each| work(results, each, rows));
    let parts = works.chain([
        losses(results, rows),
        starts(results, rows),
        storms(outcome),
    ]);
    let parts: Vec<String> = parts.filter(|part| !part.is_empty()).collect();
    parts.join("\n")
}
