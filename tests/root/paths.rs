// SPDX-License-Identifier: BSD-2-Clause
//! A program that opens files in every way there is, and what each should be told as.

use std::ffi::CString;
use std::fs;
use std::os::fd::AsRawFd as _;
use std::os::unix::ffi::OsStrExt as _;
use std::path::Path;

use nix::libc;
use nix::mount::MsFlags;
use nix::mount::mount;

use crate::uring;
use crate::workload::AT_FDCWD;
use crate::workload::i386;
use crate::workload::low;
use crate::workload::low_bytes;
use crate::workload::native;

/// What an open is to be told as.
#[derive(Debug)]
pub(crate) struct Expected {
    pub(crate) via: &'static str,
    pub(crate) abi: &'static str,
    /// `ok` or the name of the error.
    pub(crate) result: &'static str,
    /// As given; `@` stands for the folder of the test, null for one that is not told.
    pub(crate) given: Option<&'static str>,
    pub(crate) path: Option<&'static str>,
    pub(crate) flags: &'static str,
    /// Flags and mode, as given to the call.
    pub(crate) asked: (&'static str, u64),
}

const fn open(
    via: &'static str,
    result: &'static str,
    given: &'static str,
    path: &'static str,
) -> Expected {
    Expected {
        via,
        abi: "x86_64",
        result,
        given: Some(given),
        path: Some(path),
        flags: "",
        asked: ("O_RDONLY", 0),
    }
}

/// All of them in their order. After `deleted` and so on stands what else is told.
pub(crate) const EXPECTED: &[Expected] = &[
    open("openat", "ok", "a", "@/a"),
    Expected {
        asked: ("O_RDONLY|O_DIRECTORY", 0),
        ..open("openat", "ok", "@/d", "@/d")
    },
    open("openat", "ok", "../a", "@/a"),
    open("openat", "ENOENT", "nope", "@/d/nope"),
    open("openat", "ENOENT", "./x//./nope", "@/x/nope"),
    open("openat", "ENOENT", "../nope", "@/d/../nope"),
    open("openat", "ok", "link", "@/a"),
    Expected {
        path: None,
        ..open("openat", "ENOENT", "", "")
    },
    Expected {
        asked: ("O_RDONLY|O_DIRECTORY", 0),
        ..open("openat", "ok", "/", "/")
    },
    open("openat2", "ENOENT", "/nope", "@/d/nope"),
    Expected {
        asked: ("O_RDWR|O_CLOEXEC|O_CREAT", 0o640),
        ..open("openat2", "ok", "b", "@/b")
    },
    // Refused before anything is looked for: wrong size, unreadable `how`.
    Expected {
        asked: ("O_RDWR|O_CLOEXEC|O_CREAT", 0o640),
        ..open("openat2", "EINVAL", "b", "@/b")
    },
    open("openat2", "EFAULT", "b", "@/b"),
    Expected {
        asked: ("0", 0),
        ..open("name_to_handle_at", "ok", "a", "@/a")
    },
    Expected {
        asked: ("0", 0),
        ..open("name_to_handle_at", "ENOENT", "nope", "@/nope")
    },
    Expected {
        path: None,
        asked: ("0", 0),
        ..open("name_to_handle_at", "ENOENT", "", "")
    },
    Expected {
        asked: ("AT_EMPTY_PATH", 0),
        ..open("name_to_handle_at", "ok", "", "@/d")
    },
    Expected {
        given: None,
        ..open("open_by_handle_at", "ok", "", "@/a")
    },
    Expected {
        path: None,
        ..open("openat", "EBADF", "nope", "")
    },
    Expected {
        given: None,
        path: None,
        ..open("openat", "EFAULT", "", "")
    },
    Expected {
        abi: "i386",
        ..open("openat", "ok", "a", "@/a")
    },
    Expected {
        abi: "i386",
        ..open("open", "ENOENT", "d/nope", "@/d/nope")
    },
    Expected {
        abi: "i386",
        asked: ("O_RDWR|O_CLOEXEC|O_CREAT", 0o640),
        ..open("openat2", "ok", "b", "@/b")
    },
    Expected {
        abi: "i386",
        asked: ("0", 0),
        ..open("name_to_handle_at", "ok", "a", "@/a")
    },
    Expected {
        abi: "i386",
        given: None,
        ..open("open_by_handle_at", "ok", "", "@/a")
    },
    Expected {
        abi: "i386",
        asked: ("O_WRONLY|O_CREAT|O_TRUNC", 0o604),
        ..open("creat", "ok", "b", "@/b")
    },
    Expected {
        flags: "deleted",
        ..open("openat", "ok", "/proc/self/fd/100", "@/gone")
    },
    Expected {
        flags: "unreachable",
        ..open("openat", "ok", "/proc/self/fd/101", "/memfd:secret")
    },
    open("openat", "ok", "m/f", "@/m/f"),
    open("openat", "EMFILE", "a", "@/a"),
    open("openat", "ok", "f", "/f"),
    open("openat", "ENOENT", "/nope", "/nope"),
];

/// … and by io_uring, where the kernel lets it.
pub(crate) const BY_RING: &[Expected] = &[
    Expected {
        asked: ("O_RDONLY|O_CLOEXEC", 0),
        ..open("io_uring", "ok", "a", "@/a")
    },
    Expected {
        asked: ("O_RDONLY|O_CLOEXEC", 0),
        ..open("io_uring", "ENOENT", "d/nope", "@/d/nope")
    },
    Expected {
        asked: ("O_RDONLY|O_CLOEXEC", 0),
        ..open("io_uring", "ENOENT", "nope", "@/d/nope")
    },
    Expected {
        asked: ("O_RDWR|O_CREAT", 0o640),
        ..open("io_uring", "ok", "b", "@/b")
    },
    Expected {
        asked: ("O_RDWR|O_CREAT", 0o640),
        ..open("io_uring", "ok", "./b", "@/b")
    },
    Expected {
        asked: ("O_RDONLY", 0),
        ..open("io_uring", "ENOENT", "/nope", "@/nope")
    },
];

const fn c(text: &str) -> *const libc::c_char {
    text.as_ptr().cast()
}

fn openat(dirfd: usize, path: &str, flags: i32) -> isize {
    let path = CString::new(path).unwrap_or_default();
    let flags = flags.cast_unsigned() as usize;
    native(
        libc::SYS_openat as usize,
        [dirfd, path.as_ptr() as usize, flags, 0],
    )
}

/// An open that does not count: before and after them.
pub(crate) const BEGIN: &str = "/hello-begin";
pub(crate) const END: &str = "/hello-end";

/// Makes the files that the workload needs, all that opens any.
fn prepare(folder: &Path) -> std::io::Result<(fs::File, i32)> {
    fs::create_dir_all(folder.join("d"))?;
    fs::create_dir_all(folder.join("m"))?;
    fs::write(folder.join("a"), "a")?;
    std::os::unix::fs::symlink("a", folder.join("link"))?;
    let none = None::<&str>;
    mount(
        Some("tmpfs"),
        &folder.join("m"),
        Some("tmpfs"),
        MsFlags::empty(),
        none,
    )?;
    fs::write(folder.join("m/f"), "f")?;
    std::env::set_current_dir(folder)?;
    let gone = fs::File::create(folder.join("gone"))?;
    fs::remove_file(folder.join("gone"))?;
    // SAFETY: a NUL-terminated string; the others are integers.
    let memfd = unsafe { libc::memfd_create(c("secret\0"), 0) };
    // SAFETY: takes integers.
    unsafe {
        libc::dup2(gone.as_raw_fd(), 100);
        libc::dup2(memfd, 101);
    }
    Ok((gone, memfd))
}

/// Room for a struct file_handle (open_by_handle_at(2)).
#[repr(C)]
struct Handle {
    bytes: u32,
    kind: i32,
    handle: [u8; 128],
}

/// Opens as EXPECTED says.
pub(crate) fn run(folder: &str) {
    let path = Path::new(folder);
    let keep = match prepare(path) {
        Ok(keep) => keep,
        Err(error) => {
            eprintln!("cannot prepare {folder}: {error}");
            std::process::exit(98);
        }
    };
    openat(AT_FDCWD, BEGIN, 0);
    openat(AT_FDCWD, "a", 0);
    let below = openat(AT_FDCWD, &format!("{folder}/d"), libc::O_DIRECTORY) as usize;
    openat(below, "../a", 0);
    openat(below, "nope", 0);
    openat(AT_FDCWD, "./x//./nope", 0);
    openat(below, "../nope", 0);
    openat(AT_FDCWD, "link", 0);
    openat(AT_FDCWD, "", 0);
    openat(AT_FDCWD, "/", libc::O_DIRECTORY);
    let openat2 = |dirfd: usize, path: &CString, how: [u64; 3]| {
        let (path, how) = (path.as_ptr() as usize, how.as_ptr() as usize);
        native(libc::SYS_openat2 as usize, [dirfd, path, how, 24])
    };
    openat2(
        below,
        &CString::from(c"/nope"),
        [0, 0, libc::RESOLVE_IN_ROOT],
    );
    let flags = libc::O_RDWR | libc::O_CREAT | libc::O_CLOEXEC;
    let how = [u64::from(flags.cast_unsigned()), 0o640, 0];
    openat2(AT_FDCWD, &CString::from(c"b"), how);
    for (how, size) in [(how.as_ptr() as usize, 8), (16, 24)] {
        let call = [AT_FDCWD, c"b".as_ptr() as usize, how, size];
        native(libc::SYS_openat2 as usize, call);
    }
    handles(below);
    openat(999, "nope", 0);
    native(libc::SYS_openat as usize, [AT_FDCWD, 16, 0, 0]);
    i386(295, [AT_FDCWD, low("a"), 0, 0]);
    i386(5, [low("d/nope"), 0, 0, 0]);
    let how = low_bytes(&how.map(u64::to_ne_bytes).concat());
    i386(437, [AT_FDCWD, low("b"), how, 24]);
    let handle = low_bytes(&[&128u32.to_ne_bytes()[..], &[0; 132]].concat());
    i386(341, [AT_FDCWD, low("a"), handle, low_bytes(&[0; 4])]);
    i386(342, [AT_FDCWD, handle, 0, 0]);
    i386(8, [low("b"), 0o604, 0, 0]);
    openat(AT_FDCWD, "/proc/self/fd/100", 0);
    openat(AT_FDCWD, "/proc/self/fd/101", 0);
    openat(AT_FDCWD, "m/f", 0);
    let few = libc::rlimit {
        rlim_cur: 3,
        rlim_max: 4096,
    };
    let many = libc::rlimit {
        rlim_cur: 4096,
        rlim_max: 4096,
    };
    // SAFETY: points to a rlimit that lives through the call.
    unsafe { libc::setrlimit(libc::RLIMIT_NOFILE, &few) };
    openat(AT_FDCWD, "a", 0);
    // SAFETY: as above.
    unsafe { libc::setrlimit(libc::RLIMIT_NOFILE, &many) };
    // SAFETY: takes NUL-terminated strings.
    unsafe {
        libc::chroot(c("m\0"));
        libc::chdir(c("/\0"));
    }
    openat(AT_FDCWD, "f", 0);
    openat(AT_FDCWD, "/nope", 0);
    openat(AT_FDCWD, END, 0);
    drop(keep);
}

fn handles(folder: usize) {
    let mut handle = Handle {
        bytes: 128,
        kind: 0,
        handle: [0; 128],
    };
    let at = std::ptr::from_mut(&mut handle) as usize;
    let mut mount = 0i32;
    let mount = std::ptr::from_mut(&mut mount) as usize;
    let name = |path: &str| {
        let path = CString::new(path).unwrap_or_default();
        let path = path.as_ptr() as usize;
        native(
            libc::SYS_name_to_handle_at as usize,
            [AT_FDCWD, path, at, mount],
        )
    };
    name("a");
    name("nope");
    name("");
    let mut other = Handle {
        bytes: 128,
        kind: 0,
        handle: [0; 128],
    };
    // SAFETY: a string, and memory that lives through the call.
    unsafe {
        libc::syscall(
            libc::SYS_name_to_handle_at,
            folder,
            c"".as_ptr(),
            std::ptr::from_mut(&mut other),
            mount,
            libc::AT_EMPTY_PATH,
        )
    };
    native(libc::SYS_open_by_handle_at as usize, [AT_FDCWD, at, 0, 0]);
}

/// Opens by io_uring as BY_RING says.
pub(crate) fn by_ring(folder: &str) {
    if let Err(error) = prepare(Path::new(folder)) {
        eprintln!("cannot prepare {folder}: {error}");
        std::process::exit(98);
    }
    let below = openat(AT_FDCWD, &format!("{folder}/d"), libc::O_DIRECTORY);
    let mut ring = uring::Ring::new();
    openat(AT_FDCWD, BEGIN, 0);
    ring.openat(libc::AT_FDCWD, c"a");
    ring.openat(libc::AT_FDCWD, c"d/nope");
    ring.openat(i32::try_from(below).unwrap_or(-1), c"nope");
    let flags = u64::from((libc::O_RDWR | libc::O_CREAT).cast_unsigned());
    ring.openat2(c"b", [flags, 0o640, 0], false);
    ring.openat2(c"./b", [flags, 0o640, 0], true);
    ring.openat2(c"/nope", [0, 0, libc::RESOLVE_IN_ROOT], true);
    openat(AT_FDCWD, END, 0);
}

/// A folder of `names` names in each other and a file `f` in the last, opened by its
/// whole path where that is not too long, else from the folder.
pub(crate) fn deep(folder: &str, name: &str, names: u64) {
    let mut whole = folder.to_owned();
    let enter =
        |path: &Path| fs::create_dir_all(path).and_then(|()| std::env::set_current_dir(path));
    let _ = enter(Path::new(folder));
    for _ in 0..names {
        let _ = enter(Path::new(name));
        whole += &format!("/{name}");
    }
    let _ = fs::write("f", "");
    openat(AT_FDCWD, "f", 0);
    let path = Path::new(&whole);
    if path.as_os_str().as_bytes().len() < 4000 {
        openat(AT_FDCWD, &format!("{whole}/nope"), 0);
    }
    openat(AT_FDCWD, END, 0);
}
