/* Tuned values: files good and bad, look-up, saving. Needs no device. */
#include "harness.h"
#include "ops/attention.h"
#include "ops/gemm.h"
#include "tuning_file.h"

#include <glob.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

/* ---- a device and a place ---- */

static struct {
    char text[4096];
    unsigned warnings;
} logged;

static void keep_line(void *user, clat_log_level level, const char *line) {
    (void)user;
    logged.warnings += level == CLAT_LOG_WARNING;
    snprintf(logged.text, sizeof logged.text, "%s", line);
}

static const struct logger logger = {keep_line, NULL};

static struct device make_device(const char *name, const char *architecture, const char *driver,
                                 enum vendor vendor) {
    struct device device = {.vendor = vendor, .compute_units = 4};
    snprintf(device.name, sizeof device.name, "%s", name);
    snprintf(device.architecture, sizeof device.architecture, "%s", architecture);
    snprintf(device.driver, sizeof device.driver, "%s", driver);
    snprintf(device.platform_name, sizeof device.platform_name, "Test Platform 1.0");
    snprintf(device.slug, sizeof device.slug, "test-device");
    return device;
}

static struct device test_device(void) {
    return make_device("Test Device", "test-arch", "1.2.3", VENDOR_OTHER);
}

/* A path in a new directory. */
static const char *temp_file(void) {
    static char path[256];
    snprintf(path, sizeof path, "%s/tuned.json", harness_temp_dir());
    return path;
}

static void write_bytes(const char *path, const char *data, size_t size) {
    FILE *file = fopen(path, "wb");
    assert_non_null(file);
    assert_int_equal(fwrite(data, 1, size, file), size);
    fclose(file);
}

static char *read_bytes(const char *path) {
    struct text text = {0};
    assert_ok(text_read_file(&text, path));
    text_append(&text, "", 0);
    return text.data;
}

static struct tuned_entry make_entry(const char *variant, uint64_t m, uint64_t n,
                                     const char *tunables, double gflops) {
    struct tuned_entry entry = {.op = "gemm", .implementation = "cpu", .gflops = gflops};
    snprintf(entry.shape.variant, sizeof entry.shape.variant, "%s", variant);
    snprintf(entry.tunables, sizeof entry.tunables, "%s", tunables);
    entry.source_hash = 0x0123456789abcdefu;
    entry.shape.count = 2;
    entry.shape.dim[0].name = "m";
    entry.shape.dim[0].value = m;
    entry.shape.dim[1].name = "n";
    entry.shape.dim[1].value = n;
    return entry;
}

static struct shape make_shape(const char *variant, uint64_t m, uint64_t n) {
    return make_entry(variant, m, n, "", 0).shape;
}

static struct program_store no_programs;

static void open_tuning(struct tuning *tuning, struct device *device, const char *file) {
    assert_ok(tuning_open(tuning, device, &no_programs, file, &logger));
}

static void put(struct tuning *tuning, const char *variant, uint64_t m, uint64_t n,
                const char *tunables, double gflops) {
    const struct tuned_entry entry = make_entry(variant, m, n, tunables, gflops);
    assert_ok(tuning_put(tuning, &entry));
}

static bool accept_all(void *user, const struct tuned_entry *entry) {
    (void)user, (void)entry;
    return true;
}

/* The tunables found for a shape, or "none". */
static const char *look_up(struct tuning *tuning, const char *variant, uint64_t m, uint64_t n) {
    static struct tuned_entry found;
    const struct shape shape = make_shape(variant, m, n);
    return tuning_find(tuning, "gemm", &shape, accept_all, NULL, &found) ? found.tunables : "none";
}

/* ---- a good file and its bad relatives ---- */

#define DEVICE                                                                                     \
    "{\"name\": \"Test Device\", \"vendor\": \"other\", \"architecture\": \"test-arch\","          \
    " \"driver\": \"1.2.3\", \"platform\": \"Test Platform 1.0\", \"compute_units\": 4}"
#define ENTRY_WITH(op, implementation, shape, tunables, rest)                                      \
    "{\"op\": " op ", \"implementation\": " implementation ", \"variant\": \"f32 NT\","            \
    " \"shape\": " shape ", \"tunables\": " tunables ", " rest "}"
#define SOURCE "\"source\": \"0123456789abcdef\""
#define SHAPE "{\"m\": 64, \"n\": 32}"
#define TUNABLES "{\"MR\": 12, \"NV\": -2}"
#define ENTRY ENTRY_WITH("\"gemm\"", "\"cpu\"", SHAPE, TUNABLES, "\"gflops\": 201.5, " SOURCE)
#define FILE_WITH(schema, device, entries)                                                         \
    "{\"schema\": " schema ", \"library\": \"0.1.0\", \"device\": " device                         \
    ", \"entries\": " entries "}\n"
