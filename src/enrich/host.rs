// SPDX-License-Identifier: BSD-2-Clause
//! What is known of this host: its clock, its users, its control groups and containers.

use std::io::Write as _;

use super::cgroups::Cgroups;
use super::containers::Containers;
use super::escape;
use super::stamp::Stamp;
use super::stamp::Stamps;
use super::time::Clock;
use super::users::Users;
use crate::cli::Args;
use crate::cli::Time;
use crate::output::Format;
use crate::output::columns::Column;
use crate::output::decimal;
use crate::output::json::Object;
use crate::wire;
use crate::wire::types::hello_task;

/// The columns that all events have.
pub const COLUMNS: &[Column] = &[
    TIME,
    Column::number(
        "PID",
        7,
        "process (thread group) id, in the host's pid namespace",
    ),
    Column::number("TID", 7, "thread id"),
    Column::number("PPID", 7, "process id of the parent"),
    Column::number(
        "NSPID",
        7,
        "process id in its own (the innermost) pid namespace",
    ),
    Column::number("UID", 5, "real user id"),
    Column::text("USER", 10, "its name in /etc/passwd, or the number"),
    Column::number("GID", 5, "real group id"),
    Column::text("COMM", 15, "name of the thread, at most 15 bytes"),
    Column::text("PROCESS", 15, "name of the process: of its first thread"),
    Column::text(
        "CGROUP",
        20,
        "version 2 control group; ? if it is gone or not visible here",
    ),
    Column::text(
        "CONTAINER",
        12,
        "container id, its first 12 digits; - outside of containers",
    ),
];

/// When: for events and for tables.
pub const TIME: Column = Column::text("TIME", 16, "when, as --time says");

/// Turns the kernel's `hello_task` into what the output says about who did it.
#[derive(Debug)]
pub struct Host {
    /// From kernel time to wall-clock time.
    pub clock: Clock,
    /// From user ids to names.
    pub users: Users,
    /// From control group ids to paths.
    pub cgroups: Cgroups,
    /// From the beginnings of container ids to all of them.
    pub containers: Containers,
    /// How time is told.
    pub time: Time,
    /// Calls are timed.
    pub with_latency: bool,
    /// Somebody wants to see the control group of each event.
    with_cgroup: bool,
    last: Option<u64>,
    stamps: Stamps,
}

impl Host {
    /// This host, now.
    pub fn new(users: Users, args: &Args) -> Self {
        let json = args.output == Format::Json;
        Self {
            clock: Clock::now(),
            users,
            cgroups: Cgroups::of_this_host(),
            containers: Containers::default(),
            time: args.time.unwrap_or(Time::Wall),
            with_latency: args.latency,
            with_cgroup: json || args.names_column("CGROUP"),
            last: None,
            stamps: Stamps::default(),
        }
    }

    /// Who did it, with names.
    pub fn who(&mut self, task: &hello_task) -> Who<'_> {
        let last = self.last.replace(task.ktime).unwrap_or(task.ktime);
        let when = When {
            style: self.time,
            wall: self.stamps.of(self.clock.event(task.ktime, task.wall)),
            ktime: task.ktime,
            last,
        };
        Who {
            task: *task,
            when,
            user: self.users.name(task.uid),
            cgroup: self
                .with_cgroup
                .then(|| self.cgroups.path(task.cgroup_id))
                .flatten(),
            container: self.containers.id(task.container),
        }
    }

    /// When the clocks were last read, for tables.
    pub fn now(&mut self) -> When {
        self.at(self.clock.read_at())
    }

    /// A moment by the kernel's clock.
    pub fn at(&mut self, ktime: u64) -> When {
        let last = self.last.replace(ktime).unwrap_or(ktime);
        When {
            style: self.time,
            wall: self.stamps.of(self.clock.wall(ktime)),
            ktime,
            last,
        }
    }
}

