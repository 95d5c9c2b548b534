#include "choice.h"

#include <stdio.h>
#include <string.h>

clat_status choice_check(const struct operation *op, const char *implementation,
                         const char *tunables) {
    if (tunables != NULL && implementation == NULL)
        return status_fail(CLAT_INVALID_TUNABLES,
                           "problem.tunables needs problem.implementation to be named");
    if (implementation != NULL && op_implementation(op, implementation) == NULL)
        return status_fail(CLAT_NOT_FOUND, "problem.implementation: %s has no implementation '%s'",
                           op->name, implementation);
    return CLAT_OK;
}

void choice_explain(const struct choice *choice, clat_context *ctx, const struct operation *op,
                    const void *problem, const char *implementation, struct text *out) {
    for (const struct implementation *const *i = op->implementations; *i != NULL; i++) {
        char why[OP_WHY_BYTES] = "";
        text_printf(out, "  %s: ", (*i)->name);
        if (*i == choice->impl) {
            text_printf(out, "chosen, ");
            tunables_print(*i, choice->values, out);
            text_printf(out, " from %s\n", choice->from);
        } else if (!(*i)->supports(&ctx->device, problem, why))
            text_printf(out, "declined, %s\n", why);
        else if (implementation != NULL)
            text_printf(out, "not asked for\n");
        else if (!(*i)->prefers(&ctx->device, problem))
            text_printf(out, "not made for it on this device\n");
        else
            text_printf(out, "lower priority\n");
    }
}

/* What is being chosen for, shared by the steps below. */
struct wish {
    struct choice *choice;
    clat_context *ctx;
    const struct operation *op;
    const void *problem;
    const char *implementation, *tunables; /* or NULL */
};

static clat_status choose_named(const struct wish *wish) {
    char why[OP_WHY_BYTES] = "";
    const struct implementation *impl = op_implementation(wish->op, wish->implementation);
    if (!impl->supports(&wish->ctx->device, wish->problem, why))
        return status_fail(CLAT_UNSUPPORTED, "problem.implementation: '%s' declines: %s",
                           wish->implementation, why);
    wish->choice->impl = impl;
    return CLAT_OK;
}

static clat_status choose_first(const struct wish *wish) {
    struct text reasons = {0};
    for (const struct implementation *const *i = wish->op->implementations; *i != NULL; i++) {
        char why[OP_WHY_BYTES] = "not made for it on this device";
        if ((*i)->prefers(&wish->ctx->device, wish->problem) &&
            (*i)->supports(&wish->ctx->device, wish->problem, why)) {
            wish->choice->impl = *i;
            text_free(&reasons);
            return CLAT_OK;
        }
        text_printf(&reasons, "%s%s: %s", reasons.length ? "; " : "", (*i)->name, why);
    }
    const clat_status st =
        status_fail(CLAT_UNSUPPORTED, "no implementation runs this %s on this device (%s)",
                    wish->op->name, text_string(&reasons));
    text_free(&reasons);
    return st;
}

/* What is best for one problem need not be for the next, nor for one of equal shape whose lines lie
 * otherwise: it is where the implementation sees no difference between them. `values` are what it
 * guesses for the problem. */
static bool is_like(const struct implementation *impl, const struct tuned_entry *entry,
                    const int *values) {
    struct text guess = {0};
    if (entry->guess[0] == '\0')
        return true;
    tunables_print(impl, values, &guess);
    const bool same = strcmp(text_string(&guess), entry->guess) == 0;
    text_free(&guess);
    return same;
}

/* Whether a tuned entry can be used: for the implementation the caller named, or for one that is
 * made for this problem on this device. */
static bool accept_tuned(void *user, const struct tuned_entry *entry) {
    const struct wish *wish = user;
    struct device *device = &wish->ctx->device;
    char why[OP_WHY_BYTES];
    uint64_t hash = 0;
    const struct implementation *impl = op_implementation(wish->op, entry->implementation);
    if (impl == NULL || !impl->supports(device, wish->problem, why))
        return false;
    if (wish->implementation ? strcmp(impl->name, wish->implementation) != 0
                             : !impl->prefers(device, wish->problem))
        return false;
    if (program_source_hash(&hash, &wish->ctx->programs, impl->source) != CLAT_OK)
        return false;
    if (hash != entry->source_hash) {
        tuning_note_stale(&wish->ctx->tuning, entry);
        return false;
    }
    tunables_guess(impl, device, wish->problem, wish->choice->values);
    if (!is_like(impl, entry, wish->choice->values))
        return false;
    if (tunables_parse(impl, entry->tunables, wish->choice->values) != CLAT_OK ||
        !impl->fits(device, wish->problem, wish->choice->values))
        return false;
    wish->choice->impl = impl;
    return true;
}

static bool choose_tuned(struct wish *wish) {
    struct tuned_entry entry;
    struct shape shape = {0};
    wish->op->shape(wish->problem, &shape);
    const bool found =
        tuning_find(&wish->ctx->tuning, wish->op->name, &shape, accept_tuned, wish, &entry);
    status_clear(); /* a refused entry left its sentence */
    if (!found)
        return false;
    snprintf(wish->choice->from, sizeof wish->choice->from, "%s", entry.origin);
    wish->choice->tuned = entry.rank == TUNED_DEVICE && shape_equal(&shape, &entry.shape);
    return true;
}

static clat_status choose_guess(const struct wish *wish) {
    clat_status st = CLAT_OK;
    struct choice *choice = wish->choice;
    TRY(wish->implementation ? choose_named(wish) : choose_first(wish));
    tunables_guess(choice->impl, &wish->ctx->device, wish->problem, choice->values);
    strcpy(choice->from, "guess");
    if (wish->tunables != NULL) {
        TRY(tunables_parse(choice->impl, wish->tunables, choice->values));
        strcpy(choice->from, "caller");
    }
    if (!choice->impl->fits(&wish->ctx->device, wish->problem, choice->values))
        TRY(wish->tunables
                ? status_fail(CLAT_INVALID_TUNABLES,
                              "problem.tunables: '%s' is not legal for this problem on this device",
                              wish->tunables)
                : status_fail(CLAT_UNSUPPORTED,
                              "'%s' finds no tunables for this problem on this device",
                              choice->impl->name));
out:
    return st;
}

clat_status choice_make(struct choice *out, clat_context *ctx, const struct operation *op,
                        const void *problem, const char *implementation, const char *tunables) {
    struct wish wish = {out, ctx, op, problem, implementation, tunables};
    if (tunables == NULL && choose_tuned(&wish))
        return CLAT_OK;
    return choose_guess(&wish);
}
