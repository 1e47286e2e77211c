// SPDX-License-Identifier: BSD-2-Clause
//! file: every way to open, told truthfully.

use std::env;
use std::fs;

use serde_json::Value;

use crate::matrix;
use crate::paths;
use crate::paths::Expected;
use crate::run::Check;
use crate::run::Seen;
use crate::run::Test;
use crate::run::ensure;
use crate::run::scaled;
use crate::run::see;
use crate::run::workload;

pub(crate) const TESTS: &[Test] = &[
    ("every_way_to_open", every_way_to_open),
    ("by_io_uring", by_io_uring),
    ("deep_paths", deep_paths),
    ("longest_path", longest_path),
    ("cells", cells),
    ("failed_only", failed_only),
    ("below_a_path", below_a_path),
    ("below_a_link", below_a_link),
    ("untidy_paths", untidy_paths),
    ("paths_without_a_beginning", paths_without_a_beginning),
    ("interrupted", interrupted),
    ("latency", latency),
];

/// The hooks that this kernel has.
fn hooks() -> Vec<&'static str> {
    ["fentry", "kprobe", "raw_tp", "tracepoint"]
        .into_iter()
        .filter(|hook| matrix::why_not(hook).is_none())
        .collect()
}

/// The one that `auto` takes, for what all of them share.
fn first_hook() -> Vec<&'static str> {
    hooks().into_iter().take(1).collect()
}

/// A folder of the test's own, as the kernel names it. The workload fills it.
fn folder() -> Result<String, String> {
    let base = env::temp_dir();
    let folder = base.join(format!("hello-paths-{}", std::process::id()));
    let mount = folder.join("m");
    let _ = nix::mount::umount2(&mount, nix::mount::MntFlags::MNT_DETACH);
    let _ = fs::remove_dir_all(&folder);
    fs::create_dir_all(&folder).map_err(|error| error.to_string())?;
    let folder = fs::canonicalize(&folder).map_err(|error| error.to_string())?;
    Ok(folder.display().to_string())
}

fn run(hook: &str, options: &[&str], words: &[&str]) -> Result<Seen, String> {
    let mut all = vec!["--mode", "file", "-o", "json", "--attach", hook];
    all.extend(options);
    see(&mut workload(&all, words))
}

/// The opens between the two that mark begin and end.
fn between(seen: &Seen) -> Result<Vec<Value>, String> {
    let events = seen.of_type("open")?;
    let at = |name: &str| {
        let found = events.iter().position(|event| event["path_given"] == name);
        found.ok_or_else(|| format!("no open of {name}: {} {}", seen.stdout, seen.stderr))
    };
    Ok(events[at(paths::BEGIN)? + 1..at(paths::END)?].to_vec())
}

fn compare(hook: &str, folder: &str, events: &[Value], expected: &[Expected]) -> Check {
    let text = |value: &Value| value.as_str().map(str::to_owned);
    for (event, want) in events.iter().zip(expected) {
        let with_folder = |text: Option<&str>| text.map(|text| text.replacen('@', folder, 1));
        let result = text(&event["errno"]).unwrap_or_else(|| "ok".into());
        let flags: Vec<&str> = ["deleted", "unreachable", "truncated"]
            .into_iter()
            .filter(|flag| event[flag] == true)
            .collect();
        let seen = (
            text(&event["via"]),
            text(&event["abi"]),
            result,
            text(&event["path_given"]),
            text(&event["path"]),
            flags.join(" "),
        );
        let wanted = (
            Some(want.via.to_owned()),
            Some(want.abi.to_owned()),
            want.result.to_owned(),
            with_folder(want.given),
            with_folder(want.path),
            want.flags.to_owned(),
        );
        ensure!(seen == wanted, "{hook}: {seen:?}, not {wanted:?}");
        let asked = (text(&event["flags"]), event["mode"].as_u64());
        ensure!(
            asked == (Some(want.asked.0.to_owned()), Some(want.asked.1)),
            "{hook}: {event}"
        );
        let has_descriptor = want.result == "ok" && want.via != "name_to_handle_at";
        if has_descriptor && (want.via != "io_uring") {
            ensure!(event["ret"].as_i64() >= Some(0), "{hook}: {event}");
        }
    }
    ensure!(
        events.len() == expected.len(),
        "{hook}: {} events, not {}: {events:#?}",
        events.len(),
        expected.len()
    );
    Ok(())
}

