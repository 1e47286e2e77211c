// SPDX-License-Identifier: BSD-2-Clause
//! From what the kernel knows (numbers) to what people read (names). Pure: the
//! clock and the tables are passed in, nothing is printed.

pub mod cgroups;
pub mod clocks;
pub mod containers;
pub mod escape;
pub mod flags;
pub mod host;
pub mod programs;
pub mod stamp;
pub mod syscalls;
pub mod time;
pub mod users;
