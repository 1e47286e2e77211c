// SPDX-License-Identifier: BSD-2-Clause
//! What calls that open nothing pay while hello watches opens by fexit: measured where
//! the kernel has trampolines, in a VM if need be (`make bench-vm`).

use std::collections::hash_map::DefaultHasher;
use std::hash::Hash as _;
use std::hash::Hasher as _;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use anyhow::Context as _;
use anyhow::Result;

use crate::measure::HELLO_READY;
use crate::measure::Results;
use crate::measure::Sample;
use crate::place::Place;
use crate::place::UID;
use crate::rows::UNTRACED;
use crate::stats::Estimate;
use crate::tracer::Tracer;
use crate::turn::By;
use crate::turn::Length;
use crate::turn::Quiet;
use crate::workload::Work;
use crate::workload::Workload;

/// What the line of figures begins with; run.sh looks for it.
const MARK: &str = "bench: fexit";

/// The row beside untraced.
const FEXIT: &str = "hello file by fexit";

/// Untraced and traced in turns; the line of figures.
pub(crate) fn measure(place: &Place, quiet: &mut Quiet) -> Result<String> {
    let mut workload = Workload::start(Work::Getppid, place)?;
    let length = Length::Time(Duration::from_millis(200));
    let uid = UID.to_string();
    let mut results = Results::default();
    let mut note = |row, round| {
        let turn = quiet.turn(Work::Getppid, &mut workload, length)?;
        results.note(row, Work::Getppid, round, turn);
        anyhow::Ok(())
    };
    for round in 0..15 {
        note(UNTRACED, round)?;
        let mut command = Command::new(&place.hello);
        command.args(["--mode", "file", "--attach", "fentry", "-u", &uid]);
        let tracer = Tracer::start(command, HELLO_READY, place)?;
        note(FEXIT, round)?;
        tracer.stop()?;
    }
    let ns = |sample: Sample<'_>, row| sample.ns(row, Work::Getppid, By::Quarter);
    let untraced = |sample: Sample<'_>| ns(sample, UNTRACED);
    let ratio = results
        .estimate(|sample| Some(ns(sample, FEXIT)? / untraced(sample)?))
        .context("no figures")?;
    let uname = nix::sys::utsname::uname()?;
    Ok(format!(
        "{MARK} ratio {:.4} between {:.4} {:.4} untraced_ns {:.1} hello {} release {}",
        ratio.value,
        ratio.low,
        ratio.high,
        results.whole(untraced).context("no figures")?,
        identity(&place.hello)?,
        uname.release().to_string_lossy(),
    ))
}

/// Tells one build of hello from another.
fn identity(hello: &Path) -> Result<String> {
    let mut hasher = DefaultHasher::new();
    std::fs::read(hello)?.hash(&mut hasher);
    Ok(format!("{:016x}", hasher.finish()))
}

/// The ratio and the kernel in the line, wherever it stands in a text; `None` if it is of
/// another build of hello.
pub(crate) fn parse(text: &str, hello: &str) -> Option<(Estimate, String)> {
    let line = text.lines().find(|line| line.starts_with(MARK))?;
    let words: Vec<&str> = line.split_whitespace().collect();
    let after = |name, more: usize| words.iter().skip_while(|word| **word != name).nth(1 + more);
    if *after("hello", 0)? != hello {
        return None;
    }
    let release = after("release", 0)?.split('-').next()?;
    let measure = Estimate {
        value: after("ratio", 0)?.parse().ok()?,
        low: after("between", 0)?.parse().ok()?,
        high: after("between", 1)?.parse().ok()?,
    };
    Some((measure, release.to_owned()))
}

/// Measured here, or, where that does not work, as on a kernel without trampolines, what
/// `make bench-vm` has left beside this binary. Which, and why, is said.
pub(crate) fn here_or_kept(place: &Place, quiet: &mut Quiet) -> Result<Option<(Estimate, String)>> {
    let hello = identity(&place.hello)?;
    let why = match measure(place, quiet) {
        Ok(line) => return Ok(parse(&line, &hello)),
        Err(why) => why,
    };
    let file = std::env::current_exe()?.with_file_name("vm");
    let kept = parse(&std::fs::read_to_string(file).unwrap_or_default(), &hello);
    let then = if kept.is_some() {
        "the figure of make bench-vm is taken"
    } else {
        "make bench-vm has no figure of this hello"
    };
    eprintln!("hello-bench: file by fexit: {why:#}; {then}");
    Ok(kept)
}
