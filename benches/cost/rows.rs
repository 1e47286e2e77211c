// SPDX-License-Identifier: BSD-2-Clause
//! The rows: who traces, and which workloads.

use std::path::Path;
use std::path::PathBuf;

use crate::turn::By;
use crate::workload::Work;
use crate::workload::Work::Exec;
use crate::workload::Work::FailingOpen;
use crate::workload::Work::Getppid;
use crate::workload::Work::Mix;
use crate::workload::Work::Open;
use crate::workload::Work::RefusedOpen;

/// What a row's tracer is.
#[derive(Debug)]
pub(crate) enum Tracing {
    Nothing,
    /// Programs of floor.bpf.c.
    Floor(&'static [&'static str]),
    /// hello with these options.
    Hello(&'static [&'static str]),
    Peer(Peer),
}

/// Another tracer.
#[derive(Debug)]
pub(crate) struct Peer {
    pub(crate) program: &'static str,
    pub(crate) options: &'static [&'static str],
    pub(crate) ready: Ready,
    /// Stands in what it printed if it saw the workload.
    pub(crate) proof: &'static str,
}

/// What shows that a tracer is attached.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Ready {
    /// It says so on standard error.
    Says(&'static str),
    /// It holds links or perf events, and for a while no more of them.
    Holds,
}

/// Rows that do the same job are compared with each other.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Job {
    /// No peer's, and it shows no events.
    None,
    /// Shows events, but none that a peer shows.
    Events,
    Count,
    Latency,
    Opens,
    Execs,
}

#[derive(Debug)]
pub(crate) struct Row {
    pub(crate) name: &'static str,
    pub(crate) tracing: Tracing,
    pub(crate) works: &'static [Work],
    pub(crate) job: Job,
    /// The row that is its floor.
    pub(crate) floor: &'static str,
    /// How often in each round: more often hello, and what others are compared with.
    pub(crate) times: usize,
}

impl Row {
    /// Which figure of a turn is the row's. Whoever shows events has to read them, which
    /// lengthens some loops; who only counts in the kernel costs each call the same, but no
    /// exec is like another.
    pub(crate) fn by(&self, work: Work) -> By {
        match self.job {
            Job::Events | Job::Opens | Job::Execs => By::Mean,
            Job::None | Job::Count | Job::Latency if work == Work::Exec => By::Mean,
            Job::None | Job::Count | Job::Latency => By::Quarter,
        }
    }
}

pub(crate) const UNTRACED: &str = "untraced";
pub(crate) const ENTER: &str = "floor: enter";
pub(crate) const EXIT: &str = "floor: exit";
pub(crate) const BOTH: &str = "floor: enter, exit";
pub(crate) const CLOCK: &str = "floor: enter, exit, clock";
pub(crate) const PROCESS: &str = "floor: exec, exit of processes";

const fn floor(
    name: &'static str,
    programs: &'static [&'static str],
    works: &'static [Work],
) -> Row {
    Row {
        name,
        tracing: Tracing::Floor(programs),
        works,
        job: Job::None,
        floor: name,
        times: 3,
    }
}

const fn hello(
    name: &'static str,
    job: Job,
    floor: &'static str,
    works: &'static [Work],
    options: &'static [&'static str],
) -> Row {
    Row {
        name,
        tracing: Tracing::Hello(options),
        works,
        job,
        floor,
        times: 2,
    }
}

/// What differs more from turn to turn wants more of them, and so does what is so near to
/// its floor that a few nanoseconds decide.
const fn often(times: usize, row: Row) -> Row {
    Row { times, ..row }
}

