// SPDX-License-Identifier: BSD-2-Clause
//! The life of a run: open, configure, load, attach, poll, detach, drain, account.
//!
//! The same for every mode. A mode brings its skeleton, what to set in it, and a
//! [`Source`] that makes rows of what comes out of it.

mod attach;
mod budget;
mod clock;
mod errors;
mod excerpt;
mod log;
mod pin;
mod prepare;
mod pump;
mod stats;
mod stop;

use std::cell::RefCell;
use std::io::IsTerminal as _;
use std::mem::MaybeUninit;
use std::os::fd::BorrowedFd;
use std::path::Path;

use anyhow::Context as _;
use anyhow::Result;
use libbpf_rs::Link;
use libbpf_rs::Map;
use libbpf_rs::MapCore as _;
use libbpf_rs::MapFlags;
use libbpf_rs::MapHandle;
use libbpf_rs::Object;
use libbpf_rs::OpenObject;
use libbpf_rs::skel::OpenSkel;
use libbpf_rs::skel::Skel;
use libbpf_rs::skel::SkelBuilder;

use crate::cli::Args;
use crate::cli::Attach;
use crate::cli::Hook;
use crate::cli::ModeInfo;
use crate::command::Command;
use crate::enrich::containers::Containers;
use crate::enrich::syscalls::Call;
use crate::enrich::users::Users;
use crate::ledger::Ledger;
use crate::output::Output;
use crate::output::columns::Layout;
use crate::preflight;
use crate::select::Select;
use crate::transport::Plan;
use crate::transport::Transport;
use crate::wire::types::hello_config;
use budget::Budget;
use clock::ClockSteps;
use errors::denied;
use errors::verdict;
use pin::PinError;
use pin::Pins;
use prepare::Buffers;
use prepare::prepare;
use stats::Stats;

pub(crate) use attach::section_hook;
pub use budget::EVERY_MAX;
pub use budget::Level;
pub use excerpt::Excerpt;
pub use log::libbpf_version;
pub use log::listen;
pub use pump::grace_period;
pub use pump::outlast;
pub use pump::pidfd_open;
pub use stop::Stop;
pub use stop::Verdict;

/// What a run has besides its mode.
#[derive(Debug)]
pub struct Context {
    /// The command line.
    pub args: Args,
    /// Users of this host.
    pub users: Users,
    /// Who is traced.
    pub select: Select,
    /// The columns of its text.
    pub layout: Layout,
    /// The COMMAND, held until all is attached.
    pub command: Option<Command>,
    /// Signals.
    pub stop: Stop,
}

/// What a mode asks of the kernel side.
pub struct Setup {
    /// The mode.
    pub mode: &'static ModeInfo,
    /// The system calls that its programs run at, for modes that pick some.
    pub calls: Vec<Call>,
    /// The mode's own part of the configuration; the rest is filled in here.
    pub config: hello_config,
    /// Maps that `--pin` keeps, and their names there.
    pub pins: Vec<(&'static str, String)>,
    /// What else is set before load: sections of read-only data, and their content.
    pub rodata: Vec<(&'static str, Vec<u8>)>,
    /// Kernel functions that a program must be on, by those hooks: one of each group.
    pub functions: &'static [&'static [&'static str]],
    /// Its programs on raw tracepoints look at every system call, and so remember who runs
    /// (src/bpf/here.bpf.h).
    pub remembers: bool,
    /// Programs and maps that this run has no use for; a name that ends with `*`
    /// stands for all that begin so.
    pub leave_out: Vec<&'static str>,
    /// Maps that only one hook has a use for.
    pub maps_of: &'static [(&'static str, Hook)],
    /// Maps whose size is known only now.
    pub sizes: Vec<(&'static str, Size)>,
}

/// A size of a map.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Size {
    /// How many keys have room.
    Entries(u32),
    /// Bytes of a value.
    Value(u32),
}

impl Setup {
    /// A mode that takes all calls, or knows its own.
    pub fn new(mode: &'static ModeInfo) -> Self {
        Self {
            mode,
            calls: Vec::new(),
            config: hello_config::default(),
            pins: Vec::new(),
            rodata: Vec::new(),
            functions: &[],
            remembers: false,
            leave_out: Vec::new(),
            maps_of: &[],
            sizes: Vec::new(),
        }
    }

    /// Has this run no use for the program or map of that name?
    fn leaves_out(&self, name: &str) -> bool {
        self.leave_out
            .iter()
            .any(|out| match out.strip_suffix('*') {
                Some(begin) => name.starts_with(begin),
                None => name == *out,
            })
    }

