// SPDX-License-Identifier: BSD-2-Clause
//! hello beside strace. strace can neither select nor share, so it runs the workload
//! itself, as the user, and hello watches the user.

use std::collections::HashMap;
use std::os::unix::process::CommandExt as _;
use std::process::Command;
use std::process::Stdio;

use anyhow::Context as _;
use anyhow::Result;
use anyhow::ensure;
use nix::sched::CpuSet;
use nix::sched::sched_setaffinity;
use nix::unistd::Pid;

use crate::compare;
use crate::compare::Expected;
use crate::compare::Losses;
use crate::counts;
use crate::ground::Ground;
use crate::ground::UID;
use crate::ground::USER;
use crate::ground::cpus;
use crate::holes::Hole;
use crate::model::Class;
use crate::model::Evidence;
use crate::model::Item;
use crate::model::Multiset;
use crate::model::Told;
use crate::parse;
use crate::parse::Call;
use crate::peer;
use crate::run::FAILURES;
use crate::run::hello;
use crate::run::hello_bin;
use crate::run::told;
use crate::run::what;
use crate::table;
use crate::views;
use crate::views::BETWEEN;
use crate::views::Eye;
use crate::views::OPENS;
use crate::workload::Workload;

/// Runs a workload under `strace -f` with these options; what strace has written. All on
/// one CPU: at each call strace and what it traces wait for each other, and on two they
/// wait for a CPU to wake up, up to six times as long as for the call.
fn traced(
    ground: &Ground,
    workload: Workload,
    mut command: Command,
    options: &[&str],
) -> Result<Result<Vec<u8>, String>> {
    let words = match workload.prepare(ground)? {
        Ok(words) => words,
        Err(reason) => return Ok(Err(reason)),
    };
    crate::workload::check(&words)?;
    let file = ground.dir.join("strace.out");
    ground.environment(&mut command);
    command
        .args(["-u", USER, "-f", "-o"])
        .arg(&file)
        .args(options)
        .arg("--")
        .args(&words)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::piped());
    let mut one = CpuSet::new();
    one.set(cpus().last().copied().unwrap_or(0))?;
    // SAFETY: between fork and exec: one system call with a set that is here already.
    unsafe { command.pre_exec(move || Ok(sched_setaffinity(Pid::from_raw(0), &one)?)) };
    let mut child = command.spawn().context("strace")?;
    ground.finish(&mut child, workload.limit())?;
    let output = std::fs::read(&file).context("strace wrote nothing")?;
    std::fs::remove_file(&file)?;
    Ok(Ok(output))
}

/// Programs run and files opened, call by call.
pub(crate) fn events(ground: &Ground, workload: Workload) -> Result<Vec<String>> {
    let name = workload.name();
    let classes = [Class::Exec, Class::Open];
    let command = match peer::command("strace") {
        Ok(command) => command,
        Err(reason) => {
            for class in classes {
                table::not_run(&name, what(class), "strace -f", &reason);
            }
            return Ok(Vec::new());
        }
    };
    let mut complaints = Vec::new();
    let mut hellos = Vec::new();
    for class in classes {
        match hello(class, None) {
            Ok(tool) => hellos.push((class, tool)),
            Err(error) => {
                table::not_run(&name, what(class), "strace -f", &error.to_string());
                complaints.push(format!("{name}: {error:#}"));
            }
        }
    }
    // All text in hex: no doubt about quotation marks. Not --seccomp-bpf: with it strace 6.1
    // takes the first open after a thread's exec for the end of that exec.
    let calls = "trace=execve,execveat,open,openat,openat2,creat";
    let options = ["-qq", "-xx", "-s", "1000000", "-e", calls];
    let options = [&options[..], &["-y", "-e", "signal=none"]].concat();
    let output = match traced(ground, workload, command, &options)? {
        Ok(output) => output,
        Err(reason) => {
            for (class, _) in &hellos {
                table::not_run(&name, what(*class), "strace -f", &reason);
            }
            return Ok(complaints);
        }
    };
    let mut strace = parse::strace(&output);
    drop(output);
    strace.finish();
    for (class, tool) in hellos {
        let told = told(tool)?;
        let losses = Losses {
            ours: told.lost(),
            theirs: strace.unfinished,
            silent: false,
        };
        let (ours, theirs) = if class == Class::Exec {
            let calls = strace.calls.iter();
            let execs = calls.filter(|call| call.name.starts_with("exec"));
            (
                views::execs(Eye::Strace, &told.execs, &Evidence::default()),
                multiset(execs, |call| {
                    let argv = call.texts.get(1..).unwrap_or_default();
                    argv.join(BETWEEN.as_bytes())
                }),
            )
        } else {
            let calls = strace.calls.iter();
            let opens = calls.filter(|call| OPENS.contains(&call.name.as_str()));
            (
                views::opens(Eye::Strace, &told.opens),
                multiset(opens, |call| {
                    call.texts.first().cloned().unwrap_or_default()
                }),
            )
        };
        let difference = compare::events(ours, theirs, losses, |_| None);
        complaints.extend(table::compared(
            &name,
            what(class),
            "strace -f",
            losses,
            difference,
        ));
        if class == Class::Open {
            complaints.extend(absolute(&name, &told, &strace.calls, losses));
        }
    }
    Ok(complaints)
}

