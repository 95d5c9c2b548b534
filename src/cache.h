/*
 * The disk cache: small files named by a 128-bit key, each with a header that proves what it is.
 * Whatever is wrong with an entry or with the directory, the answer is "not there": nothing read
 * from disk is trusted, nothing that fails here fails a caller. Safe between threads and processes:
 * entries appear by rename and are never changed.
 */
#ifndef CLAT_CACHE_H
#define CLAT_CACHE_H

#include "log.h"
#include "status.h"

struct cache; /* NULL stands for "no disk cache" everywhere below */

struct cache_key {
    uint64_t low, high;
};

/* The key of the concatenation of `count` NUL-terminated strings and the library version. */
struct cache_key cache_key_of(size_t count, const char *const *strings);

/* `dir` as in clat_context_options.cache_dir; `cap_bytes` 0: the default. Creates the directory;
 * when it cannot be used, logs a warning and gives NULL with CLAT_OK. */
clat_status cache_open(struct cache **out, const char *dir, uint64_t cap_bytes,
                       const struct logger *log);
void cache_close(struct cache *cache);

/* "" for NULL. */
const char *cache_directory(const struct cache *cache);

/* true: *data is malloc'ed and the entry's age is renewed. A damaged entry is logged and removed.
 */
bool cache_load(struct cache *cache, struct cache_key key, void **data, size_t *size);

/* Best effort. Evicts the least recently used entries above the cap. */
void cache_store(struct cache *cache, struct cache_key key, const void *data, size_t size);

/* For an entry whose content proved useless (a binary the driver refuses). */
void cache_remove(struct cache *cache, struct cache_key key);

#endif
