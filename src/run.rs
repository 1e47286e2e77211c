// SPDX-License-Identifier: BSD-2-Clause
//! One run from the parsed command line to the exit status.

use std::io::Write as _;

use anyhow::Context as _;
use anyhow::Result;
use anyhow::bail;

use crate::cli::Args;
use crate::cli::ModeInfo;
use crate::cli::UsageError;
use crate::command::Command;
use crate::command::CommandError;
use crate::enrich::users::Users;
use crate::list;
use crate::modes::MODES;
use crate::modes::Mode;
use crate::output;
use crate::output::Format;
use crate::output::Output;
use crate::output::columns::Layout;
use crate::select::Select;
use crate::session;
use crate::session::Context;
use crate::session::Report;
use crate::session::Stop;

/// Done.
pub const OK: u8 = 0;
/// hello failed.
pub const FAILED: u8 = 1;
/// Wrong usage.
pub const USAGE: u8 = 2;
/// Something was lost, under `--strict`.
pub const LOST: u8 = 3;
/// With COMMAND: hello failed, COMMAND did not run to its end under its eyes.
pub const FAILED_WITH_COMMAND: u8 = 125;

/// What the command line has to know of the modes.
pub fn mode_infos() -> Vec<ModeInfo> {
    MODES.iter().map(|mode| ModeInfo { ..*mode.info }).collect()
}

/// `hello 0.1.0 (libbpf 1.7, git 0123456789ab)`.
pub fn version() -> String {
    let libbpf = session::libbpf_version();
    let libbpf = libbpf.trim_start_matches('v');
    match option_env!("HELLO_GIT_REVISION") {
        Some(git) => format!(
            "hello {} (libbpf {libbpf}, git {git})",
            env!("CARGO_PKG_VERSION")
        ),
        None => format!("hello {} (libbpf {libbpf})", env!("CARGO_PKG_VERSION")),
    }
}

/// Writes a text to standard output. A closed pipe is no failure.
pub fn say(text: &str) -> u8 {
    let mut out = std::io::stdout().lock();
    match out.write_all(text.as_bytes()).and_then(|()| out.flush()) {
        Err(error) if error.kind() != std::io::ErrorKind::BrokenPipe => {
            crate::say!("hello: cannot write standard output: {error}");
            FAILED
        }
        _ => OK,
    }
}

/// Carries the command line out and says on standard error what went wrong.
pub fn run(args: Args) -> u8 {
    let with_command = !args.command.is_empty();
    match try_run(args) {
        Ok(status) => status,
        Err(error) => {
            crate::say!("hello: {error:#}");
            if let Some(CommandError(_, status)) = error.downcast_ref() {
                *status
            } else if error.is::<UsageError>() {
                USAGE
            } else if with_command {
                FAILED_WITH_COMMAND
            } else {
                FAILED
            }
        }
    }
}

fn try_run(args: Args) -> Result<u8> {
    session::listen(args.verbose);
    if args.list {
        return Ok(say(&list::list(args.btf.as_deref())?));
    }
    let name = args.mode.as_deref().context("no --mode")?;
    let mode = Mode::named(name).with_context(|| format!("no mode {name}"))?;
    let users = Users::of_this_host();
    // Forks: before anything starts a thread.
    let command = match args.command.as_slice() {
        [] => None,
        words => Some(Command::hold(words, &users, args.output == Format::Json)?),
    };
    let layout = match args.layout(mode.info.columns, mode.info.shown) {
        // Which columns a table has depends on more than the mode, which will say it.
        Err(_) if mode.counts() => Layout::default(),
        layout => layout?,
    };
    let select = Select::resolve(&args, &users, command.as_ref().map(Command::pid))?;
    let mut stop = Stop::install()?;
    if command.is_some() {
        stop.ignore_interrupt();
    }
    output::sink::give_up_after(stop.counter());
    let mut cx = Context {
        args,
        users,
        select,
        layout,
        command,
        stop,
    };
    let result = mode.run(&mut cx).map(|report| close(&cx, mode, report));
    if !cx.command.as_ref().is_some_and(Command::was_released) {
        return result;
    }
    // Tracing may have ended before COMMAND: --duration, --count, a closed pipe, a failure.
    if let Err(error) = &result {
        crate::say!("hello: {error:#}");
    }
    match (result, session::outlast(&mut cx)) {
        (Ok(LOST), Some(_)) => Ok(LOST),
        (Ok(OK), Some(own)) => Ok(own),
        (_, Some(_)) => Ok(FAILED_WITH_COMMAND),
        (_, None) => {
            let name = cx.command.as_ref().map_or("COMMAND", Command::name);
            bail!("{name} goes on without hello")
        }
    }
}

/// Says the ledger, on standard error and as JSON's last line.
fn close(cx: &Context, mode: &Mode, report: Report) -> u8 {
    let Report {
        ledger,
        mut write_failure,
    } = report;
    crate::say!("{}", ledger.closing_line(mode.counts()));
    if cx.args.output == Format::Json && write_failure.is_none() {
        let mut output = Output::new(Format::Json, Layout::default(), None);
        output.row(&ledger, 0);
        output.flush();
        write_failure = output.take_failure();
    }
    if let Some(error) = write_failure {
        crate::say!("hello: cannot write standard output: {error}");
        return FAILED;
    }
    if !ledger.balances() {
        return FAILED;
    }
    if cx.args.strict && ledger.lost.total() > 0 {
        LOST
    } else {
        OK
    }
}
