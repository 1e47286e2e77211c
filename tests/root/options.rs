// SPDX-License-Identifier: BSD-2-Clause
//! What the options promise.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use crate::matrix::count;
use crate::run::Check;
use crate::run::Running;
use crate::run::Seen;
use crate::run::Test;
use crate::run::ensure;
use crate::run::hello;
use crate::run::me;
use crate::run::see;
use crate::run::stale_instances;
use crate::run::workload;

pub(crate) const TESTS: &[Test] = &[
    ("messages", messages),
    ("book_lines", book_lines),
    ("count_of_events", count_of_events),
    ("count_of_tables", count_of_tables),
    ("tables_of_a_duration", tables_of_a_duration),
    ("top", top),
    ("top_of_a_line", top_of_a_line),
    (
        "json_is_alone_on_standard_output",
        json_is_alone_on_standard_output,
    ),
    ("numbers_that_no_table_has", numbers_that_no_table_has),
    ("pin_goes_on", pin_goes_on),
    ("pins_of_what_is_watched", pins_of_what_is_watched),
    ("pins_of_estimates", pins_of_estimates),
    ("pins_and_their_room", pins_and_their_room),
    ("pin_of_another_shape", pin_of_another_shape),
    ("pin_needs_a_bpffs", pin_needs_a_bpffs),
    ("pin_is_for_one_at_a_time", pin_is_for_one_at_a_time),
    ("paths_that_are_not_in_memory", paths_that_are_not_in_memory),
    ("hostile_names", hostile_names),
    ("btf_file", btf_file),
    ("text_of_every_mode", text_of_every_mode),
    ("trace_leaves_tracefs_alone", trace_leaves_tracefs_alone),
    ("trace_without_instances", trace_without_instances),
    ("list_by_tracefs", list_by_tracefs),
];

fn messages() -> Check {
    let of = |options: &[&str], words: &[&str]| -> Result<Vec<serde_json::Value>, String> {
        let mut all = vec!["--mode", "buffer", "-o", "json"];
        all.extend(options);
        see(&mut workload(&all, words))?.of_type("buffer")
    };
    let parity = &["--message", "odd=strange", "--message", "even=balanced"];
    for event in of(parity, &["execs", "23", "0"])? {
        let odd = event["pid"].as_u64().is_some_and(|pid| pid % 2 == 1);
        let want = if odd { "strange" } else { "balanced" };
        ensure!(event["message"] == want, "{event}");
    }
    // User before parity before default.
    let all = &[
        "--message",
        "root=Hey root!",
        "--message",
        "odd=o",
        "--message",
        "even=e",
        "--message",
        "d",
    ];
    let events = of(all, &["execs", "5", "0"])?;
    ensure!(
        events.iter().all(|event| event["message"] == "Hey root!"),
        "{events:?}"
    );
    let default = of(&["--message", "other words"], &["nothing"])?;
    ensure!(default[0]["message"] == "other words", "{default:?}");
    let empty = see(&mut workload(
        &["--mode", "buffer", "--message", "=a=b"],
        &["nothing"],
    ))?;
    ensure!(
        empty.status == Some(2),
        "an empty user is none: {}",
        empty.stderr
    );
    let longest = "m".repeat(63);
    ensure!(
        of(&["--message", &longest], &["nothing"])?[0]["message"] == longest,
        "63 bytes fit"
    );
    Ok(())
}

fn pin_is_for_one_at_a_time() -> Check {
    let dir = PinDir::new();
    let options = [
        "--mode", "map", "-o", "json", "--pin", &dir.0, "--uid", "65534",
    ];
    let mut first = Running::start(&mut hello(&options))?;
    first.attached()?;
    let second = see(&mut hello(&options))?;
    first.signal(nix::sys::signal::Signal::SIGTERM);
    first.finish()?.ledger()?;
    ensure!(second.status == Some(1), "{:?}", second.status);
    ensure!(
        second.stderr.contains("another hello counts in"),
        "{}",
        second.stderr
    );
    ensure!(second.stderr.lines().count() == 1, "{}", second.stderr);
    Ok(())
}

