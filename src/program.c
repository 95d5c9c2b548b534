#include "program.h"

#include "binary.h"
#include "ptx.h"
#include "source.h"

#include <stdlib.h>
#include <string.h>
#include <strings.h>

#define XXH_INLINE_ALL
#include <xxhash.h>

enum {
    DIRECTORIES = sizeof((struct program_store *)0)->directory / sizeof(char *),
    /* Each takes as long as its kernels took to compile; the next process stores the next ones. */
    STORED_LATE = 4
};

struct program_entry {
    struct program_entry *next;
    struct cache_key key;
    cl_program program;
    bool built, used; /* from source; by a plan that ran */
};

/* Of the process, for store_used: nobody opens a store while another one is at it. */
static pthread_mutex_t stores_lock = PTHREAD_MUTEX_INITIALIZER;
static unsigned open_stores;

struct program_hash {
    struct program_hash *next;
    uint64_t value;
    char source[];
};

static void store_used(struct program_store *store);

clat_status program_store_open(struct program_store *store, cl_context cl, struct device *device,
                               struct cache *cache, const char *kernel_dir,
                               const struct logger *log) {
    *store = (struct program_store){.cl = cl, .device = device, .cache = cache, .log = log};
    store->store_late = device->vendor == VENDOR_POCL;
    source_directories(store->directory, kernel_dir, log);
    pthread_mutex_init(&store->lock, NULL);
    pthread_mutex_lock(&stores_lock);
    open_stores++;
    pthread_mutex_unlock(&stores_lock);
    return CLAT_OK;
}

/* Plain OpenCL C 1.2 is what every device takes. Nothing that relaxes arithmetic: kernels rely on
 * infinities and NaNs. Tiles for Intel's matrix instructions fill twice the registers, and what the
 * compiler cannot keep there it does not unroll either. */
const char *program_options(const struct device *device) {
    return device_has_many_registers(device) ? "-cl-std=CL1.2 -cl-intel-256-GRF-per-thread"
                                             : "-cl-std=CL1.2";
}

void program_store_close(struct program_store *store) {
    pthread_mutex_lock(&stores_lock);
    if (--open_stores == 0 && store->store_late)
        store_used(store);
    pthread_mutex_unlock(&stores_lock);
    while (store->entries != NULL) {
        struct program_entry *entry = store->entries;
        store->entries = entry->next;
        clReleaseProgram(entry->program);
        free(entry);
    }
    while (store->hashes != NULL) {
        struct program_hash *hash = store->hashes;
        store->hashes = hash->next;
        free(hash);
    }
    for (int i = 0; i < DIRECTORIES; i++)
        free(store->directory[i]);
    pthread_mutex_destroy(&store->lock);
}

const char *program_store_origin(const struct program_store *store) {
    for (int i = 0; i < DIRECTORIES; i++)
        if (store->directory[i] != NULL)
            return store->directory[i];
    return "embedded";
}

/* ---------------------------------------------------------------- in memory ---------------- */

static cl_program find_locked(const struct program_store *store, struct cache_key key) {
    for (const struct program_entry *entry = store->entries; entry != NULL; entry = entry->next)
        if (entry->key.low == key.low && entry->key.high == key.high)
            return entry->program;
    return NULL;
}

/* Retained for the caller, or NULL. */
static cl_program find(struct program_store *store, struct cache_key key) {
    pthread_mutex_lock(&store->lock);
    cl_program program = find_locked(store, key);
    if (program != NULL && clRetainProgram(program) != CL_SUCCESS)
        program = NULL;
    pthread_mutex_unlock(&store->lock);
    return program;
}

/* Keeps `program`, whose one reference is the caller's, for the next request; when another thread
 * was first, its copy replaces *program. */
static clat_status keep(struct program_store *store, struct cache_key key, cl_program *program,
                        bool built) {
    struct program_entry *entry = malloc(sizeof *entry);
    if (entry == NULL)
        return status_no_memory(sizeof *entry);
    pthread_mutex_lock(&store->lock);
    cl_program winner = find_locked(store, key);
    const clat_status st =
        status_cl(clRetainProgram(winner != NULL ? winner : *program), "clRetainProgram");
    if (st == CLAT_OK && winner == NULL) {
        *entry = (struct program_entry){store->entries, key, *program, built, false};
        store->entries = entry;
        entry = NULL;
    }
    pthread_mutex_unlock(&store->lock);
    if (st == CLAT_OK && winner != NULL) {
        clReleaseProgram(*program);
        *program = winner;
    }
    free(entry);
    return st;
}

void program_mark_used(struct program_store *store, cl_program program) {
    pthread_mutex_lock(&store->lock);
    for (struct program_entry *entry = store->entries; entry != NULL; entry = entry->next)
        entry->used |= entry->program == program;
    pthread_mutex_unlock(&store->lock);
}

void program_store_trim(struct program_store *store, unsigned kept) {
    pthread_mutex_lock(&store->lock);
    struct program_entry **link = &store->entries;
    while (kept > 0 && *link != NULL) {
        link = &(*link)->next;
        kept--;
    }
    struct program_entry *entry = *link;
    *link = NULL;
    pthread_mutex_unlock(&store->lock);
    while (entry != NULL) {
        struct program_entry *next = entry->next;
        clReleaseProgram(entry->program);
        free(entry);
        entry = next;
    }
}

