/* The command `clattice`, run as a user runs it. */
#include "harness.h"

#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#define TOOL HARNESS_BUILD_DIR "/clattice"

static char output[1 << 16]; /* of the last run: standard output and error */

/* The tool's kernels, cache and tuned values: those of the tree, and new ones. */
static const char *tuned_file(void) {
    static char file[512];
    if (!file[0]) {
        snprintf(file, sizeof file, "%s/tuned.json", harness_temp_dir());
        setenv("CLATTICE_KERNEL_DIR", HARNESS_KERNEL_DIR, 1);
        setenv("CLATTICE_CACHE_DIR", HARNESS_BUILD_DIR "/test-cache/tool", 1);
        setenv("CLATTICE_TUNED_FILE", file, 1);
    }
    return file;
}

/* Runs the tool with `arguments` of a shell line; gives the exit status. */
static int run(const char *arguments) {
    char line[1024];
    tuned_file();
    snprintf(line, sizeof line, "%s %s 2>&1", TOOL, arguments);
    FILE *pipe = popen(line, "r");
    assert_non_null(pipe);
    const size_t length = fread(output, 1, sizeof output - 1, pipe);
    output[length] = '\0';
    while (fgetc(pipe) != EOF)
        ;
    const int status = pclose(pipe);
    assert_true(WIFEXITED(status));
    return WEXITSTATUS(status);
}

static void expect_status(int expected, const char *arguments) {
    const int status = run(arguments);
    if (status != expected)
        fail_msg("`clattice %s` gave %d, not %d:\n%s", arguments, status, expected, output);
}

static void expect_output(const char *word) {
    if (!strstr(output, word))
        fail_msg("\"%s\" is not in:\n%s", word, output);
}

/* Runs `arguments --json FILE` and gives what is in the file. */
static json_t *run_json(int expected, const char *arguments) {
    char path[512], line[1024];
    json_error_t error;
    snprintf(path, sizeof path, "%s/out.json", harness_temp_dir());
    snprintf(line, sizeof line, "%s --json %s", arguments, path);
    expect_status(expected, line);
    json_t *json = json_load_file(path, 0, &error);
    if (!json)
        fail_msg("%s: %s", path, error.text);
    return json;
}

/* The object has these keys and no others. */
static void expect_keys(const json_t *object, const char *const *keys, size_t count) {
    for (size_t i = 0; i < count; i++)
        if (!json_object_get(object, keys[i]))
            fail_msg("the key \"%s\" is missing", keys[i]);
    assert_int_equal(json_object_size(object), count);
}

#define EXPECT_KEYS(object, ...)                                                                   \
    expect_keys((object), (const char *const[]){__VA_ARGS__},                                      \
                sizeof((const char *const[]){__VA_ARGS__}) / sizeof(char *))

/* ------------------------------------------------------------------ usage ------------------- */

struct usage {
    const char *name, *arguments, *word; /* the word is in the message */
    int status;
};

