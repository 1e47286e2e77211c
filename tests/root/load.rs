// SPDX-License-Identifier: BSD-2-Clause
//! Nothing is lost in silence, however fast events come and however slow hello is:
//! the number of events is known, and each is counted, printed or told as lost.

use std::collections::BTreeMap;
use std::fs;
use std::fs::File;
use std::io::BufRead as _;
use std::io::BufReader;
use std::io::Read as _;
use std::io::Seek as _;
use std::io::Write as _;
use std::os::unix::process::CommandExt as _;
use std::process::Command;
use std::process::Stdio;
use std::thread::sleep;
use std::time::Duration;

use libbpf_rs::MapCore as _;
use libbpf_rs::MapFlags;
use libbpf_rs::MapHandle;
use libbpf_rs::MapType;
use nix::libc;
use nix::sys::signal::Signal;
use nix::unistd::Pid;

use crate::matrix::count;
use crate::matrix::kernel_version;
use crate::matrix::text;
use crate::matrix::why_not;
use crate::run::Check;
use crate::run::Ledger;
use crate::run::Running;
use crate::run::Seen;
use crate::run::Test;
use crate::run::Waiting;
use crate::run::ensure;
use crate::run::hello;
use crate::run::me;
use crate::run::scaled;
use crate::run::see;
use crate::run::storm;

pub(crate) const TESTS: &[Test] = &[
    ("every_axis_on_two_cpus", every_axis_on_two_cpus),
    ("threads_that_change", threads_that_change),
    (
        "a_tiny_buffer_loses_to_the_unit",
        a_tiny_buffer_loses_to_the_unit,
    ),
    ("hello_stopped", hello_stopped),
    ("hello_hardly_gets_a_cpu", hello_hardly_gets_a_cpu),
    ("short_lives_leave_nothing", short_lives_leave_nothing),
    ("each_call_is_its_process_s", each_call_is_its_process_s),
    (
        "counters_of_the_dead_make_room",
        counters_of_the_dead_make_room,
    ),
];

/// The sums hold, and what was not filtered out are these events.
fn accounts_for(seen: &Seen, want: u64) -> Result<Ledger, String> {
    let ledger = seen.ledger()?;
    let all = ledger.raw["seen"].as_u64().unwrap_or(0);
    let kept = all - ledger.filtered;
    ensure!(
        kept >= want && kept - ledger.nested <= want,
        "{kept} events, not {want}: {} {}",
        ledger.raw,
        seen.stderr
    );
    Ok(ledger)
}

/// Axes to count by: each, and some together.
const AXES: &[&str] = &[
    "syscall",
    "uid",
    "pid",
    "comm",
    "cgroup",
    "container",
    "errno",
    "syscall,pid",
    "comm,errno",
    "syscall,uid,pid,comm,cgroup,container,errno",
];

/// getppid by two processes at the same time, by all that calls can be counted by, once
/// without and once with times: a hello for each, all on the same calls.
fn every_axis_on_two_cpus() -> Check {
    let calls = scaled(10_007, 1_000_003);
    for what in ["--syscalls", "--histogram"] {
        let target = Waiting::start(&["load", "both", "getppid", &calls.to_string()])?;
        let start = |by: &&'static str| {
            let options = ["--mode", "syscount", what, "getppid", "--by", by];
            let mut command = hello(&options);
            command.args(["--follow", "-i", "10m"]);
            let watch = Watch::start(&mut command, &target, 2 * calls)?;
            Ok::<_, String>((*by, watch))
        };
        // Each start takes seconds there.
        let axes = AXES.iter().step_by(scaled(3, 1) as usize);
        let watches: Vec<_> = axes.map(start).collect::<Result<_, _>>()?;
        target.go()?;
        for (by, watch) in watches {
            let counted = counted(watch, by, calls);
            counted.map_err(|error| format!("--by {by} {what}: {error}"))?;
        }
    }
    Ok(())
}

