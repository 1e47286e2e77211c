// SPDX-License-Identifier: BSD-2-Clause
//! The loop of a run and its end: poll, print, stop; then detach, drain, account.

use std::os::fd::AsFd as _;
use std::os::fd::FromRawFd as _;
use std::os::fd::OwnedFd;
use std::time::Duration;
use std::time::Instant;

use anyhow::Context as _;
use anyhow::Result;
use libbpf_rs::Link;
use libbpf_rs::MapCore as _;
use libbpf_rs::Object;
use libbpf_rs::query::LinkInfo;
use libbpf_rs::query::LinkTypeInfo;
use libbpf_rs::query::PerfEventType;
use libbpf_rs::skel::Skel;
use nix::errno::Errno;
use nix::libc;
use nix::poll::PollFd;
use nix::poll::PollFlags;
use nix::poll::PollTimeout;
use nix::poll::poll;
use nix::sys::signal::Signal;

use super::Context;
use super::Report;
use super::Session;
use super::Verdict;
use super::budget::Budget;
use super::find_map;
use super::stats;
use super::stats::Stats;
use crate::ledger::Ledger;

/// The trace pipe does not wake hello for single lines: read at least so often.
const PIPE_TIME: Duration = Duration::from_millis(100);

/// How often to look whether the last descendant is gone, once those that were
/// selected at the start are: they have no descriptor to poll.
const LINGER_TIME: Duration = Duration::from_millis(20);

/// From Linux 6.13 on a task can lose its CPU between the tracepoint of a system call, which
/// may fault since, and the programs on it (`rcu_tasks_trace` in include/linux/tracepoint.h):
/// no grace period that user space can ask for waits for it. So as long as something was
/// booked while the buffer was drained it is drained again, so often at most.
const LATE_LOOKS: usize = 10;
const LATE_TIME: Duration = Duration::from_millis(5);

/// The book's programs print their tables every two seconds.
const INTERVAL: Duration = Duration::from_secs(2);

/// A descriptor that becomes readable when the process ends (pidfd_open(2),
/// Linux 5.3).
///
/// # Errors
/// There is no such process.
pub fn pidfd_open(pid: u32) -> Result<OwnedFd> {
    // SAFETY: takes two integers.
    let fd = unsafe { libc::syscall(libc::SYS_pidfd_open, pid, 0) };
    let fd = Errno::result(fd).with_context(|| format!("cannot watch process {pid}"))?;
    // SAFETY: a descriptor that the kernel has just made for us (close-on-exec).
    Ok(unsafe { OwnedFd::from_raw_fd(i32::try_from(fd)?) })
}

/// Waits for COMMAND after tracing has ended (`--duration`, `--count`, a closed pipe).
/// A signal to hello sends it a SIGTERM; at the second hello goes without it: `None`.
pub fn outlast(cx: &mut Context) -> Option<u8> {
    let mut is_said = false;
    loop {
        let command = cx.command.as_mut()?;
        if command.has_ended() {
            return Some(command.wait());
        }
        match cx.stop.verdict(true) {
            Verdict::GoOn => {}
            Verdict::PassOn => command.kill(Signal::SIGTERM),
            Verdict::PassOnAndEnd => {
                command.kill(Signal::SIGTERM);
                return None;
            }
            Verdict::End => return None,
        }
        if !std::mem::replace(&mut is_said, true) {
            let name = command.name();
            crate::say!("hello: {name} goes on, and hello ends with it");
        }
        let mut fds = [
            PollFd::new(command.as_fd(), PollFlags::POLLIN),
            PollFd::new(cx.stop.as_fd(), PollFlags::POLLIN),
        ];
        let _ = poll(&mut fds, PollTimeout::NONE);
    }
}

impl<'obj, S: Skel<'obj>> Session<'obj, '_, S> {
    /// Runs until something ends it: a signal, `--duration`, `--count`, a closed or
    /// full standard output, the end of COMMAND or of the selected processes.
    /// The ledger it returns is exact.
    ///
    /// # Errors
    /// COMMAND could not be run, or the kernel refuses to be read.
    pub fn run(mut self, cx: &mut Context) -> Result<Report> {
        // Who reads the line may count on being seen.
        self.source.borrow_mut().attached(self.skel.object())?;
        crate::say!("hello: {}: {}", self.mode, self.description());
        self.source.borrow_mut().begin();
        self.poll(cx)?;
        self.finish(cx)
    }

