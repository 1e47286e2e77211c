// SPDX-License-Identifier: BSD-2-Clause
//! Every mode by every hook and transport that this kernel has, against workloads
//! of a prime number of events: exact counts.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use libbpf_rs::ProgramType;
use serde_json::Value;

use crate::run::Check;
use crate::run::Seen;
use crate::run::ensure;
use crate::run::see;
use crate::run::workload;
use crate::workload::OPENS;

/// One row of the matrix.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Cell {
    pub(crate) mode: &'static str,
    pub(crate) hook: &'static str,
    pub(crate) transport: &'static str,
}

/// All that hello says it can.
pub(crate) fn cells() -> Vec<Cell> {
    let entry: &[&str] = &["kprobe", "fentry", "raw_tp", "tracepoint"];
    let modes: &[(&str, &[&str], &[&str])] = &[
        ("trace", entry, &["-"]),
        ("map", entry, &["-"]),
        ("buffer", entry, &["ring", "perf"]),
        (
            "file",
            &["fentry", "kprobe", "raw_tp", "tracepoint"],
            &["ring", "perf"],
        ),
        ("tail", &["raw_tp"], &["ring", "perf"]),
        ("syscount", &["raw_tp"], &["-"]),
        ("exec", &["fentry", "kprobe", "raw_tp"], &["ring", "perf"]),
    ];
    let mut cells = Vec::new();
    for &(mode, hooks, transports) in modes {
        for &hook in hooks {
            cells.extend(transports.iter().map(|&transport| Cell {
                mode,
                hook,
                transport,
            }));
        }
    }
    cells
}

/// Why this kernel has no such hook, judged by something else than hello.
pub(crate) fn why_not(hook: &str) -> Option<&'static str> {
    match hook {
        "kprobe" if !Path::new("/sys/bus/event_source/devices/kprobe").exists() => {
            Some("no kprobes in this kernel")
        }
        "fentry" if !ProgramType::Tracing.is_supported().unwrap_or(false) => {
            Some("no BPF trampolines in this kernel")
        }
        _ => None,
    }
}

/// Major and minor number of the running kernel.
pub(crate) fn kernel_version() -> (u32, u32) {
    let name = nix::sys::utsname::uname().map(|name| name.release().to_owned());
    let release = name.unwrap_or_default().to_string_lossy().into_owned();
    let mut numbers = release
        .split(['.', '-'])
        .map_while(|part| part.parse().ok());
    (numbers.next().unwrap_or(0), numbers.next().unwrap_or(0))
}

impl Cell {
    pub(crate) fn name(&self) -> String {
        format!("matrix::{}::{}::{}", self.mode, self.hook, self.transport)
    }

    /// Runs it, and says so for the table over all kernels.
    pub(crate) fn run(&self) -> Check {
        let result = self.exact_counts();
        let word = if result.is_ok() { "ok" } else { "FAILED" };
        println!(
            "matrix: {} {} {} {word}",
            self.mode, self.hook, self.transport
        );
        result.map_err(|error| format!("{self:?}: {error}"))
    }

    pub(crate) fn say_not_available(&self, reason: &str) {
        println!(
            "matrix: {} {} {} n/a: {reason}",
            self.mode, self.hook, self.transport
        );
    }

    fn see(&self, options: &[&str], words: &[&str]) -> Result<Seen, String> {
        let mut all = vec![
            "--mode", self.mode, "-o", "json", "--strict", "--attach", self.hook,
        ];
        if self.transport != "-" {
            all.extend(["--transport", self.transport]);
        }
        all.extend(options);
        let mut seen = see(&mut workload(&all, words))?;
        // Newer kernels can preempt a program on a raw tracepoint, and skip it for who
        // comes meanwhile: rare, told as lost, and exact only without.
        for _ in 0..3 {
            if seen.status != Some(3) || !seen.stderr.contains(" nested)") {
                break;
            }
            seen = see(&mut workload(&all, words))?;
        }
        ensure!(
            seen.status == Some(0),
            "exit status {:?}: {}",
            seen.status,
            seen.stderr
        );
        ensure!(
            seen.stderr
                .contains(&format!("hello: {}: {} ", self.mode, self.hook)),
            "the attach line does not name {}: {}",
            self.hook,
            seen.stderr
        );
        Ok(seen)
    }

    fn exact_counts(&self) -> Check {
        match self.mode {
            "trace" => self.execs("trace"),
            "buffer" => self.execs("buffer"),
            "map" => self.map(),
            "file" => self.file(),
            "tail" => self.tail(),
            "exec" => self.exec(),
            _ => self.syscount(),
        }
    }