/// The lines that the book's programs print.
fn book_lines() -> Check {
    let seen = see(&mut workload(&["--mode", "map"], &["execs", "23", "0"]))?;
    ensure!(seen.stdout == "ID 0: 24\n", "{:?}", seen.stdout);
    let options = ["--mode", "syscount", "--by", "uid", "--syscalls", "getppid"];
    let seen = see(&mut workload(&options, &["users", "101", "53"]))?;
    ensure!(
        seen.stdout == "ID 0: 101\tID 65534: 53\n",
        "{:?}",
        seen.stdout
    );
    let options = ["--mode", "map", "--syscalls", "getppid"];
    let seen = see(&mut workload(&options, &["users", "53", "101"]))?;
    ensure!(
        seen.stdout == "ID 0: 53\tID 65534: 101\n",
        "sorted by id: {:?}",
        seen.stdout
    );
    Ok(())
}

fn count_of_events() -> Check {
    let options = ["--mode", "buffer", "-o", "json", "-n", "7"];
    let seen = see(&mut workload(&options, &["execs", "23", "0"]))?;
    ensure!(seen.of_type("buffer")?.len() == 7, "{}", seen.stdout);
    let ledger = seen.ledger()?;
    ensure!(ledger.printed == 7 && ledger.lost == 0, "{ledger:?}");
    ensure!(
        seen.status == Some(0),
        "COMMAND goes on to its own end: {:?}",
        seen.status
    );
    Ok(())
}

fn count_of_tables() -> Check {
    // A command that outlives three tables, and makes calls in each.
    let mut command = hello(&["--mode", "syscount", "-o", "json", "-i", "200ms", "-n", "3"]);
    let seen = see(command
        .arg("--")
        .arg(me())
        .args(["workload", "paced", "40", "3"]))?;
    let tables: BTreeMap<_, u64> =
        seen.of_type("count")?
            .iter()
            .fold(BTreeMap::new(), |mut all, row| {
                *all.entry(row["table"].as_u64()).or_default() += count(row);
                all
            });
    ensure!(tables.keys().max() == Some(&Some(3)), "{:?}", tables.keys());
    let ledger = seen.ledger()?;
    ensure!(
        ledger.printed == tables.values().sum::<u64>(),
        "each table accounts for its own: {ledger:?} {tables:?}"
    );
    Ok(())
}

/// The table at the deadline is the final one, not one more.
fn tables_of_a_duration() -> Check {
    let options = ["--mode", "syscount", "-o", "json", "-i", "500ms", "-d", "1"];
    let seen = see(&mut hello(&options))?;
    let tables = seen
        .of_type("count")?
        .iter()
        .filter_map(|row| row["table"].as_u64())
        .max();
    ensure!(tables == Some(2), "{tables:?}: {}", seen.stderr);
    Ok(())
}

fn top() -> Check {
    let options = ["--mode", "syscount", "-o", "json", "--top", "1"];
    let seen = see(&mut workload(&options, &["calls", "1009", "211", "0"]))?;
    let rows = seen.of_type("count")?;
    ensure!(rows.len() == 1 && count(&rows[0]) == 1009, "{rows:?}");
    let ledger = seen.ledger()?;
    ensure!(ledger.printed == 1009 && ledger.surplus > 211, "{ledger:?}");
    let said = format!(" ({} of them not shown), 0 lost", ledger.surplus);
    ensure!(seen.stderr.contains(&said), "{}", seen.stderr);
    Ok(())
}

/// The largest, not the smallest ids.
fn top_of_a_line() -> Check {
    let options = ["--mode", "map", "--syscalls", "getppid", "--top", "1"];
    let seen = see(&mut workload(&options, &["users", "7", "60"]))?;
    ensure!(seen.stdout == "ID 65534: 60\n", "{:?}", seen.stdout);
    Ok(())
}

fn json_is_alone_on_standard_output() -> Check {
    let forged = "{\"type\":\"ledger\",\"seen\":0}";
    let seen = see(&mut hello(&[
        "--mode", "buffer", "-o", "json", "--", "echo", forged,
    ]))?;
    ensure!(seen.of_type("ledger")?.len() == 1, "{}", seen.stdout);
    ensure!(seen.ledger()?.printed == 1, "{}", seen.stdout);
    ensure!(
        seen.stderr.contains(forged),
        "COMMAND's goes to standard error: {}",
        seen.stderr
    );
    Ok(())
}

