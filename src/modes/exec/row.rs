// SPDX-License-Identifier: BSD-2-Clause
//! From a record of exec to a row: columns and JSON.

use std::borrow::Cow;
use std::io::Write as _;

use super::skel::types::hello_ancestor;
use super::skel::types::hello_exec_event;
use super::skel::types::hello_exec_flags;
use super::skel::types::hello_exec_kind;
use super::skel::types::hello_path_flags;
use super::skel::types::hello_span;
use crate::enrich::escape;
use crate::enrich::escape::quoted;
use crate::enrich::escape::shell_word;
use crate::enrich::flags::errno_name;
use crate::enrich::flags::signal_name;
use crate::enrich::host::Who;
use crate::enrich::programs::Program;
use crate::enrich::programs::arguments;
use crate::enrich::programs::variable;
use crate::enrich::time::Length;
use crate::output;
use crate::output::columns::Column;
use crate::output::json::Object;
use crate::wire;
use crate::wire::WireError;

pub(super) const COLUMNS: &[Column] = &[
    Column::text(
        "EVENT",
        6,
        "exec: a program was run; failed: it could not be; exit: a process has ended",
    ),
    Column::text(
        "RESULT",
        12,
        "ok, the name of the error, the exit status, or the signal that ended it",
    ),
    Column::text(
        "LIFETIME",
        8,
        "of the process, from its start, of COMMAND from its release, to its end; - before",
    ),
    Column::number(
        "EUID",
        5,
        "effective user id: the owner's in setuid programs",
    ),
    Column::text(
        "EXE",
        30,
        "the file that runs; of a script, its interpreter",
    ),
    Column::text("GIVEN", 30, "what was asked to be run, as it was given"),
    Column::text("CWD", 20, "working directory"),
    Column::text(
        "ANCESTORS",
        30,
        "parent, its parent, up to the first process",
    ),
    Column::text("ENV", 20, "the variables that --env names"),
    Column::text(
        "ARGS",
        0,
        "the arguments, as a shell would want them; of a failure, the file first; (forked): never ran a program of its own",
    ),
];

/// A record in its parts.
#[derive(Debug)]
pub(super) struct Record<'a> {
    pub(super) event: hello_exec_event,
    /// As the kernel side wrote them.
    ancestors: &'a [u8],
    exe: &'a [u8],
    cwd: &'a [u8],
    filename: &'a [u8],
    argv: &'a [u8],
    env: &'a [u8],
}

impl<'a> Record<'a> {
    pub(super) fn decode(record: &'a [u8]) -> Result<Self, WireError> {
        let event: hello_exec_event = wire::decode(record)?;
        let part = |span: &hello_span| {
            wire::part::<hello_exec_event>(record, span.at as usize, span.len as usize)
        };
        let ancestors = event.ancestors as usize * size_of::<hello_ancestor>();
        Ok(Self {
            ancestors: wire::tail::<hello_exec_event>(record, ancestors)?,
            exe: part(&event.exe)?,
            cwd: part(&event.cwd)?,
            filename: part(&event.filename)?,
            argv: part(&event.argv)?,
            env: part(&event.env)?,
            event,
        })
    }

    fn ancestors(&self) -> impl Iterator<Item = hello_ancestor> {
        let all = self.ancestors.chunks_exact(size_of::<hello_ancestor>());
        all.filter_map(|ancestor| wire::decode(ancestor).ok())
    }

    fn has(&self, flag: hello_exec_flags) -> bool {
        self.event.flags & flag.0 != 0
    }

    pub(super) fn is_exit(&self) -> bool {
        hello_exec_kind(self.event.kind) == hello_exec_kind::HELLO_EXEC_EXIT
    }

    pub(super) fn is_forked(&self) -> bool {
        self.has(hello_exec_flags::HELLO_EXEC_FORKED)
    }

