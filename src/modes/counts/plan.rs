// SPDX-License-Identifier: BSD-2-Clause
//! What a counting mode asks of the kernel side: axes, room, names of pinned files.

use super::Look;
use super::read::Store;
use super::rows::KEYS;
use super::rows::TIMES;
use crate::cli::Axis;
use crate::cli::UsageError;
use crate::modes::Mode;
use crate::session::Context;
use crate::wire::types::hello_axis;

/// Keys that have room unless `--max-entries` says otherwise.
const ROOM: u32 = 65_536;
/// … but not more than fit into this: a key costs more the more CPUs there are.
const ROOM_BYTES: u32 = 64 << 20;

/// The axes asked for, or the mode's own.
pub(in crate::modes) fn axes(cx: &Context, default: Axis) -> Vec<Axis> {
    let mut axes = if cx.args.by.is_empty() {
        vec![default]
    } else {
        cx.args.by.clone()
    };
    axes.sort_unstable();
    axes.dedup();
    axes
}

/// `config.count_by` for them.
pub(in crate::modes) fn bits(axes: &[Axis]) -> u32 {
    axes.iter()
        .map(|axis| {
            match axis {
                Axis::Syscall => hello_axis::HELLO_BY_SYSCALL,
                Axis::Uid => hello_axis::HELLO_BY_UID,
                Axis::Pid => hello_axis::HELLO_BY_PID,
                Axis::Comm => hello_axis::HELLO_BY_COMM,
                Axis::Cgroup => hello_axis::HELLO_BY_CGROUP,
                Axis::Container => hello_axis::HELLO_BY_CONTAINER,
                Axis::Errno => hello_axis::HELLO_BY_ERRNO,
            }
            .0
        })
        .fold(0, |all, bit| all | bit)
}

/// As `--by` spells them.
fn names(axes: &[Axis]) -> Vec<String> {
    let name = |axis: &Axis| format!("{axis:?}").to_lowercase();
    axes.iter().map(name).collect()
}

/// How many keys a table has room for, at so many bytes for each.
pub(in crate::modes) fn room(cx: &Context, bytes: u32) -> u32 {
    let fitting = ROOM_BYTES / bytes.max(1);
    cx.args.max_entries.unwrap_or(ROOM.min(fitting).max(1024))
}

/// Which layout counters have (src/bpf/count.bpf.h). To be raised where it changes: what was
/// pinned before would be read as something else.
const LAYOUT: u32 = 2;

/// The names of the pinned files: counters by other axes are other counters, and so
/// are those of failed calls only, those with times, and those that may be estimates.
/// Results are watched where an axis or one of these needs them, and so are in the name
/// already.
pub(in crate::modes) fn pins(
    stores: &[Store],
    axes: &[Axis],
    look: &Look,
) -> Vec<(&'static str, String)> {
    let by = names(axes).join("_");
    let failed = if look.failed { "_failed" } else { "" };
    let timed = if look.times { "_timed" } else { "" };
    let sampled = if look.budget { "_sampled" } else { "" };
    stores
        .iter()
        .map(|(map, _)| {
            (
                *map,
                format!("{map}_v{LAYOUT}_by_{by}{failed}{timed}{sampled}"),
            )
        })
        .collect()
}

/// The option that would add a column to a table by `axes`; none if nothing would.
fn option_of(column: &str, axes: &[Axis], look: &Look) -> Option<String> {
    if let Some((axis, _)) = KEYS.iter().find(|(_, name)| *name == column) {
        let all = [axes, &[*axis]].concat();
        return Some(format!("--by {}", names(&all).join(",")));
    }
    match column {
        "TIMED" if !look.times && !look.budget => Some("--latency --max-cpu PERCENT".into()),
        "TIMED" if !look.times => Some("--latency".into()),
        "MARGIN" | "TIMED" => Some("--max-cpu".into()),
        "INFLIGHT" if look.failed => None,
        "ERRORS" | "INFLIGHT" => Some("--latency".into()),
        _ => TIMES.contains(&column).then(|| "--latency".into()),
    }
}

/// Are all columns that were asked for among `there`, those of the table?
///
/// # Errors
/// One is not, but would be with another option of the mode.
pub(super) fn check_columns(
    cx: &Context,
    there: &[&str],
    axes: &[Axis],
    look: &Look,
) -> Result<(), UsageError> {
    let mode = cx.args.mode.as_deref().and_then(Mode::named);
    let takes = |option: &str| {
        let name = option[2..].split(' ').next();
        mode.zip(name)
            .is_some_and(|(mode, name)| mode.info.options.contains(&name))
    };
    for column in cx.args.columns.iter().map(|name| name.to_ascii_uppercase()) {
        // What calls return only a mode knows that sees them do it.
        if there.contains(&column.as_str()) || column == "ERRNO" && !takes("--latency") {
            continue;
        }
        if let Some(option) = option_of(&column, axes, look).filter(|option| takes(option)) {
            return Err(UsageError(format!(
                "--columns: {column} is not in this table; {option} adds it"
            )));
        }
    }
    Ok(())
}
