/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * file by the kernel's functions, with trampolines (fentry) or breakpoints (kprobe):
 * do_filp_open() begins a record, what returns to the caller ends it. A part of
 * file.bpf.c.
 */
#ifndef HELLO_FILE_FUNCTIONS_BPF_H
#define HELLO_FILE_FUNCTIONS_BPF_H

/* Is it io_uring for which this task opens a file: in its call, or in a worker? */
static __always_inline bool is_io_uring(struct hello_call call)
{
	struct task_struct *task = (void *)bpf_get_current_task();

	if (BPF_CORE_READ(task, flags) & PF_IO_WORKER)
		return true;
	return call.nr == (call.abi == HELLO_ABI_COMPAT ? COMPAT_NR_io_uring_enter :
							  NR_io_uring_enter);
}

/*
 * do_filp_open() has returned a file or an error. Others come by here too, with whom
 * this mode has nothing to do: execve opens its program by it, and so does the kernel
 * for itself.
 */
static __always_inline int opened(void *ctx, s32 dfd, struct filename *name, struct open_flags *how,
				  struct file *file)
{
	struct hello_call call = hello_call(hello_number(hello_regs_here()));
	bool by_io_uring = !via_of(call) && is_io_uring(call);
	s64 ret = (s64)file < 0 && (s64)file > -4096 ? (s64)file : 0;
	struct open_args args = { .dfd = dfd };
	u64 owner = bpf_get_current_pid_tgid();
	struct hello_ledger *ledger = NULL;
	struct file_slot *slot;

	if (!via_of(call) && !by_io_uring)
		return 0;
	/* io_uring first tries without waiting; a worker then does it. */
	if (by_io_uring && ret == -EAGAIN && BPF_CORE_READ(how, lookup_flags) & LOOKUP_CACHED)
		return 0;
	if (by_io_uring) {
		ledger = hello_begin();
		if (!ledger)
			return 0;
		if (config.failed && !ret) {
			hello_count(&ledger->filtered);
			return 0;
		}
	} else if (!hello_selected() || (config.failed && !ret)) {
		return 0;
	}
	slot = new_slot(owner);
	if (!slot) {
		/* A system call still has its return to be told at. */
		if (ledger)
			hello_count(&ledger->lost_scratch);
		return 0;
	}
	given_by_kernel(slot, BPF_CORE_READ(name, name));
	if (BPF_CORE_READ(how, lookup_flags) & LOOKUP_IN_ROOT)
		args.resolve = RESOLVE_IN_ROOT;
	if (ret)
		path_of_failure(slot, &args);
	else
		path_of_file(slot, file);
	if (!ledger)
		return 0; /* a system call's: told when that returns */
	slot->event.via = HELLO_VIA_IO_URING;
	slot->event.abi = HELLO_ABI_NATIVE;
	slot->event.dfd = dfd;
	slot->event.flags = (u32)BPF_CORE_READ(how, open_flag);
	slot->event.mode = BPF_CORE_READ(how, mode) & 07777;
	slot->event.latency = nanoseconds_since_start(owner);
	slot->event.no_descriptor = 1; /* io_uring keeps it, or gives it in its queue */
	finish(ctx, ledger, slot, ret);
	hello_unclaim(&slot->claim);
	return 0;
}

#define OPENED_FEXIT(function)                                                       \
	SEC("?fexit/" #function)                                                     \
	int file_fexit_##function(u64 *ctx)                                          \
	{                                                                            \
		u64 args[4] = {};                                                    \
                                                                                     \
		bpf_probe_read_kernel(args, sizeof(args), ctx);                      \
		return opened(ctx, args[0], (void *)args[1], (void *)args[2],        \
			      (void *)args[3]);                                      \
	}
OPENED_FEXIT(do_filp_open)
OPENED_FEXIT(do_file_open)

/* What do_filp_open() was called with, for its return: a kretprobe has only that. */
struct filp_open_args {
	u64 name;
	u64 how;
	s64 dfd;
};

struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__uint(max_entries, 16384);
	__type(key, u64); /* pid_tgid */
	__type(value, struct filp_open_args);
} file_filp_opens SEC(".maps");

