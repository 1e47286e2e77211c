// SPDX-License-Identifier: BSD-2-Clause
//! What hello costs, against the floor and against peers: `make bench`, as root. What the
//! figures mean stands in docs/performance.md.
//!
//!     hello-bench --bench [ROW]...    measures; only rows whose names contain one of the words
//!     hello-bench [TEST]...           tests of the benchmark itself, none of them of speed
//!
//! `HELLO_BENCH_ROUNDS` (25), `HELLO_BENCH_MILLIS` (40) for the shortest turns, `HELLO_BENCH_SECONDS`
//! (30) for each storm; `HELLO_BLESS=1` renews docs/performance.md.

mod doc;
mod fexit;
mod measure;
mod place;
mod report;
mod rows;
mod selftest;
mod stats;
mod storm;
mod targets;
mod tracer;
mod turn;
mod workload;

use std::env;
use std::fs;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Result;
use anyhow::ensure;
use libtest_mimic::Arguments;
use nix::sys::signal::SigHandler;
use nix::sys::signal::Signal;
use nix::sys::signal::signal;
use nix::unistd::Uid;

use crate::measure::Bench;
use crate::measure::millis;
use crate::measure::number;
use crate::place::Place;
use crate::rows::ROWS;
use crate::rows::Row;
use crate::rows::Tracing;
use crate::rows::UNTRACED;
use crate::turn::By;
use crate::turn::Length;
use crate::workload::Work;

fn main() -> ExitCode {
    // Ignored where a script started this in the background; tracers would inherit it,
    // and not stop.
    // SAFETY: the default action runs no code of this program.
    let _ = unsafe { signal(Signal::SIGINT, SigHandler::SigDfl) };
    let mut words: Vec<String> = env::args().skip(1).collect();
    // cargo bench gives the flag, cargo test does not.
    let Some(at) = words.iter().position(|word| word == "--bench") else {
        return test();
    };
    words.remove(at);
    match bench(&words) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("hello-bench: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn test() -> ExitCode {
    let mut arguments = Arguments::from_args();
    // One at a time: they measure.
    arguments.test_threads = Some(1);
    let mut trials = selftest::units();
    if !Uid::effective().is_root() || place::workloads().is_none() {
        eprintln!("not as root beside its workloads: rows are not tried; `make test-root` does");
    } else {
        match Place::prepare() {
            Ok(place) => {
                let place = Arc::new(place);
                trials.extend(selftest::smoke(&place));
                if env::var_os("HELLO_VM").is_some() {
                    trials.push(selftest::fexit(&place));
                }
            }
            Err(error) => {
                eprintln!("hello-bench: {error:#}");
                return ExitCode::FAILURE;
            }
        }
    }
    libtest_mimic::run(&arguments, trials).exit_code()
}

fn bench(words: &[String]) -> Result<()> {
    ensure!(Uid::effective().is_root(), "not root: run `make bench`");
    let bless = env::var_os("HELLO_BLESS").is_some();
    ensure!(
        !bless || words.is_empty(),
        "the document takes all rows, not some"
    );
    let wanted = |row: &&Row| {
        let named = words.iter().any(|word| row.name.contains(word.as_str()));
        words.is_empty() || named || row.name == UNTRACED
    };
    let rows: Vec<&'static Row> = ROWS.iter().filter(wanted).collect();
    let rounds = number("HELLO_BENCH_ROUNDS", 25)?;
    let length = Length::Time(millis("HELLO_BENCH_MILLIS", 40)?);
    let storm = Duration::from_secs(number("HELLO_BENCH_SECONDS", 30)?);

    let place = Place::prepare()?;
    warn_of_others();
    let mut bench = Bench::prepare(&place)?;
    bench.look_around(length)?;
    for round in 0..usize::try_from(rounds)? {
        eprintln!("hello-bench: round {} of {rounds}", round + 1);
        bench.round(round, &rows, length)?;
    }
    let storms = if words.is_empty() {
        storm::all(&place, storm)
    } else {
        Vec::new()
    };
    #[expect(clippy::cast_precision_loss, reason = "far below 2^53")]
    let other = targets::Else {
        size: fs::metadata(&place.hello)
            .ok()
            .map(|file| file.len() as f64),
        fexit: fexit::here_or_kept(&place, &mut bench.quiet)?,
    };
    let text = format!(
        "{}\n### Targets\n\n{}\n{}",
        doc::machine(&place, rounds, &bench.quiet),
        targets::table(&bench.results, &storms, &other),
        report::all(&bench.results, &rows, &storms),
    );
    println!("{text}");
    // A peer may be missing; a figure of hello's own may not.
    let missing = rows.iter().filter(|row| {
        let has = |work: &Work| {
            bench
                .results
                .whole(|sample| sample.ns(row.name, *work, By::Mean))
                .is_some()
        };
        !matches!(row.tracing, Tracing::Peer(_)) && !row.works.iter().all(has)
    });
    let missing: Vec<&str> = missing.map(|row| row.name).collect();
    ensure!(missing.is_empty(), "no figures of {}", missing.join(", "));
    if bless {
        doc::renew(&text)?;
    }
    Ok(())
}

/// Others who use the CPUs make noise of the figures.
fn warn_of_others() {
    let load = fs::read_to_string("/proc/loadavg").unwrap_or_default();
    let load = load
        .split(' ')
        .next()
        .and_then(|load| load.parse::<f64>().ok());
    if let Some(load) = load.filter(|load| *load > 0.5) {
        eprintln!("hello-bench: this machine is not quiet (load {load}): expect noise");
    }
}