    /// COMMAND's own exec, 23 that succeed, 7 that fail.
    fn execs(&self, kind: &str) -> Check {
        let seen = self.see(&[], &["execs", "23", "7"])?;
        let events = seen.of_type(kind)?;
        ensure!(
            events.len() == 1 + 23 + 7,
            "{} events: {}",
            events.len(),
            seen.stderr
        );
        let ledger = seen.ledger()?;
        ensure!(ledger.printed == 31 && ledger.lost == 0, "{ledger:?}");
        let message = if kind == "trace" {
            "Hello World!"
        } else {
            "Hello World"
        };
        ensure!(
            events.iter().all(|event| event["message"] == message),
            "{events:?}"
        );
        if kind == "buffer" {
            let first = &events[0];
            let pids: std::collections::BTreeSet<_> = events
                .iter()
                .filter_map(|event| event["pid"].as_u64())
                .collect();
            ensure!(pids.len() == 24, "COMMAND and 23 children: {pids:?}");
            ensure!(events[1]["ppid"] == first["pid"], "{:?}", &events[..2]);
            ensure!(first["uid"] == 0 && first["user"] == "root", "{first}");
            let stamps: Vec<_> = events.iter().map(|event| event["ts"].as_str()).collect();
            ensure!(stamps.is_sorted(), "out of order: {stamps:?}");
        }
        Ok(())
    }

    /// Three calls in one map, each by its own programs where the hook is per call.
    fn map(&self) -> Check {
        let by_call = |syscalls: &str, words: &[&str]| -> Result<BTreeMap<String, u64>, String> {
            let options = ["--by", "syscall", "--syscalls", syscalls];
            let seen = self.see(&options, words)?;
            let rows = seen.of_type("count")?;
            let total: u64 = rows.iter().map(count).sum();
            ensure!(seen.ledger()?.printed == total, "{}", seen.stderr);
            let name = |row| format!("{} {}", text(row, "abi"), text(row, "syscall"));
            Ok(rows.iter().map(|row| (name(row), count(row))).collect())
        };
        let counts = by_call("execve,getpgid,timer_create", &["groups", "1009", "211"])?;
        let want = [
            ("x86_64 execve", 1),
            ("x86_64 getpgid", 1009),
            ("i386 getpgid", 211),
        ];
        ensure!(
            counts == BTreeMap::from(want.map(|(call, n)| (call.to_owned(), n))),
            "{counts:?}"
        );
        // A call without arguments: its 32-bit and 64-bit functions are one function
        // under two names, and must not count twice. Their BTF has neither name.
        if self.hook != "fentry" {
            let counts = by_call("getppid", &["calls", "1009", "211", "0"])?;
            let want = [("x86_64 getppid", 1009), ("i386 getppid", 211)];
            ensure!(
                counts == BTreeMap::from(want.map(|(call, n)| (call.to_owned(), n))),
                "{counts:?}"
            );
        }

        let seen = self.see(&[], &["execs", "23", "7"])?;
        let rows = seen.of_type("count")?;
        ensure!(
            rows.len() == 1 && rows[0]["uid"] == 0 && count(&rows[0]) == 31,
            "{rows:?}"
        );
        Ok(())
    }

    fn file(&self) -> Check {
        let path = format!("/tmp/hello-test-opens-{}", std::process::id());
        fs::write(&path, "x").map_err(|error| error.to_string())?;
        let seen = self.see(&[], &["opens", &path]);
        let _ = fs::remove_file(&path);
        let seen = seen?;
        let mut got: BTreeMap<(String, String, String), u64> = BTreeMap::new();
        for event in seen.of_type("open")? {
            let given = text(&event, "path_given");
            let ours = given.starts_with(&path) || (given == "/" && event["errno"] == "EISDIR");
            if !ours {
                continue; // what the C library opened at start
            }
            let (abi, via) = (text(&event, "abi"), text(&event, "via"));
            let result = match event["errno"].as_str() {
                _ if abi == "x32" => "x32".into(), // ENOSYS where the kernel has no x32
                Some(errno) => errno.into(),
                None => "ok".to_owned(),
            };
            *got.entry((abi, via, result)).or_default() += 1;
        }
        // A call that the kernel does not have gets to no function of its.
        let is_by_function = matches!(self.hook, "fentry" | "kprobe");
        let has_x32 = got.keys().any(|(abi, ..)| abi == "x32");
        let want: BTreeMap<_, _> = OPENS
            .iter()
            .filter(|(abi, ..)| *abi != "x32" || has_x32 || !is_by_function)
            .map(|(abi, via, result, times)| {
                (
                    (abi.to_string(), via.to_string(), result.to_string()),
                    *times,
                )
            })
            .collect();
        ensure!(got == want, "got {got:?}\nwant {want:?}");
        seen.ledger()?;
        Ok(())
    }

