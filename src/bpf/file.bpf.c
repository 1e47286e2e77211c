// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/*
 * file: files opened, by whom, with what result, as in the book's hello-file.py
 * and hello-file-ring-buffer.py, but for every call that opens, of every ABI, and
 * read when the call returns: at entry the page with the path may not be in
 * memory yet, and a program cannot wait for it. User side: src/modes/file.rs.
 */
#include "event.bpf.h"
#include "follow.bpf.h"

enum hello_open_via {
	HELLO_VIA_NONE = 0,
	HELLO_VIA_OPEN = 1,
	HELLO_VIA_OPENAT = 2,
	HELLO_VIA_OPENAT2 = 3,
	HELLO_VIA_CREAT = 4,
};

/* path_len bytes follow: the path as given, without its NUL. */
struct hello_file_event {
	struct hello_task task;
	u64 flags;
	u64 mode;
	s64 ret;
	u32 via; /* enum hello_open_via */
	u32 abi; /* enum hello_abi */
	s32 dfd;
	u32 path_len;
	u32 unreadable;
	u32 truncated;
};

HELLO_EXPORT(hello_file_event);
enum hello_open_via export_hello_open_via __attribute__((unused));

/* include/uapi/linux/openat2.h */
struct open_how {
	u64 flags;
	u64 mode;
	u64 resolve;
};

#define AT_FDCWD -100
#define O_CREAT_WRONLY_TRUNC 01101 /* what creat(2) stands for, all ABIs here */

/* An open as its caller asked for it. */
struct open_args {
	u64 path; /* user addresses */
	u64 how;
	u64 flags;
	u64 mode;
	u32 via;
	s32 dfd;
};

/* A record with the longest path, too large for the stack. */
struct file_scratch {
	u64 busy;
	struct hello_file_event event;
	u8 path[PATH_MAX + 8];
};

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, 1);
	__type(key, u32);
	__type(value, struct file_scratch);
} file_scratch SEC(".maps");

/* For the classic tracepoint, whose exit does not carry the arguments. */
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 16384);
	__type(key, u64); /* pid_tgid */
	__type(value, struct open_args);
} file_calls SEC(".maps");

static __always_inline u32 via_of(struct hello_call call)
{
	if (call.abi == HELLO_ABI_COMPAT) {
		switch (call.nr) {
		case COMPAT_NR_open:
			return HELLO_VIA_OPEN;
		case COMPAT_NR_openat:
			return HELLO_VIA_OPENAT;
		case COMPAT_NR_openat2:
			return HELLO_VIA_OPENAT2;
		case COMPAT_NR_creat:
			return HELLO_VIA_CREAT;
		}
		return HELLO_VIA_NONE;
	}
	switch (call.nr) {
#ifdef NR_open /* newer architectures have openat only */
	case NR_open:
		return HELLO_VIA_OPEN;
	case NR_creat:
		return HELLO_VIA_CREAT;
#endif
	case NR_openat:
		return HELLO_VIA_OPENAT;
	case NR_openat2:
		return HELLO_VIA_OPENAT2;
	}
	return HELLO_VIA_NONE;
}

/* Sorts a call's first four arguments by what they mean to this call. */
static __always_inline struct open_args open_args(u32 via, u64 a, u64 b, u64 c, u64 d)
{
	struct open_args args = { .via = via, .dfd = AT_FDCWD };

	switch (via) {
	case HELLO_VIA_OPEN:
		args.path = a;
		args.flags = (u32)b;
		args.mode = (u32)c;
		break;
	case HELLO_VIA_CREAT:
		args.path = a;
		args.flags = O_CREAT_WRONLY_TRUNC;
		args.mode = (u32)b;
		break;
	case HELLO_VIA_OPENAT:
		args.dfd = a;
		args.path = b;
		args.flags = (u32)c;
		args.mode = (u32)d;
		break;
	case HELLO_VIA_OPENAT2:
		args.dfd = a;
		args.path = b;
		args.how = c;
		break;
	}
	return args;
}

