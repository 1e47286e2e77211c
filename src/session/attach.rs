// SPDX-License-Identifier: BSD-2-Clause
//! Which programs of an object are loaded for a hook, and what they are attached to.
//!
//! A program's section says its hook: `?kprobe`, `?fentry`, `?tp/…`, `?raw_tp/…`.
//! Programs named `hello_…` keep the filters true and belong to no hook.

use anyhow::Context as _;
use anyhow::Result;
use anyhow::bail;
use libbpf_rs::ErrorKind;
use libbpf_rs::Link;
use libbpf_rs::Object;
use libbpf_rs::OpenObject;
use libbpf_rs::ProgramMut;

use super::Setup;
use super::denied;
use crate::cli::Hook;

/// The hook that a section belongs to, and its target if the section names one.
pub(crate) fn section_hook(section: &str) -> Option<(Hook, Option<&str>)> {
    let (kind, target) = match section.split_once('/') {
        Some((kind, target)) => (kind, Some(target)),
        None => (section, None),
    };
    let hook = match kind {
        "kprobe" => Hook::Kprobe,
        "fentry" => Hook::Fentry,
        "tp" => Hook::Tracepoint,
        "raw_tp" => Hook::RawTp,
        _ => return None,
    };
    Some((hook, target))
}

/// The kernel's functions for a system call, native entry first. All that exist
/// are taken: which of them a 32-bit entry calls depends on the call and kernel
/// (arch/x86/include/asm/syscall_wrapper.h).
fn functions(call: &str) -> Vec<String> {
    let prefixes: &[&str] = if cfg!(target_arch = "aarch64") {
        &["__arm64_sys_", "__arm64_compat_sys_"]
    } else {
        &[
            "__x64_sys_",
            "__ia32_sys_",
            "__ia32_compat_sys_",
            "__x64_compat_sys_",
            "__x32_compat_sys_",
        ]
    };
    prefixes
        .iter()
        .map(|prefix| format!("{prefix}{call}"))
        .collect()
}

/// Names of the calls that a mode runs at, each once.
fn call_names(setup: &Setup) -> Result<Vec<&'static str>> {
    let mut names = Vec::new();
    for call in &setup.calls {
        let name = call.name().with_context(|| {
            format!("system call {} has no name here, so no kernel function to attach to; use --attach raw_tp", call.nr)
        })?;
        if !names.contains(&name) {
            names.push(name);
        }
    }
    Ok(names)
}

/// Entries of one system call that can exist at once: 64-bit, 32-bit with and
/// without a compat function of its own, x32.
const ENTRIES: usize = 4;

/// Sets which programs are loaded; for fentry also what each is attached to, as
/// that is part of the loaded program. Returns those functions in their order.
pub(super) fn choose_programs(
    object: &mut OpenObject,
    setup: &Setup,
    hook: Hook,
) -> Result<Vec<String>> {
    let mut candidates = Vec::new();
    if matches!(hook, Hook::Kprobe | Hook::Fentry) {
        let names = call_names(setup)?;
        let room = match (hook, slots(object, hook)) {
            (Hook::Kprobe, 1) => usize::MAX, // one program for all
            (Hook::Kprobe, slots) => slots,
            (_, slots) => slots / ENTRIES,
        };
        if names.len() > room {
            bail!(
                "there are programs for {room} system calls, not for {}; use --attach raw_tp",
                names.len()
            );
        }
        candidates = names.iter().flat_map(|name| functions(name)).collect();
    }
    let mut candidates = candidates.into_iter();
    let mut taken = Vec::new();
    for mut program in object.progs_mut() {
        if program.name().to_string_lossy().starts_with("hello_") {
            continue; // select.rs decides on those
        }
        let section = program.section().to_string_lossy().into_owned();
        let mut wanted = section_hook(&section).is_some_and(|(of, _)| of == hook);
        if wanted && hook == Hook::Fentry {
            // libbpf looks the name up in the kernel's BTF: those it lacks are passed over.
            let target = candidates
                .find(|target| program.set_attach_target(0, Some(target.clone())).is_ok());
            wanted = target.is_some();
            taken.extend(target);
        }
        program.set_autoload(wanted);
    }
    if hook == Hook::Fentry && taken.is_empty() {
        bail!(
            "the kernel's BTF has no function for {}",
            call_names(setup)?.join(", ")
        );
    }
    Ok(taken)
}

