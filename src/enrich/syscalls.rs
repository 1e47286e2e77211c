// SPDX-License-Identifier: BSD-2-Clause
//! System calls by name and number, for every ABI of this architecture.
//!
//! The same number is another call in another table (i386's 3 is read, x86-64's
//! is close), so a call is always a pair of ABI and number.

use std::fmt;

#[cfg(target_arch = "aarch64")]
use syscalls::aarch64::Sysno as Native;
#[cfg(target_arch = "aarch64")]
use syscalls::arm::Sysno as Compat;
#[cfg(target_arch = "x86_64")]
use syscalls::x86::Sysno as Compat;
#[cfg(target_arch = "x86_64")]
use syscalls::x86_64::Sysno as Native;

/// The table that a number belongs to; the values are those of `enum hello_abi`
/// (src/bpf/hello.bpf.h).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Abi {
    /// x86-64 or arm64.
    Native = 0,
    /// The 32-bit entry: i386 or arm.
    Compat = 1,
    /// x32: the 64-bit entry with bit 30 of the number set.
    X32 = 2,
}

impl Abi {
    /// Those of this architecture.
    pub const ALL: &'static [Self] = if cfg!(target_arch = "x86_64") {
        &[Self::Native, Self::Compat, Self::X32]
    } else {
        &[Self::Native, Self::Compat]
    };

    /// From the kernel side's number.
    pub fn from_raw(raw: u32) -> Self {
        match raw {
            1 => Self::Compat,
            2 => Self::X32,
            _ => Self::Native,
        }
    }

    /// As it is printed.
    pub fn name(self) -> &'static str {
        match (self, cfg!(target_arch = "x86_64")) {
            (Self::Native, true) => "x86_64",
            (Self::Native, false) => "arm64",
            (Self::Compat, true) => "i386",
            (Self::Compat, false) => "arm",
            (Self::X32, _) => "x32",
        }
    }
}

/// One system call of one ABI.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Call {
    /// Whose table.
    pub abi: Abi,
    /// Number in it; for x32 without bit 30.
    pub nr: u32,
}

/// Calls that x32 has numbers of its own for, from 512 on
/// (arch/x86/entry/syscalls/syscall_64.tbl; closed for additions).
const X32: &[&str] = &[
    "rt_sigaction",
    "rt_sigreturn",
    "ioctl",
    "readv",
    "writev",
    "recvfrom",
    "sendmsg",
    "recvmsg",
    "execve",
    "ptrace",
    "rt_sigpending",
    "rt_sigtimedwait",
    "rt_sigqueueinfo",
    "sigaltstack",
    "timer_create",
    "mq_notify",
    "kexec_load",
    "waitid",
    "set_robust_list",
    "get_robust_list",
    "vmsplice",
    "move_pages",
    "preadv",
    "pwritev",
    "rt_tgsigqueueinfo",
    "recvmmsg",
    "sendmmsg",
    "process_vm_readv",
    "process_vm_writev",
    "setsockopt",
    "getsockopt",
    "io_setup",
    "io_submit",
    "execveat",
    "preadv2",
    "pwritev2",
];

const X32_FIRST: u32 = 512;

impl Call {
    /// Its number as the caller gave it, which may be negative.
    pub fn number(self) -> i32 {
        self.nr.cast_signed()
    }

    /// Its name; `None` for a number that the table does not have.
    pub fn name(self) -> Option<&'static str> {
        let nr = self.nr as usize;
        let name = match self.abi {
            Abi::Native => Native::new(nr)?.name(),
            Abi::Compat => Compat::new(nr)?.name(),
            Abi::X32 if self.nr >= X32_FIRST => X32.get((self.nr - X32_FIRST) as usize)?,
            Abi::X32 => Native::new(nr)?.name(),
        };
        Some(name.trim_start_matches("r#"))
    }
}

/// The name, or the number if it has none; of another ABI than the native one as
/// `i386:getpid`.
impl fmt::Display for Call {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.abi != Abi::Native {
            write!(f, "{}:", self.abi.name())?;
        }
        match self.name() {
            Some(name) => f.write_str(name),
            None => write!(f, "{}", self.number()),
        }
    }
}

/// The call of that name in every ABI that has it, or of that number in the
/// native table.
///
/// # Errors
/// The names nearest to an unknown one, best first.
pub fn resolve(name_or_number: &str) -> Result<Vec<Call>, Vec<&'static str>> {
    if let Ok(nr) = name_or_number.parse::<u32>() {
        return Ok(vec![Call {
            abi: Abi::Native,
            nr,
        }]);
    }
    let calls: Vec<Call> = Abi::ALL
        .iter()
        .filter_map(|&abi| {
            Some(Call {
                abi,
                nr: number(abi, name_or_number)?,
            })
        })
        .collect();
    if calls.is_empty() {
        Err(nearest(name_or_number))
    } else {
        Ok(calls)
    }
}