    /// What is to be remembered of it for its end.
    pub(super) fn program(&self) -> Program {
        let is_known = !self.has(hello_exec_flags::HELLO_EXEC_ARGV_UNREADABLE);
        Program {
            exe: (!self.exe.is_empty()).then(|| self.exe.to_owned()),
            argv: is_known.then(|| self.argv.to_owned()),
            argv_bytes: self.event.argv_bytes,
        }
    }

    /// The script that the interpreter was given, from the working directory. One that
    /// execveat found by a descriptor is told by that, which says nothing later.
    fn script(&self) -> Option<Cow<'a, [u8]>> {
        let by_descriptor = self.filename.starts_with(b"/dev/fd/");
        if !self.has(hello_exec_flags::HELLO_EXEC_SCRIPT) || by_descriptor {
            return None;
        }
        let not_whole = hello_path_flags::HELLO_PATH_OUTSIDE.0 | hello_path_flags::HELLO_PATH_CUT.0;
        let outside = self.event.cwd_flags & not_whole != 0;
        if self.filename.starts_with(b"/") || outside {
            return Some(self.filename.into());
        }
        let mut name = self.filename;
        while let Some(rest) = name.strip_prefix(b"./") {
            name = rest;
        }
        let folder = self.cwd.strip_suffix(b"/").unwrap_or(self.cwd);
        Some([folder, b"/", name].concat().into())
    }
}

/// Is the beginning of a path missing (src/bpf/path.bpf.h)?
fn is_cut(flags: u32) -> bool {
    flags & hello_path_flags::HELLO_PATH_CUT.0 != 0
}

fn path_cell(cell: &mut Vec<u8>, path: &[u8], flags: u32) {
    if is_cut(flags) {
        cell.extend(b"...");
    }
    quoted(cell, path);
}

pub(super) struct Row<'a> {
    who: Who<'a>,
    record: &'a Record<'a>,
    kind: hello_exec_kind,
    exe: Option<&'a [u8]>,
    /// `None` if they are not known.
    argv: Option<&'a [u8]>,
    argv_bytes: u64,
    env: &'a [String],
}

impl<'a> Row<'a> {
    /// `ended` is the program whose end it is.
    pub(super) fn new(
        who: Who<'a>,
        record: &'a Record<'a>,
        ended: Option<&'a Program>,
        env: &'a [String],
    ) -> Self {
        let kind = hello_exec_kind(record.event.kind);
        let unreadable = record.has(hello_exec_flags::HELLO_EXEC_ARGV_UNREADABLE);
        let own =
            (!record.is_exit() && (!unreadable || !record.argv.is_empty())).then_some(record.argv);
        let argv_bytes = match kind {
            hello_exec_kind::HELLO_EXEC_EXEC => record.event.argv_bytes,
            _ => record.argv.len() as u64,
        };
        Self {
            exe: ended
                .map_or(Some(record.exe), |program| program.exe.as_deref())
                .filter(|exe| !exe.is_empty()),
            argv: ended.map_or(own, |program| program.argv.as_deref()),
            argv_bytes: ended.map_or(argv_bytes, |program| program.argv_bytes),
            who,
            record,
            kind,
            env,
        }
    }

