// SPDX-License-Identifier: BSD-2-Clause
//! `--pin`: counters that outlive the run, in a bpffs.

use std::fmt;
use std::fs;
use std::fs::File;
use std::os::fd::AsFd as _;
use std::path::Path;
use std::path::PathBuf;

use anyhow::Context as _;
use anyhow::Result;
use anyhow::bail;
use libbpf_rs::MapCore as _;
use libbpf_rs::MapHandle;
use libbpf_rs::MapType;
use libbpf_rs::Object;
use libbpf_rs::OpenObject;
use nix::errno::Errno;
use nix::fcntl::Flock;
use nix::fcntl::FlockArg;
use nix::sys::statfs::BPF_FS_MAGIC;
use nix::sys::statfs::statfs;

use super::Context;
use super::Setup;

/// Maps to be pinned when all is attached: those that were not pinned before. Holds
/// the folder's lock: two runs on the same counters could not tell theirs apart.
#[derive(Debug)]
pub(super) struct Pins {
    new: Vec<(&'static str, PathBuf)>,
    /// There is one that a former run has pinned.
    pub(super) goes_on: bool,
    lock: Option<Flock<File>>,
}

/// A folder or map that cannot be used, whatever the hook.
#[derive(Debug)]
pub(super) struct PinError(String);

impl fmt::Display for PinError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for PinError {}

/// What makes counters go together: type, key size, value size.
type Shape = (MapType, u32, u32);

impl Pins {
    /// Before load: takes the maps that a former run has pinned.
    pub(super) fn reuse(cx: &Context, setup: &Setup, object: &mut OpenObject) -> Result<Self> {
        let mut pins = Self {
            new: Vec::new(),
            goes_on: false,
            lock: None,
        };
        let Some(folder) = &cx.args.pin else {
            return Ok(pins);
        };
        check_bpffs(folder).map_err(|error| PinError(format!("{error:#}")))?;
        let lock = File::open(folder).with_context(|| format!("--pin {}", folder.display()))?;
        pins.lock = Some(Flock::lock(lock, FlockArg::LockExclusiveNonblock).map_err(
            |(_, errno)| {
                let folder = folder.display();
                PinError(if errno == Errno::EWOULDBLOCK {
                    format!("another hello counts in {folder}; give --pin another folder")
                } else {
                    format!("--pin {folder}: cannot lock it: {}", errno.desc())
                })
            },
        )?);
        for (name, file) in &setup.pins {
            let path = folder.join(file);
            if !path.exists() {
                pins.new.push((name, path));
                continue;
            }
            let pinned = MapHandle::from_pinned_path(&path)
                .with_context(|| format!("cannot open {}: is it a map?", path.display()))?;
            let mut map = object
                .maps_mut()
                .find(|map| map.name() == *name)
                .with_context(|| format!("the object has no map {name}"))?;
            let there = (pinned.map_type(), pinned.key_size(), pinned.value_size());
            let wanted = (map.map_type(), map.key_size(), map.value_size());
            if let Some(reason) = differ(there, wanted) {
                return Err(PinError(format!(
                    "{} has another shape: {reason}; it is left alone: give --pin another folder, or remove it",
                    path.display()
                ))
                .into());
            }
            if cx.args.max_entries.is_some()
                && let Some(wanted) = setup.entries(name)
                && pinned.max_entries() != wanted
            {
                return Err(PinError(format!(
                    "{} has room for {} keys, not {wanted}, and --max-entries cannot change that: give --pin another folder, or remove it",
                    path.display(),
                    pinned.max_entries()
                ))
                .into());
            }
            map.reuse_fd(pinned.as_fd())
                .with_context(|| format!("cannot use {}", path.display()))?;
            pins.goes_on = true;
        }
        Ok(pins)
    }

    /// After attach: pins those that were new.
    pub(super) fn keep(&self, object: &mut Object) -> Result<()> {
        for (name, path) in &self.new {
            let mut map = object
                .maps_mut()
                .find(|map| map.name() == *name)
                .with_context(|| format!("the object has no map {name}"))?;
            map.pin(path)
                .with_context(|| format!("cannot pin {}", path.display()))?;
        }
        Ok(())
    }
}

fn check_bpffs(folder: &Path) -> Result<()> {
    let parent = match folder.parent().filter(|_| !folder.exists()) {
        Some(parent) if parent.as_os_str().is_empty() => Path::new("."),
        Some(parent) => parent,
        None => folder,
    };
    let kind = statfs(parent).with_context(|| format!("--pin {}", folder.display()))?;
    if kind.filesystem_type() != BPF_FS_MAGIC {
        bail!(
            "--pin {}: maps can be pinned in a bpffs only, such as /sys/fs/bpf \
             (mount -t bpf bpffs /sys/fs/bpf)",
            folder.display()
        );
    }
    if folder.exists() && !folder.is_dir() {
        bail!("--pin {} is a file: name a folder", folder.display());
    }
    if !folder.exists() {
        fs::create_dir(folder).with_context(|| format!("--pin {}", folder.display()))?;
    }
    Ok(())
}

fn differ(there: Shape, wanted: Shape) -> Option<String> {
    if there == wanted {
        return None;
    }
    let words =
        |(kind, key, value): Shape| format!("{kind:?} of {key}-byte keys and {value}-byte values");
    Some(format!("{}, not {}", words(there), words(wanted)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shapes() {
        let shape = (MapType::Hash, 40, 8);
        assert_eq!(differ(shape, shape), None);
        assert_eq!(
            differ((MapType::Array, 4, 8), shape).as_deref(),
            Some(
                "Array of 4-byte keys and 8-byte values, not Hash of 40-byte keys and 8-byte values"
            )
        );
    }
}
