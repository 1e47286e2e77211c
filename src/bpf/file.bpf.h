/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * Records of opens: which call it was, what it was given, which file it meant. The
 * programs that fill them are in file.bpf.c.
 */
#ifndef HELLO_FILE_BPF_H
#define HELLO_FILE_BPF_H

#include "event.bpf.h"
/* A record is made around the path: the event before it, the path as given after it. */
#define HELLO_PATH_BEFORE 256
#define HELLO_PATH_AFTER (1 + 2 * PATH_MAX + 256)
#include "path.bpf.h"
#include "slot.bpf.h"

enum hello_open_via {
	HELLO_VIA_NONE = 0,
	HELLO_VIA_OPEN = 1,
	HELLO_VIA_OPENAT = 2,
	HELLO_VIA_OPENAT2 = 3,
	HELLO_VIA_CREAT = 4,
	HELLO_VIA_NAME_TO_HANDLE_AT = 5,
	HELLO_VIA_OPEN_BY_HANDLE_AT = 6,
	HELLO_VIA_IO_URING = 7,
};

/* Two texts follow; offsets count from the end of this. */
struct hello_file_event {
	struct hello_task task;
	u64 flags;
	u64 mode;
	s64 ret;
	u64 latency; /* ns; 0: not known */
	u32 via;     /* enum hello_open_via */
	u32 abi;     /* enum hello_abi */
	s32 dfd;
	u32 path_at; /* absolute */
	u32 path_len;
	u32 given_at; /* as the caller gave it */
	u32 given_len;
	u32 path_known;
	u32 path_flags; /* enum hello_path_flags */
	u32 unreadable; /* the caller's memory could not be read */
	u32 given_known;
	u32 no_descriptor; /* ret is 0 or an error, never a descriptor */
};

HELLO_EXPORT(hello_file_event);
enum hello_open_via export_hello_open_via __attribute__((unused));
enum hello_path_flags export_hello_path_flags __attribute__((unused));

#define AT_FDCWD -100
#define AT_EMPTY_PATH 0x1000 /* include/uapi/linux/fcntl.h */
#define O_CREAT_WRONLY_TRUNC 01101 /* what creat(2) stands for, all ABIs here */
#define RESOLVE_IN_ROOT 0x10	   /* include/uapi/linux/openat2.h */
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

/* An open as its caller asked for it. */
struct open_args {
	u64 path; /* user addresses */
	u64 flags;
	u64 mode;
	u64 resolve;
	u32 via;
	s32 dfd;
	u64 how;
};

enum {
	FILE_SLOTS_TRIED = 8,
	/* The path ends here, a slash or nothing stands here, the given path begins after. */
	FILE_PATH_END = HELLO_PATH_BEFORE + HELLO_PATH_SIZE,
	FILE_GIVEN = FILE_PATH_END + 1,
};

_Static_assert(sizeof(struct hello_file_event) <= HELLO_PATH_BEFORE, "no room for the event");

/* An open by io_uring from its being taken to its being done. */
struct file_request {
	struct hello_task task;
	u64 began; /* CLOCK_MONOTONIC, ns */
	u64 flags;
	u64 mode;
	u64 resolve;
	s32 dfd;
	u32 no_descriptor;
	u8 name[PATH_MAX];
};

struct file_slot {
	u64 claims;
	struct hello_file_event event;
	/*
	 * What is here and not on the stack is a number like any other for the verifier: it
	 * does not look at all that follows once for each call that opens.
	 */
	struct open_args args;
	u32 index;   /* of this slot */
	u32 at;	     /* where the path begins, of HELLO_PATH_SIZE */
	u32 given;   /* bytes of the given path */
	u32 matched; /* bytes of a prefix that the path has, so far */
	u32 skip;
	u32 pad;
	struct file_request request;
	struct hello_path_walk walk;
};

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, HELLO_SLOTS); /* user space: as many as CPUs, if these are more */
	__type(key, u32);
	__type(value, struct file_slot);
} file_slots SEC(".maps");

static __always_inline struct hello_path_walk *hello_walk_of(u32 slot)
{
	struct file_slot *found = bpf_map_lookup_elem(&file_slots, &slot);

	return found ? &found->walk : NULL;
}

enum {
	FILE_NUMBERS = 512, /* of calls lie below */
};

/* What a number stands for in the 64-bit and in the 32-bit table: enum hello_open_via. */
struct file_vias {
	u8 native;
	u8 compat;
};

/*
 * Which calls open. Looked up and not told by branches: the verifier would look at all that
 * follows once for each.
 */
