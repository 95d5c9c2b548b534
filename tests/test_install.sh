#!/bin/bash
# What a user meets: install, build the examples through pkg-config, run them, uninstall.
# Prints what cmocka would. tests/run.sh sets BUILD.
set -u

cd "$(dirname "$0")/.." || exit 1
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
stage=$work/stage # DESTDIR
mkdir "$stage"

run_make() { # target
    make --no-print-directory "$1" BUILD="${BUILD:-build}" DESTDIR="$stage" \
        >"$work/log" 2>&1 && return
    cat "$work/log"
    return 1
}

same() { # what, expected, got
    [ "$2" = "$3" ] && return
    printf '%s: expected\n%s\ngot\n%s\n' "$1" "$2" "$3"
    return 1
}

dynamic() { # SONAME or NEEDED
    objdump -p "$lib/libclattice.so" | awk -v tag="$1" '$1 == tag { print $2 }'
}

test_install() {
    run_make install || return
    lib=$(dirname "$(find "$stage" -name libclattice.so)")
    kernels=$(find "$stage" -type d -path '*/clattice/kernels')
    [ -d "$lib" ] && [ -d "$kernels" ]
}

test_soname() {
    same SONAME libclattice.so.0 "$(dynamic SONAME)"
}

test_needed() {
    same 'needed libraries' 'libOpenCL libc libjansson libm' \
        "$(dynamic NEEDED | grep -v '^ld' | sed 's/\.so.*//' | LC_ALL=C sort | xargs)"
}

test_exports() { # the functions the header declares, with their version, and nothing else
    local declared exported
    declared=$(awk '/^CLAT_API/, /;/' include/clattice/clattice.h | grep -o 'clat_[a-z0-9_]*(' |
        tr -d '(' | sort -u)
    exported=$(nm -D --defined-only "$lib/libclattice.so" | awk '$2 != "A" { print $3 }' |
        sed 's/@@CLATTICE_0\.1$//' | sort -u)
    same 'exported symbols' "$declared" "$exported"
}

test_kernels() {
    same kernels "$(cd cl && find . -type f | sort)" "$(cd "$kernels" && find . -type f | sort)"
}

# A user's shell: nothing of the source tree is in reach but the copied examples.
example() { # name
    [ -d "$work/examples" ] || cp -r docs/examples "$work"
    PKG_CONFIG_PATH=$lib/pkgconfig PKG_CONFIG_SYSROOT_DIR=$stage MAKEFLAGS='' \
        make -s -C "$work/examples" "$1" || return
    LD_LIBRARY_PATH=$lib CLATTICE_KERNEL_DIR=$kernels CLATTICE_CACHE_DIR=$work/cache \
        "$work/examples/$1" >"$work/output"
}

test_sgemm() {
    example sgemm || return
    same 'the product' $'4 5\n10 11' "$(cat "$work/output")"
}

test_attention() { # prints "value = value" last
    example attention || return
    cat "$work/output"
    tail -n 1 "$work/output" | awk '{ exit !(NF == 3 && $1 == $3) }'
}

test_longformer() { # which compares with plain loops
    example longformer
}

test_readme() { # its example, as a user would paste it
    awk '/^```c$/ { inside = 1; next } /^```/ { inside = 0 } inside' README.md >"$work/readme.c"
    # shellcheck disable=SC2046 # flags
    "${CC:-cc}" -Wall -Werror -o "$work/readme" "$work/readme.c" $(
        PKG_CONFIG_PATH=$lib/pkgconfig PKG_CONFIG_SYSROOT_DIR=$stage \
            pkg-config --cflags --libs clattice) || return
    LD_LIBRARY_PATH=$lib CLATTICE_KERNEL_DIR=$kernels CLATTICE_CACHE_DIR=$work/cache \
        "$work/readme" >"$work/output" || return
    same 'the first element' 1400 "$(head -n 1 "$work/output")"
}

test_command() {
    local command
    command=$(find "$stage" -type f -name clattice)
    same 'the version' \
        "clattice $(PKG_CONFIG_PATH=$lib/pkgconfig pkg-config --modversion clattice)" \
        "$("$command" --version)"
}

test_uninstall() {
    run_make uninstall || return
    same 'what is left' '' "$(find "$stage" -name '*clattice*' -o ! -type d)"
}

passed=0
failed=0
for case in install soname needed exports kernels sgemm attention longformer readme command uninstall; do
    if "test_$case"; then
        echo "[       OK ] $case"
        passed=$((passed + 1))
    else
        echo "[  FAILED  ] $case"
        failed=$((failed + 1))
        [ "$case" != install ] || break # nothing to look at
    fi
done
echo "[  PASSED  ] $passed test(s)."
[ "$failed" -eq 0 ] || echo "[  FAILED  ] $failed test(s)."
[ "$failed" -eq 0 ]
