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
	u64 wakeup_bytes; /* wake the reader when so much waits; 0: at once */
	u32 self_tgid;	  /* hello itself, in its pid namespace */
	u32 select;	  /* enum hello_select */
	u32 transport;	  /* enum hello_transport */
	u32 count_by;	  /* enum hello_axis */
	u32 atomic;	  /* programs of this run can preempt each other */
	u32 tag;	  /* marks this run's lines in the trace pipe */
	u32 pick;	  /* only the system calls in `calls`, not all */
	u32 pidns;	  /* inode of hello's pid namespace; 0: the host's */
	u32 watch;	  /* enum hello_watch: what counting looks at beside entries */
	u32 cpus;	  /* numbers of CPUs lie below */
	u32 held;	  /* COMMAND's process, held in a read() until all is attached */
	u32 unused;
};

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
	u64 ktime; /* CLOCK_MONOTONIC, ns */
	u64 cgroup_id;
	u32 pid; /* thread group id */
	u32 tid;
	u32 ppid;
	u32 uid;
	u8 comm[TASK_COMM_LEN];
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
 * Relaxed, and the result unused: so every clang makes it the plain atomic add that
 * all kernels know. Of __sync_fetch_and_add() clang 22 makes one that also fetches,
 * which is Linux 5.12.
 */
#define hello_atomic_inc(counter) (void)__atomic_fetch_add(counter, 1, __ATOMIC_RELAXED)

/* Adds one to a counter of this CPU's ledger. */
static __always_inline void hello_count(u64 *counter)
{
	/*
	 * A program never interrupts itself on a CPU, so one program alone can
	 * add without an atomic. fentry programs are preemptible, and several of
	 * them share the ledger: there the kernel may switch between the load
	 * and the store.
	 */
	if (config.atomic)
		hello_atomic_inc(counter);
	else
		*counter += 1;
}

