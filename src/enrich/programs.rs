// SPDX-License-Identifier: BSD-2-Clause
//! Command lines of the programs that run, by id: when a process ends the kernel has
//! them no longer.

use std::collections::BTreeMap;
use std::collections::VecDeque;
use std::fs;
use std::os::unix::ffi::OsStringExt as _;
use std::path::Path;

/// As many programs are remembered at most, and as many bytes of them.
const ROOM: (usize, usize) = (64 << 10, 64 << 20);

/// Of these, as many that have ended: short-lived programs would take all the room.
const ENDED_ROOM: (usize, usize) = (16 << 10, 4 << 20);

/// A program that runs, as it was started.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Program {
    /// The file that runs, if it is known.
    pub exe: Option<Vec<u8>>,
    /// Arguments, each with its NUL; `None` if they could not be read.
    pub argv: Option<Vec<u8>>,
    /// Bytes of all of them: more, if `argv` was cut.
    pub argv_bytes: u64,
}

impl Program {
    /// What runs as that process, by /proc; `None` for threads of the kernel and for
    /// processes that are gone.
    pub fn of_process(pid: u32) -> Option<Self> {
        let place = Path::new("/proc").join(pid.to_string());
        let argv = fs::read(place.join("cmdline")).ok()?;
        let exe = fs::read_link(place.join("exe")).ok();
        if argv.is_empty() && exe.is_none() {
            return None;
        }
        Some(Self {
            exe: exe.map(|exe| exe.into_os_string().into_vec()),
            argv_bytes: argv.len() as u64,
            argv: Some(argv),
        })
    }

    fn size(&self) -> usize {
        let len = |bytes: &Option<Vec<u8>>| bytes.as_ref().map_or(0, Vec::len);
        len(&self.exe) + len(&self.argv)
    }
}

/// The programs that run, and some that have ended: processes that were forked from
/// them may go on.
#[derive(Debug, Default)]
pub struct Programs {
    by_id: BTreeMap<u64, Program>,
    /// With their sizes.
    ended: VecDeque<(u64, usize)>,
    bytes: usize,
    ended_bytes: usize,
}

impl Programs {
    /// Remembers a program. Room is made by forgetting first what has ended, then
    /// what began first.
    pub fn remember(&mut self, id: u64, program: Program) {
        self.bytes += program.size();
        if let Some(old) = self.by_id.insert(id, program) {
            self.bytes -= old.size();
        }
        while self.by_id.len() > ROOM.0 || self.bytes > ROOM.1 {
            let oldest = self.by_id.keys().next().copied();
            match self.pop_ended().or(oldest) {
                Some(id) => self.forget(id),
                None => break,
            }
        }
    }

    /// The program of that id.
    pub fn get(&self, id: u64) -> Option<&Program> {
        self.by_id.get(&id)
    }

    /// The process that ran it has ended, or runs another.
    pub fn end(&mut self, id: u64) {
        let Some(size) = self.by_id.get(&id).map(Program::size) else {
            return;
        };
        self.ended.push_back((id, size));
        self.ended_bytes += size;
        while self.ended.len() > ENDED_ROOM.0 || self.ended_bytes > ENDED_ROOM.1 {
            match self.pop_ended() {
                Some(id) => self.forget(id),
                None => break,
            }
        }
    }

    fn pop_ended(&mut self) -> Option<u64> {
        let (id, size) = self.ended.pop_front()?;
        self.ended_bytes -= size;
        Some(id)
    }

    fn forget(&mut self, id: u64) {
        if let Some(program) = self.by_id.remove(&id) {
            self.bytes -= program.size();
        }
    }
}

/// The arguments in a process's memory, where a NUL follows each; the last may be cut.
pub fn arguments(memory: &[u8]) -> impl Iterator<Item = &[u8]> + Clone {
    let has_some = !memory.is_empty();
    let memory = memory.strip_suffix(b"\0").unwrap_or(memory);
    memory.split(|byte| *byte == 0).filter(move |_| has_some)
}

/// The value of a variable in an environment.
pub fn variable<'m>(memory: &'m [u8], name: &str) -> Option<&'m [u8]> {
    memory.split(|byte| *byte == 0).find_map(|variable| {
        variable
            .strip_prefix(name.as_bytes())
            .and_then(|rest| rest.strip_prefix(b"="))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory() {
        let arguments = |memory| arguments(memory).collect::<Vec<_>>();
        assert!(arguments(b"").is_empty());
        assert_eq!(arguments(b"\0"), [b""]);
        assert_eq!(arguments(b"sh\0-c\0\0"), [&b"sh"[..], b"-c", b""]);
        assert_eq!(arguments(b"a\0cut"), [&b"a"[..], b"cut"]);
        let env = b"HOME=/root\0PATHS=no\0PATH=/bin:/sbin\0E=\0";
        assert_eq!(variable(env, "PATH"), Some(&b"/bin:/sbin"[..]));
        assert_eq!(variable(env, "E"), Some(&b""[..]));
        assert_eq!(variable(env, "HOM"), None);
    }

    #[test]
    fn what_has_ended_is_remembered_for_a_while() {
        let mut programs = Programs::default();
        for id in 0..ENDED_ROOM.0 as u64 + 2 {
            programs.remember(id, Program::default());
            programs.end(id);
        }
        assert!(programs.get(1).is_none() && programs.get(2).is_some());
        let large = Program {
            argv: Some(vec![1; ENDED_ROOM.1]),
            ..Program::default()
        };
        for id in [1 << 20, 2 << 20] {
            programs.remember(id, large.clone());
        }
        programs.end(1 << 20);
        assert!(programs.get(1 << 20).is_some() && programs.get(2 << 20).is_some());
        programs.end(2 << 20);
        assert_eq!(programs.by_id.len(), 1);
    }

    #[test]
    fn what_has_ended_makes_room() {
        let mut programs = Programs::default();
        let large = |byte: u8| Program {
            argv: Some(vec![byte; ROOM.1 / 4]),
            ..Program::default()
        };
        for id in 1..=4 {
            programs.remember(id, large(1));
        }
        programs.end(2);
        programs.remember(5, large(5));
        let known = |programs: &Programs| (1..=6).filter(|id| programs.get(*id).is_some()).count();
        assert_eq!(known(&programs), 4);
        assert!(programs.get(2).is_none() && programs.get(1).is_some());
        programs.remember(6, large(6));
        assert!(programs.get(1).is_none());
        assert_eq!(known(&programs), 4);
        assert_eq!(programs.bytes, ROOM.1);
    }
}