fn every_way_to_open() -> Check {
    for hook in hooks() {
        let folder = folder()?;
        let seen = run(hook, &[], &["paths", &folder])?;
        compare(hook, &folder, &between(&seen)?, paths::EXPECTED)?;
        let ledger = seen.ledger()?;
        ensure!(ledger.lost == 0, "{hook}: {}", ledger.raw);
        ensure!(ledger.raw["unreadable"] == 2, "{hook}: {}", ledger.raw);
    }
    Ok(())
}

fn by_io_uring() -> Check {
    for hook in hooks() {
        let folder = folder()?;
        let seen = run(hook, &[], &["ring", &folder])?;
        if seen.status == Some(95) {
            println!("file::by_io_uring: not run, this kernel has no io_uring");
            return Ok(());
        }
        let events = between(&seen)?;
        let is_told = match hook {
            "tracepoint" => false,
            "raw_tp" => matrix::kernel_version() >= (6, 3) && matrix::kernel_version() < (7, 0),
            // Its workers are threads of the process since 5.12, and in 5.10.162.
            _ => true,
        };
        let expected = if is_told { paths::BY_RING } else { &[] };
        compare(hook, &folder, &events, expected)?;
        ensure!(seen.ledger()?.lost == 0, "{hook}: {}", seen.stdout);
    }
    Ok(())
}

fn deep_paths() -> Check {
    for hook in first_hook() {
        for (name, names) in [("d", scaled(211, 1009)), ("x".repeat(199).as_str(), 19)] {
            let folder = folder()?;
            let seen = run(hook, &[], &["deep", &folder, name, &names.to_string()])?;
            let whole = format!(
                "{folder}{}",
                format!("/{name}").repeat(usize::try_from(names).unwrap_or(0))
            );
            let is_told = |given: &str, path: String| -> Result<bool, String> {
                let events = seen.of_type("open")?;
                let of = events
                    .iter()
                    .find(|e| e["path_given"] == given && e["via"] == "openat");
                Ok(of.is_some_and(|event| event["path"] == path && event["truncated"] == false))
            };
            ensure!(
                is_told("f", format!("{whole}/f"))?,
                "{hook}: {}",
                seen.stdout
            );
            let nope = format!("{whole}/nope");
            ensure!(is_told(&nope, nope.clone())?, "{hook}: {}", seen.stdout);
        }
    }
    Ok(())
}

/// 4095 bytes are the most that a path can have (PATH_MAX with its end).
fn longest_path() -> Check {
    let path = |bytes: usize| format!("{}hello-longest", "/".repeat(bytes - 13));
    let [longest, too_long] = [path(4095), path(4096)];
    for hook in hooks() {
        let seen = run(hook, &[], &["tries", &longest, &too_long])?;
        let mut events = seen.of_type("open")?;
        events.retain(|event| {
            let given = event["path_given"].as_str().unwrap_or_default();
            given.starts_with("//")
        });
        let [fits, does_not] = events.as_slice() else {
            return Err(format!("{hook}: {} {}", seen.stdout, seen.stderr));
        };
        ensure!(
            fits["path_given"] == longest && fits["truncated"] == false,
            "{hook}: {fits}"
        );
        ensure!(
            fits["errno"] == "ENOENT" && fits["path"] == "/hello-longest",
            "{hook}: {fits}"
        );
        ensure!(
            does_not["errno"] == "ENAMETOOLONG" && does_not["truncated"] == true,
            "{hook}: {does_not}"
        );
        ensure!(
            seen.ledger()?.raw["truncated"] == 1,
            "{hook}: {}",
            seen.stderr
        );
    }
    Ok(())
}

