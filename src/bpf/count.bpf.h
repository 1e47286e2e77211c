/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * What the counting modes have in common: counters and the keys that they stand under.
 * They may be pinned: whoever changes their layout raises LAYOUT in src/modes/counts/plan.rs.
 */
#ifndef HELLO_COUNT_BPF_H
#define HELLO_COUNT_BPF_H

#include "hello.bpf.h"

/* What to count by (--by), any combination. */
enum hello_axis {
	HELLO_BY_SYSCALL = 1,
	HELLO_BY_UID = 2,
	HELLO_BY_PID = 4,
	HELLO_BY_COMM = 8,
	HELLO_BY_CGROUP = 16,
	HELLO_BY_ERRNO = 32, /* known at exit only */
	HELLO_BY_CONTAINER = 64,
};

/* What else is looked at; nothing of it costs anything unless asked for. */
enum hello_watch {
	HELLO_WATCH_EXITS = 1,	 /* what calls return */
	HELLO_WATCH_TIMES = 2,	 /* how long they take */
	HELLO_WATCH_FAILED = 4,	 /* only those that fail */
	HELLO_WATCH_ARRAY = 8,	 /* times by call alone: an array, not a hash */
};

/* Axes that were not asked for are zero. */
struct hello_key {
	u64 cgroup_id;
	u64 container; /* as in hello_task */
	u32 abi;
	u32 nr;
	u32 uid;
	u32 pid;
	s32 error; /* errno, 0 for success, HELLO_PENDING before it is known */
	u32 unused;
	u8 comm[TASK_COMM_LEN];
};

_Static_assert(sizeof(struct hello_key) == 56, "a key with padding would differ from itself");

enum hello_count_limits {
	HELLO_PENDING = -1,
	/* Eight to each power of two, one for each number below 16: see hello_bucket(). */
	HELLO_BUCKETS = 496,
	/* Calls of the native table that are counted in an array when times are taken. */
	HELLO_TIMED_MAX = 512,
};

/* How many calls. */
struct hello_sum {
	u64 calls;
	u64 variance; /* of `calls`, where some stand for others (--max-cpu) */
};

/*
 * What has happened to the calls of one key on one CPU. The entry's program writes
 * `sum` and `gone`, the exit's the rest, so that neither needs an atomic where one can
 * interrupt the other.
 */
struct hello_tally {
	struct hello_sum sum;
	u64 gone;     /* calls never to be seen returning: exit(), a skipped exit */
	u64 returned; /* calls seen returning */
	u64 errors;   /* of these, with an error */
	u64 total_ns; /* their times together */
	u64 timed;    /* how many calls that is */
	u64 max_ns;   /* the longest of one epoch … */
	u64 epoch;    /* … and which epoch that was */
};

/*
 * Tables show an epoch, all numbers of a row and of its histogram the same one. So what
 * happens in even epochs and in odd ones is kept apart (index: epoch % 2), and user space
 * reads the one while the programs write the other. No line of the cache has numbers of
 * two CPUs and the same parity.
 */
struct hello_row {
	struct hello_tally by_parity[2];
};

_Static_assert(sizeof(struct hello_row) == 144, "user space lays rows out CPU by CPU");

/* How many times fall into each bucket. */
struct hello_histogram {
	u64 buckets[HELLO_BUCKETS];
};

/* A row and its histogram. */
struct hello_timed {
	struct hello_row row;
	struct hello_histogram by_parity[2];
};

/* Times of one key that are alike. */
struct hello_bucket_key {
	struct hello_key key;
	u32 bucket;
	u32 unused;
};

/* … and how many there are. */
struct hello_bucket_count {
	u64 by_parity[2];
};

/* Written by user space while the programs run. */
struct hello_control {
	u32 on;	   /* count: from when all is attached until all is being detached */
	u32 epoch; /* its end is the end of a table */
	u32 every; /* count one call in so many, for all of them (--max-cpu) */
	u32 untimed; /* and take no times */
	u32 left_out; /* calls have been, since this run began */
};

static __always_inline void hello_key_here(struct hello_key *key, struct hello_here *here,
					   struct hello_call call)
{
	struct task_struct *task = here ? here->task : NULL;

	if (config.count_by & HELLO_BY_SYSCALL) {
		key->abi = call.abi;
		key->nr = call.nr;
	}
	if (config.count_by & HELLO_BY_UID)
		key->uid = task ? task->cred->uid.val : (u32)bpf_get_current_uid_gid();
	if (config.count_by & HELLO_BY_PID)
		key->pid = here ? here->tgid : bpf_get_current_pid_tgid() >> 32;
	if (config.count_by & HELLO_BY_COMM)
		bpf_get_current_comm(key->comm, sizeof(key->comm));
	if (config.count_by & HELLO_BY_CGROUP)
		key->cgroup_id = bpf_get_current_cgroup_id();
	if (config.count_by & HELLO_BY_CONTAINER)
		key->container = hello_container_still(here);
}

/*
 * The bucket of a time: eight to each power of two. The middle of a bucket is at most
 * a sixteenth away from any time in it. Inverse: src/modes/counts/buckets.rs.
 */
static __always_inline u32 hello_bucket(u64 ns)
{
	u64 rest = ns;
	u32 log = 0;

	if (ns < 8)
		return ns;
	if (rest >> 32) {
		rest >>= 32;
		log = 32;
	}
	if (rest >> 16) {
		rest >>= 16;
		log += 16;
	}
	if (rest >> 8) {
		rest >>= 8;
		log += 8;
	}
	if (rest >> 4) {
		rest >>= 4;
		log += 4;
	}
	if (rest >> 2) {
		rest >>= 2;
		log += 2;
	}
	log += rest >> 1;
	return (log - 2) * 8 + (ns >> (log - 3) & 7);
}

#endif /* HELLO_COUNT_BPF_H */
