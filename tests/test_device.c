#include "device.h"

#include "device_name.h"
#include "harness.h"

#include <ctype.h>
#include <dirent.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

/* ---------------------------------------------------------------- what names tell ---------- */

struct named {
    const char *platform, *platform_vendor, *device_vendor, *name, *version;
    enum vendor vendor;
    const char *slug, *stem, *architecture;
};

static const struct named named[] = {
    {"Portable Computing Language", "The pocl project", "GenuineIntel",
     "pthread-skylake-avx512-Intel(R) Xeon(R) Processor @ 2.50GHz",
     "OpenCL 3.0 PoCL HSTR: pthread-x86_64-pc-linux-gnu-skylake-avx512", VENDOR_POCL, "pocl",
     "pocl-skylake-avx512-intel-xeon-processor-2-50ghz", "skylake-avx512"},
    {"Portable Computing Language", "The pocl project", "AuthenticAMD",
     "cpu-znver5-AMD Ryzen 9 9950X", "OpenCL 3.0 PoCL HSTR: cpu-x86_64-pc-linux-gnu-znver5",
     VENDOR_POCL, "pocl", "pocl-znver5-amd-ryzen-9-9950x", "znver5"},
    {"Portable Computing Language", "The pocl project", "0x41", "cpu-neoverse-n1",
     "OpenCL 3.0 PoCL HSTR: cpu-aarch64-unknown-linux-gnu-neoverse-n1", VENDOR_POCL, "pocl",
     "pocl-neoverse-n1", "neoverse-n1"},
    {"Portable Computing Language", "The pocl project", "GenuineIntel", "pthread-haswell-Intel",
     "OpenCL 1.2 pocl", VENDOR_POCL, "pocl", "pocl-haswell-intel", "haswell-intel"},
    {"NVIDIA CUDA", "NVIDIA Corporation", "NVIDIA Corporation", "NVIDIA H100 80GB HBM3",
     "OpenCL 3.0 CUDA", VENDOR_NVIDIA, "nvidia", "nvidia-h100-80gb-hbm3", "nvidia-h100-80gb-hbm3"},
    {"NVIDIA CUDA", "NVIDIA Corporation", "NVIDIA Corporation", "Tesla T4", "OpenCL 3.0 CUDA",
     VENDOR_NVIDIA, "nvidia", "nvidia-tesla-t4", "tesla-t4"},
    {"AMD Accelerated Parallel Processing", "Advanced Micro Devices, Inc.",
     "Advanced Micro Devices, Inc.", "gfx90a:sramecc+:xnack-", "OpenCL 2.0", VENDOR_AMD, "amd",
     "amd-gfx90a-sramecc-xnack", "gfx90a"},
    {"Intel(R) OpenCL Graphics", "Intel(R) Corporation", "Intel(R) Corporation",
     "Intel(R) Arc(TM) A770 Graphics", "OpenCL 3.0 NEO", VENDOR_INTEL, "intel",
     "intel-arc-a770-graphics", "intel-arc-a770-graphics"},
    {"rusticl", "Mesa/X.org", "AMD", "AMD Radeon RX 6800 (radeonsi, navi21)", "OpenCL 3.0",
     VENDOR_MESA, "mesa", "mesa-amd-radeon-rx-6800-radeonsi-navi21",
     "amd-radeon-rx-6800-radeonsi-navi21"},
    {"Oclgrind", "University of Bristol", "University of Bristol", "Oclgrind Simulator",
     "OpenCL 1.2", VENDOR_OTHER, "other", "other-oclgrind-simulator", "oclgrind-simulator"},
    {"X", "", "", "(R) -- \xc3\xa9", "", VENDOR_OTHER, "other", "other-unknown", "unknown"},
};

static void test_names(void **state) {
    const struct named *row = *state;
    char text[128];
    assert_int_equal(device_name_vendor(row->platform, row->platform_vendor, row->device_vendor),
                     row->vendor);
    assert_string_equal(device_vendor_slug(row->vendor), row->slug);
    device_name_stem(text, sizeof text, row->vendor, row->name);
    assert_string_equal(text, row->stem);
    device_name_architecture(text, sizeof text, row->vendor, row->name, row->version);
    assert_string_equal(text, row->architecture);
}

static void test_long_names(void **state) {
    (void)state;
    char name[1000], out[16];
    memset(name, 'A', sizeof name - 1);
    name[sizeof name - 1] = '\0';
    device_name_slug(out, sizeof out, name);
    assert_true(strlen(out) < sizeof out && strlen(out) > 10);
    device_name_stem(out, sizeof out, VENDOR_INTEL, name);
    assert_string_equal(out, "intel-aaaaaaaaa");
    device_name_stem(out, 7, VENDOR_INTEL, name);
    assert_string_equal(out, "intel");
}