    /// How many keys the map is to have room for, if that is known only now.
    fn entries(&self, map: &str) -> Option<u32> {
        self.sizes.iter().find_map(|(name, size)| match *size {
            Size::Entries(entries) if *name == map => Some(entries),
            _ => None,
        })
    }

    /// A mode that runs at these calls only.
    pub fn at(mode: &'static ModeInfo, calls: Vec<Call>) -> Self {
        Self {
            calls,
            ..Self::new(mode)
        }
    }
}

/// The user side of a mode while it runs.
pub trait Source {
    /// Where its rows go.
    fn output(&mut self) -> &mut Output;

    /// The maps are there, some a former run's if this `goes_on`; nothing is attached yet.
    ///
    /// # Errors
    /// A map cannot be read.
    fn loaded(&mut self, _object: &Object, _goes_on: bool) -> Result<()> {
        Ok(())
    }

    /// All is attached: print a header.
    fn begin(&mut self) {}

    /// All is attached, and COMMAND not let go yet.
    ///
    /// # Errors
    /// A map cannot be written.
    fn attached(&mut self, _object: &Object) -> Result<()> {
        Ok(())
    }

    /// The programs are about to be detached.
    ///
    /// # Errors
    /// A map cannot be written.
    fn detaching(&mut self, _object: &Object) -> Result<()> {
        Ok(())
    }

    /// Does it take times that it could do without?
    fn is_timing(&self) -> bool {
        false
    }

    /// Looks as closely as that from now on (`--max-cpu`).
    ///
    /// # Errors
    /// A map cannot be written.
    fn throttle(&mut self, _object: &Object, _level: Level) -> Result<()> {
        Ok(())
    }

    /// A batch of records is about to be read.
    fn woke(&mut self) {}

    /// A record of the ring or perf buffer.
    fn record(&mut self, _record: &[u8]) {}

    /// A file to wait for beside the buffer.
    fn fd(&self) -> Option<BorrowedFd<'_>> {
        None
    }

    /// Reads from that file; also called once after the programs are detached.
    ///
    /// # Errors
    /// It cannot be read.
    fn ready(&mut self) -> Result<()> {
        Ok(())
    }

    /// The interval has passed, or the run has ended and this is the `last` table.
    ///
    /// # Errors
    /// A map cannot be read.
    fn tick(&mut self, _object: &Object, _last: bool) -> Result<()> {
        Ok(())
    }

    /// Of the events that the kernel side has emitted, those that the source itself
    /// knows to be lost on the way.
    fn overwritten(&self, _emitted: u64) -> u64 {
        0
    }

    /// Whether it prints tables, by `--interval`, instead of events.
    fn is_table(&self) -> bool {
        false
    }
}

/// How a run went.
#[derive(Debug)]
pub struct Report {
    /// What became of every event.
    pub ledger: Ledger,
    /// Why standard output could not be written, unless its reader had enough.
    pub write_failure: Option<std::io::Error>,
}

/// Room for the objects of the hooks that are tried one after the other.
pub type Storage = [MaybeUninit<OpenObject>; 4];

/// Empty room.
pub fn storage() -> Storage {
    [const { MaybeUninit::uninit() }; 4]
}

/// An attached mode.
pub struct Session<'obj, 'cb, S> {
    mode: &'static str,
    skel: S,
    links: Vec<Link>,
    transport: Option<Transport>,
    steps: ClockSteps,
    source: &'cb RefCell<dyn Source + 'cb>,
    attached: String,
    plan: Option<Plan>,
    /// Holds the lock on the pinned counters.
    pins: Option<Pins>,
    /// What hello itself costs, for `--stats` or the budget.
    stats: Option<Stats>,
    budget: Option<Budget>,
    marker: std::marker::PhantomData<&'obj ()>,
}

impl<S> std::fmt::Debug for Session<'_, '_, S> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Session")
            .field("attached", &self.attached)
            .finish_non_exhaustive()
    }
}

