/*
 * clattice: transformer arithmetic on any OpenCL device.
 *
 * This header is the manual. It goes from simple to explicit:
 *
 *   1. status and errors
 *   2. types and context          one context per device, shared by all threads
 *   3. one call                   clat_sgemm, clat_gemm, clat_attention
 *   4. plan, then run             compile once, enqueue many times
 *   5. masks                      which keys a query sees
 *   6. operators                  GEMM, attention, multi-head attention
 *   7. tuning and measuring
 *
 * Conventions
 *   - Sizes, strides and offsets count elements, not bytes, unless the name says `bytes`.
 *   - Problems and options are plain structs. Start from the *_INIT macro, set what differs. The
 *     macros are designated initialisers: C99, or C++20. Older C++: start from `= {}`, set
 *     also what the macro sets.
 *     Strings and arrays in them are copied; nothing is kept after the call returns.
 *   - Outputs come first. A failed call leaves its outputs NULL and the context usable.
 *   - Every function may be called from any thread unless it says otherwise; a context, a plan and
 *     a mask may be shared between threads. A command queue is as thread-safe as OpenCL makes it.
 *   - `_run` functions only enqueue: they never wait, compile, or copy to the host, and after a
 *     few calls they allocate nothing. Buffers belong to the caller and must live until the
 *     commands have finished, as with clEnqueueNDRangeKernel.
 *   - Wait lists and events behave as in clEnqueueNDRangeKernel; `event` may be NULL.
 */
#ifndef CLATTICE_CLATTICE_H
#define CLATTICE_CLATTICE_H

#ifndef CL_TARGET_OPENCL_VERSION
#define CL_TARGET_OPENCL_VERSION 120
#endif
#include <CL/cl.h>

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

#define CLAT_VERSION_MAJOR 0
#define CLAT_VERSION_MINOR 1
#define CLAT_VERSION_PATCH 0

#if defined(__GNUC__)
#define CLAT_API __attribute__((visibility("default")))
#else
#define CLAT_API
#endif

/* "0.1.0": the version of the library that is linked, not of this header. Static storage. */
CLAT_API const char *clat_version(void);

/* ------------------------------------------------------------------ 1. status and errors ---- */

/* X(name, value, meaning). Values are stable: new ones are appended. */
#define CLAT_STATUS_MAP(X)                                                                         \
    X(OK, 0, "success")                                                                            \
    X(INVALID_ARGUMENT, 1, "a pointer is NULL or an enumerator is out of range")                   \
    X(INVALID_DEVICE, 2, "no such device")                                                         \
    X(INVALID_CONTEXT, 3, "a buffer, queue, mask or plan belongs to another context")              \
    X(INVALID_SIZE, 4, "a size is out of range or its product overflows")                          \
    X(INVALID_STRIDE, 5, "a leading dimension or stride is too small")                             \
    X(INVALID_TYPE, 6, "an element type is not accepted here")                                     \
    X(INVALID_BUFFER, 7, "a buffer is missing or too short")                                       \
    X(INVALID_OVERLAP, 8, "an output overlaps an input, another output or itself")                 \
    X(INVALID_MASK, 9, "a mask is malformed or does not fit the problem")                          \
    X(INVALID_PLAN, 10, "a plan was made for another operator")                                    \
    X(INVALID_TUNABLES, 11, "unknown tunables, or values not legal for this problem and device")   \
    X(INVALID_FILE, 12, "a file is malformed, stale, or for another device")                       \
    X(UNSUPPORTED, 13, "legal, but no implementation on this device runs it")                      \
    X(NOT_FOUND, 14, "a named thing does not exist")                                               \
    X(IO_ERROR, 15, "a file or directory could not be read or written")                            \
    X(OUT_OF_MEMORY, 16, "host or device memory is exhausted")                                     \
    X(BUILD_FAILED, 17, "a kernel did not compile")                                                \
    X(OPENCL_ERROR, 18, "an OpenCL call failed")                                                   \
    X(CANCELLED, 19, "a callback asked to stop")                                                   \
    X(WRONG_RESULT, 20, "a device computed a result outside its error bound")

typedef enum clat_status {
#define CLAT_STATUS_ENUM(name, value, meaning) CLAT_##name = value,
    CLAT_STATUS_MAP(CLAT_STATUS_ENUM)
#undef CLAT_STATUS_ENUM
} clat_status;

/* "CLAT_INVALID_SIZE". Static storage; "CLAT_UNKNOWN" for a value that is not a status. */
CLAT_API const char *clat_status_name(clat_status status);

/* "a size is out of range or its product overflows". Static storage. */
CLAT_API const char *clat_status_meaning(clat_status status);

/*
 * The sentence for the last call of the calling thread that returned a clat_status: it names the
 * argument at fault, or the OpenCL call with its code, or holds the compiler's log. "" after a call
 * that succeeded. Valid until the thread's next call that returns a clat_status; accessors and
 * releases leave it alone. Works before any context exists.
 */
CLAT_API const char *clat_error_text(void);

/* The OpenCL code behind the failure of the calling thread's last call: always with
 * CLAT_OPENCL_ERROR and CLAT_BUILD_FAILED, with CLAT_OUT_OF_MEMORY where OpenCL ran out of it. Else
 * CL_SUCCESS. */
CLAT_API cl_int clat_error_cl(void);

/* ------------------------------------------------------------------ 2. types and context ---- */

/* Element types. f16 (IEEE binary16) and bf16 are storage on every device, computed in f32, and
 * native where an implementation says so. f64 is for GEMM on devices that have it. */
typedef enum clat_dtype {
    CLAT_DTYPE_DEFAULT = 0, /* where a field allows it: the same as the inputs */
    CLAT_F32 = 1,
    CLAT_F64 = 2,
    CLAT_F16 = 3,
    CLAT_BF16 = 4
} clat_dtype;

