// SPDX-License-Identifier: BSD-2-Clause
//! Why it did not work, in one message.

use anyhow::anyhow;
use nix::errno::Errno;

use super::log;
use crate::cli::Hook;
use crate::preflight;

/// An error of the kernel with who may be behind it. EPERM is a matter of policy;
/// EACCES is what the verifier says.
pub(super) fn denied(error: &libbpf_rs::Error, doing: &str) -> anyhow::Error {
    let reason = log::reason();
    let is = |errno: Errno| {
        error
            .to_string()
            .contains(&format!("(os error {})", errno as i32))
    };
    match reason {
        _ if is(Errno::EPERM) => anyhow!("cannot {doing}: {error}: {}", preflight::policy()),
        Some(reason) => anyhow!("cannot {doing}: {error}: {reason}"),
        None => anyhow!("cannot {doing}: {error}"),
    }
}

/// One message out of the reasons why each hook did not work.
pub(super) fn verdict(mode: &str, mut reasons: Vec<(Hook, anyhow::Error)>) -> anyhow::Error {
    if reasons.len() == 1 {
        let (hook, reason) = reasons.remove(0);
        return reason.context(format!("--mode {mode} by {hook}"));
    }
    let mut text = format!("--mode {mode}: no hook works here");
    for (hook, reason) in reasons {
        text.push_str(&format!("\n  {hook}: {reason:#}"));
    }
    anyhow!(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn verdicts() {
        let one = verdict(
            "buffer",
            vec![(Hook::Kprobe, anyhow!("no kprobes; use another"))],
        );
        assert_eq!(
            format!("{one:#}"),
            "--mode buffer by kprobe: no kprobes; use another"
        );
        let two = verdict(
            "map",
            vec![
                (Hook::Kprobe, anyhow!("EPERM").context("cannot load")),
                (Hook::RawTp, anyhow!("no BTF")),
            ],
        );
        assert_eq!(
            format!("{two:#}"),
            "--mode map: no hook works here\n  kprobe: cannot load: EPERM\n  raw_tp: no BTF"
        );
    }
}
