// SPDX-License-Identifier: BSD-2-Clause
//! file: files opened, by whom, with what result. Kernel side: src/bpf/file.bpf.c.

mod prefix;

use std::borrow::Cow;
use std::cell::RefCell;
use std::io::Write as _;

use anyhow::Result;
use nix::libc;

use super::events::Events;
use crate::cli::Hook;
use crate::cli::ModeInfo;
use crate::enrich::escape::quoted;
use crate::enrich::flags;
use crate::enrich::flags::errno_name;
use crate::enrich::host;
use crate::enrich::host::Host;
use crate::enrich::host::Who;
use crate::enrich::syscalls::Abi;
use crate::enrich::time::Length;
use crate::output::Output;
use crate::output::Row;
use crate::output::columns::Column;
use crate::output::decimal;
use crate::output::json::Object;
use crate::preflight;
use crate::session;
use crate::session::Context;
use crate::session::Report;
use crate::session::Session;
use crate::session::Setup;
use crate::session::Size;
use crate::wire;
use crate::wire::WireError;
use skel::types::hello_file_event;
use skel::types::hello_file_prefixes;
use skel::types::hello_open_via;
use skel::types::hello_path_flags;

skeleton!("file");
crate::wire!(
    hello_file_event,
    skel::types::hello_file_prefix,
    hello_file_prefixes
);

/// What the command line has to know.
pub const INFO: ModeInfo = ModeInfo {
    name: "file",
    about: "files opened, by whom, with what result",
    hooks: &[Hook::Fentry, Hook::Kprobe, Hook::RawTp, Hook::Tracepoint],
    options: &[
        "path",
        "exclude-path",
        "failed",
        "latency",
        "transport",
        "rings",
        "buffer-size",
    ],
    columns: &[host::COLUMNS, COLUMNS],
    shown: &["PID", "UID", "COMM", "RESULT", "VIA", "FLAGS", "PATH"],
};

const COLUMNS: &[Column] = &[
    Column::text(
        "RESULT",
        8,
        "the descriptor, or the name of the error; ok where there is no descriptor",
    ),
    Column::text("VIA", 8, "the call"),
    Column::text("FLAGS", 20, "as given to the call"),
    Column::text(
        "MODE",
        5,
        "permissions for a new file, as given; - where none is made",
    ),
    Column::number(
        "DIRFD",
        5,
        "what a relative path is relative to; - for the working directory",
    ),
    Column::text("ABI", 6, "the table that the call's number belongs to"),
    Column::number("LATENCY", 7, "from the call to its return (--latency)"),
    Column::text("GIVEN", 30, "the path as the caller gave it"),
    Column::text(
        "PATH",
        0,
        "absolute path of the file, in the caller's root; of a failure: what was asked for, from where it was asked",
    ),
];

/// HELLO_SLOTS in slot.bpf.h.
const SLOTS: u32 = 64;

/// Runs the mode.
///
/// # Errors
/// Paths that do not fit; what [`Session`] says.
pub fn run(cx: &mut Context) -> Result<Report> {
    let mut setup = Setup::new(&INFO);
    setup.config.failed = u32::from(cx.args.failed);
    setup.config.latency = u32::from(cx.args.latency);
    let prefixes = prefix::prefixes(&cx.args.path, &cx.args.exclude_path)?;
    setup.rodata = vec![(".rodata.file", wire::bytes(&prefixes).to_vec())];
    setup.remembers = true;
    let slots = preflight::possible_cpus().max(SLOTS);
    setup.sizes.push(("file_slots", Size::Entries(slots)));
    setup.functions = &[
        &["do_sys_openat2"],
        &["__x64_sys_openat2", "__arm64_sys_openat2"],
    ];
    setup.maps_of = &[
        ("file_calls", Hook::Tracepoint),
        ("file_requests", Hook::RawTp),
    ];
    if cx.args.latency && cx.args.columns.is_empty() {
        let shown = [
            "PID", "UID", "COMM", "RESULT", "VIA", "FLAGS", "LATENCY", "PATH",
        ];
        cx.layout = cx.args.layout(INFO.columns, &shown)?;
    } else if !cx.args.latency {
        // The programs that take the time, and the map file_starts that they fill.
        setup.leave_out = vec!["file_start*"];
    }
    let show = move |record: &[u8], host: &mut Host, output: &mut Output| {
        show(record, host, output, &prefixes)
    };
    let source = RefCell::new(Events::new(cx, show));
    let mut storage = session::storage();
    Session::start(
        cx,
        &setup,
        &mut storage,
        skel::FileSkelBuilder::default,
        |_: &skel::FileSkel<'_>| Ok(()),
        &source,
    )?
    .run(cx)
}

