# SPDX-License-Identifier: BSD-2-Clause
# shellcheck shell=bash
# Fetches Debian's kernels; sourced by run.sh, which provides die() and say().
#
#   fetch_kernel NAME    leaves $CACHE/NAME/vmlinuz and $CACHE/NAME/package
#
# Nothing is installed and the machine's own apt is not changed: every call uses a throw-away apt state that knows one
# suite. Only vmlinuz is kept; the cloud flavour has all that a guest without disk and network needs built in.

CACHE=${HELLO_VM_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/hello/kernels}
META=linux-image-cloud-amd64
NEWEST_MAX_AGE_MIN=$((7 * 24 * 60))

# Debian's suite for a kernel.
suite_of() {
    case $1 in
        5.10) echo bullseye ;;
        6.1) echo bookworm ;;
        6.12) echo trixie ;;
        newest) echo sid ;;
        *) return 1 ;;
    esac
}

# Prints "URI SUITE" for every binary source of this machine, from one-line and deb822 files.
machine_sources() {
    local main parts lists=() deb822=()
    parts=$(apt-config shell d Dir::Etc::sourceparts/d | sed "s/^d='\(.*\)'$/\1/")
    main=$(apt-config shell f Dir::Etc::sourcelist/f | sed "s/^f='\(.*\)'$/\1/")
    shopt -s nullglob
    lists=("$parts"/*.list)
    deb822=("$parts"/*.sources)
    shopt -u nullglob
    [[ ! -r $main ]] || lists=("$main" "${lists[@]}")
    # deb [option=value …] URI SUITE COMPONENT…
    ((${#lists[@]} == 0)) ||
        sed -nE 's/^[[:space:]]*deb[[:space:]]+(\[[^]]*\][[:space:]]*)?([^[:space:]]+)[[:space:]]+([^[:space:]]+).*/\2 \3/p' \
            "${lists[@]}"
    # Stanzas, where a field goes on in lines that begin with a blank. Field names ignore case.
    ((${#deb822[@]} == 0)) || awk '
        function flush(    u, s, i, j, nu, ns) {
            if (types ~ /(^| )deb( |$)/ && enabled !~ /^ *(no|false|0|off|disable)/) {
                nu = split(uris, u, " "); ns = split(suites, s, " ")
                for (i = 1; i <= nu; i++) for (j = 1; j <= ns; j++) print u[i], s[j]
            }
            types = uris = suites = enabled = field = ""
        }
        FNR == 1 { flush() }
        /^#/ { next }
        /^[ \t]*$/ { flush(); next }
        {
            value = $0
            if ($0 !~ /^[ \t]/) { field = tolower($0); sub(/:.*/, "", field); sub(/^[^:]*:/, "", value) }
            gsub(/[ \t]+/, " ", value)
            if (field == "types") types = types value
            else if (field == "uris") uris = uris value
            else if (field == "suites") suites = suites value
            else if (field == "enabled") enabled = enabled tolower(value)
        }
        END { flush() }' "${deb822[@]}"
}

# candidates SUITE: prints "URI SUITE" for each place where this machine may find Debian's SUITE, best first. Others name
# their suites after Debian's, so a source may turn out to be none of Debian's: then its signature does not fit.
candidates() {
    local wanted=$1 uri suite archives=() security=()
    if [[ -n ${HELLO_VM_ARCHIVE:-} ]]; then
        archives=("${HELLO_VM_ARCHIVE%/}")
    else
        while read -r uri suite; do
            uri=${uri%/}
            case ${suite%/} in
                bullseye | bookworm | trixie | forky | duke | sid | oldoldstable | oldstable | stable | testing | unstable)
                    [[ " ${archives[*]} " == *" $uri "* ]] || archives+=("$uri") ;;
                *-security | */updates) # Ubuntu has these too
                    [[ $uri != *debian* || " ${security[*]} " == *" $uri "* ]] || security+=("$uri") ;;
            esac
        done < <(machine_sources)
    fi
    # The release itself first: its packages stay, while the security archive removes what it replaces.
    for uri in "${archives[@]}"; do echo "$uri $wanted"; done
    [[ $wanted != sid ]] || return 0
    # A mirror has it side by side with the archive, and some have the releases that have left it there too.
    ((${#security[@]})) || security=("${archives[@]/%\/debian//debian-security}")
    for uri in "${security[@]}"; do echo "$uri $wanted-security"; done
    for uri in "${archives[@]}"; do echo "${uri%/*}/debian-archive/debian $wanted"; done
}

find_keyring() {
    # Newer releases of the package say .pgp.
    for KEYRING in /usr/share/keyrings/debian-archive-keyring.{gpg,pgp}; do
        [[ -r $KEYRING ]] && return
    done
    die "Debian's signing keys are missing: apt-get install debian-archive-keyring"
}

# write_apt_conf DIR URI SUITE: an apt that knows this one source only.
write_apt_conf() {
    local dir=$1
    mkdir -p "$dir"/lists/partial "$dir"/cache/archives/partial
    : >"$dir/status"
    echo "deb [arch=amd64 target=Packages signed-by=$KEYRING] $2 $3 main" >"$dir/sources.list"
    # Given with -c, so it is read after the machine's own files: their proxy holds, their hooks do not.
    cat >"$dir/apt.conf" <<CONF
Dir::Etc::sourcelist "$dir/sources.list";
Dir::Etc::sourceparts "-";
Dir::Etc::preferences "-";
Dir::Etc::preferencesparts "-";
Dir::State::lists "$dir/lists";
Dir::State::status "$dir/status";
Dir::Cache "$dir/cache";
#clear APT::Update::Pre-Invoke;
#clear APT::Update::Post-Invoke;
#clear APT::Update::Post-Invoke-Success;
#clear APT::Architectures;
APT::Architecture "amd64";
// Started by root, apt would drop to a user who may not enter root's cache folder.
APT::Sandbox::User "root";
// By default a source that cannot be reached is only a warning.
APT::Update::Error-Mode "any";
// Whatever the machine allows: here the signature decides.
Acquire::AllowInsecureRepositories "false";
Acquire::AllowWeakRepositories "false";
APT::Get::AllowUnauthenticated "false";
Acquire::http::Timeout "30";
Acquire::Retries "1";
CONF
}

# extract_vmlinuz DIR PACKAGE TO: downloads PACKAGE; fails if it has no kernel in it. The check is dpkg-deb's as well as
# apt's: a truncated archive is an error.
extract_vmlinuz() {
    local dir=$1 package=$2 to=$3 member
    (cd "$dir" && rm -f ./*.deb && LC_ALL=C apt-get -c "$dir/apt.conf" download "$package") >>"$dir/log" 2>&1 || return
    dpkg-deb --fsys-tarfile "$dir"/*.deb >"$dir/data.tar" 2>>"$dir/log" || return
    rm -f "$dir"/*.deb
    # boot/vmlinuz-… in linux-image, usr/lib/modules/…/vmlinuz in linux-binary.
    member=$(tar -tf "$dir/data.tar" | grep -E '/boot/vmlinuz-[^/]+$|/modules/[^/]+/vmlinuz$') || return
    tar -xOf "$dir/data.tar" "$member" >"$to" 2>>"$dir/log" && [[ -s $to ]]
}

# dependencies DIR PACKAGE PREFIX: the names among PACKAGE's dependencies that begin with PREFIX.
dependencies() {
    LC_ALL=C apt-cache -c "$1/apt.conf" --no-all-versions show "$2" 2>>"$1/log" |
        sed -n 's/^Depends: //p' | tr ',|' '\n' | sed -E 's/^ *([^ ]*).*/\1/' | grep "^$3" || true
}

# fetch_from DIR NAME URI SUITE: tries one source; on failure the reason is the last line of DIR/log.
fetch_from() {
    local dir=$1 name=$2 uri=$3 suite=$4 image package version record packages
    write_apt_conf "$dir" "$uri" "$suite"
    if ! LC_ALL=C apt-get -c "$dir/apt.conf" update >"$dir/log" 2>&1; then
        # gpgv says NO_PUBKEY, sqv (apt 3) says "Missing key".
        if grep -qE 'NO_PUBKEY|Missing key' "$dir/log"; then
            echo "the key that signs it is missing in $KEYRING: install a newer debian-archive-keyring" >>"$dir/log"
        else
            # The first error names the cause; without the address, which the caller prints.
            sed -nE 's/^E: (Failed to fetch [^ ]+ +)?//p' "$dir/log" | head -n 1 >"$dir/reason"
            cat "$dir/reason" >>"$dir/log"
        fi
        return 1
    fi
    version=$(LC_ALL=C apt-cache -c "$dir/apt.conf" --no-all-versions show "$META" 2>>"$dir/log" | sed -n 's/^Version: //p')
    image=$(dependencies "$dir" "$META" 'linux-image-[0-9]')
    if [[ -z $image ]] || [[ $name != newest && $version != "$name".* ]]; then
        echo "it has no $META ${name/newest/}" >>"$dir/log"
        return 1
    fi
    record="$image $version"
    if [[ -s $CACHE/$name/vmlinuz && $(cat "$CACHE/$name/package") == "$record" ]]; then
        touch "$CACHE/$name/package" # still the newest: look again in a week
        return
    fi
    # Until 6.x the kernel is in linux-image-…; from 7.x that depends on linux-binary-…, or on its -unsigned form.
    mapfile -t packages < <(
        echo "$image"
        dependencies "$dir" "$image" linux-binary-
        echo "linux-binary-unsigned-${image#linux-image-}"
    )
    for package in "${packages[@]}"; do
        if extract_vmlinuz "$dir" "$package" "$dir/vmlinuz"; then
            mkdir -p "$CACHE/$name"
            # The record goes last: a kernel without one is fetched again.
            rm -f "$CACHE/$name/package"
            mv "$dir/vmlinuz" "$CACHE/$name/vmlinuz"
            echo "$record" >"$CACHE/$name/package"
            return
        fi
    done
    echo "no kernel in ${packages[*]}" >>"$dir/log"
    return 1
}

is_cached() {
    [[ -s $CACHE/$1/vmlinuz && -s $CACHE/$1/package ]]
}

fetch_kernel() {
    local name=$1 suite dir source reasons='' sources
    suite=$(suite_of "$name") || die "no kernel '$name'; there are 5.10, 6.1, 6.12 and newest"
    if is_cached "$name"; then
        [[ $name == newest && -n $(find "$CACHE/$name/package" -mmin +"$NEWEST_MAX_AGE_MIN") ]] || return 0
    fi
    command -v dpkg-deb >/dev/null || die "dpkg-deb is missing"
    find_keyring
    mapfile -t sources < <(candidates "$suite")
    ((${#sources[@]})) || die "apt's sources name no Debian archive; set HELLO_VM_ARCHIVE to the address of one"
    mkdir -p "$CACHE"
    dir=$(mktemp -d "$CACHE/fetch.XXXXXX")
    # shellcheck disable=SC2034 # for run.sh to remove
    FETCH_DIR=$dir
    say "fetching kernel $name (Debian $suite)"
    for source in "${sources[@]}"; do
        # shellcheck disable=SC2086 # two words
        if fetch_from "$dir" "$name" $source; then
            rm -rf "$dir"
            return
        fi
        reasons+=$'\n'"  $source: $(tail -n 1 "$dir/log")"
    done
    rm -rf "$dir"
    if is_cached "$name"; then
        say "kernel $name could not be refreshed; using $(cat "$CACHE/$name/package")$reasons"
        return
    fi
    die "kernel $name could not be fetched (HELLO_VM_ARCHIVE can name another Debian archive):$reasons"
}
