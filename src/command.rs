// SPDX-License-Identifier: BSD-2-Clause
//! Runs COMMAND: started, held before its exec, let go when the programs are
//! attached, so that its own execve is the first thing they see.

use std::cell::Cell;
use std::env;
use std::ffi::CString;
use std::ffi::OsStr;
use std::ffi::OsString;
use std::fs;
use std::os::fd::AsFd;
use std::os::fd::BorrowedFd;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt as _;
use std::path::Path;
use std::path::PathBuf;
use std::rc::Rc;

use anyhow::Context as _;
use anyhow::Result;
use nix::errno::Errno;
use nix::fcntl::OFlag;
use nix::libc;
use nix::sys::signal;
use nix::sys::signal::SigHandler;
use nix::sys::signal::Signal;
use nix::sys::wait::WaitPidFlag;
use nix::sys::wait::WaitStatus;
use nix::sys::wait::waitpid;
use nix::unistd;
use nix::unistd::ForkResult;
use nix::unistd::Gid;
use nix::unistd::Pid;
use nix::unistd::Uid;

use crate::enrich::clocks::ktime;
use crate::enrich::escape::quoted;
use crate::enrich::users::User;
use crate::enrich::users::Users;
use crate::enrich::users::supplementary_groups;
use crate::session::pidfd_open;

/// Exit status when COMMAND was found but could not be executed (env(1)).
pub const NOT_EXECUTABLE: u8 = 126;
/// Exit status when COMMAND was not found (env(1)).
pub const NOT_FOUND: u8 = 127;

/// A COMMAND that could not be run: the message and the exit status.
#[derive(Debug)]
pub struct CommandError(pub String, pub u8);

impl std::fmt::Display for CommandError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for CommandError {}

/// What to say of a program that is not there.
fn one_word(name: &str) -> &'static str {
    if name.contains(' ') {
        "; name and arguments are words of their own"
    } else {
        ""
    }
}

/// A child that waits for the word to become COMMAND.
#[derive(Debug)]
pub struct Command {
    pid: Pid,
    pidfd: OwnedFd,
    name: String,
    /// Where that was found.
    path: PathBuf,
    go: Option<OwnedFd>,
    released: Rc<Cell<Option<u64>>>,
    /// Carries errno if execve fails; closed by a successful one.
    failure: OwnedFd,
    /// Its execve failed: it never was COMMAND.
    failed: bool,
    status: Option<u8>,
}

impl Command {
    /// Forks the child and leaves it waiting. To be called while hello has one
    /// thread. With `own_stdout` standard output is hello's alone, as in JSON, and
    /// COMMAND's goes to standard error.
    ///
    /// # Errors
    /// [`CommandError`] if there is no such program; what fork(2) says.
    pub fn hold(words: &[OsString], users: &Users, own_stdout: bool) -> Result<Self> {
        let mut name = Vec::new();
        quoted(&mut name, words[0].as_bytes());
        let name = String::from_utf8_lossy(&name).into_owned();
        let path = find(&words[0]).ok_or_else(|| {
            let hint = one_word(&name);
            CommandError(format!("{name}: command not found{hint}"), NOT_FOUND)
        })?;
        let user = invoking_user(users)?;
        let c = |text: &OsStr| CString::new(text.as_bytes()).context("a NUL byte in COMMAND");
        let program = c(path.as_os_str())?;
        let argv = words
            .iter()
            .map(|word| c(word))
            .collect::<Result<Vec<_>>>()?;
        let envp = environment(user.as_ref().map(|(user, _)| user))
            .iter()
            .map(|text| c(text))
            .collect::<Result<Vec<_>>>()?;

        let (wait, go) = unistd::pipe2(OFlag::O_CLOEXEC).context("pipe")?;
        let (failure, report) = unistd::pipe2(OFlag::O_CLOEXEC).context("pipe")?;
        // SAFETY: hello has one thread yet, so the child may do what it likes; all
        // that it needs was allocated above.
        match unsafe { unistd::fork() }.context("fork")? {
            ForkResult::Child => {
                drop(go);
                drop(failure);
                if own_stdout {
                    // SAFETY: dup2(2) takes two integers.
                    unsafe { libc::dup2(2, 1) };
                }
                let errno = become_command(&wait, &report, user.as_ref(), &program, &argv, &envp);
                let _ = unistd::write(&report, &(errno as i32).to_ne_bytes());
                // SAFETY: _exit(2) takes no memory and never returns.
                unsafe { libc::_exit(i32::from(NOT_EXECUTABLE)) }
            }
            ForkResult::Parent { child } => {
                drop(report);
                wait_until_held(child, &failure);
                Ok(Self {
                    pid: child,
                    pidfd: pidfd_open(child.as_raw().cast_unsigned())?,
                    name,
                    path,
                    go: Some(go),
                    released: Rc::default(),
                    failure,
                    failed: false,
                    status: None,
                })
            }
        }
    }