#define GOOD FILE_WITH("1", DEVICE, "[" ENTRY "]")
#define WITH_ENTRY(entry) FILE_WITH("1", DEVICE, "[" ENTRY ", " entry "]")
#define WITH_REST(rest) WITH_ENTRY(ENTRY_WITH("\"gemm\"", "\"cpu\"", SHAPE, TUNABLES, rest))
#define WITH_TUNABLES(tunables)                                                                    \
    WITH_ENTRY(ENTRY_WITH("\"gemm\"", "\"cpu\"", SHAPE, tunables, "\"gflops\": 201.5, " SOURCE))
#define WITH_SHAPE(shape)                                                                          \
    WITH_ENTRY(ENTRY_WITH("\"gemm\"", "\"cpu\"", shape, TUNABLES, "\"gflops\": 201.5, " SOURCE))
#define LONG "xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx"

static const struct bad_file {
    const char *name, *content, *complaint; /* a part of the logged line */
} bad_files[] = {
    {"empty", "", "line 1"},
    {"not JSON", "tuned!", "line 1"},
    {"a list", "[]", "one JSON object"},
    {"no schema", "{}", "\"schema\""},
    {"another schema", FILE_WITH("2", DEVICE, "[]"), "\"schema\""},
    {"schema as text", FILE_WITH("\"1\"", DEVICE, "[]"), "\"schema\""},
    {"no device", FILE_WITH("1", "null", "[]"), "\"device\""},
    {"empty device", FILE_WITH("1", "{}", "[]"), "device: \"name\""},
    {"entries no list", FILE_WITH("1", DEVICE, "{}"), "\"entries\""},
    {"entry no object", WITH_ENTRY("7"), "entry 1 must be an object"},
    {"unknown field", WITH_REST("\"gflop\": 1, \"gflops\": 1, " SOURCE), "entry 1: \"gflop\""},
    {"twice the same field", WITH_REST("\"gflops\": 1, \"gflops\": 1, " SOURCE), "duplicate"},
    {"op is a number",
     WITH_ENTRY(ENTRY_WITH("3", "\"cpu\"", SHAPE, TUNABLES, "\"gflops\": 1, " SOURCE)),
     "entry 1: \"op\""},
    {"op has a space",
     WITH_ENTRY(ENTRY_WITH("\"ge mm\"", "\"cpu\"", SHAPE, TUNABLES, "\"gflops\": 1, " SOURCE)),
     "entry 1: \"op\""},
    {"implementation too long",
     WITH_ENTRY(ENTRY_WITH("\"gemm\"", "\"" LONG "\"", SHAPE, TUNABLES, "\"gflops\": 1, " SOURCE)),
     "entry 1: \"implementation\""},
    {"no gflops", WITH_REST(SOURCE), "entry 1: \"gflops\""},
    {"negative gflops", WITH_REST("\"gflops\": -1, " SOURCE), "entry 1: \"gflops\""},
    {"gflops overflow", WITH_REST("\"gflops\": 1e999, " SOURCE), "line 1"},
    {"no source", WITH_REST("\"gflops\": 1"), "entry 1: \"source\""},
    {"short source", WITH_REST("\"gflops\": 1, \"source\": \"abc\""), "entry 1: \"source\""},
    {"source in capitals", WITH_REST("\"gflops\": 1, \"source\": \"0123456789ABCDEF\""),
     "entry 1: \"source\""},
    {"date", WITH_REST("\"gflops\": 1, \"date\": \"yesterday!\", " SOURCE), "entry 1: \"date\""},
    {"tunable is a fraction", WITH_TUNABLES("{\"MR\": 1.5}"), "entry 1: \"MR\""},
    {"tunable too large", WITH_TUNABLES("{\"MR\": 2147483648}"), "entry 1: \"MR\""},
    {"tunable beyond 64 bits", WITH_TUNABLES("{\"MR\": 99999999999999999999}"), "line 1"},
    {"tunable with a strange name", WITH_TUNABLES("{\"MR 1\\n#x\": 1}"), "entry 1: "},
    {"tunables too long", WITH_TUNABLES("{\"" LONG LONG LONG "\": 1}"), "entry 1: "},
    {"guess", WITH_REST("\"gflops\": 1, \"guess\": 3, " SOURCE), "entry 1: \"guess\""},
    {"empty guess", WITH_REST("\"gflops\": 1, \"guess\": {}, " SOURCE), "entry 1: \"guess\""},
    {"too many tunables",
     WITH_TUNABLES("{\"a\":1,\"b\":1,\"c\":1,\"d\":1,\"e\":1,\"f\":1,\"g\":1,\"h\":1,\"i\":1,"
                   "\"j\":1,\"k\":1,\"l\":1,\"m\":1,\"n\":1,\"o\":1,\"p\":1,\"q\":1}"),
     "entry 1: \"tunables\""},
    {"too many dims",
     WITH_SHAPE("{\"a\":1,\"b\":1,\"c\":1,\"d\":1,\"e\":1,\"f\":1,\"g\":1,\"h\":1,\"i\":1}"),
     "entry 1: \"shape\""},
    {"negative dim", WITH_SHAPE("{\"m\": -1}"), "entry 1: \"m\""},
    {"dim with a long name", WITH_SHAPE("{\"" LONG "\": 1}"), "entry 1: "},
    {"a NUL", FILE_WITH("1", "\"a\\u0000b\"", "[]"), "line 1"},
    {"no UTF-8", FILE_WITH("1", "\"\xff\xfe\"", "[]"), "line 1"},
    {"two files in one", GOOD GOOD, "line 2"},
};

