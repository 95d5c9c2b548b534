/* The small parts everything rests on: statuses, growing strings, element types, tunables. */
#include "dtype.h"
#include "harness.h"
#include "op.h"
#include "text.h"

#include <math.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static void test_status_names(void **state) {
    (void)state;
    assert_string_equal(clat_status_name(CLAT_OK), "CLAT_OK");
    assert_string_equal(clat_status_name(CLAT_WRONG_RESULT), "CLAT_WRONG_RESULT");
    assert_string_equal(clat_status_name((clat_status)999), "CLAT_UNKNOWN");
    for (int i = 0; i <= CLAT_WRONG_RESULT; i++) {
        assert_string_not_equal(clat_status_name((clat_status)i), "CLAT_UNKNOWN");
        assert_true(strlen(clat_status_meaning((clat_status)i)) > 5);
    }
    assert_string_equal(clat_version(), "0.1.0");
}

static void test_status_cl(void **state) {
    (void)state;
    status_clear();
    assert_int_equal(status_cl(CL_SUCCESS, "clFoo"), CLAT_OK);
    assert_string_equal(clat_error_text(), "");
    assert_int_equal(status_cl(CL_INVALID_KERNEL_ARGS, "clFoo(a, b)"), CLAT_OPENCL_ERROR);
    assert_string_equal(clat_error_text(), "clFoo failed: CL_INVALID_KERNEL_ARGS (-52)");
    assert_int_equal(clat_error_cl(), CL_INVALID_KERNEL_ARGS);
    assert_int_equal(status_cl(CL_MEM_OBJECT_ALLOCATION_FAILURE, "clFoo"), CLAT_OUT_OF_MEMORY);
    assert_int_equal(clat_error_cl(), CL_MEM_OBJECT_ALLOCATION_FAILURE);
    assert_int_equal(status_cl(CL_OUT_OF_RESOURCES, "clFoo"), CLAT_OPENCL_ERROR);
    assert_int_equal(status_cl(-4711, "clFoo"), CLAT_OPENCL_ERROR);
    assert_non_null(strstr(clat_error_text(), "unknown OpenCL error"));
    status_clear();
    assert_string_equal(clat_error_text(), "");
    assert_int_equal(clat_error_cl(), CL_SUCCESS);
}

static void *fail_elsewhere(void *unused) {
    (void)unused;
    status_fail(CLAT_NOT_FOUND, "other thread");
    return NULL;
}

static void test_status_is_per_thread(void **state) {
    (void)state;
    pthread_t thread;
    status_fail(CLAT_NOT_FOUND, "this thread");
    assert_int_equal(pthread_create(&thread, NULL, fail_elsewhere, NULL), 0);
    pthread_join(thread, NULL);
    assert_string_equal(clat_error_text(), "this thread");
}

static void test_text(void **state) {
    (void)state;
    struct text text = {0};
    assert_string_equal(text_string(&text), "");
    for (int i = 0; i < 1000; i++)
        text_printf(&text, "%d,", i);
    assert_int_equal(text.length, 10 * 2 + 90 * 3 + 900 * 4);
    assert_int_equal(strlen(text.data), text.length);
    assert_non_null(strstr(text.data, ",998,999,"));
    text_append(&text, "a\0b", 3);
    assert_int_equal(text.data[text.length - 1], 'b');
    assert_ok(text_check(&text));
    text_free(&text);
    assert_null(text.data);

    text_append(&text, "x", SIZE_MAX / 2 + 1);
    assert_int_equal(text_check(&text), CLAT_OUT_OF_MEMORY);
    text_printf(&text, "more");
    assert_string_equal(text_string(&text), "");
    text_free(&text);
}

static void test_text_file(void **state) {
    (void)state;
    struct text text = {0};
    const char *directory = harness_temp_dir();
    char *path = text_format("%s/file", directory);
    assert_int_equal(text_read_file(&text, path), CLAT_NOT_FOUND);
    FILE *file = fopen(path, "w");
    for (int i = 0; i < 50000; i++)
        fputs("line\n", file);
    fclose(file);
    assert_ok(text_read_file(&text, path));
    assert_int_equal(text.length, 250000);
    text_free(&text);
    assert_int_equal(text_read_file(&text, directory), CLAT_IO_ERROR);
    text_free(&text);
    free(path);
}

