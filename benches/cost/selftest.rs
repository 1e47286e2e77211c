// SPDX-License-Identifier: BSD-2-Clause
//! The benchmark itself, tested: its sums, and that each row of floors and of hello still
//! gives a figure. None of it looks at how large a figure is.

use std::sync::Arc;
use std::time::Duration;

use anyhow::Result;
use anyhow::ensure;
use libtest_mimic::Failed;
use libtest_mimic::Trial;

use crate::doc;
use crate::fexit;
use crate::measure::Bench;
use crate::measure::Loss;
use crate::measure::Results;
use crate::place::Place;
use crate::report;
use crate::rows;
use crate::rows::ROWS;
use crate::rows::Row;
use crate::rows::Tracing;
use crate::stats;
use crate::stats::Estimate;
use crate::storm;
use crate::targets;
use crate::turn;
use crate::turn::By;
use crate::turn::Length;
use crate::turn::Loop;
use crate::turn::Quiet;
use crate::turn::Turn;
use crate::workload;
use crate::workload::Work;

type Test = fn() -> Result<()>;

macro_rules! same {
    ($left:expr, $right:expr) => {
        let (left, right) = (&$left, &$right);
        ensure!(left == right, "{left:?} is not {right:?}");
    };
}

/// What needs nothing.
pub(crate) fn units() -> Vec<Trial> {
    let tests: &[(&str, Test)] = &[
        ("units::quantiles", quantiles),
        ("units::figures", figures),
        ("units::losses", losses),
        ("units::loops", loops),
        ("units::quiet", quiet),
        ("units::ratios", ratios),
        ("units::intervals", intervals),
        ("units::tables", tables),
        ("units::document", document),
        ("units::verdicts", verdicts),
        ("units::vm", vm),
        ("units::rows", rows_are_sound),
    ];
    tests
        .iter()
        .map(|&(name, test)| Trial::test(name, move || test().map_err(failed)))
        .collect()
}

fn failed(error: anyhow::Error) -> Failed {
    Failed::from(format!("{error:#}"))
}

/// What needs root and the workloads.
pub(crate) fn smoke(place: &Arc<Place>) -> Vec<Trial> {
    let trial = |name: &str, test: fn(&Place) -> Result<()>| {
        let place = Arc::clone(place);
        Trial::test(name, move || test(&place).map_err(failed))
    };
    vec![
        trial("smoke::rows", each_row_has_a_figure),
        trial("smoke::storm", storm_accounts_for_each_open),
    ]
}

/// Where the kernel has trampolines.
pub(crate) fn fexit(place: &Arc<Place>) -> Trial {
    let place = Arc::clone(place);
    Trial::test("fexit", move || {
        println!(
            "\n{}",
            fexit::measure(&place, &mut Quiet::default()).map_err(failed)?
        );
        Ok(())
    })
}

fn each_row_has_a_figure(place: &Place) -> Result<()> {
    let ours = |row: &&Row| !matches!(row.tracing, Tracing::Peer(_));
    let rows: Vec<&'static Row> = ROWS.iter().filter(ours).collect();
    let mut bench = Bench::prepare(place)?;
    bench.round(0, &rows, Length::Count(1000))?;
    for row in &rows {
        let measured = bench.results.of(row.name);
        let why = measured.and_then(|measured| measured.why.as_deref());
        ensure!(why.is_none(), "{}: {}", row.name, why.unwrap_or_default());
        for work in row.works {
            let turns = measured.and_then(|measured| measured.turns.get(work));
            same!(turns.map(|turns| turns.concat().len()), Some(row.times));
            let ns = bench
                .results
                .whole(|sample| sample.ns(row.name, *work, By::Mean));
            ensure!(ns.is_some_and(|ns| ns > 0.0), "{}: {ns:?}", row.name);
        }
        if matches!(row.tracing, Tracing::Hello(_)) {
            let starts = measured.map(|measured| measured.starts.concat().len());
            same!(starts, Some(row.times));
            let start = bench.results.whole(|sample| sample.start(row.name));
            ensure!(start.is_some_and(|ms| ms > 0.0), "{}: {start:?}", row.name);
            let memory = measured.map(|measured| measured.memory).unwrap_or_default();
            ensure!(
                memory.process > 0 && memory.maps > 0,
                "{}: {memory:?}",
                row.name
            );
        }
    }
    let text = report::all(&bench.results, &rows, &[]);
    for row in rows {
        ensure!(text.contains(row.name), "{} is not in {text}", row.name);
    }
    Ok(())
}

