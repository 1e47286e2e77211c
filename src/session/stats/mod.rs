// SPDX-License-Identifier: BSD-2-Clause
//! `--stats`: what hello itself costs.
//!
//! The kernel counts the runs of programs and their time only while somebody asks for
//! it, and that costs each program two readings of the clock. So it is switched on for
//! a tenth of the time, in short windows, by a descriptor (BPF_ENABLE_STATS, Linux 5.8)
//! that takes it back when it is closed, however hello ends.

mod clock;
mod report;

use std::fs;
use std::os::fd::AsFd as _;
use std::os::fd::AsRawFd as _;
use std::os::fd::BorrowedFd;
use std::os::fd::FromRawFd as _;
use std::os::fd::OwnedFd;
use std::time::Duration;
use std::time::Instant;

use anyhow::Result;
use anyhow::bail;
use libbpf_rs::Object;
use libbpf_rs::libbpf_sys;
use nix::errno::Errno;
use nix::sys::resource::UsageWho;
use nix::sys::resource::getrusage;

use crate::transport::Plan;
use crate::transport::Transport;

/// How long the kernel counts at first, …
const FIRST: Duration = Duration::from_millis(100);

/// … and from then on …
const WINDOW: Duration = Duration::from_millis(20);

/// … in each of these times, not always at the same place: see [`place`].
const SLOT: Duration = Duration::from_millis(200);

/// Whether the kernel counts runs for everybody anyway (sysctl(8)).
const ENABLED: &str = "/proc/sys/kernel/bpf_stats_enabled";

/// What the kernel knows of a loaded program. Fields that it is too old for are 0.
pub(super) fn program_info(program: BorrowedFd<'_>) -> Option<libbpf_sys::bpf_prog_info> {
    let mut info = libbpf_sys::bpf_prog_info::default();
    let mut len = size_of_val(&info).try_into().unwrap_or(0);
    // SAFETY: the descriptor is open, info and len describe memory of ours.
    let done =
        unsafe { libbpf_sys::bpf_prog_get_info_by_fd(program.as_raw_fd(), &mut info, &mut len) };
    (done == 0).then_some(info)
}

/// What was measured in a time: since the last table, or of the whole run.
#[derive(Clone, Debug)]
struct Span {
    began: Instant,
    /// Time of the windows in it.
    sampled: Duration,
    /// Runs in the windows and their nanoseconds, without the clock, of each program.
    runs: Vec<(u64, u64)>,
    /// Bytes that waited in the buffer when hello woke, at most.
    fill: u64,
    /// The ledger's events, and hello's own CPU time, when it began.
    seen: u64,
    cpu: Duration,
}

impl Span {
    fn new(programs: usize, began: Instant, seen: u64) -> Self {
        Self {
            began,
            sampled: Duration::ZERO,
            runs: vec![(0, 0); programs],
            fill: 0,
            seen,
            cpu: own_cpu(),
        }
    }
}

/// A loaded program.
#[derive(Debug)]
struct Program {
    name: String,
    fd: OwnedFd,
    /// Instructions that the verifier went through (Linux 5.16).
    verified: Option<u32>,
    /// Bytes of machine code.
    jited: Option<u32>,
    /// Runs and their nanoseconds when the window began.
    before: (u64, u64),
}

impl Program {
    fn runs(&self) -> (u64, u64) {
        let info = program_info(self.fd.as_fd()).unwrap_or_default();
        (info.run_cnt, info.run_time_ns)
    }
}

/// Where in a slot its window begins. The golden ratio puts each into the largest gap that
/// those before have left, so that work with a rhythm is not always met at the same beat.
fn place(slot: u32) -> Duration {
    const GOLDEN: f64 = 0.618_033_988_749_894_9;
    (SLOT - WINDOW).mul_f64((f64::from(slot) * GOLDEN).fract())
}

/// When the first window begins that is in a slot after `now`; slots are counted from `start`.
fn next_window(start: Instant, now: Instant) -> Instant {
    let slot = (now - start).as_nanos() / SLOT.as_nanos() + 1;
    let slot = u32::try_from(slot).unwrap_or(u32::MAX);
    start + SLOT * slot + place(slot)
}

