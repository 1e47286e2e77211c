// SPDX-License-Identifier: BSD-2-Clause
//! Ring buffers: several of them (`--rings`), and when hello is woken.

use std::fs;
use std::fs::File;
use std::io::Write as _;
use std::path::PathBuf;
use std::process::Child;
use std::process::Command;
use std::process::Stdio;
use std::time::Duration;
use std::time::Instant;

use crate::run::Check;
use crate::run::Running;
use crate::run::Test;
use crate::run::ensure;
use crate::run::hello;
use crate::run::see;
use crate::run::storm;
use crate::run::workload;

pub(crate) const TESTS: &[Test] = &[
    ("all_events_of_all_rings_in_order", all_in_order),
    ("tiny_rings_lose_to_the_unit", tiny_rings),
    ("the_first_event_after_a_pause_comes_soon", after_a_pause),
    ("a_storm_wakes_seldom", a_storm_wakes_seldom),
    ("a_terminal_is_written_at_once", a_terminal_at_once),
    ("each_large_record_wakes", large_records),
];

/// Each takes most of the ring, so hello has to be there before the next: not only after the
/// 100 ms in which it does not want to be woken for what is small.
fn large_records() -> Check {
    let options = ["--mode", "exec", "--event", "exec", "-o", "json"];
    let options = [&options[..], &["--buffer-size", "16K"]].concat();
    let seen = see(&mut workload(&options, &["large-execs", "31", "13000"]))?;
    let ledger = seen.ledger()?;
    let events = seen.of_type("exec")?.len();
    ensure!(events > 23 && ledger.lost < 8, "{ledger:?}");
    Ok(())
}

/// One process on each of two CPUs, so that with two rings each has one.
fn all_in_order() -> Check {
    for rings in ["1", "2", "4"] {
        let options = ["--mode", "buffer", "-o", "json", "--buffer-size", "8M"];
        let options = [&options[..], &["--rings", rings]].concat();
        let seen = see(&mut workload(&options, &["two-storms", "4001"]))?;
        let said = match rings {
            "1" => "ring buffer 8 MiB".to_owned(),
            _ => format!("{rings} ring buffers of 8 MiB"),
        };
        ensure!(seen.stderr.contains(&said), "{rings}: {}", seen.stderr);
        let events = seen.of_type("buffer")?;
        // COMMAND's own, and those of its two children.
        ensure!(events.len() == 1 + 2 * 4001, "{rings}: {}", events.len());
        let stamps: Vec<_> = events.iter().filter_map(|e| e["ts"].as_str()).collect();
        ensure!(
            stamps.is_sorted(),
            "{rings}: {:?}",
            stamps.windows(2).find(|pair| pair[0] > pair[1])
        );
        let ledger = seen.ledger()?;
        ensure!(
            ledger.lost == 0 && ledger.printed == 8003,
            "{rings}: {ledger:?}"
        );
    }
    Ok(())
}

fn tiny_rings() -> Check {
    let (words, events) = storm();
    for rings in ["2", "4"] {
        let mut options = vec!["--mode", "tail", "-o", "json", "--strict"];
        options.extend(["--buffer-size", "4096", "--rings", rings]);
        let seen = see(&mut workload(&options, &["storm", &words]))?;
        // ledger() checks the sums.
        let ledger = seen.ledger()?;
        let full = ledger.raw["lost"]["buffer_full"].as_u64().unwrap_or(0);
        ensure!(full > 0, "{rings}: nothing was lost by 4 KiB? {ledger:?}");
        ensure!(
            ledger.printed + ledger.lost >= events,
            "{rings}: {ledger:?}"
        );
        ensure!(seen.status == Some(3), "{rings}: {:?}", seen.status);
    }
    Ok(())
}

/// A shell that opens files when it is told to, and hello watching it. hello writes to a
/// file: to wait for the reader of a pipe is to sleep too.
struct Opener {
    shell: Child,
    hello: Running,
    output: PathBuf,
}

impl Opener {
    fn start() -> Result<Self, String> {
        let pid = std::process::id();
        let output = PathBuf::from(format!("/tmp/hello-test-rings-{pid}"));
        let file = File::create(&output).map_err(|error| error.to_string())?;
        Self::writing_to(output, file)
    }