fn show(
    record: &[u8],
    host: &mut Host,
    output: &mut Output,
    prefixes: &hello_file_prefixes,
) -> Result<(), WireError> {
    let event: hello_file_event = wire::decode(record)?;
    let text =
        |at: u32, len: u32| wire::part::<hello_file_event>(record, at as usize, len as usize);
    let path = text(event.path_at, event.path_len)?;
    let given = text(event.given_at, event.given_len)?;
    // A pipe has no name, nowhere.
    let is_outside = event.path_flags & hello_path_flags::HELLO_PATH_OUTSIDE.0 != 0;
    let is_path = event.path_known != 0 && !(is_outside && path.is_empty());
    let path = is_path.then(|| tidy(path));
    let is_undecided = event.path_flags & hello_path_flags::HELLO_PATH_UNDECIDED.0 != 0;
    if is_undecided
        && !path
            .as_ref()
            .is_some_and(|path| prefix::is_wanted(path, prefixes))
    {
        output.pass();
        return Ok(());
    }
    let latency = host.with_latency.then_some(event.latency);
    output.event(&FileRow {
        who: host.who(&wire::decode(record)?),
        path,
        given: (event.given_known != 0).then_some(given),
        latency,
        event,
    });
    Ok(())
}

/// Without the doubled slashes and the dots that a path as given may have. What `..`
/// means only the file system knows: it stays.
fn tidy(path: &[u8]) -> Cow<'_, [u8]> {
    let is_tidy = |name: &[u8]| !name.is_empty() && name != b".";
    let mut names = path.split(|byte| *byte == b'/').skip(1);
    if path.len() > 1 && names.all(is_tidy) {
        return path.into();
    }
    let mut tidy = Vec::new();
    for name in path
        .split(|byte| *byte == b'/')
        .filter(|name| is_tidy(name))
    {
        tidy.push(b'/');
        tidy.extend(name);
    }
    if tidy.is_empty() {
        tidy.push(b'/');
    }
    tidy.into()
}

struct FileRow<'a> {
    who: Who<'a>,
    event: hello_file_event,
    /// Absolute; `None` if it is not known.
    path: Option<Cow<'a, [u8]>>,
    /// `None` if its memory could not be read.
    given: Option<&'a [u8]>,
    /// With `--latency`; 0 where it is not known.
    latency: Option<u64>,
}