    fn poll(&mut self, cx: &mut Context) -> Result<()> {
        let start = Instant::now();
        let deadline = cx.args.duration.and_then(|time| start.checked_add(time));
        let is_table = self.source.borrow().is_table();
        // What COMMAND did is told once, at its end, unless asked for in between.
        let interval = match cx.args.interval {
            Some(interval) => Some(interval),
            None if cx.command.is_none() => Some(INTERVAL),
            None => None,
        };
        let interval = interval.filter(|_| is_table);
        let mut next_tick = interval.and_then(|interval| start.checked_add(interval));
        let mut watched = cx.select.take_processes();
        self.forget_the_dead(&watched)?;
        let mut command_runs = cx.command.is_some();
        self.budget = cx.args.max_cpu.map(|percent| {
            let can_time = self.source.borrow().is_timing();
            Budget::new(percent, can_time)
        });
        if cx.args.stats || self.budget.is_some() {
            let object = self.skel.object();
            self.stats = Some(Stats::start(object, self.plan, seen(object)?)?);
        }
        if let Some(command) = &mut cx.command {
            command.release()?;
        }
        loop {
            let lingering = cx.select.has_pids() && !command_runs && watched.is_empty();
            if lingering && self.nobody_left()? {
                return Ok(());
            }
            let now = Instant::now();
            let pipe = self.source.borrow().fd().map(|_| now + PIPE_TIME);
            let linger = lingering.then(|| now + LINGER_TIME);
            let due = self
                .transport
                .as_ref()
                .map(|transport| now + transport.due());
            let turn = self.stats.as_ref().and_then(Stats::due);
            let until = [deadline, next_tick, pipe, linger, due, turn]
                .into_iter()
                .flatten()
                .min();
            let gone = self.wait(cx, &watched, command_runs, until)?;
            for index in gone.into_iter().rev() {
                if index == watched.len() {
                    command_runs = false;
                    if let Some(command) = &mut cx.command {
                        command.wait();
                    }
                    cx.stop.heed_interrupt();
                } else {
                    watched.remove(index);
                }
            }

            if let Some(stats) = &mut self.stats {
                stats.turn(self.transport.as_ref());
            }
            let mut source = self.source.borrow_mut();
            if let (Some(budget), Some(stats)) = (&mut self.budget, &mut self.stats)
                && let Some(cost) = stats.take_cost()
                && let Some(level) = budget.judge(cost)
            {
                source.throttle(self.skel.object(), level)?;
            }
            source.woke();
            if let Some(transport) = &self.transport {
                transport.consume(|record| source.record(record))?;
            }
            source.ready()?;
            let now = Instant::now();
            if let (Some(tick), Some(interval)) = (next_tick, interval)
                && now >= tick
                // At the deadline the final table comes anyway.
                && deadline.is_none_or(|deadline| now < deadline)
            {
                source.tick(self.skel.object(), false)?;
                next_tick = tick.checked_add(interval).map(|next| next.max(now));
                if let Some(stats) = &mut self.stats
                    && cx.args.stats
                {
                    source.output().flush();
                    stats.tell_of_table(seen(self.skel.object())?);
                }
            }
            source.output().flush();
            let verdict = cx.stop.verdict(command_runs);
            if let (Verdict::PassOn | Verdict::PassOnAndEnd, Some(command)) = (verdict, &cx.command)
            {
                command.kill(Signal::SIGTERM);
            }
            if source.output().is_done()
                || deadline.is_some_and(|deadline| now >= deadline)
                || matches!(verdict, Verdict::End | Verdict::PassOnAndEnd)
            {
                return Ok(());
            }
        }
    }

    /// Sleeps until there is something to do. Returns which of the watched processes
    /// have ended; COMMAND has the index after the last.
    fn wait(
        &self,
        cx: &Context,
        watched: &[(u32, OwnedFd)],
        command_runs: bool,
        until: Option<Instant>,
    ) -> Result<Vec<usize>> {
        let source = self.source.borrow();
        let mut fds: Vec<PollFd<'_>> = Vec::with_capacity(watched.len() + 4);
        let mut add = |fd| fds.push(PollFd::new(fd, PollFlags::POLLIN));
        watched.iter().for_each(|(_, fd)| add(fd.as_fd()));
        let command = cx.command.as_ref().filter(|_| command_runs);
        if let Some(command) = command {
            add(command.as_fd());
        }
        let processes = watched.len() + usize::from(command.is_some());
        add(cx.stop.as_fd());
        add(self.steps.as_fd());
        if let Some(transport) = &self.transport {
            add(transport.fd());
        }
        if let Some(fd) = source.fd() {
            add(fd);
        }
        let timeout = match until {
            None => PollTimeout::NONE,
            Some(until) => {
                // Rounded up: a millisecond too early would spin.
                let left = until.saturating_duration_since(Instant::now());
                let millis = left.as_micros().div_ceil(1000);
                PollTimeout::try_from(millis).unwrap_or(PollTimeout::MAX)
            }
        };
        match poll(&mut fds, timeout) {
            Ok(_) | Err(Errno::EINTR) => {}
            Err(errno) => return Err(errno).context("poll"),
        }
        self.steps.rearm();
        Ok((0..processes)
            .filter(|&at| fds[at].any().unwrap_or(false))
            .collect())
    }

    /// A process that ended before hello_exit was attached is still in the map, and its
    /// number may be given to another.
    fn forget_the_dead(&self, watched: &[(u32, OwnedFd)]) -> Result<()> {
        for (pid, fd) in watched {
            let mut fds = [PollFd::new(fd.as_fd(), PollFlags::POLLIN)];
            if poll(&mut fds, PollTimeout::ZERO).is_ok_and(|ready| ready > 0) {
                // Gone already if hello_exit saw it.
                let _ = find_map(self.skel.object(), "hello_pids")?.delete(&pid.to_ne_bytes());
            }
        }
        Ok(())
    }

