// SPDX-License-Identifier: BSD-2-Clause
//! Names of open(2)'s flags, of errors and of signals.

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

/// `O_RDONLY|O_CLOEXEC`; bits without a name in hex at the end.
pub fn open_flags(flags: u64) -> String {
    let mut text = String::from(match flags & 3 {
        0 => "O_RDONLY",
        1 => "O_WRONLY",
        2 => "O_RDWR",
        _ => "O_ACCMODE",
    });
    let mut rest = flags & !3;
    for (name, bits) in FLAGS {
        let bits = u64::from(bits.cast_unsigned());
        if bits != 0 && rest & bits == bits {
            text.push('|');
            text.push_str(name);
            rest &= !bits;
        }
    }
    if rest != 0 {
        text.push_str(&format!("|{rest:#x}"));
    }
    text
}

/// Do these flags of open(2) make a file, so that its mode means something?
pub fn makes_a_file(flags: u64) -> bool {
    let bits = |flag: i32| u64::from(flag.cast_unsigned());
    flags & bits(libc::O_CREAT) != 0 || flags & bits(libc::O_TMPFILE) == bits(libc::O_TMPFILE)
}

/// Flags of name_to_handle_at(2): `AT_SYMLINK_FOLLOW|AT_EMPTY_PATH`, `0` for none.
pub fn at_flags(flags: u64) -> String {
    let names = [
        (0x200, "AT_HANDLE_FID"),
        (0x400, "AT_SYMLINK_FOLLOW"),
        (0x1000, "AT_EMPTY_PATH"),
    ];
    let mut texts: Vec<String> = names
        .iter()
        .filter(|(bit, _)| flags & bit != 0)
        .map(|(_, name)| (*name).to_owned())
        .collect();
    let rest = flags & !0x1600;
    if rest != 0 || texts.is_empty() {
        texts.push(if rest == 0 {
            "0".into()
        } else {
            format!("{rest:#x}")
        });
    }
    texts.join("|")
}

/// `SIGKILL`; real-time signals by number: `SIG34`.
pub fn signal_name(signal: i32) -> String {
    match Signal::try_from(signal) {
        Ok(signal) => signal.as_str().to_owned(),
        Err(_) => format!("SIG{signal}"),
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
        let of = |flags: i32| open_flags(u64::from(flags.cast_unsigned()));
        assert_eq!(of(0), "O_RDONLY");
        assert_eq!(
            of(libc::O_WRONLY | libc::O_CREAT | libc::O_TRUNC),
            "O_WRONLY|O_CREAT|O_TRUNC"
        );
        assert_eq!(of(libc::O_RDWR | libc::O_SYNC), "O_RDWR|O_SYNC");
        assert_eq!(of(libc::O_DSYNC), "O_RDONLY|O_DSYNC");
        assert_eq!(of(libc::O_TMPFILE | libc::O_RDWR), "O_RDWR|O_TMPFILE");
        assert_eq!(of(libc::O_DIRECTORY), "O_RDONLY|O_DIRECTORY");
        assert_eq!(open_flags(1 << 40), "O_RDONLY|0x10000000000");
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
