// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/*
 * buffer: one structured event for every execve, as in the book's
 * hello-buffer.py and hello-buffer-config.py, with the message taken from a map
 * that user space has filled. User side: src/modes/buffer.rs.
 */
#include "event.bpf.h"
#include "follow.bpf.h"

struct hello_message {
	u8 text[64]; /* NUL-terminated */
};

struct hello_buffer_event {
	struct hello_task task;
	struct hello_message message;
};

HELLO_EXPORT(hello_buffer_event);

enum hello_whose {
	HELLO_WHOSE_USER = 0,	 /* who: the user id */
	HELLO_WHOSE_PARITY = 1,	 /* who: the process id modulo 2 */
	HELLO_WHOSE_DEFAULT = 2, /* who: 0 */
};

struct hello_message_key {
	u32 whose; /* enum hello_whose */
	u32 who;
};

enum hello_whose export_hello_whose __attribute__((unused));

/* The config map: written by user space, read here. */
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 1024);
	__type(key, struct hello_message_key);
	__type(value, struct hello_message);
} buffer_messages SEC(".maps");

static __always_inline struct hello_message *message_of(u32 whose, u32 who)
{
	struct hello_message_key key = { .whose = whose, .who = who };

	return bpf_map_lookup_elem(&buffer_messages, &key);
}

static __always_inline int on_execve(void *ctx, struct hello_call call)
{
	struct hello_buffer_event event = {};
	struct hello_ledger *ledger = hello_begin();
	struct hello_message *message;

	if (!ledger)
		return 0;
	hello_task_here(NULL, &event.task);

	message = message_of(HELLO_WHOSE_USER, event.task.uid);
	if (!message)
		message = message_of(HELLO_WHOSE_PARITY, event.task.pid % 2);
	if (!message)
		message = message_of(HELLO_WHOSE_DEFAULT, 0);
	if (message)
		bpf_probe_read_kernel(&event.message, sizeof(event.message), message);

	hello_emit(ctx, ledger, &event, sizeof(event));
	return 0;
}

/* Two system calls run a program: execve and execveat. */
HELLO_ON_KPROBE(buffer_kprobe_0, on_execve)
HELLO_ON_KPROBE(buffer_kprobe_1, on_execve)
HELLO_ON_FENTRY(buffer_fentry_0, on_execve)
HELLO_ON_FENTRY(buffer_fentry_1, on_execve)
HELLO_ON_RAW_TP(buffer_raw_tp, on_execve)
HELLO_ON_TRACEPOINT(buffer_tracepoint, on_execve)

char LICENSE[] SEC("license") = "Dual BSD/GPL";
