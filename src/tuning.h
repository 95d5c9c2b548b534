/*
 * Tuned values: one readable JSON file per device (docs/config-files.md), loaded when a context is
 * made, looked up by shape, written by the tuner.
 *
 * Look-up: entries for this very device and driver come before those for its architecture, those
 * before its vendor's; among equals the nearest shape in log space wins. An entry serves within
 * an octave of its shape and where the implementation guesses the same as for it. One measured on
 * other kernel source is stale: reported once, never used. A file that does not parse is
 * reported and ignored whole.
 */
#ifndef CLAT_TUNING_H
#define CLAT_TUNING_H

#include "op.h"
#include "program.h"

enum tuned_rank { TUNED_DEVICE, TUNED_ARCHITECTURE, TUNED_VENDOR };

struct tuned_entry {
    char op[32], implementation[32];
    struct shape shape; /* dim names point into the entry's own storage */
    char dim_names[OP_MAX_DIMS][16];
    char tunables[192];   /* "MR=12 NV=2" */
    char guess[192];      /* what the implementation guessed for the shape, or "" */
    uint64_t source_hash; /* program_source_hash of the implementation's file */
    double gflops;
    char date[16];    /* "2026-01-31" of the measurement, or "" */
    char driver[128]; /* it was measured with */
    enum tuned_rank rank;
    char origin[192]; /* file, for people */
    bool shipped;     /* with the library: never written to the user's file */
    bool stale_noted;
    unsigned unsaved; /* the generation that brought it; 0 once it is in the file */
};

/* A plain assignment would leave the dim names pointing into `entry`. */
void tuned_entry_copy(struct tuned_entry *out, const struct tuned_entry *entry);

struct tuning {
    struct device *device;
    struct program_store *programs;
    const struct logger *log;
    char *file; /* where to save; NULL: nowhere */
    pthread_mutex_t lock;
    struct tuned_entry *entries;
    size_t count, capacity;
    unsigned
        generation; /* grows with each tuning_put: cached plans of an older one are not reused */
};

/* `file` as in clat_context_options.tuned_file. Loads that, then the shipped files found beside the
 * kernels (`tuned/` in each kernel directory, then embedded). Never fails because of a file. */
clat_status tuning_open(struct tuning *tuning, struct device *device,
                        struct program_store *programs, const char *file, const struct logger *log);
void tuning_close(struct tuning *tuning); /* fine after a failed open, or on zeroes */

/* "" for NULL. */
const char *tuning_file(const struct tuning *tuning);
size_t tuning_count(struct tuning *tuning);
unsigned tuning_generation(struct tuning *tuning);

/*
 * The best entry for `shape` of operation `op` that is fresh and that `accept` takes (the plan
 * checks support and legality there); copied to *out, with `out->origin` saying the distance.
 * `accept` is called without the lock. false: none.
 */
bool tuning_find(struct tuning *tuning, const char *op, const struct shape *shape,
                 bool (*accept)(void *user, const struct tuned_entry *entry), void *user,
                 struct tuned_entry *out);

/* For `accept`: the entry was measured on other kernel source. Logged once for each entry. */
void tuning_note_stale(struct tuning *tuning, const struct tuned_entry *entry);

/* Adds an entry of TUNED_DEVICE rank, replacing the one of equal op, implementation, variant and
 * shape. Fills in driver, date, rank and origin. */
clat_status tuning_put(struct tuning *tuning, const struct tuned_entry *entry);

/* Merges what was put since the last save into the file and rewrites it atomically; what other
 * processes added meanwhile stays. A file that is malformed or another device's is kept beside it
 * with the suffix ".old". NOT_FOUND when there is no file to write. IO_ERROR. */
clat_status tuning_save(struct tuning *tuning);

#endif