fn slots(object: &OpenObject, hook: Hook) -> usize {
    object
        .progs()
        .filter(|program| {
            section_hook(&program.section().to_string_lossy()).is_some_and(|(of, _)| of == hook)
        })
        .count()
}

/// Attaches what was loaded, each program on its own. Returns the links and, in
/// words, what they are on. `taken` is what [`choose_programs`] returned.
pub(super) fn attach(
    object: &Object,
    setup: &Setup,
    hook: Hook,
    taken: Vec<String>,
) -> Result<(Vec<Link>, String)> {
    let mut links = Vec::new();
    let mut targets = taken;
    let loaded = || object.progs_mut().filter(|program| program.autoload());
    let is_filter =
        |program: &ProgramMut<'_>| program.name().to_string_lossy().starts_with("hello_");
    let by_section = |program: &ProgramMut<'_>| {
        program.attach().map_err(|error| {
            denied(
                error,
                &format!("attach to {}", program.section().to_string_lossy()),
            )
        })
    };
    // Who is followed must be right before the first event is judged by it.
    for program in loaded().filter(is_filter) {
        links.push(by_section(&program)?);
    }
    let programs: Vec<_> = loaded().filter(|program| !is_filter(program)).collect();
    if hook == Hook::Kprobe {
        // One program for all calls, or a program for each.
        for (index, call) in call_names(setup)?.iter().enumerate() {
            let program = &programs[index % programs.len()];
            let before = links.len();
            for function in functions(call) {
                match program.attach_kprobe(false, &function) {
                    Ok(link) => {
                        links.push(link);
                        targets.push(function);
                    }
                    Err(error) if error.kind() == ErrorKind::NotFound => {}
                    Err(error) => return Err(denied(error, &format!("attach to {function}"))),
                }
            }
            if links.len() == before {
                bail!("this kernel has no function for system call {call}");
            }
        }
    } else {
        for program in &programs {
            let section = program.section().to_string_lossy();
            match section_hook(&section) {
                Some((Hook::Fentry, _)) => links.push(by_section(program)?),
                Some((_, Some(target))) => {
                    links.push(by_section(program)?);
                    targets.push(target.replace('/', ":"));
                }
                _ => {} // reached by tail call
            }
        }
    }
    Ok((links, describe(hook, &targets)))
}

/// `kprobe __x64_sys_execve and 3 more`.
fn describe(hook: Hook, targets: &[String]) -> String {
    match targets {
        [] => hook.to_string(),
        [one] => format!("{hook} {one}"),
        [one, two] => format!("{hook} {one} and {two}"),
        [one, rest @ ..] => format!("{hook} {one} and {} more", rest.len()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sections() {
        assert_eq!(section_hook("kprobe"), Some((Hook::Kprobe, None)));
        assert_eq!(section_hook("fentry"), Some((Hook::Fentry, None)));
        assert_eq!(
            section_hook("raw_tp/sys_enter"),
            Some((Hook::RawTp, Some("sys_enter")))
        );
        assert_eq!(
            section_hook("tp/raw_syscalls/sys_enter"),
            Some((Hook::Tracepoint, Some("raw_syscalls/sys_enter")))
        );
        assert_eq!(section_hook("license"), None);
    }

    #[test]
    fn descriptions() {
        let of = |targets: &[&str]| {
            describe(
                Hook::Kprobe,
                &targets.iter().map(ToString::to_string).collect::<Vec<_>>(),
            )
        };
        assert_eq!(of(&["a"]), "kprobe a");
        assert_eq!(of(&["a", "b"]), "kprobe a and b");
        assert_eq!(of(&["a", "b", "c"]), "kprobe a and 2 more");
    }
}
