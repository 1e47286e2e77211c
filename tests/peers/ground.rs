// SPDX-License-Identifier: BSD-2-Clause
//! Where a comparison happens: a user that nobody else is, so that both sides can select
//! the workload exactly; a folder and a control group of its own; marks to see by that a
//! peer is attached, and that it has shown all.

use std::fs;
use std::fs::File;
use std::io::Write as _;
use std::os::unix::fs::MetadataExt as _;
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::fs::chown;
use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::path::PathBuf;
use std::process::Child;
use std::process::Command;
use std::process::Stdio;
use std::sync::Mutex;
use std::sync::MutexGuard;
use std::sync::PoisonError;
use std::time::Duration;
use std::time::Instant;

use anyhow::Context as _;
use anyhow::Result;
use anyhow::bail;
use anyhow::ensure;
use nix::libc;
use nix::mount::MsFlags;
use nix::mount::mount;
use nix::mount::umount;
use nix::sched::CloneFlags;
use nix::sched::CpuSet;
use nix::sched::sched_getaffinity;
use nix::sched::sched_setaffinity;
use nix::sched::unshare;
use nix::sys::signal::Signal;
use nix::sys::signal::kill;
use nix::unistd::Gid;
use nix::unistd::Pid;
use nix::unistd::Uid;

use crate::process::MARK;

/// No process and no name has it; the run makes sure.
pub(crate) const UID: u32 = 61234;
/// Its name in this run's own /etc/passwd, for `strace -u`.
pub(crate) const USER: &str = "hello-peers";
/// A call that no kernel has, as a mark for those who count.
pub(crate) const MARK_CALL: i64 = 99_999;

/// The place of a run; taken down at its end.
#[derive(Debug)]
pub(crate) struct Ground {
    /// A file system of its own, in memory.
    pub(crate) dir: PathBuf,
    /// Belongs to the user.
    pub(crate) work: PathBuf,
    cgroup_root: PathBuf,
    /// A control group (version 2), or why there is none.
    pub(crate) cgroup: Result<PathBuf, String>,
    me: PathBuf,
    /// Processes that made marks.
    marks: Mutex<Vec<u32>>,
}

impl Ground {
    /// In a mount namespace of its own: the machine's mounts stay as they are.
    pub(crate) fn prepare() -> Result<Self> {
        ensure!(
            processes().is_empty(),
            "there are processes of user id {UID}, which these tests want for themselves"
        );
        // Asked before mounts change.
        let me = std::env::current_exe()?;
        unshare(CloneFlags::CLONE_NEWNS).context("unshare")?;
        let none = None::<&str>;
        mount(none, "/", none, MsFlags::MS_REC | MsFlags::MS_PRIVATE, none)
            .context("is / a mount point here?")?;
        let mount_as = |kind: &str, place: &Path, options: Option<&str>| {
            mount(Some(kind), place, Some(kind), MsFlags::empty(), options)
                .with_context(|| format!("{kind} on {}", place.display()))
        };
        if !Path::new("/sys/kernel/tracing/events").exists() {
            mount_as("tracefs", Path::new("/sys/kernel/tracing"), None)?;
        }
        // Debian's peers of 2023 still look for tracefs here.
        if !Path::new("/sys/kernel/debug/tracing/events").exists() {
            let _ = mount_as("debugfs", Path::new("/sys/kernel/debug"), None);
        }
        let dir = std::env::temp_dir().join(format!("hello-peers.{}", std::process::id()));
        fs::create_dir(&dir)?;
        mount_as("tmpfs", &dir, Some("mode=755"))?;
        let work = dir.join("work");
        let cgroup_root = dir.join("cgroup");
        fs::create_dir(&work)?;
        fs::create_dir(&cgroup_root)?;
        chown(&work, Some(UID), Some(UID))?;
        name_the_user(&dir)?;
        let cgroup = mount_as("cgroup2", &cgroup_root, None)
            .and_then(|()| {
                let group = cgroup_root.join(format!("hello-peers-{}", std::process::id()));
                fs::create_dir(&group)?;
                Ok(group)
            })
            .map_err(|error| format!("no control groups (version 2) here: {error:#}"));
        Ok(Self {
            dir,
            work,
            cgroup_root,
            cgroup,
            me,
            marks: Mutex::default(),
        })
    }

    pub(crate) fn marks(&self) -> MutexGuard<'_, Vec<u32>> {
        self.marks.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn cgroup_id(&self) -> Option<u64> {
        Some(fs::metadata(self.cgroup.as_ref().ok()?).ok()?.ino())
    }

    /// A program as the user, in the work folder, with an environment of its own.
    pub(crate) fn as_user(&self, program: &str) -> Command {
        let mut command = Command::new(program);
        self.environment(&mut command);
        command.uid(UID).gid(UID);
        command
    }

    pub(crate) fn environment(&self, command: &mut Command) {
        command
            .env_clear()
            .env("PATH", "/usr/local/bin:/usr/bin:/bin")
            .env("HOME", &self.work)
            .env("TMPDIR", &self.work)
            .env("LC_ALL", "C")
            .current_dir(&self.work);
    }

