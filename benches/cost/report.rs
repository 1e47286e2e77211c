// SPDX-License-Identifier: BSD-2-Clause
//! The tables, as Markdown that can be read on a terminal too.

use std::fmt::Write as _;

use crate::measure::Results;
use crate::rows;
use crate::rows::Job;
use crate::rows::ROWS;
use crate::rows::Row;
use crate::rows::Tracing;
use crate::rows::UNTRACED;
use crate::stats;
use crate::stats::figure;
use crate::stats::thousands;
use crate::storm::Storm;
use crate::tracer::mebibytes;
use crate::workload::Work;

pub(crate) const NOTHING: &str = "–";

/// Median of what a row added, nanoseconds.
pub(crate) fn added(results: &Results, row: &str, work: Work) -> Option<f64> {
    stats::median(&results.added(row, work))
}

/// What a row added, in units of what its floor added.
pub(crate) fn to_floor(results: &Results, row: &Row, work: Work) -> Option<f64> {
    // Below nothing is noise, and nothing to divide by.
    let floor = added(results, row.floor, work).filter(|floor| *floor > 0.0)?;
    Some(added(results, row.name, work)? / floor)
}

/// The cheapest peer of a job: its name, and what it added.
pub(crate) fn best_peer(results: &Results, job: Job, work: Work) -> Option<(&'static str, f64)> {
    ROWS.iter()
        .filter(|row| row.job == job && matches!(row.tracing, Tracing::Peer(_)))
        .filter_map(|row| Some((row.name, added(results, row.name, work)?)))
        .filter(|(_, added)| *added > 0.0)
        .min_by(|one, other| one.1.total_cmp(&other.1))
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
        let all = results.added(row.name, work);
        let median = added(results, row.name, work);
        let spread = stats::quantile(&all, 0.25)
            .zip(stats::quantile(&all, 0.75))
            .map(|(low, high)| format!("{} … {}", figure(low), figure(high)));
        let untraced = row.name == UNTRACED;
        let best = best_peer(results, row.job, work).filter(|_| row.job != Job::None);
        let peer = best.and_then(|(_, peer)| Some(median? / peer));
        let floor = rows::row(row.floor).and_then(|_| to_floor(results, row, work));
        let lost = match measured.lost {
            0 => "",
            _ => " (lost events)",
        };
        lines.push(vec![
            format!("{}{lost}", row.name),
            or_nothing(stats::median(&results.figures(row.name, work)), figure),
            if untraced {
                NOTHING.into()
            } else {
                or_nothing(median, figure)
            },
            spread.unwrap_or_else(|| NOTHING.into()),
            or_nothing(floor, ratio),
            or_nothing(peer, ratio),
        ]);
    }
    if lines.is_empty() && missing.is_empty() {
        return String::new();
    }
    let head = [
        "row",
        "ns",
        "added",
        "quartiles of added",
        "× floor",
        "× best peer",
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
        let Some(measured) = results.of(row.name).filter(|row| !row.starts.is_empty()) else {
            continue;
        };
        let at = |share| or_nothing(stats::quantile(&measured.starts, share), figure);
        lines.push(vec![
            row.name.into(),
            at(0.5),
            format!("{} … {}", at(0.25), at(0.75)),
            figure(mebibytes(measured.memory.process)),
            figure(mebibytes(measured.memory.maps)),
        ]);
    }
    if lines.is_empty() {
        return String::new();
    }
    let head = [
        "row",
        "ms to attached",
        "quartiles",
        "peak MiB",
        "MiB of maps",
    ];
    format!("### Start and memory\n\n{}", table(&head, &lines))
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
    let parts = works.chain([starts(results, rows), storms(outcome)]);
    let parts: Vec<String> = parts.filter(|part| !part.is_empty()).collect();
    parts.join("\n")
}
