#!/bin/bash
# Runs a command with one other OpenCL implementation, and no more than that one, in view; installs
# it first where it is missing.
#
#   tests/with_opencl.sh rusticl COMMAND...     Mesa on the CPU (llvmpipe), a Debian package
#   tests/with_opencl.sh intel-cpu COMMAND...   Intel's CPU runtime, from PyPI to $BUILD/opencl
#
#   NO_INSTALL=1   fail where it is missing
set -eu

name=${1:-}
[ $# -ge 2 ] || {
    sed -n '2,8s/^# \{0,1\}//p' "$0" >&2
    exit 2
}
shift
directory=$(realpath -m "${BUILD:-build}")/opencl

refuse() { # why
    echo "$name: $1" >&2
    exit 1
}

may_install() { # what
    [ -z "${NO_INSTALL:-}" ] || refuse "missing: $1"
    echo "Installing $1"
}

has_library() { # name
    { /sbin/ldconfig -p 2>/dev/null || ldconfig -p; } | grep -q "$1"
}

# To a log that is shown when it fails.
quietly() { # command...
    "$@" >"$directory/log" 2>&1 || {
        cat "$directory/log" >&2
        refuse "cannot be installed"
    }
}

mkdir -p "$directory"
export OCL_ICD_VENDORS="$directory/$name.icd"
case $name in
rusticl)
    library=libRusticlOpenCL.so.1
    if ! has_library $library; then
        may_install 'mesa-opencl-icd'
        command -v apt-get >/dev/null || refuse "no apt-get to install mesa-opencl-icd with"
        as_root=
        [ "$(id -u)" -eq 0 ] || as_root=sudo
        quietly $as_root env DEBIAN_FRONTEND=noninteractive \
            apt-get -q -y install --no-install-recommends mesa-opencl-icd
    fi
    export RUSTICL_ENABLE=llvmpipe
    ;;
intel-cpu)
    # intel-opencl-rt needs the second package and does not say so.
    packages='intel-opencl-rt==2026.2.0 intel-cmplr-lib-rt==2026.2.0'
    libraries=$directory/intel-cpu/lib
    library=$libraries/libintelocl.so
    if [ ! -e "$directory/intel-cpu/complete" ]; then
        may_install "$packages"
        rm -rf "$directory/intel-cpu"
        quietly python3 -m venv "$directory/intel-cpu"
        # shellcheck disable=SC2086 # two packages
        quietly "$directory/intel-cpu/bin/pip" install --disable-pip-version-check $packages
        rm -f "$libraries"/libOpenCL.so* # a loader that would stand in for the system's
        touch "$directory/intel-cpu/complete"
    fi
    export LD_LIBRARY_PATH="$libraries${LD_LIBRARY_PATH:+:$LD_LIBRARY_PATH}"
    ;;
*) refuse 'not known; rusticl or intel-cpu' ;;
esac
echo "$library" >"$OCL_ICD_VENDORS"
exec "$@"
