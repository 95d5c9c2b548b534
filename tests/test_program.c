#include "program.h"

#include "harness.h"
#include "source.h"

#include <dirent.h>
#include <inttypes.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* ---------------------------------------------------------------- files and stores --------- */

static const char *join(const char *dir, const char *name) {
    static _Thread_local char buffer[4][4096];
    static _Thread_local unsigned next;
    char *out = buffer[next++ % 4];
    snprintf(out, sizeof buffer[0], "%s/%s", dir, name);
    return out;
}

static void write_file(const char *dir, const char *name, const char *content) {
    FILE *file = fopen(join(dir, name), "w");
    assert_non_null(file);
    fputs(content, file);
    assert_int_equal(fclose(file), 0);
}

/* What the log says about where programs come from, and about builds that fail. */
static struct { atomic_uint built, loaded, warnings; } lines;

static void count_lines(void *user, clat_log_level level, const char *line) {
    (void)user;
    if (strstr(line, "built from source") != NULL)
        atomic_fetch_add(&lines.built, 1);
    if (strstr(line, "loaded from the disk cache") != NULL)
        atomic_fetch_add(&lines.loaded, 1);
    if (level == CLAT_LOG_WARNING)
        atomic_fetch_add(&lines.warnings, 1);
}

static const struct logger logger = {count_lines, NULL};

/* A store of its own on the harness's device. */
struct fixture {
    struct device device;
    struct cache *cache;
    struct program_store store;
};

static void set_up(struct fixture *fixture, const char *kernel_dir, const char *cache_dir) {
    const clat_context *ctx = harness_context();
    const cl_context cl = clat_context_cl(ctx);
    status_clear();
    assert_ok(cache_open(&fixture->cache, cache_dir, 0, &logger));
    assert_ok(device_open(&fixture->device, cl, clat_context_device(ctx), fixture->cache, &logger));
    assert_ok(program_store_open(&fixture->store, cl, &fixture->device, fixture->cache, kernel_dir,
                                 &logger));
    fixture->store.store_late = false; /* on every device */
    atomic_store(&lines.built, 0);
    atomic_store(&lines.loaded, 0);
    atomic_store(&lines.warnings, 0);
}

static void tear_down(struct fixture *fixture) {
    program_store_close(&fixture->store);
    device_close(&fixture->device);
    cache_close(fixture->cache);
}

/* Builds `source`, runs its kernel `answer(__global int *out)`, gives out[0]. */
static int run_answer(struct fixture *fixture, const struct program_request *request) {
    cl_program program = NULL;
    cl_int err = CL_SUCCESS;
    int answer = -1;
    assert_ok(program_get(&program, &fixture->store, request));
    assert_non_null(program);
    cl_kernel kernel = clCreateKernel(program, "answer", &err);
    assert_cl(err);
    cl_mem out = harness_buffer(sizeof answer, NULL);
    assert_cl(clSetKernelArg(kernel, 0, sizeof out, &out));
    const size_t one = 1;
    assert_cl(clEnqueueNDRangeKernel(harness_queue(), kernel, 1, NULL, &one, &one, 0, NULL, NULL));
    harness_read(out, 0, sizeof answer, &answer);
    clReleaseMemObject(out);
    clReleaseKernel(kernel);
    clReleaseProgram(program);
    return answer;
}

#define ANSWER(value) "__kernel void answer(__global int *out) { out[0] = " value "; }\n"

/* ---------------------------------------------------------------- assembly ----------------- */

struct file {
    const char *name, *content;
};

struct assembly {
    const char *name;
    struct file files[4]; /* the first one is read */
    const char *expected; /* NULL: NOT_FOUND, and the sentence names the last two strings */
    const char *missing, *from;
};

