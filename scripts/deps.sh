#!/bin/sh
# SPDX-License-Identifier: BSD-2-Clause
# Installs what is missing to build, to run the VM tests, to compare with peers, or to
# measure beside them: on Debian and Ubuntu by apt, elsewhere it names the packages. Says
# nothing when nothing is missing.
#
#   scripts/deps.sh build | vm | peers | bench
set -eu

# The oldest clang that build.rs takes, the oldest Rust that Cargo.toml does.
clang_min=16
rust_min=88

has() { command -v "$1" >/dev/null 2>&1; }

header() { printf '#include <%s>\n' "$1" | cc -E -x c - >/dev/null 2>&1; }

clang_is_there() {
	if [ -n "${CLANG:-}" ]; then return 0; fi # build.rs judges it
	version=$clang_min
	while [ "$version" -lt $((clang_min + 24)) ]; do
		if has "clang-$version"; then return 0; fi
		version=$((version + 1))
	done
	has clang && [ "$(clang -dumpversion | cut -d. -f1)" -ge "$clang_min" ]
}

# Prints what is missing, by generic names that the tables below translate.
missing_for_build() {
	has cc && has make && has pkg-config || echo cc
	header stdio.h && [ -e "$(cc -print-file-name=libc.a 2>/dev/null)" ] || echo libc
	clang_is_there || echo clang
	header libelf.h || echo libelf
	header zlib.h || echo zlib
	for tool in autoreconf automake autopoint flex bison gawk; do
		has "$tool" || { echo autotools; break; }
	done
}

missing_for_vm() {
	has qemu-system-x86_64 || echo qemu
	[ -x /bin/busybox ] || [ -x /usr/bin/busybox ] || echo busybox
	has cpio || echo cpio
	has zstd || echo zstd
	has xz || echo xz
}

missing_for_peers() {
	PATH=$PATH:/usr/sbin:/sbin # where tracers are, which are root's
	has execsnoop && has opensnoop && has syscount || echo libbpf-tools
	for tool in bpftrace strace stress-ng; do has "$tool" || echo "$tool"; done
	has dpkg-source || echo dpkg-dev
}

missing_for_bench() {
	PATH=$PATH:/usr/sbin:/sbin
	has execsnoop && has opensnoop && has syscount || echo libbpf-tools
	for tool in bpftrace strace; do has "$tool" || echo "$tool"; done
	has perf || echo perf
	# BCC compiles with the kernel's headers.
	if [ -e "/lib/modules/$(uname -r)/build" ] || [ -e /sys/kernel/kheaders.tar.xz ]; then
		has syscount-bpfcc || echo bpfcc-tools
	fi
}

newest_clang() {
	apt-cache pkgnames clang- | sed -n 's/^clang-\([0-9][0-9]*\)$/\1/p' | sort -n | tail -1
}

debian() {
	case $1 in
	cc) echo gcc make pkg-config ;;
	libc) echo libc6-dev ;;
	clang) version=$(newest_clang); [ "${version:-0}" -ge "$clang_min" ] && echo "clang-$version" ;;
	libelf) echo libelf-dev ;;
	zlib) echo zlib1g-dev ;;
	autotools) echo autoconf automake autopoint flex bison gawk ;;
	qemu) echo qemu-system-x86 ;;
	busybox) echo busybox-static ;;
	xz) echo xz-utils ;;
	perf) apt-cache show linux-perf >/dev/null 2>&1 && echo linux-perf || echo linux-tools-generic ;;
	*) echo "$1" ;;
	esac
}

others() {
	cat >&2 <<-END
		hello: these are missing: $(echo "$missing" | tr '\n' ' ')
		Install what provides them, then try again:
		  Fedora    dnf install gcc make pkgconf clang glibc-static elfutils-libelf-devel zlib-devel autoconf automake gettext-devel flex bison gawk
		  Alpine    apk add build-base pkgconf clang elfutils-dev zlib-dev autoconf automake gettext-dev flex bison gawk
		  Arch      pacman -S base-devel clang libelf zlib
		  openSUSE  zypper install gcc make pkgconf clang glibc-devel-static libelf-devel zlib-devel autoconf automake gettext-tools flex bison gawk
		For the VM tests also: qemu-system-x86_64, a static busybox, cpio, zstd, xz, and Debian's apt-get.
		For the comparison with peers: libbpf-tools, bpftrace, strace, stress-ng; for the benchmark also perf.
	END
	exit 1
}

rust=$(cargo --version 2>/dev/null | sed -n 's/^cargo 1\.\([0-9]*\).*/\1/p')
if [ "${rust:-0}" -lt "$rust_min" ]; then
	echo "hello: Rust 1.$rust_min or newer is needed, here is ${rust:+1.}${rust:-none}: see https://rustup.rs" >&2
	exit 1
fi

missing=$("missing_for_$1")
[ -z "$missing" ] && exit 0
has apt-get || others

sudo=
if [ "$(id -u)" -ne 0 ]; then
	has sudo || { echo "hello: packages are missing; run 'make deps' as root, or install sudo" >&2; exit 1; }
	sudo=sudo
fi
log=$(mktemp)
trap 'rm -f "$log"' EXIT
apt() { DEBIAN_FRONTEND=noninteractive $sudo apt-get -q "$@" >>"$log" 2>&1 || { cat "$log" >&2; exit 1; }; }

apt update
packages=
for name in $missing; do
	found=$(debian "$name") || { echo "hello: no clang $clang_min or newer in this release's packages; set CLANG to one" >&2; exit 1; }
	# One peer that a release does not have is no reason to miss the others.
	if { [ "$1" = peers ] || [ "$1" = bench ]; } && ! apt-cache show "$found" >/dev/null 2>&1; then
		echo "hello: this release has no package $found" >&2
		continue
	fi
	packages="$packages $found"
done
[ -n "$packages" ] || exit 0
echo "hello: installing$packages" >&2
# shellcheck disable=SC2086 # a list of words
apt install -y --no-install-recommends $packages
