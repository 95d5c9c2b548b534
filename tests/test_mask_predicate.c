/* Masks as OpenCL C: predicates against the plain definition, element by element. */
#include "mask_cases.h"

#include "mask.h"

#include <stdio.h>
#include <stdlib.h>

/* A mask for one size. */
struct subject {
    const char *name;
    clat_mask *mask;
    int64_t seq_q, seq_k, heads;
};

static cl_program built(const struct text *source) {
    cl_int err;
    const char *text = text_string(source);
    cl_device_id device = clat_context_device(harness_context());
    cl_program program =
        clCreateProgramWithSource(clat_context_cl(harness_context()), 1, &text, NULL, &err);
    assert_cl(err);
    assert_cl(clBuildProgram(program, 1, &device, "-cl-std=CL1.2", NULL, NULL));
    return program;
}

/* A kernel for each mask in one program; what two masks would both define is renamed. */
static void append_kernel(struct text *source, size_t n, const struct text *predicate) {
    text_printf(source, "#define mask_listed mask_listed%zu\n#define mask_block mask_block%zu\n", n,
                n);
    text_append(source, text_string(predicate), predicate->length);
    text_printf(
        source,
        "__kernel void see%zu(__global uchar *out, __global const uint *words) {\n"
        "    const int i = get_global_id(0), j = get_global_id(1);\n"
        "    const int head = get_global_id(2);\n"
        "    const size_t at = (head * get_global_size(1) + j) * get_global_size(0) + i;\n"
        "    int seen = MASK_VISIBLE(words, words, 0, head, 1, i, j) != 0;\n"
        "#if MASK_VECTORS\n"
        "    const int4 all = MASK_VISIBLE(words, words, 0, head, 1, (int4)(0, 1, 2, i), j);\n"
        "    if ((all.w != 0) != seen)\n"
        "        seen = 2;\n"
        "#endif\n"
        "    out[at] = seen;\n"
        "}\n"
        "#undef MASK_VISIBLE\n#undef MASK_VECTORS\n#undef mask_listed\n#undef mask_block\n",
        n);
}

static void check_predicate(cl_program program, size_t n, const struct subject *s,
                            const uint32_t *words, size_t n_words) {
    const size_t global[] = {(size_t)s->seq_q, (size_t)s->seq_k, (size_t)s->heads};
    const size_t count = global[0] * global[1] * global[2];
    char name[32];
    cl_int err;
    snprintf(name, sizeof name, "see%zu", n);
    cl_kernel kernel = clCreateKernel(program, name, &err);
    assert_cl(err);
    cl_mem out = harness_buffer(count, NULL), data = harness_buffer(n_words * 4, words);
    unsigned char *seen = harness_alloc(count);
    assert_cl(clSetKernelArg(kernel, 0, sizeof out, &out));
    assert_cl(clSetKernelArg(kernel, 1, sizeof data, &data));
    assert_cl(
        clEnqueueNDRangeKernel(harness_queue(), kernel, 3, NULL, global, NULL, 0, NULL, NULL));
    harness_read(out, 0, count, seen);
    for (size_t at = 0; at < count; at++) {
        const int64_t i = (int64_t)(at % global[0]), j = (int64_t)(at / global[0] % global[1]);
        const int64_t head = (int64_t)(at / global[0] / global[1]);
        if (seen[at] != clat_mask_visible(s->mask, s->seq_q, s->seq_k, head, i, j))
            fail_msg("%s: predicate says %d at (%d, %d) of head %d", s->name, seen[at], (int)i,
                     (int)j, (int)head);
    }
    free(seen);
    clReleaseMemObject(out);
    clReleaseMemObject(data);
    clReleaseKernel(kernel);
}

static void test_predicates(void **state) {
    (void)state;
    enum { MOST_CASES = 80 };
    struct text source = {0};
    struct subject subjects[MOST_CASES];
    uint32_t *words[MOST_CASES];
    size_t n_words[MOST_CASES];
    assert_true(n_mask_cases <= MOST_CASES);
    for (size_t n = 0; n < n_mask_cases; n++) {
        struct text predicate = {0};
        struct subject *s = &subjects[n];
        *s = (struct subject){mask_cases[n].name, mask_cases[n].make(45, 67), 45, 67,
                              mask_cases[n].heads};
        words[n] = NULL;
        if (s->mask == NULL)
            continue;
        assert_ok(mask_predicate(s->mask, s->seq_q, s->seq_k, &predicate, &words[n], &n_words[n]));
        append_kernel(&source, n, &predicate);
        text_free(&predicate);
    }
    cl_program program = built(&source);
    for (size_t n = 0; n < n_mask_cases; n++) {
        if (words[n] != NULL)
            check_predicate(program, n, &subjects[n], words[n], n_words[n]);
        free(words[n]);
        clat_mask_release(subjects[n].mask);
    }
    clReleaseProgram(program);
    text_free(&source);
}

/* Predicates divide by multiplying: far out, by all kinds of numbers. Lengths are the largest that
 * masks of such steps serve. */
struct far_case {
    int64_t step;
    bool stride; /* or periodic keys */
};

enum { FAR_SIDE = 64, FAR_Q = 3999971, FAR_K = 4099 }; /* between those that are asked for */

