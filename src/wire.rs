// SPDX-License-Identifier: BSD-2-Clause
//! Kernel records to Rust values. The types come from the BTF of the objects
//! themselves, so there is no second definition to keep in step; this file has
//! the only `unsafe` that turns bytes into them.

use std::fmt;

use libbpf_rs::MapCore;
use libbpf_rs::MapFlags;
use plain::Plain;

mod skeleton {
    #![allow(
        missing_docs,
        unreachable_pub,
        dead_code,
        unsafe_op_in_unsafe_fn,
        clippy::all,
        clippy::pedantic
    )]
    #![allow(
        clippy::undocumented_unsafe_blocks,
        clippy::uninlined_format_args,
        clippy::redundant_closure_for_method_calls
    )]
    include!(concat!(env!("OUT_DIR"), "/hello.skel.rs"));
}

/// Types that all modes share (src/bpf/hello.bpf.c).
pub use skeleton::types;

/// Declares types from a skeleton as fit to be read from bytes.
#[macro_export]
macro_rules! wire {
    ($($name:path),+ $(,)?) => {$(
        const _: () = {
            assert!(align_of::<$name>() <= 8 && !std::mem::needs_drop::<$name>());
        };
        // SAFETY: the type is `repr(C)` and made of fixed-width integers and arrays
        // of them only: the kernel side has no bool, pointer, bitfield or Rust enum
        // in a record (CONTRIBUTING: no mirrored structs), so any bytes are a value.
        unsafe impl plain::Plain for $name {}
    )+};
}

wire!(
    types::hello_config,
    types::hello_ledger,
    types::hello_task,
    types::hello_key,
    types::hello_row,
    types::hello_timed,
    types::hello_bucket_key,
    types::hello_bucket_count,
    types::hello_sum,
    types::hello_control
);

/// A record that is not what its mode expects: kernel and user side disagree,
/// which is a defect of hello.
#[derive(Debug)]
pub struct WireError {
    want: usize,
    got: usize,
}

impl fmt::Display for WireError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "a record of {} bytes where {} were expected",
            self.got, self.want
        )
    }
}

impl std::error::Error for WireError {}

/// Reads a `T` from the start of a record; bytes after it (text, padding of the
/// perf buffer) are left alone, no alignment is needed.
///
/// # Errors
/// The record is too short.
pub fn decode<T: Plain + Default>(record: &[u8]) -> Result<T, WireError> {
    let mut value = T::default();
    plain::copy_from_bytes(&mut value, record).map_err(|_| WireError {
        want: size_of::<T>(),
        got: record.len(),
    })?;
    Ok(value)
}

/// `len` bytes after a `T` in a record: its path or text.
///
/// # Errors
/// The record is too short.
pub fn tail<T>(record: &[u8], len: usize) -> Result<&[u8], WireError> {
    let start = size_of::<T>();
    record.get(start..start + len).ok_or(WireError {
        want: start + len,
        got: record.len(),
    })
}

/// `len` bytes from `at` on after a `T` in a record: one of several texts.
///
/// # Errors
/// The record is too short.
pub fn part<T>(record: &[u8], at: usize, len: usize) -> Result<&[u8], WireError> {
    Ok(&tail::<T>(record, at + len)?[at..])
}

/// A NUL-terminated text in a field, without the NUL.
pub fn text(field: &[u8]) -> &[u8] {
    field.split(|byte| *byte == 0).next().unwrap_or_default()
}

/// The bytes of a value, to write it into a map.
pub fn bytes<T: Plain>(value: &T) -> &[u8] {
    // SAFETY: Plain types are made of integers without padding between them, so
    // each of their bytes is initialised.
    unsafe { plain::as_bytes(value) }
}

/// The u64 that a map has under `key`, all CPUs added up; 0 if there is none.
///
/// # Errors
/// The kernel refuses the lookup.
pub fn sum_u64(map: &dyn MapCore, key: &[u8]) -> libbpf_rs::Result<u64> {
    let of = |bytes: &[u8]| bytes.try_into().map_or(0, u64::from_ne_bytes);
    if map.map_type().is_percpu() {
        let values = map.lookup_percpu(key, MapFlags::ANY)?;
        Ok(values.iter().flatten().map(|value| of(value)).sum())
    } else {
        Ok(map
            .lookup(key, MapFlags::ANY)?
            .map_or(0, |value| of(&value)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fixed_bytes() {
        let mut record = Vec::new();
        for word in [123_456_789u64, 4, 42, 0] {
            record.extend(word.to_ne_bytes());
        }
        for word in [4321u32, 4322, 1, 1000, 100, 7] {
            record.extend(word.to_ne_bytes());
        }
        record.extend(b"bash\0garbage\xff\0\0\0");
        record.extend(b"zsh\0garbage\xff\0\0\0\0");
        record.extend(b"/etc/passwd\0\0\0");
        let task: types::hello_task = decode(&record).expect("long enough");
        assert_eq!(
            (task.ktime, task.wall, task.cgroup_id),
            (123_456_789, 4, 42)
        );
        assert_eq!(
            (task.pid, task.tid, task.ppid, task.uid),
            (4321, 4322, 1, 1000)
        );
        assert_eq!((task.gid, task.ns_pid), (100, 7));
        assert_eq!(text(&task.comm), b"bash");
        assert_eq!(text(&task.process), b"zsh");
        assert_eq!(
            tail::<types::hello_task>(&record, 11).ok(),
            Some(&b"/etc/passwd"[..])
        );
        assert!(tail::<types::hello_task>(&record, 15).is_err());
        let error = decode::<types::hello_task>(&record[..87])
            .map(|_| ())
            .unwrap_err();
        assert_eq!(
            error.to_string(),
            "a record of 87 bytes where 88 were expected"
        );
        assert_eq!(text(b"full length 16 B"), b"full length 16 B");
    }
}