    fn event(&self) -> &'static str {
        match self.kind {
            hello_exec_kind::HELLO_EXEC_EXEC => "exec",
            hello_exec_kind::HELLO_EXEC_FAILED => "failed",
            _ => "exit",
        }
    }

    /// The status with which a process ended, unless by a signal.
    fn exit_code(&self) -> Option<u32> {
        let status = self.record.event.status;
        (status & 0x7f == 0).then_some(status >> 8 & 0xff)
    }

    /// The signal that ended it, and whether it left a core.
    fn signal(&self) -> Option<(Cow<'static, str>, bool)> {
        let status = self.record.event.status;
        let signal = i32::try_from(status & 0x7f)
            .ok()
            .filter(|signal| *signal != 0)?;
        Some((signal_name(signal), status & 0x80 != 0))
    }

    fn is_truncated(&self) -> bool {
        let failed = self.kind == hello_exec_kind::HELLO_EXEC_FAILED;
        let cut = self.record.has(hello_exec_flags::HELLO_EXEC_ARGV_CUT)
            || (failed
                && self
                    .record
                    .has(hello_exec_flags::HELLO_EXEC_ARGV_UNREADABLE));
        cut || self
            .argv
            .is_some_and(|argv| (argv.len() as u64) < self.argv_bytes)
    }

    fn result_cell(&self, cell: &mut Vec<u8>) {
        let ret = self.record.event.ret;
        let _ = match (self.kind, self.exit_code(), self.signal()) {
            (hello_exec_kind::HELLO_EXEC_EXEC, ..) => write!(cell, "ok"),
            (hello_exec_kind::HELLO_EXEC_FAILED, ..) => match errno_name(ret) {
                Some(name) => write!(cell, "{name}"),
                None => write!(cell, "{ret}"),
            },
            (_, _, Some((signal, true))) => write!(cell, "{signal} core"),
            (_, _, Some((signal, false))) => write!(cell, "{signal}"),
            (_, code, _) => write!(cell, "exit {}", code.unwrap_or(0)),
        };
    }

    fn args_cell(&self, cell: &mut Vec<u8>) {
        let has_failed = self.kind == hello_exec_kind::HELLO_EXEC_FAILED;
        // The file that there is none of; the name it was to have says less.
        let first = has_failed.then_some(self.record.filename);
        let rest = arguments(self.argv.unwrap_or_default()).skip(usize::from(has_failed));
        for (index, word) in first.into_iter().chain(rest).enumerate() {
            if index > 0 {
                cell.push(b' ');
            }
            shell_word(cell, word);
        }
        if !has_failed && self.argv.is_none() {
            cell.push(b'?');
        }
        if self.is_truncated() {
            cell.extend(b" (cut)"); // which no quoted word can be
        }
        if self.record.is_forked() {
            cell.extend(b" (forked)");
        }
    }

    fn env_cell(&self, cell: &mut Vec<u8>) {
        let values = self.env.iter().filter_map(|name| {
            let value = variable(self.record.env, name)?;
            Some((name, value))
        });
        for (index, (name, value)) in values.enumerate() {
            if index > 0 {
                cell.push(b' ');
            }
            let _ = write!(cell, "{name}=");
            shell_word(cell, value);
        }
    }

    fn ancestors_cell(&self, cell: &mut Vec<u8>) {
        for (index, ancestor) in self.record.ancestors().enumerate() {
            if index > 0 {
                cell.push(b'<');
            }
            let comm = wire::text(&ancestor.comm);
            // Or its name would make up ancestors of its own.
            if comm.iter().any(|byte| b"<()".contains(byte)) {
                quoted(cell, comm);
            } else {
                escape::cell(cell, comm);
            }
            let _ = write!(cell, "({})", ancestor.pid);
        }
        if self.record.has(hello_exec_flags::HELLO_EXEC_ANCESTORS_CUT) {
            cell.extend(b"<...");
        }
    }

    fn json_argv(&self, object: &mut Object<'_>) {
        match self.argv {
            Some(argv) => object.list("argv", arguments(argv)),
            None => object.null("argv"),
        }
        object.bool("argv_truncated", self.is_truncated());
        let counted = self.kind == hello_exec_kind::HELLO_EXEC_FAILED && self.is_truncated();
        if self.argv.is_none() || counted {
            object.null("argv_bytes");
        } else {
            object.num("argv_bytes", self.argv_bytes);
        }
    }

    /// Where it was called from, by whom.
    fn json_place(&self, object: &mut Object<'_>) {
        let record = self.record;
        object.opt_bytes("cwd", (!record.cwd.is_empty()).then_some(record.cwd));
        object.bool("cwd_truncated", is_cut(record.event.cwd_flags));
        object.objects("ancestors", record.ancestors(), |object, ancestor| {
            object.num("pid", ancestor.pid);
            object.bytes("comm", wire::text(&ancestor.comm));
        });
        object.bool(
            "ancestors_truncated",
            record.has(hello_exec_flags::HELLO_EXEC_ANCESTORS_CUT),
        );
    }

    fn json_filename(&self, object: &mut Object<'_>) {
        let unreadable = self
            .record
            .has(hello_exec_flags::HELLO_EXEC_FILENAME_UNREADABLE);
        object.opt_bytes("filename", (!unreadable).then_some(self.record.filename));
    }

    fn json_env(&self, object: &mut Object<'_>) {
        let record = self.record;
        object.object("env", |object| {
            for name in self.env {
                object.opt_bytes(name, variable(record.env, name));
            }
        });
        object.bool(
            "env_truncated",
            record.has(hello_exec_flags::HELLO_EXEC_ENV_CUT)
                || record.has(hello_exec_flags::HELLO_EXEC_ENV_UNREADABLE),
        );
    }

    fn json_exit(&self, object: &mut Object<'_>) {
        match self.exit_code() {
            Some(code) => object.num("exit_code", code),
            None => object.null("exit_code"),
        }
        let signal = self.signal();
        object.opt_str("signal", signal.as_ref().map(|(name, _)| name.as_ref()));
        object.bool("core", signal.is_some_and(|(_, core)| core));
        object.num("lifetime_ns", self.record.event.lifetime_ns);
        object.bool("forked", self.record.is_forked());
    }
}

