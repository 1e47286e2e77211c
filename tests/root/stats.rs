// SPDX-License-Identifier: BSD-2-Clause
//! `--stats`: what hello itself costs, and that it leaves nothing switched on.

use std::fs;
use std::os::fd::AsFd as _;
use std::os::fd::AsRawFd as _;
use std::os::fd::FromRawFd as _;
use std::os::fd::OwnedFd;
use std::time::Duration;
use std::time::Instant;

use libbpf_rs::libbpf_sys;
use nix::sys::signal::Signal;

use crate::errors::CAP_SYS_ADMIN;
use crate::errors::without;
use crate::matrix::kernel_version;
use crate::run::Check;
use crate::run::Running;
use crate::run::Test;
use crate::run::Waiting;
use crate::run::ensure;
use crate::run::hello;
use crate::run::see;
use crate::run::workload;

pub(crate) const TESTS: &[Test] = &[
    ("of_programs", of_programs),
    ("of_a_run_that_ends_at_once", of_a_run_that_ends_at_once),
    ("with_each_table", with_each_table),
    ("not_all_the_time", not_all_the_time),
    ("in_windows_and_off_again", in_windows_and_off_again),
    ("off_when_hello_is_killed", off_when_hello_is_killed),
    ("on_already", on_already),
    ("on_for_a_while", on_for_a_while),
    ("without_leave", without_leave),
    ("high_water", high_water),
];

const SYSCTL: &str = "/proc/sys/kernel/bpf_stats_enabled";

/// A program's row of the report.
#[derive(Debug)]
pub(crate) struct Program {
    pub(crate) name: String,
    runs: String,
    ns: String,
    share: String,
    pub(crate) insns: String,
    pub(crate) jited: String,
}

/// The rows of the last report, that of the whole run.
pub(crate) fn programs(stderr: &str) -> Vec<Program> {
    let lines: Vec<_> = stderr.lines().collect();
    let head = lines
        .iter()
        .rposition(|line| line.starts_with("hello:   PROGRAM "));
    let rows = lines.iter().skip(head.map_or(lines.len(), |head| head + 1));
    rows.map_while(|line| {
        let words: Vec<_> = line.strip_prefix("hello:   ")?.split_whitespace().collect();
        let [name, runs, ns, share, insns, jited] = words[..] else {
            return None;
        };
        Some(Program {
            name: name.into(),
            runs: runs.into(),
            ns: ns.into(),
            share: share.into(),
            insns: insns.into(),
            jited: jited.into(),
        })
    })
    .take_while(|row| row.name != "all")
    .collect()
}

fn number(text: &str) -> f64 {
    text.parse().unwrap_or(-1.0)
}

fn is_above(text: &str, limit: f64) -> bool {
    number(text) > limit
}

/// A line that begins so.
fn line<'s>(stderr: &'s str, begin: &str) -> Result<&'s str, String> {
    stderr
        .lines()
        .rfind(|line| line.starts_with(begin))
        .ok_or_else(|| format!("no {begin:?} in {stderr}"))
}

fn of_programs() -> Check {
    // 23 times 997 calls, with a pause of 50 ms after each lot.
    let options = ["--mode", "syscount", "-o", "json", "--latency", "--stats"];
    let seen = see(&mut workload(&options, &["paced", "23", "997"]))?;
    ensure!(seen.status == Some(0), "{}", seen.stderr);
    let rows = seen.of_type("count")?;
    ensure!(
        rows.iter()
            .any(|row| row["syscall"] == "getppid" && row["count"] == 23 * 997),
        "{rows:?}"
    );
    seen.ledger()?; // and nothing but JSON on standard output
    line(&seen.stderr, "hello: stats of all ")?;
    let programs = programs(&seen.stderr);
    for name in ["syscount_entry", "syscount_exit"] {
        let row = programs.iter().find(|row| row.name == name);
        let row = row.ok_or_else(|| format!("no {name} in {}", seen.stderr))?;
        // The first window has a whole lot: 997 calls in not much more than 100 ms.
        ensure!(is_above(&row.runs, 997.0), "{row:?}");
        ensure!(
            is_above(&row.ns, 0.0) && is_above(&row.share, 0.0),
            "{row:?}"
        );
        let runs = number(&row.runs) * number(&row.ns) / 1e7;
        let rounding = 0.01 + runs / 10.0;
        ensure!(
            (runs - rounding..=runs + rounding).contains(&number(&row.share)),
            "runs times time is the share: {row:?}"
        );
        ensure!(is_above(&row.jited, 100.0), "{row:?}");
        if kernel_version() >= (5, 16) {
            ensure!(is_above(&row.insns, 100.0), "{row:?}");
        } else {
            ensure!(row.insns == "-", "{row:?}");
        }
    }
    let own = line(&seen.stderr, "hello:   hello itself: ")?;
    let memory = own.split("memory ").nth(1).unwrap_or_default();
    let memory = number(memory.split(' ').next().unwrap_or_default());
    ensure!((1.0..100.0).contains(&memory), "{own}");
    Ok(())
}

