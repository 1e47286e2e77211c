/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * The parts of exec's record, one function each: they append what they read to the
 * bytes after the struct. Part of exec.bpf.c.
 */
#ifndef HELLO_PROGRAM_BPF_H
#define HELLO_PROGRAM_BPF_H

#include "event.bpf.h"
#include "path.bpf.h"
#include "slot.bpf.h"

/* Which events: bits of exec_config.events. */
enum hello_exec_kind {
	HELLO_EXEC_EXEC = 1,   /* a program was run */
	HELLO_EXEC_FAILED = 2, /* … or not */
	HELLO_EXEC_EXIT = 4,   /* a process has ended */
};

enum hello_exec_flags {
	HELLO_EXEC_SCRIPT = 1,		    /* an interpreter runs it */
	HELLO_EXEC_FORKED = 2,		    /* never ran a program of its own */
	HELLO_EXEC_FILENAME_UNREADABLE = 4,
	HELLO_EXEC_FILENAME_CUT = 8,
	HELLO_EXEC_ARGV_UNREADABLE = 16,
	HELLO_EXEC_ARGV_CUT = 32,
	HELLO_EXEC_ENV_UNREADABLE = 64,
	HELLO_EXEC_ENV_CUT = 128,
	HELLO_EXEC_ANCESTORS_CUT = 256,
};

/* A text among the bytes after the struct. */
struct hello_span {
	u32 at;
	u32 len;
};

/* A process above: `ancestors` of them begin the bytes after the struct. */
struct hello_ancestor {
	u32 pid;
	u8 comm[TASK_COMM_LEN];
};

struct hello_exec_event {
	struct hello_task task;
	u64 program;	 /* the program's id, the same at its exec and at its exit; or 0 */
	u64 replaced;	 /* exec: id of the program that has ended by it; or 0 */
	u64 lifetime_ns; /* exit: of the process */
	u64 argv_bytes;	 /* exec: of all arguments, with the NUL after each */
	u64 env_bytes;
	s64 ret;    /* failed */
	u32 kind;   /* enum hello_exec_kind */
	u32 flags;  /* enum hello_exec_flags */
	u32 status; /* exit: as wait(2) tells it */
	u32 euid;
	u32 ancestors;
	u32 exe_flags; /* enum hello_path_flags */
	u32 cwd_flags;
	u32 pad;
	struct hello_span exe;
	struct hello_span cwd;
	struct hello_span filename; /* as given */
	struct hello_span argv;
	struct hello_span env;
};

HELLO_EXPORT(hello_exec_event);
HELLO_EXPORT(hello_ancestor);
enum hello_exec_kind export_hello_exec_kind __attribute__((unused));
enum hello_exec_flags export_hello_exec_flags __attribute__((unused));
enum hello_path_flags export_hello_path_flags __attribute__((unused));

enum {
	EXEC_ANCESTORS = 32,
	EXEC_TEXT = 128 << 10, /* room for arguments, and as much for the environment */
	/* A sample of the perf buffer ends at 64 KiB. */
	EXEC_PERF_ARGV = 32 << 10,
	EXEC_PERF_ENV = 12 << 10,
	EXEC_HEAD = EXEC_ANCESTORS * sizeof(struct hello_ancestor) + 3 * PATH_MAX,
	EXEC_TAIL = EXEC_HEAD + 2 * EXEC_TEXT,
	EXEC_ARGS = 64, /* squared: arguments of a failed call */
	EXEC_SLOTS_TRIED = 8,
};

#define EXEC_INHERITED 1UL /* bit of a program's id: from the parent, by fork */
#define EEXIST 17
#define PF_FORKNOEXEC 0x00000040 /* include/linux/sched.h */
#define PF_KTHREAD 0x00200000
#define SIGNAL_GROUP_EXIT 0x00000004 /* include/linux/sched/signal.h */
#define X32_NR_execveat 545

/* Set by user space before load. */
struct hello_exec_config {
	u32 events; /* enum hello_exec_kind: those that are looked for */
	u32 env;    /* with the environment */
	u32 slots;  /* their number, less one */
	u32 pad;
};

HELLO_EXPORT(hello_exec_config);
const volatile struct hello_exec_config exec_config SEC(".rodata.exec") = {};

/* Room to make a record in; also too large for a per-CPU map, which ends at 32 KiB. */
struct exec_slot {
	u64 claims;
	u64 len; /* of what is in `tail` */
	u64 task; /* of which the parent comes next */
	u64 args; /* user address of the next argument of a failed call */
	u32 args_width;
	u32 index; /* of this slot */
	struct hello_exec_event event;
	u8 tail[EXEC_TAIL];
	u8 spare[8]; /* a string may end here before it is cut */
	struct hello_path_walk walk;
};

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 4); /* user space: a power of two, by the CPUs */
	__type(key, u32);
	__type(value, struct exec_slot);
} exec_slots SEC(".maps");

static __always_inline struct hello_path_walk *hello_walk_of(u32 slot)
{
	struct exec_slot *found = bpf_map_lookup_elem(&exec_slots, &slot);

	return found ? &found->walk : NULL;
}

