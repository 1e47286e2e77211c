/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * What every mode's kernel side has in common, once: the configuration, the
 * filters, the ledger, the way out (ring or perf buffer) and the ABI of a call.
 *
 * A mode's handler reads like this:
 *
 *	struct hello_ledger *ledger = hello_begin();
 *
 *	if (!ledger)
 *		return 0;		// not selected, and counted as such
 *	... fill a record ...
 *	hello_emit(ctx, ledger, &record, sizeof(record));
 */
#ifndef HELLO_BPF_H
#define HELLO_BPF_H

#include "vmlinux.h"

#include <bpf/bpf_helpers.h>
#include <bpf/bpf_core_read.h>
#include <bpf/bpf_tracing.h>

/* Numbers of this architecture's tables, written by build.rs: NR_*, COMPAT_NR_*. */
#include "syscall_nr.h"

/*
 * Puts a type into the object's BTF, from which libbpf-cargo makes the Rust
 * type: a struct that no map or variable mentions would be left out. A pointer
 * is enough and costs eight bytes.
 */
#define HELLO_EXPORT(name) const struct name *export_##name __attribute__((unused))

/* Table that a system call's number belongs to. */
enum hello_abi {
	HELLO_ABI_NATIVE = 0, /* x86-64, arm64 */
	HELLO_ABI_COMPAT = 1, /* i386, arm: 32-bit entry */
	HELLO_ABI_X32 = 2,    /* x86-64 entry, bit 30 of the number set */
	HELLO_ABIS = 3,
};

enum hello_select {
	HELLO_SELECT_PIDS = 1,
	HELLO_SELECT_UIDS = 2,
	HELLO_SELECT_COMMS = 4,
	HELLO_SELECT_CGROUP = 8,
	HELLO_SELECT_CONTAINER = 16,
};

/* Where containers are looked for, if somebody asks for them. */
enum hello_containers {
	HELLO_CGROUPS_V2 = 1,
	HELLO_CGROUPS_V1 = 2,
};

enum hello_transport {
	HELLO_TRANSPORT_RING = 0,
	HELLO_TRANSPORT_PERF = 1,
};

enum {
	HELLO_NR_MAX = 1024, /* numbers of one ABI's table lie below */
	HELLO_CALL_WORDS = HELLO_NR_MAX / 64,
};

/* Set by user space before load; the verifier removes what is switched off. */
struct hello_config {
	u64 calls[HELLO_ABIS * HELLO_CALL_WORDS]; /* bit nr of each ABI: wanted */
	/* What else programs read of each call or event, in one line of the cache. */
	u64 with_wall;	  /* somebody wants to know the time of day of events */
	u32 remember;	  /* hello_here() works on this kernel, and pays */
	u32 atomic;	  /* programs of this run can preempt each other */
	u32 pidns;	  /* inode of hello's pid namespace; 0: the host's */
	u32 select;	  /* enum hello_select */
	u32 self_tgid;	  /* hello itself, in its pid namespace */
	u32 uid;	  /* one of those selected, found without looking it up */
	u32 pick;	  /* only the system calls in `calls`, not all */
	u32 budget;	  /* calls may be sampled (--max-cpu) */
	u32 count_by;	  /* enum hello_axis */
	u32 watch;	  /* enum hello_watch: what counting looks at beside entries */
	u32 cpus;	  /* numbers of CPUs lie below */
	u32 failed;	  /* only what failed (--failed) */
	u32 latency;	  /* time the calls (--latency) */
	u32 containers;	  /* enum hello_containers */
	/* The rest. */
	u32 rings;	  /* ring buffers; 0 or 1: only hello_events */
	u32 ring_cpus;	  /* neighbours that share one of several */
	u32 transport;	  /* enum hello_transport */
	u32 tag;	  /* marks this run's lines in the trace pipe */
	u32 held;	  /* COMMAND's process, held in a read() until all is attached */
	u32 unused;
	u8 container[32]; /* the id that --container names, as far as it was given */
	u8 container_mask[32]; /* … and which of its bits were */
};

