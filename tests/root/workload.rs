// SPDX-License-Identifier: BSD-2-Clause
//! Programs of known calls: this test binary, run as `hello-tests workload …`.
//! Calls are made by the bare instruction, so that no library adds one.

use std::arch::asm;
use std::env;
use std::ffi::CString;
use std::io::Read as _;
use std::process::exit;
use std::sync::atomic::AtomicU32;
use std::sync::atomic::Ordering;

use nix::libc;
use nix::sys::wait::WaitStatus;
use nix::sys::wait::waitpid;

use crate::paths;

/// Bit 30 of the number: the x32 ABI (asm/unistd.h).
const X32: usize = 0x4000_0000;

/// What `opens` does, by ABI, call, result and times: each a prime.
pub(crate) const OPENS: &[(&str, &str, &str, u64)] = &[
    ("x86_64", "open", "ok", 2),
    ("x86_64", "openat", "ok", 23),
    ("x86_64", "openat2", "ok", 3),
    ("x86_64", "creat", "ok", 5),
    ("x86_64", "openat", "ENOENT", 7),
    ("x86_64", "open", "EISDIR", 11),
    ("i386", "open", "ok", 13),
    ("i386", "openat", "ENOENT", 17),
    ("i386", "creat", "ok", 19),
    ("x32", "openat", "x32", 29),
];

