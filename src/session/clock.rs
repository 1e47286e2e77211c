// SPDX-License-Identifier: BSD-2-Clause
//! Wakes hello when the wall clock is set or the host comes back from suspend, so
//! that it learns at once from when on the clock is another (src/enrich/time.rs).

use std::os::fd::AsFd;
use std::os::fd::BorrowedFd;

use anyhow::Context as _;
use anyhow::Result;
use nix::sys::time::TimeSpec;
use nix::sys::timerfd::ClockId;
use nix::sys::timerfd::Expiration;
use nix::sys::timerfd::TimerFd;
use nix::sys::timerfd::TimerFlags;
use nix::sys::timerfd::TimerSetTimeFlags;

/// A timer that never goes off but is cancelled by a step of the clock
/// (TFD_TIMER_CANCEL_ON_SET, timerfd_create(2)).
#[derive(Debug)]
pub(super) struct ClockSteps(TimerFd);

impl ClockSteps {
    pub(super) fn watch() -> Result<Self> {
        let flags = TimerFlags::TFD_CLOEXEC | TimerFlags::TFD_NONBLOCK;
        let timer = TimerFd::new(ClockId::CLOCK_REALTIME, flags).context("timerfd_create")?;
        let steps = Self(timer);
        steps.arm();
        Ok(steps)
    }

    fn arm(&self) {
        let never = Expiration::OneShot(TimeSpec::new(i64::MAX / 1_000_000_000, 0));
        let flags =
            TimerSetTimeFlags::TFD_TIMER_ABSTIME | TimerSetTimeFlags::TFD_TIMER_CANCEL_ON_SET;
        // Without it steps are noticed at the next batch.
        let _ = self.0.set(never, flags);
    }

    /// Looks whether the clock was set, and waits for the next time.
    pub(super) fn rearm(&self) {
        if self.0.wait() == Err(nix::errno::Errno::ECANCELED) {
            self.arm();
        }
    }
}

impl AsFd for ClockSteps {
    /// Readable when the clock was set.
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}
