// SPDX-License-Identifier: BSD-2-Clause
//! The peers: how each is called, and how one sees that it is attached.

use std::path::PathBuf;
use std::process::Command;

use crate::ground::Ground;
use crate::ground::MARK_CALL;
use crate::ground::UID;
use crate::model::Class;
use crate::parse::Form;
use crate::process::MARK;
use crate::views::BPFTRACE_STRLEN;

/// What shows that a peer is attached.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Ready {
    /// It shows a mark; it has shown all when it has shown the last.
    Mark,
    /// It shows a mark's call; it counts in the kernel, so nothing is on its way.
    MarkCall,
    /// It writes its header once it is attached, and counts in the kernel.
    Header,
}

#[derive(Debug)]
pub(crate) struct Peer {
    pub(crate) name: &'static str,
    pub(crate) form: Form,
    pub(crate) ready: Ready,
    pub(crate) command: Command,
}

/// Where a program is; root's PATH need not name the folders of tracers.
pub(crate) fn find(name: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let folders = std::env::split_paths(&path)
        .chain(["/usr/sbin", "/usr/bin", "/sbin", "/bin"].map(PathBuf::from));
    folders
        .map(|folder| folder.join(name))
        .find(|file| file.is_file())
}

/// The command of a program, or why there is none.
pub(crate) fn command(name: &str) -> Result<Command, String> {
    let file = find(name).ok_or_else(|| format!("{name} is not installed"))?;
    let mut command = Command::new(file);
    command.env("LC_ALL", "C");
    Ok(command)
}

/// The names of a class's peers, run at the same time.
pub(crate) fn names(class: Class) -> &'static [&'static str] {
    match class {
        Class::Exec => &["execsnoop", "bpftrace"],
        Class::Open => &["opensnoop", "bpftrace"],
        Class::Count => &["syscount", FAILED, "bpftrace"],
    }
}

/// It counts failed calls only.
pub(crate) const FAILED: &str = "syscount -x";

pub(crate) fn peer(class: Class, name: &'static str, ground: &Ground) -> Result<Peer, String> {
    let uid = UID.to_string();
    let mut peer = Peer {
        name,
        form: Form::Bpftrace,
        ready: Ready::Mark,
        command: command(name.split(' ').next().unwrap_or(name))?,
    };
    match name {
        "execsnoop" => {
            peer.form = Form::Execsnoop;
            let all = ["-x", "-q", "--max-args", "60", "-u", &uid];
            peer.command.args(all);
        }
        "opensnoop" => {
            peer.form = Form::Opensnoop;
            peer.command.args(["-u", &uid]);
        }
        "syscount" | FAILED => {
            peer.form = Form::Syscount;
            peer.ready = Ready::Header;
            let group = ground.cgroup.as_ref().map_err(Clone::clone)?;
            // It cannot select a user. Its header must come through the pipe at once.
            let syscount = peer.command.get_program().to_owned();
            peer.command = command("stdbuf")?;
            peer.command.arg("-oL").arg(syscount);
            if name == FAILED {
                peer.command.arg("-x");
            }
            peer.command.args(["-T", "10000", "-c"]).arg(group);
        }
        _ => {
            if class == Class::Count {
                peer.ready = Ready::MarkCall;
            }
            peer.command
                .env("BPFTRACE_STRLEN", BPFTRACE_STRLEN.to_string())
                .env("BPFTRACE_PERF_RB_PAGES", "4096")
                .args(["-f", "json", "-e", &program(class, ground)]);
        }
    }
    Ok(peer)
}

fn program(class: Class, ground: &Ground) -> String {
    let at = |calls: &[&str], moment: &str| {
        let points = calls
            .iter()
            .map(|call| format!("tracepoint:syscalls:sys_{moment}_{call}"));
        points.collect::<Vec<_>>().join(",")
    };
    let ours = format!("/uid == {UID}/");
    match class {
        Class::Exec => {
            let calls = ["execve", "execveat"];
            format!(
                "{} {ours} {{ join(args->argv, \"|\"); if (pid != tid) {{ printf(\"T %d 0 \", pid); }} }} \
                 {} {ours} {{ printf(\"A %d 0 \", pid); }} \
                 {} {ours} {{ printf(\"R %d %d \", pid, args->ret); }}",
                at(&calls, "enter"),
                at(&calls[1..], "enter"),
                at(&calls, "exit")
            )
        }
        Class::Open => {
            // Read at the exit, when the page with the path is in memory.
            let mut program = String::new();
            if cfg!(target_arch = "x86_64") {
                program += &format!(
                    "{} {ours} {{ @path[tid] = args->pathname; }} ",
                    at(&["creat"], "enter")
                );
            }
            let calls: &[&str] = if cfg!(target_arch = "x86_64") {
                &["open", "openat", "openat2"]
            } else {
                &["openat", "openat2"]
            };
            let mut exits = calls.to_vec();
            if cfg!(target_arch = "x86_64") {
                exits.push("creat");
            }
            program
                + &format!(
                    "{} {ours} {{ @path[tid] = args->filename; }} {} {ours} {{ printf(\"O %d %d %s\", pid, args->ret, str(@path[tid])); delete(@path[tid]); }}",
                    at(calls, "enter"),
                    at(&exits, "exit")
                )
        }
        Class::Count => {
            let whose = match ground.cgroup_id() {
                Some(id) => format!("cgroup == {id}"),
                None => format!("uid == {UID}"),
            };
            format!(
                "tracepoint:raw_syscalls:sys_enter {{ if ({whose}) {{ @calls[args->id] = count(); }} if (args->id == {MARK_CALL}) {{ printf(\"{MARK}call\\n\"); }} }}"
            )
        }
    }
}

/// What the report says of the peers: names and versions.
pub(crate) fn versions() -> Vec<(&'static str, String)> {
    let by_package = |package: &str| {
        let output = Command::new("dpkg-query")
            .args(["-W", "-f", "${Version}", package])
            .output();
        output
            .ok()
            .filter(|output| output.status.success())
            .map(|output| String::from_utf8_lossy(&output.stdout).into_owned())
    };
    ["libbpf-tools", "bpftrace", "strace", "stress-ng"]
        .map(|package| {
            let version = by_package(package).unwrap_or_else(|| "not installed by dpkg".into());
            (package, version)
        })
        .to_vec()
}

/// opensnoop of 0.27 and later uses a ring, and does not count what it drops.
pub(crate) fn opensnoop_is_silent() -> bool {
    let versions = versions();
    let version = versions.first().map_or("", |(_, version)| version.as_str());
    let mut numbers = version.split(['.', '+', '-', '~']);
    let minor = numbers.nth(1).and_then(|minor| minor.parse::<u32>().ok());
    minor.is_none_or(|minor| minor > 26)
}