impl output::Row for Row<'_> {
    fn kind(&self) -> &'static str {
        "exec"
    }

    fn cell(&self, column: &str, cell: &mut Vec<u8>) {
        if self.who.cell(column, cell) {
            return;
        }
        let record = self.record;
        let is_exit = record.is_exit();
        match column {
            "EVENT" => cell.extend(self.event().as_bytes()),
            "RESULT" => self.result_cell(cell),
            "LIFETIME" if is_exit => {
                let _ = write!(cell, "{}", Length(record.event.lifetime_ns));
            }
            "EUID" => _ = write!(cell, "{}", record.event.euid),
            "EXE" if self.exe.is_some() => {
                path_cell(cell, self.exe.unwrap_or_default(), record.event.exe_flags);
            }
            "GIVEN" if !is_exit => quoted(cell, record.filename),
            "CWD" if !is_exit => path_cell(cell, record.cwd, record.event.cwd_flags),
            "ANCESTORS" if !is_exit => self.ancestors_cell(cell),
            "ENV" => self.env_cell(cell),
            "ARGS" => self.args_cell(cell),
            _ => cell.push(b'-'),
        }
    }

    fn json(&self, object: &mut Object<'_>) {
        let record = self.record;
        self.who.json(object);
        object.str("event", self.event());
        object.num("euid", record.event.euid);
        object.opt_bytes("exe", self.exe);
        self.json_argv(object);
        match self.kind {
            hello_exec_kind::HELLO_EXEC_EXEC => {
                let deleted =
                    hello_path_flags::HELLO_PATH_DELETED.0 | hello_path_flags::HELLO_PATH_OUTSIDE.0;
                object.bool("deleted", record.event.exe_flags & deleted != 0);
                object.bool("exe_truncated", is_cut(record.event.exe_flags));
                object.opt_bytes("script", record.script().as_deref());
                self.json_filename(object);
                if !self.env.is_empty() {
                    self.json_env(object);
                }
                self.json_place(object);
                object.num("ret", 0);
                object.null("errno");
            }
            hello_exec_kind::HELLO_EXEC_FAILED => {
                self.json_filename(object);
                self.json_place(object);
                object.num("ret", record.event.ret);
                object.opt_str("errno", errno_name(record.event.ret));
            }
            _ => self.json_exit(object),
        }
    }
}
