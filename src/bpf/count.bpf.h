/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* What the counting modes have in common: the key that a counter stands under. */
#ifndef HELLO_COUNT_BPF_H
#define HELLO_COUNT_BPF_H

#include "hello.bpf.h"

/* What to count by (--by), any combination. */
enum hello_axis {
	HELLO_BY_SYSCALL = 1,
	HELLO_BY_UID = 2,
	HELLO_BY_PID = 4,
	HELLO_BY_COMM = 8,
	HELLO_BY_CGROUP = 16,
};

/* Axes that were not asked for are zero. */
struct hello_key {
	u64 cgroup_id;
	u32 abi;
	u32 nr;
	u32 uid;
	u32 pid;
	u8 comm[TASK_COMM_LEN];
};

_Static_assert(sizeof(struct hello_key) == 40, "a key with padding would differ from itself");

static __always_inline void hello_key_here(struct hello_key *key, struct hello_call call)
{
	if (config.count_by & HELLO_BY_SYSCALL) {
		key->abi = call.abi;
		key->nr = call.nr;
	}
	if (config.count_by & HELLO_BY_UID)
		key->uid = bpf_get_current_uid_gid();
	if (config.count_by & HELLO_BY_PID)
		key->pid = bpf_get_current_pid_tgid() >> 32;
	if (config.count_by & HELLO_BY_COMM)
		bpf_get_current_comm(key->comm, sizeof(key->comm));
	if (config.count_by & HELLO_BY_CGROUP)
		key->cgroup_id = bpf_get_current_cgroup_id();
}

#endif /* HELLO_COUNT_BPF_H */
