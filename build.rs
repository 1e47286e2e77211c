// SPDX-License-Identifier: BSD-2-Clause
//! Compiles every `src/bpf/*.bpf.c` into an object and a Rust skeleton in
//! `OUT_DIR`; there is no list to keep. Adding a mode needs no change here.
//! The benchmark's object comes with them; hello does not include it.

use std::env;
use std::fmt::Write as _;
use std::fs;
use std::path::Path;
use std::path::PathBuf;
use std::process::Command;

use anyhow::Context as _;
use anyhow::Result;
use anyhow::bail;
use libbpf_cargo::SkeletonBuilder;

const SOURCES: &str = "src/bpf";
const HEADERS: &str = "vmlinux";
const FLOOR: &str = "benches/floor.bpf.c";

/// The oldest clang whose BPF output is tested: it has `preserve_access_index`
/// on whole files, `__noinline` subprograms and BTF as libbpf 1.7 wants them.
const CLANG_MIN: u32 = 16;

fn main() {
    // Not `-> Result`: that would print a backtrace where a message is wanted.
    if let Err(error) = run() {
        eprintln!("{error:#}");
        std::process::exit(1);
    }
}

fn run() -> Result<()> {
    let out = PathBuf::from(env::var_os("OUT_DIR").context("OUT_DIR is not set: run by cargo?")?);
    let clang = find_clang()?;
    syscall_numbers(&out.join("syscall_nr.h"))?;
    kernel_types(&out.join("kernel_types.rs"))?;
    for source in sources()? {
        skeleton(&clang, &source, &out)?;
    }
    skeleton(&clang, Path::new(FLOOR), &out)?;
    git_revision();
    println!("cargo::rerun-if-changed=build.rs");
    println!("cargo::rerun-if-changed={SOURCES}");
    println!("cargo::rerun-if-changed={FLOOR}");
    println!("cargo::rerun-if-changed={HEADERS}/vmlinux.h");
    println!("cargo::rerun-if-env-changed=CLANG");
    Ok(())
}

fn sources() -> Result<Vec<PathBuf>> {
    let mut sources = Vec::new();
    for entry in fs::read_dir(SOURCES).context(SOURCES)? {
        let path = entry?.path();
        if path.to_string_lossy().ends_with(".bpf.c") {
            sources.push(path);
        }
    }
    sources.sort();
    Ok(sources)
}

fn skeleton(clang: &str, source: &Path, out: &Path) -> Result<()> {
    let stem = source
        .file_name()
        .and_then(|name| name.to_str()?.strip_suffix(".bpf.c"))
        .with_context(|| format!("{} is no name for a mode", source.display()))?;
    let here = env::current_dir()?;
    let skeleton = out.join(format!("{stem}.skel.rs"));
    SkeletonBuilder::new()
        .source(source)
        .obj(out.join(format!("{stem}.bpf.o")))
        .reference_obj(true)
        .clang(clang)
        .clang_args([
            format!("-I{HEADERS}"),
            format!("-I{}", out.display()),
            // v3 has 32-bit arithmetic and jumps (Linux 5.1), which the verifier
            // of 5.8 knows; v4 is 6.6. Left out, it would depend on the clang.
            "-mcpu=v3".into(),
            // The object's BTF names its sources: relative, for reproducible builds.
            format!("-ffile-prefix-map={}=.", here.display()),
            format!("-ffile-prefix-map={}=.", out.display()),
            "-Wall".into(),
            "-Wextra".into(),
            "-Werror".into(),
            // Kernel style: programs take a context they may not need.
            "-Wno-unused-parameter".into(),
        ])
        .build_and_generate(&skeleton)?;
    pack(&skeleton, &out.join(format!("{stem}.bpf.o")))
}

/// Objects are mostly repetition (a program for each hook and function) and half of the
/// binary: they stand in it packed. The skeleton has its own, which --list needs too:
/// both get it from `crate::modes::unpack`.
fn pack(skeleton: &Path, object: &Path) -> Result<()> {
    let bytes = fs::read(object).with_context(|| object.display().to_string())?;
    let packed = object.with_extension("o.zlib");
    fs::write(
        &packed,
        miniz_oxide::deflate::compress_to_vec_zlib(&bytes, 9),
    )
    .with_context(|| packed.display().to_string())?;
    let text = fs::read_to_string(skeleton)?;
    // By rustfmt, if it is there, broken into lines as its path is long.
    let begin = text.find("#[unsafe(link_section = \".bpf.objs\")]");
    let file = format!("{:?}", object.display().to_string());
    let end = text.find(&file).map(|at| at + file.len());
    let end = end.and_then(|at| Some(at + text[at..].find(';')? + 1));
    let (Some(begin), Some(end)) = (begin, end) else {
        bail!(
            "{} has no DATA as it was: libbpf-cargo has changed",
            skeleton.display()
        );
    };
    let lazy = format!(
        "pub static DATA: std::sync::LazyLock<Vec<u8>> = std::sync::LazyLock::new(|| \
         crate::modes::unpack(include_bytes!({:?})));",
        packed.display().to_string()
    );
    fs::write(skeleton, [&text[..begin], &lazy, &text[end..]].concat())
        .with_context(|| skeleton.display().to_string())
}

