/* Marked instructions: the text, which needs no GPU, and what programs make of it. */
#include "ptx.h"

#include "binary.h"
#include "context.h"
#include "harness.h"
#include "program.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* ---- the text */

struct rewriting {
    const char *name, *ptx, *expected; /* expected NULL: refused */
};

static const struct rewriting rewritings[] = {
    {"target", ".version 8.4\n.target sm_90, texmode_independent\n.address_size 64\n//@x;\n",
     ".version 8.4\n.target sm_90a, texmode_independent\n.address_size 64\nx;\n"},
    {"target alone on its line", ".target sm_90\n//@x\n", ".target sm_90a\nx\n"},
    {"no newline at the end", ".target sm_90\n//@ret;", ".target sm_90a\nret;"},
    {"marks", ".target sm_90\n\t// begin inline asm\n\t//@wgmma.fence.sync.aligned;\n",
     ".target sm_90a\n\t// begin inline asm\n\twgmma.fence.sync.aligned;\n"},
    {"two marks in a line", ".target sm_90\n{//@a; //@b;}\n", ".target sm_90a\n{a; b;}\n"},
    {"other comments stay", ".target sm_90\n// x\n/* @ */ //\n//@x;\n",
     ".target sm_90a\n// x\n/* @ */ //\nx;\n"},
    {"directives of a kernel",
     ".target sm_90\n.entry a(\n)\n.reqntid 384, 1, 1\n{\n//@x;\n//@.minnctapersm 2\n}\n"
     ".entry b(\n)\n.reqntid 32, 1, 1\n{\n}\n"
     ".entry c(\n)\n\t.reqntid 64\n{\n\t//@.minnctapersm 1\r\n//@.maxnreg 40\n}",
     ".target sm_90a\n.entry a(\n)\n.minnctapersm 2\n.reqntid 384, 1, 1\n{\nx;\n"
     "//.minnctapersm 2\n}\n"
     ".entry b(\n)\n.reqntid 32, 1, 1\n{\n}\n"
     ".entry c(\n)\n.minnctapersm 1\n.maxnreg 40\n\t.reqntid 64\n{\n\t//.minnctapersm 1\r\n"
     "//.maxnreg 40\n}"},
    {"work-groups as they are", ".target sm_90\n.reqntid 384, 1, 1\n//@x;\n",
     ".target sm_90a\n.reqntid 384, 1, 1\nx;\n"},
    {"another architecture", ".target sm_80\n//@x;\n", NULL},
    {"a later one", ".target sm_900\n//@x;\n", NULL},
    {"sm_90a already", ".target sm_90a\n//@x;\n", NULL},
    {"no marks", ".target sm_90\n.reqntid 384, 1, 1\n", NULL},
    {"a directive and nothing else", ".target sm_90\n//@.minnctapersm 1\n", NULL},
    {"no PTX",
     "\x7f"
     "ELF",
     NULL},
    {"nothing", "", NULL},
};

static void test_rewriting(void **state) {
    const struct rewriting *it = *state;
    struct text out = {0};
    assert_int_equal(ptx_unmark(&out, it->ptx), it->expected != NULL);
    assert_ok(text_check(&out));
    if (it->expected != NULL)
        assert_string_equal(text_string(&out), it->expected);
    text_free(&out);
}

static void test_marked(void **state) {
    (void)state;
    assert_true(ptx_is_marked("asm(\"//@wgmma.fence.sync.aligned;\")"));
    assert_false(ptx_is_marked("// @wgmma\n"));
    assert_false(ptx_is_marked(""));
}

/* ---- programs */

static void write_kernel(const char *dir, const char *text) {
    char *path = text_format("%s/marked.cl", dir);
    assert_non_null(path);
    FILE *file = fopen(path, "w");
    assert_non_null(file);
    fputs(text, file);
    assert_int_equal(fclose(file), 0);
    free(path);
}

/* In a store of its own, so that nothing is found in memory. */
static clat_status get(cl_program *out, struct device *device, const char *kernel_dir) {
    const struct program_request request = {.source = "marked.cl", .defines = ""};
    struct program_store store;
    const cl_context cl = clat_context_cl(harness_context());
    assert_ok(program_store_open(&store, cl, device, device->cache, kernel_dir, NULL));
    const clat_status st = program_get(out, &store, &request);
    program_store_close(&store);
    return st;
}

/* Elsewhere what the driver makes is no PTX for sm_90: refused, and nothing is stored. */
static void test_refused(void **state) {
    (void)state;
    struct device *device = &harness_context()->device;
    cl_program program = NULL;
    if (strcmp(device->architecture, "sm_90") == 0)
        skip();
    const char *dir = harness_temp_dir();
    write_kernel(dir, "__kernel void subject(__global int *x) { /* //@ */ x[0] = 1; }\n");
    for (int again = 0; again < 2; again++) {
        assert_status(CLAT_BUILD_FAILED, get(&program, device, dir));
        assert_error_names("CL_INVALID_BINARY");
        assert_null(program);
    }
}

#define SUBJECT(instruction)                                                                       \
    "__kernel __attribute__((reqd_work_group_size(128, 1, 1))) void subject(__global int *x)\n"    \
    "{ __asm__ volatile(\"//@" instruction "\" : : : \"memory\"); x[0] = 1; }\n"

/* The finished program is what is given, and what the disk cache keeps. */
static void test_finished(void **state) {
    (void)state;
    struct device *device = &harness_context()->device;
    if (!device_can(device, CAP_WGMMA))
        skip();
    const char *dir = harness_temp_dir();
    write_kernel(dir, SUBJECT("wgmma.fence.sync.aligned;"));
    for (int again = 0; again < 2; again++) {
        cl_program program = NULL;
        size_t size = 0;
        assert_ok(get(&program, device, dir));
        char *binary = binary_read(program, device->id, &size);
        assert_non_null(binary);
        assert_null(strstr(binary, "//@"));
        free(binary);
        clReleaseProgram(program);
    }
    write_kernel(dir, SUBJECT("no.such.instruction;"));
    cl_program program = NULL;
    assert_status(CLAT_BUILD_FAILED, get(&program, device, dir));
    assert_error_names("ptxas");
    assert_null(program);
}

/* On an H100 with a driver that plays along, which is what the tests of kernels count on. */
static void test_capability(void **state) {
    (void)state;
    const struct device *device = &harness_context()->device;
    const bool hopper = strcmp(device->architecture, "sm_90") == 0;
    assert_int_equal(device_can(device, CAP_WGMMA), hopper);
}

int main(void) {
    for (size_t i = 0; i < sizeof rewritings / sizeof *rewritings; i++)
        harness_add(rewritings[i].name, test_rewriting, &rewritings[i]);
    harness_add("marked", test_marked, NULL);
    harness_add("refused", test_refused, NULL);
    harness_add("finished", test_finished, NULL);
    harness_add("capability", test_capability, NULL);
    return harness_run_added();
}
