#!/bin/bash
# Runs test programs and scripts, a line for each and the whole output of those that fail, and ends
# with "N passed, N failed": test cases, where a program that crashes, hangs or does not exist adds
# one failure.
#
#   tests/run.sh PROGRAM...      BUILD: for logs and work; T: only names that start with test_$T
#   TEST_TIMEOUT=300             seconds for each program
set -u

build=${BUILD:-build}
logs=$build/tests/logs
timeout=${TEST_TIMEOUT:-300}
[ -z "${CLATTICE_TEST_FULL:-}" ] || timeout=${TEST_TIMEOUT:-3600}
mkdir -p "$logs"

passed=0
failed=0

# Sum of the numbers in the lines that start with this.
sum_of() { # prefix, file
    awk -v prefix="$1" 'index($0, prefix) == 1 { sub(/^[^\]]*\] */, ""); sum += $1 }
                        END { print sum + 0 }' "$2"
}

for program in "$@"; do
    name=$(basename "$program" .sh)
    [[ $name == test_${T:-}* ]] || continue
    log=$logs/$name.log
    start=$EPOCHREALTIME
    timeout -k 10 "$timeout" "$program" >"$log" 2>&1
    status=$?
    milliseconds=$(((${EPOCHREALTIME/./} - ${start/./}) / 1000))

    ok=$(sum_of '[  PASSED  ]' "$log")
    bad=$(sum_of '[  FAILED  ]' "$log")
    skipped=$(sum_of '[  SKIPPED ]' "$log")
    note=
    [ "$skipped" -eq 0 ] || note=", $skipped skipped"
    if [ "$status" -ne 0 ] && [ "$bad" -eq 0 ]; then
        bad=1
        note="$note, ended with status $status"
        [ "$status" -ne 124 ] || note="$note: stopped after $timeout s"
    fi
    passed=$((passed + ok))
    failed=$((failed + bad))

    printf '%-28s %3d passed, %d failed%s (%d.%01d s)\n' "$name" "$ok" "$bad" "$note" \
        $((milliseconds / 1000)) $((milliseconds % 1000 / 100))
    [ "$bad" -eq 0 ] || sed -e '/^\[ RUN  /d' -e '/^\[       OK \]/d' -e 's/^/    /' "$log"
done

echo "$passed passed, $failed failed"
[ "$failed" -eq 0 ] && [ "$passed" -gt 0 ]
