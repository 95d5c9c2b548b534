#!/bin/sh
# Installs the Debian packages that building and testing need and that are missing.
#
#   tools/setup.sh [test|lint|plots|vendors]   with the tools of `make test`, `make lint`, ...
#   NO_INSTALL=1                               only list what is missing, and fail if anything is
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

need_library() { # library, package, what for
    { /sbin/ldconfig -p 2>/dev/null || ldconfig -p; } | grep -q "^[[:space:]]*$1 " || need "$2" "$3"
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
#if !__has_include(<dnnl.h>)
libdnnl-dev
#endif
EOF
}

# Where the loader looks for libraries.
library_directories() {
    { /sbin/ldconfig -p 2>/dev/null || ldconfig -p; } | sed -n 's,.*=> \(.*\)/[^/]*$,\1,p' | sort -u
}

# What is registered with the OpenCL loader and has its library: PoCL, which is the CPU and always
# answers; another driver, which may find no device; or none.
registered_driver() {
    vendors=${OCL_ICD_VENDORS:-/etc/OpenCL/vendors}
    driver=none
    case $vendors in
    *.icd) set -- "$vendors" ;;
    *) set -- "$vendors"/*.icd ;;
    esac
    for icd in "$@"; do
        [ -r "$icd" ] || continue
        read -r library <"$icd" || [ -n "$library" ] || continue
        for directory in $(case $library in /*) echo / ;; *) library_directories ;; esac); do
            [ -e "$directory/$library" ] || continue
            case $library in
            *pocl*) driver=pocl ;;
            *) [ "$driver" = pocl ] || driver=other ;;
            esac
        done
    done
    echo "$driver"
}

# true when some OpenCL device answers. Needs headers and loader.
device_answers() {
    directory=$(mktemp -d)
    answer=0
    { "$compiler" -x c -o "$directory/count" - -lOpenCL && "$directory/count"; } <<'EOF' || answer=1
#define CL_TARGET_OPENCL_VERSION 120
#include <CL/cl.h>
int main(void) {
    cl_platform_id platforms[32];
    cl_uint found = 0, devices = 0;
    clGetPlatformIDs(32, platforms, &found);
    for (cl_uint i = 0; i < found && i < 32; i++)
        if (clGetDeviceIDs(platforms[i], CL_DEVICE_TYPE_ALL, 0, 0, &devices) == 0 && devices > 0)
            return 0;
    return 1;
}
EOF
    rm -r "$directory"
    return "$answer"
}

need_pocl() {
    need pocl-opencl-icd 'OpenCL on the CPU: no other device answers'
}

need_command "$compiler" gcc 'C compiler'
need_command pkg-config pkg-config 'finds installed libraries'
if command -v "$compiler" >/dev/null; then
    headers=$(missing_headers)
else
    headers='libc6-dev ocl-icd-opencl-dev libjansson-dev libxxhash-dev libcmocka-dev libdnnl-dev'
fi
for package in $headers; do
    case $package in
    libc6-dev) need "$package" 'C library' ;;
    ocl-icd-opencl-dev) need "$package" 'OpenCL headers and loader' ;;
    libjansson-dev) need "$package" 'reads and writes the files of tuned values' ;;
    libxxhash-dev) need "$package" 'hashes for the program cache (header only)' ;;
    libcmocka-dev) need "$package" 'runs the tests' ;;
    libdnnl-dev) need "$package" 'compared with by clattice bench' ;;
    esac
done
pkg-config --exists clblast 2>/dev/null || need libclblast-dev 'compared with by clattice bench'
pkg-config --exists openblas 2>/dev/null || need libopenblas-dev 'compared with by clattice bench'
ask_later=
case $(registered_driver) in
none) need_pocl ;;
other)
    case $headers in
    *ocl-icd-opencl-dev* | *libc6-dev*) ask_later=yes ;; # nothing to ask with yet
    *) device_answers || need_pocl ;;
    esac
    ;;
esac
if [ "${1:-}" = test ]; then
    need_command oclgrind oclgrind 'runs kernels under scrutiny'
fi
if [ "${1:-}" = lint ]; then
    need_command clang clang 'second compiler'
    need_command clang-format clang-format 'layout of the code'
    need_command clang-tidy clang-tidy 'static checks'
    need_command shellcheck shellcheck 'checks of shell scripts'
fi
if [ "${1:-}" = plots ]; then
    need_command gnuplot gnuplot-nox 'draws the plots'
fi
if [ "${1:-}" = vendors ]; then
    need_command clang-19 clang-19 'compiles for AMD and NVIDIA'
    need_command ld.lld-19 lld-19 'links for AMD'
    need_command llvm-objdump-19 llvm-19 'reads what was compiled'
    need_command clang-15 clang-15 'compiles to SPIR-V'
    need_command llvm-spirv-15 llvm-spirv-15 'compiles to SPIR-V'
    need_command spirv-val spirv-tools 'checks SPIR-V'
    need_library libigdfcl.so.1 libigdfcl1 'compiles for Intel'
    need_library libigc.so.1 libigc1 'compiles for Intel'
    need_library libigdgmm.so.12 libigdgmm12 'compiles for Intel'
    need_command iga64 libigc-tools 'reads what was compiled for Intel'
    need_command python3 python3 'runs the compilers'
    python3 -m pip --version >/dev/null 2>&1 || need python3-pip "brings NVIDIA's assembler"
fi

# Package lists may be absent or too old to be fetched from: try as it is only when they look fresh.
lists_fresh() {
    [ -n "$(find /var/lib/apt/lists -maxdepth 1 -name '*_Packages*' -mtime -7 2>/dev/null)" ]
}

apt() {
    $as_root env DEBIAN_FRONTEND=noninteractive apt-get -q -y "$@" >"$log" 2>&1
}

install() {
    # shellcheck disable=SC2086 # a list of names
    apt install --no-install-recommends $packages
}

# Installs `packages`, or says why not and ends.
install_missing() {
    [ -n "$packages" ] || return 0
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
    { lists_fresh && install; } || { apt update && install; } || {
        cat "$log" >&2
        rm -f "$log"
        exit 1
    }
    rm -f "$log"
}

install_missing
if [ -n "$ask_later" ] && ! device_answers; then
    packages=
    reasons=
    need_pocl
    install_missing
fi
