#include "tuner_search.h"

#include "random.h"

#include <math.h>
#include <stdlib.h>

enum {
    LIST_LIMIT = 1 << 20,   /* combinations, legal or not, up to which a space is listed */
    SAMPLE_TRIES = 1 << 12, /* at a legal candidate of a space that is not listed */
    PAIR_STEPS = 24,        /* neighbours two steps away that are looked at before a restart */
    KICKS = 3,              /* tunables changed when a restart stays near the best */
    MAX_NEIGHBOURS = OP_MAX_TUNABLES * OP_MAX_CANDIDATES + PAIR_STEPS
};

/* A candidate is a number: its candidates' indices as digits, the first tunable's least
 * significant. 12 candidates of 16 tunables fit 64 bits. */
typedef uint64_t candidate_id;
#define NO_CANDIDATE UINT64_MAX

/* Where a descent stands. */
enum stage { STAGE_NEAR, STAGE_PAIRS, STAGE_RESTART };

struct search {
    const struct implementation *impl;
    const struct device *device;
    const void *problem;
    const struct search_strategy *strategy;
    uint64_t random;
    unsigned digits[OP_MAX_TUNABLES]; /* candidates of each tunable */
    candidate_id combinations;

    candidate_id *legal; /* NULL: not listed */
    size_t n_legal, size;

    candidate_id *seen; /* open addressing; a power of two slots */
    size_t n_seen, seen_slots;

    candidate_id best, current, probe; /* probe: a restart's first candidate, being measured */
    double best_seconds, current_seconds;
    enum stage stage;
    unsigned n_neighbours;
    candidate_id neighbours[MAX_NEIGHBOURS];
};

struct search_strategy {
    candidate_id (*next)(struct search *search);
    void (*report)(struct search *search, candidate_id id, double seconds);
};

/* ---- candidates as numbers ---- */

static uint64_t random_below(struct search *search, uint64_t bound) {
    return random_next(&search->random) % bound;
}

static void decode(const struct search *search, candidate_id id, int *values) {
    for (unsigned i = 0; i < search->impl->n_tunables; i++) {
        values[i] = search->impl->tunables[i].candidates[id % search->digits[i]];
        id /= search->digits[i];
    }
}

/* NO_CANDIDATE when a value is none of its tunable's candidates. */
static candidate_id encode(const struct search *search, const int *values) {
    candidate_id id = 0;
    for (unsigned i = search->impl->n_tunables; i-- > 0;) {
        unsigned digit = 0;
        while (digit < search->digits[i] &&
               search->impl->tunables[i].candidates[digit] != values[i])
            digit++;
        if (digit == search->digits[i])
            return NO_CANDIDATE;
        id = id * search->digits[i] + digit;
    }
    return id;
}

/* The same candidate with another digit for one tunable. */
static candidate_id replace_digit(const struct search *search, candidate_id id, unsigned tunable,
                                  unsigned digit) {
    candidate_id place = 1;
    for (unsigned i = 0; i < tunable; i++)
        place *= search->digits[i];
    candidate_id old = id / place % search->digits[tunable];
    return id - old * place + digit * place;
}

static candidate_id random_step(struct search *search, candidate_id id) {
    if (search->impl->n_tunables == 0)
        return id;
    unsigned tunable = (unsigned)random_below(search, search->impl->n_tunables);
    return replace_digit(search, id, tunable,
                         (unsigned)random_below(search, search->digits[tunable]));
}

static bool is_legal(const struct search *search, candidate_id id) {
    int values[OP_MAX_TUNABLES];
    decode(search, id, values);
    return search->impl->fits(search->device, search->problem, values);
}

/* ---- what was seen ---- */

static size_t seen_slot(const struct search *search, candidate_id id) {
    size_t mask = search->seen_slots - 1, slot = (size_t)(id * 0x9e3779b97f4a7c15u >> 20) & mask;
    while (search->seen[slot] != NO_CANDIDATE && search->seen[slot] != id)
        slot = (slot + 1) & mask;
    return slot;
}

