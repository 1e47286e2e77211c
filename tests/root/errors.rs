// SPDX-License-Identifier: BSD-2-Clause
//! What goes wrong, provoked: one or two lines that say what, why and what to do.

use std::fs;
use std::io;
use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::process::Command;

use nix::libc;
use nix::mount::MsFlags;
use nix::mount::mount;
use nix::sched::CloneFlags;
use nix::sched::unshare;

use crate::matrix;
use crate::run::Check;
use crate::run::Test;
use crate::run::ensure;
use crate::run::hello;
use crate::run::hello_bin;
use crate::run::nothing_is_left;
use crate::run::see;

pub(crate) const TESTS: &[Test] = &[
    ("not_root", not_root),
    ("missing_capabilities", missing_capabilities),
    ("enough_capabilities", enough_capabilities),
    ("no_budget_without_capability", no_budget),
    ("no_btf", no_btf),
    ("refused_by_policy", refused_by_policy),
    ("no_tracefs", no_tracefs),
    ("no_such_hook", no_such_hook),
    ("no_such_process", no_such_process),
    ("too_many_processes", too_many_processes),
    ("no_such_user", no_such_user),
    ("no_such_cgroup", no_such_cgroup),
    ("no_such_btf", no_such_btf),
];

pub(crate) const CAP_SYS_ADMIN: u64 = 21;
const CAP_PERFMON: u64 = 38;
const CAP_BPF: u64 = 39;

/// Without these capabilities: dropped from the bounding set, so that root's exec
/// does not get them back.
pub(crate) fn without<'c>(command: &'c mut Command, caps: &'static [u64]) -> &'c mut Command {
    // SAFETY: prctl(2) only, between fork and exec.
    unsafe {
        command.pre_exec(move || {
            for cap in caps {
                if libc::prctl(libc::PR_CAPBSET_DROP, *cap, 0, 0, 0) != 0 {
                    return Err(io::Error::last_os_error());
                }
            }
            Ok(())
        })
    }
}

/// In a mount namespace of its own, with an empty folder in the place of each path
/// that there is.
pub(crate) fn hidden<'c>(
    command: &'c mut Command,
    paths: &'static [&'static str],
) -> &'c mut Command {
    // SAFETY: system calls only, between fork and exec.
    unsafe {
        command.pre_exec(move || {
            unshare(CloneFlags::CLONE_NEWNS)?;
            let none = None::<&str>;
            mount(none, "/", none, MsFlags::MS_REC | MsFlags::MS_PRIVATE, none)?;
            for path in paths.iter().filter(|path| Path::new(path).exists()) {
                mount(Some("tmpfs"), *path, Some("tmpfs"), MsFlags::empty(), none)?;
            }
            Ok(())
        })
    }
}

/// Both places where tracefs can be.
const TRACEFS: &[&str] = &["/sys/kernel/tracing", "/sys/kernel/debug"];

/// Runs it and expects this status and these words in at most `lines` lines.
fn expect(command: &mut Command, status: i32, words: &[&str]) -> Check {
    let seen = see(command)?;
    ensure!(
        seen.status == Some(status),
        "{:?}, not {status}: {}",
        seen.status,
        seen.stderr
    );
    for word in words {
        ensure!(
            seen.stderr.contains(word),
            "{word:?} is not in {:?}",
            seen.stderr
        );
    }
    let lines = seen.stderr.lines().count();
    ensure!((1..=6).contains(&lines), "{lines} lines: {}", seen.stderr);
    ensure!(
        !seen.stderr.contains("libbpf:"),
        "raw libbpf output: {}",
        seen.stderr
    );
    ensure!(
        !seen.stderr.contains("panicked") && !seen.stderr.contains("backtrace"),
        "{}",
        seen.stderr
    );
    ensure!(seen.stdout.is_empty(), "{:?}", seen.stdout);
    nothing_is_left()
}

fn not_root() -> Check {
    let words = [
        "CAP_BPF and CAP_PERFMON are missing",
        "sudo",
        "setcap cap_bpf,cap_perfmon+ep",
    ];
    // The binary may lie where nobody may look.
    let copy = format!("/tmp/hello-test-{}", std::process::id());
    fs::copy(hello_bin(), &copy).map_err(|error| error.to_string())?;
    let result = expect(
        Command::new(&copy)
            .args(["--mode", "buffer"])
            .uid(65534)
            .gid(65534),
        1,
        &words,
    );
    let _ = fs::remove_file(&copy);
    result
}

