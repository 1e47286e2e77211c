// SPDX-License-Identifier: BSD-2-Clause
//! The options, one field each, in the order of `--help`.

use std::ffi::OsString;
use std::num::NonZeroU64;
use std::path::PathBuf;
use std::time::Duration;

use clap::Parser;

use super::UsageError;
use super::values::Attach;
use super::values::Axis;
use super::values::ContainerPrefix;
use super::values::Life;
use super::values::Time;
use super::values::TransportChoice;
use super::values::parse_comm;
use super::values::parse_container;
use super::values::parse_number;
use super::values::parse_percent;
use super::values::parse_size;
use super::values::parse_time;
use super::values::parse_variable;
use crate::output::Format;
use crate::output::columns::Column;
use crate::output::columns::Layout;

/// See what happens at the system-call boundary of this host: programs run,
/// files opened, system calls made, with an account of every event lost.
#[derive(Debug, Parser)]
#[command(
    name = "hello",
    disable_version_flag = true,
    max_term_width = 100,
    after_help = "Examples:\n  \
        sudo ./hello --mode buffer               every execve: pid, uid, command, message\n  \
        sudo ./hello --mode file -- ls           the files that ls opens\n  \
        sudo ./hello --mode syscount --by uid    system calls per user, every 2 seconds\n  \
        sudo ./hello --mode syscount -p 1 -d 10  what process 1 calls in 10 seconds\n\n\
        Exit status: 0 done, 1 failed, 2 wrong usage, 3 lost events under --strict.\n\
        With COMMAND: its own status, 128+signal if one killed it, 125 hello failed,\n\
        126 COMMAND not executable, 127 COMMAND not found."
)]
pub struct Args {
    /// What to show
    #[arg(long, value_name = "MODE", required_unless_present_any = ["list", "version"])]
    pub mode: Option<String>,

