// SPDX-License-Identifier: BSD-2-Clause
//! A tracer at work: floors in this process, hello and peers in one of their own, whose
//! output goes to files.

use std::fs;
use std::fs::File;
use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::path::PathBuf;
use std::process::Child;
use std::process::Command;
use std::process::Stdio;
use std::time::Duration;
use std::time::Instant;

use anyhow::Context as _;
use anyhow::Result;
use anyhow::bail;
use libbpf_rs::Link;
use libbpf_rs::Object;
use libbpf_rs::ObjectBuilder;
use nix::sys::prctl::set_pdeathsig;
use nix::sys::resource::Usage;
use nix::sys::resource::UsageWho;
use nix::sys::resource::getrusage;
use nix::sys::signal::Signal;
use nix::sys::signal::kill;
use nix::sys::time::TimeValLike as _;
use nix::unistd::Pid;

use crate::place::Place;
use crate::rows::Ready;

const FLOOR: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/floor.bpf.o"));

/// A tracer that has not attached by then never will.
const PATIENCE: Duration = Duration::from_secs(20);
/// One that stops may have much to write.
const LAST_WORDS: Duration = Duration::from_secs(120);
/// Seconds after which a tracer is told again to end.
const AGAIN: u64 = 5;
/// Nothing new is attached for so long: all is.
const SETTLED: Duration = Duration::from_millis(100);

/// Programs of floor.bpf.c at their tracepoints.
#[derive(Debug)]
pub(crate) struct Floor {
    _links: Vec<Link>,
    _object: Object,
}

impl Floor {
    pub(crate) fn attach(programs: &[&str]) -> Result<Self> {
        let mut open = ObjectBuilder::default().open_memory(FLOOR)?;
        for mut program in open.progs_mut() {
            let wanted = programs.iter().any(|name| program.name() == *name);
            program.set_autoload(wanted);
        }
        let object = open.load().context("the floor cannot be loaded")?;
        let mut links = Vec::new();
        for program in object.progs_mut().filter(|program| program.autoload()) {
            links.push(program.attach()?);
        }
        Ok(Self {
            _links: links,
            _object: object,
        })
    }

    /// The clang that made it.
    pub(crate) fn clang() -> Option<String> {
        let open = ObjectBuilder::default().open_memory(FLOOR).ok()?;
        let map = open
            .maps()
            .find(|map| map.name().to_string_lossy().contains("clang"))?;
        let text = String::from_utf8_lossy(map.initial_value()?).into_owned();
        let version = text.split([' ', '\0']).next()?;
        Some(version.to_owned())
    }
}

/// What a tracer keeps for itself, in KiB.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Memory {
    /// The process's peak (`VmHWM`).
    pub(crate) process: u64,
    /// Its maps in the kernel, as their file descriptors tell (`memlock`).
    pub(crate) maps: u64,
}

/// KiB as MiB.
#[expect(clippy::cast_precision_loss, reason = "far below 2^53")]
pub(crate) fn mebibytes(kib: u64) -> f64 {
    kib as f64 / 1024.0
}

/// What remains of a tracer.
#[derive(Debug)]
pub(crate) struct End {
    /// Its standard output.
    pub(crate) out: PathBuf,
    /// Its standard error.
    pub(crate) said: String,
    /// Time on a CPU, its own and its children's.
    pub(crate) cpu: Duration,
}

/// A tracer in a process of its own.
#[derive(Debug)]
pub(crate) struct Tracer {
    child: Child,
    out: PathBuf,
    err: PathBuf,
    /// From its start until all was attached.
    pub(crate) attached_after: Duration,
}

impl Tracer {
    /// Starts it and waits until it is attached.
    pub(crate) fn start(mut command: Command, ready: Ready, place: &Place) -> Result<Self> {
        let (out, err) = (place.path("out"), place.path("err"));
        command
            .env("LC_ALL", "C")
            .stdin(Stdio::null())
            .stdout(File::create(&out)?)
            .stderr(File::create(&err)?);
        // A tracer of all processes is not to outlive a benchmark that was killed.
        // SAFETY: between fork and exec, one system call.
        unsafe {
            command.pre_exec(|| Ok(set_pdeathsig(Signal::SIGKILL)?));
        }
        let begin = Instant::now();
        let mut tracer = Self {
            child: command.spawn().context("not there")?,
            out,
            err,
            attached_after: Duration::ZERO,
        };
        let (mut held, mut changed) = (0, begin);
        loop {
            match ready {
                Ready::Says(text) if tracer.said().contains(text) => {
                    tracer.attached_after = begin.elapsed();
                    return Ok(tracer);
                }
                Ready::Says(_) => {}
                Ready::Holds => {
                    let holds = tracer.holds();
                    if holds != held {
                        (held, changed) = (holds, Instant::now());
                    } else if held > 0 && changed.elapsed() > SETTLED {
                        tracer.attached_after = changed - begin;
                        return Ok(tracer);
                    }
                }
            }
            if tracer.child.try_wait()?.is_some() || begin.elapsed() > PATIENCE {
                bail!("not there: it did not attach: {}", tracer.complaint());
            }
            std::thread::sleep(Duration::from_micros(500));
        }
    }

