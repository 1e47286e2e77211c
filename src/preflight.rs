// SPDX-License-Identifier: BSD-2-Clause
//! What this machine allows, asked before the kernel says a bare EPERM: what is
//! missing, why it is needed, what to do.

use std::fmt;
use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;
use std::path::PathBuf;

use libbpf_rs::ProgramType;
use libbpf_rs::btf::Btf;
use libbpf_rs::btf::types;

use crate::cli::Args;
use crate::cli::Hook;

/// Something that stands in the way.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    /// What is missing or in the way.
    pub what: String,
    /// What to do about it.
    pub fix: String,
}

impl Finding {
    fn new(what: impl Into<String>, fix: impl Into<String>) -> Self {
        Self {
            what: what.into(),
            fix: fix.into(),
        }
    }
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}; {}", self.what, self.fix)
    }
}

impl std::error::Error for Finding {}

/// Where the running kernel shows its own BTF.
pub(crate) const KERNEL_BTF: &str = "/sys/kernel/btf/vmlinux";

const CAP_SYS_ADMIN: u64 = 1 << 21;
const CAP_PERFMON: u64 = 1 << 38;
const CAP_BPF: u64 = 1 << 39;

/// What stands in the way of any mode: capabilities and BTF.
///
/// # Errors
/// The first thing that does.
pub fn check(args: &Args) -> Result<(), Finding> {
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    if let Some(finding) = capabilities(&status) {
        return Err(finding);
    }
    if args.btf.is_none() && !has_btf() {
        return Err(no_btf());
    }
    match &args.btf {
        Some(file) => check_btf(file),
        None => Ok(()),
    }
}

/// A wrong BTF would make programs read wrong fields, and nobody would know.
///
/// # Errors
/// The kernel has its own, or this is none.
pub fn check_btf(file: &Path) -> Result<(), Finding> {
    const FIX: &str = "take this kernel's, e.g. from https://github.com/aquasecurity/btfhub";
    let named = |what: &str| Finding::new(format!("--btf {} {what}", file.display()), FIX);
    if Path::new(KERNEL_BTF).exists() {
        return Err(Finding::new(
            format!("this kernel carries its own BTF ({KERNEL_BTF}), the only right one"),
            "leave --btf out",
        ));
    }
    if let Err(error) = fs::File::open(file) {
        return Err(named(&format!("cannot be read: {error}")));
    }
    let btf = Btf::from_path(file).map_err(|_| named("is no BTF"))?;
    let has = |name: &str| btf.type_by_name::<types::Struct<'_>>(name).is_some();
    if !["task_struct", "pt_regs", "thread_info", "cred", "file"]
        .iter()
        .all(|name| has(name))
    {
        return Err(named("is not a kernel's"));
    }
    Ok(())
}

/// What /proc/self/status lacks of the capabilities that every mode needs.
fn capabilities(status: &str) -> Option<Finding> {
    let field = |name: &str| {
        let text = status.lines().find_map(|line| line.strip_prefix(name))?;
        Some(text.trim().to_owned())
    };
    let effective = u64::from_str_radix(&field("CapEff:")?, 16).ok()?;
    if effective & CAP_SYS_ADMIN != 0 {
        return None;
    }
    let missing: Vec<&str> = [(CAP_BPF, "CAP_BPF"), (CAP_PERFMON, "CAP_PERFMON")]
        .into_iter()
        .filter(|(bit, _)| effective & bit == 0)
        .map(|(_, name)| name)
        .collect();
    if missing.is_empty() {
        return None;
    }
    let what = if missing.len() == 1 {
        format!("cannot load BPF programs: {} is missing", missing[0])
    } else {
        format!(
            "cannot load BPF programs: {} are missing",
            missing.join(" and ")
        )
    };
    let root = field("Uid:").is_some_and(|uids| uids.split_whitespace().nth(1) == Some("0"));
    Some(Finding::new(
        what,
        if root {
            "this root has been stripped of it (container, systemd unit?): grant it there, \
             e.g. docker run --cap-add BPF --cap-add PERFMON"
        } else {
            "run with sudo, or once: setcap cap_bpf,cap_perfmon+ep ./hello"
        },
    ))
}

/// Where libbpf looks for the running kernel's BTF (libbpf's btf__load_vmlinux_btf).
fn has_btf() -> bool {
    let release = kernel_release();
    Path::new(KERNEL_BTF).exists()
        || [
            format!("/boot/vmlinux-{release}"),
            format!("/lib/modules/{release}/vmlinux-{release}"),
            format!("/lib/modules/{release}/build/vmlinux"),
            format!("/usr/lib/modules/{release}/kernel/vmlinux"),
            format!("/usr/lib/debug/boot/vmlinux-{release}"),
            format!("/usr/lib/debug/boot/vmlinux-{release}.debug"),
            format!("/usr/lib/debug/lib/modules/{release}/vmlinux"),
        ]
        .iter()
        .any(|file| Path::new(file).exists())
}

fn no_btf() -> Finding {
    Finding::new(
        "this kernel carries no BTF (/sys/kernel/btf/vmlinux), which tells where its structs have their fields",
        "give it with --btf FILE (https://github.com/aquasecurity/btfhub), or use a kernel with CONFIG_DEBUG_INFO_BTF=y",
    )
}

/// The running kernel's release, as `uname -r` says it.
pub fn kernel_release() -> String {
    nix::sys::utsname::uname()
        .map(|name| name.release().to_string_lossy().into_owned())
        .unwrap_or_default()
}

/// Major and minor number of the running kernel.
pub fn kernel_version() -> (u32, u32) {
    let release = kernel_release();
    let mut numbers = release
        .split(['.', '-'])
        .map_while(|part| part.parse().ok());
    (numbers.next().unwrap_or(0), numbers.next().unwrap_or(0))
}

