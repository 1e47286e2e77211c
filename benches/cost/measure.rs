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
use crate::place::steal;
use crate::rows;
use crate::rows::Job;
use crate::rows::Ready;
use crate::rows::Row;
use crate::rows::Tracing;
use crate::stats;
use crate::stats::Estimate;
use crate::tracer;
use crate::tracer::Floor;
use crate::tracer::Memory;
use crate::tracer::Tracer;
use crate::turn::By;
use crate::turn::Length;
use crate::turn::Quiet;
use crate::turn::Turn;
use crate::workload::Work;
use crate::workload::Workload;

/// hello's line when it is attached ends in the kernel's name.
pub(crate) const HELLO_READY: Ready = Ready::Says(", Linux ");

/// Of each workload of a row a turn, if the core was undisturbed.
type Turns = Vec<Option<Turn>>;

/// For each round what was measured in it.
type Rounds<T> = Vec<Vec<T>>;

fn add<T: Clone>(rounds: &mut Rounds<T>, round: usize, value: T) {
    if rounds.len() <= round {
        rounds.resize(round + 1, Vec::new());
    }
    rounds[round].push(value);
}

/// A turn in which hello lost events.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Loss {
    pub(crate) events: u64,
    /// What the host took of the CPUs' time in that turn.
    pub(crate) stolen: Duration,
}

/// What was measured of a row.
#[derive(Debug, Default)]
pub(crate) struct Measured {
    /// For each workload its turns.
    pub(crate) turns: BTreeMap<Work, Rounds<Turn>>,
    /// From its start until attached, milliseconds.
    pub(crate) starts: Rounds<f64>,
    pub(crate) memory: Memory,
    /// Turns that do not count, for hello says that it lost events.
    pub(crate) losses: Vec<Loss>,
    /// Why there are no figures.
    pub(crate) why: Option<String>,
}

impl Measured {
    /// How many of its turns lost events, and how many there were.
    pub(crate) fn losing(&self) -> (usize, usize) {
        (self.losses.len(), self.starts.iter().map(Vec::len).sum())
    }
}

/// What was measured.
#[derive(Debug, Default)]
pub(crate) struct Results {
    rows: BTreeMap<&'static str, Measured>,
    rounds: usize,
}

impl Results {
    pub(crate) fn of(&self, row: &str) -> Option<&Measured> {
        self.rows.get(row)
    }

    pub(crate) fn entry(&mut self, row: &'static str) -> &mut Measured {
        self.rows.entry(row).or_default()
    }

    /// Notes a turn, if there was one.
    pub(crate) fn note(&mut self, row: &'static str, work: Work, round: usize, turn: Option<Turn>) {
        self.rounds = self.rounds.max(round + 1);
        let turns = self.entry(row).turns.entry(work).or_default();
        if let Some(turn) = turn {
            add(turns, round, turn);
        }
    }

    /// Leaves out the turns that were not as undisturbed as later ones have been.
    pub(crate) fn keep_quiet(&mut self, limit: f64) {
        let all = self
            .rows
            .values_mut()
            .flat_map(|row| row.turns.values_mut());
        for round in all.flatten() {
            round.retain(|turn| turn.yardstick <= limit);
        }
    }

    /// What comes of all rounds.
    pub(crate) fn whole<T>(&self, of: impl Fn(Sample<'_>) -> Option<T>) -> Option<T> {
        let rounds: Vec<usize> = (0..self.rounds).collect();
        of(Sample {
            results: self,
            rounds: &rounds,
        })
    }

    /// The same, and how sure it is.
    pub(crate) fn estimate(&self, of: impl Fn(Sample<'_>) -> Option<f64>) -> Option<Estimate> {
        Estimate::of(self.rounds, |rounds| {
            of(Sample {
                results: self,
                rounds,
            })
        })
    }
}

/// Some of the rounds, of all rows the same; one may be there more than once.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Sample<'r> {
    results: &'r Results,
    rounds: &'r [usize],
}

impl Sample<'_> {
    fn measured(&self, row: &str) -> Option<&Measured> {
        self.results.of(row).filter(|row| row.why.is_none())
    }

    /// The median of all, of a turn or a start one number each.
    fn median<T>(self, all: &Rounds<T>, number: impl Fn(&T) -> f64) -> Option<f64> {
        let rounds = self.rounds.iter().filter_map(|round| all.get(*round));
        let numbers: Vec<f64> = rounds.flatten().map(number).collect();
        stats::quantile(&numbers, 0.5)
    }

    /// Nanoseconds of a unit.
    pub(crate) fn ns(self, row: &str, work: Work, by: By) -> Option<f64> {
        let turns = self.measured(row)?.turns.get(&work)?;
        self.median(turns, |turn| turn.ns(by))
    }

    /// The share of loops that count.
    pub(crate) fn kept(self, row: &str, work: Work) -> Option<f64> {
        let turns = self.measured(row)?.turns.get(&work)?;
        self.median(turns, |turn| turn.kept)
    }

    /// Of these, what is more than untraced by the same figure.
    pub(crate) fn added(self, row: &str, work: Work, by: By) -> Option<f64> {
        Some(self.ns(row, work, by)? - self.ns(rows::UNTRACED, work, by)?)
    }