/* ---------------------------------------------------------------- choosing ----------------- */

struct vendors {
    cl_platform_id platform;
    cl_device_id id;
    char name[256], platform_name[256];
};

/* The device that the others here are compared with: the harness's. */
static struct vendors harness_device(void) {
    struct vendors it = {.id = clat_context_device(harness_context())};
    assert_cl(clGetDeviceInfo(it.id, CL_DEVICE_NAME, sizeof it.name, it.name, NULL));
    assert_cl(clGetDeviceInfo(it.id, CL_DEVICE_PLATFORM, sizeof it.platform, &it.platform, NULL));
    assert_cl(clGetPlatformInfo(it.platform, CL_PLATFORM_NAME, sizeof it.platform_name,
                                it.platform_name, NULL));
    return it;
}

static void swap_case(char *text) {
    for (; *text != '\0'; text++)
        *text = (char)(islower((unsigned char)*text) ? toupper((unsigned char)*text)
                                                     : tolower((unsigned char)*text));
}

static void test_choose(void **state) {
    (void)state;
    struct vendors it = harness_device();
    cl_platform_id platform = NULL;
    cl_device_id id = NULL;
    status_clear();
    assert_ok(device_choose(&platform, &id, "0"));
    assert_non_null(id);
    assert_ok(device_choose(&platform, &id, it.name));
    assert_ptr_equal(id, it.id);
    assert_ptr_equal(platform, it.platform);
    swap_case(it.name);
    assert_ok(device_choose(&platform, &id, it.name + 2));
    assert_ptr_equal(id, it.id);
    swap_case(it.platform_name);
    assert_ok(device_choose(&platform, &id, it.platform_name));
    assert_ptr_equal(platform, it.platform);
    assert_string_equal(clat_error_text(), "");
}

static void test_choose_environment(void **state) {
    (void)state;
    struct vendors it = harness_device();
    cl_platform_id platform = NULL;
    cl_device_id id = NULL;
    const char *value = getenv("CLATTICE_DEVICE");
    char *saved = value != NULL ? strdup(value) : NULL;
    setenv("CLATTICE_DEVICE", "no such device", 1);
    const clat_status wrong = device_choose(&platform, &id, NULL);
    const clat_status argument_first = device_choose(&platform, &id, it.name);
    setenv("CLATTICE_DEVICE", "", 1);
    const clat_status empty = device_choose(&platform, &id, NULL);
    unsetenv("CLATTICE_DEVICE");
    const clat_status none = device_choose(&platform, &id, NULL);
    if (saved != NULL)
        setenv("CLATTICE_DEVICE", saved, 1);
    free(saved);
    assert_int_equal(wrong, CLAT_INVALID_DEVICE);
    assert_int_equal(argument_first, CLAT_OK);
    assert_int_equal(empty, CLAT_OK);
    assert_int_equal(none, CLAT_OK);
}

static void test_choose_wrong(void **state) {
    (void)state;
    static const char *const wanted[] = {"99999999", "-1", "0x0", "no such device",
                                         "99999999999999999999999"};
    const struct vendors it = harness_device();
    for (size_t i = 0; i < sizeof wanted / sizeof wanted[0]; i++) {
        cl_platform_id platform = (cl_platform_id)&platform;
        cl_device_id id = (cl_device_id)&id;
        assert_status(CLAT_INVALID_DEVICE, device_choose(&platform, &id, wanted[i]));
        assert_null(platform);
        assert_null(id);
        assert_non_null(strstr(clat_error_text(), wanted[i]));
        assert_non_null(strstr(clat_error_text(), it.name));
    }
}

/* What this program does in a process of its own, where the loader sees other drivers. */
static int choose_in_child(void) {
    cl_platform_id platform = NULL;
    cl_device_id id = NULL;
    const clat_status st = device_choose(&platform, &id, NULL);
    puts(clat_error_text());
    return (int)st;
}

static clat_status choose_with_drivers(const char *dir, char *text, int size) {
    char command[8192], self[4096] = {0};
    assert_true(readlink("/proc/self/exe", self, sizeof self - 1) > 0);
    snprintf(command, sizeof command, "OCL_ICD_VENDORS='%s' CLATTICE_DEVICE= '%s' choose", dir,
             self);
    FILE *child = popen(command, "r");
    assert_non_null(child);
    if (fgets(text, size, child) == NULL)
        text[0] = '\0';
    const int status = pclose(child);
    assert_true(WIFEXITED(status));
    return (clat_status)WEXITSTATUS(status);
}

static void copy_file(const char *to, const char *from) {
    char data[4096];
    FILE *in = fopen(from, "r"), *out = fopen(to, "w");
    assert_non_null(in);
    assert_non_null(out);
    const size_t size = fread(data, 1, sizeof data, in);
    assert_int_equal(fwrite(data, 1, size, out), size);
    fclose(in);
    assert_int_equal(fclose(out), 0);
}