/// The measurement of a run.
#[derive(Debug)]
pub(super) struct Stats {
    programs: Vec<Program>,
    plan: Option<Plan>,
    /// The kernel counted for everybody when hello began, and may stop to.
    was_on: bool,
    /// hello may not have it count.
    is_refused: bool,
    /// Nanoseconds of a run that are the clock's, once the kernel has counted.
    clock: Option<u64>,
    /// What makes the kernel count, and since when what it counts is not in the spans.
    window: Option<(Instant, Option<OwnedFd>)>,
    /// When the next window is to begin or this one to end.
    turn: Instant,
    /// When all was about to be detached, and the ledger's events then.
    stopped: Option<(Instant, u64)>,
    /// Why the kernel would not count has been said.
    has_complained: bool,
    table: Span,
    run: Span,
    /// Nanoseconds of the programs, and of the windows, since [`take_cost`](Self::take_cost)
    /// has told of them.
    untold: (u64, Duration),
}

impl Stats {
    /// Begins with the first window, when all is attached and `seen` events are in the ledger.
    ///
    /// # Errors
    /// No descriptors are left.
    pub(super) fn start(object: &Object, plan: Option<Plan>, seen: u64) -> Result<Self> {
        let mut programs = Vec::new();
        for program in object.progs().filter(libbpf_rs::ProgramImpl::autoload) {
            let info = program_info(program.as_fd()).unwrap_or_default();
            let known = |number: u32| Some(number).filter(|number| *number > 0);
            programs.push(Program {
                name: program.name().to_string_lossy().into_owned(),
                fd: program.as_fd().try_clone_to_owned()?,
                verified: known(info.verified_insns),
                jited: known(info.jited_prog_len),
                before: (0, 0),
            });
        }
        let now = Instant::now();
        let span = Span::new(programs.len(), now, seen);
        let mut stats = Self {
            programs,
            plan,
            was_on: is_on(),
            is_refused: false,
            clock: None,
            window: None,
            turn: now,
            stopped: None,
            has_complained: false,
            table: span.clone(),
            run: span,
            untold: (0, Duration::ZERO),
        };
        stats.open(FIRST);
        Ok(stats)
    }

    /// The share of one CPU that the programs took in windows, 1.0 for all of it; more
    /// where several CPUs run them; of windows that take [`FIRST`] together, which is all of
    /// about a second: of a few milliseconds it would be chance. `None` until there are so many.
    pub(super) fn take_cost(&mut self) -> Option<f64> {
        let (ns, time) = self.untold;
        if time < FIRST {
            return None;
        }
        self.untold = (0, Duration::ZERO);
        Some(ns as f64 / time.as_nanos() as f64)
    }

    /// When [`turn`](Self::turn) has to be called next.
    pub(super) fn due(&self) -> Option<Instant> {
        (!self.is_refused).then_some(self.turn)
    }

    /// hello has woken: looks how full the buffer is, and begins or ends a window if it
    /// is time to.
    pub(super) fn turn(&mut self, transport: Option<&Transport>) {
        self.look(transport);
        if self.due().is_some_and(|turn| Instant::now() >= turn) {
            if self.window.is_some() {
                self.close();
            } else {
                self.open(WINDOW);
            }
        }
    }

    /// The programs are about to be detached, with `seen` events in the ledger: ends the
    /// last window.
    pub(super) fn stop(&mut self, transport: Option<&Transport>, seen: u64) {
        self.look(transport);
        self.close();
        self.stopped = Some((Instant::now(), seen));
    }

    fn look(&mut self, transport: Option<&Transport>) {
        let waiting = transport.map_or(0, Transport::waiting);
        for span in [&mut self.table, &mut self.run] {
            span.fill = span.fill.max(waiting);
        }
    }

    fn open(&mut self, length: Duration) {
        let fd = match enable() {
            Ok(fd) => Some(fd),
            Err(_) if is_on() => None,
            Err(errno) => {
                if !std::mem::replace(&mut self.has_complained, true) {
                    crate::say!("hello: runs of programs cannot be timed: {}", why(errno));
                }
                self.is_refused = matches!(errno, Errno::EPERM | Errno::EINVAL);
                self.turn = next_window(self.run.began, Instant::now());
                return;
            }
        };
        for program in &mut self.programs {
            program.before = program.runs();
        }
        let now = Instant::now();
        self.window = Some((now, fd));
        self.turn = now + length;
        self.clock
            .get_or_insert_with(|| clock::reading().unwrap_or(0));
    }

