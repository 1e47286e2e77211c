// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/*
 * exec: one record for the whole life of a program: what was run, by whom, with which
 * arguments, what was tried in vain, how it ended. User side: src/modes/exec.rs.
 *
 * Successes and exits come from the scheduler's tracepoints, which see every way to
 * run a program and every way to end. Failures are seen where the call returns.
 */
#include "event.bpf.h"
#include "follow.bpf.h"
#include "program.bpf.h"
#include "arguments.bpf.h"

/*
 * Only the last thread's exit is the process's, and it is told once: two threads that
 * exit at the same time may both find that none is left alive.
 */
static __always_inline bool is_last(struct task_struct *task, struct task_struct *leader)
{
	struct exec_end end = {
		.start_time = BPF_CORE_READ(leader, start_time),
		.pid = BPF_CORE_READ(leader, tgid),
	};
	u8 yes = 1;

	if (BPF_CORE_READ(task, signal, live.counter) != 0)
		return false;
	return bpf_map_update_elem(&exec_ends, &end, &yes, BPF_NOEXIST) != -EEXIST;
}

/*
 * A process ends. Its memory is gone by now, and with it the command line: user space
 * has that from the exec.
 */
static __always_inline void tell_end(void *ctx, struct task_struct *task,
				     struct task_struct *leader)
{
	struct hello_exec_event event = { .kind = HELLO_EXEC_EXIT };
	struct hello_ledger *ledger;
	u32 tgid = exec_key(task);
	u64 *found = bpf_map_lookup_elem(&exec_programs, &tgid);

	if (found) {
		event.program = *found & ~EXEC_INHERITED;
		/* Its own exec failed when its parent's program was gone already. */
		if (*found & EXEC_INHERITED && !(BPF_CORE_READ(leader, flags) & PF_FORKNOEXEC))
			event.program = 0;
		bpf_map_delete_elem(&exec_programs, &tgid);
	}
	/* Which thread is the last is chance: the end is the process's, and so is its name. */
	ledger = hello_begin_as(NULL, HELLO_PROCESS, 1);
	if (!ledger)
		return;
	if (!event.program)
		hello_count(&ledger->unmatched);
	hello_task_here(NULL, &event.task);
	__builtin_memcpy(event.task.comm, event.task.process, sizeof(event.task.comm));
	event.euid = BPF_CORE_READ(task, cred, euid.val);
	event.lifetime_ns = event.task.ktime - BPF_CORE_READ(leader, start_time);
	if (BPF_CORE_READ(leader, flags) & PF_FORKNOEXEC)
		event.flags |= HELLO_EXEC_FORKED;
	/* As wait(2) tells it: if the threads ended one by one, it is the first's. */
	if (BPF_CORE_READ(task, signal, flags) & SIGNAL_GROUP_EXIT)
		event.status = BPF_CORE_READ(task, signal, group_exit_code);
	else
		event.status = BPF_CORE_READ(leader, exit_code);
	hello_emit(ctx, ledger, &event, sizeof(event));
}

/*
 * Also does what hello_exit (follow.bpf.h) does elsewhere, which is not loaded then: two
 * programs might disagree which thread is the last, and the process be taken off those
 * selected before its end is told.
 */
SEC("raw_tp/sched_process_exit")
int exec_exit(struct bpf_raw_tracepoint_args *ctx)
{
	struct task_struct *task = (void *)ctx->args[0];
	struct task_struct *leader = BPF_CORE_READ(task, group_leader);
	u32 tgid;

	if (BPF_CORE_READ(task, flags) & PF_KTHREAD || !is_last(task, leader))
		return 0;
	tell_end(ctx, task, leader);
	if (config.select & HELLO_SELECT_PIDS) {
		tgid = hello_tgid_of(task);
		bpf_map_delete_elem(&hello_pids, &tgid);
	}
	return 0;
}

/* A new process runs its parent's program until it execs one of its own. */
SEC("raw_tp/sched_process_fork")
int exec_fork(struct bpf_raw_tracepoint_args *ctx)
{
	u32 parent = exec_key((void *)ctx->args[0]);
	u32 child = exec_key((void *)ctx->args[1]);
	u64 *program, inherited;

	if (child == parent) /* a thread */
		return 0;
	program = bpf_map_lookup_elem(&exec_programs, &parent);
	if (!program) {
		/* Left by a process of that number whose end the kernel has skipped. */
		bpf_map_delete_elem(&exec_programs, &child);
		return 0;
	}
	inherited = *program | EXEC_INHERITED;
	/* Without room the exit will be told without its command line, as unmatched. */
	bpf_map_update_elem(&exec_programs, &child, &inherited, BPF_ANY);
	return 0;
}

