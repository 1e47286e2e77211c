// SPDX-License-Identifier: BSD-2-Clause
//! hello's events as each peer would show them: the peers cannot be read back without
//! doubt (execsnoop escapes the quotation mark but not the backslash), but what hello
//! tells is enough to write what they should have written.

use crate::compare::Ours;
use crate::compare::Partly;
use crate::holes::Hole;
use crate::model::Evidence;
use crate::model::Exec;
use crate::model::Item;
use crate::model::Multiset;
use crate::model::Open;

/// Between arguments, where a peer has no separator of its own.
pub(crate) const BETWEEN: &str = "\u{1f}";

/// execsnoop.h: ARGSIZE, with its NUL; TOTAL_MAX_ARGS, with the file's name.
const EXECSNOOP_SIZE: usize = 128;
const EXECSNOOP_ARGS: usize = 60;
/// bpftrace: join_argnum, join_argsize.
const JOIN_ARGS: usize = 16;
const JOIN_SIZE: usize = 1024;
/// opensnoop.h of 0.26: NAME_MAX.
const OPENSNOOP_SIZE: usize = 255;
/// Set for bpftrace's str().
pub(crate) const BPFTRACE_STRLEN: usize = 200;

/// The calls that the peers are asked for.
pub(crate) const OPENS: [&str; 4] = ["open", "openat", "openat2", "creat"];

/// The peers whose events are compared.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Eye {
    Execsnoop,
    Opensnoop,
    Bpftrace,
    Strace,
}

fn native(abi: &str) -> bool {
    // Until hello says, it is.
    let ours = match std::env::consts::ARCH {
        "aarch64" => "arm64",
        other => other,
    };
    abi.is_empty() || abi == ours
}

