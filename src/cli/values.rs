// SPDX-License-Identifier: BSD-2-Clause
//! What the options' values can be, and how they are read.

use std::fmt;
use std::num::IntErrorKind;
use std::time::Duration;

use clap::ValueEnum;
use clap::builder::PossibleValue;

use crate::output::Format;

/// Where in the kernel a mode's programs are attached.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Hook {
    /// A breakpoint on a kernel function.
    Kprobe,
    /// A trampoline at a kernel function (BPF_PROG_TYPE_TRACING).
    Fentry,
    /// A classic tracepoint, through tracefs and perf.
    Tracepoint,
    /// A raw tracepoint: the tracepoint's own arguments, no tracefs.
    RawTp,
}

impl Hook {
    /// As `--attach` spells it, and as the suffix of a program's name.
    pub fn name(self) -> &'static str {
        match self {
            Self::Kprobe => "kprobe",
            Self::Fentry => "fentry",
            Self::Tracepoint => "tracepoint",
            Self::RawTp => "raw_tp",
        }
    }
}

impl fmt::Display for Hook {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// `--attach`: one hook, or the first of the mode's that works.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Attach {
    /// The first that works.
    Auto,
    /// This one or none.
    Only(Hook),
}

impl ValueEnum for Attach {
    fn value_variants<'a>() -> &'a [Self] {
        &[
            Self::Auto,
            Self::Only(Hook::Kprobe),
            Self::Only(Hook::Fentry),
            Self::Only(Hook::Tracepoint),
            Self::Only(Hook::RawTp),
        ]
    }

    fn to_possible_value(&self) -> Option<PossibleValue> {
        Some(PossibleValue::new(match self {
            Self::Auto => "auto",
            Self::Only(hook) => hook.name(),
        }))
    }
}

/// `--transport`: how events reach user space.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum TransportChoice {
    /// The ring buffer where the kernel has it (Linux 5.8), else the perf buffer.
    Auto,
    /// A ring buffer for all CPUs, or several (--rings).
    Ring,
    /// A perf buffer for each CPU.
    Perf,
}

/// `--output`.
impl ValueEnum for Format {
    fn value_variants<'a>() -> &'a [Self] {
        &[Self::Text, Self::Json]
    }

    fn to_possible_value(&self) -> Option<PossibleValue> {
        Some(match self {
            Self::Text => PossibleValue::new("text").help("Columns for people"),
            Self::Json => PossibleValue::new("json").help("One object a line for programs"),
        })
    }
}

/// `--time`: how time is told.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Time {
    /// Time of day, UTC.
    Wall,
    /// Seconds since boot without suspend (CLOCK_MONOTONIC).
    Mono,
    /// Seconds since the line before.
    Delta,
    /// Not at all.
    None,
}

/// `--event`: what in the life of a program.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Life {
    /// A program was run.
    Exec,
    /// A program could not be run.
    Failed,
    /// A process has ended.
    Exit,
}

/// `--by`: what a counter stands for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, ValueEnum)]
pub enum Axis {
    /// System call and the ABI it was made by.
    Syscall,
    /// Real user id.
    Uid,
    /// Process (thread group) id.
    Pid,
    /// Command name of the thread.
    Comm,
    /// Container id.
    Container,
    /// Control group (version 2).
    Cgroup,
    /// Error that the call returned (syscount).
    Errno,
}

/// A thread's name as the kernel keeps it: 1 to 15 bytes (TASK_COMM_LEN, proc(5)).
pub(super) fn parse_comm(text: &str) -> Result<String, String> {
    match text.len() {
        0 => Err("a command name is not empty".into()),
        1..=15 => Ok(text.to_owned()),
        _ => Err(format!(
            "the kernel keeps 15 bytes of a command's name: use {:?}",
            text.char_indices()
                .take_while(|(at, char)| at + char.len_utf8() <= 15)
                .map(|(_, char)| char)
                .collect::<String>()
        )),
    }
}

/// A name that a variable of the environment can have.
pub(super) fn parse_variable(text: &str) -> Result<String, String> {
    let is_fit = |byte: u8| byte.is_ascii_graphic() && !b"=\"\\*?[]".contains(&byte);
    if text.is_empty() || !text.bytes().all(is_fit) {
        return Err("the name of a variable has letters, digits and _; no patterns".into());
    }
    Ok(text.to_owned())
}

