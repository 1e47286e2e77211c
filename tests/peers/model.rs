// SPDX-License-Identifier: BSD-2-Clause
//! What is compared: hello's events as hello tells them, a peer's as the peer prints them.

use std::collections::HashMap;
use std::collections::HashSet;

use serde_json::Value;

use crate::process::Listener;

/// What a comparison is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) enum Class {
    Exec,
    Open,
    Count,
}

/// An event as a peer shows it, in the peer's own words. 0 where a peer does not say.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct Item {
    pub(crate) pid: u32,
    pub(crate) ret: i64,
    pub(crate) text: String,
}

/// Things and how often they were seen: workloads make millions of few kinds.
pub(crate) type Multiset<T> = HashMap<T, u64>;

/// What a peer has shown.
#[derive(Debug, Default)]
pub(crate) struct Heard {
    pub(crate) items: Multiset<Item>,
    /// What one peer tells in a second way (bpftrace: results of execs).
    pub(crate) results: Multiset<Item>,
    /// Processes whose execs others cannot see (bpftrace tells of them).
    pub(crate) evidence: Evidence,
    /// Counts by name, or by `#number`.
    pub(crate) counts: Multiset<String>,
    /// Events that the peer says it has lost.
    pub(crate) lost: u64,
    /// Lines that are none of its events.
    pub(crate) odd_lines: u64,
}

/// What one peer tells of calls that another does not see.
#[derive(Debug, Default, Clone)]
pub(crate) struct Evidence {
    pub(crate) execveat: HashSet<u32>,
    /// A thread that is not the leader called.
    pub(crate) threads: HashSet<u32>,
}

impl Heard {
    /// Results of marks: those lines do not carry their names.
    pub(crate) fn forget_marks(&mut self, pids: &[u32]) {
        for &pid in pids {
            let (ret, text) = (-i64::from(nix::libc::ENOENT), String::new());
            let item = Item { pid, ret, text };
            if let Some(times) = self.results.get_mut(&item) {
                *times -= 1;
                if *times == 0 {
                    self.results.remove(&item);
                }
            }
        }
    }

    pub(crate) fn item(&mut self, pid: u32, ret: i64, text: &[u8]) {
        let text = String::from_utf8_lossy(text).into_owned();
        *self.items.entry(Item { pid, ret, text }).or_default() += 1;
    }
}

/// A program that was run, or not, as hello tells it.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) struct Exec {
    pub(crate) pid: u32,
    pub(crate) tid: u32,
    pub(crate) ret: i64,
    pub(crate) argv: Vec<Vec<u8>>,
    pub(crate) truncated: bool,
    pub(crate) unreadable: bool,
    /// Whether a script was run, where hello tells.
    pub(crate) script: Option<bool>,
    pub(crate) abi: String,
    pub(crate) via: String,
}

/// An open, as hello tells it.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) struct Open {
    pub(crate) pid: u32,
    pub(crate) tid: u32,
    pub(crate) ret: i64,
    /// As given.
    pub(crate) path: Option<Vec<u8>>,
    /// Absolute; a hello that does not tell has none.
    pub(crate) absolute: Option<Vec<u8>>,
    pub(crate) via: String,
    pub(crate) abi: String,
}

/// A row of hello's last table.
#[derive(Debug, Clone)]
pub(crate) struct Count {
    pub(crate) abi: String,
    pub(crate) nr: i64,
    pub(crate) name: Option<String>,
    pub(crate) count: u64,
    pub(crate) errors: Option<u64>,
}

/// All that hello says.
#[derive(Debug, Default)]
pub(crate) struct Told {
    pub(crate) execs: Multiset<Exec>,
    pub(crate) opens: Multiset<Open>,
    pub(crate) counts: Vec<Count>,
    table: u64,
    pub(crate) ledger: Option<Value>,
    pub(crate) odd_lines: u64,
}

impl Told {
    pub(crate) fn lost(&self) -> u64 {
        let lost = self
            .ledger
            .as_ref()
            .and_then(|ledger| ledger["lost"]["total"].as_u64());
        lost.unwrap_or(0)
    }
}

fn number<T: TryFrom<i64> + Default>(value: &Value) -> T {
    value
        .as_i64()
        .and_then(|number| T::try_from(number).ok())
        .unwrap_or_default()
}

fn word(value: &Value) -> String {
    value.as_str().unwrap_or_default().to_owned()
}

/// A value's bytes: from the hex beside it where it is not UTF-8.
fn bytes(text: &Value, hex: &Value) -> Option<Vec<u8>> {
    if let Some(hex) = hex.as_str() {
        let digits = hex.as_bytes().chunks_exact(2);
        let byte = |pair: &[u8]| u8::from_str_radix(std::str::from_utf8(pair).ok()?, 16).ok();
        return digits.map(byte).collect();
    }
    text.as_str().map(|text| text.as_bytes().to_vec())
}

fn exec(event: &Value) -> Exec {
    let hex = &event["argv_hex"];
    let words = event["argv"].as_array().map_or(&[][..], Vec::as_slice);
    let argv = words
        .iter()
        .enumerate()
        .map(|(at, value)| bytes(value, &hex[at]).unwrap_or_default());
    Exec {
        pid: number(&event["pid"]),
        tid: number(&event["tid"]),
        ret: number(&event["ret"]),
        argv: argv.collect(),
        truncated: event["argv_truncated"].as_bool().unwrap_or_default(),
        unreadable: event["argv"].is_null(),
        // Its path, or null; failed execs have no such field.
        script: event.get("script").map(|script| !script.is_null()),
        abi: word(&event["abi"]),
        via: word(&event["via"]),
    }
}

impl Listener for Told {
    fn line(&mut self, line: &[u8]) {
        let Ok(event) = serde_json::from_slice::<Value>(line) else {
            self.odd_lines += 1;
            return;
        };
        match event["type"].as_str() {
            Some("exec") if event["event"] != "exit" => {
                *self.execs.entry(exec(&event)).or_default() += 1;
            }
            Some("open") => {
                let open = Open {
                    pid: number(&event["pid"]),
                    tid: number(&event["tid"]),
                    ret: number(&event["ret"]),
                    path: bytes(&event["path_given"], &event["path_given_hex"]),
                    absolute: bytes(&event["path"], &event["path_hex"]),
                    via: word(&event["via"]),
                    abi: word(&event["abi"]),
                };
                *self.opens.entry(open).or_default() += 1;
            }
            Some("count") => {
                // Counts are totals: the last table says all.
                let table = event["table"].as_u64().unwrap_or(0);
                if table != self.table {
                    self.counts.clear();
                    self.table = table;
                }
                self.counts.push(Count {
                    abi: word(&event["abi"]),
                    nr: number(&event["nr"]),
                    name: event["syscall"].as_str().map(str::to_owned),
                    count: event["count"].as_u64().unwrap_or(0),
                    errors: event["errors"].as_u64(),
                });
            }
            Some("ledger") => self.ledger = Some(event),
            Some(_) => {}
            None => self.odd_lines += 1,
        }
    }
}