    /// As it was given, quoted: it may have any character.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Its process id.
    pub fn pid(&self) -> u32 {
        self.pid.as_raw().cast_unsigned()
    }

    /// Where the time of its release will stand (CLOCK_MONOTONIC, ns).
    pub fn released(&self) -> Rc<Cell<Option<u64>>> {
        Rc::clone(&self.released)
    }

    /// Lets it run.
    ///
    /// # Errors
    /// [`CommandError`] if its execve failed.
    pub fn release(&mut self) -> Result<()> {
        let Some(go) = self.go.take() else {
            return Ok(());
        };
        self.released.set(Some(ktime()));
        match unistd::write(&go, b"g") {
            // EPIPE: it has ended already, killed by Ctrl-C or for want of its user.
            Ok(_) | Err(Errno::EPIPE) => {}
            Err(errno) => return Err(errno).context("cannot start COMMAND"),
        }
        let mut errno = [0; 4];
        let read = loop {
            match unistd::read(&self.failure, &mut errno) {
                Err(Errno::EINTR) => {}
                other => break other.unwrap_or(0),
            }
        };
        if read < errno.len() {
            return Ok(()); // closed by its exec
        }
        self.failed = true;
        self.wait();
        let errno = Errno::from_raw(i32::from_ne_bytes(errno));
        let status = if errno == Errno::ENOENT {
            NOT_FOUND
        } else {
            NOT_EXECUTABLE
        };
        let hint = match errno {
            Errno::ENOENT if self.path.exists() => "; the interpreter that it names is not there",
            Errno::ENOENT => one_word(&self.name),
            _ => "",
        };
        Err(CommandError(
            format!("cannot run {}: {}{hint}", self.name, errno.desc()),
            status,
        )
        .into())
    }

    /// Has it been let go? If not it ends with hello.
    pub fn was_released(&self) -> bool {
        self.go.is_none() && !self.failed
    }

    /// Has it ended? Never blocks.
    pub fn has_ended(&mut self) -> bool {
        if self.status.is_none() {
            self.note(waitpid(self.pid, Some(WaitPidFlag::WNOHANG)));
        }
        self.status.is_some()
    }

    /// Passes a signal on.
    pub fn kill(&self, signal: Signal) {
        if self.status.is_none() {
            let _ = signal::kill(self.pid, signal);
        }
    }

    /// Waits for its end: its status, or 128 and the signal that killed it.
    pub fn wait(&mut self) -> u8 {
        loop {
            if let Some(status) = self.status {
                return status;
            }
            self.note(waitpid(self.pid, None));
        }
    }

    fn note(&mut self, waited: nix::Result<WaitStatus>) {
        self.status = match waited {
            Ok(WaitStatus::Exited(_, code)) => Some(u8::try_from(code & 0xff).unwrap_or(1)),
            Ok(WaitStatus::Signaled(_, signal, _)) => {
                Some(128u8.saturating_add(u8::try_from(signal as i32).unwrap_or(127)))
            }
            Ok(_) | Err(Errno::EINTR) => None,
            Err(_) => Some(1),
        };
    }
}

impl AsFd for Command {
    /// Readable when COMMAND has ended (pidfd_open(2)).
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.pidfd.as_fd()
    }
}

impl Drop for Command {
    /// A COMMAND that was never let go ends when the pipe closes; leave no zombie.
    fn drop(&mut self) {
        if self.go.take().is_some() {
            self.wait();
        }
    }
}

/// Returns when the child sleeps in the read() that it waits in, so that none of its
/// preparations is seen by programs that are attached from now on.
fn wait_until_held(child: Pid, ready: &OwnedFd) {
    while unistd::read(ready, &mut [0]) == Err(Errno::EINTR) {}
    // Its write is done, its read may not have begun. proc(5): the state stands after
    // the name, which may contain anything but ends with the last parenthesis.
    for _ in 0..10_000 {
        let stat = fs::read_to_string(format!("/proc/{child}/stat")).unwrap_or_default();
        match stat
            .rsplit(") ")
            .next()
            .and_then(|rest| rest.chars().next())
        {
            Some('R' | 'D') => std::thread::sleep(std::time::Duration::from_micros(100)),
            _ => return,
        }
    }
}

