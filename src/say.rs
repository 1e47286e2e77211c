// SPDX-License-Identifier: BSD-2-Clause
//! Standard error, which may be a closed pipe or a full disk: that is no reason to
//! stop tracing, and `eprintln!` would panic.

use std::fmt;
use std::io::Write as _;

use crate::enrich::escape::steers;

/// Writes a line to standard error if that can be done. What steers a terminal is
/// escaped: names come from anywhere.
pub fn line(text: fmt::Arguments<'_>) {
    let mut line = String::new();
    for character in text.to_string().chars() {
        if steers(character) && !matches!(character, '\n' | '\t') {
            line.extend(character.escape_default());
        } else {
            line.push(character);
        }
    }
    line.push('\n');
    let _ = std::io::stderr().write_all(line.as_bytes());
}

/// `eprintln!` that cannot panic.
#[macro_export]
macro_rules! say {
    ($($text:tt)+) => {
        $crate::say::line(format_args!($($text)+))
    };
}
