// SPDX-License-Identifier: BSD-2-Clause
//! The command line: what can be said, which mode takes it, what is refused.
//!
//! Knows modes by name only; what they are arrives as a list of [`ModeInfo`].

mod args;
mod values;

use std::ffi::OsString;
use std::fmt;

use clap::ArgMatches;
use clap::CommandFactory as _;
use clap::FromArgMatches as _;
use clap::builder::PossibleValue;
use clap::builder::PossibleValuesParser;
use clap::error::ContextKind;
use clap::error::ContextValue;
use clap::error::ErrorKind;
use clap::parser::ValueSource;

pub use crate::output::Format;
use crate::output::columns::Column;
pub use args::Args;
pub use values::Attach;
pub use values::Axis;
pub use values::ContainerPrefix;
pub use values::Hook;
pub use values::Life;
pub use values::Time;
pub use values::TransportChoice;

/// What the command line has to know of a mode.
#[derive(Debug)]
pub struct ModeInfo {
    /// Its name, the stem of its files and the prefix of its programs and maps.
    pub name: &'static str,
    /// One line for `--help` and `--list`.
    pub about: &'static str,
    /// The hooks it can use, in the order in which `--attach auto` tries them.
    pub hooks: &'static [Hook],
    /// Long names of the options it takes beside those that all modes take.
    pub options: &'static [&'static str],
    /// The columns that its text can have.
    pub columns: &'static [&'static [Column]],
    /// Those that it has unless `--columns` says otherwise.
    pub shown: &'static [&'static str],
}

impl ModeInfo {
    fn has_column(&self, name: &str) -> bool {
        let mut columns = self.columns.iter().copied().flatten();
        columns.any(|column| column.name == name)
    }
}

/// Options that are not for every mode; each mode lists those it takes.
const SPECIAL: &[&str] = &[
    "syscalls",
    "path",
    "exclude-path",
    "failed",
    "latency",
    "event",
    "failed-exits",
    "env",
    "interval",
    "by",
    "top",
    "histogram",
    "cumulative",
    "max-entries",
    "max-cpu",
    "message",
    "transport",
    "rings",
    "buffer-size",
    "pin",
];

/// What `--list` goes together with; `--output` has a word of its own for it.
const WITH_LIST: &[&str] = &["list", "btf", "verbose", "version", "output"];

/// Columns that stay empty without an option.
const COLUMNS_OF: &[(&str, &str)] = &[("LATENCY", "latency"), ("ENV", "env")];

/// A mistake in what was asked for, not in carrying it out: exit status 2.
#[derive(Debug)]
pub struct UsageError(pub String);

impl fmt::Display for UsageError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for UsageError {}

/// What is to be done.
#[derive(Debug)]
pub enum Parsed {
    /// Carry this out.
    Run(Box<Args>),
    /// Print this on standard output and be done (`--help`).
    Say(String),
}

/// The command with what the modes are filled in: their names, and at each option
/// that is not for all of them those that take it.
pub fn command(modes: &[ModeInfo]) -> clap::Command {
    let values: Vec<PossibleValue> = modes
        .iter()
        .map(|mode| PossibleValue::new(mode.name).help(mode.about))
        .collect();
    let command = Args::command().mut_arg("mode", |arg| {
        arg.value_parser(PossibleValuesParser::new(values))
    });
    let no_use: Vec<_> = command
        .get_arguments()
        .map(|arg| arg.get_id().clone())
        .filter(|id| !WITH_LIST.contains(&id.as_str()))
        .collect();
    let command = command.mut_arg("list", |arg| arg.conflicts_with_all(no_use));
    SPECIAL.iter().fold(command, |command, option| {
        command.mut_arg(option.replace('-', "_"), |arg| {
            let help = arg.get_help().map(ToString::to_string).unwrap_or_default();
            arg.help(format!("{help} ({})", takers(modes, option)))
        })
    })
}

/// Names of the modes that take an option.
fn takers(modes: &[ModeInfo], option: &str) -> String {
    let takers: Vec<_> = modes
        .iter()
        .filter(|mode| mode.options.contains(&option))
        .map(|mode| mode.name)
        .collect();
    takers.join(", ")
}

/// Reads the command line.
///
/// # Errors
/// A [`UsageError`] that says in one or two lines what is wrong with it.
pub fn parse(
    modes: &[ModeInfo],
    words: impl IntoIterator<Item = OsString>,
) -> Result<Parsed, UsageError> {
    let words: Vec<_> = words.into_iter().collect();
    let names_mode = words.iter().take_while(|word| *word != "--").any(|word| {
        let word = word.to_string_lossy();
        word == "--mode" || word.starts_with("--mode=")
    });
    let ends_with_dashes = words.last().is_some_and(|word| word == "--");
    let matches = match command(modes).try_get_matches_from(words) {
        Ok(matches) => matches,
        Err(error) if !error.use_stderr() => return Ok(Parsed::Say(error.render().to_string())),
        Err(error) => {
            let wanted = if names_mode { &[] } else { modes };
            let complaint = complaint(wanted, &error);
            return Err(UsageError(format!("{complaint}\n{HINT}")));
        }
    };
    let args = Args::from_arg_matches(&matches)
        .map_err(|error| UsageError(format!("{}\n{HINT}", first(&error))))?;
    // `-- $COMMAND` with an empty variable would trace the whole machine.
    if ends_with_dashes && args.command.is_empty() {
        return Err(UsageError(format!("no COMMAND after --\n{HINT}")));
    }
    if args.list && args.output == Format::Json {
        return Err(UsageError("--list prints text only".into()));
    }
    if args.output == Format::Json && (args.explain || !args.columns.is_empty()) {
        return Err(UsageError(
            "--columns and --explain are for text; JSON has all fields, docs/json.md explains them"
                .into(),
        ));
    }
    if args.names_column("TIME") && args.time == Some(Time::None) {
        return Err(UsageError(
            "--columns TIME is empty with --time none; leave one of them out".into(),
        ));
    }
    if let Some(mode) = modes
        .iter()
        .find(|mode| Some(mode.name) == args.mode.as_deref())
    {
        check(modes, mode, &args, &matches)?;
    }
    Ok(Parsed::Run(Box::new(args)))
}

