#include "host_cpu.h"

#if defined(__x86_64__)

#include <cpuid.h>
#include <string.h>

bool host_has_bf16_dot(void) {
    return __builtin_cpu_supports("avx512bf16") != 0;
}

static bool vendor_is(const char *wanted) {
    unsigned eax = 0, name[3] = {0};
    return __get_cpuid(0, &eax, &name[0], &name[2], &name[1]) &&
           memcmp(name, wanted, sizeof name) == 0;
}

/* AMD's start two a cycle, four times the products of f32. Intel's need two cycles for each: 116
 * GFLOP/s where f32 gives 238, measured on Sapphire Rapids, which has tiles instead. */
bool host_gains_by_bf16_dot(void) {
    return host_has_bf16_dot() && (vendor_is("AuthenticAMD") || vendor_is("HygonGenuine"));
}

#if defined(__linux__)

#include <sys/syscall.h>
#include <unistd.h>

/* Of leaf 7: AMX-BF16 and AMX-TILE. Of XCR0, which tells what the kernel saves: tile configuration
 * and tile data. */
bool host_has_bf16_tiles(void) {
    const unsigned leaf7 = 1u << 22 | 1u << 24, osxsave = 1u << 27, saved = 3u << 17;
    unsigned eax, ebx, ecx, edx, low, high;
    if (!__get_cpuid(1, &eax, &ebx, &ecx, &edx) || (ecx & osxsave) == 0 ||
        !__get_cpuid_count(7, 0, &eax, &ebx, &ecx, &edx) || (edx & leaf7) != leaf7)
        return false;
    __asm__ volatile("xgetbv" : "=a"(low), "=d"(high) : "c"(0));
    return (low & saved) == saved;
}

/* Refused by kernels before 5.16, and where a thread's alternative signal stack is too small to
 * hold the tiles. */
bool host_allows_bf16_tiles(void) {
    enum { REQUEST_PERMISSION = 0x1023, TILE_DATA = 18 };
    return host_has_bf16_tiles() && syscall(SYS_arch_prctl, REQUEST_PERMISSION, TILE_DATA) == 0;
}

#else

bool host_has_bf16_tiles(void) {
    return false;
}

bool host_allows_bf16_tiles(void) {
    return false;
}

#endif

#else

bool host_has_bf16_dot(void) {
    return false;
}

bool host_gains_by_bf16_dot(void) {
    return false;
}

bool host_has_bf16_tiles(void) {
    return false;
}

bool host_allows_bf16_tiles(void) {
    return false;
}

#endif
