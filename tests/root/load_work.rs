// SPDX-License-Identifier: BSD-2-Clause
//! The workloads of load's tests: as many events as a CPU can make, each a known
//! number. They end by the bare instruction too, so that nothing is added on the way
//! out: whoever counts all system calls counts one more, exit_group.

use std::ffi::CString;
use std::io::Read as _;
use std::os::unix::fs::PermissionsExt as _;
use std::process::exit;

use nix::libc;
use nix::sched::CpuSet;
use nix::sched::sched_setaffinity;
use nix::sys::signal::Signal;
use nix::sys::signal::kill;
use nix::sys::wait::waitpid;
use nix::unistd::ForkResult;
use nix::unistd::Pid;
use nix::unistd::fork;

use crate::workload::AT_FDCWD;
use crate::workload::fail_to_exec;
use crate::workload::native;

/// A whole program for x86-64 that exits with 0: an ELF header, one segment, three
/// instructions. Nothing runs faster, or makes fewer calls.
const TINY: &[u8] = &[
    0x7f, b'E', b'L', b'F', 2, 1, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, // 64 bits, little end first
    2, 0, 62, 0, 1, 0, 0, 0, 0x78, 0, 0x40, 0, 0, 0, 0, 0, // runs from 0x400078
    64, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, // program headers at 64
    0, 0, 0, 0, 64, 0, 56, 0, 1, 0, 0, 0, 0, 0, 0, 0, // one, of 56 bytes
    1, 0, 0, 0, 5, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, // load, to read and execute
    0, 0, 0x40, 0, 0, 0, 0, 0, 0, 0, 0x40, 0, 0, 0, 0, 0, // at 0x400000
    0x81, 0, 0, 0, 0, 0, 0, 0, 0x81, 0, 0, 0, 0, 0, 0, 0, // all of it
    0, 0x10, 0, 0, 0, 0, 0, 0, // by pages
    0x31, 0xff, 0xb8, 231, 0, 0, 0, 0x0f, 0x05, // exit_group(0)
];

pub(crate) fn run(words: &[String]) -> ! {
    let word = |at: usize| words.get(at).map(String::as_str).unwrap_or_default();
    let number = |at: usize| word(at).parse::<u64>().unwrap_or(0);
    match word(0) {
        // N calls of a kind by each of two processes, on CPUs of their own.
        "both" => both(|_| act(word(1), number(2))),
        // N calls of a kind.
        "one" => act(word(1), number(2)),
        // N times M calls of a kind with a pause of 10 ms after each lot.
        "paced" => {
            let pause = [0u64, 10_000_000];
            for _ in 0..number(2) {
                act(word(1), number(3));
                native(
                    libc::SYS_nanosleep as usize,
                    [pause.as_ptr() as usize, 0, 0, 0],
                );
            }
        }
        "wanderers" => wanderers(number(1), number(2)),
        "interrupted" => interrupted(number(1)),
        "leaders" => leaders(number(1)),
        "generations" => generations(number(1), number(2)),
        "births" => births(word(1), [2, 3, 4, 5].map(number)),
        "spin" => loop {
            std::hint::spin_loop();
        },
        _ => exit(94),
    }
    leave()
}

fn leave() -> ! {
    loop {
        native(libc::SYS_exit_group as usize, [0; 4]);
    }
}

fn act(kind: &str, times: u64) {
    let missing = c"/nonexistent/file".as_ptr() as usize;
    for _ in 0..times {
        match kind {
            "getppid" => _ = native(libc::SYS_getppid as usize, [0; 4]),
            "open" => _ = native(libc::SYS_openat as usize, [AT_FDCWD, missing, 0, 0]),
            "exec" => fail_to_exec(),
            _ => exit(93),
        }
    }
}

fn on_cpu(cpu: usize) {
    let mut set = CpuSet::new();
    let _ = set.set(cpu);
    let _ = sched_setaffinity(Pid::from_raw(0), &set);
}

/// Does it in a child, on a CPU if one is named.
fn child(cpu: Option<usize>, act: impl FnOnce()) -> Pid {
    // SAFETY: one thread; the child makes system calls of its own and ends.
    match unsafe { fork() } {
        Ok(ForkResult::Child) => {
            if let Some(cpu) = cpu {
                on_cpu(cpu);
            }
            act();
            leave()
        }
        Ok(ForkResult::Parent { child }) => child,
        Err(_) => exit(96),
    }
}

fn both(act: impl Fn(u64)) {
    let children = [0, 1].map(|cpu| child(Some(cpu), || act(cpu as u64)));
    for child in children {
        let _ = waitpid(child, None);
    }
}

/// N getppid by each of M threads that change the CPU all the time.
fn wanderers(times: u64, threads: u64) {
    let wander = move |first: u64| {
        for index in 0..times {
            if index % 101 == 0 {
                on_cpu(((first + index / 101) % 2) as usize);
            }
            native(libc::SYS_getppid as usize, [0; 4]);
        }
    };
    let threads: Vec<_> = (0..threads)
        .map(|first| std::thread::spawn(move || wander(first)))
        .collect();
    for thread in threads {
        let _ = thread.join();
    }
}

