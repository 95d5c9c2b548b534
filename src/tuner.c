#include "tuner_contest.h"

#include "clock.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#define DEFAULT_BUDGET 60.0

/* The part of a problem's time that the finals may take, and the rounds they would like. */
#define FINALS_SHARE 0.25
#define FINALS_ROUNDS 5

enum { MAX_CONTESTS = 8 };

/* ---- what to tune ---- */

struct plan_list {
    clat_plan **plans; /* retained */
    size_t count, capacity;
};

/* Problems that share their tuned values are one problem to the tuner. */
static bool same_subject(const clat_plan *a, const clat_plan *b) {
    struct shape x = {0}, y = {0};
    const struct operation *op = plan_operation(a);
    if (op != plan_operation(b))
        return false;
    op->shape(plan_raw_problem(a), &x);
    op->shape(plan_raw_problem(b), &y);
    return shape_equal(&x, &y);
}

static clat_status add_plan(struct plan_list *list, const clat_plan *plan) {
    for (size_t i = 0; i < list->count; i++)
        if (same_subject(list->plans[i], plan))
            return CLAT_OK;
    if (list->count == list->capacity) {
        size_t capacity = list->capacity > 0 ? 2 * list->capacity : 16;
        clat_plan **grown = realloc(list->plans, capacity * sizeof(clat_plan *));
        if (grown == NULL)
            return status_no_memory(capacity * sizeof(clat_plan *));
        list->plans = grown;
        list->capacity = capacity;
    }
    list->plans[list->count++] = plan_retain(plan);
    return CLAT_OK;
}

static void plan_list_free(struct plan_list *list) {
    for (size_t i = 0; i < list->count; i++)
        clat_plan_release(list->plans[i]);
    free(list->plans);
}

/* Where random operands cannot serve, a problem that shares the tuned values is tuned instead. */
static clat_status add_plan_or_stand_in(struct plan_list *list, const clat_plan *plan) {
    clat_status st = CLAT_OK;
    clat_plan *other = NULL;
    struct operand operands[TRIAL_MAX_OPERANDS];
    const struct operation *op = plan_operation(plan);
    if (op->trial->operands(plan_raw_problem(plan), operands) > 0)
        return add_plan(list, plan);
    const clat_plan_info *info = clat_plan_get_info(plan);
    void *problem = calloc(1, op->problem_bytes);
    if (problem == NULL)
        TRY(status_no_memory(op->problem_bytes));
    if (op->trial->stand_in != NULL && op->trial->stand_in(plan_raw_problem(plan), problem)) {
        TRY(plan_create(&other, plan_context(plan), op, problem, plan_implementation(plan)->name,
                        info->tunables));
        TRY(add_plan(list, other));
    } else {
        log_printf(&plan_context(plan)->log, CLAT_LOG_WARNING,
                   "tuning %s: left out, random operands cannot serve it", info->problem);
    }
out:
    clat_plan_release(other);
    free(problem);
    return st;
}

/* The plan, or the parts that it is made of; those that have nothing to compute are left out. */
static clat_status collect(struct plan_list *list, const clat_plan *plan,
                           const char *implementation) {
    clat_status st = CLAT_OK;
    const struct operation *op = plan_operation(plan);
    if (op->is_empty(plan_raw_problem(plan)))
        return CLAT_OK;
    if (plan_implementation(plan) == NULL) {
        for (unsigned i = 0; i < PLAN_MAX_PARTS && plan_part(plan, i) != NULL; i++)
            TRY(collect(list, plan_part(plan, i), implementation));
        return CLAT_OK;
    }
    if (implementation != NULL) {
        char why[OP_WHY_BYTES] = "";
        const struct implementation *impl = op_implementation(op, implementation);
        if (impl == NULL)
            TRY(status_fail(CLAT_NOT_FOUND,
                            "options->implementation: %s has no implementation '%s'", op->name,
                            implementation));
        if (!impl->supports(&plan_context(plan)->device, plan_raw_problem(plan), why))
            TRY(status_fail(CLAT_UNSUPPORTED, "options->implementation: '%s' declines %s: %s",
                            implementation, clat_plan_get_info(plan)->problem, why));
    }
    TRY(add_plan_or_stand_in(list, plan));
out:
    return st;
}

/* ---- one problem ---- */

/* Whether this implementation takes part: those made for the device, or the one asked for, here or
 * when the plan was made. */
static bool takes_part(const struct subject *subject, const struct implementation *impl) {
    struct device *device = &subject->tuner->ctx->device;
    const char *wanted = subject->tuner->options->implementation;
    char why[OP_WHY_BYTES];
    if (!impl->supports(device, subject->bench.problem, why))
        return false;
    if (wanted != NULL)
        return strcmp(impl->name, wanted) == 0;
    return impl->prefers(device, subject->bench.problem) ||
           impl == plan_implementation(subject->plan);
}

static clat_status open_contests(struct subject *subject, struct contest *contests,
                                 unsigned *count) {
    const struct implementation *const *list = subject->bench.op->implementations;
    clat_status st = CLAT_OK;
    for (; *list != NULL && *count < MAX_CONTESTS; list++)
        if (takes_part(subject, *list)) {
            ++*count;
            TRY(contest_open(&contests[*count - 1], subject, *list));
        }
out:
    return st;
}

/* Each contest gets an equal part of what is left, less what the finals of all so far will need. */
static clat_status search_all(struct subject *subject, struct contest *contests, unsigned count) {
    const struct tuner *tuner = subject->tuner;
    const double limit = FINALS_SHARE * (subject->end - clock_seconds());
    double finals = 0;
    clat_status st = CLAT_OK;
    for (unsigned i = 0; i < count && !tuner->cancelled; i++) {
        const double now = clock_seconds(), left = subject->end - fmin(finals, limit) - now;
        TRY(contest_search(&contests[i], now + left / (count - i)));
        finals += FINALS_ROUNDS * contest_round_seconds(&contests[i]);
    }
out:
    return st;
}

