// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/*
 * file: files opened, by whom, with what result, as in the book's hello-file.py and
 * hello-file-ring-buffer.py, but for every way to open one, of every ABI. User side:
 * src/modes/file.rs.
 *
 * Everything is told when the call returns: at its entry the page with the path may
 * not be in memory yet, and a program cannot wait for it. By hook:
 *
 * - fentry, kprobe: do_sys_openat2(), which is behind all calls that open by a path;
 *   openat2 itself, which may fail before it gets there, by its own function. Calls that
 *   open nothing pay nothing. io_uring does not come by there, but by
 *   do_filp_open() (do_file_open() in newer kernels), as does the kernel itself.
 * - raw_tp: the return of every system call, and io_uring's own tracepoints.
 * - tracepoint: entry and return, because its return does not carry the arguments.
 *
 * The registers that a call was made with are still there when it returns, so nothing
 * has to be remembered from its entry.
 */
#include "file.bpf.h"
#include "file_prefix.bpf.h"
#include "follow.bpf.h"

/* The classic tracepoint's calls under way. */
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 16384);
	__type(key, u64); /* pid_tgid */
	__type(value, struct open_args);
} file_calls SEC(".maps");

/* When a call began (--latency). A call whose return is missed leaves its entry. */
struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__uint(max_entries, 16384);
	__type(key, u64); /* pid_tgid, or the io_uring request */
	__type(value, u64);
} file_starts SEC(".maps");

static __always_inline void start(u64 owner)
{
	u64 now = bpf_ktime_get_ns();

	bpf_map_update_elem(&file_starts, &owner, &now, BPF_ANY);
}

static __always_inline u64 nanoseconds_since_start(u64 owner)
{
	u64 *began = bpf_map_lookup_elem(&file_starts, &owner), time;

	if (!began)
		return 0;
	time = bpf_ktime_get_ns() - *began;
	bpf_map_delete_elem(&file_starts, &owner);
	return time;
}

/* Sends the record, unless its path keeps it from being wanted, and gives the slot back. */
static __always_inline void finish(void *ctx, struct hello_ledger *ledger, struct file_slot *slot,
				   s64 ret)
{
	struct hello_file_event *event = &slot->event;

	event->ret = ret;
	if (path_wanted(slot)) {
		if (event->unreadable)
			hello_count(&ledger->unreadable);
		if (event->path_flags & (HELLO_PATH_CUT | HELLO_GIVEN_CUT))
			hello_count(&ledger->truncated);
		send(ctx, ledger, slot);
	} else {
		hello_count(&ledger->filtered);
	}
	hello_unclaim(&slot->claims, HELLO_OF_CPU);
}

/* A system call has returned. A slot to tell of it in, unless it is not wanted. */
static __always_inline struct file_slot *returning(struct hello_here *here,
						   struct hello_ledger *ledger, s64 ret)
{
	u64 latency = config.latency ? nanoseconds_since_start(bpf_get_current_pid_tgid()) : 0;
	struct file_slot *slot;

	if ((config.failed && ret >= 0) || hello_is_restart(ret)) {
		hello_count(&ledger->filtered);
		return NULL;
	}
	slot = file_claim(here, ledger);
	if (slot)
		slot->event.latency = latency;
	return slot;
}

/* The call was made with slot->args. */
static __always_inline void returned(void *ctx, struct hello_here *here,
				     struct hello_ledger *ledger, struct file_slot *slot, s64 ret)
{
	const struct open_args *args = &slot->args;

	given_by_user(slot);
	if (ret >= 0 && args->via != HELLO_VIA_NAME_TO_HANDLE_AT)
		path_of_file(here, slot, file_of(here, ret));
	else
		path_of_failure(here, slot);
	slot->event.via = args->via;
	slot->event.dfd = args->dfd;
	slot->event.flags = args->flags;
	slot->event.mode = args->mode;
	slot->event.no_descriptor = args->via == HELLO_VIA_NAME_TO_HANDLE_AT;
	finish(ctx, ledger, slot, ret);
}

/* The same for hooks that have the caller's registers, once it is selected. */
static __always_inline int selected(void *ctx, struct hello_here *here,
				    struct hello_ledger *ledger, struct pt_regs *regs, s64 ret,
				    struct hello_call call, u32 via)
{
	struct file_slot *slot;

	ret = hello_result(call, ret);
	slot = returning(here, ledger, ret);
	if (!slot)
		return 0;
	slot->event.abi = call.abi;
	slot->args = args_of(here, regs, call, via);
	returned(ctx, here, ledger, slot, ret);
	return 0;
}

/*
 * A function of its own, for the sake of the program below: nearly all calls only pass it, so
 * it is to be short, and to have at most 48 bytes on the stack; what the call is is asked
 * once more here rather than kept there. For a function with more
 * Linux 6.13 takes a stack beside the kernel's on x86-64 (BPF_PRIV_STACK_MIN_SIZE; sizes are
 * rounded up to 16), in memory that nobody else has just used.
 */
static __noinline int selected_of_all(void *ctx, struct hello_here *here,
				      struct hello_ledger *ledger, struct pt_regs *regs, s64 ret)
{
	struct hello_call call;
	u32 via = via_of(here, hello_number_here(here, regs), &call);

	/* It opens, as before; the verifier does not know that. */
	return via ? selected(ctx, here, ledger, regs, ret, call, via) : 0;
}