static bool is_seen(const struct search *search, candidate_id id) {
    return search->seen_slots > 0 && search->seen[seen_slot(search, id)] == id;
}

/* false: memory is exhausted; the search then ends, since it could not keep its promise. */
static bool mark_seen(struct search *search, candidate_id id) {
    if (2 * search->n_seen >= search->seen_slots) {
        size_t old_slots = search->seen_slots, slots = old_slots > 0 ? 2 * old_slots : 64;
        candidate_id *old = search->seen, *grown = malloc(slots * sizeof *grown);
        if (grown == NULL)
            return false;
        for (size_t i = 0; i < slots; i++)
            grown[i] = NO_CANDIDATE;
        search->seen = grown;
        search->seen_slots = slots;
        for (size_t i = 0; i < old_slots; i++)
            if (old[i] != NO_CANDIDATE)
                grown[seen_slot(search, old[i])] = old[i];
        free(old);
    }
    size_t slot = seen_slot(search, id);
    search->n_seen += search->seen[slot] != id;
    search->seen[slot] = id;
    return true;
}

static bool is_new(const struct search *search, candidate_id id) {
    return !is_seen(search, id) && is_legal(search, id);
}

/* Any legal candidate not seen yet, each about equally likely. */
static candidate_id random_new(struct search *search) {
    if (search->legal == NULL) {
        for (unsigned i = 0; i < SAMPLE_TRIES; i++) {
            candidate_id id = random_below(search, search->combinations);
            if (is_new(search, id))
                return id;
        }
        return NO_CANDIDATE;
    }
    size_t start = search->n_legal > 0 ? (size_t)random_below(search, search->n_legal) : 0;
    for (size_t i = 0; i < search->n_legal; i++) {
        candidate_id id = search->legal[(start + i) % search->n_legal];
        if (!is_seen(search, id))
            return id;
    }
    return NO_CANDIDATE;
}

/* ---- exhaustive ---- */

/* The list is consumed from its end, each time after swapping a random one there. */
static candidate_id exhaustive_next(struct search *search) {
    while (search->n_legal > 0) {
        size_t pick = (size_t)random_below(search, search->n_legal);
        candidate_id id = search->legal[pick];
        search->legal[pick] = search->legal[--search->n_legal];
        if (!is_seen(search, id))
            return id;
    }
    return NO_CANDIDATE;
}

/* ---- descent ---- */

static void shuffle(struct search *search, unsigned from, unsigned to) {
    for (unsigned i = to; i > from + 1; i--) {
        unsigned j = from + (unsigned)random_below(search, i - from);
        candidate_id swap = search->neighbours[i - 1];
        search->neighbours[i - 1] = search->neighbours[j];
        search->neighbours[j] = swap;
    }
}

/* All candidates that differ in one tunable. Taken from the end: the next larger and smaller value
 * of each tunable come before jumps. */
static void add_near(struct search *search) {
    for (unsigned adjacent = 0; adjacent < 2; adjacent++) {
        unsigned start = search->n_neighbours;
        candidate_id rest = search->current;
        for (unsigned i = 0; i < search->impl->n_tunables; i++) {
            unsigned own = (unsigned)(rest % search->digits[i]);
            rest /= search->digits[i];
            for (unsigned digit = 0; digit < search->digits[i]; digit++)
                if (digit != own && (digit + 1 == own || digit == own + 1) == (adjacent == 1))
                    search->neighbours[search->n_neighbours++] =
                        replace_digit(search, search->current, i, digit);
        }
        shuffle(search, start, search->n_neighbours);
    }
}

static void add_pairs(struct search *search) {
    for (unsigned i = 0; i < PAIR_STEPS; i++)
        search->neighbours[search->n_neighbours++] =
            random_step(search, random_step(search, search->current));
}

/* Every other time from a few steps off the best one known, else from anywhere. */
static candidate_id restart(struct search *search) {
    if (search->best != NO_CANDIDATE && random_below(search, 2) == 0)
        for (unsigned i = 0; i < PAIR_STEPS; i++) {
            candidate_id id = search->best;
            for (unsigned kick = 0; kick < KICKS; kick++)
                id = random_step(search, id);
            if (is_new(search, id))
                return id;
        }
    return random_new(search);
}

