/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * A call from its entry to its exit: which calls return otherwise than others, and
 * where to keep what is known of a call until it returns.
 */
#ifndef HELLO_PENDING_BPF_H
#define HELLO_PENDING_BPF_H

#include "count.bpf.h"

/* exit() and exit_group() do not return, so that no exit is seen of them. */
static __always_inline bool hello_never_returns(struct hello_call call)
{
	if (call.abi == HELLO_ABI_COMPAT)
		return call.nr == COMPAT_NR_exit || call.nr == COMPAT_NR_exit_group;
	return call.nr == NR_exit || call.nr == NR_exit_group;
}

/*
 * What rt_sigreturn() "returns" is what the interrupted code had in that register: the
 * result of another call, perhaps its error.
 */
static __always_inline bool hello_is_sigreturn(struct hello_call call)
{
	if (call.abi == HELLO_ABI_COMPAT)
		return call.nr == COMPAT_NR_sigreturn || call.nr == COMPAT_NR_rt_sigreturn;
#if defined(__TARGET_ARCH_x86)
	if (call.abi == HELLO_ABI_X32)
		return call.nr == 513;
#endif
	return call.nr == NR_rt_sigreturn;
}

/* A new process or thread is first seen returning from the call that its parent made. */
static __always_inline bool hello_is_fork(struct hello_call call)
{
	if (call.abi == HELLO_ABI_COMPAT)
		return call.nr == COMPAT_NR_fork || call.nr == COMPAT_NR_vfork ||
		       call.nr == COMPAT_NR_clone || call.nr == COMPAT_NR_clone3;
#ifdef NR_fork /* newer architectures have clone only */
	if (call.nr == NR_fork || call.nr == NR_vfork)
		return true;
#endif
	return call.nr == NR_clone || call.nr == NR_clone3;
}

enum hello_phase {
	HELLO_IDLE = 0,	   /* in no call that is watched */
	HELLO_COUNTED = 1, /* in one that stands in the counters */
	HELLO_UNCOUNTED = 2, /* in one that is accounted for otherwise */
};

/* The call that a task is in. */
struct hello_open_call {
	u64 start; /* CLOCK_MONOTONIC, ns */
	struct hello_call call;
	u32 phase; /* enum hello_phase */
	u32 unused;
	struct hello_key key; /* who it was at the entry */
};

/* The kernel keeps it with the task and frees it with the task. */
struct {
	__uint(type, BPF_MAP_TYPE_TASK_STORAGE);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__type(key, int);
	__type(value, struct hello_open_call);
} hello_call_storage SEC(".maps");

/*
 * For tasks that the kernel has no storage for: all of them where raw_tp programs do not
 * get at it (before Linux 5.12), some where it does not get the memory, all where the
 * kernel's allocator for any context needs an instruction that the CPU has not (seen
 * with Linux 7.2 on x86 without cmpxchg16b). By the address of the task: the thread id changes
 * when a thread that is not the leader executes a program.
 */
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 32768);
	__type(key, u64);
	__type(value, struct hello_open_call);
} hello_call_hash SEC(".maps");

volatile u32 hello_call_hash_used = 0;

/* What is kept of the current task, or NULL; with `create` NULL means no room. */
static __always_inline struct hello_open_call *hello_open_call(bool create)
{
	struct hello_open_call none = {};
	void *found;
	u64 task;

	if (config.watch & HELLO_WATCH_STORAGE) {
		found = bpf_task_storage_get(&hello_call_storage, bpf_get_current_task_btf(), NULL,
					     create ? BPF_LOCAL_STORAGE_GET_F_CREATE : 0);
		if (found || (!create && !hello_call_hash_used))
			return found;
	}
	task = bpf_get_current_task();
	found = bpf_map_lookup_elem(&hello_call_hash, &task);
	if (found || !create)
		return found;
	hello_call_hash_used = 1;
	bpf_map_update_elem(&hello_call_hash, &task, &none, BPF_NOEXIST);
	return bpf_map_lookup_elem(&hello_call_hash, &task);
}

/* The address will be another task's. */
SEC("raw_tp/sched_process_exit")
int hello_forget(struct bpf_raw_tracepoint_args *ctx)
{
	u64 task = bpf_get_current_task();

	if (hello_call_hash_used)
		bpf_map_delete_elem(&hello_call_hash, &task);
	return 0;
}

#endif /* HELLO_PENDING_BPF_H */