static void test_bad_file(void **state) {
    const struct bad_file *bad = *state;
    struct tuning tuning;
    struct device device = test_device();
    const char *path = temp_file();
    write_bytes(path, bad->content, strlen(bad->content));
    logged.warnings = 0;
    open_tuning(&tuning, &device, path);
    assert_int_equal(tuning_count(&tuning), 0);
    assert_int_equal(logged.warnings, 1);
    if (strstr(logged.text, bad->complaint) == NULL || strstr(logged.text, path) == NULL)
        fail_msg("\"%s\" should name the file and say %s", logged.text, bad->complaint);
    assert_string_equal(clat_error_text(), "");
    tuning_close(&tuning);
}

static void test_good_file(void **state) {
    (void)state;
    struct tuning tuning;
    struct device device = test_device();
    const char *path = temp_file();
    write_bytes(path, GOOD, strlen(GOOD));
    open_tuning(&tuning, &device, path);
    assert_int_equal(tuning_count(&tuning), 1);
    assert_string_equal(tuning_file(&tuning), path);
    assert_string_equal(look_up(&tuning, "f32 NT", 64, 32), "MR=12 NV=-2");
    tuning_close(&tuning);
}

static void test_truncated(void **state) {
    (void)state;
    struct tuned_file file;
    const size_t size = strlen(GOOD);
    for (size_t length = 0; length < size - 1; length++)
        if (tuned_file_parse(&file, "cut", GOOD, length) != CLAT_INVALID_FILE)
            fail_msg("accepted when cut after %zu of %zu bytes", length, size);
    assert_ok(tuned_file_parse(&file, "cut", GOOD, size));
    tuned_file_free(&file);
}

/* What is accepted need not be what was written, but must be a legal file. */
static void test_flipped(void **state) {
    (void)state;
    uint64_t seed = 1;
    unsigned accepted = 0;
    for (unsigned round = 0; round < 20000; round++) {
        char content[] = GOOD;
        struct tuned_file file;
        struct text text = {0};
        for (uint64_t flips = 1 + harness_random_below(&seed, 3); flips > 0; flips--)
            content[harness_random_below(&seed, sizeof content - 1)] ^=
                (char)(1u << harness_random_below(&seed, 8));
        if (tuned_file_parse(&file, "flipped", content, sizeof content - 1) != CLAT_OK)
            continue;
        accepted++;
        assert_int_equal(file.count, 1);
        assert_ok(tuned_file_print(&file, &text));
        tuned_file_free(&file);
        assert_ok(tuned_file_parse(&file, "printed", text.data, text.length));
        tuned_file_free(&file);
        text_free(&text);
    }
    assert_in_range(accepted, 1, 19999);
}

static void test_nested(void **state) {
    (void)state;
    struct tuned_file file;
    const size_t depth = 1000000;
    char *content = harness_alloc(depth);
    memset(content, '[', depth);
    assert_status(CLAT_INVALID_FILE, tuned_file_parse(&file, "deep", content, depth));
    free(content);
}

static void test_not_a_file(void **state) {
    (void)state;
    struct tuning tuning;
    struct device device = test_device();
    const char *path = temp_file();
    assert_int_equal(mkdir(path, 0777), 0);
    logged.warnings = 0;
    open_tuning(&tuning, &device, path);
    assert_int_equal(logged.warnings, 1);
    tuning_close(&tuning);
    assert_int_equal(rmdir(path), 0);
    assert_int_equal(mkfifo(path, 0666), 0); /* reading it would wait for ever */
    open_tuning(&tuning, &device, path);
    assert_int_equal(logged.warnings, 2);
    tuning_close(&tuning);
}

