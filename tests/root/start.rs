// SPDX-License-Identifier: BSD-2-Clause
//! What it takes to be attached: memory, and the right places in the kernel's structs.

use std::fs;
use std::io;
use std::path::Path;

use hello::modes::MODES;
use hello::modes::Mode;
use hello::session::Excerpt;
use libbpf_rs::AsRawLibbpf as _;
use libbpf_rs::ObjectBuilder;
use libbpf_rs::libbpf_sys;

use crate::run::Check;
use crate::run::Running;
use crate::run::Test;
use crate::run::Waiting;
use crate::run::ensure;
use crate::run::hello;
use crate::run::scaled;

pub(crate) const TESTS: &[Test] = &[
    ("peak_memory", peak_memory),
    (
        "an_excerpt_of_btf_is_as_good_as_all",
        an_excerpt_of_btf_is_as_good_as_all,
    ),
];

/// Most of it is needed to load.
fn peak_memory() -> Check {
    const MAX_KIB: u64 = 16 << 10;
    let variants: &[(&str, &[&str])] = &[
        ("exec", &["--output", "json", "--env", "PATH"]),
        ("syscount", &["--latency", "--by", "pid,syscall,errno"]),
    ];
    let plain = MODES.iter().map(|mode| (mode.info.name, &[][..]));
    for (mode, more) in plain.chain(variants.iter().copied()) {
        let busy = Waiting::start(&["execs", &scaled(23, 101).to_string(), "7"])?;
        let idle = Waiting::start(&["execs", "1", "0"])?;
        let pids = format!("{},{}", busy.pid(), idle.pid());
        let mut running =
            Running::start(hello(&["--mode", mode, "--follow", "--pid", &pids]).args(more))?;
        running.attached()?;
        busy.go()?;
        let status = fs::read_to_string(format!("/proc/{}/status", running.pid()));
        idle.go()?;
        let seen = running.finish()?;
        ensure!(seen.status == Some(0), "{mode}: {}", seen.stderr);
        let peak = status.ok().and_then(|status| {
            let line = status
                .lines()
                .find_map(|line| line.strip_prefix("VmHWM:"))?;
            line.trim().strip_suffix(" kB")?.parse::<u64>().ok()
        });
        let peak = peak.ok_or_else(|| format!("{mode} ended early: {}", seen.stderr))?;
        ensure!(peak <= MAX_KIB, "{mode} {more:?} has used {peak} KiB");
    }
    Ok(())
}

/// The programs of all hooks, with the kernel's whole BTF and with what hello takes of it.
fn an_excerpt_of_btf_is_as_good_as_all() -> Check {
    let excerpt = Excerpt::of_kernel().ok_or("no excerpt of this kernel's BTF")?;
    let len = |path: &Path| fs::metadata(path).map_or(0, |meta| meta.len());
    let (part, all) = (
        len(&excerpt.path()),
        len(Path::new("/sys/kernel/btf/vmlinux")),
    );
    ensure!(0 < part && part < all / 5, "{part} of {all} bytes");
    for mode in MODES {
        let whole = relocated(mode, None)?;
        let relocated = relocated(mode, Some(&excerpt.path()))?;
        ensure!(!whole.is_empty(), "{} has no programs", mode.info.name);
        for ((name, whole), (_, relocated)) in whole.iter().zip(&relocated) {
            ensure!(
                whole == relocated,
                "{name} is another program with {part} bytes of BTF"
            );
        }
    }
    Ok(())
}

/// A program's name, and of each of its instructions what relocations change.
type Program = (String, Vec<(u8, i16, i32)>);

/// The programs as they would be loaded, but for numbers of maps.
fn relocated(mode: &Mode, btf: Option<&Path>) -> Result<Vec<Program>, String> {
    const LOAD_MAP: u8 = 0x18; // BPF_LD | BPF_IMM | BPF_DW: file descriptor and offset
    let text = |error: libbpf_rs::Error| format!("{}: {error}", mode.info.name);
    let mut builder = ObjectBuilder::default();
    if let Some(btf) = btf {
        builder.btf_custom_path(btf).map_err(text)?;
    }
    let mut object = builder.open_memory((mode.object)()).map_err(text)?;
    for mut program in object.progs_mut() {
        program.set_autoload(true);
    }
    // SAFETY: the object is open, and neither prepared nor loaded.
    let error = unsafe { libbpf_sys::bpf_object__prepare(object.as_libbpf_object().as_ptr()) };
    ensure!(
        error == 0,
        "{}: {}",
        mode.info.name,
        io::Error::from_raw_os_error(-error)
    );
    let mut programs = Vec::new();
    for program in object.progs() {
        let mut is_map = false;
        let instructions = program.insns().iter().map(|instruction| {
            let was_map = std::mem::replace(&mut is_map, instruction.code == LOAD_MAP);
            let imm = if is_map || was_map {
                0
            } else {
                instruction.imm
            };
            (instruction.code, instruction.off, imm)
        });
        programs.push((
            program.name().to_string_lossy().into_owned(),
            instructions.collect(),
        ));
    }
    Ok(programs)
}