/// The child's side: takes on the user, waits for the word, becomes COMMAND. From
/// the word on the only system call is the execve. Returns only if that failed.
fn become_command(
    wait: &OwnedFd,
    report: &OwnedFd,
    user: Option<&(User, Vec<Gid>)>,
    program: &CString,
    argv: &[CString],
    envp: &[CString],
) -> Errno {
    // SAFETY: SIG_DFL installs no handler. Rust ignores SIGPIPE, COMMAND must not.
    let _ = unsafe { signal::signal(Signal::SIGPIPE, SigHandler::SigDfl) };
    let prepared = user.map_or(Ok(()), |(user, groups)| {
        let (uid, gid) = (Uid::from_raw(user.uid), Gid::from_raw(user.gid));
        unistd::setgroups(groups)
            .and_then(|()| unistd::setresgid(gid, gid, gid))
            .and_then(|()| unistd::setresuid(uid, uid, uid))
    });
    let _ = unistd::write(report, b"r");
    if let Err(errno) = prepared {
        return errno;
    }
    loop {
        match unistd::read(wait, &mut [0]) {
            Ok(1) => break,
            Err(Errno::EINTR) => {}
            // hello is gone or gave up.
            // SAFETY: as in hold().
            _ => unsafe { libc::_exit(0) },
        }
    }
    match unistd::execve(program, argv, envp) {
        Ok(never) => match never {},
        Err(errno) => errno,
    }
}

/// Looks COMMAND up in PATH as execvp(3) would (but runs no script without `#!`), so that no failed attempt of ours is
/// traced as its first calls.
fn find(name: &OsStr) -> Option<PathBuf> {
    if name.as_bytes().contains(&b'/') {
        return Some(PathBuf::from(name));
    }
    let path = env::var_os("PATH").unwrap_or_else(|| "/usr/local/bin:/usr/bin:/bin".into());
    let found: Vec<PathBuf> = env::split_paths(&path)
        .map(|folder| folder.join(name))
        .filter(|file| file.is_file())
        .collect();
    found
        .iter()
        .find(|file| is_executable(file))
        .or(found.first())
        .cloned()
}

fn is_executable(file: &Path) -> bool {
    unistd::access(file, unistd::AccessFlags::X_OK).is_ok()
}

/// Who called sudo, if hello runs as root by it.
fn invoking_user(users: &Users) -> Result<Option<(User, Vec<Gid>)>> {
    let number = |name| -> Option<u32> { env::var(name).ok()?.parse().ok() };
    let Some(uid) = number("SUDO_UID").filter(|uid| *uid != 0 && Uid::effective().is_root()) else {
        return Ok(None);
    };
    let gid = number("SUDO_GID")
        .or_else(|| users.user(uid).map(|user| user.gid))
        .context("SUDO_UID is set, but not SUDO_GID: as which group shall COMMAND run?")?;
    let user = users.user(uid).cloned().unwrap_or_else(|| User {
        name: env::var("SUDO_USER").unwrap_or_else(|_| uid.to_string()),
        uid,
        gid,
        home: "/".into(),
        shell: "/bin/sh".into(),
    });
    let file = fs::read("/etc/group").unwrap_or_default();
    let mut groups = supplementary_groups(&file, &user.name);
    groups.push(gid);
    let user = User { gid, ..user };
    Ok(Some((
        user,
        groups.into_iter().map(Gid::from_raw).collect(),
    )))
}

/// hello's environment, with what names the user changed to who called sudo.
fn environment(user: Option<&User>) -> Vec<OsString> {
    let mut pairs: Vec<(OsString, OsString)> = env::vars_os().collect();
    if let Some(user) = user {
        for (name, value) in [
            ("HOME", &user.home),
            ("USER", &user.name),
            ("LOGNAME", &user.name),
            ("SHELL", &user.shell),
        ] {
            pairs.retain(|(key, _)| key != name);
            pairs.push((name.into(), value.into()));
        }
    }
    pairs
        .into_iter()
        .map(|(mut pair, value)| {
            pair.push("=");
            pair.push(value);
            pair
        })
        .collect()
}