/* ---------------------------------------------------------------- on disk ------------------ */

/* The program from its stored binary, built; NULL when there is none that the driver takes. */
static cl_program load_binary(struct program_store *store, struct cache_key key) {
    const cl_device_id device = store->device->id;
    void *data = NULL;
    size_t size = 0;
    if (!cache_load(store->cache, key, &data, &size))
        return NULL;
    const unsigned char *binary = data;
    cl_int binary_status = CL_SUCCESS, err = CL_SUCCESS;
    cl_program program =
        clCreateProgramWithBinary(store->cl, 1, &device, &size, &binary, &binary_status, &err);
    free(data);
    if (err == CL_SUCCESS)
        err = binary_status;
    if (err == CL_SUCCESS)
        err = clBuildProgram(program, 1, &device, program_options(store->device), NULL, NULL);
    if (err == CL_SUCCESS)
        return program;
    if (program != NULL)
        clReleaseProgram(program);
    log_printf(store->log, CLAT_LOG_INFO, "the driver refuses a stored program (%s): built anew",
               status_cl_name(err));
    cache_remove(store->cache, key);
    return NULL;
}

/* Best effort. */
static void store_binary(struct program_store *store, struct cache_key key, cl_program program) {
    size_t size = 0;
    char *binary = store->cache != NULL ? binary_read(program, store->device->id, &size) : NULL;
    if (binary != NULL)
        cache_store(store->cache, key, binary, size);
    free(binary);
}

/* Whether the store holds the last reference: no kernel of the program exists, so none is running.
 */
static bool is_idle(cl_program program) {
    cl_uint references = 0;
    return clGetProgramInfo(program, CL_PROGRAM_REFERENCE_COUNT, sizeof references, &references,
                            NULL) == CL_SUCCESS &&
           references == 1;
}

/*
 * The programs that were built here and have run, the last ones first. Asked for a binary, PoCL
 * compiles each kernel once more, for unknown work-group sizes, and enters it into a table of the
 * process in front of what is running: when that is the same kernel, it loses count and aborts. So
 * only what is idle is stored, and only when no other store of the process could run it.
 */
static void store_used(struct program_store *store) {
    unsigned stored = 0;
    for (const struct program_entry *entry = store->entries; entry != NULL && stored < STORED_LATE;
         entry = entry->next)
        if (entry->built && entry->used && is_idle(entry->program)) {
            store_binary(store, entry->key, entry->program);
            stored++;
        }
}

/* ---------------------------------------------------------------- from source -------------- */

static bool mentions_error(const char *line, size_t length) {
    static const char word[] = "error";
    for (size_t i = 0; i + sizeof word - 1 <= length; i++)
        if (strncasecmp(line + i, word, sizeof word - 1) == 0)
            return true;
    return false;
}

/* The first few lines of a log; with `errors_only`, of those that speak of an error. */
static unsigned quote_log(struct text *out, const char *log, bool errors_only) {
    enum { MAX_LINES = 4, MAX_LINE = 300 };
    unsigned lines = 0;
    while (*log != '\0' && lines < MAX_LINES) {
        const size_t length = strcspn(log, "\r\n");
        if (length > 0 && (!errors_only || mentions_error(log, length))) {
            text_printf(out, "\n%.*s", (int)(length < MAX_LINE ? length : MAX_LINE), log);
            lines++;
        }
        log += length;
        log += strspn(log, "\r\n");
    }
    return lines;
}

static void log_lines(const struct logger *logger, const char *log) {
    while (*log != '\0') {
        const size_t length = strcspn(log, "\r\n");
        if (length > 0)
            log_printf(logger, CLAT_LOG_WARNING, "%.*s", (int)length, log);
        log += length;
        log += strspn(log, "\r\n");
    }
}

/* The compiler's log, "" when there is none. */
static void read_build_log(struct text *out, const struct program_store *store, cl_program program,
                           const struct source *source) {
    const cl_device_id device = store->device->id;
    size_t bytes = 0;
    if (program == NULL ||
        clGetProgramBuildInfo(program, device, CL_PROGRAM_BUILD_LOG, 0, NULL, &bytes) != CL_SUCCESS)
        return;
    char *log = calloc(1, bytes + 1);
    if (log != NULL && clGetProgramBuildInfo(program, device, CL_PROGRAM_BUILD_LOG, bytes, log,
                                             NULL) == CL_SUCCESS)
        source_name_lines(out, source, log);
    free(log);
}

static clat_status build_failed(const struct program_store *store, cl_program program,
                                const struct source *source, const char *name, cl_int code) {
    struct text log = {0}, quote = {0};
    read_build_log(&log, store, program, source);
    log_printf(store->log, CLAT_LOG_WARNING, "%s does not build:", name);
    log_lines(store->log, text_string(&log));
    if (quote_log(&quote, text_string(&log), true) == 0)
        quote_log(&quote, text_string(&log), false);
    status_cl(code, "clBuildProgram"); /* for clat_error_cl */
    const clat_status st =
        status_fail(CLAT_BUILD_FAILED, "%s does not build (%s)%s%s", name, status_cl_name(code),
                    quote.length > 0 ? ":" : "", text_string(&quote));
    text_free(&quote);
    text_free(&log);
    return st;
}

