// SPDX-License-Identifier: BSD-2-Clause
//! A file's memory, or a map's, in the address space of this process.

use std::ffi::c_void;
use std::num::NonZeroUsize;
use std::os::fd::AsFd;
use std::ptr::NonNull;

use nix::sys::mman::MapFlags;
use nix::sys::mman::ProtFlags;
use nix::sys::mman::mmap;
use nix::sys::mman::munmap;

/// A mapping of its own (mmap(2)), gone when it is dropped.
#[derive(Debug)]
pub(crate) struct Mapped {
    start: NonNull<c_void>,
    len: NonZeroUsize,
}

impl Mapped {
    /// Maps `len` bytes of `file` from `offset` on, a multiple of the page's size.
    ///
    /// # Errors
    /// As mmap(2): the file cannot be mapped that way, or there is no memory.
    pub(crate) fn new(
        file: impl AsFd,
        offset: usize,
        len: NonZeroUsize,
        access: ProtFlags,
        flags: MapFlags,
    ) -> nix::Result<Self> {
        let offset = offset.try_into().map_err(|_| nix::Error::EOVERFLOW)?;
        // SAFETY: a new mapping, which takes no other's place.
        let start = unsafe { mmap(None, len, access, flags, file, offset) }?;
        Ok(Self { start, len })
    }

    /// Its first byte; the others follow up to [`Self::len`].
    pub(crate) fn start(&self) -> NonNull<u8> {
        self.start.cast()
    }

    /// Bytes that are mapped.
    pub(crate) fn len(&self) -> usize {
        self.len.get()
    }
}

impl Drop for Mapped {
    fn drop(&mut self) {
        // SAFETY: self's own mapping, and nobody has a reference into it any more.
        let _ = unsafe { munmap(self.start, self.len.get()) };
    }
}
