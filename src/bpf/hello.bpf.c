// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/*
 * No program: carries the types that all modes share into one skeleton, so that
 * Rust has one hello_config, one hello_ledger and one hello_task (src/wire.rs).
 */
#include "hello.bpf.h"
#include "count.bpf.h"

HELLO_EXPORT(hello_config);
HELLO_EXPORT(hello_ledger);
HELLO_EXPORT(hello_task);
HELLO_EXPORT(hello_key);
HELLO_EXPORT(hello_container_id);
HELLO_EXPORT(hello_row);
HELLO_EXPORT(hello_timed);
HELLO_EXPORT(hello_bucket_key);
HELLO_EXPORT(hello_bucket_count);
HELLO_EXPORT(hello_control);
HELLO_EXPORT(hello_sum);

enum hello_abi export_hello_abi __attribute__((unused));
enum hello_select export_hello_select __attribute__((unused));
enum hello_containers export_hello_containers __attribute__((unused));
enum hello_transport export_hello_transport __attribute__((unused));
enum hello_axis export_hello_axis __attribute__((unused));
enum hello_watch export_hello_watch __attribute__((unused));
enum hello_count_limits export_hello_count_limits __attribute__((unused));

char LICENSE[] SEC("license") = "Dual BSD/GPL";
