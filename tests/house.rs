// SPDX-License-Identifier: BSD-2-Clause
//! The rules of the house (CONTRIBUTING.md) that a machine can check.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;
use std::path::PathBuf;

use hello::modes::MODES;

fn files(folder: &str, ending: &str) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).expect("the folder is there").flatten() {
        let path = entry.path();
        if path.is_dir() {
            found.extend(files(&path.display().to_string(), ending));
        } else if path.display().to_string().ends_with(ending) {
            found.push(path);
        }
    }
    found.sort();
    found
}

fn read(path: &Path) -> String {
    fs::read_to_string(path).expect("the file can be read")
}

/// Modules of this crate that the code of a file (not its tests) mentions.
fn knows(path: &Path) -> BTreeSet<String> {
    let source = read(path);
    let code = source
        .split("#[cfg(test)]")
        .next()
        .unwrap_or_default()
        .to_owned();
    code.lines()
        .filter(|line| !line.trim_start().starts_with("//"))
        .flat_map(|line| line.split("crate::").skip(1))
        .map(|rest| {
            rest.chars()
                .take_while(|char| char.is_alphanumeric() || *char == '_')
                .collect()
        })
        .collect()
}

/// Who may know whom: a mode everything below it, nobody a mode but the run and the
/// list; the command line and the output nothing of BPF.
#[test]
fn layers_know_only_whom_they_may() {
    let rules: &[(&str, &[&str])] = &[
        ("src/cli.rs", &["output"]),
        ("src/cli", &["output"]),
        ("src/enrich", &["cli", "output", "wire", "enrich"]),
        ("src/output", &["output"]),
        ("src/wire.rs", &["wire"]),
        ("src/preflight.rs", &["cli"]),
        ("src/tracepipe.rs", &["preflight"]),
        ("src/ledger.rs", &["output", "wire"]),
        ("src/mapped.rs", &[]),
        ("src/transport", &["cli", "enrich", "mapped"]),
        ("src/select.rs", &["cli", "enrich", "session", "wire"]),
        ("src/command.rs", &["enrich", "session"]),
        (
            "src/session",
            &[
                "cli",
                "command",
                "enrich",
                "ledger",
                "mapped",
                "output",
                "preflight",
                "select",
                "session",
                "transport",
                "wire",
            ],
        ),
        (
            "src/modes",
            &[
                "cli",
                "enrich",
                "modes",
                "output",
                "preflight",
                "session",
                "tracepipe",
                "wire",
            ],
        ),
    ];
    for (place, allowed) in rules {
        let files = if place.ends_with(".rs") {
            vec![PathBuf::from(place)]
        } else {
            files(place, ".rs")
        };
        for file in files {
            for known in knows(&file).into_iter().filter(|known| known != "say") {
                assert!(
                    allowed.contains(&known.as_str()),
                    "{} knows {known}",
                    file.display()
                );
            }
        }
    }
}

#[test]
fn neither_output_nor_cli_sees_bpf_and_enrich_prints_nothing() {
    for file in files("src/output", ".rs")
        .into_iter()
        .chain([PathBuf::from("src/cli.rs")])
    {
        assert!(!read(&file).contains("libbpf_"), "{}", file.display());
    }
    for file in files("src/enrich", ".rs") {
        assert!(!read(&file).contains("say!"), "{}", file.display());
    }
    // They panic where the other end is closed or full.
    for file in files("src", ".rs")
        .iter()
        .filter(|file| !file.ends_with("say.rs"))
    {
        for macro_name in ["println!", "print!", "eprintln!", "eprint!"] {
            assert!(!read(file).contains(macro_name), "{}", file.display());
        }
    }
}

#[test]
fn only_wire_declares_plain_and_only_rooms_include_skeletons() {
    for file in files("src", ".rs") {
        let source = read(&file);
        let name = file.display().to_string();
        assert!(
            !source.contains("unsafe impl plain::Plain") || name == "src/wire.rs",
            "{name}"
        );
        assert!(
            !source.contains(".skel.rs")
                || ["src/wire.rs", "src/modes/mod.rs"].contains(&name.as_str()),
            "{name}"
        );
    }
}

/// A mode is a room: a kernel file and a user file of its name, and a place in the list.
#[test]
fn modes_and_files_agree() {
    let stems = |folder, ending: &str, but: &[&str]| -> BTreeSet<String> {
        files(folder, ending)
            .iter()
            .filter_map(|path| Some(path.file_name()?.to_str()?.strip_suffix(ending)?.to_owned()))
            .filter(|stem| !but.contains(&stem.as_str()))
            .collect()
    };
    let listed: BTreeSet<String> = MODES.iter().map(|mode| mode.info.name.to_owned()).collect();
    assert_eq!(stems("src/bpf", ".bpf.c", &["hello"]), listed);
    // A folder holds what several rooms share.
    let rooms: BTreeSet<String> = files("src/modes", ".rs")
        .iter()
        .filter(|path| path.parent() == Some(Path::new("src/modes")))
        .filter_map(|path| Some(path.file_stem()?.to_str()?.to_owned()))
        .filter(|stem| !["mod", "events"].contains(&stem.as_str()))
        .collect();
    assert_eq!(rooms, listed);
}