/// What text has in its columns.
fn cells() -> Check {
    let folder = folder()?;
    let names = "DIRFD,MODE,ABI,VIA,RESULT,LATENCY,GIVEN,PATH";
    let options = ["--mode", "file", "--latency", "--columns", names];
    let seen = see(&mut workload(&options, &["paths", &folder]))?;
    let lines: Vec<&str> = seen.stdout.lines().collect();
    let at = |name: &str| lines.iter().position(|line| line.contains(name));
    let (begin, end) = at(paths::BEGIN).zip(at(paths::END)).ok_or("no marks")?;
    let rows = &lines[begin + 1..end];
    ensure!(rows.len() == paths::EXPECTED.len(), "{}", seen.stdout);
    for (row, want) in rows.iter().zip(paths::EXPECTED) {
        let cells: Vec<&str> = row.split_whitespace().collect();
        let [dirfd, mode, abi, via, result, time, given] = cells[..7] else {
            return Err(format!("too few cells: {row}"));
        };
        let text = |text: Option<&str>| match text {
            Some(text) => format!("\"{}\"", text.replacen('@', &folder, 1)),
            None => "?".into(),
        };
        let path = match want.flags {
            "deleted" => format!("{} (deleted)", text(want.path)),
            "unreachable" => format!("(unreachable) {}", text(want.path)),
            _ => text(want.path),
        };
        ensure!(
            abi == want.abi && via == want.via && given == text(want.given),
            "{row}: not {want:?}"
        );
        ensure!(row.ends_with(&format!(" {path}")), "{row}: not {path}");
        let is_number = |text: &str| text.parse::<u32>().is_ok();
        ensure!(
            match want.result {
                "ok" => is_number(result) || want.via == "name_to_handle_at" && result == "ok",
                error => result == error,
            },
            "{row}: not {want:?}"
        );
        let modes = [format!("0{:o}", want.asked.1), "-".into()];
        // Where none is given none is told, nor where it could not be read.
        let at = usize::from(want.asked.1 == 0);
        ensure!(mode == modes[at], "{row}: not {want:?}");
        ensure!(dirfd == "-" || is_number(dirfd), "{row}");
        let unit = time.trim_start_matches(|c: char| c.is_ascii_digit() || c == '.');
        ensure!(
            ["ns", "us", "ms", "s"].contains(&unit) && time != unit,
            "{row}: {time}"
        );
    }
    // From a folder that is not the working directory: five, and one that is none.
    let of_a_folder = rows.iter().filter(|row| !row.trim_start().starts_with('-'));
    ensure!(of_a_folder.count() == 6, "{}", seen.stdout);
    Ok(())
}

fn failed_only() -> Check {
    for hook in first_hook() {
        let folder = folder()?;
        let seen = run(hook, &["--failed"], &["paths", &folder])?;
        let events = between(&seen)?;
        let failed = paths::EXPECTED.iter().filter(|want| want.result != "ok");
        ensure!(events.len() == failed.count(), "{hook}: {events:#?}");
        ensure!(
            events.iter().all(|event| !event["errno"].is_null()),
            "{hook}: {events:#?}"
        );
        seen.ledger()?;
    }
    Ok(())
}

fn below_a_path() -> Check {
    for hook in first_hook() {
        let folder = folder()?;
        let below = format!("{folder}/d/");
        let seen = run(hook, &["--path", &below], &["paths", &folder])?;
        let paths = |seen: &Seen| -> Result<Vec<String>, String> {
            let events = seen.of_type("open")?;
            Ok(events
                .iter()
                .filter_map(|event| Some(event["path"].as_str()?.replacen(&folder, "@", 1)))
                .collect())
        };
        let wanted = [
            "@/d",
            "@/d/nope",
            "@/d/../nope",
            "@/d/nope",
            "@/d",
            "@/d/nope",
        ];
        ensure!(paths(&seen)? == wanted, "{hook}: {:?}", paths(&seen)?);
        seen.ledger()?;
        // Without the folder d, and without /proc and what lies there.
        let options = ["--path", &folder, "--exclude-path", &below];
        let _ = self::folder()?;
        let seen = run(hook, &options, &["paths", &folder])?;
        let paths = paths(&seen)?;
        ensure!(
            paths.iter().any(|path| path == "@/a")
                && paths
                    .iter()
                    .all(|path| path.starts_with('@') && !path.starts_with("@/d")),
            "{hook}: {paths:?}"
        );
    }
    Ok(())
}

