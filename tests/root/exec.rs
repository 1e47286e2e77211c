// SPDX-License-Identifier: BSD-2-Clause
//! exec: what is told of programs, by all ways to run one, to fail and to end.

use std::fs;

use serde_json::Value;

use crate::exec_work::HOSTILE;
use crate::exec_work::prepare;
use crate::matrix::text;
use crate::matrix::why_not;
use crate::run::Check;
use crate::run::Seen;
use crate::run::Test;
use crate::run::Waiting;
use crate::run::ensure;
use crate::run::hello;
use crate::run::me;
use crate::run::scaled;
use crate::run::see;
use crate::run::workload;

pub(crate) const TESTS: &[Test] = &[
    ("every_way_to_run", every_way_to_run),
    ("every_way_to_fail", every_way_to_fail),
    ("every_way_to_end", every_way_to_end),
    ("failed_exits", failed_exits),
    ("failed_only", failed_only),
    ("single_kinds", single_kinds),
    ("core_dumped", core_dumped),
    ("user_without_a_name", user_without_a_name),
    ("environment", environment),
    ("ancestors", ancestors),
    ("lifetime_of_the_command", lifetime_of_the_command),
    ("storm", storm),
    ("running_before", running_before),
    ("perf_arguments_end_at_32k", perf_arguments_end_at_32k),
    ("columns", columns),
    ("threads_that_end_together", threads_that_end_together),
    (
        "ends_have_the_name_of_the_process",
        ends_have_the_name_of_the_process,
    ),
    ("programs_that_were_filtered", programs_that_were_filtered),
];

const JSON: &[&str] = &["--mode", "exec", "-o", "json"];

/// A folder with what the workloads need, gone afterwards.
struct Folder(String);

impl Folder {
    fn new(name: &str) -> Result<Self, String> {
        let path = format!("/tmp/hello-exec-{name}-{}", std::process::id());
        prepare(&path, &me()).map_err(|error| error.to_string())?;
        Ok(Self(path))
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// The kernel side itself may be skipped where raw tracepoints can be preempted (Linux
/// 7): once more then.
fn life(options: &[&str], words: &[&str]) -> Result<Seen, String> {
    let words = [&["life"], words].concat();
    let once = || see(&mut workload(&[JSON, options].concat(), &words));
    let mut seen = once()?;
    for _ in 0..3 {
        if !seen.stderr.contains(" nested") {
            break;
        }
        seen = once()?;
    }
    ensure!(seen.status == Some(0), "{:?}: {}", seen.status, seen.stderr);
    Ok(seen)
}

/// The one event of that kind whose first argument is this.
fn one<'a>(events: &'a [Value], kind: &str, name: &str) -> Result<&'a Value, String> {
    let mut found = events
        .iter()
        .filter(|row| row["event"] == kind && row["argv"][0] == name);
    match (found.next(), found.next()) {
        (Some(one), None) => Ok(one),
        (None, _) => Err(format!("no {kind} {name}")),
        _ => Err(format!("{kind} {name} more than once")),
    }
}

fn words(event: &Value) -> Vec<&str> {
    let list = event["argv"].as_array();
    list.map(|list| list.iter().filter_map(Value::as_str).collect())
        .unwrap_or_default()
}

/// All with a JSON field that has this value.
fn has(event: &Value, fields: &[(&str, Value)]) -> Check {
    for (name, value) in fields {
        let got = &event[*name];
        ensure!(
            got == value,
            "{name} is {got}, not {value}: {:.2000}",
            event.to_string()
        );
    }
    Ok(())
}

