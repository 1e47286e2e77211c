// SPDX-License-Identifier: BSD-2-Clause
//! Between open and load: the configuration, the buffer, the programs of the hook.

use std::path::Path;

use anyhow::Context as _;
use anyhow::Result;
use libbpf_rs::MapHandle;
use libbpf_rs::OpenObject;

use super::Context;
use super::Setup;
use super::Size;
use super::attach;
use crate::cli::Axis;
use crate::cli::Format;
use crate::cli::Hook;
use crate::cli::Time;
use crate::command::Command;
use crate::enrich::cgroups;
use crate::preflight;
use crate::transport;
use crate::transport::Plan;
use crate::wire;
use crate::wire::types::hello_config;
use crate::wire::types::hello_containers;
use crate::wire::types::hello_transport;

/// How records come, and their rings if there are several.
pub(super) type Buffers = (Plan, Vec<MapHandle>);

/// The verifier says what it went through, not each instruction (BPF_LOG_STATS in
/// include/linux/bpf_verifier.h, Linux 5.2).
const VERIFIER_STATS: u32 = 4;

/// Everything between open and load that is the same for all modes.
pub(super) fn prepare(
    cx: &Context,
    setup: &Setup,
    hook: Hook,
    object: &mut OpenObject,
) -> Result<(Option<Buffers>, Vec<String>)> {
    let mut config = setup.config;
    config.self_tgid = std::process::id();
    config.pidns = preflight::pid_namespace();
    config.cpus = preflight::possible_cpus();
    // Without it calls of the kernel's clocks are spared.
    config.with_wall = u64::from(wants_wall(cx));
    config.held = cx.command.as_ref().map_or(0, Command::pid);
    // fentry programs are preemptible, from Linux 7.0 on those of raw tracepoints are too,
    // and several share the ledger of a CPU.
    config.atomic = u32::from(hook == Hook::Fentry || preflight::kernel_version() >= (7, 0));
    let remembers = setup.remembers && hook == Hook::RawTp && remembers();
    config.remember = u32::from(remembers);
    for call in &setup.calls {
        if let Some(word) = (call.nr < 1024).then(|| call.abi as usize * 16 + call.nr as usize / 64)
        {
            config.calls[word] |= 1 << (call.nr % 64);
        }
    }
    let plan = object
        .maps()
        .any(|map| map.name() == transport::MAP)
        .then(|| Plan::choose(cx.args.transport, cx.args.buffer_size, cx.args.rings))
        .transpose()?;
    let mut buffers = None;
    if let Some(plan) = plan {
        buffers = Some((plan, plan.configure(object)?));
        (config.rings, config.ring_cpus) = (plan.rings, plan.ring_cpus());
        config.transport = if plan.perf {
            hello_transport::HELLO_TRANSPORT_PERF.0
        } else {
            hello_transport::HELLO_TRANSPORT_RING.0
        };
    }
    look_for_containers(cx, setup, object, &mut config)?;
    let taken = attach::choose_programs(object, setup, hook)?;
    cx.select.configure(object, &mut config)?;
    fit(setup, hook, object)?;
    for mut map in object.maps_mut() {
        if !remembers && (map.name() == "hello_here_map" || map.name() == ".bss.ended") {
            map.set_autocreate(false)?;
        }
    }
    if cx.args.stats && cx.args.verbose {
        for mut program in object.progs_mut() {
            program.set_log_level(VERIFIER_STATS);
        }
    }
    let mut config = vec![(".rodata.hello", wire::bytes(&config).to_vec())];
    config.extend(setup.rodata.iter().cloned());
    for (section, bytes) in config {
        object
            .maps_mut()
            .find(|map| map.name() == section)
            .with_context(|| format!("the object has no {section}"))?
            .set_initial_value(&bytes)
            .context("the configuration does not fit: kernel and user side disagree")?;
    }
    Ok((buffers, taken))
}

/// Does it pay for a program to remember the task that runs (src/bpf/here.bpf.h)? From
/// Linux 6.10 on (commit db69718b8efa) looking into a per-CPU array is no call; from 7.0
/// on asking for the task is none either, and programs can be preempted.
fn remembers() -> bool {
    (6, 10) <= preflight::kernel_version()
        && preflight::kernel_version() < (7, 0)
        && Path::new("/sys/kernel/btf/vmlinux").exists()
}

/// Is the time of day of events told?
fn wants_wall(cx: &Context) -> bool {
    match cx.args.output {
        Format::Json => cx.args.time != Some(Time::None),
        Format::Text => cx.layout.has("TIME") && matches!(cx.args.time, None | Some(Time::Wall)),
    }
}

/// Has the kernel side look for containers, if somebody wants to know.
fn look_for_containers(
    cx: &Context,
    setup: &Setup,
    object: &mut OpenObject,
    config: &mut hello_config,
) -> Result<()> {
    // Counts have a container only if they are counted by it.
    let is_told = setup.mode.shown.is_empty() || cx.args.output != Format::Json;
    let wanted = cx.args.container.is_some()
        || cx.args.by.contains(&Axis::Container)
        || if is_told {
            cx.layout.has("CONTAINER")
        } else {
            true
        };
    if wanted {
        config.containers = hello_containers::HELLO_CGROUPS_V2.0;
        if cgroups::has_version_1() {
            config.containers |= hello_containers::HELLO_CGROUPS_V1.0;
        }
    }
    if let Some((id, mask)) = cx.args.container {
        (config.container, config.container_mask) = (id, mask);
    }
    for mut map in object.maps_mut() {
        if map.name() == "hello_cgroups" || map.name() == "hello_container_ids" {
            // Older kernels verify functions that nobody calls: the maps must be there.
            map.set_max_entries(if wanted { 4096 } else { 64 })?;
        }
    }
    Ok(())
}

/// Leaves out what this run has no use for, and sizes the rest.
fn fit(setup: &Setup, hook: Hook, object: &mut OpenObject) -> Result<()> {
    for mut program in object.progs_mut() {
        if setup.leaves_out(&program.name().to_string_lossy()) {
            program.set_autoload(false);
        }
    }
    for mut map in object.maps_mut() {
        let map_name = map.name().to_string_lossy().into_owned();
        let of = setup.maps_of.iter().find(|(map, _)| *map == map_name);
        if setup.leaves_out(&map_name) || of.is_some_and(|(_, of)| *of != hook) {
            map.set_autocreate(false)?;
        }
        for (name, size) in &setup.sizes {
            match *size {
                _ if map_name != *name => {}
                Size::Entries(entries) => map.set_max_entries(entries)?,
                Size::Value(bytes) => map.set_value_size(bytes)?,
            }
        }
    }
    Ok(())
}
