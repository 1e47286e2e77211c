/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * Absolute paths from the kernel's own objects, as d_path() makes them: from a file
 * up to the caller's root, across mount points. bpf_d_path() may be called from few
 * functions only, none of which a mode of ours hooks.
 */
#ifndef HELLO_PATH_BPF_H
#define HELLO_PATH_BPF_H

#include "hello.bpf.h"

enum {
	HELLO_PATH_SIZE = PATH_MAX, /* a path grows downward from here */
	HELLO_NAME_SIZE = 256,	    /* one name: NAME_MAX and a byte */
	/* Nearly squared: names of one letter, and mount points, on the way up. */
	HELLO_PATH_STEPS = 50,
	HELLO_PATH_FEW = 6,
};

/* What to know about a path besides its text. */
enum hello_path_flags {
	HELLO_PATH_DELETED = 1, /* the name is gone from its folder */
	HELLO_PATH_OUTSIDE = 2, /* not below the caller's root: memfd, pipe, other root */
	HELLO_PATH_CUT = 4,	/* its begin is missing: no room, or a name changed meanwhile */
	HELLO_GIVEN_CUT = 8,	/* longer than a path can be: the end of the given one is missing */
	HELLO_PATH_UNDECIDED = 16, /* file: is it below a --path or --exclude-path? perhaps */
};

/* Room around a path, for a mode that makes its record there; set before this is included. */
#ifndef HELLO_PATH_BEFORE
#define HELLO_PATH_BEFORE 8 /* a name is copied by words of which the first begins before it */
#define HELLO_PATH_AFTER HELLO_NAME_SIZE /* as much wants the verifier */
#endif

/* A path on its way up. Each slot that a mode makes its records in has one. */
struct hello_path_walk {
	struct dentry *from;   /* where it began */
	struct dentry *dentry; /* where it is */
	struct vfsmount *mnt;
	struct dentry *top;  /* the root of mnt */
	struct dentry *root; /* where it ends: the caller's root */
	struct vfsmount *root_mnt;
	u8 around[96]; /* what was read of dentry */
	u32 at;	       /* where the text begins by now, after HELLO_PATH_BEFORE */
	u32 flags;
	u8 text[HELLO_PATH_BEFORE + HELLO_PATH_SIZE + HELLO_PATH_AFTER];
};

/* That of a slot; each mode has its own slots. */
static __always_inline struct hello_path_walk *hello_walk_of(u32 slot);

/* What a step needs of a dentry. */
struct hello_dentry {
	struct dentry *parent;
	const u8 *name;
	u32 len;
	bool is_unhashed;
	bool is_around; /* walk->around has it */
};

/*
 * In one piece where the fields lie side by side, and with it short names, which lie in
 * the dentry too: a helper's call costs more than what it does. They may lie anywhere where
 * the kernel was built with its structs' layout at random.
 */
static __always_inline struct hello_dentry hello_dentry(struct hello_path_walk *walk)
{
	struct dentry *dentry = walk->dentry;
	u32 first = bpf_core_field_offset(dentry->d_hash);
	u32 parent = bpf_core_field_offset(dentry->d_parent) - first;
	u32 name = bpf_core_field_offset(dentry->d_name) - first;
	u32 last = sizeof(walk->around) - bpf_core_type_size(struct qstr);
	struct hello_dentry seen = {};

	if (parent <= last && name <= last &&
	    bpf_core_type_size(struct dentry) >= first + sizeof(walk->around)) {
		struct hlist_bl_node *hash = (void *)walk->around;
		struct qstr *text = (void *)walk->around + name;

		if (bpf_probe_read_kernel(walk->around, sizeof(walk->around), (void *)dentry + first))
			return seen;
		seen.parent = *(struct dentry **)(walk->around + parent);
		seen.name = text->name;
		seen.len = text->len;
		seen.is_unhashed = !hash->pprev;
		seen.is_around = true;
	} else {
		seen.parent = BPF_CORE_READ(dentry, d_parent);
		seen.name = BPF_CORE_READ(dentry, d_name.name);
		seen.len = BPF_CORE_READ(dentry, d_name.len);
		seen.is_unhashed = !BPF_CORE_READ(dentry, d_hash.pprev);
	}
	return seen;
}

/* d_unlinked(): in no hash any more, and no root. */
static __always_inline void hello_look_if_deleted(struct hello_path_walk *walk,
						  const struct hello_dentry *seen)
{
	if (seen->is_unhashed && seen->parent != walk->dentry)
		walk->flags |= HELLO_PATH_DELETED;
}

/*
 * Copies a name of the walk's dentry to `at`. What stands before that comes later. False if
 * it does not end where it should: it was changed while it was looked at.
 */
static __always_inline bool hello_copy_name(struct hello_path_walk *walk,
					    const struct hello_dentry *seen, u32 at)
{
	struct dentry *dentry = walk->dentry;
	u64 inside = (u64)seen->name - (u64)dentry - bpf_core_field_offset(dentry->d_hash);
	u32 i, from, to;
	u64 word, bytes, in_last, zeros = 0;
	u8 end = 1;

	if (!seen->is_around || inside < 8 || inside + seen->len >= sizeof(walk->around)) {
		if (bpf_probe_read_kernel(walk->text + HELLO_PATH_BEFORE + at,
					  seen->len & (HELLO_NAME_SIZE - 1), seen->name))
			return false;
		return !bpf_probe_read_kernel(&end, 1, seen->name + seen->len) && !end;
	}
	from = inside + seen->len;
	if (from >= sizeof(walk->around) || walk->around[from])
		return false;
	/* Words, the last one first. */
	for (i = 0; i < sizeof(walk->around) && i < seen->len; i += 8) {
		from = inside + seen->len - 8 - i;
		to = HELLO_PATH_BEFORE + at + seen->len - 8 - i;
		if (from > sizeof(walk->around) - 8 || to > HELLO_PATH_BEFORE + HELLO_PATH_SIZE)
			break; /* never: for the verifier */
		word = *(u64 *)(walk->around + from);
		*(u64 *)(walk->text + to) = word;
		/*
		 * Has it a NUL, a shorter name's end? What stands before the name, in the
		 * last word, does not count. No branch: the verifier would look at each way.
		 */
		bytes = seen->len - i;
		in_last = (bytes - 8) >> 63;
		barrier_var(in_last);
		word |= ((1ULL << ((64 - 8 * bytes) & 63)) - 1) & (0 - in_last);
		zeros |= (word - 0x0101010101010101ULL) & ~word & 0x8080808080808080ULL;
	}
	return !zeros;
}

