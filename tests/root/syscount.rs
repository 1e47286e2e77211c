// SPDX-License-Identifier: BSD-2-Clause
//! What calls return, how long they take, and which table they stand in.

use std::collections::BTreeMap;
use std::io::Write as _;

use nix::sys::signal::Signal;
use nix::sys::signal::kill;
use nix::unistd::Pid;
use serde_json::Value;

use crate::matrix::count;
use crate::matrix::text;
use crate::run::Check;
use crate::run::Running;
use crate::run::Seen;
use crate::run::Test;
use crate::run::Waiting;
use crate::run::ensure;
use crate::run::hello;
use crate::run::scaled;
use crate::run::see;
use crate::run::workload;
use crate::workload::MIX_SHORT;

pub(crate) const TESTS: &[Test] = &[
    ("errors", errors),
    ("by_errno", by_errno),
    ("failed", failed),
    ("calls_that_return_otherwise", calls_that_return_otherwise),
    ("an_exec_by_a_thread", an_exec_by_a_thread),
    ("latency", latency),
    ("latency_by_other_keys", latency_by_other_keys),
    ("histogram", histogram),
    ("a_call_that_spans_the_start", a_call_that_spans_the_start),
    ("a_call_in_flight_at_the_end", a_call_in_flight_at_the_end),
    ("tables_of_intervals", tables_of_intervals),
    ("cumulative_tables", cumulative_tables),
    (
        "all_of_a_row_is_of_the_same_calls",
        all_of_a_row_is_of_the_same_calls,
    ),
    ("a_full_map_loses_to_the_unit", a_full_map_loses_to_the_unit),
    ("the_table_of_strace", the_table_of_strace),
    ("calls_that_a_kill_cuts_off", calls_that_a_kill_cuts_off),
    ("pinned_times_go_on", pinned_times_go_on),
    ("each_pays_for_what_it_asks", each_pays_for_what_it_asks),
    ("contradictions", contradictions),
];

fn run(options: &[&str], words: &[&str]) -> Result<Seen, String> {
    let mut all = vec!["--mode", "syscount", "-o", "json"];
    all.extend(options);
    let mut seen = see(&mut workload(&all, words))?;
    // Newer kernels now and then skip a program for another, and say so: exact only without.
    for _ in 0..3 {
        if !seen.stderr.contains(" nested)") {
            break;
        }
        seen = see(&mut workload(&all, words))?;
    }
    ensure!(seen.status == Some(0), "{:?} {}", seen.status, seen.stderr);
    let ledger = seen.ledger()?;
    ensure!(
        ledger.raw["unmatched"].as_u64() <= Some(ledger.nested),
        "unmatched: {ledger:?}"
    );
    Ok(seen)
}

/// The row of a native call.
fn row<'r>(rows: &'r [Value], syscall: &str) -> Result<&'r Value, String> {
    let mut of = rows
        .iter()
        .filter(|row| row["syscall"] == syscall && row["abi"] == "x86_64");
    match (of.next(), of.next()) {
        (Some(row), None) => Ok(row),
        _ => Err(format!("not one row of {syscall}: {rows:?}")),
    }
}

fn num(row: &Value, field: &str) -> Result<u64, String> {
    row[field]
        .as_u64()
        .ok_or_else(|| format!("{field} of {row}"))
}

fn errors() -> Check {
    for by in ["syscall", "syscall,pid"] {
        let seen = run(
            &["--latency", "--by", by],
            &["errors", "1009", "211", "53", "31"],
        )?;
        let rows = seen.of_type("count")?;
        let of = |row: &Value| Ok::<_, String>((count(row), num(row, "errors")?));
        ensure!(of(row(&rows, "getppid")?)? == (1009, 0), "{rows:?}");
        ensure!(of(row(&rows, "fchdir")?)? == (53, 53), "{rows:?}");
        ensure!(num(row(&rows, "openat")?, "errors")? >= 211, "{rows:?}");
        let compat = rows.iter().find(|row| row["abi"] == "i386").ok_or("i386")?;
        ensure!(of(compat)? == (31, 31), "{compat}");
        ensure!(
            rows.iter().all(|row| row["in_flight"] == 0),
            "by {by}: {rows:?}"
        );
        let sum: u64 = rows.iter().map(count).sum();
        ensure!(seen.ledger()?.printed == sum, "{}", seen.stdout);
    }
    // Without exits there is no such column.
    let seen = run(&["--by", "syscall"], &["nothing"])?;
    let rows = seen.of_type("count")?;
    ensure!(rows[0].get("errors").is_none(), "{rows:?}");
    Ok(())
}

