// SPDX-License-Identifier: BSD-2-Clause
//! The peers' output. Only what this run's user did is kept: the peers select by user
//! or control group themselves.

use std::collections::HashMap;

use serde_json::Value;

use crate::model::Heard;
use crate::process::Listener;

/// How a peer writes.
#[derive(Debug, Default, Clone, Copy)]
pub(crate) enum Form {
    #[default]
    Execsnoop,
    Opensnoop,
    Syscount,
    Bpftrace,
}

/// Listens to a peer.
#[derive(Debug, Default)]
pub(crate) struct Ear {
    pub(crate) form: Form,
    pub(crate) heard: Heard,
}

impl Listener for Ear {
    fn line(&mut self, line: &[u8]) {
        let understood = match self.form {
            Form::Execsnoop => execsnoop(line, &mut self.heard),
            Form::Opensnoop => opensnoop(line, &mut self.heard),
            Form::Syscount => syscount(line, &mut self.heard),
            Form::Bpftrace => bpftrace(line, &mut self.heard),
        };
        if understood.is_none() && !line.is_empty() {
            self.heard.odd_lines += 1;
        }
    }

    /// "Lost 12 events on CPU #0!", "Lost 12 events".
    fn error(&mut self, line: &str) {
        let lost = line
            .strip_prefix("Lost ")
            .and_then(|rest| rest.split_once(' '));
        if let Some(lost) = lost.and_then(|(number, _)| number.parse::<u64>().ok()) {
            self.heard.lost += lost;
        }
    }
}

/// The first word, and what follows the blanks behind it.
fn split_word(line: &[u8]) -> Option<(&str, &[u8])> {
    let line = line.trim_ascii_start();
    let end = line.iter().position(|byte| *byte == b' ')?;
    let word = std::str::from_utf8(&line[..end]).ok()?;
    Some((word, &line[end..]))
}

fn number<T: std::str::FromStr>(line: &[u8]) -> Option<(T, &[u8])> {
    let (word, rest) = split_word(line)?;
    Some((word.parse().ok()?, rest))
}

/// `%-16s %-6d %-6d %3d ` of command, process, parent and result, then the arguments in
/// quotation marks. The command is 16 wide and may contain blanks.
fn execsnoop(line: &[u8], heard: &mut Heard) -> Option<()> {
    if line.starts_with(b"PCOMM ") {
        return Some(());
    }
    let (pid, rest) = number(line.get(17..)?)?;
    let (_parent, rest) = number::<u32>(rest)?;
    let (ret, rest) = number(rest)?;
    // The file's name takes the place of the first argument; the others can be compared.
    let rest = rest.strip_prefix(b" \"")?;
    let mut end = 0;
    while rest.get(end..end + 2)? != b"\" " || end > 0 && rest[end - 1] == b'\\' {
        end += 1;
    }
    heard.item(pid, ret, &rest[end + 2..]);
    Some(())
}

/// `%-6d %-16s %3d %3d %s` of process, command, descriptor, error and path.
fn opensnoop(line: &[u8], heard: &mut Heard) -> Option<()> {
    if line.starts_with(b"PID ") {
        return Some(());
    }
    let (pid, rest) = number::<u32>(line)?;
    let pid_width = pid.to_string().len().max(6);
    debug_assert!(!rest.is_empty());
    let (fd, rest) = number::<i64>(line.get(pid_width + 18..)?)?;
    let (error, rest) = number::<i64>(rest)?;
    let ret = if error > 0 { -error } else { fd };
    heard.item(pid, ret, rest.strip_prefix(b" ")?);
    Some(())
}

/// `%-22s %10d` of name and count; numbers without a name as `[unknown: N]`.
fn syscount(line: &[u8], heard: &mut Heard) -> Option<()> {
    let line = std::str::from_utf8(line).ok()?;
    if line.starts_with("Tracing ") || line.starts_with("SYSCALL ") || line.starts_with('[') {
        let unknown = line
            .strip_prefix("[unknown: ")
            .and_then(|rest| rest.split_once(']'));
        let Some((number, count)) = unknown else {
            return Some(());
        };
        *heard.counts.entry(format!("#{number}")).or_default() +=
            count.trim().parse::<u64>().ok()?;
        return Some(());
    }
    let (name, count) = line.rsplit_once(' ')?;
    *heard.counts.entry(name.trim().to_owned()).or_default() += count.parse::<u64>().ok()?;
    Some(())
}

/// `-f json`, with the lines of the programs in peer.rs.
fn bpftrace(line: &[u8], heard: &mut Heard) -> Option<()> {
    // Names need not be UTF-8, and bpftrace hands them on as they are.
    let event: Value = serde_json::from_str(&String::from_utf8_lossy(&bytes(line))).ok()?;
    let data = &event["data"];
    match event["type"].as_str()? {
        "printf" => {
            let mut words = data.as_str()?.splitn(4, ' ');
            let kind = words.next()?;
            let pid = words.next()?.parse().ok()?;
            let ret = words.next()?.parse().ok()?;
            match kind {
                "O" => heard.item(pid, ret, words.next()?.as_bytes()),
                "R" => {
                    let text = String::new();
                    let item = crate::model::Item { pid, ret, text };
                    *heard.results.entry(item).or_default() += 1;
                }
                "A" => _ = heard.evidence.execveat.insert(pid),
                "T" => _ = heard.evidence.threads.insert(pid),
                _ => return None,
            }
        }
        "join" => heard.item(0, 0, data.as_str()?.as_bytes()),
        "map" => {
            for (number, count) in data["@calls"].as_object()? {
                *heard.counts.entry(format!("#{number}")).or_default() += count.as_u64()?;
            }
        }
        "lost_events" => heard.lost += data["events"].as_u64()?,
        _ => {}
    }
    Some(())
}

