/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * System calls: which one of which ABI, and running a handler at their entry by
 * each hook there is. Part of hello.bpf.h.
 */
#ifndef HELLO_CALL_BPF_H
#define HELLO_CALL_BPF_H

#if defined(__TARGET_ARCH_x86)
/* TS_COMPAT, arch/x86/include/asm/thread_info.h: entered by int 0x80 or sysenter. */
#define HELLO_COMPAT_FIELD thread_info.status
#define HELLO_COMPAT_BIT 0x0002
#elif defined(__TARGET_ARCH_arm64)
/* TIF_32BIT, arch/arm64/include/asm/thread_info.h. */
#define HELLO_COMPAT_FIELD thread_info.flags
#define HELLO_COMPAT_BIT (1 << 22)
#endif

/* __X32_SYSCALL_BIT, arch/x86/include/uapi/asm/unistd.h; no other table has such numbers. */
#define HELLO_X32_BIT 0x40000000

/* Every system call of the machine comes by here, so it matters what it costs. */
static __always_inline bool hello_is_compat(struct hello_here *here)
{
	struct task_struct *task;

	/* A number, by a plain load, is cheap for the verifier too. */
	if (!here && bpf_core_enum_value_exists(enum bpf_func_id, BPF_FUNC_get_current_task_btf))
		return bpf_get_current_task_btf()->HELLO_COMPAT_FIELD & HELLO_COMPAT_BIT;
	task = hello_task_of(here);
	return task && HELLO_READ_OF(here, task, HELLO_COMPAT_FIELD) & HELLO_COMPAT_BIT;
}

/* Which call this is, from the number as the kernel's entry code has it. */
static __always_inline struct hello_call hello_call_of(struct hello_here *here, u64 number)
{
	struct hello_call call = { .abi = HELLO_ABI_NATIVE, .nr = number };

	if (hello_is_compat(here)) {
		call.abi = HELLO_ABI_COMPAT;
#if defined(__TARGET_ARCH_x86)
	} else if ((u32)number >> 30 == 1) { /* bit 30, not a negative number */
		call.abi = HELLO_ABI_X32;
		call.nr &= ~HELLO_X32_BIT;
#endif
	}
	return call;
}

static __always_inline struct hello_call hello_call(u64 number)
{
	return hello_call_of(NULL, number);
}

/*
 * The registers that the running task entered the kernel with: at the top of its
 * stack. Kernels without the helper have neither larger stacks nor padding there.
 */
static __always_inline struct pt_regs *hello_regs_here(void)
{
	struct task_struct *task;

	if (bpf_core_enum_value_exists(enum bpf_func_id, BPF_FUNC_task_pt_regs))
		return (void *)bpf_task_pt_regs(bpf_get_current_task_btf());
	task = (void *)bpf_get_current_task();
	return BPF_CORE_READ(task, stack) + (16 << 10) - bpf_core_type_size(struct pt_regs);
}

/* Number of the call whose entry code saved these registers. */
static __always_inline u64 hello_number(struct pt_regs *regs)
{
#if defined(__TARGET_ARCH_x86)
	return BPF_CORE_READ(regs, orig_ax);
#elif defined(__TARGET_ARCH_arm64)
	return BPF_CORE_READ(regs, syscallno);
#endif
}

/* The same of the running task, without a call of the kernel where that can be. */
static __always_inline u64 hello_number_here(struct hello_here *here, struct pt_regs *regs)
{
	struct pt_regs *own = here ? here->regs : NULL;

	if (!own)
		return hello_number(regs);
#if defined(__TARGET_ARCH_x86)
	return own->orig_ax;
#elif defined(__TARGET_ARCH_arm64)
	return own->syscallno;
#endif
}

/* Is it one of the calls that user space asked for? */
static __always_inline bool hello_wanted(struct hello_call call)
{
	u32 word = call.abi * HELLO_CALL_WORDS + call.nr / 64;

	if (call.nr >= HELLO_NR_MAX || word >= HELLO_ABIS * HELLO_CALL_WORDS)
		return false;
	return config.calls[word] >> (call.nr % 64) & 1;
}

/* Is a call of that number wanted, in whatever table? */
static __always_inline bool hello_number_wanted(u64 number)
{
	u32 nr = number & ~HELLO_X32_BIT, word = nr / 64;

	if (nr >= HELLO_NR_MAX)
		return false;
	return (config.calls[word] | config.calls[HELLO_CALL_WORDS + word] |
		config.calls[2 * HELLO_CALL_WORDS + word]) >> (nr % 64) & 1;
}

/*
 * What a call has returned. arm64 kernels before 5.14 (commit e30e8d46cf60) do not extend
 * the sign of what 32-bit calls return.
 */
static __always_inline s64 hello_result(struct hello_call call, s64 ret)
{
	return call.abi == HELLO_ABI_COMPAT ? (s32)ret : ret;
}

