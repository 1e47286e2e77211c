// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/*
 * file: files opened, by whom, with what result, as in the book's hello-file.py and
 * hello-file-ring-buffer.py, but for every way to open one, of every ABI. User side:
 * src/modes/file.rs.
 *
 * Everything is told when the call returns: at its entry the page with the path may
 * not be in memory yet, and a program cannot wait for it. By hook:
 *
 * - fentry, kprobe: do_filp_open() is behind all opens (do_file_open() in newer
 *   kernels). When it returns there is the file or the error, and the kernel's own
 *   copy of the name; what is not known yet is the descriptor. So the record is begun
 *   there and sent when do_sys_openat2() returns. io_uring has no system call to
 *   return from: there it is sent at once. Calls that do not open pay nothing.
 * - raw_tp: the return of every system call. The registers that it was made with
 *   are still there, so nothing has to be remembered from its entry.
 * - tracepoint: entry and return, because its return does not carry the arguments.
 */
#include "file.bpf.h"
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
	u64 *began, time;

	if (!config.latency)
		return 0;
	began = bpf_map_lookup_elem(&file_starts, &owner);
	if (!began)
		return 0;
	time = bpf_ktime_get_ns() - *began;
	bpf_map_delete_elem(&file_starts, &owner);
	return time;
}

/* Sends the record, unless its path or its success keep it from being wanted. */
static __always_inline void finish(void *ctx, struct hello_ledger *ledger, struct file_slot *slot,
				   s64 ret)
{
	struct hello_file_event *event = &slot->event;

	event->ret = ret;
	if (event->task.ktime == 0)
		hello_task_here(&event->task);
	if (!path_wanted(slot)) {
		hello_count(&ledger->filtered);
		return;
	}
	if (event->unreadable)
		hello_count(&ledger->unreadable);
	if (event->path_flags & (HELLO_PATH_CUT | HELLO_GIVEN_CUT))
		hello_count(&ledger->truncated);
	send(ctx, ledger, slot);
}

/* A system call has returned. */
static __always_inline void returned(void *ctx, struct hello_ledger *ledger, struct hello_call call,
				     struct open_args *args, s64 ret)
{
	u64 owner = bpf_get_current_pid_tgid();
	u64 latency = nanoseconds_since_start(owner);
	struct file_slot *slot;

	if (config.failed && ret >= 0) {
		hello_count(&ledger->filtered);
		return;
	}
	slot = find_slot(owner); /* begun in do_filp_open() */
	if (!slot) {
		slot = new_slot(owner);
		if (!slot) {
			hello_count(&ledger->lost_scratch);
			return;
		}
		given_by_user(slot, args);
		if (ret >= 0 && args->via != HELLO_VIA_NAME_TO_HANDLE_AT)
			path_of_file(slot, file_of(ret));
		else
			path_of_failure(slot, args);
	}
	slot->event.abi = call.abi;
	slot->event.via = args->via;
	slot->event.dfd = args->dfd;
	slot->event.flags = args->flags;
	slot->event.mode = args->mode;
	slot->event.latency = latency;
	finish(ctx, ledger, slot, ret);
	hello_unclaim(&slot->claim);
}

/* The same for hooks that have the caller's registers. */
static __always_inline int returned_by(void *ctx, struct pt_regs *regs, s64 ret)
{
	struct hello_call call = hello_call(hello_number(regs));
	u32 via = via_of(call);
	struct hello_ledger *ledger;
	struct open_args args;

	if (!via)
		return 0;
	ledger = hello_begin();
	if (!ledger)
		return 0;
	args = args_of(regs, call, via);
	returned(ctx, ledger, call, &args, ret);
	return 0;
}

SEC("?raw_tp/sys_exit")
int file_raw_tp(struct bpf_raw_tracepoint_args *ctx)
{
	return returned_by(ctx, (void *)ctx->args[0], ctx->args[1]);
}

SEC("?raw_tp/sys_enter")
int file_start_raw_tp(struct bpf_raw_tracepoint_args *ctx)
{
	if (via_of(hello_call(ctx->args[1])) && hello_selected())
		start(bpf_get_current_pid_tgid());
	return 0;
}

#include "file_functions.bpf.h"

/*
 * raw_tp sees no function, but io_uring has tracepoints of its own (Linux 6.3): the
 * record is begun when the request is taken and sent when it is done.
 */
SEC("?raw_tp/io_uring_submit_req")
int file_submit_raw_tp(struct bpf_raw_tracepoint_args *ctx)
{
	struct io_kiocb *request = (void *)ctx->args[0];
	struct io_open *open = (void *)request;
	u8 opcode = BPF_CORE_READ(request, opcode);
	struct open_args args = {};
	struct hello_ledger *ledger;
	struct file_slot *slot;

	if (opcode != IORING_OP_OPENAT && opcode != IORING_OP_OPENAT2)
		return 0;
	if (!bpf_core_field_exists(open->filename) || !hello_selected())
		return 0;
	slot = new_slot((u64)request);
	if (!slot) {
		ledger = hello_ledger_here();
		if (ledger) {
			hello_count(&ledger->seen);
			hello_count(&ledger->lost_scratch);
		}
		return 0;
	}
	args.dfd = BPF_CORE_READ(open, dfd);
	args.resolve = BPF_CORE_READ(open, how.resolve);
	hello_task_here(&slot->event.task);
	slot->event.via = HELLO_VIA_IO_URING;
	slot->event.abi = HELLO_ABI_NATIVE;
	slot->event.dfd = args.dfd;
	slot->event.flags = BPF_CORE_READ(open, how.flags);
	slot->event.mode = BPF_CORE_READ(open, how.mode);
	slot->event.no_descriptor = BPF_CORE_READ(open, file_slot) != 0;
	given_by_kernel(slot, BPF_CORE_READ(open, filename, name));
	path_of_failure(slot, &args); /* until it is known to be none */
	return 0;
}

SEC("?raw_tp/io_uring_complete")
int file_complete_raw_tp(struct bpf_raw_tracepoint_args *ctx)
{
	struct io_kiocb *request = (void *)ctx->args[1];
	struct file_slot *slot = find_slot((u64)request);
	struct hello_ledger *ledger = hello_ledger_here();
	s64 ret;

	if (!slot || !ledger || !bpf_core_field_exists(request->cqe.res))
		return 0;
	ret = BPF_CORE_READ(request, cqe.res);
	hello_count(&ledger->seen);
	if (config.failed && ret >= 0) {
		hello_count(&ledger->filtered);
	} else {
		if (ret >= 0 && !slot->event.no_descriptor)
			path_of_file(slot, file_of(ret));
		if (config.latency)
			slot->event.latency = bpf_ktime_get_ns() - slot->event.task.ktime;
		finish(ctx, ledger, slot, ret);
	}
	hello_unclaim(&slot->claim);
	return 0;
}

/*
 * A call is booked as seen when its fate is known: filtered or without room at its
 * entry, else at its exit. So calls that are under way when hello ends are no events.
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
	returned(ctx, ledger, call, &args, ctx->ret);
	return 0;
}

char LICENSE[] SEC("license") = "Dual BSD/GPL";