fn every_way_to_run() -> Check {
    let folder = Folder::new("runs")?;
    let seen = life(&["--strict"], &["runs", &folder.0])?;
    let events = seen.of_type("exec")?;
    let program = fs::canonicalize(me()).map_err(|error| error.to_string())?;
    let program = Value::from(program.display().to_string());
    let setuid = Value::from(format!("{}/setuid", folder.0));
    let run = |name: &str| one(&events, "exec", name);

    let event = run("execve")?;
    has(
        event,
        &[
            ("exe", program.clone()),
            ("argv_truncated", false.into()),
            ("deleted", false.into()),
        ],
    )?;
    has(
        event,
        &[
            ("euid", 0.into()),
            ("gid", 0.into()),
            ("user", "root".into()),
            ("script", Value::Null),
            ("ret", 0.into()),
        ],
    )?;
    ensure!(
        words(event) == ["execve", "workload", "nothing", "", "two words"],
        "{event}"
    );
    ensure!(event["argv_bytes"] == 7 + 9 + 8 + 1 + 10, "{event}");
    let cwd = std::env::current_dir().map_err(|error| error.to_string())?;
    has(
        event,
        &[
            ("cwd", cwd.display().to_string().into()),
            ("filename", me().into()),
        ],
    )?;

    let event = run("execveat")?;
    has(event, &[("exe", setuid.clone())])?;
    ensure!(text(event, "filename").ends_with("/setuid"), "{event}");
    has(
        run("i386")?,
        &[("exe", program.clone()), ("argv_bytes", (5 + 9 + 8).into())],
    )?;
    let event = run("memfd")?;
    has(
        event,
        &[("exe", "/memfd:life".into()), ("deleted", true.into())],
    )?;
    ensure!(text(event, "filename").starts_with("/dev/fd/"), "{event}");

    let script = events
        .iter()
        .find(|row| row["event"] == "exec" && !row["script"].is_null())
        .ok_or("no script")?;
    has(
        script,
        &[("exe", setuid.clone()), ("filename", "./script".into())],
    )?;
    has(
        script,
        &[
            ("script", format!("{}/script", folder.0).into()),
            ("cwd", folder.0.clone().into()),
        ],
    )?;
    ensure!(
        words(script)[1..] == ["workload", "./script", "nothing"],
        "{script}"
    );

    // The descriptor is the interpreter's: what it led to is not known.
    let script = events
        .iter()
        .find(|row| row["event"] == "exec" && words(row).last() == Some(&"by-descriptor"))
        .ok_or("no script by a descriptor")?;
    has(script, &[("exe", setuid.clone()), ("script", Value::Null)])?;
    let filename = text(script, "filename");
    ensure!(
        filename.starts_with("/dev/fd/") && filename.ends_with("/script"),
        "{script}"
    );

    has(
        run("setuid")?,
        &[
            ("uid", 65534.into()),
            ("user", "nobody".into()),
            ("euid", 0.into()),
            ("gid", 65534.into()),
        ],
    )?;
    let event = run("thread")?;
    ensure!(event["pid"] == event["tid"], "{event}");
    ensure!(
        one(&events, "exit", "thread")?["pid"] == event["pid"],
        "{event}"
    );

    let event = run("hostile")?;
    ensure!(event["argv"][4] == "a\nb", "{event}");
    let hex: String = HOSTILE.iter().map(|byte| format!("{byte:02x}")).collect();
    ensure!(event["argv_hex"][3] == hex.as_str(), "{event}");

    let event = run("long")?;
    has(
        event,
        &[
            ("argv_truncated", false.into()),
            ("argv_bytes", (5 + 9 + 8 + 100_001).into()),
        ],
    )?;
    ensure!(
        words(event)[3].len() == 100_000,
        "{}",
        words(event)[3].len()
    );
    let event = run("huge")?;
    has(
        event,
        &[
            ("argv_truncated", true.into()),
            ("argv_bytes", (5 + 9 + 8 + 2 * 100_001).into()),
        ],
    )?;
    let kept: usize = words(event).iter().map(|word| word.len() + 1).sum();
    ensure!(kept == (128 << 10) + 1, "{kept}");

    // Linux 5.18 made of no argument an empty one.
    let none = |row: &&Value| {
        row["event"] == "exec" && ["[]", "[\"\"]"].contains(&row["argv"].to_string().as_str())
    };
    ensure!(events.iter().filter(none).count() == 1, "no empty argv");
    let kinds = |kind: &str| events.iter().filter(|row| row["event"] == kind).count();
    ensure!(
        kinds("exec") == 1 + 12 && kinds("failed") == 0,
        "{} {}",
        kinds("exec"),
        kinds("failed")
    );
    // Each of them ends, with its command line.
    ensure!(kinds("exit") == 1 + 12, "{}", kinds("exit"));
    for event in events.iter().filter(|row| row["event"] == "exec") {
        let end = events
            .iter()
            .find(|row| row["event"] == "exit" && row["pid"] == event["pid"]);
        let end = end.ok_or_else(|| format!("no end of {}", event["pid"]))?;
        ensure!(
            end["argv"] == event["argv"] && end["exe"] == event["exe"],
            "{end}"
        );
        has(end, &[("forked", false.into())])?;
    }
    ensure!(seen.ledger()?.raw["truncated"] == 1, "{}", seen.stderr);
    Ok(())
}

