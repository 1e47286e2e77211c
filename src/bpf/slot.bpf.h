/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * Room for a record that is too large for a program's stack: slots of an array that a
 * program claims, and gives back before it ends. Not memory of each CPU: where programs
 * can be preempted, another may begin a record on the same CPU meanwhile.
 */
#ifndef HELLO_SLOT_BPF_H
#define HELLO_SLOT_BPF_H

#include "hello.bpf.h"

enum {
	HELLO_SLOTS = 64,
};

/*
 * Who tries a slot: several CPUs; or, as long as nothing preempts programs, its own CPU
 * alone, which then tries no other.
 */
enum hello_slots_of {
	HELLO_OF_ALL,
	HELLO_OF_CPU,
};

static __always_inline void hello_claims_add(u64 *claims, u64 number, enum hello_slots_of whose)
{
	if (whose == HELLO_OF_CPU)
		hello_add(claims, number);
	else
		hello_atomic_add(claims, number);
}

/*
 * `claims` is a field of each slot; 1: somebody's. Who finds 1 after adding 1 has it; of
 * two at the same time, both may find 2, and go without. Kernels before 5.12 have no
 * atomic that returns what it found.
 */
static __always_inline bool hello_claim(u64 *claims, enum hello_slots_of whose)
{
	hello_claims_add(claims, 1, whose);
	if (*(volatile u64 *)claims == 1)
		return true;
	hello_claims_add(claims, -1, whose);
	return false;
}

static __always_inline void hello_unclaim(u64 *claims, enum hello_slots_of whose)
{
	hello_claims_add(claims, -1, whose);
}

#endif /* HELLO_SLOT_BPF_H */
