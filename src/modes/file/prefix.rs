// SPDX-License-Identifier: BSD-2-Clause
//! `--path` and `--exclude-path`. Kernel side: src/bpf/file_prefix.bpf.h.

use std::os::unix::ffi::OsStrExt as _;
use std::path::Path;
use std::path::PathBuf;

use anyhow::Context as _;
use anyhow::Result;

use super::skel::types::hello_file_prefixes;
use crate::cli::UsageError;

/// What `--path` and `--exclude-path` name, as the kernel side compares it: absolute,
/// without a slash at the end; by the name given and by that without symbolic links.
pub(super) fn prefixes(wanted: &[PathBuf], excluded: &[PathBuf]) -> Result<hello_file_prefixes> {
    let mut prefixes = hello_file_prefixes::default();
    let both = wanted.iter().map(|path| (path, false));
    for (path, is_excluded) in both.chain(excluded.iter().map(|path| (path, true))) {
        let given = std::path::absolute(path).with_context(|| path.display().to_string())?;
        let real = Some(without_links(&given)).filter(|real| *real != given);
        for path in std::iter::once(given).chain(real) {
            let bytes = path.as_os_str().as_bytes();
            let bytes = bytes.strip_suffix(b"/").unwrap_or(bytes);
            let room = prefixes.prefix.get_mut(prefixes.count as usize);
            let Some(prefix) = room.filter(|prefix| bytes.len() <= prefix.text.len()) else {
                return Err(UsageError(format!(
                    "--path, --exclude-path: there is room for {} paths of {} bytes, and one \
                     that leads over a symbolic link takes two",
                    prefixes.prefix.len(),
                    prefixes.prefix[0].text.len()
                ))
                .into());
            };
            prefix.text[..bytes.len()].copy_from_slice(bytes);
            prefix.len = u32::try_from(bytes.len())?;
            prefix.excluded = u32::from(is_excluded);
            prefixes.count += 1;
            prefixes.wanted += u32::from(!is_excluded);
        }
    }
    Ok(prefixes)
}

/// The path without symbolic links, as far as it leads over what there is: what is not
/// there yet may be before it is opened.
fn without_links(path: &Path) -> PathBuf {
    let mut path = path.to_owned();
    // No more than the kernel follows (MAXSYMLINKS).
    for _ in 0..40 {
        let mut led_on = None;
        for there in path.ancestors() {
            let rest = path.strip_prefix(there).unwrap_or(there);
            if let Ok(real) = there.canonicalize() {
                return real.join(rest);
            }
            if let (Ok(target), Some(folder)) = (there.read_link(), there.parent()) {
                led_on = Some(folder.join(target).join(rest));
                break;
            }
        }
        match led_on {
            Some(on) => path = on,
            None => break,
        }
    }
    path
}

/// Is the path, a tidy one, wanted? What the kernel side asks itself (`path_wanted` in
/// src/bpf/file_prefix.bpf.h) of a path that it can look at whole.
pub(super) fn is_wanted(path: &[u8], prefixes: &hello_file_prefixes) -> bool {
    let is_below = |excluded: bool| {
        let some = prefixes.prefix.iter().take(prefixes.count as usize);
        some.filter(|prefix| (prefix.excluded != 0) == excluded)
            .filter_map(|prefix| prefix.text.get(..prefix.len as usize))
            .filter_map(|prefix| path.strip_prefix(prefix))
            .any(|rest| rest.is_empty() || rest.starts_with(b"/"))
    };
    (prefixes.wanted == 0 || is_below(false)) && !is_below(true)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn links_on_the_way_to_what_is_not_there() {
        use std::os::unix::fs::symlink;
        let folder = std::env::temp_dir().join(format!("hello-links-{}", std::process::id()));
        std::fs::create_dir_all(folder.join("real")).expect("a folder");
        let folder = folder.canonicalize().expect("it is there");
        symlink("real", folder.join("link")).expect("a link");
        symlink("link/later", folder.join("dangling")).expect("a link");
        symlink("round", folder.join("round")).expect("a link");
        let of = |name: &str| {
            let path = without_links(&folder.join(name));
            path.strip_prefix(&folder).map(Path::to_owned).ok()
        };
        let want = |name: &str| Some(PathBuf::from(name));
        let seen = ["real", "link", "link/new/file", "dangling/file", "round/x"].map(of);
        let _ = std::fs::remove_dir_all(&folder);
        assert_eq!(
            seen,
            [
                "real",
                "real",
                "real/new/file",
                "real/later/file",
                "round/x"
            ]
            .map(want)
        );
        assert_eq!(without_links(Path::new("/nope/x")), Path::new("/nope/x"));
    }

    #[test]
    fn paths_that_are_wanted() {
        let paths = |paths: &[&str]| paths.iter().map(PathBuf::from).collect::<Vec<_>>();
        let ask = |path: &str, wanted: &[&str], excluded: &[&str]| {
            let prefixes = prefixes(&paths(wanted), &paths(excluded)).expect("fit");
            is_wanted(path.as_bytes(), &prefixes)
        };
        for (path, is_below) in [
            ("/nope/a", true),
            ("/nope/a/b", true),
            ("/nope/ab", false),
            ("/nope", false),
        ] {
            assert_eq!(ask(path, &["/nope/a"], &[]), is_below, "{path}");
            assert_eq!(ask(path, &[], &["/nope/a"]), !is_below, "{path}");
            assert!(
                ask(path, &["/"], &[]) && !ask(path, &["/"], &["/"]),
                "{path}"
            );
        }
        assert!(ask("/nope/a/c", &["/nope/a"], &["/nope/a/b"]));
    }

    #[test]
    fn paths_to_compare_with() {
        let paths = |paths: &[&str]| paths.iter().map(PathBuf::from).collect::<Vec<_>>();
        let prefixes = prefixes(&paths(&["/", "/nope/x/"]), &paths(&["/nope/x/y"])).expect("fit");
        assert_eq!((prefixes.count, prefixes.wanted), (3, 2));
        let text = |at: usize| {
            let prefix = &prefixes.prefix[at];
            &prefix.text[..prefix.len as usize]
        };
        assert_eq!(
            [text(0), text(1), text(2)],
            [&b""[..], b"/nope/x", b"/nope/x/y"]
        );
        assert_eq!(prefixes.prefix[2].excluded, 1);
        let long = format!("/{}", "x".repeat(256));
        assert!(super::prefixes(&paths(&[&long]), &[]).is_err());
        assert!(super::prefixes(&paths(&["/nope"; 9]), &[]).is_err());
    }
}
