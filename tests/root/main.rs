// SPDX-License-Identifier: BSD-2-Clause
//! What needs privilege: hello attached to a real kernel. The binary has three
//! lives: the tests, the workload that they watch, and, static, both in the VMs
//! (tests/vm/run.sh). Run as root: `make test-root`.
//!
//! In a mount namespace of its own, with tracefs and bpffs, so that the machine's
//! stays as it is.

mod budget;
mod endings;
mod errors;
mod everywhere;
mod exec;
mod exec_work;
mod file;
mod load;
mod load_work;
mod matrix;
mod options;
mod paths;
mod rings;
mod run;
mod selection;
mod start;
mod stats;
mod syscount;
mod uring;
mod verifier;
mod workload;

use std::env;
use std::path::Path;
use std::process::ExitCode;

use libtest_mimic::Arguments;
use libtest_mimic::Failed;
use libtest_mimic::Trial;
use nix::mount::MsFlags;
use nix::mount::mount;
use nix::sched::CloneFlags;
use nix::sched::unshare;
use nix::sys::signal::SigHandler;
use nix::sys::signal::Signal;
use nix::sys::signal::signal;
use nix::unistd::Uid;

fn main() -> ExitCode {
    let words: Vec<String> = env::args().collect();
    if words.get(1).is_some_and(|word| word == "workload") {
        workload::run(&words[2..]);
    }
    // Ignored where nohup or a script started this; hello and its COMMAND would inherit it.
    for ends in [Signal::SIGINT, Signal::SIGHUP, Signal::SIGTERM] {
        // SAFETY: the default action runs no code of this program.
        let _ = unsafe { signal(ends, SigHandler::SigDfl) };
    }
    let mut arguments = Arguments::from_args();
    // One at a time: the tests look at what the kernel has loaded, and at sums.
    arguments.test_threads = Some(1);
    if !Uid::effective().is_root() {
        return without_root(&arguments);
    }
    run::me();
    if !arguments.list
        && let Err(error) = own_mounts()
    {
        eprintln!("cannot prepare a mount namespace: {error}; is / a mount point here?");
        return ExitCode::FAILURE;
    }
    libtest_mimic::run(&arguments, trials()).exit_code()
}

/// `cargo test` by a user: each test is said to be skipped, and why.
fn without_root(arguments: &Arguments) -> ExitCode {
    eprintln!("not root: these tests attach to the kernel and are skipped; run `make test-root`");
    let trials = trials()
        .into_iter()
        .map(|trial| trial.with_ignored_flag(true))
        .collect();
    libtest_mimic::run(arguments, trials).exit_code()
}

fn own_mounts() -> nix::Result<()> {
    unshare(CloneFlags::CLONE_NEWNS)?;
    let none = None::<&str>;
    mount(none, "/", none, MsFlags::MS_REC | MsFlags::MS_PRIVATE, none)?;
    for (kind, place, there) in [
        (
            "tracefs",
            "/sys/kernel/tracing",
            "/sys/kernel/tracing/events",
        ),
        ("bpf", "/sys/fs/bpf", ""),
    ] {
        if there.is_empty() || !Path::new(there).exists() {
            mount(Some(kind), place, Some(kind), MsFlags::empty(), none)?;
        }
    }
    Ok(())
}

fn trials() -> Vec<Trial> {
    let mut trials = Vec::new();
    for cell in matrix::cells() {
        let reason = matrix::why_not(cell.hook);
        // In the VMs every hook is there; one that is not is a failure there.
        if let Some(reason) = reason.filter(|_| env::var_os("HELLO_VM").is_none()) {
            cell.say_not_available(reason);
            trials.push(Trial::test(cell.name(), || Ok(())).with_ignored_flag(true));
        } else {
            trials.push(Trial::test(cell.name(), move || {
                cell.run().map_err(Failed::from)
            }));
        }
    }
    trials.push(Trial::test("verifier::growth_is_found", || {
        verifier::growth_is_found().map_err(Failed::from)
    }));
    trials.push(Trial::test(
        "verifier::stack_of_what_all_calls_pass",
        || verifier::stack_of_what_all_calls_pass().map_err(Failed::from),
    ));
    if let Err(reason) = verifier::column() {
        println!("verifier: n/a: {reason}");
        trials.push(Trial::test("verifier", || Ok(())).with_ignored_flag(true));
    } else {
        for set in verifier::sets() {
            trials.push(Trial::test(set.name(), move || {
                set.check().map_err(Failed::from)
            }));
        }
    }
    let all: &[(&str, &[run::Test])] = &[
        ("selection", selection::TESTS),
        ("file", file::TESTS),
        ("everywhere", everywhere::TESTS),
        ("clocks", everywhere::CLOCKS),
        ("options", options::TESTS),
        ("endings", endings::TESTS),
        ("errors", errors::TESTS),
        ("start", start::TESTS),
        ("syscount", syscount::TESTS),
        ("exec", exec::TESTS),
        ("load", load::TESTS),
        ("rings", rings::TESTS),
        ("stats", stats::TESTS),
        ("budget", budget::TESTS),
    ];
    // In the VMs: what other kernels show (tests/vm/run.sh).
    let left_out = env::var("HELLO_SKIP").unwrap_or_default();
    for (group, tests) in all {
        if left_out.split(',').any(|name| name == *group) {
            continue;
        }
        for &(name, test) in *tests {
            trials.push(Trial::test(format!("{group}::{name}"), move || {
                test().map_err(Failed::from)
            }));
        }
    }
    trials
}