/* Every finite f16 and bf16 survives the way to double and back. */
static void test_dtype_round_trip(void **state) {
    (void)state;
    const clat_dtype types[] = {CLAT_F16, CLAT_BF16};
    for (int t = 0; t < 2; t++)
        for (unsigned bits = 0; bits < 0x10000; bits++) {
            const uint16_t in = (uint16_t)bits;
            uint16_t out = 0;
            const double value = dtype_load(types[t], &in, 0);
            dtype_store(types[t], &out, 0, value);
            if (isnan(value)) {
                assert_true(isnan(dtype_load(types[t], &out, 0)));
            } else {
                assert_int_equal(out, in);
            }
        }
}

struct rounding {
    clat_dtype dtype;
    double in, out;
};

static const struct rounding roundings[] = {
    {CLAT_F16, 1 + 0x1p-11, 1},                     /* tie to even */
    {CLAT_F16, 1 + 3 * 0x1p-11, 1 + 0x1p-9},        /* tie to even, upwards */
    {CLAT_F16, 1 + 0x1p-11 + 0x1p-40, 1 + 0x1p-10}, /* just above a tie: no double rounding */
    {CLAT_F16, 65519, 65504},
    {CLAT_F16, 65520, INFINITY},
    {CLAT_F16, 0x1p-25, 0},
    {CLAT_F16, 0x1.8p-25, 0x1p-24},
    {CLAT_F16, 0x1.ffep-15, 0x1p-14}, /* subnormal that rounds up to the first normal */
    {CLAT_F16, -2.0009765625 - 1e-9, -2.001953125},
    {CLAT_BF16, 1 + 0x1p-8, 1},
    {CLAT_BF16, 1 + 0x1p-8 + 0x1p-40, 1 + 0x1p-7}, /* f32 in between would lose the last bit */
    {CLAT_BF16, 1 + 3 * 0x1p-8, 1 + 0x1p-6},
    {CLAT_BF16, 3.38e38, 0x1.fcp127},
    {CLAT_BF16, 1e300, INFINITY},
    {CLAT_F32, 1 + 0x1p-24, 1},
    {CLAT_F64, 1 + 0x1p-52, 1 + 0x1p-52},
};

static void test_dtype_rounding(void **state) {
    (void)state;
    for (size_t i = 0; i < sizeof roundings / sizeof roundings[0]; i++) {
        double storage = 0;
        dtype_store(roundings[i].dtype, &storage, 0, roundings[i].in);
        const double got = dtype_load(roundings[i].dtype, &storage, 0);
        if (got != roundings[i].out)
            fail_msg("%s(%.17g) is %.17g, not %.17g", clat_dtype_name(roundings[i].dtype),
                     roundings[i].in, got, roundings[i].out);
    }
    assert_int_equal(clat_dtype_bytes(CLAT_F64), 8);
    assert_int_equal(clat_dtype_bytes(CLAT_BF16), 2);
    assert_int_equal(clat_dtype_bytes((clat_dtype)77), 0);
}

#define FAKE_TUNABLES(X)                                                                           \
    X(MR, "rows", 4, 2, 4, 8)                                                                      \
    X(OFF, "a switch", 0, 0, 1)                                                                    \
    X(MRX, "a longer name with the same start", 1, 1)

static const struct tunable fake_tunables[] = {FAKE_TUNABLES(TUNABLE_ROW)};
static const struct implementation fake = {
    .name = "fake", .tunables = fake_tunables, .n_tunables = 3};

static void test_tunables(void **state) {
    (void)state;
    int values[3] = {4, 0, 1};
    struct text text = {0};
    assert_int_equal(tunable_count(&fake_tunables[0]), 3);
    assert_int_equal(tunable_count(&fake_tunables[1]), 2);
    assert_int_equal(tunable_count(&fake_tunables[2]), 1);
    assert_ok(tunables_parse(&fake, "  OFF=1 MR=8", values));
    tunables_print(&fake, values, &text);
    assert_string_equal(text.data, "MR=8 OFF=1 MRX=1");
    text_free(&text);
    assert_ok(tunables_parse(&fake, "", values));
    assert_ok(tunables_parse(&fake, "MRX=1", values));
    const char *bad[] = {
        "NR=1", "M=2", "MR=3", "MR", "MR=", "MR=4x", "MR = 4", "=4", "MR=99999999999999"};
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++)
        assert_status(CLAT_INVALID_TUNABLES, tunables_parse(&fake, bad[i], values));
}

static const struct CMUnitTest tests[] = {
    cmocka_unit_test(test_status_names),
    cmocka_unit_test(test_status_cl),
    cmocka_unit_test(test_status_is_per_thread),
    cmocka_unit_test(test_text),
    cmocka_unit_test(test_text_file),
    cmocka_unit_test(test_dtype_round_trip),
    cmocka_unit_test(test_dtype_rounding),
    cmocka_unit_test(test_tunables),
};
HARNESS_MAIN(tests)
