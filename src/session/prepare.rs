// SPDX-License-Identifier: BSD-2-Clause
//! Between open and load: the configuration, the buffer, the programs of the hook.

use std::io::IsTerminal as _;

use anyhow::Context as _;
use anyhow::Result;
use libbpf_rs::OpenObject;

use super::Context;
use super::Setup;
use super::Size;
use super::attach;
use crate::cli::Hook;
use crate::command::Command;
use crate::preflight;
use crate::transport;
use crate::transport::Plan;
use crate::wire;
use crate::wire::types::hello_transport;

/// Everything between open and load that is the same for all modes.
pub(super) fn prepare(
    cx: &Context,
    setup: &Setup,
    hook: Hook,
    object: &mut OpenObject,
) -> Result<(Option<Plan>, Vec<String>)> {
    let mut config = setup.config;
    config.self_tgid = std::process::id();
    config.pidns = preflight::pid_namespace();
    config.held = cx.command.as_ref().map_or(0, Command::pid);
    // fentry programs are preemptible and several share the ledger of a CPU.
    config.atomic = u32::from(hook == Hook::Fentry);
    for call in &setup.calls {
        if let Some(word) = (call.nr < 1024).then(|| call.abi as usize * 16 + call.nr as usize / 64)
        {
            config.calls[word] |= 1 << (call.nr % 64);
        }
    }
    let plan = object
        .maps()
        .any(|map| map.name() == transport::MAP)
        .then(|| Plan::choose(cx.args.transport, cx.args.buffer_size));
    if let Some(plan) = plan {
        plan.configure(object)?;
        config.transport = if plan.perf {
            hello_transport::HELLO_TRANSPORT_PERF.0
        } else {
            hello_transport::HELLO_TRANSPORT_RING.0
        };
        // Somebody watches: each event at once. Nobody does: in large batches, for a
        // wake-up costs more than the event.
        if !std::io::stdout().is_terminal() {
            config.wakeup_bytes = u64::from(plan.size / 4);
        }
    }
    let taken = attach::choose_programs(object, setup, hook)?;
    fit(setup, object)?;
    cx.select.configure(object, &mut config)?;
    let mut maps = object.maps_mut();
    maps.find(|map| map.name() == ".rodata.hello")
        .context("the object has no configuration")?
        .set_initial_value(wire::bytes(&config))
        .context("the configuration does not fit: kernel and user side disagree")?;
    Ok((plan, taken))
}

/// Leaves out what this run has no use for, and sizes the rest.
fn fit(setup: &Setup, object: &mut OpenObject) -> Result<()> {
    for mut program in object.progs_mut() {
        if setup.without.iter().any(|name| program.name() == *name) {
            program.set_autoload(false);
        }
    }
    for mut map in object.maps_mut() {
        if setup.without.iter().any(|name| map.name() == *name) {
            map.set_autocreate(false)?;
        }
        for (name, size) in &setup.sizes {
            match *size {
                _ if map.name() != *name => {}
                Size::Entries(entries) => map.set_max_entries(entries)?,
                Size::Value(bytes) => map.set_value_size(bytes)?,
            }
        }
    }
    Ok(())
}
