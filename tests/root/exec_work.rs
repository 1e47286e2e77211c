// SPDX-License-Identifier: BSD-2-Clause
//! The workloads of exec's tests: every way to run a program, to fail at it, to end.
//! Each child has a name of its own as its first argument.

use std::ffi::CString;
use std::ffi::c_char;
use std::os::unix::fs::PermissionsExt as _;
use std::process::exit;

use nix::libc;
use nix::sys::wait::WaitStatus;
use nix::sys::wait::waitpid;
use nix::unistd::ForkResult;
use nix::unistd::fork;

use crate::workload::become_user;
use crate::workload::child;
use crate::workload::i386;
use crate::workload::low_bytes;

/// Bytes that a terminal must not see, and that are no UTF-8.
pub(crate) const HOSTILE: &[u8] = b"\x1b[2J'\"\\\n\xff";

pub(crate) fn run(words: &[String]) -> ! {
    let word = |at: usize| words.get(at).map(String::as_str).unwrap_or_default();
    let number = |at: usize| word(at).parse::<usize>().unwrap_or(0);
    match word(0) {
        "runs" => runs(word(1)),
        "failures" => failures(word(1)),
        "ends" => ends(),
        "cores" => cores(word(1)),
        "deep" => deep(number(1)),
        "spawn" => {
            storm(number(1));
        }
        "storm" => {
            // One for each of two CPUs, at the same time.
            let half = || storm(number(1));
            // SAFETY: one thread; the child makes children of its own and exits.
            if let Ok(ForkResult::Parent { child }) = unsafe { fork() } {
                half();
                let _ = waitpid(child, None);
            } else {
                half();
            }
        }
        _ => exit(94),
    }
    exit(0)
}

fn me() -> CString {
    let path = std::env::current_exe().unwrap_or_default();
    CString::new(path.into_os_string().into_encoded_bytes()).unwrap_or_default()
}

fn storm(times: usize) {
    for _ in 0..times {
        child(|| exec(&me(), &[b"storm", b"workload", b"nothing"]));
    }
}

fn strings(words: &[&[u8]]) -> Vec<CString> {
    let own = words
        .iter()
        .map(|word| CString::new(*word).unwrap_or_default());
    own.collect()
}

/// Ends with a null pointer.
fn pointers(strings: &[CString]) -> Vec<*const c_char> {
    let own = strings.iter().map(|text| text.as_ptr());
    own.chain([std::ptr::null()]).collect()
}

fn exec(path: &CString, words: &[&[u8]]) {
    let words = strings(words);
    let env = strings(&[b"HELLO_A=one two", b"HELLO_B=", b"HELLO_SECRET=x"]);
    // SAFETY: arrays that end with a null pointer, of strings that live through the call.
    unsafe {
        libc::execve(
            path.as_ptr(),
            pointers(&words).as_ptr(),
            pointers(&env).as_ptr(),
        )
    };
}

fn execveat(fd: i32, path: &[u8], words: &[&[u8]], flags: i32) {
    let path = CString::new(path).unwrap_or_default();
    let words = strings(words);
    let argv = pointers(&words);
    let env = [std::ptr::null::<c_char>()];
    // SAFETY: as in exec().
    unsafe {
        libc::syscall(
            libc::SYS_execveat,
            fd,
            path.as_ptr(),
            argv.as_ptr(),
            env.as_ptr(),
            flags,
        )
    };
}

/// execve by the 32-bit ABI: all that it sees lies below 4 GiB.
fn execve_i386(path: &[u8], words: &[&[u8]]) {
    let mut argv: Vec<u8> = Vec::new();
    for word in words {
        let at = low_bytes(&[word, &b"\0"[..]].concat());
        argv.extend(u32::try_from(at).unwrap_or(0).to_ne_bytes());
    }
    argv.extend([0; 4]);
    let path = low_bytes(&[path, b"\0"].concat());
    i386(11, [path, low_bytes(&argv), 0, 0]);
}

const NOTHING: [&[u8]; 2] = [b"workload", b"nothing"];

fn named(name: &'static str, more: &[&'static [u8]]) -> Vec<&'static [u8]> {
    [&[name.as_bytes()], &NOTHING[..], more].concat()
}

/// `folder` has a copy of this program that is setuid, and a script that names it.
fn runs(folder: &str) {
    let program = me();
    child(|| exec(&program, &named("execve", &[b"", b"two words"])));
    child(|| {
        let path = CString::new(folder).unwrap_or_default();
        // SAFETY: a NUL-terminated string.
        let fd = unsafe { libc::open(path.as_ptr(), libc::O_PATH) };
        execveat(fd, b"setuid", &named("execveat", &[]), 0);
    });
    child(|| execve_i386(program.as_bytes(), &named("i386", &[])));
    child(|| {
        // SAFETY: a name, and then the bytes of this program.
        unsafe {
            let fd = libc::memfd_create(c"life".as_ptr(), 0);
            let bytes = std::fs::read("/proc/self/exe").unwrap_or_default();
            let mut rest = bytes.as_slice();
            while !rest.is_empty() {
                let done = libc::write(fd, rest.as_ptr().cast(), rest.len());
                rest = &rest[usize::try_from(done).unwrap_or(rest.len())..];
            }
            execveat(fd, b"", &named("memfd", &[]), libc::AT_EMPTY_PATH);
        }
    });
    child(|| {
        let _ = std::env::set_current_dir(folder);
        exec(&CString::from(c"./script"), &[b"script", b"nothing"]);
    });
    child(|| {
        let path = CString::new(folder).unwrap_or_default();
        // SAFETY: a NUL-terminated string. Without close-on-exec: the interpreter opens it.
        let fd = unsafe { libc::open(path.as_ptr(), libc::O_PATH) };
        execveat(fd, b"script", &[b"script", b"by-descriptor"], 0);
    });
    child(|| {
        become_user(65534);
        let path = CString::new(format!("{folder}/setuid")).unwrap_or_default();
        exec(&path, &named("setuid", &[]));
    });
    child(|| {
        let program = program.clone();
        let thread = std::thread::spawn(move || exec(&program, &named("thread", &[])));
        let _ = thread.join();
    });
    child(|| exec(&program, &named("hostile", &[HOSTILE, b"a\nb"])));
    let long = vec![b'x'; 100_000];
    child(|| exec(&program, &[b"long", b"workload", b"nothing", &long]));
    child(|| exec(&program, &[b"huge", b"workload", b"nothing", &long, &long]));
    child(|| {
        let none = std::ptr::null::<*const c_char>();
        // Not this program, which without arguments is the tests.
        // SAFETY: Linux takes a null pointer for an empty list.
        unsafe { libc::execve(c"/bin/true".as_ptr(), none, none) };
    });
}

