/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * Records of opens: who made it, which file it meant. Which call it was is in file_call.bpf.h,
 * the programs that fill them are in file.bpf.c.
 */
#ifndef HELLO_FILE_BPF_H
#define HELLO_FILE_BPF_H

#include "event.bpf.h"
/* A record is made around the path: the event before it, the path as given after it. */
#define HELLO_PATH_BEFORE 256
#define HELLO_PATH_AFTER (1 + 2 * PATH_MAX + 256)
#include "path.bpf.h"
#include "file_call.bpf.h"
#include "slot.bpf.h"

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

#define AT_EMPTY_PATH 0x1000 /* include/uapi/linux/fcntl.h */
#define RESOLVE_IN_ROOT 0x10 /* include/uapi/linux/openat2.h */

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
