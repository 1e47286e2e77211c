/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * The kernel as hello sees it: only the types and fields that its programs
 * read, written by hand. Every struct of the kernel's own is relocated by
 * CO-RE (preserve_access_index), so the order and offset of the fields here
 * mean nothing: libbpf looks up the real ones in the BTF of the kernel it
 * loads into. Constants are UAPI and stable.
 *
 * `make vmlinux` dumps the complete header of the running kernel beside this
 * file (vmlinux_full.h, ignored by git) for those who want to look around.
 */
#ifndef __VMLINUX_H__
#define __VMLINUX_H__

typedef signed char __s8;
typedef unsigned char __u8;
typedef short __s16;
typedef unsigned short __u16;
typedef int __s32;
typedef unsigned int __u32;
typedef long long __s64;
typedef unsigned long long __u64;

typedef __s8 s8;
typedef __u8 u8;
typedef __s16 s16;
typedef __u16 u16;
typedef __s32 s32;
typedef __u32 u32;
typedef __s64 s64;
typedef __u64 u64;

/* Named in the prototypes of bpf_helper_defs.h. */
typedef __u16 __be16;
typedef __u32 __be32;
typedef __u32 __wsum;

typedef _Bool bool;
enum { false = 0, true = 1 };

/* include/uapi/linux/bpf.h */
enum bpf_map_type {
	BPF_MAP_TYPE_HASH = 1,
	BPF_MAP_TYPE_ARRAY = 2,
	BPF_MAP_TYPE_PROG_ARRAY = 3,
	BPF_MAP_TYPE_PERF_EVENT_ARRAY = 4,
	BPF_MAP_TYPE_PERCPU_HASH = 5,
	BPF_MAP_TYPE_PERCPU_ARRAY = 6,
	BPF_MAP_TYPE_CGROUP_ARRAY = 8,
	BPF_MAP_TYPE_LRU_HASH = 9,
	BPF_MAP_TYPE_ARRAY_OF_MAPS = 12,
	BPF_MAP_TYPE_RINGBUF = 27, /* Linux 5.8, commit 457f44363a88 */
};

enum {
	BPF_ANY = 0,
	BPF_NOEXIST = 1,
};

enum {
	BPF_RB_NO_WAKEUP = 1,
	BPF_RB_FORCE_WAKEUP = 2,
};

enum {
	BPF_RB_AVAIL_DATA = 0,
};

/* Which helpers a kernel has is told by which of these its BTF has. */
enum bpf_func_id {
	BPF_FUNC_ktime_get_boot_ns = 125,    /* Linux 5.8 */
	BPF_FUNC_get_current_task_btf = 158, /* Linux 5.11, commit 3ca1032ab7ab */
	BPF_FUNC_task_pt_regs = 175,	     /* Linux 5.15, commit dd6e10fbd9fb */
	BPF_FUNC_ktime_get_tai_ns = 208,     /* Linux 6.1 */
};

#define BPF_F_CURRENT_CPU 0xffffffffULL

#define TASK_COMM_LEN 16
#define PATH_MAX 4096

/* What a raw tracepoint's program gets: its arguments as 64-bit words. */
struct bpf_raw_tracepoint_args {
	__u64 args[0];
};

/* include/uapi/linux/openat2.h */
struct open_how {
	__u64 flags;
	__u64 mode;
	__u64 resolve;
};

#pragma clang attribute push(__attribute__((preserve_access_index)), apply_to = record)

struct trace_entry {
	int pid;
};

/* What a program on the classic tracepoint raw_syscalls:sys_enter gets. */
struct trace_event_raw_sys_enter {
	struct trace_entry ent;
	long id;
	unsigned long args[6];
};

/* … and on raw_syscalls:sys_exit. */
struct trace_event_raw_sys_exit {
	struct trace_entry ent;
	long id;
	long ret;
};

typedef struct {
	int counter;
} atomic_t;

struct thread_info {
	unsigned long flags;
	u32 status; /* x86 only */
};

struct ns_common {
	unsigned int inum;
};

struct pid_namespace {
	struct ns_common ns;
};