static __always_inline struct hello_ledger *hello_ledger_here(void)
{
	u32 zero = 0;

	return bpf_map_lookup_elem(&hello_ledger, &zero);
}

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
	if (config.select & HELLO_SELECT_COMMS) {
		struct hello_comm comm = {};

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

#if defined(__TARGET_ARCH_x86)
/* TS_COMPAT, arch/x86/include/asm/thread_info.h: entered by int 0x80 or sysenter. */
#define HELLO_COMPAT_FIELD thread_info.status
#define HELLO_COMPAT_BIT 0x0002
#elif defined(__TARGET_ARCH_arm64)
/* TIF_32BIT, arch/arm64/include/asm/thread_info.h. */
#define HELLO_COMPAT_FIELD thread_info.flags
#define HELLO_COMPAT_BIT (1 << 22)
#endif

/* Every system call of the machine comes by here, so it matters what it costs. */
static __always_inline bool hello_is_compat(void)
{
	struct task_struct *task;

	/* A pointer that the verifier trusts is read by a plain load. */
	if (bpf_core_enum_value_exists(enum bpf_func_id, BPF_FUNC_get_current_task_btf))
		return bpf_get_current_task_btf()->HELLO_COMPAT_FIELD & HELLO_COMPAT_BIT;
	task = (void *)bpf_get_current_task();
	return BPF_CORE_READ(task, HELLO_COMPAT_FIELD) & HELLO_COMPAT_BIT;
}

/* Which call this is, from the number as the kernel's entry code has it. */
static __always_inline struct hello_call hello_call(u64 number)
{
	struct hello_call call = { .abi = HELLO_ABI_NATIVE, .nr = number };

	if (hello_is_compat()) {
		call.abi = HELLO_ABI_COMPAT;
#if defined(__TARGET_ARCH_x86)
	} else if ((u32)number >> 30 == 1) { /* bit 30, not a negative number */
		call.abi = HELLO_ABI_X32;
		call.nr &= ~0x40000000;
#endif
	}
	return call;
}

/* Number of the call whose entry code saved these registers. */
static __always_inline u64 hello_number(struct pt_regs *regs)
{
#if defined(__TARGET_ARCH_x86)
	return BPF_CORE_READ(regs, orig_ax);
#elif defined(__TARGET_ARCH_arm64)
	return BPF_CORE_READ(regs, syscallno);
#endif
}

/* Is it one of the calls that user space asked for? */
static __always_inline bool hello_wanted(struct hello_call call)
{
	u32 word = call.abi * HELLO_CALL_WORDS + call.nr / 64;

	if (call.nr >= HELLO_NR_MAX || word >= HELLO_ABIS * HELLO_CALL_WORDS)
		return false;
	return config.calls[word] >> (call.nr % 64) & 1;
}

/* Which of a system call's functions a program is attached to. */
enum hello_entry {
	HELLO_ENTRY_native, /* __x64_sys_, __arm64_sys_ */
	HELLO_ENTRY_ia32,   /* __ia32_sys_ */
	HELLO_ENTRY_compat, /* __ia32_compat_sys_, __arm64_compat_sys_ */
	HELLO_ENTRY_x32,    /* __x64_compat_sys_, __x32_compat_sys_ */
};

/*
 * Is this call the business of a program on that function? On x86-64 the functions
 * of a call without arguments are one function under two names
 * (arch/x86/include/asm/syscall_wrapper.h), so both programs run, and one of them
 * must look away. On arm64 the 32-bit table shares most functions with the other.
 */
static __always_inline bool hello_enters(struct hello_call call, enum hello_entry entry)
{
#if defined(__TARGET_ARCH_x86)
	switch (entry) {
	case HELLO_ENTRY_native:
		return call.abi != HELLO_ABI_COMPAT;
	case HELLO_ENTRY_x32:
		return call.abi == HELLO_ABI_X32;
	default:
		return call.abi == HELLO_ABI_COMPAT;
	}
#endif
	return true;
}

/*
 * Runs `handler(ctx, call)` at the entry of every system call that user space
 * asked for, by each hook there is; user space loads the programs of one.
 *
 * - kprobe, fentry: programs for one call, one for each of its functions
 *   (__x64_sys_execve, __ia32_compat_sys_execve, …), whose only argument is the
 *   caller's saved registers. Other calls do not notice.
 * - raw_tp, tracepoint: one program for all calls, which picks. Those that it does
 *   not want pay one comparison.
 */
#define HELLO_ON_FUNCTIONS(PROGRAM, name, handler)                                   \
	PROGRAM(name, native, handler)                                               \
	PROGRAM(name, ia32, handler)                                                 \
	PROGRAM(name, compat, handler)                                               \
	PROGRAM(name, x32, handler)

#define HELLO_KPROBE(name, entry, handler)                                           \
	SEC("?kprobe")                                                               \
	int name##_##entry(struct pt_regs *ctx)                                      \
	{                                                                            \
		struct pt_regs *regs = (struct pt_regs *)PT_REGS_PARM1(ctx);         \
		struct hello_call call = hello_call(hello_number(regs));             \
                                                                                     \
		return hello_enters(call, HELLO_ENTRY_##entry) ? handler(ctx, call) : 0; \
	}
#define HELLO_ON_KPROBE(name, handler) HELLO_ON_FUNCTIONS(HELLO_KPROBE, name, handler)

/*
 * The first argument of a trampoline's program. Not `ctx[0]`: where the function's
 * file has only seen `struct pt_regs;`, older kernels refuse to hand it out
 * ("type FWD is not a struct", execveat on 5.10).
 */
static __always_inline struct pt_regs *hello_first_argument(u64 *ctx)
{
	struct pt_regs *regs = NULL;

	bpf_probe_read_kernel(&regs, sizeof(regs), ctx);
	return regs;
}

#define HELLO_FENTRY(name, entry, handler)                                           \
	SEC("?fentry")                                                               \
	int name##_##entry(u64 *ctx)                                                 \
	{                                                                            \
		struct pt_regs *regs = hello_first_argument(ctx);                    \
		struct hello_call call = hello_call(hello_number(regs));             \
                                                                                     \
		return hello_enters(call, HELLO_ENTRY_##entry) ? handler(ctx, call) : 0; \
	}
#define HELLO_ON_FENTRY(name, handler) HELLO_ON_FUNCTIONS(HELLO_FENTRY, name, handler)

#define HELLO_ON_RAW_TP(name, handler)                                               \
	SEC("?raw_tp/sys_enter")                                                     \
	int name(struct bpf_raw_tracepoint_args *ctx)                                \
	{                                                                            \
		struct hello_call call = hello_call(ctx->args[1]);                   \
                                                                                     \
		return hello_wanted(call) ? handler(ctx, call) : 0;                  \
	}

#define HELLO_ON_TRACEPOINT(name, handler)                                           \
	SEC("?tp/raw_syscalls/sys_enter")                                            \
	int name(struct trace_event_raw_sys_enter *ctx)                              \
	{                                                                            \
		struct hello_call call = hello_call(ctx->id);                        \
                                                                                     \
		return hello_wanted(call) ? handler(ctx, call) : 0;                  \
	}

#endif /* HELLO_BPF_H */
