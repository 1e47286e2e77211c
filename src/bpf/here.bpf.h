/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * Who is running, without asking the kernel: for programs on every system call's entry
 * and exit. Part of hello.bpf.h.
 *
 * A call of a helper costs such a program more than all its own instructions (with the
 * mitigation of SRSO 18 ns of 85: docs/performance.md). So each CPU remembers the task that it
 * asked for last, and asks again when another one runs. From there the task's fields
 * are read by plain loads.
 */
#ifndef HELLO_HERE_BPF_H
#define HELLO_HERE_BPF_H

/* Control groups by their ids. */
struct hello_groups {
	u64 v2;
	u64 pids; /* version 1 */
	u64 memory;
};

struct hello_here {
	/* Pointers that the verifier knows, and the kernel does not count. */
	struct task_struct __kptr_untrusted *task;
	struct pt_regs __kptr_untrusted *regs; /* its registers of user space */
	u64 address; /* of the task, as a number */
	u32 tgid;
	u32 ended; /* what hello_ended() was then */
	/* What was last asked for: the container of whoever is in these groups. */
	struct hello_groups groups;
	u64 container;
};

/*
 * In a per-CPU array the verifier puts the address of the element into the program
 * from Linux 6.10 on; it knows such pointers there from 6.1 on.
 */
struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, 1);
	__type(key, u32);
	__type(value, struct hello_here);
} hello_here_map SEC(".maps");

enum {
	HELLO_STACKS = 4096, /* a power of two */
};

volatile u32 hello_ended_by_stack[HELLO_STACKS] SEC(".bss.ended") = {};

/*
 * How many tasks have ended on the kernel stack that has these registers at its top, and
 * on a few others. Stacks are aligned to 16 KiB at least.
 */
static __always_inline volatile u32 *hello_ended(u64 regs)
{
	return &hello_ended_by_stack[(regs >> 14) % HELLO_STACKS];
}

/* A function of its own: a task is switched to once for many calls that it makes. */
static __noinline void hello_remember(struct hello_here *here, u32 ended)
{
	struct task_struct *now = bpf_get_current_task_btf();

	here->regs = (void *)bpf_task_pt_regs(now);
	here->address = bpf_get_current_task();
	here->tgid = bpf_get_current_pid_tgid() >> 32;
	here->ended = ended;
	here->task = now;
}

/*
 * The running task, for a program that was handed its registers; NULL where the kernel
 * has to be asked. What is remembered still holds if the registers are the same, for they
 * are at the top of the task's kernel stack, and if no task has ended on that stack since:
 * the next one may get it. hello_exit (follow.bpf.h) counts those that end; it is attached
 * before any program that remembers, and detached after.
 *
 * Not for programs that can be preempted: another program would change it midway.
 */
static __always_inline struct hello_here *hello_here(u64 regs)
{
	struct hello_here *here;
	u32 zero = 0, ended;

	if (!config.remember)
		return NULL;
	here = bpf_map_lookup_elem(&hello_here_map, &zero);
	if (!here)
		return NULL;
	ended = *hello_ended(regs);
	if ((u64)here->regs != regs || here->ended != ended)
		hello_remember(here, ended);
	return here;
}

/*
 * The running task. Not bpf_get_current_task_btf() where nothing is remembered: what is
 * reached from a pointer that the verifier trusts costs it a search for names in all of
 * the kernel's BTF, a millisecond for each load.
 */
static __always_inline struct task_struct *hello_task_of(struct hello_here *here)
{
	return here ? here->task : (void *)bpf_get_current_task();
}

/*
 * A field of that task, or by several of what is reached from it. What is reached from a
 * pointer that is not trusted is not either: such a load gives 0 where there is no memory.
 */
#define HELLO_READ_OF(here, task, ...)                                               \
	((here) ? ___arrow(task, __VA_ARGS__) : BPF_CORE_READ(task, __VA_ARGS__))

#endif /* HELLO_HERE_BPF_H */