static const struct usage usages[] = {
    {"no command", "", "Usage:", 2},
    {"unknown command", "frobnicate", "frobnicate", 2},
    {"version", "--version", "clattice 0.", 0},
    {"help", "help", "Commands:", 0},
    {"help option", "--help", "Commands:", 0},
    {"help of a command", "help bench", "--peer", 0},
    {"help option of a command", "tune --help", "--budget", 0},
    {"help of an unknown command", "help frobnicate", "frobnicate", 2},
    {"unknown option", "info --frobnicate", "--frobnicate", 2},
    {"missing value", "bench gemm --m", "--m", 2},
    {"not a number", "bench gemm --m 12x", "--m", 2},
    {"negative number", "bench gemm --m -1", "--m", 2},
    {"too large a number", "bench gemm --m 99999999999999999999999", "--m", 2},
    {"unknown type", "bench gemm --dtype f17", "f17", 2},
    {"unknown mask", "bench attention --mask oblong", "oblong", 2},
    {"mask without numbers", "bench attention --mask window:3", "window", 2},
    {"mask density above 1", "bench attention --mask csr:16,1.5", "csr", 2},
    {"mask with a fraction", "bench attention --mask window:3.7,0", "whole numbers", 2},
    {"mask above 2^30", "bench attention --mask window:1073741825,0", "2^30", 2},
    {"huge mask", "bench attention --mask longformer:1e300,1", "2^30", 2},
    {"empty mask number", "bench attention --mask full:", "full", 2},
    {"mask of too many blocks",
     "bench attention --seq-q 4294967295 --seq-k 0 --heads 1 --batch 1 --head-dim 8 "
     "--mask csr:1,0.5",
     "blocks", 2},
    {"check of all and little", "check --all --quick", "--quick", 2},
    {"unknown peer", "bench gemm --peer atlas", "atlas", 2},
    {"peer twice", "bench gemm --peer clblast,clblast", "twice", 2},
    {"nine peers", "bench gemm --peer clblast,openblas,onednn,unfused,dense,tiles,gemm,f32,guess",
     "at most", 2},
    {"negative seconds", "bench gemm --seconds -1", "--seconds", 2},
    {"unknown precision", "bench gemm --precision f17", "f17", 2},
    {"precision of a suite", "bench masks --precision native", "masks", 2},
    {"long row of two numbers", "bench attention --mask longrow:3,4", "longrow", 2},
    {"block window of three numbers", "bench attention --mask bswindow:3,4,5", "bswindow", 2},
    {"block form of two numbers", "bench attention --mask bslongformer:16,1", "bslongformer", 2},
    {"block window", "mask --mask bswindow:16,1 --seq-q 100 --tile-q 16", "visited", 0},
    {"block Longformer", "mask --mask bslongformer:16,1,1 --seq-q 100", "visited", 0},
    {"block fixed", "mask --mask bsfixed:16,2,1 --seq-q 100 --tile-q 16", "28 visited", 0},
    {"no documents", "bench attention --mask documents:0", "documents", 2},
    {"help lists masks", "help mask", "bigbird:BLOCK,RANDOM", 0},
    {"mask of nothing", "mask", "--mask", 2},
    {"mask unknown", "mask --mask oblong", "oblong", 2},
    {"mask without steps", "mask --mask dilated:3,0", "dilated", 2},
    {"mask of no tiles", "mask --mask causal --tile-q 0", "--tile-q", 2},
    {"mask of too many tiles", "mask --mask causal --seq-q 1000000 --tile-q 1", "2^26", 2},
    {"mask to nowhere", "mask --mask causal --svg /no/such/place.svg", "/no/such/place.svg", 1},
    {"prefix of two numbers", "bench attention --mask prefix:3,4", "prefix", 2},
    {"report of nothing", "report --plot gemm", "missing", 2},
    {"report without a document", "report out.json", "--markdown", 2},
    {"unknown plot", "report --plot frobnicate out.json", "frobnicate", 2},
    {"report of a missing file", "report --plot gemm /no/such/file.json", "/no/such/file.json", 1},
    {"unknown suite", "bench frobnicate", "frobnicate", 2},
    {"too many words", "bench gemm attention", "attention", 2},
    {"option of another operator", "bench gemm --heads 3", "--heads", 2},
    {"option of a suite", "bench masks --batch 3", "masks", 2},
    {"unknown operator", "check frobnicate", "frobnicate", 2},
    {"negative budget", "tune --budget -3", "--budget", 2},
    {"unknown device", "info --device 'no such device'", "no such device", 1},
    {"unwritable JSON", "info --json /no/such/directory/out.json", "/no/such/directory", 1},
    {"JSON into a directory", "info --json /", "directory", 1},
    {"unknown implementation", "bench gemm --m 8 --n 8 --k 8 --implementation abacus", "abacus", 2},
    {"unknown implementation of a check", "check --implementation abacus", "abacus", 2},
    {"help of help", "help help", "Commands:", 0},
};

static void test_usage(void **state) {
    const struct usage *usage = *state;
    expect_status(usage->status, usage->arguments);
    expect_output(usage->word);
}

/* ------------------------------------------------------------------ commands ---------------- */

static void test_info(void **state) {
    (void)state;
    json_t *json = run_json(0, "info");
    EXPECT_KEYS(json, "version", "device", "devices", "peers");
    json_object_del(json_object_get(json, "peers"), "cuBLAS"); /* where it is installed */
    EXPECT_KEYS(json_object_get(json, "peers"), "CLBlast", "OpenBLAS", "oneDNN");
    assert_string_equal(json_string_value(json_object_get(json, "version")), clat_version());
    EXPECT_KEYS(json_object_get(json, "device"), "name", "vendor", "architecture", "driver",
                "platform", "is_cpu", "compute_units", "global_bytes", "local_bytes", "f64",
                "f16_arithmetic", "bf16_dot", "bf16_tile", "matrix_engine", "wgmma",
                "static_local_bytes", "cache_dir", "tuned_file", "tuned_entries", "kernel_dir");
    size_t i, chosen = 0;
    json_t *device;
    json_array_foreach(json_object_get(json, "devices"), i, device) chosen +=
        json_is_true(json_object_get(device, "chosen"));
    assert_int_equal(chosen, 1);
    json_decref(json);
}

/* Counts of a causal mask by hand, and the picture: a rectangle for the ground, one for the full
 * tiles of each row but the first, and one for the diagonal's. */
static void test_mask(void **state) {
    (void)state;
    enum { SEQ = 1000, TILE = 100, TILES = SEQ / TILE };
    char line[512], path[256];
    snprintf(path, sizeof path, "%s/causal.svg", harness_temp_dir());
    snprintf(line, sizeof line, "mask --mask causal --seq-q %d --tile-q %d --svg %s", SEQ, TILE,
             path);
    json_t *json = run_json(0, line);
    EXPECT_KEYS(json, "mask", "seq_q", "seq_k", "tile_q", "tile_k", "pairs", "tiles", "full",
                "partial");
    assert_true(json_number_value(json_object_get(json, "pairs")) == (double)SEQ * (SEQ + 1) / 2);
    assert_int_equal(json_integer_value(json_object_get(json, "tiles")), TILES * TILES);
    assert_int_equal(json_integer_value(json_object_get(json, "partial")), TILES);
    assert_int_equal(json_integer_value(json_object_get(json, "full")), TILES * (TILES - 1) / 2);
    json_decref(json);
    FILE *file = fopen(path, "r");
    assert_non_null(file);
    unsigned rectangles = 0, closed = 0;
    while (fgets(line, sizeof line, file)) {
        rectangles += strstr(line, "<rect") != NULL;
        closed += strstr(line, "</svg>") != NULL;
    }
    fclose(file);
    assert_int_equal(rectangles, 1 + (TILES - 1) + TILES);
    assert_int_equal(closed, 1);
}