    /// Starts a workload; in the control group from its exec on, where there is one.
    pub(crate) fn spawn(&self, command: &mut Command) -> Result<Child> {
        command
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null());
        if let Ok(group) = &self.cgroup {
            // Opened by root: the right to move counts from there.
            let mut procs = File::options()
                .write(true)
                .open(group.join("cgroup.procs"))?;
            // SAFETY: between fork and exec: one write to an open descriptor.
            unsafe { command.pre_exec(move || procs.write_all(b"0")) };
        }
        command.spawn().context("the workload cannot be started")
    }

    /// Waits for a workload and all of its descendants.
    ///
    /// # Errors
    /// It failed, or did not end in time and was killed.
    pub(crate) fn finish(&self, child: &mut Child, time: Duration) -> Result<()> {
        let until = Instant::now() + time;
        let mut ended = None;
        loop {
            ended = ended.or(child.try_wait()?);
            if let Some(status) = ended
                && processes().is_empty()
            {
                ensure!(status.success(), "the workload failed: {status}");
                return Ok(());
            }
            if Instant::now() >= until {
                break;
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        end_processes();
        let _ = child.wait();
        bail!("the workload did not end in time and was killed")
    }

    /// Calls that each tracer of events shows, one set on each CPU, since buffers are per
    /// CPU; and one for those who count.
    pub(crate) fn mark(&self, label: &str) -> Result<()> {
        for cpu in cpus() {
            let mut child = Command::new(&self.me)
                .args(["mark", &format!("{label}-{cpu}"), &cpu.to_string()])
                .stdin(Stdio::null())
                .spawn()?;
            self.marks().push(child.id());
            child.wait()?;
        }
        // SAFETY: a number that no kernel has, no arguments.
        unsafe { libc::syscall(MARK_CALL) };
        Ok(())
    }
}

impl Drop for Ground {
    fn drop(&mut self) {
        end_processes();
        if let Ok(group) = &self.cgroup {
            let until = Instant::now() + Duration::from_secs(5);
            while fs::remove_dir(group).is_err() && Instant::now() < until {
                std::thread::sleep(Duration::from_millis(50));
            }
        }
        let _ = umount(&self.cgroup_root);
        let _ = umount("/etc/passwd");
        let _ = umount(&self.dir);
        let _ = fs::remove_dir(&self.dir);
    }
}

/// The CPUs this run may use.
pub(crate) fn cpus() -> Vec<usize> {
    let set = sched_getaffinity(Pid::from_raw(0)).unwrap_or_default();
    (0..CpuSet::count())
        .filter(|&cpu| set.is_set(cpu).unwrap_or(false))
        .collect()
}

/// `hello-peers mark LABEL CPU`: as the user, an open and an exec that fail, and nothing
/// else. The names are long: a peer fills a buffer before it writes to a pipe.
pub(crate) fn mark(words: &[String]) -> Result<()> {
    let [label, cpu] = words else {
        bail!("mark LABEL CPU");
    };
    let mut set = CpuSet::new();
    set.set(cpu.parse()?)?;
    sched_setaffinity(Pid::from_raw(0), &set)?;
    let long = format!("/{MARK}{label}.{}", "x".repeat(200));
    let short = format!("/{MARK}{label}.{}", "x".repeat(80));
    let filling = "x".repeat(120);
    let mut command = Command::new(&short);
    command.args([&filling, &filling, &filling]);
    nix::unistd::setgroups(&[])?;
    nix::unistd::setresgid(Gid::from_raw(UID), Gid::from_raw(UID), Gid::from_raw(UID))?;
    nix::unistd::setresuid(Uid::from_raw(UID), Uid::from_raw(UID), Uid::from_raw(UID))?;
    let _ = File::open(long);
    let _ = command.exec();
    Ok(())
}

/// A name for the user id, in this mount namespace only.
fn name_the_user(dir: &Path) -> Result<()> {
    let passwd = fs::read_to_string("/etc/passwd")?;
    ensure!(
        !passwd
            .lines()
            .any(|line| line.split(':').nth(2) == Some(&UID.to_string())),
        "user id {UID} has a name in /etc/passwd; these tests want it for themselves"
    );
    let ours = dir.join("passwd");
    fs::write(
        &ours,
        format!(
            "{}\n{USER}:x:{UID}:{UID}::/:/bin/sh\n",
            passwd.trim_end_matches('\n')
        ),
    )?;
    fs::set_permissions(&ours, fs::Permissions::from_mode(0o644))?;
    let none = None::<&str>;
    mount(Some(&ours), "/etc/passwd", none, MsFlags::MS_BIND, none).context("/etc/passwd")?;
    Ok(())
}

/// The processes of the user.
pub(crate) fn processes() -> Vec<Pid> {
    let mut found = Vec::new();
    for entry in fs::read_dir("/proc").into_iter().flatten().flatten() {
        let name = entry.file_name();
        let Some(pid) = name.to_str().and_then(|name| name.parse().ok()) else {
            continue;
        };
        // Not the owner of the folder: that is root for a process that may not be dumped.
        let status = fs::read_to_string(entry.path().join("status")).unwrap_or_default();
        let uid = status.lines().find_map(|line| line.strip_prefix("Uid:"));
        if uid.and_then(|ids| ids.split_whitespace().next()) == Some(&UID.to_string()) {
            found.push(Pid::from_raw(pid));
        }
    }
    found
}

/// Ends what a workload has left behind: the user is nobody else.
pub(crate) fn end_processes() {
    let until = Instant::now() + Duration::from_secs(5);
    loop {
        let left = processes();
        if left.is_empty() || Instant::now() >= until {
            return;
        }
        for pid in left {
            let _ = kill(pid, Signal::SIGKILL);
        }
        std::thread::sleep(Duration::from_millis(50));
    }
}
