/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* --path and --exclude-path: is an open wanted, by its path? A part of file.bpf.c. */
#ifndef HELLO_FILE_PREFIX_BPF_H
#define HELLO_FILE_PREFIX_BPF_H

#include "file.bpf.h"

enum {
	FILE_PREFIXES = 8,
	FILE_PREFIX_SIZE = 256,
};

/* A path that is wanted (--path), or not (--exclude-path): what lies below it. */
struct hello_file_prefix {
	u8 text[FILE_PREFIX_SIZE];
	u32 len;
	u32 excluded;
};

struct hello_file_prefixes {
	struct hello_file_prefix prefix[FILE_PREFIXES];
	u32 count;
	u32 wanted; /* how many of them are */
};

HELLO_EXPORT(hello_file_prefixes);

const volatile struct hello_file_prefixes prefixes SEC(".rodata.file") = {};

enum file_match {
	FILE_MATCH_GOES_ON,
	FILE_MATCH_YES,
	FILE_MATCH_NO,
	FILE_MATCH_PERHAPS, /* a path as given, with more slashes and dots than there are steps */
};

/*
 * Compares one byte of a slot's path with a prefix. Doubled slashes and dots that a path
 * as asked for may have are passed over. A global function, as hello_path_step() is.
 */
__noinline int file_match_step(u32 index, u32 k, u32 i)
{
	struct file_slot *slot = bpf_map_lookup_elem(&file_slots, &index);
	u32 start, end, matched;
	u8 here, next, after;

	if (!slot || k >= FILE_PREFIXES)
		return FILE_MATCH_NO;
	start = HELLO_PATH_BEFORE + slot->at + slot->event.path_at + i;
	end = slot->event.path_len;
	matched = slot->matched;
	if (i >= end)
		return matched >= prefixes.prefix[k].len ? FILE_MATCH_YES : FILE_MATCH_NO;
	here = slot->walk.text[start & 8191];
	next = i + 1 < end ? slot->walk.text[(start + 1) & 8191] : 0;
	after = i + 2 < end ? slot->walk.text[(start + 2) & 8191] : '/';
	if (slot->skip) {
		slot->skip = 0;
		return FILE_MATCH_GOES_ON;
	}
	if (here == '/' && next == '/')
		return FILE_MATCH_GOES_ON;
	if (here == '/' && next == '.' && after == '/') {
		slot->skip = 1;
		return FILE_MATCH_GOES_ON;
	}
	if (matched >= prefixes.prefix[k].len)
		return here == '/' ? FILE_MATCH_YES : FILE_MATCH_NO;
	if (here != prefixes.prefix[k].text[matched & (FILE_PREFIX_SIZE - 1)])
		return FILE_MATCH_NO;
	slot->matched = matched + 1;
	return FILE_MATCH_GOES_ON;
}

/* Does the path lie below the prefix? */
static __always_inline int file_below(struct file_slot *slot, u32 k)
{
	u32 i, index = slot->index;
	int match;

	slot->matched = 0;
	slot->skip = 0;
	for (i = 0; i < 2 * FILE_PREFIX_SIZE; i++) {
		match = file_match_step(index, k, i);
		if (match != FILE_MATCH_GOES_ON)
			return match;
	}
	return FILE_MATCH_PERHAPS;
}

/*
 * By --path and --exclude-path. A path that is not known, or does not lie below the
 * caller's root, is below nothing. One whose beginning is missing may lie anywhere, and
 * passes. What cannot be decided here passes too, and user space decides.
 */
static __always_inline bool path_wanted(struct file_slot *slot)
{
	bool wanted = !prefixes.wanted;
	int match;
	u32 k;

	if (!slot->event.path_known || slot->event.path_flags & HELLO_PATH_OUTSIDE)
		return wanted;
	if (slot->event.path_flags & HELLO_PATH_CUT)
		return true;
	for (k = 0; k < FILE_PREFIXES && k < prefixes.count; k++) {
		match = file_below(slot, k);
		if (match == FILE_MATCH_PERHAPS)
			slot->event.path_flags |= HELLO_PATH_UNDECIDED;
		if (match != FILE_MATCH_YES)
			continue;
		if (prefixes.prefix[k].excluded)
			return false;
		wanted = true;
	}
	return wanted || slot->event.path_flags & HELLO_PATH_UNDECIDED;
}

#endif /* HELLO_FILE_PREFIX_BPF_H */
