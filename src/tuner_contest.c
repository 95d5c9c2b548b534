#include "tuner_contest.h"

#include "clock.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* Less than this is noise; the guess then wins, since it owes nothing to one machine's mood. */
#define TIE 1.02

/* In the finals: a compromise between many rounds and steady bursts. */
#define FINAL_BURST_SECONDS 0.03

enum { MAX_ROUNDS = 7, PROGRAMS_KEPT = 64 };

double subject_gflops(const struct subject *subject, double seconds) {
    return subject->flops / seconds * 1e-9;
}

void contest_entry(const struct contest *contest, const int *values, struct tuned_entry *out) {
    const struct subject *subject = contest->subject;
    struct text tunables = {0}, guess = {0};
    int guessed[OP_MAX_TUNABLES];
    memset(out, 0, sizeof *out);
    tunables_print(contest->impl, values, &tunables);
    tunables_guess(contest->impl, &subject->tuner->ctx->device, subject->bench.problem, guessed);
    tunables_print(contest->impl, guessed, &guess);
    snprintf(out->op, sizeof out->op, "%s", subject->bench.op->name);
    snprintf(out->implementation, sizeof out->implementation, "%s", contest->impl->name);
    snprintf(out->tunables, sizeof out->tunables, "%s", text_string(&tunables));
    snprintf(out->guess, sizeof out->guess, "%s", text_string(&guess));
    out->shape = subject->shape;
    out->source_hash = contest->source_hash;
    text_free(&tunables);
    text_free(&guess);
}

/* ---- opening ---- */

/* The same for the same problem, so that a run that goes on walks the same way. */
static uint64_t seed_of(const struct subject *subject, const struct implementation *impl) {
    const char *const parts[] = {clat_plan_get_info(subject->plan)->problem, impl->name};
    return cache_key_of(2, parts).low;
}

clat_status contest_open(struct contest *contest, struct subject *subject,
                         const struct implementation *impl) {
    clat_status st = CLAT_OK;
    clat_context *ctx = subject->tuner->ctx;
    *contest = (struct contest){.subject = subject, .impl = impl};
    TRY(program_source_hash(&contest->source_hash, &ctx->programs, impl->source));
    TRY(search_create(&contest->search, impl, &ctx->device, subject->bench.problem,
                      seed_of(subject, impl)));
out:
    return st;
}

void contest_close(struct contest *contest) {
    search_release(contest->search);
    *contest = (struct contest){0};
}

/* ---- searching ---- */

static double mean_cost(const struct contest *contest) {
    return contest->tried > 0 ? contest->spent / (double)contest->tried : 0;
}

/* HUGE_VAL when nobody counted. */
static double candidates_left(const struct contest *contest) {
    const size_t size = search_size(contest->search);
    if (size == SIZE_MAX)
        return HUGE_VAL;
    return size > contest->tried ? (double)(size - contest->tried) : 0;
}

static void keep_finalist(struct contest *contest, const int *values, const struct score *score,
                          bool is_guess) {
    struct finalist *list = contest->finalists;
    struct finalist added = {
        .seconds = score->seconds, .single = score->single, .is_guess = is_guess};
    memcpy(added.values, values, contest->impl->n_tunables * sizeof *values);
    if (is_guess) { /* the first to be tried */
        list[contest->n_finalists++] = added;
        contest->guess_runs = true;
        return;
    }
    const unsigned first = contest->guess_runs ? 1 : 0;
    unsigned at = contest->n_finalists;
    if (at < first + CONTEST_BEST)
        contest->n_finalists++;
    else if (list[--at].seconds <= added.seconds)
        return;
    for (; at > first && list[at - 1].seconds > added.seconds; at--)
        list[at] = list[at - 1];
    list[at] = added;
}

