#!/bin/bash
# Runs test programs and scripts, a line for each and the details of those that fail, and ends with
# "N passed, N failed": test cases, where a program that crashes or hangs adds a failure.
#
#   tests/run.sh PROGRAM...
#
#   BUILD=build        logs and work go below it
#   T=                 runs only the programs whose names start with test_$T
#   TEST_TIMEOUT=600   seconds for each program; 0, also for full runs: as long as it takes
#   TEST_JOBS=2        programs at a time: most of their time is the kernel compiler's, on one core
set -u

export BUILD=${BUILD:-build}
export LOGS=$BUILD/tests/logs
if [ -n "${CLATTICE_TEST_FULL:-}" ]; then
    export TEST_TIMEOUT=${TEST_TIMEOUT:-0}
else
    export TEST_TIMEOUT=${TEST_TIMEOUT:-600}
fi

# The sum of the counts cmocka prints behind this mark, one for each group of cases.
sum_of() { # mark, log
    awk -v mark="[$1]" 'index($0, mark) == 1 && $0 ~ /\] [0-9]+ test/ {
                            sub(/^[^\]]*\] /, ""); sum += $1
                        }
                        END { print sum + 0 }' "$2"
}

# Writes "passed failed" to the program's .result.
run_one() { # program
    local name log start status tenths passed failed skipped note=
    name=$(basename "$1" .sh)
    log=$LOGS/$name.log
    start=${EPOCHREALTIME/./}
    timeout -k 10 "$TEST_TIMEOUT" "$1" >"$log" 2>&1 &
    # shellcheck disable=SC2064 # the process started just now
    trap "kill $!" INT TERM
    { wait $!; } 2>/dev/null
    status=$?
    tenths=$(((${EPOCHREALTIME/./} - start) / 100000))

    passed=$(sum_of '  PASSED  ' "$log")
    failed=$(sum_of '  FAILED  ' "$log")
    skipped=$(sum_of '  SKIPPED ' "$log")
    [ "$skipped" -eq 0 ] || note=", $skipped skipped"
    if [ "$status" -ne 0 ] && [ "$failed" -eq 0 ]; then
        failed=1
        note="$note, exit status $status"
        [ "$status" -ne 124 ] || note="$note: stopped after $TEST_TIMEOUT s"
        [ "$status" -ne 255 ] || note="$note: crashed, perhaps in a driver's thread"
    fi
    echo "$passed $failed" >"$LOGS/$name.result"

    local line
    printf -v line '%-26s %3d passed, %d failed%s (%d.%d s)' "$name" "$passed" "$failed" "$note" \
        $((tenths / 10)) $((tenths % 10))
    if [ "$failed" -ne 0 ]; then
        line+=$'\n'$(sed -e '/^\[ RUN  /d' -e '/^\[       OK \]/d' -e 's/^/    /' "$log")
    fi
    echo "$line"
}
export -f run_one sum_of

rm -rf "$LOGS"
mkdir -p "$LOGS"
chosen=()
for program in "$@"; do
    [[ $(basename "$program") != test_${T:-}* ]] || chosen+=("$program")
done
# shellcheck disable=SC2016 # $1 is for the inner shell
printf '%s\0' "${chosen[@]}" |
    xargs -0 -r -n 1 -P "${TEST_JOBS:-2}" bash -c '[ -z "$1" ] || run_one "$1"' run_one

cat "$LOGS"/*.result 2>/dev/null | awk '{ passed += $1; failed += $2 }
    END { print passed + 0 " passed, " failed + 0 " failed"; exit failed > 0 || passed == 0 }' |
    tee "$BUILD/tests/summary"
[ "${PIPESTATUS[1]}" -eq 0 ]