static void test_missing(void **state) {
    (void)state;
    struct tuning tuning;
    struct device device = test_device();
    logged.warnings = 0;
    open_tuning(&tuning, &device, temp_file());
    assert_int_equal(logged.warnings, 0);
    assert_string_equal(look_up(&tuning, "f32 NT", 64, 32), "none");
    tuning_close(&tuning);
}

/* ---- looking up ---- */

static void test_nearest(void **state) {
    (void)state;
    struct tuning tuning;
    struct device device = test_device();
    open_tuning(&tuning, &device, temp_file());
    put(&tuning, "f32 NT", 64, 64, "MR=1", 1);
    put(&tuning, "f32 NT", 1024, 1024, "MR=2", 1);
    put(&tuning, "f32 NT", 0, 1024, "MR=3", 1);
    put(&tuning, "f16 NT", 128, 128, "MR=4", 1);
    assert_string_equal(look_up(&tuning, "f32 NT", 64, 64), "MR=1");
    assert_string_equal(look_up(&tuning, "f32 NT", 128, 128), "MR=1");
    assert_string_equal(look_up(&tuning, "f32 NT", 512, 512), "MR=2");
    assert_string_equal(look_up(&tuning, "f32 NT", 1, 900), "MR=3"); /* 0 counts as 1 */
    assert_string_equal(look_up(&tuning, "f32 NT", 1 << 30, 1 << 30), "MR=2");
    assert_string_equal(look_up(&tuning, "f16 NT", 64, 64), "MR=4");
    assert_string_equal(look_up(&tuning, "f64 NT", 64, 64), "none");

    struct tuned_entry found;
    struct shape shape = make_shape("f32 NT", 64, 64);
    assert_false(tuning_find(&tuning, "attention", &shape, accept_all, NULL, &found));
    shape.dim[1].name = "k"; /* another set of dims is another thing */
    assert_false(tuning_find(&tuning, "gemm", &shape, accept_all, NULL, &found));
    shape.dim[0].name = "n"; /* the order of dims is not */
    shape.dim[0].value = 1024;
    shape.dim[1].name = "m";
    shape.dim[1].value = 1;
    assert_true(tuning_find(&tuning, "gemm", &shape, accept_all, NULL, &found));
    assert_string_equal(found.tunables, "MR=3");
    tuning_close(&tuning);
    assert_string_equal(found.shape.dim[0].name, "m"); /* its own copy */
}

static void test_origin(void **state) {
    (void)state;
    struct tuning tuning;
    struct device device = test_device();
    struct tuned_entry found;
    open_tuning(&tuning, &device, "/x/y.json");
    put(&tuning, "f32 NT", 64, 64, "MR=1", 1);
    struct shape shape = make_shape("f32 NT", 64, 64);
    assert_true(tuning_find(&tuning, "gemm", &shape, accept_all, NULL, &found));
    assert_string_equal(found.origin, "tuned file /x/y.json: m=64 n=64");
    shape = make_shape("f32 NT", 128, 64);
    assert_true(tuning_find(&tuning, "gemm", &shape, accept_all, NULL, &found));
    assert_string_equal(found.origin, "tuned file /x/y.json: m=64 n=64, 1.0 octaves away");
    tuning_close(&tuning);

    char path[400] = "/";
    memset(path + 1, 'p', 300);
    strcpy(path + 301, "/y.json");
    open_tuning(&tuning, &device, path);
    put(&tuning, "f32 NT", 64, 64, "MR=1", 1);
    assert_true(tuning_find(&tuning, "gemm", &shape, accept_all, NULL, &found));
    assert_non_null(strstr(found.origin, "pp/y.json: m=64 n=64, 1.0 octaves away"));
    tuning_close(&tuning);
}

/* Takes the second entry it is offered; entries come one by one, nearest first. */
static bool accept_second(void *user, const struct tuned_entry *entry) {
    unsigned *calls = user;
    assert_int_equal(entry->shape.dim[0].value, ++*calls == 1 ? 64 : 256);
    return *calls == 2;
}

static void test_accept(void **state) {
    (void)state;
    struct tuning tuning;
    struct device device = test_device();
    struct tuned_entry found;
    unsigned calls = 0;
    const struct shape shape = make_shape("f32 NT", 64, 64);
    open_tuning(&tuning, &device, "");
    put(&tuning, "f32 NT", 256, 64, "MR=2", 1);
    put(&tuning, "f32 NT", 4096, 64, "MR=3", 1);
    put(&tuning, "f32 NT", 64, 64, "MR=1", 1);
    assert_true(tuning_find(&tuning, "gemm", &shape, accept_second, &calls, &found));
    assert_int_equal(calls, 2);
    assert_string_equal(found.tunables, "MR=2");
    tuning_close(&tuning);
}