fn every_way_to_fail() -> Check {
    let folder = Folder::new("fails")?;
    for hook in ["fentry", "kprobe", "raw_tp"] {
        if why_not(hook).is_some() && std::env::var_os("HELLO_VM").is_none() {
            continue;
        }
        let seen = life(&["--attach", hook], &["failures", &folder.0])?;
        let events = seen.of_type("exec")?;
        let failed = |name: &str| one(&events, "failed", name);
        let path = |name: &str| Value::from(format!("{}/{name}", folder.0));
        for (name, file) in [
            ("ENOENT", "missing"),
            ("EACCES", "plain"),
            ("ENOEXEC", "junk"),
            ("ENOTDIR", "plain/below"),
            ("E2BIG", "setuid"),
        ] {
            has(
                failed(name)?,
                &[("errno", name.into()), ("filename", path(file))],
            )?;
        }
        let event = failed("ENOENT")?;
        ensure!(
            event["ret"] == -2 && words(event)[1] == "two words",
            "{event}"
        );
        has(
            event,
            &[("argv_truncated", false.into()), ("exe", Value::Null)],
        )?;
        ensure!(
            event["argv_hex"].is_array() && event["ancestors"].is_array(),
            "{event}"
        );
        for name in ["i386", "execveat"] {
            has(
                failed(name)?,
                &[("errno", "ENOENT".into()), ("filename", path("missing"))],
            )?;
            ensure!(words(failed(name)?) == [name, "second"], "{events:?}");
        }
        let huge = failed("E2BIG")?;
        has(
            huge,
            &[("argv_truncated", true.into()), ("argv_bytes", Value::Null)],
        )?;
        ensure!(
            words(failed("many")?).len() == 1009,
            "{}",
            words(failed("many")?).len()
        );
        let fault = events
            .iter()
            .find(|row| row["errno"] == "EFAULT")
            .ok_or("no EFAULT")?;
        has(fault, &[("filename", Value::Null), ("argv", Value::Null)])?;
        let count = events.iter().filter(|row| row["event"] == "failed").count();
        ensure!(count == 9, "{count} failures by {hook}");
        let ledger = seen.ledger()?;
        ensure!(
            ledger.raw["unreadable"] == 1 && ledger.lost == 0,
            "{ledger:?}"
        );
    }
    Ok(())
}

