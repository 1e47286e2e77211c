/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * The way out for modes that report single events: one map, which user space
 * makes a ring buffer or a perf buffer before it loads the object, or several
 * ring buffers. docs/architecture.md tells why, and when the reader is woken.
 */
#ifndef HELLO_EVENT_BPF_H
#define HELLO_EVENT_BPF_H

#include "hello.bpf.h"

struct {
	__uint(type, BPF_MAP_TYPE_RINGBUF);
	__uint(max_entries, 1 << 20);
} hello_events SEC(".maps");

struct hello_ring {
	__uint(type, BPF_MAP_TYPE_RINGBUF);
	__uint(max_entries, 1 << 16);
};

/* With --rings, instead: one for each group of CPUs, made and put in by user space. */
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY_OF_MAPS);
	__uint(max_entries, 2);
	__type(key, u32);
	__array(values, struct hello_ring);
} hello_rings SEC(".maps");

#define HELLO_WAKE_NEVER (~0ULL)

/*
 * The reader is woken by a record with which so many bytes wait. Who wakes it puts
 * HELLO_WAKE_NEVER here: once is enough until it has read all there is, and says
 * anew when it wants to be woken. Alone in its section, for user space writes it.
 */
volatile u64 hello_wake SEC(".data.wake") = 0;

/* The process's id in its own pid namespace. */
static __always_inline u32 hello_ns_pid(struct hello_here *here, struct task_struct *task, u32 tgid)
{
	u32 level = HELLO_READ_OF(here, task, signal, pids[PIDTYPE_TGID], level);
	struct pid *pid;
	struct upid *own;

	if (level == 0) /* the host's */
		return tgid;
	pid = HELLO_READ_OF(here, task, signal, pids[PIDTYPE_TGID]);
	own = (void *)pid + bpf_core_field_offset(pid->numbers) +
	      level * bpf_core_type_size(struct upid);
	return BPF_CORE_READ(own, nr);
}

/* The other clock of hello_task. The two are read at once: see src/enrich/time.rs. */
static __always_inline s64 hello_wall(void)
{
	if (!config.with_wall)
		return 0;
	if (bpf_core_enum_value_exists(enum bpf_func_id, BPF_FUNC_ktime_get_tai_ns))
		return bpf_ktime_get_tai_ns();
	if (bpf_core_enum_value_exists(enum bpf_func_id, BPF_FUNC_ktime_get_boot_ns))
		return -bpf_ktime_get_boot_ns();
	return 0;
}

/* Fills in who is running now. */
static __always_inline void hello_task_here(struct hello_here *here, struct hello_task *who)
{
	struct task_struct *task = hello_task_of(here), *leader;
	u64 uid_gid;

	if (!task)
		return; /* never: for the verifier */
	who->ktime = bpf_ktime_get_ns();
	who->wall = hello_wall();
	who->pid = HELLO_READ_OF(here, task, tgid);
	who->tid = HELLO_READ_OF(here, task, pid);
	who->ppid = HELLO_READ_OF(here, task, real_parent, tgid);
	who->ns_pid = hello_ns_pid(here, task, who->pid);
	if (here) {
		who->cgroup_id = task->cgroups->dfl_cgrp->kn->id;
		who->uid = task->cred->uid.val;
		who->gid = task->cred->gid.val;
		__builtin_memcpy(who->comm, task->comm, sizeof(who->comm));
	} else {
		uid_gid = bpf_get_current_uid_gid();
		who->cgroup_id = bpf_get_current_cgroup_id();
		who->uid = uid_gid;
		who->gid = uid_gid >> 32;
		bpf_get_current_comm(who->comm, sizeof(who->comm));
	}
	who->container = config.containers ? hello_container_still(here) : 0;
	leader = HELLO_READ_OF(here, task, group_leader);
	if (who->pid == who->tid)
		__builtin_memcpy(who->process, who->comm, sizeof(who->process));
	else
		BPF_CORE_READ_INTO(&who->process, leader, comm);
	if (hello_is_io_worker(here, task))
		__builtin_memcpy(who->comm, who->process, sizeof(who->comm));
}

static __always_inline long hello_ring_output(void *ring, void *record, u64 size)
{
	u64 flags = BPF_RB_NO_WAKEUP, wake = hello_wake;
	long err;

	if (wake != HELLO_WAKE_NEVER &&
	    bpf_ringbuf_query(ring, BPF_RB_AVAIL_DATA) + size >= wake) {
		hello_wake = HELLO_WAKE_NEVER; /* before the reader can wake up and write it */
		flags = BPF_RB_FORCE_WAKEUP;
	}
	err = bpf_ringbuf_output(ring, record, size, flags);
	if (err && flags == BPF_RB_FORCE_WAKEUP)
		hello_wake = wake; /* nobody was woken */
	return err;
}

/*
 * Hands a record to user space and books it as emitted or lost. The reader is
 * not woken for every record: that would cost more than the record itself.
 */
static __always_inline void hello_emit(void *ctx, struct hello_ledger *ledger, void *record,
				       u64 size)
{
	long err;

	if (config.transport == HELLO_TRANSPORT_PERF) {
		err = bpf_perf_event_output(ctx, &hello_events, BPF_F_CURRENT_CPU, record, size);
	} else if (config.rings > 1) {
		u32 group = bpf_get_smp_processor_id() / config.ring_cpus % config.rings;
		void *ring = bpf_map_lookup_elem(&hello_rings, &group);

		err = ring ? hello_ring_output(ring, record, size) : -1;
	} else {
		err = hello_ring_output(&hello_events, record, size);
	}
	hello_count(err ? &ledger->lost_buffer : &ledger->emitted);
}

#endif /* HELLO_EVENT_BPF_H */