/// `ABI call error` and how often.
fn by_error(rows: &[Value]) -> BTreeMap<String, u64> {
    let name = |row: &Value| {
        let errno = row["errno"].as_str().unwrap_or("-").to_owned();
        format!("{} {} {errno}", text(row, "abi"), text(row, "syscall"))
    };
    rows.iter().map(|row| (name(row), count(row))).collect()
}

fn by_errno() -> Check {
    let seen = run(
        &["--by", "syscall,errno"],
        &["errors", "1009", "211", "53", "31"],
    )?;
    let rows = seen.of_type("count")?;
    let counts = by_error(&rows);
    for (name, want) in [
        ("x86_64 getppid -", 1009),
        ("x86_64 fchdir EBADF", 53),
        ("i386 fchdir EBADF", 31),
        ("x86_64 execve -", 1),
        ("x86_64 exit_group -", 1),
    ] {
        ensure!(counts.get(name) == Some(&want), "{name}: {counts:?}");
    }
    let sum: u64 = rows.iter().map(count).sum();
    ensure!(seen.ledger()?.printed == sum, "{}", seen.stdout);
    let whole = run(
        &["--by", "errno", "--syscalls", "openat,fchdir"],
        &["errors", "0", "211", "53", "31"],
    )?;
    let rows = whole.of_type("count")?;
    let bad = rows.iter().find(|row| row["errno"] == "EBADF").map(count);
    ensure!(bad == Some(84), "{rows:?}");
    Ok(())
}

fn failed() -> Check {
    let options = ["-x", "--syscalls", "getppid,openat,fchdir"];
    let seen = run(&options, &["errors", "1009", "211", "53", "31"])?;
    let rows = seen.of_type("count")?;
    let counts = by_error(&rows);
    ensure!(counts["x86_64 fchdir EBADF"] == 53, "{counts:?}");
    ensure!(counts["i386 fchdir EBADF"] == 31, "{counts:?}");
    ensure!(counts["x86_64 openat ENOENT"] >= 211, "{counts:?}");
    ensure!(!seen.stdout.contains("getppid"), "{counts:?}");
    let ledger = seen.ledger()?;
    ensure!(ledger.printed == counts.values().sum::<u64>(), "{ledger:?}");
    ensure!(ledger.filtered >= 1009, "successes: {ledger:?}");
    let timed = run(
        &["-x", "--latency", "--by", "comm"],
        &["errors", "1009", "211", "53", "31"],
    )?;
    let rows = timed.of_type("count")?;
    let bad = rows.iter().find(|row| row["errno"] == "EBADF");
    let bad = bad.ok_or_else(|| format!("{rows:?}"))?;
    ensure!(count(bad) == 84 && num(bad, "max_ns")? > 0, "{bad}");
    Ok(())
}

/// execve that succeeds, that fails; exit_group; signals.
fn calls_that_return_otherwise() -> Check {
    let seen = run(&["--latency"], &["execs", "23", "7"])?;
    let rows = seen.of_type("count")?;
    let exec = row(&rows, "execve")?;
    ensure!(
        (count(exec), num(exec, "errors")?) == (31, 7),
        "COMMAND's own, 23, 7 failed: {exec}"
    );
    let exit = row(&rows, "exit_group")?;
    ensure!(
        count(exit) == 24 && exit["mean_ns"].is_null() && exit["p50_ns"].is_null(),
        "{exit}"
    );
    ensure!(rows.iter().all(|row| row["in_flight"] == 0), "{rows:?}");

    let seen = run(&["--by", "syscall,errno"], &["signals", "53"])?;
    let counts = by_error(&seen.of_type("count")?);
    ensure!(
        counts.get("x86_64 rt_sigreturn -") == Some(&53),
        "{counts:?}"
    );
    ensure!(
        counts.get("x86_64 rt_sigsuspend ERESTARTNOHAND") == Some(&53),
        "{counts:?}"
    );
    Ok(())
}