fn lossy(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

fn cut(bytes: &[u8], size_with_nul: usize) -> &[u8] {
    &bytes[..bytes.len().min(size_with_nul - 1)]
}

/// execsnoop -q, without the file's name in front.
fn execsnoop(rest: &[Vec<u8>]) -> String {
    let mut text = Vec::new();
    for argument in rest.iter().take(EXECSNOOP_ARGS - 1) {
        text.push(b'"');
        for byte in cut(argument, EXECSNOOP_SIZE) {
            match byte {
                b'"' => text.extend(b"\\\""),
                b'\t' => text.extend(b"\\t"),
                b'\n' => text.extend(b"\\n"),
                other => text.push(*other),
            }
        }
        text.extend(b"\" ");
    }
    if rest.len() >= EXECSNOOP_ARGS {
        text.extend(b"\" ...");
    }
    lossy(&text)
}

/// Where the kernel says 0 of an empty argument: it is gone, and its quotation mark is left.
fn without_empty(argv: &[Vec<u8>]) -> Option<String> {
    let rest = argv.get(1..)?;
    let full: Vec<_> = rest.iter().filter(|word| !word.is_empty()).collect();
    (full.len() < rest.len()).then(|| {
        let full: Vec<_> = full.into_iter().cloned().collect();
        execsnoop(&full) + "\""
    })
}

fn join(argv: &[Vec<u8>]) -> String {
    let cut: Vec<&[u8]> = argv
        .iter()
        .take(JOIN_ARGS)
        .map(|argument| cut(argument, JOIN_SIZE))
        .collect();
    lossy(&cut.join(&b'|'))
}

/// A command line as a peer writes it.
fn line(eye: Eye, argv: &[Vec<u8>]) -> String {
    match eye {
        Eye::Execsnoop => execsnoop(argv.get(1..).unwrap_or_default()),
        Eye::Bpftrace => join(argv),
        Eye::Strace | Eye::Opensnoop => lossy(&argv.join(BETWEEN.as_bytes())),
    }
}

/// Has the peer no room for all of it?
fn is_cut(eye: Eye, argv: &[Vec<u8>]) -> bool {
    let (args, size) = match eye {
        Eye::Execsnoop => (EXECSNOOP_ARGS, EXECSNOOP_SIZE),
        Eye::Bpftrace => (JOIN_ARGS, JOIN_SIZE),
        Eye::Strace | Eye::Opensnoop => return false,
    };
    argv.len() > args || argv.iter().any(|argument| argument.len() >= size)
}

/// What may have been asked for where a script runs: the kernel puts the interpreter, its
/// argument if it has one, and the file's name in the place of the first argument.
fn asked_for(argv: &[Vec<u8>]) -> Vec<Vec<Vec<u8>>> {
    let mut found = Vec::new();
    for at in 1..argv.len().min(5) {
        let plain = argv[at..].to_vec();
        let name = argv[at].rsplit(|byte| *byte == b'/').next();
        // execvp() finds a file by its name, and hands on the name.
        let mut by_name = plain.clone();
        by_name[0] = name.unwrap_or_default().to_vec();
        found.push(plain);
        found.push(by_name);
    }
    found
}

fn exec(eye: Eye, event: &Exec, times: u64, evidence: &Evidence) -> Ours {
    let pid = match eye {
        Eye::Bpftrace => 0, // join() is an event of its own, without an id
        Eye::Strace => event.tid,
        Eye::Execsnoop | Eye::Opensnoop => event.pid,
    };
    let ret = if eye == Eye::Bpftrace { 0 } else { event.ret };
    let item = |argv: &[Vec<u8>]| Item {
        pid,
        ret,
        text: line(eye, argv),
    };
    let first = is_cut(eye, &event.argv).then_some(Hole::Cut);
    let mut views = vec![(first, item(&event.argv))];
    if event.ret == 0 && event.script != Some(false) {
        let asked = asked_for(&event.argv);
        views.extend(asked.iter().map(|argv| (Some(Hole::Script), item(argv))));
    }
    if let (Eye::Execsnoop, Some(text)) = (eye, without_empty(&event.argv)) {
        views.push((Some(Hole::Empty), Item { pid, ret, text }));
    }
    let empty = event.argv.iter().position(Vec::is_empty);
    if let (Eye::Bpftrace, Some(end)) = (eye, empty) {
        views.push((Some(Hole::Cut), item(&event.argv[..end])));
    }
    let whole = views[0].1.text.clone();
    let partly = if event.truncated || event.unreadable {
        Some((Hole::Cut, Partly::Longer(whole)))
    } else {
        let begins = Some((Hole::Page, Partly::Begins(whole)));
        begins.filter(|_| eye != Eye::Strace)
    };
    let may_miss = match eye {
        Eye::Execsnoop if evidence.execveat.contains(&event.pid) => Some(Hole::Execveat),
        Eye::Execsnoop if evidence.threads.contains(&event.pid) => Some(Hole::Thread),
        Eye::Execsnoop | Eye::Bpftrace if !native(&event.abi) => Some(Hole::Abi),
        _ => None,
    };
    Ours {
        views,
        partly,
        may_miss,
        times,
    }
}

/// hello's execs for a peer.
pub(crate) fn execs(eye: Eye, events: &Multiset<Exec>, evidence: &Evidence) -> Vec<Ours> {
    let events = events.iter();
    events
        .map(|(event, times)| exec(eye, event, *times, evidence))
        .collect()
}

/// Processes and results only, as bpftrace's second probe tells them.
pub(crate) fn exec_results(events: &Multiset<Exec>) -> Vec<Ours> {
    let events = events.iter();
    events
        .map(|(event, times)| Ours {
            views: vec![(
                None,
                Item {
                    pid: event.pid,
                    ret: event.ret,
                    text: String::new(),
                },
            )],
            partly: None,
            may_miss: (!native(&event.abi)).then_some(Hole::Abi),
            times: *times,
        })
        .collect()
}

fn open(eye: Eye, event: &Open, times: u64) -> Ours {
    let path = event.path.clone().unwrap_or_default();
    let pid = match eye {
        Eye::Strace => event.tid,
        _ => event.pid,
    };
    let item = |text: &[u8]| Item {
        pid,
        ret: event.ret,
        text: lossy(text),
    };
    let size = match eye {
        Eye::Opensnoop => OPENSNOOP_SIZE,
        Eye::Bpftrace => BPFTRACE_STRLEN,
        _ => usize::MAX,
    };
    let mut views = Vec::new();
    if path.len() >= size {
        views.push((Some(Hole::Cut), item(cut(&path, size))));
    }
    views.push((None, item(&path)));
    if eye != Eye::Strace {
        views.push((Some(Hole::Page), item(b"")));
    }
    let may_miss = match eye {
        Eye::Opensnoop | Eye::Bpftrace if !native(&event.abi) => Some(Hole::Abi),
        // By handle, by io_uring: none of the peers is asked for those.
        _ if !OPENS.contains(&event.via.as_str()) => Some(Hole::Calls),
        Eye::Opensnoop if ["openat2", "creat"].contains(&event.via.as_str()) => Some(Hole::Calls),
        Eye::Opensnoop if path.contains(&b'\n') => Some(Hole::NewLine),
        _ => None,
    };
    Ours {
        views,
        partly: None,
        may_miss,
        times,
    }
}

/// What hello says was opened, by its absolute path, for strace -y; none if this hello
/// does not tell.
pub(crate) fn opened(events: &Multiset<Open>) -> Option<Vec<Ours>> {
    let opened = events.iter().filter(|(event, _)| event.ret >= 0);
    let opened = opened.filter(|(event, _)| OPENS.contains(&event.via.as_str()));
    opened
        .map(|(event, times)| {
            let item = Item {
                pid: event.tid,
                ret: event.ret,
                text: lossy(event.absolute.as_ref()?),
            };
            Some(Ours {
                views: vec![(None, item)],
                partly: None,
                may_miss: None,
                times: *times,
            })
        })
        .collect()
}

/// hello's opens for a peer.
pub(crate) fn opens(eye: Eye, events: &Multiset<Open>) -> Vec<Ours> {
    let events = events.iter();
    events
        .map(|(event, times)| open(eye, event, *times))
        .collect()
}
