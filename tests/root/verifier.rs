// SPDX-License-Identifier: BSD-2-Clause
//! What the kernel's verifier and compiler make of each program: against the table in
//! docs/verifier.md, which has a column for each kernel of the VMs.

use std::collections::BTreeMap;
use std::env;

use crate::matrix;
use crate::run::Check;
use crate::run::ensure;
use crate::run::hello;
use crate::run::see;
use crate::stats;

const TABLE: &str = include_str!("../../docs/verifier.md");

/// How much more than in the table a program may have, in percent.
const ALLOWED: u64 = 10;

/// Words that stand for options which are too long for the table, as it says.
const SHORT: &[(&str, &str)] = &[
    (
        "SELECTION",
        "-p 1 -f -u 0 -c init --cgroup /sys/fs/cgroup --container ab12",
    ),
    ("KEYS", "syscall,uid,pid,comm,cgroup,container"),
];

/// A mode by a hook with these options.
#[derive(Clone, Debug)]
pub(crate) struct Set {
    mode: &'static str,
    hook: &'static str,
    options: &'static str,
    index: usize,
}

/// Instructions that the verifier went through, bytes of machine code; if they are told.
type Size = (Option<u64>, Option<u64>);

/// What is looked at, in the order of the table.
pub(crate) fn sets() -> Vec<Set> {
    let mut sets: Vec<Set> = Vec::new();
    for cell in matrix::cells() {
        let options: &[&'static str] = match cell.mode {
            _ if cell.transport == "perf" => continue,
            "trace" => &[""],
            "map" => &["", "--by KEYS"],
            "buffer" | "tail" => &["", "--rings 2", "-o json --transport perf SELECTION"],
            "file" => &[
                "",
                "--path /etc --rings 2",
                "-o json -x --latency --path /etc --exclude-path /etc/x --transport perf SELECTION",
            ],
            "exec" => &[
                "",
                "--env PATH,HOME --rings 2",
                "-o json --env PATH,HOME --transport perf SELECTION",
            ],
            _ => &[
                "",
                "--by KEYS",
                "--latency",
                "--latency --by KEYS",
                "--histogram read,write --by KEYS --max-cpu 5",
                "-x --by errno",
                "--latency --by KEYS,errno SELECTION",
            ],
        };
        sets.extend(options.iter().enumerate().map(|(index, options)| Set {
            mode: cell.mode,
            hook: cell.hook,
            options,
            index,
        }));
    }
    sets
}

/// `6.1`: what names a column.
fn kernel() -> String {
    let (major, minor) = matrix::kernel_version();
    format!("{major}.{minor}")
}

fn is_renewal() -> bool {
    let is_set = |name| env::var(name).is_ok_and(|text| !text.is_empty());
    is_set("HELLO_VM") && is_set("HELLO_BLESS")
}

/// The table's cells, line by line.
fn lines() -> impl Iterator<Item = Vec<&'static str>> {
    TABLE
        .lines()
        .filter(|line| line.starts_with("| "))
        .map(|line| {
            let line = line.trim_matches('|');
            line.split('|').map(str::trim).collect()
        })
}

/// Which column of the table is this kernel's; for a renewal there need not be one.
///
/// # Errors
/// There is none: why there is nothing to compare with.
pub(crate) fn column() -> Result<usize, String> {
    if is_renewal() {
        return Ok(0);
    }
    let head = lines().next().unwrap_or_default();
    let kernel = kernel();
    head.iter()
        .position(|name| *name == kernel)
        .ok_or_else(|| format!("kernel {kernel} is not in docs/verifier.md"))
}

/// `1170 / 1856`, a figure that is not known `-`.
fn cell((insns, jited): Size) -> String {
    let some = |number: Option<u64>| number.map_or_else(|| "-".into(), |number| number.to_string());
    format!("{} / {}", some(insns), some(jited))
}

fn size(cell: &str) -> Option<Size> {
    let (insns, jited) = cell.split_once(" / ")?;
    Some((insns.parse().ok(), jited.parse().ok()))
}

impl Set {
    pub(crate) fn name(&self) -> String {
        format!("verifier::{}::{}::{}", self.mode, self.hook, self.index)
    }

    /// Its options in the table.
    fn label(&self) -> String {
        if self.options.is_empty() {
            "-".into()
        } else {
            format!("`{}`", self.options)
        }
    }

    /// What the table has for this kernel.
    fn expected(&self, column: usize) -> BTreeMap<String, Size> {
        let options = self.label();
        lines()
            .filter(|cells| {
                cells.len() > column && cells[..3] == [self.mode, self.hook, options.as_str()]
            })
            .filter_map(|cells| Some((cells[3].to_owned(), size(cells[column])?)))
            .collect()
    }

