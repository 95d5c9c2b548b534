#!/bin/bash
# Oclgrind interprets the portable kernels of every operator, in the cases of test_small, and must
# have nothing to report: no data race, no use of what nothing has initialised, no access outside of
# a buffer, no barrier that some work-items miss, no failed OpenCL call. Of kernels that are broken on
# purpose it must.
#
# Each case is a process of its own, and kernels are neither optimised nor inlined: docs/devices.md
# tells why.
# Prints what cmocka would. tests/run.sh sets BUILD. CLATTICE_TEST=pattern: only matching cases, as
# for test programs.
set -u

cd "$(dirname "$0")/.." || exit 1
program=${BUILD:-build}/tests/test_small
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
pattern=${CLATTICE_TEST:-*}
unset CLATTICE_DEVICE CLATTICE_TEST

command -v oclgrind >/dev/null || {
    echo 'oclgrind is missing: "make setup-test" installs it'
    exit 1
}
make --no-print-directory "$program" BUILD="${BUILD:-build}" >"$work/log" 2>&1 || {
    cat "$work/log"
    exit 1
}

# Runs a case of test_small. What Oclgrind finds comes on standard error, as does cmocka's last line.
watch() { # case, file for what it finds, option...
    local status
    CLATTICE_TEST=$1 CLATTICE_TEST_CACHE_DIR='' CLATTICE_TEST_NO_TAILS=1 timeout 300 oclgrind \
        --build-options '-cl-opt-disable -Dalways_inline=unused' \
        --data-races --check-api "${@:3}" "$program" >"$2.out" 2>"$2"
    status=$?
    [ $status -ne 124 ] || echo 'stopped after 300 s' >>"$2"
    sed -i '/^\[  PASSED  \]/d' "$2"
    return $status
}

passes() { # case, file for findings
    watch "$1" "$2" --uninitialized --max-errors 3 && [ ! -s "$2" ] && grep -qF "OK ] $1" "$2.out"
}

# Calls it with a file of its own as the last argument; a line like cmocka's, and what was found when
# it fails.
check() { # name, function, argument...
    local findings
    findings=$(mktemp -p "$work")
    if "${@:2}" "$findings"; then
        echo "[       OK ] $1"
    elif grep -qF SKIPPED "$findings.out"; then
        echo "[  SKIPPED ] $1"
    else
        printf '%s\n' "$(cat "$findings.out" "$findings" | head -n 100 | sed 's/^/    /')" \
            "[  FAILED  ] $1"
    fi
}

# Whether something is found that matches when a kernel is broken.
is_noticed() { # case, kernel, script for sed that breaks it, pattern, file for findings
    local kernels=$5.cl
    cp -r cl "$kernels"
    sed -i "$3" "$kernels/$2"
    if cmp -s "cl/$2" "$kernels/$2"; then
        echo "cl/$2 has nothing to break" >"$5.out"
        return 1
    fi
    CLATTICE_TEST_KERNEL_DIR=$kernels watch "$1" "$5" --uninitialized --max-errors 1000000
    grep -q "$4" "$5"
}

# A script for sed that leaves out one of the barriers.
without_barrier() { # kernel, which of them
    grep -n 'barrier(CLK_LOCAL_MEM_FENCE);' "cl/$1" | sed -n "$2p" |
        sed 's/:.*/s,barrier(.*);,;,/'
}

# Runs a case on an emulated matrix engine whose emulation does not synchronise, and works in memory
# that no two lanes share: what it computes is wrong, but the kernel around it must do without the
# emulation's barriers, as it does on the engine itself. False when it did not run.
watch_alone() { # case, kernel, script for sed, file for findings
    local kernels=$4.cl
    cp -r cl "$kernels"
    sed -i "$3" "$kernels/$2"
    sed -i -e 's/barrier(CLK_LOCAL_MEM_FENCE);//' -e 's/(subgroups)\*MMA_SCRATCH/MMA_LANES*&/' \
        -e 's/self.index \* MMA_SCRATCH/(self.index * MMA_LANES + self.lane) * MMA_SCRATCH/' \
        "$kernels/mma/emulated.clh"
    CLATTICE_TEST_KERNEL_DIR=$kernels watch "$1" "$4" --max-errors 3 --local-mem-size 4194304
    ! grep -q 'barrier(' "$kernels/mma/emulated.clh" && grep -q 'are wrong$' "$4"
}

is_sound_alone() { # case, file for findings
    watch_alone "$1" gemm_mma.cl '' "$2" && ! grep -q 'Kernel:\|Oclgrind' "$2"
}

is_noticed_alone() { # case, kernel, script for sed that breaks it, file for findings
    watch_alone "$1" "$2" "$3" "$4" && grep -q 'data race' "$4"
}

# As check, two at a time.
start() { # name, function, argument...
    # shellcheck disable=SC2053 # a pattern
    [[ $1 == $pattern ]] || return
    [ "$(jobs -rp | wc -l)" -lt 2 ] || wait -n
    check "$@" &
}

check_all() {
    local name
    start 'notices writes outside of a buffer' is_noticed 'attention simt full' \
        attention.clh 's/t.rows = min(BQ, p->seq_q - t.first)/t.rows = BQ/' 'Invalid write'
    start 'notices what is not initialised' is_noticed 'gemm cpu packed NN' \
        gemm_cpu.cl 's/sum\[i\]\[v\] = 0;/;/' 'uninitialized value'
    start 'notices a call that fails' is_noticed 'gemm simt one' \
        gemm_simt.cl 's/^gemm(/other(/' 'Function: clCreateKernel'
    start 'notices a race in gemm' is_noticed 'gemm simt NN' \
        gemm_simt.cl "$(without_barrier gemm_simt.cl 2)" 'data race'
    start 'notices a race in attention' is_noticed 'attention simt full' \
        attention_simt.cl "$(without_barrier attention_simt.cl '$')" 'data race'
    start 'notices a race in decoding' is_noticed 'attention decode_simt split' \
        attention_decode_simt.cl "$(without_barrier attention_decode_simt.cl 4)" 'data race'
    start 'notices a race around an engine' is_noticed_alone 'gemm mma intel_dpas16 NN' \
        gemm_mma.cl "$(without_barrier gemm_mma.cl 5)"
    for name in 'gemm mma nv_sm80 NN' 'gemm mma nv_sm80 tf32 TN' 'gemm mma intel_dpas16 NN' \
        'gemm mma amd_wmma12 TT' 'attention mma nv_sm80' 'attention mma amd_wmma11 chunked'; do
        start "$name without the emulation's barriers" is_sound_alone "$name"
    done
    while read -r name; do
        start "$name" passes "$name"
    done < <(CLATTICE_TEST_LIST=1 "$program")
    wait
}

check_all | tee "$work/results"
passed=$(grep -c '^\[       OK \]' "$work/results")
failed=$(grep -c '^\[  FAILED  \]' "$work/results")
skipped=$(grep -c '^\[  SKIPPED \]' "$work/results")
echo "[  PASSED  ] $passed test(s)."
[ "$skipped" -eq 0 ] || echo "[  SKIPPED ] $skipped test(s)."
[ "$failed" -eq 0 ] || echo "[  FAILED  ] $failed test(s)."
[ "$failed" -eq 0 ] && [ "$passed" -gt 0 ]
