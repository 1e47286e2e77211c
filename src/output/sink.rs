// SPDX-License-Identifier: BSD-2-Clause
//! Standard output in large blocks, with an exact account of what arrived.

use std::fs::File;
use std::fs::FileType;
use std::io;
use std::io::Write;
use std::mem::ManuallyDrop;
use std::os::fd::AsFd as _;
use std::os::fd::AsRawFd as _;
use std::os::fd::BorrowedFd;
use std::os::fd::FromRawFd as _;
use std::os::unix::fs::FileTypeExt as _;
use std::sync::Arc;
use std::sync::OnceLock;
use std::sync::atomic::AtomicU32;
use std::sync::atomic::Ordering;

use nix::errno::Errno;
use nix::libc;
use nix::poll::PollFd;
use nix::poll::PollFlags;
use nix::poll::PollTimeout;
use nix::poll::poll;

/// Written once so much waits, or when hello has read what it reads at a time.
const BLOCK: usize = 64 << 10;

/// Lines on their way out.
pub struct Sink {
    out: Box<dyn Write>,
    block: Vec<u8>,
    /// End of each line in `block`, and the events it stands for.
    lines: Vec<(usize, u64)>,
    written: u64,
    lost: u64,
    broken: bool,
}

impl std::fmt::Debug for Sink {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Sink")
            .field("waiting", &self.lines.len())
            .field("written", &self.written)
            .field("lost", &self.lost)
            .finish_non_exhaustive()
    }
}

impl Sink {
    /// Standard output without std's line buffer, which would write every line.
    pub fn stdout() -> Self {
        // SAFETY: descriptor 1 stays open as long as the process lives: std reopens
        // a closed one at start, and ManuallyDrop keeps this File from closing it.
        let out = ManuallyDrop::new(unsafe { File::from_raw_fd(1) });
        let kind = out.metadata().map(|meta| meta.file_type());
        let is = |is: fn(&FileType) -> bool| kind.as_ref().is_ok_and(is);
        let (is_file, takes_blocks) = (is(FileType::is_file), is(FileType::is_fifo));
        Self::new(Box::new(Stdout {
            out,
            is_file,
            takes_blocks,
        }))
    }

    /// Onto any writer.
    pub fn new(out: Box<dyn Write>) -> Self {
        Self {
            out,
            block: Vec::new(),
            lines: Vec::new(),
            written: 0,
            lost: 0,
            broken: false,
        }
    }

    /// Adds a line (without its newline) that stands for `events` events.
    pub fn push(&mut self, line: &[u8], events: u64) {
        if self.broken {
            self.lost += events;
            return;
        }
        self.block.extend_from_slice(line);
        self.block.push(b'\n');
        self.lines.push((self.block.len(), events));
    }

    /// Is there enough for a write?
    pub fn is_large(&self) -> bool {
        self.block.len() >= BLOCK
    }

    /// Events whose lines were written whole.
    pub fn written(&self) -> u64 {
        self.written
    }

    /// Events whose lines were not, or not whole.
    pub fn lost(&self) -> u64 {
        self.lost
    }

    /// Writes what waits.
    ///
    /// # Errors
    /// What write(2) says; the lines that did not arrive count as lost, and so do
    /// all later ones.
    pub fn flush(&mut self) -> io::Result<()> {
        let mut done = 0;
        let mut result = Ok(());
        while done < self.block.len() {
            match self.out.write(&self.block[done..]) {
                Ok(0) => result = Err(io::ErrorKind::WriteZero.into()),
                Ok(bytes) => done += bytes,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => result = Err(error),
            }
            if result.is_err() {
                self.broken = true;
                break;
            }
        }
        for (end, events) in self.lines.drain(..) {
            if end <= done {
                self.written += events;
            } else {
                self.lost += events;
            }
        }
        self.block.clear();
        result
    }
}

/// Counts signals; a reader that has stalled is given up after the second.
static SIGNALS: OnceLock<Arc<AtomicU32>> = OnceLock::new();

/// Says where signals are counted.
pub fn give_up_after(signals: Arc<AtomicU32>) {
    let _ = SIGNALS.set(signals);
}

fn is_given_up() -> bool {
    SIGNALS
        .get()
        .is_some_and(|signals| signals.load(Ordering::SeqCst) >= 2)
}

struct Stdout {
    out: ManuallyDrop<File>,
    is_file: bool,
    /// A pipe may be asked to take what it has room for. Of sockets some take no more at a
    /// time than fits into a datagram.
    takes_blocks: bool,
}

impl Stdout {
    /// Writes to what is ready, and no file.
    fn write_ready(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if self.takes_blocks {
            match write_what_fits(self.out.as_fd(), bytes) {
                Err(Errno::EOPNOTSUPP | Errno::ENOSYS) => self.takes_blocks = false,
                result => return Ok(result?),
            }
        }
        // A pipe that is ready takes PIPE_BUF bytes without blocking (pipe(7)), unless
        // another writer was faster. In a terminal's write a signal gets us out.
        self.out.write(&bytes[..bytes.len().min(libc::PIPE_BUF)])
    }
}

/// write(2) that does not block, whatever its file's flags are, which others may share.
/// Pipes know it since Linux 6.4 (commit afed6271f5b0).
fn write_what_fits(out: BorrowedFd<'_>, bytes: &[u8]) -> Result<usize, Errno> {
    let part = libc::iovec {
        iov_base: bytes.as_ptr().cast_mut().cast(),
        iov_len: bytes.len(),
    };
    // SAFETY: the descriptor is open; the one part is `bytes`, which is only read.
    let done = unsafe { libc::pwritev2(out.as_raw_fd(), &raw const part, 1, -1, libc::RWF_NOWAIT) };
    Ok(Errno::result(done)?.cast_unsigned())
}

impl Write for Stdout {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if self.is_file {
            return self.out.write(bytes);
        }
        loop {
            let mut fds = [PollFd::new(self.out.as_fd(), PollFlags::POLLOUT)];
            match poll(&mut fds, PollTimeout::from(100u8)) {
                Ok(0) | Err(Errno::EINTR) => {}
                Ok(_) => match self.write_ready(bytes) {
                    // Another writer was faster.
                    Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                    result => return result,
                },
                Err(errno) => return Err(errno.into()),
            }
            if is_given_up() {
                return Err(io::Error::other(
                    "its reader has stalled, given up at the second signal",
                ));
            }
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Takes `room` bytes, in small pieces, then fails like a full disk.
    struct Disk {
        room: usize,
    }

    impl Write for Disk {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            if self.room == 0 {
                return Err(io::ErrorKind::StorageFull.into());
            }
            let taken = bytes.len().min(self.room).min(3);
            self.room -= taken;
            Ok(taken)
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn a_full_disk_is_counted_to_the_line() {
        let mut sink = Sink::new(Box::new(Disk { room: 13 }));
        for _ in 0..5 {
            sink.push(b"abcd", 1);
        }
        assert_eq!(
            sink.flush().map_err(|error| error.kind()),
            Err(io::ErrorKind::StorageFull)
        );
        assert_eq!((sink.written(), sink.lost()), (2, 3));
        sink.push(b"abcd", 7);
        assert!(sink.flush().is_ok());
        assert_eq!((sink.written(), sink.lost()), (2, 10));
    }
}
