// SPDX-License-Identifier: BSD-2-Clause
//! Counters of processes that have ended: taken out of the kernel's maps once a table
//! has told them. Else a map would fill with the dead, and lose the calls of the living.

use std::collections::BTreeSet;

use anyhow::Result;
use libbpf_rs::MapCore as _;
use libbpf_rs::MapFlags;
use libbpf_rs::Object;
use nix::errno::Errno;
use nix::sys::signal::kill;
use nix::unistd::Pid;

use super::read::Key;
use super::read::Kind;
use super::read::Snapshot;
use super::read::Store;
use super::read::Tally;
use super::read::id;
use super::read::of_rows;
use super::read::settle;
use crate::session::find_map;
use crate::wire;
use crate::wire::types::hello_key;

/// Is there no process of that number, nor a thread? A zombie still has it.
fn is_gone(pid: u32) -> bool {
    let pid = i32::try_from(pid).unwrap_or(0);
    kill(Pid::from_raw(pid), None) == Err(Errno::ESRCH)
}

/// Of the processes in a table, those that have ended by now.
///
/// # Errors
/// A key is none.
fn gone(told: &Snapshot) -> Result<BTreeSet<u32>> {
    let mut pids = BTreeSet::new();
    for key in told.keys() {
        pids.insert(wire::decode::<hello_key>(key)?.pid);
    }
    pids.retain(|pid| is_gone(*pid));
    Ok(pids)
}

/// What the rows of a key say, of even and of odd epochs; without the longest time.
fn whole(rows: &[u8]) -> Result<Tally> {
    let [mut all, odd] = of_rows(rows, u32::MAX)?;
    all.join(&odd);
    Ok(all)
}

/// What was read of a key.
fn told(parts: &[Snapshot; 2], key: &Key) -> Tally {
    let mut all = Tally::default();
    let told = parts.iter().filter_map(|part| part.get(key));
    told.for_each(|told| all.join(told));
    all
}

/// Takes the counters of those that have ended, once a table has told them, out of the
/// maps and out of what was read of even and of odd epochs. Returns how many calls those are;
/// `None` if it takes out nothing.
///
/// They may have made more calls since the maps were read, and their numbers may belong to
/// others by now, who have. So a counter has to be as it was read; and who takes it out is told
/// by the kernel what it was then (Linux 5.14: commit 3e87f192b405); else it stays.
///
/// # Errors
/// The kernel refuses to be read, or a key is none.
pub(super) fn retire(
    object: &Object,
    stores: &[Store],
    table: &Snapshot,
    parts: &mut [Snapshot; 2],
) -> Result<Option<u64>> {
    let mut retired = Snapshot::new();
    let gone = gone(table)?;
    if gone.is_empty() {
        return Ok(None);
    }
    // Rows before their histograms.
    for (name, kind) in stores {
        let map = find_map(object, name)?;
        // All keys first: the one after a key that is gone would be the first again.
        let keys: Vec<Vec<u8>> = match kind {
            Kind::Rows | Kind::Buckets => map.keys().collect(),
            Kind::Calls | Kind::Timed | Kind::Sums => Vec::new(),
        };
        for key in keys {
            // The key of a bucket begins with that of its row.
            let (pid, row) = (wire::decode::<hello_key>(&key)?.pid, id(&key)?);
            if *kind == Kind::Buckets {
                if retired.contains_key(&row) {
                    let _ = map.delete(&key);
                }
                continue;
            }
            if !gone.contains(&pid) {
                continue;
            }
            let told = told(parts, &row);
            let now = map.lookup(&key, MapFlags::ANY)?.unwrap_or_default();
            if !whole(&now)?.counts_as(&told) || !is_gone(pid) {
                continue;
            }
            if let Ok(Some(last)) = map.lookup_and_delete(&key) {
                retired.insert(row, whole(&last)?);
                parts.iter_mut().for_each(|part| _ = part.remove(&row));
            }
        }
    }
    if retired.is_empty() {
        return Ok(None);
    }
    let retired = settle(retired, true)?;
    Ok(Some(retired.values().map(|tally| tally.calls).sum()))
}