SEC("?raw_tp/sys_exit")
int file_raw_tp(struct bpf_raw_tracepoint_args *ctx)
{
	struct pt_regs *regs = (void *)ctx->args[0];
	s64 ret = ctx->args[1];
	struct hello_ledger *ledger;
	struct hello_here *here;
	struct hello_call call;

	/* Now: compilers would do it later, by an address that the verifier refuses. */
	barrier_var(regs);
	barrier_var(ret);
	here = hello_here((u64)regs);
	if (!via_of(here, hello_number_here(here, regs), &call))
		return 0;
	ledger = hello_begin_of(here);
	return ledger ? selected_of_all(ctx, here, ledger, regs, ret) : 0;
}

SEC("?raw_tp/sys_enter")
int file_start_raw_tp(struct bpf_raw_tracepoint_args *ctx)
{
	struct hello_here *here = hello_here(ctx->args[0]);
	struct hello_call call;

	if (via_of(here, ctx->args[1], &call) && hello_selected_as(here, HELLO_THREAD))
		start(bpf_get_current_pid_tgid());
	return 0;
}

/* The caller's function has returned, which opens, and so does not run often. */
static __always_inline int returned_by(void *ctx, s64 ret, u32 elsewhere)
{
	struct pt_regs *regs = hello_regs_here();
	struct hello_ledger *ledger;
	struct hello_call call;
	u32 via = via_of(NULL, hello_number(regs), &call);

	if (!via || via == elsewhere)
		return 0;
	ledger = hello_begin();
	return ledger ? selected(ctx, NULL, ledger, regs, ret, call, via) : 0;
}

/* The functions that return to the caller: with three arguments, or the registers. */
#define RETURNED(name, function, arguments, elsewhere)                               \
	SEC("?fexit/" #function)                                                     \
	int file_fexit_##name(u64 *ctx)                                              \
	{                                                                            \
		u64 ret = 0;                                                         \
                                                                                     \
		bpf_probe_read_kernel(&ret, sizeof(ret), ctx + (arguments));         \
		return returned_by(ctx, (s32)ret, elsewhere);                        \
	}                                                                            \
	SEC("?kretprobe/" #function)                                                 \
	int file_kretprobe_##name(struct pt_regs *ctx)                               \
	{                                                                            \
		return returned_by(ctx, (s32)PT_REGS_RC(ctx), elsewhere);            \
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
#define RETURNED_FROM(name, function) RETURNED(name, function, 1, HELLO_VIA_NONE)
RETURNED(open, do_sys_openat2, 3, HELLO_VIA_OPENAT2)
#if defined(__TARGET_ARCH_x86)
RETURNED_FROM(openat2, __x64_sys_openat2)
RETURNED_FROM(openat2_ia32, __ia32_sys_openat2)
RETURNED_FROM(to_handle, __x64_sys_name_to_handle_at)
RETURNED_FROM(to_handle_ia32, __ia32_sys_name_to_handle_at)
RETURNED_FROM(by_handle, __x64_sys_open_by_handle_at)
RETURNED_FROM(by_handle_compat, __ia32_compat_sys_open_by_handle_at)
#elif defined(__TARGET_ARCH_arm64)
RETURNED_FROM(openat2, __arm64_sys_openat2)
RETURNED_FROM(to_handle, __arm64_sys_name_to_handle_at)
RETURNED_FROM(by_handle, __arm64_sys_open_by_handle_at)
RETURNED_FROM(by_handle_compat, __arm64_compat_sys_open_by_handle_at)
#endif

#include "file_uring.bpf.h"

/*
 * A call is booked as seen when its fate is known: filtered or without room at its
 * entry, else at its exit. So calls that are under way when hello ends are no events.
 */
SEC("?tp/raw_syscalls/sys_enter")
int file_enter_tracepoint(struct trace_event_raw_sys_enter *ctx)
{
	u64 pid_tgid = bpf_get_current_pid_tgid();
	struct hello_ledger *ledger;
	struct hello_call call;
	struct open_args args;
	u64 *fate;
	u32 via = via_of(NULL, ctx->id, &call);

	if (!via)
		return 0;
	ledger = hello_ledger_here();
	if (!ledger)
		return 0;
	if (hello_selected()) {
		args = open_args(via, ctx->args[0], ctx->args[1], ctx->args[2], ctx->args[3],
				 ctx->args[4]);
		if (config.latency)
			start(pid_tgid);
		if (!bpf_map_update_elem(&file_calls, &pid_tgid, &args, BPF_ANY))
			return 0;
		fate = &ledger->lost_map;
	} else {
		fate = &ledger->filtered;
	}
	hello_count(&ledger->seen);
	hello_count(fate);
	return 0;
}

SEC("?tp/raw_syscalls/sys_exit")
int file_exit_tracepoint(struct trace_event_raw_sys_exit *ctx)
{
	u64 pid_tgid = bpf_get_current_pid_tgid();
	struct hello_ledger *ledger;
	struct open_args *found;
	struct hello_call call;
	struct file_slot *slot;
	s64 ret;

	if (!via_of(NULL, ctx->id, &call))
		return 0;
	ret = hello_result(call, ctx->ret);
	ledger = hello_ledger_here();
	if (!ledger)
		return 0;
	found = bpf_map_lookup_elem(&file_calls, &pid_tgid);
	if (!found) {
		if (hello_selected())
			hello_count(&ledger->unmatched);
		return 0;
	}
	hello_count(&ledger->seen);
	slot = returning(NULL, ledger, ret);
	if (slot) {
		slot->event.abi = call.abi;
		slot->args = *found;
		returned(ctx, NULL, ledger, slot, ret);
	}
	bpf_map_delete_elem(&file_calls, &pid_tgid);
	return 0;
}

char LICENSE[] SEC("license") = "Dual BSD/GPL";