fn every_way_to_end() -> Check {
    let seen = life(&["--strict"], &["ends"])?;
    let events = seen.of_type("exec")?;
    let code = |code: u32| {
        [
            ("exit_code", code.into()),
            ("signal", Value::Null),
            ("core", false.into()),
        ]
    };
    let end = |name: &str| one(&events, "exit", name);
    has(end("none")?, &code(0))?;
    has(end("three")?, &code(3))?;
    for (name, signal) in [
        ("kill", "SIGKILL"),
        ("term", "SIGTERM"),
        ("real-time", "SIG40"),
    ] {
        has(
            end(name)?,
            &[
                ("exit_code", Value::Null),
                ("signal", signal.into()),
                ("core", false.into()),
            ],
        )?;
    }
    let forked: Vec<_> = events.iter().filter(|row| row["forked"] == true).collect();
    // If the threads end one by one: the first one's status, or in newer kernels (5.19)
    // that of the last. wait(2) tells the same.
    for status in [&[4][..], &[5, 9], &[6]] {
        let has = |row: &&&Value| status.iter().any(|status| row["exit_code"] == *status);
        let end = forked.iter().find(has);
        let end = end.ok_or_else(|| format!("no end with {status:?}: {forked:?}"))?;
        // The command line of the program that it was forked from.
        ensure!(
            end["argv"][1] == "workload" && end["argv"][2] == "life",
            "{end}"
        );
    }
    ensure!(forked.len() == 3, "{forked:?}");
    let slow = forked
        .iter()
        .find(|row| row["exit_code"] == 5 || row["exit_code"] == 9);
    let time = slow
        .and_then(|row| row["lifetime_ns"].as_u64())
        .unwrap_or(0);
    ensure!((50_000_000..5_000_000_000).contains(&time), "{time}");
    ensure!(
        one(&events, "exit", "first").is_ok() && one(&events, "exit", "storm").is_ok(),
        "{events:?}"
    );
    let exits = events.iter().filter(|row| row["event"] == "exit").count();
    ensure!(exits == 1 + 5 + 3 + 2, "{exits}");
    ensure!(seen.ledger()?.raw["unmatched"] == 0, "{}", seen.stderr);
    Ok(())
}

fn failed_exits() -> Check {
    let seen = life(&["--failed-exits", "--strict"], &["ends"])?;
    let events = seen.of_type("exec")?;
    ensure!(events.len() == 7, "{events:?}");
    ensure!(
        events
            .iter()
            .all(|row| row["event"] == "exit" && row["argv"][1] == "workload"),
        "{events:?}"
    );
    let ledger = seen.ledger()?;
    // COMMAND's exec and end, seven execs and four ends that went well.
    ensure!(
        ledger.printed == 7 && ledger.surplus == 1 + 7 + 4,
        "{ledger:?}"
    );
    Ok(())
}

fn failed_only() -> Check {
    let folder = Folder::new("only")?;
    let seen = life(&["-x"], &["failures", &folder.0])?;
    let events = seen.of_type("exec")?;
    ensure!(
        events.len() == 9 && events.iter().all(|row| row["event"] == "failed"),
        "{events:?}"
    );
    ensure!(seen.ledger()?.surplus == 0, "{}", seen.stderr);
    Ok(())
}

fn single_kinds() -> Check {
    let folder = Folder::new("kinds")?;
    let failures = ["failures", &folder.0];
    let cases = [
        ("exec", &["ends"][..], 8, 0),
        ("exit", &["ends"], 11, 8),
        ("failed", &["ends"], 0, 0),
        ("exec,exit", &["ends"], 19, 0),
        ("failed", &failures, 9, 0),
        ("exec,failed", &failures, 10, 0),
        ("failed,exit", &failures, 10, 1),
    ];
    for (kinds, words, want, surplus) in cases {
        // Of what fails, one name cannot be read.
        let strict = if words == failures {
            None
        } else {
            Some("--strict")
        };
        let options: Vec<&str> = ["--event", kinds].into_iter().chain(strict).collect();
        let seen = life(&options, words)?;
        let events = seen.of_type("exec")?;
        let told = |kind: &str| events.iter().any(|row| row["event"] == kind);
        ensure!(events.len() == want, "{kinds}: {} events", events.len());
        ensure!(
            want == 0 || kinds.split(',').all(told),
            "{kinds}: {events:?}"
        );
        ensure!(
            events.iter().all(|row| kinds.contains(&text(row, "event"))),
            "{kinds}: {events:?}"
        );
        ensure!(
            words == failures || events.iter().all(|row| row["argv"][1] == "workload"),
            "{kinds}: {events:?}"
        );
        let ledger = seen.ledger()?;
        ensure!(
            ledger.surplus == surplus && ledger.lost == 0,
            "{kinds}: {ledger:?}"
        );
    }
    Ok(())
}