static __always_inline int opening(struct pt_regs *ctx)
{
	struct hello_call call = hello_call(hello_number(hello_regs_here()));
	u64 owner = bpf_get_current_pid_tgid();
	struct filp_open_args args = {
		.dfd = (s32)PT_REGS_PARM1(ctx),
		.name = PT_REGS_PARM2(ctx),
		.how = PT_REGS_PARM3(ctx),
	};

	if ((via_of(call) || is_io_uring(call)) && hello_selected())
		bpf_map_update_elem(&file_filp_opens, &owner, &args, BPF_ANY);
	return 0;
}

static __always_inline int opened_kretprobe(struct pt_regs *ctx)
{
	u64 owner = bpf_get_current_pid_tgid();
	struct filp_open_args *found = bpf_map_lookup_elem(&file_filp_opens, &owner), args;

	if (!found)
		return 0; /* not an open, or not selected */
	args = *found;
	bpf_map_delete_elem(&file_filp_opens, &owner);
	return opened(ctx, args.dfd, (void *)args.name, (void *)args.how,
		      (void *)PT_REGS_RC(ctx));
}

#define OPENED_KPROBE(function)                                                      \
	SEC("?kprobe/" #function)                                                    \
	int file_kprobe_##function(struct pt_regs *ctx)                              \
	{                                                                            \
		return opening(ctx);                                                 \
	}                                                                            \
	SEC("?kretprobe/" #function)                                                 \
	int file_kretprobe_##function(struct pt_regs *ctx)                           \
	{                                                                            \
		return opened_kretprobe(ctx);                                        \
	}
OPENED_KPROBE(do_filp_open)
OPENED_KPROBE(do_file_open)

/* The functions that return to the caller: with three arguments, or the registers. */
#define RETURNED(name, function, arguments)                                          \
	SEC("?fexit/" #function)                                                     \
	int file_fexit_##name(u64 *ctx)                                              \
	{                                                                            \
		u64 ret = 0;                                                         \
                                                                                     \
		bpf_probe_read_kernel(&ret, sizeof(ret), ctx + (arguments));         \
		return returned_by(ctx, hello_regs_here(), (s32)ret);                \
	}                                                                            \
	SEC("?kretprobe/" #function)                                                 \
	int file_kretprobe_##name(struct pt_regs *ctx)                               \
	{                                                                            \
		return returned_by(ctx, hello_regs_here(), (s32)PT_REGS_RC(ctx));    \
	}                                                                            \
	SEC("?fentry/" #function)                                                    \
	int file_start_fentry_##name(u64 *ctx)                                       \
	{                                                                            \
		if (hello_selected())                                                \
			start(bpf_get_current_pid_tgid());                           \
		return 0;                                                            \
	}                                                                            \
	SEC("?kprobe/" #function)                                                    \
	int file_start_kprobe_##name(struct pt_regs *ctx)                            \
	{                                                                            \
		if (hello_selected())                                                \
			start(bpf_get_current_pid_tgid());                           \
		return 0;                                                            \
	}
RETURNED(openat2, do_sys_openat2, 3)
#if defined(__TARGET_ARCH_x86)
RETURNED(to_handle, __x64_sys_name_to_handle_at, 1)
RETURNED(to_handle_ia32, __ia32_sys_name_to_handle_at, 1)
RETURNED(by_handle, __x64_sys_open_by_handle_at, 1)
RETURNED(by_handle_compat, __ia32_compat_sys_open_by_handle_at, 1)
#elif defined(__TARGET_ARCH_arm64)
RETURNED(to_handle, __arm64_sys_name_to_handle_at, 1)
RETURNED(by_handle, __arm64_sys_open_by_handle_at, 1)
RETURNED(by_handle_compat, __arm64_compat_sys_open_by_handle_at, 1)
#endif

#endif /* HELLO_FILE_FUNCTIONS_BPF_H */