static void test_check(void **state) {
    (void)state;
    json_t *json = run_json(0, "check mha");
    size_t i;
    json_t *row;
    assert_true(json_array_size(json) > 0);
    json_array_foreach(json, i, row)
        assert_string_not_equal(json_string_value(json_object_get(row, "verdict")), "FAIL");
    json_decref(json);
}

/* Rows whose verdict is FAIL: kernels that run, and compute wrong. */
static size_t count_wrong(const json_t *rows) {
    size_t i, wrong = 0;
    json_t *row;
    json_array_foreach(rows, i, row) {
        const json_t *verdict = json_object_get(row, "verdict");
        wrong += verdict ? strcmp(json_string_value(verdict), "FAIL") == 0
                         : json_is_false(json_object_get(row, "ok"));
    }
    return wrong;
}

/* Kernels whose multiply-add forgets to multiply, or whose sums begin with 9: the verdict must be
 * FAIL. */
static void test_check_sees_wrong_kernels(void **state) {
    (void)state;
    char kernels[256], line[1024];
    snprintf(kernels, sizeof kernels, "%s/kernels", harness_temp_dir());
    snprintf(line, sizeof line,
             "cp -r '%s' '%s' && cd '%s' && sed -i '1i #define fma(a, b, c) (c)' common.clh && "
             "sed -i 's/\"vdpbf16ps .*%%0\"/\"\"/' bf16_dot.clh && "
             "sed -i 's/^#define TILE_DOT(.*/#define TILE_DOT(sum, a, b)\\n#define UNUSED \\\\/' "
             "bf16_tile.clh && sed -i 's/^        mma_instruction(/        (void)(/' "
             "mma/fragments.clh && sed -i 's/\\(sums.*\\[i\\]\\) = 0;/\\1 = 9;/' gemm_wgmma.cl",
             HARNESS_KERNEL_DIR, kernels, kernels);
    assert_int_equal(system(line), 0); /* NOLINT(cert-env33-c) */
    tuned_file();                      /* sets the usual directories, which one differs from now */
    setenv("CLATTICE_KERNEL_DIR", kernels, 1);
    json_t *check = run_json(1, "check gemm --quick");
    json_t *bench = run_json(1, "bench gemm --m 40 --n 40 --k 40 --reps 1");
    setenv("CLATTICE_KERNEL_DIR", HARNESS_KERNEL_DIR, 1);
    assert_int_equal(count_wrong(check), json_array_size(check));
    assert_int_equal(json_array_size(bench), 1);
    assert_int_equal(count_wrong(bench), 1);
    expect_output("FAIL");
    json_decref(check);
    json_decref(bench);
}

#define ROW_KEYS                                                                                   \
    "name", "group", "op", "problem", "dtype", "device", "implementation", "tunables", "ms",       \
        "gflops", "peer", "peer_ms", "ratio", "max_err", "err_bound", "ok"

static void test_bench_gemm(void **state) {
    (void)state;
    json_t *json =
        run_json(0, "bench gemm --m 65 --n 33 --k 47 --trans-b --batch 3 --peer openblas --reps 3");
    assert_int_equal(json_array_size(json), 1);
    const json_t *row = json_array_get(json, 0), *problem = json_object_get(row, "problem");
    EXPECT_KEYS(row, ROW_KEYS);
    EXPECT_KEYS(problem, "m", "n", "k", "batch", "trans_a", "trans_b");
    assert_int_equal(json_integer_value(json_object_get(problem, "n")), 33);
    assert_true(json_is_true(json_object_get(problem, "trans_b")));
    assert_string_equal(json_string_value(json_object_get(row, "peer")), "openblas");
    assert_true(json_is_true(json_object_get(row, "ok")));
    const double ms = json_real_value(json_object_get(row, "ms"));
    const double peer_ms = json_real_value(json_object_get(row, "peer_ms"));
    const double ratio = json_real_value(json_object_get(row, "ratio"));
    assert_true(ms > 0 && peer_ms > 0);
    assert_true(ratio > 0.999 * peer_ms / ms && ratio < 1.001 * peer_ms / ms);
    assert_true(json_real_value(json_object_get(row, "max_err")) <=
                json_real_value(json_object_get(row, "err_bound")));
    json_decref(json);
}