/*
 * How operands are multiplied. NATIVE permits a device's own instructions for the stored type, and
 * in GEMM those that cut f32 to tf32, where an implementation has them, and changes nothing
 * elsewhere; the plan's explanation says what it uses. Sums are f32 either way. Instructions whose
 * products are as exact as f32's, those of 16-bit elements on matrix engines, need no permission.
 * docs/numerics.md has the error bounds.
 */
typedef enum clat_precision {
    CLAT_PRECISION_F32 = 0,   /* operands are widened, products and sums are f32 */
    CLAT_PRECISION_NATIVE = 1 /* also: denormal operands may count as 0; GEMM in f32 may cut its
                                 operands to tf32, which keeps 10 bits of the fraction; and
                                 attention in f16 and bf16 may round its weights to that type before
                                 they multiply V, and take exponentials that are off by 2^-13
                                 relatively: so logsumexp by 2^-13 */
} clat_precision;

/* Bytes of one element; 0 for a value that is not a type. */
CLAT_API size_t clat_dtype_bytes(clat_dtype dtype);

/* "f32", "f64", "f16", "bf16". Static storage. */
CLAT_API const char *clat_dtype_name(clat_dtype dtype);

typedef struct clat_context clat_context; /* a device, its programs, tuned values and plans */
typedef struct clat_plan clat_plan;       /* a compiled operation; immutable */
typedef struct clat_mask clat_mask;       /* an attention mask; immutable */

typedef enum clat_log_level { CLAT_LOG_DEBUG, CLAT_LOG_INFO, CLAT_LOG_WARNING } clat_log_level;

/* Called with one line, without newline, from any thread that uses the context; never while the
 * library holds a lock. It must not call the library. */
typedef void (*clat_log_fn)(void *user, clat_log_level level, const char *line);

typedef struct clat_context_options {
    const char *device;     /* index, or part of a device or platform name, any case. NULL: the
                               environment's CLATTICE_DEVICE, else the first GPU, else the first
                               device that answers. Only for clat_context_create. */
    const char *kernel_dir; /* where `.cl` files are looked up first after CLATTICE_KERNEL_DIR;
                               then the installed directory, then the copy in the library */
    const char *cache_dir;  /* compiled programs and probe verdicts. NULL: CLATTICE_CACHE_DIR, else
                               $XDG_CACHE_HOME/clattice, else ~/.cache/clattice. "": no disk cache */
    uint64_t cache_bytes;   /* size cap of that directory; least recently used goes first.
                               0: 256 MiB */
    const char *tuned_file; /* tuned values to load and save. NULL: CLATTICE_TUNED_FILE, else
                               $XDG_DATA_HOME/clattice/tuned/<device>.json, else
                               ~/.local/share/clattice/...; shipped files come after it.
                               "": use guesses only, load nothing, save nothing */
    clat_log_fn log;        /* NULL: silent */
    void *log_user;
} clat_context_options;

#define CLAT_CONTEXT_OPTIONS_INIT                                                                  \
    { 0 }

/*
 * Creates a context on a device of the library's choice. `options` may be NULL.
 * An unusable cache directory or tuned file is logged and ignored, never an error.
 * Errors: INVALID_ARGUMENT, INVALID_DEVICE (the sentence lists the devices), OPENCL_ERROR,
 * OUT_OF_MEMORY.
 */
CLAT_API clat_status clat_context_create(clat_context **out, const clat_context_options *options);

/*
 * The same on the caller's OpenCL context and one of its devices; both are retained.
 * Errors: as above; INVALID_DEVICE when `device` is not in `cl`.
 */
CLAT_API clat_status clat_context_create_with(clat_context **out, cl_context cl,
                                              cl_device_id device,
                                              const clat_context_options *options);

/* Gives the handle up; NULL is fine. Plans and masks made from it stay usable until their own
 * release. On PoCL, when the last of the process's contexts and its plans are gone, up to four
 * programs that this last context compiled and ran go to the disk cache, which takes about as long
 * as compiling their kernels did; later processes find them there. */
CLAT_API void clat_context_release(clat_context *ctx);

/* The OpenCL objects of the context: borrowed, retain them to keep them. */
CLAT_API cl_context clat_context_cl(const clat_context *ctx);
CLAT_API cl_device_id clat_context_device(const clat_context *ctx);

/* What the library knows of the device. Strings live as long as the context. */
typedef struct clat_device_info {
    const char *name;         /* as the driver tells it */
    const char *vendor;       /* "nvidia", "amd", "intel", "pocl", "mesa", "other" */
    const char *architecture; /* what code is tuned for: "sm_90", "skylake-avx512", ... */
    const char *driver;       /* driver version */
    const char *platform;     /* platform name and version */
    bool is_cpu;
    unsigned compute_units;
    uint64_t global_bytes, local_bytes;
    bool f64; /* proven by running a probe, like the next */
    bool f16_arithmetic;
    bool bf16_dot;             /* native dot products of bf16 that beat f32, for
                                  CLAT_PRECISION_NATIVE */
    bool bf16_tile;            /* the CPU has products of bf16 tiles (AMX), for the same. The first
                                  plan for bf16 in native precision makes this process a user of
                                  them: on Linux that needs the kernel's permission, which stays for
                                  the life of the process, makes signal frames 8 KB larger, and lets
                                  sigaltstack refuse stacks too small for that */
    const char *matrix_engine; /* what multiplies f16: "nv_sm80", "amd_mfma", ... (cl/mma/), proven
                                  too; "" when there is none */
    bool wgmma;                /* Hopper's warpgroup products and tensor maps work beside it */
    uint64_t static_local_bytes; /* what arrays declared in a kernel may take: local_bytes, or more
                                    where the driver says too little */
    const char *cache_dir;       /* "" when there is no disk cache */
    const char *tuned_file;      /* "" when there is none */
    size_t tuned_entries;        /* usable tuned values loaded, shipped ones included */
    const char *kernel_dir; /* where kernels come from; "embedded" for the library's own copy */
} clat_device_info;

