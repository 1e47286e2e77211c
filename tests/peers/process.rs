// SPDX-License-Identifier: BSD-2-Clause
//! A tracer at work: started, listened to line by line, stopped by SIGINT, as a user
//! would from a terminal.

use std::collections::BTreeSet;
use std::io::BufRead as _;
use std::io::BufReader;
use std::io::Read;
use std::process::Child;
use std::process::Command;
use std::process::ExitStatus;
use std::process::Stdio;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::MutexGuard;
use std::sync::PoisonError;
use std::thread::JoinHandle;
use std::time::Duration;
use std::time::Instant;

use anyhow::Context as _;
use anyhow::Result;
use anyhow::bail;
use nix::sys::signal::Signal;
use nix::sys::signal::kill;
use nix::unistd::Pid;

/// After so long a tool is told again to end.
const AGAIN: Duration = Duration::from_secs(5);

/// What the calls of `mark` (ground.rs) have in their paths and arguments.
pub(crate) const MARK: &str = "hello-peers-mark-";

/// Makes something of a tracer's lines.
pub(crate) trait Listener: Send + 'static {
    /// One line of standard output, without its end.
    fn line(&mut self, line: &[u8]);
    /// One line of standard error.
    fn error(&mut self, _line: &str) {}
}

#[derive(Debug, Default)]
struct Common {
    marks: BTreeSet<String>,
    lines: u64,
    errors: String,
}

/// A running tracer, and who listens to it.
#[derive(Debug)]
pub(crate) struct Tool<L> {
    pub(crate) name: String,
    child: Child,
    common: Arc<Mutex<Common>>,
    listener: Arc<Mutex<L>>,
    readers: Vec<JoinHandle<()>>,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Calls `each` with every line, as bytes: names need not be UTF-8.
fn lines(source: impl Read, mut each: impl FnMut(&[u8])) {
    let mut source = BufReader::with_capacity(1 << 16, source);
    let mut line = Vec::new();
    while source
        .read_until(b'\n', &mut line)
        .is_ok_and(|read| read > 0)
    {
        each(line.strip_suffix(b"\n").unwrap_or(&line));
        line.clear();
    }
}

/// The marks in a line: `start-0`, `end-1`, …
fn marks_in(line: &[u8]) -> Option<String> {
    let at = line
        .windows(MARK.len())
        .position(|window| window == MARK.as_bytes())?;
    let label = line[at + MARK.len()..]
        .iter()
        .take_while(|byte| byte.is_ascii_alphanumeric() || **byte == b'-')
        .map(|byte| char::from(*byte));
    Some(label.collect())
}

impl<L: Listener> Tool<L> {
    pub(crate) fn start(name: &str, command: &mut Command, listener: L) -> Result<Self> {
        let mut child = command
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .with_context(|| format!("{name} cannot be started"))?;
        let common = Arc::new(Mutex::new(Common::default()));
        let listener = Arc::new(Mutex::new(listener));
        let mut readers = Vec::new();
        if let Some(stdout) = child.stdout.take() {
            let (common, listener) = (Arc::clone(&common), Arc::clone(&listener));
            readers.push(std::thread::spawn(move || {
                lines(stdout, |line| {
                    if let Some(mark) = marks_in(line) {
                        lock(&common).marks.insert(mark);
                    } else {
                        lock(&listener).line(line);
                    }
                    lock(&common).lines += 1;
                });
            }));
        }
        if let Some(stderr) = child.stderr.take() {
            let (common, listener) = (Arc::clone(&common), Arc::clone(&listener));
            readers.push(std::thread::spawn(move || {
                lines(stderr, |line| {
                    let line = String::from_utf8_lossy(line);
                    lock(&listener).error(&line);
                    let errors = &mut lock(&common).errors;
                    // A peer may complain for ever.
                    if errors.len() < 1 << 16 {
                        errors.push_str(&line);
                        errors.push('\n');
                    }
                });
            }));
        }
        Ok(Self {
            name: name.to_owned(),
            child,
            common,
            listener,
            readers,
        })
    }

    pub(crate) fn has_mark(&self, mark: &str) -> bool {
        lock(&self.common).marks.contains(mark)
    }

    /// Has it shown any mark whose label begins so?
    pub(crate) fn has_mark_like(&self, start: &str) -> bool {
        lock(&self.common)
            .marks
            .iter()
            .any(|mark| mark.starts_with(start))
    }

    pub(crate) fn has_spoken(&self) -> bool {
        lock(&self.common).lines > 0
    }

    pub(crate) fn said(&self, text: &str) -> bool {
        lock(&self.common).errors.contains(text)
    }

    pub(crate) fn errors(&self) -> String {
        lock(&self.common).errors.clone()
    }

    /// The last thing it complained about.
    pub(crate) fn complaint(&self) -> String {
        let common = lock(&self.common);
        let line = common
            .errors
            .lines()
            .rev()
            .find(|line| !line.trim().is_empty());
        line.unwrap_or("it said nothing")
            .chars()
            .take(120)
            .collect()
    }

    /// How it ended, if it has.
    pub(crate) fn ended(&mut self) -> Option<ExitStatus> {
        self.child.try_wait().ok().flatten()
    }

    pub(crate) fn wait(&mut self, time: Duration) -> Result<ExitStatus> {
        let until = Instant::now() + time;
        loop {
            if let Some(status) = self.ended() {
                return Ok(status);
            }
            if Instant::now() >= until {
                bail!("{} did not end within {} s", self.name, time.as_secs());
            }
            std::thread::sleep(Duration::from_millis(10));
        }
    }

    /// Ctrl-C, and what it says until its end. bpftrace 0.17 misses one that comes while it
    /// is handling events: so again after a while.
    pub(crate) fn stop(mut self, time: Duration) -> Result<(L, String)>
    where
        L: Default,
    {
        let begin = Instant::now();
        while self.ended().is_none() {
            if begin.elapsed() >= time {
                bail!("{} did not end within {} s", self.name, time.as_secs());
            }
            let _ = kill(Pid::from_raw(self.child.id().cast_signed()), Signal::SIGINT);
            let _ = self.wait(AGAIN);
        }
        for reader in self.readers.drain(..) {
            let _ = reader.join();
        }
        let listener = std::mem::take(&mut *lock(&self.listener));
        let errors = self.errors();
        Ok((listener, errors))
    }
}

impl<L> Drop for Tool<L> {
    /// No tracer outlives its test.
    fn drop(&mut self) {
        if self.child.try_wait().is_ok_and(|status| status.is_none()) {
            let _ = self.child.kill();
            let _ = self.child.wait();
        }
    }
}