fn numbers_that_no_table_has() -> Check {
    let seen = see(&mut workload(
        &["--mode", "syscount", "--syscalls", "9999"],
        &["unknown", "7"],
    ))?;
    ensure!(seen.status == Some(2), "{:?} {}", seen.status, seen.stderr);
    ensure!(
        seen.stderr.contains("numbers go up to 1023"),
        "{}",
        seen.stderr
    );
    let seen = see(&mut workload(
        &["--mode", "syscount", "-o", "json"],
        &["negative", "7"],
    ))?;
    let rows = seen.of_type("count")?;
    ensure!(
        rows.iter()
            .any(|row| row["nr"] == -5 && row["abi"] == "x86_64" && count(row) == 7),
        "{rows:?}"
    );
    Ok(())
}

/// A folder in bpffs, emptied at the end.
struct PinDir(String);

impl PinDir {
    fn new() -> Self {
        Self(format!("/sys/fs/bpf/hello-test-{}", std::process::id()))
    }
}

impl Drop for PinDir {
    fn drop(&mut self) {
        for entry in fs::read_dir(&self.0).into_iter().flatten().flatten() {
            let _ = fs::remove_file(entry.path());
        }
        let _ = fs::remove_dir(&self.0);
    }
}

fn pin_goes_on() -> Check {
    let dir = PinDir::new();
    let cases: &[(&[&str], &[&str])] = &[
        (&["--mode", "map"], &["map_counts_v2_by_uid"]),
        (
            &[
                "--mode",
                "syscount",
                "--by",
                "syscall",
                "--syscalls",
                "execve",
            ],
            &[
                "syscount_calls_v2_by_syscall",
                "syscount_counts_v2_by_syscall",
            ],
        ),
    ];
    for (options, files) in cases {
        for (round, want) in [(1, 24), (2, 48), (3, 72)] {
            let mut all = vec!["-o", "json", "--pin", &dir.0];
            all.extend(*options);
            let seen = see(&mut workload(&all, &["execs", "23", "0"]))?;
            let rows = seen.of_type("count")?;
            ensure!(
                rows.len() == 1 && count(&rows[0]) == want,
                "round {round}: {rows:?} {}",
                seen.stderr
            );
            ensure!(
                seen.ledger()?.printed == 24,
                "the ledger is of this run: {}",
                seen.stdout
            );
        }
        for file in *files {
            ensure!(Path::new(&dir.0).join(file).exists(), "{file} is pinned");
        }
    }
    Ok(())
}

/// Counters with times are not those without, though their keys are the same.
fn pins_of_what_is_watched() -> Check {
    let dir = PinDir::new();
    let by_call = ["--by", "syscall"].as_slice();
    for by in [by_call, &["--by", "syscall,errno"]] {
        for (latency, native, compat, sums) in [
            (true, 53, 101, [53, 101]),
            (false, 11, 23, [11, 23]),
            (true, 7, 13, [60, 114]),
            (false, 3, 5, [14, 28]),
        ] {
            let mut options = vec!["--mode", "syscount", "-o", "json", "--pin", &dir.0];
            options.extend(["--syscalls", "getppid"]);
            options.extend(by);
            options.extend(latency.then_some("--latency"));
            let words = ["calls", &native.to_string(), &compat.to_string()];
            let seen = see(&mut workload(&options, &words))?;
            let rows = seen.of_type("count")?;
            for (abi, sum) in ["x86_64", "i386"].iter().zip(sums) {
                let row = rows.iter().find(|row| row["abi"] == *abi);
                let row = row.ok_or_else(|| format!("{abi}: {rows:?}"))?;
                ensure!(count(row) == sum, "{options:?}: {row}");
                let has_times = row["p50_ns"].is_u64() && row["p99_ns"].is_u64();
                ensure!(has_times == latency, "{options:?}: {row}");
            }
            ensure!(rows.len() == 2, "{options:?}: {rows:?}");
            let ledger = seen.ledger()?;
            ensure!(
                ledger.printed == native + compat,
                "the ledger is of this run: {}",
                seen.stdout
            );
        }
    }
    Ok(())
}