/* Fills `*out`. Runs probes on first use. Errors: INVALID_ARGUMENT. */
CLAT_API clat_status clat_context_info(const clat_context *ctx, clat_device_info *out);

/* ------------------------------------------------------------------ 3. one call ------------- */

typedef enum clat_layout { CLAT_ROW_MAJOR = 0, CLAT_COL_MAJOR = 1 } clat_layout;
typedef enum clat_transpose { CLAT_NO_TRANS = 0, CLAT_TRANS = 1 } clat_transpose;

/*
 * C = alpha op(A) op(B) + beta C in f32, as in BLAS: op(A) is m x k, op(B) k x n, C m x n.
 * Offsets and leading dimensions in elements, 0 as leading dimension: tight. The plan behind it is
 * cached in the context, so only the first call of a problem compiles. Errors: those of
 * clat_gemm_plan and clat_gemm_run.
 *
 *     clat_sgemm(ctx, queue, CLAT_ROW_MAJOR, CLAT_NO_TRANS, CLAT_NO_TRANS, m, n, k,
 *                1.0f, a, 0, k, b, 0, n, 0.0f, c, 0, n, 0, NULL, NULL);
 */
CLAT_API clat_status clat_sgemm(clat_context *ctx, cl_command_queue queue, clat_layout layout,
                                clat_transpose trans_a, clat_transpose trans_b, size_t m, size_t n,
                                size_t k, float alpha, cl_mem a, size_t a_offset, size_t lda,
                                cl_mem b, size_t b_offset, size_t ldb, float beta, cl_mem c,
                                size_t c_offset, size_t ldc, cl_uint n_wait,
                                const cl_event *wait_list, cl_event *event);

/* The same in f64. Errors: also UNSUPPORTED where the device has no f64. */
CLAT_API clat_status clat_dgemm(clat_context *ctx, cl_command_queue queue, clat_layout layout,
                                clat_transpose trans_a, clat_transpose trans_b, size_t m, size_t n,
                                size_t k, double alpha, cl_mem a, size_t a_offset, size_t lda,
                                cl_mem b, size_t b_offset, size_t ldb, double beta, cl_mem c,
                                size_t c_offset, size_t ldc, cl_uint n_wait,
                                const cl_event *wait_list, cl_event *event);

/* ------------------------------------------------------------------ 4. plan, then run ------- */

/*
 * A plan is a problem compiled for one device: implementation chosen, tunables looked up, programs
 * built, workspace stated. Making one may take a second the first time and milliseconds once the
 * program is cached. Identical GEMM and attention problems share one plan. Release it with
 * clat_plan_release; it keeps what it needs of its context and mask alive.
 */
typedef struct clat_plan_info {
    const char *op;             /* "gemm", "attention", "mha" */
    const char *implementation; /* "cpu", "cpu_dot", "cpu_tile", "decode", "decode_simt", "mma",
                                   "simt", "wgmma"; "none" for a zero-sized problem; "composite" for
                                   a plan made of others */
    const char *tunables;       /* "MR=12 NV=2 KC=384" */
    const char *tunables_from;  /* "caller", "guess", the tuned file and its entry, or
                                   "parts" */
    bool tuned;                 /* the values were measured on this device for this very size */
    const char *problem;        /* "f32 row NT m=1024 n=1024 k=1024" */
    const char *explanation;    /* several lines: what was chosen, and why each other was not */
    size_t workspace_bytes;
    double flops; /* floating-point operations of one run (visible part of a mask) */
} clat_plan_info;

/* Borrowed from the plan, valid until its release. NULL for NULL. */
CLAT_API const clat_plan_info *clat_plan_get_info(const clat_plan *plan);

/* Gives the plan up; NULL is fine. Commands already enqueued are not disturbed. */
CLAT_API void clat_plan_release(clat_plan *plan);

/* ------------------------------------------------------------------ 5. masks ---------------- */

/*
 * A mask says which key positions j each query position i may see. It is made of terms, joined
 * by clat_mask_all (every term must allow), clat_mask_any (one is enough) and clat_mask_not, and is
 * compiled into lists of tiles when a plan is made: full tiles run without tests, empty ones cost
 * nothing. Causal, window, and their clat_mask_all keep no list at all.
 *
 *     clat_mask *window = NULL, *global = NULL, *longformer = NULL;
 *     clat_mask_window(&window, 128, 128);
 *     clat_mask_global(&global, 16);
 *     clat_mask_any(&longformer, 2, (const clat_mask *[]){window, global});
 *
 * A prefix LM is any(causal, keys(0, prefix)); keys behind a sequence's end are hidden by all(...,
 * keys(0, length)); packed documents, each causal in itself, are all(documents, causal).
 *
 * Masks are independent of device and context. Each out-parameter is a new handle to release with
 * clat_mask_release. Errors of all constructors: INVALID_ARGUMENT, INVALID_MASK, OUT_OF_MEMORY.
 * A query that sees no key gives O = 0 and logsumexp = -infinity.
 */
typedef enum clat_causal {
    CLAT_CAUSAL_TOP_LEFT = 0,    /* j <= i */
    CLAT_CAUSAL_BOTTOM_RIGHT = 1 /* j <= i + seq_k - seq_q: the last query sees every key */
} clat_causal;

#define CLAT_UNBOUNDED INT64_MAX

CLAT_API clat_status clat_mask_causal(clat_mask **out, clat_causal alignment);

