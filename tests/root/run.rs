// SPDX-License-Identifier: BSD-2-Clause
//! Runs hello and looks at what a user sees.

use std::env;
use std::fs;
use std::io::BufRead as _;
use std::io::BufReader;
use std::io::Read as _;
use std::io::Write as _;
use std::path::Path;
use std::path::PathBuf;
use std::process::Child;
use std::process::ChildStderr;
use std::process::Command;
use std::process::Output;
use std::process::Stdio;
use std::sync::OnceLock;
use std::time::Duration;
use std::time::Instant;

use nix::sys::signal::Signal;
use nix::sys::signal::kill;
use nix::unistd::Pid;
use serde_json::Value;

/// What a test returns: nothing, or what was not as it should be.
pub(crate) type Check = Result<(), String>;

/// A test's name, and the test.
pub(crate) type Test = (&'static str, fn() -> Check);

/// Fails a test with a message unless the condition holds.
macro_rules! ensure {
    ($condition:expr, $($message:tt)+) => {
        if !$condition {
            return Err(format!($($message)+));
        }
    };
}
pub(crate) use ensure;

/// The binary under test: from the environment in a VM, else the one just built.
pub(crate) fn hello_bin() -> PathBuf {
    env::var_os("HELLO_BIN")
        .map_or_else(|| PathBuf::from(env!("CARGO_BIN_EXE_hello")), PathBuf::from)
}

/// This binary, which is the workload too. Asked before the mounts are changed:
/// where the root is not that of its file system the path is another after.
pub(crate) fn me() -> String {
    static ME: OnceLock<String> = OnceLock::new();
    let path = || env::current_exe().map(|path| path.display().to_string());
    ME.get_or_init(|| path().unwrap_or_else(|_| "/proc/self/exe".into()))
        .clone()
}

/// A command for hello, with what tests need: no leftovers of sudo.
pub(crate) fn hello(options: &[&str]) -> Command {
    let mut command = Command::new(hello_bin());
    command
        .args(options)
        .env_remove("SUDO_UID")
        .env_remove("SUDO_GID")
        .env_remove("SUDO_USER");
    command
}

/// `-- hello-tests workload …`.
pub(crate) fn workload(options: &[&str], words: &[&str]) -> Command {
    let mut command = hello(options);
    command.args(["--", &me(), "workload"]).args(words);
    command
}

/// What came out.
#[derive(Debug)]
pub(crate) struct Seen {
    pub(crate) status: Option<i32>,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

impl Seen {
    pub(crate) fn of(output: Output) -> Self {
        Self {
            status: output.status.code(),
            stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
            stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
        }
    }

    /// All JSON objects on standard output; nothing else may be there.
    pub(crate) fn objects(&self) -> Result<Vec<Value>, String> {
        self.stdout
            .lines()
            .map(|line| serde_json::from_str(line).map_err(|error| format!("{error}: {line:?}")))
            .collect()
    }

    /// The events or rows of a type.
    pub(crate) fn of_type(&self, kind: &str) -> Result<Vec<Value>, String> {
        Ok(self
            .objects()?
            .into_iter()
            .filter(|object| object["type"] == kind)
            .collect())
    }

    /// The last line, after checking that it is the ledger and that its sums hold.
    pub(crate) fn ledger(&self) -> Result<Ledger, String> {
        let objects = self.objects()?;
        let last = objects
            .last()
            .ok_or_else(|| format!("no output; {}", self.stderr))?;
        ensure!(
            last["type"] == "ledger",
            "the last line is no ledger: {last}"
        );
        let get = |name: &str| {
            last[name]
                .as_u64()
                .ok_or_else(|| format!("no {name} in {last}"))
        };
        let lost = last["lost"]["total"].as_u64().ok_or("no lost.total")?;
        let (seen, filtered, emitted) = (get("seen")?, get("filtered")?, get("emitted")?);
        let (received, printed) = (get("received")?, get("printed")?);
        let rest = get("surplus")? + get("write_errors")?;
        ensure!(
            seen == filtered + emitted + lost,
            "seen = filtered + emitted + lost: {last}"
        );
        ensure!(emitted == received, "emitted = received: {last}");
        ensure!(received == printed + rest, "received = printed + …: {last}");
        Ok(Ledger {
            filtered,
            printed,
            lost,
            surplus: get("surplus")?,
            nested: last["lost"]["nested"].as_u64().ok_or("no lost.nested")?,
            raw: last.clone(),
        })
    }
}

/// What a test needs of the ledger; the sums have been checked.
#[derive(Debug)]
pub(crate) struct Ledger {
    pub(crate) filtered: u64,
    pub(crate) printed: u64,
    pub(crate) lost: u64,
    pub(crate) surplus: u64,
    /// Runs of programs that the kernel has skipped. Newer kernels do so now and then, and
    /// nobody knows whether such a run would have concerned the workload.
    pub(crate) nested: u64,
    pub(crate) raw: Value,
}

/// An emulated CPU takes its time: a number of events for it, and one for a real one.
pub(crate) fn scaled(emulated: u64, real: u64) -> u64 {
    if env::var_os("HELLO_VM").is_some() {
        emulated
    } else {
        real
    }
}

/// A number of events large enough for a storm.
pub(crate) fn storm() -> (String, u64) {
    let events = scaled(10_007, 100_003);
    (events.to_string(), events)
}

/// Runs to the end, within a minute and a half.
pub(crate) fn see(command: &mut Command) -> Result<Seen, String> {
    Running::start(command)?.finish()
}

/// hello while it runs.
pub(crate) struct Running {
    child: Child,
    stderr: BufReader<ChildStderr>,
    said: String,
}

impl Running {
    pub(crate) fn start(command: &mut Command) -> Result<Self, String> {
        command
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        Self::start_as_is(command)
    }

    /// With standard output as the command has it.
    pub(crate) fn start_as_is(command: &mut Command) -> Result<Self, String> {
        let mut child = command
            .stderr(Stdio::piped())
            .spawn()
            .map_err(|error| error.to_string())?;
        let stderr = BufReader::new(child.stderr.take().ok_or("no stderr")?);
        Ok(Self {
            child,
            stderr,
            said: String::new(),
        })
    }

    /// Waits for the line that says that all is attached.
    pub(crate) fn attached(&mut self) -> Check {
        loop {
            let mut line = String::new();
            let read = self
                .stderr
                .read_line(&mut line)
                .map_err(|error| error.to_string())?;
            self.said.push_str(&line);
            ensure!(
                read > 0,
                "hello ended before it was attached: {}",
                self.said
            );
            if line.contains(", Linux ") {
                return Ok(());
            }
        }
    }

    pub(crate) fn pid(&self) -> Pid {
        Pid::from_raw(self.child.id().cast_signed())
    }

    pub(crate) fn ends_within(&mut self, time: Duration) -> bool {
        let until = Instant::now() + time;
        loop {
            if self.child.try_wait().is_ok_and(|status| status.is_some()) {
                return true;
            }
            if Instant::now() >= until {
                return false;
            }
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    pub(crate) fn signal(&self, signal: Signal) {
        let _ = kill(self.pid(), signal);
    }

    pub(crate) fn close_stdout(&mut self) {
        self.child.stdout = None;
    }

    /// Reads a line of standard output.
    pub(crate) fn line(&mut self) -> String {
        let mut line = Vec::new();
        let mut byte = [0];
        if let Some(stdout) = &mut self.child.stdout {
            while stdout.read(&mut byte).is_ok_and(|count| count == 1) {
                line.push(byte[0]);
                if byte[0] == b'\n' {
                    break;
                }
            }
        }
        String::from_utf8_lossy(&line).into_owned()
    }

    /// Waits for its end. One that does not end is a failure, and is killed.
    pub(crate) fn finish(mut self) -> Result<Seen, String> {
        let pid = self.pid();
        let (done, wait) = std::sync::mpsc::channel::<()>();
        let watch = std::thread::spawn(move || {
            let late = wait.recv_timeout(Duration::from_secs(90)).is_err();
            if late {
                let _ = kill(pid, Signal::SIGKILL);
            }
            late
        });
        let mut stdout = Vec::new();
        let reader = self.child.stdout.take().map(|mut out| {
            std::thread::spawn(move || {
                let mut bytes = Vec::new();
                let _ = out.read_to_end(&mut bytes);
                bytes
            })
        });
        let _ = self.stderr.read_to_string(&mut self.said);
        if let Some(reader) = reader {
            stdout = reader.join().unwrap_or_default();
        }
        let status = self.child.wait().map_err(|error| error.to_string())?;
        let _ = done.send(());
        ensure!(
            !watch.join().unwrap_or(true),
            "hello did not end within 90 s: {}",
            self.said
        );
        let stderr = self.said.into_bytes();
        Ok(Seen::of(Output {
            status,
            stdout,
            stderr,
        }))
    }
}

/// A workload that waits for a word, for tests of `--pid`.
pub(crate) struct Waiting(pub(crate) Child);

impl Waiting {
    pub(crate) fn start(words: &[&str]) -> Result<Self, String> {
        let mut child = Command::new(me())
            .args(["workload", "wait"])
            .args(words)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .map_err(|error| error.to_string())?;
        // It has said "ready" and sleeps in read() by the time hello is attached.
        let mut ready = [0; 6];
        let out = child.stdout.as_mut().ok_or("no stdout")?;
        out.read_exact(&mut ready)
            .map_err(|error| error.to_string())?;
        Ok(Self(child))
    }

    pub(crate) fn pid(&self) -> String {
        self.0.id().to_string()
    }

    /// Lets it go on and waits for its end.
    pub(crate) fn go(mut self) -> Check {
        let mut stdin = self.0.stdin.take().ok_or("no stdin")?;
        stdin
            .write_all(b"go\n")
            .map_err(|error| error.to_string())?;
        self.0.wait().map_err(|error| error.to_string())?;
        Ok(())
    }
}

/// Are there BPF programs of hello's in the kernel that no process holds any more?
/// They go a moment after hello. Others may run a hello at the same time.
pub(crate) fn nothing_is_left() -> Check {
    let until = Instant::now() + Duration::from_secs(10);
    loop {
        let ours: Vec<(u32, String)> = libbpf_rs::query::ProgInfoIter::default()
            .map(|program| (program.id, program.name.to_string_lossy().into_owned()))
            .filter(|(_, name)| {
                [
                    "trace_",
                    "map_",
                    "buffer_",
                    "file_",
                    "exec_",
                    "tail_",
                    "syscount_",
                    "hello_",
                ]
                .iter()
                .any(|mode| name.starts_with(mode))
            })
            .collect();
        let held = if ours.is_empty() {
            Vec::new()
        } else {
            held_programs()
        };
        let left: Vec<_> = ours.iter().filter(|(id, _)| !held.contains(id)).collect();
        if left.is_empty() {
            return Ok(());
        }
        ensure!(
            Instant::now() < until,
            "programs are still loaded: {left:?}"
        );
        std::thread::sleep(Duration::from_millis(50));
    }
}

/// Ids of the programs that some process has a descriptor of.
fn held_programs() -> Vec<u32> {
    let mut held = Vec::new();
    for process in fs::read_dir("/proc").into_iter().flatten().flatten() {
        for fd in fs::read_dir(process.path().join("fdinfo"))
            .into_iter()
            .flatten()
            .flatten()
        {
            let info = fs::read_to_string(fd.path()).unwrap_or_default();
            let ids = info
                .lines()
                .filter_map(|line| line.strip_prefix("prog_id:"));
            held.extend(ids.filter_map(|id| id.trim().parse::<u32>().ok()));
        }
    }
    held
}

/// Trace instances that a hello has left behind: those of no living process.
pub(crate) fn stale_instances() -> Vec<String> {
    fs::read_dir("/sys/kernel/tracing/instances")
        .into_iter()
        .flatten()
        .flatten()
        .map(|entry| entry.file_name().to_string_lossy().into_owned())
        .filter(|name| {
            name.strip_prefix("hello-")
                .is_some_and(|pid| !Path::new("/proc").join(pid).exists())
        })
        .collect()
}
