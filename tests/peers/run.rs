// SPDX-License-Identifier: BSD-2-Clause
//! A workload, hello and the peers at the same time.

use std::path::Path;
use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;
use std::time::Instant;

use anyhow::Result;
use anyhow::bail;
use anyhow::ensure;

use crate::compare;
use crate::compare::Losses;
use crate::counts;
use crate::ground::Ground;
use crate::ground::UID;
use crate::ground::cpus;
use crate::holes::Hole;
use crate::model::Class;
use crate::model::Evidence;
use crate::model::Heard;
use crate::model::Item;
use crate::model::Told;
use crate::parse::Ear;
use crate::parse::Form;
use crate::peer;
use crate::peer::FAILED;
use crate::peer::Peer;
use crate::peer::Ready;
use crate::process::Tool;
use crate::table;
use crate::views;
use crate::views::Eye;
use crate::workload::Workload;

/// Until a peer is attached, and until it has shown what was on its way.
const PATIENCE: Duration = Duration::from_secs(30);

/// The binary under test.
pub(crate) fn hello_bin() -> PathBuf {
    std::env::var_os("HELLO_BIN")
        .map_or_else(|| PathBuf::from(env!("CARGO_BIN_EXE_hello")), PathBuf::from)
}

/// hello in the mode for a class; by control group if the peers count by it.
pub(crate) fn hello(class: Class, group: Option<&Path>) -> Result<Tool<Told>> {
    let mut command = Command::new(hello_bin());
    command.args(["-o", "json", "--mode"]);
    match class {
        Class::Exec => command.args(["exec", "--buffer-size", "64M"]),
        Class::Open => command.args(["file", "--buffer-size", "64M"]),
        Class::Count => {
            // One table, and what the calls returned where hello can tell.
            let latency = tells_errors().then_some("--latency");
            let all = ["syscount", "--by", "syscall", "--interval", "1h"];
            command.args(all).args(latency)
        }
    };
    match group {
        // Its path in the hierarchy, wherever that is mounted.
        Some(group) => command
            .arg("--cgroup")
            .arg(Path::new("/").join(group.file_name().unwrap_or_default())),
        None => command.args(["--uid", &UID.to_string()]),
    };
    for name in ["SUDO_UID", "SUDO_GID", "SUDO_USER"] {
        command.env_remove(name);
    }
    let mut tool = Tool::start("hello", &mut command, Told::default())?;
    let until = Instant::now() + PATIENCE;
    while !tool.said(", Linux ") {
        if tool.ended().is_some() || Instant::now() > until {
            let (_, errors) = tool.stop(PATIENCE)?;
            bail!("hello did not attach: {}", errors.trim());
        }
        std::thread::sleep(Duration::from_millis(10));
    }
    Ok(tool)
}

/// Ends hello; its ledger must be there.
pub(crate) fn told(tool: Tool<Told>) -> Result<Told> {
    let (told, errors) = tool.stop(PATIENCE * 2)?;
    ensure!(
        told.ledger.is_some(),
        "hello ended without ledger: {errors}"
    );
    ensure!(
        told.odd_lines == 0,
        "hello wrote {} lines that are no JSON",
        told.odd_lines
    );
    if let (1.., Some(ledger)) = (told.lost(), &told.ledger) {
        println!("peers: hello lost {}", ledger["lost"]);
    }
    Ok(told)
}

/// Has this hello the option that makes syscount look at returns?
fn tells_errors() -> bool {
    let help = Command::new(hello_bin()).arg("--help").output();
    let help = help.map_or_else(|_| Vec::new(), |help| help.stdout);
    let help = String::from_utf8_lossy(&help);
    // The option's paragraph names the modes that it is for.
    let paragraph = help.split("\n\n").find(|text| text.contains("--latency"));
    paragraph.is_some_and(|text| text.contains("syscount"))
}

pub(crate) const FAILURES: &str = "failed calls counted";

pub(crate) fn what(class: Class) -> &'static str {
    match class {
        Class::Exec => "programs run",
        Class::Open => "opens",
        Class::Count => "calls counted",
    }
}

struct Watch {
    class: Class,
    peer: Peer,
    tool: Tool<Ear>,
}

impl Watch {
    fn is_attached(&self) -> bool {
        match self.peer.ready {
            Ready::Mark => self.tool.has_mark_like("start-"),
            Ready::MarkCall => self.tool.has_mark("call"),
            Ready::Header => self.tool.has_spoken(),
        }
    }

    fn has_shown_all(&self) -> bool {
        self.peer.ready != Ready::Mark
            || cpus()
                .iter()
                .all(|cpu| self.tool.has_mark(&format!("end-{cpu}")))
    }
}

