// SPDX-License-Identifier: BSD-2-Clause
//! What all modes have: containers, namespaces, names, time, order, columns.

use std::env;
use std::fs;
use std::path::Path;
use std::path::PathBuf;
use std::process::Command;

use nix::mount::MsFlags;
use nix::mount::mount;
use serde_json::Value;

use crate::matrix;
use crate::run::Check;
use crate::run::Seen;
use crate::run::Test;
use crate::run::ensure;
use crate::run::hello;
use crate::run::hello_bin;
use crate::run::me;
use crate::run::scaled;
use crate::run::see;
use crate::run::workload;

pub(crate) const TESTS: &[Test] = &[
    ("containers_by_version_2", containers_by_version_2),
    ("containers_by_version_1", containers_by_version_1),
    ("pid_in_its_own_namespace", pid_in_its_own_namespace),
    ("thread_and_process_name", thread_and_process_name),
    ("order_in_time", order_in_time),
    ("clocks", clocks),
    ("columns", columns),
];

/// What depends on the kernel's clocks.
pub(crate) const CLOCKS: &[Test] = &[
    ("wall_clock", wall_clock),
    ("in_a_time_namespace", in_a_time_namespace),
];

const ID: &str = "90ab12cd34ef5678f7e6d5c4b3a2918090ab12cd34ef5678f7e6d5c4b3a29180";

/// How the runtimes name a container's control group, and what is none.
fn layouts() -> Vec<(String, bool)> {
    vec![
        (format!("system.slice/docker-{ID}.scope"), true),
        (format!("docker/{ID}"), true),
        (format!("kubepods.slice/cri-containerd-{ID}.scope"), true),
        (format!("kubepods/burstable/pod1/{ID}"), true),
        (format!("crio-{ID}.scope"), true),
        (format!("machine.slice/libpod-{ID}.scope/container"), true),
        (format!("machine.slice/libpod-conmon-{ID}.scope"), false),
        (format!("docker-{}.scope", &ID[1..]), false),
        // What stands beside the digits in ASCII.
        (format!("g{}", &ID[1..]), false),
        (format!("{}:{}", &ID[..3], &ID[4..]), false),
        (format!("{}`{}", &ID[..15], &ID[16..]), false),
        (format!("{}A", &ID[..63]), false),
        (format!("{}é{}", &ID[..30], &ID[32..]), false),
        (format!("x{ID}"), false),
    ]
}

/// Runs hello in a control group and with it what it traces.
fn inside(group: &Path, mode: &str, options: &[&str]) -> Result<Seen, String> {
    let script = "echo $$ > \"$1\"/cgroup.procs && shift && exec \"$@\"";
    let mut command = Command::new("sh");
    command.args(["-c", script, "sh"]).arg(group);
    command
        .arg(hello_bin())
        .args(["--mode", mode, "-o", "json"]);
    command.args(options);
    command.args(["--", &me(), "workload", "execs", "5", "2"]);
    command.env_remove("SUDO_UID");
    see(&mut command)
}

fn containers_in(root: &Path, layouts: Vec<(String, bool)>, modes: &[Mode]) -> Check {
    for (at, (layout, is_container)) in layouts.into_iter().enumerate() {
        let top = root.join(format!("hello-test-{}", std::process::id()));
        let group = top.join(&layout);
        fs::create_dir_all(&group).map_err(|error| format!("{}: {error}", group.display()))?;
        let is_first = at == 0;
        let mut result = one_container(&group, is_container, is_first);
        if is_first {
            let path = group.strip_prefix(root).unwrap_or(&group);
            let path = format!("/{}", path.display());
            let mut modes = modes.iter();
            result = result.and_then(|()| modes.try_for_each(|mode| of_mode(mode, &group, &path)));
        }
        let mut folder = group.as_path();
        while folder != root {
            let _ = fs::remove_dir(folder);
            folder = folder.parent().unwrap_or(root);
        }
        result.map_err(|error| format!("{layout}: {error}"))?;
    }
    Ok(())
}