/// Runs the workload that the arguments name; never returns.
pub(crate) fn run(words: &[String]) -> ! {
    let number = |at: usize| {
        words
            .get(at)
            .and_then(|word| word.parse::<u64>().ok())
            .unwrap_or(0)
    };
    match words[0].as_str() {
        "nothing" => {}
        "life" => crate::exec_work::run(&words[1..]),
        "load" => crate::load_work::run(&words[1..]),
        // By its interpreter line, which can have one word only.
        script if script.ends_with("/script") || script == "./script" => {}
        "exit" => exit(i32::try_from(number(1)).unwrap_or(1)),
        // N successful execs, M failed ones.
        "execs" => {
            (0..number(1)).for_each(|_| spawn(&["nothing"]));
            (0..number(2)).for_each(|_| fail_to_exec());
        }
        // N execs with M bytes of arguments, and a pause after each.
        "large-execs" => {
            let long = "x".repeat(usize::try_from(number(2)).unwrap_or(0));
            repeat(number(1), || {
                spawn(&["nothing", &long]);
                sleeps(1, 30);
            });
        }
        // getppid N times by each ABI.
        "calls" => {
            repeat(number(1), || native(libc::SYS_getppid as usize, [0; 4]));
            repeat(number(2), || i386(64, [0; 4]));
            repeat(number(3), || {
                native(libc::SYS_getppid as usize | X32, [0; 4])
            });
        }
        // getpgid N times by the 64-bit ABI, M times by the 32-bit one.
        "groups" => {
            repeat(number(1), || native(libc::SYS_getpgid as usize, [0; 4]));
            repeat(number(2), || i386(132, [0; 4]));
        }
        // A number that no table has, N times.
        "negative" => repeat(number(1), || native(-5i32 as u32 as usize, [0; 4])),
        "unknown" => repeat(number(1), || native(9999, [0; 4])),
        // N getppid calls as each of two users.
        "users" => {
            repeat(number(1), || native(libc::SYS_getppid as usize, [0; 4]));
            become_user(65534);
            repeat(number(2), || native(libc::SYS_getppid as usize, [0; 4]));
        }
        "opens" => opens(&words[1]),
        "thread-pairs" => thread_pairs(number(1)),
        "last-threads" => last_threads(number(1)),
        "unshared" => unshared(number(1)),
        "in-time" => in_time(&words[1], &words[2..]),
        // As that user.
        "as" => {
            become_user(u32::try_from(number(1)).unwrap_or(0));
            run(&words[2..])
        }
        "thread-name" => thread_name(),
        // Failing execs, N by each of two processes on CPUs of their own.
        "two-storms" => two_storms(number(1)),
        "stamps" => stamps(number(1), words.get(2).map_or("", String::as_str)),
        "paths" => paths::run(&words[1]),
        "ring" => paths::by_ring(&words[1]),
        "deep" => paths::deep(&words[1], &words[2], number(3)),
        // Opens whose path lies in a page that was never touched.
        "cold" => cold(&words[1], number(2)),
        "open" => {
            let path = CString::new(words[1].as_str()).unwrap_or_default();
            open_ok(native(
                libc::SYS_openat as usize,
                [AT_FDCWD, path.as_ptr() as usize, 0, 0],
            ));
        }
        // Tries to open each of these.
        "tries" => words[1..].iter().for_each(|path| {
            let path = CString::new(path.as_str()).unwrap_or_default();
            let at = path.as_ptr() as usize;
            native(libc::SYS_openat as usize, [AT_FDCWD, at, 0, 0]);
        }),
        "makes" => _ = std::fs::File::create(&words[1]),
        "fifo" => fifo(&words[1]),
        "killed" => killed(number(1)),
        "hostile" => {
            let path = CString::new(b"/tmp/\x1b[2J\n\"\xff\xfe".to_vec()).unwrap_or_default();
            native(
                libc::SYS_openat as usize,
                [AT_FDCWD, path.as_ptr() as usize, 0, 0],
            );
        }
        "rename" => {
            set_name(&CString::new(words[1].as_str()).unwrap_or_default());
            repeat(number(2), || native(libc::SYS_getppid as usize, [0; 4]));
        }
        // A name of its own for each of N calls.
        "names" => (0..number(1)).for_each(|index| {
            set_name(&CString::new(format!("name-{index}")).unwrap_or_default());
            native(libc::SYS_getppid as usize, [0; 4]);
        }),
        // N that succeed, then N calls of each of two errors.
        "errors" => {
            repeat(number(1), || native(libc::SYS_getppid as usize, [0; 4]));
            repeat(number(2), || {
                native(
                    libc::SYS_openat as usize,
                    [AT_FDCWD, c"/nonexistent/file".as_ptr() as usize, 0, 0],
                )
            });
            repeat(number(3), || {
                native(libc::SYS_fchdir as usize, [9999, 0, 0, 0])
            });
            repeat(number(4), || i386(133, [9999, 0, 0, 0])); // fchdir
        }
        // N sleeps of M milliseconds.
        "sleeps" => sleeps(number(1), number(2)),
        // N processes that do M times a long sleep and MIX_SHORT short ones.
        "mix" => mix(number(1), number(2)),
        // N times M calls, with a pause after each lot.
        "paced" => repeat(number(1), || {
            repeat(number(2), || native(libc::SYS_getppid as usize, [0; 4]));
            sleeps(1, 50);
        }),
        // Sleeps until a signal ends it.
        "pause" => _ = native(libc::SYS_pause as usize, [0; 4]),
        "signals" => signals(number(1)),
        // A thread that is not the leader becomes another program.
        "thread-exec" => {
            let thread = std::thread::spawn(|| {
                let argv = [me(), c"workload".into(), c"nothing".into()];
                let _ = nix::unistd::execv(&argv[0], &argv);
            });
            let _ = thread.join();
            exit(94);
        }
        "timers" => timers(number(1)),
        "tree" => tree(number(1)),
        // Ends with the signal.
        "signal" => {
            // SAFETY: takes integers.
            unsafe { libc::raise(i32::try_from(number(1)).unwrap_or(libc::SIGKILL)) };
        }
        // Says that it runs, waits for a line, then does what follows.
        "wait" => {
            println!("ready");
            let _ = std::io::stdin().read(&mut [0; 64]);
            run(&words[1..]);
        }
        // Until killed, or for so many calls.
        "storm" => repeat(number(1), || native(libc::SYS_getppid as usize, [0; 4])),
        other => {
            eprintln!("no workload {other}");
            exit(99);
        }
    }
    exit(0)
}

fn repeat<T>(times: u64, mut call: impl FnMut() -> T) {
    for _ in 0..times {
        call();
    }
}

pub(crate) const AT_FDCWD: usize = libc::AT_FDCWD as isize as usize;

pub(crate) fn native(number: usize, [a, b, c, d]: [usize; 4]) -> isize {
    let result: isize;
    // SAFETY: pointers among the arguments point to memory that lives through the call.
    unsafe {
        asm!("syscall", inlateout("rax") number => result,
            in("rdi") a, in("rsi") b, in("rdx") c, in("r10") d, in("r8") 0, in("r9") 0,
            lateout("rcx") _, lateout("r11") _, options(nostack));
    }
    result
}