/// `CLANG`, or the newest of `clang`, `clang-16`, `clang-17`, …
fn find_clang() -> Result<String> {
    if let Ok(clang) = env::var("CLANG") {
        return match clang_version(&clang) {
            Some(version) if version >= CLANG_MIN => Ok(clang),
            Some(version) => bail!(
                "CLANG={clang} is clang {version}; BPF programs need {CLANG_MIN} or newer: \
                 run `make deps`, or set CLANG to a newer one"
            ),
            None => bail!("CLANG={clang} does not run: set it to a clang {CLANG_MIN} or newer"),
        };
    }
    let newest = (CLANG_MIN..CLANG_MIN + 24)
        .map(|version| format!("clang-{version}"))
        .chain(["clang".into()])
        .filter_map(|name| Some((clang_version(&name)?, name)))
        .max();
    match newest {
        Some((version, name)) if version >= CLANG_MIN => Ok(name),
        Some((version, _)) => bail!(
            "the newest clang here is {version}; BPF programs need {CLANG_MIN} or newer: \
             run `make deps`, or install e.g. clang-{CLANG_MIN}"
        ),
        None => bail!(
            "no clang found; BPF programs need {CLANG_MIN} or newer: run `make deps`, \
             or install e.g. clang-{CLANG_MIN}"
        ),
    }
}

fn clang_version(clang: &str) -> Option<u32> {
    let output = Command::new(clang).arg("--version").output().ok()?;
    let text = String::from_utf8(output.stdout).ok()?;
    let (_, rest) = text.split_once("clang version ")?;
    rest.split('.').next()?.trim().parse().ok()
}

/// Writes the numbers of the target's system calls for the C side, from the same
/// table that user space takes names from: `NR_execve`, `COMPAT_NR_execve`.
fn syscall_numbers(path: &Path) -> Result<()> {
    fn define<S: Copy>(
        header: &mut String,
        prefix: &str,
        calls: impl Iterator<Item = S>,
        of: impl Fn(S) -> (&'static str, i32),
    ) -> Result<()> {
        let mut max = 0;
        for call in calls {
            let (name, number) = of(call);
            max = max.max(number);
            // `break` is a keyword of Rust: the crate has r#break.
            let name = name.trim_start_matches("r#");
            writeln!(header, "#define {prefix}_{name} {number}")?;
        }
        writeln!(header, "#define {prefix}_MAX {max}")?;
        Ok(())
    }

    let mut header = String::from("/* Written by build.rs from the syscalls crate. */\n");
    let arch = env::var("CARGO_CFG_TARGET_ARCH")?;
    match arch.as_str() {
        "x86_64" => {
            use syscalls::x86::Sysno as Compat;
            use syscalls::x86_64::Sysno as Native;
            define(&mut header, "NR", Native::iter(), |s| (s.name(), s.id()))?;
            define(&mut header, "COMPAT_NR", Compat::iter(), |s| {
                (s.name(), s.id())
            })?;
        }
        "aarch64" => {
            use syscalls::aarch64::Sysno as Native;
            use syscalls::arm::Sysno as Compat;
            define(&mut header, "NR", Native::iter(), |s| (s.name(), s.id()))?;
            define(&mut header, "COMPAT_NR", Compat::iter(), |s| {
                (s.name(), s.id())
            })?;
        }
        other => bail!("no system call table for {other}: hello knows x86_64 and aarch64"),
    }
    fs::write(path, header).with_context(|| path.display().to_string())
}

/// Writes the names of the kernel's types that the C side may read: those of vmlinux.h.
fn kernel_types(path: &Path) -> Result<()> {
    let header = fs::read_to_string(format!("{HEADERS}/vmlinux.h")).context("vmlinux.h")?;
    let mut names: Vec<&str> = header
        .lines()
        .filter_map(|line| {
            let tag = ["struct ", "union ", "enum "]
                .iter()
                .find_map(|word| line.strip_prefix(word)?.strip_suffix(" {"));
            tag.or_else(|| line.strip_prefix("} ")?.strip_suffix(';'))
        })
        .collect();
    names.sort_unstable();
    names.dedup();
    let text = format!("const KERNEL_TYPES: &[&str] = &{names:?};\n");
    fs::write(path, text).with_context(|| path.display().to_string())
}

/// `HELLO_GIT_REVISION` for `--version`: from the environment (packagers build
/// from a tarball), else from git, else absent.
fn git_revision() {
    println!("cargo::rerun-if-env-changed=HELLO_GIT_REVISION");
    let git = |args: &[&str]| {
        let output = Command::new("git").args(args).output().ok()?;
        let text = String::from_utf8(output.stdout).ok()?;
        (output.status.success() && !text.trim().is_empty()).then(|| text.trim().to_owned())
    };
    // HEAD names the branch, the log grows with every commit.
    for file in ["HEAD", "logs/HEAD"] {
        if let Some(path) = git(&["rev-parse", "--git-path", file])
            && Path::new(&path).exists()
        {
            println!("cargo::rerun-if-changed={path}");
        }
    }
    let revision = env::var("HELLO_GIT_REVISION")
        .ok()
        .or_else(|| git(&["rev-parse", "--short=12", "HEAD"]));
    if let Some(revision) = revision {
        println!("cargo::rustc-env=HELLO_GIT_REVISION={revision}");
    }
}
