// SPDX-License-Identifier: BSD-2-Clause
//! The modes. Each is a room of two files: `src/bpf/NAME.bpf.c` and
//! `src/modes/NAME.rs`, which has an `INFO`, a skeleton and a `run`. To add one,
//! write the two and put its name into the list below.

use anyhow::Result;

use crate::cli::ModeInfo;
use crate::cli::UsageError;
use crate::enrich::syscalls;
use crate::enrich::syscalls::Call;
use crate::session::Context;
use crate::session::Report;

/// Includes a mode's generated skeleton as `mod skel`, with the object's bytes.
macro_rules! skeleton {
    ($mode:literal) => {
        pub(super) mod skel {
            #![allow(missing_docs, unreachable_pub, dead_code, unsafe_op_in_unsafe_fn)]
            #![allow(clippy::all, clippy::pedantic, clippy::undocumented_unsafe_blocks)]
            #![allow(
                clippy::uninlined_format_args,
                clippy::redundant_closure_for_method_calls
            )]
            include!(concat!(env!("OUT_DIR"), "/", $mode, ".skel.rs"));
            pub(in crate::modes) fn object() -> &'static [u8] {
                &DATA
            }
        }
    };
}

mod counts;
mod events;

macro_rules! modes {
    ($($mode:ident),+ $(,)?) => {
        $(pub mod $mode;)+

        /// All modes, in the order of the book.
        pub const MODES: &[Mode] = &[$(Mode {
            info: &$mode::INFO,
            object: $mode::skel::object,
            run: $mode::run,
        }),+];
    };
}

modes! { trace, map, buffer, file, tail, syscount, exec }

/// Numbers of one ABI's table lie below (HELLO_NR_MAX in src/bpf/hello.bpf.h).
const NR_MAX: u32 = 1024;

/// A mode as the rest of the program sees it.
#[derive(Debug)]
pub struct Mode {
    /// What the command line has to know of it.
    pub info: &'static ModeInfo,
    /// Its kernel side, the bytes of the ELF object.
    pub object: fn() -> &'static [u8],
    run: fn(&mut Context) -> Result<Report>,
}

impl Mode {
    /// The mode of that name.
    pub fn named(name: &str) -> Option<&'static Self> {
        MODES.iter().find(|mode| mode.info.name == name)
    }

    /// Runs it to its end.
    ///
    /// # Errors
    /// What failed, why, and what to do.
    pub fn run(&self, cx: &mut Context) -> Result<Report> {
        (self.run)(cx)
    }

    /// Does it print tables of counts, not events?
    pub fn counts(&self) -> bool {
        self.info.options.contains(&"by")
    }
}

/// An object as clang wrote it; `build.rs` has packed it. Of a damaged one nothing is
/// left, which libbpf refuses.
pub(crate) fn unpack(packed: &[u8]) -> Vec<u8> {
    let mut object = miniz_oxide::inflate::decompress_to_vec_zlib(packed).unwrap_or_default();
    object.shrink_to_fit(); // it has grown by doubling, and stays
    object
}

/// The calls of these names or numbers, in every ABI that has them.
fn named_calls(names: &[String]) -> Result<Vec<Call>, UsageError> {
    let mut calls = Vec::new();
    for name in names.iter().map(|name| name.trim()) {
        if name.parse::<u32>().is_ok_and(|number| number >= NR_MAX) {
            return Err(UsageError(format!(
                "no system call {name}: numbers go up to {}",
                NR_MAX - 1
            )));
        }
        calls.extend(syscalls::resolve(name).map_err(|nearest| {
            let hint = match nearest.as_slice() {
                [] => "`ausyscall --dump` or syscalls(2) lists them".to_owned(),
                names => format!("did you mean {}?", names.join(", ")),
            };
            UsageError(format!(
                "no system call {name:?} on this architecture; {hint}"
            ))
        })?);
    }
    Ok(calls)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// "Any kernel from 5.8 on": an atomic that fetches is 5.12, and compilers differ
    /// in when they make one of a plain one.
    #[test]
    fn no_instruction_is_newer_than_linux_5_8() {
        const STX_ATOMIC: [u8; 2] = [0xc3, 0xdb]; // BPF_STX | BPF_ATOMIC, 32 and 64 bits
        const SIGNED: [u8; 2] = [0x81, 0x99]; // sign-extending loads of -mcpu=v4
        let mut seen = 0;
        for mode in MODES {
            let mut builder = libbpf_rs::ObjectBuilder::default();
            let object = builder
                .open_memory((mode.object)())
                .expect("the object opens");
            for program in object.progs() {
                for instruction in program.insns() {
                    seen += 1;
                    let plain = !STX_ATOMIC.contains(&instruction.code) || instruction.imm == 0;
                    let name = program.name().display();
                    assert!(plain, "{name} has an atomic of kind {:#x}", instruction.imm);
                    assert!(
                        !SIGNED.contains(&instruction.code),
                        "{name} is for -mcpu=v4"
                    );
                }
            }
        }
        assert!(
            seen > 1000,
            "only {seen} instructions: does this test still see them?"
        );
    }
}
