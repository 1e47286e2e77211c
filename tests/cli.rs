// SPDX-License-Identifier: BSD-2-Clause
//! The command line as users meet it. Needs no privilege.

use std::fs;
use std::process::Command;
use std::process::Output;

fn hello(words: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_hello"));
    command
        .args(words)
        .env_remove("COLUMNS")
        .output()
        .expect("the binary runs")
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// `tests/help/help.txt` is what `hello --help` prints. After a change on purpose:
/// `HELLO_BLESS=1 cargo test --test cli`.
#[test]
fn help_is_as_agreed() {
    for (option, golden) in [
        ("--help", "tests/help/help.txt"),
        ("-h", "tests/help/short.txt"),
    ] {
        let output = hello(&[option]);
        assert!(output.status.success());
        assert!(output.stderr.is_empty());
        let help = text(&output.stdout);
        if std::env::var_os("HELLO_BLESS").is_some() {
            fs::write(golden, &help).expect("the golden file can be written");
        }
        let agreed = fs::read_to_string(golden).expect("the golden file is there");
        assert_eq!(help, agreed, "{golden}");
    }
}

#[test]
fn version_names_libbpf_and_revision() {
    let output = hello(&["--version"]);
    let version = text(&output.stdout);
    assert!(output.status.success());
    assert!(
        version.starts_with(&format!("hello {} (libbpf 1.", env!("CARGO_PKG_VERSION"))),
        "{version}"
    );
    // Absent only where the sources are no git checkout.
    if let Some(git) = option_env!("HELLO_GIT_REVISION") {
        assert!(version.contains(&format!("git {git}")), "{version}");
    }
}

/// Wrong usage: exit status 2, nothing on standard output, at most two lines that
/// name the mistake and the way out.
#[test]
fn usage_errors() {
    let table: &[(&[&str], &[&str])] = &[
        (
            &[],
            &[
                "--mode <MODE>",
                "trace, map, buffer, file, tail, syscount, exec",
            ],
        ),
        (
            &["--mode"],
            &[
                "--mode <MODE>",
                "trace, map, buffer, file, tail, syscount, exec",
            ],
        ),
        (&["-V", "-f"], &["--pid <PID,…>\n"]),
        (&["--mode", "bufer"], &["'bufer'", "buffer"]),
        (&["--mode", "buffer", "--nonsense"], &["--nonsense"]),
        (&["--mode", "buffer", "ls"], &["'ls'"]),
        (
            &["--mode", "buffer", "-d", "soon"],
            &["'soon'", "500ms, 2m"],
        ),
        (&["--mode", "buffer", "-d", "0"], &["more than zero"]),
        (&["--mode", "buffer", "-n", "0"], &["'0'"]),
        (
            &["--mode", "buffer", "--buffer-size", "big"],
            &["'big'", "64K, 4M"],
        ),
        (
            &["--mode", "buffer", "--buffer-size", "0"],
            &["between 1 byte and 1G"],
        ),
        (
            &["--mode", "buffer", "--buffer-size", "8G"],
            &["between 1 byte and 1G"],
        ),
        (
            &["--mode", "map", "--rings", "2"],
            &[
                "--rings has no use in --mode map",
                "buffer, file, tail, exec",
            ],
        ),
        (&["--mode", "file", "--rings", "0"], &["0 is not in 1..=64"]),
        (
            &["--mode", "file", "--rings", "65"],
            &["65 is not in 1..=64"],
        ),
        (
            &["--mode", "file", "--rings", "2", "--transport", "perf"],
            &["--rings is of ring buffers", "a perf buffer of its own"],
        ),
        (&["--mode", "buffer", "-p", "zero"], &["'zero'"]),
        (&["--mode", "buffer", "-p", "0"], &["a number from 1 on"]),
        (
            &["--mode", "buffer", "-p", "1", "--", "ls"],
            &["--pid", "COMMAND"],
        ),
        (&["--mode", "buffer", "--follow"], &["--pid"]),
        (
            &["--mode", "buffer", "-c", "sixteen-letters-"],
            &["15 bytes", "\"sixteen-letters\""],
        ),
        (
            &["--mode", "buffer", "--attach", "uprobe"],
            &["'uprobe'", "kprobe"],
        ),
        (
            &["--mode", "syscount", "--attach", "kprobe"],
            &["--attach kprobe", "syscount", "it has: raw_tp"],
        ),
        (
            &["--mode", "tail", "--attach", "fentry"],
            &["it has: raw_tp"],
        ),
        (
            &["--mode", "map", "--transport", "ring"],
            &[
                "--transport has no use in --mode map",
                "buffer, file, tail, exec",
            ],
        ),
        (
            &["--mode", "trace", "--buffer-size", "4M"],
            &["--buffer-size has no use", "buffer, file, tail, exec"],
        ),
        (
            &["--mode", "buffer", "--by", "uid"],
            &["--by has no use in --mode buffer", "map, syscount"],
        ),
        (
            &["--mode", "file", "--interval", "1"],
            &["--interval has no use", "map, syscount"],
        ),
        (
            &["--mode", "tail", "--top", "3"],
            &["--top has no use", "map, syscount"],
        ),
        (
            &["--mode", "file", "--pin", "/sys/fs/bpf"],
            &["--pin has no use", "map, syscount"],
        ),
        (
            &["--mode", "tail", "--syscalls", "read"],
            &["--syscalls has no use", "map, syscount"],
        ),
        (
            &["--mode", "file", "--message", "hi"],
            &["--message has no use", "it is for: buffer"],
        ),
        (
            &["--mode", "syscount", "--by", "colour"],
            &[
                "'colour'",
                "syscall, uid, pid, comm, container, cgroup, errno",
            ],
        ),
        (
            &["--mode", "buffer", "-x"],
            &["--failed has no use in --mode buffer", "syscount"],
        ),
        (
            &["--mode", "map", "--latency"],
            &[
                "--latency has no use in --mode map",
                "it is for: file, syscount",
            ],
        ),
        (
            &["--mode", "file", "--histogram", "read"],
            &["--histogram has no use", "it is for: syscount"],
        ),
        (
            &["--mode", "map", "--cumulative"],
            &[
                "--cumulative has no use in --mode map",
                "it is for: syscount",
            ],
        ),
        (
            &["--mode", "buffer", "--max-cpu", "5"],
            &["--max-cpu has no use", "syscount"],
        ),
        (
            &["--mode", "syscount", "--max-cpu", "none"],
            &["a share of one CPU"],
        ),
        (
            &["--mode", "tail", "--max-entries", "5"],
            &["--max-entries has no use", "map, syscount"],
        ),
        (
            &["--mode", "syscount", "--max-entries", "0"],
            &["0 is not in 1.."],
        ),
        (
            &["--mode", "map", "--by", "errno"],
            &["--by errno has no use in --mode map", "it is for: syscount"],
        ),
        (&["--mode", "buffer", "-o", "xml"], &["'xml'", "text, json"]),
        (&["--list", "--mode", "buffer"], &["--list", "--mode"]),
        (&["--list", "-o", "json"], &["--list prints text only"]),
        (
            &["--list", "--columns", "pid"],
            &["--list", "--columns <NAME,…>"],
        ),
        (&["--list", "--explain"], &["--list", "--explain"]),
        (
            &["--mode", "file", "ls"],
            &["unexpected argument 'ls'", "after --"],
        ),
        (
            &["--mod", "file"],
            &["no option '--mod'; did you mean --mode?"],
        ),
        (&["exec", "-p", "1"], &["did you mean --mode exec?"]),
        (
            &["exec", "--", "x", "--mode", "y"],
            &["did you mean --mode exec?"],
        ),
        (&["--mode", "file", "tail", "x"], &["comes last, after --"]),
        (
            &["--mode", "syscount", "--top", "-1"],
            &["'-1' for '--top <N>'", "a number from 1 on"],
        ),
        (
            &["--mode", "syscount", "-d", "-1"],
            &["'-1' for '--duration", "more than zero"],
        ),
        (
            &["--mode", "file", "-d", "9e99"],
            &["at most a hundred years"],
        ),
        (
            &["--mode", "file", "-n", "18446744073709551616"],
            &["the number is too large"],
        ),
        (&["--mode", "file", "-1"], &["no option '-1'"]),
        (
            &["--mode", "file", "-p", "self"],
            &["'self'", "a number from 1 on"],
        ),
        (
            &["--mode", "file", "-n", "0"],
            &["'0'", "a number from 1 on"],
        ),
        (&["--mode", "file", "-p", "4294967296"], &["too large"]),
        (
            &["--mode", "exec", "--env", "LC_*"],
            &["'LC_*'", "no patterns"],
        ),
        (&["--list", "--time", "wall"], &["--list", "--time <CLOCK>"]),
        (&["--list", "--container", "ab"], &["--list", "--container"]),
        (&["--list", "--path", "/etc"], &["--list", "--path"]),
        (&["--list", "--strict"], &["--list", "--strict"]),
        (&["--list", "--attach", "kprobe"], &["--list", "--attach"]),
        (&["--list", "--", "ls"], &["--list", "COMMAND"]),
        (&["--mode", "file", "--"], &["no COMMAND after --"]),
        (
            &["--mode", "file", "--columns", "pid,latency"],
            &["--columns LATENCY is empty without --latency; add it"],
        ),
        (
            &["--mode", "exec", "--columns", "ENV,ARGS"],
            &["--columns ENV is empty without --env; add it"],
        ),
        (
            &[
                "--mode",
                "buffer",
                "--time",
                "none",
                "--columns",
                "TIME,PID",
            ],
            &["--columns TIME is empty with --time none"],
        ),
    ];
    for (words, parts) in table {
        let output = hello(words);
        let said = text(&output.stderr);
        assert_eq!(output.status.code(), Some(2), "{words:?}: {said}");
        assert!(output.stdout.is_empty(), "{words:?}");
        assert!(said.starts_with("hello: "), "{words:?}: {said}");
        assert!(said.lines().count() <= 2, "{words:?}: {said}");
        for part in *parts {
            assert!(
                said.contains(part),
                "{words:?}: {part:?} is not in {said:?}"
            );
        }
    }
}

/// Mistakes that only show once names are looked up; as root they would go on to
/// the kernel, so they are made by names that exist nowhere.
#[test]
fn unknown_names_are_usage_errors() {
    let long = "x".repeat(64);
    let table: &[(&[&str], &[&str])] = &[
        (
            &["--mode", "syscount", "--syscalls", "opneat"],
            &["\"opneat\"", "did you mean openat"],
        ),
        (
            &["--mode", "syscount", "--histogram", "raed"],
            &["no system call \"raed\"", "did you mean read"],
        ),
        (
            &["--mode", "map", "--syscalls", "execve,quux_zyx"],
            &["\"quux_zyx\"", "syscalls(2)"],
        ),
        (
            &["--mode", "buffer", "--message", "no-such-user=x"],
            &["no-such-user", "odd or even"],
        ),
        (
            &["--mode", "buffer", "--message", &long],
            &["has 64 bytes, there is room for 63"],
        ),
    ];
    for (words, parts) in table {
        let output = hello(words);
        let said = text(&output.stderr);
        assert_eq!(output.status.code(), Some(2), "{words:?}: {said}");
        for part in *parts {
            assert!(
                said.contains(part),
                "{words:?}: {part:?} is not in {said:?}"
            );
        }
    }
}

#[test]
fn list_needs_no_privilege() {
    let output = hello(&["--list"]);
    let list = text(&output.stdout);
    assert!(output.status.success(), "{}", text(&output.stderr));
    for mode in ["trace", "map", "buffer", "file", "tail", "syscount", "exec"] {
        assert!(
            list.contains(&format!("src/bpf/{mode}.bpf.c, src/modes/{mode}.rs")),
            "{list}"
        );
    }
    assert!(list.contains("rawtracepoint:sys_enter"), "{list}");
    assert!(list.contains("tracepoint:raw_syscalls:sys_enter"), "{list}");
    assert!(!list.contains("tracepoint:do_sys_openat2"), "{list}");
}

#[test]
fn a_closed_pipe_is_no_failure() {
    let script = format!(
        "{} --list | true; exit ${{PIPESTATUS[0]}}",
        env!("CARGO_BIN_EXE_hello")
    );
    let output = Command::new("bash")
        .args(["-c", &script])
        .output()
        .expect("bash runs");
    assert_eq!(output.status.code(), Some(0), "{}", text(&output.stderr));
}