static void test_bench_attention(void **state) {
    (void)state;
    json_t *json = run_json(0, "bench attention --heads 4 --kv-heads 2 --seq-q 50 --head-dim 32 "
                               "--mask causal --reps 3");
    assert_int_equal(json_array_size(json), 1);
    const json_t *row = json_array_get(json, 0), *problem = json_object_get(row, "problem");
    EXPECT_KEYS(row, ROW_KEYS);
    EXPECT_KEYS(problem, "batch", "heads", "kv_heads", "seq_q", "seq_k", "head_dim", "mask");
    assert_int_equal(json_integer_value(json_object_get(problem, "seq_k")), 50);
    assert_string_equal(json_string_value(json_object_get(problem, "mask")), "causal");
    assert_true(json_is_null(json_object_get(row, "peer")));
    assert_true(json_is_null(json_object_get(row, "peer_ms")));
    assert_true(json_is_null(json_object_get(row, "ratio")));
    json_decref(json);
}

/* A peer that does not take the problem leaves a row without peer; JSON goes to stdout alone. */
static void test_bench_without_peer(void **state) {
    (void)state;
    char line[512];
    json_error_t error;
    snprintf(line, sizeof line,
             TOOL " bench gemm --m 20 --n 20 --k 20 --dtype bf16 --peer openblas --reps 1 "
                  "--json - 2>/dev/null");
    FILE *pipe = popen(line, "r");
    assert_non_null(pipe);
    json_t *json = json_loadf(pipe, 0, &error);
    assert_int_equal(pclose(pipe), 0);
    if (!json)
        fail_msg("standard output is not JSON alone: %s", error.text);
    assert_int_equal(json_array_size(json), 1);
    assert_true(json_is_null(json_object_get(json_array_get(json, 0), "peer")));
    json_decref(json);
}

/* The row of a peer; fails when there is none. */
static const json_t *find_row(const json_t *rows, const char *peer) {
    size_t i;
    json_t *row;
    json_array_foreach(rows, i, row) {
        const char *name = json_string_value(json_object_get(row, "peer"));
        if (name && strcmp(name, peer) == 0)
            return row;
    }
    fail_msg("there is no row of %s in:\n%s", peer, output);
    return NULL;
}

static double number(const json_t *row, const char *key) {
    return json_number_value(json_object_get(row, key));
}

struct peers {
    const char *name, *problem;
    const char *peers[6];
};

/* Each has a ratio: a peer that was wrong or failed has none. */
static const struct peers peer_cases[] = {
    {"peers of gemm", "gemm --m 65 --n 33 --k 47", {"openblas", "onednn", "gemm", "guess", "peak"}},
    {"peers of transposes", "gemm --m 65 --n 33 --k 47 --trans-a --trans-b", {"onednn"}},
    {"peers of a transpose in columns",
     "gemm --m 65 --n 33 --k 47 --trans-a --layout col",
     {"openblas", "onednn"}},
    {"peers of a batch", "gemm --m 33 --n 31 --k 32 --batch 50", {"openblas", "onednn"}},
    {"peers of a batch in columns",
     "gemm --m 33 --n 31 --k 32 --batch 50 --trans-b --layout col",
     {"openblas", "onednn"}},
    {"peers of one row", "gemm --m 1 --n 300 --k 200 --trans-b", {"stream", "read", "onednn"}},
    {"peers of bf16", "gemm --m 64 --n 64 --k 64 --dtype bf16", {"f32", "onednn"}},
    {"peers of native bf16",
     "gemm --m 64 --n 64 --k 64 --dtype bf16 --precision native",
     {"f32", "gemm"}},
    {"peers of attention",
     "attention --heads 3 --seq-q 300 --head-dim 24",
     {"unfused-openblas", "panels-openblas", "gemm", "guess"}},
    {"peers of causal attention",
     "attention --heads 2 --seq-q 520 --seq-k 300 --mask causal",
     {"unfused-openblas", "panels-openblas", "dense", "tiles"}},
    {"peers of a window",
     "attention --heads 2 --seq-q 700 --seq-k 300 --mask window:30,20",
     {"unfused-openblas", "panels-openblas", "dense", "tiles"}},
    {"peers of grouped heads",
     "attention --heads 8 --kv-heads 2 --seq-q 270 --mask causal",
     {"unfused-openblas", "panels-openblas"}},
    {"peers of few queries of grouped heads",
     "attention --heads 8 --kv-heads 2 --seq-q 3 --seq-k 70",
     {"unfused-openblas", "panels-openblas"}},
    {"peers of one query",
     "attention --heads 8 --kv-heads 2 --seq-q 1 --seq-k 900",
     {"stream", "read", "unfused-openblas"}},
    {"peers of a long row",
     "attention --batch 1 --heads 2 --seq-q 300 --mask longrow:16",
     {"dense", "tiles"}},
    {"peers of a pattern of blocks",
     "attention --batch 1 --heads 2 --seq-q 300 --mask bsfixed:20,4,1",
     {"dense", "tiles"}},
    {"peers of documents",
     "attention --batch 1 --heads 2 --seq-q 300 --mask documents:3",
     {"dense", "tiles"}},
    {"peers of a predicate",
     "attention --batch 2 --heads 2 --seq-q 300 --mask predicate:40",
     {"dense", "tiles"}},
    {"peers of a prefix",
     "attention --batch 1 --heads 2 --seq-q 300 --mask prefix:40",
     {"dense", "tiles"}},
};