    fn close(&mut self) {
        self.book();
        if self.window.take().is_some() {
            self.turn = next_window(self.run.began, Instant::now());
        }
    }

    /// Adds what the window has had so far to the spans.
    fn book(&mut self) {
        let Some((since, _)) = &mut self.window else {
            return;
        };
        let now = Instant::now();
        let time = now - std::mem::replace(since, now);
        let mut all = 0;
        for (index, program) in self.programs.iter_mut().enumerate() {
            let now = program.runs();
            let before = std::mem::replace(&mut program.before, now);
            let runs = now.0.saturating_sub(before.0);
            let ns = now.1.saturating_sub(before.1);
            let ns = ns.saturating_sub(runs * self.clock.unwrap_or(0));
            all += ns;
            for span in [&mut self.table, &mut self.run] {
                span.runs[index].0 += runs;
                span.runs[index].1 += ns;
            }
        }
        self.table.sampled += time;
        self.run.sampled += time;
        self.untold.0 += all;
        self.untold.1 += time;
    }

    /// Says what was measured since the last table; `seen` events are in the ledger.
    pub(super) fn tell_of_table(&mut self, seen: u64) {
        self.book();
        report::tell(self, &self.table, (Instant::now(), seen), false);
        self.table = Span::new(self.programs.len(), Instant::now(), seen);
    }

    /// Says what was measured in all the run, once it is [stopped](Self::stop).
    pub(super) fn tell_of_run(&self) {
        if let Some(end) = self.stopped {
            report::tell(self, &self.run, end, true);
        }
    }
}

/// Does the kernel count runs, if asked to?
///
/// # Errors
/// It does not, which `--max-cpu` cannot do without.
pub(super) fn check() -> Result<()> {
    if let Err(errno) = enable()
        && !is_on()
    {
        bail!("--max-cpu cannot tell what programs cost: {}", why(errno));
    }
    Ok(())
}

fn is_on() -> bool {
    fs::read_to_string(ENABLED).is_ok_and(|text| text.trim() == "1")
}

fn why(errno: Errno) -> &'static str {
    match errno {
        Errno::EPERM => "CAP_SYS_ADMIN is missing; run as root",
        Errno::EINVAL => "the kernel cannot count their runs (Linux 5.8)",
        errno => errno.desc(),
    }
}

/// Has the kernel count runs for as long as the descriptor is open.
fn enable() -> Result<OwnedFd, Errno> {
    // SAFETY: takes a number.
    let fd = unsafe { libbpf_sys::bpf_enable_stats(libbpf_sys::BPF_STATS_RUN_TIME) };
    let fd = Errno::result(fd)?;
    // SAFETY: a descriptor that the kernel has just made for us (close-on-exec).
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

/// CPU time that hello has used since it was started.
fn own_cpu() -> Duration {
    let Ok(usage) = getrusage(UsageWho::RUSAGE_SELF) else {
        return Duration::ZERO;
    };
    let micros = usage.user_time().tv_sec() + usage.system_time().tv_sec();
    let micros = micros * 1_000_000 + usage.user_time().tv_usec() + usage.system_time().tv_usec();
    Duration::from_micros(micros.try_into().unwrap_or(0))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Of ten minutes, as many in each tenth of a second, but for what it takes that none leaves
    /// its slot; and never 300 ms without one.
    #[test]
    fn windows_keep_no_beat() {
        let start = Instant::now();
        let mut tenths = [0u32; 10];
        let mut now = start + FIRST;
        while now < start + Duration::from_secs(600) {
            let next = next_window(start, now);
            let gap = next - now;
            assert!(gap < Duration::from_millis(300), "{gap:?}");
            now = next + WINDOW;
            tenths[((next - start).subsec_millis() / 100) as usize] += 1;
        }
        assert!(
            tenths.iter().all(|count| (260..=340).contains(count)),
            "{tenths:?}"
        );
    }
}
