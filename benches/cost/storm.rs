// SPDX-License-Identifier: BSD-2-Clause
//! One process opens a file as fast as its CPU can; what of it do tracers show?

use std::fs;
use std::process::Command;
use std::time::Duration;
use std::time::Instant;

use anyhow::Result;

use crate::measure::HELLO_READY;
use crate::place::Place;
use crate::place::UID;
use crate::place::steal;
use crate::rows;
use crate::rows::Ready;
use crate::stats;
use crate::tracer;
use crate::tracer::Tracer;
use crate::workload::Work;
use crate::workload::Workload;

/// The storm's rows: name, program, options. The first is the target's.
const STORMS: &[(&str, &str, &[&str])] = &[
    ("hello file, text", "hello", &["--mode", "file"]),
    (
        "hello file, JSON",
        "hello",
        &["--mode", "file", "-o", "json"],
    ),
    ("libbpf-tools opensnoop", "opensnoop", &[]),
];

/// What became of a storm.
#[derive(Debug)]
pub(crate) struct Storm {
    pub(crate) name: &'static str,
    pub(crate) outcome: Result<Outcome, String>,
}

#[derive(Debug)]
pub(crate) struct Outcome {
    pub(crate) seconds: f64,
    /// Made by the workload, by its own count.
    pub(crate) opens: u64,
    /// Lines of the output that show one.
    pub(crate) shown: u64,
    /// As the tracer says; `None` where it says nothing.
    pub(crate) lost: Option<u64>,
    /// Of the tracer, on all CPUs, from its start to its end.
    pub(crate) cpu: Duration,
    /// CPU time that the host of a virtual machine gave to others while it was wanted here.
    pub(crate) stolen: Duration,
    /// The tracer's peak, MiB.
    pub(crate) memory: f64,
}

impl Outcome {
    /// CPU seconds for a million opens.
    pub(crate) fn cpu_per_million(&self) -> f64 {
        #[expect(clippy::cast_precision_loss, reason = "far below 2^53")]
        let millions = self.shown.max(1) as f64 / 1e6;
        self.cpu.as_secs_f64() / millions
    }
}

/// All storms, one after the other.
pub(crate) fn all(place: &Place, time: Duration) -> Vec<Storm> {
    let storms = STORMS.iter().map(|&(name, program, options)| {
        eprintln!(
            "hello-bench: {} s of opens under {name}",
            time.as_secs_f64()
        );
        Storm {
            name,
            outcome: storm(place, program, options, time).map_err(|error| format!("{error:#}")),
        }
    });
    storms.collect()
}

/// hello alone, for tests.
pub(crate) fn hello(place: &Place, time: Duration) -> Result<Outcome> {
    let (_, program, options) = STORMS[0];
    storm(place, program, options, time)
}

fn storm(place: &Place, program: &str, options: &[&str], time: Duration) -> Result<Outcome> {
    let hello = program == "hello";
    let (file, ready) = if hello {
        (place.hello.clone(), HELLO_READY)
    } else {
        (
            rows::find(program).map_err(anyhow::Error::msg)?,
            Ready::Holds,
        )
    };
    let mut workload = Workload::start(Work::Open, place)?;
    let mut command = Command::new(file);
    command.args(options).args(["-u", &UID.to_string()]);
    // How long a part of the storm takes does not matter.
    let part = 20_000;
    let tracer = Tracer::start(command, ready, place)?;
    let before = steal()?;
    let begin = Instant::now();
    let mut opens = 0;
    while begin.elapsed() < time {
        workload.loops(part, 1)?;
        opens += u64::from(part);
    }
    let seconds = begin.elapsed().as_secs_f64();
    let stolen = steal()?.saturating_sub(before);
    let memory = tracer::mebibytes(tracer.memory().process);
    let end = tracer.stop()?;
    let shown = tracer::lines_with(&end.out, "bench-file")?;
    fs::remove_file(&end.out)?;
    Ok(Outcome {
        seconds,
        opens,
        shown,
        lost: stats::ledger(&end.said)
            .filter(|_| hello)
            .map(|(_, lost)| lost),
        cpu: end.cpu,
        stolen,
        memory,
    })
}
