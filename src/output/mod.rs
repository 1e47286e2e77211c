// SPDX-License-Identifier: BSD-2-Clause
//! Rows to lines: columns for people or JSON for programs, then to standard
//! output. Knows nothing of the kernel.

pub mod columns;
pub mod json;
pub mod sink;

use std::io;
use std::num::NonZeroU64;

use columns::Layout;
use json::Object;
use sink::Sink;

/// What it is written for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// Columns for people.
    Text,
    /// One object a line for programs.
    Json,
}

/// Appends a number.
pub fn decimal(out: &mut Vec<u8>, number: impl itoa::Integer) {
    out.extend_from_slice(itoa::Buffer::new().format(number).as_bytes());
}

/// Is it printable ASCII without quotes and backslashes, as nearly all names are? Then it
/// needs no escaping, neither in text nor in JSON.
pub fn is_plain(bytes: &[u8]) -> bool {
    let is_plain = |byte: &u8| matches!(byte, b' '..=b'~') && !matches!(byte, b'"' | b'\\');
    bytes.iter().all(is_plain)
}

/// One line of output: an event, a row of a table, the ledger.
pub trait Row {
    /// Its `type` in JSON.
    fn kind(&self) -> &'static str;
    /// Appends the content of a column, escaped; numbers without padding.
    fn cell(&self, column: &str, cell: &mut Vec<u8>);
    /// Its line for people, without the newline.
    fn text(&self, layout: &Layout, line: &mut Vec<u8>) {
        layout.line(line, |column, cell| self.cell(column.name, cell));
    }
    /// Its fields after `type`.
    fn json(&self, object: &mut Object<'_>);
}

/// Writes rows and keeps the account of what became of them.
#[derive(Debug)]
pub struct Output {
    format: Format,
    /// What text consists of.
    pub layout: Layout,
    sink: Sink,
    limit: Option<NonZeroU64>,
    error: Option<io::Error>,
    line: Vec<u8>,
    /// Events that came from the kernel.
    pub received: u64,
    /// Of these, those that a row was made of.
    formatted: u64,
    /// Of these, those beyond `--count`.
    pub surplus: u64,
    /// Ends of processes whose program is forgotten.
    pub unmatched: u64,
    /// `--count` tables have been printed.
    pub tables_done: bool,
}

impl Output {
    /// Onto standard output; with `limit`, events beyond it are counted, not printed.
    pub fn new(format: Format, layout: Layout, limit: Option<NonZeroU64>) -> Self {
        Self {
            format,
            layout,
            sink: Sink::stdout(),
            limit,
            error: None,
            line: Vec::new(),
            received: 0,
            formatted: 0,
            surplus: 0,
            unmatched: 0,
            tables_done: false,
        }
    }

    /// In which format.
    pub fn format(&self) -> Format {
        self.format
    }

    /// Writes the header for people; nothing in JSON.
    pub fn header(&mut self) {
        self.say(&self.layout.header());
    }

    /// Says what each column means (`--explain`).
    pub fn explain(&mut self) {
        for line in self.layout.explanation() {
            self.say(line.as_bytes());
        }
    }

    /// Writes a line for people that stands for no event; nothing in JSON.
    pub fn say(&mut self, line: &[u8]) {
        if self.format == Format::Text {
            self.sink.push(line, 0);
            self.flush();
        }
    }

    /// Writes an event that came from the kernel, unless there were enough already.
    pub fn event(&mut self, row: &dyn Row) {
        self.received += 1;
        if self
            .limit
            .is_some_and(|limit| self.formatted >= limit.get())
        {
            self.surplus += 1;
            return;
        }
        self.formatted += 1;
        self.row(row, 1);
    }

    /// Takes note of an event that came from the kernel for what it tells of others, and
    /// is not to be printed itself.
    pub fn pass(&mut self) {
        self.received += 1;
        self.surplus += 1;
    }

    /// Writes a row that stands for `events` events.
    pub fn row(&mut self, row: &dyn Row, events: u64) {
        self.line.clear();
        match self.format {
            Format::Text => row.text(&self.layout, &mut self.line),
            Format::Json => {
                let mut object = Object::new(&mut self.line);
                object.str("type", row.kind());
                row.json(&mut object);
                object.end();
            }
        }
        self.sink.push(&self.line, events);
        if self.sink.is_large() {
            self.flush();
        }
    }

    /// Writes what waits. After a failure nothing more is written, only counted.
    pub fn flush(&mut self) {
        if let Err(error) = self.sink.flush()
            && self.error.is_none()
        {
            self.error = Some(error);
        }
    }

    /// Is there a reason to stop: enough events, or nowhere to write to?
    pub fn is_done(&self) -> bool {
        self.error.is_some() || self.is_full()
    }

    /// Have `--count` events been written?
    pub fn is_full(&self) -> bool {
        self.tables_done
            || self
                .limit
                .is_some_and(|limit| self.formatted >= limit.get())
    }

    /// Events whose lines could not be written.
    pub fn write_errors(&self) -> u64 {
        self.sink.lost()
    }

    /// Events whose lines were written.
    pub fn printed(&self) -> u64 {
        self.sink.written()
    }

    /// The error that ended the output; a closed pipe is none, its reader had enough.
    pub fn take_failure(&mut self) -> Option<io::Error> {
        self.error
            .take()
            .filter(|error| error.kind() != io::ErrorKind::BrokenPipe)
    }
}