fn of_a_run_that_ends_at_once() -> Check {
    let options = ["--mode", "buffer", "--stats"];
    let seen = see(&mut workload(&options, &["execs", "0", "7"]))?;
    let programs = programs(&seen.stderr);
    ensure!(
        programs
            .iter()
            .any(|row| row.name.starts_with("buffer_") && is_above(&row.runs, 0.0)),
        "{}",
        seen.stderr
    );
    Ok(())
}

fn with_each_table() -> Check {
    let options = ["--mode", "syscount", "--stats", "-i", "300ms", "-n", "3"];
    let seen = see(&mut workload(&options, &["paced", "101", "97"]))?;
    let heads = |begin| {
        let lines = seen.stderr.lines();
        lines.filter(|line| line.starts_with(begin)).count()
    };
    let (tables, all) = (heads("hello: stats of "), heads("hello: stats of all "));
    ensure!(tables == 4 && all == 1, "{}", seen.stderr);
    let ran = seen.stderr.matches("  syscount_raw_tp ").count();
    ensure!(ran == 4, "each has a window: {}", seen.stderr);
    Ok(())
}

/// However short the interval, the kernel counts in windows: 300 ms of these two seconds.
fn not_all_the_time() -> Check {
    let me = std::process::id().to_string();
    let options = ["--mode", "syscount", "--stats", "-i", "50ms", "-d", "2"];
    let seen = see(hello(&options).args(["-p", &me]))?;
    let head = line(&seen.stderr, "hello: stats of all ")?;
    let sampled = head.split("sampled for ").nth(1).unwrap_or_default();
    let (millis, unit) = sampled.split_once(" ms").unwrap_or_default();
    ensure!(
        unit.starts_with(", a run less") && (100.0..1000.0).contains(&number(millis)),
        "{head}"
    );
    ensure!(
        seen.stderr.matches("hello: stats of ").count() > 10,
        "{}",
        seen.stderr
    );
    Ok(())
}

/// A program of ours: does the kernel count its runs?
struct Probe(OwnedFd);

impl Probe {
    fn load() -> Result<Self, String> {
        let instruction = |code: u32| libbpf_sys::bpf_insn {
            code: code as u8,
            ..libbpf_sys::bpf_insn::default()
        };
        let code = [
            instruction(libbpf_sys::BPF_ALU64 | libbpf_sys::BPF_MOV | libbpf_sys::BPF_K),
            instruction(libbpf_sys::BPF_JMP | libbpf_sys::BPF_EXIT),
        ];
        // SAFETY: names and instructions outlive the call.
        let fd = unsafe {
            libbpf_sys::bpf_prog_load(
                libbpf_sys::BPF_PROG_TYPE_SOCKET_FILTER,
                c"probe".as_ptr(),
                c"GPL".as_ptr(),
                code.as_ptr(),
                2,
                std::ptr::null_mut(),
            )
        };
        ensure!(fd >= 0, "cannot load a program: {fd}");
        // SAFETY: a new descriptor.
        Ok(Self(unsafe { OwnedFd::from_raw_fd(fd) }))
    }

    fn counted(&self) -> Result<u64, String> {
        let mut info = libbpf_sys::bpf_prog_info::default();
        let mut len = size_of_val(&info) as u32;
        let fd = self.0.as_fd().as_raw_fd();
        // SAFETY: info and len describe memory of ours.
        let done = unsafe { libbpf_sys::bpf_prog_get_info_by_fd(fd, &mut info, &mut len) };
        ensure!(done == 0, "no info: {done}");
        Ok(info.run_cnt)
    }

    fn is_counted(&self) -> Result<bool, String> {
        let before = self.counted()?;
        let packet = [0u8; 64];
        let mut options = libbpf_sys::bpf_test_run_opts {
            sz: size_of::<libbpf_sys::bpf_test_run_opts>() as u64,
            data_in: packet.as_ptr().cast(),
            data_size_in: 64,
            repeat: 11,
            ..libbpf_sys::bpf_test_run_opts::default()
        };
        // SAFETY: the packet outlives the call.
        let done =
            unsafe { libbpf_sys::bpf_prog_test_run_opts(self.0.as_raw_fd(), &raw mut options) };
        ensure!(done == 0, "cannot run a program: {done}");
        Ok(self.counted()? > before)
    }

    /// Waits until runs are counted, or are not.
    fn wait_for(&self, counted: bool) -> Check {
        let until = Instant::now() + Duration::from_secs(20);
        while self.is_counted()? != counted {
            ensure!(Instant::now() < until, "counted is not {counted}");
            std::thread::sleep(Duration::from_millis(5));
        }
        Ok(())
    }
}

fn sysctl() -> String {
    fs::read_to_string(SYSCTL).unwrap_or_default()
}