/// One failure for each of these errors.
fn failures(folder: &str) {
    let path = |name: &str| CString::new(format!("{folder}/{name}")).unwrap_or_default();
    let long = vec![b'x'; 200_000];
    exec(&path("missing"), &[b"ENOENT", b"two words", HOSTILE]);
    exec(&path("plain"), &[b"EACCES"]);
    exec(&path("junk"), &[b"ENOEXEC"]);
    exec(&path("plain/below"), &[b"ENOTDIR"]);
    exec(&path("setuid"), &[b"E2BIG", &long]);
    execve_i386(path("missing").as_bytes(), &[b"i386", b"second"]);
    execveat(
        libc::AT_FDCWD,
        path("missing").as_bytes(),
        &[b"execveat", b"second"],
        0,
    );
    let (nowhere, argv): (*const c_char, *const *const c_char) = (
        std::ptr::without_provenance(1),
        std::ptr::without_provenance(8),
    );
    // SAFETY: the kernel finds that these are no addresses.
    unsafe { libc::execve(nowhere, argv, std::ptr::null()) };
    let many: Vec<&[u8]> = vec![b"many"; 1009];
    exec(&path("missing"), &many);
}

fn ends() {
    let program = me();
    let workload = |name: &'static [u8], words: &[&'static [u8]]| {
        child(|| exec(&program, &[&[name, b"workload"], words].concat()));
    };
    workload(b"none", &[b"nothing"]);
    workload(b"three", &[b"exit", b"3"]);
    workload(b"kill", &[b"signal", b"9"]);
    workload(b"term", &[b"signal", b"15"]);
    workload(b"real-time", &[b"signal", b"40"]);
    // Never runs a program of its own.
    // SAFETY: ends the process.
    child(|| unsafe { libc::_exit(4) });
    // The threads end one by one, the first one first.
    child(|| {
        std::thread::spawn(|| {
            std::thread::sleep(std::time::Duration::from_millis(50));
            // SAFETY: ends the thread.
            unsafe { libc::syscall(libc::SYS_exit, 9) };
        });
        // SAFETY: ends the thread.
        unsafe { libc::syscall(libc::SYS_exit, 5) };
    });
    // Another thread than the first ends all.
    child(|| {
        // SAFETY: ends the process.
        let thread = std::thread::spawn(|| unsafe { libc::_exit(6) });
        let _ = thread.join();
    });
    // A program that another replaces is one process with one end.
    workload(b"first", &[b"life", b"spawn", b"1"]);
}

/// Two that are to leave a core, of which one may not.
fn cores(folder: &str) {
    for (name, bytes) in [("with", libc::RLIM_INFINITY), ("without", 0)] {
        let limit = libc::rlimit {
            rlim_cur: bytes,
            rlim_max: bytes,
        };
        let end = child(|| {
            let _ = std::env::set_current_dir(folder);
            // SAFETY: points to a rlimit that lives through the call.
            unsafe { libc::setrlimit(libc::RLIMIT_CORE, &limit) };
            exec(&me(), &[name.as_bytes(), b"workload", b"signal", b"6"]);
        });
        let has_core = matches!(end, WaitStatus::Signaled(_, _, true));
        eprintln!("core {name} {has_core}");
    }
}

/// An exec with so many processes above it.
fn deep(levels: usize) {
    child(|| {
        if levels == 0 {
            return exec(&me(), &named("deep", &[]));
        }
        deep(levels - 1);
        exit(0);
    });
}

/// What `runs` and `failures` need in their folder.
pub(crate) fn prepare(folder: &str, program: &str) -> std::io::Result<()> {
    std::fs::create_dir_all(folder)?;
    let place = |name: &str, mode: u32| -> std::io::Result<String> {
        let path = format!("{folder}/{name}");
        if !std::path::Path::new(&path).exists() {
            std::fs::write(&path, "no program\n")?;
        }
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(mode))?;
        Ok(path)
    };
    std::fs::set_permissions(folder, std::fs::Permissions::from_mode(0o755))?;
    std::fs::copy(program, format!("{folder}/setuid"))?;
    place("setuid", 0o4755)?;
    std::fs::write(
        format!("{folder}/script"),
        format!("#!{folder}/setuid workload\n"),
    )?;
    place("script", 0o755)?;
    place("plain", 0o644)?;
    std::fs::write(format!("{folder}/junk"), [0, 1, 2, 3])?;
    place("junk", 0o755)?;
    Ok(())
}