/* Shipped files are well-formed, and their values legal names of what exists. That they are not
 * stale is for those to see who tune: not every change of a kernel can bring a measurement. */
static void test_shipped_files(void **state) {
    (void)state;
    glob_t files;
    assert_int_equal(glob(HARNESS_KERNEL_DIR "/tuned/*.json", 0, NULL, &files), 0);
    for (size_t f = 0; f < files.gl_pathc; f++) {
        struct tuned_file file;
        assert_ok(tuned_file_read(&file, files.gl_pathv[f]));
        for (size_t i = 0; i < file.count; i++) {
            const struct tuned_entry *entry = &file.entries[i];
            const bool is_gemm = strcmp(entry->op, "gemm") == 0;
            const struct operation *op = is_gemm ? &gemm_operation : &attention_operation;
            const struct implementation *impl = op_implementation(op, entry->implementation);
            int values[OP_MAX_TUNABLES] = {0};
            assert_string_equal(entry->op, op->name);
            assert_non_null(impl);
            assert_ok(tunables_parse(impl, entry->tunables, values));
            assert_ok(tunables_parse(impl, entry->guess, values));
        }
        tuned_file_free(&file);
    }
    globfree(&files);
}

/* Of several implementations tuned for one shape the fastest is offered first. */
static void test_implementations(void **state) {
    (void)state;
    struct tuning tuning;
    struct device device = test_device();
    open_tuning(&tuning, &device, "");
    put(&tuning, "f32 NT", 64, 64, "MR=1", 10);
    struct tuned_entry entry = make_entry("f32 NT", 64, 64, "BM=64", 20);
    strcpy(entry.implementation, "simt");
    assert_ok(tuning_put(&tuning, &entry));
    assert_int_equal(tuning_count(&tuning), 2);
    assert_string_equal(look_up(&tuning, "f32 NT", 64, 64), "BM=64");
    put(&tuning, "f32 NT", 64, 64, "MR=2", 30);
    assert_int_equal(tuning_count(&tuning), 2);
    assert_string_equal(look_up(&tuning, "f32 NT", 64, 64), "MR=2");
    tuning_close(&tuning);
}

static void test_generation(void **state) {
    (void)state;
    struct tuning tuning;
    struct device device = test_device();
    open_tuning(&tuning, &device, "");
    const unsigned before = tuning_generation(&tuning);
    put(&tuning, "f32 NT", 64, 64, "MR=1", 10);
    assert_true(tuning_generation(&tuning) > before);
    tuning_close(&tuning);
}

static void test_stale(void **state) {
    (void)state;
    struct tuning tuning;
    struct device device = test_device();
    struct tuned_entry found;
    const struct shape shape = make_shape("f32 NT", 64, 64);
    open_tuning(&tuning, &device, "");
    put(&tuning, "f32 NT", 64, 64, "MR=1", 10);
    assert_true(tuning_find(&tuning, "gemm", &shape, accept_all, NULL, &found));
    logged.text[0] = '\0';
    tuning_note_stale(&tuning, &found);
    assert_non_null(strstr(logged.text, "other kernel source"));
    logged.text[0] = '\0';
    tuning_note_stale(&tuning, &found);
    assert_string_equal(logged.text, "");
    tuning_close(&tuning);
}

/* ---- whose values ---- */

static void save_for(const char *path, struct device device, const char *tunables, uint64_t m) {
    struct tuning tuning;
    open_tuning(&tuning, &device, path);
    put(&tuning, "f32 NT", m, m, tunables, 1);
    assert_ok(tuning_save(&tuning));
    tuning_close(&tuning);
}

/* Closer devices win over nearer shapes. */
static void test_ranks(void **state) {
    (void)state;
    const char *directory = harness_temp_dir();
    struct device device = make_device("A", "arch-a", "1", VENDOR_MESA);
    struct program_store programs = {.directory = {(char *)(uintptr_t)directory}};
    static const struct {
        const char *file, *device, *architecture, *driver, *tunables, *found;
        enum vendor vendor;
    } files[] = {
        {"unrelated", "D", "arch-d", "1", "MR=1", "none", VENDOR_OTHER},
        {"vendor", "C", "arch-c", "1", "MR=2", "MR=2", VENDOR_MESA},
        {"architecture", "B", "arch-a", "1", "MR=3", "MR=3", VENDOR_MESA},
        {"driver", "A", "arch-a", "2", "MR=4", "MR=3", VENDOR_MESA}, /* the nearer shape */
        {"device", "A", "arch-a", "1", "MR=5", "MR=5", VENDOR_MESA},
    };
    char path[512];
    for (size_t i = 0; i < sizeof files / sizeof *files; i++) {
        struct tuning tuning;
        snprintf(path, sizeof path, "%s/tuned/%s.json", directory, files[i].file);
        save_for(
            path,
            make_device(files[i].device, files[i].architecture, files[i].driver, files[i].vendor),
            files[i].tunables, (uint64_t)1 << (2 * i));
        assert_ok(tuning_open(&tuning, &device, &programs, "/nowhere", &logger));
        assert_string_equal(look_up(&tuning, "f32 NT", 1, 1), files[i].found);
        tuning_close(&tuning);
    }
}