static const struct assembly assemblies[] = {
    {"no include", {{"a.cl", "1\n2\n"}}, "#line 1 \"a.cl\"\n1\n2\n", NULL, NULL},
    {"empty file", {{"a.cl", ""}}, "#line 1 \"a.cl\"\n", NULL, NULL},
    {"no newline at the end", {{"a.cl", "1"}}, "#line 1 \"a.cl\"\n1\n", NULL, NULL},
    {"an include",
     {{"a.cl", "1\n#include \"b.clh\"\n3\n"}, {"b.clh", "x\n"}},
     "#line 1 \"a.cl\"\n1\n#line 1 \"b.clh\"\nx\n#line 3 \"a.cl\"\n3\n",
     NULL,
     NULL},
    {"blanks around an include",
     {{"a.cl", " # \tinclude\t \"b.clh\" /* why */\n"}, {"b.clh", "x"}},
     "#line 1 \"a.cl\"\n#line 1 \"b.clh\"\nx\n#line 2 \"a.cl\"\n",
     NULL,
     NULL},
    {"included twice",
     {{"a.cl", "#include \"b.clh\"\n#include \"b.clh\"\n3\n"}, {"b.clh", "x\n"}},
     "#line 1 \"a.cl\"\n#line 1 \"b.clh\"\nx\n#line 2 \"a.cl\"\n\n3\n",
     NULL,
     NULL},
    {"diamond and circle",
     {{"a.cl", "#include \"b.clh\"\n#include \"c.clh\"\n"},
      {"b.clh", "#include \"c.clh\"\nb\n"},
      {"c.clh", "#include \"a.cl\"\nc\n"}},
     "#line 1 \"a.cl\"\n#line 1 \"b.clh\"\n#line 1 \"c.clh\"\n\nc\n#line 2 \"b.clh\"\nb\n"
     "#line 2 \"a.cl\"\n\n",
     NULL,
     NULL},
    {"one name is the end of another",
     {{"a.cl", "#include \"bb.clh\"\n#include \"b.clh\"\n"}, {"b.clh", "x\n"}, {"bb.clh", "y\n"}},
     "#line 1 \"a.cl\"\n#line 1 \"bb.clh\"\ny\n#line 2 \"a.cl\"\n#line 1 \"b.clh\"\nx\n"
     "#line 3 \"a.cl\"\n",
     NULL,
     NULL},
    {"not an include",
     {{"a.cl",
       "// #include \"b.clh\"\n#include <b.clh>\n#included\n#include \"\"\n#include \"b\n"}},
     "#line 1 \"a.cl\"\n// #include \"b.clh\"\n#include <b.clh>\n#included\n#include \"\"\n"
     "#include \"b\n",
     NULL,
     NULL},
    {"missing file", {{"b.cl", ""}}, NULL, "a.cl", "library"},
    {"missing include",
     {{"a.cl", "#include \"b.clh\"\n"}, {"b.clh", "\n\n#include \"c.clh\"\n"}},
     NULL,
     "c.clh",
     "b.clh:3"},
};

static void test_assembly(void **state) {
    const struct assembly *row = *state;
    char *dir = realpath(harness_temp_dir(), NULL);
    char *const directories[3] = {NULL, dir, NULL};
    struct text text = {0};
    for (size_t i = 0; i < 4 && row->files[i].name != NULL; i++)
        write_file(dir, row->files[i].name, row->files[i].content);
    status_clear();
    if (row->expected != NULL) {
        assert_ok(source_read(&text, directories, "a.cl"));
        assert_string_equal(text_string(&text), row->expected);
        assert_string_equal(clat_error_text(), "");
    } else {
        assert_status(CLAT_NOT_FOUND, source_read(&text, directories, "a.cl"));
        assert_non_null(strstr(clat_error_text(), row->missing));
        assert_non_null(strstr(clat_error_text(), row->from));
        assert_non_null(strstr(clat_error_text(), dir));
    }
    text_free(&text);
    free(dir);
}

/* Each file comes from the first directory that has it. */
static void test_directories(void **state) {
    (void)state;
    const char *first = harness_temp_dir(), *second = harness_temp_dir();
    struct fixture fixture;
    struct text text = {0};
    write_file(first, "b.clh", "first b\n");
    write_file(second, "a.cl", "#include \"b.clh\"\nsecond a\n#include \"common.clh\"\n");
    write_file(second, "b.clh", "second b\n");
    setenv("CLATTICE_KERNEL_DIR", first, 1);
    set_up(&fixture, second, "");
    unsetenv("CLATTICE_KERNEL_DIR");
    assert_ok(source_read(&text, fixture.store.directory, "a.cl"));
    assert_non_null(strstr(text_string(&text), "first b"));
    assert_non_null(strstr(text_string(&text), "second a"));
    assert_null(strstr(text_string(&text), "second b"));
    const char *embedded = strstr(text_string(&text), "#line 1 \"common.clh\"\n");
    assert_non_null(embedded);
    const struct embedded_file *file = embedded_kernels;
    while (strcmp(file->name, "common.clh") != 0)
        file++;
    assert_memory_equal(strchr(embedded, '\n') + 1, file->data, strcspn(file->data, "\n") + 1);
    char *origin = realpath(first, NULL);
    assert_string_equal(program_store_origin(&fixture.store), origin);
    free(origin);
    text_free(&text);
    tear_down(&fixture);
}

