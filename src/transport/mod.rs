// SPDX-License-Identifier: BSD-2-Clause
//! How records reach user space: by ring buffers, or a perf buffer for each CPU,
//! behind one poll, in the order of their time stamps. docs/architecture.md tells why
//! it is done this way.

mod fill;
mod order;
mod plan;
mod ring;

use std::cell::Cell;
use std::cell::RefCell;
use std::os::fd::AsFd as _;
use std::os::fd::AsRawFd as _;
use std::os::fd::BorrowedFd;
use std::rc::Rc;
use std::time::Duration;

use anyhow::Context as _;
use anyhow::Result;
use libbpf_rs::MapCore;
use libbpf_rs::MapFlags;
use libbpf_rs::MapHandle;
use libbpf_rs::Object;
use libbpf_rs::PerfBuffer;
use libbpf_rs::PerfBufferBuilder;
use nix::sys::epoll::Epoll;
use nix::sys::epoll::EpollCreateFlags;
use nix::sys::epoll::EpollEvent;
use nix::sys::epoll::EpollFlags;
use nix::sys::epoll::EpollTimeout;

use crate::enrich::clocks;
use order::Order;
pub use plan::Plan;
use ring::Ring;

/// The map that carries records (src/bpf/event.bpf.h).
pub const MAP: &str = "hello_events";

/// With several rings: the map that has them.
const RINGS_MAP: &str = "hello_rings";

/// The section in which user space says when it is to be woken (`hello_wake`).
const WAKE: &str = ".data.wake";

/// `HELLO_WAKE_NEVER` there.
const WAKE_NEVER: u64 = u64::MAX;

/// Records read from a ring in one go at the most, so that a storm cannot keep hello
/// from looking at the clock and at signals.
const BATCH: usize = 1 << 10;

/// What comes after a record that has woken the reader is read together, after so long
/// at the latest; less (the order's slack) if somebody watches.
const BATCH_TIME: Duration = Duration::from_millis(100);

/// The same where a record that is still being written, by a program that was interrupted,
/// keeps those behind it from being read.
const HELD_TIME: Duration = Duration::from_millis(1);

/// The same when nothing came. A program that has looked at `hello_wake` before it was
/// written, and sends its record after the buffer was found empty, wakes nobody; it
/// is done within the first BATCH_TIME, and what took longer is found by this.
const IDLE_TIME: Duration = Duration::from_secs(1);

/// The reading end.
#[derive(Debug)]
pub struct Transport {
    buffer: Buffer,
    order: Rc<RefCell<Order>>,
    /// Each event is to be told at once, for somebody watches.
    is_watched: bool,
    pace: Cell<Pace>,
}

/// What is to be done next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Pace {
    /// There is more to read.
    More,
    /// There is more, behind a record that is still being written.
    Held,
    /// All has been read.
    Busy,
    /// Nothing was there, and nothing waits for its turn.
    Quiet,
    /// The same for some time.
    Idle,
}

#[derive(Debug)]
enum Buffer {
    /// BPF_MAP_TYPE_RINGBUF.
    Rings(Rings),
    /// BPF_MAP_TYPE_PERF_EVENT_ARRAY.
    Perf(PerfBuffer<'static>),
}

#[derive(Debug)]
struct Rings {
    rings: RefCell<Vec<Ring>>,
    /// Readable once for each wake-up, not as long as there is anything in a ring: in a
    /// storm that would wake us for every few records.
    wakeups: Epoll,
    /// Bytes that are a reason to wake us.
    mark: u64,
    wake: MapHandle,
}

impl Rings {
    fn open(object: &Object, plan: Plan, rings: &[MapHandle]) -> Result<Self> {
        let map = |name| {
            let map = object.maps().find(|map| map.name() == name);
            let map = map.with_context(|| format!("the object has no map {name}"))?;
            MapHandle::try_from(&map).with_context(|| format!("cannot open the map {name}"))
        };
        if rings.is_empty() {
            return Self::of(&[map(MAP)?], map(WAKE)?, plan);
        }
        let by_group = map(RINGS_MAP)?;
        for (group, ring) in (0u32..).zip(rings) {
            let fd = ring.as_fd().as_raw_fd();
            by_group
                .update(&group.to_ne_bytes(), &fd.to_ne_bytes(), MapFlags::ANY)
                .context("cannot hand the ring buffers over")?;
        }
        Self::of(rings, map(WAKE)?, plan)
    }

    fn of(maps: &[MapHandle], wake: MapHandle, plan: Plan) -> Result<Self> {
        let wakeups = Epoll::new(EpollCreateFlags::EPOLL_CLOEXEC).context("epoll_create")?;
        let mut rings = Vec::new();
        for map in maps {
            let ring = Ring::map(map, plan::page() as usize, map.max_entries() as usize);
            rings.push(ring.with_context(|| format!("cannot map the {plan}"))?);
            let once = EpollEvent::new(EpollFlags::EPOLLIN | EpollFlags::EPOLLET, 0);
            wakeups.add(map.as_fd(), once).context("epoll_ctl")?;
        }
        Ok(Self {
            rings: RefCell::new(rings),
            wakeups,
            mark: u64::from(plan.size / 4),
            wake,
        })
    }

    /// Bytes that wait in the fullest.
    fn waiting(&self) -> u64 {
        let rings = self.rings.borrow();
        let waiting = rings.iter().map(Ring::waiting).max();
        waiting.unwrap_or(0) as u64
    }

    /// Takes note of a wake-up, so that the next one is told.
    fn woke(&self) -> Result<()> {
        let mut events = [EpollEvent::empty(); 8];
        let woken = self.wakeups.wait(&mut events, EpollTimeout::ZERO);
        woken.map(drop).context("epoll_wait")
    }