/* Tells the caller; false: stop. */
static bool show_progress(struct contest *contest, const struct tuned_entry *entry,
                          const struct score *score, double end) {
    struct subject *subject = contest->subject;
    struct tuner *tuner = subject->tuner;
    clat_tune_progress *progress = &tuner->progress;
    const double now = clock_seconds(), cost = mean_cost(contest);
    double left = candidates_left(contest);
    if (cost > 0)
        left = fmin(left, floor(fmax(0, end - now) / cost));
    progress->problem = clat_plan_get_info(subject->plan)->problem;
    progress->implementation = entry->implementation;
    progress->tunables = entry->tunables;
    progress->candidate = subject->candidates;
    progress->candidates = subject->candidates + (isfinite(left) && left > 0 ? (size_t)left : 0);
    progress->gflops =
        score->outcome == OUTCOME_MEASURED ? subject_gflops(subject, score->seconds) : 0;
    progress->best_gflops =
        isfinite(subject->best_seconds) ? subject_gflops(subject, subject->best_seconds) : 0;
    progress->elapsed_seconds = now - tuner->start;
    progress->remaining_seconds =
        fmax(0, fmin(tuner->deadline - now, left * cost + tuner->deadline - subject->end));
    return tuner->options->progress == NULL ||
           tuner->options->progress(tuner->options->user, progress);
}

static clat_status try_candidate(struct contest *contest, const int *values, bool is_guess,
                                 double end) {
    struct subject *subject = contest->subject;
    struct tuner *tuner = subject->tuner;
    struct tuned_entry entry;
    struct score score = {.outcome = OUTCOME_STARTED};
    clat_status st = CLAT_OK;
    contest_entry(contest, values, &entry);
    if (!journal_find(tuner->journal, &entry, &score)) {
        journal_add(tuner->journal, &entry, &score);
        st = bench_measure(&subject->bench, contest->impl, values, subject->best_single, &score);
        journal_add(tuner->journal, &entry, &score);
        program_store_trim(&tuner->ctx->programs, PROGRAMS_KEPT);
        if (st != CLAT_OK)
            return st;
    }
    contest->spent += score.cost;
    const bool measured = score.outcome == OUTCOME_MEASURED;
    contest->tried++;
    subject->candidates++;
    search_report(contest->search, values, measured ? score.seconds : (double)INFINITY);
    if (measured) {
        keep_finalist(contest, values, &score, is_guess);
        subject->best_seconds = fmin(subject->best_seconds, score.seconds);
        subject->best_single = fmin(subject->best_single, score.single);
    } else {
        log_printf(&tuner->ctx->log, is_guess ? CLAT_LOG_WARNING : CLAT_LOG_DEBUG,
                   "tuning %s: %s %s is rejected: %s", clat_plan_get_info(subject->plan)->problem,
                   entry.implementation, entry.tunables, score.why);
    }
    tuner->cancelled = !show_progress(contest, &entry, &score, end);
    return CLAT_OK;
}

/* What the caller's plan runs now may come from an earlier tuning: a good second start. */
static bool plan_values(const struct contest *contest, const int *guess, int *values) {
    const clat_plan *plan = contest->subject->plan;
    const size_t bytes = contest->impl->n_tunables * sizeof *values;
    if (plan_implementation(plan) != contest->impl ||
        memcmp(plan_tunables(plan), guess, bytes) == 0)
        return false;
    memcpy(values, plan_tunables(plan), bytes);
    return true;
}

clat_status contest_search(struct contest *contest, double end) {
    const struct subject *subject = contest->subject;
    const struct tuner *tuner = subject->tuner;
    int guess[OP_MAX_TUNABLES] = {0}, values[OP_MAX_TUNABLES] = {0};
    clat_status st = CLAT_OK;
    tunables_guess(contest->impl, &tuner->ctx->device, subject->bench.problem, guess);
    TRY(try_candidate(contest, guess, true, end));
    if (!tuner->cancelled && clock_seconds() < end && plan_values(contest, guess, values))
        TRY(try_candidate(contest, values, false, end));
    while (!tuner->cancelled) {
        const double left = end - clock_seconds(), cost = mean_cost(contest);
        if (left <= cost)
            break;
        const bool all = candidates_left(contest) * cost <= left;
        search_use(contest->search, all ? &search_exhaustive : &search_descent);
        if (!search_next(contest->search, values))
            break;
        TRY(try_candidate(contest, values, false, end));
    }
out:
    return st;
}

/* ---- finals ---- */

