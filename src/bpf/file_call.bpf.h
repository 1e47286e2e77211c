/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* Which system calls open, and what they were given. Part of file.bpf.h. */
#ifndef HELLO_FILE_CALL_BPF_H
#define HELLO_FILE_CALL_BPF_H

#include "hello.bpf.h"

#define AT_FDCWD -100
#define O_CREAT_WRONLY_TRUNC 01101 /* what creat(2) stands for, all ABIs here */

enum hello_open_via {
	HELLO_VIA_NONE = 0,
	HELLO_VIA_OPEN = 1,
	HELLO_VIA_OPENAT = 2,
	HELLO_VIA_OPENAT2 = 3,
	HELLO_VIA_CREAT = 4,
	HELLO_VIA_NAME_TO_HANDLE_AT = 5,
	HELLO_VIA_OPEN_BY_HANDLE_AT = 6,
	HELLO_VIA_IO_URING = 7,
};

/* An open as its caller asked for it. */
struct open_args {
	u64 path; /* user addresses */
	u64 flags;
	u64 mode;
	u64 resolve;
	u32 via;
	s32 dfd;
	u64 how;
};

enum {
	FILE_NUMBERS = 512, /* of calls lie below */
};

/* What a number stands for in the 64-bit and in the 32-bit table: enum hello_open_via. */
struct file_vias {
	u8 native;
	u8 compat;
};

/*
 * Which calls open. Looked up and not told by branches: the verifier would look at all that
 * follows once for each.
 */
const volatile struct file_vias file_vias[FILE_NUMBERS] SEC(".rodata.vias") = {
#ifdef NR_open /* newer architectures have openat only */
	[NR_open].native = HELLO_VIA_OPEN,
	[NR_creat].native = HELLO_VIA_CREAT,
#endif
	[NR_openat].native = HELLO_VIA_OPENAT,
	[NR_openat2].native = HELLO_VIA_OPENAT2,
	[NR_name_to_handle_at].native = HELLO_VIA_NAME_TO_HANDLE_AT,
	[NR_open_by_handle_at].native = HELLO_VIA_OPEN_BY_HANDLE_AT,
	[COMPAT_NR_open].compat = HELLO_VIA_OPEN,
	[COMPAT_NR_creat].compat = HELLO_VIA_CREAT,
	[COMPAT_NR_openat].compat = HELLO_VIA_OPENAT,
	[COMPAT_NR_openat2].compat = HELLO_VIA_OPENAT2,
	[COMPAT_NR_name_to_handle_at].compat = HELLO_VIA_NAME_TO_HANDLE_AT,
	[COMPAT_NR_open_by_handle_at].compat = HELLO_VIA_OPEN_BY_HANDLE_AT,
};

/*
 * By what the running task opens with a call of that number, and which call it is; a call
 * whose number opens in neither table is done with before anybody asks which table it is of.
 */
static __always_inline u32 via_of(struct hello_here *here, u64 number, struct hello_call *call)
{
	u64 index = (u32)number & ~HELLO_X32_BIT;

	barrier_var(index); /* the verifier wants to see the comparison */
	if (index >= FILE_NUMBERS || !(file_vias[index].native | file_vias[index].compat))
		return HELLO_VIA_NONE;
	*call = hello_call_of(here, number);
	/* Only in x32 the bit is none of the number's. */
	index = call->nr;
	barrier_var(index);
	if (index >= FILE_NUMBERS)
		return HELLO_VIA_NONE;
	return call->abi == HELLO_ABI_COMPAT ? file_vias[index].compat : file_vias[index].native;
}

/* Sorts a call's first five arguments by what they mean to this call. */
static __always_inline struct open_args open_args(u32 via, u64 a, u64 b, u64 c, u64 d, u64 e)
{
	struct open_args args = { .via = via, .dfd = AT_FDCWD };

	switch (via) {
	case HELLO_VIA_OPEN:
		args.path = a;
		args.flags = (u32)b;
		args.mode = (u32)c;
		break;
	case HELLO_VIA_CREAT:
		args.path = a;
		args.flags = O_CREAT_WRONLY_TRUNC;
		args.mode = (u32)b;
		break;
	case HELLO_VIA_OPENAT:
		args.dfd = a;
		args.path = b;
		args.flags = (u32)c;
		args.mode = (u32)d;
		break;
	case HELLO_VIA_OPENAT2:
		args.dfd = a;
		args.path = b;
		args.how = c;
		break;
	case HELLO_VIA_NAME_TO_HANDLE_AT:
		args.dfd = a;
		args.path = b;
		args.flags = (u32)e;
		break;
	case HELLO_VIA_OPEN_BY_HANDLE_AT:
		args.dfd = a;
		args.flags = (u32)c;
		break;
	}
	return args;
}

/* The same from the caller's registers, which a call leaves as they were. */
static __always_inline struct open_args args_of(struct hello_here *here, struct pt_regs *regs,
						struct hello_call call, u32 via)
{
	struct pt_regs *own = here ? here->regs : NULL;
	struct open_args args;

#define ARGUMENT(name) (own ? own->name : BPF_CORE_READ(regs, name))
#if defined(__TARGET_ARCH_x86)
	if (call.abi == HELLO_ABI_COMPAT)
		args = open_args(via, (u32)ARGUMENT(bx), (u32)ARGUMENT(cx), (u32)ARGUMENT(dx),
				 (u32)ARGUMENT(si), (u32)ARGUMENT(di));
	else
		args = open_args(via, ARGUMENT(di), ARGUMENT(si), ARGUMENT(dx), ARGUMENT(r10),
				 ARGUMENT(r8));
#elif defined(__TARGET_ARCH_arm64)
	/* regs[0] holds the result by now. */
	args = open_args(via, ARGUMENT(orig_x0), ARGUMENT(regs[1]), ARGUMENT(regs[2]),
			 ARGUMENT(regs[3]), ARGUMENT(regs[4]));
#endif
#undef ARGUMENT
	return args;
}

#endif /* HELLO_FILE_CALL_BPF_H */