static void test_broken_drivers(void **state) {
    (void)state;
    static const char vendors[] = "/etc/OpenCL/vendors";
    const char *dir = harness_temp_dir();
    char text[1000], path[4600], from[4600];
    assert_int_equal(choose_with_drivers("/nonexistent/", text, sizeof text), CLAT_INVALID_DEVICE);
    assert_non_null(strstr(text, "install"));
    snprintf(path, sizeof path, "%s/a-broken.icd", dir);
    FILE *broken = fopen(path, "w");
    assert_non_null(broken);
    fputs("libno-such-driver.so\n", broken);
    assert_int_equal(fclose(broken), 0);
    assert_int_equal(choose_with_drivers(dir, text, sizeof text), CLAT_INVALID_DEVICE);
    DIR *list = opendir(vendors);
    const struct dirent *item;
    while (list != NULL && (item = readdir(list)) != NULL) {
        if (strstr(item->d_name, ".icd") == NULL)
            continue;
        snprintf(path, sizeof path, "%s/%s", dir, item->d_name);
        snprintf(from, sizeof from, "%s/%s", vendors, item->d_name);
        copy_file(path, from);
    }
    if (list != NULL)
        closedir(list);
    if (choose_with_drivers(vendors, text, sizeof text) !=
        CLAT_OK) /* they are registered elsewhere */
        skip();
    assert_int_equal(choose_with_drivers(dir, text, sizeof text), CLAT_OK);
}

/* ---------------------------------------------------------------- facts and probes --------- */

static atomic_uint probe_lines;

static void count_probes(void *user, clat_log_level level, const char *line) {
    (void)user, (void)level;
    if (strncmp(line, "probe ", 6) == 0)
        atomic_fetch_add(&probe_lines, 1);
}

static const struct logger logger = {count_probes, NULL};

static void open_device(struct device *device, struct cache *cache) {
    const clat_context *ctx = harness_context();
    assert_ok(device_open(device, clat_context_cl(ctx), clat_context_device(ctx), cache, &logger));
}

static void test_facts(void **state) {
    (void)state;
    struct device device;
    open_device(&device, NULL);
    assert_ptr_equal(device.id, clat_context_device(harness_context()));
    assert_int_equal(device.is_cpu, harness_device_is_cpu());
    const char *const texts[] = {device.name, device.vendor_name, device.driver,
                                 device.platform_name, device.architecture};
    for (size_t i = 0; i < sizeof texts / sizeof texts[0]; i++)
        assert_true(texts[i][0] != '\0' && texts[i][0] != ' ');
    assert_int_equal(strspn(device.slug, "abcdefghijklmnopqrstuvwxyz0123456789-"),
                     strlen(device.slug));
    assert_true(device.compute_units > 0 && device.max_work_group > 0);
    assert_true(device.max_items[0] > 0 && device.max_items[1] > 0 && device.max_items[2] > 0);
    assert_true(device.global_bytes > 0 && device.local_bytes > 0);
    assert_true(device.max_alloc_bytes > 0 && device.max_alloc_bytes <= device.global_bytes);
    assert_true(device.cacheline_bytes >= 16);
    if (device.is_cpu) {
        assert_true(device.f32_lanes == 4 || device.f32_lanes == 8 || device.f32_lanes == 16);
        assert_true(device.l1_bytes == 0 || device.l1_bytes >= 8192);
        assert_true(device.l2_bytes == 0 || device.l2_bytes > device.l1_bytes);
    } else {
        assert_int_equal(device.f32_lanes, 1);
        assert_int_equal(device.l1_bytes, 0);
    }
    if (device.vendor == VENDOR_NVIDIA)
        assert_int_equal(strncmp(device.architecture, "sm_", 3), 0);
    device_close(&device);
}

/* A vector unit of four lanes is SSE with 16 registers here, but NEON with 32 elsewhere. */
static void test_vector_registers(void **state) {
    (void)state;
#if defined(__x86_64__)
    static const unsigned expected[][2] = {{4, 16}, {8, 16}, {16, 32}};
#elif defined(__i386__)
    static const unsigned expected[][2] = {{4, 8}, {8, 8}};
#else
    static const unsigned expected[][2] = {{4, 32}};
#endif
    for (size_t i = 0; i < sizeof expected / sizeof *expected; i++) {
        const struct device device = {.is_cpu = true, .f32_lanes = expected[i][0]};
        assert_int_equal(device_vector_registers(&device), expected[i][1]);
    }
}

static bool reports(const struct device *device, const char *extension) {
    char list[16384] = "";
    assert_cl(clGetDeviceInfo(device->id, CL_DEVICE_EXTENSIONS, sizeof list, list, NULL));
    return strstr(list, extension) != NULL;
}