    fn writing_to(output: PathBuf, file: File) -> Result<Self, String> {
        let shell = Command::new("sh").stdin(Stdio::piped()).spawn();
        let shell = shell.map_err(|error| format!("sh: {error}"))?;
        let pid = shell.id().to_string();
        let mut hello = hello(&["--mode", "file", "-p", &pid]);
        let mut hello = Running::start_as_is(hello.stdin(Stdio::null()).stdout(file))?;
        hello.attached()?;
        Ok(Self {
            shell,
            hello,
            output,
        })
    }

    /// Opens each of so many files, and returns when the last of them is told.
    fn open(&mut self, name: &str, times: u32) -> Result<Duration, String> {
        let stdin = self.shell.stdin.as_mut().ok_or("no stdin")?;
        let start = Instant::now();
        writeln!(
            stdin,
            "i=0; while [ $i -lt {times} ]; do i=$((i+1)); true </{name}-$i; done 2>/dev/null"
        )
        .map_err(|error| error.to_string())?;
        let last = format!("\"/{name}-{times}\"");
        loop {
            let said = fs::read_to_string(&self.output).map_err(|error| error.to_string())?;
            if said.contains(&last) {
                return Ok(start.elapsed());
            }
            ensure!(start.elapsed() < Duration::from_secs(60), "no {last}");
            std::thread::sleep(Duration::from_millis(10));
        }
    }

    /// How often hello went to sleep by itself (proc_pid_status(5)).
    fn sleeps(&self) -> Result<u64, String> {
        let status = format!("/proc/{}/status", self.hello.pid());
        let status = fs::read_to_string(status).map_err(|error| error.to_string())?;
        let mut lines = status.lines();
        let count = lines.find_map(|line| line.strip_prefix("voluntary_ctxt_switches:"));
        count
            .and_then(|count| count.trim().parse().ok())
            .ok_or_else(|| "no count of switches".into())
    }

    fn end(mut self) -> Check {
        drop(self.shell.stdin.take());
        let _ = self.shell.wait();
        let seen = self.hello.finish()?;
        let _ = fs::remove_file(&self.output);
        ensure!(seen.stderr.contains(" 0 lost"), "{}", seen.stderr);
        Ok(())
    }
}

/// In a second and a half hello goes to sleep for a second at a time; the event wakes it.
fn after_a_pause() -> Check {
    let mut opener = Opener::start()?;
    let mut times = Vec::new();
    for round in 0..3 {
        std::thread::sleep(Duration::from_millis(1500));
        times.push(opener.open(&format!("hello-pause-{round}"), 1)?);
    }
    // A busy machine may delay one or the other.
    ensure!(
        times.iter().any(|time| *time < Duration::from_millis(600)),
        "{times:?}"
    );
    opener.end()
}

fn a_storm_wakes_seldom() -> Check {
    let mut opener = Opener::start()?;
    opener.open("hello-warm", 1)?;
    let before = opener.sleeps()?;
    opener.open("hello-storm", 5003)?;
    let sleeps = opener.sleeps()? - before;
    ensure!(
        sleeps < 1000,
        "hello was woken {sleeps} times in 5003 events"
    );
    opener.end()
}

/// Sooner than a file, where a line may wait for more to come.
fn a_terminal_at_once() -> Check {
    let mut best = Vec::new();
    for is_terminal in [false, true] {
        let mut terminal = None;
        let mut opener = if is_terminal {
            let pty = nix::pty::openpty(None, None).map_err(|error| error.to_string())?;
            let output = PathBuf::from(format!("/tmp/hello-test-pty-{}", std::process::id()));
            let mut copy = File::create(&output).map_err(|error| error.to_string())?;
            let mut master = File::from(pty.master);
            // Ends when the last who has the terminal open is gone.
            terminal = Some(std::thread::spawn(move || {
                std::io::copy(&mut master, &mut copy)
            }));
            Opener::writing_to(output, File::from(pty.slave))?
        } else {
            Opener::start()?
        };
        let mut times = Vec::new();
        for round in 0..5 {
            std::thread::sleep(Duration::from_millis(150));
            times.push(opener.open(&format!("hello-soon-{round}"), 1)?);
        }
        times.sort();
        println!("rings: terminal {is_terminal}: {times:?}");
        best.push(times[0]);
        opener.end()?;
        if let Some(thread) = terminal {
            let _ = thread.join();
        }
    }
    ensure!(best[1] < best[0], "{best:?}");
    Ok(())
}
