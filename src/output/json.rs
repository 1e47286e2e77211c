// SPDX-License-Identifier: BSD-2-Clause
//! JSON, written directly: one object a line, no tree in between.

use std::fmt;

use super::decimal;
use super::is_plain;

/// An object under construction at the end of a line. Keys are ours and need no
/// escaping; values may be anything.
#[derive(Debug)]
pub struct Object<'a> {
    line: &'a mut Vec<u8>,
    first: bool,
}

impl<'a> Object<'a> {
    /// Opens an object.
    pub fn new(line: &'a mut Vec<u8>) -> Self {
        line.push(b'{');
        Self { line, first: true }
    }

    /// Closes it.
    pub fn end(self) {
        self.line.push(b'}');
    }

    fn key(&mut self, key: &str) {
        if !self.first {
            self.line.push(b',');
        }
        self.first = false;
        self.line.push(b'"');
        self.line.extend_from_slice(key.as_bytes());
        self.line.extend_from_slice(b"\":");
    }

    /// A string.
    pub fn str(&mut self, key: &str, value: &str) {
        self.key(key);
        string(self.line, value);
    }

    /// A string, or null.
    pub fn opt_str(&mut self, key: &str, value: Option<&str>) {
        match value {
            Some(value) => self.str(key, value),
            None => self.null(key),
        }
    }

    /// A number.
    pub fn num(&mut self, key: &str, value: impl itoa::Integer) {
        self.key(key);
        decimal(self.line, value);
    }

    /// A string that needs no escaping, such as a time: what `fill` appends.
    pub fn plain(&mut self, key: &str, fill: impl FnOnce(&mut Vec<u8>)) {
        self.key(key);
        self.line.push(b'"');
        fill(self.line);
        self.line.push(b'"');
    }

    /// True or false.
    pub fn bool(&mut self, key: &str, value: bool) {
        self.key(key);
        let text: &[u8] = if value { b"true" } else { b"false" };
        self.line.extend_from_slice(text);
    }

    /// Null.
    pub fn null(&mut self, key: &str) {
        self.key(key);
        self.line.extend_from_slice(b"null");
    }

    /// Bytes from a process: as a string; if they are not UTF-8, lossily, with the
    /// raw bytes in hex beside it as `KEY_hex`.
    pub fn bytes(&mut self, key: &str, value: &[u8]) {
        match std::str::from_utf8(value) {
            Ok(text) => self.str(key, text),
            Err(_) => {
                self.str(key, &String::from_utf8_lossy(value));
                self.str(&format!("{key}_hex"), &hex(value));
            }
        }
    }

    /// Bytes from a process, or null.
    pub fn opt_bytes(&mut self, key: &str, value: Option<&[u8]>) {
        match value {
            Some(value) => self.bytes(key, value),
            None => self.null(key),
        }
    }

    /// An object in it.
    pub fn object(&mut self, key: &str, fill: impl FnOnce(&mut Object<'_>)) {
        self.key(key);
        let mut object = Object::new(self.line);
        fill(&mut object);
        object.end();
    }

    /// An array of bytes from a process, each as a string; if one is not UTF-8, with
    /// another array of all of them in hex beside it as `KEY_hex`.
    pub fn list<'v>(&mut self, key: &str, values: impl Iterator<Item = &'v [u8]> + Clone) {
        self.strs(key, values.clone().map(String::from_utf8_lossy));
        if values
            .clone()
            .any(|value| std::str::from_utf8(value).is_err())
        {
            self.strs(&format!("{key}_hex"), values.map(hex));
        }
    }

    /// An array of objects, one for each of `values`.
    pub fn objects<T>(
        &mut self,
        key: &str,
        values: impl IntoIterator<Item = T>,
        fill: impl Fn(&mut Object<'_>, T),
    ) {
        self.key(key);
        self.line.push(b'[');
        for (index, value) in values.into_iter().enumerate() {
            if index > 0 {
                self.line.push(b',');
            }
            let mut object = Object::new(self.line);
            fill(&mut object, value);
            object.end();
        }
        self.line.push(b']');
    }

    /// A number, or null.
    pub fn opt_num(&mut self, key: &str, value: Option<impl itoa::Integer>) {
        match value {
            Some(value) => self.num(key, value),
            None => self.null(key),
        }
    }

    /// An array of strings.
    pub fn strs(&mut self, key: &str, values: impl IntoIterator<Item = impl AsRef<str>>) {
        self.key(key);
        self.line.push(b'[');
        for (index, value) in values.into_iter().enumerate() {
            if index > 0 {
                self.line.push(b',');
            }
            string(self.line, value.as_ref());
        }
        self.line.push(b']');
    }
}

fn hex(value: &[u8]) -> String {
    let mut text = String::with_capacity(2 * value.len());
    for byte in value {
        let _ = fmt::Write::write_fmt(&mut text, format_args!("{byte:02x}"));
    }
    text
}

fn string(line: &mut Vec<u8>, value: &str) {
    if is_plain(value.as_bytes()) {
        line.push(b'"');
        line.extend_from_slice(value.as_bytes());
        line.push(b'"');
        return;
    }
    // Writing a string into a Vec cannot fail.
    let _ = serde_json::to_writer(line, value);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn any_bytes_make_valid_json() {
        let all: Vec<u8> = (0..=255).collect();
        let mut line = Vec::new();
        let mut object = Object::new(&mut line);
        object.bytes("path", &all);
        object.bytes("good", "a\n\"ü\"".as_bytes());
        object.num("n", u64::MAX);
        object.num("ret", -2i64);
        object.null("errno");
        object.strs("flags", ["a", "b\u{1}"]);
        object.object("lost", |lost| lost.num("total", 0u64));
        object.end();
        let value: serde_json::Value = serde_json::from_slice(&line).expect("valid JSON");
        assert_eq!(value["path"], String::from_utf8_lossy(&all).as_ref());
        assert_eq!(value["path_hex"].as_str().map(str::len), Some(512));
        assert_eq!(value["good"], "a\n\"ü\"");
        assert!(value.get("good_hex").is_none());
        assert_eq!(value["n"], u64::MAX);
        assert_eq!(value["ret"], -2);
        assert_eq!(value["lost"]["total"], 0);
    }
}