fn paths_of(seen: &Seen) -> Result<Vec<String>, String> {
    let events = seen.of_type("open")?;
    let path = |event: &Value| event["path"].as_str().map(str::to_owned);
    Ok(events.iter().filter_map(path).collect())
}

/// What is asked for leads over a link, and is not there before COMMAND makes it.
fn below_a_link() -> Check {
    for hook in first_hook() {
        let folder = folder()?;
        let there = |name: &str| format!("{folder}/{name}");
        fs::create_dir(there("real")).map_err(|error| error.to_string())?;
        std::os::unix::fs::symlink("real", there("link")).map_err(|error| error.to_string())?;
        let seen = run(
            hook,
            &["--path", &there("link/later")],
            &["makes", &there("link/later")],
        )?;
        ensure!(
            paths_of(&seen)? == [there("real/later")],
            "{hook}: {} {}",
            seen.stdout,
            seen.stderr
        );
        seen.ledger()?;
    }
    Ok(())
}

/// Paths as given that are longer than all that --path can name.
fn untidy_paths() -> Check {
    let slashes = "/".repeat(601);
    let untidy = [
        format!("{slashes}hello-untidy/a"),
        format!("/hello-untidy/{}b", "./".repeat(307)),
        format!("{slashes}hello-tidy/c"),
    ];
    let mut words = vec!["tries"];
    words.extend(untidy.iter().map(String::as_str));
    for hook in first_hook() {
        let seen = run(hook, &["--path", "/hello-untidy"], &words)?;
        let paths = paths_of(&seen)?;
        ensure!(
            paths == ["/hello-untidy/a", "/hello-untidy/b"],
            "{hook}: {paths:?}"
        );
        let ledger = seen.ledger()?;
        ensure!(ledger.printed == 2 && ledger.surplus == 1, "{}", ledger.raw);
        let seen = run(hook, &["-x", "--exclude-path", "/hello-untidy"], &words)?;
        let mut paths = paths_of(&seen)?;
        paths.retain(|path| path.starts_with("/hello"));
        ensure!(paths == ["/hello-tidy/c"], "{hook}: {paths:?}");
        seen.ledger()?;
    }
    Ok(())
}

/// Where the beginning of a path is missing nobody knows what it lies below: it is told.
fn paths_without_a_beginning() -> Check {
    let name = "x".repeat(199);
    let middle = format!("/{name}");
    for hook in first_hook() {
        for options in [["--path", "/hello-nowhere"], ["--exclude-path", &middle]] {
            let folder = folder()?;
            let seen = run(hook, &options, &["deep", &folder, &name, "23"])?;
            let events = seen.of_type("open")?;
            let of = events.iter().find(|event| event["path_given"] == "f");
            ensure!(
                of.is_some_and(|event| event["truncated"] == true),
                "{hook} {options:?}: {events:?}"
            );
            seen.ledger()?;
        }
    }
    Ok(())
}

/// An open that signals interrupt and the kernel makes again is one open.
fn interrupted() -> Check {
    for hook in hooks() {
        let folder = folder()?;
        let seen = run(hook, &[], &["fifo", &folder])?;
        let mut events = seen.of_type("open")?;
        events.retain(|event| event["path_given"] == "fifo");
        ensure!(
            events.len() == 2 && events.iter().all(|event| event["errno"].is_null()),
            "{hook}: {events:?}"
        );
        seen.ledger()?;
    }
    Ok(())
}

fn latency() -> Check {
    for hook in hooks() {
        let seen = run(hook, &["--latency"], &["open", "/etc/passwd"])?;
        for event in seen.of_type("open")? {
            let time = event["latency_ns"].as_u64();
            // Less than the whole test takes, more than nothing.
            ensure!(
                time.is_some_and(|time| time > 100 && time < 60_000_000_000),
                "{hook}: {event}"
            );
        }
        ensure!(!seen.of_type("open")?.is_empty(), "{hook}: {}", seen.stderr);
    }
    Ok(())
}
