// SPDX-License-Identifier: BSD-2-Clause
//! Who is traced: pids, users, commands, a control group. Resolved from the
//! command line into the configuration and the filter maps of the kernel side.

use std::fs;
use std::fs::File;
use std::os::fd::AsRawFd as _;
use std::os::fd::OwnedFd;
use std::path::Path;

use anyhow::Context as _;
use anyhow::Result;
use anyhow::anyhow;
use anyhow::bail;
use libbpf_rs::MapCore as _;
use libbpf_rs::MapFlags;
use libbpf_rs::Object;
use libbpf_rs::OpenObject;

use crate::cli::Args;
use crate::enrich::cgroups;
use crate::enrich::users::Users;
use crate::session::pidfd_open;
use crate::wire::types::hello_config;
use crate::wire::types::hello_select;

/// Room for the descendants of what is followed; a process that finds none is
/// counted in the ledger as not followed.
const FOLLOWED_MAX: u32 = 32 << 10;

/// Tells by the end of a process id who is not selected (src/bpf/select.bpf.h).
const MAYBE: &str = ".bss.pids";

/// The selection, resolved.
#[derive(Debug, Default)]
pub struct Select {
    pids: Vec<u32>,
    /// Their descriptors, opened when they were named: a process that ends before
    /// all is attached is not mistaken for a later one of the same number.
    processes: Vec<(u32, OwnedFd)>,
    uids: Vec<u32>,
    comms: Vec<[u8; 16]>,
    cgroup: Option<File>,
    container: bool,
    follow: bool,
}

impl Select {
    /// Looks up what the command line names.
    ///
    /// # Errors
    /// A process, user or control group that does not exist.
    pub fn resolve(args: &Args, users: &Users, command: Option<u32>) -> Result<Self> {
        let mut select = Self {
            follow: args.follow || command.is_some(),
            container: args.container.is_some(),
            ..Self::default()
        };
        for &pid in &args.pid {
            check_pid(pid)?;
            select.processes.push((pid, pidfd_open(pid)?));
            select.pids.push(pid);
        }
        select.pids.extend(command);
        for name in &args.uid {
            select.uids.push(users.uid(name).ok_or_else(|| {
                anyhow!("no user {name:?} in /etc/passwd; name another or give the number")
            })?);
        }
        for name in &args.comm {
            let mut comm = [0; 16];
            comm[..name.len()].copy_from_slice(name.as_bytes());
            select.comms.push(comm);
        }
        if let Some(path) = &args.cgroup {
            select.cgroup = Some(open_cgroup(path)?);
        }
        Ok(select)
    }

    /// Are single processes selected, so that the run ends when they do?
    pub fn has_pids(&self) -> bool {
        !self.pids.is_empty()
    }

    /// Descriptors of the processes named by `--pid`, readable when they have ended.
    pub fn take_processes(&mut self) -> Vec<(u32, OwnedFd)> {
        std::mem::take(&mut self.processes)
    }

    /// Switches the filters on and sizes their maps; a filter that is off has no map.
    ///
    /// # Errors
    /// libbpf refuses.
    pub fn configure(&self, object: &mut OpenObject, config: &mut hello_config) -> Result<()> {
        let len = |length: usize| u32::try_from(length).unwrap_or(u32::MAX).max(1);
        let pids = if self.follow {
            FOLLOWED_MAX + len(self.pids.len())
        } else {
            len(self.pids.len())
        };
        let filters = [
            (
                "hello_pids",
                self.has_pids(),
                pids,
                hello_select::HELLO_SELECT_PIDS,
            ),
            (
                "hello_uids",
                !self.uids.is_empty(),
                len(self.uids.len()),
                hello_select::HELLO_SELECT_UIDS,
            ),
            (
                "hello_comms",
                !self.comms.is_empty(),
                len(self.comms.len()),
                hello_select::HELLO_SELECT_COMMS,
            ),
            (
                "hello_cgroup",
                self.cgroup.is_some(),
                1,
                hello_select::HELLO_SELECT_CGROUP,
            ),
        ];
        if self.container {
            config.select |= hello_select::HELLO_SELECT_CONTAINER.0;
        }
        config.uid = self.uids.first().copied().unwrap_or(0);
        for mut map in object.maps_mut() {
            if map.name() == MAYBE && !self.has_pids() {
                map.set_autocreate(false)?;
            }
            for (name, on, entries, bit) in filters {
                if map.name() != name {
                    continue;
                }
                if on {
                    map.set_max_entries(entries)?;
                    config.select |= bit.0;
                } else {
                    map.set_autocreate(false)?;
                }
            }
        }
        for mut program in object.progs_mut() {
            if program.name() == "hello_exit" {
                program.set_autoload(self.has_pids() || config.remember != 0);
            } else if program.name() == "hello_fork" {
                program.set_autoload(self.follow);
            }
        }
        Ok(())
    }

