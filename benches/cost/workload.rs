// SPDX-License-Identifier: BSD-2-Clause
//! The workloads: one process each for the whole run, on one CPU.

use std::io::BufRead as _;
use std::io::BufReader;
use std::io::Write as _;
use std::os::unix::process::CommandExt as _;
use std::process::Child;
use std::process::ChildStdin;
use std::process::ChildStdout;
use std::process::Command;
use std::process::Stdio;
use std::time::Duration;

use anyhow::Context as _;
use anyhow::Result;
use anyhow::ensure;
use nix::sched::CpuSet;
use nix::sched::sched_setaffinity;
use nix::unistd::Pid;

use crate::place::Place;
use crate::place::UID;
use crate::turn::Loop;

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Work {
    Getppid,
    RefusedOpen,
    Open,
    FailingOpen,
    Exec,
    Mix,
}

impl Work {
    pub(crate) const ALL: [Self; 6] = [
        Self::Getppid,
        Self::RefusedOpen,
        Self::Open,
        Self::FailingOpen,
        Self::Exec,
        Self::Mix,
    ];

    /// Its file in `benches/`.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Getppid => "getppid",
            Self::RefusedOpen => "refused_open",
            Self::Open => "open",
            Self::FailingOpen => "failing_open",
            Self::Exec => "exec",
            Self::Mix => "mix",
        }
    }

    /// What its figures are nanoseconds of.
    pub(crate) fn unit(self) -> &'static str {
        match self {
            Self::Getppid => "one getppid",
            Self::RefusedOpen => "one open that is refused for its flags",
            Self::Open => "one open with its close",
            Self::FailingOpen => "one open of a file that is not there",
            Self::Exec => "one vfork, exec and wait of a static program that does nothing",
            Self::Mix => "one call of 20: 13 getppid, 4 read, an open, its close, a failing open",
        }
    }

    /// Units in one operation of the program.
    fn units(self) -> f64 {
        if self == Self::Mix { 20.0 } else { 1.0 }
    }

    /// Operations to warm up by, and to learn how long one takes; few where a tracer
    /// may make milliseconds of one.
    fn first(self) -> u32 {
        match self {
            Self::Exec => 10,
            Self::Mix => 40,
            _ => 400,
        }
    }
}

/// A workload at work, or waiting for it.
#[derive(Debug)]
pub(crate) struct Workload {
    work: Work,
    child: Child,
    stdin: ChildStdin,
    stdout: BufReader<ChildStdout>,
}

impl Workload {
    pub(crate) fn start(work: Work, place: &Place) -> Result<Self> {
        let mut command = Command::new(place.path(work.name()));
        match work {
            Work::Getppid | Work::RefusedOpen => &mut command,
            Work::Open => command.arg(place.file()),
            Work::FailingOpen => command.arg(place.missing()),
            Work::Exec => command.arg(place.path("true")),
            Work::Mix => command.arg(place.file()).arg(place.missing()),
        };
        let mut child = command
            .env_clear()
            .uid(UID)
            .gid(UID)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .with_context(|| format!("the workload {}", work.name()))?;
        let mut cpu = CpuSet::new();
        cpu.set(place.cpu)?;
        sched_setaffinity(Pid::from_raw(child.id().cast_signed()), &cpu)?;
        Ok(Self {
            work,
            stdin: child.stdin.take().context("no standard input")?,
            stdout: BufReader::new(child.stdout.take().context("no standard output")?),
            child,
        })
    }

    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// So many loops of so many operations each.
    pub(crate) fn loops(&mut self, operations: u32, loops: u32) -> Result<Vec<Loop>> {
        writeln!(self.stdin, "{operations} {loops}")?;
        let mut line = String::new();
        self.stdout.read_line(&mut line)?;
        let name = self.work.name();
        ensure!(!line.is_empty(), "the workload {name} has ended");
        parse(&line, self.work.units()).with_context(|| format!("{name}: {line:?}"))
    }

    /// What an operation takes, after some to warm up, where nothing interrupts it.
    pub(crate) fn operation(&mut self) -> Result<Duration> {
        let loops = self.loops(self.work.first(), 3)?;
        let shortest = loops.iter().map(|one| one.ns).reduce(f64::min);
        let ns = shortest.context("no loops")? * self.work.units();
        Ok(Duration::from_secs_f64(ns / 1e9))
    }
}

/// The yardstick, then of each loop the time of an operation and of the yardstick after it.
pub(crate) fn parse(line: &str, units: f64) -> Result<Vec<Loop>> {
    let numbers: Result<Vec<f64>, _> = line.split_whitespace().map(str::parse).collect();
    let numbers = numbers?;
    ensure!(numbers.len() % 2 == 1, "not of each loop two numbers");
    let loops = numbers.windows(3).step_by(2).map(|part| Loop {
        ns: part[1] / units,
        yardstick: part[0].max(part[2]),
    });
    Ok(loops.collect())
}

impl Drop for Workload {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