_Static_assert(offsetof(struct hello_config, with_wall) % 64 == 0 &&
		       offsetof(struct hello_config, rings) % 64 == 0,
	       "what is read of each call lies in two lines");

/*
 * One per CPU, so plain additions are exact. All are counts of events but the
 * last, which counts processes. user space adds the CPUs up when the programs
 * are detached: seen = filtered + emitted + lost.
 */
struct hello_ledger {
	u64 seen;
	u64 filtered;
	u64 emitted;
	u64 lost_buffer;  /* ring or perf buffer full */
	u64 lost_map;	  /* counter map full */
	u64 lost_scratch; /* scratch space in use by an interrupted run */
	u64 unreadable;	  /* user memory could not be read */
	u64 truncated;	  /* text longer than the record can be */
	u64 unmatched;	  /* exit without its entry */
	u64 unfollowed;	  /* descendants for which the pid map had no room */
};

/* Who did it: the same first field in every event. */
struct hello_task {
	u64 ktime; /* CLOCK_MONOTONIC, ns; first, for events are put in its order */
	/*
	 * Another clock at that moment, ns: CLOCK_TAI or, before Linux 6.1, minus
	 * CLOCK_BOOTTIME; 0 if nobody wants it. TAI is the time of day but for a whole
	 * number of seconds, and boot time goes on in suspend; ktime is neither.
	 */
	s64 wall;
	u64 cgroup_id;
	u64 container; /* the first 8 bytes of its id, big end first; 0: none */
	u32 pid;       /* thread group id */
	u32 tid;
	u32 ppid;
	u32 uid;
	u32 gid;
	u32 ns_pid; /* pid in the process's own pid namespace */
	u8 comm[TASK_COMM_LEN];	   /* the thread's name */
	u8 process[TASK_COMM_LEN]; /* its process's: that of the first thread */
};

/* Which call of which table. */
struct hello_call {
	u32 abi; /* enum hello_abi */
	u32 nr;
};

/* A section of its own: user space fills it alike in every mode's object. */
const volatile struct hello_config config SEC(".rodata.hello") = {};

enum hello_ledgers {
	HELLO_LEDGER_MAIN = 0,
	/*
	 * For a program that takes back what another has booked, or that could run
	 * between the other's load and store (raw_tp is preemptible from Linux 7 on):
	 * user space adds the two up. A number taken back wraps here, not in the sum.
	 */
	HELLO_LEDGER_EXITS = 1,
	HELLO_LEDGERS = 2,
};

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, HELLO_LEDGERS);
	__type(key, u32);
	__type(value, struct hello_ledger);
} hello_ledger SEC(".maps");

/*
 * Relaxed, and the result unused: so every clang makes it the plain atomic add that
 * all kernels know. Of __sync_fetch_and_add() clang 22 makes one that also fetches,
 * which is Linux 5.12.
 */
#define hello_atomic_add(counter, number)                                            \
	(void)__atomic_fetch_add(counter, number, __ATOMIC_RELAXED)
#define hello_atomic_inc(counter) hello_atomic_add(counter, 1)
#define hello_atomic_dec(counter) hello_atomic_add(counter, -1)

/* Adds to a counter of this CPU's ledger. */
static __always_inline void hello_add(u64 *counter, u64 number)
{
	/*
	 * A program never interrupts itself on a CPU, so one program alone can
	 * add without an atomic. fentry programs are preemptible, and several of
	 * them share the ledger: there the kernel may switch between the load
	 * and the store.
	 */
	if (config.atomic)
		hello_atomic_add(counter, number);
	else
		*counter += number;
}

static __always_inline void hello_count(u64 *counter)
{
	hello_add(counter, 1);
}

static __always_inline struct hello_ledger *hello_ledger_here(void)
{
	u32 zero = 0;

	return bpf_map_lookup_elem(&hello_ledger, &zero);
}

#include "here.bpf.h"
#include "container.bpf.h"
#include "select.bpf.h"
#include "call.bpf.h"

#endif /* HELLO_BPF_H */