    fn said(&self) -> String {
        let bytes = fs::read(&self.err).unwrap_or_default();
        String::from_utf8_lossy(&bytes).into_owned()
    }

    fn complaint(&self) -> String {
        let said = self.said();
        let line = said.lines().rev().find(|line| !line.trim().is_empty());
        line.unwrap_or("it said nothing")
            .chars()
            .take(120)
            .collect()
    }

    fn proc(&self, name: &str) -> PathBuf {
        Path::new("/proc")
            .join(self.child.id().to_string())
            .join(name)
    }

    /// How many links and perf events it has open.
    fn holds(&self) -> usize {
        let kinds = ["bpf_link", "bpf-link", "bpf-raw-tracepoint", "perf_event"];
        let Ok(files) = fs::read_dir(self.proc("fd")) else {
            return 0;
        };
        files
            .flatten()
            .filter_map(|file| fs::read_link(file.path()).ok())
            .filter(|target| {
                let target = target.to_string_lossy();
                target.starts_with("anon_inode:") && kinds.iter().any(|kind| target.contains(kind))
            })
            .count()
    }

    pub(crate) fn memory(&self) -> Memory {
        let status = fs::read_to_string(self.proc("status")).unwrap_or_default();
        let number = |line: &str| -> Option<u64> { line.split_whitespace().nth(1)?.parse().ok() };
        let process = status.lines().find(|line| line.starts_with("VmHWM:"));
        let files = fs::read_dir(self.proc("fdinfo"))
            .into_iter()
            .flatten()
            .flatten();
        let maps: u64 = files
            .filter_map(|file| fs::read_to_string(file.path()).ok())
            .filter(|text| text.contains("map_type:"))
            .filter_map(|text| number(text.lines().find(|line| line.starts_with("memlock:"))?))
            .sum();
        Memory {
            process: process.and_then(number).unwrap_or(0),
            maps: maps / 1024,
        }
    }

    /// Ctrl-C, and its end. bpftrace 0.17 misses one that comes while it is handling events:
    /// so again after a while.
    pub(crate) fn stop(mut self) -> Result<End> {
        let before = cpu_of_children()?;
        let begin = Instant::now();
        let mut told = 0;
        while self.child.try_wait()?.is_none() {
            if told <= begin.elapsed().as_secs() / AGAIN {
                let _ = kill(Pid::from_raw(self.child.id().cast_signed()), Signal::SIGINT);
                told += 1;
            }
            if begin.elapsed() > LAST_WORDS {
                bail!("it did not end within {} s", LAST_WORDS.as_secs());
            }
            std::thread::sleep(Duration::from_millis(1));
        }
        Ok(End {
            out: self.out.clone(),
            said: self.said(),
            cpu: cpu_of_children()?.saturating_sub(before),
        })
    }
}

impl Drop for Tracer {
    /// No tracer outlives its row.
    fn drop(&mut self) {
        if self.child.try_wait().is_ok_and(|status| status.is_none()) {
            let _ = self.child.kill();
            let _ = self.child.wait();
        }
    }
}

/// Of those that have ended and been waited for.
fn cpu_of_children() -> Result<Duration> {
    let usage: Usage = getrusage(UsageWho::RUSAGE_CHILDREN)?;
    let micros = usage.user_time().num_microseconds() + usage.system_time().num_microseconds();
    Ok(Duration::from_micros(micros.unsigned_abs()))
}

/// How many lines of a file, which may be large, contain a text.
pub(crate) fn lines_with(file: &Path, text: &str) -> Result<u64> {
    let grep = Command::new("grep")
        .args(["-a", "-c", "-F", text])
        .arg(file)
        .output()
        .context("grep")?;
    let count = String::from_utf8_lossy(&grep.stdout);
    count.trim().parse().context("grep counted nothing")
}
