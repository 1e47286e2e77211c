// SPDX-License-Identifier: BSD-2-Clause
//! The kernel's BTF, cut down to the types that hello reads.
//!
//! libbpf goes through all types of a kernel, more than 100,000, once for each that a
//! program reads: most of the time that loading takes. And before Linux 6.16, where the
//! file cannot be mapped, it holds two copies of it. Here it is read once.
//!
//! The format is told in Documentation/bpf/btf.rst. A type is three words (name, kind and
//! number of parts, size or type) and the parts'.

use std::collections::HashMap;
use std::collections::HashSet;
use std::fs;
use std::fs::File;
use std::io::Write as _;
use std::num::NonZeroUsize;
use std::ops::Deref;
use std::os::fd::AsRawFd as _;
use std::path::PathBuf;

use nix::sys::memfd::MFdFlags;
use nix::sys::memfd::memfd_create;
use nix::sys::mman::MapFlags;
use nix::sys::mman::ProtFlags;

use crate::mapped::Mapped;
use crate::preflight::KERNEL_BTF;

// KERNEL_TYPES: the names of what vmlinux/vmlinux.h declares.
include!(concat!(env!("OUT_DIR"), "/kernel_types.rs"));

/// A file in memory for libbpf to read instead of the kernel's.
#[derive(Debug)]
pub struct Excerpt(File);

impl Excerpt {
    /// Of the running kernel. `None` if it carries no BTF, or of a kind that is not
    /// known here: libbpf has its own ways then.
    pub fn of_kernel() -> Option<Self> {
        let bytes = KernelBtf::open(KERNEL_BTF)
            .and_then(|whole| cut(&whole, KERNEL_TYPES))
            .or_else(|| cut(&fs::read(KERNEL_BTF).ok()?, KERNEL_TYPES))?;
        let mut file = File::from(memfd_create("btf", MFdFlags::MFD_CLOEXEC).ok()?);
        file.write_all(&bytes).ok()?;
        Some(Self(file))
    }

    /// Where this process finds it.
    pub fn path(&self) -> PathBuf {
        format!("/proc/self/fd/{}", self.0.as_raw_fd()).into()
    }
}

/// The kernel's BTF where it can be mapped, from Linux 6.16 on: reading it takes a system
/// call for each page, and five megabytes.
struct KernelBtf(Mapped);

impl KernelBtf {
    fn open(path: &str) -> Option<Self> {
        let file = File::open(path).ok()?;
        let len = NonZeroUsize::new(file.metadata().ok()?.len().try_into().ok()?)?;
        let read = ProtFlags::PROT_READ;
        Some(Self(
            Mapped::new(&file, 0, len, read, MapFlags::MAP_PRIVATE).ok()?,
        ))
    }
}

impl Deref for KernelBtf {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        let start = self.0.start().as_ptr();
        // SAFETY: mapped until self is dropped, and the kernel never changes its BTF.
        unsafe { std::slice::from_raw_parts(start, self.0.len()) }
    }
}

const MAGIC: u16 = 0xeb9f;
const HEADER: usize = 24;

/// What a word of a type says.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Word {
    /// Where a name begins in the strings.
    Name,
    /// The number of a type.
    Type,
    /// The number of the type that a pointer points to.
    Pointee,
    /// Anything else.
    Plain,
}

/// The third word of a kind, and those of its parts; `None`: not known.
fn words(kind: u32) -> Option<(Word, &'static [Word])> {
    use Word::Name;
    use Word::Plain;
    use Word::Pointee;
    use Word::Type;
    Some(match kind {
        1 | 14 | 17 => (Plain, &[Plain]),       // INT, VAR, DECL_TAG
        2 => (Pointee, &[]),                    // PTR
        7 | 12 | 16 => (Plain, &[]),            // FWD, FUNC, FLOAT
        3 => (Plain, &[Type, Type, Plain]),     // ARRAY
        4 | 5 => (Plain, &[Name, Type, Plain]), // STRUCT, UNION
        6 => (Plain, &[Name, Plain]),           // ENUM
        8..=11 | 18 => (Type, &[]),             // TYPEDEF, VOLATILE, CONST, RESTRICT, TYPE_TAG
        13 => (Plain, &[Plain, Plain]),         // FUNC_PROTO
        15 => (Plain, &[Plain, Plain, Plain]),  // DATASEC
        19 => (Plain, &[Name, Plain, Plain]),   // ENUM64
        _ => return None,
    })
}