    /// Asks to be woken when so many bytes wait. Each time anew: who has woken us took the
    /// mark away, and the epoll says nothing of it if the ring was empty again by then.
    fn wake_at(&self, bytes: u64) -> Result<()> {
        self.wake
            .update(&0u32.to_ne_bytes(), &bytes.to_ne_bytes(), MapFlags::ANY)
            .context("cannot ask to be woken")
    }
}

type Sink = Rc<RefCell<Order>>;

/// What was read.
struct Read {
    /// There may be more.
    more: bool,
    any: bool,
    /// The newest time stamp (ns) that nothing much older can follow, if there is more.
    until: u64,
}

impl Transport {
    /// Opens the maps for reading: those of the object, and the rings that
    /// [`Plan::configure`] has made.
    ///
    /// # Errors
    /// No memory for the buffer, or no leave to open perf events.
    pub fn open(
        object: &Object,
        plan: Plan,
        rings: &[MapHandle],
        is_watched: bool,
    ) -> Result<Self> {
        let order = Sink::default();
        let buffer = if plan.perf {
            let map = object.maps().find(|map| map.name() == MAP);
            let map = map.with_context(|| format!("the object has no map {MAP}"))?;
            let into = Rc::clone(&order);
            let builder = PerfBufferBuilder::new(&map)
                .pages(plan.pages())
                .sample_cb(move |_, record: &[u8]| into.borrow_mut().push(record, &[]));
            Buffer::Perf(builder.build().context("cannot open the perf buffers")?)
        } else {
            Buffer::Rings(Rings::open(object, plan, rings)?)
        };
        Ok(Self {
            buffer,
            order,
            is_watched,
            pace: Cell::new(Pace::Busy),
        })
    }

    /// Becomes readable when records wait and the kernel side chose to say so.
    pub fn fd(&self) -> BorrowedFd<'_> {
        match &self.buffer {
            Buffer::Rings(rings) => rings.wakeups.0.as_fd(),
            // SAFETY: the epoll descriptor lives as long as the buffer that self owns.
            Buffer::Perf(perf) => unsafe { BorrowedFd::borrow_raw(perf.epoll_fd()) },
        }
    }

    /// When to read next, woken or not.
    pub fn due(&self) -> Duration {
        match self.pace.get() {
            Pace::More => return Duration::ZERO,
            Pace::Held => return HELD_TIME,
            Pace::Idle => return IDLE_TIME,
            Pace::Busy | Pace::Quiet => {}
        }
        // All that waits can be handed on when the last of it can.
        let last = self.order.borrow().last();
        match last.filter(|_| self.is_watched) {
            Some(last) => {
                Duration::from_nanos((last + order::SLACK).saturating_sub(clocks::ktime()))
            }
            None => BATCH_TIME,
        }
    }

    /// Reads what waits, up to a bound, and hands on what no older record can follow.
    ///
    /// # Errors
    /// The buffers cannot be read.
    pub fn consume(&self, to: impl FnMut(&[u8])) -> Result<()> {
        // Before reading: what is younger may still be on its way.
        let now = clocks::ktime();
        if let Buffer::Rings(rings) = &self.buffer {
            rings.woke()?;
        }
        let read = self.read()?;
        let mut order = self.order.borrow_mut();
        order.release(read.until.min(now).saturating_sub(order::SLACK), to);
        let pace = match self.pace.get() {
            _ if read.more => Pace::More,
            _ if read.any || !order.is_empty() => Pace::Busy,
            Pace::Quiet | Pace::Idle => Pace::Idle,
            Pace::Busy | Pace::More | Pace::Held => Pace::Quiet,
        };
        self.pace.set(pace);
        match &self.buffer {
            Buffer::Rings(rings) if pace != Pace::More => {
                // The first record after a pause wakes us; what follows it is read with it.
                let bytes = if order.is_empty() { 0 } else { rings.mark };
                rings.wake_at(bytes)?;
                let waiting = rings.waiting();
                if waiting > 0 && !read.any {
                    // Who writes the record in front was told that hello is awake; others need
                    // not wake it before there is something to read.
                    rings.wake_at(WAKE_NEVER)?;
                    self.pace.set(Pace::Held);
                } else if waiting > rings.mark {
                    // What finds a full ring wakes nobody.
                    self.pace.set(Pace::More);
                }
                Ok(())
            }
            _ => Ok(()),
        }
    }

    /// Reads and hands on all there is, when nothing more can come.
    ///
    /// # Errors
    /// The buffers cannot be read.
    pub fn drain(&self, to: impl FnMut(&[u8])) -> Result<()> {
        while self.read()?.more {}
        self.order.borrow_mut().release(u64::MAX, to);
        Ok(())
    }

    /// Bytes that wait to be read; of several buffers those of the fullest.
    pub fn waiting(&self) -> u64 {
        match &self.buffer {
            Buffer::Rings(rings) => rings.waiting(),
            Buffer::Perf(perf) => fill::perf(perf),
        }
    }

    fn read(&self) -> Result<Read> {
        let mut read = Read {
            more: false,
            any: false,
            until: u64::MAX,
        };
        match &self.buffer {
            Buffer::Rings(rings) => {
                let mut order = self.order.borrow_mut();
                for ring in rings.rings.borrow_mut().iter_mut() {
                    let count = ring.read(BATCH, |first, rest| order.push(first, rest));
                    let newest = order.take_newest();
                    read.any |= count > 0;
                    if count >= BATCH {
                        read.more = true;
                        read.until = read.until.min(newest);
                    }
                }
            }
            Buffer::Perf(perf) => perf.consume().context("cannot read the perf buffers")?,
        }
        Ok(read)
    }
}