/// What was opened, wherever the path given led.
fn absolute(name: &str, told: &Told, calls: &[Call], losses: Losses) -> Vec<String> {
    let what = "files opened, by absolute path";
    let Some(ours) = views::opened(&told.opens) else {
        table::not_run(
            name,
            what,
            "strace -y",
            "this hello tells no absolute paths",
        );
        return Vec::new();
    };
    let opened = calls.iter().filter(|call| call.ret >= 0);
    let opened = opened.filter(|call| OPENS.contains(&call.name.as_str()));
    let theirs = multiset(opened, |call| call.file.clone().unwrap_or_default());
    let difference = compare::events(ours, theirs, losses, |_| None);
    table::compared(name, what, "strace -y", losses, difference)
}

fn multiset<'a>(
    calls: impl Iterator<Item = &'a Call>,
    text: impl Fn(&Call) -> Vec<u8>,
) -> Multiset<Item> {
    let mut all = Multiset::new();
    for call in calls {
        let item = Item {
            pid: call.tid,
            ret: call.ret,
            text: String::from_utf8_lossy(&text(call)).into_owned(),
        };
        *all.entry(item).or_default() += 1;
    }
    all
}

/// All calls, counted.
pub(crate) fn summary(ground: &Ground, workload: Workload) -> Result<Vec<String>> {
    let name = workload.name();
    let what = what(Class::Count);
    let command = match peer::command("strace") {
        Ok(command) => command,
        Err(reason) => {
            table::not_run(&name, what, "strace -c", &reason);
            return Ok(Vec::new());
        }
    };
    let tool = hello(Class::Count, None)?;
    let output = match traced(ground, workload, command, &["-c"])? {
        Ok(output) => output,
        Err(reason) => {
            table::not_run(&name, what, "strace -c", &reason);
            return Ok(Vec::new());
        }
    };
    let theirs = parse::strace_summary(&String::from_utf8_lossy(&output));
    ensure!(!theirs.is_empty(), "strace -c counted nothing");
    let told = told(tool)?;
    let losses = Losses {
        ours: told.lost(),
        ..Losses::default()
    };
    let difference = counts::compare_strace(&told.counts, &theirs, losses, workload.kills());
    let mut complaints = table::compared(&name, what, "strace -c", losses, difference);
    match counts::compare_strace_errors(&told.counts, &theirs, losses) {
        Some(difference) => complaints.extend(table::compared(
            &name,
            FAILURES,
            "strace -c",
            losses,
            difference,
        )),
        None => table::not_run(&name, FAILURES, "strace -c", "this hello tells no errors"),
    }
    Ok(complaints)
}

/// What is printed at the end, by each for itself: of a program that does the same each time.
pub(crate) fn tables(ground: &Ground, workload: Workload) -> Result<Vec<String>> {
    let name = workload.name();
    let what = "the table of a command";
    let not_run = |reason: String| {
        table::not_run(&name, what, "strace -c -f", &reason);
        Ok(Vec::new())
    };
    let strace = match peer::command("strace") {
        Ok(command) => command,
        Err(reason) => return not_run(reason),
    };
    let words = match workload.prepare(ground)? {
        Ok(words) => words,
        Err(reason) => return not_run(reason),
    };
    let mut command = Command::new(hello_bin());
    ground.environment(&mut command);
    let uid = UID.to_string();
    // As sudo does it.
    command.envs([("SUDO_UID", &uid), ("SUDO_GID", &uid)]);
    command
        .args(["--mode", "syscount", "--strict", "--"])
        .args(&words);
    let seen = command.output().context("hello")?;
    ensure!(
        seen.status.success(),
        "hello: {}",
        String::from_utf8_lossy(&seen.stderr)
    );
    let ours = parse::strace_summary(&String::from_utf8_lossy(&seen.stdout));
    let theirs = match traced(ground, workload, strace, &["-c"])? {
        Ok(output) => parse::strace_summary(&String::from_utf8_lossy(&output)),
        Err(reason) => return not_run(reason),
    };
    ensure!(
        theirs.values().any(|(_, errors)| *errors > 0),
        "no call failed"
    );
    let cells = |rows: &HashMap<String, (u64, u64)>| -> Multiset<String> {
        let both = rows.iter().flat_map(|(name, (calls, errors))| {
            [(name.clone(), *calls), (format!("{name}, errors"), *errors)]
        });
        both.filter(|(_, count)| *count > 0).collect()
    };
    let losses = Losses::default();
    let difference = compare::counts(&cells(&ours), &cells(&theirs), losses, |name, count| {
        (name == "exit_group").then_some(Expected {
            least: 0,
            most: count,
            hole: Hole::Killed,
        })
    });
    Ok(table::compared(
        &name,
        what,
        "strace -c -f",
        losses,
        difference,
    ))
}
