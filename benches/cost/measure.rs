// SPDX-License-Identifier: BSD-2-Clause
//! The rounds: in each, every row once or as often as it says, in an order of its own.

use std::collections::BTreeMap;
use std::fs;
use std::process::Command;
use std::time::Duration;

use anyhow::Context as _;
use anyhow::Result;
use anyhow::ensure;

use crate::place::Place;
use crate::place::UID;
use crate::rows;
use crate::rows::Ready;
use crate::rows::Row;
use crate::rows::Tracing;
use crate::stats;
use crate::tracer;
use crate::tracer::Floor;
use crate::tracer::Memory;
use crate::tracer::Tracer;
use crate::workload::Length;
use crate::workload::Work;
use crate::workload::Workload;

/// Loops under the tracer, and as many before it and after it together.
pub(crate) const LOOPS: u64 = 20;
pub(crate) const BESIDE: u64 = LOOPS / 2;

/// A figure is what a tenth of the loops stay below: what others on the host do beside them
/// makes loops slower by a third, for some tenths of a second each time.
const QUIET: f64 = 0.1;

/// hello's line when it is attached ends in the kernel's name.
pub(crate) const HELLO_READY: Ready = Ready::Says(", Linux ");

/// Nanoseconds of a unit: in a row's turn, and without its tracer just before and after.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Figure {
    pub(crate) ns: f64,
    pub(crate) untraced: f64,
}

impl Figure {
    /// Of the loops of a turn.
    pub(crate) fn of(before: &[f64], under: &[f64], after: &[f64]) -> Result<Self> {
        let quiet = |loops: &[f64]| stats::quantile(loops, QUIET).context("no loops");
        Ok(Self {
            ns: quiet(under)?,
            untraced: quiet(&[before, after].concat())?,
        })
    }
}

/// What was measured of a row.
#[derive(Debug, Default)]
pub(crate) struct Measured {
    /// For each workload its figures.
    pub(crate) figures: BTreeMap<Work, Vec<Figure>>,
    /// From its start until attached, milliseconds.
    pub(crate) starts: Vec<f64>,
    pub(crate) memory: Memory,
    /// Events that it says it lost.
    pub(crate) lost: u64,
    /// Why there are no figures.
    pub(crate) why: Option<String>,
}

/// What was measured.
#[derive(Debug, Default)]
pub(crate) struct Results(BTreeMap<&'static str, Measured>);

impl Results {
    pub(crate) fn of(&self, row: &str) -> Option<&Measured> {
        self.0.get(row)
    }

    fn all(&self, row: &str, work: Work) -> &[Figure] {
        let measured = self.of(row);
        let figures = measured.and_then(|measured| measured.figures.get(&work));
        figures.map_or(&[], Vec::as_slice)
    }

    /// The figures of a row, nanoseconds.
    pub(crate) fn figures(&self, row: &str, work: Work) -> Vec<f64> {
        let figures = self.all(row, work).iter();
        figures.map(|figure| figure.ns).collect()
    }

    /// What a row added to each of its figures.
    pub(crate) fn added(&self, row: &str, work: Work) -> Vec<f64> {
        let figures = self.all(row, work).iter();
        figures.map(|figure| figure.ns - figure.untraced).collect()
    }

    pub(crate) fn note(&mut self, row: &'static str, work: Work, figure: Figure) {
        let figures = &mut self.0.entry(row).or_default().figures;
        figures.entry(work).or_default().push(figure);
    }
}

/// The machine's workloads and what has been measured so far.
#[derive(Debug)]
pub(crate) struct Bench<'a> {
    pub(crate) place: &'a Place,
    pub(crate) workloads: BTreeMap<Work, Workload>,
    pub(crate) results: Results,
}

impl<'a> Bench<'a> {
    pub(crate) fn prepare(place: &'a Place) -> Result<Self> {
        let workloads = Work::ALL
            .into_iter()
            .map(|work| Ok((work, Workload::start(work, place)?)));
        Ok(Self {
            place,
            workloads: workloads.collect::<Result<_>>()?,
            results: Results::default(),
        })
    }

