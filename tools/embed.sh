#!/bin/sh
# Prints a C file that holds the given kernel files as `embedded_kernels` (src/program.h).
# Arrays of numbers rather than .incbin or string literals: any C compiler takes them, and there is
# no limit on their length.
set -eu

echo '#include "program.h"'
number=0
for path in "$@"; do
    printf '\nstatic const unsigned char file_%d[] = {\n' "$number"
    od -An -v -tu1 "$path" | sed 's/ *\([0-9][0-9]*\)/\1,/g'
    echo '0};'
    number=$((number + 1))
done

printf '\nconst struct embedded_file embedded_kernels[] = {\n'
number=0
for path in "$@"; do
    printf '    {"%s", (const char *)file_%d, sizeof file_%d - 1},\n' \
        "${path#cl/}" "$number" "$number"
    number=$((number + 1))
done
echo '    {NULL, NULL, 0}};'
