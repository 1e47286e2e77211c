// SPDX-License-Identifier: BSD-2-Clause
//! Which buffers, how many, how large.

use std::fmt;
use std::os::fd::AsFd as _;

use anyhow::Context as _;
use anyhow::Result;
use libbpf_rs::MapHandle;
use libbpf_rs::MapType;
use libbpf_rs::OpenObject;
use libbpf_rs::libbpf_sys;
use nix::unistd;
use nix::unistd::SysconfVar;

use super::MAP;
use super::RINGS_MAP;
use crate::cli::TransportChoice;
use crate::cli::UsageError;

/// Of each CPU's perf buffer.
const PERF_DEFAULT: u32 = 256 << 10;

/// CPUs that share a ring unless `--rings` says otherwise: see docs/architecture.md.
const RING_CPUS: u32 = 16;

fn sysconf(variable: SysconfVar) -> Option<u64> {
    let value = unistd::sysconf(variable).ok().flatten()?;
    u64::try_from(value).ok()
}

/// Bytes in a page: 16 or 64 KiB on some arm64 kernels.
pub(super) fn page() -> u32 {
    let page = sysconf(SysconfVar::PAGE_SIZE).and_then(|page| u32::try_from(page).ok());
    page.unwrap_or(4096)
}

fn cpus() -> u32 {
    let cpus = sysconf(SysconfVar::_NPROCESSORS_ONLN).and_then(|cpus| u32::try_from(cpus).ok());
    cpus.unwrap_or(1).max(1)
}

/// Bytes of all rings together unless `--buffer-size` says otherwise: a power of two,
/// 512 KiB for each CPU, between 8 and 64 MiB, and not more than a 256th of the memory,
/// but for 256 KiB.
///
/// An open makes a record of some 250 bytes: a MiB is 8 ms of a CPU that opens a file
/// every 2 us, or 20 ms as fast as one can under hello. A reader is woken at a quarter; it
/// waits for its turn on a busy CPU, and for a disk or a hypervisor 100 ms and more.
fn ring_default(cpus: u32, memory: u64) -> u32 {
    let wanted = (u64::from(cpus) << 19).clamp(8 << 20, 64 << 20);
    let share = (memory / 256).max(256 << 10);
    let power = |bytes: u64| 1 << bytes.ilog2();
    u32::try_from(wanted.next_power_of_two().min(power(share))).unwrap_or(8 << 20)
}

/// Bytes of each of several rings that have no more than so many together.
fn each_of(rings: u32, bytes: u32) -> u32 {
    1 << (bytes / rings).max(1).ilog2()
}

/// Which buffers, how large.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Plan {
    /// Perf buffers instead of ring buffers.
    pub perf: bool,
    /// Ring buffers; 1 with perf buffers.
    pub rings: u32,
    /// Bytes, of each ring or of each CPU's perf buffer; a power of two.
    pub size: u32,
}

impl Plan {
    /// From the command line and from what this machine has.
    ///
    /// # Errors
    /// Ring buffers are asked for that this kernel does not have.
    pub fn choose(
        choice: TransportChoice,
        size: Option<u32>,
        rings: Option<u32>,
    ) -> Result<Self, UsageError> {
        let perf = match choice {
            TransportChoice::Ring => false,
            TransportChoice::Perf => true,
            TransportChoice::Auto => !MapType::RingBuf.is_supported().unwrap_or(true),
        };
        if perf && rings.is_some() {
            return Err(UsageError(
                "--rings: this kernel has no ring buffers, which are of Linux 5.8".into(),
            ));
        }
        let rings = match rings {
            Some(rings) => rings,
            None if perf => 1,
            None => (cpus() / RING_CPUS).max(1),
        };
        let memory = sysconf(SysconfVar::_PHYS_PAGES).unwrap_or(0) * u64::from(page());
        let default = if perf {
            PERF_DEFAULT
        } else {
            each_of(rings, ring_default(cpus(), memory))
        };
        Ok(Self {
            perf,
            rings,
            size: size.unwrap_or(default).max(page()),
        })
    }