fn one_container(group: &Path, is_container: bool, is_first: bool) -> Check {
    let seen = inside(group, "buffer", &[])?;
    let events = seen.of_type("buffer")?;
    let wanted = if is_container { ID.into() } else { Value::Null };
    ensure!(
        events.len() == 8 && events.iter().all(|event| event["container"] == wanted),
        "{}",
        seen.stdout
    );
    // How a name is read is one thing, how a container is selected another.
    if is_container && !is_first && !group.ends_with(ID) {
        return Ok(());
    }
    let selected = inside(group, "buffer", &["--container", &ID[..12]])?;
    let count = selected.of_type("buffer")?.len();
    ensure!(
        count == if is_container { 8 } else { 0 },
        "{}",
        selected.stdout
    );
    selected.ledger()?;
    let other = inside(group, "buffer", &["--container", "ab13"])?;
    ensure!(other.of_type("buffer")?.is_empty(), "{}", other.stdout);
    ensure!(other.ledger()?.filtered >= 8, "{}", other.stdout);
    Ok(())
}

/// A mode, the type of its rows, its options, how many rows it has in a container.
type Mode = (
    &'static str,
    &'static str,
    &'static [&'static str],
    Option<usize>,
);

const COUNTS: &[&str] = &["--by", "container,cgroup", "--syscalls", "execve"];

/// Those whose programs have ways of their own to read who runs (hello_here()), first.
const MODES: &[Mode] = &[
    ("exec", "exec", &[], Some(6 + 2 + 6)),
    ("file", "open", &[], None),
    ("syscount", "count", COUNTS, Some(1)),
    ("map", "count", COUNTS, Some(1)),
    ("tail", "tail", &[], None),
];

fn of_mode((mode, kind, options, events): &Mode, group: &Path, path: &str) -> Check {
    let options = |prefix: &'static str| [options, &["--container", prefix][..]].concat();
    let seen = inside(group, mode, &options(&ID[..13]))?;
    let rows = seen.of_type(kind)?;
    let is_ours = |row: &Value| row["container"] == ID && row["cgroup"] == path;
    ensure!(
        !rows.is_empty() && rows.iter().all(is_ours),
        "{mode}: {} {}",
        seen.stdout,
        seen.stderr
    );
    ensure!(
        events.is_none_or(|events| rows.len() == events),
        "{mode}: {}",
        rows.len()
    );
    seen.ledger()?;
    let seen = inside(group, mode, &options("ab13"))?;
    ensure!(seen.of_type(kind)?.is_empty(), "{mode}: {}", seen.stdout);
    ensure!(seen.ledger()?.filtered > 0, "{mode}: {}", seen.stdout);
    Ok(())
}

/// Where a hierarchy is mounted; mounted for this if it is not.
fn hierarchy(kind: &str, controller: &str) -> Result<PathBuf, String> {
    let mounts = fs::read_to_string("/proc/self/mountinfo").map_err(|error| error.to_string())?;
    for line in mounts.lines() {
        let Some((left, right)) = line.split_once(" - ") else {
            continue;
        };
        let mut right = right.split(' ');
        let options = (right.next(), right.nth(1).unwrap_or_default());
        let has =
            |options: &str| controller.is_empty() || options.split(',').any(|o| o == controller);
        if options.0 == Some(kind) && has(options.1) {
            return left
                .split(' ')
                .nth(4)
                .map(PathBuf::from)
                .ok_or_else(|| line.into());
        }
    }
    let place = env::temp_dir().join(format!("hello-{kind}-{}", std::process::id()));
    fs::create_dir_all(&place).map_err(|error| error.to_string())?;
    let option = (!controller.is_empty()).then_some(controller);
    mount(Some(kind), &place, Some(kind), MsFlags::empty(), option)
        .map_err(|error| format!("cannot mount {kind} {controller}: {error}"))?;
    Ok(place)
}

fn containers_by_version_2() -> Check {
    let step = scaled(3, 1) as usize;
    let layouts = layouts().into_iter().step_by(step).collect();
    let modes = scaled(3, 5) as usize;
    containers_in(&hierarchy("cgroup2", "")?, layouts, &MODES[..modes])
}

fn containers_by_version_1() -> Check {
    // The names are read as those of version 2; what differs is where they are found.
    let layouts = layouts().into_iter().step_by(6).collect();
    containers_in(&hierarchy("cgroup", "pids")?, layouts, &[])
}

