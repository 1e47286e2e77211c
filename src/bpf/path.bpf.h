/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * Absolute paths from the kernel's own objects, as d_path() makes them: from a file
 * up to the caller's root, across mount points. bpf_d_path() may be called from few
 * functions only, none of which a mode of ours hooks.
 */
#ifndef HELLO_PATH_BPF_H
#define HELLO_PATH_BPF_H

#include "slot.bpf.h"

enum {
	HELLO_PATH_SIZE = PATH_MAX, /* a path grows downward from here */
	HELLO_NAME_SIZE = 256,	    /* one name: NAME_MAX and a byte */
	/* Squared: names of one letter, and mount points, on the way up. */
	HELLO_PATH_STEPS = 46,
};

/* What to know about a path besides its text. */
enum hello_path_flags {
	HELLO_PATH_DELETED = 1, /* the name is gone from its folder */
	HELLO_PATH_OUTSIDE = 2, /* not below the caller's root: memfd, pipe, other root */
	HELLO_PATH_CUT = 4,	/* deeper or longer than there is room: its begin is missing */
	HELLO_GIVEN_CUT = 8,	/* longer than a path can be: the end of the given one is missing */
	HELLO_PATH_UNDECIDED = 16, /* file: is it below a --path or --exclude-path? perhaps */
};

/* A path on its way up. */
struct hello_path_walk {
	struct dentry *dentry; /* where it is */
	struct vfsmount *mnt;
	struct dentry *top;   /* the root of mnt */
	struct dentry *root;  /* where it ends: the caller's root */
	struct vfsmount *root_mnt;
	u8 dentry_bytes[64];  /* as much of dentry as is looked at */
	u32 at; /* where the text begins by now */
	u32 flags;
	u8 text[HELLO_PATH_SIZE + HELLO_NAME_SIZE]; /* the verifier wants the latter */
};

/* One for each slot that a mode makes its records in; slot.bpf.h. */
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, HELLO_SLOTS);
	__type(key, u32);
	__type(value, struct hello_path_walk);
} hello_paths SEC(".maps");

/* What a step needs of a dentry. */
struct hello_dentry {
	struct dentry *parent;
	const u8 *name;
	u32 len;
};

/*
 * In one piece where the fields lie side by side: a helper's call costs more than what it
 * does. They may lie anywhere where the kernel was built with its structs' layout at
 * random.
 */
static __always_inline struct hello_dentry hello_dentry(struct hello_path_walk *walk)
{
	struct dentry *dentry = walk->dentry;
	u32 parent = bpf_core_field_offset(dentry->d_parent);
	u32 name = bpf_core_field_offset(dentry->d_name);
	u32 size = name + bpf_core_type_size(struct qstr) - parent;
	struct hello_dentry seen = {};

	if (parent < name && size <= sizeof(walk->dentry_bytes)) {
		struct qstr *text = (void *)walk->dentry_bytes + name - parent;

		if (bpf_probe_read_kernel(walk->dentry_bytes, size, (void *)dentry + parent))
			return seen;
		seen.parent = *(struct dentry **)walk->dentry_bytes;
		seen.name = text->name;
		seen.len = text->len;
	} else {
		seen.parent = BPF_CORE_READ(dentry, d_parent);
		seen.name = BPF_CORE_READ(dentry, d_name.name);
		seen.len = BPF_CORE_READ(dentry, d_name.len);
	}
	return seen;
}

/*
 * One step up, to the folder or across a mount point; 0 when there is none left.
 *
 * A global function: the verifier looks at it once, on its own, and not again for each
 * step and for each way by which a program may come here.
 */
__noinline int hello_path_step(u32 slot)
{
	struct hello_path_walk *walk = bpf_map_lookup_elem(&hello_paths, &slot);
	struct hello_dentry seen;
	struct dentry *dentry;
	struct vfsmount *mnt;
	u32 len, at;

	if (!walk)
		return 0;
	dentry = walk->dentry;
	mnt = walk->mnt;
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
	walk->text[at] = '/';
	bpf_probe_read_kernel(walk->text + at + 1, len & (HELLO_NAME_SIZE - 1),
			      seen.name);
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
 * Puts the path of `from`, a struct path of the kernel, as the running task
 * sees it, into `text` so that it ends at
 * text[HELLO_PATH_SIZE], which has HELLO_NAME_SIZE bytes more. Returns where it begins:
 * there, for the root itself.
 */
static __always_inline u32 hello_path(struct hello_here *here, u8 *text, u32 slot,
				      const struct path *from, u32 *flags)
{
	struct hello_path_walk *walk = bpf_map_lookup_elem(&hello_paths, &slot);
	struct task_struct *task = hello_task_of(here);
	struct fs_struct *fs = task ? HELLO_READ_OF(here, task, fs) : NULL;
	struct path path = {};
	struct dentry *dentry;
	struct vfsmount *mnt;
	u32 at, i;

	if (!walk || !fs)
		return HELLO_PATH_SIZE;
	bpf_probe_read_kernel(&path, sizeof(path), from);
	dentry = path.dentry;
	mnt = path.mnt;
	walk->dentry = dentry;
	walk->mnt = mnt;
	walk->top = BPF_CORE_READ(mnt, mnt_root);
	walk->root = HELLO_READ_OF(here, fs, root.dentry);
	walk->root_mnt = HELLO_READ_OF(here, fs, root.mnt);
	walk->at = HELLO_PATH_SIZE;
	walk->flags = 0;
	/* d_unlinked(): in no hash any more, and no root. */
	if (!BPF_CORE_READ(dentry, d_hash.pprev) && BPF_CORE_READ(dentry, d_parent) != dentry)
		walk->flags = HELLO_PATH_DELETED;
	for (i = 0; i < HELLO_PATH_STEPS; i++)
		if (!hello_path_steps(slot))
			break;
	if (i == HELLO_PATH_STEPS)
		walk->flags |= HELLO_PATH_CUT;
	*flags |= walk->flags;
	at = walk->at;
	if (at >= HELLO_PATH_SIZE)
		return HELLO_PATH_SIZE;
	bpf_probe_read_kernel(text + at, HELLO_PATH_SIZE - at, walk->text + at);
	return at;
}

#endif /* HELLO_PATH_BPF_H */
