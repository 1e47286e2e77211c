// SPDX-License-Identifier: BSD-2-Clause
//! Which programs of an object are loaded for a hook, and what they are attached to.
//!
//! A program's section says its hook: `?kprobe`, `?fentry`, `?tp/…`, `?raw_tp/…`. One
//! that names a function (`?fexit/do_filp_open`) is for kernels that have it; one without
//! the question mark is loaded whatever the hook.
//! Programs named `hello_…` keep true what others go by, the filters and who runs: they belong
//! to no hook, are attached first and detached last.

use anyhow::Context as _;
use anyhow::Result;
use anyhow::bail;
use libbpf_rs::ErrorKind;
use libbpf_rs::Link;
use libbpf_rs::Object;
use libbpf_rs::OpenObject;
use libbpf_rs::ProgramMut;

use super::Setup;
use super::errors::denied;
use crate::cli::Hook;
use crate::preflight;

/// The order in which hooks are tried: the mode's own; from Linux 7.0 on, which preempts
/// programs on trampolines and raw tracepoints and skips them for others meanwhile, those
/// first that cannot be preempted.
pub(super) fn by_merit(hooks: &[Hook]) -> Vec<Hook> {
    let mut hooks = hooks.to_vec();
    if preflight::kernel_version() >= (7, 0) {
        hooks.sort_by_key(|hook| matches!(hook, Hook::Fentry | Hook::RawTp));
    }
    hooks
}

/// The hook that a section belongs to, and its target if the section names one.
pub(crate) fn section_hook(section: &str) -> Option<(Hook, Option<&str>)> {
    let (kind, target) = match section.split_once('/') {
        Some((kind, target)) => (kind, Some(target)),
        None => (section, None),
    };
    let hook = match kind {
        "kprobe" | "kretprobe" => Hook::Kprobe,
        "fentry" | "fexit" => Hook::Fentry,
        "tp" => Hook::Tracepoint,
        "raw_tp" => Hook::RawTp,
        _ => return None,
    };
    Some((hook, target))
}

/// Where processes end.
const EXIT: &str = "raw_tp/sched_process_exit";

/// Programs for one system call, one for each of the functions it can have
/// (`HELLO_ON_FUNCTIONS` in src/bpf/call.bpf.h).
const ENTRIES: usize = 4;