/* Rates of the host's cores and memory, or by the tiles of its kernels. */
static bool needs_cpu(const struct peers *peers) {
    static const char *const rates[] = {"peak", "stream", "read", "tiles"};
    for (size_t i = 0; peers->peers[i]; i++)
        for (size_t j = 0; j < sizeof rates / sizeof *rates; j++)
            if (strcmp(peers->peers[i], rates[j]) == 0)
                return true;
    return false;
}

static void test_peers(void **state) {
    const struct peers *peers = *state;
    if (needs_cpu(peers) && !harness_device_is_cpu())
        skip();
    char line[512];
    int length = snprintf(line, sizeof line, "bench %s --reps 1", peers->problem);
    for (size_t i = 0; peers->peers[i]; i++)
        length += snprintf(line + length, sizeof line - (size_t)length, "%s%s",
                           i ? "," : " --peer ", peers->peers[i]);
    json_t *json = run_json(0, line);
    for (size_t i = 0; peers->peers[i]; i++) {
        const json_t *row = find_row(json, peers->peers[i]);
        if (!(number(row, "ratio") > 0))
            fail_msg("%s has no ratio:\n%s", peers->peers[i], output);
        assert_true(json_is_true(json_object_get(row, "ok")));
    }
    json_decref(json);
}

/* A modifier with a name and one in words, beside the same without; others leave it out. */
static void test_bench_score(void **state) {
    (void)state;
    json_t *json = run_json(0, "bench attention --batch 1 --seq-q 100 --heads 2 --head-dim 16 "
                               "--score alibi --reps 1 --peer unmodified");
    const json_t *row = find_row(json, "unmodified");
    assert_true(number(row, "ratio") > 0);
    assert_non_null(strstr(json_string_value(json_object_get(row, "name")), "alibi"));
    json_decref(json);
    expect_status(0, "bench attention --seq-q 50 --head-dim 16 --reps 1 --score 'score *= 2;' "
                     "--peer unfused");
    expect_output("modified");
    expect_output("unfused left out");
    expect_status(1, "bench attention --seq-q 50 --head-dim 16 --reps 1 --score 'score *= x;'");
    expect_output("score:1:10");
    expect_status(2, "bench mha --score alibi");
    expect_output("takes no --score");
}

/* Peers that do other work are scaled to ours: with a tenth of the blocks, `tiles` takes a tenth of
 * `dense`. */
static void test_bench_scaled_peers(void **state) {
    (void)state;
    if (!harness_device_is_cpu())
        skip();
    json_t *json = run_json(0, "bench attention --batch 1 --heads 4 --seq-q 1920 --head-dim 32 "
                               "--mask csr:480,0.25 --peer dense,tiles --reps 9");
    const double share =
        number(find_row(json, "tiles"), "peer_ms") / number(find_row(json, "dense"), "peer_ms");
    if (!(share > 0.15 && share < 0.4)) /* 0.25, and what the machine's noise adds */
        fail_msg("tiles takes %g of dense", share);
    json_decref(json);
}

/* Compiles a library `name` and puts it before those that programs are linked with, until
 * LD_PRELOAD is unset. `input`: a shell's command for the source on its standard output. */
static const char *preload(const char *name, const char *input) {
    static char library[256];
    char line[512], sanitizer[256];
    const char *usual = getenv("ASAN_OPTIONS");
    if (usual) { /* it wants to be loaded first */
        snprintf(sanitizer, sizeof sanitizer, "%s:verify_asan_link_order=0", usual);
        setenv("ASAN_OPTIONS", sanitizer, 1);
    }
    snprintf(library, sizeof library, "%s/%s", harness_temp_dir(), name);
    snprintf(line, sizeof line, "%s | cc -D_GNU_SOURCE -x c -shared -fPIC -Wl,-soname,%s -o '%s' -",
             input, name, library);
    assert_int_equal(system(line), 0); /* NOLINT(cert-env33-c) */
    setenv("LD_PRELOAD", library, 1);
    return library;
}

/* BLAS that computes wrong, put before the real one, is not compared. */
static void test_bench_wrong_peer(void **state) {
    (void)state;
    preload("wrong.so", "echo 'void cblas_sgemm(void) {} int dnnl_sgemm(void) { return 0; } "
                        "int dnnl_primitive_execute(void) { return 0; }'");
    int status = run("bench gemm --m 40 --n 40 --k 40 --peer openblas,onednn --reps 1");
    assert_int_equal(status, 0);
    expect_output("wrong openblas");
    expect_output("wrong onednn");
    status = run("bench attention --seq-q 40 --peer unfused-openblas,panels-openblas --reps 1");
    unsetenv("LD_PRELOAD");
    assert_int_equal(status, 0);
    expect_output("wrong unfused-openblas");
    expect_output("wrong panels-openblas");
}

/* A suite with peers of its own: it says so, and sums up. */
static void test_bench_suite(void **state) {
    (void)state;
    json_t *json = run_json(0, "bench batched --reps 1");
    assert_int_equal(json_array_size(json), 24);
    find_row(json, "openblas");
    find_row(json, "onednn");
    expect_output("geometric mean");
    expect_output("128 cubed");
    json_decref(json);
}