/// Its exec returns under another thread's id.
fn an_exec_by_a_thread() -> Check {
    for by in ["syscall", "syscall,comm"] {
        let seen = run(&["--latency", "--by", by], &["thread-exec"])?;
        let rows = seen.of_type("count")?;
        let execs: Vec<_> = rows
            .iter()
            .filter(|row| row["syscall"] == "execve")
            .collect();
        let sum: u64 = execs.iter().map(|row| count(row)).sum();
        ensure!(
            sum == 2 && execs.iter().all(|row| row["in_flight"] == 0),
            "{execs:?}"
        );
    }
    Ok(())
}

/// Bounds for a sleep of 10 ms on a machine that has other things to do.
fn is_ten_millis(row: &Value) -> Check {
    let p50 = num(row, "p50_ns")?;
    ensure!((9_300_000..200_000_000).contains(&p50), "p50: {row}");
    let (mean, max) = (num(row, "mean_ns")?, num(row, "max_ns")?);
    ensure!((10_000_000..400_000_000).contains(&mean), "mean: {row}");
    ensure!(mean <= max && p50 <= max, "{row}");
    ensure!(num(row, "p99_ns")? <= max, "{row}");
    let returned = count(row) - num(row, "in_flight")?;
    ensure!(num(row, "total_ns")? / returned == mean, "{row}");
    Ok(())
}

fn latency() -> Check {
    let seen = run(&["--latency"], &["sleeps", "23", "10"])?;
    let rows = seen.of_type("count")?;
    let sleep = row(&rows, "nanosleep")?;
    ensure!(count(sleep) == 23, "{sleep}");
    is_ten_millis(sleep)?;
    ensure!(rows[0]["syscall"] == "nanosleep", "most time first");
    Ok(())
}

fn latency_by_other_keys() -> Check {
    for by in ["syscall,pid,comm", "uid", "comm,errno"] {
        let options = ["--latency", "--by", by, "--syscalls", "nanosleep"];
        let rows = run(&options, &["sleeps", "23", "10"])?.of_type("count")?;
        ensure!(rows.len() == 1 && count(&rows[0]) == 23, "{rows:?}");
        is_ten_millis(&rows[0])?;
    }
    Ok(())
}

fn histogram() -> Check {
    for by in ["syscall", "pid"] {
        let options = ["--histogram", "nanosleep", "--by", by];
        let seen = run(&options, &["sleeps", "23", "10"])?;
        let rows = seen.of_type("count")?;
        ensure!(rows.len() == 1 && count(&rows[0]) == 23, "{rows:?}");
        let spreads = seen.of_type("histogram")?;
        ensure!(
            spreads.len() == 1 && spreads[0]["count"] == 23,
            "{spreads:?}"
        );
        let buckets = spreads[0]["buckets"].as_array().ok_or("no buckets")?;
        let mut sum = 0;
        for bucket in buckets {
            let (from, to) = (num(bucket, "from_ns")?, num(bucket, "to_ns")?);
            ensure!(from >= 9_000_000 && to - from <= from / 8, "{bucket}");
            sum += count(bucket);
        }
        ensure!(sum == 23, "{buckets:?}");
    }
    for (by, title) in [
        ("syscall", "COUNT nanosleep\n"),
        ("comm", "COUNT nanosleep, comm hello-tests\n"),
        (
            "comm,uid,syscall",
            "COUNT nanosleep, user root, comm hello-tests\n",
        ),
    ] {
        let options = ["--mode", "syscount", "--histogram", "nanosleep", "--by", by];
        let seen = see(&mut workload(&options, &["sleeps", "23", "10"]))?;
        ensure!(
            seen.stdout.contains(title) && seen.stdout.contains("@@@@"),
            "{}",
            seen.stdout
        );
    }
    Ok(())
}

