/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * Containers, told by the names of control groups, without asking a runtime:
 *
 *	/docker/ID, /kubepods/…/ID			   cgroupfs
 *	docker-ID.scope, cri-containerd-ID.scope,	   systemd
 *	crio-ID.scope, libpod-ID.scope
 *
 * An ID is 64 hexadecimal digits. The names are read here and not by user space,
 * which would find the group of a short-lived container gone. Part of hello.bpf.h.
 */
#ifndef HELLO_CONTAINER_BPF_H
#define HELLO_CONTAINER_BPF_H

enum {
	HELLO_ID_DIGITS = 64,
	HELLO_ID_BYTES = HELLO_ID_DIGITS / 2,
	HELLO_ID_WORDS = HELLO_ID_DIGITS / sizeof(u64),
	HELLO_CGROUP_DEPTH = 16, /* groups looked at, from the process's own upward */
};

struct hello_container_id {
	union {
		u8 bytes[HELLO_ID_BYTES];
		u32 words[HELLO_ID_WORDS];
		u64 begin;
	};
};

/* A control group in one hierarchy; version 2's is number 0. */
struct hello_cgroup_key {
	u64 id;
	u64 hierarchy;
};

/* What is known of a control group: looked up once. */
struct hello_cgroup_facts {
	u64 container; /* as in hello_task */
	u64 selected;  /* it is the one that --container names */
};

struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__uint(max_entries, 4096);
	__type(key, struct hello_cgroup_key);
	__type(value, struct hello_cgroup_facts);
} hello_cgroups SEC(".maps");

/* The whole id, by its beginning as in hello_task: for user space to print. */
struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__uint(max_entries, 4096);
	__type(key, u64);
	__type(value, struct hello_container_id);
} hello_container_ids SEC(".maps");

/* In each byte of a word. */
#define HELLO_EACH_BYTE(byte) ((byte) * 0x0101010101010101ULL)

/*
 * Not 0 if one of eight characters is no lower-case hexadecimal digit. All at once, as in
 * hello_hex: byte by byte the verifier would take a millisecond for it in each program.
 */
static __always_inline u64 hello_not_hex(u64 text)
{
	/* The highest bit of a byte is set from the character on, if it is ASCII. */
#define HELLO_FROM(character) (text + HELLO_EACH_BYTE(0x80 - (character)))
	u64 digit = HELLO_FROM('0') & ~HELLO_FROM('9' + 1);
	u64 letter = HELLO_FROM('a') & ~HELLO_FROM('f' + 1);
#undef HELLO_FROM

	return (text | ~(digit | letter)) & HELLO_EACH_BYTE(0x80);
}

/* The number that eight hexadecimal digits are. */
static __always_inline u32 hello_hex(u64 text)
{
	/* Letters have bit 6 set, and end in 1 to 6. */
	u64 digits = (text & HELLO_EACH_BYTE(0x0f)) + 9 * (text >> 6 & HELLO_EACH_BYTE(0x01));

	digits = __builtin_bswap64(digits); /* the first is the highest */
	digits = (digits | digits >> 4) & 0x00ff00ff00ff00ffULL;
	digits = (digits | digits >> 8) & 0x0000ffff0000ffffULL;
	return digits | digits >> 16;
}

/*
 * Where in a group's name, a string of the kernel, an id begins, counted from 1: at its
 * begin, or after a hyphen; 0: it has none.
 *
 * A global function, as are those below: the verifier looks at it once, on its own, and
 * not again on each way by which a program may come here. Before Linux 6.8 it does so
 * even if nothing comes here: hence the first question.
 */
__noinline int hello_id_in_name(u64 name)
{
	/* The longest is cri-containerd-ID.scope. Linux 5.10 wants stacks to be small. */
	u64 text[11], bad = 0;
	u8 before[7] = {}, scope = 0;
	u32 i;
	long len;

	if (!config.containers)
		return 0;
	len = bpf_probe_read_kernel_str(text, sizeof(text), (void *)name) - 1;
	if (len < HELLO_ID_DIGITS)
		return 0;
	bpf_probe_read_kernel(&scope, 1, (void *)name + len - 6);
	if (scope == '.') /* .scope */
		len -= 6;
	if (len < HELLO_ID_DIGITS)
		return 0;
	len -= HELLO_ID_DIGITS;
	if (len >= 7)
		bpf_probe_read_kernel(before, 7, (void *)name + len - 7);
	else if (len > 0)
		bpf_probe_read_kernel(&before[6], 1, (void *)name + len - 1);
	if (len > 0 && before[6] != '-')
		return 0;
	/* libpod-conmon-ID.scope: podman's monitor, which is outside the container. */
	if (before[0] == 'c' && before[3] == 'm' && before[5] == 'n')
		return 0;
	if (bpf_probe_read_kernel(text, HELLO_ID_DIGITS, (void *)name + len))
		return 0;
#pragma clang loop unroll(disable) /* its words would be spilled */
	for (i = 0; i < HELLO_ID_WORDS; i++)
		bad |= hello_not_hex(text[i]);
	return bad ? 0 : len + 1;
}

