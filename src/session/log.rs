// SPDX-License-Identifier: BSD-2-Clause
//! libbpf's own messages: shown with `-v`, else kept for the reason of a failure.

use std::sync::Mutex;

use libbpf_rs::PrintLevel;
use libbpf_rs::libbpf_sys;
use libbpf_rs::set_print;

static LAST: Mutex<Option<String>> = Mutex::new(None);

/// Takes over libbpf's messages.
pub fn listen(verbose: bool) {
    let callback: fn(PrintLevel, String) = if verbose {
        |_, message| eprint!("{message}")
    } else {
        |_, message| {
            if let Ok(mut last) = LAST.lock() {
                *last = Some(message);
            }
        }
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
    if let Ok(mut last) = LAST.lock() {
        *last = None;
    }
}

/// libbpf's last warning in one line.
pub(super) fn last_warning() -> Option<String> {
    let message = LAST.lock().ok()?.clone()?;
    let line = message.lines().rfind(|line| !line.trim().is_empty())?;
    Some(line.trim().trim_start_matches("libbpf: ").to_owned())
}

/// `v1.7`.
pub fn libbpf_version() -> String {
    // SAFETY: takes no arguments and returns a static string.
    let text = unsafe { std::ffi::CStr::from_ptr(libbpf_sys::libbpf_version_string()) };
    text.to_string_lossy().into_owned()
}
