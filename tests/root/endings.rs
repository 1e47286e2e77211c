// SPDX-License-Identifier: BSD-2-Clause
//! Every way a run can end: what the user sees, and that nothing stays behind.

use std::fs::File;
use std::io::Read as _;
use std::net::Shutdown;
use std::os::fd::AsRawFd as _;
use std::os::fd::OwnedFd;
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::net::UnixDatagram;
use std::process::Command;
use std::process::Stdio;
use std::time::Duration;
use std::time::Instant;

use nix::fcntl::FcntlArg;
use nix::fcntl::OFlag;
use nix::libc;
use nix::sys::signal::Signal;

use crate::run::Check;
use crate::run::Running;
use crate::run::Seen;
use crate::run::Test;
use crate::run::Waiting;
use crate::run::ensure;
use crate::run::hello;
use crate::run::hello_bin;
use crate::run::me;
use crate::run::nothing_is_left;
use crate::run::see;
use crate::run::stale_instances;
use crate::run::storm;
use crate::run::workload;

pub(crate) const TESTS: &[Test] = &[
    ("signals", signals),
    (
        "signal_while_the_trace_pipe_is_silent",
        signal_while_the_trace_pipe_is_silent,
    ),
    ("duration", duration),
    ("closed_pipe", closed_pipe),
    ("full_disk", full_disk),
    ("a_socket_that_takes_little", a_socket_that_takes_little),
    ("a_pipe_of_several_writers", a_pipe_of_several_writers),
    ("command_status", command_status),
    ("command_killed", command_killed),
    ("command_not_found", command_not_found),
    ("command_not_executable", command_not_executable),
    ("command_gets_the_signal", command_gets_the_signal),
    (
        "duration_before_the_command_ends",
        duration_before_the_command_ends,
    ),
    ("command_that_cannot_be_run", command_that_cannot_be_run),
    ("signal_after_the_duration", signal_after_the_duration),
    (
        "a_command_that_does_not_want_to_end",
        a_command_that_does_not_want_to_end,
    ),
    ("target_dies", target_dies),
    ("target_dies_during_start", target_dies_during_start),
    (
        "standard_error_is_full_or_closed",
        standard_error_is_full_or_closed,
    ),
    ("a_reader_that_has_stalled", a_reader_that_has_stalled),
    ("signals_at_once", signals_at_once),
    (
        "a_stalled_reader_and_a_command",
        a_stalled_reader_and_a_command,
    ),
    ("signals_ignored_on_purpose", signals_ignored_on_purpose),
    ("killed", killed),
];

fn signals() -> Check {
    for mode in ["buffer", "map", "file", "tail", "syscount", "trace"] {
        for signal in [Signal::SIGINT, Signal::SIGTERM, Signal::SIGHUP] {
            let mut running = Running::start(&mut hello(&[
                "--mode", mode, "-o", "json", "--uid", "65534",
            ]))?;
            running.attached()?;
            let asked = Instant::now();
            running.signal(signal);
            let seen = running.finish()?;
            ensure!(
                seen.status == Some(0),
                "{mode} {signal}: {:?} {}",
                seen.status,
                seen.stderr
            );
            ensure!(
                asked.elapsed() < Duration::from_secs(5),
                "{mode} {signal}: {:?}",
                asked.elapsed()
            );
            seen.ledger()?;
            ensure!(
                seen.stderr
                    .trim_end()
                    .lines()
                    .last()
                    .is_some_and(|line| line.contains(" lost")),
                "{}",
                seen.stderr
            );
        }
    }
    nothing_is_left()
}

fn signal_while_the_trace_pipe_is_silent() -> Check {
    let mut running = Running::start(&mut hello(&["--mode", "trace", "--uid", "65534"]))?;
    running.attached()?;
    std::thread::sleep(Duration::from_millis(300));
    running.signal(Signal::SIGINT);
    let seen = running.finish()?;
    ensure!(seen.status == Some(0) && seen.stdout.is_empty(), "{seen:?}");
    Ok(())
}

fn duration() -> Check {
    let start = Instant::now();
    let seen = see(&mut hello(&[
        "--mode", "buffer", "-d", "700ms", "--uid", "65534",
    ]))?;
    ensure!(seen.status == Some(0), "{}", seen.stderr);
    ensure!(
        start.elapsed() >= Duration::from_millis(700),
        "{:?}",
        start.elapsed()
    );
    nothing_is_left()
}