/// Rows with all calls of each process, or of both; all have returned, none with an error.
fn counted(watch: Watch, by: &str, calls: u64) -> Check {
    let (seen, ledger) = watch.sums_hold(0)?;
    let nested = ledger.nested;
    let (rows, spreads) = (seen.of_type("count")?, seen.of_type("histogram")?);
    let (number, want) = if by.contains("pid") {
        (2, calls)
    } else {
        (1, 2 * calls)
    };
    ensure!(rows.len() == number, "{} rows: {rows:?}", rows.len());
    let is_whole = |got: u64| got <= want && got >= want - nested;
    for row in &rows {
        let none = |field: &str| row[field].as_u64().unwrap_or(0) <= nested;
        ensure!(is_whole(count(row)), "{} of {want}: {row}", count(row));
        ensure!(none("errors") && none("in_flight"), "{row}");
    }
    for spread in &spreads {
        let buckets = spread["buckets"].as_array().ok_or("no buckets")?;
        let sum = buckets.iter().map(count).sum();
        ensure!(is_whole(sum), "{sum} times of {want}: {spread}");
        ensure!(is_whole(count(spread)), "{spread}");
    }
    let is_timed = seen.stdout.contains("max_ns");
    ensure!(
        spreads.len() == if is_timed { number } else { 0 },
        "{spreads:?}"
    );
    Ok(())
}

/// Threads that change the CPU, that signals interrupt, that become another's program:
/// every call is counted once and seen returning.
fn threads_that_change() -> Check {
    let calls = scaled(1009, 10_007);
    let leaders = scaled(53, 211);
    let [many, few] = [calls, leaders].map(|number| number.to_string());
    let cases: [(&[&str], &str, u64); 4] = [
        (&["wanderers", &many, "8"], "getppid", 8 * calls),
        (&["interrupted", &many], "getppid", calls),
        (&["leaders", &few], "execve", leaders + 1),
        (&["leaders", &few], "exit_group", leaders + 1),
    ];
    for (words, call, want) in cases {
        for how in ["--latency", "--by=syscall,errno"] {
            let mut command = hello(&["--mode", "syscount", "-o", "json", how]);
            command.args(["--", &me(), "workload", "load"]).args(words);
            let seen = see(&mut command)?;
            let rows = seen.of_type("count")?;
            let ledger = accounts_for(&seen, rows.iter().map(count).sum())?;
            let of = rows.iter().filter(|row| row["syscall"] == call);
            let (mut got, mut open) = (0, 0);
            for row in of {
                got += count(row);
                open += row["in_flight"].as_u64().unwrap_or(0);
            }
            ensure!(
                got <= want && want - got <= ledger.nested && open <= ledger.nested,
                "{words:?} {how}: {got} {call}, not {want}, {open} in flight: {}",
                seen.stderr
            );
        }
    }
    Ok(())
}

/// hello on a process that waits, with its output in a file: a pipe would fill, and
/// hello would wait for its reader.
struct Watch {
    running: Running,
    out: File,
    events: u64,
}

impl Watch {
    /// `events`: how many the process will make that pass the filters.
    fn start(command: &mut Command, target: &Waiting, events: u64) -> Result<Self, String> {
        let path = format!("/tmp/hello-test-out-{}", target.pid());
        let mut how = File::options();
        how.read(true).write(true).create_new(true);
        let out = how.open(&path).map_err(|error| error.to_string())?;
        let _ = fs::remove_file(&path);
        let copy = out.try_clone().map_err(|error| error.to_string())?;
        command.args(["-o", "json", "-p", &target.pid()]);
        command.stdin(Stdio::null()).stdout(copy);
        let mut running = Running::start_as_is(command)?;
        running.attached()?;
        Ok(Self {
            running,
            out,
            events,
        })
    }

    fn finish(mut self) -> Result<Seen, String> {
        let mut seen = self.running.finish()?;
        self.out.rewind().map_err(|error| error.to_string())?;
        let read = self.out.read_to_string(&mut seen.stdout);
        read.map_err(|error| error.to_string())?;
        Ok(seen)
    }

    /// Waits for its end, and for all events to be accounted for.
    fn sums_hold(self, status: i32) -> Result<(Seen, Ledger), String> {
        let events = self.events;
        let seen = self.finish()?;
        let ledger = accounts_for(&seen, events)?;
        ensure!(
            seen.status == Some(status),
            "{:?} {}",
            seen.status,
            seen.stderr
        );
        Ok((seen, ledger))
    }
}

/// Lets a workload go on, or end, without waiting for it.
fn go(target: &mut Waiting) -> Check {
    let stdin = target.0.stdin.as_mut().ok_or("no stdin")?;
    stdin.write_all(b"go\n").map_err(|error| error.to_string())
}

/// Lets births happen, and waits until they have.
fn born(mut target: Waiting) -> Result<Waiting, String> {
    go(&mut target)?;
    let out = target.0.stdout.as_mut().ok_or("no stdout")?;
    let mut line = String::new();
    let read = BufReader::new(out).read_line(&mut line);
    ensure!(read.is_ok() && line == "born\n", "{line:?}");
    Ok(target)
}