const volatile struct file_vias file_vias[FILE_NUMBERS] SEC(".rodata.vias") = {
#ifdef NR_open /* newer architectures have openat only */
	[NR_open].native = HELLO_VIA_OPEN,
	[NR_creat].native = HELLO_VIA_CREAT,
#endif
	[NR_openat].native = HELLO_VIA_OPENAT,
	[NR_openat2].native = HELLO_VIA_OPENAT2,
	[NR_name_to_handle_at].native = HELLO_VIA_NAME_TO_HANDLE_AT,
	[NR_open_by_handle_at].native = HELLO_VIA_OPEN_BY_HANDLE_AT,
	[COMPAT_NR_open].compat = HELLO_VIA_OPEN,
	[COMPAT_NR_creat].compat = HELLO_VIA_CREAT,
	[COMPAT_NR_openat].compat = HELLO_VIA_OPENAT,
	[COMPAT_NR_openat2].compat = HELLO_VIA_OPENAT2,
	[COMPAT_NR_name_to_handle_at].compat = HELLO_VIA_NAME_TO_HANDLE_AT,
	[COMPAT_NR_open_by_handle_at].compat = HELLO_VIA_OPEN_BY_HANDLE_AT,
};

/*
 * By what the running task opens with a call of that number, and which call it is; a call
 * whose number opens in neither table is done with before anybody asks which table it is of.
 */
static __always_inline u32 via_of(struct hello_here *here, u64 number, struct hello_call *call)
{
	u64 index = (u32)number & ~HELLO_X32_BIT;

	barrier_var(index); /* the verifier wants to see the comparison */
	if (index >= FILE_NUMBERS || !(file_vias[index].native | file_vias[index].compat))
		return HELLO_VIA_NONE;
	*call = hello_call_of(here, number);
	/* Only in x32 the bit is none of the number's. */
	index = call->nr;
	barrier_var(index);
	if (index >= FILE_NUMBERS)
		return HELLO_VIA_NONE;
	return call->abi == HELLO_ABI_COMPAT ? file_vias[index].compat : file_vias[index].native;
}

/* Sorts a call's first five arguments by what they mean to this call. */
static __always_inline struct open_args open_args(u32 via, u64 a, u64 b, u64 c, u64 d, u64 e)
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
	case HELLO_VIA_NAME_TO_HANDLE_AT:
		args.dfd = a;
		args.path = b;
		args.flags = (u32)e;
		break;
	case HELLO_VIA_OPEN_BY_HANDLE_AT:
		args.dfd = a;
		args.flags = (u32)c;
		break;
	}
	return args;
}

/* The same from the caller's registers, which a call leaves as they were. */
static __always_inline struct open_args args_of(struct hello_here *here, struct pt_regs *regs,
						struct hello_call call, u32 via)
{
	struct pt_regs *own = here ? here->regs : NULL;
	struct open_args args;

#define ARGUMENT(name) (own ? own->name : BPF_CORE_READ(regs, name))
#if defined(__TARGET_ARCH_x86)
	if (call.abi == HELLO_ABI_COMPAT)
		args = open_args(via, (u32)ARGUMENT(bx), (u32)ARGUMENT(cx), (u32)ARGUMENT(dx),
				 (u32)ARGUMENT(si), (u32)ARGUMENT(di));
	else
		args = open_args(via, ARGUMENT(di), ARGUMENT(si), ARGUMENT(dx), ARGUMENT(r10),
				 ARGUMENT(r8));
#elif defined(__TARGET_ARCH_arm64)
	/* regs[0] holds the result by now. */
	args = open_args(via, ARGUMENT(orig_x0), ARGUMENT(regs[1]), ARGUMENT(regs[2]),
			 ARGUMENT(regs[3]), ARGUMENT(regs[4]));
#endif
#undef ARGUMENT
	return args;
}

/* Takes a slot and begins a record in it; NULL and booked as lost if there is none. */
static __always_inline struct file_slot *file_claim(struct hello_here *here,
						    struct hello_ledger *ledger)
{
	u32 slots = config.cpus > HELLO_SLOTS ? config.cpus : HELLO_SLOTS;
	u32 first = bpf_get_smp_processor_id(), try;
	u32 tries = config.atomic ? FILE_SLOTS_TRIED : 1; /* else: HELLO_OF_CPU */

	for (try = 0; try < tries; try++) {
		u32 index = (first + try) % slots;
		struct file_slot *slot = bpf_map_lookup_elem(&file_slots, &index);

		if (!slot)
			break;
		if (!hello_claim(&slot->claims, HELLO_OF_CPU))
			continue;
		__builtin_memset(&slot->event, 0, sizeof(slot->event));
		slot->index = index;
		slot->at = HELLO_PATH_SIZE;
		slot->given = 0;
		hello_task_here(here, &slot->event.task);
		return slot;
	}
	hello_count(&ledger->lost_scratch);
	return NULL;
}

/* Takes the result of reading the given path: its length with the NUL, or an error. */
static __always_inline void given(struct file_slot *slot, long len)
{
	slot->event.given_known = len >= 0;
	if (len < 0)
		slot->event.unreadable = 1;
	if (len > 0) /* 0: older kernels say so of an empty string */
		slot->given = len - 1;
}

