// SPDX-License-Identifier: BSD-2-Clause
//! libbpf's own messages: shown with `-v`, else kept for the reason of a failure.

use std::sync::Mutex;

use libbpf_rs::PrintLevel;
use libbpf_rs::libbpf_sys;
use libbpf_rs::set_print;

static WARNINGS: Mutex<Vec<String>> = Mutex::new(Vec::new());

/// Takes over libbpf's messages.
pub fn listen(verbose: bool) {
    fn keep(message: &str) {
        if let Ok(mut warnings) = WARNINGS.lock() {
            warnings.push(message.trim().trim_start_matches("libbpf: ").to_owned());
        }
    }
    let callback: fn(PrintLevel, String) = if verbose {
        |level, message| {
            crate::say!("{}", message.trim_end());
            if level == PrintLevel::Warn {
                keep(&message);
            }
        }
    } else {
        |_, message| keep(&message)
    };
    let level = if verbose {
        PrintLevel::Debug
    } else {
        PrintLevel::Warn
    };
    set_print(Some((level, callback)));
}

/// What was said so far belongs to something else.
pub(super) fn forget() {
    if let Ok(mut warnings) = WARNINGS.lock() {
        warnings.clear();
    }
}

/// Why libbpf failed, in one line: what the verifier ended with, else the last warning.
pub(super) fn reason() -> Option<String> {
    let warnings = WARNINGS.lock().ok()?;
    verdict_of_verifier(&warnings).or_else(|| {
        let last = warnings.last()?;
        Some(last.lines().next()?.to_owned())
    })
}

fn verdict_of_verifier(warnings: &[String]) -> Option<String> {
    let log = warnings
        .iter()
        .find(|text| text.contains("BEGIN PROG LOAD LOG"))?;
    // Its statistics come after it.
    const AFTER: [&str; 4] = ["verification time ", "stack depth ", "processed ", "--"];
    let line = log.lines().rfind(|line| {
        !line.trim().is_empty() && !AFTER.iter().any(|after| line.starts_with(after))
    })?;
    Some(format!("the verifier says: {}", line.trim()))
}

/// `v1.7`.
pub fn libbpf_version() -> String {
    // SAFETY: takes no arguments and returns a static string.
    let text = unsafe { std::ffi::CStr::from_ptr(libbpf_sys::libbpf_version_string()) };
    text.to_string_lossy().into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_verifier_has_the_last_word() {
        let log = "prog 'x': -- BEGIN PROG LOAD LOG --\n0: (b7) r0 = 0\nR1 type=ctx expected=fp\n\
                   verification time 89 usec\nstack depth 32\nprocessed 3 insns (limit 1000000)\n\
                   -- END PROG LOAD LOG --";
        let warnings = [log.to_owned(), "failed to load object 'x'".to_owned()];
        assert_eq!(
            verdict_of_verifier(&warnings).as_deref(),
            Some("the verifier says: R1 type=ctx expected=fp")
        );
        assert_eq!(verdict_of_verifier(&warnings[1..]), None);
    }
}
