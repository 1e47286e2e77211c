// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/*
 * syscount: system calls counted, from one raw tracepoint that its section name
 * alone attaches, as in the book's exercises 3, 4 and 5. User side:
 * src/modes/syscount.rs.
 */
#include "count.bpf.h"
#include "follow.bpf.h"

/* By system call alone: an index, not a hash. One counter for each CPU. */
struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, HELLO_ABIS * HELLO_NR_MAX);
	__type(key, u32);
	__type(value, u64);
} syscount_calls SEC(".maps");

/* By anything else, and for numbers that no table has. */
struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_HASH);
	__uint(max_entries, 10240);
	__type(key, struct hello_key);
	__type(value, u64);
} syscount_counts SEC(".maps");

static __always_inline u64 *counter_by_key(struct hello_call call)
{
	struct hello_key key = {};
	u64 zero = 0, *count;

	hello_key_here(&key, call);
	count = bpf_map_lookup_elem(&syscount_counts, &key);
	if (count)
		return count;
	bpf_map_update_elem(&syscount_counts, &key, &zero, BPF_NOEXIST);
	return bpf_map_lookup_elem(&syscount_counts, &key);
}

SEC("?raw_tp/sys_enter")
int syscount_raw_tp(struct bpf_raw_tracepoint_args *ctx)
{
	struct hello_call call = hello_call(ctx->args[1]);
	struct hello_ledger *ledger;
	u64 *count;

	if (config.pick && !hello_wanted(call))
		return 0;
	ledger = hello_begin();
	if (!ledger)
		return 0;
	if (config.count_by == HELLO_BY_SYSCALL && call.nr < HELLO_NR_MAX) {
		u32 index = call.abi * HELLO_NR_MAX + call.nr;

		count = bpf_map_lookup_elem(&syscount_calls, &index);
	} else {
		count = counter_by_key(call);
	}
	if (!count) {
		hello_count(&ledger->lost_map);
		return 0;
	}
	*count += 1; /* this CPU's own: no atomic needed */
	hello_count(&ledger->emitted);
	return 0;
}

char LICENSE[] SEC("license") = "Dual BSD/GPL";