impl<'obj, 'cb, S: Skel<'obj>> Session<'obj, 'cb, S> {
    /// Opens, configures, loads and attaches a mode by the first of its hooks that
    /// works, or by the one that `--attach` names.
    ///
    /// `fill` puts into the loaded skeleton's maps what its programs read.
    ///
    /// # Errors
    /// No hook works: all reasons.
    pub fn start<B>(
        cx: &Context,
        setup: &Setup,
        storage: &'obj mut Storage,
        builder: impl Fn() -> B,
        fill: impl Fn(&S) -> Result<()>,
        source: &'cb RefCell<dyn Source + 'cb>,
    ) -> Result<Self>
    where
        B: SkelBuilder<'obj>,
        B::Output: OpenSkel<'obj, Output = S>,
    {
        preflight::check(&cx.args)?;
        if cx.args.max_cpu.is_some() {
            stats::check()?;
        }
        let excerpt = match &cx.args.btf {
            Some(_) => None,
            None => Excerpt::of_kernel(),
        };
        let excerpt = excerpt.as_ref().map(Excerpt::path);
        let btf = cx.args.btf.as_deref().or(excerpt.as_deref());
        let mut reasons = Vec::new();
        for (hook, room) in attach::by_merit(setup.mode.hooks).into_iter().zip(storage) {
            if !matches!(cx.args.attach, Attach::Auto) && cx.args.attach != Attach::Only(hook) {
                continue;
            }
            let parts = (&builder, btf, &fill);
            match Self::attempt(cx, setup, hook, room, parts, source) {
                Ok(session) => return Ok(session),
                Err(error) if error.is::<PinError>() => return Err(error),
                Err(error) => reasons.push((hook, error)),
            }
        }
        Err(verdict(setup.mode.name, reasons))
    }

    fn attempt<B>(
        cx: &Context,
        setup: &Setup,
        hook: Hook,
        room: &'obj mut MaybeUninit<OpenObject>,
        (builder, btf, fill): (&impl Fn() -> B, Option<&Path>, &impl Fn(&S) -> Result<()>),
        source: &'cb RefCell<dyn Source + 'cb>,
    ) -> Result<Self>
    where
        B: SkelBuilder<'obj>,
        B::Output: OpenSkel<'obj, Output = S>,
    {
        preflight::hook(hook)?;
        let mut builder = builder();
        if let Some(btf) = btf {
            builder.object_builder_mut().btf_custom_path(btf)?;
        }
        let mut open = builder.open(room).context("cannot open the object")?;
        let (buffers, taken) = prepare(cx, setup, hook, open.open_object_mut())?;
        let pins = Pins::reuse(cx, setup, open.open_object_mut())?;
        log::forget();
        let skel = open.load().map_err(|error| denied(&error, "load"))?;
        cx.select.fill(skel.object())?;
        fill(&skel)?;
        source.borrow_mut().loaded(skel.object(), pins.goes_on)?;
        let mut session = Self::attach(skel, setup, hook, buffers, taken, source)?;
        pins.keep(session.skel.object_mut())?;
        session.pins = Some(pins);
        Ok(session)
    }

    fn attach(
        skel: S,
        setup: &Setup,
        hook: Hook,
        buffers: Option<Buffers>,
        taken: Vec<String>,
        source: &'cb RefCell<dyn Source + 'cb>,
    ) -> Result<Self> {
        // Before the programs: without a reader what they send would be lost.
        let is_watched = std::io::stdout().is_terminal();
        let plan = buffers.as_ref().map(|(plan, _)| *plan);
        let transport = buffers
            .map(|(plan, rings)| Transport::open(skel.object(), plan, &rings, is_watched))
            .transpose()?;
        let (links, attached) = attach::attach(skel.object(), setup, hook, taken)?;
        Ok(Self {
            mode: setup.mode.name,
            skel,
            links,
            transport,
            steps: ClockSteps::watch()?,
            source,
            attached,
            plan,
            pins: None,
            stats: None,
            budget: None,
            marker: std::marker::PhantomData,
        })
    }

    /// `kprobe __x64_sys_execve, ring buffer 8 MiB, Linux 6.1.0`.
    fn description(&self) -> String {
        let mut parts = vec![self.attached.clone()];
        parts.extend(self.plan.map(|plan| plan.to_string()));
        parts.push(format!("Linux {}", preflight::kernel_release()));
        parts.join(", ")
    }
}

/// Lets container ids be looked up where the kernel side writes them.
///
/// # Errors
/// The map cannot be had.
pub fn find_containers(object: &Object, containers: &mut Containers) -> Result<()> {
    let map = object
        .maps()
        .find(|map| libbpf_rs::MapCore::name(map) == "hello_container_ids");
    if let Some(map) = map {
        let map = MapHandle::try_from(&map)?;
        containers.look_up_by(move |id| {
            let found = map.lookup(&id.to_ne_bytes(), MapFlags::ANY);
            found.ok().flatten()
        });
    }
    Ok(())
}

/// A map of a loaded object by name.
///
/// # Errors
/// It has none of that name.
pub fn find_map<'o>(object: &'o Object, name: &str) -> Result<Map<'o>> {
    object
        .maps()
        .find(|map| libbpf_rs::MapCore::name(map) == name)
        .with_context(|| format!("the object has no map {name}"))
}