    /// Fills the filter maps, before anything is attached.
    ///
    /// # Errors
    /// The kernel refuses.
    pub fn fill(&self, object: &Object) -> Result<()> {
        for map in object.maps() {
            let put = |key: &[u8]| map.update(key, &[1], MapFlags::ANY);
            match map.name().to_str() {
                Some("hello_pids") => self.pids.iter().try_for_each(|pid| put(&pid.to_ne_bytes())),
                Some(MAYBE) if self.has_pids() => {
                    let mut maybe = vec![0; map.value_size() as usize];
                    let size = maybe.len();
                    for pid in &self.pids {
                        maybe[*pid as usize % size] = 1;
                    }
                    map.update(&0u32.to_ne_bytes(), &maybe, MapFlags::ANY)
                }
                Some("hello_uids") => self.uids.iter().try_for_each(|uid| put(&uid.to_ne_bytes())),
                Some("hello_comms") => self.comms.iter().try_for_each(|comm| put(comm)),
                Some("hello_cgroup") => self.cgroup.iter().try_for_each(|cgroup| {
                    map.update(
                        &0u32.to_ne_bytes(),
                        &cgroup.as_raw_fd().to_ne_bytes(),
                        MapFlags::ANY,
                    )
                }),
                _ => Ok(()),
            }
            .with_context(|| format!("cannot fill the filter {}", map.name().to_string_lossy()))?;
        }
        Ok(())
    }
}

/// Is it a process, and not one of its threads?
fn check_pid(pid: u32) -> Result<()> {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).map_err(|error| {
        if error.kind() == std::io::ErrorKind::NotFound {
            anyhow!("no process {pid}; /proc has a folder for each that there is")
        } else {
            anyhow!("cannot watch process {pid}: {error}")
        }
    })?;
    let tgid = status
        .lines()
        .find_map(|line| line.strip_prefix("Tgid:"))
        .and_then(|text| text.trim().parse::<u32>().ok());
    match tgid {
        Some(tgid) if tgid != pid => {
            bail!("{pid} is a thread of process {tgid}; select the process: --pid {tgid}")
        }
        _ => Ok(()),
    }
}

fn open_cgroup(path: &Path) -> Result<File> {
    let mounts = fs::read_to_string("/proc/self/mountinfo").context("/proc/self/mountinfo")?;
    let root = cgroups::mount_point(&mounts).context(
        "--cgroup needs a version 2 hierarchy: mount -t cgroup2 none /sys/fs/cgroup/unified",
    )?;
    // As shown in /proc/PID/cgroup and by systemd, or as a path of the file system.
    let inside = root.join(path.strip_prefix("/").unwrap_or(path));
    let folder = if path.starts_with(&root) {
        path.to_owned()
    } else {
        inside
    };
    if !folder.join("cgroup.procs").exists() {
        bail!(
            "no control group {}: give its path below {} (see /proc/PID/cgroup)",
            path.display(),
            root.display()
        );
    }
    File::open(&folder).with_context(|| format!("cannot open {}", folder.display()))
}