    /// All rows once, or as often as they say.
    pub(crate) fn round(
        &mut self,
        round: u64,
        rows: &[&'static Row],
        length: Length,
    ) -> Result<()> {
        let mut order: Vec<&'static Row> = Vec::new();
        for row in rows {
            order.extend(std::iter::repeat_n(*row, row.times));
        }
        // The same orders in every run.
        fastrand::Rng::with_seed(round).shuffle(&mut order);
        for row in order {
            if self
                .results
                .of(row.name)
                .is_some_and(|row| row.why.is_some())
            {
                continue;
            }
            if let Err(error) = self.turn(row, length) {
                let why = format!("{error:#}");
                eprintln!("hello-bench: {}: {why}", row.name);
                self.results.0.entry(row.name).or_default().why = Some(why);
            }
        }
        Ok(())
    }

    /// What the host does to one part of a turn it does to the others: a row is compared
    /// with what stands beside it, not with minutes before.
    fn turn(&mut self, row: &'static Row, length: Length) -> Result<()> {
        let before = self.works(row, length, BESIDE)?;
        let under = self.row(row, length)?;
        let after = self.works(row, length, BESIDE)?;
        for (at, work) in row.works.iter().enumerate() {
            let figure = Figure::of(&before[at], &under[at], &after[at])?;
            self.results.note(row.name, *work, figure);
        }
        Ok(())
    }

    fn row(&mut self, row: &'static Row, length: Length) -> Result<Vec<Vec<f64>>> {
        match &row.tracing {
            Tracing::Nothing => self.works(row, length, LOOPS),
            Tracing::Floor(programs) => {
                let _floor = Floor::attach(programs)?;
                self.works(row, length, LOOPS)
            }
            Tracing::Hello(options) => {
                let mut command = Command::new(&self.place.hello);
                self.arguments(&mut command, row, options);
                let (loops, said) = self.traced(row, length, (command, HELLO_READY), None)?;
                let lost = stats::lost(&said).context("hello ended without its ledger")?;
                self.results.0.entry(row.name).or_default().lost += lost;
                Ok(loops)
            }
            Tracing::Peer(peer) => {
                let file = rows::find(peer.program).map_err(anyhow::Error::msg)?;
                let mut command = Command::new(file);
                self.arguments(&mut command, row, peer.options);
                let tracer = (command, peer.ready);
                let (loops, _) = self.traced(row, length, tracer, Some(peer.proof))?;
                Ok(loops)
            }
        }
    }

    /// Fills in whom a tracer selects.
    fn arguments(&self, command: &mut Command, row: &Row, options: &[&str]) {
        let pids = row.works.iter().filter_map(|work| self.workloads.get(work));
        let pids: Vec<String> = pids.map(|workload| workload.pid().to_string()).collect();
        for option in options {
            command.arg(
                option
                    .replace("{uid}", &UID.to_string())
                    .replace("{pids}", &pids.join(","))
                    .replace("{other}", &std::process::id().to_string()),
            );
        }
    }

    /// The row's workloads under a tracer; their loops, and what it said on standard error.
    fn traced(
        &mut self,
        row: &'static Row,
        length: Length,
        (command, ready): (Command, Ready),
        proof: Option<&str>,
    ) -> Result<(Vec<Vec<f64>>, String)> {
        let tracer = Tracer::start(command, ready, self.place)?;
        let loops = self.works(row, length, LOOPS)?;
        let (start, memory) = (tracer.attached_after, tracer.memory());
        let end = tracer.stop()?;
        if let Some(proof) = proof {
            let saw = end.said.contains(proof) || tracer::lines_with(&end.out, proof)? > 0;
            ensure!(saw, "not there: it attached and saw nothing");
        }
        fs::remove_file(&end.out)?;
        let measured = self.results.0.entry(row.name).or_default();
        measured.starts.push(start.as_secs_f64() * 1000.0);
        measured.memory.process = measured.memory.process.max(memory.process);
        measured.memory.maps = measured.memory.maps.max(memory.maps);
        Ok((loops, end.said))
    }

    /// So many loops of each of the row's workloads.
    fn works(&mut self, row: &Row, length: Length, loops: u64) -> Result<Vec<Vec<f64>>> {
        let of = |work: &Work| {
            let workload = self.workloads.get_mut(work).context("no such workload")?;
            workload.loops(fitting(*work, length), loops)
        };
        row.works.iter().map(of).collect()
    }
}

/// An exec takes so long that fewer do.
fn fitting(work: Work, length: Length) -> Length {
    match (work, length) {
        (Work::Exec, Length::Count(count)) => Length::Count(count.div_ceil(50)),
        (_, length) => length,
    }
}

/// The settings' time as a duration.
pub(crate) fn millis(name: &str, default: u64) -> Result<Duration> {
    Ok(Duration::from_millis(number(name, default)?))
}

/// A number from the environment.
pub(crate) fn number(name: &str, default: u64) -> Result<u64> {
    match std::env::var(name) {
        Ok(text) => text
            .parse()
            .ok()
            .filter(|number| *number > 0)
            .with_context(|| format!("{name}={text} is not a number from 1")),
        Err(_) => Ok(default),
    }
}