/* i - left <= j <= i + right; either side 0 .. CLAT_UNBOUNDED. Top-left aligned. */
CLAT_API clat_status clat_mask_window(clat_mask **out, int64_t left, int64_t right);

/* i < count or j < count: the first `count` positions see all and are seen by all (Longformer,
 * Beltagy et al. 2020, symmetric global attention with shared projections). */
CLAT_API clat_status clat_mask_global(clat_mask **out, int64_t count);

/* first <= i < end: these queries see all keys, the others none; and first <= j < end: all queries
 * see these keys and no others. 0 <= first <= end; end up to CLAT_UNBOUNDED. */
CLAT_API clat_status clat_mask_queries(clat_mask **out, int64_t first, int64_t end);
CLAT_API clat_status clat_mask_keys(clat_mask **out, int64_t first, int64_t end);

/* first <= i mod period < end, and first <= j mod period < end, with 0 <= first <= end <= period <=
 * 2^30: of each period the same queries see all keys, or the same keys are seen by all. Fixed
 * attention (Sparse Transformer) is all of causal and any of documents of one period each and the
 * last keys of every period. A plan requires at most 2^30 such positions. */
CLAT_API clat_status clat_mask_periodic_queries(clat_mask **out, int64_t period, int64_t first,
                                                int64_t end);
CLAT_API clat_status clat_mask_periodic_keys(clat_mask **out, int64_t period, int64_t first,
                                             int64_t end);

/* (i - j) mod step = offset, 0 <= offset < step <= 2^30: every step-th diagonal. A dilated window
 * is all(window, stride), a strided one (Sparse Transformer, Child et al. 2019) any of a window and
 * a stride, all of that and causal. A plan requires seq_q + seq_k + step <= 2^30. */
CLAT_API clat_status clat_mask_stride(clat_mask **out, int64_t step, int64_t offset);

/* i - j is one of `count` distances, which ascend and are less than 2^30 either way: single
 * diagonals, as the powers of two of LogSparse (Li et al. 2019). Host array, copied. */
CLAT_API clat_status clat_mask_distances(clat_mask **out, size_t count, const int64_t *distances);

/* first[j] <= i < end[j]: each key is seen by an interval of queries (FlashMask, Wang et al. 2024,
 * whose intervals are hidden ones: clat_mask_not). `count` keys, which a plan requires to be seq_k.
 * Host arrays, copied. */
CLAT_API clat_status clat_mask_key_intervals(clat_mask **out, uint32_t count, const uint32_t *first,
                                             const uint32_t *end);

/*
 * Documents packed one after the other: a query sees the keys of its own. Document d has queries
 * q_starts[d] .. q_starts[d+1] - 1 and keys k_starts[d] .. k_starts[d+1] - 1, where it may have
 * none; `count` documents, at least one, and count + 1 entries, which begin with 0 and do not
 * descend. A plan requires the last ones to be seq_q and seq_k. Host arrays, copied.
 */
CLAT_API clat_status clat_mask_documents(clat_mask **out, uint32_t count, const uint32_t *q_starts,
                                         const uint32_t *k_starts);

/*
 * Block-sparse in CSR form: the block of `block_rows` queries x `block_cols` keys at (r, c) is
 * visible when c is listed in col_idx[row_ptr[r] .. row_ptr[r+1]). Per head: `heads` such lists one
 * after the other (heads = 1: one list for all); `row_ptr` holds heads * n_rows + 1 entries running
 * through all of them, `col_idx` row_ptr[last] entries. Columns ascend strictly in each row. Blocks
 * of 1 .. 1024 a side; a plan requires n_rows = ceil(seq_q / block_rows) and n_cols =
 * ceil(seq_k / block_cols), the last ones may be cut off by the sequence end. Host arrays, copied.
 */
CLAT_API clat_status clat_mask_block_csr(clat_mask **out, uint32_t block_rows, uint32_t block_cols,
                                         uint32_t n_rows, uint32_t n_cols, uint32_t heads,
                                         const uint32_t *row_ptr, const uint32_t *col_idx);

/*
 * BigBird (Zaheer et al. 2020) in blocks of `block` x `block`: the `window` blocks around the
 * diagonal, an odd number; the first and the last block row and column; and in every other row
 * `random` of the blocks left, as many as there are, drawn anew for each head. Equal seeds give
 * equal masks. `block`, n_rows, n_cols and heads as in clat_mask_block_csr, which it makes; at most
 * 2^32 - 2 blocks in all.
 */
CLAT_API clat_status clat_mask_bigbird(clat_mask **out, uint32_t block, uint32_t n_rows,
                                       uint32_t n_cols, uint32_t heads, uint32_t window,
                                       uint32_t random, uint64_t seed);

/* By what a predicate's answers vary, beside query and key; or'ed. */
typedef enum clat_mask_varies { CLAT_MASK_BY_BATCH = 1, CLAT_MASK_BY_HEAD = 2 } clat_mask_varies;

/*
 * A predicate of your own: a piece of OpenCL C, statements that set `int visible`, 0 before, to
 * something else where query `query` sees key `key`. They know
 *
 *     int batch, head, query, key         of the pair; key < seq_k, query < seq_q
 *     int heads, seq_q, seq_k             of the problem; under clat_mask_by_blocks of blocks
 *     __global const uint *data           problem.mask_data elements of args.mask_data from its
 *                                         offset on, or NULL
 *
 *     "visible = key <= query + (int)data[0];"             causal with an offset that changes
 *     "visible = data[query] == data[seq_q + key];"        segment ids, in any order
 *
 * `varies`: what of batch and head the answer depends on; more makes longer lists. The text is
 * copied. Where it does not compile, plans are BUILD_FAILED, and the sentence says where as
 * mask:LINE:COLUMN. A predicate is asked anew at each run: before attention, a kernel asks it for
 * all pairs of the tiles that the other terms of the mask leave open, and lists those that are
 * full, partial or empty on the device. So join it with terms that the host knows, as a causal one.
 * The host does not know what it says: for clat_mask_visible and clat_mask_inspect it is open, and
 * what is open counts as visible, in tiles as partial.
 */