static void test_probes(void **state) {
    (void)state;
    struct device device;
    open_device(&device, NULL);
    status_clear();
    if (reports(&device, "cl_khr_fp64"))
        assert_true(device_can(&device, CAP_F64));
    if (reports(&device, "cl_khr_fp16"))
        assert_true(device_can(&device, CAP_F16_ARITHMETIC));
    /* Compiled though not reported, from Pascal on. */
    if (device.vendor == VENDOR_NVIDIA && strcmp(device.architecture, "sm_60") >= 0)
        assert_true(device_can(&device, CAP_F16_ARITHMETIC));
    if (device.vendor == VENDOR_POCL && !reports(&device, "cl_khr_fp16"))
        assert_false(device_can(&device, CAP_F16_ARITHMETIC));
    if (!device.is_cpu || device.f32_lanes < 16)
        assert_false(device_can(&device, CAP_BF16_DOT) || device_can(&device, CAP_BF16_TILE));
    assert_string_equal(clat_error_text(), "");
    device_close(&device);
}

/* On disk in the first two rounds, in memory in all: lines of the log tell how often they ran. Two
 * may be out of the question for this CPU, and most are for one vendor's GPUs. */
static void test_probes_remembered(void **state) {
    (void)state;
    unsigned ran = 0;
    struct device device;
    struct cache *cache = NULL;
    bool verdict[CAP_COUNT];
    assert_ok(cache_open(&cache, harness_temp_dir(), 0, NULL));
    atomic_store(&probe_lines, 0);
    for (int round = 0; round < 3; round++) {
        open_device(&device, round < 2 ? cache : NULL);
        for (enum capability i = 0; i < CAP_COUNT; i++) {
            const bool first = device_can(&device, i);
            if (round == 0)
                verdict[i] = first;
            assert_int_equal(first, verdict[i]);
            assert_int_equal(device_can(&device, i), verdict[i]);
        }
        device_close(&device);
        if (round == 0) {
            ran = atomic_load(&probe_lines);
            assert_in_range(ran, 2, CAP_COUNT);
        }
        assert_int_equal(atomic_load(&probe_lines), round < 2 ? ran : 2 * ran);
    }
    cache_close(cache);
}

/* A cache may be shared with a machine whose CPU has more. */
static void test_probes_of_another_cpu(void **state) {
    const enum capability capability = *(const enum capability *)*state;
    struct device device;
    struct cache *cache = NULL;
    bool own = false;
    assert_ok(cache_open(&cache, harness_temp_dir(), 0, NULL));
    for (int round = 0; round < 3; round++) {
        open_device(&device, cache);
        if (round == 1)
            device.f32_lanes = 8; /* the CPU of another machine */
        const bool can = device_can(&device, capability);
        if (round == 0)
            own = can;
        assert_int_equal(can, round == 1 ? false : own);
        device_close(&device);
    }
    cache_close(cache);
}

static void *probe_thread(void *user) {
    struct device *device = user;
    return device_can(device, CAP_F64) ? device : NULL;
}

static void test_probe_threads(void **state) {
    (void)state;
    enum { THREADS = 4 };
    pthread_t threads[THREADS];
    struct device device;
    open_device(&device, NULL);
    for (int i = 0; i < THREADS; i++)
        assert_int_equal(pthread_create(&threads[i], NULL, probe_thread, &device), 0);
    for (int i = 0; i < THREADS; i++) {
        void *result = NULL;
        assert_int_equal(pthread_join(threads[i], &result), 0);
        assert_int_equal(result != NULL, device_can(&device, CAP_F64));
    }
    device_close(&device);
}

int main(int argc, char **argv) {
    if (argc == 2 && strcmp(argv[1], "choose") == 0)
        return choose_in_child();
    for (size_t i = 0; i < sizeof named / sizeof named[0]; i++)
        harness_add(named[i].name, test_names, &named[i]);
    harness_add("long names", test_long_names, NULL);
    harness_add("choose", test_choose, NULL);
    harness_add("choose by environment", test_choose_environment, NULL);
    harness_add("choose what is not there", test_choose_wrong, NULL);
    harness_add("broken drivers", test_broken_drivers, NULL);
    harness_add("facts", test_facts, NULL);
    harness_add("vector registers", test_vector_registers, NULL);
    harness_add("probes", test_probes, NULL);
    harness_add("probes are remembered", test_probes_remembered, NULL);
    static const enum capability of_cpu[] = {CAP_BF16_DOT, CAP_BF16_TILE};
    harness_add("bf16_dot of another CPU", test_probes_of_another_cpu, &of_cpu[0]);
    harness_add("bf16_tile of another CPU", test_probes_of_another_cpu, &of_cpu[1]);
    harness_add("probes from several threads", test_probe_threads, NULL);
    return harness_run_added();
}
