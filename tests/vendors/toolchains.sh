#!/bin/bash
# Brings the vendors' compilers that no Debian package can simply install: unpacked below a
# directory, where they conflict with nothing and register no OpenCL driver.
#
#   tests/vendors/toolchains.sh DIRECTORY     e.g. build/vendors/tools
#
#   NO_INSTALL=1   fail where something is missing
#
#   bin/ocloc             intel-opencl-icd, whose driver would be registered
#   root/usr/lib/clc/     libclc-19, which conflicts with the libclc-15 of Mesa's driver
#   bin/ptxas             the CUDA toolkit's on PATH, else from PyPI; likewise bin/nvdisasm
#
# Clang and the rest are ordinary packages: tools/setup.sh vendors.
set -eu

[ $# -eq 1 ] || {
    sed -n '2,14s/^# \{0,1\}//p' "$0" >&2
    exit 2
}
mkdir -p "$1/bin" "$1/download"
tools=$(realpath "$1")
log=$tools/log
ptxas_targets='sm_75 sm_80 sm_86 sm_89 sm_90 sm_100 sm_120'

refuse() { # why
    echo "make vendors: $1" >&2
    exit 1
}

bring() { # what; says so, or refuses
    [ -z "${NO_INSTALL:-}" ] || refuse "missing: $1 (below $tools)"
    echo "Unpacking $1 below $tools"
}

update_lists() {
    local as_root=
    if [ "$(id -u)" -ne 0 ]; then
        command -v sudo >/dev/null || refuse "the package lists are old: run apt-get update as root"
        as_root=sudo
    fi
    $as_root apt-get -q update >>"$log" 2>&1
}

# As root apt wants to give the work to a user who need not see this directory.
download_deb() { # package
    (cd "$tools/download" && apt-get -q -o APT::Sandbox::User=root download "$1") >>"$log" 2>&1
}

unpack_deb() { # package
    [ ! -e "$tools/$1.complete" ] || return 0
    bring "$1"
    download_deb "$1" || { update_lists && download_deb "$1"; } || {
        cat "$log" >&2
        refuse "$1 cannot be downloaded"
    }
    dpkg -x "$tools/download/$1"_*.deb "$tools/root"
    touch "$tools/$1.complete"
}

unpack_wheel() { # package==version, program below nvidia/cu13/bin
    bring "$1"
    python3 -m pip download --disable-pip-version-check -q --no-deps -d "$tools/download" "$1" \
        >>"$log" 2>&1 || {
        cat "$log" >&2
        refuse "$1 cannot be downloaded"
    }
    local wheel=${1//-/_}
    python3 -m zipfile -e "$tools/download/${wheel/==/-}"-*.whl "$tools/wheels"
    chmod +x "$tools/wheels/nvidia/cu13/bin/$2"
    ln -sf "../wheels/nvidia/cu13/bin/$2" "$tools/bin/$2"
}

# An older toolkit lacks the newest targets, a newer one the oldest.
knows_all_targets() { # ptxas
    local help target
    help=$("$1" --help) || return 1
    for target in $ptxas_targets; do
        [[ $help == *"$target"[!0-9a-z]* ]] || return 1
    done
}

# Both from one place: an older disassembler does not know what a newer assembler makes.
bring_cuda() {
    if [ -x "$tools/bin/ptxas" ] && [ -x "$tools/bin/nvdisasm" ]; then
        return
    elif command -v ptxas >/dev/null && command -v nvdisasm >/dev/null && knows_all_targets ptxas; then
        ln -sf "$(command -v ptxas)" "$tools/bin/ptxas"
        ln -sf "$(command -v nvdisasm)" "$tools/bin/nvdisasm"
    else
        unpack_wheel nvidia-cuda-nvcc==13.5.37 ptxas
        unpack_wheel nvidia-cuda-nvdisasm==13.5.37 nvdisasm
    fi
}

: >"$log"
[ "$(uname -m)" = x86_64 ] || refuse 'the compilers are there for x86-64 only'
unpack_deb intel-opencl-icd
unpack_deb libclc-19
unpack_deb libclc-19-dev
cat >"$tools/bin/ocloc" <<WRAPPER
#!/bin/sh
LD_LIBRARY_PATH='$tools/root/usr/lib/$(uname -m)-linux-gnu' exec '$tools/root/usr/bin/ocloc' "\$@"
WRAPPER
chmod +x "$tools/bin/ocloc"
bring_cuda
rm -rf "$tools/download"
