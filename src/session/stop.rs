// SPDX-License-Identifier: BSD-2-Clause
//! Signals as something to poll for.

use std::os::fd::AsFd;
use std::os::fd::BorrowedFd;
use std::sync::Arc;
use std::sync::atomic::AtomicU32;
use std::sync::atomic::Ordering;

use anyhow::Context as _;
use anyhow::Result;
use nix::libc;
use nix::sys::eventfd::EfdFlags;
use nix::sys::eventfd::EventFd;
use nix::sys::signal::SaFlags;
use nix::sys::signal::SigAction;
use nix::sys::signal::SigHandler;
use nix::sys::signal::SigSet;
use nix::sys::signal::Signal;
use nix::sys::signal::sigaction;

/// What signals ask for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Nothing new.
    GoOn,
    /// COMMAND is to end.
    PassOn,
    /// COMMAND is to end, and hello does not wait for it.
    PassOnAndEnd,
    /// hello is to end.
    End,
}

/// Set by SIGINT, SIGTERM and SIGHUP; wakes a poll at once.
#[derive(Debug)]
pub struct Stop {
    signals: Arc<AtomicU32>,
    wake: Arc<EventFd>,
    /// Signals that have been acted upon.
    handled: u32,
    interrupt: Option<SigAction>,
}

impl Stop {
    /// Installs the handler. Once for a process, and after COMMAND was forked: it
    /// starts a thread.
    ///
    /// # Errors
    /// The system has no descriptor or no thread left.
    pub fn install() -> Result<Self> {
        let signals = Arc::new(AtomicU32::new(0));
        let flags = EfdFlags::EFD_CLOEXEC | EfdFlags::EFD_NONBLOCK;
        let wake = Arc::new(EventFd::from_value_and_flags(0, flags).context("eventfd")?);
        let ignored = [Signal::SIGINT, Signal::SIGTERM, Signal::SIGHUP].map(is_ignored);
        let (count, bell) = (Arc::clone(&signals), Arc::clone(&wake));
        ctrlc::set_handler(move || {
            count.fetch_add(1, Ordering::SeqCst);
            // Fails only when the counter is full, and then the bell rings already.
            let _ = bell.write(1);
        })
        .context("cannot handle signals")?;
        // nohup and shells without job control have them ignored on purpose.
        for signal in ignored.into_iter().flatten() {
            ignore(signal);
        }
        Ok(Self {
            signals,
            wake,
            handled: 0,
            interrupt: None,
        })
    }

    /// The count of signals, for those who wait elsewhere.
    pub fn counter(&self) -> Arc<AtomicU32> {
        Arc::clone(&self.signals)
    }

    /// What is to be done about the signals so far. The first ends the run, or goes to
    /// COMMAND, whose end is the run's; whoever sends a second means hello itself.
    pub fn verdict(&mut self, command_runs: bool) -> Verdict {
        // Emptied first: a signal after this line rings again.
        let _ = self.wake.read();
        let count = self.signals.load(Ordering::SeqCst);
        let is_new = count > self.handled;
        self.handled = count;
        match (count, command_runs) {
            (0, _) => Verdict::GoOn,
            (1, true) if is_new => Verdict::PassOn,
            (1, true) => Verdict::GoOn,
            (_, true) if is_new => Verdict::PassOnAndEnd,
            _ => Verdict::End,
        }
    }

    /// While COMMAND runs, Ctrl-C is for COMMAND: the terminal sends SIGINT to both,
    /// and hello goes on until COMMAND has decided.
    pub fn ignore_interrupt(&mut self) {
        if let Some(before) = ignore(Signal::SIGINT) {
            self.interrupt.get_or_insert(before);
        }
    }

    /// COMMAND is gone: Ctrl-C is for hello again.
    pub fn heed_interrupt(&mut self) {
        if let Some(before) = self.interrupt.take() {
            // SAFETY: puts ctrlc's handler back, which is async-signal-safe.
            let _ = unsafe { sigaction(Signal::SIGINT, &before) };
        }
    }
}

/// Ignores a signal; what was done about it before.
fn ignore(signal: Signal) -> Option<SigAction> {
    let ignore = SigAction::new(SigHandler::SigIgn, SaFlags::empty(), SigSet::empty());
    // SAFETY: SIG_IGN runs no code of ours.
    unsafe { sigaction(signal, &ignore) }.ok()
}

fn is_ignored(signal: Signal) -> Option<Signal> {
    let mut action = std::mem::MaybeUninit::<libc::sigaction>::zeroed();
    // SAFETY: changes nothing, and writes a sigaction into memory for one, which is
    // valid when all zero as well.
    let handler = unsafe {
        libc::sigaction(signal as i32, std::ptr::null(), action.as_mut_ptr());
        action.assume_init().sa_sigaction
    };
    (handler == libc::SIG_IGN).then_some(signal)
}

impl AsFd for Stop {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.wake.as_fd()
    }
}