/// As wait(2) says it.
fn core_dumped() -> Check {
    let folder = Folder::new("core")?;
    let seen = life(&[], &["cores", &folder.0])?;
    let events = seen.of_type("exec")?;
    for name in ["with", "without"] {
        let said = format!("core {name} true");
        let end = one(&events, "exit", name)?;
        has(
            end,
            &[
                ("signal", "SIGABRT".into()),
                ("core", seen.stderr.contains(&said).into()),
            ],
        )?;
    }
    ensure!(
        seen.stderr.contains("core without false"),
        "{}",
        seen.stderr
    );
    // Where a core is a file nothing hinders it.
    let pattern = fs::read_to_string("/proc/sys/kernel/core_pattern").unwrap_or_default();
    ensure!(
        !pattern.starts_with("core") || seen.stderr.contains("core with true"),
        "{}",
        seen.stderr
    );
    Ok(())
}

/// A user that has no name is told by number.
fn user_without_a_name() -> Check {
    let words = ["as", "3999999979", "execs", "0", "3"];
    let seen = see(&mut workload(JSON, &words))?;
    let mut events = seen.of_type("exec")?;
    events.retain(|event| event["event"] == "failed");
    ensure!(events.len() == 3, "{}", seen.stdout);
    for event in &events {
        has(
            event,
            &[
                ("uid", 3_999_999_979_u32.into()),
                ("gid", 3_999_999_979_u32.into()),
                ("user", Value::Null),
            ],
        )?;
    }
    let text = see(&mut workload(&["--mode", "exec"], &words))?;
    ensure!(
        text.stdout.matches(" 3999999979 ").count() >= 3,
        "{}",
        text.stdout
    );
    Ok(())
}

fn environment() -> Check {
    let seen = life(
        &["--env", "HELLO_A,HELLO_B,HELLO_C", "--event", "exec"],
        &["spawn", "3"],
    )?;
    let events = seen.of_type("exec")?;
    let event = events
        .iter()
        .find(|row| row["argv"][0] == "storm")
        .ok_or("no exec")?;
    let want = serde_json::json!({"HELLO_A": "one two", "HELLO_B": "", "HELLO_C": null});
    has(event, &[("env", want), ("env_truncated", false.into())])?;
    ensure!(!seen.stdout.contains("HELLO_SECRET"), "{}", seen.stdout);
    let seen = life(&["--event", "exec"], &["spawn", "3"])?;
    ensure!(!seen.stdout.contains("\"env\""), "{}", seen.stdout);
    Ok(())
}

fn name_and_parent(pid: u32) -> Result<(String, u32), String> {
    let status = fs::read_to_string(format!("/proc/{pid}/status"));
    let status = status.map_err(|error| format!("{pid}: {error}"))?;
    let field = |name: &str| status.lines().find_map(|line| line.strip_prefix(name));
    let parent = field("PPid:").and_then(|pid| pid.trim().parse().ok());
    let comm = field("Name:").map(|name| name.trim().to_owned());
    comm.zip(parent).ok_or(status)
}

fn ancestors() -> Check {
    let list = |levels: &str| -> Result<(Vec<Value>, Value), String> {
        let seen = life(&["--event", "exec"], &["deep", levels])?;
        let events = seen.of_type("exec")?;
        let event = one(&events, "exec", "deep")?;
        let list = event["ancestors"].as_array().ok_or("no ancestors")?.clone();
        ensure!(list[0]["pid"] == event["ppid"], "{event}");
        Ok((list, event["ancestors_truncated"].clone()))
    };
    let (few, cut) = list("2")?;
    ensure!(cut == false, "{few:?}");
    // Above hello stands this process, and what /proc says is above it.
    let hello = few.iter().position(|ancestor| ancestor["comm"] == "hello");
    let above = hello.map_or(&few[..0], |at| &few[at + 1..]);
    let mut pid = std::process::id();
    for ancestor in above {
        let (comm, parent) = name_and_parent(pid)?;
        ensure!(
            ancestor["pid"] == pid && ancestor["comm"] == comm,
            "{ancestor}, not {pid} {comm}"
        );
        pid = parent;
    }
    ensure!(!above.is_empty() && pid == 0, "{few:?}");
    let (many, cut) = list("37")?;
    ensure!(cut == true && many.len() == 32, "{many:?}");
    Ok(())
}