/* Two devices of unknown vendors have nothing in common. */
static void test_other_vendor(void **state) {
    (void)state;
    struct tuning tuning;
    struct device device = make_device("A", "arch-a", "1", VENDOR_OTHER);
    const char *path = temp_file();
    save_for(path, make_device("B", "arch-b", "1", VENDOR_OTHER), "MR=1", 64);
    open_tuning(&tuning, &device, path);
    assert_string_equal(look_up(&tuning, "f32 NT", 64, 64), "none");
    tuning_close(&tuning);
}

static void test_user_over_shipped(void **state) {
    (void)state;
    char shipped[512], path[512];
    const char *first = harness_temp_dir(), *second = harness_temp_dir();
    struct tuning tuning;
    struct device device = test_device();
    struct program_store programs = {
        .directory = {(char *)(uintptr_t)first, (char *)(uintptr_t)second}};
    snprintf(shipped, sizeof shipped, "%s/tuned/a.json", second);
    save_for(shipped, device, "MR=2", 64);
    assert_ok(tuning_open(&tuning, &device, &programs, "/nowhere", &logger));
    assert_string_equal(look_up(&tuning, "f32 NT", 64, 64), "MR=2");
    tuning_close(&tuning);

    snprintf(path, sizeof path, "%s/user.json", first);
    save_for(path, device, "MR=1", 64);
    assert_ok(tuning_open(&tuning, &device, &programs, path, &logger));
    assert_string_equal(look_up(&tuning, "f32 NT", 64, 64), "MR=1");
    /* Shipped values are not copied into the user's file. */
    put(&tuning, "f32 NT", 128, 64, "MR=3", 1);
    assert_ok(tuning_save(&tuning));
    char *content = read_bytes(path);
    assert_null(strstr(content, "\"MR\": 2"));
    assert_non_null(strstr(content, "\"MR\": 3"));
    free(content);
    tuning_close(&tuning);

    /* A file of the same name in an earlier directory hides the later one. */
    snprintf(shipped, sizeof shipped, "%s/tuned/a.json", first);
    save_for(shipped, device, "MR=4", 4096);
    assert_ok(tuning_open(&tuning, &device, &programs, "/nowhere", &logger));
    assert_string_equal(look_up(&tuning, "f32 NT", 64, 64), "MR=4");
    tuning_close(&tuning);

    /* "" is for guesses only. */
    assert_ok(tuning_open(&tuning, &device, &programs, "", &logger));
    assert_int_equal(tuning_count(&tuning), 0);
    tuning_close(&tuning);
}

/* ---- where the file is ---- */

static void check_path(const char *option, const char *expected) {
    struct tuning tuning;
    struct device device = test_device();
    open_tuning(&tuning, &device, option);
    assert_string_equal(tuning_file(&tuning), expected);
    tuning_close(&tuning);
}

static void test_paths(void **state) {
    (void)state;
    const char *home = getenv("HOME"), *data = getenv("XDG_DATA_HOME");
    char *old_home = home != NULL ? strdup(home) : NULL;
    char *old_data = data != NULL ? strdup(data) : NULL;
    setenv("HOME", "/home/somebody", 1);
    unsetenv("XDG_DATA_HOME");
    check_path(NULL, "/home/somebody/.local/share/clattice/tuned/test-device.json");
    setenv("XDG_DATA_HOME", "/data", 1);
    check_path(NULL, "/data/clattice/tuned/test-device.json");
    setenv("XDG_DATA_HOME", "relative", 1); /* the specification says: to be ignored */
    check_path(NULL, "/home/somebody/.local/share/clattice/tuned/test-device.json");
    setenv("CLATTICE_TUNED_FILE", "/env.json", 1);
    check_path(NULL, "/env.json");
    check_path("/option.json", "/option.json");
    check_path("", "");
    setenv("CLATTICE_TUNED_FILE", "", 1);
    check_path(NULL, "");
    unsetenv("CLATTICE_TUNED_FILE");
    unsetenv("XDG_DATA_HOME");
    unsetenv("HOME");
    check_path(NULL, "");
    if (old_home != NULL)
        setenv("HOME", old_home, 1);
    if (old_data != NULL)
        setenv("XDG_DATA_HOME", old_data, 1);
    free(old_home);
    free(old_data);
}