pub(crate) fn i386(number: usize, [a, b, c, d]: [usize; 4]) -> isize {
    let result: isize;
    // SAFETY: as above; pointers lie below 4 GiB. rbx belongs to LLVM, hence the swap.
    unsafe {
        asm!("xchg rbx, {a}", "int 0x80", "xchg rbx, {a}", a = inout(reg) a => _,
            inlateout("rax") number => result, in("rcx") b, in("rdx") c, in("rsi") d, in("rdi") 0,
            lateout("r8") _, lateout("r9") _, lateout("r10") _, lateout("r11") _,
            options(nostack));
    }
    result as i32 as isize
}

fn open_ok(fd: isize) {
    if fd < 0 {
        eprintln!("open failed: {fd}");
        exit(98);
    }
    native(libc::SYS_close as usize, [fd as usize, 0, 0, 0]);
}

/// A copy of the string below 4 GiB, where 32-bit calls can see it.
pub(crate) fn low(text: &str) -> usize {
    low_bytes(text.as_bytes())
}

pub(crate) fn low_bytes(text: &[u8]) -> usize {
    // SAFETY: a new private mapping of one page, longer than any text used here.
    unsafe {
        let page = libc::mmap(
            std::ptr::null_mut(),
            4096,
            libc::PROT_READ | libc::PROT_WRITE,
            libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_32BIT,
            -1,
            0,
        );
        std::ptr::copy_nonoverlapping(text.as_ptr(), page.cast(), text.len());
        page as usize
    }
}

fn opens(file: &str) {
    let there = low(file);
    let missing = low(&format!("{file}.missing"));
    let folder = low("/");
    let how: [u64; 3] = [0, 0, 0];
    let wronly = libc::O_WRONLY as usize;
    // Of the 32-bit table no number has the bit: these open nothing, and are no events.
    for number in [5, 295] {
        i386(number | X32, [there, there, 0, 0]);
    }
    for &(abi, call, result, times) in OPENS {
        repeat(times, || match (abi, call, result) {
            ("x86_64", "open", "ok") => open_ok(native(libc::SYS_open as usize, [there, 0, 0, 0])),
            ("x86_64", "open", _) => _ = native(libc::SYS_open as usize, [folder, wronly, 0, 0]),
            ("x86_64", "openat", "ok") => {
                open_ok(native(libc::SYS_openat as usize, [AT_FDCWD, there, 0, 0]));
            }
            ("x86_64", "openat", _) => {
                native(libc::SYS_openat as usize, [AT_FDCWD, missing, 0, 0]);
            }
            ("x86_64", "openat2", _) => open_ok(native(
                libc::SYS_openat2 as usize,
                [AT_FDCWD, there, how.as_ptr() as usize, size_of_val(&how)],
            )),
            ("x86_64", "creat", _) => {
                open_ok(native(libc::SYS_creat as usize, [there, 0o600, 0, 0]))
            }
            ("i386", "open", _) => open_ok(i386(5, [there, 0, 0, 0])),
            ("i386", "openat", _) => _ = i386(295, [AT_FDCWD, missing, 0, 0]),
            ("i386", "creat", _) => open_ok(i386(8, [there, 0o600, 0, 0])),
            _ => {
                let fd = native(libc::SYS_openat as usize | X32, [AT_FDCWD, there, 0, 0]);
                if fd >= 0 {
                    open_ok(fd); // a kernel with x32
                }
            }
        });
    }
}

/// Maps a file that holds the path and opens it without having read the page: it is
/// in no page table when the call begins.
fn cold(file: &str, times: u64) {
    let name = CString::new(file).unwrap_or_default();
    for _ in 0..times {
        // SAFETY: maps a file of ours, at least one page long, for reading.
        let page = unsafe {
            let fd = libc::open(name.as_ptr(), libc::O_RDONLY);
            let page = libc::mmap(
                std::ptr::null_mut(),
                4096,
                libc::PROT_READ,
                libc::MAP_PRIVATE,
                fd,
                0,
            );
            libc::close(fd);
            page
        };
        native(libc::SYS_openat as usize, [AT_FDCWD, page as usize, 0, 0]);
    }
}

