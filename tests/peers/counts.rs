// SPDX-License-Identifier: BSD-2-Clause
//! Counts of calls: by number for those who count in the kernel, by name for strace.

use std::collections::HashMap;

use syscalls::x86_64::Sysno;

use crate::compare;
use crate::compare::Difference;
use crate::compare::Expected;
use crate::compare::Losses;
use crate::holes::Hole;
use crate::model::Count;
use crate::model::Multiset;

/// Bit 30 of the number: the x32 ABI, which hello tells as an ABI.
const X32: i64 = 0x4000_0000;

/// The number as the kernel has it, without its ABI.
fn raw(row: &Count) -> i64 {
    if row.abi == "x32" {
        row.nr | X32
    } else {
        row.nr
    }
}

fn strace_name(row: &Count) -> String {
    let name = row.name.clone();
    name.unwrap_or_else(|| format!("syscall_{:#x}", row.nr))
}

fn name_of(number: i64) -> String {
    let known = usize::try_from(number).ok().and_then(Sysno::new);
    known.map_or_else(|| format!("#{number}"), |sysno| sysno.name().to_owned())
}

/// A peer's key as a name: some print numbers, each has names that others lack.
fn normal(key: &str) -> String {
    let number = key.strip_prefix('#').and_then(|number| number.parse().ok());
    number.map_or_else(|| key.to_owned(), name_of)
}

/// Against bpftrace, which counts entries (`by_entry`), or syscount, which counts returns.
/// Both have nothing but the number, as the kernel has it.
pub(crate) fn compare(
    ours: &[Count],
    theirs: &Multiset<String>,
    losses: Losses,
    by_entry: bool,
) -> Difference {
    let mut mine: Multiset<String> = HashMap::new();
    let mut errors: HashMap<String, Option<u64>> = HashMap::new();
    for row in ours {
        let name = name_of(raw(row));
        *mine.entry(name.clone()).or_default() += row.count;
        let sum = errors.entry(name).or_insert(Some(0));
        *sum = sum.and_then(|sum| Some(sum + row.errors?));
    }
    let mut peers: Multiset<String> = HashMap::new();
    for (key, count) in theirs {
        *peers.entry(normal(key)).or_default() += count;
    }
    compare::counts(&mine, &peers, losses, |name, count| {
        if by_entry {
            return None;
        }
        let (least, most, hole) = match name {
            "exit" | "exit_group" | "rt_sigreturn" => (0, 0, Hole::Returns),
            "fork" | "vfork" | "clone" | "clone3" => {
                // Each success returns in the child too.
                let exact = errors.get(name).copied().flatten();
                let exact = exact.map(|errors| 2 * count - errors);
                let range = (exact.unwrap_or(count), exact.unwrap_or(2 * count));
                (range.0, range.1, Hole::Returns)
            }
            "execveat" => (0, count, Hole::Returns),
            "execve" => {
                let others = mine.get("execveat").copied().unwrap_or(0);
                (count, count + others, Hole::Returns)
            }
            "write" => (count + 1, count + 1, Hole::CgroupWrite),
            _ => return None,
        };
        Some(Expected { least, most, hole })
    })
}

/// hello's failed calls by name; none if this hello does not tell.
fn errors(ours: &[Count], name: impl Fn(&Count) -> String) -> Option<Multiset<String>> {
    let mut mine: Multiset<String> = HashMap::new();
    for row in ours {
        let errors = row.errors?;
        if errors > 0 {
            *mine.entry(name(row)).or_default() += errors;
        }
    }
    Some(mine)
}

/// As many calls of a name, at the most, does a kill cut off in a workload that kills its
/// workers: few of them wait.
const CUT_OFF: u64 = 8;

/// Failed calls, against `syscount -x`. All of them return. `kills`: does the workload kill?
pub(crate) fn compare_errors(
    ours: &[Count],
    theirs: &Multiset<String>,
    losses: Losses,
    kills: bool,
) -> Option<Difference> {
    let mine = errors(ours, |row| name_of(raw(row)))?;
    let mut peers: Multiset<String> = HashMap::new();
    for (key, count) in theirs {
        *peers.entry(normal(key)).or_default() += count;
    }
    Some(compare::counts(&mine, &peers, losses, |_, count| {
        kills.then_some(Expected {
            least: count,
            most: count + CUT_OFF,
            hole: Hole::CutOff,
        })
    }))
}

/// Failed calls, against the errors of `strace -c`.
pub(crate) fn compare_strace_errors(
    ours: &[Count],
    theirs: &HashMap<String, (u64, u64)>,
    losses: Losses,
) -> Option<Difference> {
    let mine = errors(ours, strace_name)?;
    let peers = theirs
        .iter()
        .filter(|(_, (_, errors))| *errors > 0)
        .map(|(name, (_, errors))| (name.clone(), *errors))
        .collect();
    Some(compare::counts(&mine, &peers, losses, |name, count| {
        let calls = ours.iter().filter(|row| row.name.as_deref() == Some(name));
        (name == "rt_sigreturn").then(|| Expected {
            least: count,
            most: calls.map(|row| row.count).sum(),
            hole: Hole::Sigreturn,
        })
    }))
}

/// Against `strace -c`, which has its own names.
pub(crate) fn compare_strace(
    ours: &[Count],
    theirs: &HashMap<String, (u64, u64)>,
    losses: Losses,
    kills: bool,
) -> Difference {
    let mut mine: Multiset<String> = HashMap::new();
    for row in ours {
        *mine.entry(strace_name(row)).or_default() += row.count;
    }
    let peers = theirs
        .iter()
        .map(|(name, (calls, _))| (name.clone(), *calls))
        .collect();
    compare::counts(&mine, &peers, losses, |name, count| {
        let (least, hole) = match name {
            "exit" | "exit_group" => (0, Hole::Killed),
            // strace.c, exec_or_die(): kill(getpid(), SIGSTOP).
            "getpid" | "kill" => (count - 1, Hole::StraceChild),
            // Both workers and whom they wait for may be killed wherever they are.
            _ if kills => (count.saturating_sub(4), Hole::Killed),
            _ => return None,
        };
        Some(Expected {
            least,
            most: count,
            hole,
        })
    })
}