static void test_bench_overhead(void **state) {
    (void)state;
    json_t *json = run_json(0, "bench overhead");
    size_t i, calls = 0;
    json_t *row;
    json_array_foreach(json, i, row) {
        EXPECT_KEYS(row, "what", "value", "unit");
        const char *unit = json_string_value(json_object_get(row, "unit"));
        const bool added = strstr(json_string_value(json_object_get(row, "what")), "added");
        calls += added;
        if (!added) /* a difference may be anything */
            assert_true(number(row, "value") > 0);
        assert_true(strcmp(unit, "ms") == 0 || strcmp(unit, "us") == 0);
    }
    assert_int_equal(calls, 3);
    json_decref(json);
}

/* Results into a document and a plot. */
static void test_report(void **state) {
    (void)state;
    static const char results[] =
        "[{\"name\": \"gemm f32 NN 64\", \"group\": \"small\", \"ms\": 2, \"gflops\": 100,"
        "  \"problem\": {\"m\": 64, \"n\": 64, \"k\": 64},"
        "  \"max_err\": 1, \"err_bound\": 4, \"ok\": true, \"peer\": \"openblas\","
        "  \"peer_ms\": 4, \"ratio\": 2, \"command\": \"measure\", \"libraries\": \"BLAS 3\"},"
        " {\"name\": \"gemm f32 NN 128\", \"ms\": 8, \"gflops\": 300,"
        "  \"problem\": {\"m\": 128, \"n\": 128, \"k\": 128},"
        "  \"max_err\": 1, \"err_bound\": 4, \"ok\": true, \"peer\": \"openblas\","
        "  \"peer_ms\": 4, \"ratio\": 0.5},"
        " {\"name\": \"gemm f32 NN flat\", \"ms\": 8, \"gflops\": 200,"
        "  \"problem\": {\"m\": 1, \"n\": 128, \"k\": 128}, \"max_err\": 1, \"err_bound\": 4,"
        "  \"ok\": true}]";
    char path[512], document[512], line[2048];
    snprintf(path, sizeof path, "%s/gemm-sizes.json", harness_temp_dir());
    snprintf(document, sizeof document, "%s/document.md", harness_temp_dir());
    FILE *file = fopen(path, "w");
    assert_non_null(file);
    fputs(results, file);
    fclose(file);
    file = fopen(document, "w");
    assert_non_null(file);
    fputs("before\n<!-- results: gemm-sizes -->\nold\n<!-- end -->\nafter\n", file);
    fclose(file);
    for (int i = 0; i < 2; i++) { /* the second time changes nothing */
        snprintf(line, sizeof line, "report --markdown '%s' '%s'", document, path);
        expect_status(0, line);
    }
    snprintf(line, sizeof line, "cat '%s'", document);
    FILE *pipe = popen(line, "r"); /* NOLINT(cert-env33-c) */
    assert_non_null(pipe);
    output[fread(output, 1, sizeof output - 1, pipe)] = '\0';
    pclose(pipe);
    assert_string_equal(output, "before\n<!-- results: gemm-sizes -->\n"
                                "    measure\n\nBLAS 3.\n\n"
                                "| problem | ms | GFLOP/s | openblas | error/bound |\n"
                                "|---|--:|--:|--:|--:|\n"
                                "| gemm f32 NN 64 | 2.00 | 100 | 2.00 | 0.25 |\n"
                                "| gemm f32 NN 128 | 8.00 | 300 | 0.500 | 0.25 |\n"
                                "| gemm f32 NN flat | 8.00 | 200 | - | 0.25 |\n"
                                "| **small: geometric mean** | | | **2.00** | |\n"
                                "| **small: minimum** | | | **2.00** | |\n"
                                "| **geometric mean** | | | **0.500** | |\n"
                                "| **minimum** | | | **0.500** | |\n"
                                "<!-- end -->\nafter\n");
    snprintf(line, sizeof line, "report --plot gemm '%s'", path);
    expect_status(0, line);
    expect_output("set terminal svg");
    expect_output("$series0 << END\n64 100\n128 300\nEND");
    expect_output("$series1 << END\n64 50\n128 600\nEND");
    snprintf(line, sizeof line, "report --plot attention-64 '%s'", path);
    expect_status(1, line);
    snprintf(line, sizeof line, "report --plot gpu-gemm '%s'", path);
    expect_status(1, line);
}

/* Time over density: ours, the dense one's, and what part of that would be ideal. */
static void test_density_plot(void **state) {
    (void)state;
    static const char row[] =
        "{\"name\": \"attn f32 %s\", \"ms\": %d, \"gflops\": 9, \"peer\": \"%s\","
        " \"peer_ms\": %d, \"ratio\": %g, \"ok\": true, \"problem\": {\"heads\": 4,"
        "  \"kv_heads\": 4, \"head_dim\": 64, \"mask\": \"%s\"}}%s";
    char path[512], line[1024];
    snprintf(path, sizeof path, "%s/sparse.json", harness_temp_dir());
    FILE *file = fopen(path, "w");
    assert_non_null(file);
    fputc('[', file);
    fprintf(file, row, "a", 2, "dense", 10, 5.0, "csr:128,0.1", ",");
    fprintf(file, row, "a", 2, "tiles", 1, 0.5, "csr:128,0.1", ",");
    fprintf(file, row, "b", 8, "dense", 10, 1.25, "csr:128,0.75", ",");
    fprintf(file, row, "c", 3, "dense", 10, 3.33, "window:64,0", "]");
    fclose(file);
    snprintf(line, sizeof line, "report --plot sparse '%s'", path);
    expect_status(0, line);
    expect_output("$series0 << END\n0.1 2\n0.75 8\nEND");
    expect_output(" << END\n0.1 10\n0.75 10\nEND");
    expect_output("using 1:($1*$2)");
    assert_null(strstr(output, "title 'tiles'"));
}

