// SPDX-License-Identifier: BSD-2-Clause
//! trace: "Hello World!" through the kernel's trace pipe at every execve. Kernel
//! side: src/bpf/trace.bpf.c; the pipe itself: src/tracepipe.rs.

use std::cell::RefCell;
use std::os::fd::AsFd as _;
use std::os::fd::BorrowedFd;

use anyhow::Result;

use crate::cli::Hook;
use crate::cli::ModeInfo;
use crate::enrich::syscalls;
use crate::enrich::time::Clock;
use crate::output::Output;
use crate::output::Row;
use crate::output::json::Object;
use crate::output::text;
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
};

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
        clock: Clock::now(),
        output: Output::new(cx.args.output, cx.args.count),
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
    clock: Clock,
    output: Output,
}

impl Source for Trace {
    fn output(&mut self) -> &mut Output {
        &mut self.output
    }

    fn woke(&mut self) {
        self.clock = Clock::now();
    }

    fn fd(&self) -> Option<BorrowedFd<'_>> {
        Some(self.pipe.as_fd())
    }

    fn ready(&mut self) -> Result<()> {
        while let Some(line) = self.pipe.next_line()? {
            self.output.event(&TraceRow {
                line,
                clock: self.clock,
            });
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
    clock: Clock,
}

impl Row for TraceRow {
    fn kind(&self) -> &'static str {
        "trace"
    }

    fn text(&self, line: &mut Vec<u8>) {
        text::last(line, &self.line.text);
    }

    fn json(&self, object: &mut Object<'_>) {
        match self.line.ktime {
            Some(ktime) => object.plain("ts", self.clock.rfc3339(ktime)),
            None => object.plain("ts", self.clock.wall()),
        }
        object.num("tid", self.line.tid);
        object.bytes("comm", &self.line.comm);
        object.num("cpu", self.line.cpu);
        object.bytes("message", &self.line.message);
    }
}