const fn peer(
    name: &'static str,
    job: Job,
    floor: &'static str,
    works: &'static [Work],
    (program, options): (&'static str, &'static [&'static str]),
    proof: &'static str,
) -> Row {
    Row {
        name,
        tracing: Tracing::Peer(Peer {
            program,
            options,
            ready: Ready::Holds,
            proof,
        }),
        works,
        job,
        floor,
        times: 1,
    }
}

/// strace holds no tracepoint; it says when it has attached.
const fn saying(row: Row, said: &'static str) -> Row {
    let Tracing::Peer(peer) = row.tracing else {
        return row;
    };
    Row {
        tracing: Tracing::Peer(Peer {
            ready: Ready::Says(said),
            ..peer
        }),
        ..row
    }
}

/// All rows. In options `{uid}` is the user of the workloads, `{pids}` the processes of
/// the row's workloads, `{other}` a process that is none of them.
pub(crate) const ROWS: &[Row] = &[
    Row {
        name: UNTRACED,
        tracing: Tracing::Nothing,
        works: &Work::ALL,
        job: Job::None,
        floor: "",
        times: 8,
    },
    floor(ENTER, &["floor_enter"], &[Getppid, Mix]),
    floor(
        EXIT,
        &["floor_exit"],
        &[Getppid, RefusedOpen, Open, FailingOpen, Mix],
    ),
    floor(BOTH, &["floor_enter", "floor_exit"], &[Getppid, Open, Mix]),
    floor(
        CLOCK,
        &["floor_enter_clock", "floor_exit_clock"],
        &[Getppid, Mix],
    ),
    floor(
        PROCESS,
        &["floor_process_exec", "floor_process_exit"],
        &[Exec],
    ),
    often(
        4,
        hello(
            "hello syscount",
            Job::Count,
            ENTER,
            &[Getppid, Mix],
            &["--mode", "syscount"],
        ),
    ),
    hello(
        "hello syscount --by pid,syscall",
        Job::Count,
        ENTER,
        &[Getppid, Mix],
        &["--mode", "syscount", "--by", "pid,syscall"],
    ),
    hello(
        "hello syscount --by comm",
        Job::Count,
        ENTER,
        &[Getppid],
        &["--mode", "syscount", "--by", "comm"],
    ),
    often(
        4,
        hello(
            "hello syscount -p OTHER",
            Job::None,
            ENTER,
            &[Getppid, Mix],
            &["--mode", "syscount", "-p", "{other}"],
        ),
    ),
    hello(
        "hello syscount --latency",
        Job::Latency,
        CLOCK,
        &[Getppid, Mix],
        &["--mode", "syscount", "--latency"],
    ),
    hello(
        "hello file, text",
        Job::Opens,
        EXIT,
        &[Getppid, Open, FailingOpen, Mix],
        &["--mode", "file", "-u", "{uid}"],
    ),
    hello(
        "hello file, JSON",
        Job::Opens,
        EXIT,
        &[Open, FailingOpen],
        &["--mode", "file", "-u", "{uid}", "-o", "json"],
    ),
    often(
        4,
        hello(
            "hello file -p OTHER",
            Job::None,
            EXIT,
            &[Getppid, RefusedOpen, Open],
            &["--mode", "file", "-p", "{other}"],
        ),
    ),
    often(
        16,
        hello(
            "hello exec, text",
            Job::Execs,
            PROCESS,
            &[Exec],
            &["--mode", "exec", "-u", "{uid}"],
        ),
    ),
    often(
        16,
        hello(
            "hello exec, JSON",
            Job::Execs,
            PROCESS,
            &[Exec],
            &["--mode", "exec", "-u", "{uid}", "-o", "json"],
        ),
    ),
    hello(
        "hello buffer",
        Job::Events,
        ENTER,
        &[Getppid, Exec],
        &["--mode", "buffer", "-u", "{uid}"],
    ),
    hello(
        "hello map",
        Job::None,
        ENTER,
        &[Getppid, Exec],
        &["--mode", "map"],
    ),
    hello(
        "hello tail",
        Job::Events,
        ENTER,
        &[Getppid],
        &["--mode", "tail", "-u", "{uid}"],
    ),
    hello(
        "hello trace",
        Job::Events,
        ENTER,
        &[Getppid, Exec],
        &["--mode", "trace", "-u", "{uid}"],
    ),
    peer(
        "libbpf-tools syscount",
        Job::Count,
        ENTER,
        &[Getppid, Mix],
        ("syscount", &[]),
        "getppid",
    ),
    peer(
        "BCC syscount",
        Job::Count,
        ENTER,
        &[Getppid, Mix],
        ("syscount-bpfcc", &[]),
        "getppid",
    ),
    peer(
        "bpftrace, count by call",
        Job::Count,
        ENTER,
        &[Getppid, Mix],
        (
            "bpftrace",
            &[
                "-e",
                "tracepoint:raw_syscalls:sys_enter { @[args->id] = count(); }",
            ],
        ),
        "@[110]",
    ),
    peer(
        "perf trace -a -s",
        Job::Count,
        ENTER,
        &[Getppid, Mix],
        ("perf", &["trace", "-a", "-s"]),
        "getppid",
    ),
    saying(
        peer(
            "strace -c -f",
            Job::Count,
            ENTER,
            &[Getppid, Mix],
            ("strace", &["-c", "-f", "-p", "{pids}"]),
            "getppid",
        ),
        " attached",
    ),
    peer(
        "libbpf-tools syscount -L",
        Job::Latency,
        CLOCK,
        &[Getppid, Mix],
        ("syscount", &["-L"]),
        "getppid",
    ),
    peer(
        "bpftrace, histogram by call",
        Job::Latency,
        CLOCK,
        &[Getppid, Mix],
        (
            "bpftrace",
            &[
                "-e",
                "tracepoint:raw_syscalls:sys_enter { @begin[tid] = nsecs; } \
                 tracepoint:raw_syscalls:sys_exit /@begin[tid]/ \
                 { @[args->id] = hist(nsecs - @begin[tid]); delete(@begin[tid]); }",
            ],
        ),
        "@[110]",
    ),
    peer(
        "libbpf-tools opensnoop",
        Job::Opens,
        EXIT,
        &[Getppid, Open, FailingOpen, Mix],
        ("opensnoop", &["-u", "{uid}"]),
        "bench-",
    ),
    peer(
        "BCC opensnoop",
        Job::Opens,
        EXIT,
        &[Open],
        ("opensnoop-bpfcc", &["-u", "{uid}"]),
        "bench-",
    ),
    peer(
        "bpftrace, opens",
        Job::Opens,
        EXIT,
        &[Getppid, Open, FailingOpen],
        (
            "bpftrace",
            &[
                "-e",
                "tracepoint:syscalls:sys_enter_openat /uid == {uid}/ \
                 { @path[tid] = args->filename; } \
                 tracepoint:syscalls:sys_exit_openat /@path[tid]/ \
                 { printf(\"%d %s %d %s\\n\", pid, comm, args->ret, str(@path[tid])); \
                 delete(@path[tid]); }",
            ],
        ),
        "bench-",
    ),
    saying(
        peer(
            "strace -e openat",
            Job::Opens,
            EXIT,
            &[Open, FailingOpen],
            ("strace", &["-f", "-e", "trace=openat", "-p", "{pids}"]),
            "bench-",
        ),
        " attached",
    ),
    peer(
        "libbpf-tools execsnoop",
        Job::Execs,
        PROCESS,
        &[Exec],
        ("execsnoop", &["-u", "{uid}"]),
        "true",
    ),
    peer(
        "BCC execsnoop",
        Job::Execs,
        PROCESS,
        &[Exec],
        ("execsnoop-bpfcc", &["-u", "{uid}"]),
        "true",
    ),
    peer(
        "bpftrace, execs",
        Job::Execs,
        PROCESS,
        &[Exec],
        (
            "bpftrace",
            &[
                "-e",
                "tracepoint:syscalls:sys_enter_execve /uid == {uid}/ \
                 { printf(\"%d \", pid); join(args->argv); }",
            ],
        ),
        "true",
    ),
];

pub(crate) fn row(name: &str) -> Option<&'static Row> {
    ROWS.iter().find(|row| row.name == name)
}

/// Where a peer is; root's PATH need not name the folders of tracers.
///
/// # Errors
/// Why it is not there.
pub(crate) fn find(program: &str) -> Result<PathBuf, String> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let folders = std::env::split_paths(&path).chain(["/usr/sbin", "/usr/bin"].map(PathBuf::from));
    let file = folders
        .map(|folder| folder.join(program))
        .find(|file| file.is_file());
    file.ok_or_else(|| {
        let mut why = format!("not there: {program} is not installed");
        if program.ends_with("-bpfcc") && !headers_are_here() {
            why += ", and BCC compiles with the kernel's headers, which are not here either";
        }
        why
    })
}

fn headers_are_here() -> bool {
    let uname = nix::sys::utsname::uname();
    let build = uname.map(|uname| {
        Path::new("/lib/modules")
            .join(uname.release())
            .join("build")
    });
    build.is_ok_and(|build| build.exists()) || Path::new("/sys/kernel/kheaders.tar.xz").exists()
}
