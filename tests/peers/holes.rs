// SPDX-License-Identifier: BSD-2-Clause
//! The peers' known holes: reasons for which their view and hello's may differ. Each has a
//! source that anyone can read. A difference that none of them explains fails the test.

/// A reason for a difference.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) enum Hole {
    /// hello lost events itself, and said so.
    HelloTold,
    /// The peer lost events and said so.
    PeerTold,
    Silent,
    Script,
    Cut,
    Page,
    Empty,
    Execveat,
    Thread,
    Calls,
    Abi,
    NewLine,
    Returns,
    StraceChild,
    Killed,
    CutOff,
    Sigreturn,
    CgroupWrite,
}

impl Hole {
    pub(crate) const ALL: &'static [Self] = &[
        Self::HelloTold,
        Self::PeerTold,
        Self::Silent,
        Self::Script,
        Self::Cut,
        Self::Page,
        Self::Empty,
        Self::Execveat,
        Self::Thread,
        Self::Calls,
        Self::Abi,
        Self::NewLine,
        Self::Returns,
        Self::StraceChild,
        Self::Killed,
        Self::CutOff,
        Self::Sigreturn,
        Self::CgroupWrite,
    ];

    /// The word for it in the table.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::HelloTold => "hello-told",
            Self::PeerTold => "peer-told",
            Self::Silent => "silent",
            Self::Script => "script",
            Self::Cut => "cut",
            Self::Page => "page",
            Self::Empty => "empty",
            Self::Execveat => "execveat",
            Self::Thread => "thread",
            Self::Calls => "calls",
            Self::Abi => "abi",
            Self::NewLine => "newline",
            Self::Returns => "returns",
            Self::StraceChild => "strace-child",
            Self::Killed => "killed",
            Self::CutOff => "cut-off",
            Self::Sigreturn => "sigreturn",
            Self::CgroupWrite => "cgroup-write",
        }
    }

    /// What it is.
    pub(crate) fn about(self) -> &'static str {
        match self {
            Self::HelloTold => "hello's own ledger says that so many events were lost.",
            Self::PeerTold => "the peer says on standard error that it lost so many events.",
            Self::Silent => {
                "newer opensnoop puts records of 8 KB into a ring of 256 KB, which holds 31; one that finds no room is dropped and not counted."
            }
            Self::Script => {
                "no hole: when a script is run, the new program's command line begins with the interpreter. hello shows what runs, the peers what was asked for."
            }
            Self::Cut => {
                "the peer cuts: execsnoop at 60 arguments of 127 bytes, bpftrace's join() at 16 of 1,023 and at an empty one, its str() at BPFTRACE_STRLEN, opensnoop 0.26 at 254 bytes of path."
            }
            Self::Page => {
                "the peer reads arguments at the entry of the call, when the page that holds them may not be in memory: they are empty, or end there."
            }
            Self::Empty => {
                "of an empty string older kernels (6.12 does) say that it has the length 0, not 1 for its end: execsnoop, which adds lengths up, loses empty arguments."
            }
            Self::Execveat => "execsnoop does not see execveat.",
            Self::Thread => {
                "an exec by a thread that is not the leader returns under the leader's id: execsnoop, which waits for the caller's, loses it, and the next exec of that id too."
            }
            Self::Calls => {
                "opensnoop 0.26 sees open and openat, not openat2 and creat; newer ones not creat. None of the peers is asked for opens by handle or by io_uring."
            }
            Self::Abi => {
                "tracepoints of single system calls do not see the 32-bit ABIs, and counting by bare number mixes them."
            }
            Self::NewLine => "a line break in a name breaks the peer's line.",
            Self::Returns => {
                "syscount counts calls that return: exit and exit_group never do, rt_sigreturn shows as call -1 and is skipped, fork, vfork and clone return twice, in the child too, and an execveat that succeeds returns as execve. hello counts entries."
            }
            Self::StraceChild => {
                "between its change of user and its exec strace's child makes calls that strace hides."
            }
            Self::Killed => {
                "strace -c counts a call when it has returned: not exit and exit_group, nor the call in which a task is killed."
            }
            Self::CutOff => {
                "a kill cuts off a call that waits. The kernel's own code for that, ERESTARTSYS for one, comes to nobody; syscount -x counts it as an error of the call, hello does not."
            }
            Self::Sigreturn => {
                "what rt_sigreturn returns is the result of the call that the signal interrupted; strace counts it as an error of rt_sigreturn if it was one."
            }
            Self::CgroupWrite => {
                "the write that moves the workload into its control group begins outside and returns inside: syscount sees the end, hello does not see the beginning."
            }
        }
    }

    /// Where to read about it.
    pub(crate) fn source(self) -> &'static str {
        match self {
            Self::HelloTold => "json.md",
            Self::PeerTold => {
                "https://github.com/iovisor/bcc/blob/v0.26.0/libbpf-tools/opensnoop.c"
            }
            Self::Silent => {
                "https://github.com/iovisor/bcc/blob/master/libbpf-tools/opensnoop.bpf.c"
            }
            Self::Script => "https://man7.org/linux/man-pages/man2/execve.2.html",
            Self::Cut => "https://github.com/iovisor/bcc/blob/v0.26.0/libbpf-tools/execsnoop.h",
            Self::Page => "https://github.com/iovisor/bcc/issues/2627",
            Self::Empty => "https://github.com/torvalds/linux/blob/v6.12/mm/maccess.c",
            Self::Execveat => "https://github.com/iovisor/bcc/issues/5556",
            Self::Thread => "https://github.com/DataDog/datadog-agent/pull/13780",
            Self::Calls => {
                "https://github.com/iovisor/bcc/blob/v0.26.0/libbpf-tools/opensnoop.bpf.c"
            }
            Self::Abi => "https://github.com/kinvolk/traceloop/issues/25",
            Self::NewLine => "https://github.com/iovisor/bcc/pull/5497",
            Self::Returns | Self::CutOff | Self::CgroupWrite => {
                "https://github.com/iovisor/bcc/blob/v0.26.0/libbpf-tools/syscount.bpf.c"
            }
            Self::StraceChild => "https://github.com/strace/strace/blob/v6.1/src/strace.c",
            Self::Sigreturn => "https://man7.org/linux/man-pages/man2/sigreturn.2.html",
            Self::Killed => "https://man7.org/linux/man-pages/man1/strace.1.html",
        }
    }
}
