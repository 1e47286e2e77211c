// SPDX-License-Identifier: BSD-2-Clause
//! docs/performance.md: the prose is written by hand, what stands between the markers by
//! the benchmark.

use std::fs;
use std::process::Command;

use anyhow::Context as _;
use anyhow::Result;

use crate::place::Place;
use crate::tracer::Floor;
use crate::turn::Quiet;

const FILE: &str = "docs/performance.md";
const BEGIN: &str = "<!-- figures: written by `HELLO_BLESS=1 make bench` -->\n";
const END: &str = "<!-- end of the figures -->\n";

/// Replaces what stands between the markers. `None` where one is missing.
pub(crate) fn between(text: &str, figures: &str) -> Option<String> {
    let (before, rest) = text.split_once(BEGIN)?;
    let (_, after) = rest.split_once(END)?;
    Some(format!(
        "{before}{BEGIN}\n{}\n\n{END}{after}",
        figures.trim()
    ))
}

/// Renews the document.
pub(crate) fn renew(figures: &str) -> Result<()> {
    let text = fs::read_to_string(FILE).context(FILE)?;
    let text = between(&text, figures).with_context(|| format!("{FILE} has lost its markers"))?;
    fs::write(FILE, text).context(FILE)
}

/// Which kernel, machine, compilers and peers, and how quiet it was.
pub(crate) fn machine(place: &Place, rounds: u64, quiet: &Quiet) -> String {
    let kernel = match nix::sys::utsname::uname() {
        Ok(uname) => {
            let release = uname.release().to_string_lossy().into_owned();
            // The number says it; what follows names a machine.
            let number = release.split('-').next().unwrap_or_default();
            format!("Linux {number}, {}", uname.machine().to_string_lossy())
        }
        Err(_) => "an unknown kernel".into(),
    };
    let cpuinfo = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let model = cpuinfo
        .lines()
        .find_map(|line| line.strip_prefix("model name")?.split_once(": "));
    let model = model.map_or("CPU of unknown model", |(_, model)| model.trim());
    // Debian's package has none of it without a build: asked where it was built.
    let rustc = std::env::var("HELLO_BENCH_RUSTC").unwrap_or_default();
    let rustc = rustc.split(' ').nth(1).unwrap_or("of unknown version");
    let clang = Floor::clang().unwrap_or_else(|| "of unknown version".into());
    let packages = [
        "libbpf-tools",
        "bpfcc-tools",
        "bpftrace",
        "linux-perf",
        "strace",
    ];
    let packages: Vec<String> = packages.into_iter().filter_map(version).collect();
    format!(
        "{kernel}, {model}, {} CPUs, workloads on one of them; {}, by clang {clang} and rustc {rustc}; \
         {}. {rounds} rounds, {:.0} % of the loops undisturbed.\n",
        place.cpus,
        hello(place),
        packages.join(", "),
        quiet.share() * 100.0,
    )
}

/// Name and version; what follows is of this build.
fn hello(place: &Place) -> String {
    let output = Command::new(&place.hello).arg("--version").output();
    let text = output.map_or_else(|_| Vec::new(), |output| output.stdout);
    let text = String::from_utf8_lossy(&text).into_owned();
    text.split_whitespace()
        .take(2)
        .collect::<Vec<_>>()
        .join(" ")
}

/// An installed package and its version.
fn version(package: &str) -> Option<String> {
    let output = Command::new("dpkg-query")
        .args(["-W", "-f", "${db:Status-Status} ${Version}", package])
        .output()
        .ok()?;
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    Some(format!("{package} {}", text.strip_prefix("installed ")?))
}
