// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/*
 * map: how often each user made a system call, execve unless told otherwise, as
 * in the book's hello-map.py and its exercise 2: one program for each system
 * call, all of them counting in one hash map. User side: src/modes/map.rs.
 */
#include "count.bpf.h"
#include "follow.bpf.h"

/* Shared by all programs below, and read by user space every interval. */
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 65536);
	__type(key, struct hello_key);
	__type(value, u64);
} map_counts SEC(".maps");

static __always_inline int on_call(void *ctx, struct hello_call call)
{
	struct hello_ledger *ledger = hello_begin();
	struct hello_key key = {};
	u64 zero = 0, *count;

	if (!ledger)
		return 0;
	hello_key_here(&key, NULL, call);

	count = bpf_map_lookup_elem(&map_counts, &key);
	if (!count) {
		/* Another CPU may have been first: its counter must stay. */
		bpf_map_update_elem(&map_counts, &key, &zero, BPF_NOEXIST);
		count = bpf_map_lookup_elem(&map_counts, &key);
	}
	if (!count) {
		hello_count(&ledger->lost_map);
		return 0;
	}
	/* All CPUs share the counter: an atomic add, or some would be lost. */
	hello_atomic_inc(count);
	hello_count(&ledger->emitted);
	return 0;
}

/* Programs of their own for each of up to 8 system calls. */
#define ON_CALL(n)                                                                   \
	HELLO_ON_KPROBE(map_kprobe_##n, on_call)                                     \
	HELLO_ON_FENTRY(map_fentry_##n, on_call)

ON_CALL(0)
ON_CALL(1)
ON_CALL(2)
ON_CALL(3)
ON_CALL(4)
ON_CALL(5)
ON_CALL(6)
ON_CALL(7)

/* One tracepoint for all system calls: one program. */
HELLO_ON_RAW_TP(map_raw_tp, on_call)
HELLO_ON_TRACEPOINT(map_tracepoint, on_call)

char LICENSE[] SEC("license") = "Dual BSD/GPL";