/// From its release, just before its exec: what hello needed to begin is not in it.
fn lifetime_of_the_command() -> Check {
    let clock = || nix::time::clock_gettime(nix::time::ClockId::CLOCK_MONOTONIC);
    let start = clock().map_err(|error| error.to_string())?;
    let start = std::time::Duration::from(start).as_nanos();
    let options = [JSON, &["--time", "mono"]].concat();
    let seen = see(&mut workload(&options, &["sleeps", "1", "50"]))?;
    let events = seen.of_type("exec")?;
    let [exec, exit] = events.as_slice() else {
        return Err(format!("{events:?}"));
    };
    let at = |event: &Value| event["mono_ns"].as_u64();
    let (exec, exit) = at(exec).zip(at(exit)).ok_or("no times")?;
    let lifetime = events[1]["lifetime_ns"].as_u64().ok_or("no lifetime")?;
    let before = u128::from(exec).saturating_sub(start);
    // hello makes the process almost at once, and releases it almost at the exec.
    let early = lifetime.checked_sub(exit - exec).ok_or("after its exec")?;
    ensure!(
        exit - exec > 50_000_000 && early > 0 && u128::from(early) < before / 2,
        "{early} of {before}: {events:?}"
    );
    Ok(())
}

/// Short-lived processes on all CPUs: each there with exec and end, or counted as lost.
fn storm() -> Check {
    let half = scaled(53, 1009);
    for options in [&["--buffer-size", "16M"][..], &["--buffer-size", "64K"]] {
        let seen = see(&mut workload(
            &[JSON, options].concat(),
            &["life", "storm", &half.to_string()],
        ))?;
        let events = seen.of_type("exec")?;
        let ledger = seen.ledger()?;
        // COMMAND, its other half, and all their children.
        let all = 2 + 2 * 2 * half + 1;
        ensure!(ledger.printed + ledger.lost == all, "{all}: {ledger:?}");
        if ledger.lost == 0 {
            let of = |kind: &str| events.iter().filter(|row| row["event"] == kind).count() as u64;
            ensure!(
                of("exec") == 1 + 2 * half && of("exit") == 2 + 2 * half,
                "{ledger:?}"
            );
            let known = events.iter().all(|row| row["argv"].is_array());
            ensure!(known && ledger.raw["unmatched"] == 0, "{ledger:?}");
        }
    }
    Ok(())
}

/// A process that began before hello: its command line is from /proc.
fn running_before() -> Check {
    let target = Waiting::start(&["exit", "7"])?;
    let pid = target.pid();
    let mut running = crate::run::Running::start(&mut hello(&[JSON, &["-p", &pid]].concat()))?;
    running.attached()?;
    // The header, that is /proc, comes after that line.
    target.go()?;
    let seen = running.finish()?;
    let events = seen.of_type("exec")?;
    ensure!(events.len() == 1, "{events:?}");
    has(
        &events[0],
        &[
            ("event", "exit".into()),
            ("exit_code", 7.into()),
            ("forked", false.into()),
        ],
    )?;
    ensure!(
        words(&events[0])[1..] == ["workload", "wait", "exit", "7"],
        "{events:?}"
    );
    Ok(())
}