fn closed_pipe() -> Check {
    let mut running = Running::start(&mut workload(
        &["--mode", "tail", "-o", "json"],
        &["storm", &storm().0],
    ))?;
    let first = running.line();
    ensure!(first.starts_with("{\"type\":\"tail\""), "{first:?}");
    running.close_stdout();
    let seen = running.finish()?;
    ensure!(seen.status == Some(0), "{:?} {}", seen.status, seen.stderr);
    ensure!(seen.stderr.contains("not written"), "{}", seen.stderr);
    ensure!(!seen.stderr.contains("do not hold"), "{}", seen.stderr);
    ensure!(
        !seen.stderr.contains("Broken pipe"),
        "a closed pipe is no error: {}",
        seen.stderr
    );
    nothing_is_left()
}

/// A datagram holds less than a block of lines.
fn a_socket_that_takes_little() -> Check {
    let (ours, theirs) = UnixDatagram::pair().map_err(|error| error.to_string())?;
    let small: i32 = 8192;
    // SAFETY: the descriptor is open, the value an int of ours.
    let done = unsafe {
        libc::setsockopt(
            theirs.as_raw_fd(),
            libc::SOL_SOCKET,
            libc::SO_SNDBUF,
            (&raw const small).cast(),
            size_of_val(&small) as u32,
        )
    };
    ensure!(done == 0, "the socket is as large as it is");
    let end = ours.try_clone().map_err(|error| error.to_string())?;
    let reader = std::thread::spawn(move || {
        let (mut all, mut part) = (Vec::new(), [0; 65536]);
        while let Ok(size @ 1..) = ours.recv(&mut part) {
            all.extend_from_slice(&part[..size]);
        }
        String::from_utf8_lossy(&all).into_owned()
    });
    let options = ["--mode", "tail", "-o", "json", "--buffer-size", "16M"];
    let mut command = workload(&options, &["storm", "10007"]);
    let output = command
        .stdin(Stdio::null())
        .stdout(OwnedFd::from(theirs))
        .output();
    drop(command);
    // What was sent is still received.
    end.shutdown(Shutdown::Read)
        .map_err(|error| error.to_string())?;
    let output = output.map_err(|error| error.to_string())?;
    let seen = Seen {
        status: output.status.code(),
        stdout: reader.join().map_err(|_| "the reader panicked")?,
        stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
    };
    let ledger = seen.ledger()?;
    let written = seen.of_type("tail")?.len() as u64;
    ensure!(
        seen.status == Some(0) && written == ledger.printed && written + ledger.lost >= 10_007,
        "{written} {}",
        seen.stderr
    );
    Ok(())
}

/// Each takes the others' room, in a pipe that says so instead of blocking.
fn a_pipe_of_several_writers() -> Check {
    let (reader, writer) = nix::unistd::pipe().map_err(|error| error.to_string())?;
    let flags = FcntlArg::F_SETFL(OFlag::O_NONBLOCK);
    nix::fcntl::fcntl(&writer, flags).map_err(|error| error.to_string())?;
    let mut writers = Vec::new();
    for _ in 0..6 {
        let options = ["--mode", "tail", "-o", "json"];
        let out = writer.try_clone().map_err(|error| error.to_string())?;
        let mut command = workload(&options, &["storm", "4001"]);
        command.stdin(Stdio::null()).stdout(out);
        command.stderr(Stdio::piped());
        writers.push(command.spawn().map_err(|error| error.to_string())?);
    }
    drop(writer);
    let (mut reader, mut part, mut all) = (File::from(reader), [0; 4096], 0);
    while let Ok(size @ 1..) = reader.read(&mut part) {
        all += size;
        // Slower than they write.
        std::thread::sleep(Duration::from_millis(1));
    }
    for writer in writers {
        let output = writer.wait_with_output();
        let output = output.map_err(|error| error.to_string())?;
        let said = String::from_utf8_lossy(&output.stderr);
        ensure!(
            output.status.success() && !said.contains("not written"),
            "{said}"
        );
    }
    ensure!(all > 0, "nothing was written");
    Ok(())
}

