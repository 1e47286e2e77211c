// SPDX-License-Identifier: BSD-2-Clause
//! hello: what happens at the system-call boundary of a Linux host.
//!
//! The tour, in the order in which a run goes through the house:
//!
//! - [`cli`] reads the command line; it knows modes by name only.
//! - [`run`] goes from there to the exit status.
//! - [`preflight`] says what this machine lacks, before the kernel says EPERM.
//! - [`command`] starts COMMAND and holds it before its exec.
//! - [`select`] resolves who is traced into configuration and filter maps.
//! - [`modes`] has a room for each mode; its kernel side lies in `src/bpf`. What modes of
//!   events share is in `modes/events.rs`, what those that count share in `modes/counts`;
//!   `modes/exec` is a part of that room.
//! - [`session`] opens, loads, attaches and polls what the mode brings, then
//!   detaches and drains it.
//! - [`transport`] carries records by ring or perf buffer, in the order of their time
//!   stamps ([`tracepipe`] the lines of mode trace); [`mod@wire`] makes values of them.
//! - [`enrich`] finds the names to the numbers: users, control groups, containers
//!   ([`enrich::containers`]), calls, errors; [`enrich::escape`] makes harmless what
//!   processes chose.
//! - [`output`] prints: [`output::columns`] for people, [`output::json`] for programs.
//! - [`ledger`] accounts for every event.
//! - [`list`] shows what there is: `--list`; `mapped` is memory shared with the kernel.

pub mod cli;
pub mod command;
pub mod enrich;
pub mod ledger;
pub mod list;
mod mapped;
pub mod modes;
pub mod output;
pub mod preflight;
pub mod run;
pub mod say;
pub mod select;
pub mod session;
pub mod tracepipe;
pub mod transport;
pub mod wire;
