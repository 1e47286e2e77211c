// SPDX-License-Identifier: BSD-2-Clause
//! How records reach user space: one ring buffer, or a perf buffer for each CPU,
//! behind one poll.

use std::cell::RefCell;
use std::fmt;
use std::os::fd::BorrowedFd;

use anyhow::Context as _;
use anyhow::Result;
use libbpf_rs::Map;
use libbpf_rs::MapType;
use libbpf_rs::OpenObject;
use libbpf_rs::PerfBuffer;
use libbpf_rs::PerfBufferBuilder;
use libbpf_rs::RingBuffer;
use libbpf_rs::RingBufferBuilder;
use nix::unistd;

use crate::cli::TransportChoice;
use crate::session::Source;

/// The map that carries records (src/bpf/event.bpf.h).
pub const MAP: &str = "hello_events";

const RING_DEFAULT: u32 = 1 << 20;
const PERF_DEFAULT: u32 = 256 << 10;

/// Records read in one go at the most, so that a storm cannot keep hello from
/// looking at the clock and at signals.
const BATCH: usize = 16 << 10;

/// Bytes in a page: 16 or 64 KiB on some arm64 kernels.
fn page() -> u32 {
    let page = unistd::sysconf(unistd::SysconfVar::PAGE_SIZE)
        .ok()
        .flatten();
    page.and_then(|page| u32::try_from(page).ok())
        .unwrap_or(4096)
}

/// Which buffer, how large.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Plan {
    /// Perf buffers instead of the ring buffer.
    pub perf: bool,
    /// Bytes, of the ring or of each CPU's perf buffer; a power of two.
    pub size: u32,
}

impl Plan {
    /// From the command line and from what this kernel has.
    pub fn choose(choice: TransportChoice, size: Option<u32>) -> Self {
        let perf = match choice {
            TransportChoice::Ring => false,
            TransportChoice::Perf => true,
            TransportChoice::Auto => !MapType::RingBuf.is_supported().unwrap_or(true),
        };
        let default = if perf { PERF_DEFAULT } else { RING_DEFAULT };
        Self {
            perf,
            size: size.unwrap_or(default).max(page()),
        }
    }

    /// Shapes the map accordingly, before the object is loaded.
    ///
    /// # Errors
    /// libbpf refuses.
    pub fn configure(self, object: &mut OpenObject) -> Result<()> {
        for mut map in object.maps_mut().filter(|map| map.name() == MAP) {
            if self.perf {
                map.set_type(MapType::PerfEventArray)?;
                map.set_key_size(4)?;
                map.set_value_size(4)?;
                map.set_max_entries(0)?; // libbpf: one for each CPU
            } else {
                map.set_max_entries(self.size)?;
            }
        }
        Ok(())
    }
}

impl fmt::Display for Plan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let size = match self.size {
            size if size >= 1 << 20 => format!("{} MiB", size >> 20),
            size => format!("{} KiB", size >> 10),
        };
        if self.perf {
            write!(f, "perf buffers of {size} for each CPU")
        } else {
            write!(f, "ring buffer {size}")
        }
    }
}

/// The reading end.
#[derive(Debug)]
pub enum Transport<'cb> {
    /// BPF_MAP_TYPE_RINGBUF.
    Ring(RingBuffer<'cb>),
    /// BPF_MAP_TYPE_PERF_EVENT_ARRAY.
    Perf(PerfBuffer<'cb>),
}

impl<'cb> Transport<'cb> {
    /// Opens the map for reading; every record goes to `source`.
    ///
    /// # Errors
    /// No memory for the buffer, or no leave to open perf events.
    pub fn open(map: &Map<'_>, plan: Plan, source: &'cb RefCell<dyn Source + 'cb>) -> Result<Self> {
        if plan.perf {
            let buffer = PerfBufferBuilder::new(map)
                .pages((plan.size / page()).max(1) as usize)
                .sample_cb(|_, record: &[u8]| source.borrow_mut().record(record))
                .build()
                .context("cannot open the perf buffers")?;
            return Ok(Self::Perf(buffer));
        }
        let mut builder = RingBufferBuilder::new();
        builder.add(map, |record: &[u8]| {
            source.borrow_mut().record(record);
            0
        })?;
        Ok(Self::Ring(
            builder.build().context("cannot open the ring buffer")?,
        ))
    }

    /// Becomes readable when records wait and the kernel side chose to say so.
    pub fn fd(&self) -> BorrowedFd<'_> {
        let fd = match self {
            Self::Ring(ring) => ring.epoll_fd(),
            Self::Perf(perf) => perf.epoll_fd(),
        };
        // SAFETY: the epoll descriptor lives as long as the buffer that self owns.
        unsafe { BorrowedFd::borrow_raw(fd) }
    }

    /// Reads what waits, up to a bound. True if there may be more.
    ///
    /// # Errors
    /// libbpf refuses.
    pub fn consume(&self) -> Result<bool> {
        match self {
            Self::Ring(ring) => {
                let count = ring.consume_raw_n(BATCH);
                if count < 0 {
                    return Err(std::io::Error::from_raw_os_error(-count))
                        .context("cannot read the ring buffer");
                }
                Ok(count as usize >= BATCH)
            }
            Self::Perf(perf) => {
                perf.consume().context("cannot read the perf buffers")?;
                Ok(false)
            }
        }
    }
}
