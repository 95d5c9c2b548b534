#include "mma_layouts.h"

/* PTX ISA, matrix fragments for mma.m16n8k16 with .f16 and .bf16: A (row, col), B (row, col), C
 * (row, col), where groupID = laneid >> 2 and threadID_in_group = laneid % 4. Here A^T is right and
 * B^T is left. */
static struct place ptx_a(unsigned lane, unsigned i) {
    const unsigned group = lane >> 2, thread = lane % 4;
    const unsigned row = i < 2 || (i >= 4 && i < 6) ? group : group + 8;
    const unsigned col = thread * 2 + (i & 1) + (i >= 4 ? 8 : 0);
    return (struct place){row, col};
}

static struct place ptx_b(unsigned lane, unsigned i) {
    const unsigned group = lane >> 2, thread = lane % 4;
    return (struct place){group, thread * 2 + (i & 1) + (i >= 2 ? 8 : 0)};
}

static struct sum_place ptx_c(unsigned lane, unsigned i) {
    const unsigned group = lane >> 2, thread = lane % 4;
    return (struct sum_place){thread * 2 + (i & 1), i < 2 ? group : group + 8};
}

/* The same, mma.m16n8k8 with .tf32. */
static struct place ptx_a_tf32(unsigned lane, unsigned i) {
    const unsigned group = lane >> 2, thread = lane % 4;
    return (struct place){i == 0 || i == 2 ? group : group + 8, i < 2 ? thread : thread + 4};
}

static struct place ptx_b_tf32(unsigned lane, unsigned i) {
    const unsigned group = lane >> 2, thread = lane % 4;
    return (struct place){group, i == 0 ? thread : thread + 4};
}

/* cl_intel_subgroup_matrix_multiply_accumulate: component m of a is row m; with sub-groups of 8 it
 * is an int of two values of K for each work-item, with 16 a short of one. Components of b are
 * pairs of values of K, work-items columns. */
static struct place dpas8_a(unsigned lane, unsigned i) {
    return (struct place){i / 2, lane * 2 + i % 2};
}

static struct place dpas16_a(unsigned lane, unsigned i) {
    return (struct place){i, lane};
}

static struct place dpas_b(unsigned lane, unsigned i) {
    return (struct place){lane, i};
}

static struct sum_place dpas_c(unsigned lane, unsigned i) {
    return (struct sum_place){i, lane};
}

/* AMD's matrix instruction guides: v_mfma_f32_16x16x16_f16, A[i][k]: i = lane % 16, k = 4 (lane /
 * 16) + element; D[i][j]: i = 4 (lane / 16) + element, j = lane % 16. */
static struct place mfma_ab(unsigned lane, unsigned i) {
    return (struct place){lane % 16, 4 * (lane / 16) + i};
}

static struct sum_place mfma_d(unsigned lane, unsigned i) {
    return (struct sum_place){4 * (lane / 16) + i, lane % 16};
}

/* RDNA3: "data of lanes 0-15 must be replicated in lanes 16-31"; VGPR v of D holds row 2v in lanes
 * 0-15 and 2v + 1 in lanes 16-31. */
static struct place wmma11_ab(unsigned lane, unsigned i) {
    return (struct place){lane & 15, i};
}

static struct sum_place wmma11_d(unsigned lane, unsigned i) {
    return (struct sum_place){2 * i + (lane >= 16), lane & 15};
}

/* RDNA4: no replication; lanes 16-31 continue along K, and down the rows of D. */
static struct place wmma12_ab(unsigned lane, unsigned i) {
    return (struct place){lane & 15, lane >= 16 ? 8 + i : i};
}

static struct sum_place wmma12_d(unsigned lane, unsigned i) {
    return (struct sum_place){lane >= 16 ? 8 + i : i, lane & 15};
}

const struct layout mma_layouts[] = {
    {"nv_sm80", 4, 8, 4, ptx_b, ptx_a, ptx_c},
    {"nv_sm75", 4, 8, 4, ptx_b, ptx_a, ptx_c},
    {"intel_dpas16", 8, 16, 8, dpas16_a, dpas_b, dpas_c},
    {"intel_dpas8", 16, 16, 8, dpas8_a, dpas_b, dpas_c},
    {"amd_mfma", 4, 4, 4, mfma_ab, mfma_ab, mfma_d},
    {"amd_wmma12", 8, 8, 8, wmma12_ab, wmma12_ab, wmma12_d},
    {"amd_wmma11", 16, 16, 8, wmma11_ab, wmma11_ab, wmma11_d},
};

const unsigned n_mma_layouts = sizeof mma_layouts / sizeof *mma_layouts;

const struct layout mma_tf32_layout = {"nv_sm80", 2, 4, 4, ptx_b_tf32, ptx_a_tf32, ptx_c};