/* A process id in one pid namespace. */
struct upid {
	int nr;
	struct pid_namespace *ns;
};

/* … and in all that see it, the host's first. */
struct pid {
	unsigned int level;
	struct upid numbers[1];
};

enum pid_type {
	PIDTYPE_TGID = 1,
};

struct kernfs_node {
	const char *name;
	u64 id;
};

struct cgroup_root {
	int hierarchy_id; /* 0: version 2 */
};

struct cgroup_subsys_state {
	struct cgroup *cgroup;
	struct cgroup_subsys_state *parent;
};

struct cgroup {
	struct cgroup_subsys_state self;
	struct kernfs_node *kn;
	struct cgroup_root *root;
};

struct css_set {
	struct cgroup_subsys_state *subsys[1];
	struct cgroup *dfl_cgrp;
};

enum cgroup_subsys_id {
	memory_cgrp_id,
	pids_cgrp_id,
};

struct hlist_bl_node {
	struct hlist_bl_node **pprev;
};

struct qstr {
	u32 len;
	const unsigned char *name;
};

struct dentry {
	struct hlist_bl_node d_hash;
	struct dentry *d_parent;
	struct qstr d_name;
};

struct vfsmount {
	struct dentry *mnt_root;
};

struct mount {
	struct mount *mnt_parent;
	struct dentry *mnt_mountpoint;
	struct vfsmount mnt;
};

struct path {
	struct vfsmount *mnt;
	struct dentry *dentry;
};

struct file {
	struct path f_path;
};

/* A name as the kernel has copied it from its caller. */
struct filename {
	const char *name;
};

struct io_cqe {
	s32 res;
};

struct io_kiocb {
	u8 opcode;
	u64 flags; /* 32 bits in older kernels */
	struct io_cqe cqe;
};

/* What io_kiocb begins with, where the request is an open. */
struct io_open {
	int dfd;
	u32 file_slot;
	struct filename *filename;
	struct open_how how;
};

struct fdtable {
	unsigned int max_fds;
	struct file **fd;
};

struct files_struct {
	struct fdtable *fdt;
};

struct fs_struct {
	struct path root;
	struct path pwd;
};

struct mm_struct {
	unsigned long arg_start, arg_end, env_start, env_end;
	struct file *exe_file;
};

/* What execve is about to run. */
struct linux_binprm {
	const char *filename; /* as given */
	const char *interp;   /* what is run for it: another one for a script */
};

typedef struct {
	u32 val;
} kuid_t;

typedef struct {
	u32 val;
} kgid_t;

struct cred {
	kuid_t uid;
	kgid_t gid;
	kuid_t euid;
};

struct signal_struct {
	atomic_t live;
	struct pid *pids[4];
	int group_exit_code;
	unsigned int flags;
};

typedef struct {
	unsigned long sig[1];
} sigset_t;

struct sigpending {
	sigset_t signal;
};

struct task_struct {
	struct thread_info thread_info;
	int pid;
	int tgid;
	struct task_struct *real_parent;
	struct task_struct *group_leader;
	struct signal_struct *signal;
	struct mm_struct *mm;
	const struct cred *cred;
	struct fs_struct *fs;
	struct files_struct *files;
	struct css_set *cgroups;
	void *stack;
	unsigned int flags;
	int exit_code;
	u64 start_time; /* CLOCK_MONOTONIC, ns */
	struct sigpending pending;
	char comm[TASK_COMM_LEN];
};

#if defined(__TARGET_ARCH_x86)

struct pt_regs {
	unsigned long r15, r14, r13, r12, bp, bx;
	unsigned long r11, r10, r9, r8, ax, cx, dx, si, di;
	unsigned long orig_ax;
	unsigned long ip, cs, flags, sp, ss;
};

#elif defined(__TARGET_ARCH_arm64)

struct user_pt_regs {
	u64 regs[31];
	u64 sp;
	u64 pc;
	u64 pstate;
};

struct pt_regs {
	u64 regs[31];
	u64 sp;
	u64 pc;
	u64 pstate;
	u64 orig_x0;
	s32 syscallno;
};

#endif

#pragma clang attribute pop

#endif /* __VMLINUX_H__ */
