/* Element types on the host. */
#include "dtype.h"

#include <math.h>
#include <string.h>

size_t clat_dtype_bytes(clat_dtype dtype) {
    switch (dtype) {
    case CLAT_F64:
        return 8;
    case CLAT_F32:
        return 4;
    case CLAT_F16:
    case CLAT_BF16:
        return 2;
    case CLAT_DTYPE_DEFAULT:
        break;
    }
    return 0;
}

const char *clat_dtype_name(clat_dtype dtype) {
    switch (dtype) {
    case CLAT_F64:
        return "f64";
    case CLAT_F32:
        return "f32";
    case CLAT_F16:
        return "f16";
    case CLAT_BF16:
        return "bf16";
    case CLAT_DTYPE_DEFAULT:
        return "default";
    }
    return "unknown";
}

double dtype_epsilon(clat_dtype dtype) {
    switch (dtype) {
    case CLAT_F64:
        return 0x1p-53;
    case CLAT_F16:
        return 0x1p-11;
    case CLAT_BF16:
        return 0x1p-8;
    default:
        return 0x1p-24;
    }
}

static double load_f16(uint16_t bits) {
    const int exponent = bits >> 10 & 31, fraction = bits & 1023;
    double value;
    if (exponent == 31) {
        value = fraction != 0 ? NAN : INFINITY;
    } else if (exponent == 0) {
        value = fraction * 0x1p-24;
    } else {
        const uint64_t wide = (uint64_t)(exponent - 15 + 1023) << 52 | (uint64_t)fraction << 42;
        memcpy(&value, &wide, sizeof value);
    }
    return bits >> 15 ? -value : value;
}

/* In integers: to nearest, ties to even. Below 2^-14 the grid of f16 gets no finer. */
static uint16_t store_f16(double value) {
    uint64_t bits;
    memcpy(&bits, &value, sizeof bits);
    const uint16_t sign = (uint16_t)(bits >> 63 << 15);
    const int exponent = (int)(bits >> 52 & 2047) - 1023;
    if (isnan(value))
        return 0x7e00;
    if (exponent > 15)
        return sign | 0x7c00;
    if (exponent < -25)
        return sign;
    const uint64_t one = 1, significand = (bits & ((one << 52) - 1)) | one << 52;
    const int dropped = exponent < -14 ? 28 - exponent : 42;
    const uint64_t half = one << (dropped - 1), odd = significand >> dropped & 1;
    const uint64_t rounded = (significand + half - 1 + odd) >> dropped;
    /* The leading 1 of a normal number carries into the exponent, and so does rounding up to the
     * next power of two. */
    return sign | (uint16_t)(rounded + (uint64_t)(exponent < -14 ? 0 : exponent + 14) * 1024);
}

static uint16_t store_bf16(double value) {
    /* Through f32 would round twice: round to odd there keeps the sticky bit. */
    float single = (float)value;
    uint32_t bits;
    memcpy(&bits, &single, sizeof bits);
    if (isnan(value))
        return 0x7fc0;
    if ((double)single != value && isfinite(single)) {
        if (fabs((double)single) > fabs(value))
            bits--;
        bits |= 1;
    }
    bits += 0x7fff + (bits >> 16 & 1);
    return (uint16_t)(bits >> 16);
}

double dtype_load(clat_dtype dtype, const void *data, size_t index) {
    uint32_t bits;
    float single;
    switch (dtype) {
    case CLAT_F64:
        return ((const double *)data)[index];
    case CLAT_F16:
        return load_f16(((const uint16_t *)data)[index]);
    case CLAT_BF16:
        bits = (uint32_t)((const uint16_t *)data)[index] << 16;
        memcpy(&single, &bits, sizeof single);
        return (double)single;
    default:
        return (double)((const float *)data)[index];
    }
}

void dtype_store(clat_dtype dtype, void *data, size_t index, double value) {
    switch (dtype) {
    case CLAT_F64:
        ((double *)data)[index] = value;
        break;
    case CLAT_F16:
        ((uint16_t *)data)[index] = store_f16(value);
        break;
    case CLAT_BF16:
        ((uint16_t *)data)[index] = store_bf16(value);
        break;
    default:
        ((float *)data)[index] = (float)value;
    }
}