/* Nothing to compute: legal for us, not for peers. */
static void test_bench_of_nothing(void **state) {
    (void)state;
    json_t *json = run_json(0, "bench attention --heads 0 --peer unfused,dense --reps 1");
    assert_int_equal(json_array_size(json), 1);
    assert_true(json_is_true(json_object_get(json_array_get(json, 0), "ok")));
    assert_true(json_is_null(json_object_get(json_array_get(json, 0), "peer")));
    json_decref(json);
}

static void test_bench_kv_heads_0(void **state) {
    (void)state;
    json_t *json = run_json(0, "bench attention --heads 2 --kv-heads 0 --seq-q 256 --peer unfused "
                               "--reps 1");
    const json_t *row = json_array_get(json, 0), *problem = json_object_get(row, "problem");
    assert_int_equal(json_integer_value(json_object_get(problem, "kv_heads")), 2);
    assert_true(json_is_real(json_object_get(row, "ratio")));
    json_decref(json);
}

/* A CLBlast that fails, put before the real one: our own row and the other peer's stay. */
static void test_bench_failing_peer(void **state) {
    (void)state;
    preload("failing.so", "echo 'int CLBlastSgemmWithTempBuffer(void) { return -4; }'");
    const int status = run("bench gemm --m 40 --n 40 --k 40 --peer clblast,openblas --reps 1");
    unsetenv("LD_PRELOAD");
    assert_int_equal(status, 0);
    expect_output("failed clblast");
    expect_output("x openblas");
}

/* Where there is no card of NVIDIA's, the peer says so; with a stand-in for its libraries every
 * layout comes out right. */
static void test_bench_cublas(void **state) {
    static const char *const problems[] = {"", "--trans-a --batch 3", "--trans-b --layout col",
                                           "--trans-a --trans-b", "--layout col --batch 2"};
    (void)state;
    if (!harness_device_is_cpu())
        skip();
    expect_status(0, "bench gemm --m 40 --n 40 --k 40 --peer cublas --reps 1");
    expect_output("cublas left out");
    setenv("CLATTICE_CUBLAS", preload("libcuda.so.1", "cat tests/doubles/cuda.c"), 1);
    for (size_t i = 0; i < sizeof problems / sizeof problems[0]; i++) {
        char line[256];
        snprintf(line, sizeof line, "bench gemm --m 40 --n 50 --k 60 --peer cublas --reps 1 %s",
                 problems[i]);
        expect_status(0, line);
        expect_output("cuBLAS 12.34.56");
        expect_output("x cublas");
    }
    expect_status(0, "bench gemm --m 40 --n 40 --k 40 --dtype f16 --peer cublas --reps 1");
    expect_output("cublas failed");
    expect_status(0, "bench gemm --m 13 --n 40 --k 40 --peer cublas --reps 1");
    expect_output("wrong cublas");
    unsetenv("LD_PRELOAD");
    unsetenv("CLATTICE_CUBLAS");
}

/* Without peers it needs no PyTorch. It calls the library through structs that it declares itself.
 */
static void test_bench_torch(void **state) {
    char path[512], line[1024];
    json_error_t error;
    (void)state;
    if (system("python3 -c 0 2>/dev/null") != 0 ||
        getenv("ASAN_OPTIONS")) /* NOLINT(cert-env33-c) */
        skip();
    tuned_file();
    snprintf(path, sizeof path, "%s/torch.json", harness_temp_dir());
    snprintf(
        line, sizeof line,
        "python3 tools/bench_torch.py --library %s/libclattice.so --peer= --dtype bf16 --reps 1 "
        "--mask causal --head-dim 40 --seq 100 --batch 1 --heads 4 --kv-heads 2 --json %s",
        HARNESS_BUILD_DIR, path);
    assert_int_equal(system(line), 0); /* NOLINT(cert-env33-c) */
    json_t *json = json_load_file(path, 0, &error);
    assert_int_equal(json_array_size(json), 1);
    const json_t *row = json_array_get(json, 0);
    assert_true(json_is_true(json_object_get(row, "ok")));
    json_t *ours =
        run_json(0, "bench attention --dtype bf16 --precision native --mask causal --reps 1 "
                    "--head-dim 40 --seq-q 100 --batch 1 --heads 4 --kv-heads 2");
    const json_t *same = json_array_get(ours, 0);
    static const char *const keys[] = {"name",  "op",     "problem",
                                       "dtype", "device", "implementation"};
    for (size_t i = 0; i < sizeof keys / sizeof keys[0]; i++)
        assert_true(json_equal(json_object_get(row, keys[i]), json_object_get(same, keys[i])));
    json_decref(ours);
    json_decref(json);
}

