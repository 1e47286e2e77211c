// SPDX-License-Identifier: BSD-2-Clause
//! What was measured, as lines on standard error.

use std::fmt::Write as _;
use std::fs;
use std::time::Duration;
use std::time::Instant;

use super::Span;
use super::Stats;
use super::own_cpu;

const COLUMNS: [&str; 6] = ["PROGRAM", "RUNS/S", "NS/RUN", "%CPU", "INSNS", "JITED"];

/// Says what was measured in `span`, which ended with `seen` events in the ledger. Of the
/// whole run also of programs that did not run.
pub(super) fn tell(stats: &Stats, span: &Span, (end, seen): (Instant, u64), whole: bool) {
    let time = end - span.began;
    let all = if whole { "all " } else { "" };
    let mut head = format!("stats of {all}{}", seconds(time));
    if !stats.is_refused {
        let _ = write!(head, ", programs sampled for {}", seconds(span.sampled));
        if let Some(clock) = stats.clock.filter(|clock| *clock > 0) {
            let _ = write!(head, ", a run less {clock} ns to time it");
        }
    }
    if stats.was_on {
        head += " (kernel.bpf_stats_enabled is on already, and left so)";
    }
    crate::say!("hello: {head}");
    for line in aligned(&programs(stats, span, whole)) {
        crate::say!("hello:   {line}");
    }
    let mut words = vec![format!(
        "{:.0} events/s",
        per_second(seen.saturating_sub(span.seen), time)
    )];
    if let Some(plan) = stats.plan {
        let percent = span.fill as f64 * 100.0 / f64::from(plan.size);
        let most = if span.fill == 0 { "" } else { "at most " };
        words.push(format!("{plan}: {most}{percent:.1} % full"));
    }
    crate::say!("hello:   {}", words.join(", "));
    let cpu = own_cpu().saturating_sub(span.cpu);
    let mut line = format!(
        "hello itself: {} CPU ({:.2} %)",
        seconds(cpu),
        share(cpu.as_nanos() as f64, span.began.elapsed()) * 100.0
    );
    if whole {
        let _ = write!(line, ", before that {} to attach", seconds(span.cpu));
    }
    if let Some(kib) = peak_memory() {
        let _ = write!(line, ", memory {:.1} MiB at most", f64::from(kib) / 1024.0);
    }
    crate::say!("hello:   {line}");
}

/// A row for each program, those that take most first, and one for all of them.
fn programs(stats: &Stats, span: &Span, whole: bool) -> Vec<[String; 6]> {
    let mut order: Vec<usize> = (0..stats.programs.len())
        .filter(|&index| whole || span.runs[index].0 > 0)
        .collect();
    order.sort_by_key(|&index| std::cmp::Reverse(span.runs[index].1));
    let mut rows = vec![COLUMNS.map(str::to_owned)];
    for index in order {
        let program = &stats.programs[index];
        let [runs, each, share] = cost(span.runs[index], span.sampled);
        let name = program.name.clone();
        rows.push([
            name,
            runs,
            each,
            share,
            some(program.verified),
            some(program.jited),
        ]);
    }
    let all = span.runs.iter();
    let all = all.fold((0, 0), |sum, one| (sum.0 + one.0, sum.1 + one.1));
    let [runs, each, share] = cost(all, span.sampled);
    let sum = |size: fn(&super::Program) -> Option<u32>| -> Option<u32> {
        stats.programs.iter().map(size).sum()
    };
    rows.push([
        "all".into(),
        runs,
        each,
        share,
        some(sum(|program| program.verified)),
        some(sum(|program| program.jited)),
    ]);
    rows
}

/// Runs a second, nanoseconds of each, percent of one CPU.
fn cost((runs, ns): (u64, u64), sampled: Duration) -> [String; 3] {
    if sampled.is_zero() {
        return ["-", "-", "-"].map(str::to_owned);
    }
    let each = if runs == 0 {
        "-".into()
    } else {
        format!("{:.0}", ns as f64 / runs as f64)
    };
    [
        format!("{:.0}", per_second(runs, sampled)),
        each,
        format!("{:.2}", share(ns as f64, sampled) * 100.0),
    ]
}

fn per_second(count: u64, time: Duration) -> f64 {
    count as f64 / time.as_secs_f64().max(1e-9)
}

fn share(ns: f64, time: Duration) -> f64 {
    ns / (time.as_nanos() as f64).max(1.0)
}

/// `2.1 s`, `100 ms`, `0.3 ms`.
fn seconds(time: Duration) -> String {
    match time.as_secs_f64() {
        secs if secs >= 1.0 => format!("{secs:.1} s"),
        secs if secs >= 0.01 => format!("{:.0} ms", secs * 1e3),
        secs => format!("{:.1} ms", secs * 1e3),
    }
}

fn some(number: Option<u32>) -> String {
    number.map_or_else(|| "-".into(), |number| number.to_string())
}

/// The first column flush left, numbers flush right.
fn aligned(rows: &[[String; 6]]) -> Vec<String> {
    let width = |column: usize| rows.iter().map(|row| row[column].len()).max().unwrap_or(0);
    let widths: [usize; 6] = std::array::from_fn(width);
    let line = |row: &[String; 6]| {
        let mut line = format!("{:<1$}", row[0], widths[0]);
        for column in 1..row.len() {
            let _ = write!(line, "  {:>1$}", row[column], widths[column]);
        }
        line
    };
    rows.iter().map(line).collect()
}

/// KiB that hello had in memory at most (VmHWM). Not getrusage's maximum, which an
/// exec keeps from the program before.
fn peak_memory() -> Option<u32> {
    let status = fs::read_to_string("/proc/self/status").ok()?;
    let line = status
        .lines()
        .find_map(|line| line.strip_prefix("VmHWM:"))?;
    line.split_whitespace().next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_runs_cost() {
        let second = Duration::from_secs(1);
        assert_eq!(cost((1000, 30_000), second / 10), ["10000", "30", "0.03"]);
        assert_eq!(cost((0, 0), second), ["0", "-", "0.00"]);
        assert_eq!(cost((0, 0), Duration::ZERO), ["-", "-", "-"]);
    }

    #[test]
    fn times() {
        assert_eq!(seconds(Duration::from_millis(2100)), "2.1 s");
        assert_eq!(seconds(Duration::from_millis(100)), "100 ms");
        assert_eq!(seconds(Duration::from_micros(312)), "0.3 ms");
    }

    #[test]
    fn columns_line_up() {
        let row = |words: [&str; 6]| words.map(str::to_owned);
        let rows = [
            row(COLUMNS),
            row(["syscount_enter", "1234567", "24", "2.96", "-", "512"]),
        ];
        assert_eq!(
            aligned(&rows),
            [
                "PROGRAM          RUNS/S  NS/RUN  %CPU  INSNS  JITED",
                "syscount_enter  1234567      24  2.96      -    512",
            ]
        );
    }
}
