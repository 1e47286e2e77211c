#!/usr/bin/env bash
# SPDX-License-Identifier: BSD-2-Clause
# Runs the privileged tests on other kernels: Debian's, each in QEMU.
#
#   tests/vm/run.sh --hello PATH --tests PATH [--peers PATH] [--kernels "5.10 6.1 6.12 newest"] [--jobs N] [--filter TEST]
#   tests/vm/run.sh --hello PATH --bench FOLDER [--kernels …]
#
# --hello and --tests are static binaries: the program and its test binary (libtest's options and output). So is --peers,
# the comparison with peers; those of them that the host has, but for bpftrace, come along with their libraries. With
# --bench the folder's hello-bench is the test binary, and what it measures here (fexit) is printed. Each kernel
# boots into an initramfs with these two and busybox (see init). Kernels come from the machine's Debian archive and stay
# in a cache (see kernels.sh); with all of them there, no network is needed.
#
#   HELLO_VM_TIMEOUT   seconds for one kernel, 1500 by default
#   HELLO_VM_THREAD    TCG's threads: single (default), the two CPUs take turns; or multi. With multi, QEMU 7.2 may
#                      crash a guest that patches its code while both run, and attaching probes does (Oops: int3, RIP 0)
#   HELLO_VM_CACHE     where kernels are kept, ~/.cache/hello/kernels by default
#   HELLO_VM_ARCHIVE   address of a Debian archive, for machines whose apt sources name none (Ubuntu)
#   HELLO_VM_ALL       all tests on all kernels: without it each goes without those that other kernels have shown
#   HELLO_BLESS        write docs/verifier.md from what all kernels say, instead of comparing with it
#
# A kernel passes if the guest reports that the tests ended with status 0, nothing in their output FAILED, and the
# kernel's console shows no WARN, BUG or Oops. QEMU's exit status means nothing. Exit status: 0 if all kernels passed.
set -euo pipefail

HERE=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
say() { echo "$*" >&2; }
die() { say "vm: $*"; exit 1; }
usage() { sed -n '2,/^set /{/^set /d;s/^# \{0,1\}//;p;}' "${BASH_SOURCE[0]}"; }

# shellcheck source-path=SCRIPTDIR source=kernels.sh
. "$HERE/kernels.sh"

hello='' tests='' bench='' peers='' filter='' kernels='5.10 6.1 6.12 newest' jobs=$(nproc) limit=${HELLO_VM_TIMEOUT:-1500} thread=${HELLO_VM_THREAD:-single}
while (($#)); do
    case $1 in
        -h | --help) usage; exit 0 ;;
        --hello | --tests | --bench | --peers | --kernels | --jobs | --filter) (($# > 1)) || die "$1 needs a value" ;;&
        --hello) hello=$2 ;;
        --tests) tests=$2 ;;
        --bench) bench=$2 tests=$2/hello-bench filter=fexit ;;
        --peers) peers=$2 ;;
        --kernels) kernels=$2 ;;
        --jobs) jobs=$2 ;;
        --filter) filter=$2 ;;
        *) die "unknown argument '$1', see --help" ;;
    esac
    shift 2
