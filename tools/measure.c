#include "measure.h"

#include <math.h>

enum { MIN_SAMPLES = 3, MAX_SAMPLES = 25, MAX_REPS = 1000 };

/*
 * How a sample is taken. Its burst of runs is enqueued at once and waited for at its end, and is
 * long enough to hide the cost of that.
 */
struct pace {
    double burst_seconds;
    unsigned max_burst;
    unsigned trials;   /* runs that find the length of a burst, each longer than the one before */
    double lead_share; /* of a burst, that runs before it untimed; at least one run. 0: none */
    double pause;      /* seconds after it; 0: until no thread of the process runs any more */
};

static const struct pace cpu_pace = {.burst_seconds = 0.02, .max_burst = 200, .trials = 1};

/* A large GPU is limited by its power: who runs long is slowed down, and so is who comes next.
 * Hence short bursts and longer pauses. After a pause the card first changes to the contestant's
 * context and wakes up; and a first small kernel alone takes much longer than one of many. */
static const struct pace gpu_pace = {
    .burst_seconds = 0.015, .max_burst = 5000, .trials = 2, .lead_share = 0.1, .pause = 0.03};

/* One that is timed: ours when `peer` is NULL. */
struct contestant {
    const struct peer *peer;
    void *state; /* of the peer; NULL: it failed and plays no more */
    clat_verdict verdict;
    unsigned burst; /* runs in one sample */
    unsigned count;
    double sample[MAX_REPS]; /* seconds of one run */
};

struct contest {
    const struct pace *pace;
    clat_plan *plan;
    clat_trial *trial;
    unsigned count;
    struct contestant of[PEER_MAX + 1];
};

static bool plays(const struct contestant *who) {
    return !who->peer || who->state;
}

/* A peer that fails takes nothing from our own row. */
static bool drop(struct contestant *who, const struct spec *spec) {
    char text[SPEC_TEXT_BYTES];
    if (!who->peer)
        return false;
    tool_note("%s failed on %s: not compared", who->peer->name,
              spec_print(text, sizeof text, spec));
    peer_close(who->peer, who->state);
    who->state = NULL;
    return true;
}

static bool run_times(const struct contest *contest, struct contestant *who, unsigned repeats,
                      double *seconds) {
    if (!who->peer)
        return tool_clat(clat_trial_time(contest->trial, contest->plan, repeats, seconds));
    const double start = now_seconds();
    const bool ok = who->peer->run(who->state, repeats);
    *seconds = (now_seconds() - start) / repeats;
    return ok;
}

static bool run_burst(const struct contest *contest, struct contestant *who, double *seconds) {
    const struct pace *pace = contest->pace;
    const unsigned lead = (unsigned)ceil(pace->lead_share * who->burst);
    const bool ok = (lead == 0 || run_times(contest, who, lead, seconds)) &&
                    run_times(contest, who, who->burst, seconds);
    if (pace->pause > 0)
        sleep_seconds(pace->pause);
    else
        sleep_until_quiet();
    return ok;
}

static void set_burst(const struct pace *pace, struct contestant *who, double seconds) {
    const double runs = pace->burst_seconds / fmax(seconds, 1e-7);
    who->burst = runs < 1 ? 1 : runs > pace->max_burst ? pace->max_burst : (unsigned)runs;
}

/* Verifies, which is a warm-up too, and finds the length of a burst. A slow run is the first sample
 * already. */
static bool prepare(const struct contest *contest, struct contestant *who,
                    const struct spec *spec) {
    double seconds = 0;
    if (who->peer) {
        if (!peer_judge(who->peer, who->state, spec, contest->trial, &who->verdict))
            return false;
    } else if (!tool_clat(clat_trial_verify(contest->trial, contest->plan, &who->verdict))) {
        return false;
    }
    who->burst = 1;
    for (unsigned i = 0; i < contest->pace->trials; i++) {
        if (!run_burst(contest, who, &seconds))
            return false;
        set_burst(contest->pace, who, seconds);
    }
    if (who->burst == 1)
        who->sample[who->count++] = seconds;
    return true;
}

/* One more sample of everybody who has fewer than `most`; gives the fewest that anybody has. */
static bool play_round(struct contest *contest, const struct spec *spec, unsigned most,
                       unsigned *fewest) {
    *fewest = most;
    for (unsigned i = 0; i < contest->count; i++) {
        struct contestant *who = &contest->of[i];
        if (!plays(who) || who->count >= most)
            continue;
        if (run_burst(contest, who, &who->sample[who->count]))
            who->count++;
        else if (!drop(who, spec))
            return false;
        if (plays(who) && who->count < *fewest)
            *fewest = who->count;
    }
    return true;
}

/* Rounds in which everybody gets one turn, so that all meet the same disturbances. */
static bool play(struct contest *contest, const struct spec *spec,
                 const struct measure_options *options) {
    const unsigned most = options->reps ? options->reps : MAX_SAMPLES;
    const double start = now_seconds();
    unsigned fewest = 0;
    while (fewest < most &&
           (options->reps || fewest < MIN_SAMPLES || now_seconds() - start < options->seconds))
        if (!play_round(contest, spec, most, &fewest))
            return false;
    return true;
}

