#include "emulated_dot.h"

#include <stdio.h>

#define EMULATION(expression)                                                                      \
    "#include \"bf16_pair.clh\"\n"                                                                 \
    "static inline float16 bf16_dot(uint16 a, uint16 b, float16 sum)\n"                            \
    "{\n"                                                                                          \
    "    const uint16 high = 0xffff0000u;\n"                                                       \
    "    return " expression ";\n"                                                                 \
    "}\n"                                                                                          \
    "static inline uint16 round_words(float16 even, float16 odd)\n"                                \
    "{\n"                                                                                          \
    "    return bf16_pair(bf16_round16(even), bf16_round16(odd));\n"                               \
    "}\n"
#define ODD "fma(as_float16(a & high), as_float16(b & high), sum)"

static const char *const emulation[] = {
    [DOT_WHOLE] = EMULATION("fma(as_float16(a << 16), as_float16(b << 16), " ODD ")"),
    [DOT_HALF] = EMULATION(ODD),
};

const char *emulated_dot_kernels(enum emulated_dot how) {
    char path[512];
    const char *directory = harness_temp_dir();
    snprintf(path, sizeof path, "%s/bf16_dot.clh", directory);
    FILE *file = fopen(path, "w");
    assert_non_null(file);
    assert_true(fputs(emulation[how], file) >= 0);
    assert_int_equal(0, fclose(file));
    return directory;
}
