// SPDX-License-Identifier: BSD-2-Clause
//! Control groups (version 2): from the kernel's id to the path.

use std::collections::HashMap;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;
use std::path::PathBuf;

/// Where this host has mounted its version 2 hierarchy, by /proc/self/mountinfo
/// (proc(5)); `None` if it has not.
pub fn mount_point(mountinfo: &str) -> Option<PathBuf> {
    mountinfo.lines().find_map(|line| {
        let (left, right) = line.split_once(" - ")?;
        (right.split(' ').next() == Some("cgroup2"))
            .then(|| left.split(' ').nth(4).map(PathBuf::from))?
    })
}

/// Has this host version 1 hierarchies, beside or instead of version 2?
pub fn has_version_1() -> bool {
    let mounts = std::fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
    mounts.lines().any(|line| line.contains(" - cgroup "))
}

/// Groups that are remembered: those of machines that come and go would fill the memory.
const MOST: usize = 64 << 10;

/// Paths of control groups by id. A group's id is the inode number of its folder
/// (kernfs, Linux 5.5 on 64-bit hosts); the folders are walked when an unknown id
/// turns up, as groups come and go.
#[derive(Debug, Default)]
pub struct Cgroups {
    root: Option<PathBuf>,
    paths: HashMap<u64, Option<String>>,
}

impl Cgroups {
    /// Of the hierarchy mounted here.
    pub fn of_this_host() -> Self {
        let mounts = std::fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
        Self {
            root: mount_point(&mounts),
            paths: HashMap::new(),
        }
    }

    /// The path below the hierarchy's root, `/` for the root itself; `None` for a
    /// group that is gone or lies outside what is mounted here.
    pub fn path(&mut self, id: u64) -> Option<&str> {
        if !self.paths.contains_key(&id) {
            if self.paths.len() >= MOST {
                self.paths.clear();
            }
            if let Some(root) = self.root.clone() {
                self.walk(&root, "/");
            }
            self.paths.entry(id).or_insert(None);
        }
        self.paths.get(&id)?.as_deref()
    }

    fn walk(&mut self, folder: &Path, name: &str) {
        if let Ok(meta) = folder.metadata() {
            self.paths.insert(meta.ino(), Some(name.to_owned()));
        }
        for entry in std::fs::read_dir(folder).into_iter().flatten().flatten() {
            if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
                let below = entry.file_name();
                let name = format!("{}/{}", name.trim_end_matches('/'), below.to_string_lossy());
                self.walk(&entry.path(), &name);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mount_points() {
        let hybrid = "31 23 0:27 / /sys/fs/cgroup/cpu rw - cgroup cgroup rw,cpu\n\
                      40 23 0:33 / /sys/fs/cgroup/unified rw,nosuid - cgroup2 cgroup2 rw\n";
        assert_eq!(
            mount_point(hybrid),
            Some(PathBuf::from("/sys/fs/cgroup/unified"))
        );
        assert_eq!(mount_point("31 23 0:27 / / rw - ext4 /dev/vda rw\n"), None);
    }
}