/* Which program a process runs: by its id. */
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 64 << 10);
	__type(key, u32);
	__type(value, u64);
} exec_programs SEC(".maps");

/* The process's id; one that hello does not see has no number of hello's, but the host's. */
static __always_inline u32 exec_key(struct task_struct *task)
{
	u32 tgid = hello_tgid_of(task);

	return tgid ? tgid : BPF_CORE_READ(task, tgid) | 1U << 31;
}

struct exec_end {
	u64 start_time;
	u64 pid;
};

/* Ends that were told: kept until others need the room, which is long enough. */
struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__uint(max_entries, 8 << 10);
	__type(key, struct exec_end);
	__type(value, u8);
} exec_ends SEC(".maps");

/* Takes a slot and begins a record in it; NULL and booked as lost if there is none. */
static __always_inline struct exec_slot *exec_claim(struct hello_ledger *ledger, u32 kind)
{
	u32 first = bpf_get_smp_processor_id(), i;

	for (i = 0; i < EXEC_SLOTS_TRIED; i++) {
		u32 index = (first + i) & exec_config.slots;
		struct exec_slot *slot = bpf_map_lookup_elem(&exec_slots, &index);

		if (!slot)
			break;
		if (!hello_claim(&slot->claims, HELLO_OF_ALL))
			continue;
		__builtin_memset(&slot->event, 0, sizeof(slot->event));
		slot->len = 0;
		slot->index = index;
		slot->event.kind = kind;
		hello_task_here(NULL, &slot->event.task);
		slot->event.euid = BPF_CORE_READ((struct task_struct *)bpf_get_current_task(),
						 cred, euid.val);
		return slot;
	}
	hello_count(&ledger->lost_scratch);
	return NULL;
}

/* Hands the record over and gives the slot back. */
static __always_inline void exec_send(void *ctx, struct hello_ledger *ledger,
				      struct exec_slot *slot)
{
	struct hello_exec_event *event = &slot->event;
	u64 len = slot->len;

	if (event->flags & (HELLO_EXEC_FILENAME_UNREADABLE | HELLO_EXEC_ARGV_UNREADABLE |
			    HELLO_EXEC_ENV_UNREADABLE))
		hello_count(&ledger->unreadable);
	if (event->flags &
		    (HELLO_EXEC_FILENAME_CUT | HELLO_EXEC_ARGV_CUT | HELLO_EXEC_ENV_CUT) ||
	    (event->exe_flags | event->cwd_flags) & HELLO_PATH_CUT)
		hello_count(&ledger->truncated);
	barrier_var(len);
	if (len <= EXEC_TAIL)
		hello_emit(ctx, ledger, event, sizeof(*event) + len);
	hello_unclaim(&slot->claims, HELLO_OF_ALL);
}

/*
 * Where the next text goes. The bound is for the verifier, which before Linux 5.11
 * forgets it as soon as the number leaves its register.
 */
static __always_inline u64 exec_at(const struct exec_slot *slot, u64 max)
{
	u64 at = *(volatile const u64 *)&slot->len;

	return at < max ? at : max;
}

static __always_inline void exec_append(struct exec_slot *slot, struct hello_span *span, u64 len)
{
	span->at = slot->len;
	span->len = len;
	slot->len += len;
}

/* The process's program has ended by another. Returns its id, if it had one of its own. */
static __always_inline u64 exec_forget(void)
{
	u32 tgid = exec_key((void *)bpf_get_current_task());
	u64 *before = bpf_map_lookup_elem(&exec_programs, &tgid);
	u64 replaced = before && !(*before & EXEC_INHERITED) ? *before : 0;

	bpf_map_delete_elem(&exec_programs, &tgid);
	return replaced;
}

/* Gives the program an id, by which its exit and its children's will be known. */
static __always_inline void exec_remember(struct hello_exec_event *event, u64 replaced)
{
	u32 tgid = exec_key((void *)bpf_get_current_task());

	event->replaced = replaced;
	/* The time, made unique: no CPU runs two programs within a microsecond. */
	event->program = (event->task.ktime & ~1023UL) |
			 (bpf_get_smp_processor_id() & 511) << 1;
	/* Without room the exit will be told without its command line, as unmatched. */
	bpf_map_update_elem(&exec_programs, &tgid, &event->program, BPF_ANY);
}

/*
 * One process further up; 0 when there is none left. A global function, as
 * hello_path_step() is: the verifier looks at it once.
 */
__noinline int exec_ancestor(u32 index)
{
	struct exec_slot *slot = bpf_map_lookup_elem(&exec_slots, &index);
	struct hello_ancestor *ancestor;
	struct task_struct *task;
	u32 count, pid;

	if (!slot)
		return 0;
	task = (void *)slot->task;
	task = BPF_CORE_READ(task, real_parent, group_leader);
	pid = BPF_CORE_READ(task, tgid);
	count = slot->event.ancestors;
	if (!pid)
		return 0;
	if (count >= EXEC_ANCESTORS) {
		slot->event.flags |= HELLO_EXEC_ANCESTORS_CUT;
		return 0;
	}
	ancestor = (void *)slot->tail + count * sizeof(*ancestor);
	ancestor->pid = pid;
	BPF_CORE_READ_INTO(&ancestor->comm, task, comm);
	slot->task = (u64)task;
	slot->event.ancestors = count + 1;
	slot->len += sizeof(*ancestor);
	return 1;
}