    fn found(&self) -> Result<Vec<(String, Size)>, String> {
        let mut command = hello(&["--mode", self.mode, "--attach", self.hook]);
        command.args(["-d", "1ms", "--stats"]);
        if matrix::kernel_version() < (5, 16) {
            command.arg("-v");
        }
        let options = SHORT
            .iter()
            .fold(self.options.to_owned(), |text, (word, whole)| {
                text.replace(word, whole)
            });
        command.args(options.split_whitespace());
        let seen = see(&mut command)?;
        ensure!(seen.status == Some(0), "{}", seen.stderr);
        let programs = stats::programs(&seen.stderr);
        ensure!(!programs.is_empty(), "{}", seen.stderr);
        let mut found = Vec::new();
        for program in programs {
            let insns = program.insns.parse().ok();
            let insns = insns.or_else(|| processed(&seen.stderr, &program.name));
            ensure!(insns.is_some(), "no instructions of {}", program.name);
            found.push((program.name, (insns, program.jited.parse().ok())));
        }
        found.sort();
        Ok(found)
    }

    pub(crate) fn check(&self) -> Check {
        let found = self.found()?;
        for (program, size) in &found {
            println!(
                "verifier: {} | {} | {} | {} | {program} | {}",
                kernel(),
                self.mode,
                self.hook,
                self.label(),
                cell(*size)
            );
        }
        if is_renewal() {
            return Ok(());
        }
        let mut expected = self.expected(column()?);
        let mut wrong = Vec::new();
        for (program, now) in found {
            match expected.remove(&program) {
                None => wrong.push(format!("{program} is new: {}", cell(now))),
                Some(then) if has_grown(then, now) => {
                    wrong.push(format!("{program}: {}, was {}", cell(now), cell(then)));
                }
                Some(_) => {}
            }
        }
        wrong.extend(expected.keys().map(|program| format!("{program} is gone")));
        ensure!(
            wrong.is_empty(),
            "--mode {} --attach {} {}: {}; if that is meant: HELLO_BLESS=1 make test-vm FILTER=verifier",
            self.mode,
            self.hook,
            self.options,
            wrong.join("; ")
        );
        Ok(())
    }
}

/// Does the comparison find what it is there to find?
pub(crate) fn growth_is_found() -> Check {
    let size = |insns, jited| (Some(insns), Some(jited));
    for (now, grown) in [
        (size(1000, 2000), false),
        (size(1100, 2200), false),
        (size(100, 200), false),
        (size(1101, 2000), true),
        (size(1000, 2201), true),
        ((None, Some(2000)), true),
    ] {
        ensure!(has_grown(size(1000, 2000), now) == grown, "{now:?}");
    }
    ensure!(!has_grown((None, None), (None, None)), "nothing is known");
    Ok(())
}

/// By more than is allowed, in either figure.
fn has_grown(then: Size, now: Size) -> bool {
    let more = |then: Option<u64>, now: Option<u64>| match (then, now) {
        (Some(then), Some(now)) => now * 100 > then * (100 + ALLOWED),
        (then, now) => then.is_some() != now.is_some(),
    };
    more(then.0, now.0) || more(then.1, now.1)
}

/// What the verifier's own log says, for kernels that do not tell it otherwise (before
/// Linux 5.16).
fn processed(stderr: &str, program: &str) -> Option<u64> {
    let line = logged(stderr, program, "processed ")?;
    line.split(' ').next()?.parse().ok()
}

/// The rest of the line of that log which begins so.
fn logged<'a>(stderr: &'a str, program: &str, begin: &str) -> Option<&'a str> {
    let head = format!("prog '{program}': -- BEGIN PROG LOAD LOG --");
    let (_, log) = stderr.split_once(&head)?;
    let (log, _) = log.split_once("-- END PROG LOAD LOG --")?;
    log.lines().find_map(|line| line.strip_prefix(begin))
}

/// The program that all calls pass stays on the kernel's stack: from 64 bytes on, rounded up
/// to 16, the kernel gives it another (`BPF_PRIV_STACK_MIN_SIZE`, Linux 6.13).
pub(crate) fn stack_of_what_all_calls_pass() -> Check {
    for options in ["", "-p 1", "-u 0 --latency"] {
        let mut command = hello(&["--mode", "file", "--attach", "raw_tp", "-d", "1ms"]);
        let seen = see(command
            .args(["--stats", "-v"])
            .args(options.split_whitespace()))?;
        ensure!(seen.status == Some(0), "{}", seen.stderr);
        // Of the program itself, then of each function that it calls.
        let depths = logged(&seen.stderr, "file_raw_tp", "stack depth ").ok_or("no depth")?;
        let own: Option<u32> = depths.split('+').next().and_then(|own| own.parse().ok());
        ensure!(own.is_some_and(|own| own <= 48), "{options}: {depths}");
    }
    Ok(())
}