fn perf_arguments_end_at_32k() -> Check {
    let folder = Folder::new("perf")?;
    let options = ["--transport", "perf", "--env", "HELLO_A"];
    let seen = life(&options, &["runs", &folder.0])?;
    let events = seen.of_type("exec")?;
    let event = one(&events, "exec", "long")?;
    has(
        event,
        &[
            ("argv_truncated", true.into()),
            ("argv_bytes", (5 + 9 + 8 + 100_001).into()),
        ],
    )?;
    has(event, &[("env", serde_json::json!({"HELLO_A": "one two"}))])?;
    ensure!(
        words(event)[3].len() == (32 << 10) - 5 - 9 - 8,
        "{}",
        words(event)[3].len()
    );
    let ledger = seen.ledger()?;
    ensure!(ledger.lost == 0 && ledger.printed == 26, "{ledger:?}");
    Ok(())
}

fn columns() -> Check {
    let seen = see(&mut workload(&["--mode", "exec"], &["life", "ends"]))?;
    let lines: Vec<&str> = seen.stdout.lines().collect();
    ensure!(
        lines[0].starts_with("EVENT") && lines[0].ends_with("ARGS"),
        "{}",
        lines[0]
    );
    for part in ["SIGKILL ", "exit 3 ", "three workload exit 3", "(forked)"] {
        ensure!(seen.stdout.contains(part), "no {part:?} in {}", seen.stdout);
    }
    let names = "EVENT,EUID,EXE,GIVEN,CWD,ANCESTORS,ENV,ARGS";
    let options = [
        "--mode",
        "exec",
        "--columns",
        names,
        "--env",
        "HELLO_A",
        "--explain",
    ];
    let seen = see(&mut workload(&options, &["life", "spawn", "1"]))?;
    for part in ["HELLO_A='one two'", "hello(", "# EUID"] {
        ensure!(seen.stdout.contains(part), "no {part:?} in {}", seen.stdout);
    }
    Ok(())
}

/// Each process's end once, whichever of its threads was the last.
fn threads_that_end_together() -> Check {
    let times = scaled(101, 1009);
    let options = ["--mode", "exec", "--event", "exit", "-o", "json"];
    let seen = see(&mut workload(
        &options,
        &["thread-pairs", &times.to_string()],
    ))?;
    let ends = seen.of_type("exec")?.len();
    let nested = seen.ledger()?.nested;
    ensure!(
        ends as u64 + nested > times && (nested > 0 || ends as u64 == times + 1),
        "{ends} ends of {times}: {}",
        seen.stderr
    );
    Ok(())
}

/// … whichever of its threads was the last, and whatever that was called.
fn ends_have_the_name_of_the_process() -> Check {
    for (name, want) in [("browser", 23), ("ThreadPoolForeg", 0)] {
        for what in [&["--event", "exit"][..], &["--failed-exits"]] {
            let options = [JSON, what, &["--comm", name]].concat();
            let seen = see(&mut workload(&options, &["last-threads", "23"]))?;
            let ends = seen.of_type("exec")?;
            ensure!(ends.len() == want, "{options:?}: {}", seen.stderr);
            for end in &ends {
                has(end, &[("comm", name.into()), ("exit_code", 7.into())])?;
            }
            ensure!(seen.ledger()?.lost == 0, "{}", seen.stderr);
        }
    }
    Ok(())
}

/// The end of a program whose exec was not selected has no command line: certainly not
/// that of another.
fn programs_that_were_filtered() -> Check {
    let mut command = crate::run::hello(&["--mode", "exec", "-o", "json", "-c", "sh"]);
    command.args(["--", "sh", "-c", "exec sleep 0.01 secret"]);
    let seen = see(&mut command)?;
    for event in seen.of_type("exec")? {
        ensure!(event["comm"] != "sleep", "{event}");
    }
    let mut command = crate::run::hello(&["--mode", "exec", "-o", "json", "-c", "sleep"]);
    command.args(["--event", "exit", "--", "sh", "-c", "exec sleep 0.01"]);
    let seen = see(&mut command)?;
    let ends = seen.of_type("exec")?;
    ensure!(ends.len() == 1, "{}", seen.stdout);
    ensure!(ends[0]["argv"][0] != "sh", "{}", ends[0]);
    Ok(())
}