fn me() -> CString {
    CString::new(
        env::current_exe()
            .unwrap_or_default()
            .into_os_string()
            .into_encoded_bytes(),
    )
    .unwrap_or_default()
}

/// fork, exec of this binary, wait. By hand: std's spawn would exec more than once
/// where PATH is searched.
fn spawn(words: &[&str]) {
    let program = me();
    let mut argv = vec![CString::from(c"hello-tests"), CString::from(c"workload")];
    argv.extend(words.iter().filter_map(|word| CString::new(*word).ok()));
    child(|| _ = nix::unistd::execv(&program, &argv));
}

/// Does it in a child, which is not to return from it, and waits for that.
pub(crate) fn child(act: impl FnOnce()) -> WaitStatus {
    // SAFETY: one thread; the child execs or exits.
    match unsafe { nix::unistd::fork() } {
        Ok(nix::unistd::ForkResult::Child) => {
            act();
            // SAFETY: ends the process.
            unsafe { libc::_exit(97) }
        }
        Ok(nix::unistd::ForkResult::Parent { child }) => {
            waitpid(child, None).unwrap_or(WaitStatus::StillAlive)
        }
        Err(error) => {
            eprintln!("fork: {error}");
            exit(96);
        }
    }
}

pub(crate) fn become_user(id: u32) {
    // SAFETY: takes integers.
    unsafe {
        libc::setresgid(id, id, id);
        libc::setresuid(id, id, id);
    }
}

pub(crate) fn fail_to_exec() {
    let argv = [std::ptr::null::<libc::c_char>()];
    native(
        libc::SYS_execve as usize,
        [
            c"/nonexistent/program".as_ptr() as usize,
            argv.as_ptr() as usize,
            argv.as_ptr() as usize,
            0,
        ],
    );
}

/// N processes of two threads that end at the same time, each by itself.
fn thread_pairs(times: u64) {
    let exit_thread = || {
        native(libc::SYS_exit as usize, [0; 4]);
    };
    for _ in 0..times {
        child(|| {
            let both = std::sync::Arc::new(std::sync::Barrier::new(2));
            let other = std::sync::Arc::clone(&both);
            std::thread::spawn(move || {
                other.wait();
                exit_thread();
            });
            both.wait();
            exit_thread();
        });
    }
}

/// N processes whose first thread ends before the last one, which has another name.
fn last_threads(times: u64) {
    for _ in 0..times {
        child(|| {
            set_name(c"browser");
            std::thread::spawn(|| {
                set_name(c"ThreadPoolForeg");
                std::thread::sleep(std::time::Duration::from_millis(20));
                // SAFETY: ends the process.
                unsafe { libc::_exit(7) };
            });
            native(libc::SYS_exit as usize, [0; 4]);
        });
    }
}

/// A pid and user namespace whose first process runs N programs.
fn unshared(times: u64) {
    use nix::sched::CloneFlags;
    let flags = CloneFlags::CLONE_NEWUSER | CloneFlags::CLONE_NEWPID;
    if let Err(error) = nix::sched::unshare(flags) {
        eprintln!("unshare: {error}");
        exit(94);
    }
    child(|| {
        repeat(times, || spawn(&["nothing"]));
        exit(0);
    });
}

/// Runs a program where the clocks that begin at the boot are ahead by so many seconds.
fn in_time(seconds: &str, words: &[String]) -> ! {
    const CLONE_NEWTIME: i32 = 0x80;
    // SAFETY: takes an integer.
    if unsafe { libc::unshare(CLONE_NEWTIME) } != 0 {
        exit(94);
    }
    let offsets = format!("monotonic {seconds} 0\nboottime {seconds} 0\n");
    if std::fs::write("/proc/self/timens_offsets", offsets).is_err() {
        exit(93);
    }
    let words: Vec<_> = words
        .iter()
        .map(|word| CString::new(word.as_str()).unwrap_or_default())
        .collect();
    // Only children are in it.
    match child(|| _ = nix::unistd::execv(&words[0], &words)) {
        WaitStatus::Exited(_, status) => exit(status),
        _ => exit(92),
    }
}

fn set_name(name: &std::ffi::CStr) {
    // SAFETY: a NUL-terminated string that lives through the call.
    unsafe { libc::prctl(libc::PR_SET_NAME, name.as_ptr(), 0, 0, 0) };
}