/// Kinds that have any number of parts; the others have one or none.
fn has_many(kind: u32) -> bool {
    matches!(kind, 4..=6 | 13 | 15 | 19)
}

/// Kinds that programs ask for by name: STRUCT, UNION, ENUM, TYPEDEF, ENUM64.
fn is_asked_for(kind: u32) -> bool {
    matches!(kind, 4..=6 | 8 | 19)
}

/// Kinds that no value is of: FUNC, FUNC_PROTO, VAR, DATASEC, DECL_TAG.
fn is_no_value(kind: u32) -> bool {
    matches!(kind, 12..=15 | 17)
}

fn word(bytes: &[u8], at: usize) -> Option<u32> {
    bytes
        .get(at..)?
        .first_chunk()
        .map(|word| u32::from_ne_bytes(*word))
}

/// The types and the strings of a BTF.
struct Whole<'b> {
    types: &'b [u8],
    strings: &'b [u8],
    /// Where each type begins; type 0 is void, and stands nowhere.
    begins: Vec<u32>,
}

impl<'b> Whole<'b> {
    fn parse(bytes: &'b [u8]) -> Option<Self> {
        if u16::from_ne_bytes(*bytes.first_chunk()?) != MAGIC {
            return None;
        }
        let field = |at| word(bytes, at).map(|value| value as usize);
        let body = bytes.get(field(4)?..)?;
        let mut whole = Self {
            types: body.get(field(8)?..)?.get(..field(12)?)?,
            strings: body.get(field(16)?..)?.get(..field(20)?)?,
            begins: vec![0],
        };
        let mut at = 0;
        while at < whole.types.len() {
            whole.begins.push(u32::try_from(at).ok()?);
            at += whole.size(at)?;
        }
        Some(whole)
    }

    fn kind(&self, at: usize) -> Option<u32> {
        Some(word(self.types, at + 4)? >> 24 & 31)
    }

    /// Bytes of the type that begins there.
    fn size(&self, at: usize) -> Option<usize> {
        let info = word(self.types, at + 4)?;
        let kind = info >> 24 & 31;
        let count = if has_many(kind) {
            info as usize & 0xffff
        } else {
            1
        };
        Some(12 + 4 * count * words(kind)?.1.len())
    }

    /// The words of the type that begins there, each with what it says.
    fn each_word(&self, at: usize, mut see: impl FnMut(Word, u32) -> Option<()>) -> Option<()> {
        let (third, part) = words(self.kind(at)?)?;
        let head = [Word::Name, Word::Plain, third];
        let all = head.iter().chain(part.iter().cycle());
        for (at, says) in (at..at + self.size(at)?).step_by(4).zip(all) {
            see(*says, word(self.types, at)?)?;
        }
        Some(())
    }

    fn name(&self, at: u32) -> Option<&'b [u8]> {
        self.strings
            .get(at as usize..)?
            .split(|byte| *byte == 0)
            .next()
    }

    /// Is it one of those, or a flavour of it (`name___old`)?
    fn is_named(&self, at: usize, names: &HashSet<&[u8]>) -> Option<bool> {
        if !is_asked_for(self.kind(at)?) {
            return Some(false);
        }
        let name = self.name(word(self.types, at)?)?;
        let flavour = name.windows(3).position(|three| three == b"___");
        Some(names.contains(&name[..flavour.unwrap_or(name.len())]))
    }
}

