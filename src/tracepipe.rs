// SPDX-License-Identifier: BSD-2-Clause
//! The kernel's trace pipe, without getting in anybody's way.
//!
//! `bpf_printk` writes into the one trace buffer of the machine, and reading
//! /sys/kernel/tracing/trace_pipe takes its lines away from whoever else reads it.
//! So hello makes an instance of its own (Documentation/trace/ftrace.rst), lets
//! only its own lines into it, and removes it at the end. Kernels before 5.9, where
//! `bpf_printk` is no trace event yet, have the one pipe only.

use std::fs;
use std::fs::File;
use std::fs::OpenOptions;
use std::io;
use std::io::Read as _;
use std::os::fd::AsFd;
use std::os::fd::BorrowedFd;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;
use std::path::PathBuf;
use std::time::SystemTime;
use std::time::UNIX_EPOCH;

use anyhow::Context as _;
use anyhow::Result;
use nix::libc;

use crate::preflight;

/// bpf_printk as a trace event (Linux 5.9, commit ac5a72ea5c89).
const EVENT: &str = "events/bpf_trace/bpf_trace_printk";

/// A line of the trace pipe that this run caused.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Line {
    /// The whole line as the pipe has it, without our tag.
    pub text: Vec<u8>,
    /// Name of the thread.
    pub comm: Vec<u8>,
    /// Its id.
    pub tid: u32,
    /// On which CPU.
    pub cpu: u32,
    /// CLOCK_MONOTONIC in ns, to the microsecond; `None` if the pipe runs by another clock.
    pub ktime: Option<u64>,
    /// What the program printed.
    pub message: Vec<u8>,
}

/// The reading end. Dropping it leaves tracefs as it was found.
#[derive(Debug)]
pub struct TracePipe {
    pipe: File,
    tag: u32,
    marker: Vec<u8>,
    pending: Vec<u8>,
    instance: Option<PathBuf>,
    /// The global switch of the event and what it was set to: loading a program with
    /// bpf_printk turns it on for good.
    switch: Option<(PathBuf, Vec<u8>)>,
}

impl TracePipe {
    /// Opens a pipe that carries this run's lines.
    ///
    /// # Errors
    /// tracefs is not mounted or cannot be read.
    pub fn open() -> Result<Self> {
        let tracefs = preflight::tracefs().ok_or_else(|| preflight::no_tracefs("--mode trace"))?;
        let nanos = SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .map_or(0, |t| t.subsec_nanos());
        let tag = std::process::id().rotate_left(16) ^ nanos;
        let marker = format!("hello-{tag:x}: ").into_bytes();
        remove_stale(&tracefs);

        let event = tracefs.join(EVENT);
        let has_event = event.is_dir();
        let folder = tracefs.join(format!("instances/hello-{}", std::process::id()));
        let made = has_event && fs::create_dir(&folder).is_ok();
        let instance = (made && folder.join("trace_pipe").exists()).then_some(folder);
        let switch = has_event.then(|| event.join("enable")).and_then(|file| {
            let before = fs::read(&file).ok()?;
            Some((file, before))
        });
        // From here on Drop cleans up.
        let place = instance.as_deref().unwrap_or(&tracefs).join("trace_pipe");
        let opened = OpenOptions::new()
            .read(true)
            .custom_flags(libc::O_NONBLOCK)
            .open(&place);
        let pipe = match opened {
            Ok(pipe) => pipe,
            Err(error) => {
                if let Some(folder) = &instance {
                    let _ = fs::remove_dir(folder);
                }
                return Err(error).with_context(|| {
                    format!(
                        "cannot open {}; does somebody else read it?",
                        place.display()
                    )
                });
            }
        };
        let pipe = Self {
            pipe,
            tag,
            marker,
            pending: Vec::new(),
            instance,
            switch,
        };
        if let Some(instance) = &pipe.instance {
            pipe.set_up(instance)
                .with_context(|| format!("cannot set up {}", instance.display()))?;
        } else if let Some((switch, _)) = &pipe.switch {
            // Loading the program does so too, but since Linux 6.17 some time later.
            fs::write(switch, "1")
                .with_context(|| format!("cannot write to {}", switch.display()))?;
        }
        Ok(pipe)
    }