/// Modes of events, what makes one, and how many more there are than asked for: all
/// that follow a process see its end, as a call or as what it is.
const EVENTS: &[(&str, &str, u64)] = &[
    ("file", "open", 0),
    ("exec", "exec", 1),
    ("buffer", "exec", 0),
    ("tail", "getppid", 1),
];

fn a_tiny_buffer_loses_to_the_unit() -> Check {
    let (words, events) = storm();
    for (index, (mode, kind, more)) in (0..).zip(EVENTS) {
        for (way, (transport, strict)) in (0..).zip([("ring", true), ("perf", false)]) {
            if scaled(index % 2, way) != way {
                continue; // each start takes seconds there
            }
            let target = Waiting::start(&["load", "one", kind, &words])?;
            let mut command = hello(&["--mode", mode, "--transport", transport]);
            command.args(["--buffer-size", "4096"]);
            command.args(strict.then_some("--strict"));
            let watch = Watch::start(&mut command, &target, events + more)?;
            target.go()?;
            let held = watch.sums_hold(if strict { 3 } else { 0 });
            let (_, ledger) = held.map_err(|error| format!("{mode} {transport}: {error}"))?;
            // Newer kernels also skip a run now and then, and say so.
            let full = ledger.raw["lost"]["buffer_full"].as_u64().unwrap_or(0);
            ensure!(
                full > 0 && full + ledger.nested == ledger.lost,
                "{mode} {transport}: {}",
                ledger.raw
            );
        }
    }
    Ok(())
}

/// Starts a hello of each kind, each on a workload of its own.
fn watch_all(
    words: &[&str],
    rest: &[&str],
    events: u64,
    change: impl Fn(&mut Command),
) -> Result<Vec<(Waiting, Watch)>, String> {
    let counts = [("syscount", "getppid", 0)];
    let mut all = Vec::new();
    for (index, (mode, kind, more)) in EVENTS.iter().chain(&counts).enumerate() {
        let words = [&["load"], words, &[kind], rest].concat();
        let target = Waiting::start(&words)?;
        let mut command = hello(&["--mode", mode]);
        if *mode == "syscount" {
            command.args(["--latency", "--by", "pid,errno", "--syscalls", "getppid"]);
        } else {
            command.args(["--transport", ["ring", "perf"][index % 2]]);
            command.args(["--buffer-size", "64K"]);
        }
        change(&mut command);
        // The pauses of a workload are calls too.
        let pauses = match (*mode, rest) {
            ("tail", [lots, _]) => lots.parse().unwrap_or(0),
            _ => 0,
        };
        let watch = Watch::start(&mut command, &target, events + more + pauses)?;
        all.push((target, watch));
    }
    Ok(all)
}

fn wait_for_workloads(all: Vec<(Waiting, Watch)>) -> Result<Vec<Watch>, String> {
    let mut watches = Vec::new();
    for (mut target, watch) in all {
        target.0.wait().map_err(|error| error.to_string())?;
        watches.push(watch);
    }
    Ok(watches)
}

/// For longer than any buffer lasts.
fn hello_stopped() -> Check {
    // Six seconds and more, as each lot is followed by a pause.
    let (lots, calls) = (601, scaled(31, 151));
    let rest = [lots.to_string(), calls.to_string()];
    let rest = rest.each_ref().map(String::as_str);
    let mut all = watch_all(&["paced"], &rest, lots * calls, |_| {})?;
    for (target, _) in &mut all {
        go(target)?;
    }
    sleep(Duration::from_millis(500));
    for (_, watch) in &all {
        watch.running.signal(Signal::SIGSTOP);
    }
    sleep(Duration::from_secs(5));
    for (_, watch) in &all {
        watch.running.signal(Signal::SIGCONT);
    }
    for watch in wait_for_workloads(all)? {
        let (seen, ledger) = watch.sums_hold(0)?;
        let counts = seen.stderr.contains("syscount");
        ensure!(counts || ledger.lost > 0, "it ran on: {}", seen.stderr);
    }
    Ok(())
}

/// Busy CPUs until dropped.
struct Busy(Vec<std::process::Child>);

impl Busy {
    fn start() -> Result<Self, String> {
        let spin = |_| {
            Command::new(me())
                .args(["workload", "load", "spin"])
                .spawn()
        };
        let all: std::io::Result<_> = (0..2).map(spin).collect();
        Ok(Self(all.map_err(|error| error.to_string())?))
    }
}

