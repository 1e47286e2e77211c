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
	HELLO_PATH_DEPTH = 160,	    /* names and mount points on the way up */
};

/* What to know about a path besides its text. */
enum hello_path_flags {
	HELLO_PATH_DELETED = 1, /* the name is gone from its folder */
	HELLO_PATH_OUTSIDE = 2, /* not below the caller's root: memfd, pipe, other root */
	HELLO_PATH_CUT = 4,	/* deeper or longer than there is room: its begin is missing */
	HELLO_GIVEN_CUT = 8,	/* longer than a path can be: the end of the given one is missing */
};

/*
 * Writes the path of `from`, a struct path of the kernel, so that it ends just before
 * text[HELLO_PATH_SIZE], and returns where it begins: there, for the root itself.
 * `text` has HELLO_NAME_SIZE bytes more, which only the verifier asks for.
 */
static __noinline u32 hello_path(u8 *text, const struct path *from, u32 *flags)
{
	struct task_struct *task = (void *)bpf_get_current_task();
	struct dentry *root = BPF_CORE_READ(task, fs, root.dentry);
	struct vfsmount *root_mnt = BPF_CORE_READ(task, fs, root.mnt);
	struct dentry *dentry = BPF_CORE_READ(from, dentry);
	struct vfsmount *mnt = BPF_CORE_READ(from, mnt);
	u32 at = HELLO_PATH_SIZE, i;

	/* d_unlinked(): in no hash any more, and no root. */
	if (!BPF_CORE_READ(dentry, d_hash.pprev) && BPF_CORE_READ(dentry, d_parent) != dentry)
		*flags |= HELLO_PATH_DELETED;
	for (i = 0; i < HELLO_PATH_DEPTH; i++) {
		struct dentry *parent = BPF_CORE_READ(dentry, d_parent);
		u32 len;

		if (dentry == root && mnt == root_mnt)
			return at;
		if (dentry == BPF_CORE_READ(mnt, mnt_root)) {
			struct mount *mount =
				(void *)mnt - bpf_core_field_offset(struct mount, mnt);
			struct mount *above = BPF_CORE_READ(mount, mnt_parent);

			if (above == mount)
				break;
			dentry = BPF_CORE_READ(mount, mnt_mountpoint);
			mnt = (void *)above + bpf_core_field_offset(struct mount, mnt);
			continue;
		}
		if (dentry == parent)
			break;
		len = BPF_CORE_READ(dentry, d_name.len);
		if (len >= HELLO_NAME_SIZE || len + 1 > at) {
			*flags |= HELLO_PATH_CUT;
			return at;
		}
		at = (at - len - 1) & (HELLO_PATH_SIZE - 1);
		text[at] = '/';
		bpf_probe_read_kernel(text + at + 1, len & (HELLO_NAME_SIZE - 1),
				      BPF_CORE_READ(dentry, d_name.name));
		dentry = parent;
	}
	*flags |= i < HELLO_PATH_DEPTH ? HELLO_PATH_OUTSIDE : HELLO_PATH_CUT;
	return at;
}

#endif /* HELLO_PATH_BPF_H */