    fn set_up(&self, instance: &Path) -> io::Result<()> {
        let set = |file: &str, value: &str| fs::write(instance.join(file), value);
        set("trace_clock", "mono")?;
        // Lines as the book shows them, whatever the machine's own options are.
        set("trace_options", "irq-info")?;
        set("trace_options", "norecord-tgid")?;
        // Wake a poll for the first line; absent before 5.0, where it always does.
        let _ = set("buffer_percent", "0");
        let ours = format!("bpf_string ~ \"hello-{:x}: *\"", self.tag);
        set(&format!("{EVENT}/filter"), &ours)?;
        set(&format!("{EVENT}/enable"), "1")
    }

    /// What the program marks its lines with.
    pub fn tag(&self) -> u32 {
        self.tag
    }

    /// The next of our lines that is there already.
    ///
    /// # Errors
    /// The pipe cannot be read.
    pub fn next_line(&mut self) -> Result<Option<Line>> {
        loop {
            if let Some(line) = take_line(&mut self.pending, &self.marker, self.instance.is_some())
            {
                return Ok(Some(line));
            }
            let mut block = [0; 16 << 10];
            match self.pipe.read(&mut block) {
                Ok(0) => return Ok(None),
                Ok(bytes) => self.pending.extend_from_slice(&block[..bytes]),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(None),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error).context("cannot read the trace pipe"),
            }
        }
    }

    /// Lines that were overwritten before they could be read; `None` if there is no
    /// instance of our own to tell.
    pub fn overwritten(&self) -> Option<u64> {
        let instance = self.instance.as_ref()?;
        let mut lost = 0;
        for cpu in fs::read_dir(instance.join("per_cpu"))
            .into_iter()
            .flatten()
            .flatten()
        {
            let stats = fs::read_to_string(cpu.path().join("stats")).unwrap_or_default();
            for line in stats.lines() {
                if let Some((name, value)) = line.split_once(": ")
                    && ["overrun", "commit overrun", "dropped events"].contains(&name)
                {
                    lost += value.trim().parse::<u64>().unwrap_or(0);
                }
            }
        }
        Some(lost)
    }
}

impl AsFd for TracePipe {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.pipe.as_fd()
    }
}

impl Drop for TracePipe {
    fn drop(&mut self) {
        if let Some((file, before)) = &self.switch
            && before.starts_with(b"0")
        {
            let _ = fs::write(file, "0");
        }
        if let Some(instance) = &self.instance {
            // An instance with an open file is busy.
            if let Ok(null) = File::open("/dev/null") {
                self.pipe = null;
            }
            let _ = fs::write(instance.join(EVENT).join("enable"), "0");
            if let Err(error) = fs::remove_dir(instance) {
                crate::say!("hello: cannot remove {}: {error}", instance.display());
            }
        }
    }
}

/// Removes what a killed hello left behind.
fn remove_stale(tracefs: &Path) {
    for entry in fs::read_dir(tracefs.join("instances"))
        .into_iter()
        .flatten()
        .flatten()
    {
        let name = entry.file_name().to_string_lossy().into_owned();
        if let Some(pid) = name
            .strip_prefix("hello-")
            .and_then(|pid| pid.parse::<u32>().ok())
            && !Path::new(&format!("/proc/{pid}")).exists()
        {
            let _ = fs::remove_dir(entry.path());
        }
    }
}

/// Takes the first of our lines from the front of `pending`, and drops what stands
/// before it. `mono`: the pipe runs by CLOCK_MONOTONIC.
fn take_line(pending: &mut Vec<u8>, marker: &[u8], mono: bool) -> Option<Line> {
    loop {
        let Some(at) = find(pending, marker) else {
            // Keep what may be the beginning of our line; others' whole lines go.
            if let Some(end) = pending.iter().rposition(|byte| *byte == b'\n')
                && pending.len() > 4096
            {
                pending.drain(..=end);
            }
            return None;
        };
        let message = at + marker.len();
        let end = message + pending[message..].iter().position(|byte| *byte == b'\n')?;
        let line = parse(&pending[..at], &pending[message..end], mono);
        pending.drain(..=end);
        if line.is_some() {
            return line;
        }
    }
}