/* What callers bring may hold a mark and mean nothing by it. */
static bool is_marked(const struct source *source) {
    return ptx_is_marked(text_string(&source->part[SOURCE_FILE]));
}

/* Replaces *program by the one in which its marked instructions are in force. */
static clat_status finish_marked(cl_program *program, const struct program_store *store,
                                 const struct source *source, const char *name) {
    cl_program finished = NULL;
    clat_status st = CLAT_OK;
    const cl_int err =
        ptx_finish(&finished, store->device, *program, program_options(store->device));
    if (err == CL_OUT_OF_HOST_MEMORY)
        TRY(status_cl(err, "clBuildProgram"));
    if (err != CL_SUCCESS)
        TRY(build_failed(store, finished, source, name, err));
    clReleaseProgram(*program);
    *program = finished;
    finished = NULL;
out:
    if (finished != NULL)
        clReleaseProgram(finished);
    return st;
}

static clat_status build(cl_program *out, const struct program_store *store,
                         const struct source *source, const char *name) {
    clat_status st = CLAT_OK;
    const char *strings[SOURCE_PARTS];
    for (int i = 0; i < SOURCE_PARTS; i++)
        strings[i] = text_string(&source->part[i]);
    cl_int err = CL_SUCCESS;
    cl_program program = clCreateProgramWithSource(store->cl, SOURCE_PARTS, strings, NULL, &err);
    TRY(status_cl(err, "clCreateProgramWithSource"));
    err =
        clBuildProgram(program, 1, &store->device->id, program_options(store->device), NULL, NULL);
    if (err == CL_OUT_OF_HOST_MEMORY)
        TRY(status_cl(err, "clBuildProgram"));
    if (err != CL_SUCCESS)
        TRY(build_failed(store, program, source, name, err));
    if (is_marked(source))
        TRY(finish_marked(&program, store, source, name));
    *out = program;
    program = NULL;
out:
    if (program != NULL)
        clReleaseProgram(program);
    return st;
}

static struct cache_key program_key(const struct device *device, const struct source *source) {
    const char *const parts[] = {"program",
                                 PTX_STEP,
                                 program_options(device),
                                 device->name,
                                 device->driver,
                                 device->platform_name,
                                 text_string(&source->part[SOURCE_DEFINES]),
                                 text_string(&source->part[SOURCE_SNIPPET]),
                                 text_string(&source->part[SOURCE_FILE])};
    return cache_key_of(sizeof parts / sizeof parts[0], parts);
}

clat_status program_get(cl_program *out, struct program_store *store,
                        const struct program_request *request) {
    clat_status st = CLAT_OK;
    struct source source = {0};
    cl_program program = NULL;
    *out = NULL;
    TRY(source_assemble(&source, store->directory, request));
    const struct cache_key key = program_key(store->device, &source);
    *out = find(store, key);
    if (*out != NULL)
        goto out;
    program = load_binary(store, key);
    const bool stored = program != NULL;
    if (!stored)
        TRY(build(&program, store, &source, request->source));
    log_printf(store->log, CLAT_LOG_DEBUG, "%s: %s", request->source,
               stored ? "loaded from the disk cache" : "built from source");
    if (!stored && !store->store_late)
        store_binary(store, key, program);
    TRY(keep(store, key, &program, !stored));
    *out = program;
    program = NULL;
out:
    if (program != NULL)
        clReleaseProgram(program);
    source_free(&source);
    return st;
}

/* ---------------------------------------------------------------- hashes of sources -------- */

static bool find_hash_locked(const struct program_store *store, const char *source, uint64_t *out) {
    for (const struct program_hash *hash = store->hashes; hash != NULL; hash = hash->next)
        if (strcmp(hash->source, source) == 0) {
            *out = hash->value;
            return true;
        }
    return false;
}

clat_status program_source_hash(uint64_t *out, struct program_store *store, const char *source) {
    clat_status st = CLAT_OK;
    struct text text = {0};
    struct program_hash *hash = NULL;
    const size_t bytes = sizeof *hash + strlen(source) + 1;
    *out = 0;
    pthread_mutex_lock(&store->lock);
    const bool known = find_hash_locked(store, source, out);
    pthread_mutex_unlock(&store->lock);
    if (known)
        return CLAT_OK;
    TRY(source_read(&text, store->directory, source));
    hash = malloc(bytes);
    if (hash == NULL)
        TRY(status_no_memory(bytes));
    strcpy(hash->source, source);
    hash->value = XXH3_64bits(text_string(&text), text.length);
    pthread_mutex_lock(&store->lock);
    if (!find_hash_locked(store, source, out)) {
        *out = hash->value;
        hash->next = store->hashes;
        store->hashes = hash;
        hash = NULL;
    }
    pthread_mutex_unlock(&store->lock);
out:
    free(hash);
    text_free(&text);
    return st;
}
