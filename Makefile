# SPDX-License-Identifier: BSD-2-Clause
# `make help` lists the targets, V=1 shows the commands.

MAKEFLAGS += --no-print-directory
Q = $(if $(V),,@)
ARCH := $(shell uname -m)
TARGET := $(ARCH)-unknown-linux-gnu
CARGO ?= cargo
QUIET := $(if $(V),,--quiet)
SUDO := $(if $(filter 0,$(shell id -u)),,sudo)

# Fully static: C library, libelf and zlib from inside, no NSS, no loader.
STATIC_ENV = RUSTFLAGS="$(RUSTFLAGS) -C target-feature=+crt-static"
STATIC = $(STATIC_ENV) $(CARGO) build $(QUIET) --locked --release --features static --target $(TARGET)
STATIC_TESTS = $(STATIC_ENV) $(CARGO) rustc $(QUIET) --locked --release --features static --target $(TARGET) \
	--message-format=json
# A test binary's file, from what cargo says of its build. Linked in half the time: nobody waits for its speed.
test_binary = "$$($(STATIC_TESTS) $(or $(2),--test) $(1) -- -C lto=thin -C codegen-units=16 | \
	sed -n 's/.*"executable":"\([^"]*\/$(1)-[0-9a-f]*\)".*/\1/p')"

# It is copied to servers.
SIZE_MAX = 4194304

# Named in a macro only, where cargo fmt does not look.
ROOMS = $(wildcard src/modes/*.rs)

.DELETE_ON_ERROR:
.PHONY: help deps build run test test-user test-root test-peers test-vm bench bench-vm lint fmt vmlinux static-check ci clean

help: ## list the targets
	$(Q)awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-13s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

deps: ## install what is missing to build (Debian, Ubuntu), or name it
	$(Q)./scripts/deps.sh build

build: deps ## the static binary ./hello
	@[ -e hello ] || echo "Building ./hello, some minutes the first time" >&2
	$(Q)$(STATIC)
	$(Q)install -m 755 target/$(TARGET)/release/hello hello
	$(Q)$(MAKE) static-check

static-check: ## prove that ./hello needs no library and is at most 4 MiB
	$(Q)ldd ./hello 2>&1 | grep -qE 'statically linked|not a dynamic executable' || \
		{ echo "./hello is not static:" >&2; ldd ./hello >&2; exit 1; }
	$(Q)size=$$(stat -c %s ./hello); [ $$size -le $(SIZE_MAX) ] || \
		{ echo "./hello has $$size bytes, more than $(SIZE_MAX)" >&2; exit 1; }

run: build ## build, then watch every execve of this machine for 10 seconds
	@echo "Every execve on this machine in the next 10 seconds, and who calls it (run something in another terminal):"
	$(Q)$(SUDO) ./hello --mode buffer --duration 10
	@echo
	@echo "Next: sudo ./hello --mode file -- ls       the files that ls opens"
	@echo "      sudo ./hello --mode syscount -- ls   the system calls it makes"
	@echo "      sudo ./hello --list                  all modes; ./hello --help: all options"

test: test-user test-root test-peers test-vm ## all tests: without privilege, as root, beside peers, in VMs

test-user: deps ## what needs no privilege
	$(Q)$(CARGO) test $(QUIET) --locked --lib --bins --test cli --test house

test-root: build target/hello-tests target/bench/hello-bench ## hello on the running kernel, as root
	$(Q)$(SUDO) env HELLO_BIN="$(CURDIR)/hello" target/hello-tests
	$(Q)$(SUDO) env HELLO_BIN="$(CURDIR)/hello" target/bench/hello-bench

# Peers that cannot be installed are said to be not run, by name; so is the C project that cannot be fetched.
test-peers: build target/hello-peers ## hello beside execsnoop, opensnoop, syscount, bpftrace, strace; HELLO_BLESS=1: docs/peers.md
	$(Q)./scripts/deps.sh peers || echo "hello: going on with the peers that are here" >&2
	$(Q)source=$$(tests/peers/source.sh) || source=; $(SUDO) env HELLO_BIN="$(CURDIR)/hello" \
		HELLO_PEERS_OUT="$(CURDIR)" HELLO_PEERS_SOURCE="$$source" HELLO_PEERS_SECONDS="$$HELLO_PEERS_SECONDS" \
		$${HELLO_BLESS:+HELLO_BLESS="$$HELLO_BLESS"} target/hello-peers

test-vm: build target/hello-tests target/hello-peers ## hello on Debian's kernels in QEMU; FILTER=TEST; HELLO_BLESS=1: docs/verifier.md
	$(Q)./scripts/deps.sh vm
	$(Q)tests/vm/run.sh --hello ./hello --tests target/hello-tests --peers target/hello-peers $(if $(FILTER),--filter $(FILTER))

# The static test binaries: tests and workload in one file, for root and for the VMs.
.PHONY: target/hello-tests target/hello-peers
target/hello-tests: deps
	$(Q)install -m 755 $(call test_binary,root) $@

target/hello-peers: deps
	$(Q)install -m 755 $(call test_binary,peers) $@

# What the README and docs/performance.md say of cost. Never part of a test: a figure depends on what else runs.
# ROWS="file exec" measures some rows only; HELLO_BENCH_ROUNDS, _MILLIS, _SECONDS make it shorter.
BENCH = $(SUDO) env HELLO_BIN="$(CURDIR)/hello" HELLO_BENCH_RUSTC="$$(rustc --version)"
BENCH_SETTINGS = $(foreach name,HELLO_BLESS HELLO_BENCH_ROUNDS HELLO_BENCH_MILLIS HELLO_BENCH_SECONDS,\
	$(if $($(name)),$(name)="$($(name))"))
bench: build target/bench/hello-bench ## what hello costs, beside the floor and peers; HELLO_BLESS=1: docs/performance.md
	$(Q)./scripts/deps.sh bench || echo "hello: going on with the peers that are here" >&2
	$(Q)$(BENCH) $(BENCH_SETTINGS) target/bench/hello-bench --bench $(ROWS)

bench-vm: build target/bench/hello-bench ## the cost of fexit, in QEMU with Debian's 6.12; make bench shows it from then on
	$(Q)./scripts/deps.sh vm
	$(Q)tests/vm/run.sh --hello ./hello --bench target/bench --kernels 6.12 >target/bench/vm.log || \
		{ cat target/bench/vm.log; exit 1; }
	$(Q)grep '^bench: ' target/bench/vm.log | tee target/bench/vm

# Loops at the start of a cache line: a yardstick across two of them takes a tenth longer in some workloads only.
WORKLOADS = $(patsubst benches/%.c,target/bench/workloads/%,$(filter-out %.bpf.c,$(wildcard benches/*.c)))
target/bench/workloads/%: benches/%.c benches/loop.h
	$(Q)mkdir -p $(@D)
	$(Q)$(CC) -O2 -falign-loops=64 -Wall -Wextra -Werror -static -o $@ $<

.PHONY: target/bench/hello-bench
target/bench/hello-bench: deps $(WORKLOADS)
	$(Q)install -m 755 $(call test_binary,cost,--bench) $@

lint: deps ## formatting and lints, warnings are errors
	$(Q)$(CARGO) fmt --check
	$(Q)rustfmt --edition 2024 --check $(ROOMS)
	$(Q)$(CARGO) clippy $(QUIET) --locked --all-targets -- -D warnings
	$(Q)RUSTDOCFLAGS="-D warnings" $(CARGO) doc $(QUIET) --locked --no-deps --document-private-items

fmt: ## format the Rust code
	$(Q)$(CARGO) fmt
	$(Q)rustfmt --edition 2024 $(ROOMS)

vmlinux: ## dump the running kernel's full header beside vmlinux/vmlinux.h, to look around in
	$(Q)command -v bpftool >/dev/null || { echo "bpftool is missing: apt install bpftool" >&2; exit 1; }
	$(Q)bpftool btf dump file /sys/kernel/btf/vmlinux format c > vmlinux/vmlinux_full.h

ci: lint test ## what CI runs

clean: ## remove what was built
	$(Q)$(CARGO) clean
	$(Q)rm -f hello vmlinux/vmlinux_full.h
