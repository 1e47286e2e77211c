// SPDX-License-Identifier: BSD-2-Clause
//! `--list`: the modes, what they consist of in the kernel, and what their
//! tracepoints carry on this machine. Needs no privilege but for tracefs.

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::fs;
use std::path::Path;

use anyhow::Context as _;
use anyhow::Result;
use libbpf_rs::MapType;
use libbpf_rs::ObjectBuilder;
use libbpf_rs::btf::Btf;
use libbpf_rs::btf::BtfKind;
use libbpf_rs::btf::BtfType;
use libbpf_rs::btf::TypeId;
use libbpf_rs::btf::types;

use crate::cli::Hook;
use crate::modes::MODES;
use crate::modes::Mode;
use crate::preflight;
use crate::session::section_hook;

/// The whole text.
///
/// # Errors
/// An object of ours cannot be opened: hello is broken.
pub fn list(btf_file: Option<&Path>) -> Result<String> {
    let mut text = String::new();
    let mut tracepoints = BTreeSet::new();
    for mode in MODES {
        describe(mode, &mut text, &mut tracepoints)?;
    }
    let btf = match btf_file {
        Some(file) => {
            preflight::check_btf(file)?;
            Btf::from_path(file).ok()
        }
        None => Btf::from_vmlinux().ok(),
    };
    let tracefs = preflight::tracefs();
    for (kind, target) in tracepoints {
        let hook = if kind == "tracepoint" {
            Hook::Tracepoint
        } else {
            Hook::RawTp
        };
        let (fields, source) = fields(hook, &target, tracefs.as_deref(), btf.as_ref());
        let _ = writeln!(text, "{kind}:{} ({source})", target.replace('/', ":"));
        for field in fields {
            let _ = writeln!(text, "    {field}");
        }
    }
    Ok(text)
}

fn describe(
    mode: &Mode,
    text: &mut String,
    tracepoints: &mut BTreeSet<(&'static str, String)>,
) -> Result<()> {
    let mut builder = ObjectBuilder::default();
    let object = builder
        .open_memory((mode.object)())
        .with_context(|| format!("cannot open the object of {}", mode.info.name))?;
    let _ = writeln!(text, "{}: {}", mode.info.name, mode.info.about);
    let _ = writeln!(
        text,
        "    source      src/bpf/{0}.bpf.c, src/modes/{0}.rs",
        mode.info.name
    );
    let hooks: Vec<_> = mode.info.hooks.iter().map(|hook| hook.name()).collect();
    let _ = writeln!(text, "    hooks       {}", hooks.join(", "));
    for hook in mode.info.hooks {
        let mut targets = BTreeSet::new();
        let mut names = Vec::new();
        for program in object.progs() {
            let section = program.section().to_string_lossy().into_owned();
            let name = program.name().to_string_lossy().into_owned();
            if name.starts_with("hello_") {
                continue;
            }
            if let Some((of, target)) = section_hook(&section)
                && of == *hook
            {
                names.push(name);
                targets.extend(target.map(str::to_owned));
            }
        }
        let _ = write!(text, "    {:<12}{}", hook.name(), some(&names));
        if targets.is_empty() {
            let _ = writeln!(text, " at the functions of the system calls");
        } else {
            let on: Vec<_> = targets
                .iter()
                .map(|target| target.replace('/', ":"))
                .collect();
            let _ = writeln!(text, " at {}", on.join(", "));
        }
        let kind = match hook {
            Hook::RawTp => "rawtracepoint",
            Hook::Tracepoint => "tracepoint",
            _ => continue,
        };
        tracepoints.extend(targets.into_iter().map(|target| (kind, target)));
    }
    for map in object.maps() {
        let name = map.name().to_string_lossy().into_owned();
        if !name.contains('.') {
            let unit = match map.map_type() {
                MapType::RingBuf => "bytes",
                _ => "entries",
            };
            let _ = writeln!(
                text,
                "    map         {name} ({:?}, {} {unit})",
                map.map_type(),
                map.max_entries()
            );
        }
    }
    text.push('\n');
    Ok(())
}

/// All names, or the first and the last of many.
fn some(names: &[String]) -> String {
    match names {
        [first, .., last] if names.len() > 4 => format!("{first} … {last} ({})", names.len()),
        names => names.join(", "),
    }
}

/// What a tracepoint carries, and where that is known from.
fn fields(
    hook: Hook,
    target: &str,
    tracefs: Option<&Path>,
    btf: Option<&Btf<'_>>,
) -> (Vec<String>, &'static str) {
    if hook == Hook::Tracepoint
        && let Some(tracefs) = tracefs
        && let Ok(format) = fs::read_to_string(tracefs.join("events").join(target).join("format"))
    {
        return (format_fields(&format), "from tracefs");
    }
    let Some(btf) = btf else {
        return (Vec::new(), "unknown: neither tracefs nor BTF can be read");
    };
    let name = target.rsplit('/').next().unwrap_or(target);
    let found = match hook {
        Hook::Tracepoint => struct_fields(btf, &format!("trace_event_raw_{name}")),
        _ => prototype(btf, name),
    };
    match found {
        Some(fields) => (fields, "from BTF"),
        None => (Vec::new(), "not in this kernel"),
    }
}

/// The fields in an event's `format` file, without those that all events have.
fn format_fields(format: &str) -> Vec<String> {
    format
        .lines()
        .filter_map(|line| line.trim().strip_prefix("field:")?.split(';').next())
        .filter(|field| !field.contains("common_"))
        .map(str::to_owned)
        .collect()
}

fn struct_fields(btf: &Btf<'_>, name: &str) -> Option<Vec<String>> {
    let event: types::Struct<'_> = btf.type_by_name(name)?;
    let fields = event.iter().filter_map(|member| {
        let name = member.name?.to_string_lossy();
        (!["ent", "__data"].contains(&&*name)).then(|| declare(btf, member.ty, &name))
    });
    Some(fields.collect())
}

/// The arguments of a raw tracepoint, by the kernel's function that calls its
/// programs, whose BTF has their names; where it is missing, by the typedef of that
/// function's type, without names.
fn prototype(btf: &Btf<'_>, name: &str) -> Option<Vec<String>> {
    let by_function = || {
        let function: types::Func<'_> = btf.type_by_name(&format!("__bpf_trace_{name}"))?;
        function.next_type()
    };
    let by_typedef = || {
        let typedef: types::Typedef<'_> = btf.type_by_name(&format!("btf_trace_{name}"))?;
        typedef.skip_mods_and_typedefs().next_type()
    };
    let function: types::FuncProto<'_> = by_function().or_else(by_typedef)?.try_into().ok()?;
    let arguments = function
        .iter()
        .enumerate()
        .skip(1)
        .map(|(index, argument)| {
            let name = argument.name.unwrap_or_default().to_string_lossy();
            let name = if name.is_empty() {
                format!("arg{}", index - 1)
            } else {
                name.into_owned()
            };
            declare(btf, argument.ty, &name)
        });
    Some(arguments.collect())
}

/// `unsigned long args[6]`.
fn declare(btf: &Btf<'_>, ty: TypeId, name: &str) -> String {
    match btf.type_by_id::<types::Array<'_>>(ty) {
        Some(array) => format!("{} {name}[{}]", spell(btf, array.ty()), array.capacity()),
        None => format!("{} {name}", spell(btf, ty)),
    }
}

