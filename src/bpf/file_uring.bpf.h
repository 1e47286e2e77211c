/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * Opens by io_uring, which are no system calls. A part of file.bpf.c.
 *
 * By function: io_openat2() carries a request out, perhaps in a worker of the process
 * or on the way out of any other system call, and opens by do_filp_open(). When that
 * returns there is the file or the error, and the kernel's own copy of the name; the
 * descriptor is only known later.
 *
 * By tracepoint (Linux 6.3): a request is taken, and later done. In between its memory
 * is kept here by its address.
 */
#ifndef HELLO_FILE_URING_BPF_H
#define HELLO_FILE_URING_BPF_H

#define RESOLVE_CACHED 0x20
#define IORING_OP_OPENAT 18
#define IORING_OP_OPENAT2 28
/* Try it, a worker may wait: bit 31, bit 0 before 5.19 (include/linux/io_uring_types.h). */
#define IO_URING_F_NONBLOCK (1U << 31 | 1)
#define REQ_F_CQE_SKIP (1U << 6) /* IOSQE_CQE_SKIP_SUCCESS, uapi/linux/io_uring.h */
#define EAGAIN 11
#if defined(__TARGET_ARCH_x86)
#define O_LARGEFILE 00100000
#elif defined(__TARGET_ARCH_arm64)
#define O_LARGEFILE 00400000
#endif

/* A task in io_openat2(). */
struct file_ring_call {
	u64 request;
	u64 name; /* of the kernel; kprobe only */
	u64 flags;
};

struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__uint(max_entries, 4096);
	__type(key, u64); /* pid_tgid */
	__type(value, struct file_ring_call);
} file_ring_calls SEC(".maps");

static __always_inline int ring_begin(u64 request, u64 flags)
{
	struct file_ring_call call = { .request = request, .flags = flags };
	u64 owner = bpf_get_current_pid_tgid();

	bpf_map_update_elem(&file_ring_calls, &owner, &call, BPF_ANY);
	return 0;
}

static __always_inline int ring_end(void)
{
	u64 owner = bpf_get_current_pid_tgid();

	bpf_map_delete_elem(&file_ring_calls, &owner);
	return 0;
}

static __always_inline struct file_ring_call *ring_call(void)
{
	u64 owner = bpf_get_current_pid_tgid();

	return bpf_map_lookup_elem(&file_ring_calls, &owner);
}

/* do_filp_open() has returned; for others than io_uring this is all there is to it. */
static __always_inline int ring_opened(void *ctx, struct filename *name, struct file *file)
{
	s64 ret = (s64)file < 0 && (s64)file > -4096 ? (s64)file : 0;
	struct open_args args = { .via = HELLO_VIA_IO_URING };
	struct file_ring_call *call = ring_call();
	struct hello_ledger *ledger;
	struct file_slot *slot;
	struct io_open *open;

	if (!call || !bpf_core_type_exists(struct io_open))
		return 0;
	open = (void *)call->request;
	args.dfd = BPF_CORE_READ(open, dfd);
	args.resolve = BPF_CORE_READ(open, how.resolve);
	/* Tried without waiting; a worker will do it, and comes by here again. */
	if (ret == -EAGAIN && call->flags & IO_URING_F_NONBLOCK && !(args.resolve & RESOLVE_CACHED))
		return 0;
	ledger = hello_begin();
	if (!ledger)
		return 0;
	if (config.failed && !ret) {
		hello_count(&ledger->filtered);
		return 0;
	}
	slot = file_claim(NULL, ledger);
	if (!slot)
		return 0;
	slot->args = args;
	given_by_kernel(slot, BPF_CORE_READ(name, name));
	if (ret)
		path_of_failure(NULL, slot);
	else
		path_of_file(NULL, slot, file);
	slot->event.via = HELLO_VIA_IO_URING;
	slot->event.abi = HELLO_ABI_NATIVE;
	slot->event.dfd = args.dfd;
	slot->event.flags = BPF_CORE_READ(open, how.flags) & ~O_LARGEFILE;
	slot->event.mode = BPF_CORE_READ(open, how.mode);
	slot->event.no_descriptor = 1;
	finish(ctx, ledger, slot, ret);
	return 0;
}

SEC("?fentry/io_openat2")
int file_ring_fentry(u64 *ctx)
{
	u64 args[2] = {};

	bpf_probe_read_kernel(args, sizeof(args), ctx);
	return ring_begin(args[0], args[1]);
}

SEC("?fexit/io_openat2")
int file_ring_fexit(u64 *ctx)
{
	return ring_end();
}

