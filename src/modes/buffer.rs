// SPDX-License-Identifier: BSD-2-Clause
//! buffer: one structured event for every execve, with a message from a map that
//! user space fills. Kernel side: src/bpf/buffer.bpf.c.

use std::cell::RefCell;

use anyhow::Result;
use libbpf_rs::MapCore;
use libbpf_rs::MapFlags;

use super::events::Events;
use crate::cli::Hook;
use crate::cli::ModeInfo;
use crate::cli::UsageError;
use crate::enrich::escape::escape;
use crate::enrich::host;
use crate::enrich::host::Host;
use crate::enrich::host::Who;
use crate::enrich::syscalls;
use crate::enrich::users::Users;
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
use skel::types::hello_buffer_event;
use skel::types::hello_message;
use skel::types::hello_message_key;
use skel::types::hello_whose;

skeleton!("buffer");
crate::wire!(hello_buffer_event, hello_message, hello_message_key);

/// What the command line has to know.
pub const INFO: ModeInfo = ModeInfo {
    name: "buffer",
    about: "one structured event for every execve: pid, uid, command, message",
    hooks: &[Hook::Kprobe, Hook::Fentry, Hook::RawTp, Hook::Tracepoint],
    options: &["message", "transport", "rings", "buffer-size"],
    columns: &[host::COLUMNS, COLUMNS],
    shown: &["PID", "UID", "COMM", "MESSAGE"],
};

const COLUMNS: &[Column] = &[Column::text(
    "MESSAGE",
    0,
    "the message for this user, parity or all (--message)",
)];

/// The book's message, for whom no other was given.
const MESSAGE: &str = "Hello World";

/// Runs the mode.
///
/// # Errors
/// A message that does not fit; what [`Session`] says.
pub fn run(cx: &mut Context) -> Result<Report> {
    let messages = parse_messages(&cx.args.message, &cx.users)?;
    let source = RefCell::new(Events::new(cx, show));
    let mut storage = session::storage();
    Session::start(
        cx,
        &Setup::at(&INFO, syscalls::execs()),
        &mut storage,
        skel::BufferSkelBuilder::default,
        |skel: &skel::BufferSkel<'_>| {
            for (key, message) in &messages {
                let map = &skel.maps.buffer_messages;
                map.update(wire::bytes(key), wire::bytes(message), MapFlags::ANY)?;
            }
            Ok(())
        },
        &source,
    )?
    .run(cx)
}

/// `[WHO=]TEXT` for each `--message`, and the book's for all others.
fn parse_messages(
    texts: &[String],
    users: &Users,
) -> Result<Vec<(hello_message_key, hello_message)>, UsageError> {
    let mut messages = vec![message(hello_whose::HELLO_WHOSE_DEFAULT, 0, MESSAGE)?];
    for argument in texts {
        let (whose, who, text) = match argument.split_once('=') {
            None => (hello_whose::HELLO_WHOSE_DEFAULT, 0, argument.as_str()),
            Some(("even", text)) => (hello_whose::HELLO_WHOSE_PARITY, 0, text),
            Some(("odd", text)) => (hello_whose::HELLO_WHOSE_PARITY, 1, text),
            Some((user, text)) => {
                let uid = users.uid(user).ok_or_else(|| {
                    UsageError(format!(
                        "--message {argument:?}: no user {user:?} in /etc/passwd; \
                         before the = stands a user, a user id, odd or even"
                    ))
                })?;
                (hello_whose::HELLO_WHOSE_USER, uid, text)
            }
        };
        messages.push(message(whose, who, text)?);
    }
    Ok(messages)
}

fn message(
    whose: hello_whose,
    who: u32,
    text: &str,
) -> Result<(hello_message_key, hello_message), UsageError> {
    let mut message = hello_message { text: [0; 64] };
    let room = message.text.len() - 1; // its NUL
    if text.len() > room {
        return Err(UsageError(format!(
            "--message {text:?} has {} bytes, there is room for {room}",
            text.len()
        )));
    }
    message.text[..text.len()].copy_from_slice(text.as_bytes());
    Ok((
        hello_message_key {
            whose: whose.0,
            who,
        },
        message,
    ))
}

fn show(record: &[u8], host: &mut Host, output: &mut Output) -> Result<(), WireError> {
    let event: hello_buffer_event = wire::decode(record)?;
    let row = BufferRow {
        who: host.who(&wire::decode(record)?),
        message: wire::text(&event.message.text),
    };
    output.event(&row);
    Ok(())
}

struct BufferRow<'a> {
    who: Who<'a>,
    message: &'a [u8],
}

impl Row for BufferRow<'_> {
    fn kind(&self) -> &'static str {
        "buffer"
    }

    fn cell(&self, column: &str, cell: &mut Vec<u8>) {
        if !self.who.cell(column, cell) {
            escape(cell, self.message);
        }
    }

    fn json(&self, object: &mut Object<'_>) {
        self.who.json(object);
        object.bytes("message", self.message);
    }
}