/* Directories that do not exist are named in the log, and the library's own copy is used. */
static void test_no_directory(void **state) {
    (void)state;
    char *directories[3];
    uint64_t hash = 0;
    struct fixture fixture;
    atomic_store(&lines.warnings, 0);
    setenv("CLATTICE_KERNEL_DIR", "/nonexistent/kernels", 1);
    source_directories(directories, "/dev/null", &logger);
    unsetenv("CLATTICE_KERNEL_DIR");
    assert_null(directories[0]);
    assert_null(directories[1]);
    assert_int_equal(atomic_load(&lines.warnings), 2);
    free(directories[2]);
    set_up(&fixture, "", "");
    for (int i = 0; i < 3; i++) {
        free(fixture.store.directory[i]); /* an installed one, perhaps */
        fixture.store.directory[i] = NULL;
    }
    assert_string_equal(program_store_origin(&fixture.store), "embedded");
    assert_ok(program_source_hash(&hash, &fixture.store, "common.clh"));
    tear_down(&fixture);
}

static void test_source_hash(void **state) {
    (void)state;
    const char *dir = harness_temp_dir();
    static const struct file changes[] = {{"a.cl", "#include \"b.clh\"\n// changed\n"},
                                          {"b.clh", "// changed\n"}};
    uint64_t hashes[3] = {0};
    write_file(dir, "a.cl", "#include \"b.clh\"\n");
    write_file(dir, "b.clh", "\n");
    for (int i = 0; i < 3; i++) {
        struct fixture fixture;
        uint64_t again = 0;
        set_up(&fixture, dir, "");
        assert_ok(program_source_hash(&hashes[i], &fixture.store, "a.cl"));
        if (i < 2)
            write_file(dir, changes[i].name, changes[i].content);
        assert_ok(program_source_hash(&again, &fixture.store, "a.cl")); /* cached */
        assert_true(again == hashes[i]);
        assert_status(CLAT_NOT_FOUND, program_source_hash(&again, &fixture.store, "c.cl"));
        assert_true(again == 0);
        tear_down(&fixture);
    }
    assert_true(hashes[0] != hashes[1] && hashes[1] != hashes[2] && hashes[0] != hashes[2]);
}

/* ---------------------------------------------------------------- builds ------------------- */

/* Snippet, defines, kernel file and its include all arrive, in this order: no define meets what a
 * caller has written. */
static void test_parts(void **state) {
    (void)state;
    const char *dir = harness_temp_dir();
    struct fixture fixture;
    write_file(dir, "a.cl", "#include \"b.clh\"\n" ANSWER("SIX * seven()"));
    write_file(dir, "b.clh", "#define SIX (TWO * three())\nint seven(void) { return 7; }\n");
    set_up(&fixture, dir, "");
    const struct program_request request = {"a.cl", "#define TWO 2\n#define ONE 3",
                                            "int three(void) { int ONE = 1; return ONE + 2; }"};
    assert_int_equal(run_answer(&fixture, &request), 42);
    tear_down(&fixture);
}

/* Lines counted over all parts, as NVIDIA's compiler does, get their names back. */
static void test_lines_in_logs(void **state) {
    (void)state;
    static const char *const logs[][2] = {
        {"", ""},
        {"no line", "no line"},
        {"<kernel>:2:7: error: a\n x\n", "snippet:1:7: error: a\n x\n"},
        {"<kernel>:4: b\n<kernel>:8: c", "defines:1: b\nb.clh:1: c"},
        {"<kernel>:10:1: d", "a.cl:3:1: d"},
        {"in <kernel>:10:1: from <kernel>:6:1", "in a.cl:3:1: from a.cl:1:1"},
        {"<kernel>:0:1 <kernel>:11:1 <kernel>:x", "<kernel>:0:1 <kernel>:11:1 <kernel>:x"},
    };
    char *dir = realpath(harness_temp_dir(), NULL);
    char *const directories[3] = {dir, NULL, NULL};
    struct source source;
    write_file(dir, "a.cl", "one\n#include \"b.clh\"\nthree\n");
    write_file(dir, "b.clh", "x\n");
    const struct program_request request = {"a.cl", "#define A", "int f;"};
    assert_ok(source_assemble(&source, directories, &request));
    for (size_t i = 0; i < sizeof logs / sizeof logs[0]; i++) {
        struct text text = {0};
        source_name_lines(&text, &source, logs[i][0]);
        assert_string_equal(text_string(&text), logs[i][1]);
        text_free(&text);
    }
    source_free(&source);
    free(dir);
}

struct broken {
    const char *name, *defines, *snippet, *kernel, *include;
    const char *where; /* file and line as compilers write them */
};

