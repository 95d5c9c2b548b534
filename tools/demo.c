/* `clattice demo`: tunes the device once, then shows, verifies and times what the library does. */
#include "clblast.h"
#include "report.h"
#include "suite.h"
#include "tuning_run.h"

#include <string.h>

/* What the library is meant to reach on CPU devices; stated, never a failure: machines are noisy.
 */
#define GEMM_GOAL 8.0
#define ATTENTION_GOAL 1.3

enum { DEMO_MAX = 24 };

struct demo {
    struct tool_common common;
    struct measure_options measure;
    double budget;
    bool quick;
    FILE *file;
    json_t *rows;
    clat_context *ctx;
    clat_device_info info;
    size_t wrong;
    double worst_gemm, worst_attention; /* smallest ratios; 0: none yet */
};

struct section {
    const char *title;
    const char *peer;
    size_t (*fill)(struct spec *out, bool quick);
};

static size_t fill_gemm(struct spec *out, bool quick) {
    static const char *const transposes[] = {"NN", "NT", "TN", "TT"};
    size_t n = 0;
    for (int t = 0; t < (quick ? 1 : 4); t++)
        out[n++] = quick ? suite_gemm(CLAT_F32, transposes[t], 128, 128, 128)
                         : suite_gemm(CLAT_F32, transposes[t], 1024, 1024, 1024);
    for (int t = 0; t < (quick ? 0 : 4); t++)
        out[n++] = suite_gemm(CLAT_F32, transposes[t], 1000, 1021, 777);
    return n;
}

static size_t fill_storage(struct spec *out, bool quick) {
    const size_t size = quick ? 128 : 1024;
    out[0] = suite_gemm(CLAT_F16, "NN", size, size, size);
    out[1] = suite_gemm(CLAT_BF16, "NN", size, size, size);
    return quick ? 1 : 2;
}

static size_t fill_attention(struct spec *out, bool quick) {
    const size_t seq = quick ? 256 : 1024;
    out[0] = suite_attention(CLAT_F32, 2, 8, 8, seq, 64, "full");
    out[1] = suite_attention(CLAT_F32, 2, 8, 8, seq, 64, "causal");
    out[2] = suite_attention(CLAT_F32, 2, 8, 2, seq, 64, "full");
    return quick ? 1 : 3;
}

static size_t fill_mha(struct spec *out, bool quick) {
    const size_t seq = quick ? 256 : 1024;
    out[0] = suite_mha(2, 8, 8, seq, 64, "full");
    out[1] = suite_mha(2, 8, 8, seq, 64, "causal");
    out[2] = suite_mha(2, 8, 2, seq, 64, "full");
    return quick ? 1 : 3;
}

static size_t fill_sparse(struct spec *out, bool quick) {
    const size_t seq = quick ? 512 : 4096;
    out[0] = suite_attention(CLAT_F32, 1, 8, 8, seq, 64, "longformer:128,16");
    out[1] = suite_attention(CLAT_F32, 1, 8, 8, seq, 64, "csr:64,0.1");
    return 2;
}

static const struct section sections[] = {
    {"Matrix multiplication beside CLBlast", "clblast", fill_gemm},
    {"The same from 16-bit storage, computed in f32", NULL, fill_storage},
    {"Attention beside CLBlast GEMMs around a softmax kernel", "unfused", fill_attention},
    {"Multi-head attention: QKV projection, attention, output projection", "unfused", fill_mha},
    {"Sparse attention beside dense", "dense", fill_sparse},
};
enum { N_SECTIONS = sizeof sections / sizeof sections[0] };

/* What is worth tuning before it is shown. */
static size_t fill_tuned(struct spec *out, bool quick) {
    if (!quick)
        return suite_find("default")->fill(out);
    const size_t n = fill_gemm(out, quick);
    return n + fill_attention(out + n, quick);
}

/* Those of them that no file has values for. */
static bool find_untuned(struct demo *demo, struct spec *out, size_t *count, size_t *of) {
    struct spec specs[SUITE_MAX];
    char why[SPEC_WHY_BYTES];
    *of = fill_tuned(specs, demo->quick);
    *count = 0;
    for (size_t i = 0; i < *of; i++) {
        clat_plan *plan = NULL;
        const clat_status st = spec_try_plan(&plan, demo->ctx, &specs[i], why);
        if (st == CLAT_OK && !clat_plan_get_info(plan)->tuned)
            out[(*count)++] = specs[i];
        clat_plan_release(plan);
        if (st != CLAT_OK && st != CLAT_UNSUPPORTED)
            return tool_error("%s: %s", clat_status_name(st), why);
    }
    return true;
}