/*
 * ERESTARTSYS to ERESTART_RESTARTBLOCK: a signal has interrupted the call. The kernel
 * makes it again, or tells its caller EINTR; here nobody knows yet.
 */
static __always_inline bool hello_is_restart(s64 ret)
{
	return ret >= -516 && ret <= -512;
}

/* Which of a system call's functions a program is attached to. */
enum hello_entry {
	HELLO_ENTRY_native, /* __x64_sys_, __arm64_sys_ */
	HELLO_ENTRY_ia32,   /* __ia32_sys_ */
	HELLO_ENTRY_compat, /* __ia32_compat_sys_, __arm64_compat_sys_ */
	HELLO_ENTRY_x32,    /* __x64_compat_sys_, __x32_compat_sys_ */
};

/*
 * Is this call the business of a program on that function? On x86-64 the functions
 * of a call without arguments are one function under two names
 * (arch/x86/include/asm/syscall_wrapper.h), so both programs run, and one of them
 * must look away. On arm64 the 32-bit table shares most functions with the other.
 */
static __always_inline bool hello_enters(struct hello_call call, enum hello_entry entry)
{
#if defined(__TARGET_ARCH_x86)
	switch (entry) {
	case HELLO_ENTRY_native:
		return call.abi != HELLO_ABI_COMPAT;
	case HELLO_ENTRY_x32:
		return call.abi == HELLO_ABI_X32;
	default:
		return call.abi == HELLO_ABI_COMPAT;
	}
#endif
	return true;
}

/*
 * Runs `handler(ctx, call)` at the entry of every system call that user space
 * asked for, by each hook there is; user space loads the programs of one.
 *
 * - kprobe, fentry: programs for one call, one for each of its functions
 *   (__x64_sys_execve, __ia32_compat_sys_execve, …), whose only argument is the
 *   caller's saved registers. Other calls do not notice.
 * - raw_tp, tracepoint: one program for all calls, which picks. Those that it does
 *   not want pay one comparison.
 */
#define HELLO_ON_FUNCTIONS(PROGRAM, name, handler)                                   \
	PROGRAM(name, native, handler)                                               \
	PROGRAM(name, ia32, handler)                                                 \
	PROGRAM(name, compat, handler)                                               \
	PROGRAM(name, x32, handler)

#define HELLO_KPROBE(name, entry, handler)                                           \
	SEC("?kprobe")                                                               \
	int name##_##entry(struct pt_regs *ctx)                                      \
	{                                                                            \
		struct pt_regs *regs = (struct pt_regs *)PT_REGS_PARM1(ctx);         \
		struct hello_call call = hello_call(hello_number(regs));             \
                                                                                     \
		return hello_enters(call, HELLO_ENTRY_##entry) ? handler(ctx, call) : 0; \
	}
#define HELLO_ON_KPROBE(name, handler) HELLO_ON_FUNCTIONS(HELLO_KPROBE, name, handler)

/*
 * The first argument of a trampoline's program. Not `ctx[0]`: where the function's
 * file has only seen `struct pt_regs;`, older kernels refuse to hand it out
 * ("type FWD is not a struct", execveat on 5.10).
 */
static __always_inline struct pt_regs *hello_first_argument(u64 *ctx)
{
	struct pt_regs *regs = NULL;

	bpf_probe_read_kernel(&regs, sizeof(regs), ctx);
	return regs;
}

#define HELLO_FENTRY(name, entry, handler)                                           \
	SEC("?fentry")                                                               \
	int name##_##entry(u64 *ctx)                                                 \
	{                                                                            \
		struct pt_regs *regs = hello_first_argument(ctx);                    \
		struct hello_call call = hello_call(hello_number(regs));             \
                                                                                     \
		return hello_enters(call, HELLO_ENTRY_##entry) ? handler(ctx, call) : 0; \
	}
#define HELLO_ON_FENTRY(name, handler) HELLO_ON_FUNCTIONS(HELLO_FENTRY, name, handler)

#define HELLO_ON_RAW_TP(name, handler)                                               \
	SEC("?raw_tp/sys_enter")                                                     \
	int name(struct bpf_raw_tracepoint_args *ctx)                                \
	{                                                                            \
		struct hello_call call;                                              \
                                                                                     \
		if (!hello_number_wanted(ctx->args[1]))                              \
			return 0;                                                    \
		call = hello_call(ctx->args[1]);                                     \
		return hello_wanted(call) ? handler(ctx, call) : 0;                  \
	}

#define HELLO_ON_TRACEPOINT(name, handler)                                           \
	SEC("?tp/raw_syscalls/sys_enter")                                            \
	int name(struct trace_event_raw_sys_enter *ctx)                              \
	{                                                                            \
		struct hello_call call = hello_call(ctx->id);                        \
                                                                                     \
		return hello_wanted(call) ? handler(ctx, call) : 0;                  \
	}

#endif /* HELLO_CALL_BPF_H */
