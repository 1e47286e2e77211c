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
use crate::measure::Figure;
use crate::measure::Results;
use crate::place::Place;
use crate::report;
use crate::rows;
use crate::rows::ROWS;
use crate::rows::Row;
use crate::rows::Tracing;
use crate::stats;
use crate::storm;
use crate::targets;
use crate::targets::Measure;
use crate::workload::Length;
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
        ("units::ratios", ratios),
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
        println!("\n{}", fexit::measure(&place).map_err(failed)?);
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
            same!(bench.results.figures(row.name, *work).len(), row.times);
            same!(bench.results.added(row.name, *work).len(), row.times);
        }
        if matches!(row.tracing, Tracing::Hello(_)) {
            same!(measured.map(|measured| measured.starts.len()), Some(1));
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
    same!(stats::median(&[]), None);
    same!(stats::median(&[3.0, 1.0, 2.0]), Some(2.0));
    same!(stats::median(&[4.0, 1.0, 2.0, 3.0]), Some(2.5));
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
        stats::lost("hello: file: …\nhello: 23 events, 0 lost\n"),
        Some(0)
    );
    same!(
        stats::lost("hello: 23 events, 12 lost (12 buffer full), 5 filtered out"),
        Some(12)
    );
    same!(stats::lost("hello: cannot load"), None);
    Ok(())
}

/// Five rounds, the first and the second on a faster and a slower machine.
fn example() -> Results {
    let mut results = Results::default();
    for slower in [0.0, 100.0, 50.0, 50.0, 50.0] {
        let untraced = 72.0 + slower;
        let mut note = |row, ns| {
            let ns = ns + slower;
            results.note(row, Work::Getppid, Figure { ns, untraced });
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
    same!(results.added("hello syscount", work), [22.0; 5]);
    let row = rows::ROWS.iter().find(|row| row.name == "hello syscount");
    same!(
        row.and_then(|row| report::to_floor(&results, row, work)),
        Some(1.1)
    );
    same!(
        report::best_peer(&results, rows::Job::Count, work),
        Some(("libbpf-tools syscount", 40.0))
    );
    same!(report::best_peer(&results, rows::Job::Opens, work), None);
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
            "144",
            "22.0",
            "22.0 … 22.0",
            "1.10",
            "0.55",
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
    let measure = |low, value, high| Measure { value, low, high };
    let floor = measure(20.0, 25.0, 25.0);
    let ratio = measure(25.0, 30.0, 30.0).over(floor);
    same!(ratio, measure(1.0, 1.2, 1.5));
    same!(ratio.at_most(1.5), Some(true));
    same!(ratio.at_most(1.2), None);
    same!(ratio.at_most(0.9), Some(false));
    let below = measure(-20.0, -10.0, 10.0).over(floor);
    same!(below, measure(-1.0, -0.4, 0.5));
    same!(measure(-80.0, 3.0, 4.0).at_most(5.0), None);
    let noise = measure(25.0, 30.0, 30.0).over(measure(-1.0, 25.0, 60.0));
    same!(noise.at_most(1000.0), None);
    Ok(())
}

fn vm() -> Result<()> {
    let line =
        "x\nbench: fexit ratio 1.0123 quartiles 1.0 1.1 untraced_ns 500.1 release 6.12.1-cloud\n";
    let measure = Measure {
        value: 1.0123,
        low: 1.0,
        high: 1.1,
    };
    same!(fexit::parse(line), Some((measure, String::from("6.12.1"))));
    same!(fexit::parse("bench: nothing"), None);
    Ok(())
}

/// Names are keys; each floor is a row that runs the workloads of those above it.
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