/// It was sleeping in read() when hello came.
fn a_call_that_spans_the_start() -> Check {
    for options in [
        &["--latency"][..],
        &["--by=errno,syscall"],
        &["--latency", "--max-cpu=10000"],
    ] {
        let waiting = Waiting::start(&["calls", "101", "0", "0"])?;
        let pid = waiting.pid();
        let mut command = hello(&["--mode", "syscount", "-o", "json", "-p", &pid]);
        let mut running = Running::start(command.args(options))?;
        running.attached()?;
        waiting.go()?;
        let seen = running.finish()?;
        let ledger = seen.ledger()?;
        ensure!(ledger.raw["unmatched"] == 1, "{ledger:?}");
        let rows = seen.of_type("count")?;
        ensure!(
            rows.iter().all(|row| row["syscall"] != "read"),
            "its beginning was not seen: {rows:?}"
        );
        let row = row(&rows, "getppid")?;
        ensure!(count(row) == 101, "{rows:?}");
    }
    Ok(())
}

/// It sleeps in pause() when hello goes.
fn a_call_in_flight_at_the_end() -> Check {
    for option in ["--latency", "--by=errno,syscall"] {
        let mut waiting = Waiting::start(&["pause"])?;
        let pid = waiting.pid();
        let mut running = Running::start(&mut hello(&[
            "--mode", "syscount", "-o", "json", option, "-p", &pid,
        ]))?;
        running.attached()?;
        if let Some(stdin) = &mut waiting.0.stdin {
            stdin
                .write_all(b"go\n")
                .map_err(|error| error.to_string())?;
        }
        std::thread::sleep(std::time::Duration::from_millis(500));
        running.signal(Signal::SIGTERM);
        let seen = running.finish();
        let _ = kill(Pid::from_raw(waiting.0.id().cast_signed()), Signal::SIGKILL);
        let _ = waiting.0.wait();
        let seen = seen?;
        let rows = seen.of_type("count")?;
        let pause = row(&rows, "pause")?;
        ensure!(
            count(pause) == 1 && pause["in_flight"] == 1 && pause["errors"] == 0,
            "{pause}"
        );
        if option == "--latency" {
            ensure!(
                pause["mean_ns"].is_null() && pause["max_ns"].is_null(),
                "it has no time: {pause}"
            );
        }
        let sum: u64 = rows.iter().map(count).sum();
        ensure!(seen.ledger()?.printed == sum, "{}", seen.stdout);
    }
    Ok(())
}

/// Numbers of tables and, of a call, the sum of a field in each.
fn sums(rows: &[Value], syscall: &str, field: &str) -> BTreeMap<u64, u64> {
    let mut sums = BTreeMap::new();
    for row in rows.iter().filter(|row| row["syscall"] == syscall) {
        *sums.entry(row["table"].as_u64().unwrap_or(0)).or_default() +=
            row[field].as_u64().unwrap_or(0);
    }
    sums
}

/// Bursts of 101 calls, 50 ms apart: several tables' worth where a table of an emulated
/// kernel takes half a second.
fn paced() -> (u64, String) {
    let bursts = scaled(41, 11);
    (bursts * 101, bursts.to_string())
}

fn tables_of_intervals() -> Check {
    let (all, bursts) = paced();
    let cases: &[&[&str]] = &[
        &["--by", "syscall"],
        &["--latency"],
        &["--latency", "--by", "syscall,pid"],
        &["--by", "syscall,errno"],
        &["--histogram", "getppid"],
    ];
    for case in cases {
        let mut options = vec!["-i", "120ms"];
        options.extend(*case);
        let seen = run(&options, &["paced", &bursts, "101"])?;
        let rows = seen.of_type("count")?;
        let counts = sums(&rows, "getppid", "count");
        ensure!(counts.len() as u64 > scaled(1, 2), "{case:?}: {counts:?}");
        ensure!(counts.values().sum::<u64>() == all, "{case:?}: {counts:?}");
        let printed: u64 = rows.iter().map(count).sum();
        ensure!(
            seen.ledger()?.printed == printed,
            "{case:?}: {}",
            seen.stdout
        );
        if *case == ["--by", "syscall"] {
            ensure!(rows.iter().all(|row| count(row) > 0), "nothing is no row");
        }
        let spreads: u64 = seen.of_type("histogram")?.iter().map(count).sum();
        if case[0] == "--histogram" {
            ensure!(spreads == all, "{spreads}");
        }
        if *case == ["--latency"] {
            for row in rows.iter().filter(|row| row["syscall"] == "nanosleep") {
                // One that began in one interval and returned in the next has its time there.
                if let (Some(max), Some(mean)) = (row["max_ns"].as_u64(), row["mean_ns"].as_u64()) {
                    ensure!(max >= mean, "{row}");
                    ensure!(mean > 40_000_000, "{row}");
                }
            }
        }
    }
    Ok(())
}