/// Counters that may be estimates are others, and stay estimates.
fn pins_of_estimates() -> Check {
    let dir = PinDir::new();
    for (sampled, want, margin) in [(false, 53, None), (true, 53, Some(0)), (true, 106, Some(1))] {
        let mut options = vec!["--mode", "syscount", "-o", "json", "--pin", &dir.0];
        options.extend(["--syscalls", "getppid"]);
        options.extend(["--max-cpu", "10000"].iter().filter(|_| sampled));
        let seen = see(&mut workload(&options, &["calls", "53", "0", "0"]))?;
        let rows = seen.of_type("count")?;
        ensure!(
            rows.len() == 1
                && count(&rows[0]) == want
                && rows[0]["margin"].as_u64().map(|margin| margin.min(1)) == margin,
            "{options:?}: {rows:?}"
        );
    }
    // The former run may have left out all there was.
    drop(dir);
    let dir = PinDir::new();
    for (words, margin) in [(["groups", "1", "0"], 0), (["groups", "53", "0"], 1)] {
        let mut options = vec!["--mode", "syscount", "-o", "json", "--pin", &dir.0];
        let call = if margin == 0 { "getppid" } else { "getpgid" };
        options.extend(["--max-cpu", "10000", "--syscalls", call]);
        let rows = see(&mut workload(&options, &words))?.of_type("count")?;
        let margins: Vec<_> = rows.iter().map(|row| row["margin"].as_u64()).collect();
        ensure!(
            margins.iter().all(|all| *all > Some(0)) && margins.len() == margin,
            "{rows:?}"
        );
    }
    Ok(())
}

fn pins_and_their_room() -> Check {
    let dir = PinDir::new();
    let run = |room: &str| {
        see(&mut workload(
            &[
                "--mode",
                "syscount",
                "--latency",
                "--max-entries",
                room,
                "--pin",
                &dir.0,
            ],
            &["nothing"],
        ))
    };
    for round in 1..=2 {
        let seen = run("1009")?;
        ensure!(seen.status == Some(0), "{round}: {}", seen.stderr);
    }
    let seen = run("2003")?;
    ensure!(
        seen.status == Some(125) && seen.stderr.contains("has room for 1009 keys, not 2003"),
        "{:?} {}",
        seen.status,
        seen.stderr
    );
    Ok(())
}

fn pin_of_another_shape() -> Check {
    let dir = PinDir::new();
    fs::create_dir(&dir.0).map_err(|error| error.to_string())?;
    let file = Path::new(&dir.0).join("map_counts_v2_by_uid");
    let other = libbpf_rs::MapHandle::create(
        libbpf_rs::MapType::Array,
        Some("other"),
        4,
        16,
        3,
        &libbpf_rs::libbpf_sys::bpf_map_create_opts {
            sz: size_of::<libbpf_rs::libbpf_sys::bpf_map_create_opts>() as _,
            ..Default::default()
        },
    );
    let mut other = other.map_err(|error| error.to_string())?;
    other.pin(&file).map_err(|error| error.to_string())?;
    let seen = see(&mut hello(&["--mode", "map", "--pin", &dir.0, "-d", "1"]))?;
    ensure!(seen.status == Some(1), "{:?}", seen.status);
    ensure!(
        seen.stderr
            .contains("another shape: Array of 4-byte keys and 16-byte values"),
        "{}",
        seen.stderr
    );
    let still = libbpf_rs::MapHandle::from_pinned_path(&file).map_err(|error| error.to_string())?;
    ensure!(
        libbpf_rs::MapCore::value_size(&still) == 16,
        "it is left alone"
    );
    Ok(())
}

fn pin_needs_a_bpffs() -> Check {
    let seen = see(&mut hello(&["--mode", "map", "--pin", "/tmp", "-d", "1"]))?;
    ensure!(
        seen.status == Some(1) && seen.stderr.contains("bpffs"),
        "{}",
        seen.stderr
    );
    Ok(())
}

