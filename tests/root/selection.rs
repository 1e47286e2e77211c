// SPDX-License-Identifier: BSD-2-Clause
//! Who is traced, and who is not.

use std::fs;
use std::path::PathBuf;
use std::process::Command;
use std::process::Stdio;

use crate::matrix::count;
use crate::matrix::text;
use crate::run::Check;
use crate::run::Running;
use crate::run::Seen;
use crate::run::Test;
use crate::run::Waiting;
use crate::run::ensure;
use crate::run::hello;
use crate::run::see;
use crate::run::workload;
use crate::workload::TREE;

pub(crate) const TESTS: &[Test] = &[
    ("command_from_its_own_exec", command_from_its_own_exec),
    ("command_prepares_unseen", command_prepares_unseen),
    ("command_with_all_descendants", command_with_all_descendants),
    ("pid_alone", pid_alone),
    ("pid_and_its_descendants", pid_and_its_descendants),
    ("several_pids", several_pids),
    ("uid", uid),
    ("comm", comm),
    ("cgroup", cgroup),
    ("in_a_pid_namespace", in_a_pid_namespace),
    ("hello_is_not_shown", hello_is_not_shown),
    (
        "sudo_gives_the_command_its_user_back",
        sudo_gives_the_command_its_user_back,
    ),
];

const COUNT: &[&str] = &[
    "--mode",
    "syscount",
    "-o",
    "json",
    "--syscalls",
    "getppid",
    "--by",
    "uid",
];

fn total(seen: &Seen) -> Result<u64, String> {
    Ok(seen.of_type("count")?.iter().map(count).sum())
}

/// Starts hello on a waiting process, lets that go, returns what was seen. hello
/// ends by itself when the process has.
fn on_waiting(options: &[&str], words: &[&str]) -> Result<Seen, String> {
    let target = Waiting::start(words)?;
    let pid = target.pid();
    let mut all = COUNT.to_vec();
    all.extend(["--pid", &pid]);
    all.extend(options);
    let mut running = Running::start(&mut hello(&all))?;
    running.attached()?;
    target.go()?;
    running.finish()
}

fn command_from_its_own_exec() -> Check {
    let seen = see(&mut workload(
        &["--mode", "syscount", "-o", "json", "--by", "comm,syscall"],
        &["nothing"],
    ))?;
    let rows = seen.of_type("count")?;
    let as_hello: Vec<_> = rows.iter().filter(|row| row["comm"] == "hello").collect();
    // The one call under hello's name is the exec that ends it.
    ensure!(
        as_hello.len() == 1 && count(as_hello[0]) == 1,
        "{as_hello:?}"
    );
    ensure!(as_hello[0]["syscall"] == "execve", "{as_hello:?}");
    Ok(())
}

/// Its preparation is none of its calls, even where it hardly gets a CPU.
fn command_prepares_unseen() -> Check {
    let script =
        "exec \"$HELLO\" --mode syscount -o json --by syscall,comm -- \"$TESTS\" workload nothing";
    for _ in 0..5 {
        let mut command = Command::new("nice");
        command.args(["-n", "-20", "taskset", "-c", "0", "sh", "-c", script]);
        if std::env::var_os("HELLO_VM").is_some() {
            command = Command::new("sh"); // busybox may have neither
            command.args(["-c", script]);
        }
        command
            .env("HELLO", crate::run::hello_bin())
            .env("TESTS", crate::run::me());
        command.env("SUDO_UID", "65534").env("SUDO_GID", "65534");
        let seen = see(&mut command)?;
        let rows = seen.of_type("count")?;
        let own: Vec<_> = rows.iter().filter(|row| row["comm"] == "hello").collect();
        ensure!(
            own.len() == 1 && own[0]["syscall"] == "execve" && count(own[0]) == 1,
            "{own:?}"
        );
    }
    Ok(())
}

fn command_with_all_descendants() -> Check {
    let seen = see(&mut workload(COUNT, &["tree", "101"]))?;
    ensure!(seen.status == Some(0), "{}", seen.stderr);
    ensure!(
        total(&seen)? == 101 * TREE,
        "{} of {}; {}",
        total(&seen)?,
        101 * TREE,
        seen.stderr
    );
    Ok(())
}

