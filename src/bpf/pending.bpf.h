/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * A call from its entry to its exit: which calls return otherwise than others, and
 * where to keep what is known of a call until it returns.
 */
#ifndef HELLO_PENDING_BPF_H
#define HELLO_PENDING_BPF_H

#include "count.bpf.h"
#include "slot.bpf.h"

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

#define SIGKILL_BIT (1UL << 8)

/*
 * Did the end of its process interrupt the call? Nobody gets to see what it returns.
 * fatal_signal_pending(), include/linux/sched/signal.h.
 */
static __always_inline bool hello_is_cut_off(s64 ret)
{
	struct task_struct *task;

	if (!hello_is_restart(ret))
		return false;
	task = (void *)bpf_get_current_task();
	return BPF_CORE_READ(task, pending.signal.sig[0]) & SIGKILL_BIT;
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
	u64 claims;
	u64 owner; /* the address of the task; 0: none */
	u64 start; /* CLOCK_MONOTONIC, ns */
	struct hello_call call;
	u32 phase; /* enum hello_phase */
	u32 weight; /* how many calls this one stands for */
	struct hello_key key; /* who it was at the entry */
};

enum {
	HELLO_CALL_BITS = 14, /* of the number of slots */
};

/*
 * Where most tasks have theirs: one slot for all whose address has the same hash, and
 * the first to come has it until it ends. Not task storage, which is a call of the
 * kernel, and not by thread id: that changes when a thread that is not the leader
 * executes a program.
 */
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1 << HELLO_CALL_BITS);
	__type(key, u32);
	__type(value, struct hello_open_call);
} hello_call_slots SEC(".maps");

/* For those whose slot is another's. */
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 32768);
	__type(key, u64);
	__type(value, struct hello_open_call);
} hello_call_hash SEC(".maps");

volatile u32 hello_call_hash_used = 0;

static __always_inline struct hello_open_call *hello_call_slot(u64 task)
{
	/* Fibonacci hashing: the low bits of an address are all alike. */
	u32 index = task * 0x9e3779b97f4a7c15ULL >> (64 - HELLO_CALL_BITS);

	return bpf_map_lookup_elem(&hello_call_slots, &index);
}

/* What is kept of the current task, or NULL; with `create` NULL means no room. */
static __always_inline struct hello_open_call *hello_open_call(struct hello_here *here, bool create)
{
	struct hello_open_call none = {}, *slot, *found = NULL;
	u64 task = here ? here->address : bpf_get_current_task();

	slot = hello_call_slot(task);
	if (!slot)
		return NULL;
	if (slot->owner == task)
		return slot;
	if (hello_call_hash_used)
		found = bpf_map_lookup_elem(&hello_call_hash, &task);
	if (found || !create)
		return found;
	if (!slot->owner && hello_claim(&slot->claims, HELLO_OF_ALL)) {
		slot->owner = task;
		return slot;
	}
	hello_call_hash_used = 1;
	bpf_map_update_elem(&hello_call_hash, &task, &none, BPF_NOEXIST);
	return bpf_map_lookup_elem(&hello_call_hash, &task);
}

/* The address will be another task's. */
SEC("raw_tp/sched_process_exit")
int hello_forget(struct bpf_raw_tracepoint_args *ctx)
{
	u64 task = bpf_get_current_task();
	struct hello_open_call *slot = hello_call_slot(task);

	if (slot && slot->owner == task) {
		slot->phase = HELLO_IDLE;
		slot->owner = 0;
		hello_unclaim(&slot->claims, HELLO_OF_ALL);
	} else if (hello_call_hash_used) {
		bpf_map_delete_elem(&hello_call_hash, &task);
	}
	return 0;
}

#endif /* HELLO_PENDING_BPF_H */