fn cumulative_tables() -> Check {
    let (all, bursts) = paced();
    for case in ["--by=syscall", "--latency"] {
        let options = ["-i", "120ms", "--cumulative", case];
        let seen = run(&options, &["paced", &bursts, "101"])?;
        let rows = seen.of_type("count")?;
        let counts = sums(&rows, "getppid", "count");
        ensure!(counts.len() as u64 > scaled(1, 2), "{counts:?}");
        ensure!(counts.values().is_sorted(), "{counts:?}");
        ensure!(counts.values().last() == Some(&all), "{counts:?}");
        let last = rows.last().map(|row| row["table"].clone());
        let of_last = rows
            .iter()
            .filter(|row| Some(&row["table"]) == last.as_ref());
        ensure!(
            seen.ledger()?.printed == of_last.map(count).sum::<u64>(),
            "the last table is the account: {}",
            seen.stdout
        );
    }
    Ok(())
}

/// Count, times and histogram, while many processes go on with long and short calls.
fn all_of_a_row_is_of_the_same_calls() -> Check {
    let cases: &[&[&str]] = &[
        &["--latency"],
        &["--latency", "--by", "pid"],
        &["--latency", "--by", "pid,errno"],
        &["--histogram", "nanosleep"],
        &["--histogram", "nanosleep", "--by", "pid"],
        &["--histogram", "nanosleep", "--by", "pid", "--cumulative"],
    ];
    let [first, step] = [scaled(1, 0), scaled(3, 1)].map(|cases| cases as usize);
    let processes = scaled(41, 101);
    let all = processes * 37 * (1 + MIX_SHORT);
    for case in cases.iter().skip(first).step_by(step) {
        let mut options = vec!["-i", "100ms", "--syscalls", "nanosleep"];
        options.extend(*case);
        let seen = run(&options, &["mix", &processes.to_string(), "37"])?;
        let rows = seen.of_type("count")?;
        let tables = rows.last().map_or(Ok(0), |row| num(row, "table"))?;
        ensure!(tables > scaled(1, 2), "{case:?}: {tables}");
        let skipped = seen.ledger()?.nested;
        if skipped > 0 {
            // Where exits are skipped nobody knows what they would have been of.
            let of_last = |row: &&Value| num(row, "table") == Ok(tables);
            let told: u64 = match case.contains(&"--cumulative") {
                true => rows.iter().filter(of_last).map(count).sum(),
                false => rows.iter().map(count).sum(),
            };
            ensure!(told <= all && all - told <= skipped, "{case:?}: {told}");
            continue;
        }
        let returned = returned(&rows, case.contains(&"--cumulative"))?;
        let spreads = seen.of_type("histogram")?;
        let spreads: BTreeMap<_, _> = spreads.iter().map(|spread| (id(spread), spread)).collect();
        for row in &rows {
            let here = returned[&id(row)];
            all_of_it(row, here, spreads.get(&id(row)).copied())
                .map_err(|why| format!("{case:?}: {why}"))?;
            let has_histogram = case[0] == "--histogram" && here > 0;
            ensure!(
                spreads.contains_key(&id(row)) == has_histogram,
                "{case:?}: {row}"
            );
        }
        let sum: u64 = match case.contains(&"--cumulative") {
            true => returned.range((tables, 0)..).map(|(_, here)| here).sum(),
            false => returned.values().sum(),
        };
        ensure!(sum == all, "{case:?}: {sum}, not {all}");
    }
    Ok(())
}

/// Table and process of a row or of its histogram.
fn id(row: &Value) -> (u64, u64) {
    let of = |field: &str| row[field].as_u64().unwrap_or(0);
    (of("table"), of("pid"))
}

/// How many calls have returned: those that had been in flight, and those that began, but
/// those that are in flight.
fn returned(rows: &[Value], is_total: bool) -> Result<BTreeMap<(u64, u64), u64>, String> {
    let mut open = BTreeMap::new();
    let mut all = BTreeMap::new();
    for row in rows {
        let now = num(row, "in_flight")?;
        let before = open.insert(id(row).1, now).filter(|_| !is_total);
        let here = (count(row) + before.unwrap_or(0)).checked_sub(now);
        let here = here.ok_or_else(|| format!("more in flight than there are: {row}"))?;
        ensure!(all.insert(id(row), here).is_none(), "twice: {row}");
    }
    Ok(all)
}