/* A relative path stays where it was when the application goes elsewhere. */
static void test_relative_path(void **state) {
    (void)state;
    struct tuning tuning;
    struct device device = test_device();
    char *before = getcwd(NULL, 0), *directory = realpath(harness_temp_dir(), NULL);
    assert_non_null(before);
    assert_non_null(directory);
    assert_int_equal(chdir(directory), 0);
    open_tuning(&tuning, &device, "new/tuned.json");
    assert_int_equal(chdir(before), 0);
    char *expected = text_format("%s/new/tuned.json", directory);
    assert_string_equal(tuning_file(&tuning), expected);
    put(&tuning, "f32 NT", 64, 64, "A=1", 1);
    assert_ok(tuning_save(&tuning));
    assert_int_equal(access(expected, F_OK), 0);
    tuning_close(&tuning);
    free(expected);
    free(directory);
    free(before);
}

/* ---- saving ---- */

static void test_round_trip(void **state) {
    (void)state;
    char path[512];
    struct tuning tuning;
    struct device device = make_device("T\xc3\xa9st \"Device\"\n", "test-arch", "1", VENDOR_OTHER);
    snprintf(path, sizeof path, "%s/new/directories/tuned.json", harness_temp_dir());
    open_tuning(&tuning, &device, path);
    put(&tuning, "f32 NT", 1024, 64, "MR=12 NV=2", 201.53);
    put(&tuning, "f32 NT", 64, 1024, "MR=8 NV=1", 77);
    put(&tuning, "", 64, 1024, "", 0);
    assert_ok(tuning_save(&tuning));
    char *first = read_bytes(path);
    tuning_close(&tuning);

    open_tuning(&tuning, &device, path);
    assert_int_equal(tuning_count(&tuning), 3);
    assert_string_equal(look_up(&tuning, "f32 NT", 1024, 64), "MR=12 NV=2");
    assert_string_equal(look_up(&tuning, "f32 NT", 64, 1024), "MR=8 NV=1");
    assert_string_equal(look_up(&tuning, "", 64, 1024), "");
    assert_ok(tuning_save(&tuning)); /* the same bytes again */
    char *second = read_bytes(path);
    assert_string_equal(first, second);
    free(second);
    put(&tuning, "f32 NT", 64, 1024, "MR=4 NV=1", 78); /* replaced, not added */
    assert_ok(tuning_save(&tuning));
    tuning_close(&tuning);
    open_tuning(&tuning, &device, path);
    assert_int_equal(tuning_count(&tuning), 3);
    assert_string_equal(look_up(&tuning, "f32 NT", 64, 1024), "MR=4 NV=1");
    tuning_close(&tuning);
    free(first);
}

static void test_nowhere_to_save(void **state) {
    (void)state;
    char path[512];
    struct tuning tuning;
    struct device device = test_device();
    open_tuning(&tuning, &device, "");
    put(&tuning, "f32 NT", 64, 64, "MR=1", 1);
    assert_status(CLAT_NOT_FOUND, tuning_save(&tuning));
    tuning_close(&tuning);

    const char *file = temp_file();
    write_bytes(file, GOOD, strlen(GOOD));
    snprintf(path, sizeof path, "%s/below/a/file.json", file);
    open_tuning(&tuning, &device, path);
    put(&tuning, "f32 NT", 64, 64, "MR=1", 1);
    assert_status(CLAT_IO_ERROR, tuning_save(&tuning));
    assert_string_equal(look_up(&tuning, "f32 NT", 64, 64), "MR=1");
    tuning_close(&tuning);
}

/* What cannot be merged moves aside instead of being lost. */
static void test_moved_aside(void **state) {
    (void)state;
    char aside[512];
    const char *path = temp_file();
    snprintf(aside, sizeof aside, "%s.old", path);
    write_bytes(path, "garbage", 7);
    save_for(path, test_device(), "MR=1", 64);
    char *content = read_bytes(aside);
    assert_string_equal(content, "garbage");
    free(content);

    save_for(path, make_device("Another", "test-arch", "1", VENDOR_OTHER), "MR=2", 64);
    content = read_bytes(aside);
    assert_non_null(strstr(content, "Test Device"));
    free(content);
    content = read_bytes(path);
    assert_non_null(strstr(content, "Another"));
    assert_null(strstr(content, "\"MR\": 1"));
    free(content);
}