static candidate_id descent_next(struct search *search) {
    for (;;) {
        while (search->n_neighbours > 0) {
            candidate_id id = search->neighbours[--search->n_neighbours];
            if (is_new(search, id))
                return id;
        }
        if (search->stage == STAGE_NEAR) {
            add_near(search);
            search->stage = STAGE_PAIRS;
        } else if (search->stage == STAGE_PAIRS) {
            add_pairs(search);
            search->stage = STAGE_RESTART;
        } else {
            return search->probe = restart(search);
        }
    }
}

static void descent_report(struct search *search, candidate_id id, double seconds) {
    bool restarted = id == search->probe && isfinite(seconds);
    if (!restarted && !(seconds < search->current_seconds))
        return;
    search->current = id;
    search->current_seconds = seconds;
    search->probe = NO_CANDIDATE;
    search->n_neighbours = 0;
    search->stage = STAGE_NEAR;
}

const struct search_strategy search_descent = {descent_next, descent_report};

/* Learns where the descent would stand, for when that takes over. */
const struct search_strategy search_exhaustive = {exhaustive_next, descent_report};

/* ---- interface ---- */

static clat_status list_legal(struct search *search) {
    size_t capacity = 0;
    if (search->combinations > LIST_LIMIT) {
        search->size = SIZE_MAX;
        return CLAT_OK;
    }
    for (candidate_id id = 0; id < search->combinations; id++) {
        if (!is_legal(search, id))
            continue;
        if (search->n_legal == capacity) {
            capacity = capacity > 0 ? 2 * capacity : 256;
            candidate_id *grown = realloc(search->legal, capacity * sizeof *grown);
            if (grown == NULL)
                return status_no_memory(capacity * sizeof *grown);
            search->legal = grown;
        }
        search->legal[search->n_legal++] = id;
    }
    search->size = search->n_legal;
    return CLAT_OK;
}

clat_status search_create(struct search **out, const struct implementation *impl,
                          const struct device *device, const void *problem, uint64_t seed) {
    clat_status st = CLAT_OK;
    struct search *search = calloc(1, sizeof *search);
    *out = NULL;
    if (search == NULL)
        return status_no_memory(sizeof *search);
    *search = (struct search){.impl = impl,
                              .device = device,
                              .problem = problem,
                              .strategy = &search_descent,
                              .random = seed,
                              .combinations = 1,
                              .best = NO_CANDIDATE,
                              .current = NO_CANDIDATE,
                              .probe = NO_CANDIDATE,
                              .best_seconds = INFINITY,
                              .current_seconds = INFINITY,
                              .stage = STAGE_RESTART};
    for (unsigned i = 0; i < impl->n_tunables; i++) {
        search->digits[i] = tunable_count(&impl->tunables[i]);
        search->combinations *= search->digits[i];
    }
    TRY(list_legal(search));
    *out = search;
    return CLAT_OK;
out:
    search_release(search);
    return st;
}

void search_release(struct search *search) {
    if (search == NULL)
        return;
    free(search->legal);
    free(search->seen);
    free(search);
}

size_t search_size(const struct search *search) {
    return search->size;
}

void search_use(struct search *search, const struct search_strategy *strategy) {
    search->strategy = strategy;
}

bool search_next(struct search *search, int *values) {
    candidate_id id = search->strategy->next(search);
    if (id == NO_CANDIDATE || !mark_seen(search, id))
        return false;
    decode(search, id, values);
    return true;
}

void search_report(struct search *search, const int *values, double seconds) {
    candidate_id id = encode(search, values);
    if (id == NO_CANDIDATE || !mark_seen(search, id))
        return;
    if (seconds < search->best_seconds) {
        search->best = id;
        search->best_seconds = seconds;
    }
    search->strategy->report(search, id, seconds);
}
