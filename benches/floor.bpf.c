// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/*
 * The floors of the benchmark: what an empty program costs on the hooks that hello
 * uses. They are loaded by the benchmark, never by hello.
 */
#include "vmlinux.h"

#include <bpf/bpf_helpers.h>

/* Which clang made this object, and hello's. */
const char floor_clang[] SEC(".rodata.clang") = __clang_version__;

#define EMPTY(name, tracepoint)       \
	SEC("raw_tp/" tracepoint)     \
	int name(void *ctx)           \
	{                             \
		return 0;             \
	}

EMPTY(floor_enter, "sys_enter")
EMPTY(floor_exit, "sys_exit")
EMPTY(floor_process_exec, "sched_process_exec")
EMPTY(floor_process_exit, "sched_process_exit")

/* The clock's value is returned so that reading it stays in. */
#define CLOCK(name, tracepoint)                   \
	SEC("raw_tp/" tracepoint)                 \
	int name(void *ctx)                       \
	{                                         \
		return bpf_ktime_get_ns() & 1;    \
	}

CLOCK(floor_enter_clock, "sys_enter")
CLOCK(floor_exit_clock, "sys_exit")

char LICENSE[] SEC("license") = "Dual BSD/GPL";