impl FileRow<'_> {
    fn via(&self) -> &'static str {
        match hello_open_via(self.event.via) {
            hello_open_via::HELLO_VIA_OPEN => "open",
            hello_open_via::HELLO_VIA_OPENAT => "openat",
            hello_open_via::HELLO_VIA_OPENAT2 => "openat2",
            hello_open_via::HELLO_VIA_CREAT => "creat",
            hello_open_via::HELLO_VIA_NAME_TO_HANDLE_AT => "name_to_handle_at",
            hello_open_via::HELLO_VIA_OPEN_BY_HANDLE_AT => "open_by_handle_at",
            hello_open_via::HELLO_VIA_IO_URING => "io_uring",
            _ => "?",
        }
    }

    fn flags(&self, out: &mut Vec<u8>) {
        if hello_open_via(self.event.via) == hello_open_via::HELLO_VIA_NAME_TO_HANDLE_AT {
            flags::at_flags(out, self.event.flags);
        } else {
            flags::open_flags(out, self.event.flags);
        }
    }

    fn has(&self, flag: hello_path_flags) -> bool {
        self.event.path_flags & flag.0 != 0
    }

    fn has_descriptor(&self) -> bool {
        self.event.no_descriptor == 0
    }

    fn path_cell(&self, cell: &mut Vec<u8>) {
        let Some(path) = &self.path else {
            return cell.push(b'?');
        };
        if self.has(hello_path_flags::HELLO_PATH_OUTSIDE) {
            cell.extend(b"(unreachable) ");
        }
        if self.has(hello_path_flags::HELLO_PATH_CUT) {
            cell.extend(b"...");
        }
        quoted(cell, path);
        if self.has(hello_path_flags::HELLO_GIVEN_CUT) {
            cell.extend(b"...");
        }
        if self.has(hello_path_flags::HELLO_PATH_DELETED) {
            cell.extend(b" (deleted)");
        }
    }
}

impl Row for FileRow<'_> {
    fn kind(&self) -> &'static str {
        "open"
    }

    fn cell(&self, column: &str, cell: &mut Vec<u8>) {
        if self.who.cell(column, cell) {
            return;
        }
        let event = &self.event;
        match column {
            "RESULT" => match errno_name(event.ret) {
                Some(name) => cell.extend_from_slice(name.as_bytes()),
                None if event.ret >= 0 && !self.has_descriptor() => cell.extend_from_slice(b"ok"),
                None => decimal(cell, event.ret),
            },
            "VIA" => cell.extend_from_slice(self.via().as_bytes()),
            "FLAGS" => self.flags(cell),
            "MODE" if flags::makes_a_file(event.flags) => _ = write!(cell, "{:04o}", event.mode),
            "DIRFD" if event.dfd != libc::AT_FDCWD => decimal(cell, event.dfd),
            "MODE" | "DIRFD" => cell.push(b'-'),
            "ABI" => cell.extend_from_slice(Abi::from_raw(event.abi).name().as_bytes()),
            "LATENCY" => match self.latency {
                None | Some(0) => cell.push(b'-'),
                Some(time) => _ = write!(cell, "{}", Length(time)),
            },
            "GIVEN" => match self.given {
                Some(given) => quoted(cell, given),
                None => cell.push(b'?'),
            },
            _ => self.path_cell(cell),
        }
    }

    fn json(&self, object: &mut Object<'_>) {
        let event = &self.event;
        self.who.json(object);
        object.opt_bytes("path", self.path.as_deref());
        object.opt_bytes("path_given", self.given);
        object.bool("deleted", self.has(hello_path_flags::HELLO_PATH_DELETED));
        object.bool(
            "unreachable",
            self.has(hello_path_flags::HELLO_PATH_OUTSIDE),
        );
        object.bool(
            "truncated",
            self.has(hello_path_flags::HELLO_PATH_CUT)
                || self.has(hello_path_flags::HELLO_GIVEN_CUT),
        );
        object.plain("flags", |text| self.flags(text));
        object.num("mode", event.mode);
        object.num("dirfd", event.dfd);
        if event.ret < 0 || self.has_descriptor() {
            object.num("ret", event.ret);
        } else {
            object.null("ret");
        }
        object.opt_str("errno", errno_name(event.ret));
        object.str("via", self.via());
        object.str("abi", Abi::from_raw(event.abi).name());
        match self.latency {
            None => {}
            Some(0) => object.null("latency_ns"),
            Some(time) => object.num("latency_ns", time),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tidy_paths() {
        let of = |path: &str| String::from_utf8_lossy(&tidy(path.as_bytes())).into_owned();
        assert_eq!(of(""), "/");
        assert_eq!(of("/"), "/");
        assert_eq!(of("/etc/passwd"), "/etc/passwd");
        assert_eq!(of("/tmp//./a/../.b/..c/"), "/tmp/a/../.b/..c");
        assert_eq!(of("/."), "/");
    }
}