/* Parents up to the first process. */
static __always_inline void exec_ancestors(struct exec_slot *slot)
{
	u32 index = slot->index, i;

	slot->task = bpf_get_current_task();
	for (i = 0; i <= EXEC_ANCESTORS; i++)
		if (!exec_ancestor(index))
			break;
}

/* Appends the path of a struct path of the kernel's. */
static __always_inline void exec_path(struct exec_slot *slot, const struct path *from,
				      struct hello_span *span, u32 *flags)
{
	u32 start = hello_path(NULL, slot->index, from, flags);
	u64 len = HELLO_PATH_SIZE - start;
	u64 at = exec_at(slot, EXEC_HEAD - PATH_MAX);

	if (len == 0 && *flags & HELLO_PATH_CUT) {
		/* Nothing is known of it. */
	} else if (len == 0) {
		slot->tail[at] = '/';
		len = 1;
	} else {
		barrier_var(len);
		if (len > PATH_MAX)
			return;
		bpf_probe_read_kernel(slot->tail + at, len,
				      slot->walk.text + HELLO_PATH_BEFORE + start);
	}
	exec_append(slot, span, len);
}

/* What was asked to be run, as it was given. */
static __always_inline void exec_filename(struct exec_slot *slot, const char *from, bool user)
{
	u64 at = exec_at(slot, EXEC_HEAD - PATH_MAX);
	u32 size = PATH_MAX + 1; /* one more than it can have tells a long one from a cut one */
	long len;

	if (user)
		len = bpf_probe_read_user_str(slot->tail + at, size, from);
	else
		len = bpf_probe_read_kernel_str(slot->tail + at, size, from);
	if (len <= 0) {
		slot->event.flags |= HELLO_EXEC_FILENAME_UNREADABLE;
		len = 1;
	} else if (len == size) {
		slot->event.flags |= HELLO_EXEC_FILENAME_CUT;
		len = PATH_MAX;
	}
	exec_append(slot, &slot->event.filename, len - 1);
}

/* Arguments or environment of the running program, all in one piece. */
static __always_inline void exec_memory(struct exec_slot *slot, u64 from, u64 to, bool env)
{
	struct hello_exec_event *event = &slot->event;
	u64 room = EXEC_TEXT, bytes = to - from, at;

	if (config.transport == HELLO_TRANSPORT_PERF)
		room = env ? EXEC_PERF_ENV : EXEC_PERF_ARGV;
	if (env)
		event->env_bytes = bytes;
	else
		event->argv_bytes = bytes;
	if (bytes > room) {
		event->flags |= env ? HELLO_EXEC_ENV_CUT : HELLO_EXEC_ARGV_CUT;
		bytes = room;
	}
	at = exec_at(slot, env ? EXEC_HEAD + EXEC_TEXT : EXEC_HEAD);
	barrier_var(bytes);
	if (bytes > EXEC_TEXT)
		return;
	if (bpf_probe_read_user(slot->tail + at, bytes, (void *)from)) {
		event->flags |= env ? HELLO_EXEC_ENV_UNREADABLE : HELLO_EXEC_ARGV_UNREADABLE;
		bytes = 0;
	}
	exec_append(slot, env ? &event->env : &event->argv, bytes);
}

/* User addresses of a call's arguments. */
struct exec_args {
	u64 filename;
	u64 argv;
};

static __always_inline struct exec_args exec_args(struct pt_regs *regs, struct hello_call call)
{
	bool at = call.abi == HELLO_ABI_COMPAT ? call.nr == COMPAT_NR_execveat :
						 call.nr == NR_execveat;
	u64 first, second, third;

#if defined(__TARGET_ARCH_x86)
	if (call.abi == HELLO_ABI_X32)
		at = call.nr == X32_NR_execveat;
	if (call.abi == HELLO_ABI_COMPAT) {
		first = (u32)BPF_CORE_READ(regs, bx);
		second = (u32)BPF_CORE_READ(regs, cx);
		third = (u32)BPF_CORE_READ(regs, dx);
	} else {
		first = BPF_CORE_READ(regs, di);
		second = BPF_CORE_READ(regs, si);
		third = BPF_CORE_READ(regs, dx);
	}
#elif defined(__TARGET_ARCH_arm64)
	/* regs[0] holds the result by now. */
	first = BPF_CORE_READ(regs, orig_x0);
	second = BPF_CORE_READ(regs, regs[1]);
	third = BPF_CORE_READ(regs, regs[2]);
#endif
	return (struct exec_args){
		.filename = at ? second : first,
		.argv = at ? third : second,
	};
}

#endif /* HELLO_PROGRAM_BPF_H */
