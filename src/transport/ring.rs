// SPDX-License-Identifier: BSD-2-Clause
//! The reading end of a ring buffer.
//!
//! What the kernel shares of one (kernel/bpf/ringbuf.c): a page with the reader's position,
//! which only the reader writes; then, for reading, a page with the writers' position, and
//! the data. Positions count bytes for ever; a record lies where its position is, modulo
//! the size. Eight bytes go before it, of which four are its length and two bits: it is
//! being written, it was given up.
//!
//! Not libbpf's reader: that maps the data twice in a row, so that no record ends before it
//! begins, and a ring takes twice its size of what `ps` shows. Here a record that goes
//! over the end is handed on in two pieces; it is copied anyway. And the position is not
//! given to the kernel after each record, which would take a line of the cache away from
//! all who write.

use std::num::NonZeroUsize;
use std::os::fd::AsFd;
use std::sync::atomic::AtomicU32;
use std::sync::atomic::AtomicUsize;
use std::sync::atomic::Ordering;
use std::sync::atomic::fence;

use nix::sys::mman::MapFlags;
use nix::sys::mman::ProtFlags;

use crate::mapped::Mapped;

/// `BPF_RINGBUF_BUSY_BIT`, `BPF_RINGBUF_DISCARD_BIT`, `BPF_RINGBUF_HDR_SZ` of linux/bpf.h.
const BUSY: u32 = 1 << 31;
const DISCARDED: u32 = 1 << 30;
const HEADER: usize = 8;

/// Of the ring, what is given back to the writers in one go: a 64th.
const GIVE_BACK: usize = 64;

/// One ring, and how far it was read.
#[derive(Debug)]
pub(super) struct Ring {
    /// One page: the reader's position.
    reader: Mapped,
    /// One page, the writers' position, and the data.
    written: Mapped,
    /// Bytes in that page.
    page: usize,
    /// Bytes of data, a power of two.
    size: usize,
    /// Where to read next.
    at: usize,
    /// What the kernel knows of that.
    told: usize,
}

impl Ring {
    /// Maps a ring buffer of `size` bytes, a power of two, as its map says.
    ///
    /// # Errors
    /// As mmap(2).
    pub(super) fn map(ring: impl AsFd, page: usize, size: usize) -> nix::Result<Self> {
        if !size.is_power_of_two() {
            return Err(nix::Error::EINVAL);
        }
        let map = |offset, len, access| {
            let len = NonZeroUsize::new(len).ok_or(nix::Error::EINVAL)?;
            Mapped::new(&ring, offset, len, access, MapFlags::MAP_SHARED)
        };
        let write = ProtFlags::PROT_READ | ProtFlags::PROT_WRITE;
        let mut ring = Self {
            reader: map(0, page, write)?,
            written: map(page, page + size, ProtFlags::PROT_READ)?,
            page,
            size,
            at: 0,
            told: 0,
        };
        ring.at = ring.reader().load(Ordering::Relaxed);
        ring.told = ring.at;
        Ok(ring)
    }

    fn reader(&self) -> &AtomicUsize {
        // SAFETY: an unsigned long at the beginning of a page that lives as long as self.
        unsafe { AtomicUsize::from_ptr(self.reader.start().as_ptr().cast()) }
    }

    /// How far records were begun.
    fn written(&self) -> usize {
        // SAFETY: an unsigned long at the beginning of a page that lives as long as self. It
        // may be one that is only read, for a relaxed load of a word does not write
        // (std::sync::atomic, "Atomic accesses to read-only memory").
        let position: &AtomicUsize = unsafe { self.written.start().cast().as_ref() };
        let position = position.load(Ordering::Relaxed);
        fence(Ordering::Acquire);
        position
    }

    /// A record's length and its two bits.
    fn header(&self, at: usize) -> u32 {
        let offset = self.page + (at & (self.size - 1));
        debug_assert!(offset.is_multiple_of(HEADER) && offset < self.written.len());
        // SAFETY: within the mapping, and aligned, for records are to eight bytes; only
        // loaded, as above.
        let header: &AtomicU32 = unsafe { self.written.start().add(offset).cast().as_ref() };
        let header = header.load(Ordering::Relaxed);
        fence(Ordering::Acquire);
        header
    }

    /// Bytes of a record, no more than the ring has, in two pieces if it goes over the end.
    fn record(&self, at: usize, len: usize) -> (&[u8], &[u8]) {
        let offset = at & (self.size - 1);
        let first = len.min(self.size - offset);
        let data = |offset: usize, len: usize| {
            // SAFETY: within the data, and no writer comes here before `told` has passed it,
            // for which self is borrowed mutably.
            unsafe {
                std::slice::from_raw_parts(
                    self.written.start().as_ptr().add(self.page + offset),
                    len,
                )
            }
        };
        (data(offset, first), data(0, len - first))
    }

    /// Bytes that wait, with those of records that are being written.
    pub(super) fn waiting(&self) -> usize {
        self.written().wrapping_sub(self.at)
    }

    /// Reads up to so many records, from the oldest on, up to the first that is still being
    /// written; returns how many it passed.
    pub(super) fn read(&mut self, most: usize, mut to: impl FnMut(&[u8], &[u8])) -> usize {
        let mut passed = 0;
        let mut written = self.at;
        while passed < most {
            if self.at == written {
                written = self.written();
                if self.at == written {
                    break;
                }
            }
            let header = self.header(self.at);
            if header & BUSY != 0 {
                break;
            }
            let len = (header & !(BUSY | DISCARDED)) as usize;
            // The kernel sees to it; what follows would read other memory.
            assert!(len <= self.size - HEADER, "a record larger than its ring");
            if header & DISCARDED == 0 {
                let (first, rest) = self.record(self.at.wrapping_add(HEADER), len);
                to(first, rest);
            }
            self.at = self
                .at
                .wrapping_add((HEADER + len).next_multiple_of(HEADER));
            passed += 1;
            if self.at.wrapping_sub(self.told) > self.size / GIVE_BACK {
                self.tell();
            }
        }
        self.tell();
        passed
    }