/// A number from 1 on.
pub(super) fn parse_number<N: TryFrom<u64>>(text: &str) -> Result<N, String> {
    let number = match text.parse::<u64>() {
        Ok(number @ 1..) => N::try_from(number).ok(),
        Err(error) if *error.kind() == IntErrorKind::PosOverflow => None,
        _ => return Err("a number from 1 on is wanted".into()),
    };
    number.ok_or_else(|| "the number is too large".into())
}

/// `10` (seconds), `500ms`, `2m`, `1h30m`.
pub(super) fn parse_time(text: &str) -> Result<Duration, String> {
    let time = match text.parse::<f64>() {
        Ok(seconds) if seconds > 0.0 => {
            Duration::try_from_secs_f64(seconds).unwrap_or(Duration::MAX)
        }
        Ok(_) => Duration::ZERO,
        Err(_) => humantime::parse_duration(text)
            .map_err(|_| "a time is a number of seconds or e.g. 500ms, 2m, 1h30m".to_owned())?,
    };
    if time.is_zero() {
        return Err("a time is more than zero".into());
    }
    if time > Duration::from_secs(100 * 365 * 86_400) {
        return Err("a time is at most a hundred years".into());
    }
    Ok(time)
}

/// `0.5`, `3`, `3%`.
pub(super) fn parse_percent(text: &str) -> Result<f64, String> {
    let number = text.strip_suffix('%').unwrap_or(text).trim_end();
    match number.parse() {
        Ok(percent) if (0.01..=100_000.0).contains(&percent) => Ok(percent),
        _ => Err("a share of one CPU, such as 0.5 or 3".into()),
    }
}

/// `4096`, `64K`, `4M`, `1G`, each with or without `B` or `iB`; rounded up to a
/// power of two of at least one page.
pub(super) fn parse_size(text: &str) -> Result<u32, String> {
    let upper = text.to_ascii_uppercase();
    let bare = upper
        .strip_suffix("IB")
        .or_else(|| upper.strip_suffix('B'))
        .unwrap_or(&upper);
    let (digits, factor) = match bare.chars().last() {
        Some('K') => (&bare[..bare.len() - 1], 1 << 10),
        Some('M') => (&bare[..bare.len() - 1], 1 << 20),
        Some('G') => (&bare[..bare.len() - 1], 1 << 30),
        _ => (bare, 1),
    };
    let bytes = digits
        .parse::<u64>()
        .ok()
        .and_then(|number| number.checked_mul(factor))
        .ok_or("a size is a number of bytes or e.g. 64K, 4M")?;
    if bytes == 0 || bytes > 1 << 30 {
        return Err("a buffer has between 1 byte and 1G".into());
    }
    Ok(u32::try_from(bytes.next_power_of_two())
        .unwrap_or(1 << 30)
        .max(4096))
}

/// Bytes of a container's id: 64 hexadecimal digits.
const CONTAINER_BYTES: usize = 32;

/// The bytes of an id, and which of their bits were given.
pub type ContainerPrefix = ([u8; CONTAINER_BYTES], [u8; CONTAINER_BYTES]);

/// What `--container` names: the bytes of an id, and which of their bits were given.
///
/// # Errors
/// Not between 1 and 64 hexadecimal digits.
pub(super) fn parse_container(text: &str) -> Result<ContainerPrefix, String> {
    let mut id = [0; CONTAINER_BYTES];
    let mut mask = [0; CONTAINER_BYTES];
    if text.is_empty() || text.len() > 2 * CONTAINER_BYTES {
        return Err("a container id has between 1 and 64 hexadecimal digits".into());
    }
    for (at, digit) in text.chars().enumerate() {
        let value = digit
            .to_digit(16)
            .and_then(|value| u8::try_from(value).ok());
        let value = value
            .ok_or("a container id is hexadecimal: give the beginning of the id, not a name")?;
        let shift = if at % 2 == 0 { 4 } else { 0 };
        id[at / 2] |= value << shift;
        mask[at / 2] |= 15 << shift;
    }
    Ok((id, mask))
}