fn storm_accounts_for_each_open(place: &Place) -> Result<()> {
    let storm = storm::hello(place, Duration::from_millis(300))?;
    ensure!(storm.opens > 0 && storm.cpu > Duration::ZERO, "{storm:?}");
    ensure!(Some(storm.opens - storm.shown) == storm.lost, "{storm:?}");
    Ok(())
}

fn quantiles() -> Result<()> {
    same!(stats::quantile(&[], 0.5), None);
    same!(stats::quantile(&[3.0, 1.0, 2.0], 0.5), Some(2.0));
    same!(stats::quantile(&[4.0, 1.0, 2.0, 3.0], 0.5), Some(2.5));
    same!(stats::quantile(&[0.0, 10.0, 20.0], 0.25), Some(5.0));
    same!(stats::quantile(&[7.0], 0.75), Some(7.0));
    Ok(())
}

fn figures() -> Result<()> {
    same!(stats::figure(1.234), "1.23");
    same!(stats::figure(12.34), "12.3");
    same!(stats::figure(-1234.4), "-1,234");
    same!(stats::thousands(999.0), "999");
    same!(stats::thousands(1_234_567.0), "1,234,567");
    Ok(())
}

fn losses() -> Result<()> {
    same!(
        stats::ledger("hello: file: …\nhello: 23 events, 0 lost\n"),
        Some((23, 0))
    );
    same!(
        stats::ledger("hello: 23 events, 12 lost (12 buffer full), 5 filtered out"),
        Some((23, 12))
    );
    same!(
        stats::ledger("hello: 0 calls counted, 0 lost, 7 filtered out"),
        Some((0, 0))
    );
    same!(stats::ledger("hello: cannot load"), None);

    let mut results = example();
    let rows: Vec<&'static Row> = ROWS.iter().collect();
    let title = "Turns that lost events";
    ensure!(!report::all(&results, &rows, &[]).contains(title));
    let row = results.entry("hello file, JSON");
    row.starts = vec![vec![50.0, 51.0], vec![52.0]];
    row.losses = vec![Loss {
        events: 1234,
        stolen: Duration::from_millis(250),
    }];
    let turns = "1 of 3 turns lost events";
    let text = report::all(&results, &rows, &[]);
    let line = text
        .lines()
        .find(|line| line.starts_with("| hello file, JSON") && line.contains(turns));
    ensure!(text.contains(title), "{text}");
    ensure!(
        line.is_some_and(|line| line.contains(" 1,234 ") && line.contains(" 0.25 ")),
        "{text}"
    );
    let text = targets::table(&results, &[], &targets::Else::default());
    ensure!(text.contains(turns), "{text}");
    Ok(())
}

fn loops() -> Result<()> {
    let loops = workload::parse("100 5.0 100 6.0 150\n", 2.0)?;
    let numbers: Vec<(f64, f64)> = loops.iter().map(|one| (one.ns, one.yardstick)).collect();
    same!(numbers, [(2.5, 100.0), (3.0, 150.0)]);
    ensure!(workload::parse("100 5.0\n", 1.0).is_err());
    ensure!(workload::parse("100 x 100\n", 1.0).is_err());
    // The last was interrupted.
    let figure = turn::figure(&workload::parse("1 8 2 12 3 13 2 40 9", 1.0)?, 6);
    same!(figure.map(|turn| turn.ns(By::Mean)), Some(11.0));
    same!(figure.map(|turn| turn.ns(By::Quarter)), Some(10.0));
    same!(figure.map(|turn| turn.yardstick), Some(3.0));
    same!(figure.map(|turn| turn.kept), Some(0.5));
    ensure!(turn::figure(&[], 6).is_none());
    Ok(())
}

