/*
 * The fragment interface of cl/mma/: every engine and type, emulated, and on the device's own
 * engine where it has one. One kernel stages tiles, loads fragments from them plain and turned,
 * multiplies, turns sums into a right operand and reduces them, and leaves all of it where the host
 * can look at each register of each lane. Where elements belong is written down a second time in
 * mma_layouts.c.
 */
#include "harness.h"
#include "mma_layouts.h"

#include "context.h"
#include "dtype.h"
#include "engine.h"
#include "source.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { LEFTS = 3, RIGHTS = 2, SUBGROUPS = 2, STEPS = 2 };

/* ---- the kernel ---- */

/* Left, LEFTS M x STEPS K, and right, SUBGROUPS RIGHTS N x STEPS K, lie in memory as they are and
 * transposed. PAD: chunks that make lines longer. Of each work-item come out, in this order: what
 * was loaded in the first step, plain and turned; sums of plain and of turned operands; sums as a
 * right operand; the greatest and the total of each column. */
static const char kernel_text[] =
    "#include \"mma/mma.clh\"\n"
    "#define ROWS (LEFTS * MMA_M)\n"
    "#define COLUMNS (SUBGROUPS * RIGHTS * MMA_N)\n"
    "#define DEPTH (STEPS * MMA_K)\n"
    "#define ITEMS (SUBGROUPS * MMA_LANES)\n"
    "#define CHUNKS(length) (((length) / MMA_CHUNK + 1) / 2 * 2 + PAD)\n"
    "#define TILE(name, lines, length) \\\n"
    "    __local uint4 name[(lines) * CHUNKS(length)] __attribute__((aligned(128)))\n"
    "#define PUT(word) out[n++ * ITEMS + get_local_id(0)] = (word)\n"
    "static inline void stage(__local uint4 *tile, __global const uint4 *from, int lines,\n"
    "                         int length)\n"
    "{\n"
    "    const int chunks = length / MMA_CHUNK;\n"
    "    for (int i = get_local_id(0); i < lines * chunks; i += ITEMS)\n"
    "        mma_copy(tile + MMA_AT(CHUNKS(length), i / chunks, i % chunks), from + i);\n"
    "}\n"
    "__kernel MMA_KERNEL(ITEMS) void fragments(__global const uint4 *left_plain,\n"
    "    __global const uint4 *right_plain, __global const uint4 *left_across,\n"
    "    __global const uint4 *right_across, __global uint *out)\n"
    "{\n"
    "    TILE(lp, ROWS, DEPTH);\n"
    "    TILE(rp, COLUMNS, DEPTH);\n"
    "    TILE(lt, DEPTH, ROWS);\n"
    "    TILE(rt, DEPTH, COLUMNS);\n"
    "    MMA_SUBGROUP(self, SUBGROUPS, LEFTS, RIGHTS);\n"
    "    int n = 0;\n"
    "    stage(lp, left_plain, ROWS, DEPTH);\n"
    "    stage(rp, right_plain, COLUMNS, DEPTH);\n"
    "    mma_commit();\n"
    "    stage(lt, left_across, DEPTH, ROWS);\n"
    "    stage(rt, right_across, DEPTH, COLUMNS);\n"
    "    mma_commit();\n"
    "    MMA_WAIT(0);\n"
    "    barrier(CLK_LOCAL_MEM_FENCE);\n"
    "    const int column = self.index * RIGHTS * MMA_N;\n"
    "    mma_left l[LEFTS];\n"
    "    mma_right r[RIGHTS];\n"
    "    mma_sums plain[LEFTS * RIGHTS], turned[LEFTS * RIGHTS];\n"
    "    UNROLL for (int i = 0; i < LEFTS * RIGHTS; i++)\n"
    "    UNROLL for (int j = 0; j < MMA_SUMS; j++) plain[i].x[j] = turned[i].x[j] = 0;\n"
    "#define PUT_ALL(x, count, words) \\\n"
    "    UNROLL for (int i = 0; i < count; i++) \\\n"
    "    UNROLL for (int w = 0; w < words; w++) PUT(x)\n"
    "#define PUT_OPERANDS() \\\n"
    "    PUT_ALL(l[i].word[w], LEFTS, MMA_LEFT_ELEMENTS * MMA_BITS / 32); \\\n"
    "    PUT_ALL(r[i].word[w], RIGHTS, MMA_RIGHT_ELEMENTS * MMA_BITS / 32)\n"
    "    MMA_UNROLL for (int k = 0; k < DEPTH; k += MMA_K) {\n"
    "        mma_load_left(self, l, LEFTS, lp, CHUNKS(DEPTH), 0, k);\n"
    "        mma_load_right(self, r, RIGHTS, rp, CHUNKS(DEPTH), column, k);\n"
    "        mma_multiply(self, plain, l, LEFTS, r, RIGHTS);\n"
    "        if (k == 0) { PUT_OPERANDS(); }\n"
    "        mma_load_left_turned(self, l, LEFTS, lt, CHUNKS(ROWS), 0, k);\n"
    "        mma_load_right_turned(self, r, RIGHTS, rt, CHUNKS(COLUMNS), column, k);\n"
    "        mma_multiply(self, turned, l, LEFTS, r, RIGHTS);\n"
    "        if (k == 0) { PUT_OPERANDS(); }\n"
    "    }\n"
    "    PUT_ALL(as_uint(plain[i].x[w]), LEFTS * RIGHTS, MMA_SUMS);\n"
    "    PUT_ALL(as_uint(turned[i].x[w]), LEFTS * RIGHTS, MMA_SUMS);\n"
    "#if MMA_BITS == 16\n"
    "    r[0] = mma_right_from_sums(self, plain + 1, RIGHTS);\n"
    "    PUT_ALL(r[i].word[w], 1, MMA_RIGHT_ELEMENTS / 2);\n"
    "#endif\n"
    "    float most[RIGHTS * MMA_LANE_COLUMNS], total[RIGHTS * MMA_LANE_COLUMNS];\n"
    "    UNROLL for (int i = 0; i < RIGHTS * MMA_LANE_COLUMNS; i++)\n"
    "        most[i] = -INFINITY, total[i] = 0;\n"
    "    UNROLL for (int j = 0; j < RIGHTS; j++)\n"
    "    UNROLL for (int i = 0; i < MMA_SUMS; i++) {\n"
    "        const int c = j * MMA_LANE_COLUMNS + MMA_SUM_LANE_COLUMN(i);\n"
    "        most[c] = fmax(most[c], plain[j].x[i]);\n"
    "        total[c] += plain[j].x[i];\n"
    "    }\n"
    "    mma_max_down(self, most, RIGHTS * MMA_LANE_COLUMNS);\n"
    "    mma_sum_down(self, total, RIGHTS * MMA_LANE_COLUMNS);\n"
    "    PUT_ALL(as_uint(most[i]), RIGHTS * MMA_LANE_COLUMNS, 1);\n"
    "    PUT_ALL(as_uint(total[i]), RIGHTS * MMA_LANE_COLUMNS, 1);\n"
    "    UNROLL for (int i = 0; i < MMA_SUMS; i++)\n"
    "        PUT(MMA_SUM_ROW(self.lane, i) * 256 + MMA_SUM_COLUMN(self.lane, i));\n"
    "}\n"
    /* Chunk i takes as many elements, and zeros. */
    "__kernel MMA_KERNEL(MMA_LANES) void parts(__global const uint4 *from, __global uint4 *out)\n"
    "{\n"
    "    __local uint4 tile[MMA_CHUNK + 1] __attribute__((aligned(128)));\n"
    "    for (int i = get_local_id(0); i <= MMA_CHUNK; i += MMA_LANES)\n"
    "        mma_copy_part(tile + i, from + i, i * MMA_BITS / 8);\n"
    "    mma_commit();\n"
    "    MMA_WAIT(0);\n"
    "    barrier(CLK_LOCAL_MEM_FENCE);\n"
    "    for (int i = get_local_id(0); i <= MMA_CHUNK; i += MMA_LANES)\n"
    "        out[i] = tile[i];\n"
    "}\n";

