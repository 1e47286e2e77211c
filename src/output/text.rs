// SPDX-License-Identifier: BSD-2-Clause
//! Aligned columns for people.

use std::fmt::Display;
use std::io::Write as _;

use crate::enrich::escape::escape;

/// Appends a number, right-aligned, and a space.
pub fn number(line: &mut Vec<u8>, width: usize, value: impl Display) {
    let _ = write!(line, "{value:>width$} ");
}

/// Appends bytes from a process, escaped, padded to `width` columns, and a space.
pub fn bytes(line: &mut Vec<u8>, width: usize, value: &[u8]) {
    let start = line.len();
    escape(line, value);
    let columns = String::from_utf8_lossy(&line[start..]).chars().count();
    line.resize(line.len() + width.saturating_sub(columns) + 1, b' ');
}

/// Appends a text of ours, padded to `width` columns, and a space.
pub fn word(line: &mut Vec<u8>, width: usize, value: &str) {
    let _ = write!(line, "{value:<width$} ");
}

/// Appends bytes from a process between quotes, escaped; the last column.
pub fn quoted(line: &mut Vec<u8>, value: &[u8]) {
    line.push(b'"');
    escape(line, value);
    line.push(b'"');
}

/// Appends bytes from a process, escaped; the last column.
pub fn last(line: &mut Vec<u8>, value: &[u8]) {
    escape(line, value);
}