static clat_mask *make_far(const struct far_case *is, int64_t seq) {
    clat_mask *mask = NULL;
    const int64_t distance = FAR_K * 4 - FAR_Q * (FAR_SIDE - 4), rest = (seq - 1) % is->step;
    const int64_t half = rest / 2, near = rest - FAR_K * (FAR_SIDE / 2);
    if (is->stride)
        assert_ok(clat_mask_stride(&mask, is->step, (distance % is->step + is->step) % is->step));
    else
        assert_ok(clat_mask_periodic_keys(&mask, is->step, near > half ? near : half, rest + 1));
    return mask;
}

static void check_far(const struct far_case *is, const clat_mask *mask, int64_t seq,
                      const unsigned char *seen) {
    int hits = 0;
    for (int64_t at = 0; at < FAR_SIDE * FAR_SIDE; at++) {
        const int64_t i = seq - 1 - FAR_Q * (at % FAR_SIDE), j = seq - 1 - FAR_K * (at / FAR_SIDE);
        hits += seen[at];
        if (seen[at] != clat_mask_visible(mask, seq, seq, 0, i, j))
            fail_msg("step %d: %d at (%d, %d)", (int)is->step, seen[at], (int)i, (int)j);
    }
    assert_true(hits > 0);
    assert_true(is->step == 1 || hits < FAR_SIDE * FAR_SIDE);
}

static void test_far_remainders(void **state) {
    const struct far_case *is = *state;
    const int64_t seq = is->stride ? ((1 << 30) - is->step) / 2 : (1 << 30) - 1;
    struct text source = {0};
    uint32_t *words = NULL;
    size_t n_words = 0;
    cl_int err;
    clat_mask *mask = make_far(is, seq);
    assert_ok(mask_check(mask, seq, seq, 1));
    assert_ok(mask_predicate(mask, seq, seq, &source, &words, &n_words));
    text_printf(&source,
                "__kernel void see(__global uchar *out, __global const uint *words) {\n"
                "    const int i = %d - 1 - %d * get_global_id(0);\n"
                "    const int j = %d - 1 - %d * get_global_id(1);\n"
                "    out[get_global_id(1) * %d + get_global_id(0)] =\n"
                "        MASK_VISIBLE(words, words, 0, 0, 1, i, j) != 0;\n}\n",
                (int)seq, FAR_Q, (int)seq, FAR_K, FAR_SIDE);
    cl_program program = built(&source);
    cl_kernel kernel = clCreateKernel(program, "see", &err);
    assert_cl(err);
    unsigned char seen[FAR_SIDE * FAR_SIDE];
    const size_t global[] = {FAR_SIDE, FAR_SIDE};
    cl_mem out = harness_buffer(sizeof seen, NULL), data = harness_buffer(n_words * 4, words);
    assert_cl(clSetKernelArg(kernel, 0, sizeof out, &out));
    assert_cl(clSetKernelArg(kernel, 1, sizeof data, &data));
    assert_cl(
        clEnqueueNDRangeKernel(harness_queue(), kernel, 2, NULL, global, NULL, 0, NULL, NULL));
    harness_read(out, 0, sizeof seen, seen);
    check_far(is, mask, seq, seen);
    clReleaseMemObject(out);
    clReleaseMemObject(data);
    clReleaseKernel(kernel);
    clReleaseProgram(program);
    text_free(&source);
    free(words);
    clat_mask_release(mask);
}

/* The text does not depend on lengths: other lengths, same program. */
static void test_predicate_text(void **state) {
    (void)state;
    for (size_t n = 1; n < n_mask_cases; n++) {
        struct text text[2] = {{0}, {0}};
        uint32_t *words = NULL;
        size_t n_words = 0;
        for (uint32_t k = 0; k < 2; k++) {
            clat_mask *mask = mask_cases[n].make(40 + 77 * k, 90 + 31 * k);
            assert_ok(mask_predicate(mask, 40 + 77 * k, 90 + 31 * k, &text[k], &words, &n_words));
            free(words);
            clat_mask_release(mask);
        }
        assert_string_equal(text_string(&text[0]), text_string(&text[1]));
        text_free(&text[0]);
        text_free(&text[1]);
    }
}

static const struct far_case far_cases[] = {
    {1, true},
    {2, true},
    {3, true},
    {7, true},
    {64, true},
    {641, true},
    {65537, true},
    {1, false},
    {2, false},
    {3, false},
    {7, false},
    {64, false},
    {641, false},
    {65537, false},
    {(1 << 20) - 1, true},
    {(1 << 20) - 1, false},
    {(1 << 28) + 1, true},
    {(1 << 28) + 1, false},
};

int main(void) {
    harness_add("predicates", test_predicates, NULL);
    for (size_t i = 0; i < sizeof far_cases / sizeof *far_cases; i++) {
        static char names[sizeof far_cases / sizeof *far_cases][40];
        snprintf(names[i], sizeof names[i], "far remainders, %s by %d",
                 far_cases[i].stride ? "distances" : "keys", (int)far_cases[i].step);
        harness_add(names[i], test_far_remainders, &far_cases[i]);
    }
    harness_add("predicate text", test_predicate_text, NULL);
    return harness_run_added();
}