/// Does what was asked for fit the mode, and each other?
fn check(
    modes: &[ModeInfo],
    mode: &ModeInfo,
    args: &Args,
    matches: &ArgMatches,
) -> Result<(), UsageError> {
    let is_given = |option: &str| {
        let source = matches.value_source(&option.replace('-', "_"));
        source == Some(ValueSource::CommandLine)
    };
    let takes = |option| mode.options.contains(option);
    if let Some(option) = SPECIAL
        .iter()
        .find(|option| is_given(option) && !takes(option))
    {
        return Err(not_for(modes, mode, option));
    }
    let columns = COLUMNS_OF.iter();
    for (column, option) in columns.filter(|(column, _)| mode.has_column(column)) {
        let is_shown = args.names_column(column);
        if is_shown && takes(option) && !is_given(option) {
            return Err(UsageError(format!(
                "--columns {column} is empty without --{option}; add it"
            )));
        }
        if !is_shown && !args.columns.is_empty() && is_given(option) {
            return Err(UsageError(format!(
                "--{option} is told in the column {column}, which --columns leaves out"
            )));
        }
    }
    if !args.command.is_empty() && args.interval.is_none() && takes(&"interval") {
        let tables = [
            ("--cumulative", args.cumulative),
            ("--count", args.count.is_some_and(|count| count.get() > 1)),
        ];
        if let Some((option, _)) = tables.iter().find(|(_, is_given)| *is_given) {
            return Err(UsageError(format!(
                "{option} is of several tables, and with COMMAND there is one, at its end; add --interval"
            )));
        }
    }
    if args.rings.is_some() && args.transport == TransportChoice::Perf {
        return Err(UsageError(
            "--rings is of ring buffers; each CPU has a perf buffer of its own anyway".into(),
        ));
    }
    match args.attach {
        Attach::Only(hook) if !mode.hooks.contains(&hook) => {
            let hooks: Vec<_> = mode.hooks.iter().map(|hook| hook.name()).collect();
            Err(UsageError(format!(
                "--attach {hook} is nothing that --mode {} can use; it has: {}",
                mode.name,
                hooks.join(", ")
            )))
        }
        _ => Ok(()),
    }
}

fn not_for(modes: &[ModeInfo], mode: &ModeInfo, option: &str) -> UsageError {
    UsageError(format!(
        "--{option} has no use in --mode {}; it is for: {}",
        mode.name,
        takers(modes, option)
    ))
}

/// Below a complaint about the command line.
const HINT: &str = "try 'hello --help'";

/// What is wrong with the command line; one of `modes` is yet to be named. clap would have
/// what it does not know, be it a mistyped option, written after `--`, where it would be a
/// COMMAND that is run.
fn complaint(modes: &[ModeInfo], error: &clap::Error) -> String {
    let value = |kind| match error.get(kind) {
        Some(ContextValue::String(value)) => Some(value.as_str()),
        _ => None,
    };
    let word = value(ContextKind::InvalidArg);
    match (error.kind(), word) {
        (ErrorKind::MissingRequiredArgument, _)
            if !modes.is_empty() && first(error).contains("--mode") =>
        {
            let names: Vec<_> = modes.iter().map(|mode| mode.name).collect();
            format!("{} [MODE: {}]", first(error), names.join(", "))
        }
        (ErrorKind::UnknownArgument, Some(word)) if modes.iter().any(|mode| mode.name == word) => {
            format!("unexpected argument '{word}'; did you mean --mode {word}?")
        }
        (ErrorKind::UnknownArgument, Some(word)) if !word.starts_with('-') => {
            format!(
                "unexpected argument '{word}'; a COMMAND to trace comes last, after --, and lists have commas without spaces"
            )
        }
        (ErrorKind::UnknownArgument, Some(word)) => {
            let near = value(ContextKind::SuggestedArg);
            let tip = near.map_or_else(String::new, |near| format!("; did you mean {near}?"));
            format!("no option '{word}'{tip}")
        }
        _ => first(error),
    }
}

/// clap's message without its usage block: what is wrong and its tip, nothing else.
fn first(error: &clap::Error) -> String {
    let text = error.render().to_string();
    let lines: Vec<&str> = text
        .lines()
        .map(str::trim)
        .take_while(|line| !line.starts_with("Usage:"))
        .filter(|line| !line.is_empty() && !line.starts_with("For more information"))
        .collect();
    let mut text = lines.join(" ");
    if let Some(rest) = text.strip_prefix("error: ") {
        text = rest.to_owned();
    }
    text
}

#[cfg(test)]
mod tests;
