// SPDX-License-Identifier: BSD-2-Clause
//! tail: every system call dispatched by a tail call through a program array.
//! Kernel side: src/bpf/tail.bpf.c.

use std::cell::RefCell;
use std::io::Write as _;

use anyhow::Result;

use super::events::Events;
use crate::cli::Hook;
use crate::cli::ModeInfo;
use crate::enrich::host;
use crate::enrich::host::Host;
use crate::enrich::host::Who;
use crate::enrich::syscalls::Abi;
use crate::enrich::syscalls::Call;
use crate::output::Output;
use crate::output::Row;
use crate::output::columns::Column;
use crate::output::decimal;
use crate::output::json::Object;
use crate::session;
use crate::session::Context;
use crate::session::Report;
use crate::session::Session;
use crate::session::Setup;
use crate::wire;
use crate::wire::WireError;
use skel::types::hello_tail_event;
use skel::types::hello_tail_kind;

skeleton!("tail");
crate::wire!(hello_tail_event);

/// What the command line has to know.
pub const INFO: ModeInfo = ModeInfo {
    name: "tail",
    about: "system calls, dispatched by tail calls through a program array",
    hooks: &[Hook::RawTp],
    options: &["transport", "rings", "buffer-size"],
    columns: &[host::COLUMNS, COLUMNS],
    shown: &["PID", "UID", "COMM", "MESSAGE"],
};

const COLUMNS: &[Column] = &[
    Column::text(
        "SYSCALL",
        20,
        "the call, of another ABI than the native one as i386:NAME",
    ),
    Column::text(
        "MESSAGE",
        0,
        "what the program in that slot of the array says",
    ),
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
        skel::TailSkelBuilder::default,
        |_: &skel::TailSkel<'_>| Ok(()),
        &source,
    )?
    .run(cx)
}

fn show(record: &[u8], host: &mut Host, output: &mut Output) -> Result<(), WireError> {
    let event: hello_tail_event = wire::decode(record)?;
    let call = Call {
        abi: Abi::from_raw(event.abi),
        nr: event.nr,
    };
    output.event(&TailRow {
        who: host.who(&wire::decode(record)?),
        call,
        kind: hello_tail_kind(event.kind),
    });
    Ok(())
}

/// Appends the words of the book's program, and two for what it did not tell apart.
/// Returns whether they end with the call's number.
fn message(out: &mut Vec<u8>, kind: hello_tail_kind, call: Call) -> bool {
    let words: &[u8] = match kind {
        hello_tail_kind::HELLO_TAIL_EXEC => b"Executing a program",
        hello_tail_kind::HELLO_TAIL_TIMER_CREATE => b"Creating a timer",
        hello_tail_kind::HELLO_TAIL_TIMER_DELETE => b"Deleting a timer",
        hello_tail_kind::HELLO_TAIL_TIMER_OTHER => b"Some other timer operation",
        hello_tail_kind::HELLO_TAIL_OTHER_ABI => b"Call of another ABI: ",
        hello_tail_kind::HELLO_TAIL_OUTSIDE => b"Outside the array: ",
        _ => b"Another syscall: ",
    };
    out.extend_from_slice(words);
    if !words.ends_with(b" ") {
        return false;
    }
    if kind == hello_tail_kind::HELLO_TAIL_OTHER_ABI {
        out.extend_from_slice(call.abi.name().as_bytes());
        out.push(b' ');
    }
    decimal(out, call.number());
    true
}

struct TailRow<'a> {
    who: Who<'a>,
    call: Call,
    kind: hello_tail_kind,
}

impl Row for TailRow<'_> {
    fn kind(&self) -> &'static str {
        "tail"
    }

    fn cell(&self, column: &str, cell: &mut Vec<u8>) {
        if self.who.cell(column, cell) {
            return;
        }
        if column == "SYSCALL" {
            let _ = write!(cell, "{}", self.call);
            return;
        }
        if message(cell, self.kind, self.call)
            && let Some(name) = self.call.name()
        {
            cell.extend_from_slice(b" (");
            cell.extend_from_slice(name.as_bytes());
            cell.push(b')');
        }
    }

    fn json(&self, object: &mut Object<'_>) {
        self.who.json(object);
        object.str("abi", self.call.abi.name());
        object.num("nr", self.call.number());
        object.opt_str("syscall", self.call.name());
        object.plain("message", |text| {
            message(text, self.kind, self.call);
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(kind: hello_tail_kind, call: Call) -> String {
        let mut words = Vec::new();
        message(&mut words, kind, call);
        String::from_utf8(words).expect("ASCII")
    }

    #[test]
    fn messages() {
        let of = |kind, abi, nr| words(kind, Call { abi, nr });
        assert_eq!(
            of(hello_tail_kind::HELLO_TAIL_EXEC, Abi::Native, 59),
            "Executing a program"
        );
        assert_eq!(
            of(hello_tail_kind::HELLO_TAIL_ANOTHER, Abi::Native, 39),
            "Another syscall: 39"
        );
        assert_eq!(
            of(hello_tail_kind::HELLO_TAIL_OUTSIDE, Abi::Native, 9999),
            "Outside the array: 9999"
        );
    }

    #[test]
    #[cfg(target_arch = "x86_64")]
    fn another_abi_is_said_as_such() {
        let call = Call {
            abi: Abi::Compat,
            nr: 20,
        };
        let kind = hello_tail_kind::HELLO_TAIL_OTHER_ABI;
        assert_eq!(words(kind, call), "Call of another ABI: i386 20");
    }
}