fn full_disk() -> Check {
    for mode in ["tail", "syscount", "trace"] {
        let full = File::options()
            .write(true)
            .open("/dev/full")
            .map_err(|error| error.to_string())?;
        let mut command = workload(&["--mode", mode, "-o", "json"], &["execs", "101", "0"]);
        command.stdin(Stdio::null()).stdout(full);
        let seen = Running::start_as_is(&mut command)?.finish()?;
        ensure!(
            seen.status == Some(125),
            "{mode}: {:?} {}",
            seen.status,
            seen.stderr
        );
        ensure!(
            seen.stderr
                .contains("cannot write standard output: No space left on device"),
            "{mode}: {}",
            seen.stderr
        );
        ensure!(
            seen.stderr.contains("not written"),
            "{mode}: {}",
            seen.stderr
        );
        ensure!(
            !seen.stderr.contains("do not hold"),
            "{mode}: {}",
            seen.stderr
        );
    }
    let full = File::options()
        .write(true)
        .open("/dev/full")
        .map_err(|error| error.to_string())?;
    let mut command = hello(&["--mode", "syscount", "-i", "50ms"]);
    command.stdin(Stdio::null()).stdout(full);
    let seen = Running::start_as_is(&mut command)?.finish()?;
    ensure!(
        seen.status == Some(1),
        "without COMMAND: {:?} {}",
        seen.status,
        seen.stderr
    );
    nothing_is_left()
}

fn command_status() -> Check {
    for (code, want) in [("0", 0), ("7", 7), ("255", 255)] {
        let seen = see(&mut workload(&["--mode", "buffer"], &["exit", code]))?;
        ensure!(
            seen.status == Some(want),
            "{code}: {:?} {}",
            seen.status,
            seen.stderr
        );
    }
    Ok(())
}

fn command_killed() -> Check {
    for (signal, want) in [("9", 137), ("15", 143)] {
        let seen = see(&mut workload(&["--mode", "buffer"], &["signal", signal]))?;
        ensure!(seen.status == Some(want), "{signal}: {:?}", seen.status);
    }
    Ok(())
}

fn command_not_found() -> Check {
    for name in ["no-such-program", "/no/such/program"] {
        let seen = see(&mut hello(&["--mode", "buffer", "--", name]))?;
        ensure!(
            seen.status == Some(127),
            "{name}: {:?} {}",
            seen.status,
            seen.stderr
        );
        ensure!(seen.stderr.contains(name), "{}", seen.stderr);
    }
    Ok(())
}

fn command_not_executable() -> Check {
    for name in ["/etc/passwd", "/tmp"] {
        let seen = see(&mut hello(&["--mode", "buffer", "--", name]))?;
        ensure!(
            seen.status == Some(126),
            "{name}: {:?} {}",
            seen.status,
            seen.stderr
        );
        ensure!(seen.stderr.contains("Permission denied"), "{}", seen.stderr);
    }
    nothing_is_left()
}

fn command_gets_the_signal() -> Check {
    // SIGINT is the terminal's affair while COMMAND runs; SIGTERM is passed on.
    let mut running = Running::start(&mut hello(&["--mode", "buffer", "--", "sleep", "60"]))?;
    running.attached()?;
    std::thread::sleep(Duration::from_millis(200));
    running.signal(Signal::SIGINT);
    std::thread::sleep(Duration::from_millis(200));
    running.signal(Signal::SIGTERM);
    let seen = running.finish()?;
    ensure!(
        seen.status == Some(143),
        "{:?} {}",
        seen.status,
        seen.stderr
    );
    ensure!(seen.stderr.contains("0 lost"), "{}", seen.stderr);
    Ok(())
}

fn duration_before_the_command_ends() -> Check {
    let start = Instant::now();
    let seen = see(&mut hello(&[
        "--mode",
        "buffer",
        "-d",
        "200ms",
        "--",
        "sh",
        "-c",
        "sleep 1; exit 5",
    ]))?;
    ensure!(seen.status == Some(5), "{:?} {}", seen.status, seen.stderr);
    ensure!(
        start.elapsed() >= Duration::from_secs(1),
        "COMMAND is not cut short"
    );
    ensure!(
        seen.stderr.contains(" goes on, and hello ends with it"),
        "{}",
        seen.stderr
    );
    Ok(())
}

/// Tracing is over, COMMAND is not: SIGTERM to hello still reaches it.
fn signal_after_the_duration() -> Check {
    let options = ["--mode", "buffer", "-d", "100ms", "--", "sleep", "60"];
    let mut running = Running::start(&mut hello(&options))?;
    running.attached()?;
    std::thread::sleep(Duration::from_secs(1));
    running.signal(Signal::SIGTERM);
    let seen = running.finish()?;
    ensure!(
        seen.status == Some(143),
        "{:?} {}",
        seen.status,
        seen.stderr
    );
    Ok(())
}

