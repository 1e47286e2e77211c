// SPDX-License-Identifier: BSD-2-Clause
//! Proof against peers: workloads that nobody wrote for hello, seen by hello and by
//! execsnoop, opensnoop, syscount, bpftrace and strace at the same time. Run as root:
//! `make test-peers`, which also writes the table of docs/peers.md.
//!
//! `HELLO_PEERS_SECONDS` is the time of a stressor, `HELLO_PEERS_SOURCE` a C project
//! with configure and make, `HELLO_PEERS_OUT` the folder whose target/peers.md is written; in a VM (`HELLO_VM`) only the script runs.

mod compare;
mod counts;
mod ground;
mod holes;
mod model;
mod parse;
mod peer;
mod process;
mod run;
mod selftest;
mod strace;
mod table;
mod views;
mod workload;

use std::env;
use std::process::ExitCode;
use std::sync::Arc;

use anyhow::Result;
use libtest_mimic::Arguments;
use libtest_mimic::Failed;
use libtest_mimic::Trial;
use nix::sys::signal::SigHandler;
use nix::sys::signal::Signal;
use nix::sys::signal::signal;
use nix::unistd::Uid;

use crate::ground::Ground;
use crate::workload::Workload;

/// How a workload is looked at.
type Look = fn(&Ground, Workload) -> Result<Vec<String>>;

const LOOKS: &[(&str, Workload, Look)] = &[
    ("script", Workload::Script, run::observe),
    ("make", Workload::Make, run::observe),
    ("stress_exec", Workload::Stress("exec"), run::observe),
    ("stress_open", Workload::Stress("open"), run::observe),
    ("stress_fork", Workload::Stress("fork"), run::observe),
    ("stress_syscall", Workload::Stress("syscall"), run::observe),
    ("strace_script", Workload::Script, strace::events),
    ("strace_make", Workload::Make, strace::events),
    (
        "strace_stress_exec",
        Workload::Stress("exec"),
        strace::events,
    ),
    ("strace_c_table", Workload::List, strace::tables),
    ("strace_c_script", Workload::Script, strace::summary),
    ("strace_c_make", Workload::Make, strace::summary),
    (
        "strace_c_stress_fork",
        Workload::Stress("fork"),
        strace::summary,
    ),
];

fn main() -> ExitCode {
    let words: Vec<String> = env::args().collect();
    if words.get(1).is_some_and(|word| word == "mark") {
        let marked = ground::mark(&words[2..]);
        return ExitCode::from(u8::from(marked.is_err()));
    }
    // Ignored where a script started this in the background; tracers would inherit it, and not stop.
    // SAFETY: the default action runs no code of this program.
    let _ = unsafe { signal(Signal::SIGINT, SigHandler::SigDfl) };
    let mut arguments = Arguments::from_args();
    // One at a time: all use the same user.
    arguments.test_threads = Some(1);
    let mut trials = selftest::trials();
    let root = Uid::effective().is_root();
    if !root {
        eprintln!("not root: comparisons are skipped; run `make test-peers`");
    }
    let mut ground = None;
    if root && !arguments.list {
        match Ground::prepare() {
            Ok(prepared) => ground = Some(Arc::new(prepared)),
            Err(error) => {
                eprintln!("cannot prepare the comparison: {error:#}");
                return ExitCode::FAILURE;
            }
        }
    }
    let in_vm = env::var_os("HELLO_VM").is_some();
    for &(name, workload, look) in LOOKS {
        // Guests have busybox and a few of the peers.
        if in_vm && workload != Workload::Script {
            continue;
        }
        let place = ground.clone();
        let trial = Trial::test(name, move || {
            let ground = place.as_ref().ok_or("not root")?;
            let complaints = look(ground, workload);
            // Whatever has happened, the next workload is alone.
            ground::end_processes();
            let complaints = complaints.map_err(|error| Failed::from(format!("{error:#}")))?;
            if complaints.is_empty() {
                Ok(())
            } else {
                Err(Failed::from(complaints.join("\n")))
            }
        });
        trials.push(trial.with_ignored_flag(!root));
    }
    let conclusion = libtest_mimic::run(&arguments, trials);
    drop(ground);
    if let Err(error) = table::write() {
        eprintln!("cannot write the table: {error}");
        return ExitCode::FAILURE;
    }
    conclusion.exit_code()
}
