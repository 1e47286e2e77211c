// SPDX-License-Identifier: BSD-2-Clause
//! The kernel's clocks.

use std::fs;
use std::sync::OnceLock;

use nix::time::ClockId;
use nix::time::clock_gettime;

/// Nanoseconds.
pub(super) const SECOND: i128 = 1_000_000_000;

/// Nanoseconds of a clock, as the kernel side reads it: a time namespace shifts two of the
/// clocks for the processes in it (time_namespaces(7)).
pub(super) fn read(id: ClockId) -> i128 {
    static SHIFTS: OnceLock<[i128; 2]> = OnceLock::new();
    let [mono, boot] = SHIFTS.get_or_init(shifts);
    let shift = match id {
        ClockId::CLOCK_MONOTONIC => *mono,
        ClockId::CLOCK_BOOTTIME => *boot,
        _ => 0,
    };
    clock_gettime(id).map_or(0, |t| {
        i128::from(t.tv_sec()) * SECOND + i128::from(t.tv_nsec()) - shift
    })
}

/// What our time namespace adds to CLOCK_MONOTONIC and CLOCK_BOOTTIME (ns).
fn shifts() -> [i128; 2] {
    let link = |name: &str| fs::read_link(format!("/proc/self/ns/{name}")).ok();
    // The file is that of the children's namespace, which a process can have made without
    // being in it itself.
    if link("time") != link("time_for_children") {
        return [0; 2];
    }
    let offsets = fs::read_to_string("/proc/self/timens_offsets").unwrap_or_default();
    ["monotonic", "boottime"].map(|clock| offset(&offsets, clock))
}

fn offset(offsets: &str, clock: &str) -> i128 {
    let mut lines = offsets.lines().map(str::split_whitespace);
    let of = lines.find_map(|mut words| (words.next() == Some(clock)).then_some(words));
    let mut numbers = of.into_iter().flatten().map(str::parse::<i128>);
    match (numbers.next(), numbers.next()) {
        (Some(Ok(seconds)), Some(Ok(nanos))) => seconds * SECOND + nanos,
        _ => 0,
    }
}

/// CLOCK_MONOTONIC in nanoseconds, the kernel side's `bpf_ktime_get_ns`.
pub fn ktime() -> u64 {
    u64::try_from(read(ClockId::CLOCK_MONOTONIC)).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn offsets() {
        let text = "monotonic        -5         7\nboottime    1000000         0\n";
        assert_eq!(offset(text, "monotonic"), -5 * SECOND + 7);
        assert_eq!(offset(text, "boottime"), 1_000_000 * SECOND);
        assert_eq!(offset("", "monotonic"), 0);
    }
}