done
[[ -n $hello && -n $tests ]] || die "--hello and --tests (or --bench) are needed, see --help"
[[ $jobs =~ ^[1-9][0-9]*$ ]] || die "--jobs is a number from 1"
[[ $thread == multi || $thread == single ]] || die "HELLO_VM_THREAD is multi or single"
[[ $limit =~ ^[1-9][0-9]*$ ]] || die "HELLO_VM_TIMEOUT is a number of seconds"
mapfile -t kernels < <(tr -s ', ' '\n' <<<"$kernels" | awk 'NF && !seen[$0]++')
((${#kernels[@]})) || die "--kernels is empty"
for kernel in "${kernels[@]}"; do
    suite_of "$kernel" >/dev/null || die "no kernel '$kernel'; there are 5.10, 6.1, 6.12 and newest"
done

command -v apt-get >/dev/null || die "running kernels in a VM needs apt-get (Debian, Ubuntu) to fetch them"
for tool in qemu-system-x86_64:qemu-system-x86 busybox:busybox-static cpio:cpio flock:util-linux; do
    command -v "${tool%:*}" >/dev/null || die "${tool%:*} is missing: apt-get install ${tool#*:}"
done
busybox=$(readlink -f "$(command -v busybox)")
# The guest has no libraries.
for binary in "$hello" "$tests" ${peers:+"$peers"} "$busybox"; do
    [[ -f $binary && -x $binary ]] || die "$binary is not an executable file"
    linkage=$(ldd "$binary" 2>&1 || true)
    [[ $linkage =~ 'not a dynamic executable'|'statically linked' ]] || die "$binary is not static"
done

work=''
declare -A running=() # process of `timeout` → kernel
FETCH_DIR='' # kernels.sh downloads here
keep_logs=''
cleanup() {
    # timeout passes the signal on to its QEMU.
    if ((${#running[@]})); then
        kill "${!running[@]}" 2>/dev/null || true
        wait "${!running[@]}" 2>/dev/null || true
    fi
    [[ -z $FETCH_DIR ]] || rm -rf "$FETCH_DIR"
    [[ -z $work ]] || rm -rf "$work/root" "$work/initramfs"
    [[ -z $work || -n $keep_logs ]] || rm -rf "$work"
}
trap cleanup EXIT
trap 'exit 130' INT
trap 'exit 143' TERM HUP

# Two runs at a time share the cache.
mkdir -p "$CACHE" || die "cannot create $CACHE"
exec 9>"$CACHE/lock"
flock 9
for kernel in "${kernels[@]}"; do
    fetch_kernel "$kernel"
done
flock -u 9
exec 9>&-

# Uncompressed: unpacking costs the guest more than reading it costs QEMU.
work=$(mktemp -d "${TMPDIR:-/tmp}/hello-vm.XXXXXX")
mkdir -p "$work/root/bin"
install -m 755 "$busybox" "$work/root/bin/busybox"
install -m 755 "$hello" "$work/root/bin/hello"
install -m 755 "$tests" "$work/root/bin/hello-tests"
install -m 755 "$HERE/init" "$work/root/init"
# Where hello-bench, which is hello-tests there, looks for them.
[[ -z $bench ]] || cp -r "$bench/workloads" "$work/root/bin/workloads"
if [[ -n $peers ]]; then
    install -m 755 "$peers" "$work/root/bin/hello-peers"
    for tool in execsnoop opensnoop syscount strace stdbuf; do
        file=$(PATH=$PATH:/usr/sbin:/sbin command -v "$tool") || continue
        # With all that the loader takes for it, at the same place; what is not linked to a program, stdbuf's library, too.
        [[ $tool != stdbuf ]] || libstdbuf=$(find /usr/lib* -name libstdbuf.so 2>/dev/null | head -n 1)
        mapfile -t needed < <(ldd "$file" | grep -oE '/[^ ]+')
        for file in "$file" "${needed[@]}" ${libstdbuf:+"$libstdbuf"}; do
            [[ -e $work/root/$file ]] || install -D -m 755 "$(readlink -f "$file")" "$work/root/$file"
        done
    done
fi
(cd "$work/root" && find . | LC_ALL=C sort | cpio --quiet -o -H newc -R 0:0) >"$work/initramfs"
token=$(od -An -N8 -tx8 /dev/urandom | tr -d ' ')

# Groups of tests that a kernel goes without, for CI has half an hour and an emulated machine is slow; HELLO_VM_ALL=1 runs
# them all. What depends on hello alone has run on the machine's own kernel. 5.10 is without what is new since, the newest
# preempts programs, and of those between 6.12 is the one where programs remember the task, of which there is most in file.
skips_of() {
    [[ -z $filter && -z ${HELLO_VM_ALL:-} ]] || return 0
    local own=options,endings,stats,budget,rings
    case $1 in
        5.10) echo $own,load ;;
        newest) echo $own,errors,start,selection,everywhere,peers ;;
        6.12) echo $own,load,errors,start,selection,everywhere,clocks,exec,syscount,peers ;;
        *) echo $own,load,errors,start,selection,everywhere,clocks,exec,syscount,file,peers ;;
    esac
}

# start KERNEL: boots it in the background.
start() {
    local dir=$work/$1
    mkdir "$dir"
    : >"$dir/console.log"
    : >"$dir/tests.log"
    started[$1]=$EPOCHSECONDS
    # KVM may be there and hang, so TCG by name. QEMU 7.2's TCG spoils the flags in cmpxchg16b: in 6.12's allocator that
    # crashed two of five boots, with thread=multi and single alike. Without cx16 kernels go another way.
    # panic=-1 and -no-reboot: a panic ends QEMU at once. The console must show warnings, so no `quiet`.
    # What a benchmark measures is instructions: the guest's clock counts them.
    timeout --kill-after=10 "$limit" qemu-system-x86_64 ${bench:+-icount "shift=1,sleep=off"} \
        -accel "tcg,thread=$thread" -cpu max,-cx16 -smp 2 -m 1024 -nodefaults -no-user-config -display none -no-reboot \
        -serial "file:$dir/console.log" -serial "file:$dir/tests.log" \
        -kernel "$CACHE/$1/vmlinuz" -initrd "$work/initramfs" \
        -append "console=ttyS0 panic=-1 hello_token=$token hello_filter=$filter hello_skip=$(skips_of "$1") hello_bless=${HELLO_BLESS:-}" </dev/null >"$dir/qemu.log" 2>&1 &
    running[$!]=$1
}

# Numbers of libtest's closing lines; of the lines of single tests if the end is missing. A test that printed something
# has its verdict on a line of its own.
count() {
    awk '
        { sub(/\r$/, "") }
        /^test result: / {
            closed = 1
            for (i = 2; i <= NF; i++) {
                if ($i ~ /^passed/) passed += $(i - 1)
                if ($i ~ /^failed/) failed += $(i - 1)
                if ($i ~ /^ignored/) ignored += $(i - 1)
            }
        }
        /^(test .* \.\.\. )?ok$/ { p++ }
        /^(test .* \.\.\. )?FAILED$/ { f++ }
        /^(test .* \.\.\. )?ignored/ { s++ }
        END { if (closed) print 1, passed + 0, failed + 0, ignored + 0; else print 0, p + 0, f + 0, s + 0 }' "$1"
}

# As in table.awk, a word that is not known is a failure.
matrix_fails() {
    awk '
        { sub(/\r$/, ""); sub(/^test [^ ]+ +\.\.\. matrix: /, "matrix: ") }
        /^matrix: / && NF >= 5 && $5 !~ /^(ok$|n\/a(:|$))/ { failed = 1 }
        END { exit !failed }' "$1"
}

# The kernel's own complaints, each with the beginning of its back trace. Only at the start of a line, behind the time
# stamp: "WARNING: Unprivileged eBPF is enabled" stands further right and is harmless.
complaints() {
    grep -aE -A 15 '^(\[[^]]*\])+ *(-+\[ cut here|WARNING: |BUG: |watchdog: BUG: |kernel BUG at |Oops|Kernel panic|[^:]+: [0-9a-f]+ \[#[0-9]+\]|general protection|UBSAN: |INFO: task .* blocked)' "$1"
}

# The names alone, as libtest lists them at the end.
failing_tests() {
    tr -d '\r' <"$1" | awk '/^failures:/ { n = 0; next } /^    [^ ]+$/ { name[n++] = $1 } /^test result:/ { for (i = 0; i < n; i++) print name[i]; n = 0 }'
}

indent() { sed 's/^/    /'; }

# report KERNEL STATUS-OF-TIMEOUT: one line, more if it failed; adds to the sums.
report() {
    local kernel=$1 dir=$work/$1 reasons=() release='' name=$1 status='' closed passed failed ignored
    local tests_log=$dir/tests.log console=$dir/console.log
    local seconds=$((EPOCHSECONDS - started[$kernel]))
    # "release 6.1.0-50-cloud-amd64 version #1 SMP … Debian 6.1.176-1 (…)": Debian's own number says more.
    local first line
    first=$(grep -a -m1 "^hello-vm $token: release " "$tests_log" | tr -d '\r' || true)
    if [[ -n $first ]]; then
        first=${first#*: release }
        release=${first%% *} name=${first%% *}
        [[ ! $first =~ Debian\ ([0-9.]+) ]] || name=${BASH_REMATCH[1]}
    fi
    status=$(sed -nE "s/^hello-vm $token: end, status ([0-9]+).*/\1/p" "$tests_log" | tail -n 1)
    read -r closed passed failed ignored < <(count "$tests_log")

    if [[ -z $release ]]; then
        reasons+=("it did not boot")
    elif [[ -z $status ]]; then
        reasons+=("the tests did not end")
    elif ((status)); then
        reasons+=("the tests ended with status $status")
    elif ((!closed)); then
        reasons+=("the tests printed no result")
    fi
    [[ -n $status || $2 != 124 && $2 != 137 ]] || reasons+=("stopped after $limit s")
    ((!failed)) || reasons+=("failing tests")
    ! matrix_fails "$tests_log" || reasons+=("FAILED in the matrix")
    ! complaints "$console" >"$dir/complaints" || reasons+=("the kernel complained")

    names[$kernel]=$name releases[$kernel]=${release:-did not boot}
    # A kernel that failed without a failing test counts as one failure.
    ((!${#reasons[@]} || failed)) || total_failed=$((total_failed + 1))
    total_passed=$((total_passed + passed))
    total_failed=$((total_failed + failed))
    total_skipped=$((total_skipped + ignored))

    echo "kernel $name: $passed passed, $failed failed, $ignored not available, $seconds s"
    grep -a '^bench: ' "$tests_log" | tr -d '\r' || true
    ((${#reasons[@]})) || return 0
    failed_kernels=$((failed_kernels + 1)) keep_logs=yes
    line="kernel $name FAILED: $(printf '%s; ' "${reasons[@]}" | sed 's/; $//')"
    echo "$line"
    mapfile -t -O "${#summary[@]}" summary < <(echo "$line"; failing_tests "$tests_log" | indent)
    if grep -aq '^failures:' "$tests_log"; then
        echo "  failing tests:"
        # Up to the closing line; long output is in the log.
        sed -n '/^failures:/,/^test result:/p' "$tests_log" | awk 'NR <= 300' | indent
    else
        echo "  end of the test output:"
        tail -n 40 "$tests_log" | indent
    fi
    if [[ -s $dir/complaints ]]; then
        echo "  the kernel's complaints:"
        head -n 60 "$dir/complaints" | indent
    fi
    echo "  end of the console:"
    tail -n 20 "$console" | indent
    [[ ! -s $dir/qemu.log ]] || { echo "  QEMU:"; tail -n 5 "$dir/qemu.log" | indent; }
    echo "  logs: $dir"
}

# What failed, said once more at the end: of a long output that is what people look at.
summary=()
declare -A started=() names=() releases=()
total_passed=0 total_failed=0 total_skipped=0 failed_kernels=0
# reap: waits for one kernel and reports it.
reap() {
    local status=0 pid=''
    wait -n -p pid "${!running[@]}" || status=$?
    local kernel=${running[$pid]}
    unset "running[$pid]"
    report "$kernel" "$status"
}
# Those with the most tests first, or the last would run alone.
first=() others=()
for kernel in "${kernels[@]}"; do
    case $kernel in 5.10 | newest) first+=("$kernel") ;; *) others=("$kernel" "${others[@]}") ;; esac
done
for kernel in "${first[@]}" "${others[@]}"; do
    ((${#running[@]} < jobs)) || reap
    start "$kernel"
done
while ((${#running[@]})); do reap; done

columns='' logs=() tests_logs=() line='' column=0
for kernel in "${kernels[@]}"; do
    columns+="${names[$kernel]} "
    column=$((column + 1))
    logs+=("column=$column" "$work/$kernel/tests.log")
    tests_logs+=("$work/$kernel/tests.log")
    line+="${line:+, }${names[$kernel]} = ${releases[$kernel]}"
done
echo
awk -f "$HERE/table.awk" -v columns="$columns" "${logs[@]}"
echo "kernels: $line"
echo
((!${#summary[@]})) || printf '%s\n' "${summary[@]}"
echo "$total_passed passed, $total_failed failed, $total_skipped skipped"
# The text above the table stays as it is.
if [[ -n ${HELLO_BLESS:-} ]]; then
    ((failed_kernels == 0)) || die "docs/verifier.md is not renewed: kernels failed"
    ((${#kernels[@]} == 4)) || die "docs/verifier.md is not renewed: that takes all four kernels"
    awk -f "$HERE/verifier.awk" "${tests_logs[@]}" >"$work/table" || die "no figures for docs/verifier.md"
    sed -i '/^| mode /,$d' "$HERE/../../docs/verifier.md"
    cat "$work/table" >>"$HERE/../../docs/verifier.md"
fi
((failed_kernels == 0))