/// execve and execveat of every ABI: the ways to run a program.
pub fn execs() -> Vec<Call> {
    ["execve", "execveat"]
        .iter()
        .filter_map(|name| resolve(name).ok())
        .flatten()
        .collect()
}

fn number(abi: Abi, name: &str) -> Option<u32> {
    // A keyword of Rust, so the table spells it otherwise.
    let name = if name == "break" { "r#break" } else { name };
    let id = match abi {
        Abi::Native => name.parse::<Native>().ok()?.id(),
        Abi::Compat => name.parse::<Compat>().ok()?.id(),
        Abi::X32 => match X32.iter().position(|call| *call == name) {
            Some(at) => return Some(X32_FIRST + u32::try_from(at).ok()?),
            None => name.parse::<Native>().ok()?.id(),
        },
    };
    u32::try_from(id).ok()
}

/// Up to three names of at most a third of the letters wrong, or that begin alike.
fn nearest(name: &str) -> Vec<&'static str> {
    let mut names: Vec<(usize, &str)> = Native::iter()
        .map(|call| call.name())
        .chain(Compat::iter().map(|call| call.name()))
        .map(|name| name.trim_start_matches("r#"))
        .map(|call| (distance(name, call), call))
        .filter(|(distance, call)| {
            *distance <= name.len().div_ceil(3)
                || (name.len() >= 3 && (call.starts_with(name) || name.starts_with(call)))
        })
        .collect();
    names.sort();
    names.dedup();
    names.into_iter().map(|(_, call)| call).take(3).collect()
}

/// Levenshtein's distance in bytes.
fn distance(a: &str, b: &str) -> usize {
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, x) in a.bytes().enumerate() {
        let mut diagonal = row[0];
        row[0] = i + 1;
        for (j, y) in b.bytes().enumerate() {
            let above = row[j + 1];
            row[j + 1] = (diagonal + usize::from(x != y))
                .min(above + 1)
                .min(row[j] + 1);
            diagonal = above;
        }
    }
    row[b.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    #[cfg(target_arch = "x86_64")]
    fn the_same_number_is_another_call_elsewhere() {
        let name = |abi, nr| Call { abi, nr }.name();
        assert_eq!(name(Abi::Native, 3), Some("close"));
        assert_eq!(name(Abi::Compat, 3), Some("read"));
        assert_eq!(name(Abi::X32, 3), Some("close"));
        assert_eq!(name(Abi::X32, 520), Some("execve"));
        assert_eq!(name(Abi::X32, 547), Some("pwritev2"));
        assert_eq!(name(Abi::X32, 548), None);
        assert_eq!(name(Abi::Compat, 17), Some("break"));
        assert_eq!(name(Abi::Native, 9999), None);
        let shown = |abi, nr| Call { abi, nr }.to_string();
        assert_eq!(shown(Abi::Native, 9999), "9999");
        assert_eq!(shown(Abi::Native, 39), "getpid");
        assert_eq!(shown(Abi::Native, -5i32 as u32), "-5");
        assert_eq!(shown(Abi::Compat, 20), "i386:getpid");
    }

    #[test]
    #[cfg(target_arch = "x86_64")]
    fn a_name_is_a_call_of_every_abi_that_has_it() {
        let of = |name| {
            resolve(name).map(|calls| calls.iter().map(|c| (c.abi, c.nr)).collect::<Vec<_>>())
        };
        assert_eq!(
            of("execve"),
            Ok(vec![(Abi::Native, 59), (Abi::Compat, 11), (Abi::X32, 520)])
        );
        assert_eq!(of("waitpid"), Ok(vec![(Abi::Compat, 7)]));
        assert_eq!(of("break"), Ok(vec![(Abi::Compat, 17)]));
        assert_eq!(of("9999"), Ok(vec![(Abi::Native, 9999)]));
    }

    #[test]
    fn the_nearest_names_are_offered() {
        assert_eq!(resolve("opneat").map_err(|names| names[0]), Err("openat"));
        assert!(resolve("exec").is_err_and(|names| names.contains(&"execve")));
        assert_eq!(resolve("completely-unlike-anything"), Err(vec![]));
        assert!(resolve("").is_err());
    }
}
