// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/*
 * syscount: system calls counted, from one raw tracepoint that its section name
 * alone attaches, as in the book's exercises 3, 4 and 5; from two where somebody asks
 * what calls return or how long they take. User side: src/modes/syscount.rs.
 *
 * A call is counted when it begins. What it returns is added when it does, to the row
 * that it was counted in, whoever the caller has become meanwhile.
 */
#include "pending.bpf.h"
#include "count.bpf.h"
#include "follow.bpf.h"

/* By system call alone: an index, not a hash. */
struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, HELLO_ABIS * HELLO_NR_MAX);
	__type(key, u32);
	__type(value, struct hello_sum);
} syscount_calls SEC(".maps");

/* … with times. */
struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, HELLO_TIMED_MAX);
	__type(key, u32);
	__type(value, struct hello_timed);
} syscount_timed SEC(".maps");

/*
 * By anything else, and for numbers that no table has. The value is a hello_row for
 * each CPU; user space sets its size. Not a per-CPU hash: for as many keys the kernel
 * takes thirty times as long to make one.
 */
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 65536);
	__uint(key_size, sizeof(struct hello_key));
	__uint(value_size, sizeof(struct hello_row));
} syscount_counts SEC(".maps");

/* What a new key begins with: too large for the stack. */
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1);
	__uint(key_size, sizeof(u32));
	__uint(value_size, sizeof(struct hello_row));
} syscount_zero SEC(".maps");

/* Histograms, of each key those buckets that something is in. */
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 65536);
	__type(key, struct hello_bucket_key);
	__type(value, struct hello_bucket_count);
} syscount_buckets SEC(".maps");

volatile struct hello_control syscount_control SEC(".data.control") = {};

/* Which call is counted next, where not all are (--max-cpu). */
struct syscount_dice {
	u32 left; /* calls until then */
	u32 every; /* of so many one is taken, since `left` was drawn */
	u32 random; /* xorshift's state */
};

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, 1);
	__type(key, u32);
	__type(value, struct syscount_dice);
} syscount_sampling SEC(".maps");

/* One of the numbers from 1 to `sides`. */
static __always_inline u32 roll(struct syscount_dice *dice, u32 sides)
{
	u32 random = dice->random ? dice->random : (u32)bpf_get_prandom_u32() | 1;

	random ^= random << 13;
	random ^= random >> 17;
	random ^= random << 5;
	dice->random = random;
	return 1 + random % sides;
}

/*
 * How many calls this one stands for; 0: it is left out. Which one is taken is random, and
 * not every Nth: a program that makes its calls in a circle would show only some of them.
 */
static __always_inline u32 weight_of_call(void)
{
	struct syscount_dice *dice;
	u32 zero = 0, every, one, other;

	if (!config.budget)
		return 1;
	every = syscount_control.every;
	if (every <= 1)
		return 1;
	dice = bpf_map_lookup_elem(&syscount_sampling, &zero);
	if (!dice)
		return 1;
	if (dice->every != every) {
		/*
		 * As if it had been so for ever: of the waits below, the rest from any moment.
		 * The smaller of two different numbers is distributed like that.
		 */
		dice->every = every;
		one = roll(dice, 2 * every);
		other = roll(dice, 2 * every - 1);
		other += other >= one;
		dice->left = one < other ? one : other;
	}
	if (dice->left > 1) {
		dice->left -= 1;
		return 0;
	}
	dice->left = roll(dice, 2 * every - 1); /* `every` in the mean */
	return every;
}

/* Counts a call that stands for so many: of them one is taken, and adds them all. */
static __always_inline void add_call(struct hello_sum *sum, u32 weight)
{
	/* This CPU's own: no atomic needed. */
	sum->calls += weight;
	if (weight > 1)
		sum->variance += (u64)weight * (weight - 1);
}

/* This CPU's row of a key in the hash. */
static __always_inline struct hello_row *row_by_key(const struct hello_key *key, bool create)
{
	u64 cpu = bpf_get_smp_processor_id();
	void *rows = bpf_map_lookup_elem(&syscount_counts, key), *zero;
	u32 index = 0;

	if (!rows && create) {
		zero = bpf_map_lookup_elem(&syscount_zero, &index);
		if (!zero)
			return NULL;
		/* Another CPU may have been first: its counters must stay. */
		bpf_map_update_elem(&syscount_counts, key, zero, BPF_NOEXIST);
		rows = bpf_map_lookup_elem(&syscount_counts, key);
	}
	if (!rows || cpu >= config.cpus)
		return NULL;
	return rows + cpu * sizeof(struct hello_row);
}

/* Has the call an element of its own in the array? */
static __always_inline struct hello_timed *timed(struct hello_call call)
{
	if (!(config.watch & HELLO_WATCH_ARRAY) || call.abi != HELLO_ABI_NATIVE ||
	    call.nr >= HELLO_TIMED_MAX)
		return NULL;
	return bpf_map_lookup_elem(&syscount_timed, &call.nr);
}

