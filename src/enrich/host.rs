// SPDX-License-Identifier: BSD-2-Clause
//! What is known of this host: its clock, its users, its control groups.

use super::cgroups::Cgroups;
use super::time::Clock;
use super::users::Users;
use crate::output::json::Object;
use crate::wire;
use crate::wire::types::hello_task;

/// Turns the kernel's `hello_task` into what the output says about who did it.
#[derive(Debug)]
pub struct Host {
    /// From kernel time to wall-clock time.
    pub clock: Clock,
    /// From user ids to names.
    pub users: Users,
    /// From control group ids to paths.
    pub cgroups: Cgroups,
    /// Only JSON has the control group of each event.
    json: bool,
}

impl Host {
    /// This host, now.
    pub fn new(users: Users, json: bool) -> Self {
        Self {
            clock: Clock::now(),
            users,
            cgroups: Cgroups::of_this_host(),
            json,
        }
    }

    /// Who did it, with names.
    pub fn who(&mut self, task: &hello_task) -> Who<'_> {
        Who {
            task: *task,
            clock: self.clock,
            user: self.users.name(task.uid),
            cgroup: self
                .json
                .then(|| self.cgroups.path(task.cgroup_id))
                .flatten(),
        }
    }
}

/// The fields that all events have.
#[derive(Clone, Copy, Debug)]
pub struct Who<'h> {
    /// As the kernel side wrote it.
    pub task: hello_task,
    clock: Clock,
    user: Option<&'h str>,
    cgroup: Option<&'h str>,
}

impl Who<'_> {
    /// The thread's name, without padding.
    pub fn comm(&self) -> &[u8] {
        wire::text(&self.task.comm)
    }

    /// `ts`, `pid`, `tid`, `ppid`, `uid`, `user`, `comm`, `cgroup`.
    pub fn json(&self, object: &mut Object<'_>) {
        object.plain("ts", self.clock.rfc3339(self.task.ktime));
        object.num("pid", self.task.pid);
        object.num("tid", self.task.tid);
        object.num("ppid", self.task.ppid);
        object.num("uid", self.task.uid);
        object.opt_str("user", self.user);
        object.bytes("comm", self.comm());
        object.opt_str("cgroup", self.cgroup);
    }
}