fn find(bytes: &[u8], needle: &[u8]) -> Option<usize> {
    bytes
        .windows(needle.len())
        .position(|window| window == needle)
}

/// `   bash-5412    [001] d..31 90432.904952: bpf_trace_printk: ` and the message.
/// Taken apart from the right: a thread's name may contain anything.
fn parse(before: &[u8], message: &[u8], mono: bool) -> Option<Line> {
    let function = [
        &b"bpf_trace_printk: "[..],
        &b"0: bpf_trace_printk: "[..],
        &b"0: "[..],
    ]
    .into_iter()
    .find_map(|name| before.strip_suffix(name))
    .unwrap_or(before);
    // The line begins after the last line of others; "CPU:0 [LOST 12 EVENTS]" is one.
    let open = rfind(function, b" [")?;
    let start = function[..open]
        .iter()
        .rposition(|byte| *byte == b'\n')
        .map_or(0, |at| at + 1);
    let thread = function[start..open].trim_ascii();
    let dash = thread.iter().rposition(|byte| *byte == b'-')?;
    let tid = std::str::from_utf8(&thread[dash + 1..])
        .ok()?
        .trim()
        .parse()
        .ok()?;
    let rest = std::str::from_utf8(&function[open + 2..]).ok()?;
    let (cpu, rest) = rest.split_once(']')?;
    let stamp = rest.trim().trim_end_matches(':').rsplit(' ').next()?;
    let ktime = stamp.split_once('.').and_then(|(seconds, micros)| {
        Some(seconds.parse::<u64>().ok()? * 1_000_000_000 + micros.parse::<u64>().ok()? * 1000)
    });
    let mut text = before[start..].to_vec();
    text.extend_from_slice(message);
    Some(Line {
        text,
        comm: thread[..dash].to_vec(),
        tid,
        cpu: cpu.parse().ok()?,
        ktime: ktime.filter(|_| mono),
        message: message.to_vec(),
    })
}

fn rfind(bytes: &[u8], needle: &[u8]) -> Option<usize> {
    bytes
        .windows(needle.len())
        .rposition(|window| window == needle)
}

#[cfg(test)]
mod tests {
    use super::*;

    const MARKER: &[u8] = b"hello-0000beef: ";

    fn lines(text: &[u8]) -> Vec<Line> {
        let mut pending = text.to_vec();
        std::iter::from_fn(|| take_line(&mut pending, MARKER, true)).collect()
    }

    #[test]
    fn our_lines_only_without_the_tag() {
        let text = b"            bash-5412    [001] d..31 90432.904952: bpf_trace_printk: somebody else\n\
            \x20           bash-5412    [001] d..31 90432.904953: bpf_trace_printk: hello-0000beef: Hello World!\n\
            CPU:0 [LOST 12 EVENTS]\n\
            \x20 my [odd]-name-77    [000] .... 5.000001: bpf_trace_printk: hello-0000beef: Hello World!\n\
            \x20           bash-5412    [001] d..31 90432.90";
        let lines = lines(text);
        assert_eq!(lines.len(), 2);
        let shown =
            "            bash-5412    [001] d..31 90432.904953: bpf_trace_printk: Hello World!";
        assert_eq!(String::from_utf8_lossy(&lines[0].text), shown);
        assert_eq!((lines[0].tid, lines[0].cpu), (5412, 1));
        assert_eq!(lines[0].ktime, Some(90_432_904_953_000));
        assert_eq!(lines[0].message, b"Hello World!");
        assert_eq!(lines[1].comm, b"my [odd]-name");
        assert_eq!((lines[1].tid, lines[1].cpu), (77, 0));
    }

    #[test]
    fn a_line_in_two_pieces_is_one() {
        let mut pending =
            b"  sh-1 [000] .... 1.000000: bpf_trace_printk: hello-0000beef: Hel".to_vec();
        assert_eq!(take_line(&mut pending, MARKER, true), None);
        pending.extend(b"lo World!\n");
        assert_eq!(
            take_line(&mut pending, MARKER, true).map(|line| line.comm),
            Some(b"sh".to_vec())
        );
        assert!(pending.is_empty());
    }
}