/// hello on a COMMAND that ignores SIGTERM, and does so already.
fn run_deaf() -> Result<Running, String> {
    let script = "trap '' TERM; echo deaf; sleep 3";
    let mut running = Running::start(&mut hello(&[
        "--mode", "syscount", "--", "sh", "-c", script,
    ]))?;
    ensure!(running.line() == "deaf\n", "the command runs");
    Ok(running)
}

/// What is said of a COMMAND comes from anywhere, and may not drive a terminal.
fn command_that_cannot_be_run() -> Check {
    let script = std::env::temp_dir().join(format!("hello-script-{}", std::process::id()));
    std::fs::write(&script, "#!/no/such/interpreter\n").map_err(|error| error.to_string())?;
    let _ = std::fs::set_permissions(&script, std::fs::Permissions::from_mode(0o755));
    let path = script.to_string_lossy().into_owned();
    let table = [
        (path.as_str(), "the interpreter that it names is not there"),
        ("/bin/echo a", "name and arguments are words of their own"),
        (
            "\u{1b}[31mred\nhello: 23 events, 0 lost",
            "[31mred\\nhello: 23 events, 0 lost\": command not found",
        ),
    ];
    let result = table.iter().try_for_each(|(name, what)| {
        let seen = see(&mut hello(&["--mode", "buffer", "--", name]))?;
        ensure!(
            seen.status == Some(127)
                && seen.stderr.contains(what)
                && !seen.stderr.contains('\u{1b}'),
            "{seen:?}"
        );
        Ok(())
    });
    let _ = std::fs::remove_file(&script);
    result
}

