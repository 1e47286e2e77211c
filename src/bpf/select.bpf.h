/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* Who is traced: the filters, and the begin of an event. Part of hello.bpf.h. */
#ifndef HELLO_SELECT_BPF_H
#define HELLO_SELECT_BPF_H

/* Selected processes; with --follow or a COMMAND their descendants too. */
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 1);
	__type(key, u32);
	__type(value, u8);
} hello_pids SEC(".maps");

/*
 * Who is certainly not among them, by the end of the process id: most of a machine, and
 * nothing has to be looked up for those. Bytes, not bits, so that setting one cannot
 * undo another's.
 */
enum {
	HELLO_MAYBE_SIZE = 1 << 16,
};

volatile u8 hello_maybe[HELLO_MAYBE_SIZE] SEC(".bss.pids") = {};

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 1);
	__type(key, u32);
	__type(value, u8);
} hello_uids SEC(".maps");

struct hello_comm {
	u8 text[TASK_COMM_LEN];
};

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 1);
	__type(key, struct hello_comm);
	__type(value, u8);
} hello_comms SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_CGROUP_ARRAY);
	__uint(max_entries, 1);
	__type(key, u32);
	__type(value, u32);
} hello_cgroup SEC(".maps");

/* A task's process id in the pid namespace that hello runs in; 0: it is not visible there. */
static __noinline u32 hello_tgid_in_pidns(struct task_struct *task)
{
	struct pid *pid = BPF_CORE_READ(task, signal, pids[PIDTYPE_TGID]);
	u32 level = BPF_CORE_READ(pid, level), i;

	/* MAX_PID_NS_LEVEL is 32; level 0 is the host. */
	for (i = 1; i <= 32 && i <= level; i++) {
		struct upid *upid = (void *)pid + bpf_core_field_offset(pid->numbers) +
				    i * bpf_core_type_size(struct upid);

		if (BPF_CORE_READ(upid, ns, ns.inum) == config.pidns)
			return BPF_CORE_READ(upid, nr);
	}
	return 0;
}

/* A task's process id as hello's user knows it. */
static __always_inline u32 hello_tgid_of(struct task_struct *task)
{
	return config.pidns ? hello_tgid_in_pidns(task) : BPF_CORE_READ(task, tgid);
}

static __always_inline u32 hello_tgid_here(struct hello_here *here)
{
	if (config.pidns)
		return hello_tgid_in_pidns((void *)bpf_get_current_task());
	return here ? here->tgid : bpf_get_current_pid_tgid() >> 32;
}

#define PF_IO_WORKER 0x10 /* include/linux/sched.h */

/*
 * A thread by which io_uring waits for a process. It has a name that says nothing, so
 * what it does is told under the process's.
 */
static __always_inline bool hello_is_io_worker(struct hello_here *here, struct task_struct *task)
{
	return HELLO_READ_OF(here, task, flags) & PF_IO_WORKER;
}

/* Whose name --comm is compared with. */
enum hello_named {
	HELLO_THREAD,
	HELLO_PROCESS, /* its first thread's, which is there until the last has ended */
};

/*
 * Is the name among those selected? A function of its own, so that names do not lie on the
 * stack of programs that nearly all events only pass (selected_of_all() in file.bpf.c).
 */
static __noinline bool hello_comm_selected(enum hello_named named)
{
	struct task_struct *task = (void *)bpf_get_current_task();
	struct hello_comm comm = {};

	/* A string: on older kernels a longer name before it has left its end behind. */
	if (named == HELLO_PROCESS || hello_is_io_worker(NULL, task))
		BPF_CORE_READ_STR_INTO(&comm.text, task, group_leader, comm);
	else
		bpf_get_current_comm(&comm, sizeof(comm));
	return bpf_map_lookup_elem(&hello_comms, &comm);
}

/* The filters, cheapest first. */
static __always_inline bool hello_selected_as(struct hello_here *here, enum hello_named named)
{
	u32 tgid = hello_tgid_here(here);
	u32 select = config.select; /* volatile: once */

	if (select & HELLO_SELECT_PIDS) {
		if (!hello_maybe[tgid % HELLO_MAYBE_SIZE])
			return false;
		if (!bpf_map_lookup_elem(&hello_pids, &tgid))
			return false;
	} else if (tgid == config.self_tgid) {
		return false;
	}
	if (select & HELLO_SELECT_UIDS) {
		struct task_struct *task = here ? here->task : NULL;
		u32 uid = task ? task->cred->uid.val : (u32)bpf_get_current_uid_gid();

		if (uid != config.uid && !bpf_map_lookup_elem(&hello_uids, &uid))
			return false;
	}
	/* Not bpf_get_current_ancestor_cgroup_id(): tracing has it from 5.15 only. */
	if (select & HELLO_SELECT_CGROUP &&
	    bpf_current_task_under_cgroup(&hello_cgroup, 0) != 1)
		return false;
	if (select & HELLO_SELECT_CONTAINER && !hello_container_here(true))
		return false;
	return !(select & HELLO_SELECT_COMMS) || hello_comm_selected(named);
}

static __always_inline bool hello_selected(void)
{
	return hello_selected_as(NULL, HELLO_THREAD);
}

/*
 * Books an event as seen. Returns the ledger if it passes the filters, NULL if
 * it ends here as filtered. One event may stand for `weight` of them.
 */
static __always_inline struct hello_ledger *hello_begin_as(struct hello_here *here,
							   enum hello_named named, u32 weight)
{
	struct hello_ledger *ledger = hello_ledger_here();

	if (!ledger)
		return NULL;
	hello_add(&ledger->seen, weight);
	if (hello_selected_as(here, named))
		return ledger;
	hello_add(&ledger->filtered, weight);
	return NULL;
}

static __always_inline struct hello_ledger *hello_begin_of(struct hello_here *here)
{
	return hello_begin_as(here, HELLO_THREAD, 1);
}

static __always_inline struct hello_ledger *hello_begin(void)
{
	return hello_begin_of(NULL);
}

#endif /* HELLO_SELECT_BPF_H */