/*
 * One step up, to the folder or across a mount point; 0 when there is none left.
 *
 * A global function: the verifier looks at it once, on its own, and not again for each
 * step and for each way by which a program may come here.
 */
__noinline int hello_path_step(u32 slot)
{
	struct hello_path_walk *walk = hello_walk_of(slot);
	struct hello_dentry seen;
	struct dentry *dentry;
	struct vfsmount *mnt;
	u32 len, at;

	if (!walk)
		return 0;
	dentry = walk->dentry;
	mnt = walk->mnt;
	if (dentry == walk->from && (dentry == walk->root || dentry == walk->top)) {
		seen = hello_dentry(walk);
		hello_look_if_deleted(walk, &seen);
	}
	if (dentry == walk->root && mnt == walk->root_mnt)
		return 0;
	if (dentry == walk->top) {
		struct mount *mount = (void *)mnt - bpf_core_field_offset(struct mount, mnt);
		struct mount *above = BPF_CORE_READ(mount, mnt_parent);

		if (above == mount) {
			walk->flags |= HELLO_PATH_OUTSIDE;
			return 0;
		}
		walk->dentry = BPF_CORE_READ(mount, mnt_mountpoint);
		mnt = (void *)above + bpf_core_field_offset(struct mount, mnt);
		walk->top = BPF_CORE_READ(mnt, mnt_root);
		walk->mnt = mnt;
		return 1;
	}
	seen = hello_dentry(walk);
	len = seen.len;
	at = walk->at;
	if (len >= HELLO_NAME_SIZE || len + 1 > at) {
		walk->flags |= HELLO_PATH_CUT;
		return 0;
	}
	if (len == 0) { /* a pipe, a namespace */
		walk->flags |= HELLO_PATH_OUTSIDE;
		return 0;
	}
	at = (at - len - 1) & (HELLO_PATH_SIZE - 1);
	if (!hello_copy_name(walk, &seen, at + 1)) {
		walk->flags |= HELLO_PATH_CUT;
		return 0;
	}
	walk->text[HELLO_PATH_BEFORE + at] = '/';
	if (dentry == walk->from)
		hello_look_if_deleted(walk, &seen);
	walk->at = at;
	walk->dentry = seen.parent;
	if (dentry != seen.parent)
		return 1;
	/* In no folder: memfd:NAME. */
	walk->flags |= HELLO_PATH_OUTSIDE;
	return 0;
}

/* Many steps; 0 when there is none left. In two loops, for the verifier walks each. */
__noinline int hello_path_steps(u32 slot)
{
	u32 i;

	for (i = 0; i < HELLO_PATH_STEPS; i++)
		if (!hello_path_step(slot))
			return 0;
	return 1;
}

/*
 * Makes the path of `from`, a struct path of the kernel, as the running task sees it, in a
 * slot's walk, so that it ends at text[HELLO_PATH_BEFORE + HELLO_PATH_SIZE]. Returns where it
 * begins, of HELLO_PATH_SIZE: there, for the root itself.
 */
static __always_inline u32 hello_path(struct hello_here *here, u32 slot, const struct path *from,
				      u32 *flags)
{
	struct task_struct *task = hello_task_of(here);
	struct hello_path_walk *walk = hello_walk_of(slot);
	struct path path = {};
	struct vfsmount *mnt, *root_mnt;
	u64 known;
	u32 at, i;

	if (!walk || !task)
		return HELLO_PATH_SIZE;
	bpf_probe_read_kernel(&path, sizeof(path), from);
	mnt = path.mnt;
	walk->from = path.dentry;
	walk->dentry = path.dentry;
	walk->mnt = mnt;
	walk->root = HELLO_READ_OF(here, task, fs, root.dentry);
	root_mnt = HELLO_READ_OF(here, task, fs, root.mnt);
	walk->root_mnt = root_mnt;
	/* Compared as a number, lest the compiler load by the equal `mnt`, which is one. */
	known = (u64)root_mnt;
	barrier_var(known);
	if (here && (u64)mnt == known)
		walk->top = root_mnt->mnt_root;
	else
		walk->top = BPF_CORE_READ(mnt, mnt_root);
	walk->at = HELLO_PATH_SIZE;
	walk->flags = 0;
	/* The first few by themselves: a call more costs as much as a step. */
	for (i = 0; i < HELLO_PATH_STEPS; i++)
		if (!(i < HELLO_PATH_FEW ? hello_path_step(slot) : hello_path_steps(slot)))
			break;
	if (i == HELLO_PATH_STEPS)
		walk->flags |= HELLO_PATH_CUT;
	*flags |= walk->flags;
	at = walk->at;
	return at < HELLO_PATH_SIZE ? at : HELLO_PATH_SIZE;
}

#endif /* HELLO_PATH_BPF_H */