/* A program was run: its memory has the arguments, complete and resident. */
SEC("raw_tp/sched_process_exec")
int exec_exec(struct bpf_raw_tracepoint_args *ctx)
{
	struct task_struct *task = (void *)ctx->args[0];
	struct linux_binprm *bprm = (void *)ctx->args[2];
	struct mm_struct *mm = BPF_CORE_READ(task, mm);
	const char *filename = BPF_CORE_READ(bprm, filename);
	struct hello_exec_event *event;
	struct hello_ledger *ledger;
	struct exec_slot *slot;
	struct file *exe;
	u64 replaced = 0;

	/* First: whatever becomes of this record, the one before is not its program. */
	if (exec_config.events & HELLO_EXEC_EXIT)
		replaced = exec_forget();
	ledger = hello_begin();
	if (!ledger)
		return 0;
	slot = exec_claim(ledger, HELLO_EXEC_EXEC);
	if (!slot)
		return 0;
	event = &slot->event;
	if (exec_config.events & HELLO_EXEC_EXIT)
		exec_remember(event, replaced);
	if (BPF_CORE_READ(bprm, interp) != filename)
		event->flags |= HELLO_EXEC_SCRIPT;
	exec_ancestors(slot);
	exe = BPF_CORE_READ(mm, exe_file);
	exec_path(slot, &exe->f_path, &event->exe, &event->exe_flags);
	exec_path(slot, &BPF_CORE_READ(task, fs)->pwd, &event->cwd, &event->cwd_flags);
	exec_filename(slot, filename, false);
	exec_memory(slot, BPF_CORE_READ(mm, arg_start), BPF_CORE_READ(mm, arg_end), false);
	if (exec_config.env)
		exec_memory(slot, BPF_CORE_READ(mm, env_start), BPF_CORE_READ(mm, env_end), true);
	exec_send(ctx, ledger, slot);
	return 0;
}

static __always_inline bool has_failed(s64 ret)
{
	return ret < 0 && ret >= -4095 && !hello_is_restart(ret);
}

/*
 * A call has failed. Its arguments are read now, not at its entry: the kernel may have
 * read them since. It has not where there is no such file (Linux 6.8 and newer look for
 * that first): then arguments in pages that nobody has touched cannot be read.
 */
static __always_inline int on_failure(void *ctx, struct pt_regs *regs, struct hello_call call,
				      s64 ret)
{
	struct task_struct *task = (void *)bpf_get_current_task();
	struct hello_ledger *ledger = hello_begin();
	struct exec_args args = exec_args(regs, call);
	struct hello_exec_event *event;
	struct exec_slot *slot;

	if (!ledger)
		return 0;
	slot = exec_claim(ledger, HELLO_EXEC_FAILED);
	if (!slot)
		return 0;
	event = &slot->event;
	event->ret = ret;
	exec_ancestors(slot);
	exec_path(slot, &BPF_CORE_READ(task, fs)->pwd, &event->cwd, &event->cwd_flags);
	exec_filename(slot, (void *)args.filename, true);
	exec_argv(slot, args.argv, call.abi == HELLO_ABI_NATIVE ? 8 : 4);
	exec_send(ctx, ledger, slot);
	return 0;
}

#define EXEC_FEXIT(name, entry, handler)                                             \
	SEC("?fexit")                                                                \
	int name##_##entry(u64 *ctx)                                                 \
	{                                                                            \
		struct pt_regs *regs = hello_first_argument(ctx);                    \
		s64 ret = ctx[1];                                                    \
		struct hello_call call;                                              \
                                                                                     \
		if (!has_failed(ret))                                                \
			return 0;                                                    \
		call = hello_call(hello_number(regs));                               \
		return hello_enters(call, HELLO_ENTRY_##entry) ? handler(ctx, regs, call, ret) : 0; \
	}

/* A return probe knows what is returned, but no longer the function's argument. */
#define EXEC_KRETPROBE(name, entry, handler)                                         \
	SEC("?kretprobe")                                                            \
	int name##_##entry(struct pt_regs *ctx)                                      \
	{                                                                            \
		s64 ret = PT_REGS_RC(ctx);                                           \
		struct pt_regs *regs;                                                \
		struct hello_call call;                                              \
                                                                                     \
		if (!has_failed(ret))                                                \
			return 0;                                                    \
		regs = hello_regs_here();                                            \
		call = hello_call(hello_number(regs));                               \
		return hello_enters(call, HELLO_ENTRY_##entry) ? handler(ctx, regs, call, ret) : 0; \
	}

/* Two system calls run a program: execve and execveat. */
HELLO_ON_FUNCTIONS(EXEC_FEXIT, exec_fentry_0, on_failure)
HELLO_ON_FUNCTIONS(EXEC_FEXIT, exec_fentry_1, on_failure)
HELLO_ON_FUNCTIONS(EXEC_KRETPROBE, exec_kprobe_0, on_failure)
HELLO_ON_FUNCTIONS(EXEC_KRETPROBE, exec_kprobe_1, on_failure)

/* Every call of every process ends here: those that went well pay two comparisons. */
SEC("?raw_tp/sys_exit")
int exec_raw_tp(struct bpf_raw_tracepoint_args *ctx)
{
	struct pt_regs *regs = (struct pt_regs *)ctx->args[0];
	s64 ret = ctx->args[1];
	struct hello_call call;

	if (!has_failed(ret) && !has_failed((s32)ret))
		return 0;
	call = hello_call(hello_number(regs));
	ret = hello_result(call, ret);
	return has_failed(ret) && hello_wanted(call) ? on_failure(ctx, regs, call, ret) : 0;
}

char LICENSE[] SEC("license") = "Dual BSD/GPL";