fn paths_that_are_not_in_memory() -> Check {
    let file = format!("/tmp/hello-test-cold-{}", std::process::id());
    let mut page = b"/tmp/a-path-nobody-has-touched".to_vec();
    page.resize(4096, 0);
    fs::write(&file, &page).map_err(|error| error.to_string())?;
    for hook in ["raw_tp", "tracepoint"] {
        let options = ["--mode", "file", "-o", "json", "--attach", hook];
        let seen = see(&mut workload(&options, &["cold", &file, "13"]))?;
        let events = seen.of_type("open")?;
        let cold = events
            .iter()
            .filter(|event| event["path_given"] == "/tmp/a-path-nobody-has-touched");
        ensure!(cold.count() == 13, "{hook}: {events:?}");
        ensure!(
            seen.ledger()?.raw["unreadable"] == 0,
            "{hook}: {}",
            seen.stdout
        );
    }
    let _ = fs::remove_file(&file);
    Ok(())
}

fn hostile_names() -> Check {
    let text_out = see(&mut workload(&["--mode", "file"], &["hostile"]))?;
    let line = text_out
        .stdout
        .lines()
        .find(|line| line.contains("[2J"))
        .unwrap_or_default();
    ensure!(line.ends_with(r#""/tmp/\33[2J\n\"\377\376""#), "{line:?}");
    let seen = see(&mut workload(
        &["--mode", "file", "-o", "json"],
        &["hostile"],
    ))?;
    let events = seen.of_type("open")?;
    let hex = "2f746d702f1b5b324a0a22fffe";
    ensure!(
        events.iter().any(|event| event["path_given_hex"] == hex),
        "{events:?}"
    );
    // A thread's name may be anything too; `map` prints no name, so by comm.
    let options = [
        "--mode",
        "syscount",
        "--by",
        "comm",
        "--syscalls",
        "getppid",
    ];
    let seen = see(&mut workload(&options, &["rename", "\u{1b}]0;x\u{7}", "7"]))?;
    ensure!(seen.stdout.contains(r"\33]0;x\7"), "{:?}", seen.stdout);
    ensure!(!seen.stdout.contains('\u{1b}'), "{:?}", seen.stdout);
    Ok(())
}

/// A kernel without BTF, and its BTF in a file.
fn btf_file() -> Check {
    let copy = format!("/tmp/hello-test-{}.btf", std::process::id());
    fs::copy("/sys/kernel/btf/vmlinux", &copy).map_err(|error| error.to_string())?;
    let options = [
        "--mode", "buffer", "-o", "json", "--attach", "raw_tp", "--btf", &copy,
    ];
    let mut command = workload(&options, &["execs", "23", "0"]);
    let seen = see(crate::errors::hidden(&mut command, &["/sys/kernel/btf"]));
    let _ = fs::remove_file(&copy);
    let seen = seen?;
    ensure!(
        seen.of_type("buffer")?.len() == 24,
        "{} {}",
        seen.stdout,
        seen.stderr
    );
    Ok(())
}

/// The columns that people read, of each mode, by its header and a row.
fn text_of_every_mode() -> Check {
    let run = |mode: &str, options: &[&str], words: &[&str]| -> Result<Seen, String> {
        let mut all = vec!["--mode", mode];
        all.extend(options);
        see(&mut workload(&all, words))
    };
    let seen = run("buffer", &[], &["execs", "2", "0"])?;
    let lines: Vec<_> = seen.stdout.lines().collect();
    ensure!(
        lines[0] == "    PID   UID COMM            MESSAGE",
        "{lines:?}"
    );
    ensure!(
        lines.len() == 4 && lines[1].ends_with("     0 hello           Hello World"),
        "{lines:?}"
    );
    ensure!(
        seen.stderr.ends_with("hello: 3 events, 0 lost\n"),
        "{}",
        seen.stderr
    );

    let seen = run("trace", &[], &["nothing"])?;
    ensure!(
        seen.stdout.ends_with(": bpf_trace_printk: Hello World!\n"),
        "{:?}",
        seen.stdout
    );
    ensure!(
        seen.stderr.ends_with("hello: 1 event, 0 lost\n"),
        "{}",
        seen.stderr
    );

    let seen = run("file", &[], &["open", "/etc/passwd"])?;
    ensure!(
        seen.stdout
            .lines()
            .any(|line| line.ends_with("openat   O_RDONLY             \"/etc/passwd\"")),
        "{}",
        seen.stdout
    );

    let seen = run("tail", &[], &["timers", "1"])?;
    ensure!(
        seen.stdout.contains("Creating a timer\n"),
        "{}",
        seen.stdout
    );
    let seen = run("tail", &[], &["calls", "0", "1", "0"])?;
    ensure!(
        seen.stdout
            .contains("Call of another ABI: i386 64 (getppid)\n"),
        "{}",
        seen.stdout
    );

    let seen = run(
        "syscount",
        &["--by", "uid,syscall", "--top", "2"],
        &["calls", "1009", "211", "0"],
    )?;
    let lines: Vec<_> = seen.stdout.lines().collect();
    ensure!(
        lines
            == [
                "     COUNT SYSCALL              USER",
                "      1009 getppid              root",
                "       211 i386:getppid         root",
            ],
        "{lines:#?}"
    );
    Ok(())
}

fn trace_leaves_tracefs_alone() -> Check {
    let tracing = Path::new("/sys/kernel/tracing");
    let settings = || {
        let read = |file: &str| fs::read_to_string(tracing.join(file)).unwrap_or_default();
        (
            read("trace_options"),
            read("trace_clock"),
            read("tracing_on"),
            read("set_event"),
            read("events/bpf_trace/bpf_trace_printk/enable"),
        )
    };
    // What loading a bpf_printk switches on may come late (a work queue, Linux 6.17).
    fs::write(
        tracing.join("events/bpf_trace/bpf_trace_printk/enable"),
        "0",
    )
    .map_err(|e| e.to_string())?;
    let before = settings();
    see(&mut workload(&["--mode", "trace"], &["execs", "5", "0"]))?;
    std::thread::sleep(std::time::Duration::from_millis(200));
    let after = settings();
    ensure!(before == after, "before {before:?}\nafter {after:?}");
    ensure!(stale_instances().is_empty(), "{:?}", stale_instances());
    Ok(())
}

/// Where no instance can be made the machine's one pipe has to do.
/// Others may read the shared pipe too, or overwrite it: hello tells what it missed, and of
/// three times one goes undisturbed.
fn trace_without_instances() -> Check {
    for _ in 0..3 {
        if by_the_shared_pipe()? == 6 {
            return Ok(());
        }
    }
    Err("never all 6 lines".into())
}

fn by_the_shared_pipe() -> Result<u64, String> {
    let mut command = workload(&["--mode", "trace", "-o", "json"], &["execs", "5", "0"]);
    let places = &[
        "/sys/kernel/tracing/instances",
        "/sys/kernel/debug/tracing/instances",
    ];
    let seen = see(crate::errors::hidden(&mut command, places))?;
    ensure!(seen.status == Some(0), "{}", seen.stderr);
    let shown = seen.of_type("trace")?.len() as u64;
    let ledger = seen.ledger()?;
    ensure!(
        shown == ledger.printed && shown + ledger.lost == 6,
        "{} {}",
        seen.stdout,
        seen.stderr
    );
    Ok(shown)
}

fn list_by_tracefs() -> Check {
    let seen = see(&mut hello(&["--list"]))?;
    ensure!(seen.status == Some(0), "{}", seen.stderr);
    for part in [
        "tracepoint:raw_syscalls:sys_enter (from tracefs)\n    long id\n    unsigned long args[6]\n",
        "rawtracepoint:sys_exit (from BTF)\n    struct pt_regs * ",
        "buffer_raw_tp at sys_enter\n",
        "map         tail_programs (ProgArray, 515 entries)\n",
    ] {
        ensure!(
            seen.stdout.contains(part),
            "{part:?} is not in\n{}",
            seen.stdout
        );
    }
    Ok(())
}
