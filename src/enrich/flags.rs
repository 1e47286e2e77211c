// SPDX-License-Identifier: BSD-2-Clause
//! Names of open(2)'s flags, of errors and of signals.

use std::borrow::Cow;
use std::io::Write as _;

use nix::libc;
use nix::sys::signal::Signal;
use syscalls::Errno;

/// Flags beside the access mode. `O_SYNC` and `O_TMPFILE` contain the bits of
/// others and come first.
const FLAGS: &[(&str, i32)] = &[
    ("O_TMPFILE", libc::O_TMPFILE),
    ("O_SYNC", libc::O_SYNC),
    ("O_APPEND", libc::O_APPEND),
    ("O_ASYNC", libc::O_ASYNC),
    ("O_CLOEXEC", libc::O_CLOEXEC),
    ("O_CREAT", libc::O_CREAT),
    ("O_DIRECT", libc::O_DIRECT),
    ("O_DIRECTORY", libc::O_DIRECTORY),
    ("O_DSYNC", libc::O_DSYNC),
    ("O_EXCL", libc::O_EXCL),
    // libc has 0 where the 64-bit ABI implies it; callers still pass the bit.
    #[cfg(target_arch = "x86_64")]
    ("O_LARGEFILE", 0o100_000),
    #[cfg(target_arch = "aarch64")]
    ("O_LARGEFILE", 0o400_000),
    ("O_NOATIME", libc::O_NOATIME),
    ("O_NOCTTY", libc::O_NOCTTY),
    ("O_NOFOLLOW", libc::O_NOFOLLOW),
    ("O_NONBLOCK", libc::O_NONBLOCK),
    ("O_PATH", libc::O_PATH),
    ("O_TRUNC", libc::O_TRUNC),
];

/// Appends `O_RDONLY|O_CLOEXEC`; bits without a name in hex at the end.
pub fn open_flags(out: &mut Vec<u8>, flags: u64) {
    out.extend_from_slice(match flags & 3 {
        0 => b"O_RDONLY",
        1 => b"O_WRONLY",
        2 => b"O_RDWR",
        _ => b"O_ACCMODE",
    });
    let mut rest = flags & !3;
    for (name, bits) in FLAGS {
        if rest == 0 {
            return;
        }
        let bits = u64::from(bits.cast_unsigned());
        if bits != 0 && rest & bits == bits {
            out.push(b'|');
            out.extend_from_slice(name.as_bytes());
            rest &= !bits;
        }
    }
    if rest != 0 {
        let _ = write!(out, "|{rest:#x}");
    }
}

/// Do these flags of open(2) make a file, so that its mode means something?
pub fn makes_a_file(flags: u64) -> bool {
    let bits = |flag: i32| u64::from(flag.cast_unsigned());
    flags & bits(libc::O_CREAT) != 0 || flags & bits(libc::O_TMPFILE) == bits(libc::O_TMPFILE)
}

/// Appends flags of name_to_handle_at(2): `AT_SYMLINK_FOLLOW|AT_EMPTY_PATH`, `0` for none.
pub fn at_flags(out: &mut Vec<u8>, flags: u64) {
    let names = [
        (0x200, "AT_HANDLE_FID"),
        (0x400, "AT_SYMLINK_FOLLOW"),
        (0x1000, "AT_EMPTY_PATH"),
    ];
    let start = out.len();
    for (_, name) in names.iter().filter(|(bit, _)| flags & bit != 0) {
        out.extend_from_slice(name.as_bytes());
        out.push(b'|');
    }
    match flags & !0x1600 {
        0 if out.len() > start => _ = out.pop(),
        0 => out.push(b'0'),
        rest => _ = write!(out, "{rest:#x}"),
    }
}

/// `SIGKILL`; real-time signals by number: `SIG34`.
pub fn signal_name(signal: i32) -> Cow<'static, str> {
    match Signal::try_from(signal) {
        Ok(signal) => signal.as_str().into(),
        Err(_) => format!("SIG{signal}").into(),
    }
}

/// The name of the error that a system call returned (`-ENOENT` as `ENOENT`);
/// `None` for success and for numbers without a name.
pub fn errno_name(ret: i64) -> Option<&'static str> {
    if !(-4095..0).contains(&ret) {
        return None;
    }
    Errno::new(i32::try_from(-ret).ok()?).name()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn flags() {
        let text = |append: fn(&mut Vec<u8>, u64), flags| {
            let mut text = Vec::new();
            append(&mut text, flags);
            String::from_utf8(text).expect("ASCII")
        };
        let of = |flags: i32| text(open_flags, u64::from(flags.cast_unsigned()));
        assert_eq!(of(0), "O_RDONLY");
        assert_eq!(
            of(libc::O_WRONLY | libc::O_CREAT | libc::O_TRUNC),
            "O_WRONLY|O_CREAT|O_TRUNC"
        );
        assert_eq!(of(libc::O_RDWR | libc::O_SYNC), "O_RDWR|O_SYNC");
        assert_eq!(of(libc::O_DSYNC), "O_RDONLY|O_DSYNC");
        assert_eq!(of(libc::O_TMPFILE | libc::O_RDWR), "O_RDWR|O_TMPFILE");
        assert_eq!(of(libc::O_DIRECTORY), "O_RDONLY|O_DIRECTORY");
        assert_eq!(text(open_flags, 1 << 40), "O_RDONLY|0x10000000000");
        assert_eq!(text(at_flags, 0), "0");
        assert_eq!(text(at_flags, 0x1000), "AT_EMPTY_PATH");
        assert_eq!(
            text(at_flags, 0x1408),
            "AT_SYMLINK_FOLLOW|AT_EMPTY_PATH|0x8"
        );
    }

    #[test]
    fn signals() {
        assert_eq!(signal_name(9), "SIGKILL");
        assert_eq!(signal_name(34), "SIG34");
    }

    #[test]
    fn errors() {
        assert_eq!(errno_name(-2), Some("ENOENT"));
        assert_eq!(errno_name(-40), Some("ELOOP"));
        assert_eq!(errno_name(0), None);
        assert_eq!(errno_name(3), None);
        assert_eq!(errno_name(-4096), None);
    }
}