/* ---- one engine and type ---- */

struct mma_case {
    char name[64];
    const struct engine *engine;
    const struct layout *layout;
    clat_dtype dtype;
    bool emulated;
    unsigned pad;
};

struct run {
    const struct mma_case *it;
    unsigned k, rows, columns, depth, items;
    double *left, *right;        /* rows x depth, columns x depth, as the engine sees them */
    const uint32_t *words;       /* what came out */
    unsigned at;                 /* the next of a work-item's words */
    double *product, *magnitude; /* columns x rows */
};

static cl_program build(const struct mma_case *it) {
    const char *dir = harness_temp_dir();
    char path[512],
        *directory[3] = {(char *)(uintptr_t)dir, (char *)(uintptr_t)HARNESS_KERNEL_DIR, NULL};
    struct text source = {0};
    struct device device = harness_context()->device;
    snprintf(path, sizeof path, "%s/test.cl", dir);
    FILE *file = fopen(path, "w");
    assert_non_null(file);
    assert_true(fputs(kernel_text, file) >= 0);
    assert_int_equal(0, fclose(file));
    device.emulated_engine = it->emulated ? it->engine : NULL;
    engine_define(&source, &device, it->engine, it->dtype);
    text_printf(&source,
                "#define LEFTS %d\n#define RIGHTS %d\n#define SUBGROUPS %d\n#define STEPS %d\n"
                "#define PAD %u\n",
                LEFTS, RIGHTS, SUBGROUPS, STEPS, it->pad);
    assert_ok(source_read(&source, directory, "test.cl"));
    const char *text = text_string(&source);
    cl_int err;
    const cl_device_id id = clat_context_device(harness_context());
    cl_program program =
        clCreateProgramWithSource(clat_context_cl(harness_context()), 1, &text, NULL, &err);
    assert_cl(err);
    if (clBuildProgram(program, 1, &id, "-cl-std=CL1.2", NULL, NULL) != CL_SUCCESS) {
        static char log[20000];
        clGetProgramBuildInfo(program, id, CL_PROGRAM_BUILD_LOG, sizeof log - 1, log, NULL);
        fail_msg("%s: %s", it->name, log);
    }
    text_free(&source);
    return program;
}

