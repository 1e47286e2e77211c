// SPDX-License-Identifier: BSD-2-Clause
//! Where the benchmark happens: a folder that goes with it, a user that nobody else is,
//! and tracefs where peers look for it.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::Context as _;
use anyhow::Result;
use anyhow::ensure;
use nix::mount::MsFlags;
use nix::mount::mount;
use nix::sched::CloneFlags;
use nix::sched::CpuSet;
use nix::sched::sched_getaffinity;
use nix::sched::unshare;
use nix::unistd::Pid;
use nix::unistd::SysconfVar;
use nix::unistd::sysconf;
use tempfile::TempDir;

/// The user of the workloads: tracers of single events select it, so that what other
/// processes of the machine do is not written anywhere.
pub(crate) const UID: u32 = 61235;

#[derive(Debug)]
pub(crate) struct Place {
    dir: TempDir,
    /// The program under test.
    pub(crate) hello: PathBuf,
    /// The CPU of the workloads, the last that this process may use.
    pub(crate) cpu: usize,
    pub(crate) cpus: usize,
}

impl Place {
    pub(crate) fn prepare() -> Result<Self> {
        let workloads = workloads().context(
            "the workloads are not beside the benchmark: `make bench` builds and runs both",
        )?;
        let hello = std::env::var_os("HELLO_BIN")
            .map_or_else(|| PathBuf::from(env!("CARGO_BIN_EXE_hello")), PathBuf::from);
        ensure!(hello.is_file(), "{} is not there", hello.display());
        mount_what_is_missing()?;
        let dir = tempfile::Builder::new().prefix("hello-bench.").tempdir()?;
        fs::set_permissions(dir.path(), fs::Permissions::from_mode(0o755))?;
        for entry in fs::read_dir(&workloads)? {
            let from = entry?.path();
            if let Some(name) = from.file_name() {
                fs::copy(&from, dir.path().join(name))?;
            }
        }
        let allowed = sched_getaffinity(Pid::from_raw(0))?;
        let allowed = (0..CpuSet::count()).filter(|cpu| allowed.is_set(*cpu).unwrap_or(false));
        let allowed: Vec<usize> = allowed.collect();
        let place = Self {
            dir,
            hello,
            cpu: *allowed.last().context("no CPU")?,
            cpus: allowed.len(),
        };
        fs::write(place.file(), "what is opened\n")?;
        Ok(place)
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// The file that workloads open.
    pub(crate) fn file(&self) -> PathBuf {
        self.path("bench-file")
    }

    /// The file that is not there.
    pub(crate) fn missing(&self) -> PathBuf {
        self.path("bench-missing")
    }
}

/// The folder with the compiled workloads: `HELLO_BENCH_WORKLOADS`, or `workloads` beside
/// this binary.
pub(crate) fn workloads() -> Option<PathBuf> {
    let folder = match std::env::var_os("HELLO_BENCH_WORKLOADS") {
        Some(folder) => PathBuf::from(folder),
        None => std::env::current_exe().ok()?.parent()?.join("workloads"),
    };
    folder.join("getppid").is_file().then_some(folder)
}

/// In a mount namespace of its own: the machine's mounts stay as they are.
fn mount_what_is_missing() -> Result<()> {
    // Debian's peers of 2023 look for tracefs below debugfs.
    let wanted = [
        ("tracefs", "/sys/kernel/tracing", "events"),
        ("debugfs", "/sys/kernel/debug", "tracing/events"),
    ];
    let missing = wanted.map(|(_, place, inside)| !Path::new(place).join(inside).exists());
    if missing == [false, false] {
        return Ok(());
    }
    unshare(CloneFlags::CLONE_NEWNS).context("unshare")?;
    let none = None::<&str>;
    mount(none, "/", none, MsFlags::MS_REC | MsFlags::MS_PRIVATE, none)
        .context("is / a mount point here?")?;
    for ((kind, place, _), missing) in wanted.into_iter().zip(missing) {
        if missing {
            // Whoever needs it will say so.
            let _ = mount(Some(kind), place, Some(kind), MsFlags::empty(), none);
        }
    }
    Ok(())
}

/// CPU time that the host of a virtual machine gave to others while it was wanted here, on all
/// CPUs since the start: `steal` of proc_stat(5).
pub(crate) fn steal() -> Result<Duration> {
    let stat = fs::read_to_string("/proc/stat").context("/proc/stat")?;
    let ticks = stat
        .split_whitespace()
        .nth(8)
        .and_then(|steal| steal.parse().ok());
    let ticks: u64 = ticks.context("/proc/stat: no steal")?;
    let second = sysconf(SysconfVar::CLK_TCK)?.context("CLK_TCK")?;
    Ok(Duration::from_secs(ticks) / u32::try_from(second)?)
}