static const struct broken brokens[] = {
    {"error in the kernel file", "", NULL, "\n\n#include \"b.clh\"\n\nint f(void) { oops; }\n",
     "\n\n", "a.cl:5"},
    {"error in an include", "", NULL, "#include \"b.clh\"\n", "\n\nint f(void) { oops; }\n",
     "b.clh:3"},
    {"error in the snippet", "", "\nint f(void) { oops; }", "", "", "snippet:2"},
    {"contract not met", "#define A 1\n", NULL,
     "#ifndef B\n#error \"oops: B is missing\"\n#endif\n", "", "a.cl:2"},
};

static void test_broken(void **state) {
    const struct broken *row = *state;
    const char *dir = harness_temp_dir();
    struct fixture fixture;
    cl_program program = (cl_program)&fixture;
    write_file(dir, "a.cl", row->kernel);
    write_file(dir, "b.clh", row->include);
    set_up(&fixture, dir, harness_temp_dir());
    const struct program_request request = {"a.cl", row->defines, row->snippet};
    assert_status(CLAT_BUILD_FAILED, program_get(&program, &fixture.store, &request));
    assert_null(program);
    assert_non_null(strstr(clat_error_text(), "a.cl does not build"));
    assert_non_null(strstr(clat_error_text(), row->where));
    assert_non_null(strstr(clat_error_text(), "oops"));
    assert_int_equal(clat_error_cl(), CL_BUILD_PROGRAM_FAILURE);
    assert_true(atomic_load(&lines.warnings) >= 2); /* a heading and the compiler's log */
    /* The store is as usable as before. */
    write_file(dir, "a.cl", ANSWER("3"));
    const struct program_request good = {"a.cl", "", NULL};
    assert_int_equal(run_answer(&fixture, &good), 3);
    tear_down(&fixture);
}

static void test_missing_file(void **state) {
    (void)state;
    struct fixture fixture;
    cl_program program = NULL;
    set_up(&fixture, harness_temp_dir(), "");
    const struct program_request request = {"no_such.cl", "", NULL};
    assert_status(CLAT_NOT_FOUND, program_get(&program, &fixture.store, &request));
    assert_error_names("no_such");
    assert_null(program);
    tear_down(&fixture);
}

/* ---------------------------------------------------------------- caches ------------------- */

static void test_override(void **state) {
    (void)state;
    const char *option = harness_temp_dir(), *variable = harness_temp_dir();
    struct fixture fixture;
    write_file(option, "a.cl", ANSWER("1"));
    write_file(variable, "a.cl", ANSWER("2"));
    const struct program_request request = {"a.cl", "", NULL};
    set_up(&fixture, option, "");
    assert_int_equal(run_answer(&fixture, &request), 1);
    tear_down(&fixture);
    setenv("CLATTICE_KERNEL_DIR", variable, 1);
    set_up(&fixture, option, "");
    unsetenv("CLATTICE_KERNEL_DIR");
    assert_int_equal(run_answer(&fixture, &request), 2);
    tear_down(&fixture);
}

static void test_memory(void **state) {
    (void)state;
    const char *dir = harness_temp_dir();
    struct fixture fixture;
    write_file(dir, "a.cl", ANSWER("N"));
    set_up(&fixture, dir, "");
    const struct program_request one = {"a.cl", "#define N 1\n", NULL};
    const struct program_request two = {"a.cl", "#define N 2\n", NULL};
    assert_int_equal(run_answer(&fixture, &one), 1);
    assert_int_equal(run_answer(&fixture, &two), 2);
    assert_int_equal(atomic_load(&lines.built), 2);
    assert_int_equal(run_answer(&fixture, &one), 1);
    assert_int_equal(run_answer(&fixture, &two), 2);
    assert_int_equal(atomic_load(&lines.built), 2);
    write_file(dir, "a.cl", ANSWER("N + 10")); /* an edited file is another program */
    assert_int_equal(run_answer(&fixture, &one), 11);
    assert_int_equal(atomic_load(&lines.built), 3);
    tear_down(&fixture);
}

/* Replaces the one entry by a sound one whose content no driver takes. */
static void spoil_entry(struct fixture *fixture) {
    struct cache_key key = {0, 0};
    unsigned found = 0;
    DIR *list = opendir(cache_directory(fixture->cache));
    assert_non_null(list);
    const struct dirent *item;
    while ((item = readdir(list)) != NULL)
        found += sscanf(item->d_name, "%16" SCNx64 "%16" SCNx64 ".bin", &key.high, &key.low) == 2;
    closedir(list);
    assert_int_equal(found, 1);
    cache_store(fixture->cache, key, "not a program", 13);
}