fn in_windows_and_off_again() -> Check {
    let (probe, before) = (Probe::load()?, sysctl());
    probe.wait_for(false)?;
    let options = ["--mode", "buffer", "-u", "65534", "--stats"];
    let mut running = Running::start(&mut hello(&options))?;
    running.attached()?;
    for _ in 0..2 {
        probe.wait_for(true)?;
        probe.wait_for(false)?;
    }
    probe.wait_for(true)?;
    running.signal(Signal::SIGTERM);
    let seen = running.finish()?;
    ensure!(seen.status == Some(0), "{}", seen.stderr);
    probe.wait_for(false)?;
    ensure!(sysctl() == before, "{SYSCTL} was {before:?}");
    Ok(())
}

fn off_when_hello_is_killed() -> Check {
    let probe = Probe::load()?;
    probe.wait_for(false)?;
    let options = ["--mode", "buffer", "-u", "65534", "--stats"];
    let mut running = Running::start(&mut hello(&options))?;
    running.attached()?;
    probe.wait_for(true)?;
    running.signal(Signal::SIGKILL);
    running.finish()?;
    probe.wait_for(false)
}

/// Puts the sysctl back.
struct SysctlOn(String);

impl Drop for SysctlOn {
    fn drop(&mut self) {
        let _ = fs::write(SYSCTL, &self.0);
    }
}

fn on_already() -> Check {
    let on = SysctlOn(sysctl());
    fs::write(SYSCTL, "1\n").map_err(|error| error.to_string())?;
    let probe = Probe::load()?;
    let seen = see(&mut workload(
        &["--mode", "buffer", "--stats"],
        &["execs", "3", "5"],
    ))?;
    let head = line(&seen.stderr, "hello: stats of all ")?;
    ensure!(
        head.contains("kernel.bpf_stats_enabled is on already, and left so"),
        "{head}"
    );
    let programs = programs(&seen.stderr);
    ensure!(
        programs.iter().any(|row| is_above(&row.ns, 0.0)),
        "{}",
        seen.stderr
    );
    // Then a budget needs no leave to switch it on.
    let options = ["--mode", "syscount", "--max-cpu", "10000"];
    let mut command = workload(&options, &["calls", "11", "0", "0"]);
    let seen = see(without(&mut command, &[CAP_SYS_ADMIN]))?;
    ensure!(
        seen.status == Some(0) && seen.stdout.contains("getppid"),
        "{}",
        seen.stderr
    );
    ensure!(sysctl().trim() == "1" && probe.is_counted()?, "it is off");
    drop(on);
    Ok(())
}

/// Whoever switched it on may switch it off before hello ends.
fn on_for_a_while() -> Check {
    let on = SysctlOn(sysctl());
    fs::write(SYSCTL, "1\n").map_err(|error| error.to_string())?;
    let probe = Probe::load()?;
    let options = ["--mode", "buffer", "-u", "65534", "--stats"];
    let mut running = Running::start(&mut hello(&options))?;
    running.attached()?;
    fs::write(SYSCTL, "0\n").map_err(|error| error.to_string())?;
    for counted in [false, true, false, true] {
        probe.wait_for(counted)?;
    }
    running.signal(Signal::SIGTERM);
    let seen = running.finish()?;
    ensure!(seen.status == Some(0), "{}", seen.stderr);
    drop(on);
    Ok(())
}

fn without_leave() -> Check {
    let options = [
        "--mode", "buffer", "--attach", "raw_tp", "-d", "100ms", "-u", "65534", "--stats",
    ];
    let seen = see(without(&mut hello(&options), &[CAP_SYS_ADMIN]))?;
    ensure!(seen.status == Some(0), "{}", seen.stderr);
    line(
        &seen.stderr,
        "hello: runs of programs cannot be timed: CAP_SYS_ADMIN is missing",
    )?;
    let rows = programs(&seen.stderr);
    let row = rows.iter().find(|row| row.name == "buffer_raw_tp");
    let row = row.ok_or_else(|| format!("no row: {}", seen.stderr))?;
    ensure!(
        row.runs == "-" && row.ns == "-" && is_above(&row.jited, 100.0),
        "{row:?}"
    );
    line(&seen.stderr, "hello:   hello itself: ")?;
    Ok(())
}

/// Nobody reads while hello is stopped: the buffer fills to its end.
fn high_water() -> Check {
    for transport in ["ring", "perf"] {
        let target = Waiting::start(&["execs", "0", "4001"])?;
        let pid = target.pid();
        let mut command = hello(&["--mode", "buffer", "-p", &pid, "--stats", "-o", "json"]);
        command.args(["--transport", transport, "--buffer-size", "64K"]);
        let mut running = Running::start(&mut command)?;
        running.attached()?;
        running.signal(Signal::SIGSTOP);
        target.go()?;
        running.signal(Signal::SIGCONT);
        let seen = running.finish()?;
        let percent = seen.stderr.split("at most ").nth(1).unwrap_or_default();
        let percent = number(percent.split(' ').next().unwrap_or_default());
        ensure!((90.0..=100.0).contains(&percent), "{}", seen.stderr);
        ensure!(seen.ledger()?.lost > 0, "{}", seen.stderr);
    }
    Ok(())
}