/* A new driver: the old values stay until they are measured again, and say whose they are. */
static void test_driver_update(void **state) {
    (void)state;
    struct tuning tuning;
    struct device old = make_device("A", "arch", "1", VENDOR_OTHER);
    struct device new = make_device("A", "arch", "2", VENDOR_OTHER);
    const char *path = temp_file();
    save_for(path, old, "MR=1", 64);
    save_for(path, old, "MR=2", 128);
    save_for(path, new, "MR=3", 128);
    for (unsigned i = 0; i < 2; i++) {
        open_tuning(&tuning, i == 0 ? &new : &old, path);
        assert_int_equal(tuning_count(&tuning), 2);
        assert_string_equal(look_up(&tuning, "f32 NT", 64, 64), i == 0 ? "MR=3" : "MR=1");
        tuning_close(&tuning);
    }
    char *content = read_bytes(path);
    assert_non_null(strstr(content, "\"driver\": \"1\"}"));
    free(content);
}

/* Another process adds to the file while this one has it loaded. */
static void test_merge(void **state) {
    (void)state;
    struct tuning first, second;
    struct device device = test_device();
    const char *path = temp_file();
    save_for(path, device, "MR=1", 64);
    open_tuning(&first, &device, path);
    open_tuning(&second, &device, path);
    put(&first, "f32 NT", 64, 64, "MR=2", 1);
    put(&first, "f32 NT", 128, 128, "MR=3", 1);
    assert_ok(tuning_save(&first));
    put(&second, "f32 NT", 256, 256, "MR=4", 1);
    assert_ok(tuning_save(&second)); /* its old value for 64 must not come back */
    tuning_close(&first);
    tuning_close(&second);
    open_tuning(&first, &device, path);
    assert_int_equal(tuning_count(&first), 3);
    assert_string_equal(look_up(&first, "f32 NT", 64, 64), "MR=2");
    assert_string_equal(look_up(&first, "f32 NT", 128, 128), "MR=3");
    assert_string_equal(look_up(&first, "f32 NT", 256, 256), "MR=4");
    tuning_close(&first);
}

static void test_concurrent_saves(void **state) {
    (void)state;
    enum { PROCESSES = 6, SAVES = 15 };
    struct device device = test_device();
    const char *path = temp_file();
    for (unsigned process = 0; process < PROCESSES; process++) {
        if (fork() != 0)
            continue;
        struct tuning tuning;
        bool good = tuning_open(&tuning, &device, &no_programs, path, &logger) == CLAT_OK;
        for (unsigned i = 0; good && i < SAVES; i++) {
            const struct tuned_entry entry = make_entry("f32 NT", process, i, "MR=1", 1);
            good = tuning_put(&tuning, &entry) == CLAT_OK && tuning_save(&tuning) == CLAT_OK;
        }
        _exit(good ? 0 : 1);
    }
    for (unsigned process = 0; process < PROCESSES; process++) {
        int status = 0;
        assert_true(wait(&status) > 0);
        assert_int_equal(status, 0);
    }
    struct tuning tuning;
    open_tuning(&tuning, &device, path);
    assert_int_equal(tuning_count(&tuning), PROCESSES * SAVES);
    tuning_close(&tuning);
}

int main(void) {
    static const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_good_file),
        cmocka_unit_test(test_truncated),
        cmocka_unit_test(test_flipped),
        cmocka_unit_test(test_nested),
        cmocka_unit_test(test_not_a_file),
        cmocka_unit_test(test_missing),
        cmocka_unit_test(test_nearest),
        cmocka_unit_test(test_origin),
        cmocka_unit_test(test_accept),
        cmocka_unit_test(test_implementations),
        cmocka_unit_test(test_generation),
        cmocka_unit_test(test_stale),
        cmocka_unit_test(test_ranks),
        cmocka_unit_test(test_other_vendor),
        cmocka_unit_test(test_user_over_shipped),
        cmocka_unit_test(test_paths),
        cmocka_unit_test(test_relative_path),
        cmocka_unit_test(test_round_trip),
        cmocka_unit_test(test_nowhere_to_save),
        cmocka_unit_test(test_moved_aside),
        cmocka_unit_test(test_driver_update),
        cmocka_unit_test(test_merge),
        cmocka_unit_test(test_concurrent_saves),
        cmocka_unit_test(test_shipped_files),
    };
    for (size_t i = 0; i < sizeof tests / sizeof *tests; i++)
        harness_add(tests[i].name, tests[i].test_func, NULL);
    for (size_t i = 0; i < sizeof bad_files / sizeof *bad_files; i++)
        harness_add(bad_files[i].name, test_bad_file, &bad_files[i]);
    return harness_run_added();
}