fn missing_capabilities() -> Check {
    for mode in ["buffer", "syscount", "trace"] {
        expect(
            without(&mut hello(&["--mode", mode]), &[CAP_SYS_ADMIN, CAP_BPF]),
            1,
            &["CAP_BPF is missing"],
        )?;
        expect(
            without(&mut hello(&["--mode", mode]), &[CAP_SYS_ADMIN, CAP_PERFMON]),
            1,
            &["CAP_PERFMON is missing"],
        )?;
    }
    Ok(())
}

/// CAP_BPF and CAP_PERFMON do for raw tracepoints and the ring buffer.
fn enough_capabilities() -> Check {
    let mut command = hello(&[
        "--mode",
        "buffer",
        "--attach",
        "raw_tp",
        "--transport",
        "ring",
        "-d",
        "300ms",
        "-u",
        "65534",
    ]);
    let seen = see(without(&mut command, &[CAP_SYS_ADMIN]))?;
    ensure!(seen.status == Some(0), "{}", seen.stderr);
    Ok(())
}

/// Not so for a budget: said before anything is attached.
fn no_budget() -> Check {
    let options = ["--mode", "syscount", "--max-cpu", "5", "-d", "100ms"];
    let seen = see(without(&mut hello(&options), &[CAP_SYS_ADMIN]))?;
    let said = "hello: --max-cpu cannot tell what programs cost: CAP_SYS_ADMIN is missing";
    ensure!(
        seen.status == Some(1) && seen.stderr.starts_with(said) && seen.stderr.lines().count() == 1,
        "{:?} {}",
        seen.status,
        seen.stderr
    );
    Ok(())
}

fn no_btf() -> Check {
    let words = ["no BTF", "--btf FILE", "CONFIG_DEBUG_INFO_BTF"];
    expect(
        hidden(&mut hello(&["--mode", "buffer"]), &["/sys/kernel/btf"]),
        1,
        &words,
    )
}

/// A seccomp filter that answers bpf(2) with EPERM, as containers have it.
fn refused_by_policy() -> Check {
    let mut command = hello(&["--mode", "syscount"]);
    // SAFETY: prctl(2) only, between fork and exec; the filter lives through the call.
    unsafe {
        command.pre_exec(|| {
            let instruction = |code: u32, jt: u8, jf: u8, k: u32| libc::sock_filter {
                code: u16::try_from(code).unwrap_or(0),
                jt,
                jf,
                k,
            };
            let mut filter = [
                instruction(libc::BPF_LD | libc::BPF_W | libc::BPF_ABS, 0, 0, 0),
                instruction(
                    libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K,
                    0,
                    1,
                    libc::SYS_bpf as u32,
                ),
                instruction(
                    libc::BPF_RET | libc::BPF_K,
                    0,
                    0,
                    libc::SECCOMP_RET_ERRNO | libc::EPERM as u32,
                ),
                instruction(libc::BPF_RET | libc::BPF_K, 0, 0, libc::SECCOMP_RET_ALLOW),
            ];
            let program = libc::sock_fprog {
                len: 4,
                filter: filter.as_mut_ptr(),
            };
            if libc::prctl(
                libc::PR_SET_SECCOMP,
                libc::SECCOMP_MODE_FILTER,
                &raw const program,
            ) != 0
            {
                return Err(io::Error::last_os_error());
            }
            Ok(())
        });
    }
    expect(
        &mut command,
        1,
        &["syscount", "Operation not permitted", "seccomp filter"],
    )
}

fn no_tracefs() -> Check {
    let how = "mount -t tracefs tracefs /sys/kernel/tracing";
    expect(
        hidden(&mut hello(&["--mode", "trace"]), &["/sys/kernel"]),
        1,
        &["no BTF"],
    )?;
    expect(
        hidden(&mut hello(&["--mode", "trace"]), TRACEFS),
        1,
        &["--mode trace needs tracefs", how],
    )?;
    expect(
        hidden(
            &mut hello(&["--mode", "file", "--attach", "tracepoint"]),
            TRACEFS,
        ),
        1,
        &["needs tracefs", how],
    )?;
    // auto goes on without it.
    let seen = see(hidden(
        &mut hello(&["--mode", "file", "-d", "300ms", "-u", "65534"]),
        TRACEFS,
    ))?;
    ensure!(
        seen.status == Some(0) && !seen.stderr.contains("tracepoint"),
        "{}",
        seen.stderr
    );
    Ok(())
}