/* tf32: 10 bits of the fraction, the others cut off. */
static double cut_tf32(double x) {
    int exponent;
    const double fraction = frexp(x, &exponent);
    return ldexp(trunc(ldexp(fraction, 11)), exponent - 11);
}

/* A buffer of lines x length random elements, and one of its transpose; *values: as multiplied. */
static void make_operand(const struct mma_case *it, unsigned lines, unsigned length, uint64_t seed,
                         double *values, cl_mem *plain, cl_mem *across) {
    const size_t bytes = (size_t)lines * length * clat_dtype_bytes(it->dtype);
    void *data = harness_alloc(bytes), *turned = harness_alloc(bytes);
    harness_fill(it->dtype, data, (size_t)lines * length, seed, 1.0);
    for (size_t i = 0; i < lines; i++)
        for (size_t j = 0; j < length; j++) {
            const double x = dtype_load(it->dtype, data, i * length + j);
            dtype_store(it->dtype, turned, j * lines + i, x);
            values[i * length + j] = it->dtype == CLAT_F32 ? cut_tf32(x) : x;
        }
    *plain = harness_buffer(bytes, data);
    *across = harness_buffer(bytes, turned);
    free(data);
    free(turned);
}

static void make_product(struct run *run) {
    for (unsigned c = 0; c < run->columns; c++)
        for (unsigned r = 0; r < run->rows; r++) {
            double sum = 0, magnitude = 0;
            for (unsigned k = 0; k < run->depth; k++) {
                const double x = run->left[r * run->depth + k] * run->right[c * run->depth + k];
                sum += x, magnitude += fabs(x);
            }
            run->product[c * run->rows + r] = sum;
            run->magnitude[c * run->rows + r] = magnitude;
        }
}

static uint32_t word_of(const struct run *run, unsigned at, unsigned item) {
    return run->words[at * run->items + item];
}

static double float_of(const struct run *run, unsigned at, unsigned item) {
    const uint32_t word = word_of(run, at, item);
    return dtype_load(CLAT_F32, &word, 0);
}

/* Element e of the words from `at` on. The last 13 bits of a tf32 do not count. */
static double element_of(const struct run *run, unsigned at, unsigned item, unsigned e) {
    if (run->it->dtype == CLAT_F32) {
        const uint32_t tf32 = word_of(run, at + e, item) & ~(uint32_t)0x1fff;
        return dtype_load(CLAT_F32, &tf32, 0);
    }
    const uint32_t word = word_of(run, at + e / 2, item);
    return dtype_load(run->it->dtype, &word, e % 2);
}