/// The function that a program is for: `map_kprobe_3_compat` and `openat` make
/// `__ia32_compat_sys_openat`. The first that the kernel has of those returned.
fn functions(program: &str, call: &str) -> Vec<String> {
    let entry = program.rsplit('_').next().unwrap_or_default();
    let prefixes: &[&str] = match (entry, cfg!(target_arch = "aarch64")) {
        ("native", true) => &["__arm64_sys_"],
        ("compat", true) => &["__arm64_compat_sys_"],
        ("native", false) => &["__x64_sys_"],
        ("ia32", false) => &["__ia32_sys_"],
        ("compat", false) => &["__ia32_compat_sys_"],
        // Linux 5.7 gave the first its name, those before have the second.
        ("x32", false) => &["__x64_compat_sys_", "__x32_compat_sys_"],
        _ => &[],
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

/// Sets which programs are loaded; for fentry also what each is attached to, as
/// that is part of the loaded program. Returns those functions in their order.
pub(super) fn choose_programs(
    object: &mut OpenObject,
    setup: &Setup,
    hook: Hook,
) -> Result<Vec<String>> {
    let names = if is_by_function(hook) {
        call_names(setup)?
    } else {
        Vec::new()
    };
    let room = count(object, hook) / ENTRIES;
    if names.len() > room {
        bail!(
            "there are programs for {room} system calls, not for {}; use --attach raw_tp",
            names.len()
        );
    }
    let mut index = 0;
    let mut taken = Vec::new();
    for mut program in object.progs_mut() {
        let program_name = program.name().to_string_lossy().into_owned();
        if program_name.starts_with("hello_") {
            continue; // select.rs decides on those
        }
        let section = program.section().to_string_lossy().into_owned();
        let target = section_hook(&section).and_then(|(_, target)| target);
        let for_all = program.autoload();
        let of_hook = section_hook(&section).is_some_and(|(of, _)| of == hook);
        let mut wanted = (for_all || of_hook) && !setup.leaves_out(&program_name);
        if let (true, Hook::Fentry, Some(function)) = (wanted && of_hook, hook, target) {
            wanted = program
                .set_attach_target(0, Some(function.to_owned()))
                .is_ok();
            if wanted {
                taken.push(function.to_owned());
            }
        } else if wanted && of_hook && is_by_function(hook) && target.is_none() {
            let call = names.get(index / ENTRIES);
            index += 1;
            wanted = call.is_some();
            if let (Some(call), Hook::Fentry) = (call, hook) {
                // libbpf looks the name up in the kernel's BTF.
                let target = functions(&program_name, call)
                    .into_iter()
                    .find(|name| program.set_attach_target(0, Some(name.clone())).is_ok());
                wanted = target.is_some();
                taken.extend(target);
            }
        }
        program.set_autoload(wanted);
    }
    if hook == Hook::Fentry {
        check_functions(setup, &taken)?;
    }
    if hook == Hook::Fentry
        && let Some(call) = names.iter().find(|call| !taken.contains(&native(call)))
    {
        bail!(
            "the kernel's BTF has no function {}; use --attach kprobe",
            native(call)
        );
    }
    Ok(taken)
}

/// Is there a program on one function of each group?
fn check_functions(setup: &Setup, taken: &[String]) -> Result<()> {
    let is_taken = |name: &str| taken.iter().any(|taken| taken == name);
    let missing = |group: &&&[&str]| !group.iter().any(|name| is_taken(name));
    match setup.functions.iter().find(missing) {
        Some(group) => bail!("this kernel has no function {}", group.join(" or ")),
        None => Ok(()),
    }
}

fn is_by_function(hook: Hook) -> bool {
    matches!(hook, Hook::Kprobe | Hook::Fentry)
}

fn native(call: &str) -> String {
    functions("native", call).concat()
}

fn count(object: &OpenObject, hook: Hook) -> usize {
    object
        .progs()
        .filter(|program| section_hook(&program.section().to_string_lossy()) == Some((hook, None)))
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
                &error,
                &format!("attach to {}", program.section().to_string_lossy()),
            )
        })
    };
    // Who is followed must be right before the first event is judged by it. And who is
    // let in is seen out: by the mode first, if it looks at ends, then by the filter.
    let is_exit = |program: &ProgramMut<'_>| program.section() == EXIT;
    let mut beside = Vec::new();
    for program in loaded().filter(is_exit) {
        links.push(by_section(&program)?);
        if !is_filter(&program) {
            beside.push("sched_process_exit".to_owned());
        }
    }
    for program in loaded().filter(|program| is_filter(program) && !is_exit(program)) {
        links.push(by_section(&program)?);
    }
    let names = if hook == Hook::Kprobe {
        call_names(setup)?
    } else {
        Vec::new()
    };
    let mut index = 0;
    for program in loaded().filter(|program| !is_filter(program) && !is_exit(program)) {
        let section = program.section().to_string_lossy();
        match section_hook(&section) {
            Some((Hook::Kprobe, Some(function))) => {
                match program.attach_kprobe(section.starts_with("kret"), function) {
                    Ok(link) => {
                        links.push(link);
                        targets.push(function.to_owned());
                    }
                    Err(error) if error.kind() == ErrorKind::NotFound => {}
                    Err(error) => return Err(denied(&error, &format!("attach to {function}"))),
                }
            }
            Some((Hook::Kprobe, None)) => {
                let call = names[index / ENTRIES];
                index += 1;
                for function in functions(&program.name().to_string_lossy(), call) {
                    match program.attach_kprobe(section.starts_with("kret"), &function) {
                        Ok(link) => {
                            links.push(link);
                            targets.push(function);
                            break;
                        }
                        Err(error) if error.kind() == ErrorKind::NotFound => {}
                        Err(error) => return Err(denied(&error, &format!("attach to {function}"))),
                    }
                }
            }
            Some((Hook::Fentry, _)) => links.push(by_section(&program)?),
            Some((of, Some(target))) => match program.attach() {
                Ok(link) => {
                    links.push(link);
                    let place = if of == hook {
                        &mut targets
                    } else {
                        &mut beside
                    };
                    place.push(target.replace('/', ":"));
                }
                // A tracepoint that only newer kernels have.
                Err(error) if error.kind() == ErrorKind::NotFound && !targets.is_empty() => {}
                Err(error) => return Err(denied(&error, &format!("attach to {section}"))),
            },
            _ => {} // reached by tail call
        }
    }
    if is_by_function(hook) {
        check_functions(setup, &targets)?;
    }
    targets.dedup();
    if let Some(call) = names.iter().find(|call| !targets.contains(&native(call))) {
        bail!("this kernel has no function {}", native(call));
    }
    if hook == Hook::RawTp {
        targets.append(&mut beside);
    }
    let mut words = vec![describe(hook, &targets)];
    if !beside.is_empty() {
        words.push(describe(Hook::RawTp, &beside));
    }
    if targets.is_empty() && words.len() > 1 {
        words.remove(0);
    }
    Ok((links, words.join(", ")))
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
    #[cfg(target_arch = "x86_64")]
    fn each_program_has_its_function() {
        assert_eq!(
            functions("map_kprobe_7_compat", "openat"),
            ["__ia32_compat_sys_openat"]
        );
        assert_eq!(
            functions("buffer_fentry_0_x32", "execve"),
            ["__x64_compat_sys_execve", "__x32_compat_sys_execve"]
        );
        assert_eq!(native("read"), "__x64_sys_read");
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