/* The part of a row that the epoch is written in. */
static __always_inline struct hello_tally *tally_of(struct hello_row *row, u32 epoch)
{
	return &row->by_parity[epoch % 2];
}

/* The program at the exit of the call before was skipped by the kernel. */
static __always_inline void missed(const struct hello_open_call *open, u32 epoch)
{
	struct hello_timed *own = timed(open->call);
	struct hello_row *row = own ? &own->row : row_by_key(&open->key, false);

	if (row)
		tally_of(row, epoch)->gone += open->weight;
}

/* A call begins that will be seen returning. */
static __always_inline void begin(struct hello_ledger *ledger, struct hello_here *here,
				  struct hello_call call, u32 weight)
{
	struct hello_open_call *open = hello_open_call(here, true);
	bool is_last = hello_never_returns(call);
	u32 epoch = syscount_control.epoch;
	struct hello_tally *tally;
	struct hello_timed *own;
	struct hello_row *row;

	if (!open) {
		hello_add(&ledger->lost_map, weight);
		return;
	}
	if (open->phase == HELLO_COUNTED)
		missed(open, epoch);
	open->call = call;
	open->phase = HELLO_UNCOUNTED;
	open->weight = weight;
	own = timed(call);
	if (own) {
		row = &own->row;
	} else {
		__builtin_memset(&open->key, 0, sizeof(open->key));
		hello_key_here(&open->key, here, call);
		if (config.count_by & HELLO_BY_ERRNO)
			open->key.error = HELLO_PENDING;
		row = config.watch & HELLO_WATCH_FAILED ? NULL : row_by_key(&open->key, true);
	}
	if (row) {
		tally = tally_of(row, epoch);
		add_call(&tally->sum, weight);
		tally->gone += is_last ? weight : 0;
		hello_add(&ledger->emitted, weight);
	} else if (config.watch & HELLO_WATCH_FAILED) {
		/* It has not failed yet, and may never. */
		hello_add(&ledger->filtered, weight);
	} else {
		hello_add(&ledger->lost_map, weight);
		return;
	}
	open->phase = is_last ? HELLO_IDLE : HELLO_COUNTED;
	/* As late as can be: what was done above is not the call's time. */
	if (config.watch & HELLO_WATCH_TIMES)
		open->start = config.budget && syscount_control.untimed ? 0 : bpf_ktime_get_ns();
}

/* The ledger to book a call in that is to be counted, as so many; else NULL. */
static __always_inline struct hello_ledger *pick(struct hello_here *here, struct hello_call call,
						 u32 *weight)
{
	if (config.pick && !hello_wanted(call))
		return NULL;
	*weight = weight_of_call();
	return *weight ? hello_begin_as(here, HELLO_THREAD, *weight) : NULL;
}

/* Where calls are counted and nothing else. */
SEC("?raw_tp/sys_enter")
int syscount_raw_tp(struct bpf_raw_tracepoint_args *ctx)
{
	struct hello_here *here = hello_here(ctx->args[0]);
	struct hello_call call = hello_call_of(here, ctx->args[1]);
	struct hello_ledger *ledger;
	struct hello_sum *sum;
	u32 weight;

	ledger = pick(here, call, &weight);
	if (!ledger)
		return 0;
	if (config.count_by == HELLO_BY_SYSCALL && call.nr < HELLO_NR_MAX) {
		u32 index = call.abi * HELLO_NR_MAX + call.nr;

		sum = bpf_map_lookup_elem(&syscount_calls, &index);
	} else {
		struct hello_key key = {};
		struct hello_row *row;

		hello_key_here(&key, here, call);
		row = row_by_key(&key, true);
		sum = row ? &row->by_parity[0].sum : NULL; /* the epoch is 0 */
	}
	if (sum) {
		add_call(sum, weight);
		hello_add(&ledger->emitted, weight);
	} else {
		hello_add(&ledger->lost_map, weight);
	}
	return 0;
}

/* Where exits are watched too. */
SEC("?raw_tp/sys_enter")
int syscount_entry(struct bpf_raw_tracepoint_args *ctx)
{
	struct hello_here *here = hello_here(ctx->args[0]);
	struct hello_call call = hello_call_of(here, ctx->args[1]);
	struct hello_ledger *ledger;
	u32 weight;

	if (!syscount_control.on)
		return 0;
	ledger = pick(here, call, &weight);
	if (ledger)
		begin(ledger, here, call, weight);
	return 0;
}

/* Adds a time to the histogram of a key; one that finds no room is missing, and told. */
static __always_inline void add_to_bucket(const struct hello_key *key, u32 bucket, u32 epoch)
{
	struct hello_bucket_key at = { .key = *key, .bucket = bucket };
	struct hello_bucket_count zero = {}, *count;

	count = bpf_map_lookup_elem(&syscount_buckets, &at);
	if (!count) {
		bpf_map_update_elem(&syscount_buckets, &at, &zero, BPF_NOEXIST);
		count = bpf_map_lookup_elem(&syscount_buckets, &at);
	}
	if (count)
		hello_atomic_inc(&count->by_parity[epoch % 2]);
}