/// Deaf to SIGTERM: the second one ends hello without it.
fn a_command_that_does_not_want_to_end() -> Check {
    let mut running = run_deaf()?;
    running.signal(Signal::SIGTERM);
    std::thread::sleep(Duration::from_millis(300));
    running.signal(Signal::SIGTERM);
    ensure!(
        running.ends_within(Duration::from_secs(2)),
        "hello waits for a command that is deaf"
    );
    let seen = running.finish()?;
    ensure!(
        seen.status == Some(125),
        "{:?} {}",
        seen.status,
        seen.stderr
    );
    ensure!(
        seen.stderr.contains(r#""sh" goes on without hello"#),
        "{}",
        seen.stderr
    );
    ensure!(seen.stderr.contains("0 lost"), "{}", seen.stderr);
    Ok(())
}

fn target_dies() -> Check {
    let mut target = Waiting::start(&["nothing"])?;
    let mut running = Running::start(&mut hello(&[
        "--mode",
        "syscount",
        "-o",
        "json",
        "--pid",
        &target.pid(),
    ]))?;
    running.attached()?;
    let _ = target.0.kill();
    let _ = target.0.wait();
    let seen = running.finish()?;
    ensure!(seen.status == Some(0), "{}", seen.stderr);
    seen.ledger()?;
    Ok(())
}

/// Whoever is dead when all is attached ends the run as well.
fn target_dies_during_start() -> Check {
    for _ in 0..3 {
        // A zombie: ended, not waited for, its number still its own.
        let mut target = Command::new(me())
            .args(["workload", "nothing"])
            .spawn()
            .map_err(|error| error.to_string())?;
        std::thread::sleep(Duration::from_millis(300));
        let seen = see(&mut hello(&[
            "--mode",
            "syscount",
            "-o",
            "json",
            "--pid",
            &target.id().to_string(),
        ]));
        let _ = target.wait();
        let seen = seen?;
        ensure!(seen.status == Some(0), "{:?} {}", seen.status, seen.stderr);
        seen.ledger()?;
    }
    Ok(())
}

/// Nowhere to say things is no reason to stop.
fn standard_error_is_full_or_closed() -> Check {
    let run = |stderr: &str| -> Result<(Option<i32>, String), String> {
        let script =
            format!("\"$HELLO\" --mode buffer -o json -- \"$TESTS\" workload exit 7 {stderr}");
        let mut command = Command::new("sh");
        command
            .args(["-c", &script])
            .env("HELLO", hello_bin())
            .env("TESTS", me());
        let output = command.output().map_err(|error| error.to_string())?;
        Ok((
            output.status.code(),
            String::from_utf8_lossy(&output.stdout).into_owned(),
        ))
    };
    for stderr in ["2>/dev/full", "2>&-"] {
        let (status, stdout) = run(stderr)?;
        ensure!(status == Some(7), "{stderr}: {status:?}");
        ensure!(stdout.contains("\"type\":\"ledger\""), "{stderr}: {stdout}");
    }
    Ok(())
}

/// The second signal ends hello although its output is stuck.
fn a_reader_that_has_stalled() -> Check {
    let mut running = Running::start(&mut workload(
        &["--mode", "tail", "-o", "json"],
        &["storm", &storm().0],
    ))?;
    running.attached()?;
    std::thread::sleep(Duration::from_millis(500));
    running.signal(Signal::SIGTERM);
    std::thread::sleep(Duration::from_millis(200));
    running.signal(Signal::SIGTERM);
    ensure!(
        running.ends_within(Duration::from_secs(20)),
        "hello waits for a reader that does not read"
    );
    let seen = running.finish()?;
    ensure!(
        seen.stderr.contains("its reader has stalled"),
        "{}",
        seen.stderr
    );
    ensure!(!seen.stderr.contains("do not hold"), "{}", seen.stderr);
    Ok(())
}

/// Two signals are two, even if hello sees them together.
fn signals_at_once() -> Check {
    let mut running = run_deaf()?;
    for signal in [
        Signal::SIGSTOP,
        Signal::SIGTERM,
        Signal::SIGHUP,
        Signal::SIGCONT,
    ] {
        running.signal(signal);
    }
    ensure!(
        running.ends_within(Duration::from_secs(2)),
        "hello waits for a command that is deaf"
    );
    let seen = running.finish()?;
    ensure!(
        seen.status == Some(125),
        "{:?} {}",
        seen.status,
        seen.stderr
    );
    Ok(())
}

/// Although hello is stuck, COMMAND hears of the signal.
fn a_stalled_reader_and_a_command() -> Check {
    let script = "trap 'echo GOT-TERM >&2; exit 9' TERM; \"$TESTS\" workload storm \"$STORM\"; while :; do sleep 0.1; done";
    let mut command = hello(&["--mode", "tail", "--", "sh", "-c", script]);
    command.env("TESTS", me()).env("STORM", storm().0);
    let mut running = Running::start(&mut command)?;
    running.attached()?;
    std::thread::sleep(Duration::from_secs(2));
    running.signal(Signal::SIGTERM);
    std::thread::sleep(Duration::from_millis(300));
    running.signal(Signal::SIGTERM);
    ensure!(
        running.ends_within(Duration::from_secs(20)),
        "hello waits for a reader that does not read"
    );
    let seen = running.finish()?;
    ensure!(
        seen.stderr.contains("GOT-TERM"),
        "{:?} {}",
        seen.status,
        seen.stderr
    );
    ensure!(
        seen.stderr.contains("its reader has stalled"),
        "{}",
        seen.stderr
    );
    Ok(())
}

/// nohup and background jobs.
fn signals_ignored_on_purpose() -> Check {
    let script = "trap '' HUP INT; exec \"$HELLO\" --mode syscount -o json --uid 65534";
    let mut command = Command::new("sh");
    command.args(["-c", script]).env("HELLO", hello_bin());
    let mut running = Running::start(&mut command)?;
    running.attached()?;
    running.signal(Signal::SIGHUP);
    running.signal(Signal::SIGINT);
    std::thread::sleep(Duration::from_millis(500));
    ensure!(
        !running.ends_within(Duration::ZERO),
        "ended by a signal that was ignored"
    );
    running.signal(Signal::SIGTERM);
    let seen = running.finish()?;
    ensure!(seen.status == Some(0), "{:?} {}", seen.status, seen.stderr);
    Ok(())
}

/// SIGKILL leaves no time to clean up: the kernel does, and the next `trace` removes
/// the instance.
fn killed() -> Check {
    let mut running = Running::start(&mut hello(&["--mode", "trace", "--uid", "65534"]))?;
    running.attached()?;
    running.signal(Signal::SIGKILL);
    running.finish()?;
    nothing_is_left()?;
    see(&mut workload(&["--mode", "trace"], &["nothing"]))?;
    ensure!(stale_instances().is_empty(), "{:?}", stale_instances());
    Ok(())
}