CLAT_API clat_status clat_mask_predicate(clat_mask **out, const char *code, unsigned varies);

/* The predicate of packed bits: args.mask_data has ceil(seq_k / 32) words for each query, bit
 * key % 32 of word key / 32 for each key, [batch][head][query], without the dimensions that
 * `varies` does not name. Of blocks, under clat_mask_by_blocks, what a selection may yield. */
CLAT_API clat_status clat_mask_bits(clat_mask **out, unsigned varies);

/* The predicate of lengths: a batch element has args.mask_data[batch] keys, the rest is padding. */
CLAT_API clat_status clat_mask_lengths(clat_mask **out);

/*
 * `mask` as a pattern of blocks of `block_rows` queries x `block_cols` keys, 1 .. 1024 a side:
 * query i sees key j when `mask` lets block i / block_rows see block j / block_cols. All of its
 * positions and lengths are numbers of blocks; the last blocks may be cut off. A sliding window of
 * blocks is this of a window, BigBird's pattern without random blocks this of any(window, global).
 * It serves the lengths whose blocks `mask` serves, which stays the caller's. Where tiles fit into
 * blocks, only those are partial that the end of the keys cuts off. Counts as one level.
 */
CLAT_API clat_status clat_mask_by_blocks(clat_mask **out, uint32_t block_rows, uint32_t block_cols,
                                         const clat_mask *mask);

/* Joins 1 .. 8 masks, which stay the caller's. At most 16 levels and 64 terms in all. */
CLAT_API clat_status clat_mask_all(clat_mask **out, size_t count, const clat_mask *const *masks);
CLAT_API clat_status clat_mask_any(clat_mask **out, size_t count, const clat_mask *const *masks);

/* What `mask` hides, and nothing else. Counts as one level. */
CLAT_API clat_status clat_mask_not(clat_mask **out, const clat_mask *mask);

/* Another mask for each head or group of heads: head h has masks[of_head[h]]. `count` is 1 .. 8,
 * of_head has `heads` entries and is copied; a plan requires that many heads. Longformer's dilation
 * in some heads is this of a window and a dilated one. Counts as one level. */
CLAT_API clat_status clat_mask_heads(clat_mask **out, uint32_t heads, const uint32_t *of_head,
                                     size_t count, const clat_mask *const *masks);

/* Whether query i of `seq_q` sees key j of `seq_k` in head `head`. A NULL mask hides nothing; an
 * index out of range is hidden. */
CLAT_API bool clat_mask_visible(const clat_mask *mask, int64_t seq_q, int64_t seq_k, int64_t head,
                                int64_t i, int64_t j);

/*
 * What a mask comes to for kernels with tiles of tile_q queries x tile_k keys, 1 .. 2^20. `lists`:
 * 1 where all heads see the same, else heads; tile counts are of all lists. A tile that is cut off
 * by the end of the keys counts as partial: it needs a test.
 */
typedef struct clat_mask_info {
    double pairs;        /* visible (query, key) pairs, of all heads */
    size_t lists, tiles; /* tiles = lists * ceil(seq_q / tile_q) * ceil(seq_k / tile_k) */
    size_t full_tiles, partial_tiles; /* the others are empty, and are not visited */
} clat_mask_info;

typedef enum clat_tile { CLAT_TILE_EMPTY = 0, CLAT_TILE_PARTIAL = 1, CLAT_TILE_FULL = 2 } clat_tile;

/* Fills `*out` and, if it is not NULL, `map` with a clat_tile for each tile, [list][query
 * tile][key tile]. A NULL mask hides nothing. On the host, in time and memory that grow with
 * the tiles and, to count pairs, with the lengths and the blocks or intervals. Errors:
 * INVALID_ARGUMENT, INVALID_SIZE, INVALID_MASK, OUT_OF_MEMORY. */
CLAT_API clat_status clat_mask_inspect(clat_mask_info *out, const clat_mask *mask, int64_t seq_q,
                                       int64_t seq_k, int64_t heads, int64_t tile_q, int64_t tile_k,
                                       unsigned char *map);

/* NULL is fine. */
CLAT_API void clat_mask_release(clat_mask *mask);

/* ------------------------------------------------------------------ 6. operators ------------ */

/* ---- GEMM
 *
 *     C[b] = act( alpha op(A[b]) op(B[b]) + beta C[b] + bias )        b = 0 .. batch-1
 *
 * op(A) is m x k, op(B) is k x n. beta = 0 never reads C, alpha = 0 never reads A or B. Arithmetic
 * is f32 (f64 for f64), with one rounding on the way to C. Zero sizes are legal: m, n or batch = 0
 * does nothing; k = 0 gives act(beta C + bias). C must not overlap A, B or the bias.
 *
 * A leading dimension is the distance between neighbouring rows of the matrix as it is stored, in
 * column-major between neighbouring columns. A is stored as m x k, transposed as k x m; B as k x n,
 * transposed as n x k. So in row-major lda >= k, transposed lda >= m; in column-major lda >= m,
 * transposed lda >= k; likewise for B and C.
 * After: Goto and van de Geijn, "Anatomy of High-Performance Matrix Multiplication", 2008.
 */
typedef enum clat_activation {
    CLAT_ACT_NONE = 0,
    CLAT_ACT_RELU = 1, /* max(x, 0), NaN stays NaN */
    CLAT_ACT_GELU = 2, /* x Phi(x) = x/2 (1 + erf(x / sqrt 2)), not the tanh approximation */
    CLAT_ACT_SILU = 3  /* x / (1 + exp(-x)) */
} clat_activation;

