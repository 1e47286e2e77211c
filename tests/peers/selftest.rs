// SPDX-License-Identifier: BSD-2-Clause
//! The comparison itself, on lines as the peers print them: it must see a difference.

use libtest_mimic::Failed;
use libtest_mimic::Trial;

use crate::compare;
use crate::compare::Losses;
use crate::holes::Hole;
use crate::model::Evidence;
use crate::model::Exec;
use crate::model::Multiset;
use crate::parse;
use crate::parse::Ear;
use crate::parse::Form;
use crate::process::Listener as _;
use crate::views;
use crate::views::Eye;

type Check = Result<(), String>;
type Test = (&'static str, fn() -> Check);

macro_rules! same {
    ($left:expr, $right:expr) => {
        let (left, right) = (&$left, &$right);
        if left != right {
            return Err(format!("{left:?} is not {right:?}"));
        }
    };
}

pub(crate) fn trials() -> Vec<Trial> {
    let tests: &[Test] = &[
        ("selftest::execsnoop", execsnoop),
        ("selftest::opensnoop", opensnoop),
        ("selftest::syscount", syscount),
        ("selftest::bpftrace", bpftrace),
        ("selftest::strace", strace),
        ("selftest::differences", differences),
    ];
    tests
        .iter()
        .map(|&(name, test)| Trial::test(name, move || test().map_err(Failed::from)))
        .collect()
}

fn ear(form: Form, lines: &[&str]) -> Ear {
    let mut ear = Ear {
        form,
        ..Ear::default()
    };
    for line in lines {
        ear.line(line.as_bytes());
    }
    ear
}

fn items(ear: &Ear) -> Vec<(u32, i64, &str)> {
    let items = ear.heard.items.keys();
    let mut items: Vec<_> = items
        .map(|item| (item.pid, item.ret, item.text.as_str()))
        .collect();
    items.sort_unstable();
    items
}

fn ran(pid: u32, argv: &[&str]) -> Exec {
    Exec {
        pid,
        tid: pid,
        ret: 0,
        argv: argv.iter().map(|word| word.as_bytes().to_vec()).collect(),
        truncated: false,
        unreadable: false,
        script: None,
        abi: "x86_64".into(),
        via: String::new(),
    }
}

fn execsnoop() -> Check {
    let ear = ear(
        Form::Execsnoop,
        &[
            "PCOMM            PID    PPID   RET ARGS",
            r#"a name of 2      12     1        0 "/bin/echo" "a b" "say \"x\"" "#,
            r#"sh               1234567 1       -2 "/no/such" "#,
        ],
    );
    same!(ear.heard.odd_lines, 0);
    same!(
        items(&ear),
        [(12, 0, r#""a b" "say \"x\"" "#), (1_234_567, -2, "")]
    );
    let ours = Multiset::from([(ran(12, &["echo", "a b", "say \"x\""]), 1)]);
    let ours = views::execs(Eye::Execsnoop, &ours, &Evidence::default());
    same!(ours[0].views[0].1.text, r#""a b" "say \"x\"" "#);
    Ok(())
}

fn opensnoop() -> Check {
    let ear = ear(
        Form::Opensnoop,
        &[
            "PID    COMM              FD ERR PATH",
            "77     two words          3   0 /etc/a file",
            "1234567 cat               -1   2 missing",
        ],
    );
    same!(ear.heard.odd_lines, 0);
    same!(
        items(&ear),
        [(77, 3, "/etc/a file"), (1_234_567, -2, "missing")]
    );
    Ok(())
}

fn syscount() -> Check {
    let ear = ear(
        Form::Syscount,
        &[
            "Tracing syscalls, printing top 10... Ctrl+C to quit.",
            "[10:04:38]",
            "SYSCALL                   COUNT",
            "openat                      145",
            "[unknown: 462]                7",
        ],
    );
    same!(ear.heard.odd_lines, 0);
    same!(ear.heard.counts["openat"], 145);
    same!(ear.heard.counts["#462"], 7);
    Ok(())
}

fn bpftrace() -> Check {
    let ear = ear(
        Form::Bpftrace,
        &[
            r#"{"type": "attached_probes", "data": {"probes": 4}}"#,
            r#"{"type": "printf", "data": "O 5 -2 /a b"}"#,
            r#"{"type": "printf", "data": "R 5 0 "}"#,
            r#"{"type": "join", "data": "echo|\uffffffc3\uffffffb6"}"#,
            r#"{"type": "lost_events", "data": {"events": 9}}"#,
            r#"{"type": "map", "data": {"@calls": {"0": 3, "59": 1}}}"#,
        ],
    );
    same!(ear.heard.odd_lines, 0);
    same!(items(&ear), [(0, 0, "echo|ö"), (5, -2, "/a b")]);
    same!(ear.heard.results.len(), 1);
    same!(ear.heard.lost, 9);
    same!(ear.heard.counts["#59"], 1);
    Ok(())
}

fn strace() -> Check {
    let text = r#"7 execve("\x2f\x61", ["\x61", "\x62\x20"], 0x7ffd /* 3 vars */) = 0
8 openat(AT_FDCWD, "\x78", O_RDONLY <unfinished ...>
7 openat(AT_FDCWD, NULL, O_RDONLY) = -1 EFAULT (Bad address)
8 <... openat resumed>) = 3
9 execve("\x2f\x61", ["\x61"], 0x7ffd /* 3 vars */ <unfinished ...>
7 +++ superseded by execve in pid 9 +++
7 <... execve resumed>) = 0
7 openat(AT_FDCWD<\x2f\x77>, "\x78", O_RDONLY) = 3<\x2f\x77\x2f\x78>
"#;
    let strace = parse::strace(text.as_bytes());
    let calls: Vec<_> = strace
        .calls
        .iter()
        .map(|call| (call.tid, call.ret, call.texts.len()))
        .collect();
    same!(
        calls,
        [(7, 0, 3), (7, -14, 0), (8, 3, 1), (7, 0, 2), (7, 3, 1)]
    );
    same!(strace.calls[4].file.as_deref(), Some(&b"/w/x"[..]));
    same!(strace.calls[0].texts[2], b"b ");
    let rows = parse::strace_summary(
        "% time     seconds  usecs/call     calls    errors syscall\n\
         ------ ----------- ----------- --------- --------- ----------------\n \
         35.72    0.001025          68        15         1 openat\n \
         4.18    0.000120          13         9           read\n\
         ------ ----------- ----------- --------- --------- ----------------\n\
         100.00    0.002870          37        77         2 total\n",
    );
    same!(rows.len(), 2);
    same!(rows["openat"], (15, 1));
    same!(rows["read"], (9, 0));
    Ok(())
}

/// What has an explanation passes, what has none does not.
fn differences() -> Check {
    let ours = Multiset::from([
        (ran(1, &["true", "1"]), 2),
        (ran(2, &["/bin/sh", "./run.sh", "x"]), 1),
        (ran(3, &["only", "ours"]), 1),
    ]);
    let ear = ear(
        Form::Execsnoop,
        &[
            r#"true             1      1        0 "/bin/true" "1" "#,
            r#"true             1      1        0 "/bin/true" "1" "#,
            r#"sh               2      1        0 "./run.sh" "x" "#,
            r#"sh               4      1        0 "/bin/theirs" "y" "#,
        ],
    );
    let judge = |ours_lost, theirs_lost| {
        let losses = Losses {
            ours: ours_lost,
            theirs: theirs_lost,
            silent: false,
        };
        let ours = views::execs(Eye::Execsnoop, &ours, &Evidence::default());
        compare::events(ours, ear.heard.items.clone(), losses, |_| None)
    };
    let strict = judge(0, 0);
    same!(
        (strict.common, strict.only_ours, strict.only_theirs),
        (3, 1, 1)
    );
    same!(strict.unexplained.len(), 2);
    same!(strict.explained.get(&Hole::Script), Some(&1));
    same!(judge(1, 0).unexplained.len(), 1);
    same!(judge(1, 1).unexplained.len(), 0);
    Ok(())
}