double contest_round_seconds(const struct contest *contest) {
    double sum = 0;
    for (unsigned i = 0; i < contest->n_finalists; i++)
        sum += fmax(contest->finalists[i].single, FINAL_BURST_SECONDS);
    return sum;
}

static int compare_doubles(const void *left, const void *right) {
    const double a = *(const double *)left, b = *(const double *)right;
    return a < b ? -1 : a > b;
}

/* What one finalist did in each round. */
struct lap {
    struct bench *bench;
    struct finalist *finalist;
    double seconds[MAX_ROUNDS];
};

static clat_status run_rounds(struct lap *laps, unsigned count, double end) {
    clat_status st = CLAT_OK;
    unsigned rounds = 0;
    while (rounds < MAX_ROUNDS && (rounds == 0 || clock_seconds() < end)) {
        for (unsigned i = 0; i < count; i++) {
            /* To and fro, so that a drift of the clocks favours nobody. */
            struct lap *lap = &laps[rounds % 2 == 0 ? i : count - 1 - i];
            TRY(bench_time(lap->bench, lap->finalist->plan, lap->finalist->single,
                           FINAL_BURST_SECONDS, &lap->seconds[rounds]));
        }
        rounds++;
    }
    for (unsigned i = 0; i < count; i++) {
        qsort(laps[i].seconds, rounds, sizeof laps[i].seconds[0], compare_doubles);
        laps[i].finalist->seconds = laps[i].seconds[rounds / 2];
    }
out:
    return st;
}

clat_status contest_finals(struct contest *contests, unsigned count, double end) {
    clat_status st = CLAT_OK;
    unsigned n_laps = 0;
    struct lap *laps = calloc(count * (1 + CONTEST_BEST), sizeof *laps);
    if (laps == NULL)
        return status_no_memory(count * (1 + CONTEST_BEST) * sizeof *laps);
    for (unsigned c = 0; c < count; c++)
        for (unsigned i = 0; i < contests[c].n_finalists; i++) {
            struct finalist *finalist = &contests[c].finalists[i];
            struct bench *bench = &contests[c].subject->bench;
            TRY(bench_plan(&finalist->plan, bench, contests[c].impl, finalist->values));
            laps[n_laps++] = (struct lap){.bench = bench, .finalist = finalist};
        }
    TRY(run_rounds(laps, n_laps, end));
out:
    for (unsigned i = 0; i < n_laps; i++) {
        clat_plan_release(laps[i].finalist->plan);
        laps[i].finalist->plan = NULL;
    }
    free(laps);
    return st;
}

/* The index of the one to try next; the guess wins a tie. */
static unsigned fastest(const struct contest *contest) {
    unsigned best = 0;
    for (unsigned i = 1; i < contest->n_finalists; i++)
        if (contest->finalists[i].seconds < contest->finalists[best].seconds)
            best = i;
    const struct finalist *first = &contest->finalists[0];
    return first->is_guess && first->seconds <= TIE * contest->finalists[best].seconds ? 0 : best;
}

clat_status contest_winner(struct contest *contest, const struct finalist **out) {
    const struct subject *subject = contest->subject;
    *out = NULL;
    while (*out == NULL && contest->n_finalists > 0) {
        struct finalist *finalist = &contest->finalists[fastest(contest)];
        clat_plan *plan = NULL;
        clat_status st = bench_plan(&plan, &subject->bench, contest->impl, finalist->values);
        if (st == CLAT_OK)
            st = bench_verify(subject->bench.trial, plan);
        clat_plan_release(plan);
        if (st == CLAT_OK) {
            *out = finalist;
            break;
        }
        log_printf(&subject->tuner->ctx->log, CLAT_LOG_WARNING, "tuning %s: %s is out: %s",
                   clat_plan_get_info(subject->plan)->problem, contest->impl->name,
                   clat_error_text());
        if (st != CLAT_WRONG_RESULT && (st = bench_device_alive(&subject->bench)) != CLAT_OK)
            return st;
        for (struct finalist *f = finalist; f + 1 < contest->finalists + contest->n_finalists; f++)
            f[0] = f[1];
        contest->n_finalists--;
    }
    return CLAT_OK;
}
