/* `clattice bench`: ours beside other libraries, verified. */
#include "overhead.h"
#include "report.h"
#include "suite.h"
#include "summary.h"

#include <stdlib.h>
#include <string.h>

#define USUAL_SECONDS 2.0

struct bench {
    struct measure_options measure;
    const struct peer *peers[PEER_MAX];
    unsigned n_peers;
    FILE *file;
    json_t *rows;
    struct summary summary;
    size_t wrong, failed;
};

/* What nothing on this device can run is passed over. */
static bool is_supported(clat_context *ctx, const struct spec *spec) {
    char why[SPEC_WHY_BYTES], name[SPEC_TEXT_BYTES];
    clat_plan *plan = NULL;
    const clat_status st = spec_try_plan(&plan, ctx, spec, why);
    clat_plan_release(plan);
    if (st == CLAT_UNSUPPORTED)
        tool_note("%s left out: %s", spec_print(name, sizeof name, spec), why);
    return st != CLAT_UNSUPPORTED; /* other failures are reported by measure() */
}

static bool bench_all(struct bench *bench, clat_context *ctx, const struct spec *specs,
                      size_t count, const char *device) {
    size_t measured = 0;
    for (size_t i = 0; i < count; i++) {
        struct measurement m;
        if (!is_supported(ctx, &specs[i]))
            continue;
        if (!measure(&m, ctx, &specs[i], bench->peers, bench->n_peers, &bench->measure)) {
            bench->failed++;
            continue;
        }
        measured++;
        bench->wrong += !m.verdict.ok;
        report_measurement(bench->file, &m);
        summary_add(&bench->summary, &m);
        if (!measure_add_json(bench->rows, &m, device))
            return false;
    }
    return measured > 0 || bench->failed > 0 || tool_error("nothing was measured");
}

static bool run_bench(const struct tool_common *common, struct bench *bench,
                      const struct spec *specs, size_t count) {
    clat_context *ctx = NULL;
    clat_device_info info;
    bool ok = false;
    bench->file = tool_out(common);
    bench->rows = json_array();
    TRY(tool_begin(&ctx, common));
    TRY(peers_begin(ctx));
    TRY(report_device(bench->file, ctx, &info));
    peer_describe(bench->file, bench->peers, bench->n_peers);
    fputc('\n', bench->file);
    report_head(bench->file);
    TRY(bench_all(bench, ctx, specs, count, info.name));
    summary_print(bench->file, &bench->summary);
    TRY(tool_write_json(common, bench->rows));
    ok = bench->wrong == 0 && bench->failed == 0;
out:
    peers_finish();
    json_decref(bench->rows);
    clat_context_release(ctx);
    return ok;
}

/* Where the command line does not say: the peers and the time of the suite. */
static bool choose_peers(struct bench *bench, const char *names, const char *word,
                         bool is_one_problem) {
    const struct suite *suite = is_one_problem ? NULL : suite_find(word);
    if (suite && !names)
        names = suite->peers;
    if (suite && suite->seconds > 0 && bench->measure.seconds <= 0)
        bench->measure.seconds = suite->seconds;
    if (bench->measure.seconds <= 0)
        bench->measure.seconds = USUAL_SECONDS;
    const int count = peer_list(names, bench->peers);
    bench->n_peers = count > 0 ? (unsigned)count : 0;
    return count >= 0;
}

/* NULL: out of memory. The caller frees it. */
static char *make_notes(void) {
    char *text = NULL;
    size_t size;
    FILE *file = open_memstream(&text, &size);
    if (!file)
        return NULL;
    fputs("OP is gemm, attention or mha; problem options describe one problem of it. Otherwise a "
          "suite\nruns: gemm, attention, mha, masks, all; without a word, default: ten problems, "
          "about half a minute once compiled. Suites with peers of their own:\n\n",
          file);
    suite_list(file);
    fputs("  overhead           first calls and the cost of enqueueing, beside bare OpenCL\n"
          "\nPeers. GEMM: clblast, openblas, onednn, and cublas on NVIDIA's cards. Attention: "
          "unfused is CLBlast\nGEMMs around a softmax kernel, unfused-openblas the same on the "
          "host, panels-openblas the same for\n256 queries at a time. Ourselves at other work, "
          "whose rate is the measure: gemm of 1024, the\nproblem in f32 (f32), with untuned values "
          "(guess), without its mask (dense; tiles: as many tiles of\nthat as the mask visits), "
          "without its score modifier (unmodified). "
          "What the CPU can do: stream\nand read move the problem's bytes, from memory or from "
          "wherever they fit; peak does its\noperations in registers. What a GPU can do: copy "
          "moves the problem's bytes through its memory.",
          file);
    fclose(file);
    return text;
}

int command_bench(int argc, char **argv) {
    struct tool_common common = {0};
    struct spec_options options = spec_options_init();
    struct spec specs[SUITE_MAX];
    struct bench bench = {0};
    const char *peers = NULL, *const * words;
    size_t reps = 0, n_words;
    struct arg args[SPEC_N_ARGS + 3] = {
        {"peer", ARG_STRING, &peers, "LIST", "whom to compare with, with commas; see below", NULL,
         0, NULL},
        {"reps", ARG_SIZE, &reps, "N", "samples of each; default: as many as fit", NULL, 0, NULL},
        {"seconds", ARG_NUMBER, &bench.measure.seconds, "S",
         "of sampling for each problem; default: the suite's, or 2", NULL, 0, NULL},
    };
    spec_args(args + 3, &options);
    char *notes = make_notes();
    const struct args_command command = {
        .usage = "bench [OPTION]... [OP|SUITE]",
        .about = "Times operators beside peers in one process, in turns, each verified against f64 "
                 "on the\nsame operands. Medians; the ratio is the peer's time over ours.",
        .notes = notes,
        .max_words = 1,
        .args = args,
        .n_args = sizeof args / sizeof args[0]};
    const int outcome = args_parse(argc, argv, &command, &common, &words, &n_words);
    free(notes);
    if (outcome != ARGS_GO_ON)
        return outcome;

    const char *word = n_words ? words[0] : "default";
    const bool one = options.gemm_given || options.attention_given || options.any_given;
    if (strcmp(word, "overhead") == 0 && !one)
        return bench_overhead(&common) ? TOOL_OK : TOOL_FAILED;
    const size_t count = suite_from_options(specs, word, &options);
    if (!count || !choose_peers(&bench, peers, word, one))
        return TOOL_USAGE;
    bench.measure.reps = (unsigned)(reps < 1000 ? reps : 1000);
    return run_bench(&common, &bench, specs, count) ? TOOL_OK : TOOL_FAILED;
}