/*
 * Where, in the name of a group or of one above it, an id begins: an address in the
 * kernel, 0 if none does. A global function too.
 */
__noinline u64 hello_id_above(u64 group)
{
	struct cgroup *cgroup = (void *)group;
	u32 i;

	if (!config.containers)
		return 0;
	for (i = 0; i < HELLO_CGROUP_DEPTH && cgroup; i++) {
		u64 name = (u64)BPF_CORE_READ(cgroup, kn, name);
		int at = hello_id_in_name(name);

		if (at)
			return name + at - 1;
		/* A group begins with its own state, and so does the one above it. */
		cgroup = (void *)BPF_CORE_READ(cgroup, self.parent);
	}
	return 0;
}

/*
 * Keeps in hello_cgroups that a group belongs to the container with those digits, or, if
 * they are nowhere, to none. A global function too.
 */
__noinline int hello_keep_container(u64 group_id, u64 hierarchy, u64 digits_at)
{
	struct hello_cgroup_key key = { .id = group_id, .hierarchy = hierarchy };
	struct hello_cgroup_facts facts = {};
	struct hello_container_id id = {};
	u64 words[HELLO_ID_WORDS];
	u8 differs = 0;
	u32 i;

	if (!config.containers)
		return 0;
	if (digits_at) {
		if (bpf_probe_read_kernel(words, sizeof(words), (void *)digits_at))
			return 0;
		for (i = 0; i < HELLO_ID_WORDS; i++)
			id.words[i] = __builtin_bswap32(hello_hex(words[i]));
		for (i = 0; i < HELLO_ID_BYTES; i++)
			differs |= (id.bytes[i] ^ config.container[i]) & config.container_mask[i];
		facts.container = __builtin_bswap64(id.begin);
		facts.selected = !differs;
		bpf_map_update_elem(&hello_container_ids, &facts.container, &id, BPF_ANY);
	}
	bpf_map_update_elem(&hello_cgroups, &key, &facts, BPF_ANY);
	return 0;
}

/* Not known, for there was no room to keep it: an id that no container has but by chance. */
#define HELLO_CONTAINER_UNKNOWN (~0ULL)

/*
 * The container that a group belongs to, as in hello_task, or whether it is the selected
 * one. `cgroup` is read when it is needed: NULL for the running task's of version 2.
 */
static __always_inline u64 hello_container_of(struct cgroup *cgroup, struct hello_cgroup_key *key,
					      u32 is_selected)
{
	struct hello_cgroup_facts *known = bpf_map_lookup_elem(&hello_cgroups, key);
	struct task_struct *task;

	if (!known) {
		if (!cgroup) {
			task = (void *)bpf_get_current_task();
			cgroup = BPF_CORE_READ(task, cgroups, dfl_cgrp);
			/* The task may have been moved since its id was asked for. */
			key->id = BPF_CORE_READ(cgroup, kn, id);
		}
		hello_keep_container(key->id, key->hierarchy, hello_id_above((u64)cgroup));
		known = bpf_map_lookup_elem(&hello_cgroups, key);
		if (!known)
			return HELLO_CONTAINER_UNKNOWN;
	}
	return is_selected ? known->selected : known->container;
}

/* A task's group by one controller, if that is on a version 1 hierarchy. */
static __always_inline struct cgroup *hello_cgroup_by(struct css_set *groups, u32 controller)
{
	struct cgroup_subsys_state *state = NULL;
	struct cgroup *cgroup;

	bpf_probe_read_kernel(&state, sizeof(state),
			      (void *)groups + bpf_core_field_offset(struct css_set, subsys) +
				      controller * sizeof(state));
	if (!state)
		return NULL;
	cgroup = BPF_CORE_READ(state, cgroup);
	return BPF_CORE_READ(cgroup, root, hierarchy_id) ? cgroup : NULL;
}