/// A failing exec by a thread with a name of its own.
fn thread_name() {
    set_name(c"browser");
    let thread = std::thread::spawn(|| {
        set_name(c"ThreadPoolForeg");
        fail_to_exec();
    });
    let _ = thread.join();
}

fn two_storms(times: u64) {
    for cpu in 0..2 {
        // SAFETY: one thread.
        if let Ok(nix::unistd::ForkResult::Child) = unsafe { nix::unistd::fork() } {
            let mut set = nix::sched::CpuSet::new();
            let _ = set.set(cpu);
            let _ = nix::sched::sched_setaffinity(nix::unistd::Pid::from_raw(0), &set);
            repeat(times, fail_to_exec);
            exit(0);
        }
    }
    for _ in 0..2 {
        let _ = nix::sys::wait::wait();
    }
}

fn realtime() -> u128 {
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    now.map_or(0, |now| now.as_nanos())
}

/// Failing execs, and on standard error the time of day before and after each;
/// between them the clock may be set, an hour forth or back, with time for hello to
/// see it (`step`) or without (`step-at-once`).
fn stamps(times: u64, step: &str) {
    use nix::time::ClockId;
    for index in 0..times {
        let before = realtime();
        fail_to_exec();
        eprintln!("stamp {before} {}", realtime());
        if !step.is_empty() {
            let clock = ClockId::CLOCK_REALTIME;
            if let Ok(now) = nix::time::clock_gettime(clock) {
                let hours = if index % 3 == 2 { -2 } else { 1 };
                let then =
                    nix::sys::time::TimeSpec::new(now.tv_sec() + hours * 3600, now.tv_nsec());
                let _ = nix::time::clock_settime(clock, then);
            }
            if step == "step" {
                std::thread::sleep(std::time::Duration::from_millis(30));
            }
        }
    }
}

fn timers(times: u64) {
    let mut id = 0i32;
    let id_at = std::ptr::from_mut(&mut id) as usize;
    let mut spec = [0u64; 4];
    let spec_at = spec.as_mut_ptr() as usize;
    for _ in 0..times {
        native(libc::SYS_timer_create as usize, [1, 0, id_at, 0]);
        native(
            libc::SYS_timer_gettime as usize,
            [id as usize, spec_at, 0, 0],
        );
        native(libc::SYS_timer_getoverrun as usize, [id as usize, 0, 0, 0]);
        native(libc::SYS_timer_delete as usize, [id as usize, 0, 0, 0]);
    }
}

fn sleeps(times: u64, millis: u64) {
    let time = [0, millis * 1_000_000];
    repeat(times, || {
        native(
            libc::SYS_nanosleep as usize,
            [time.as_ptr() as usize, 0, 0, 0],
        )
    });
}

/// Short sleeps after each long one of `mix`.
pub(crate) const MIX_SHORT: u64 = 12;

fn mix(processes: u64, times: u64) {
    for _ in 0..processes {
        // SAFETY: one thread.
        match unsafe { nix::unistd::fork() } {
            Ok(nix::unistd::ForkResult::Child) => {
                repeat(times, || {
                    sleeps(1, 20);
                    sleeps(MIX_SHORT, 0);
                });
                exit(0);
            }
            Ok(nix::unistd::ForkResult::Parent { .. }) => {}
            Err(_) => exit(93),
        }
    }
    while nix::sys::wait::wait().is_ok() {}
}

extern "C" fn ignore(_: libc::c_int) {}

/// At the third signal comes who the other open waits for.
extern "C" fn open_fifo(_: libc::c_int) {
    static SIGNALS: AtomicU32 = AtomicU32::new(0);
    if SIGNALS.fetch_add(1, Ordering::Relaxed) == 2 {
        let flags = (libc::O_RDWR | libc::O_NONBLOCK).cast_unsigned() as usize;
        let at = c"fifo".as_ptr() as usize;
        native(libc::SYS_openat as usize, [AT_FDCWD, at, flags, 0]);
    }
}

