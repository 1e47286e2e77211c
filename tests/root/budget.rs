// SPDX-License-Identifier: BSD-2-Clause
//! `--max-cpu`: over the budget hello looks less closely, says so, and its estimates are
//! as good as it says.

use std::time::Duration;
use std::time::Instant;

use serde_json::Value;

use crate::run::Check;
use crate::run::Seen;
use crate::run::Test;
use crate::run::ensure;
use crate::run::hello;
use crate::run::me;
use crate::run::see;

pub(crate) const TESTS: &[Test] = &[
    ("samples_and_returns", samples_and_returns),
    ("rare_calls", rare_calls),
    ("first_without_times", first_without_times),
    ("within_it_all_is_exact", within_it_all_is_exact),
];

/// How many calls of getppid a process makes in about so long, untraced.
fn calls_in(time: Duration) -> Result<u64, String> {
    const TRIAL: u64 = 100_003;
    let began = Instant::now();
    let mut command = std::process::Command::new(me());
    let status = command
        .args(["workload", "storm", &TRIAL.to_string()])
        .status();
    ensure!(
        status.is_ok_and(|status| status.success()),
        "the workload fails"
    );
    let nanos = began.elapsed().as_nanos().max(1);
    u64::try_from(u128::from(TRIAL) * time.as_nanos() / nanos).map_err(|error| error.to_string())
}

/// Traces a storm of so many calls, and a rest after it.
fn storm(options: &[&str], calls: u64, rest: u32) -> Result<Seen, String> {
    let mut command = hello(&["--mode", "syscount", "--syscalls", "getppid", "-o", "json"]);
    let script = format!("\"$TESTS\" workload storm {calls}; sleep {rest}");
    command.args(options).env("TESTS", me());
    see(command.args(["--", "sh", "-c", &script]))
}

/// The row of the native getppid; the shell's own call is within any margin.
fn row(seen: &Seen) -> Result<Value, String> {
    let rows = seen.of_type("count")?;
    let row = rows.iter().find(|row| row["syscall"] == "getppid");
    row.cloned().ok_or_else(|| format!("{rows:?}"))
}

/// Two margins are four standard deviations: off by more in one of 16,000 runs.
fn is_near(row: &Value, calls: u64) -> Check {
    let number = |name: &str| row[name].as_u64().ok_or_else(|| format!("{name}: {row}"));
    let (count, margin) = (number("count")?, number("margin")?);
    ensure!(
        count.abs_diff(calls) <= 2 * margin + 2,
        "{calls} calls: {row}"
    );
    Ok(())
}

fn samples_and_returns() -> Check {
    let calls = calls_in(Duration::from_secs(3))?;
    let seen = storm(&["--max-cpu", "1"], calls, 10)?;
    ensure!(seen.status == Some(0), "{seen:?}");
    let row = row(&seen)?;
    ensure!(row["estimated"] == true, "{row}: {}", seen.stderr);
    is_near(&row, calls)?;
    let said = |words: &str| seen.stderr.find(words);
    let sampled = said("calls is counted, counts are estimates");
    let exact = said("all is counted, exactly");
    ensure!(
        sampled.is_some() && exact > sampled,
        "no way down or none back: {}",
        seen.stderr
    );
    ensure!(seen.stderr.contains("about "), "{}", seen.stderr);
    // All of a table in whose time calls were left out, also those that none was of.
    let rows = seen.of_type("count")?;
    ensure!(
        rows.iter()
            .all(|row| row["estimated"] == true && row["margin"].as_u64() > Some(0)),
        "{rows:?}"
    );
    let ledgers = seen.of_type("ledger")?;
    ensure!(
        ledgers.iter().all(|ledger| ledger["estimated"] == true),
        "{ledgers:?}"
    );
    Ok(())
}

/// Calls of which hardly one is taken, after many that are not selected: one that is taken
/// stands for up to 1024, and the first on each CPU is no likelier than others.
fn rare_calls() -> Check {
    let calls = calls_in(Duration::from_secs(2))?;
    let script = format!("\"$TESTS\" workload storm {calls}; exec \"$TESTS\" workload groups 7 0");
    let mut told = Vec::new();
    for _ in 0..3 {
        let mut command = hello(&["--mode", "syscount", "--syscalls", "getpgid", "-o", "json"]);
        command.args(["--max-cpu", "0.01"]).env("TESTS", me());
        let seen = see(command.args(["--", "sh", "-c", &script]))?;
        ensure!(
            seen.stderr.contains("counts are estimates"),
            "{}",
            seen.stderr
        );
        let rows = seen.of_type("count")?;
        let count = |row: &Value| row["count"].as_u64().unwrap_or(0);
        told.push(rows.iter().map(count).sum::<u64>());
    }
    // One of 64 or more is taken, so each run tells none in eight of nine cases.
    ensure!(told.contains(&0), "{told:?}");
    Ok(())
}

fn first_without_times() -> Check {
    let calls = calls_in(Duration::from_secs(3))?;
    let seen = storm(&["--max-cpu", "0.05", "--latency"], calls, 0)?;
    ensure!(seen.status == Some(0), "{seen:?}");
    let row = row(&seen)?;
    is_near(&row, calls)?;
    let said = |words: &str| seen.stderr.find(words);
    let untimed = said("all is counted, exactly, but not timed");
    ensure!(
        untimed.is_some() && said("counts are estimates") > untimed,
        "{}",
        seen.stderr
    );
    let number = |name: &str| row[name].as_u64().unwrap_or(0);
    ensure!(
        0 < number("timed") && number("timed") < number("count"),
        "{row}"
    );
    ensure!(
        number("total_ns") / number("timed") == number("mean_ns") && number("p50_ns") > 0,
        "{row}"
    );
    ensure!(row["in_flight"] == 0, "{row}");
    Ok(())
}

fn within_it_all_is_exact() -> Check {
    let seen = storm(&["--max-cpu", "10000"], 100_003, 0)?;
    let row = row(&seen)?;
    ensure!(
        row["count"].as_u64().is_some_and(|count| count >= 100_003)
            && row["estimated"] == false
            && row["margin"] == 0,
        "{row}"
    );
    ensure!(!seen.stderr.contains("--max-cpu"), "{}", seen.stderr);
    Ok(())
}