/// bpftrace 0.17 writes a byte of more than seven bits as `\uffffffc3`.
fn bytes(line: &[u8]) -> Vec<u8> {
    const SIGNED: &[u8] = b"\\uffffff";
    let mut bytes = Vec::with_capacity(line.len());
    let mut rest = line;
    while let Some(byte) = rest.first() {
        let digits = rest
            .strip_prefix(SIGNED)
            .and_then(|rest| std::str::from_utf8(rest.get(..2)?).ok());
        if let Some(byte) = digits.and_then(|digits| u8::from_str_radix(digits, 16).ok()) {
            bytes.push(byte);
            rest = &rest[SIGNED.len() + 2..];
        } else {
            bytes.push(*byte);
            rest = &rest[1..];
        }
    }
    bytes
}

/// What `strace -f -o FILE -xx -y` has written of execs and opens.
pub(crate) fn strace(text: &[u8]) -> Strace {
    let mut strace = Strace::default();
    for line in text.split(|byte| *byte == b'\n') {
        strace.line(&String::from_utf8_lossy(line));
    }
    strace
}

/// A call as strace shows it; texts are decoded.
#[derive(Debug, PartialEq, Eq, Hash, Clone)]
pub(crate) struct Call {
    pub(crate) tid: u32,
    pub(crate) name: String,
    pub(crate) texts: Vec<Vec<u8>>,
    pub(crate) ret: i64,
    /// What the descriptor that it returned stands for.
    pub(crate) file: Option<Vec<u8>>,
}

#[derive(Debug, Default)]
pub(crate) struct Strace {
    pub(crate) calls: Vec<Call>,
    /// Calls whose end strace did not see.
    pub(crate) unfinished: u64,
    begun: HashMap<u32, String>,
}

impl Strace {
    fn line(&mut self, line: &str) -> Option<()> {
        let (tid, rest) = line.split_once(' ')?;
        let tid: u32 = tid.parse().ok()?;
        let rest = rest.trim_start();
        if let Some(rest) = rest.strip_prefix("+++ superseded by execve in pid ") {
            // From here on the thread that called goes by its leader's number.
            let caller = rest.split(' ').next()?.parse().ok()?;
            let begun = self.begun.remove(&caller)?;
            self.begun.insert(tid, begun);
        } else if let Some(begin) = rest.strip_suffix("<unfinished ...>") {
            self.begun.insert(tid, begin.trim_end().to_owned());
        } else if let Some((begin, _)) = rest.split_once("<pid changed to ") {
            self.begun.insert(tid, begin.trim_end().to_owned());
        } else if rest.starts_with("<... ") {
            let (_, end) = rest.split_once(" resumed>")?;
            let whole = self.begun.remove(&tid)? + end;
            self.call(tid, &whole);
        } else {
            self.call(tid, rest);
        }
        Some(())
    }

    fn call(&mut self, tid: u32, line: &str) -> Option<()> {
        let (name, rest) = line.split_once('(')?;
        if !name.bytes().all(|byte| byte.is_ascii_alphanumeric()) {
            return None;
        }
        let (arguments, result) = rest.rsplit_once(" = ")?;
        let mut words = result.split(' ');
        let ret = match words.next()? {
            "-1" => -errno(words.next()?)?,
            "?" => match words.next().and_then(errno) {
                Some(number) => -number,
                None => {
                    self.unfinished += 1;
                    return None;
                }
            },
            number => number.split('<').next()?.parse().ok()?,
        };
        let file = result
            .split_once('<')
            .and_then(|(_, rest)| rest.split_once('>'))
            .map(|(path, _)| unhex(path));
        // No quotation mark within: with -xx all is \x..
        let texts = arguments.split('"').skip(1).step_by(2).map(unhex).collect();
        let name = name.to_owned();
        self.calls.push(Call {
            tid,
            name,
            texts,
            ret,
            file,
        });
        Some(())
    }

    pub(crate) fn finish(&mut self) {
        self.unfinished += self.begun.len() as u64;
        self.begun.clear();
    }
}

fn unhex(text: &str) -> Vec<u8> {
    text.split("\\x")
        .filter_map(|digits| u8::from_str_radix(digits, 16).ok())
        .collect()
}

/// Names of errors, those of restarts too, which only tracers see.
fn errno(name: &str) -> Option<i64> {
    match name {
        "ERESTARTSYS" => return Some(512),
        "ERESTARTNOINTR" => return Some(513),
        "ERESTARTNOHAND" => return Some(514),
        "ERESTART_RESTARTBLOCK" => return Some(516),
        _ => {}
    }
    (1..=133)
        .find(|&number| {
            let found = syscalls::Errno::new(number).name();
            found == Some(name)
        })
        .map(i64::from)
}

/// `strace -c`: `% time, seconds, usecs/call, calls[, errors], syscall`.
pub(crate) fn strace_summary(text: &str) -> HashMap<String, (u64, u64)> {
    let mut rows = HashMap::new();
    for line in text.lines() {
        let words: Vec<&str> = line.split_whitespace().collect();
        let (calls, errors) = match words.len() {
            5 => (words[3].parse(), Ok(0)),
            6 => (words[3].parse(), words[4].parse()),
            _ => continue,
        };
        let name = words[words.len() - 1];
        if let (Ok(calls), Ok(errors)) = (calls, errors)
            && name != "total"
            && words[0].parse::<f64>().is_ok()
        {
            rows.insert(name.to_owned(), (calls, errors));
        }
    }
    rows
}
