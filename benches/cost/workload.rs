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

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Work {
    Getppid,
    Open,
    FailingOpen,
    Exec,
    Mix,
}

impl Work {
    pub(crate) const ALL: [Self; 5] = [
        Self::Getppid,
        Self::Open,
        Self::FailingOpen,
        Self::Exec,
        Self::Mix,
    ];

    /// Its file in `benches/`.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Getppid => "getppid",
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
    fn first(self) -> u64 {
        match self {
            Self::Exec => 20,
            Self::Mix => 100,
            _ => 1000,
        }
    }
}

/// How long a workload runs for one loop.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Length {
    /// As many operations as fit into a time.
    Time(Duration),
    /// So many operations.
    Count(u64),
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
            Work::Getppid => &mut command,
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

    /// So many operations; returns the nanoseconds of one of its units.
    pub(crate) fn run(&mut self, operations: u64) -> Result<f64> {
        writeln!(self.stdin, "{operations}")?;
        let mut line = String::new();
        self.stdout.read_line(&mut line)?;
        let name = self.work.name();
        ensure!(!line.is_empty(), "the workload {name} has ended");
        let one: f64 = line
            .trim()
            .parse()
            .with_context(|| format!("{name}: {line:?}"))?;
        Ok(one / self.work.units())
    }

    /// So many loops: nanoseconds of a unit in each.
    pub(crate) fn loops(&mut self, length: Length, loops: u64) -> Result<Vec<f64>> {
        let operations = match length {
            Length::Count(operations) => operations,
            Length::Time(time) => self.operations_in(time)?,
        };
        (0..loops).map(|_| self.run(operations)).collect()
    }

    /// How many operations take about so long.
    pub(crate) fn operations_in(&mut self, time: Duration) -> Result<u64> {
        let first = self.work.first();
        let one = self.run(first)? * self.work.units();
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "a count"
        )]
        let fit = (time.as_secs_f64() * 1e9 / one) as u64;
        Ok(fit.max(first))
    }
}

impl Drop for Workload {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
