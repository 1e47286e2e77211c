// SPDX-License-Identifier: BSD-2-Clause
//! How records reach user space: one ring buffer, or a perf buffer for each CPU,
//! behind one poll, in the order of their time stamps.

mod order;

use std::cell::RefCell;
use std::fmt;
use std::os::fd::BorrowedFd;
use std::rc::Rc;
use std::time::Duration;

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
use crate::enrich::time;
use order::Order;

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
pub struct Transport {
    buffer: Buffer,
    order: Rc<RefCell<Order>>,
}

#[derive(Debug)]
enum Buffer {
    /// BPF_MAP_TYPE_RINGBUF.
    Ring(RingBuffer<'static>),
    /// BPF_MAP_TYPE_PERF_EVENT_ARRAY.
    Perf(PerfBuffer<'static>),
}

impl Transport {
    /// Opens the map for reading.
    ///
    /// # Errors
    /// No memory for the buffer, or no leave to open perf events.
    pub fn open(map: &Map<'_>, plan: Plan) -> Result<Self> {
        let order = Rc::new(RefCell::new(Order::default()));
        let into = Rc::clone(&order);
        let buffer = if plan.perf {
            let builder = PerfBufferBuilder::new(map)
                .pages((plan.size / page()).max(1) as usize)
                .sample_cb(move |_, record: &[u8]| into.borrow_mut().push(record));
            Buffer::Perf(builder.build().context("cannot open the perf buffers")?)
        } else {
            let mut builder = RingBufferBuilder::new();
            builder.add(map, move |record: &[u8]| {
                into.borrow_mut().push(record);
                0
            })?;
            Buffer::Ring(builder.build().context("cannot open the ring buffer")?)
        };
        Ok(Self { buffer, order })
    }

    /// Becomes readable when records wait and the kernel side chose to say so.
    pub fn fd(&self) -> BorrowedFd<'_> {
        let fd = match &self.buffer {
            Buffer::Ring(ring) => ring.epoll_fd(),
            Buffer::Perf(perf) => perf.epoll_fd(),
        };
        // SAFETY: the epoll descriptor lives as long as the buffer that self owns.
        unsafe { BorrowedFd::borrow_raw(fd) }
    }

    /// When records that have been read will be old enough to be handed on; `None` if
    /// there are none.
    pub fn due(&self) -> Option<Duration> {
        let oldest = self.order.borrow().oldest()?;
        let wait = (oldest + order::SLACK).saturating_sub(time::ktime());
        Some(Duration::from_nanos(wait))
    }

    /// Reads what waits, up to a bound, and hands on what no older record can follow.
    ///
    /// # Errors
    /// libbpf refuses.
    pub fn consume(&self, to: impl FnMut(&[u8])) -> Result<()> {
        // Before reading: what is younger may still be on its way.
        let now = time::ktime();
        let more = self.read()?;
        let mut order = self.order.borrow_mut();
        let known = if more { order.newest().min(now) } else { now };
        order.release(known.saturating_sub(order::SLACK), to);
        Ok(())
    }

    /// Reads and hands on all there is, when nothing more can come.
    ///
    /// # Errors
    /// libbpf refuses.
    pub fn drain(&self, to: impl FnMut(&[u8])) -> Result<()> {
        while self.read()? {}
        self.order.borrow_mut().release(u64::MAX, to);
        Ok(())
    }

    /// True if there may be more.
    fn read(&self) -> Result<bool> {
        match &self.buffer {
            Buffer::Ring(ring) => {
                let count = ring.consume_raw_n(BATCH);
                if count < 0 {
                    return Err(std::io::Error::from_raw_os_error(-count))
                        .context("cannot read the ring buffer");
                }
                Ok(count as usize >= BATCH)
            }
            Buffer::Perf(perf) => {
                perf.consume().context("cannot read the perf buffers")?;
                Ok(false)
            }
        }
    }
}