/* Stores the winner of one contest among the tuned values. */
static clat_status settle(struct contest *contest) {
    const struct subject *subject = contest->subject;
    struct tuner *tuner = subject->tuner;
    const struct finalist *winner = NULL;
    const double guess = contest->guess_runs ? contest->finalists[0].seconds : 0;
    const char *problem = clat_plan_get_info(subject->plan)->problem;
    clat_status st = CLAT_OK;
    if (contest->tried == 0) /* stopped before its turn */
        return CLAT_OK;
    TRY(contest_winner(contest, &winner));
    if (winner == NULL) {
        log_printf(&tuner->ctx->log, CLAT_LOG_WARNING,
                   "tuning %s: no candidate of %s computes it rightly", problem,
                   contest->impl->name);
        return CLAT_OK;
    }
    struct tuned_entry entry;
    contest_entry(contest, winner->values, &entry);
    entry.gflops = subject_gflops(subject, winner->seconds);
    log_printf(&tuner->ctx->log, CLAT_LOG_INFO,
               "tuned %s: %s %s, %.4g Gflop/s (guess: %.4g) of %zu candidates", problem, entry.op,
               entry.tunables, entry.gflops, guess > 0 ? subject_gflops(subject, guess) : 0,
               contest->tried);
    if (!tuner->options->dry_run)
        TRY(tuning_put(&tuner->ctx->tuning, &entry));
out:
    return st;
}

static clat_status tune_plan(struct tuner *tuner, const clat_plan *plan, double end) {
    struct contest contests[MAX_CONTESTS] = {0};
    unsigned count = 0;
    struct subject subject = {.tuner = tuner,
                              .plan = plan,
                              .flops = clat_plan_get_info(plan)->flops,
                              .end = end,
                              .best_seconds = INFINITY,
                              .best_single = INFINITY};
    clat_status st = CLAT_OK;
    plan_operation(plan)->shape(plan_raw_problem(plan), &subject.shape);
    TRY(bench_open(&subject.bench, plan));
    TRY(open_contests(&subject, contests, &count));
    TRY(search_all(&subject, contests, count));
    if (!tuner->cancelled)
        TRY(contest_finals(contests, count, end));
    for (unsigned i = 0; i < count; i++)
        TRY(settle(&contests[i]));
out:
    for (unsigned i = 0; i < count; i++)
        contest_close(&contests[i]);
    bench_close(&subject.bench);
    return st;
}

/* ---- all problems ---- */

static bool saves(const struct tuner *tuner) {
    return !tuner->options->dry_run && tuning_file(&tuner->ctx->tuning)[0] != '\0';
}

static clat_status tune_all(struct tuner *tuner, const struct plan_list *list) {
    clat_status st = CLAT_OK, saved = CLAT_OK;
    tuner->progress.count = list->count;
    for (size_t i = 0; i < list->count && !tuner->cancelled; i++) {
        const double left = tuner->deadline - clock_seconds();
        if (left <= 0) {
            log_printf(&tuner->ctx->log, CLAT_LOG_INFO, "tuning: no time left for %zu problems",
                       list->count - i);
            break;
        }
        tuner->progress.index = i;
        TRY(tune_plan(tuner, list->plans[i],
                      tuner->deadline - left + left / (double)(list->count - i)));
        if (saves(tuner))
            saved = tuning_save(&tuner->ctx->tuning);
    }
    st = saved;
    if (st == CLAT_OK && tuner->cancelled)
        st = status_fail(CLAT_CANCELLED, "options->progress asked to stop");
out:
    return st;
}

static clat_status check_arguments(const clat_context *ctx, size_t count,
                                   const clat_plan *const *plans,
                                   const clat_tune_options *options) {
    if (ctx == NULL || (plans == NULL && count > 0))
        return status_fail(CLAT_INVALID_ARGUMENT, "%s is NULL", ctx == NULL ? "ctx" : "plans");
    for (size_t i = 0; i < count; i++) {
        if (plans[i] == NULL)
            return status_fail(CLAT_INVALID_ARGUMENT, "plans[%zu] is NULL", i);
        if (plan_context(plans[i]) != ctx)
            return status_fail(CLAT_INVALID_CONTEXT, "plans[%zu] belongs to another context", i);
    }
    if (!isfinite(options->budget_seconds) || options->budget_seconds < 0)
        return status_fail(CLAT_INVALID_ARGUMENT,
                           "options->budget_seconds is negative or no number");
    return CLAT_OK;
}

clat_status clat_tune(clat_context *ctx, size_t count, const clat_plan *const *plans,
                      const clat_tune_options *options) {
    const clat_tune_options defaults = CLAT_TUNE_OPTIONS_INIT;
    struct plan_list list = {0};
    struct tuner tuner = {.ctx = ctx, .options = options != NULL ? options : &defaults};
    clat_status st = CLAT_OK;
    status_clear();
    TRY(check_arguments(ctx, count, plans, tuner.options));
    const double budget = tuner.options->budget_seconds;
    tuner.start = clock_seconds();
    tuner.deadline = tuner.start + (budget > 0 ? budget : DEFAULT_BUDGET);
    for (size_t i = 0; i < count; i++)
        TRY(collect(&list, plans[i], tuner.options->implementation));
    if (saves(&tuner))
        TRY(journal_open(&tuner.journal, tuning_file(&ctx->tuning), &ctx->device, &ctx->log));
    TRY(tune_all(&tuner, &list));
    status_clear(); /* rejected candidates left their sentences */
out:
    journal_close(tuner.journal);
    plan_list_free(&list);
    return st;
}