/*
 * The version 1 group of a task: of one controller, for runtimes join them all. pids or,
 * where the kernel has none or it is on the version 2 hierarchy, memory.
 */
static __always_inline struct cgroup *hello_cgroup_v1(struct css_set *groups)
{
	struct cgroup *cgroup = NULL;

	if (bpf_core_enum_value_exists(enum cgroup_subsys_id, pids_cgrp_id))
		cgroup = hello_cgroup_by(groups, bpf_core_enum_value(enum cgroup_subsys_id,
								     pids_cgrp_id));
	if (!cgroup && bpf_core_enum_value_exists(enum cgroup_subsys_id, memory_cgrp_id))
		cgroup = hello_cgroup_by(groups, bpf_core_enum_value(enum cgroup_subsys_id,
								     memory_cgrp_id));
	return cgroup;
}

/*
 * The container that the running task is in; with `is_selected` whether it is that one.
 * May be HELLO_CONTAINER_UNKNOWN. A global function too.
 */
__noinline u64 hello_find_container(u32 is_selected)
{
	struct task_struct *task = (void *)bpf_get_current_task();
	struct hello_cgroup_key key = {};
	struct css_set *groups;
	struct cgroup *cgroup;
	u64 found = 0, found_v1 = 0;

	if (!config.containers)
		return 0;
	if (config.containers & HELLO_CGROUPS_V2) {
		key.id = bpf_get_current_cgroup_id();
		found = hello_container_of(NULL, &key, is_selected);
	}
	if ((!found || found == HELLO_CONTAINER_UNKNOWN) && config.containers & HELLO_CGROUPS_V1) {
		groups = BPF_CORE_READ(task, cgroups);
		cgroup = hello_cgroup_v1(groups);
		if (cgroup) {
			key.id = BPF_CORE_READ(cgroup, kn, id);
			key.hierarchy = BPF_CORE_READ(cgroup, root, hierarchy_id);
			found_v1 = hello_container_of(cgroup, &key, is_selected);
		}
		if (found_v1)
			found = found_v1;
	}
	return found;
}

/* The same, 0 if it is not known. */
static __always_inline u64 hello_container_here(bool is_selected)
{
	u64 found = hello_find_container(is_selected);

	return found == HELLO_CONTAINER_UNKNOWN ? 0 : found;
}

/* The version 1 group of a remembered task by one controller: its id. */
#define HELLO_GROUP_BY(groups, controller)                                           \
	({                                                                           \
		struct cgroup_subsys_state **states =                                \
			(void *)groups + bpf_core_field_offset(struct css_set, subsys); \
		u64 id = 0;                                                          \
		if (bpf_core_enum_value_exists(enum cgroup_subsys_id, controller))   \
			id = states[bpf_core_enum_value(enum cgroup_subsys_id, controller)] \
				     ->cgroup->kn->id;                               \
		id;                                                                  \
	})

static __always_inline struct hello_groups hello_groups_of(struct task_struct *task)
{
	struct css_set *groups = task->cgroups;
	struct hello_groups ids = { .v2 = groups->dfl_cgrp->kn->id };

	if (config.containers & HELLO_CGROUPS_V1) {
		ids.pids = HELLO_GROUP_BY(groups, pids_cgrp_id);
		ids.memory = HELLO_GROUP_BY(groups, memory_cgrp_id);
	}
	return ids;
}

static __always_inline bool hello_same_groups(const struct hello_groups *one,
					      const struct hello_groups *other)
{
	return one->v2 == other->v2 && one->pids == other->pids && one->memory == other->memory;
}

/* hello_container_here(), without looking anything up while the groups are the same. */
static __always_inline u64 hello_container_still(struct hello_here *here)
{
	struct task_struct *task = hello_task_of(here);
	struct hello_groups ids, then;
	u64 found;

	if (!here || !task)
		return hello_container_here(false);
	ids = hello_groups_of(task);
	if (hello_same_groups(&here->groups, &ids))
		return here->container;
	found = hello_find_container(false);
	if (found == HELLO_CONTAINER_UNKNOWN)
		return 0;
	/* It may be moved to other groups at any time. */
	then = hello_groups_of(task);
	if (hello_same_groups(&then, &ids)) {
		here->container = found;
		here->groups = ids;
	}
	return found;
}

#endif /* HELLO_CONTAINER_BPF_H */