/// The types of those names and all that they consist of. Pointers point to nothing: what
/// is behind them is read as a value of a type of its own.
fn cut(bytes: &[u8], names: &[&str]) -> Option<Vec<u8>> {
    let whole = Whole::parse(bytes)?;
    let begin = |id: u32| whole.begins.get(id as usize).map(|at| *at as usize);
    let names: HashSet<&[u8]> = names.iter().map(|name| name.as_bytes()).collect();
    let mut wanted = Vec::new();
    for (id, at) in (0u32..).zip(&whole.begins).skip(1) {
        if whole.is_named(*at as usize, &names)? {
            wanted.push(id);
        }
    }

    let mut numbers = vec![0u32; whole.begins.len()];
    while let Some(id) = wanted.pop() {
        let number = numbers.get_mut(id as usize)?;
        if id == 0 || *number != 0 {
            continue;
        }
        *number = 1;
        if is_no_value(whole.kind(begin(id)?)?) {
            return None;
        }
        whole.each_word(begin(id)?, |says, value| {
            if says == Word::Type {
                wanted.push(value);
            }
            Some(())
        })?;
    }
    for (number, kept) in (1..).zip(numbers.iter_mut().filter(|number| **number != 0)) {
        *kept = number;
    }

    let (mut types, mut strings) = (Vec::new(), vec![0]);
    let mut places = HashMap::from([(0, 0)]);
    for (id, _) in numbers.iter().enumerate().filter(|(_, kept)| **kept != 0) {
        let at = whole.begins[id] as usize;
        whole.each_word(at, |says, value| {
            let value = match says {
                Word::Plain => value,
                Word::Pointee => 0,
                Word::Type => *numbers.get(value as usize)?,
                Word::Name => match places.get(&value) {
                    Some(place) => *place,
                    None => {
                        let place = u32::try_from(strings.len()).ok()?;
                        strings.extend_from_slice(whole.name(value)?);
                        strings.push(0);
                        places.insert(value, place);
                        place
                    }
                },
            };
            types.extend_from_slice(&value.to_ne_bytes());
            Some(())
        })?;
    }

    let mut all = Vec::with_capacity(HEADER + types.len() + strings.len());
    all.extend_from_slice(bytes.get(..4)?); // magic, version, flags
    let (of_types, of_strings) = (types.len().try_into().ok()?, strings.len().try_into().ok()?);
    for field in [HEADER as u32, 0, of_types, of_types, of_strings] {
        all.extend_from_slice(&field.to_ne_bytes());
    }
    all.extend_from_slice(&types);
    all.extend_from_slice(&strings);
    Some(all)
}

#[cfg(test)]
mod tests {
    use super::*;

    const INT: u32 = 1 << 24;
    const STRUCT: u32 = 4 << 24;
    const POINTER: u32 = 2 << 24;

    fn btf(types: &[&[u32]], strings: &[u8]) -> Vec<u8> {
        let types = types.concat();
        let len = types.len() as u32 * 4;
        let fields = [HEADER as u32, 0, len, len, strings.len() as u32];
        let words = fields.iter().chain(&types);
        let magic = MAGIC.to_ne_bytes().into_iter().chain([1, 0]);
        magic
            .chain(words.flat_map(|word| word.to_ne_bytes()))
            .chain(strings.iter().copied())
            .collect()
    }

    const STRINGS: &[u8] = b"\0int\0other\0task\0next\0pid\0inner\0task___old\0";

    #[test]
    fn what_is_asked_for_and_what_it_consists_of() {
        let whole = btf(
            &[
                &[1, INT, 4, 32],
                &[5, STRUCT, 4],                           // other
                &[0, POINTER, 2],                          // other *
                &[25, STRUCT | 1, 4, 21, 1, 0],            // inner { int pid }
                &[11, STRUCT | 2, 12, 16, 3, 0, 0, 4, 64], // task { other *next; inner }
                &[31, STRUCT, 0],                          // task___old
            ],
            STRINGS,
        );
        let want = btf(
            &[
                &[1, INT, 4, 32],
                &[0, POINTER, 0],
                &[5, STRUCT | 1, 4, 11, 1, 0],
                &[15, STRUCT | 2, 12, 20, 2, 0, 0, 3, 64],
                &[25, STRUCT, 0],
            ],
            b"\0int\0inner\0pid\0task\0next\0task___old\0",
        );
        assert_eq!(cut(&whole, &["task", "pid"]), Some(want));
    }

    #[test]
    fn what_is_not_known_is_left_to_libbpf() {
        assert_eq!(cut(b"", &[]), None);
        assert_eq!(cut(b"\x7fELF", &[]), None);
        for broken in [
            &[1, 31 << 24, 4][..],
            &[1, STRUCT | 9, 4],
            &[1, STRUCT | 1, 4, 1, 77, 0],
            &[1, STRUCT | 1, 4, 77, 1, 0],
        ] {
            assert_eq!(cut(&btf(&[broken], STRINGS), &["int"]), None);
        }
    }

    #[test]
    fn the_header_names_the_types() {
        for name in ["task_struct", "pt_regs", "kuid_t", "cgroup_subsys_id"] {
            assert!(KERNEL_TYPES.contains(&name), "{name}");
        }
    }
}