    /// Have all selected processes and their descendants ended? The kernel side takes
    /// each from the map with its last thread.
    fn nobody_left(&self) -> Result<bool> {
        let pids = find_map(self.skel.object(), "hello_pids")?;
        for key in pids.keys() {
            let pid = key.first_chunk().map_or(0, |pid| u32::from_ne_bytes(*pid));
            if is_alive(pid) {
                return Ok(false);
            }
            // The kernel has skipped the program that would have taken it off.
            let _ = pids.delete(&key);
        }
        Ok(true)
    }

    /// Detaches, waits for programs still running, reads what they left, counts.
    fn finish(mut self, cx: &Context) -> Result<Report> {
        if let Some(stats) = &mut self.stats {
            stats.stop(self.transport.as_ref(), seen(self.skel.object())?);
        }
        self.source.borrow_mut().detaching(self.skel.object())?;
        let mut missed = 0;
        // In reverse: an exit before its entry, and the programs that keep the filters
        // true last, so that nothing is misjudged meanwhile. A link takes its count along:
        // what it misses while it is closed nobody can read.
        while let Some(link) = self.links.pop() {
            missed += kprobe_missed(&link);
        }
        grace_period();
        let object = self.skel.object();
        let map = find_map(object, "hello_ledger")?;
        let mut source = self.source.borrow_mut();
        let mut ledger = Ledger::read(&map, missed + recursion_misses(object))?;
        for _ in 0..LATE_LOOKS {
            source.woke();
            if let Some(transport) = &self.transport {
                transport.drain(|record| source.record(record))?;
            }
            let now = Ledger::read(&map, missed + recursion_misses(object))?;
            let is_settled = now.seen == ledger.seen;
            ledger = now;
            if is_settled {
                break;
            }
            std::thread::sleep(LATE_TIME);
        }
        source.ready()?;
        source.tick(object, true)?;
        source.output().flush();

        let overwritten = source.overwritten(ledger.emitted);
        ledger.emitted -= overwritten.min(ledger.emitted);
        ledger.lost.buffer_full += overwritten;
        ledger.add_output(source.output());
        ledger.estimated = self.budget.as_ref().is_some_and(Budget::has_sampled);
        if let Some(stats) = self.stats.as_ref().filter(|_| cx.args.stats) {
            stats.tell_of_run();
        }
        Ok(Report {
            ledger,
            write_failure: source.output().take_failure(),
        })
    }
}

/// The events that the ledger has so far, without those that programs did not run for.
fn seen(object: &Object) -> Result<u64> {
    Ok(Ledger::read(&find_map(object, "hello_ledger")?, 0)?.seen)
}

/// Is it a process that has not ended? proc(5): the state stands after the name, which
/// may contain anything but ends with the last parenthesis.
fn is_alive(pid: u32) -> bool {
    let stat = std::fs::read(format!("/proc/{pid}/stat")).unwrap_or_default();
    let stat = String::from_utf8_lossy(&stat);
    let state = stat
        .rsplit(") ")
        .next()
        .and_then(|rest| rest.chars().next());
    !matches!(state, None | Some('Z' | 'X'))
}

/// Returns when every program that was running on any CPU has ended: detaching
/// only keeps new runs from starting, and what hello writes is seen by new runs only.
pub fn grace_period() {
    // SAFETY: takes three integers. MEMBARRIER_CMD_GLOBAL is synchronize_rcu()
    // (kernel/sched/membarrier.c), and BPF programs run in RCU read-side sections.
    let done = unsafe { libc::syscall(libc::SYS_membarrier, libc::MEMBARRIER_CMD_GLOBAL, 0, 0) };
    // With one CPU it does nothing, and a program that can be preempted may wait for hello.
    let online = nix::unistd::sysconf(nix::unistd::SysconfVar::_NPROCESSORS_ONLN);
    if done != 0 || online == Ok(Some(1)) {
        // nohz_full hosts refuse it; no program runs for as long as this.
        std::thread::sleep(Duration::from_millis(100));
    }
}

/// Runs that the kernel skipped because the program was running on that CPU
/// already (`recursion_misses`; commit 9ed9e9ba2337 for trampolines, 05b24ff9b2cf for
/// raw tracepoints, which could not nest before).
fn recursion_misses(object: &Object) -> u64 {
    object
        .progs()
        .filter(libbpf_rs::ProgramImpl::autoload)
        .filter_map(|program| stats::program_info(program.as_fd()))
        .map(|info| info.recursion_misses)
        .sum()
}

/// Hits of a kprobe that the kernel skipped (Linux 6.7); 0 for other links.
fn kprobe_missed(link: &Link) -> u64 {
    match link.info().map(|LinkInfo { info, .. }| info) {
        Ok(LinkTypeInfo::PerfEvent(event)) => match event.event_type {
            PerfEventType::Kprobe { missed, .. } => missed,
            _ => 0,
        },
        _ => 0,
    }
}
