// SPDX-License-Identifier: BSD-2-Clause
//! Workloads that nobody wrote for hello, but for one: a script of a thousand commands.

use std::fmt::Write as _;
use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::process::Command;
use std::time::Duration;

use anyhow::Context as _;
use anyhow::Result;
use anyhow::ensure;

use crate::ground::Ground;
use crate::ground::UID;
use crate::model::Class;
use crate::peer::find;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Workload {
    /// A thousand short commands.
    Script,
    /// `configure` and `make -j4` of a C project.
    Make,
    /// `ls -lR`, by a user who may not see all.
    List,
    /// A stressor of stress-ng, two workers.
    Stress(&'static str),
}

/// Seconds of a stressor.
pub(crate) fn seconds() -> u64 {
    let given = std::env::var("HELLO_PEERS_SECONDS").ok();
    given.and_then(|text| text.parse().ok()).unwrap_or(10)
}

impl Workload {
    pub(crate) fn name(self) -> String {
        match self {
            Self::Script => "script".into(),
            Self::Make => "make -j4".into(),
            Self::List => "ls -lR".into(),
            Self::Stress(stressor) => format!("stress-ng --{stressor}"),
        }
    }

    /// What is worth comparing.
    pub(crate) fn classes(self) -> &'static [Class] {
        match self {
            Self::Script | Self::Make => &[Class::Exec, Class::Open, Class::Count],
            Self::List => &[Class::Count],
            Self::Stress("exec") => &[Class::Exec],
            Self::Stress("open") => &[Class::Open],
            Self::Stress("fork") => &[Class::Count],
            Self::Stress(_) => &[Class::Open, Class::Count],
        }
    }

    /// Longer than it takes, under strace too.
    pub(crate) fn limit(self) -> Duration {
        Duration::from_secs(match self {
            Self::Script | Self::List => 120,
            Self::Make => 150,
            Self::Stress(_) => seconds() + 60,
        })
    }

    /// Does it end its workers by SIGKILL?
    pub(crate) fn kills(self) -> bool {
        matches!(self, Self::Stress(_))
    }

    /// Puts what it needs into the work folder; the words of its command, or why it
    /// cannot run here.
    pub(crate) fn prepare(self, ground: &Ground) -> Result<Result<Vec<String>, String>> {
        for entry in fs::read_dir(&ground.work)?.flatten() {
            if entry.file_type()?.is_dir() {
                fs::remove_dir_all(entry.path())?;
            } else {
                fs::remove_file(entry.path())?;
            }
        }
        let words: Vec<String> = match self {
            Self::Script => {
                let [helper, script] =
                    ["helper.sh", "script.sh"].map(|name| ground.work.join(name));
                fs::write(&helper, "#!/bin/sh -e\nexit 0\n")?;
                fs::set_permissions(&helper, fs::Permissions::from_mode(0o755))?;
                fs::write(&script, commands())?;
                vec!["/bin/sh".into(), script.display().to_string()]
            }
            Self::Make => {
                let Some(source) = std::env::var_os("HELLO_PEERS_SOURCE") else {
                    return Ok(Err("HELLO_PEERS_SOURCE names no C project".into()));
                };
                let place = ground.work.join("project");
                let copied = Command::new("cp")
                    .arg("-R")
                    .arg(&source)
                    .arg(&place)
                    .status()?;
                let given = Command::new("chown")
                    .args(["-R", &format!("{UID}:{UID}")])
                    .arg(&place)
                    .status()?;
                ensure!(
                    copied.success() && given.success(),
                    "cannot copy {source:?}"
                );
                ["/bin/sh", "-ec", "cd project; ./configure; make -j4"]
                    .map(str::to_owned)
                    .to_vec()
            }
            Self::List => {
                let folders = ["open", "closed"].map(|name| ground.work.join(name));
                for (folder, mode) in folders.iter().zip([0o755, 0o700]) {
                    fs::create_dir(folder)?;
                    (0..307).try_for_each(|name| fs::write(folder.join(name.to_string()), ""))?;
                    fs::set_permissions(folder, fs::Permissions::from_mode(mode))?;
                }
                [
                    "/bin/sh",
                    "-c",
                    "ls -lR >/dev/null 2>&1; cat nope 2>/dev/null; true",
                ]
                .map(str::to_owned)
                .to_vec()
            }
            Self::Stress(stressor) => {
                let Some(program) = find("stress-ng") else {
                    return Ok(Err("stress-ng is not installed".into()));
                };
                let program = program.display().to_string();
                let (what, time) = (format!("--{stressor}"), format!("{}s", seconds()));
                let all = [&program, &what, "2", "--timeout", &time, "--temp-path", "."];
                all.map(str::to_owned).to_vec()
            }
        };
        Ok(Ok(words))
    }
}

/// A thousand commands; hard cases among them: empty and long arguments, many, quotation
/// marks, line breaks, other alphabets, scripts, failures, pipes, subshells.
fn commands() -> String {
    let long = "long".repeat(300);
    let many = (0..70).map(|number| number.to_string()).collect::<Vec<_>>();
    let many = many.join(" ");
    let mut text = String::from("cd \"$HOME\"\n");
    // An emulated CPU takes its time.
    let rounds = if std::env::var_os("HELLO_VM").is_some() {
        5
    } else {
        50
    };
    for round in 0..rounds {
        let _ = write!(
            text,
            r#"/bin/true {round}
/bin/echo "" a  b '' >/dev/null
/bin/echo 'say "{round}"' "tab	end" 'back\slash' >/dev/null
/bin/echo 'one
two {round}' >/dev/null
/bin/echo "größe {round} 名前" "$(printf '\377\376')" >/dev/null
/bin/true {long}
/bin/true {many}
./helper.sh {round} "x y"
/no/such/program {round}
no-such-program {round}
cat /etc/hostname missing-{round} >/dev/null
ls -l . >/dev/null
/bin/sh -c 'exit {round}'
(cat /etc/passwd | grep root | wc -l) >file-{round}
rm file-{round}
env A=1 true {round}
test -e "missing {round}" || /bin/false
mkdir dir-{round} && rmdir dir-{round}
expr {round} + 1 >/dev/null
echo {round} | sed s/1/2/ >/dev/null
"#
        );
    }
    text
}

/// Is it there to run?
pub(crate) fn check(words: &[String]) -> Result<()> {
    let program = words.first().context("no command")?;
    ensure!(
        std::path::Path::new(program).exists(),
        "{program} is not there"
    );
    Ok(())
}