/// Runs a workload under the eyes of all; returns what is to be complained about.
pub(crate) fn observe(ground: &Ground, workload: Workload) -> Result<Vec<String>> {
    let name = workload.name();
    let classes = workload.classes();
    let words = match workload.prepare(ground)? {
        Ok(words) => words,
        Err(reason) => {
            for &class in classes {
                table::not_run(&name, what(class), "all", &reason);
            }
            return Ok(Vec::new());
        }
    };
    crate::workload::check(&words)?;
    let mut complaints = Vec::new();
    let mut hellos = Vec::new();
    for &class in classes {
        let group = ground.cgroup.as_deref().ok();
        match hello(class, group.filter(|_| class == Class::Count)) {
            Ok(tool) => hellos.push((class, tool)),
            Err(error) => {
                table::not_run(&name, what(class), "all", &error.to_string());
                complaints.push(format!("{name}: {error:#}"));
            }
        }
    }
    let mut watches = attach(ground, &name, hellos.iter().map(|(class, _)| *class))?;

    let mut command = ground.as_user(&words[0]);
    command.args(&words[1..]);
    let mut child = ground.spawn(&mut command)?;
    if let Err(error) = ground.finish(&mut child, workload.limit()) {
        complaints.push(format!("{name}: {error:#}"));
    }

    let until = Instant::now() + PATIENCE;
    while !watches.iter().all(Watch::has_shown_all) {
        if Instant::now() > until {
            break;
        }
        ground.mark("end")?;
        std::thread::sleep(Duration::from_millis(20));
    }
    let mut all = Vec::new();
    for (class, tool) in hellos {
        all.push((class, told(tool)?));
    }
    let mut heards = Vec::new();
    for watch in watches.drain(..) {
        let complete = watch.has_shown_all();
        let (class, peer) = (watch.class, watch.peer);
        let (ear, errors) = watch.tool.stop(PATIENCE)?;
        if !complete {
            let last = errors.lines().last().unwrap_or("it said nothing");
            let reason = format!("it stopped showing events: {last}");
            table::not_run(&name, what(class), peer.name, &reason);
            continue;
        }
        let mut heard = ear.heard;
        heard.forget_marks(&ground.marks());
        heards.push((class, peer, heard));
    }
    let evidence = heards
        .iter()
        .find(|(class, peer, _)| *class == Class::Exec && peer.name == "bpftrace")
        .map(|(_, _, heard)| heard.evidence.clone());
    for (class, peer, heard) in heards {
        let Some((_, told)) = all.iter().find(|(of, _)| *of == class) else {
            continue;
        };
        if evidence.is_none() && peer.name == "execsnoop" && workload == Workload::Stress("exec") {
            let reason = "without bpftrace nobody tells which execs it cannot see";
            table::not_run(&name, what(class), peer.name, reason);
            continue;
        }
        let evidence = evidence.clone().unwrap_or_default();
        complaints.extend(judge(workload, class, &peer, told, heard, &evidence));
    }
    Ok(complaints)
}

/// Starts the peers and waits until each shows that it is attached; one that does not is
/// said to be not run.
fn attach(ground: &Ground, name: &str, classes: impl Iterator<Item = Class>) -> Result<Vec<Watch>> {
    let mut watches = Vec::new();
    for class in classes {
        for &peer in peer::names(class) {
            let started = peer::peer(class, peer, ground).and_then(|mut peer| {
                let ear = Ear {
                    form: peer.form,
                    heard: Heard::default(),
                };
                let tool = Tool::start(peer.name, &mut peer.command, ear);
                let tool = tool.map_err(|error| format!("{error:#}"))?;
                Ok(Watch { class, peer, tool })
            });
            match started {
                Ok(watch) => watches.push(watch),
                Err(reason) => table::not_run(name, what(class), peer, &reason),
            }
        }
    }
    let until = Instant::now() + PATIENCE;
    loop {
        ground.mark("start")?;
        watches.retain_mut(|watch| {
            let reason = match watch.tool.ended() {
                Some(status) => format!("{status}, {}", watch.tool.complaint()),
                None if Instant::now() > until && !watch.is_attached() => {
                    format!("it showed nothing: {}", watch.tool.complaint())
                }
                None => return true,
            };
            table::not_run(name, what(watch.class), watch.peer.name, &reason);
            false
        });
        if watches.iter().all(Watch::is_attached) {
            return Ok(watches);
        }
        std::thread::sleep(Duration::from_millis(20));
    }
}

fn judge(
    workload: Workload,
    class: Class,
    peer: &Peer,
    told: &Told,
    heard: Heard,
    evidence: &Evidence,
) -> Vec<String> {
    let name = &workload.name();
    let eye = match peer.form {
        Form::Execsnoop => Eye::Execsnoop,
        Form::Opensnoop => Eye::Opensnoop,
        _ => Eye::Bpftrace,
    };
    let losses = Losses {
        ours: told.lost(),
        theirs: heard.lost,
        silent: eye == Eye::Opensnoop && peer::opensnoop_is_silent(),
    };
    let compared =
        |what: &str, difference| table::compared(name, what, peer.name, losses, difference);
    match class {
        Class::Exec => {
            let ours = views::execs(eye, &told.execs, evidence);
            // A thread's exec leaves its entry behind; the next exec by that id shows it.
            let stale = |item: &Item| {
                let stale = eye == Eye::Execsnoop && evidence.threads.contains(&item.pid);
                stale.then_some(Hole::Thread)
            };
            let difference = compare::events(ours, heard.items, losses, stale);
            let mut complaints = compared(what(class), difference);
            if eye == Eye::Bpftrace {
                let ours = views::exec_results(&told.execs);
                let difference = compare::events(ours, heard.results, losses, |_| None);
                complaints.extend(compared("results of execs", difference));
            }
            complaints
        }
        Class::Open => {
            let ours = views::opens(eye, &told.opens);
            compared(
                what(class),
                compare::events(ours, heard.items, losses, |_| None),
            )
        }
        Class::Count if peer.name == FAILED => {
            let difference =
                counts::compare_errors(&told.counts, &heard.counts, losses, workload.kills());
            let Some(difference) = difference else {
                table::not_run(name, FAILURES, peer.name, "this hello tells no errors");
                return Vec::new();
            };
            compared(FAILURES, difference)
        }
        Class::Count => {
            let by_entry = eye == Eye::Bpftrace && matches!(peer.form, Form::Bpftrace);
            let difference = counts::compare(&told.counts, &heard.counts, losses, by_entry);
            compared(what(class), difference)
        }
    }
}
