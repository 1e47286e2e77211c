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

/*
 * A task's process id as hello's user knows it: in the pid namespace that hello runs
 * in. 0 for a process that is not visible there.
 */
static __always_inline u32 hello_tgid_of(struct task_struct *task)
{
	struct pid *pid;
	u32 level, i;

	if (!config.pidns)
		return BPF_CORE_READ(task, tgid);
	pid = BPF_CORE_READ(task, signal, pids[PIDTYPE_TGID]);
	level = BPF_CORE_READ(pid, level);
	/* MAX_PID_NS_LEVEL is 32; level 0 is the host. */
	for (i = 1; i <= 32 && i <= level; i++) {
		struct upid *upid = (void *)pid + bpf_core_field_offset(pid->numbers) +
				    i * bpf_core_type_size(struct upid);

		if (BPF_CORE_READ(upid, ns, ns.inum) == config.pidns)
			return BPF_CORE_READ(upid, nr);
	}
	return 0;
}

static __always_inline u32 hello_tgid_here(void)
{
	if (!config.pidns)
		return bpf_get_current_pid_tgid() >> 32;
	return hello_tgid_of((void *)bpf_get_current_task());
}

#define PF_IO_WORKER 0x10 /* include/linux/sched.h */

/*
 * A thread by which io_uring waits for a process. It has a name that says nothing, so
 * what it does is told under the process's.
 */
static __always_inline bool hello_is_io_worker(struct task_struct *task)
{
	return BPF_CORE_READ(task, flags) & PF_IO_WORKER;
}

/* The filters, cheapest first. */
static __always_inline bool hello_selected(void)
{
	u32 tgid = hello_tgid_here();

	if (config.select & HELLO_SELECT_PIDS) {
		if (!bpf_map_lookup_elem(&hello_pids, &tgid))
			return false;
	} else if (tgid == config.self_tgid) {
		return false;
	}
	if (config.select & HELLO_SELECT_UIDS) {
		u32 uid = bpf_get_current_uid_gid();

		if (!bpf_map_lookup_elem(&hello_uids, &uid))
			return false;
	}
	/* Not bpf_get_current_ancestor_cgroup_id(): tracing has it from 5.15 only. */
	if (config.select & HELLO_SELECT_CGROUP &&
	    bpf_current_task_under_cgroup(&hello_cgroup, 0) != 1)
		return false;
	if (config.select & HELLO_SELECT_CONTAINER && !hello_container_here().selected)
		return false;
	if (config.select & HELLO_SELECT_COMMS) {
		struct task_struct *task = (void *)bpf_get_current_task();
		struct hello_comm comm = {};

		if (hello_is_io_worker(task))
			BPF_CORE_READ_INTO(&comm.text, task, group_leader, comm);
		else
			bpf_get_current_comm(&comm, sizeof(comm));
		if (!bpf_map_lookup_elem(&hello_comms, &comm))
			return false;
	}
	return true;
}

/*
 * Books an event as seen. Returns the ledger if it passes the filters, NULL if
 * it ends here as filtered.
 */
static __always_inline struct hello_ledger *hello_begin(void)
{
	struct hello_ledger *ledger = hello_ledger_here();

	if (!ledger)
		return NULL;
	hello_count(&ledger->seen);
	if (hello_selected())
		return ledger;
	hello_count(&ledger->filtered);
	return NULL;
}

#endif /* HELLO_SELECT_BPF_H */