static bool tune(struct demo *demo) {
    struct spec specs[SUITE_MAX];
    size_t count, of;
    if (!(demo->budget > 0)) {
        fprintf(demo->file, "tuning   skipped: no budget\n");
        return true;
    }
    if (!demo->info.tuned_file[0]) {
        fprintf(demo->file, "tuning   skipped: there is no file to keep the values in\n");
        return true;
    }
    if (!find_untuned(demo, specs, &count, &of))
        return false;
    if (count == 0) {
        fprintf(demo->file, "tuning   skipped: the config file has the values (%zu entries)\n",
                demo->info.tuned_entries);
        return true;
    }
    struct tuning_run run = {.budget = demo->budget * (double)count / (double)of,
                             .file = demo->file};
    fprintf(demo->file, "tuning   %zu problem%s in about %.0f s; --budget 0 skips this\n\n", count,
            count == 1 ? "" : "s", run.budget);
    if (!tuning_run(demo->ctx, specs, count, &run) ||
        !tool_clat(clat_context_info(demo->ctx, &demo->info)) ||
        !find_untuned(demo, specs, &count, &of))
        return false;
    if (run.interrupted)
        return tool_error("interrupted");
    if (count > 0)
        fprintf(demo->file,
                "\ntuning   the budget was too short: %zu of %zu problems remain untuned\n", count,
                of);
    return true;
}

static void keep_smallest(double *smallest, double ratio) {
    if (ratio > 0 && (*smallest <= 0 || ratio < *smallest))
        *smallest = ratio;
}

static bool run_section(struct demo *demo, const struct section *section) {
    struct spec specs[DEMO_MAX];
    const struct peer *peer = section->peer ? peer_find(section->peer) : NULL;
    const size_t count = section->fill(specs, demo->quick);
    bool ok = true;
    fprintf(demo->file, "\n%s\n", section->title);
    for (size_t i = 0; i < count; i++) {
        struct measurement m;
        if (!measure(&m, demo->ctx, &specs[i], &peer, peer ? 1 : 0, &demo->measure)) {
            demo->wrong++;
            ok = false;
            continue;
        }
        report_measurement(demo->file, &m);
        demo->wrong += !m.verdict.ok;
        if (m.n_peers && specs[i].op == SPEC_GEMM)
            keep_smallest(&demo->worst_gemm, m.peers[0].ratio);
        else if (m.n_peers && strcmp(section->peer, "unfused") == 0)
            keep_smallest(&demo->worst_attention, m.peers[0].ratio);
        if (!measure_add_json(demo->rows, &m, demo->info.name))
            return false;
    }
    return ok;
}

static void print_goal(FILE *file, const char *what, double ratio, double goal) {
    if (ratio > 0)
        fprintf(file, "goal     %s at least %.1fx: %s, %.2fx at worst\n", what, goal,
                ratio >= goal ? "reached" : "MISSED", ratio);
}

static void summarise(const struct demo *demo) {
    fputc('\n', demo->file);
    clblast_describe(demo->file);
    if (demo->info.is_cpu && !demo->quick) {
        print_goal(demo->file, "GEMM over CLBlast", demo->worst_gemm, GEMM_GOAL);
        print_goal(demo->file, "fused attention over unfused", demo->worst_attention,
                   ATTENTION_GOAL);
    }
    fprintf(demo->file, "config   %s (%zu entries)\n",
            demo->info.tuned_file[0] ? demo->info.tuned_file : "none", demo->info.tuned_entries);
    if (demo->wrong)
        fprintf(demo->file, "verdict  FAIL: %zu results are wrong or missing\n", demo->wrong);
    else
        fprintf(demo->file, "verdict  ok: every result is within its error bound\n");
}

static bool run_demo(struct demo *demo) {
    bool ok = false;
    demo->file = tool_out(&demo->common);
    demo->rows = json_array();
    TRY(tool_begin(&demo->ctx, &demo->common));
    TRY(peers_begin(demo->ctx));
    TRY(report_device(demo->file, demo->ctx, &demo->info));
    TRY(tune(demo));
    fputc('\n', demo->file);
    report_head(demo->file);
    ok = true;
    for (size_t i = 0; i < N_SECTIONS; i++)
        ok = run_section(demo, &sections[i]) && ok;
    summarise(demo);
    ok = tool_write_json(&demo->common, demo->rows) && ok && demo->wrong == 0;
out:
    peers_finish();
    json_decref(demo->rows);
    clat_context_release(demo->ctx);
    return ok;
}

int command_demo(int argc, char **argv) {
    struct demo demo = {.budget = 60, .measure.seconds = 1};
    const char *const *words;
    size_t n_words;
    const struct arg args[] = {
        {"budget", ARG_NUMBER, &demo.budget, "SECONDS",
         "for tuning, when the config file lacks values; default 60, 0 skips it", NULL, 0, NULL},
        {"quick", ARG_FLAG, &demo.quick, NULL, "small sizes, for a look at the output", NULL, 0,
         NULL},
    };
    const struct args_command command = {
        .usage = "demo [OPTION]...",
        .about =
            "Tunes the device when needed, then runs, verifies and times GEMM, attention, "
            "multi-head\nattention and sparse attention. Exit status 1 when a result is wrong.",
        .args = args,
        .n_args = sizeof args / sizeof args[0]};
    const int outcome = args_parse(argc, argv, &command, &demo.common, &words, &n_words);
    if (outcome != ARGS_GO_ON)
        return outcome;
    return run_demo(&demo) ? TOOL_OK : TOOL_FAILED;
}
