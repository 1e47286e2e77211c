/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * Keeps hello_pids, and what is remembered of tasks (here.bpf.h), true while processes come
 * and go. Included by every mode; user space loads hello_exit when processes are selected
 * or tasks remembered, hello_fork when descendants of processes are selected. Attached in
 * this order: who is let in is seen out.
 */
#ifndef HELLO_FOLLOW_BPF_H
#define HELLO_FOLLOW_BPF_H

#include "hello.bpf.h"

/*
 * A stack may be used again once its task has ended, a process id once the last thread
 * is gone.
 */
SEC("?raw_tp/sched_process_exit")
int hello_exit(struct bpf_raw_tracepoint_args *ctx)
{
	struct task_struct *task = (void *)ctx->args[0];
	u32 tgid;

	if (config.remember) {
		struct pt_regs *regs = hello_regs_here();
		u64 address = 0;

		/* A number: the verifier lets no pointer be shifted. */
		bpf_probe_read_kernel(&address, sizeof(address), &regs);
		hello_atomic_inc(hello_ended(address));
	}
	/* do_exit() has taken this thread off the count already. */
	if (config.select & HELLO_SELECT_PIDS && BPF_CORE_READ(task, signal, live.counter) == 0) {
		tgid = hello_tgid_of(task);
		bpf_map_delete_elem(&hello_pids, &tgid);
	}
	return 0;
}

/* Runs in the parent before the child first runs: fork, vfork and clone alike. */
SEC("?raw_tp/sched_process_fork")
int hello_fork(struct bpf_raw_tracepoint_args *ctx)
{
	struct task_struct *parent = (void *)ctx->args[0];
	struct task_struct *child = (void *)ctx->args[1];
	u32 parent_tgid = hello_tgid_of(parent);
	u32 child_tgid = hello_tgid_of(child);
	struct hello_ledger *ledger;
	u8 yes = 1;

	if (child_tgid == parent_tgid) /* a thread */
		return 0;
	if (!bpf_map_lookup_elem(&hello_pids, &parent_tgid))
		return 0;
	hello_maybe[child_tgid % HELLO_MAYBE_SIZE] = 1;
	if (bpf_map_update_elem(&hello_pids, &child_tgid, &yes, BPF_ANY)) {
		ledger = hello_ledger_here();
		if (ledger)
			hello_count(&ledger->unfollowed);
	}
	return 0;
}

#endif /* HELLO_FOLLOW_BPF_H */
