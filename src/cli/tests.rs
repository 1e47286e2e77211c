// SPDX-License-Identifier: BSD-2-Clause
use std::time::Duration;

use super::values::*;
use super::*;

#[test]
fn clap_is_content() {
    command(&[]).debug_assert();
}

/// `--list` is refused with whatever it would ignore, also with options yet to come.
#[test]
fn list_stands_alone() {
    let command = command(&[]);
    let list = command.get_arguments().find(|arg| arg.get_id() == "list");
    let conflicts = command.get_arg_conflicts_with(list.expect("there is --list"));
    let mut with: Vec<_> = command
        .get_arguments()
        .filter(|arg| !conflicts.contains(arg))
        .map(|arg| arg.get_id().as_str())
        .collect();
    with.sort_unstable();
    assert_eq!(with, ["btf", "list", "output", "verbose", "version"]);
}

#[test]
fn times() {
    assert_eq!(parse_time("10"), Ok(Duration::from_secs(10)));
    assert_eq!(parse_time("0.5"), Ok(Duration::from_millis(500)));
    assert_eq!(parse_time("500ms"), Ok(Duration::from_millis(500)));
    assert_eq!(parse_time("2m"), Ok(Duration::from_secs(120)));
    for bad in [
        "",
        "0",
        "-1",
        "ten",
        "5 parsecs",
        "nan",
        "inf",
        "1e300",
        "1e19",
        "0ms",
    ] {
        assert!(parse_time(bad).is_err(), "{bad:?}");
    }
}

#[test]
fn sizes() {
    assert_eq!(parse_size("1"), Ok(4096));
    assert_eq!(parse_size("4096"), Ok(4096));
    assert_eq!(parse_size("5000"), Ok(8192));
    assert_eq!(parse_size("64K"), Ok(64 << 10));
    assert_eq!(parse_size("3MiB"), Ok(4 << 20));
    assert_eq!(parse_size("1g"), Ok(1 << 30));
    for bad in [
        "",
        "0",
        "K",
        "-1",
        "1T",
        "2G",
        "99999999999999999999",
        "1.5M",
    ] {
        assert!(parse_size(bad).is_err(), "{bad:?}");
    }
}

#[test]
fn comms() {
    assert_eq!(parse_comm("systemd-journal"), Ok("systemd-journal".into()));
    assert!(parse_comm("").is_err());
    assert!(
        parse_comm("systemd-journald")
            .unwrap_err()
            .contains("\"systemd-journal\"")
    );
    assert!(parse_comm("ééééééééé").unwrap_err().contains("\"ééééééé\""));
}

#[test]
fn prefixes() {
    let (id, mask) = parse_container("a1B").expect("hexadecimal");
    assert_eq!(
        (&id[..3], &mask[..3]),
        (&[0xa1, 0xb0, 0][..], &[0xff, 0xf0, 0][..])
    );
    assert!(parse_container("").is_err() && parse_container("web-1").is_err());
    assert!(parse_container(&"a".repeat(64)).is_ok() && parse_container(&"a".repeat(65)).is_err());
}
