// SPDX-License-Identifier: BSD-2-Clause
//! Bytes from a process, made harmless for a terminal.

use crate::output::is_plain;

/// Appends `bytes` to `out` as strace prints strings, without the quotes around
/// them: `\n`, `\t`, `\"`, `\\`, other control bytes and whatever is not UTF-8 in
/// octal. Valid UTF-8 stays, except what steers a terminal or the direction of
/// text (C1 controls, bidirectional overrides, line separators).
///
/// A name can therefore neither move the cursor, nor hide a line, nor fake one.
pub fn escape(out: &mut Vec<u8>, bytes: &[u8]) {
    if is_plain(bytes) {
        return out.extend_from_slice(bytes);
    }
    for chunk in bytes.utf8_chunks() {
        let valid = chunk.valid();
        for (at, char) in valid.char_indices() {
            let rest = valid.as_bytes().get(at + char.len_utf8()).copied();
            match char {
                '\n' => out.extend(b"\\n"),
                '\t' => out.extend(b"\\t"),
                '\r' => out.extend(b"\\r"),
                '\u{b}' => out.extend(b"\\v"),
                '\u{c}' => out.extend(b"\\f"),
                '"' => out.extend(b"\\\""),
                '\\' => out.extend(b"\\\\"),
                char if steers(char) => {
                    let mut buffer = [0; 4];
                    let encoded = char.encode_utf8(&mut buffer).as_bytes();
                    for (index, byte) in encoded.iter().enumerate() {
                        let next = encoded.get(index + 1).copied().or(rest);
                        octal(out, *byte, next);
                    }
                }
                char => out.extend(char.encode_utf8(&mut [0; 4]).as_bytes()),
            }
        }
        let invalid = chunk.invalid();
        for byte in invalid {
            // The byte after may be a digit of the next chunk: three digits always do.
            octal(out, *byte, Some(b'0'));
        }
    }
}

/// Appends `bytes` between quotes, escaped.
pub fn quoted(out: &mut Vec<u8>, bytes: &[u8]) {
    out.push(b'"');
    escape(out, bytes);
    out.push(b'"');
}

/// Appends the content of a column that others follow, escaped; between quotes if it is
/// empty or has a space, so that it stays one column and fakes no other.
pub fn cell(out: &mut Vec<u8>, bytes: &[u8]) {
    if !bytes.is_empty() && is_plain(bytes) && !bytes.contains(&b' ') {
        return out.extend_from_slice(bytes);
    }
    let start = out.len();
    escape(out, bytes);
    let has_space = String::from_utf8_lossy(&out[start..]).contains(char::is_whitespace);
    if has_space || out.len() == start {
        out.insert(start, b'"');
        out.push(b'"');
    }
}

/// Appends an argument as a shell would want it: bare, in single quotes, or where there
/// is something to escape as `$'…'`, which bash and its kin read back as it was.
pub fn shell_word(out: &mut Vec<u8>, word: &[u8]) {
    let is_plain = |byte: &u8| byte.is_ascii_alphanumeric() || b"_@%+=:,./-".contains(byte);
    if !word.is_empty() && word.iter().all(is_plain) {
        return out.extend(word);
    }
    let start = out.len();
    out.extend(b"$'");
    for (index, part) in word.split(|byte| *byte == b'\'').enumerate() {
        if index > 0 {
            out.extend(b"\\'");
        }
        escape(out, part);
    }
    out.push(b'\'');
    // Nothing was escaped but double quotes, which single ones hold as they are.
    let escapes = out[start..].windows(2).filter(|two| two[0] == b'\\');
    if escapes.clone().all(|two| two[1] == b'"') {
        out.truncate(start);
        out.push(b'\'');
        out.extend(word);
        out.push(b'\'');
    }
}

pub(crate) fn steers(char: char) -> bool {
    char.is_control()
        || matches!(char,
            '\u{61c}' | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}'
            | '\u{2060}'..='\u{206f}' | '\u{feff}' | '\u{e0000}'..='\u{e007f}')
}

/// As few digits as strace uses, unless a digit follows.
fn octal(out: &mut Vec<u8>, byte: u8, next: Option<u8>) {
    let text = if next.is_some_and(|next| next.is_ascii_digit()) {
        format!("\\{byte:03o}")
    } else {
        format!("\\{byte:o}")
    };
    out.extend(text.as_bytes());
}

#[cfg(test)]
mod tests {
    use super::*;

    fn escaped(bytes: &[u8]) -> String {
        let mut out = Vec::new();
        escape(&mut out, bytes);
        String::from_utf8(out).expect("escaped text is UTF-8")
    }

    #[test]
    fn a_cell_stays_one_column() {
        let of = |text: &str| {
            let mut out = b"> ".to_vec();
            cell(&mut out, text.as_bytes());
            String::from_utf8(out).expect("escaped text is UTF-8")
        };
        assert_eq!(of("cat"), "> cat");
        assert_eq!(of(""), "> \"\"");
        assert_eq!(of("a b"), "> \"a b\"");
        assert_eq!(of(" 1 root "), "> \" 1 root \"");
        assert_eq!(of("a\tb"), "> a\\tb");
        assert_eq!(of("\"a b\""), "> \"\\\"a b\\\"\"");
        assert_eq!(of("\"a\""), "> \\\"a\\\"");
        assert_eq!(of("a\u{3000}b"), "> \"a\u{3000}b\"");
    }

    #[test]
    fn as_strace_does() {
        assert_eq!(escaped(b"/etc/passwd"), "/etc/passwd");
        assert_eq!(escaped(b"a\nb\tc\rd"), "a\\nb\\tc\\rd");
        assert_eq!(escaped(b"say \"hi\" \\"), "say \\\"hi\\\" \\\\");
        assert_eq!(escaped(b"\x1b[2J"), "\\33[2J");
        assert_eq!(escaped(b"\x1b2"), "\\0332");
        assert_eq!(escaped(b"\x00\x7f"), "\\0\\177");
        assert_eq!(escaped(b"\xff\xfe9"), "\\377\\3769");
        assert_eq!(escaped("grün 日本".as_bytes()), "grün 日本");
    }

    #[test]
    fn words_for_a_shell() {
        let of = |word: &[u8]| {
            let mut out = Vec::new();
            shell_word(&mut out, word);
            String::from_utf8(out).expect("UTF-8")
        };
        assert_eq!(of(b"--out=/tmp/x.y"), "--out=/tmp/x.y");
        assert_eq!(of(b""), "''");
        assert_eq!(of(b"two words"), "'two words'");
        assert_eq!(of(b"say \"hi\""), "'say \"hi\"'");
        assert_eq!(of(b"it's"), "$'it\\'s'");
        assert_eq!(of(b"a\nb"), "$'a\\nb'");
        assert_eq!(of(b"\\"), "$'\\\\'");
        assert_eq!(of(b"\x1b[2J\xff"), "$'\\33[2J\\377'");
        assert_eq!(of("gr\u{fc}n".as_bytes()), "'gr\u{fc}n'");
    }

    #[test]
    fn what_steers_a_terminal_is_gone() {
        assert_eq!(escaped("\u{9b}2J".as_bytes()), "\\302\\2332J");
        assert_eq!(
            escaped("\u{202e}gpj.exe".as_bytes()),
            "\\342\\200\\256gpj.exe"
        );
        let all: Vec<u8> = (0..=255).collect();
        assert!(!escaped(&all).chars().any(char::is_control));
    }
}