fn pid_alone() -> Check {
    let seen = on_waiting(&[], &["calls", "503", "0", "0"])?;
    ensure!(
        seen.status == Some(0) && total(&seen)? == 503,
        "{} {}",
        seen.stdout,
        seen.stderr
    );
    // Its children are none of ours: all but the first process and its thread.
    let seen = on_waiting(&[], &["tree", "101"])?;
    ensure!(total(&seen)? == 2 * 101, "{} {}", seen.stdout, seen.stderr);
    Ok(())
}

fn pid_and_its_descendants() -> Check {
    let seen = on_waiting(&["--follow"], &["tree", "101"])?;
    ensure!(
        total(&seen)? == TREE * 101,
        "{} {}",
        seen.stdout,
        seen.stderr
    );
    Ok(())
}

fn several_pids() -> Check {
    let (one, two) = (
        Waiting::start(&["calls", "211", "0", "0"])?,
        Waiting::start(&["calls", "307", "0", "0"])?,
    );
    let other = Waiting::start(&["calls", "401", "0", "0"])?;
    let pids = format!("{},{}", one.pid(), two.pid());
    let mut running = Running::start(hello(COUNT).args(["--pid", &pids]))?;
    running.attached()?;
    other.go()?;
    one.go()?;
    two.go()?;
    let seen = running.finish()?;
    ensure!(
        total(&seen)? == 211 + 307,
        "{} {}",
        seen.stdout,
        seen.stderr
    );
    Ok(())
}

fn uid() -> Check {
    for (user, want) in [
        ("nobody", 53),
        ("65534", 53),
        ("root", 101),
        ("nobody,root", 154),
    ] {
        let mut options = COUNT.to_vec();
        options.extend(["--uid", user]);
        let seen = see(&mut workload(&options, &["users", "101", "53"]))?;
        ensure!(
            total(&seen)? == want,
            "{user}: {} {}",
            seen.stdout,
            seen.stderr
        );
        ensure!(
            seen.ledger()?.filtered >= 154 - want,
            "{user}: {}",
            seen.stdout
        );
    }
    Ok(())
}

fn comm() -> Check {
    for (name, filter, want) in [
        ("fifteen-letters", "fifteen-letters", 11),
        ("a b", "a b,other", 13),
        ("a", "b", 0),
    ] {
        let mut options = COUNT.to_vec();
        options.extend(["--comm", filter]);
        let seen = see(&mut workload(
            &options,
            &["rename", name, &want.max(7).to_string()],
        ))?;
        ensure!(
            total(&seen)? == want,
            "{name} by {filter}: {} {}",
            seen.stdout,
            seen.stderr
        );
    }
    Ok(())
}

/// A control group of its own, removed at the end.
struct Group(PathBuf);

impl Group {
    fn new(name: &str) -> Result<Self, String> {
        let mounts =
            fs::read_to_string("/proc/self/mountinfo").map_err(|error| error.to_string())?;
        let root = hello::enrich::cgroups::mount_point(&mounts).ok_or("no cgroup2 here")?;
        let folder = root.join(name);
        fs::create_dir(&folder).map_err(|error| format!("{}: {error}", folder.display()))?;
        Ok(Self(folder))
    }

    fn take(&self, pid: &str) -> Check {
        fs::write(self.0.join("cgroup.procs"), pid).map_err(|error| error.to_string())
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        let _ = fs::remove_dir(&self.0);
    }
}

fn cgroup() -> Check {
    let name = format!("hello-test-{}", std::process::id());
    let outer = Group::new(&name)?;
    let inner = Group::new(&format!("{name}/below"))?;
    let full_path = outer.0.display().to_string();
    for path in [format!("/{name}"), name.clone(), full_path] {
        let (inside, below) = (
            Waiting::start(&["calls", "101", "0", "0"])?,
            Waiting::start(&["calls", "53", "0", "0"])?,
        );
        let outside = Waiting::start(&["calls", "307", "0", "0"])?;
        outer.take(&inside.pid())?;
        inner.take(&below.pid())?;
        let options = [
            "--mode",
            "syscount",
            "-o",
            "json",
            "--syscalls",
            "getppid",
            "--by",
            "cgroup",
            "--cgroup",
            &path,
        ];
        let mut running = Running::start(&mut hello(&options))?;
        running.attached()?;
        outside.go()?;
        inside.go()?;
        below.go()?;
        running.signal(nix::sys::signal::Signal::SIGTERM);
        let seen = running.finish()?;
        let rows = seen.of_type("count")?;
        let last = rows.iter().filter_map(|row| row["table"].as_u64()).max();
        let mut got: Vec<_> = rows
            .iter()
            .filter(|row| row["table"].as_u64() == last)
            .map(|row| (text(row, "cgroup"), count(row)))
            .collect();
        got.sort();
        let want = [(format!("/{name}"), 101), (format!("/{name}/below"), 53)];
        ensure!(got == want, "{path}: {got:?} {}", seen.stderr);
    }
    Ok(())
}