fn all_of_it(row: &Value, returned: u64, spread: Option<&Value>) -> Check {
    let total = num(row, "total_ns")?;
    if returned == 0 {
        ensure!(
            total == 0 && row["max_ns"].is_null() && row["p50_ns"].is_null(),
            "none has returned: {row}"
        );
        return Ok(());
    }
    let (mean, max) = (num(row, "mean_ns")?, num(row, "max_ns")?);
    ensure!(total / returned == mean, "of {returned}: {row}");
    ensure!(mean <= max && max <= total, "{row}");
    let (p50, p99) = (num(row, "p50_ns")?, num(row, "p99_ns")?);
    ensure!(p50 <= p99 && p99 <= max, "{row}");
    if let Some(spread) = spread {
        ensure!(count(spread) == returned, "of {returned}: {spread}");
        let buckets = spread["buckets"].as_array().ok_or("no buckets")?;
        ensure!(
            buckets.iter().map(count).sum::<u64>() == returned,
            "of {returned}: {spread}"
        );
        let last = buckets.last().ok_or("no bucket")?;
        let (from, to) = (num(last, "from_ns")?, num(last, "to_ns")?);
        ensure!((from..to).contains(&max), "{row} {last}");
        let (mut low, mut high) = (0, 0);
        for bucket in buckets {
            low += num(bucket, "from_ns")? * count(bucket);
            high += (num(bucket, "to_ns")? - 1) * count(bucket);
        }
        ensure!((low..=high).contains(&total), "{row} {spread}");
    }
    Ok(())
}

fn a_full_map_loses_to_the_unit() -> Check {
    let cases: &[&[&str]] = &[
        &["--mode", "syscount"],
        &["--mode", "syscount", "--latency"],
        &["--mode", "map", "--attach", "raw_tp"],
    ];
    for case in cases {
        let mut options = vec!["-o", "json", "--strict", "--max-entries", "101"];
        options.extend(*case);
        options.extend(["--by", "comm", "--syscalls", "getppid"]);
        let seen = see(&mut workload(&options, &["names", "211"]))?;
        let ledger = seen.ledger()?;
        ensure!(
            ledger.printed == 101 && ledger.lost == 110,
            "{case:?}: {ledger:?}"
        );
        ensure!(ledger.raw["lost"]["map_full"] == 110, "{ledger:?}");
        ensure!(ledger.raw["unmatched"] == 0, "{case:?}: {ledger:?}");
        ensure!(
            seen.status == Some(3) && seen.stderr.contains("map full"),
            "{}",
            seen.stderr
        );
        ensure!(seen.of_type("count")?.len() == 101, "{}", seen.stdout);
    }
    // By error, room is only needed when the call returns; the first takes two rows.
    let options = [
        "--mode",
        "syscount",
        "-o",
        "json",
        "--max-entries",
        "100",
        "--by",
        "comm,errno",
        "--syscalls",
        "getppid",
    ];
    let seen = see(&mut workload(&options, &["names", "211"]))?;
    let ledger = seen.ledger()?;
    ensure!(
        ledger.printed == 50 && ledger.raw["lost"]["map_full"] == 161,
        "{ledger:?}"
    );
    Ok(())
}

