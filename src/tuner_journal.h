/*
 * What the tuner measured, one JSON object a line, beside the tuned file: an interrupted run goes
 * on from it. A candidate is announced before it runs, so that one that takes the process down
 * twice is not tried again. docs/config-files.md describes the lines.
 */
#ifndef CLAT_TUNER_JOURNAL_H
#define CLAT_TUNER_JOURNAL_H

#include "tuning.h"

struct journal; /* NULL stands for "no journal" everywhere below */

/* X(enumerator, name in the file) */
#define OUTCOME_MAP(X)                                                                             \
    X(OUTCOME_STARTED, "started") /* nothing more is known */                                      \
    X(OUTCOME_MEASURED, "measured")                                                                \
    X(OUTCOME_WRONG, "wrong")   /* a result outside its error bound */                             \
    X(OUTCOME_FAILED, "failed") /* did not build or did not run */

enum outcome {
#define OUTCOME_ENUM(enumerator, name) enumerator,
    OUTCOME_MAP(OUTCOME_ENUM)
#undef OUTCOME_ENUM
};

/* What came of one candidate. */
struct score {
    enum outcome outcome;
    double seconds; /* of one run, in a burst that hides the cost of starting */
    double single;  /* of one run on its own */
    double cost;    /* seconds it took to find all this out */
    char why[160];  /* when it is not measured */
};

/* Opens the journal of `tuned_file` and reads what is still good. NULL with CLAT_OK when there is
 * none to be had: no tuned file, or another tuner at work on the same one, which is logged. */
clat_status journal_open(struct journal **out, const char *tuned_file, const struct device *device,
                         const struct logger *log);
void journal_close(struct journal *journal);

/* Of `candidate`, op, implementation, shape, tunables and source_hash count. A candidate that was
 * started twice and never finished is OUTCOME_FAILED; once may have been a power failure. */
bool journal_find(const struct journal *journal, const struct tuned_entry *candidate,
                  struct score *out);

/* Best effort: a full disk costs the resumption, not the run. */
void journal_add(struct journal *journal, const struct tuned_entry *candidate,
                 const struct score *score);

#endif