    /// What a row added, in units of what another did, both by the first one's figure.
    pub(crate) fn ratio(self, row: &str, other: &str, work: Work) -> Option<f64> {
        let by = rows::row(row)?.by(work);
        let (added, unit) = (self.added(row, work, by)?, self.added(other, work, by)?);
        // Below nothing is noise, and nothing to divide by.
        Some(if unit > 0.0 {
            added / unit
        } else {
            f64::INFINITY
        })
    }

    /// Milliseconds from its start until attached.
    pub(crate) fn start(self, row: &str) -> Option<f64> {
        self.median(&self.measured(row)?.starts, |start| *start)
    }
}

/// The machine's workloads and what has been measured so far.
#[derive(Debug)]
pub(crate) struct Bench<'a> {
    pub(crate) place: &'a Place,
    pub(crate) workloads: BTreeMap<Work, Workload>,
    pub(crate) results: Results,
    pub(crate) quiet: Quiet,
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
            quiet: Quiet::default(),
        })
    }

    /// Turns that are not noted: by them the first round knows an undisturbed core.
    pub(crate) fn look_around(&mut self, length: Length) -> Result<()> {
        let work = Work::Getppid;
        let workload = self.workloads.get_mut(&work).context("no such workload")?;
        for _ in 0..30 {
            self.quiet.turn(work, workload, length)?;
        }
        self.quiet.learn();
        Ok(())
    }

    /// All rows once, or as often as they say.
    pub(crate) fn round(
        &mut self,
        round: usize,
        rows: &[&'static Row],
        length: Length,
    ) -> Result<()> {
        let mut order: Vec<&'static Row> = Vec::new();
        for row in rows {
            order.extend(std::iter::repeat_n(*row, row.times));
        }
        // The same orders in every run.
        fastrand::Rng::with_seed(u64::try_from(round)?).shuffle(&mut order);
        for row in order {
            if self
                .results
                .of(row.name)
                .is_some_and(|row| row.why.is_some())
            {
                continue;
            }
            match self.turns(row, round, length) {
                Ok(turns) => {
                    for (work, turn) in row.works.iter().zip(turns) {
                        self.results.note(row.name, *work, round, turn);
                    }
                }
                Err(error) => {
                    let why = format!("{error:#}");
                    eprintln!("hello-bench: {}: {why}", row.name);
                    self.results.entry(row.name).why = Some(why);
                }
            }
        }
        if let Some(limit) = self.quiet.learn() {
            self.results.keep_quiet(limit);
        }
        Ok(())
    }

    /// A turn of each of the row's workloads under its tracer; none where events were lost.
    fn turns(&mut self, row: &'static Row, round: usize, length: Length) -> Result<Turns> {
        match &row.tracing {
            Tracing::Nothing => self.works(row, length),
            Tracing::Floor(programs) => {
                let _floor = Floor::attach(programs)?;
                self.works(row, length)
            }
            Tracing::Hello(options) => {
                let mut command = Command::new(&self.place.hello);
                self.arguments(&mut command, row, options);
                let before = steal()?;
                let tracer = Tracer::start(command, HELLO_READY, self.place)?;
                let (turns, said) = self.traced(row, round, length, tracer, None)?;
                let (shown, events) =
                    stats::ledger(&said).context("hello ended without its ledger")?;
                ensure!(
                    row.job == Job::None || shown > 0,
                    "it attached and saw nothing"
                );
                if events == 0 {
                    return Ok(turns);
                }
                let stolen = steal()?.saturating_sub(before);
                let losses = &mut self.results.entry(row.name).losses;
                losses.push(Loss { events, stolen });
                Ok(vec![None; turns.len()])
            }
            Tracing::Peer(peer) => {
                let file = rows::find(peer.program).map_err(anyhow::Error::msg)?;
                let mut command = Command::new(file);
                self.arguments(&mut command, row, peer.options);
                let tracer = Tracer::start(command, peer.ready, self.place)?;
                let (turns, _) = self.traced(row, round, length, tracer, Some(peer.proof))?;
                Ok(turns)
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

    /// The turns of the row's workloads, and what the tracer said on standard error.
    fn traced(
        &mut self,
        row: &'static Row,
        round: usize,
        length: Length,
        tracer: Tracer,
        proof: Option<&str>,
    ) -> Result<(Turns, String)> {
        let turns = self.works(row, length)?;
        let (start, memory) = (tracer.attached_after, tracer.memory());
        let end = tracer.stop()?;
        if let Some(proof) = proof {
            let saw = end.said.contains(proof) || tracer::lines_with(&end.out, proof)? > 0;
            ensure!(saw, "not there: it attached and saw nothing");
        }
        fs::remove_file(&end.out)?;
        let measured = self.results.entry(row.name);
        add(&mut measured.starts, round, start.as_secs_f64() * 1000.0);
        measured.memory.process = measured.memory.process.max(memory.process);
        measured.memory.maps = measured.memory.maps.max(memory.maps);
        Ok((turns, end.said))
    }

    fn works(&mut self, row: &Row, length: Length) -> Result<Turns> {
        let turn = |work: &Work| {
            let workload = self.workloads.get_mut(work).context("no such workload")?;
            self.quiet.turn(*work, workload, length)
        };
        row.works.iter().map(turn).collect()
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
