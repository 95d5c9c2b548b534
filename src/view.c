/* Tensors in buffers: do they fit, do they touch each other. */
#include "plan.h"

bool size_multiply(size_t a, size_t b, size_t *out) {
    return !__builtin_mul_overflow(a, b, out);
}

bool view_span(unsigned rank, const size_t *extent, const size_t *stride, size_t element_bytes,
               size_t *elements) {
    size_t last = 0;
    *elements = 0;
    for (unsigned i = 0; i < rank; i++)
        if (extent[i] == 0)
            return true;
    for (unsigned i = 0; i < rank; i++) {
        size_t step;
        if (!size_multiply(extent[i] - 1, stride[i], &step) ||
            __builtin_add_overflow(last, step, &last))
            return false;
    }
    size_t bytes;
    /* Signed 64-bit index arithmetic on the device: keep byte offsets below 2^63. */
    if (__builtin_add_overflow(last, (size_t)1, elements) ||
        !size_multiply(*elements, element_bytes, &bytes) || bytes > (size_t)INT64_MAX)
        return false;
    return true;
}

/* Orders dimensions by stride, drops those of one element. */
static unsigned sort_dims(unsigned rank, const size_t *extent, const size_t *stride,
                          size_t *sorted_extent, size_t *sorted_stride) {
    unsigned count = 0;
    for (unsigned i = 0; i < rank; i++) {
        if (extent[i] <= 1)
            continue;
        unsigned at = count++;
        for (; at > 0 && sorted_stride[at - 1] > stride[i]; at--) {
            sorted_extent[at] = sorted_extent[at - 1];
            sorted_stride[at] = sorted_stride[at - 1];
        }
        sorted_extent[at] = extent[i];
        sorted_stride[at] = stride[i];
    }
    return count;
}

bool view_self_overlaps(unsigned rank, const size_t *extent, const size_t *stride) {
    size_t e[4], s[4];
    for (unsigned i = 0; i < rank; i++)
        if (extent[i] == 0)
            return false;
    const unsigned count = sort_dims(rank, extent, stride, e, s);
    /* Sufficient for distinct addresses, and exact for nested layouts: each stride clears all that
     * lies below it. */
    size_t below = 0;
    for (unsigned i = 0; i < count; i++) {
        if (s[i] <= below)
            return true;
        below += (e[i] - 1) * s[i];
    }
    return false;
}

clat_status view_check(const struct view *view, cl_context cl) {
    clat_status st = CLAT_OK;
    if (view->buffer == NULL)
        return status_fail(CLAT_INVALID_BUFFER, "args.%s is NULL", view->name);
    cl_context owner = NULL;
    size_t bytes = 0, span = 0, end = 0;
    if (clGetMemObjectInfo(view->buffer, CL_MEM_CONTEXT, sizeof owner, &owner, NULL) != CL_SUCCESS)
        return status_fail(CLAT_INVALID_BUFFER, "args.%s is not a memory object", view->name);
    if (owner != cl)
        return status_fail(CLAT_INVALID_CONTEXT, "args.%s belongs to another OpenCL context",
                           view->name);
    TRY_CL(clGetMemObjectInfo(view->buffer, CL_MEM_SIZE, sizeof bytes, &bytes, NULL));
    const bool countable =
        view_span(view->rank, view->extent, view->stride, view->element_bytes, &span) &&
        !__builtin_add_overflow(span, view->offset, &end) &&
        size_multiply(end, view->element_bytes, &end);
    if (!countable)
        return status_fail(CLAT_INVALID_SIZE, "args.%s_offset: the end of %s overflows 64 bits",
                           view->name, view->name);
    if (span != 0 && end > bytes)
        return status_fail(CLAT_INVALID_BUFFER,
                           "args.%s is too short: %zu bytes are needed up to the last element, the "
                           "buffer has %zu",
                           view->name, end, bytes);
out:
    return st;
}

/* The buffer that memory really belongs to, and the byte offset into it. */
static void see_through(const struct view *view, cl_mem *root, size_t *byte_offset) {
    cl_mem parent = NULL;
    size_t origin = 0;
    *root = view->buffer;
    *byte_offset = view->offset * view->element_bytes;
    if (clGetMemObjectInfo(view->buffer, CL_MEM_ASSOCIATED_MEMOBJECT, sizeof parent, &parent,
                           NULL) == CL_SUCCESS &&
        parent != NULL &&
        clGetMemObjectInfo(view->buffer, CL_MEM_OFFSET, sizeof origin, &origin, NULL) ==
            CL_SUCCESS) {
        *root = parent;
        *byte_offset += origin;
    }
}

/* Bytes of one period that a view touches from its start on; false when it does not repeat with it.
 */
static bool width_in_period(const struct view *view, size_t period, size_t *width) {
    *width = view->element_bytes;
    for (unsigned d = 0; d < view->rank; d++) {
        const size_t step = view->stride[d] * view->element_bytes;
        if (view->extent[d] <= 1 || step % period == 0)
            continue;
        if (step > period)
            return false;
        *width += (view->extent[d] - 1) * step;
    }
    return true;
}

/* Whether two views stay apart because both repeat with the same byte period (a row of one packed
 * matrix), some stride of the first, and use different columns of it. */
static bool interleave(const struct view *a, size_t a_start, const struct view *b, size_t b_start) {
    for (unsigned i = 0; i < a->rank; i++) {
        const size_t period = a->stride[i] * a->element_bytes;
        size_t width_a, width_b;
        if (period == 0 || a->extent[i] <= 1 || !width_in_period(a, period, &width_a) ||
            !width_in_period(b, period, &width_b))
            continue;
        const size_t phase_a = a_start % period, phase_b = b_start % period;
        const size_t gap = phase_b >= phase_a ? phase_b - phase_a : phase_b + period - phase_a;
        if (gap >= width_a && gap + width_b <= period)
            return true;
    }
    return false;
}

clat_status view_disjoint(const struct view *output, const struct view *other) {
    cl_mem root[2];
    size_t start[2], span[2];
    const struct view *view[2] = {output, other};
    for (unsigned v = 0; v < 2; v++) {
        if (view[v]->buffer == NULL ||
            !view_span(view[v]->rank, view[v]->extent, view[v]->stride, view[v]->element_bytes,
                       &span[v]) ||
            span[v] == 0)
            return CLAT_OK;
        see_through(view[v], &root[v], &start[v]);
        span[v] *= view[v]->element_bytes;
    }
    if (root[0] != root[1] || start[0] + span[0] <= start[1] || start[1] + span[1] <= start[0] ||
        interleave(output, start[0], other, start[1]) ||
        interleave(other, start[1], output, start[0]))
        return CLAT_OK;
    return status_fail(CLAT_INVALID_OVERLAP, "args.%s overlaps args.%s", output->name, other->name);
}