/// Its loops are alike.
fn turn(ns: f64, yardstick: f64) -> Turn {
    Turn {
        mean: ns,
        quarter: ns,
        yardstick,
        kept: 1.0,
    }
}

/// So many loops beside a yardstick of so many nanoseconds.
fn beside(yardstick: f64, count: usize) -> Vec<Loop> {
    vec![Loop { ns: 1.0, yardstick }; count]
}

fn quiet() -> Result<()> {
    let mut quiet = Quiet::default();
    // One loop that nobody could have made, 30 on an undisturbed core, 69 beside another.
    let loops = [beside(70.0, 1), beside(100.0, 30), beside(130.0, 69)].concat();
    same!(quiet.take(loops.clone()).len(), 100);
    let limit = quiet.learn().unwrap_or_default();
    same!(limit, 102.0);
    same!(quiet.take(loops).len(), 31);
    same!(quiet.share(), 0.31);
    // However long nothing else is seen, a disturbed core does not become an undisturbed one.
    quiet.take(beside(130.0, 10_000));
    same!(quiet.learn(), Some(limit));
    same!(quiet.learn(), Some(limit));
    same!(quiet.take(beside(130.0, 10)).len(), 0);
    // What was taken for one may turn out not to be.
    quiet.take(beside(90.0, 10));
    ensure!(quiet.learn().is_some_and(|limit| limit < 92.0));

    let mut results = example();
    let value = |results: &Results| {
        results.whole(|sample| sample.ns("hello syscount", Work::Getppid, By::Quarter))
    };
    for round in 0..40 {
        let disturbed = Some(turn(900.0, 130.0));
        results.note("hello syscount", Work::Getppid, round, disturbed);
    }
    same!(value(&results), Some(900.0));
    results.keep_quiet(limit);
    same!(value(&results), Some(94.0));
    Ok(())
}

/// Sixteen rounds, of which four are disturbed.
fn example() -> Results {
    let mut results = Results::default();
    for round in 0..16 {
        let slower = if round % 4 == 1 { 100.0 } else { 0.0 };
        let mut note = |row, ns| {
            let turn = turn(ns + slower, 1.0);
            results.note(row, Work::Getppid, round, Some(turn));
        };
        note(rows::UNTRACED, 72.0);
        note(rows::ENTER, 92.0);
        note("hello syscount", 94.0);
        note("libbpf-tools syscount", 112.0);
        note("bpftrace, count by call", 192.0);
    }
    results
}

fn ratios() -> Result<()> {
    let results = example();
    let work = Work::Getppid;
    let added = results.estimate(|sample| sample.added("hello syscount", work, By::Quarter));
    same!(added, Some(Estimate::exact(22.0)));
    let ratio = |other| results.whole(|sample| sample.ratio("hello syscount", other, work));
    same!(ratio(rows::ENTER), Some(1.1));
    same!(ratio(rows::UNTRACED), Some(f64::INFINITY));
    same!(
        report::best_peer(&results, rows::Job::Count, work),
        Some(("libbpf-tools syscount", 40.0))
    );
    same!(report::best_peer(&results, rows::Job::Opens, work), None);
    // It attached, and might be cheaper.
    let mut results = results;
    results.note("perf trace -a -s", work, 0, None);
    same!(report::best_peer(&results, rows::Job::Count, work), None);
    Ok(())
}

/// Of 1 to 99 the median is 50, and the interval of 95 % some 10 or so to either side:
/// ranks 40 and 60 by the binomial distribution.
fn intervals() -> Result<()> {
    let values: Vec<f64> = (1..100).map(f64::from).collect();
    let median = |rounds: &[usize]| {
        let drawn: Vec<f64> = rounds.iter().map(|round| values[*round]).collect();
        stats::quantile(&drawn, 0.5)
    };
    let estimate = Estimate::of(values.len(), median);
    let near = |is: f64, wanted: f64| (is - wanted).abs() <= 3.0;
    ensure!(
        estimate.is_some_and(|it| it.value == 50.0 && near(it.low, 40.0) && near(it.high, 60.0)),
        "{estimate:?}"
    );
    // Twelve rounds are too few, whatever comes of them, and so are many that have nothing.
    let one = |rounds: &[usize]| rounds.contains(&7).then_some(1.0);
    let few = Estimate::of(99, one).and_then(|few| few.at_most(2.0));
    same!(few, None);
    let few = Estimate::of(12, |_| Some(1.0)).and_then(|few| few.at_most(2.0));
    same!(few, None);
    same!(Estimate::of(13, |_| Some(1.0)), Some(Estimate::exact(1.0)));
    Ok(())
}