static __always_inline void report(void *ctx, struct hello_ledger *ledger, u32 abi, s64 ret,
				   const struct open_args *args)
{
	u32 zero = 0;
	struct file_scratch *scratch = bpf_map_lookup_elem(&file_scratch, &zero);
	struct hello_file_event *event;
	struct open_how how = {};
	long len;

	if (!scratch || scratch->busy) {
		hello_count(&ledger->lost_scratch);
		return;
	}
	scratch->busy = 1;
	event = &scratch->event;
	hello_task_here(&event->task);
	event->ret = ret;
	event->abi = abi;
	event->via = args->via;
	event->dfd = args->dfd;
	event->flags = args->flags;
	event->mode = args->mode;
	event->unreadable = 0;
	event->truncated = 0;
	if (args->how) {
		if (bpf_probe_read_user(&how, sizeof(how), (void *)args->how))
			event->unreadable = 1;
		event->flags = how.flags;
		event->mode = how.mode;
	}
	/* One byte more than a path can have tells a long one from a cut one. */
	len = bpf_probe_read_user_str(scratch->path, PATH_MAX + 1, (void *)args->path);
	if (len <= 0) {
		event->unreadable = 1;
		len = 1;
	} else if (len > PATH_MAX) {
		event->truncated = 1;
		len = PATH_MAX;
	}
	event->path_len = len - 1;
	if (event->unreadable)
		hello_count(&ledger->unreadable);
	if (event->truncated)
		hello_count(&ledger->truncated);
	hello_emit(ctx, ledger, event, sizeof(*event) + ((len - 1) & (PATH_MAX - 1)));
	scratch->busy = 0;
}

/*
 * raw_tp: the registers that the call was made with are still there when it
 * returns, so nothing has to be remembered from its entry.
 */
SEC("?raw_tp/sys_exit")
int file_raw_tp(struct bpf_raw_tracepoint_args *ctx)
{
	struct pt_regs *regs = (struct pt_regs *)ctx->args[0];
	struct hello_call call = hello_call(hello_number(regs));
	u32 via = via_of(call);
	struct hello_ledger *ledger;
	struct open_args args;

	if (!via)
		return 0;
	ledger = hello_begin();
	if (!ledger)
		return 0;
#if defined(__TARGET_ARCH_x86)
	if (call.abi == HELLO_ABI_COMPAT)
		args = open_args(via, (u32)BPF_CORE_READ(regs, bx), (u32)BPF_CORE_READ(regs, cx),
				 (u32)BPF_CORE_READ(regs, dx), (u32)BPF_CORE_READ(regs, si));
	else
		args = open_args(via, BPF_CORE_READ(regs, di), BPF_CORE_READ(regs, si),
				 BPF_CORE_READ(regs, dx), BPF_CORE_READ(regs, r10));
#elif defined(__TARGET_ARCH_arm64)
	/* regs[0] holds the result by now. */
	args = open_args(via, BPF_CORE_READ(regs, orig_x0), BPF_CORE_READ(regs, regs[1]),
			 BPF_CORE_READ(regs, regs[2]), BPF_CORE_READ(regs, regs[3]));
#endif
	report(ctx, ledger, call.abi, ctx->args[1], &args);
	return 0;
}

/*
 * tracepoint: the entry has the arguments, the exit the result. A call is booked
 * as seen when its fate is known: filtered or without room at its entry, else at
 * its exit. So calls that are under way when hello ends are no events yet.
 */
SEC("?tp/raw_syscalls/sys_enter")
int file_enter_tracepoint(struct trace_event_raw_sys_enter *ctx)
{
	u64 pid_tgid = bpf_get_current_pid_tgid();
	u32 via = via_of(hello_call(ctx->id));
	struct hello_ledger *ledger;
	struct open_args args;
	u64 *fate;

	if (!via)
		return 0;
	ledger = hello_ledger_here();
	if (!ledger)
		return 0;
	if (hello_selected()) {
		args = open_args(via, ctx->args[0], ctx->args[1], ctx->args[2], ctx->args[3]);
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
	struct hello_call call = hello_call(ctx->id);
	u64 pid_tgid = bpf_get_current_pid_tgid();
	struct open_args *found, args;
	struct hello_ledger *ledger;

	if (!via_of(call))
		return 0;
	ledger = hello_ledger_here();
	if (!ledger)
		return 0;
	found = bpf_map_lookup_elem(&file_calls, &pid_tgid);
	if (!found) {
		if (hello_selected())
			hello_count(&ledger->unmatched);
		return 0;
	}
	args = *found;
	bpf_map_delete_elem(&file_calls, &pid_tgid);
	hello_count(&ledger->seen);
	report(ctx, ledger, call.abi, ctx->ret, &args);
	return 0;
}

char LICENSE[] SEC("license") = "Dual BSD/GPL";
