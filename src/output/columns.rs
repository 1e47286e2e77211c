// SPDX-License-Identifier: BSD-2-Clause
//! The columns of text output: what there is, what was chosen, in which order.

/// A column.
#[derive(Debug, PartialEq, Eq)]
pub struct Column {
    /// Its name, as in the header and in `--columns`.
    pub name: &'static str,
    /// Characters; longer cells push what follows to the right.
    pub width: usize,
    /// Numbers stand on the right.
    pub right: bool,
    /// What it says, in one line for `--explain`.
    pub about: &'static str,
}

impl Column {
    /// A column of text.
    pub const fn text(name: &'static str, width: usize, about: &'static str) -> Self {
        Self {
            name,
            width,
            right: false,
            about,
        }
    }

    /// A column of numbers.
    pub const fn number(name: &'static str, width: usize, about: &'static str) -> Self {
        Self {
            name,
            width,
            right: true,
            about,
        }
    }
}

/// Columns in the order in which they are printed.
#[derive(Clone, Debug, Default)]
pub struct Layout(Vec<&'static Column>);

impl FromIterator<&'static Column> for Layout {
    fn from_iter<I: IntoIterator<Item = &'static Column>>(columns: I) -> Self {
        Self(columns.into_iter().collect())
    }
}

impl Layout {
    /// Those of `there` that have one of the names, in the order of the names; upper
    /// and lower case are one.
    ///
    /// # Errors
    /// A name that is none, with those that are.
    pub fn choose(
        there: &[&'static [Column]],
        names: impl IntoIterator<Item = impl AsRef<str>>,
    ) -> Result<Self, String> {
        let all = || there.iter().copied().flatten();
        let columns = names.into_iter().map(|name| {
            let name = name.as_ref();
            all()
                .find(|column| column.name.eq_ignore_ascii_case(name))
                .ok_or_else(|| {
                    let names: Vec<_> = all().map(|column| column.name).collect();
                    format!("no column {name:?} here; there are: {}", names.join(", "))
                })
        });
        columns.collect::<Result<_, _>>().map(Self)
    }

    /// Is there a column of that name?
    pub fn has(&self, name: &str) -> bool {
        self.0.iter().any(|column| column.name == name)
    }

    /// The header.
    pub fn header(&self) -> Vec<u8> {
        let mut line = Vec::new();
        self.line(&mut line, |column, cell| {
            cell.extend(column.name.as_bytes());
        });
        line
    }

    /// What each column says, a line for each.
    pub fn explanation(&self) -> Vec<String> {
        let width = self.0.iter().map(|column| column.name.len()).max();
        let width = width.unwrap_or(0);
        self.0
            .iter()
            .map(|column| format!("# {:<width$}  {}", column.name, column.about))
            .collect()
    }

    /// Appends a line; `fill` appends the content of a column.
    pub fn line(&self, line: &mut Vec<u8>, mut fill: impl FnMut(&Column, &mut Vec<u8>)) {
        for (index, column) in self.0.iter().enumerate() {
            let start = line.len();
            fill(column, line);
            let padding = match column.width {
                0 => 0, // mostly the longest cell
                wanted => wanted.saturating_sub(characters(&line[start..])),
            };
            if column.right {
                line.resize(line.len() + padding, b' ');
                line[start..].rotate_right(padding);
            }
            if index + 1 == self.0.len() {
                break;
            }
            let padding = if column.right { 0 } else { padding };
            line.resize(line.len() + padding + 1, b' ');
        }
        line.truncate(line.trim_ascii_end().len());
    }
}

/// How many characters there are in a cell, which is UTF-8: bytes that begin one.
fn characters(cell: &[u8]) -> usize {
    cell.iter().filter(|byte| **byte & 0xc0 != 0x80).count()
}

#[cfg(test)]
mod tests {
    use super::*;

    const THERE: &[Column] = &[
        Column::number("PID", 7, "process id"),
        Column::text("COMM", 6, "name"),
        Column::text("PATH", 0, "path"),
    ];

    #[test]
    fn lines() {
        let layout = Layout::choose(&[THERE], ["pid", "COMM", "path"]).expect("all there");
        assert_eq!(layout.header(), b"    PID COMM   PATH");
        let mut line = Vec::new();
        layout.line(&mut line, |column, cell| match column.name {
            "PID" => cell.extend(b"4711"),
            "COMM" => cell.extend("gr\u{fc}n".as_bytes()),
            _ => cell.extend(b"/etc"),
        });
        assert_eq!(line, "   4711 gr\u{fc}n   /etc".as_bytes());
        assert_eq!(
            layout.explanation(),
            ["# PID   process id", "# COMM  name", "# PATH  path"]
        );
    }

    #[test]
    fn a_long_cell_pushes() {
        let layout = Layout::choose(&[THERE], ["comm", "pid"]).expect("all there");
        let mut line = Vec::new();
        layout.line(&mut line, |column, cell| match column.name {
            "PID" => cell.extend(b"123456789"),
            _ => cell.extend(b"longer than six"),
        });
        assert_eq!(line, b"longer than six 123456789");
    }

    #[test]
    fn unknown_names_are_answered_with_those_there_are() {
        let error = Layout::choose(&[THERE], ["nope"]).map(|_| ()).unwrap_err();
        assert!(
            error.contains("\"nope\"") && error.contains("PID, COMM, PATH"),
            "{error}"
        );
    }
}