fn tables() -> Result<()> {
    let lines = [
        vec!["hello".into(), "1".into()],
        vec!["x".into(), "1,234".into()],
    ];
    same!(
        report::table(&["row", "×"], &lines),
        "| row   |     × |\n| ----- | ----: |\n| hello |     1 |\n| x     | 1,234 |\n"
    );
    let rows: Vec<&'static Row> = ROWS.iter().collect();
    let text = report::all(&example(), &rows, &[]);
    let line = text
        .lines()
        .find(|line| line.starts_with("| hello syscount "));
    let cells: Vec<&str> = line.unwrap_or_default().split('|').map(str::trim).collect();
    same!(
        cells,
        [
            "",
            "hello syscount",
            "94.0",
            "94.0",
            "quarter",
            "22.0",
            "22.0 … 22.0",
            "1.10",
            "0.55",
            "100 %",
            ""
        ]
    );
    let text = targets::table(&example(), &[], &targets::Else::default());
    let met = |what: &str| {
        let line = text.lines().find(|line| line.contains(what));
        line.and_then(|line| line.rsplit('|').nth(1)).map(str::trim)
    };
    same!(met("syscount, one call"), Some("yes"));
    same!(met("static binary"), Some("not measured"));
    let large = targets::Else {
        size: Some(5e6),
        ..targets::Else::default()
    };
    let text = targets::table(&example(), &[], &large);
    ensure!(text.contains("**no**"), "{text}");
    Ok(())
}

fn document() -> Result<()> {
    let old = "prose\n<!-- figures: written by `HELLO_BLESS=1 make bench` -->\nold\n\
               <!-- end of the figures -->\nmore\n";
    let new = doc::between(old, "new\n").unwrap_or_default();
    ensure!(new.contains("\nnew\n") && !new.contains("old"), "{new}");
    ensure!(
        new.starts_with("prose\n") && new.ends_with("more\n"),
        "{new}"
    );
    same!(doc::between("no markers", "new"), None);
    Ok(())
}

/// Noise is no verdict.
fn verdicts() -> Result<()> {
    let verdict = |low, high| {
        let estimate = Estimate {
            value: f64::midpoint(low, high),
            low,
            high,
        };
        estimate.at_most(5.0)
    };
    same!(verdict(1.0, 5.0), Some(true));
    same!(verdict(4.0, 6.0), None);
    same!(verdict(5.5, 6.0), Some(false));
    same!(verdict(-1.0, 5.0), Some(true));
    same!(verdict(-80.0, 4.0), None);
    same!(verdict(1.0, f64::INFINITY), None);
    Ok(())
}

fn vm() -> Result<()> {
    let line = "x\nbench: fexit ratio 1.0123 between 1.0 1.1 untraced_ns 500.1 hello a1 \
                release 6.12.1-cloud\n";
    let measure = Estimate {
        value: 1.0123,
        low: 1.0,
        high: 1.1,
    };
    same!(
        fexit::parse(line, "a1"),
        Some((measure, String::from("6.12.1")))
    );
    same!(fexit::parse(line, "a2"), None);
    same!(fexit::parse("bench: nothing", "a1"), None);
    Ok(())
}

/// Names are keys; each floor is a row.
fn rows_are_sound() -> Result<()> {
    for row in ROWS {
        same!(
            ROWS.iter().filter(|other| other.name == row.name).count(),
            1
        );
        let floor = rows::row(row.floor);
        ensure!(
            floor.is_some() || row.name == rows::UNTRACED,
            "{}",
            row.name
        );
    }
    Ok(())
}