/// A moment, told as `--time` says.
#[derive(Clone, Copy, Debug)]
pub struct When {
    style: Time,
    /// Time of day: CLOCK_REALTIME.
    wall: Stamp,
    /// CLOCK_MONOTONIC, ns.
    ktime: u64,
    /// Of the line before.
    last: u64,
}

impl When {
    /// The column TIME: UTC, seconds since boot, or since the line before.
    pub fn cell(&self, cell: &mut Vec<u8>) {
        let since = self.ktime.saturating_sub(self.last);
        match self.style {
            Time::Wall => {
                cell.extend_from_slice(&self.wall[11..26]);
                cell.push(b'Z');
            }
            Time::Mono => _ = write!(cell, "{}", Seconds(self.ktime)),
            Time::Delta => _ = write!(cell, "+{}", Seconds(since)),
            Time::None => {}
        }
    }

    /// `ts`, and what else `--time` asks for.
    pub fn json(&self, object: &mut Object<'_>) {
        if self.style != Time::None {
            object.plain("ts", |text| text.extend_from_slice(&self.wall));
        }
        match self.style {
            Time::Mono => object.num("mono_ns", self.ktime),
            Time::Delta => object.num("delta_ns", self.ktime.saturating_sub(self.last)),
            Time::Wall | Time::None => {}
        }
    }
}

/// Nanoseconds as seconds with microseconds.
struct Seconds(u64);

impl std::fmt::Display for Seconds {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let micros = self.0 / 1000;
        write!(f, "{}.{:06}", micros / 1_000_000, micros % 1_000_000)
    }
}

/// The fields that all events have.
#[derive(Clone, Copy, Debug)]
pub struct Who<'h> {
    /// As the kernel side wrote it.
    pub task: hello_task,
    when: When,
    user: Option<&'h str>,
    cgroup: Option<&'h str>,
    container: Option<&'h str>,
}

impl Who<'_> {
    /// The content of one of [`COLUMNS`]; false if it is none of them.
    pub fn cell(&self, column: &str, cell: &mut Vec<u8>) -> bool {
        let task = &self.task;
        match column {
            "TIME" => self.when.cell(cell),
            "PID" => decimal(cell, task.pid),
            "TID" => decimal(cell, task.tid),
            "PPID" => decimal(cell, task.ppid),
            "NSPID" => decimal(cell, task.ns_pid),
            "UID" => decimal(cell, task.uid),
            "GID" => decimal(cell, task.gid),
            "USER" => user_cell(cell, self.user, task.uid),
            "COMM" => escape::cell(cell, wire::text(&task.comm)),
            "PROCESS" => escape::cell(cell, wire::text(&task.process)),
            "CGROUP" => escape::cell(cell, self.cgroup.unwrap_or("?").as_bytes()),
            "CONTAINER" => cell.extend_from_slice(short(self.container).as_bytes()),
            _ => return false,
        }
        true
    }

    /// `ts`, `pid`, `tid`, `ppid`, `ns_pid`, `uid`, `user`, `gid`, `comm`, `process`,
    /// `cgroup`, `container`.
    pub fn json(&self, object: &mut Object<'_>) {
        self.when.json(object);
        object.num("pid", self.task.pid);
        object.num("tid", self.task.tid);
        object.num("ppid", self.task.ppid);
        object.num("ns_pid", self.task.ns_pid);
        object.num("uid", self.task.uid);
        object.opt_str("user", self.user);
        object.num("gid", self.task.gid);
        object.bytes("comm", wire::text(&self.task.comm));
        object.bytes("process", wire::text(&self.task.process));
        object.opt_str("cgroup", self.cgroup);
        object.opt_str("container", self.container);
    }
}

/// A user by name, or by number if it has none.
pub fn user_cell(cell: &mut Vec<u8>, name: Option<&str>, uid: u32) {
    match name {
        Some(name) => escape::cell(cell, name.as_bytes()),
        None => decimal(cell, uid),
    }
}

/// As container runtimes shorten their ids.
pub fn short(container: Option<&str>) -> &str {
    container.map_or("-", |id| &id[..id.len().min(12)])
}
