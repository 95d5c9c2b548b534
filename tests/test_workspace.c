/* The pool of scratch buffers: what is reused, what is not, and how far it grows. */
#include "harness.h"
#include "workspace.h"

static struct workspace_pool pool;

static cl_event user_event(void) {
    cl_int err;
    cl_event event = clCreateUserEvent(clat_context_cl(harness_context()), &err);
    assert_cl(err);
    return event;
}

static struct workspace *take(cl_command_queue queue, size_t bytes) {
    struct workspace *workspace = NULL;
    assert_ok(workspace_take(&workspace, &pool, queue, bytes));
    assert_non_null(workspace_buffer(workspace));
    return workspace;
}

static int open_pool(void **state) {
    (void)state;
    workspace_open(&pool, clat_context_cl(harness_context()));
    return 0;
}

static int close_pool(void **state) {
    (void)state;
    workspace_close(&pool);
    return 0;
}

static void test_reuse(void **state) {
    (void)state;
    struct workspace *a = take(harness_queue(), 1000), *b = take(harness_queue(), 1000);
    assert_ptr_not_equal(a, b); /* both are taken */
    workspace_give(&pool, a, NULL);
    assert_ptr_equal(take(harness_queue(), 500), a);
    workspace_give(&pool, a, NULL);
    workspace_give(&pool, b, NULL);
    workspace_give(&pool, NULL, NULL);
}

/* A command that has not finished keeps its buffer from other queues, not from its own. */
static void test_in_flight(void **state) {
    (void)state;
    cl_command_queue other = harness_new_queue(0),
                     loose = harness_new_queue(CL_QUEUE_OUT_OF_ORDER_EXEC_MODE_ENABLE);
    cl_event gate = user_event();
    struct workspace *a = take(harness_queue(), 100);
    workspace_give(&pool, a, gate);
    struct workspace *b = take(other, 100), *c = take(loose, 100);
    assert_ptr_not_equal(a, b);
    assert_ptr_not_equal(a, c);
    assert_ptr_equal(take(harness_queue(), 100), a);
    workspace_give(&pool, a, NULL);
    assert_cl(clSetUserEventStatus(gate, CL_COMPLETE));
    clReleaseEvent(gate);
    assert_ptr_equal(take(other, 100), a); /* finished now */
    workspace_give(&pool, a, NULL);
    workspace_give(&pool, b, NULL);
    workspace_give(&pool, c, NULL);
    clReleaseCommandQueue(other);
    clReleaseCommandQueue(loose);
}

/* Without an event: the same queue has the buffer again at once, another one only when all that was
 * enqueued is done, and the queue may go in the meantime. */
static void test_in_order(void **state) {
    (void)state;
    cl_command_queue first = harness_new_queue(0), other = harness_new_queue(0);
    cl_event gate = user_event();
    struct workspace *a = take(first, 100);
    assert_cl(clEnqueueMarkerWithWaitList(first, 1, &gate, NULL));
    workspace_give_in_order(&pool, a, first);
    assert_ptr_equal(take(first, 100), a);
    workspace_give_in_order(&pool, a, first);
    workspace_give_in_order(&pool, NULL, first);
    struct workspace *b = take(other, 100);
    assert_ptr_not_equal(b, a);
    assert_cl(clSetUserEventStatus(gate, CL_COMPLETE));
    clReleaseEvent(gate);
    assert_cl(clFinish(first));
    assert_ptr_equal(take(other, 100), a);
    workspace_give_in_order(&pool, a, other);
    clReleaseCommandQueue(first);
    clReleaseCommandQueue(other);
    workspace_give(&pool, take(harness_queue(), 100), NULL);
    workspace_give(&pool, b, NULL);
}

/* A host far ahead of its device: the pool stops growing, and the queue waits instead. */
static void test_bounded(void **state) {
    (void)state;
    enum { RUNS = 30 };
    cl_command_queue loose = harness_new_queue(CL_QUEUE_OUT_OF_ORDER_EXEC_MODE_ENABLE);
    cl_event gate = user_event(), last = NULL;
    cl_mem seen[RUNS];
    size_t distinct = 0;
    for (size_t i = 0; i < RUNS; i++) {
        struct workspace *workspace = take(loose, 64);
        cl_event event = NULL;
        size_t known = 0;
        seen[distinct] = workspace_buffer(workspace);
        while (seen[known] != seen[distinct])
            known++;
        distinct += known == distinct;
        assert_cl(clEnqueueMarkerWithWaitList(loose, 1, &gate, &event));
        workspace_give(&pool, workspace, event);
        clReleaseEvent(event);
    }
    assert_true((distinct > 1 || queue_in_order(loose)) && distinct <= 8);
    assert_cl(clEnqueueMarkerWithWaitList(loose, 0, NULL, &last));
    assert_cl(clFlush(loose));
    cl_int status = CL_COMPLETE;
    clGetEventInfo(last, CL_EVENT_COMMAND_EXECUTION_STATUS, sizeof status, &status, NULL);
    assert_true(status > CL_COMPLETE); /* behind the gate */
    assert_cl(clSetUserEventStatus(gate, CL_COMPLETE));
    assert_cl(clFinish(loose));
    clReleaseEvent(last);
    clReleaseEvent(gate);
    clReleaseCommandQueue(loose);
}

/* Growing problems leave no trail of buffers that are too small. */
static void test_shrinks(void **state) {
    (void)state;
    for (size_t bytes = 64; bytes <= 6400; bytes += 64)
        workspace_give(&pool, take(harness_queue(), bytes), NULL);
    struct workspace *large = take(harness_queue(), 6400), *second = take(harness_queue(), 1);
    size_t bytes = 0;
    assert_cl(
        clGetMemObjectInfo(workspace_buffer(second), CL_MEM_SIZE, sizeof bytes, &bytes, NULL));
    assert_int_equal(bytes, 1); /* a new one: none was left over */
    workspace_give(&pool, large, NULL);
    workspace_give(&pool, second, NULL);
}

static void test_failed(void **state) {
    (void)state;
    struct workspace *a = take(harness_queue(), 128);
    workspace_give_failed(&pool, a, harness_queue());
    assert_cl(clFinish(harness_queue()));
    cl_command_queue other = harness_new_queue(0);
    assert_ptr_equal(take(other, 128), a);
    workspace_give(&pool, a, NULL);
    workspace_give_failed(&pool, NULL, other);
    clReleaseCommandQueue(other);
}

static const struct CMUnitTest tests[] = {
    cmocka_unit_test_setup_teardown(test_reuse, open_pool, close_pool),
    cmocka_unit_test_setup_teardown(test_in_flight, open_pool, close_pool),
    cmocka_unit_test_setup_teardown(test_in_order, open_pool, close_pool),
    cmocka_unit_test_setup_teardown(test_bounded, open_pool, close_pool),
    cmocka_unit_test_setup_teardown(test_shrinks, open_pool, close_pool),
    cmocka_unit_test_setup_teardown(test_failed, open_pool, close_pool),
};
HARNESS_MAIN(tests)