/* ---- what each register must hold ---- */

/* Where column c of fragment i of right is among those of a sub-group. In turned loads of tf32, c
 * and c + 8 of a fragment are neighbours. */
static unsigned column_of(const struct run *run, bool turned, unsigned i, unsigned c) {
    return i * run->it->engine->n + (turned && run->it->dtype == CLAT_F32 ? c % 8 * 2 + c / 8 : c);
}

static void check_operand(struct run *run, const char *what, bool left, bool turned) {
    const struct layout *layout = run->it->layout;
    const unsigned lanes = run->it->engine->lanes;
    const unsigned elements = left ? layout->left_elements : layout->right_elements;
    const unsigned words = elements * (unsigned)clat_dtype_bytes(run->it->dtype) / 4;
    for (unsigned i = 0; i < (left ? LEFTS : RIGHTS); i++, run->at += words)
        for (unsigned item = 0; item < run->items; item++)
            for (unsigned e = 0; e < elements; e++) {
                const unsigned lane = item % lanes, subgroup = left ? 0 : item / lanes;
                const struct place at = left ? layout->left(lane, e) : layout->right(lane, e);
                const unsigned line = left ? i * run->it->engine->m + at.line
                                           : subgroup * RIGHTS * run->it->engine->n +
                                                 column_of(run, turned, i, at.line);
                const double *from = left ? run->left : run->right;
                const double got = element_of(run, run->at, item, e);
                if (got != from[line * run->depth + at.k])
                    fail_msg("%s: %s %u, lane %u, element %u is %g, not [%u][%u] = %g",
                             run->it->name, what, i, lane, e, got, line, at.k,
                             from[line * run->depth + at.k]);
            }
}

static void check_sums(struct run *run, const char *what, bool turned) {
    const struct layout *layout = run->it->layout;
    const struct engine *engine = run->it->engine;
    for (unsigned ij = 0; ij < LEFTS * RIGHTS; ij++)
        for (unsigned i = 0; i < layout->sums; i++, run->at++)
            for (unsigned item = 0; item < run->items; item++) {
                const struct sum_place at = layout->sum(item % engine->lanes, i);
                const unsigned row = ij / RIGHTS * engine->m + at.row;
                const unsigned column = item / engine->lanes * RIGHTS * engine->n +
                                        column_of(run, turned, ij % RIGHTS, at.column);
                const size_t index = column * run->rows + row;
                const double got = float_of(run, run->at, item);
                if (!(fabs(got - run->product[index]) <= 0x1p-20 * run->magnitude[index]))
                    fail_msg("%s: sum of %s operands [%u][%u] is %g, not %g", run->it->name, what,
                             row, column, got, run->product[index]);
            }
}

/* K rows of sums, of the second column of fragments. */
static void check_right_from_sums(struct run *run, unsigned sums_at) {
    const struct layout *layout = run->it->layout;
    const struct engine *engine = run->it->engine;
    static double sums[64][16];
    for (unsigned subgroup = 0; subgroup < SUBGROUPS; subgroup++) {
        for (unsigned j = 0; j < run->k / engine->m; j++)
            for (unsigned i = 0; i < layout->sums; i++)
                for (unsigned lane = 0; lane < engine->lanes; lane++) {
                    const struct sum_place at = layout->sum(lane, i);
                    sums[j * engine->m + at.row][at.column] =
                        float_of(run, sums_at + (j * RIGHTS + 1) * layout->sums + i,
                                 subgroup * engine->lanes + lane);
                }
        for (unsigned lane = 0; lane < engine->lanes; lane++)
            for (unsigned e = 0; e < layout->right_elements; e++) {
                const struct place at = layout->right(lane, e);
                uint16_t rounded;
                dtype_store(run->it->dtype, &rounded, 0, sums[at.k][at.line]);
                const double expected = dtype_load(run->it->dtype, &rounded, 0);
                const double got = element_of(run, run->at, subgroup * engine->lanes + lane, e);
                if (got != expected)
                    fail_msg("%s: right from sums, lane %u, element %u is %g, not %g",
                             run->it->name, lane, e, got, expected);
            }
    }
    run->at += layout->right_elements / 2;
}

