// SPDX-License-Identifier: BSD-2-Clause
//! Standard error, which may be a closed pipe or a full disk: that is no reason to
//! stop tracing, and `eprintln!` would panic.

use std::fmt;
use std::io::Write as _;

/// Writes a line to standard error if that can be done. Control characters are escaped:
/// names come from anywhere, and none shall drive the terminal.
pub fn line(text: fmt::Arguments<'_>) {
    let mut line = String::new();
    for character in text.to_string().chars() {
        match character {
            '\n' | '\t' => line.push(character),
            _ if character.is_control() => line.extend(character.escape_default()),
            _ => line.push(character),
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