typedef enum clat_bias {
    CLAT_BIAS_NONE = 0,
    CLAT_BIAS_ROW = 1,   /* m elements: one for each row of C */
    CLAT_BIAS_COLUMN = 2 /* n elements: one for each column of C */
} clat_bias;

typedef enum clat_batching {
    CLAT_BATCH_STRIDED = 0, /* matrix b starts at offset + b * stride */
    CLAT_BATCH_OFFSETS = 1  /* offset, alpha and beta of each b are read from device buffers */
} clat_batching;

typedef struct clat_gemm_problem {
    clat_layout layout;
    clat_transpose trans_a, trans_b;
    size_t m, n, k;
    size_t lda, ldb, ldc; /* see above. 0: tight */
    clat_dtype dtype;     /* A and B */
    clat_dtype dtype_c;   /* C and bias. DEFAULT: dtype. f32 is also legal for f16 and bf16 */
    size_t batch;
    clat_batching batching;
    size_t stride_a, stride_b, stride_c; /* strided: between matrices. A and B: 0 repeats the same
                                            matrix. C: 0 means tight */
    clat_bias bias;                      /* the same bias for every batch element */
    clat_activation activation;
    clat_precision precision;   /* ignored for f64 */
    const char *implementation; /* NULL: the best. "cpu", "cpu_dot", "cpu_tile", "mma", "simt",
                                   "wgmma": that one or an error */
    const char *tunables;       /* NULL: tuned values, else a guess. "MR=8 NV=2": these over the
                                   guess; requires `implementation` */
} clat_gemm_problem;

#define CLAT_GEMM_PROBLEM_INIT                                                                     \
    { .dtype = CLAT_F32, .batch = 1 }

typedef struct clat_gemm_args {
    cl_mem a, b, c;
    size_t a_offset, b_offset, c_offset; /* elements */
    double alpha, beta;                  /* strided batching; rounded to f32 unless f64 */
    cl_mem bias;                         /* when the problem has one */
    size_t bias_offset;
    /* CLAT_BATCH_OFFSETS: `batch` entries each, all five required. Offsets are cl_ulong, in
     * elements, added to those above; the caller vouches for them, they are not checked. alphas and
     * betas have the arithmetic type, f32 or f64, and stand for alpha and beta above, which are
     * ignored, as are the problem's strides. */
    cl_mem a_offsets, b_offsets, c_offsets, alphas, betas;
    /* NULL: a buffer from the context's pool. Each run gets one of its own until its last command
     * has finished, or one that an earlier command of the same in-order queue uses; so several
     * threads and queues may run one plan at once. From the ninth buffer of a size in flight on,
     * the queue waits for the oldest. The pool goes with the context and its last plan; before
     * that, idle buffers go when a larger one takes their place.
     * Else at least workspace_bytes of the plan, used by nothing else until the run has finished;
     * not looked at when that is 0. */
    cl_mem workspace;
} clat_gemm_args;

#define CLAT_GEMM_ARGS_INIT                                                                        \
    { .alpha = 1.0 }

/* Errors: INVALID_ARGUMENT, INVALID_SIZE, INVALID_STRIDE, INVALID_TYPE, INVALID_OVERLAP (matrices
 * of C overlap each other), INVALID_TUNABLES, NOT_FOUND (no such implementation), UNSUPPORTED,
 * BUILD_FAILED, IO_ERROR, OUT_OF_MEMORY, OPENCL_ERROR. */
CLAT_API clat_status clat_gemm_plan(clat_plan **out, clat_context *ctx,
                                    const clat_gemm_problem *problem);

/* Errors: INVALID_ARGUMENT, INVALID_PLAN, INVALID_CONTEXT, INVALID_BUFFER, INVALID_SIZE (an
 * offset), INVALID_OVERLAP (C with A, B or bias; not told where offsets come from lists),
 * OUT_OF_MEMORY, OPENCL_ERROR. */
CLAT_API clat_status clat_gemm_run(const clat_plan *plan, cl_command_queue queue,
                                   const clat_gemm_args *args, cl_uint n_wait,
                                   const cl_event *wait_list, cl_event *event);

/* Plan (cached in the context) and run in one call. Errors: those of both. */
CLAT_API clat_status clat_gemm(clat_context *ctx, cl_command_queue queue,
                               const clat_gemm_problem *problem, const clat_gemm_args *args,
                               cl_uint n_wait, const cl_event *wait_list, cl_event *event);

/* ---- Attention, forward
 *
 *     S[b,h,i,j] = scale * sum_d Q[b,h,i,d] K[b,h',j,d]       h' = h / (heads / kv_heads)
 *     P = softmax of S over the visible j,      O[b,h,i,:] = sum_j P[b,h,i,j] V[b,h',j,:]
 *     logsumexp[b,h,i] = log sum_j exp(S[b,h,i,j])            (natural logarithm)
 *
 * in O(seq) memory. batch, heads or seq_q = 0 does nothing; seq_k = 0 gives O = 0 and logsumexp =
 * -infinity, and K and V may be NULL. Vaswani et al. 2017; tiled with online softmax after Dao,
 * "FlashAttention-2", 2023; grouped heads after Ainslie et al. 2023.
 */

/* Of each of Q, K, V and O on its own: all zero means tight BHND. Else `feature` must not be 0,
 * unless there is one feature. A batch, head or seq stride of 0 repeats an input; O must not
 * overlap itself. */
typedef struct clat_strides {
    size_t batch, head, seq, feature; /* elements between neighbours */
} clat_strides;

/* Usual layouts. BHND: one matrix per head. BNHD: heads side by side in each token. */
#define CLAT_STRIDES_BHND(heads, seq, head_dim)                                                    \
    { (size_t)(heads) * (seq) * (head_dim), (size_t)(seq) * (head_dim), (head_dim), 1 }
