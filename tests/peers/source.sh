#!/usr/bin/env bash
# SPDX-License-Identifier: BSD-2-Clause
# Fetches the source of a small C project, as a workload: zlib, by its Debian package. Prints the folder it is in.
#
# Nothing is installed and the machine's own apt is not changed: every call uses a throw-away apt state, as for the
# kernels of the VMs. With the project in the cache no network is needed.
#
#   HELLO_PEERS_CACHE    where it is kept, ~/.cache/hello/peers by default
set -euo pipefail

HERE=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
say() { echo "$*" >&2; }
die() { say "peers: $*"; exit 1; }
# shellcheck source-path=SCRIPTDIR source=../vm/kernels.sh
. "$HERE/../vm/kernels.sh"

project=zlib
cache=${HELLO_PEERS_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/hello/peers}
place=$cache/$project
if [[ ! -x $place/configure ]]; then
    find_keyring
    mkdir -p "$cache"
    dir=$(mktemp -d "$cache/fetch.XXXXXX")
    trap 'rm -rf "$dir"' EXIT
    say "fetching the source of $project"
    reasons=''
    # Any release will do; the first that is there is taken.
    while read -r uri suite; do
        case $suite in *-*) continue ;; esac # updates have single packages only
        write_apt_conf "$dir" "$uri" "$suite"
        echo "deb-src [signed-by=$KEYRING] $uri $suite main" >"$dir/sources.list"
        if (cd "$dir" && LC_ALL=C apt-get -c "$dir/apt.conf" update &&
            LC_ALL=C apt-get -c "$dir/apt.conf" source --only-source "$project") >"$dir/log" 2>&1; then
            mv "$dir/$project"-*/ "$place"
            break
        fi
        reasons+=$'\n'"  $uri $suite: $(tail -n 1 "$dir/log")"
    done < <(machine_sources; echo "http://deb.debian.org/debian stable")
    [[ -x $place/configure ]] || die "$project could not be fetched:$reasons"
fi
echo "$place"
