// SPDX-License-Identifier: BSD-2-Clause
//! exec: one record for the whole life of a program: what was run, by whom, with which
//! arguments, what was tried in vain, how it ended. Kernel side: src/bpf/exec.bpf.c.

mod row;

use std::cell::RefCell;

use anyhow::Context as _;
use anyhow::Result;
use libbpf_rs::MapCore as _;
use libbpf_rs::MapFlags;
use libbpf_rs::MapHandle;
use libbpf_rs::Object;

use super::events::Events;
use crate::cli::Args;
use crate::cli::Hook;
use crate::cli::Life;
use crate::cli::ModeInfo;
use crate::cli::UsageError;
use crate::enrich::host;
use crate::enrich::host::Host;
use crate::enrich::host::Who;
use crate::enrich::programs::Program;
use crate::enrich::programs::Programs;
use crate::enrich::syscalls;
use crate::output::Output;
use crate::preflight;
use crate::session;
use crate::session::Context;
use crate::session::Report;
use crate::session::Session;
use crate::session::Setup;
use crate::session::Size;
use crate::session::Source;
use crate::wire;
use crate::wire::types::hello_task;
use row::Record;
use row::Row;
use skel::types::hello_exec_config;
use skel::types::hello_exec_kind;

skeleton!("exec");
crate::wire!(
    skel::types::hello_exec_event,
    skel::types::hello_ancestor,
    hello_exec_config
);

/// What the command line has to know.
pub const INFO: ModeInfo = ModeInfo {
    name: "exec",
    about: "programs executed: whole command line, result, exit status, lifetime",
    hooks: &[Hook::Fentry, Hook::Kprobe, Hook::RawTp],
    options: &[
        "event",
        "failed",
        "failed-exits",
        "env",
        "transport",
        "rings",
        "buffer-size",
    ],
    columns: &[host::COLUMNS, row::COLUMNS],
    shown: SHOWN,
};

const SHOWN: &[&str] = &[
    "EVENT", "PID", "PPID", "USER", "COMM", "RESULT", "LIFETIME", "ARGS",
];

/// Runs the mode.
///
/// # Errors
/// What [`Session`] says.
pub fn run(cx: &mut Context) -> Result<Report> {
    let wanted = Wanted::of(&cx.args);
    if !cx.args.env.is_empty() && !wanted.exec {
        return Err(UsageError(
            "--env is of programs that are run: not with --failed or --failed-exits, and with --event only if exec is among its kinds".into(),
        )
        .into());
    }
    let setup = setup(&wanted, !cx.args.env.is_empty());
    if !cx.args.env.is_empty() && cx.args.columns.is_empty() {
        let (args, all_but_args) = SHOWN.split_last().context("there are columns")?;
        cx.layout = cx
            .args
            .layout(INFO.columns, &[all_but_args, &["ENV", *args]].concat())?;
    }
    let source = RefCell::new(Execs::new(cx, wanted));
    let mut storage = session::storage();
    Session::start(
        cx,
        &setup,
        &mut storage,
        skel::ExecSkelBuilder::default,
        |_: &skel::ExecSkel<'_>| Ok(()),
        &source,
    )?
    .run(cx)
}

/// Which events are printed.
#[derive(Clone, Copy, Debug)]
struct Wanted {
    exec: bool,
    failed: bool,
    exit: bool,
    /// Of the ends, only those with a status or by a signal.
    failed_exits: bool,
}

impl Wanted {
    fn of(args: &Args) -> Self {
        let only = args.failed || args.failed_exits || !args.event.is_empty();
        let wants = |event: Life| !only || args.event.contains(&event);
        Self {
            exec: wants(Life::Exec),
            failed: wants(Life::Failed) || args.failed,
            exit: wants(Life::Exit) || args.failed_exits,
            failed_exits: args.failed_exits,
        }
    }

    /// What the kernel side has to look for: who is told an end wants to know of what.
    fn kinds(&self) -> u32 {
        let mut kinds = 0;
        if self.exec || self.exit {
            kinds |= hello_exec_kind::HELLO_EXEC_EXEC.0;
        }
        if self.failed {
            kinds |= hello_exec_kind::HELLO_EXEC_FAILED.0;
        }
        if self.exit {
            kinds |= hello_exec_kind::HELLO_EXEC_EXIT.0;
        }
        kinds
    }

    fn is_shown(&self, record: &Record<'_>) -> bool {
        match hello_exec_kind(record.event.kind) {
            hello_exec_kind::HELLO_EXEC_EXEC => self.exec,
            hello_exec_kind::HELLO_EXEC_FAILED => self.failed,
            _ => self.exit && (!self.failed_exits || record.event.status != 0),
        }
    }
}