#define CLAT_STRIDES_BNHD(heads, seq, head_dim)                                                    \
    { (size_t)(seq) * (heads) * (head_dim), (head_dim), (size_t)(heads) * (head_dim), 1 }

/*
 * A score modifier is a piece of OpenCL C, statements that may change `float score`, which is
 * S[b,h,i,j], of one query and one key, before the softmax. They know
 *
 *     int batch, head, query, key         b, h, i, j
 *     int heads, seq_q, seq_k             of the problem
 *     __global const float *data          `score_data` elements of args.score_data from its offset
 *                                         on, or NULL
 *
 *     "score = data[0] * tanh(score / data[0]);"        softcap (Gemma 2)
 *     "score += data[head] * (key - query);"            ALiBi (Press et al. 2022)
 *     "score += data[query - key + seq_k - 1];"         a bias by distance
 *
 * They run for visible keys, and may for hidden ones, which stay hidden whatever they say; never
 * for queries or keys that do not exist. -infinity gives a key no weight, NaN spoils its query.
 * They are the body of a function, which returns `score` in the end: they may declare variables and
 * use all built-in functions. Where they do not compile, the plan is BUILD_FAILED, and the sentence
 * says where as score:LINE:COLUMN, counted from the first character. All implementations
 * take them but "cpu_tile".
 */
typedef struct clat_attention_problem {
    clat_dtype dtype;              /* Q, K, V, O: f32, f16 or bf16. Arithmetic is f32 */
    size_t batch, heads, kv_heads; /* kv_heads divides heads; 0: heads */
    size_t seq_q, seq_k;
    size_t head_dim;          /* of Q and K, 1 .. 256 */
    size_t head_dim_v;        /* of V and O, 1 .. 256; 0: head_dim */
    clat_strides q, k, v, o;  /* all zero: BHND. Packed QKV: three views of one buffer */
    double scale;             /* 0: 1 / sqrt(head_dim). May be negative; must be finite */
    const clat_mask *mask;    /* NULL: every key is visible */
    const char *score;        /* a score modifier, as above; copied. NULL: none */
    size_t score_data;        /* elements of args.score_data that it reads */
    size_t mask_data;         /* elements of args.mask_data that the mask's predicates read */
    bool logsumexp;           /* also write it: [batch][heads][seq_q], f32, dense */
    clat_precision precision; /* f16 and bf16 only; ignored for f32 */
    const char *implementation, *tunables; /* as in clat_gemm_problem, but "cpu", "cpu_tile",
                                              "mma", "simt", "wgmma", "decode" (CPUs, at most 4
                                              queries), "decode_simt" (at most 16) */
} clat_attention_problem;

#define CLAT_ATTENTION_PROBLEM_INIT                                                                \
    { .dtype = CLAT_F32, .batch = 1, .heads = 1 }

typedef struct clat_attention_args {
    cl_mem q, k, v, o;
    size_t q_offset, k_offset, v_offset, o_offset; /* elements */
    cl_mem logsumexp;                              /* when the problem asks for it */
    size_t logsumexp_offset;
    cl_mem score_data; /* f32, where the problem says so */
    size_t score_data_offset;
    cl_mem mask_data; /* words of 32 bits, where the problem says so */
    size_t mask_data_offset;
    cl_mem workspace; /* as in clat_gemm_args */
} clat_attention_args;

#define CLAT_ATTENTION_ARGS_INIT                                                                   \
    { 0 }

/* Errors: as clat_gemm_plan, and INVALID_MASK; BUILD_FAILED also for a score modifier or a
 * predicate. */
CLAT_API clat_status clat_attention_plan(clat_plan **out, clat_context *ctx,
                                         const clat_attention_problem *problem);

/* Errors: as clat_gemm_run; O and logsumexp may overlap nothing. */
CLAT_API clat_status clat_attention_run(const clat_plan *plan, cl_command_queue queue,
                                        const clat_attention_args *args, cl_uint n_wait,
                                        const cl_event *wait_list, cl_event *event);

/* Plan (cached in the context) and run in one call. Errors: those of both. */
CLAT_API clat_status clat_attention(clat_context *ctx, cl_command_queue queue,
                                    const clat_attention_problem *problem,
                                    const clat_attention_args *args, cl_uint n_wait,
                                    const cl_event *wait_list, cl_event *event);

/* ---- Multi-head self-attention, forward
 *
 *     [q | k | v] = X Wqkv^T + bqkv      X: batch x seq x embed
 *     Y = attention(q, k, v) Wo^T + bo   Y: batch x seq x embed
 *
 * Row-major and dense. Wqkv is (heads + 2 kv_heads) head_dim x embed: all query heads, then key,
 * then value heads; Wo is embed x heads head_dim. bqkv has (heads + 2 kv_heads) head_dim elements,
 * bo has embed. All operands have the problem's type. One plan of three; needs workspace.
 * Implementations are chosen for each part, hence there are no tunables here.
 */
typedef struct clat_mha_problem {
    clat_dtype dtype; /* f32, f16 or bf16; f64 is an INVALID_TYPE */
    size_t batch, seq, embed;
    size_t heads, kv_heads, head_dim; /* kv_heads 0: heads. head_dim 0: embed / heads, which must
                                         be whole */
    double scale;                     /* as in clat_attention_problem */
    const clat_mask *mask;            /* over seq x seq; its predicates get no data. NULL: every
                                         key is visible */
    bool bias;                        /* bqkv and bo are present */
    clat_precision precision;         /* of every part; f16 and bf16 only */
    const char *implementation; /* NULL: the best for each part; else used for all parts, so one
                                   that both operators have: "cpu", "cpu_tile", "mma", "simt",
                                   "wgmma" */
} clat_mha_problem;

