// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/*
 * tail: every system call dispatched by a tail call through a program array, as
 * in the book's hello-tail.py. User side: src/modes/tail.rs.
 *
 * The dispatcher looks at the number only; what a call means is the matter of the
 * program that stands in its slot. Slots are filled here, in the definition, so
 * they are there before the dispatcher is attached. A tail call into an empty slot
 * does nothing and falls through.
 */
#include "event.bpf.h"
#include "follow.bpf.h"

enum hello_tail_kind {
	HELLO_TAIL_EXEC = 0,
	HELLO_TAIL_TIMER_CREATE = 1,
	HELLO_TAIL_TIMER_DELETE = 2,
	HELLO_TAIL_TIMER_OTHER = 3,
	HELLO_TAIL_OTHER_ABI = 4,
	HELLO_TAIL_OUTSIDE = 5,
	HELLO_TAIL_ANOTHER = 6,
};

struct hello_tail_event {
	struct hello_task task;
	u32 abi;
	u32 nr;
	u32 kind; /* enum hello_tail_kind */
	u32 pad;
};

HELLO_EXPORT(hello_tail_event);
enum hello_tail_kind export_hello_tail_kind __attribute__((unused));

/* The table ends below; the slots from here on are for what is not in it. */
enum {
	TAIL_CALLS = 512,
	TAIL_SLOT_OTHER_ABI = TAIL_CALLS,
	TAIL_SLOT_OUTSIDE,
	TAIL_SLOT_ANOTHER,
	TAIL_SLOTS,
};

_Static_assert(NR_MAX < TAIL_CALLS, "the architecture's table has outgrown the array");

/*
 * A function of its own, called from each of the programs: a BPF-to-BPF call. It and the
 * filters, which make such calls too, stay out of the dispatcher: a program with both such
 * calls and tail calls needs Linux 5.10 on x86-64 and 6.0 on arm64.
 */
static __noinline int say(struct bpf_raw_tracepoint_args *ctx, u32 kind)
{
	struct hello_ledger *ledger = hello_begin();
	struct hello_call call = hello_call(ctx->args[1]);
	struct hello_tail_event event = { .abi = call.abi, .nr = call.nr, .kind = kind };

	if (!ledger)
		return 0;
	hello_task_here(NULL, &event.task);
	hello_emit(ctx, ledger, &event, sizeof(event));
	return 0;
}

#define TAIL_PROGRAM(name, kind)                                                     \
	SEC("?raw_tp")                                                               \
	int name(struct bpf_raw_tracepoint_args *ctx)                                \
	{                                                                            \
		return say(ctx, kind);                                               \
	}

TAIL_PROGRAM(tail_exec, HELLO_TAIL_EXEC)
TAIL_PROGRAM(tail_timer_create, HELLO_TAIL_TIMER_CREATE)
TAIL_PROGRAM(tail_timer_delete, HELLO_TAIL_TIMER_DELETE)
TAIL_PROGRAM(tail_timer_other, HELLO_TAIL_TIMER_OTHER)
TAIL_PROGRAM(tail_other_abi, HELLO_TAIL_OTHER_ABI)
TAIL_PROGRAM(tail_outside, HELLO_TAIL_OUTSIDE)
TAIL_PROGRAM(tail_another, HELLO_TAIL_ANOTHER)

/* Calls so frequent that they would drown all others. */
SEC("?raw_tp")
int tail_ignore(struct bpf_raw_tracepoint_args *ctx)
{
	struct hello_ledger *ledger = hello_ledger_here();

	if (ledger) {
		hello_count(&ledger->seen);
		hello_count(&ledger->filtered);
	}
	return 0;
}

struct {
	__uint(type, BPF_MAP_TYPE_PROG_ARRAY);
	__uint(max_entries, TAIL_SLOTS);
	__uint(key_size, sizeof(u32));
	__array(values, int(void *));
} tail_programs SEC(".maps") = {
	.values = {
		[NR_execve] = (void *)&tail_exec,
		[NR_timer_create] = (void *)&tail_timer_create,
		[NR_timer_delete] = (void *)&tail_timer_delete,
		[NR_timer_settime] = (void *)&tail_timer_other,
		[NR_timer_gettime] = (void *)&tail_timer_other,
		[NR_timer_getoverrun] = (void *)&tail_timer_other,
		[NR_read] = (void *)&tail_ignore,
		[NR_write] = (void *)&tail_ignore,
		[NR_close] = (void *)&tail_ignore,
		[NR_ppoll] = (void *)&tail_ignore,
		[NR_futex] = (void *)&tail_ignore,
		[NR_ioctl] = (void *)&tail_ignore,
		[NR_mmap] = (void *)&tail_ignore,
		[NR_mprotect] = (void *)&tail_ignore,
		[NR_munmap] = (void *)&tail_ignore,
		[NR_madvise] = (void *)&tail_ignore,
		[NR_lseek] = (void *)&tail_ignore,
		[NR_recvmsg] = (void *)&tail_ignore,
		[NR_sendmsg] = (void *)&tail_ignore,
		[NR_epoll_pwait] = (void *)&tail_ignore,
		[NR_rt_sigprocmask] = (void *)&tail_ignore,
#ifdef NR_poll /* newer architectures do without */
		[NR_poll] = (void *)&tail_ignore,
		[NR_select] = (void *)&tail_ignore,
		[NR_epoll_wait] = (void *)&tail_ignore,
#endif
		[TAIL_SLOT_OTHER_ABI] = (void *)&tail_other_abi,
		[TAIL_SLOT_OUTSIDE] = (void *)&tail_outside,
		[TAIL_SLOT_ANOTHER] = (void *)&tail_another,
	},
};

SEC("?raw_tp/sys_enter")
int tail_raw_tp(struct bpf_raw_tracepoint_args *ctx)
{
	struct hello_call call = hello_call(ctx->args[1]);

	/* The same number is another call in another ABI's table. */
	if (call.abi != HELLO_ABI_NATIVE)
		bpf_tail_call(ctx, &tail_programs, TAIL_SLOT_OTHER_ABI);
	else if (call.nr >= TAIL_CALLS)
		bpf_tail_call(ctx, &tail_programs, TAIL_SLOT_OUTSIDE);
	else
		bpf_tail_call(ctx, &tail_programs, call.nr);
	/* Still here: nothing stands in that slot. */
	bpf_tail_call(ctx, &tail_programs, TAIL_SLOT_ANOTHER);
	return 0;
}

char LICENSE[] SEC("license") = "Dual BSD/GPL";
