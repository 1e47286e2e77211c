// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/*
 * trace: "Hello World!" into the kernel's trace pipe at every execve, as in the
 * book's hello.py. User side: src/modes/trace.rs.
 */
#include "hello.bpf.h"
#include "follow.bpf.h"

static __always_inline int on_execve(void *ctx, struct hello_call call)
{
	struct hello_ledger *ledger = hello_begin();

	if (!ledger)
		return 0;
	/*
	 * The trace pipe is the whole machine's; the tag tells this run's lines from
	 * those of others. User space takes it off again. No %08x: before 5.13
	 * bpf_trace_printk knows no widths.
	 */
	if (bpf_printk("hello-%x: Hello World!", config.tag) < 0)
		hello_count(&ledger->lost_buffer);
	else
		hello_count(&ledger->emitted);
	return 0;
}

/* Two system calls run a program: execve and execveat. */
HELLO_ON_KPROBE(trace_kprobe_0, on_execve)
HELLO_ON_KPROBE(trace_kprobe_1, on_execve)
HELLO_ON_FENTRY(trace_fentry_0, on_execve)
HELLO_ON_FENTRY(trace_fentry_1, on_execve)
HELLO_ON_RAW_TP(trace_raw_tp, on_execve)
HELLO_ON_TRACEPOINT(trace_tracepoint, on_execve)

char LICENSE[] SEC("license") = "Dual BSD/GPL";