fn spell(btf: &Btf<'_>, ty: TypeId) -> String {
    let Some(ty) = btf.type_by_id::<BtfType<'_>>(ty) else {
        return "void".into();
    };
    let name = ty.name().unwrap_or_default().to_string_lossy().into_owned();
    let inner = || {
        ty.next_type()
            .map_or_else(|| "void".into(), |next| spell(btf, next.type_id()))
    };
    match ty.kind() {
        BtfKind::Ptr => format!("{} *", inner()),
        BtfKind::Const => format!("const {}", inner()),
        BtfKind::Volatile | BtfKind::Restrict => inner(),
        BtfKind::Struct => format!("struct {name}"),
        BtfKind::Union => format!("union {name}"),
        BtfKind::Enum | BtfKind::Enum64 => format!("enum {name}"),
        _ => name,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_of_a_format_file() {
        let format = "name: sys_enter\nID: 348\nformat:\n\
            \tfield:unsigned short common_type;\toffset:0;\tsize:2;\tsigned:0;\n\
            \tfield:int common_pid;\toffset:4;\tsize:4;\tsigned:1;\n\n\
            \tfield:long id;\toffset:8;\tsize:8;\tsigned:1;\n\
            \tfield:unsigned long args[6];\toffset:16;\tsize:48;\tsigned:0;\n\n\
            print fmt: \"NR %ld\", REC->id\n";
        assert_eq!(format_fields(format), ["long id", "unsigned long args[6]"]);
    }

    /// The rule of the house: the list of modes, the kernel files and what is shown agree.
    #[test]
    fn every_mode_is_listed_with_its_programs() {
        let text = list(None).expect("the objects open");
        for mode in MODES {
            assert!(text.contains(&format!("src/bpf/{}.bpf.c", mode.info.name)));
            for hook in mode.info.hooks {
                let line = format!("    {:<12}{}_", hook.name(), mode.info.name);
                assert!(
                    text.contains(&line),
                    "{} has no program for {hook}:\n{text}",
                    mode.info.name
                );
            }
        }
    }
}
