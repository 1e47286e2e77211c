// SPDX-License-Identifier: BSD-2-Clause
//! The report: docs/peers.md is written by a run.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::PathBuf;
use std::process::Command;
use std::sync::Mutex;
use std::sync::PoisonError;

use crate::compare::Difference;
use crate::compare::Losses;
use crate::holes::Hole;
use crate::peer::versions;
use crate::workload::seconds;

#[derive(Debug)]
pub(crate) struct Row {
    workload: String,
    what: String,
    peer: String,
    numbers: Option<[u64; 5]>,
    lost: [u64; 2],
    explained: BTreeMap<Hole, u64>,
    verdict: String,
}

static ROWS: Mutex<Vec<Row>> = Mutex::new(Vec::new());

fn add(row: Row) {
    ROWS.lock()
        .unwrap_or_else(PoisonError::into_inner)
        .push(row);
}

/// A comparison that was made; the complaints if something stays unexplained.
pub(crate) fn compared(
    workload: &str,
    what: &str,
    peer: &str,
    losses: Losses,
    difference: Difference,
) -> Vec<String> {
    let verdict = if !difference.unexplained.is_empty() {
        "**not explained**"
    } else if difference.only_ours + difference.only_theirs > 0 {
        "explained"
    } else if !difference.explained.is_empty() {
        "the same, shown otherwise"
    } else {
        "the same"
    };
    let complaints = difference
        .unexplained
        .iter()
        .map(|text| format!("{workload}, {what}, {peer}: {text}"))
        .collect();
    let row = Row {
        workload: workload.into(),
        what: what.into(),
        peer: peer.into(),
        numbers: Some([
            difference.ours,
            difference.theirs,
            difference.common,
            difference.only_ours,
            difference.only_theirs,
        ]),
        lost: [losses.ours, losses.theirs],
        explained: difference.explained,
        verdict: verdict.into(),
    };
    println!("peers: {}", row.line());
    add(row);
    complaints
}

/// A comparison that could not be made.
pub(crate) fn not_run(workload: &str, what: &str, peer: &str, reason: &str) {
    let row = Row {
        workload: workload.into(),
        what: what.into(),
        peer: peer.into(),
        numbers: None,
        lost: [0, 0],
        explained: BTreeMap::new(),
        verdict: format!(
            "not run: {}",
            reason.replace("\n", "; ").replace('|', "\\|")
        ),
    };
    println!("peers: {}", row.line());
    add(row);
}

impl Row {
    fn line(&self) -> String {
        let mut cells = vec![self.workload.clone(), self.what.clone(), self.peer.clone()];
        match self.numbers {
            Some(numbers) => cells.extend(numbers.map(|number| number.to_string())),
            None => cells.extend([(); 5].map(|()| String::from("–"))),
        }
        cells.push(format!("{} / {}", self.lost[0], self.lost[1]));
        let why = self
            .explained
            .iter()
            .map(|(hole, times)| format!("{times} [{}](#{})", hole.name(), hole.name()));
        let why: Vec<String> = why.collect();
        cells.push(if why.is_empty() {
            self.verdict.clone()
        } else {
            format!("{}: {}", self.verdict, why.join(", "))
        });
        format!("| {} |", cells.join(" | "))
    }
}

fn kernel() -> String {
    let uname = nix::sys::utsname::uname();
    uname.map_or_else(
        |_| "an unknown kernel".into(),
        |uname| {
            let release = uname.release().to_string_lossy();
            // The number says it; what follows names a machine.
            let number = release.split('-').next().unwrap_or_default().to_owned();
            format!("Linux {number}, {}", uname.machine().to_string_lossy())
        },
    )
}

fn hello_version() -> String {
    let output = Command::new(crate::run::hello_bin())
        .arg("--version")
        .output();
    output.map_or_else(
        |_| "hello".into(),
        |output| {
            // Name and number; what follows is of this build.
            let version = String::from_utf8_lossy(&output.stdout).into_owned();
            let words: Vec<&str> = version.split_whitespace().take(2).collect();
            words.join(" ")
        },
    )
}

fn text(rows: &[Row]) -> String {
    let mut versions = versions();
    versions.insert(0, ("", hello_version()));
    let versions = versions
        .iter()
        .map(|(name, version)| format!("{name} {version}").trim().to_owned());
    let versions: Vec<String> = versions.collect();
    let mut text = format!(
        "<!-- SPDX-License-Identifier: BSD-2-Clause -->\n\
         <!-- Written by `HELLO_BLESS=1 make test-peers`. -->\n\
         # hello and its peers\n\n\
         The same workload, at the same time, seen by hello and by others. What both have seen is compared one by one: programs\n\
         run as (process, arguments, result), opens as (process, path, result), calls as (name, count); how often each was seen\n\
         counts. A difference is a known hole of the peer's, named and counted in the last column, or told as lost by one of the two,\n\
         or the test fails.\n\n\
         Made by `make test-peers` on {}, {} CPUs, with {}; stressors for {} s.\n\
         The peers: `execsnoop -x -q --max-args 60 -u USER`, `opensnoop -u USER`, `syscount -T 10000 -c CGROUP` without and with `-x`,\n\
         `strace -f` and `strace -f -c`, and bpftrace with the programs in [peer.rs](../tests/peers/peer.rs). Where a peer of them is\n\
         missing or cannot attach, the table says so.\n\n",
        kernel(),
        crate::ground::cpus().len(),
        versions.join(", "),
        seconds(),
    );
    let used: Vec<Hole> = Hole::ALL
        .iter()
        .copied()
        .filter(|hole| rows.iter().any(|row| row.explained.contains_key(hole)))
        .collect();
    text += "## What explains a difference\n\n";
    for hole in used {
        let _ = writeln!(
            text,
            "- <a id=\"{0}\"></a>**{0}**: {1} ([source]({2}))",
            hole.name(),
            hole.about(),
            hole.source()
        );
    }
    text += "\n## The comparisons\n\n\
        *Common*: seen by both. *Lost*: as told by hello / by the peer. All processes of the workload are those of a user that\n\
        nobody else is; both sides select by it, or by a control group.\n\n\
        | workload | compared | peer | hello | peer | common | only hello | only peer | lost | verdict |\n\
        |---|---|---|--:|--:|--:|--:|--:|--:|---|\n";
    for row in rows {
        text += &row.line();
        text.push('\n');
    }
    text
}

/// Writes target/peers.md, and docs/peers.md if asked to.
pub(crate) fn write() -> std::io::Result<()> {
    let rows = ROWS.lock().unwrap_or_else(PoisonError::into_inner);
    if rows.is_empty() {
        return Ok(());
    }
    let text = text(&rows);
    let folder = std::env::var_os("HELLO_PEERS_OUT").map(PathBuf::from);
    if let Some(folder) = folder {
        std::fs::write(folder.join("target/peers.md"), &text)?;
        if std::env::var_os("HELLO_BLESS").is_some() {
            std::fs::write(folder.join("docs/peers.md"), &text)?;
        }
    }
    Ok(())
}