fn setup(wanted: &Wanted, env: bool) -> Setup {
    let mut setup = Setup::new(&INFO);
    if wanted.failed {
        setup.calls = syscalls::execs();
    } else {
        setup
            .leave_out
            .extend(["exec_fentry*", "exec_kprobe*", "exec_raw_tp"]);
    }
    if !wanted.exit {
        setup
            .leave_out
            .extend(["exec_exit", "exec_fork", "exec_programs", "exec_ends"]);
    } else {
        setup.leave_out.push("hello_exit");
    }
    if wanted.kinds() & hello_exec_kind::HELLO_EXEC_EXEC.0 == 0 {
        setup.leave_out.push("exec_exec");
    }
    // Programs run on each CPU, and may be interrupted there by others. A slot is a quarter of
    // a MiB: with many CPUs they share, for no machine runs programs on all of them at once.
    let slots = preflight::possible_cpus().next_power_of_two().clamp(4, 32);
    setup.sizes.push(("exec_slots", Size::Entries(slots)));
    let config = hello_exec_config {
        events: wanted.kinds(),
        env: u32::from(env),
        slots: slots - 1,
        ..hello_exec_config::default()
    };
    setup
        .rodata
        .push((".rodata.exec", wire::bytes(&config).to_vec()));
    setup
}

/// The mode's [`Source`]: that of all event modes, and the programs that run.
struct Execs {
    events: Events,
    programs: std::rc::Rc<RefCell<Programs>>,
    /// Which program each process runs, if that matters.
    map: Option<MapHandle>,
    /// Those whose programs are to be known: all, if empty.
    pids: Vec<u32>,
    is_command: bool,
}

impl Execs {
    fn new(cx: &Context, wanted: Wanted) -> Self {
        let programs = std::rc::Rc::new(RefCell::new(Programs::default()));
        let known = std::rc::Rc::clone(&programs);
        let env = cx.args.env.clone();
        // Elsewhere hello knows it by another number than the kernel side.
        let is_here = preflight::is_in_host_pid_namespace();
        let command = cx.command.as_ref().filter(|_| is_here);
        let mut command = command.map(|command| (command.pid(), command.released()));
        let show = move |bytes: &[u8], host: &mut Host, output: &mut Output| {
            let mut record = Record::decode(bytes)?;
            let task: hello_task = wire::decode(bytes)?;
            if let Some((_, released)) =
                command.take_if(|(pid, _)| record.is_exit() && task.pid == *pid)
                && let Some(released) = released.get()
            {
                // It was made before, and held.
                record.event.lifetime_ns = task.ktime.saturating_sub(released);
            }
            let who = wanted.is_shown(&record).then(|| host.who(&task));
            show(&record, who, output, &env, &mut known.borrow_mut());
            Ok(())
        };
        Self {
            events: Events::new(cx, show),
            programs,
            map: None,
            pids: cx.args.pid.clone(),
            is_command: cx.command.is_some(),
        }
    }

    /// What runs already, from /proc. The programs are attached by now: a process that
    /// runs another meanwhile has its new one in the map, which stays.
    fn look_around(&mut self) {
        let Some(map) = &self.map else { return };
        let own = std::process::id();
        let mut programs = self.programs.borrow_mut();
        let pids = match self.pids.as_slice() {
            [] => processes(),
            pids => pids.to_vec(),
        };
        for pid in pids.into_iter().filter(|pid| *pid != own) {
            let Some(program) = Program::of_process(pid) else {
                continue;
            };
            // Ids of the kernel side are times, and larger; even, as it wants them.
            let id = u64::from(pid) * 2;
            let key = pid.to_ne_bytes();
            if map
                .update(&key, &id.to_ne_bytes(), MapFlags::NO_EXIST)
                .is_ok()
            {
                programs.remember(id, program);
                if Program::of_process(pid).is_none() {
                    let _ = map.delete(&key); // gone meanwhile
                }
            }
        }
    }
}

fn processes() -> Vec<u32> {
    let names = std::fs::read_dir("/proc").into_iter().flatten().flatten();
    names
        .filter_map(|entry| entry.file_name().to_str()?.parse().ok())
        .collect()
}

impl Source for Execs {
    fn output(&mut self) -> &mut Output {
        self.events.output()
    }

    fn loaded(&mut self, object: &Object, goes_on: bool) -> Result<()> {
        self.events.loaded(object, goes_on)?;
        let map = session::find_map(object, "exec_programs")?;
        // Left out where ends are.
        self.map = MapHandle::try_from(&map).ok();
        Ok(())
    }

    fn attached(&mut self, object: &Object) -> Result<()> {
        // COMMAND is held before its own exec, which will be seen.
        if !self.is_command {
            self.look_around();
        }
        self.events.attached(object)
    }

    fn begin(&mut self) {
        self.events.begin();
    }

    fn woke(&mut self) {
        self.events.woke();
    }

    fn record(&mut self, record: &[u8]) {
        self.events.record(record);
    }
}

/// `who` is for a record that is to be shown.
fn show(
    record: &Record<'_>,
    who: Option<Who<'_>>,
    output: &mut Output,
    env: &[String],
    programs: &mut Programs,
) {
    let event = &record.event;
    let is_exit = record.is_exit();
    if !is_exit && event.program != 0 {
        programs.remember(event.program, record.program());
        programs.end(event.replaced);
    }
    let ended = is_exit.then(|| programs.get(event.program)).flatten();
    // The kernel side knew it, but its exec was lost, or is forgotten here.
    if is_exit && event.program != 0 && ended.is_none() {
        output.unmatched += 1;
    }
    match who {
        Some(who) => output.event(&Row::new(who, record, ended, env)),
        None => output.pass(),
    }
    if is_exit && !record.is_forked() {
        programs.end(event.program);
    }
}