fn pid_in_its_own_namespace() -> Check {
    for (mode, kind) in [("buffer", "buffer"), ("exec", "exec"), ("file", "open")] {
        let options = ["--mode", mode, "-o", "json"];
        let seen = see(&mut workload(&options, &["unshared", "7"]))?;
        ensure!(seen.status == Some(0), "{mode}: {seen:?}");
        let mut events = seen.of_type(kind)?;
        // What exec tells of the process that makes the others.
        events.retain(|event| event["forked"] != true);
        let mut inner = Vec::new();
        for event in events {
            let (pid, ns_pid) = (event["pid"].as_u64(), event["ns_pid"].as_u64());
            if pid != ns_pid {
                inner.extend(ns_pid);
            }
        }
        inner.dedup();
        ensure!(
            inner == [2, 3, 4, 5, 6, 7, 8],
            "{mode}: {inner:?} {}",
            seen.stdout
        );
    }
    Ok(())
}

fn thread_and_process_name() -> Check {
    let options = ["--mode", "buffer", "-o", "json"];
    let seen = see(&mut workload(&options, &["thread-name"]))?;
    let events = seen.of_type("buffer")?;
    let last = events.last().ok_or("no event")?;
    ensure!(
        last["comm"] == "ThreadPoolForeg" && last["process"] == "browser",
        "{last}"
    );
    ensure!(last["pid"] != last["tid"], "{last}");
    Ok(())
}

fn order_in_time() -> Check {
    for transport in ["ring", "perf"] {
        let options = ["--mode", "buffer", "-o", "json", "--buffer-size", "8M"];
        let options = [&options[..], &["--transport", transport]].concat();
        let seen = see(&mut workload(&options, &["two-storms", "4001"]))?;
        let events = seen.of_type("buffer")?;
        let stamps: Vec<_> = events.iter().filter_map(|e| e["ts"].as_str()).collect();
        ensure!(stamps.len() > 8002, "{transport}: {}", stamps.len());
        ensure!(
            stamps.is_sorted(),
            "{transport}: {:?}",
            stamps.windows(2).find(|pair| pair[0] > pair[1])
        );
        ensure!(seen.ledger()?.lost == 0, "{transport}: {}", seen.stderr);
    }
    Ok(())
}

/// The workload says when it made its calls; in a VM it also sets the clock.
fn wall_clock() -> Check {
    let stamps = |words: &str| {
        let options = ["--mode", "buffer", "-o", "json"];
        stamps(&mut workload(&options, &["stamps", "5", words]))
            .map_err(|error| format!("{words}: {error}"))
    };
    stamps("")?;
    if env::var_os("HELLO_VM").is_some() {
        stamps("step")?;
        // Only with the helper of Linux 6.1 an event knows of a step that hello does not.
        if matrix::kernel_version() >= (6, 1) {
            stamps("step-at-once")?;
        }
    }
    Ok(())
}

/// There hello's clocks are not those of its programs in the kernel.
fn in_a_time_namespace() -> Check {
    ensure!(
        Path::new("/proc/self/ns/time").exists(),
        "this kernel has no time namespaces (CONFIG_TIME_NS)"
    );
    for seconds in ["1000000", "-5"] {
        let inside = |mode: &str, words: &[&str]| {
            let mut command = Command::new(me());
            command.args(["workload", "in-time", seconds]);
            command.arg(hello_bin());
            command.args(["--mode", mode, "-o", "json"]);
            command.args(["--", &me(), "workload"]).args(words);
            command
        };
        let result = stamps(&mut inside("buffer", &["stamps", "5"]));
        result.map_err(|error| format!("{seconds}: {error}"))?;
        // By hello's clock at its begin and the kernel's at its end.
        let seen = see(&mut inside("exec", &["sleeps", "1", "50"]))?;
        let events = seen.of_type("exec")?;
        let end = events.iter().find(|event| event["event"] == "exit");
        let lifetime = end.and_then(|event| event["lifetime_ns"].as_u64());
        ensure!(
            lifetime.is_some_and(|time| (50_000_000..5_000_000_000).contains(&time)),
            "{seconds}: {events:?}"
        );
    }
    Ok(())
}

fn stamps(command: &mut Command) -> Check {
    let seen = see(command)?;
    let events = seen.of_type("buffer")?;
    let said: Vec<(u128, u128)> = seen
        .stderr
        .lines()
        .filter_map(|line| {
            let (before, after) = line.strip_prefix("stamp ")?.split_once(' ')?;
            Some((before.parse().ok()?, after.parse().ok()?))
        })
        .collect();
    ensure!(said.len() == 5 && events.len() == 6, "{seen:?}");
    for (event, (before, after)) in events[1..].iter().zip(said) {
        let ts = event["ts"].as_str().unwrap_or_default();
        let told = humantime::parse_rfc3339(ts).map_err(|error| error.to_string())?;
        let told = told
            .duration_since(std::time::UNIX_EPOCH)
            .map_err(|error| error.to_string())?
            .as_nanos();
        let millisecond = 1_000_000;
        ensure!(
            told + millisecond >= before && told <= after + millisecond,
            "{told} is not between {before} and {after}"
        );
    }
    Ok(())
}

