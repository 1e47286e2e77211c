// SPDX-License-Identifier: BSD-2-Clause
//! Standard error, which may be a closed pipe or a full disk: that is no reason to
//! stop tracing, and `eprintln!` would panic.

use std::fmt;
use std::io::Write as _;

/// Writes a line to standard error if that can be done.
pub fn line(text: fmt::Arguments<'_>) {
    let _ = writeln!(std::io::stderr(), "{text}");
}

/// `eprintln!` that cannot panic.
#[macro_export]
macro_rules! say {
    ($($text:tt)+) => {
        $crate::say::line(format_args!($($text)+))
    };
}