    /// Only these processes
    #[arg(short, long, value_name = "PID,…", value_delimiter = ',', help_heading = "Selection",
          value_parser = parse_number::<u32>, allow_negative_numbers = true, conflicts_with = "command")]
    pub pid: Vec<u32>,

    /// Only these users, by name or number
    #[arg(
        short,
        long,
        value_name = "USER,…",
        value_delimiter = ',',
        help_heading = "Selection"
    )]
    pub uid: Vec<String>,

    /// Only these commands: the thread's name, of a process that ends its first thread's; at most
    /// 15 bytes, exact
    #[arg(short, long, value_name = "NAME,…", value_delimiter = ',', help_heading = "Selection",
          value_parser = parse_comm)]
    pub comm: Vec<String>,

    /// Only this control group (version 2) and all below it
    #[arg(long, value_name = "PATH", help_heading = "Selection")]
    pub cgroup: Option<PathBuf>,

    /// Only this container: the beginning of its id, as docker, podman or crictl show it
    #[arg(long, value_name = "ID-PREFIX", help_heading = "Selection", value_parser = parse_container)]
    pub container: Option<ContainerPrefix>,

    /// With --pid: their descendants too, from now on
    #[arg(short, long, help_heading = "Selection", requires = "pid")]
    pub follow: bool,

    /// Only these system calls, by name or number
    #[arg(
        long,
        value_name = "LIST",
        value_delimiter = ',',
        help_heading = "Selection"
    )]
    pub syscalls: Vec<String>,

    /// Only paths below this one, absolute as the process sees them (a relative one begins where hello
    /// was started); `..` in the path of an open that failed is not resolved; repeatable
    #[arg(long, value_name = "PREFIX", help_heading = "Selection")]
    pub path: Vec<PathBuf>,

    /// No paths below this one; repeatable
    #[arg(long, value_name = "PREFIX", help_heading = "Selection")]
    pub exclude_path: Vec<PathBuf>,

    /// Only what failed
    #[arg(short = 'x', long, help_heading = "Selection")]
    pub failed: bool,

    /// Only these events: programs run, those that could not be, processes that ended
    #[arg(
        long,
        value_name = "KIND,…",
        value_delimiter = ',',
        help_heading = "Selection",
        conflicts_with_all = ["failed", "failed_exits"]
    )]
    pub event: Vec<Life>,

    /// Only ends by a status other than 0 or by a signal
    #[arg(long, help_heading = "Selection", conflicts_with = "failed")]
    pub failed_exits: bool,

    /// Stop after TIME (10, 500ms, 2m)
    #[arg(short, long, value_name = "TIME", value_parser = parse_time, allow_negative_numbers = true, help_heading = "When to stop")]
    pub duration: Option<Duration>,

    /// Stop after N events, or N tables
    #[arg(short = 'n', long, value_name = "N", help_heading = "When to stop",
          value_parser = parse_number::<NonZeroU64>, allow_negative_numbers = true)]
    pub count: Option<NonZeroU64>,

    /// How often a table is printed [default: 2s; with COMMAND once, at its end]
    #[arg(short, long, value_name = "TIME", value_parser = parse_time, allow_negative_numbers = true, help_heading = "Tables")]
    pub interval: Option<Duration>,

    /// What to count by, any combination
    #[arg(
        long,
        value_name = "KEYS",
        value_delimiter = ',',
        help_heading = "Tables"
    )]
    pub by: Vec<Axis>,

    /// Only the N largest rows
    #[arg(long, value_name = "N", help_heading = "Tables", value_parser = parse_number::<NonZeroU64>, allow_negative_numbers = true)]
    pub top: Option<NonZeroU64>,

    /// Time each call: total, mean, p50, p99, max; the largest rows are then those of most time
    #[arg(long, help_heading = "Tables")]
    pub latency: bool,

    /// How the times of these calls are spread; with --latency, and only these calls unless
    /// --syscalls names more
    #[arg(
        long,
        value_name = "SYSCALL,…",
        value_delimiter = ',',
        help_heading = "Tables"
    )]
    pub histogram: Vec<String>,

    /// Each table has all since the start, not what came since the last table; so it is with --pin
    #[arg(long, help_heading = "Tables")]
    pub cumulative: bool,

    /// Room for N keys in the kernel's table; calls that find none are counted as lost
    /// [default: 65536, or what fits into 64 MiB]
    #[arg(long, value_name = "N", help_heading = "Tables",
          value_parser = clap::value_parser!(u32).range(1..=16_777_216), allow_negative_numbers = true)]
    pub max_entries: Option<u32>,

    /// Let the programs in the kernel take about so much of one CPU: over it calls are no longer
    /// timed, then 1 in N is counted and counts are estimates; each change is said
    #[arg(long, value_name = "PERCENT", help_heading = "Tables", value_parser = parse_percent, allow_negative_numbers = true)]
    pub max_cpu: Option<f64>,

    /// With these variables of the environment
    #[arg(long, value_name = "NAME,…", value_delimiter = ',', help_heading = "Output",
          value_parser = parse_variable)]
    pub env: Vec<String>,

    /// Keep the counters in DIR (in a bpffs) and go on from them next time; for one hello at a time
    #[arg(long, value_name = "DIR", help_heading = "Tables")]
    pub pin: Option<PathBuf>,

    /// The message; WHO is a user, `odd` or `even` (process id); repeatable
    #[arg(long, value_name = "[WHO=]TEXT", help_heading = "Output")]
    pub message: Vec<String>,

    /// Text for people, or one JSON object a line, with COMMAND's output on standard error
    #[arg(
        short,
        long,
        value_name = "FORMAT",
        default_value = "text",
        help_heading = "Output"
    )]
    pub output: Format,

    /// Tell the time: of day (UTC), since boot, since the line before, or not at all
    /// [default: none in text, wall in JSON]
    #[arg(long, value_name = "CLOCK", help_heading = "Output")]
    pub time: Option<Time>,

    /// Only these columns, in this order (text); an unknown name is answered with those there are
    #[arg(
        long,
        value_name = "NAME,…",
        value_delimiter = ',',
        help_heading = "Output"
    )]
    pub columns: Vec<String>,

    /// Say what each column means, above the header (text)
    #[arg(long, help_heading = "Output")]
    pub explain: bool,

    /// Which hook; auto takes the first that works and says which
    #[arg(
        long,
        value_name = "HOOK",
        default_value = "auto",
        help_heading = "Kernel"
    )]
    pub attach: Attach,

    /// Ring buffer or perf buffer; auto is ring where the kernel has it
    #[arg(
        long,
        value_name = "BUFFER",
        default_value = "auto",
        help_heading = "Kernel"
    )]
    pub transport: TransportChoice,

    /// N ring buffers, each for a group of CPUs that would contend for one [default: 1, on
    /// machines of 32 CPUs and more one for each 16]
    #[arg(long, value_name = "N", help_heading = "Kernel",
          value_parser = clap::value_parser!(u32).range(1..=64), allow_negative_numbers = true)]
    pub rings: Option<u32>,

    /// Of each ring, or of each CPU's perf buffer (64K, 4M), rounded up to a power of two
    /// [default: rings by CPUs and memory, all at most 64M; perf 256K]
    #[arg(long, value_name = "SIZE", value_parser = parse_size, help_heading = "Kernel")]
    pub buffer_size: Option<u32>,

    /// BTF for kernels that carry none
    #[arg(long, value_name = "FILE", help_heading = "Kernel")]
    pub btf: Option<PathBuf>,

    /// What hello itself costs, on standard error, at the end and with each table: how often its
    /// programs run, how long, their size (sampled, a tenth of the time); its CPU and memory
    #[arg(long)]
    pub stats: bool,

    /// Exit with 3 if anything was lost
    #[arg(long)]
    pub strict: bool,

    /// The modes, their hooks and maps, and the fields of their tracepoints here
    #[arg(long)]
    pub list: bool,

    /// Also what libbpf and the verifier say
    #[arg(short, long)]
    pub verbose: bool,

    /// Print version
    #[arg(short = 'V', long)]
    pub version: bool,

    /// Run COMMAND and trace it and its descendants, all of it; under sudo it runs as the
    /// user who called sudo
    #[arg(last = true, value_name = "COMMAND")]
    pub command: Vec<OsString>,
}

impl Args {
    /// Is that column asked for?
    pub fn names_column(&self, column: &str) -> bool {
        self.columns
            .iter()
            .any(|name| name.eq_ignore_ascii_case(column))
    }

    /// The columns of the text: those asked for, or `shown`; with the time, if it is.
    ///
    /// # Errors
    /// There is no such column.
    pub fn layout(
        &self,
        there: &[&'static [Column]],
        shown: &[&str],
    ) -> Result<Layout, UsageError> {
        let mut names: Vec<&str> = if self.columns.is_empty() {
            shown.to_vec()
        } else {
            self.columns.iter().map(String::as_str).collect()
        };
        if self.time.is_some_and(|time| time != Time::None) && !self.names_column("TIME") {
            names.insert(0, "TIME");
        }
        Layout::choose(there, names).map_err(|error| UsageError(format!("--columns: {error}")))
    }
}