/* One value for each column of a lane, its rows 0 .. M-1. */
static void check_down(struct run *run, unsigned sums_at, bool most) {
    const struct layout *layout = run->it->layout;
    const struct engine *engine = run->it->engine;
    const bool two = layout->sum(0, 0).column != layout->sum(0, layout->sums - 1).column;
    const unsigned own = two ? 2 : 1; /* columns of a lane */
    for (unsigned j = 0; j < RIGHTS; j++)
        for (unsigned c = 0; c < own; c++, run->at++)
            for (unsigned item = 0; item < run->items; item++) {
                const unsigned first = item / engine->lanes * engine->lanes;
                const unsigned column =
                    layout->sum(item % engine->lanes, c * (layout->sums - 1)).column;
                double expected = most ? -INFINITY : 0;
                for (unsigned lane = 0; lane < engine->lanes; lane++)
                    for (unsigned i = 0; i < layout->sums; i++)
                        if (layout->sum(lane, i).column == column) {
                            const double x =
                                float_of(run, sums_at + j * layout->sums + i, first + lane);
                            expected = most ? fmax(expected, x) : expected + x;
                        }
                const double got = float_of(run, run->at, item);
                if (!(fabs(got - expected) <= (most ? 0 : 1e-5)))
                    fail_msg("%s: %s of column %u is %g, not %g", run->it->name,
                             most ? "greatest" : "total", column, got, expected);
            }
}

/* The macros that kernels use to tell where they are. */
static void check_coordinates(struct run *run) {
    const struct layout *layout = run->it->layout;
    for (unsigned i = 0; i < layout->sums; i++, run->at++)
        for (unsigned item = 0; item < run->items; item++) {
            const struct sum_place at = layout->sum(item % run->it->engine->lanes, i);
            assert_int_equal(word_of(run, run->at, item), at.row * 256 + at.column);
        }
}

static void check_parts(const struct mma_case *it, cl_program program) {
    cl_int err;
    uint16_t from[9 * 8], out[9 * 8];
    const unsigned chunk = engine_chunk(it->dtype),
                   words = (unsigned)clat_dtype_bytes(it->dtype) / 2;
    const size_t items = it->engine->lanes, bytes = (chunk + 1) * 16;
    for (unsigned i = 0; i < 9 * 8; i++)
        from[i] = (uint16_t)(i + 1);
    cl_mem in = harness_buffer(bytes, from), buffer = harness_buffer(bytes, NULL);
    cl_kernel kernel = clCreateKernel(program, "parts", &err);
    assert_cl(err);
    assert_cl(clSetKernelArg(kernel, 0, sizeof in, &in));
    assert_cl(clSetKernelArg(kernel, 1, sizeof buffer, &buffer));
    assert_cl(
        clEnqueueNDRangeKernel(harness_queue(), kernel, 1, NULL, &items, &items, 0, NULL, NULL));
    harness_read(buffer, 0, bytes, out);
    for (unsigned i = 0; i < bytes / 2; i++)
        assert_int_equal(out[i], i % 8 < i / 8 * words ? from[i] : 0);
    clReleaseKernel(kernel);
    clReleaseMemObject(in);
    clReleaseMemObject(buffer);
}

static void check_fragments(struct run *run) {
    check_operand(run, "left", true, false);
    check_operand(run, "right", false, false);
    check_operand(run, "left turned", true, true);
    check_operand(run, "right turned", false, true);
    const unsigned sums_at = run->at;
    check_sums(run, "plain", false);
    check_sums(run, "turned", true);
    if (run->it->dtype != CLAT_F32)
        check_right_from_sums(run, sums_at);
    check_down(run, sums_at, true);
    check_down(run, sums_at, false);
    check_coordinates(run);
}