static __always_inline void given_by_kernel(struct file_slot *slot, const char *name)
{
	given(slot, bpf_probe_read_kernel_str(slot->walk.text + FILE_GIVEN, PATH_MAX, name));
}

static __always_inline void given_by_user(struct file_slot *slot)
{
	struct open_args *args = &slot->args;
	struct open_how how = {};

	if (args->how) {
		if (bpf_probe_read_user(&how, sizeof(how), (void *)args->how))
			slot->event.unreadable = 1;
		args->flags = how.flags;
		args->mode = how.mode;
		args->resolve = how.resolve;
	}
	if (args->via == HELLO_VIA_OPEN_BY_HANDLE_AT)
		return;
	/* One byte more than a path can have tells a long one from a cut one. */
	given(slot, bpf_probe_read_user_str(slot->walk.text + FILE_GIVEN, PATH_MAX + 1,
					    (void *)args->path));
	if (slot->given >= PATH_MAX) {
		slot->given = PATH_MAX - 1;
		slot->event.path_flags |= HELLO_GIVEN_CUT;
	}
}

/* The open file behind a descriptor of the running task. */
static __always_inline struct file *file_of(struct hello_here *here, s64 fd)
{
	struct task_struct *task = hello_task_of(here);
	struct file *file = NULL, **files;

	if (!task || fd < 0 || fd >= HELLO_READ_OF(here, task, files, fdt, max_fds))
		return NULL;
	files = HELLO_READ_OF(here, task, files, fdt, fd);
	bpf_probe_read_kernel(&file, sizeof(file), files + fd);
	return file;
}

/* A file is told by its own path. */
static __always_inline void path_of_file(struct hello_here *here, struct file_slot *slot,
					 struct file *file)
{
	struct hello_file_event *event = &slot->event;

	if (!file)
		return;
	event->path_flags = 0;
	slot->at = hello_path(here, slot->index, &file->f_path, &event->path_flags);
	event->path_at = 0;
	event->path_len = HELLO_PATH_SIZE - slot->at;
	event->path_known = event->path_len || !(event->path_flags & HELLO_PATH_CUT);
}

/* Where there is no file: what was asked for, from where it was asked. */
static __always_inline void path_of_failure(struct hello_here *here, struct file_slot *slot)
{
	const struct open_args *args = &slot->args;
	struct hello_file_event *event = &slot->event;
	struct task_struct *task;
	struct fs_struct *fs;
	struct path *from = NULL;
	struct file *file;

	if (!event->given_known)
		return;
	/* An empty path names nothing, unless the call was told that it may. */
	if (!slot->given &&
	    !(args->via == HELLO_VIA_NAME_TO_HANDLE_AT && args->flags & AT_EMPTY_PATH))
		return;
	if (slot->walk.text[FILE_GIVEN] == '/' && !(args->resolve & RESOLVE_IN_ROOT)) {
		event->path_at = FILE_GIVEN - FILE_PATH_END;
		event->path_len = slot->given;
		event->path_known = 1;
		return;
	}
	if (args->dfd == AT_FDCWD) {
		task = hello_task_of(here);
		fs = task ? HELLO_READ_OF(here, task, fs) : NULL;
		from = fs ? &fs->pwd : NULL;
	} else {
		file = file_of(here, args->dfd);
		if (file)
			from = &file->f_path;
	}
	if (!from)
		return; /* EBADF */
	slot->at = hello_path(here, slot->index, from, &event->path_flags);
	event->path_flags &= ~HELLO_PATH_DELETED; /* that is the folder */
	slot->walk.text[FILE_PATH_END] = '/';
	event->path_at = 0;
	event->path_len = HELLO_PATH_SIZE - slot->at;
	if (slot->given)
		event->path_len += 1 + slot->given;
	event->path_known = 1;
}

/* Sends the event and its texts, which are made one piece by putting it before them. */
static __always_inline void send(void *ctx, struct hello_ledger *ledger, struct file_slot *slot)
{
	u32 at = slot->at, given = slot->given, size;
	u8 *record;

	if (at > HELLO_PATH_SIZE || given >= PATH_MAX)
		return; /* never: for the verifier */
	slot->event.given_at = HELLO_PATH_SIZE - at + FILE_GIVEN - FILE_PATH_END;
	slot->event.given_len = given;
	record = slot->walk.text + HELLO_PATH_BEFORE - sizeof(slot->event) + at;
	*(struct hello_file_event *)record = slot->event;
	size = sizeof(slot->event) + slot->event.given_at + given;
	if (size > sizeof(slot->event) + 2 * PATH_MAX)
		return;
	hello_emit(ctx, ledger, record, size);
}

#endif /* HELLO_FILE_BPF_H */