extern "C" fn ignore(_: libc::c_int) {}

/// N getppid while a timer interrupts, which every now and then falls into a call.
fn interrupted(times: u64) {
    let often = libc::timeval {
        tv_sec: 0,
        tv_usec: 200,
    };
    let timer = libc::itimerval {
        it_interval: often,
        it_value: often,
    };
    // SAFETY: a handler that does nothing; the timer lives on this stack.
    unsafe {
        libc::signal(libc::SIGALRM, ignore as extern "C" fn(libc::c_int) as usize);
        libc::setitimer(libc::ITIMER_REAL, &raw const timer, std::ptr::null_mut());
    }
    let long = [1u64, 0];
    for index in 0..times {
        native(libc::SYS_getppid as usize, [0; 4]);
        if index % 101 == 0 {
            native(
                libc::SYS_nanosleep as usize,
                [long.as_ptr() as usize, 0, 0, 0],
            );
        }
    }
}

/// N processes in which a thread that is not the leader runs another program, while a
/// third is in a call.
fn leaders(times: u64) {
    let tiny = tiny();
    for _ in 0..times {
        let child = child(None, || {
            let path = tiny.clone();
            std::thread::spawn(|| {
                loop {
                    native(libc::SYS_getppid as usize, [0; 4]);
                }
            });
            std::thread::spawn(move || execve(&path));
            native(libc::SYS_pause as usize, [0; 4]);
        });
        let _ = waitpid(child, None);
    }
    let _ = std::fs::remove_file(tiny.to_str().unwrap_or_default());
}

/// Writes the tiny program.
fn tiny() -> CString {
    let path = format!("/tmp/hello-test-tiny-{}", std::process::id());
    let mode = std::fs::Permissions::from_mode(0o755);
    if std::fs::write(&path, TINY).is_err() || std::fs::set_permissions(&path, mode).is_err() {
        exit(92);
    }
    CString::new(path).unwrap_or_default()
}

fn execve(path: &CString) {
    let argv = [path.as_ptr(), std::ptr::null()];
    native(
        libc::SYS_execve as usize,
        [
            path.as_ptr() as usize,
            argv.as_ptr() as usize,
            argv[1..].as_ptr() as usize,
            0,
        ],
    );
}

/// N times M processes that open a file and end, with a pause after each lot.
fn generations(lots: u64, children: u64) {
    for _ in 0..lots {
        for _ in 0..children {
            let _ = waitpid(child(None, || act("open", 1)), None);
        }
        std::thread::sleep(std::time::Duration::from_millis(600));
    }
}

/// By each of two processes: N that run the tiny program, M that open a file that is
/// not there and end, so many threads that do the same, so many that are killed in an
/// open that waits. Then says so, and stays until it hears of it.
fn births(folder: &str, [execs, forks, threads, killed]: [u64; 4]) {
    let tiny = tiny();
    let fifo = CString::new(format!("{folder}/fifo")).unwrap_or_default();
    both(|_| {
        for _ in 0..execs {
            vfork_exec(&tiny);
        }
        for _ in 0..forks {
            let _ = waitpid(child(None, || act("open", 1)), None);
        }
        for _ in 0..threads {
            let _ = std::thread::spawn(|| act("open", 1)).join();
        }
        let at = fifo.as_ptr() as usize;
        let waiting: Vec<_> = (0..killed)
            .map(|_| {
                child(None, || {
                    native(libc::SYS_openat as usize, [AT_FDCWD, at, 0, 0]);
                })
            })
            .collect();
        for child in waiting {
            is_in_open(child);
            let _ = kill(child, Signal::SIGKILL);
            let _ = waitpid(child, None);
        }
    });
    let _ = std::fs::remove_file(tiny.to_str().unwrap_or_default());
    println!("born");
    let _ = std::io::stdin().read(&mut [0; 64]);
}

fn vfork_exec(path: &CString) {
    let argv = [path.as_ptr(), std::ptr::null()];
    #[expect(deprecated, reason = "as shells and make do it")]
    // SAFETY: the child calls execv and _exit only.
    let child = unsafe { libc::vfork() };
    if child == 0 {
        // SAFETY: as above; argv ends with a null pointer.
        unsafe {
            libc::execv(path.as_ptr(), argv.as_ptr());
            libc::_exit(95);
        }
    }
    // SAFETY: waits for the child just made.
    unsafe { libc::waitpid(child, std::ptr::null_mut(), 0) };
}

/// Waits until the process sleeps: it does nothing but open.
fn is_in_open(process: Pid) {
    let sleeps = || {
        let stat = std::fs::read_to_string(format!("/proc/{process}/stat"));
        stat.is_ok_and(|stat| stat.contains(") S "))
    };
    while !sleeps() {
        std::thread::yield_now();
    }
}
