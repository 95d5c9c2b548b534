/* Bounds and overlaps of tensors in buffers, against brute force over their elements. */
#include "harness.h"
#include "plan.h"

#include <stdlib.h>
#include <string.h>

static void test_span(void **state) {
    (void)state;
    size_t span = 0;
    assert_true(view_span(2, (size_t[]){3, 4}, (size_t[]){10, 1}, 4, &span));
    assert_int_equal(span, 24);
    assert_true(view_span(2, (size_t[]){3, 0}, (size_t[]){10, 1}, 4, &span));
    assert_int_equal(span, 0);
    assert_true(view_span(0, NULL, NULL, 4, &span));
    assert_int_equal(span, 1);
    assert_false(view_span(1, (size_t[]){SIZE_MAX}, (size_t[]){2}, 1, &span));
    assert_false(view_span(2, (size_t[]){SIZE_MAX, 2}, (size_t[]){1, SIZE_MAX}, 1, &span));
    assert_false(view_span(1, (size_t[]){SIZE_MAX / 4}, (size_t[]){1}, 4, &span));
    assert_true(view_span(1, (size_t[]){SIZE_MAX / 16}, (size_t[]){1}, 4, &span));
}

/* Marks every element of a view in `map`; true when one was marked before. */
static bool mark(const struct view *view, unsigned char *map, unsigned char with) {
    bool twice = false;
    size_t index[4] = {0};
    size_t total = 1;
    for (unsigned i = 0; i < view->rank; i++)
        total *= view->extent[i];
    for (size_t n = 0; n < total; n++) {
        size_t rest = n, at = view->offset;
        for (unsigned i = 0; i < view->rank; i++) {
            index[i] = rest % view->extent[i];
            rest /= view->extent[i];
            at += index[i] * view->stride[i];
        }
        twice |= map[at] != 0;
        map[at] = with;
    }
    return twice;
}

static struct view random_view(uint64_t *seed, cl_mem buffer) {
    struct view view = {.name = "v", .buffer = buffer, .element_bytes = 4, .rank = 3};
    view.offset = harness_random_below(seed, 40);
    for (unsigned i = 0; i < view.rank; i++)
        view.extent[i] = 1 + harness_random_below(seed, 4);
    view.stride[2] = 1 + harness_random_below(seed, 2);
    view.stride[1] = harness_random_below(seed, 24);
    view.stride[0] = harness_random_below(seed, 2) ? 24 * harness_random_below(seed, 5) : 48;
    return view;
}

/* The fast test may refuse views that do not touch, never accept ones that do; and it must accept
 * nested layouts. */
static void test_self_overlap(void **state) {
    (void)state;
    uint64_t seed = 1;
    size_t accepted = 0;
    for (int n = 0; n < 20000; n++) {
        unsigned char map[4096] = {0};
        const struct view view = random_view(&seed, NULL);
        const bool twice = mark(&view, map, 1);
        const bool said = view_self_overlaps(view.rank, view.extent, view.stride);
        if (twice && !said)
            fail_msg("case %d: an overlap was missed", n);
        accepted += !said;
    }
    assert_true(accepted > 3000);
    assert_false(view_self_overlaps(2, (size_t[]){5, 7}, (size_t[]){7, 1}));
    assert_false(view_self_overlaps(2, (size_t[]){5, 7}, (size_t[]){1, 5}));
    assert_true(view_self_overlaps(2, (size_t[]){5, 7}, (size_t[]){6, 1}));
    assert_true(view_self_overlaps(1, (size_t[]){2}, (size_t[]){0}));
    assert_false(view_self_overlaps(1, (size_t[]){1}, (size_t[]){0}));
}

static void test_disjoint(void **state) {
    (void)state;
    cl_mem buffer = harness_buffer(16384, NULL);
    uint64_t seed = 2;
    size_t accepted = 0;
    for (int n = 0; n < 20000; n++) {
        unsigned char map[4096] = {0};
        const struct view a = random_view(&seed, buffer), b = random_view(&seed, buffer);
        mark(&a, map, 1);
        unsigned char other[4096] = {0};
        mark(&b, other, 1);
        bool touch = false;
        for (size_t i = 0; i < sizeof map; i++)
            touch |= map[i] && other[i];
        const clat_status st = view_disjoint(&a, &b);
        if (touch && st == CLAT_OK)
            fail_msg("case %d: views share an element", n);
        accepted += st == CLAT_OK;
    }
    assert_true(accepted > 2000);
    clReleaseMemObject(buffer);
}

