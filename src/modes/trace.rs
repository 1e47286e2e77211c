// SPDX-License-Identifier: BSD-2-Clause
//! trace: "Hello World!" through the kernel's trace pipe at every execve. Kernel
//! side: src/bpf/trace.bpf.c; the pipe itself: src/tracepipe.rs.

use std::cell::RefCell;
use std::io::Write as _;
use std::os::fd::AsFd as _;
use std::os::fd::BorrowedFd;

use anyhow::Result;

use crate::cli::Hook;
use crate::cli::ModeInfo;
use crate::enrich::escape::escape;
use crate::enrich::host::Host;
use crate::enrich::host::TIME;
use crate::enrich::host::When;
use crate::enrich::syscalls;
use crate::output::Output;
use crate::output::Row;
use crate::output::columns::Column;
use crate::output::json::Object;
use crate::preflight;
use crate::session;
use crate::session::Context;
use crate::session::Report;
use crate::session::Session;
use crate::session::Setup;
use crate::session::Source;
use crate::tracepipe::Line;
use crate::tracepipe::TracePipe;

skeleton!("trace");

/// What the command line has to know.
pub const INFO: ModeInfo = ModeInfo {
    name: "trace",
    about: "\"Hello World!\" in the kernel's trace pipe at every execve",
    hooks: &[Hook::Kprobe, Hook::Fentry, Hook::RawTp, Hook::Tracepoint],
    options: &[],
    columns: &[&[TIME], COLUMNS],
    shown: &["LINE"],
};

/// The pipe knows less of who it was than other modes do.
const COLUMNS: &[Column] = &[
    Column::number("TID", 7, "thread id"),
    Column::text(
        "COMM",
        15,
        "name of the thread when the line is read, at most 15 bytes",
    ),
    Column::number("CPU", 3, "number of the CPU"),
    Column::text("MESSAGE", 0, "what the program printed"),
    Column::text(
        "LINE",
        0,
        "the whole line, as the kernel's trace pipe has it",
    ),
];

/// Runs the mode.
///
/// # Errors
/// No tracefs; what [`Session`] says.
pub fn run(cx: &mut Context) -> Result<Report> {
    // Before tracefs, which says less about what a user lacks.
    preflight::check(&cx.args)?;
    let pipe = TracePipe::open()?;
    let mut setup = Setup::at(&INFO, syscalls::execs());
    setup.config.tag = pipe.tag();
    let source = RefCell::new(Trace {
        pipe,
        host: Host::new(cx.users.clone(), &cx.args),
        explain: cx.args.explain,
        output: Output::new(cx.args.output, cx.layout.clone(), cx.args.count),
    });
    let mut storage = session::storage();
    Session::start(
        cx,
        &setup,
        &mut storage,
        skel::TraceSkelBuilder::default,
        |_: &skel::TraceSkel<'_>| Ok(()),
        &source,
    )?
    .run(cx)
}

struct Trace {
    pipe: TracePipe,
    host: Host,
    explain: bool,
    output: Output,
}

impl Source for Trace {
    fn output(&mut self) -> &mut Output {
        &mut self.output
    }

    fn begin(&mut self) {
        if self.explain {
            self.output.explain();
        }
        // The book's program prints the pipe as it is.
        if self.explain || self.output.layout.header() != b"LINE" {
            self.output.header();
        }
    }

    fn woke(&mut self) {
        self.host.clock.refresh();
    }

    fn fd(&self) -> Option<BorrowedFd<'_>> {
        Some(self.pipe.as_fd())
    }

    fn ready(&mut self) -> Result<()> {
        while let Some(line) = self.pipe.next_line()? {
            let when = match line.ktime {
                Some(ktime) => self.host.at(ktime),
                None => self.host.now(),
            };
            self.output.event(&TraceRow { line, when });
        }
        Ok(())
    }

    fn overwritten(&self, emitted: u64) -> u64 {
        // The one pipe of the machine may be read by others too: what did not come
        // is lost, wherever it went.
        self.pipe
            .overwritten()
            .unwrap_or(emitted - self.output.received.min(emitted))
    }
}

struct TraceRow {
    line: Line,
    when: When,
}

impl Row for TraceRow {
    fn kind(&self) -> &'static str {
        "trace"
    }

    fn cell(&self, column: &str, cell: &mut Vec<u8>) {
        let _ = match column {
            "TIME" => {
                self.when.cell(cell);
                Ok(())
            }
            "TID" => write!(cell, "{}", self.line.tid),
            "CPU" => write!(cell, "{}", self.line.cpu),
            "COMM" => {
                escape(cell, &self.line.comm);
                Ok(())
            }
            "MESSAGE" => {
                escape(cell, &self.line.message);
                Ok(())
            }
            _ => {
                escape(cell, &self.line.text);
                Ok(())
            }
        };
    }

    fn json(&self, object: &mut Object<'_>) {
        self.when.json(object);
        object.num("tid", self.line.tid);
        object.bytes("comm", &self.line.comm);
        object.num("cpu", self.line.cpu);
        object.bytes("message", &self.line.message);
    }
}
