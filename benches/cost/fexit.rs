// SPDX-License-Identifier: BSD-2-Clause
//! What calls that open nothing pay while hello watches opens by fexit: measured where
//! the kernel has trampolines, in a VM if need be (`make bench-vm`).

use std::process::Command;
use std::time::Duration;

use anyhow::Context as _;
use anyhow::Result;

use crate::measure::BESIDE;
use crate::measure::Figure;
use crate::measure::HELLO_READY;
use crate::measure::LOOPS;
use crate::place::Place;
use crate::place::UID;
use crate::stats;
use crate::targets::Measure;
use crate::tracer::Tracer;
use crate::workload::Length;
use crate::workload::Work;
use crate::workload::Workload;

/// What the line of figures begins with; run.sh looks for it.
const MARK: &str = "bench: fexit";

/// Untraced and traced in turns; the line of figures.
pub(crate) fn measure(place: &Place) -> Result<String> {
    let mut workload = Workload::start(Work::Getppid, place)?;
    let length = Length::Time(Duration::from_millis(20));
    let mut figures = Vec::new();
    for _ in 0..11 {
        let before = workload.loops(length, BESIDE)?;
        let mut command = Command::new(&place.hello);
        command.args([
            "--mode",
            "file",
            "--attach",
            "fentry",
            "-u",
            &UID.to_string(),
        ]);
        let tracer = Tracer::start(command, HELLO_READY, place)?;
        let under = workload.loops(length, LOOPS)?;
        tracer.stop()?;
        let after = workload.loops(length, BESIDE)?;
        figures.push(Figure::of(&before, &under, &after)?);
    }
    let ratios: Vec<f64> = figures.iter().map(|it| it.ns / it.untraced).collect();
    let untraced: Vec<f64> = figures.iter().map(|it| it.untraced).collect();
    let at = |share| stats::quantile(&ratios, share).context("no figures");
    let uname = nix::sys::utsname::uname()?;
    Ok(format!(
        "{MARK} ratio {:.4} quartiles {:.4} {:.4} untraced_ns {:.1} release {}",
        at(0.5)?,
        at(0.25)?,
        at(0.75)?,
        stats::median(&untraced).context("no figures")?,
        uname.release().to_string_lossy(),
    ))
}

/// The ratio and the kernel in the line, wherever it stands in a text.
pub(crate) fn parse(text: &str) -> Option<(Measure, String)> {
    let line = text.lines().find(|line| line.starts_with(MARK))?;
    let words: Vec<&str> = line.split_whitespace().collect();
    let after = |name, more: usize| words.iter().skip_while(|word| **word != name).nth(1 + more);
    let release = after("release", 0)?.split('-').next()?;
    let measure = Measure {
        value: after("ratio", 0)?.parse().ok()?,
        low: after("quartiles", 0)?.parse().ok()?,
        high: after("quartiles", 1)?.parse().ok()?,
    };
    Some((measure, release.to_owned()))
}

/// Measured here, or, where the kernel has no trampolines, what `make bench-vm` has left
/// beside this binary.
pub(crate) fn here_or_kept(place: &Place) -> Option<(Measure, String)> {
    if let Ok(line) = measure(place) {
        return parse(&line);
    }
    let file = std::env::current_exe()
        .ok()?
        .parent()
        .map(|dir| dir.join("vm"))?;
    parse(&std::fs::read_to_string(file).ok()?)
}
