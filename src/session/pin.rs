// SPDX-License-Identifier: BSD-2-Clause
//! `--pin`: counters that outlive the run, in a bpffs.

use std::fs;
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
use nix::sys::statfs::BPF_FS_MAGIC;
use nix::sys::statfs::statfs;

use super::Context;
use super::Setup;

/// Maps to be pinned when all is attached: those that were not pinned before.
#[derive(Debug, Default)]
pub(super) struct Pins(Vec<(&'static str, PathBuf)>);

/// What makes counters go together: type, key size, value size.
type Shape = (MapType, u32, u32);

impl Pins {
    /// Before load: takes the maps that a former run has pinned.
    pub(super) fn reuse(cx: &Context, setup: &Setup, object: &mut OpenObject) -> Result<Self> {
        let mut pins = Self::default();
        let Some(folder) = &cx.args.pin else {
            return Ok(pins);
        };
        check_bpffs(folder)?;
        for (name, file) in &setup.pins {
            let path = folder.join(file);
            if !path.exists() {
                pins.0.push((name, path));
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
                bail!(
                    "{} has another shape: {reason}; it is left alone: give --pin another folder, or remove it",
                    path.display()
                );
            }
            map.reuse_fd(pinned.as_fd())
                .with_context(|| format!("cannot use {}", path.display()))?;
        }
        Ok(pins)
    }

    /// After attach: pins those that were new.
    pub(super) fn keep(self, object: &mut Object) -> Result<()> {
        for (name, path) in self.0 {
            let mut map = object
                .maps_mut()
                .find(|map| map.name() == name)
                .with_context(|| format!("the object has no map {name}"))?;
            map.pin(&path)
                .with_context(|| format!("cannot pin {}", path.display()))?;
        }
        Ok(())
    }
}

fn check_bpffs(folder: &Path) -> Result<()> {
    let parent = folder
        .parent()
        .filter(|_| !folder.exists())
        .unwrap_or(folder);
    let kind = statfs(parent).with_context(|| format!("--pin {}", folder.display()))?;
    if kind.filesystem_type() != BPF_FS_MAGIC {
        bail!(
            "--pin {}: maps can be pinned in a bpffs only, such as /sys/fs/bpf \
             (mount -t bpf bpffs /sys/fs/bpf)",
            folder.display()
        );
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