static void run_fragments(struct run *run, cl_program program) {
    enum { MAX_WORDS = 300 };
    const size_t items = run->items, bytes = MAX_WORDS * items * sizeof(uint32_t);
    cl_mem buffer[5];
    cl_int err;
    run->left = harness_alloc(run->rows * run->depth * sizeof(double));
    run->right = harness_alloc(run->columns * run->depth * sizeof(double));
    run->product = harness_alloc(run->rows * run->columns * sizeof(double));
    run->magnitude = harness_alloc(run->rows * run->columns * sizeof(double));
    make_operand(run->it, run->rows, run->depth, 5, run->left, &buffer[0], &buffer[2]);
    make_operand(run->it, run->columns, run->depth, 6, run->right, &buffer[1], &buffer[3]);
    make_product(run);
    buffer[4] = harness_buffer(bytes, NULL);
    cl_kernel kernel = clCreateKernel(program, "fragments", &err);
    assert_cl(err);
    for (cl_uint i = 0; i < 5; i++)
        assert_cl(clSetKernelArg(kernel, i, sizeof buffer[i], &buffer[i]));
    assert_cl(
        clEnqueueNDRangeKernel(harness_queue(), kernel, 1, NULL, &items, &items, 0, NULL, NULL));
    uint32_t *words = harness_alloc(bytes);
    harness_read(buffer[4], 0, bytes, words);
    run->words = words;
    check_fragments(run);
    for (int i = 0; i < 5; i++)
        clReleaseMemObject(buffer[i]);
    clReleaseKernel(kernel);
    free(words);
    free(run->left);
    free(run->right);
    free(run->product);
    free(run->magnitude);
}

static void test_engine(void **state) {
    const struct mma_case *it = *state;
    const struct engine *engine = it->engine;
    if (!it->emulated && !device_can(&harness_context()->device, engine->proof))
        skip();
    struct run run = {.it = it, .k = engine_k(it->dtype)};
    run.rows = LEFTS * engine->m;
    run.columns = SUBGROUPS * RIGHTS * engine->n;
    run.depth = STEPS * run.k;
    run.items = SUBGROUPS * engine->lanes;
    cl_program program = build(it);
    run_fragments(&run, program);
    check_parts(it, program);
    clReleaseProgram(program);
}

/* ---- the host's table ---- */

static void test_table(void **state) {
    (void)state;
    assert_int_equal(n_engines, n_mma_layouts);
    for (unsigned i = 0; i < n_engines; i++) {
        assert_ptr_equal(engine_named(mma_layouts[i].engine), &engines[i]);
        assert_true(engine_takes(&engines[i], CLAT_F16));
        assert_false(engine_takes(&engines[i], CLAT_F64));
        assert_int_equal(engines[i].m * engines[i].n, engines[i].lanes * mma_layouts[i].sums);
    }
    assert_null(engine_named("no_such_engine"));
    assert_false(engine_takes(engine_named("nv_sm75"), CLAT_BF16));
    assert_false(engine_takes(engine_named("amd_mfma"), CLAT_F32));
}

static void test_find(void **state) {
    (void)state;
    struct device device = harness_context()->device;
    const struct engine *own = engine_find(&device, CLAT_F16);
    if (device.is_cpu)
        assert_null(own);
    if (device.vendor == VENDOR_NVIDIA && atoi(device.architecture + 3) >= 80)
        assert_ptr_equal(own, engine_named("nv_sm80"));
    device.emulated_engine = engine_named("nv_sm75");
    assert_ptr_equal(engine_find(&device, CLAT_F16), device.emulated_engine);
    assert_null(engine_find(&device, CLAT_BF16));
    assert_null(engine_find(&device, CLAT_F32));
}

static void add_cases(struct mma_case *cases, const struct layout *layout, clat_dtype dtype) {
    static unsigned count;
    const struct engine *engine = engine_named(layout->engine);
    for (int emulated = 0; emulated < 2 && engine_takes(engine, dtype); emulated++, count++) {
        struct mma_case *it = &cases[count];
        *it = (struct mma_case){.engine = engine, .layout = layout, .dtype = dtype};
        it->emulated = emulated;
        it->pad = count / 2 % 6 * 2;
        snprintf(it->name, sizeof it->name, "%s %s%s", engine->name,
                 dtype == CLAT_F32 ? "tf32" : clat_dtype_name(dtype), emulated ? " emulated" : "");
        harness_add(it->name, test_engine, it);
    }
}

int main(void) {
    static struct mma_case cases[32];
    for (size_t i = 0; i < n_mma_layouts; i++) {
        add_cases(cases, &mma_layouts[i], CLAT_F16);
        add_cases(cases, &mma_layouts[i], CLAT_BF16);
    }
    add_cases(cases, &mma_tf32_layout, CLAT_F32);
    harness_add("table", test_table, NULL);
    harness_add("find", test_find, NULL);
    return harness_run_added();
}