fn the_table_of_strace() -> Check {
    let options = ["--mode", "syscount"];
    let seen = see(&mut workload(&options, &["errors", "1009", "0", "53", "0"]))?;
    let lines: Vec<_> = seen.stdout.lines().collect();
    let rule = "------ ----------- ----------- --------- --------- ----------------";
    ensure!(
        lines[0] == "% time     seconds  usecs/call     calls    errors syscall"
            && lines[1] == rule
            && lines[lines.len() - 2] == rule,
        "{}",
        seen.stdout
    );
    let rows = &lines[2..lines.len() - 2];
    let field = |line: &str, from: usize, to: usize| {
        line.get(from..to).unwrap_or_default().trim().to_owned()
    };
    let calls_of = |line: &str| (field(line, 31, 40), field(line, 41, 50));
    let find = |name: &str| {
        let mut of = rows.iter().filter(|line| line.get(51..) == Some(name));
        of.next().copied().unwrap_or_default()
    };
    let pair = |a: &str, b: &str| (a.to_owned(), b.to_owned());
    ensure!(calls_of(find("getppid")) == pair("1009", ""), "{rows:#?}");
    ensure!(calls_of(find("fchdir")) == pair("53", "53"), "{rows:#?}");
    ensure!(calls_of(find("exit_group")) == pair("1", ""), "{rows:#?}");
    let seconds = |line: &str| field(line, 7, 18).parse::<f64>().unwrap_or(-1.0);
    ensure!(
        rows.is_sorted_by(|a, b| seconds(a) >= seconds(b)),
        "{rows:#?}"
    );
    let total = lines[lines.len() - 1];
    let calls = |line: &str| field(line, 31, 40).parse::<u64>().unwrap_or(0);
    let all: u64 = rows.iter().map(|line| calls(line)).sum();
    ensure!(
        total.starts_with("100.00 ") && total.ends_with(" total") && calls(total) == all,
        "{total}"
    );
    ensure!(
        seen.stderr
            .ends_with(&format!("hello: {all} calls counted, 0 lost\n"))
            || seen
                .stderr
                .contains(&format!("hello: {all} calls counted, 0 lost, ")),
        "{}",
        seen.stderr
    );
    Ok(())
}

/// What they return nobody gets to see: it is no error.
fn calls_that_a_kill_cuts_off() -> Check {
    for options in [&[][..], &["--by", "syscall,errno"]] {
        let seen = run(options, &["killed", "23"])?;
        let mut rows = seen.of_type("count")?;
        rows.retain(|row| row["syscall"] == "pause");
        ensure!(
            rows.len() == 1 && count(&rows[0]) == 23 && rows[0]["errors"] == 0,
            "{options:?}: {rows:?}"
        );
    }
    Ok(())
}

fn pinned_times_go_on() -> Check {
    let dir = format!("/sys/fs/bpf/hello-test-times-{}", std::process::id());
    let round = |want: u64| -> Check {
        let options = ["--latency", "--pin", &dir, "--syscalls", "nanosleep"];
        let seen = run(&options, &["sleeps", "7", "10"])?;
        let rows = seen.of_type("count")?;
        ensure!(rows.len() == 1 && count(&rows[0]) == want, "{rows:?}");
        is_ten_millis(&rows[0])?;
        ensure!(seen.ledger()?.printed == 7, "{}", seen.stdout);
        Ok(())
    };
    let result = [7, 14, 21].into_iter().try_for_each(round);
    for entry in std::fs::read_dir(&dir).into_iter().flatten().flatten() {
        let _ = std::fs::remove_file(entry.path());
    }
    let _ = std::fs::remove_dir(&dir);
    result
}

/// Exits are watched only where somebody asks for what they tell.
fn each_pays_for_what_it_asks() -> Check {
    for (options, exits) in [
        (vec!["--by", "syscall"], false),
        (vec!["--by", "uid,comm"], false),
        (vec!["--top", "3"], false),
        (vec!["-x"], true),
        (vec!["--by", "errno"], true),
        (vec!["--latency"], true),
        (vec![], true),
    ] {
        let seen = run(&options, &["nothing"])?;
        ensure!(
            seen.stderr.contains("sys_exit") == exits,
            "{options:?}: {}",
            seen.stderr
        );
    }
    Ok(())
}

fn contradictions() -> Check {
    let table: &[(&[&str], &str)] = &[
        (&["--histogram", "raed"], "did you mean read"),
        (
            &["--histogram", "read", "--syscalls", "write"],
            "--syscalls leaves that call out",
        ),
        (
            &[
                "--histogram",
                "read",
                "--syscalls",
                "read,write",
                "--by",
                "pid",
            ],
            "add syscall to --by",
        ),
    ];
    for (options, part) in table {
        let mut all = vec!["--mode", "syscount"];
        all.extend(*options);
        let seen = see(&mut hello(&all))?;
        ensure!(
            seen.status == Some(2) && seen.stderr.contains(part),
            "{options:?}: {}",
            seen.stderr
        );
    }
    Ok(())
}