static __always_inline void add_time(struct hello_tally *tally, u64 ns, u32 epoch)
{
	tally->total_ns += ns;
	tally->timed += 1;
	if (tally->epoch != epoch) {
		tally->epoch = epoch;
		tally->max_ns = ns;
	} else if (tally->max_ns < ns) {
		tally->max_ns = ns;
	}
}

/*
 * Where a call that has returned is counted. By error, that is known only now: it is
 * taken from those that are pending. NULL if it is not counted, or has no room.
 */
static __always_inline struct hello_row *settle(struct hello_open_call *open, s32 error,
						u32 epoch)
{
	u32 exits = HELLO_LEDGER_EXITS;
	struct hello_ledger *ledger;
	struct hello_row *row;

	if (!(config.count_by & HELLO_BY_ERRNO))
		return row_by_key(&open->key, false);
	ledger = bpf_map_lookup_elem(&hello_ledger, &exits);
	if (!ledger)
		return NULL;
	if (config.watch & HELLO_WATCH_FAILED) {
		if (!error)
			return NULL;
		ledger->filtered -= open->weight;
	} else {
		row = row_by_key(&open->key, false);
		if (!row)
			return NULL;
		tally_of(row, epoch)->returned += open->weight;
		ledger->emitted -= open->weight;
	}
	open->key.error = error;
	row = row_by_key(&open->key, true);
	if (!row) {
		ledger->lost_map += open->weight;
		return NULL;
	}
	ledger->emitted += open->weight;
	add_call(&tally_of(row, epoch)->sum, open->weight);
	return row;
}

/* A call that was seen beginning has returned. */
static __always_inline void end(struct hello_open_call *open, s32 error)
{
	bool is_timed = config.watch & HELLO_WATCH_TIMES && (!config.budget || open->start);
	u64 ns = is_timed ? bpf_ktime_get_ns() - open->start : 0;
	u32 epoch = syscount_control.epoch; /* once: a call is of one epoch */
	struct hello_timed *own = timed(open->call);
	struct hello_row *row = own ? &own->row : settle(open, error, epoch);
	struct hello_tally *tally;

	if (!row)
		return;
	tally = tally_of(row, epoch);
	if (is_timed) {
		u32 bucket = hello_bucket(ns);

		barrier_var(bucket); /* the verifier wants to see the comparison */
		if (!own)
			add_to_bucket(&open->key, bucket, epoch);
		else if (bucket < HELLO_BUCKETS)
			own->by_parity[epoch % 2].buckets[bucket] += 1;
		add_time(tally, ns, epoch);
	}
	tally->errors += error ? open->weight : 0;
	tally->returned += open->weight;
}

/* A call returns that was not seen beginning: it began before hello did. */
static __always_inline void unmatched(struct pt_regs *regs, s64 ret)
{
	u32 exits = HELLO_LEDGER_EXITS;
	struct hello_ledger *ledger;
	struct hello_call call;

	if (!syscount_control.on || !hello_selected())
		return;
	call = hello_call(hello_number(regs));
	if (config.pick && !hello_wanted(call))
		return;
	if (!ret && hello_is_fork(call))
		return;
	/* Where hello holds COMMAND until all is attached (src/command.rs). */
	if (config.held && call.abi == HELLO_ABI_NATIVE && call.nr == NR_read &&
	    hello_tgid_here(NULL) == config.held)
		return;
	ledger = bpf_map_lookup_elem(&hello_ledger, &exits);
	if (ledger)
		ledger->unmatched += 1;
}

SEC("?raw_tp/sys_exit")
int syscount_exit(struct bpf_raw_tracepoint_args *ctx)
{
	struct pt_regs *regs = (struct pt_regs *)ctx->args[0];
	s64 ret = ctx->args[1];
	struct hello_open_call *open;
	u32 phase;

	/* Now: compilers would do it later, by an address that the verifier refuses. */
	barrier_var(regs);
	barrier_var(ret);
	open = hello_open_call(hello_here((u64)regs), false);
	if (!open || open->phase == HELLO_IDLE) {
		/* Of calls that were left out nothing is known, nor that they were. */
		if (!config.budget || !syscount_control.left_out)
			unmatched(regs, ret);
		return 0;
	}
	phase = open->phase;
	open->phase = HELLO_IDLE;
	if (phase != HELLO_COUNTED)
		return 0;
	ret = hello_result(open->call, ret);
	if (ret < -4095 || ret >= 0 || hello_is_sigreturn(open->call) || hello_is_cut_off(ret))
		ret = 0;
	end(open, -ret);
	return 0;
}

char LICENSE[] SEC("license") = "Dual BSD/GPL";