fn clocks() -> Check {
    let run = |options: &[&str]| {
        let all = [&["--mode", "buffer"], options].concat();
        see(&mut workload(&all, &["execs", "0", "3"]))
    };
    let times = |seen: &Seen| -> Vec<String> {
        let lines = seen.stdout.lines().skip(1);
        lines
            .map(|line| line.split(' ').next().unwrap_or_default().to_owned())
            .collect()
    };
    let wall = times(&run(&["--time", "wall"])?);
    ensure!(
        wall.len() == 4
            && wall
                .iter()
                .all(|time| time.len() == 16 && time.ends_with('Z')),
        "{wall:?}"
    );
    let delta = times(&run(&["--time", "delta"])?);
    ensure!(
        delta[0] == "+0.000000" && delta.iter().all(|time| time.starts_with('+')),
        "{delta:?}"
    );
    let mono: Vec<f64> = times(&run(&["--time", "mono"])?)
        .iter()
        .filter_map(|time| time.parse().ok())
        .collect();
    ensure!(mono.len() == 4 && mono.is_sorted(), "{mono:?}");
    let json = run(&["-o", "json", "--time", "mono"])?.of_type("buffer")?;
    ensure!(
        json[0]["mono_ns"].is_u64() && json[0]["ts"].is_string(),
        "{json:?}"
    );
    let json = run(&["-o", "json", "--time", "delta"])?.of_type("buffer")?;
    ensure!(
        json[0]["delta_ns"] == 0 && json[1]["delta_ns"].as_u64() > Some(0),
        "{json:?}"
    );
    let json = run(&["-o", "json", "--time", "none"])?.of_type("buffer")?;
    ensure!(json[0]["ts"].is_null(), "{json:?}");
    Ok(())
}

fn columns() -> Check {
    let run = |mode: &str, options: &[&str]| {
        let all = [&["--mode", mode], options].concat();
        see(&mut workload(&all, &["execs", "0", "2"]))
    };
    let seen = run(
        "buffer",
        &["--columns", "message,pid,Container", "--explain"],
    )?;
    let lines: Vec<_> = seen.stdout.lines().collect();
    ensure!(
        lines[..3].iter().all(|line| line.starts_with("# "))
            && lines[0].starts_with("# MESSAGE ")
            && lines[3] == "MESSAGE     PID CONTAINER"
            && lines[4].starts_with("Hello World ")
            && lines[4].ends_with(" -"),
        "{lines:?}"
    );
    for mode in ["trace", "file", "tail", "syscount", "map"] {
        let seen = run(mode, &["--explain", "--time", "wall"])?;
        ensure!(
            seen.stdout.contains("# TIME") && seen.stdout.contains("\nTIME "),
            "{mode}: {seen:?}"
        );
    }
    // An explanation changes nothing of what it explains.
    for (mode, first, then) in [
        ("map", "# ID N: CALLS ", "\nID 0: 3\n"),
        ("syscount", "# % time ", "\n% time     seconds "),
    ] {
        let seen = run(mode, &["--explain"])?;
        ensure!(
            seen.stdout.starts_with(first) && seen.stdout.contains(then),
            "{mode}: {seen:?}"
        );
    }
    for (mode, columns, what) in [
        (
            "file",
            "path,nope",
            "no column \"nope\" here; there are: TIME, ",
        ),
        (
            "syscount",
            "p50",
            "P50 is not in this table; --latency adds it\n",
        ),
        (
            "map",
            "nope",
            "no column \"nope\" here; there are: TIME, COUNT, USER\n",
        ),
    ] {
        let seen = see(&mut hello(&["--mode", mode, "--columns", columns]))?;
        ensure!(
            seen.status == Some(2) && seen.stderr.contains(what),
            "{seen:?}"
        );
    }
    let seen = see(&mut hello(&["--mode", "file", "--explain", "-o", "json"]))?;
    ensure!(seen.status == Some(2), "{seen:?}");
    Ok(())
}