/* Q, K, V and O as columns of one packed matrix: bounding ranges meet, elements do not. */
static void test_packed_columns(void **state) {
    (void)state;
    cl_mem buffer = harness_buffer(16384, NULL);
    struct view q = {"q", buffer, 0, 4, 3, {10, 2, 8}, {64, 8, 1}};
    struct view o = {"o", buffer, 48, 4, 3, {10, 2, 8}, {64, 8, 1}};
    assert_ok(view_disjoint(&o, &q));
    o.extent[0] = 1; /* one token: only q's stride tells the period */
    o.offset = 4 * 64 + 48;
    assert_ok(view_disjoint(&o, &q));
    o.extent[0] = 10;
    o.offset = 8; /* second head of q */
    assert_status(CLAT_INVALID_OVERLAP, view_disjoint(&o, &q));
    assert_error_names("args.o");
    o.offset = 56; /* wraps into the next row's q */
    assert_status(CLAT_INVALID_OVERLAP, view_disjoint(&o, &q));
    clReleaseMemObject(buffer);
}

static void test_sub_buffers(void **state) {
    (void)state;
    cl_mem buffer = harness_buffer(65536, NULL);
    const cl_buffer_region first = {0, 32768}, second = {32768, 32768}, middle = {16384, 32768};
    cl_int err;
    cl_mem a =
        clCreateSubBuffer(buffer, CL_MEM_READ_WRITE, CL_BUFFER_CREATE_TYPE_REGION, &first, &err);
    assert_cl(err);
    cl_mem b =
        clCreateSubBuffer(buffer, CL_MEM_READ_WRITE, CL_BUFFER_CREATE_TYPE_REGION, &second, &err);
    assert_cl(err);
    cl_mem c =
        clCreateSubBuffer(buffer, CL_MEM_READ_WRITE, CL_BUFFER_CREATE_TYPE_REGION, &middle, &err);
    assert_cl(err);
    struct view va = {"a", a, 0, 4, 1, {8192}, {1}}, vb = {"b", b, 0, 4, 1, {8192}, {1}},
                vc = {"c", c, 0, 4, 1, {8192}, {1}}, whole = {"whole", buffer, 0, 4, 1, {1}, {1}};
    assert_ok(view_disjoint(&va, &vb));
    assert_status(CLAT_INVALID_OVERLAP, view_disjoint(&va, &vc));
    assert_status(CLAT_INVALID_OVERLAP, view_disjoint(&vc, &vb));
    assert_status(CLAT_INVALID_OVERLAP, view_disjoint(&va, &whole));
    assert_ok(view_disjoint(&vc, &whole));
    clReleaseMemObject(a);
    clReleaseMemObject(b);
    clReleaseMemObject(c);
    clReleaseMemObject(buffer);
}

static void test_check(void **state) {
    (void)state;
    cl_context cl = clat_context_cl(harness_context());
    cl_mem buffer = harness_buffer(100 * 4, NULL);
    struct view view = {"a", buffer, 0, 4, 2, {10, 10}, {10, 1}};
    assert_ok(view_check(&view, cl));
    view.offset = 1;
    assert_status(CLAT_INVALID_BUFFER, view_check(&view, cl));
    assert_error_names("a");
    view.extent[0] = 0; /* an empty view lies nowhere */
    assert_ok(view_check(&view, cl));
    view.extent[0] = 10;
    view.offset = SIZE_MAX - 5;
    assert_status(CLAT_INVALID_SIZE, view_check(&view, cl));
    assert_error_names("args.a_offset");
    view.offset = 0;
    view.buffer = NULL;
    assert_status(CLAT_INVALID_BUFFER, view_check(&view, cl));

    cl_device_id device = clat_context_device(harness_context());
    cl_int err;
    cl_context foreign = clCreateContext(NULL, 1, &device, NULL, NULL, &err);
    assert_cl(err);
    view.buffer = clCreateBuffer(foreign, CL_MEM_READ_WRITE, 400, NULL, &err);
    assert_cl(err);
    assert_status(CLAT_INVALID_CONTEXT, view_check(&view, cl));
    clReleaseMemObject(view.buffer);
    clReleaseContext(foreign);
    clReleaseMemObject(buffer);
}

static const struct CMUnitTest tests[] = {
    cmocka_unit_test(test_span),        cmocka_unit_test(test_self_overlap),
    cmocka_unit_test(test_disjoint),    cmocka_unit_test(test_packed_columns),
    cmocka_unit_test(test_sub_buffers), cmocka_unit_test(test_check),
};
HARNESS_MAIN(tests)
