#!/bin/sh
# Installs the Debian packages that building and testing need and that are missing.
#
#   tools/setup.sh [lint]     with the tools of `make lint`
#   NO_INSTALL=1              only list what is missing, and fail if anything is
#
# What is missing is asked of the compiler and the file system, not of the package manager: that
# takes milliseconds and also sees what was installed by hand.
set -eu

compiler=${CC:-cc}
packages=
reasons=

need() { # package, what for
    packages="$packages $1"
    reasons="$reasons$(printf '  %-24s %s' "$1" "$2")
"
}

need_command() { # command, package, what for
    command -v "$1" >/dev/null || need "$2" "$3"
}

# Prints the names of the packages whose header the compiler does not find.
missing_headers() {
    "$compiler" -E -P -x c - <<'EOF' | sed '/^$/d'
#if !__has_include(<stdio.h>)
libc6-dev
#endif
#if !__has_include(<CL/cl.h>)
ocl-icd-opencl-dev
#endif
#if !__has_include(<jansson.h>)
libjansson-dev
#endif
#if !__has_include(<xxhash.h>)
libxxhash-dev
#endif
#if !__has_include(<cmocka.h>)
libcmocka-dev
#endif
EOF
}

# Where the loader looks for libraries.
library_directories() {
    { /sbin/ldconfig -p 2>/dev/null || ldconfig -p; } | sed -n 's,.*=> \(.*\)/[^/]*$,\1,p' | sort -u
}

# true when some OpenCL driver is registered and its library is there. PoCL, the CPU driver, is
# wanted only where nothing else answers.
opencl_driver_present() {
    vendors=${OCL_ICD_VENDORS:-/etc/OpenCL/vendors}
    case $vendors in
    *.icd) set -- "$vendors" ;;
    *) set -- "$vendors"/*.icd ;;
    esac
    for icd in "$@"; do
        [ -r "$icd" ] || continue
        read -r library <"$icd" || [ -n "$library" ] || continue
        case $library in
        /*) [ -e "$library" ] && return 0 ;;
        *)
            for directory in $(library_directories); do
                [ -e "$directory/$library" ] && return 0
            done
            ;;
        esac
    done
    return 1
}

need_command "$compiler" gcc 'C compiler'
need_command pkg-config pkg-config 'finds installed libraries'
if command -v "$compiler" >/dev/null; then
    headers=$(missing_headers)
else
    headers='libc6-dev ocl-icd-opencl-dev libjansson-dev libxxhash-dev libcmocka-dev'
fi
for package in $headers; do
    case $package in
    libc6-dev) need "$package" 'C library' ;;
    ocl-icd-opencl-dev) need "$package" 'OpenCL headers and loader' ;;
    libjansson-dev) need "$package" 'reads and writes the files of tuned values' ;;
    libxxhash-dev) need "$package" 'hashes for the program cache (header only)' ;;
    libcmocka-dev) need "$package" 'runs the tests' ;;
    esac
done
pkg-config --exists clblast 2>/dev/null || need libclblast-dev 'compared with by clattice bench'
pkg-config --exists openblas 2>/dev/null || need libopenblas-dev 'compared with by clattice bench'
opencl_driver_present || need pocl-opencl-icd 'OpenCL on the CPU: no other driver is installed'
if [ "${1:-}" = lint ]; then
    need_command clang clang 'second compiler'
    need_command clang-format clang-format 'layout of the code'
    need_command clang-tidy clang-tidy 'static checks'
fi

[ -n "$packages" ] || exit 0

if [ -n "${NO_INSTALL:-}" ] || ! command -v apt-get >/dev/null; then
    printf 'Missing (names of Debian packages):\n%s' "$reasons" >&2
    exit 1
fi

printf 'Installing with apt-get:\n%s' "$reasons"

as_root=
if [ "$(id -u)" -ne 0 ]; then
    as_root=sudo
    command -v sudo >/dev/null || {
        echo "Run as root: apt-get install --no-install-recommends$packages" >&2
        exit 1
    }
fi

log=$(mktemp)
trap 'rm -f "$log"' EXIT

apt() {
    $as_root env DEBIAN_FRONTEND=noninteractive apt-get -q -y "$@" >"$log" 2>&1
}

# Package lists may be absent or too old to be fetched from: try as it is only when they look fresh.
lists_fresh() {
    [ -n "$(find /var/lib/apt/lists -maxdepth 1 -name '*_Packages*' -mtime -7 2>/dev/null)" ]
}

install() {
    # shellcheck disable=SC2086 # a list of names
    apt install --no-install-recommends $packages
}

{ lists_fresh && install; } || { apt update && install; } || {
    cat "$log" >&2
    exit 1
}
