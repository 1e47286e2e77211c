// SPDX-License-Identifier: BSD-2-Clause
//! file: files opened, by whom, with what result. Kernel side: src/bpf/file.bpf.c.

use std::cell::RefCell;
use std::io::Write as _;

use anyhow::Result;

use super::events::Events;
use crate::cli::Hook;
use crate::cli::ModeInfo;
use crate::enrich::escape::quoted;
use crate::enrich::flags::errno_name;
use crate::enrich::flags::open_flags;
use crate::enrich::host;
use crate::enrich::host::Host;
use crate::enrich::host::Who;
use crate::enrich::syscalls::Abi;
use crate::output::Output;
use crate::output::Row;
use crate::output::columns::Column;
use crate::output::json::Object;
use crate::session;
use crate::session::Context;
use crate::session::Report;
use crate::session::Session;
use crate::session::Setup;
use crate::wire;
use crate::wire::WireError;
use skel::types::hello_file_event;
use skel::types::hello_open_via;

skeleton!("file");
crate::wire!(hello_file_event);

/// What the command line has to know.
pub const INFO: ModeInfo = ModeInfo {
    name: "file",
    about: "files opened, by whom, with what result",
    hooks: &[Hook::Tracepoint, Hook::RawTp],
    options: &["transport", "buffer-size"],
    columns: &[host::COLUMNS, COLUMNS],
    shown: &["PID", "UID", "COMM", "RESULT", "VIA", "FLAGS", "PATH"],
};

const COLUMNS: &[Column] = &[
    Column::text("RESULT", 12, "the descriptor, or the name of the error"),
    Column::text("VIA", 7, "the call"),
    Column::text("FLAGS", 20, "as given to the call"),
    Column::text("PATH", 0, "as given"),
];

/// Runs the mode.
///
/// # Errors
/// What [`Session`] says.
pub fn run(cx: &mut Context) -> Result<Report> {
    let source = RefCell::new(Events::new(cx, show));
    let mut storage = session::storage();
    Session::start(
        cx,
        &Setup::new(&INFO),
        &mut storage,
        skel::FileSkelBuilder::default,
        |_: &skel::FileSkel<'_>| Ok(()),
        &source,
    )?
    .run(cx)
}

fn show(record: &[u8], host: &mut Host, output: &mut Output) -> Result<(), WireError> {
    let event: hello_file_event = wire::decode(record)?;
    let path = wire::tail::<hello_file_event>(record, event.path_len as usize)?;
    output.event(&FileRow {
        who: host.who(&wire::decode(record)?),
        event,
        path,
    });
    Ok(())
}

struct FileRow<'a> {
    who: Who<'a>,
    event: hello_file_event,
    path: &'a [u8],
}

impl FileRow<'_> {
    fn via(&self) -> &'static str {
        match hello_open_via(self.event.via) {
            hello_open_via::HELLO_VIA_OPEN => "open",
            hello_open_via::HELLO_VIA_OPENAT => "openat",
            hello_open_via::HELLO_VIA_OPENAT2 => "openat2",
            hello_open_via::HELLO_VIA_CREAT => "creat",
            _ => "?",
        }
    }

    /// The path, or null if it could not be read.
    fn path(&self) -> Option<&[u8]> {
        (self.event.unreadable == 0 || !self.path.is_empty()).then_some(self.path)
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
        let _ = match column {
            "RESULT" => match errno_name(self.event.ret) {
                Some(name) => write!(cell, "{name}"),
                None => write!(cell, "{}", self.event.ret),
            },
            "VIA" => write!(cell, "{}", self.via()),
            "FLAGS" => write!(cell, "{}", open_flags(self.event.flags)),
            _ => {
                quoted(cell, self.path().unwrap_or(b"?"));
                Ok(())
            }
        };
        if column == "PATH" && self.event.truncated != 0 {
            cell.extend(b"...");
        }
    }

    fn json(&self, object: &mut Object<'_>) {
        self.who.json(object);
        match self.path() {
            Some(path) => object.bytes("path_given", path),
            None => object.null("path_given"),
        }
        object.str("flags", &open_flags(self.event.flags));
        object.num("mode", self.event.mode);
        object.num("dirfd", self.event.dfd);
        object.num("ret", self.event.ret);
        object.opt_str("errno", errno_name(self.event.ret));
        object.str("via", self.via());
        object.str("abi", Abi::from_raw(self.event.abi).name());
    }
}