#define CLAT_MHA_PROBLEM_INIT                                                                      \
    { .dtype = CLAT_F32, .batch = 1, .heads = 1 }

typedef struct clat_mha_args {
    cl_mem x, w_qkv, w_o, y;
    size_t x_offset, w_qkv_offset, w_o_offset, y_offset; /* elements */
    cl_mem b_qkv, b_o;                                   /* when the problem has a bias */
    size_t b_qkv_offset, b_o_offset;
    cl_mem workspace; /* as in clat_gemm_args, for what passes between the parts. What a part needs
                         itself, such as packed operands, is from the pool in any case */
} clat_mha_args;

#define CLAT_MHA_ARGS_INIT                                                                         \
    { 0 }

/* Errors: as clat_attention_plan. */
CLAT_API clat_status clat_mha_plan(clat_plan **out, clat_context *ctx,
                                   const clat_mha_problem *problem);

/* Errors: as clat_attention_run. */
CLAT_API clat_status clat_mha_run(const clat_plan *plan, cl_command_queue queue,
                                  const clat_mha_args *args, cl_uint n_wait,
                                  const cl_event *wait_list, cl_event *event);

/* ------------------------------------------------------------------ 7. tuning and measuring - */

/*
 * A trial runs a plan on its own seeded random operands and verifies the outcome: what the tuner,
 * `clattice check` and `clattice bench` are made of, and a way to test a device in the field.
 * Outputs are poisoned with NaN and fenced by guard elements before each verified run. Not
 * thread-safe.
 */
typedef struct clat_trial clat_trial;

typedef struct clat_verdict {
    double worst;   /* largest |got - reference|, reference in f64, over the sampled outputs */
    double bound;   /* what that output's error may be: see docs/numerics.md */
    bool guards;    /* no element outside the outputs was written */
    bool ok;        /* guards, and no sampled error above its bound, and no stray NaN */
    char where[96]; /* the worst output: "c[3][17] of batch 0" */
} clat_verdict;

/* Operands are allocated and filled here; the trial keeps the plan alive. Errors: INVALID_ARGUMENT,
 * UNSUPPORTED (GEMM with lists of offsets), INVALID_SIZE, OUT_OF_MEMORY, OPENCL_ERROR. */
CLAT_API clat_status clat_trial_create(clat_trial **out, const clat_plan *plan, uint64_t seed);

/* Enqueues the trial's own plan, or another plan for the very same problem, `repeats` times, waits,
 * and gives the seconds of one. Errors: INVALID_ARGUMENT, INVALID_PLAN, and those of running. */
CLAT_API clat_status clat_trial_time(clat_trial *trial, const clat_plan *plan, unsigned repeats,
                                     double *seconds);

/* Poisons the outputs, runs once, reads back, compares with f64 on a sample of outputs (all of them
 * when the problem is small). `plan` as above; NULL: runs nothing and judges what is in the outputs
 * now, for results that someone else computed into the trial's buffers. A wrong result is not an
 * error: see verdict->ok. */
CLAT_API clat_status clat_trial_verify(clat_trial *trial, const clat_plan *plan,
                                       clat_verdict *verdict);

/* An operand by its name in the args struct ("a", "q", "logsumexp"): the buffer and the element
 * offset of its first element. Borrowed; NULL when there is no such operand. */
CLAT_API cl_mem clat_trial_buffer(const clat_trial *trial, const char *name, size_t *offset);

/* The host's copy of an input as it was uploaded, in its element type, from its first element to
 * its last, strides as in the problem. Borrowed, until the trial's release; NULL for an output. */
CLAT_API const void *clat_trial_host(const clat_trial *trial, const char *name);

/* The in-order queue the trial uses; borrowed. */
CLAT_API cl_command_queue clat_trial_queue(const clat_trial *trial);

CLAT_API void clat_trial_release(clat_trial *trial); /* NULL is fine */

/*
 * Tunes the problems of `plans` on their device within a time budget: candidates of every
 * implementation that supports the problem are verified on awkward shapes, timed, and the winners
 * re-timed side by side; then the context's tuned file is rewritten atomically and the new values
 * are used by plans made from now on. Measurements are appended to a journal beside that file as
 * they come, and an interrupted run resumes from it.
 */
typedef struct clat_tune_progress {
    const char *problem;        /* what is being tuned */
    const char *implementation; /* the candidate */
    const char *tunables;
    size_t candidate, candidates;              /* of this problem */
    size_t index, count;                       /* this problem, of how many */
    double gflops;                             /* of this candidate; 0: rejected */
    double best_gflops;                        /* so far, for this problem */
    double elapsed_seconds, remaining_seconds; /* of the whole run; an estimate */
} clat_tune_progress;

/* Return false to stop: what was found so far is kept and saved. */
typedef bool (*clat_tune_fn)(void *user, const clat_tune_progress *progress);

typedef struct clat_tune_options {
    double budget_seconds;      /* for all problems together; 0: 60. Not negative */
    const char *implementation; /* NULL: all that support the problem */
    clat_tune_fn progress;      /* NULL: none */
    void *user;
    bool dry_run; /* save nothing */
} clat_tune_options;

#define CLAT_TUNE_OPTIONS_INIT                                                                     \
    { 0 }

/* `options` may be NULL; no plans, count = 0, is nothing to do. Errors: INVALID_ARGUMENT,
 * INVALID_CONTEXT (plans of another context), CANCELLED (after saving),
 * IO_ERROR (the file could not be written; the values are in use all the same), and those of
 * planning and running. */
CLAT_API clat_status clat_tune(clat_context *ctx, size_t count, const clat_plan *const *plans,
                               const clat_tune_options *options);

#ifdef __cplusplus
}
#endif
#endif