/* OpenBLAS is not benched with settings that slow it down. */
static void test_openblas_settings(void **state) {
    (void)state;
    setenv("OPENBLAS_CORETYPE", "Prescott", 1);
    expect_status(0, "bench gemm --m 20 --n 20 --k 20 --peer openblas --reps 1");
    unsetenv("OPENBLAS_CORETYPE");
    expect_output("OPENBLAS_CORETYPE");
    expect_output("x openblas");
}

static json_int_t count_tuned(void) {
    json_t *json = run_json(0, "info");
    const json_t *device = json_object_get(json, "device");
    const json_int_t count = json_integer_value(json_object_get(device, "tuned_entries"));
    json_decref(json);
    return count;
}

static void test_tune(void **state) {
    (void)state;
    const char *file = tuned_file();
    const char problem[] = "tune gemm --m 64 --n 64 --k 64 --budget 4";
    char line[256];
    json_error_t error;
    const json_int_t shipped = count_tuned();
    snprintf(line, sizeof line, "%s --dry-run", problem);
    expect_status(0, line);
    assert_int_not_equal(access(file, F_OK), 0);
    expect_status(0, problem);
    expect_output(file);
    json_t *json = json_load_file(file, 0, &error);
    if (!json)
        fail_msg("%s: %s", file, error.text);
    json_decref(json);
    assert_int_equal(count_tuned(), shipped + 1);
}

static void test_demo(void **state) {
    (void)state;
    json_t *json = run_json(0, "demo --quick --budget 0");
    size_t i, peers = 0;
    json_t *row;
    assert_int_equal(json_array_size(json), 6);
    json_array_foreach(json, i, row) {
        EXPECT_KEYS(row, ROW_KEYS);
        assert_true(json_is_true(json_object_get(row, "ok")));
        peers += json_is_real(json_object_get(row, "ratio"));
    }
    assert_int_equal(peers, 5);
    expect_output("verdict  ok");
    expect_output(tuned_file());
    json_decref(json);
}

/* What one run has tuned, the next does not tune again. */
static void test_demo_tunes_once(void **state) {
    (void)state;
    char file[256];
    const char *usual = tuned_file();
    snprintf(file, sizeof file, "%s/demo.json", harness_temp_dir());
    setenv("CLATTICE_TUNED_FILE", file, 1);
    int status = run("demo --quick --budget 6");
    const bool tuned = !strstr(output, "tuning   skipped");
    if (status == 0 && strstr(output, "remain untuned")) /* a slow machine */
        status = run("demo --quick --budget 60");
    if (status == 0)
        status = run("demo --quick --budget 6");
    setenv("CLATTICE_TUNED_FILE", usual, 1);
    assert_int_equal(status, 0);
    assert_true(tuned);
    expect_output("tuning   skipped: the config file has the values");
}

static const struct CMUnitTest commands[] = {
    HARNESS_CASE("info", test_info, NULL),
    HARNESS_CASE("check", test_check, NULL),
    HARNESS_CASE("check of wrong kernels", test_check_sees_wrong_kernels, NULL),
    HARNESS_CASE("bench gemm", test_bench_gemm, NULL),
    HARNESS_CASE("bench attention", test_bench_attention, NULL),
    HARNESS_CASE("bench without peer", test_bench_without_peer, NULL),
    HARNESS_CASE("bench of nothing", test_bench_of_nothing, NULL),
    HARNESS_CASE("bench with --kv-heads 0", test_bench_kv_heads_0, NULL),
    HARNESS_CASE("mask", test_mask, NULL),
    HARNESS_CASE("bench with a failing peer", test_bench_failing_peer, NULL),
    HARNESS_CASE("bench with wrong peers", test_bench_wrong_peer, NULL),
    HARNESS_CASE("bench with scaled peers", test_bench_scaled_peers, NULL),
    HARNESS_CASE("bench of a suite", test_bench_suite, NULL),
    HARNESS_CASE("bench of the overhead", test_bench_overhead, NULL),
    HARNESS_CASE("report", test_report, NULL),
    HARNESS_CASE("density plot", test_density_plot, NULL),
    HARNESS_CASE("bench: a score modifier", test_bench_score, NULL),
    HARNESS_CASE("bench: cuBLAS", test_bench_cublas, NULL),
    HARNESS_CASE("bench beside PyTorch, without it", test_bench_torch, NULL),
    HARNESS_CASE("settings of OpenBLAS", test_openblas_settings, NULL),
    HARNESS_CASE("tune", test_tune, NULL),
    HARNESS_CASE("demo", test_demo, NULL),
    HARNESS_CASE("demo tunes once", test_demo_tunes_once, NULL),
};

int main(void) {
    for (size_t i = 0; i < sizeof usages / sizeof usages[0]; i++)
        harness_add(usages[i].name, test_usage, &usages[i]);
    for (size_t i = 0; i < sizeof peer_cases / sizeof peer_cases[0]; i++)
        harness_add(peer_cases[i].name, test_peers, &peer_cases[i]);
    for (size_t i = 0; i < sizeof commands / sizeof commands[0]; i++)
        harness_add(commands[i].name, commands[i].test_func, NULL);
    return harness_run_added();
}