    /// Lets the writers have what was read.
    fn tell(&mut self) {
        if self.told != self.at {
            self.reader().store(self.at, Ordering::Release);
            self.told = self.at;
        }
    }
}

#[cfg(test)]
mod tests {
    use std::fs::File;
    use std::os::unix::fs::FileExt as _;

    use nix::sys::memfd::MFdFlags;
    use nix::sys::memfd::memfd_create;

    use super::*;
    use crate::transport::plan;

    const SIZE: usize = 8192;

    fn page() -> usize {
        plan::page() as usize
    }

    /// A file that looks like a ring, and the kernel's part of the work.
    struct Writer {
        file: File,
        at: usize,
    }

    impl Writer {
        fn new() -> Self {
            let file = File::from(memfd_create("ring", MFdFlags::MFD_CLOEXEC).expect("a file"));
            file.set_len((2 * page() + SIZE) as u64).expect("its size");
            Self { file, at: 0 }
        }

        fn put(&self, at: usize, bytes: &[u8]) {
            let (first, rest) = bytes.split_at(bytes.len().min(SIZE - at % SIZE));
            for (at, bytes) in [(at % SIZE, first), (0, rest)] {
                let offset = (2 * page() + at) as u64;
                self.file.write_all_at(bytes, offset).expect("room");
            }
        }

        /// How far it knows that it was read.
        fn read_to(&self) -> usize {
            let mut read = [0; size_of::<usize>()];
            self.file.read_exact_at(&mut read, 0).expect("a position");
            usize::from_ne_bytes(read)
        }

        fn header(&self, at: usize, len: usize, bits: u32) {
            self.put(at, &(len as u32 | bits).to_ne_bytes());
        }

        /// Writes a record and returns where, or `None` if the ring is full.
        fn write(&mut self, bytes: &[u8], bits: u32) -> Option<usize> {
            let (at, next) = (
                self.at,
                self.at + (HEADER + bytes.len()).next_multiple_of(8),
            );
            if next - self.read_to() >= SIZE {
                return None;
            }
            self.put(at + HEADER, bytes);
            self.header(at, bytes.len(), bits);
            self.at = next;
            let position = next.to_ne_bytes();
            self.file
                .write_all_at(&position, page() as u64)
                .expect("room");
            Some(at)
        }
    }

    fn read(ring: &mut Ring, most: usize) -> Vec<Vec<u8>> {
        let mut seen = Vec::new();
        ring.read(most, |first, rest| seen.push([first, rest].concat()));
        seen
    }

    /// Records of all lengths, at all places, as many as fit before each read, which gives
    /// their room back while it goes on.
    #[test]
    fn every_record_is_read_once_and_whole() {
        let mut writer = Writer::new();
        let mut ring = Ring::map(&writer.file, page(), SIZE).expect("a ring");
        let record = |number: usize| -> Vec<u8> {
            let len = 8 + number * 37 % 1009;
            (number..number + len).map(|byte| byte as u8).collect()
        };
        let (mut written, mut seen, mut in_two) = (0, 0, 0);
        while seen < 4001 {
            while writer.write(&record(written), 0).is_some() {
                written += 1;
            }
            assert!(ring.waiting() > SIZE - 1100);
            let mut at = ring.at;
            ring.read(7 + seen % 5, |first, rest| {
                in_two += usize::from(!rest.is_empty());
                assert!(
                    at - writer.read_to() <= SIZE / GIVE_BACK,
                    "room is given back soon"
                );
                at += (HEADER + first.len() + rest.len()).next_multiple_of(8);
                assert!(first.len() >= 8, "the time stamp is in one piece");
                assert!([first, rest].concat() == record(seen), "{seen}");
                seen += 1;
            });
        }
        assert!(in_two > 100);
    }

    #[test]
    fn what_is_being_written_is_waited_for_and_what_was_given_up_is_not_told() {
        let mut writer = Writer::new();
        let mut ring = Ring::map(&writer.file, page(), SIZE).expect("a ring");
        writer.write(b"one-----", 0);
        writer.write(b"given up", DISCARDED);
        let busy = writer.write(b"two-----", BUSY).expect("room");
        writer.write(b"three---", 0);
        assert_eq!(read(&mut ring, 9), [b"one-----"]);
        assert_eq!((read(&mut ring, 9).len(), ring.waiting()), (0, 32));
        writer.header(busy, 8, 0);
        assert_eq!(read(&mut ring, 1), [b"two-----"]);
        assert_eq!(read(&mut ring, 9), [b"three---"]);
        assert_eq!((read(&mut ring, 9).len(), ring.waiting()), (0, 0));
    }

    /// As where another reader, which is gone, has left it.
    #[test]
    fn reading_begins_where_the_ring_was_read_to() {
        let mut writer = Writer::new();
        let mut ring = Ring::map(&writer.file, page(), SIZE).expect("a ring");
        writer.write(b"old-----", 0);
        assert_eq!(read(&mut ring, 9).len(), 1);
        drop(ring);
        writer.write(b"new-----", 0);
        let mut ring = Ring::map(&writer.file, page(), SIZE).expect("a ring");
        assert_eq!(read(&mut ring, 9), [b"new-----"]);
    }
}