    fn tail(&self) -> Check {
        let seen = self.see(&[], &["timers", "13"])?;
        let mut messages: BTreeMap<String, u64> = BTreeMap::new();
        for event in seen.of_type("tail")? {
            *messages.entry(text(&event, "message")).or_default() += 1;
        }
        for (message, want) in [
            ("Executing a program", 1),
            ("Creating a timer", 13),
            ("Deleting a timer", 13),
            ("Some other timer operation", 26),
        ] {
            let got = messages.get(message).copied().unwrap_or(0);
            ensure!(got == want, "{message}: {got}, not {want}; {messages:?}");
        }
        let seen = self.see(&[], &["calls", "17", "19", "23"])?;
        let events = seen.of_type("tail")?;
        let times = |message: &str| {
            events
                .iter()
                .filter(|event| event["message"] == message)
                .count()
        };
        let got = [
            times("Another syscall: 110"),
            times("Call of another ABI: i386 64"),
            times("Call of another ABI: x32 110"),
        ];
        ensure!(got == [17, 19, 23], "{got:?}");
        let seen = self.see(&[], &["unknown", "11"])?;
        let outside = seen.of_type("tail")?;
        let outside = outside
            .iter()
            .filter(|event| event["message"] == "Outside the array: 9999");
        ensure!(outside.count() == 11, "{}", seen.stdout);
        seen.ledger()?;
        Ok(())
    }

    /// COMMAND and 23 children, 7 failures, 24 ends.
    fn exec(&self) -> Check {
        let seen = self.see(&[], &["execs", "23", "7"])?;
        let events = seen.of_type("exec")?;
        let of = |event: &str| events.iter().filter(|row| row["event"] == event).count();
        let got = [of("exec"), of("failed"), of("exit")];
        ensure!(got == [24, 7, 24], "{got:?}: {}", seen.stderr);
        for event in &events {
            let good = match text(event, "event").as_str() {
                "failed" => {
                    event["filename"] == "/nonexistent/program" && event["errno"] == "ENOENT"
                }
                "exit" => event["exit_code"] == 0 && event["argv"][1] == "workload",
                _ => event["argv"][1] == "workload" && event["exe"].is_string(),
            };
            ensure!(good, "{event}");
        }
        ensure!(seen.ledger()?.printed == 24 + 7 + 24, "{}", seen.stderr);
        Ok(())
    }

    fn syscount(&self) -> Check {
        for by in ["syscall", "syscall,pid", "syscall,uid,pid,comm,cgroup"] {
            let seen = self.see(&["--by", by], &["calls", "1009", "211", "307"])?;
            let rows = seen.of_type("count")?;
            let of = |abi: &str| -> u64 {
                let mine = rows
                    .iter()
                    .filter(|row| row["syscall"] == "getppid" && row["abi"] == abi);
                mine.map(count).sum()
            };
            let got = [of("x86_64"), of("i386"), of("x32")];
            ensure!(got == [1009, 211, 307], "by {by}: {got:?}");
            let all: u64 = rows.iter().map(count).sum();
            ensure!(
                seen.ledger()?.printed == all,
                "by {by}: {all}; {}",
                seen.stderr
            );
        }
        let seen = self.see(&[], &["unknown", "13"])?;
        let rows = seen.of_type("count")?;
        let unknown = rows.iter().find(|row| row["nr"] == 9999).map(count);
        ensure!(unknown == Some(13), "{rows:?}");
        ensure!(
            rows.iter()
                .any(|row| row["syscall"] == "exit_group" && count(row) == 1),
            "{rows:?}"
        );
        ensure!(
            rows.iter()
                .any(|row| row["syscall"] == "execve" && count(row) == 1),
            "{rows:?}"
        );

        let seen = self.see(
            &["--by", "uid", "--syscalls", "getppid"],
            &["users", "101", "53"],
        )?;
        let rows = seen.of_type("count")?;
        let users: BTreeMap<_, _> = rows
            .iter()
            .map(|row| (row["uid"].as_u64(), count(row)))
            .collect();
        ensure!(
            users == BTreeMap::from([(Some(0), 101), (Some(65534), 53)]),
            "{users:?}"
        );
        Ok(())
    }
}

pub(crate) fn text(object: &Value, key: &str) -> String {
    object[key].as_str().unwrap_or_default().to_owned()
}

pub(crate) fn count(row: &Value) -> u64 {
    row["count"].as_u64().unwrap_or(0)
}