/* Those that take the problem; a note when none of them does. */
static void add_peers(struct contest *contest, clat_context *ctx, const struct spec *spec,
                      const struct peer *const *peers, unsigned n_peers) {
    char text[SPEC_TEXT_BYTES], why[PEER_MAX][PEER_WHY_BYTES];
    unsigned refused = 0;
    for (unsigned i = 0; i < n_peers; i++) {
        if (!peer_supports(peers[i], ctx, spec, why[i])) {
            refused++;
            continue;
        }
        struct contestant *who = &contest->of[contest->count++];
        who->peer = peers[i];
        who->state = peer_open(peers[i], ctx, spec, contest->trial);
        if (!who->state)
            drop(who, spec);
    }
    for (unsigned i = 0; i < n_peers && refused == n_peers; i++)
        tool_note("%s left out of %s: %s", peers[i]->name, spec_print(text, sizeof text, spec),
                  why[i]);
}

static void finish(struct measurement *out, struct contest *contest) {
    const clat_plan_info *info = clat_plan_get_info(contest->plan);
    snprintf(out->implementation, sizeof out->implementation, "%s", info->implementation);
    snprintf(out->tunables, sizeof out->tunables, "%s", info->tunables);
    struct contestant *us = &contest->of[0];
    const double seconds = median(us->sample, us->count);
    out->ms = seconds * 1e3;
    out->gflops = seconds > 0 ? info->flops / seconds * 1e-9 : 0;
    out->verdict = us->verdict;
    for (unsigned i = 1; i < contest->count; i++) {
        struct contestant *who = &contest->of[i];
        struct measure_peer *peer = &out->peers[out->n_peers++];
        peer->peer = who->peer;
        peer->failed = !plays(who);
        if (peer->failed)
            continue;
        if (who->verdict.ok) {
            const double scale = who->peer->scale ? who->peer->scale(who->state) : 1;
            peer->ms = median(who->sample, who->count) * scale * 1e3;
            peer->ratio = out->ms > 0 ? peer->ms / out->ms : 0;
        } else {
            tool_note("%s is wrong (%s: off by %.3g, bound %.3g): not compared", who->peer->name,
                      who->verdict.where, who->verdict.worst, who->verdict.bound);
        }
    }
}

static void close_contest(struct contest *contest) {
    for (unsigned i = 1; i < contest->count; i++)
        peer_close(contest->of[i].peer, contest->of[i].state);
    clat_trial_release(contest->trial);
    clat_plan_release(contest->plan);
}

bool measure(struct measurement *out, clat_context *ctx, const struct spec *spec,
             const struct peer *const *peers, unsigned n_peers,
             const struct measure_options *options) {
    const bool cpu = tool_is_cpu(clat_context_device(ctx));
    struct contest contest = {.pace = cpu ? &cpu_pace : &gpu_pace, .count = 1}; /* us */
    struct measure_options limits = *options;
    bool ok = false;

    *out = (struct measurement){.spec = *spec};
    if (limits.reps > MAX_REPS)
        limits.reps = MAX_REPS;
    TRY(spec_plan(&contest.plan, ctx, spec));
    TRY(tool_clat(clat_trial_create(&contest.trial, contest.plan, 1)));
    TRY(prepare(&contest, &contest.of[0], spec));
    add_peers(&contest, ctx, spec, peers, n_peers);
    for (unsigned i = 1; i < contest.count; i++)
        if (plays(&contest.of[i]) && !prepare(&contest, &contest.of[i], spec))
            drop(&contest.of[i], spec);
    TRY(play(&contest, spec, &limits));
    finish(out, &contest);
    ok = true;
out:
    close_contest(&contest);
    return ok;
}

static json_t *real_or_null(double value, bool present) {
    return present && isfinite(value) ? json_real(value) : json_null();
}

bool measure_add_json(json_t *rows, const struct measurement *m, const char *device) {
    char name[SPEC_TEXT_BYTES];
    const unsigned n_rows = m->n_peers ? m->n_peers : 1;
    for (unsigned i = 0; i < n_rows; i++) {
        const struct measure_peer *p = m->n_peers ? &m->peers[i] : NULL;
        json_t *row = json_pack(
            "{s:s, s:s?, s:s, s:o, s:s, s:s, s:s, s:s, s:o, s:o, s:s?, s:o, s:o, s:o, s:o, s:b}",
            "name", spec_print(name, sizeof name, &m->spec), "group", m->spec.group, "op",
            spec_op_names[m->spec.op], "problem", spec_json(&m->spec), "dtype",
            clat_dtype_name(m->spec.dtype), "device", device, "implementation", m->implementation,
            "tunables", m->tunables, "ms", real_or_null(m->ms, true), "gflops",
            real_or_null(m->gflops, true), "peer", p ? p->peer->name : NULL, "peer_ms",
            real_or_null(p ? p->ms : 0, p && p->ms > 0), "ratio",
            real_or_null(p ? p->ratio : 0, p && p->ratio > 0), "max_err",
            real_or_null(m->verdict.worst, true), "err_bound", real_or_null(m->verdict.bound, true),
            "ok", m->verdict.ok);
        if (!row || json_array_append_new(rows, row) != 0)
            return tool_error("out of memory");
    }
    return true;
}