/// Opens a FIFO that nobody writes to, while signals come that it goes on after.
fn fifo(folder: &str) {
    let _ = std::env::set_current_dir(folder);
    let _ = nix::unistd::mkfifo("fifo", nix::sys::stat::Mode::S_IRWXU);
    let every = libc::timeval {
        tv_sec: 0,
        tv_usec: 20_000,
    };
    let timer = libc::itimerval {
        it_interval: every,
        it_value: every,
    };
    // SAFETY: signal() of the C library asks for restarts; the timer lives through the
    // call; the handler makes a system call and no more.
    unsafe {
        libc::signal(
            libc::SIGALRM,
            open_fifo as extern "C" fn(libc::c_int) as usize,
        );
        libc::setitimer(libc::ITIMER_REAL, &timer, std::ptr::null_mut());
    }
    let at = c"fifo".as_ptr() as usize;
    native(libc::SYS_openat as usize, [AT_FDCWD, at, 0, 0]);
}

/// N processes that are killed in pause().
fn killed(times: u64) {
    for _ in 0..times {
        // SAFETY: one thread.
        match unsafe { nix::unistd::fork() } {
            Ok(nix::unistd::ForkResult::Child) => {
                native(libc::SYS_pause as usize, [0; 4]);
            }
            Ok(nix::unistd::ForkResult::Parent { child }) => {
                let stat = format!("/proc/{child}/stat");
                while !std::fs::read_to_string(&stat).is_ok_and(|stat| stat.contains(") S ")) {
                    sleeps(1, 1);
                }
                let _ = nix::sys::signal::kill(child, nix::sys::signal::Signal::SIGKILL);
                let _ = waitpid(child, None);
            }
            Err(_) => exit(93),
        }
    }
}

/// rt_sigsuspend that a signal interrupts, so that rt_sigreturn hands on its error.
fn signals(times: u64) {
    // SAFETY: a handler that does nothing; the sets live on this stack.
    unsafe {
        libc::signal(libc::SIGUSR1, ignore as extern "C" fn(libc::c_int) as usize);
        let mut blocked: libc::sigset_t = std::mem::zeroed();
        let mut none: libc::sigset_t = std::mem::zeroed();
        libc::sigemptyset(&mut none);
        libc::sigemptyset(&mut blocked);
        libc::sigaddset(&mut blocked, libc::SIGUSR1);
        libc::sigprocmask(libc::SIG_BLOCK, &blocked, std::ptr::null_mut());
        for _ in 0..times {
            libc::raise(libc::SIGUSR1);
            libc::sigsuspend(&none);
        }
    }
}

/// A tree by fork, vfork and clone whose middle dies first; each of its members, a
/// thread and an orphan among them, makes `times` calls.
fn tree(times: u64) {
    let work = || repeat(times, || native(libc::SYS_getppid as usize, [0; 4]));
    work();
    let thread =
        std::thread::spawn(move || repeat(times, || native(libc::SYS_getppid as usize, [0; 4])));
    let _ = thread.join();
    // vfork and exec: the child borrows this address space until its exec.
    let program = me();
    let count = CString::new(times.to_string()).unwrap_or_default();
    let argv = [
        c"t".as_ptr(),
        c"workload".as_ptr(),
        c"storm".as_ptr(),
        count.as_ptr(),
        std::ptr::null(),
    ];
    #[expect(deprecated, reason = "the point of this workload")]
    // SAFETY: the child calls execv and _exit only.
    let child = unsafe { libc::vfork() };
    if child == 0 {
        // SAFETY: as above; argv ends with a null pointer.
        unsafe {
            libc::execv(program.as_ptr(), argv.as_ptr());
            libc::_exit(95);
        }
    }
    // SAFETY: waits for the child just made.
    unsafe { libc::waitpid(child, std::ptr::null_mut(), 0) };
    // SAFETY: this process has one thread again.
    if let Ok(nix::unistd::ForkResult::Parent { child }) = unsafe { nix::unistd::fork() } {
        let _ = waitpid(child, None);
        return;
    }
    work(); // the middle
    // SAFETY: as above.
    if let Ok(nix::unistd::ForkResult::Parent { .. }) = unsafe { nix::unistd::fork() } {
        exit(0); // before its child has done its work
    }
    std::thread::sleep(std::time::Duration::from_millis(200));
    work(); // the orphan
    exit(0);
}

/// getppid calls that `tree` makes for `times`: itself, its thread, the vforked
/// child, the middle, the orphan.
pub(crate) const TREE: u64 = 5;