    /// CPUs, neighbours by number, that share one of several rings.
    pub fn ring_cpus(self) -> u32 {
        cpus().div_ceil(self.rings)
    }

    /// Pages of a perf buffer.
    pub(super) fn pages(self) -> usize {
        (self.size / page()).max(1) as usize
    }

    /// Shapes the maps accordingly, before the object is loaded; returns the rings, if
    /// there are several.
    ///
    /// # Errors
    /// No memory for them, or libbpf refuses.
    pub fn configure(self, object: &mut OpenObject) -> Result<Vec<MapHandle>> {
        let rings = self.make_rings()?;
        for mut map in object.maps_mut() {
            if map.name() == MAP {
                if self.perf {
                    map.set_type(MapType::PerfEventArray)?;
                    map.set_key_size(4)?;
                    map.set_value_size(4)?;
                    map.set_max_entries(0)?; // libbpf: one for each CPU
                } else {
                    map.set_max_entries(self.size)?;
                    map.set_autocreate(rings.is_empty())?;
                }
            } else if map.name() == RINGS_MAP {
                match rings.first() {
                    Some(first) => {
                        map.set_inner_map_fd(first.as_fd())?;
                        map.set_max_entries(self.rings)?;
                    }
                    None => map.set_autocreate(false)?,
                }
            }
        }
        Ok(rings)
    }

    fn make_rings(self) -> Result<Vec<MapHandle>> {
        if self.rings < 2 {
            return Ok(Vec::new());
        }
        let options = libbpf_sys::bpf_map_create_opts {
            sz: size_of::<libbpf_sys::bpf_map_create_opts>() as _,
            ..Default::default()
        };
        (0..self.rings)
            .map(|_| MapHandle::create(MapType::RingBuf, Some(MAP), 0, 0, self.size, &options))
            .collect::<Result<_, _>>()
            .with_context(|| format!("cannot make {self}"))
    }
}

impl fmt::Display for Plan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let size = match self.size {
            size if size >= 1 << 20 => format!("{} MiB", size >> 20),
            size => format!("{} KiB", size >> 10),
        };
        match self.rings {
            _ if self.perf => write!(f, "perf buffers of {size} for each CPU"),
            1 => write!(f, "ring buffer {size}"),
            rings => write!(f, "{rings} ring buffers of {size}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes() {
        const MIB: u32 = 1 << 20;
        let gib = |count: u64| count << 30;
        assert_eq!(ring_default(1, gib(8)), 8 * MIB);
        assert_eq!(ring_default(16, gib(8)), 8 * MIB);
        assert_eq!(ring_default(17, gib(8)), 16 * MIB);
        assert_eq!(ring_default(512, gib(512)), 64 * MIB);
        assert_eq!(ring_default(64, gib(1)), 4 * MIB);
        assert_eq!(ring_default(2, gib(0)), 256 << 10);
        assert_eq!(each_of(1, 4 * MIB), 4 * MIB);
        assert_eq!(each_of(3, ring_default(48, gib(64))), 8 * MIB);
        assert_eq!(each_of(15, ring_default(240, gib(64))), 4 * MIB);
    }

    #[test]
    fn plans() {
        let plan = |size, rings| {
            let plan = Plan::choose(TransportChoice::Ring, size, rings).expect("rings");
            (plan.rings, plan.size, plan.to_string())
        };
        let two = "2 ring buffers of 1 MiB".to_owned();
        assert_eq!(plan(Some(1 << 20), Some(2)), (2, 1 << 20, two));
        let one = "ring buffer 64 KiB".to_owned();
        assert_eq!(plan(Some(64 << 10), Some(1)), (1, 64 << 10, one));
        let perf = Plan::choose(TransportChoice::Perf, None, None).expect("perf");
        assert_eq!(perf.to_string(), "perf buffers of 256 KiB for each CPU");
    }
}