#define RING_OPENED_FEXIT(function)                                                  \
	SEC("?fexit/" #function)                                                     \
	int file_fexit_##function(u64 *ctx)                                          \
	{                                                                            \
		u64 args[4] = {};                                                    \
                                                                                     \
		bpf_probe_read_kernel(args, sizeof(args), ctx);                      \
		return ring_opened(ctx, (void *)args[1], (void *)args[3]); \
	}
RING_OPENED_FEXIT(do_filp_open)
RING_OPENED_FEXIT(do_file_open)

SEC("?kprobe/io_openat2")
int file_ring_kprobe(struct pt_regs *ctx)
{
	return ring_begin(PT_REGS_PARM1(ctx), PT_REGS_PARM2(ctx));
}

SEC("?kretprobe/io_openat2")
int file_ring_kretprobe(struct pt_regs *ctx)
{
	return ring_end();
}

#define RING_OPENED_KPROBE(function)                                                 \
	SEC("?kprobe/" #function)                                                    \
	int file_kprobe_##function(struct pt_regs *ctx)                              \
	{                                                                            \
		struct file_ring_call *call = ring_call();                           \
                                                                                     \
		if (call)                                                            \
			call->name = PT_REGS_PARM2(ctx);                             \
		return 0;                                                            \
	}                                                                            \
	SEC("?kretprobe/" #function)                                                 \
	int file_kretprobe_##function(struct pt_regs *ctx)                           \
	{                                                                            \
		struct file_ring_call *call = ring_call();                           \
                                                                                     \
		if (!call)                                                           \
			return 0;                                                    \
		return ring_opened(ctx, (void *)call->name, (void *)PT_REGS_RC(ctx)); \
	}
RING_OPENED_KPROBE(do_filp_open)
RING_OPENED_KPROBE(do_file_open)

/* Requests under way, by their address. */
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 1024);
	__type(key, u64);
	__type(value, struct file_request);
} file_requests SEC(".maps");

/* Is it an open, and is the kernel's memory of it as it is read here? */
static __always_inline bool is_open_request(struct io_kiocb *request)
{
	struct io_open *open = (void *)request;
	u8 opcode;

	if (!bpf_core_field_exists(request->opcode) || !bpf_core_field_exists(open->filename) ||
	    !bpf_core_field_exists(request->cqe.res))
		return false;
	opcode = BPF_CORE_READ(request, opcode);
	return opcode == IORING_OP_OPENAT || opcode == IORING_OP_OPENAT2;
}

/* Booked as seen when its fate is known: here if nothing more will come. */
static __always_inline int ring_taken(struct io_kiocb *request)
{
	struct io_open *open = (void *)request;
	u64 key = (u64)request;
	struct hello_ledger *ledger;
	struct file_request *kept;
	struct file_slot *slot;

	if (!is_open_request(request))
		return 0;
	ledger = hello_ledger_here();
	if (!ledger)
		return 0;
	if (!hello_selected()) {
		hello_count(&ledger->seen);
		hello_count(&ledger->filtered);
		return 0;
	}
	/* Of these the kernel tells failures only. */
	if (bpf_core_field_exists(request->flags) &&
	    BPF_CORE_READ(request, flags) & REQ_F_CQE_SKIP)
		return 0;
	slot = file_claim(NULL, ledger);
	if (!slot) {
		hello_count(&ledger->seen);
		return 0;
	}
	kept = &slot->request;
	kept->task = slot->event.task;
	kept->began = slot->event.task.ktime;
	kept->flags = BPF_CORE_READ(open, how.flags) & ~O_LARGEFILE;
	kept->mode = BPF_CORE_READ(open, how.mode);
	kept->resolve = BPF_CORE_READ(open, how.resolve);
	kept->dfd = BPF_CORE_READ(open, dfd);
	kept->no_descriptor =
		bpf_core_field_exists(open->file_slot) ? BPF_CORE_READ(open, file_slot) != 0 : 0;
	kept->name[0] = 0;
	bpf_probe_read_kernel_str(kept->name, sizeof(kept->name),
				  BPF_CORE_READ(open, filename, name));
	if (bpf_map_update_elem(&file_requests, &key, kept, BPF_ANY)) {
		hello_count(&ledger->seen);
		hello_count(&ledger->lost_map);
	}
	hello_unclaim(&slot->claims, HELLO_OF_CPU);
	return 0;
}

SEC("?raw_tp/io_uring_submit_req")
int file_submit_raw_tp(struct bpf_raw_tracepoint_args *ctx)
{
	return ring_taken((void *)ctx->args[0]);
}

static __always_inline int ring_done(void *ctx, struct io_kiocb *request)
{
	u64 key = (u64)request, now;
	struct hello_ledger *ledger;
	struct file_request *kept;
	struct file_slot *slot;
	s64 ret, wall;

	if (!is_open_request(request))
		return 0;
	kept = bpf_map_lookup_elem(&file_requests, &key);
	ledger = hello_ledger_here();
	if (!kept || !ledger)
		return 0;
	hello_count(&ledger->seen);
	ret = BPF_CORE_READ(request, cqe.res);
	if (config.failed && ret >= 0) {
		hello_count(&ledger->filtered);
		goto forget;
	}
	slot = file_claim(NULL, ledger);
	if (!slot)
		goto forget;
	now = slot->event.task.ktime;
	wall = slot->event.task.wall;
	slot->event.task = kept->task;
	slot->event.task.ktime = now;
	slot->event.task.wall = wall;
	slot->args = (struct open_args){
		.via = HELLO_VIA_IO_URING,
		.dfd = kept->dfd,
		.resolve = kept->resolve,
	};
	given_by_kernel(slot, (void *)kept->name);
	if (ret >= 0 && !kept->no_descriptor)
		path_of_file(NULL, slot, file_of(NULL, ret));
	else
		path_of_failure(NULL, slot);
	slot->event.via = HELLO_VIA_IO_URING;
	slot->event.abi = HELLO_ABI_NATIVE;
	slot->event.dfd = kept->dfd;
	slot->event.flags = kept->flags;
	slot->event.mode = kept->mode;
	slot->event.no_descriptor = kept->no_descriptor;
	if (config.latency)
		slot->event.latency = now - kept->began;
	finish(ctx, ledger, slot, ret);
forget:
	bpf_map_delete_elem(&file_requests, &key);
	return 0;
}

SEC("?raw_tp/io_uring_complete")
int file_complete_raw_tp(struct bpf_raw_tracepoint_args *ctx)
{
	return ring_done(ctx, (void *)ctx->args[1]);
}

#endif /* HELLO_FILE_URING_BPF_H */
