/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* The arguments of a call that ran no program, from its caller's memory. Part of exec.bpf.c. */
#ifndef HELLO_ARGUMENTS_BPF_H
#define HELLO_ARGUMENTS_BPF_H

#include "program.bpf.h"

/*
 * One of the arguments that no program got; 0 when there is none left. A global function,
 * as hello_path_step() is: the verifier looks at it once.
 */
__noinline int exec_arg(u32 index)
{
	struct exec_slot *slot = bpf_map_lookup_elem(&exec_slots, &index);
	u64 room = config.transport == HELLO_TRANSPORT_PERF ? EXEC_PERF_ARGV : EXEC_TEXT;
	u64 pointer = 0, at, left;
	long len;

	if (!slot)
		return 0;
	if (bpf_probe_read_user(&pointer, slot->args_width == 4 ? 4 : 8, (void *)slot->args)) {
		slot->event.flags |= HELLO_EXEC_ARGV_UNREADABLE;
		return 0;
	}
	if (!pointer)
		return 0;
	slot->args += slot->args_width;
	at = exec_at(slot, EXEC_HEAD + EXEC_TEXT);
	left = slot->event.argv.at + room - at;
	barrier_var(left);
	if (left > EXEC_TEXT)
		return 0;
	len = bpf_probe_read_user_str(slot->tail + at, left, (void *)pointer);
	if (len > 0)
		slot->len = at + len;
	if (len <= 0 && left) { /* the NUL only: empty (0, older kernels), or not readable */
		slot->tail[at & (2 * EXEC_TEXT - 1)] = 0;
		slot->len = at + 1;
	}
	if (left == 0 || (u64)len == left) { /* perhaps it was just this long */
		slot->event.flags |= HELLO_EXEC_ARGV_CUT;
		return 0;
	}
	if (len < 0)
		slot->event.flags |= HELLO_EXEC_ARGV_UNREADABLE;
	return 1;
}

__noinline int exec_some_args(u32 index)
{
	u32 i;

	for (i = 0; i < EXEC_ARGS; i++)
		if (!exec_arg(index))
			return 0;
	return 1;
}

/* Pointer by pointer; `width` is a pointer's size. */
static __always_inline void exec_argv(struct exec_slot *slot, u64 from, u32 width)
{
	u32 index = slot->index, i;

	slot->event.argv.at = slot->len;
	slot->args = from;
	slot->args_width = width;
	if (!from) /* none at all, which the kernel takes for an empty list */
		return;
	for (i = 0; i < EXEC_ARGS; i++)
		if (!exec_some_args(index))
			break;
	if (i == EXEC_ARGS)
		slot->event.flags |= HELLO_EXEC_ARGV_CUT;
	slot->event.argv.len = slot->len - slot->event.argv.at;
}

#endif /* HELLO_ARGUMENTS_BPF_H */