/// In a container process ids are not the kernel's own.
fn in_a_pid_namespace() -> Check {
    let inside = |script: &str| -> Result<Seen, String> {
        let mut command = Command::new("unshare");
        command.args(["-p", "-f", "--mount-proc", "sh", "-c", script]);
        command
            .env("HELLO", crate::run::hello_bin())
            .env("TESTS", crate::run::me());
        see(&mut command)
    };
    let hello = "exec \"$HELLO\" --mode syscount -o json --syscalls getppid --by uid";
    let seen = inside(&format!("{hello} -- \"$TESTS\" workload tree 101"))?;
    ensure!(
        total(&seen)? == 101 * TREE,
        "COMMAND: {} {}",
        seen.stdout,
        seen.stderr
    );
    let target = "(sleep 3; exec \"$TESTS\" workload calls 503 0 0) &";
    let seen = inside(&format!("{target} {hello} --pid $!"))?;
    ensure!(
        total(&seen)? == 503,
        "--pid: {} {}",
        seen.stdout,
        seen.stderr
    );
    // hello itself: were it counted, its own reads of the clock and polls would show.
    let seen = inside("exec \"$HELLO\" --mode syscount -o json --by comm -i 50ms -d 500ms")?;
    let rows = seen.of_type("count")?;
    ensure!(rows.iter().all(|row| row["comm"] != "hello"), "{rows:?}");
    Ok(())
}

fn hello_is_not_shown() -> Check {
    // Its writes would be its own events for ever.
    let mut running = Running::start(&mut hello(&[
        "--mode", "syscount", "-o", "json", "--by", "pid", "-i", "50ms", "-d", "1",
    ]))?;
    running.attached()?;
    let pid = running.pid().as_raw();
    let seen = running.finish()?;
    let rows = seen.of_type("count")?;
    ensure!(
        rows.iter().all(|row| row["pid"] != pid),
        "hello counts itself: {rows:?}"
    );
    ensure!(
        seen.ledger()?.filtered > 0,
        "hello's own calls are filtered, not unseen: {}",
        seen.stdout
    );

    // Unless asked for: a shell execs into hello, so its pid is known beforehand.
    let script = "exec \"$HELLO\" --mode syscount -o json --by pid -i 50ms -d 500ms --pid $$";
    let output = Command::new("sh")
        .args(["-c", script])
        .env("HELLO", crate::run::hello_bin())
        .stdin(Stdio::null())
        .output()
        .map_err(|error| error.to_string())?;
    let seen = Seen::of(output);
    ensure!(
        total(&seen)? > 0,
        "asked for, it is shown: {} {}",
        seen.stdout,
        seen.stderr
    );
    Ok(())
}

fn sudo_gives_the_command_its_user_back() -> Check {
    let mut command = hello(&["--mode", "buffer", "-o", "json", "--", "/bin/sh", "-c"]);
    command.arg("id -u; id -g; echo $HOME; exit 9");
    command.envs([
        ("SUDO_UID", "65534"),
        ("SUDO_GID", "65534"),
        ("SUDO_USER", "nobody"),
        ("HOME", "/root"),
    ]);
    let seen = see(&mut command)?;
    ensure!(seen.status == Some(9), "{:?} {}", seen.status, seen.stderr);
    let home = fs::read_to_string("/etc/passwd")
        .unwrap_or_default()
        .lines()
        .find(|line| line.starts_with("nobody:"))
        .and_then(|line| line.split(':').nth(5).map(str::to_owned))
        .unwrap_or_default();
    let lines: Vec<_> = seen
        .stderr
        .lines()
        .filter(|line| !line.starts_with("hello: "))
        .collect();
    ensure!(lines == ["65534", "65534", &home], "{lines:?}");
    let json: Vec<_> = seen.stdout.lines().collect();
    let first: serde_json::Value =
        serde_json::from_str(json[0]).map_err(|error| error.to_string())?;
    ensure!(first["uid"] == 65534, "its exec is the user's: {first}");
    Ok(())
}