static void test_disk(void **state) {
    (void)state;
    const char *dir = harness_temp_dir(), *cache = harness_temp_dir();
    struct fixture fixture;
    write_file(dir, "a.cl", ANSWER("5"));
    const struct program_request request = {"a.cl", "", NULL};
    static const struct {
        bool spoil;
        unsigned built, loaded;
    } rounds[] = {{false, 1, 0}, {false, 0, 1}, {true, 1, 0}, {false, 0, 1}};
    for (size_t i = 0; i < sizeof rounds / sizeof rounds[0]; i++) {
        set_up(&fixture, dir, cache);
        if (rounds[i].spoil && fixture.device.vendor == VENDOR_MESA) {
            tear_down(&fixture); /* rusticl ends the process over a binary that is none */
            break;
        }
        if (rounds[i].spoil)
            spoil_entry(&fixture);
        assert_int_equal(run_answer(&fixture, &request), 5);
        assert_int_equal(atomic_load(&lines.built), rounds[i].built);
        assert_int_equal(atomic_load(&lines.loaded), rounds[i].loaded);
        assert_string_equal(clat_error_text(), "");
        tear_down(&fixture);
    }
}

/* Nothing is stored when it is built where the store is to do it late, nor when it closes while the
 * harness's context is open. */
static void test_disk_late(void **state) {
    (void)state;
    const char *dir = harness_temp_dir(), *cache = harness_temp_dir();
    struct fixture fixture;
    write_file(dir, "a.cl", ANSWER("5"));
    const struct program_request request = {"a.cl", "", NULL};
    for (int i = 0; i < 2; i++) {
        cl_program program = NULL;
        set_up(&fixture, dir, cache);
        fixture.store.store_late = true;
        assert_int_equal(run_answer(&fixture, &request), 5);
        assert_ok(program_get(&program, &fixture.store, &request));
        program_mark_used(&fixture.store, program);
        clReleaseProgram(program);
        assert_int_equal(atomic_load(&lines.built), 1);
        tear_down(&fixture);
    }
}

/* ---------------------------------------------------------------- threads ------------------ */

enum { THREADS = 4 };

struct job {
    struct program_store *store;
    const char *defines;
    cl_program program;
    clat_status status;
};

static void *get_program(void *user) {
    struct job *job = user;
    const struct program_request request = {"a.cl", job->defines, NULL};
    job->status = program_get(&job->program, job->store, &request);
    return NULL;
}

/* Two pairs, each asking for the same program at the same time. */
static void test_threads(void **state) {
    (void)state;
    const char *dir = harness_temp_dir();
    struct fixture fixture;
    struct job jobs[THREADS];
    pthread_t threads[THREADS];
    write_file(dir, "a.cl", ANSWER("N"));
    set_up(&fixture, dir, harness_temp_dir());
    for (int i = 0; i < THREADS; i++) {
        jobs[i] = (struct job){.store = &fixture.store,
                               .defines = i % 2 == 0 ? "#define N 1\n" : "#define N 2\n"};
        assert_int_equal(pthread_create(&threads[i], NULL, get_program, &jobs[i]), 0);
    }
    for (int i = 0; i < THREADS; i++) {
        assert_int_equal(pthread_join(threads[i], NULL), 0);
        assert_int_equal(jobs[i].status, CLAT_OK);
    }
    assert_ptr_equal(jobs[0].program, jobs[2].program);
    assert_ptr_equal(jobs[1].program, jobs[3].program);
    assert_ptr_not_equal(jobs[0].program, jobs[1].program);
    for (int i = 0; i < THREADS; i++)
        clReleaseProgram(jobs[i].program);
    tear_down(&fixture);
}

int main(void) {
    for (size_t i = 0; i < sizeof assemblies / sizeof assemblies[0]; i++)
        harness_add(assemblies[i].name, test_assembly, &assemblies[i]);
    harness_add("directories", test_directories, NULL);
    harness_add("no directory", test_no_directory, NULL);
    harness_add("source hash", test_source_hash, NULL);
    harness_add("parts", test_parts, NULL);
    for (size_t i = 0; i < sizeof brokens / sizeof brokens[0]; i++)
        harness_add(brokens[i].name, test_broken, &brokens[i]);
    harness_add("lines in logs", test_lines_in_logs, NULL);
    harness_add("missing kernel file", test_missing_file, NULL);
    harness_add("CLATTICE_KERNEL_DIR overrides", test_override, NULL);
    harness_add("served from memory", test_memory, NULL);
    harness_add("served from disk", test_disk, NULL);
    harness_add("stored late", test_disk_late, NULL);
    harness_add("threads", test_threads, NULL);
    return harness_run_added();
}