/// The numbers of all CPUs that there can ever be lie below this.
pub fn possible_cpus() -> u32 {
    let file = fs::read_to_string("/sys/devices/system/cpu/possible");
    // `0-3`, `0`, `0-3,8-11`
    let last = file.ok().and_then(|text| {
        let last = text.trim().rsplit(['-', ',']).next()?;
        last.parse::<u32>().ok()
    });
    last.map_or_else(
        || {
            let cpus = std::thread::available_parallelism();
            cpus.map_or(1, |cpus| u32::try_from(cpus.get()).unwrap_or(1))
        },
        |last| last + 1,
    )
}

/// The host's pid namespace always has this number: PROC_PID_INIT_INO
/// (include/linux/proc_ns.h).
const HOST_PID_NAMESPACE: u64 = 0xefff_fffc;

/// None without /proc.
fn own_pid_namespace() -> Option<u64> {
    Some(fs::metadata("/proc/self/ns/pid").ok()?.ino())
}

/// The inode of the pid namespace that hello runs in; 0 for the host's, and where there is
/// no telling.
pub fn pid_namespace() -> u32 {
    let inode = own_pid_namespace().filter(|inode| *inode != HOST_PID_NAMESPACE);
    inode.map_or(0, |inode| u32::try_from(inode).unwrap_or(0))
}

/// Does hello certainly know processes by the numbers that the kernel side has?
pub fn is_in_host_pid_namespace() -> bool {
    own_pid_namespace() == Some(HOST_PID_NAMESPACE)
}

/// Where tracefs is mounted (Documentation/trace/ftrace.rst names both places);
/// hello mounts nothing itself.
pub fn tracefs() -> Option<PathBuf> {
    ["/sys/kernel/tracing", "/sys/kernel/debug/tracing"]
        .iter()
        .map(PathBuf::from)
        .find(|folder| folder.join("events").is_dir())
}

/// How to get tracefs.
pub fn no_tracefs(what_for: &str) -> Finding {
    Finding::new(
        format!("{what_for} needs tracefs, which is not mounted (or not readable) here"),
        "mount -t tracefs tracefs /sys/kernel/tracing",
    )
}

/// Why a hook cannot work here, as far as it is cheap to know.
///
/// # Errors
/// The reason.
pub fn hook(hook: Hook) -> Result<(), Finding> {
    match hook {
        Hook::Kprobe if !Path::new("/sys/bus/event_source/devices/kprobe/type").exists() => {
            Err(Finding::new(
                "this kernel has no kprobes (CONFIG_KPROBES, CONFIG_KPROBE_EVENTS)",
                "use another hook: --attach auto",
            ))
        }
        // Asked for with a program of two instructions: to find out by loading the mode's
        // own would double the time until it is attached.
        Hook::Fentry
            if ProgramType::Tracing
                .is_supported()
                .is_ok_and(|there| !there) =>
        {
            Err(Finding::new(
                "this kernel has no BPF trampolines (CONFIG_BPF_JIT, CONFIG_DEBUG_INFO_BTF), \
                 or a policy refuses programs on them",
                "use another hook: --attach auto",
            ))
        }
        Hook::Tracepoint => match tracefs() {
            None => Err(no_tracefs("a classic tracepoint")),
            Some(folder) if !folder.join("events/raw_syscalls").is_dir() => Err(Finding::new(
                "this kernel has no system call tracepoints (CONFIG_FTRACE_SYSCALLS)",
                "use another hook: --attach auto",
            )),
            Some(_) => Ok(()),
        },
        _ => Ok(()),
    }
}

/// Who may have said EPERM or EACCES to a process that has the capabilities.
pub fn policy() -> Finding {
    let read = |file: &str| fs::read_to_string(file).unwrap_or_default();
    let lockdown = read("/sys/kernel/security/lockdown");
    let seccomp = read("/proc/self/status").lines().any(|line| {
        line.strip_prefix("Seccomp:")
            .is_some_and(|mode| mode.trim() == "2")
    });
    if lockdown.contains("[confidentiality]") {
        Finding::new(
            "the kernel is locked down (confidentiality), which forbids reading kernel memory",
            "boot with lockdown=integrity, or turn Secure Boot off",
        )
    } else if seccomp {
        Finding::new(
            "a seccomp filter on this process refuses it, although it has the capabilities",
            "in a container allow bpf(2) and perf_event_open(2) in its seccomp profile",
        )
    } else {
        Finding::new(
            "a policy of this machine refuses it, although the capabilities are there \
             (an LSM, a sysctl such as kernel.perf_event_paranoid, or the way this kernel was built)",
            "`dmesg` may say which; -v shows what libbpf says",
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn status(uid: u32, caps: u64) -> String {
        format!("Name:\thello\nUid:\t{uid}\t{uid}\t{uid}\t{uid}\nCapEff:\t{caps:016x}\n")
    }

    #[test]
    fn capabilities_that_are_missing_are_named() {
        let what = |uid, caps| capabilities(&status(uid, caps)).map(|finding| finding.to_string());
        assert_eq!(what(0, 0x1ff_ffff_ffff), None);
        assert_eq!(what(0, CAP_SYS_ADMIN), None);
        assert_eq!(what(1000, CAP_BPF | CAP_PERFMON), None);
        assert_eq!(
            what(1000, 0).as_deref(),
            Some(
                "cannot load BPF programs: CAP_BPF and CAP_PERFMON are missing; \
                 run with sudo, or once: setcap cap_bpf,cap_perfmon+ep ./hello"
            )
        );
        assert!(what(1000, CAP_BPF).is_some_and(|text| text.contains("CAP_PERFMON is missing")));
        assert!(what(0, CAP_PERFMON).is_some_and(|text| text.contains("container")));
    }
}