/// A hook that this kernel lacks is refused with the reason when forced.
fn no_such_hook() -> Check {
    for hook in ["kprobe", "fentry"] {
        if matrix::why_not(hook).is_some() {
            for mode in ["buffer", "map", "trace"] {
                expect(
                    &mut hello(&["--mode", mode, "--attach", hook]),
                    1,
                    &[&format!("--mode {mode} by {hook}: ")],
                )?;
            }
        }
    }
    // A hook that the kernel has, for calls that it has no function for.
    if matrix::why_not("kprobe").is_none() {
        let options = ["--mode", "map", "--attach", "kprobe", "--syscalls", "999"];
        expect(
            &mut hello(&options),
            1,
            &["999 has no name", "--attach raw_tp"],
        )?;
        let many = "read,write,open,close,stat,fstat,lstat,poll,lseek,mmap,mprotect,munmap,brk,ioctl,pipe,dup,pause";
        let options = ["--mode", "map", "--attach", "kprobe", "--syscalls", many];
        expect(
            &mut hello(&options),
            1,
            &["for 8 system calls, not for 17", "--attach raw_tp"],
        )?;
    }
    Ok(())
}

fn no_such_process() -> Check {
    expect(
        &mut hello(&["--mode", "buffer", "--pid", "4194303"]),
        1,
        &["no process 4194303"],
    )?;
    // A thread is no process.
    let (done, wait) = std::sync::mpsc::channel::<()>();
    let (say, hear) = std::sync::mpsc::channel();
    let thread = std::thread::spawn(move || {
        let _ = say.send(nix::unistd::gettid().to_string());
        let _ = wait.recv();
    });
    let tid = hear.recv().map_err(|error| error.to_string())?;
    let pid = std::process::id().to_string();
    let said = expect(
        &mut hello(&["--mode", "buffer", "--pid", &tid]),
        1,
        &[
            &format!("{tid} is a thread of process {pid}"),
            &format!("--pid {pid}"),
        ],
    );
    drop(done);
    let _ = thread.join();
    said
}

/// Each process that is watched takes a descriptor.
fn too_many_processes() -> Check {
    let mut targets: Vec<_> = (0..24)
        .map(|_| Command::new("sleep").arg("60").spawn())
        .collect::<io::Result<_>>()
        .map_err(|error| error.to_string())?;
    let pids: Vec<_> = targets
        .iter()
        .map(|target| target.id().to_string())
        .collect();
    let mut command = hello(&["--mode", "buffer", "--pid", &pids.join(",")]);
    // SAFETY: setrlimit(2) only, between fork and exec.
    unsafe {
        command.pre_exec(|| {
            let limit = libc::rlimit {
                rlim_cur: 16,
                rlim_max: 16,
            };
            if libc::setrlimit(libc::RLIMIT_NOFILE, &raw const limit) != 0 {
                return Err(io::Error::last_os_error());
            }
            Ok(())
        });
    }
    let said = expect(
        &mut command,
        1,
        &["cannot watch process", "Too many open files"],
    );
    for target in &mut targets {
        let _ = target.kill();
        let _ = target.wait();
    }
    said
}

fn no_such_user() -> Check {
    expect(
        &mut hello(&["--mode", "buffer", "--uid", "nobody-of-that-name"]),
        1,
        &["no user", "/etc/passwd"],
    )
}

fn no_such_cgroup() -> Check {
    expect(
        &mut hello(&["--mode", "buffer", "--cgroup", "/no/such/group"]),
        1,
        &["no control group", "/proc/PID/cgroup"],
    )
}

fn no_such_btf() -> Check {
    // Of a kernel that has its own, another can only be wrong.
    let own = ["--mode", "buffer", "--btf", "/sys/kernel/btf/vmlinux"];
    expect(
        &mut hello(&own),
        1,
        &["carries its own BTF", "leave --btf out"],
    )?;
    expect(
        hidden(
            &mut hello(&["--mode", "buffer", "--btf", "/no/such/file"]),
            &["/sys/kernel/btf"],
        ),
        1,
        &["--btf /no/such/file"],
    )?;
    expect(
        hidden(
            &mut hello(&["--mode", "buffer", "--btf", "/etc/passwd"]),
            &["/sys/kernel/btf"],
        ),
        1,
        &["is no BTF"],
    )
}