#[test]
fn each_file_names_its_licence() {
    let mut all = files("src", ".rs");
    all.extend(files("src/bpf", ".c"));
    all.extend(files("src/bpf", ".h"));
    all.extend(files("tests", ".rs"));
    all.extend(files("tests", ".sh"));
    for ending in [".rs", ".c", ".h"] {
        all.extend(files("benches", ending));
    }
    all.extend(
        [
            "build.rs",
            "Makefile",
            "tests/vm/init",
            "tests/vm/table.awk",
            "tests/vm/verifier.awk",
            "vmlinux/vmlinux.h",
            "scripts/deps.sh",
            ".ci/run",
        ]
        .map(PathBuf::from),
    );
    for file in all {
        let source = read(&file);
        let head: String = source.lines().take(3).collect();
        assert!(
            head.contains("SPDX-License-Identifier:"),
            "{}",
            file.display()
        );
        let kernel = file.starts_with("src/bpf")
            || file.starts_with("vmlinux")
            || file.to_string_lossy().ends_with(".bpf.c");
        assert_eq!(
            head.contains("GPL-2.0-only OR BSD-2-Clause"),
            kernel,
            "{}",
            file.display()
        );
    }
}

#[test]
fn rooms_stay_small() {
    for file in files("src", ".rs").into_iter().chain(files("src/bpf", "")) {
        let lines = read(&file).lines().count();
        assert!(
            lines <= 450,
            "{} has {lines} lines: something shared is missing",
            file.display()
        );
    }
}

/// CONTRIBUTING.md says of each part that several modes share what it is.
#[test]
fn the_list_of_shared_parts_is_whole() {
    let list = read(Path::new("CONTRIBUTING.md"));
    for header in files("src/bpf", ".h") {
        let name = header.file_name().unwrap_or_default().to_string_lossy();
        assert!(list.contains(&format!("`{name}`")), "{name}");
    }
}

/// Options that the help knows are explained in the README or are self-evident
/// there; fields that JSON has are documented.
#[test]
fn every_json_field_is_documented() {
    let docs = read(Path::new("docs/json.md"));
    let methods = [
        "str",
        "opt_str",
        "num",
        "opt_num",
        "plain",
        "null",
        "bytes",
        "opt_bytes",
        "bool",
        "object",
        "objects",
        "strs",
        "list",
    ];
    let mut fields = 0;
    for file in files("src", ".rs") {
        let source = read(&file);
        let code = source.split("#[cfg(test)]").next().unwrap_or_default();
        for method in methods {
            for rest in code.split(&format!(".{method}(\"")).skip(1) {
                let name = rest.split('"').next().unwrap_or_default();
                fields += 1;
                assert!(
                    docs.contains(&format!("`{name}`")),
                    "{name} ({}) is not in docs/json.md",
                    file.display()
                );
            }
        }
    }
    assert!(
        fields > 30,
        "found only {fields} fields: does this test still see them?"
    );
}

/// The README's index: each row links a line and says what stands there.
/// `HELLO_BLESS=1` moves the numbers to where it stands now.
#[test]
fn the_index_is_right() {
    let readme = read(Path::new("README.md"));
    let mut renewed = String::new();
    let mut rows = 0;
    for line in readme.lines() {
        let Some((path, number, needle)) = index_row(line) else {
            renewed += &format!("{line}\n");
            continue;
        };
        rows += 1;
        let source = read(Path::new(path));
        let at = source
            .lines()
            .position(|line| line.contains(needle))
            .map(|at| (at + 1).to_string());
        let at = at.unwrap_or_else(|| panic!("{needle:?} is not in {path}"));
        let moved = line
            .replace(&format!("{path}:{number}]"), &format!("{path}:{at}]"))
            .replace(&format!("#L{number})"), &format!("#L{at})"));
        renewed += &format!("{moved}\n");
    }
    assert!(
        rows > 20,
        "found only {rows} rows: does this test still see them?"
    );
    if std::env::var_os("HELLO_BLESS").is_some() {
        fs::write("README.md", &renewed).expect("the README can be written");
    } else {
        assert_eq!(readme, renewed);
    }
}

/// `| concept | [path:12](path#L12) | `needle` |`
fn index_row(line: &str) -> Option<(&str, &str, &str)> {
    let (_, rest) = line.split_once("](")?;
    let (path, rest) = rest.split_once("#L")?;
    let (number, rest) = rest.split_once(") | `")?;
    Some((path, number, rest.strip_suffix("` |")?))
}