impl Drop for Busy {
    fn drop(&mut self) {
        for child in &mut self.0 {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

fn hello_hardly_gets_a_cpu() -> Check {
    let (words, events) = storm();
    let all = watch_all(&["one"], &[&words], events, |command| {
        // SAFETY: setpriority(2) only, between fork and exec.
        unsafe {
            command.pre_exec(|| {
                libc::setpriority(libc::PRIO_PROCESS, 0, 19);
                Ok(())
            });
        }
    });
    let mut all = all?;
    let busy = Busy::start()?;
    for (target, _) in &mut all {
        go(target)?;
    }
    let watches = wait_for_workloads(all)?;
    drop(busy);
    for watch in watches {
        watch.sums_hold(0)?;
    }
    Ok(())
}

/// Maps of no tasks, and that of ends told, which stay until others need their room; the
/// kernel keeps 15 letters of a name.
const STAY: &[&str] = &["hello_cgroups", "hello_container", "exec_ends"];

/// How many keys hello's hash maps have, while it runs, and tasks its slots: all but
/// those of counters.
fn keys(hello: Pid) -> Result<BTreeMap<String, usize>, String> {
    let mut keys = BTreeMap::new();
    let folder = fs::read_dir(format!("/proc/{hello}/fdinfo"));
    for fd in folder.map_err(|error| error.to_string())?.flatten() {
        let info = fs::read_to_string(fd.path()).unwrap_or_default();
        let id = info.lines().find_map(|line| line.strip_prefix("map_id:"));
        let Some(id) = id.and_then(|id| id.trim().parse().ok()) else {
            continue;
        };
        let map = MapHandle::from_map_id(id).map_err(|error| error.to_string())?;
        let name = map.name().to_string_lossy().into_owned();
        let is_meant_to_stay = name.starts_with("syscount_") || STAY.contains(&name.as_str());
        if matches!(map.map_type(), MapType::Hash | MapType::LruHash) && !is_meant_to_stay {
            keys.insert(name, map.keys().count());
        } else if name == "hello_call_slot" {
            // Of each the first number is of its claims.
            let value = |key: Vec<u8>| map.lookup(&key, MapFlags::ANY).ok().flatten();
            let values = map.keys().filter_map(value);
            let taken = values.filter(|value| value[..8] != [0; 8]);
            keys.insert(name, taken.count());
        }
    }
    Ok(keys)
}

/// Processes and threads that are gone at once: each is told or counted as lost, and
/// nothing that hello kept of them stays in the kernel.
fn short_lives_leave_nothing() -> Check {
    let [execs, forks, threads, killed] = [
        scaled(101, 50_021),
        scaled(211, 5003),
        scaled(53, 1009),
        scaled(3, 23),
    ];
    let folder = format!("/tmp/hello-test-births-{}", std::process::id());
    fs::create_dir(&folder).map_err(|error| error.to_string())?;
    let fifo = nix::unistd::mkfifo(
        format!("{folder}/fifo").as_str(),
        nix::sys::stat::Mode::S_IRWXU,
    );
    let result = fifo
        .map_err(|error| error.to_string())
        .and_then(|()| short_lives(&folder, [execs, forks, threads, killed]));
    let _ = fs::remove_dir_all(&folder);
    result
}

fn short_lives(folder: &str, numbers: [u64; 4]) -> Check {
    let [execs, forks, threads, killed] = numbers;
    let words = numbers.map(|number| number.to_string());
    let [a, b, c, d] = words.each_ref().map(String::as_str);
    let target = Waiting::start(&["load", "births", folder, a, b, c, d])?;
    // By each of two, and those two and the first.
    let lives = 2 * (execs + forks + killed) + 3;
    // An open that the kill cuts off is booked as filtered.
    let opens = 2 * (forks + threads);
    println!("load: {lives} processes, {} threads", 2 * threads);
    let mut watches = Vec::new();
    let mut watch = |options: &[&str], events: u64| -> Check {
        let mut command = hello(options);
        command.arg("--follow");
        watches.push(Watch::start(&mut command, &target, events)?);
        Ok(())
    };
    watch(&["--mode", "exec"], 2 * execs + lives)?;
    for hook in ["raw_tp", "tracepoint", "kprobe", "fentry"] {
        if why_not(hook).is_none() {
            let options = ["--mode", "file", "--latency", "--attach", hook];
            let paths = ["--path", "/nonexistent", "--path", folder];
            watch(&[&options[..], &paths].concat(), opens)?;
        }
    }
    let timed = ["--mode", "syscount", "--latency"];
    let pick = ["--syscalls", "execve,exit_group"];
    // The killed do not come to their exit_group.
    let calls = 2 * execs + lives - 2 * killed;
    watch(&[&timed[..], &["--by", "syscall"], &pick].concat(), calls)?;
    watch(&[&timed[..], &["--by", "uid,errno"], &pick].concat(), calls)?;
    // Where the kernel has few process ids, those of the dead are given to others.
    let often = ["--by", "pid", "-i", "100ms"];
    watch(&[&timed[..], &often, &pick].concat(), calls)?;

    let before: Vec<_> = watches
        .iter()
        .map(|watch| keys(watch.running.pid()))
        .collect::<Result<_, _>>()?;
    let target = born(target)?;
    let after: Vec<_> = watches
        .iter()
        .map(|watch| keys(watch.running.pid()))
        .collect::<Result<_, _>>()?;
    target.go()?;
    for ((watch, before), after) in watches.into_iter().zip(before).zip(after) {
        let (_, ledger) = watch.sums_hold(0)?;
        // One more is the workload itself, which makes calls now.
        let room = 1 + usize::try_from(ledger.nested).unwrap_or(0);
        for (map, keys) in after {
            let then = before.get(&map).copied().unwrap_or(0);
            ensure!(keys <= then + room, "{map}: {then} keys, then {keys}");
        }
    }
    Ok(())
}

/// Processes that are gone at once, whose memory the kernel gives to the next: none has
/// the calls of another.
fn each_call_is_its_process_s() -> Check {
    let [execs, forks] = [scaled(53, 1009), scaled(101, 3001)];
    let words = [execs, forks].map(|number| number.to_string());
    let target = Waiting::start(&["load", "births", "/nonexistent", &words[0], &words[1]])?;
    let mut watches = Vec::new();
    for how in [None, Some("--latency")] {
        let options = ["--mode", "syscount", "--by", "pid,syscall", "--follow"];
        let mut command = hello(&options);
        command.args(["--syscalls", "openat,execve,exit_group", "-i", "10m"]);
        command.args(how);
        // The halves and the first end too, and that has opened a file to write it.
        let calls = 2 * (2 * execs + 2 * forks) + 3 + 1;
        watches.push(Watch::start(&mut command, &target, calls)?);
    }
    born(target)?.go()?;
    for watch in watches {
        let (seen, ledger) = watch.sums_hold(0)?;
        let mut calls: BTreeMap<u64, BTreeMap<String, u64>> = BTreeMap::new();
        for row in seen.of_type("count")? {
            let of = calls.entry(row["pid"].as_u64().unwrap_or(0)).or_default();
            *of.entry(text(&row, "syscall")).or_default() += count(&row);
        }
        let mut kinds: BTreeMap<String, u64> = BTreeMap::new();
        for of in calls.values() {
            *kinds.entry(format!("{of:?}")).or_default() += 1;
        }
        let of = |kind: &str| kinds.get(kind).copied().unwrap_or(0);
        let wrong = (2 * execs).abs_diff(of(r#"{"execve": 1, "exit_group": 1}"#))
            + (2 * forks + 1).abs_diff(of(r#"{"exit_group": 1, "openat": 1}"#))
            + 2u64.abs_diff(of(r#"{"exit_group": 1}"#));
        ensure!(wrong <= 2 * ledger.nested, "{kinds:?} {}", ledger.raw);
    }
    Ok(())
}

/// More processes than have room, but none in two lots of them: those of one have been told
/// before the next comes. By error, each takes two rows.
fn counters_of_the_dead_make_room() -> Check {
    let target = Waiting::start(&["load", "generations", "6", "53"])?;
    let mut watches = Vec::new();
    for (what, room) in [
        ("--by=pid", "101"),
        ("--by=pid,errno", "151"),
        ("--histogram=openat", "101"),
    ] {
        let mut command = hello(&["--mode", "syscount", "--follow", "--by=pid"]);
        command.args(["--syscalls", "openat", "--max-entries", room]);
        command.args(["-i", "400ms", what]);
        watches.push((what, Watch::start(&mut command, &target, 6 * 53)?));
    }
    target.go()?;
    for (what, watch) in watches {
        let (seen, ledger) = watch.sums_hold(0)?;
        let told: u64 = seen.of_type("count")?.iter().map(count).sum();
        let lost = ledger.lost - ledger.nested;
        // Older kernels cannot say what a counter was when it was taken out.
        let makes_room = kernel_version() >= (5, 14);
        ensure!(
            (lost == 0 || !makes_room) && told + ledger.lost >= 6 * 53,
            "{what}: {} {told}",
            ledger.raw
        );
        ensure!(
            ledger.printed == told && ledger.surplus == 0,
            "{what}: {}",
            ledger.raw
        );
    }
    Ok(())
}
