#include "source.h"

#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

static bool is_directory(const char *path) {
    struct stat info;
    return stat(path, &info) == 0 && S_ISDIR(info.st_mode);
}

void source_directories(char *directory[3], const char *kernel_dir, const struct logger *log) {
#ifdef CLATTICE_INSTALLED_KERNELS
    const char *installed = CLATTICE_INSTALLED_KERNELS;
#else
    const char *installed = NULL;
#endif
    const char *const wanted[3] = {getenv("CLATTICE_KERNEL_DIR"), kernel_dir, installed};
    for (int i = 0; i < 3; i++) {
        directory[i] = NULL;
        if (wanted[i] == NULL || wanted[i][0] == '\0')
            continue;
        /* Absolute, so that a later chdir does not change what is read. */
        directory[i] = realpath(wanted[i], NULL);
        if (directory[i] != NULL && is_directory(directory[i]))
            continue;
        if (wanted[i] != installed)
            log_printf(log, CLAT_LOG_WARNING, "kernel directory %s ignored: not a directory",
                       wanted[i]);
        free(directory[i]);
        directory[i] = NULL;
    }
}

/* ---------------------------------------------------------------- one file ----------------- */

static const struct embedded_file *embedded_find(const char *name) {
    for (const struct embedded_file *file = embedded_kernels; file->name != NULL; file++)
        if (strcmp(file->name, name) == 0)
            return file;
    return NULL;
}

static clat_status no_such_file(char *const directory[3], const char *name, const char *from) {
    struct text where = {0};
    for (int i = 0; i < 3; i++)
        if (directory[i] != NULL)
            text_printf(&where, "%s, ", directory[i]);
    const clat_status st = status_fail(
        CLAT_NOT_FOUND, "kernel file %s%s%s does not exist (looked in %sthe library)", name,
        from != NULL ? ", included at " : "", from != NULL ? from : "", text_string(&where));
    text_free(&where);
    return st;
}

/* `from`: who includes it, or NULL. */
static clat_status read_file(struct text *out, char *const directory[3], const char *name,
                             const char *from) {
    for (int i = 0; i < 3; i++) {
        if (directory[i] == NULL)
            continue;
        char *path = text_format("%s/%s", directory[i], name);
        if (path == NULL)
            return status_no_memory(strlen(directory[i]) + strlen(name) + 2);
        /* Asked first, so that looking further leaves no error sentence behind. */
        const bool exists = access(path, F_OK) == 0;
        const clat_status st = exists ? text_read_file(out, path) : CLAT_OK;
        free(path);
        if (exists)
            return st;
    }
    const struct embedded_file *file = embedded_find(name);
    if (file == NULL)
        return no_such_file(directory, name, from);
    text_append(out, file->data, file->size);
    return text_check(out);
}

/* ---------------------------------------------------------------- includes ----------------- */

struct expansion {
    struct text *out;
    char *const *directory;
    struct text seen; /* "name" "name" ...: files already in the program */
};

static size_t skip_blanks(const char *line, size_t at) {
    return at + strspn(line + at, " \t");
}

/* The name in a line `#include "name"`, not terminated; NULL for any other line. */
static const char *included_name(const char *line, size_t *length) {
    static const char word[] = "include";
    size_t at = skip_blanks(line, 0);
    if (line[at] != '#')
        return NULL;
    at = skip_blanks(line, at + 1);
    if (strncmp(line + at, word, sizeof word - 1) != 0)
        return NULL;
    at = skip_blanks(line, at + sizeof word - 1);
    if (line[at] != '"')
        return NULL;
    const char *name = line + at + 1;
    *length = strcspn(name, "\"\n");
    return *length > 0 && name[*length] == '"' ? name : NULL;
}

static clat_status expand(struct expansion *expansion, const char *name, const char *from);

/* Replaces the line `number` of `file`, unless the named file is in the program already. */
static clat_status expand_include(struct expansion *expansion, const char *name, size_t length,
                                  const char *file, size_t number) {
    clat_status st = CLAT_OK;
    char *quoted = text_format("\"%.*s\"", (int)length, name);
    char *own = text_format("%.*s", (int)length, name);
    char *from = text_format("%s:%zu", file, number);
    if (quoted == NULL || own == NULL || from == NULL)
        TRY(status_no_memory(length + 3));
    if (strstr(text_string(&expansion->seen), quoted) == NULL) {
        TRY(expand(expansion, own, from));
        text_printf(expansion->out, "#line %zu \"%s\"\n", number + 1, file);
    } else {
        text_append(expansion->out, "\n", 1);
    }
out:
    free(quoted);
    free(own);
    free(from);
    return st;
}

static clat_status expand(struct expansion *expansion, const char *name, const char *from) {
    clat_status st = CLAT_OK;
    struct text file = {0};
    TRY(read_file(&file, expansion->directory, name, from));
    text_printf(&expansion->seen, "\"%s\"", name);
    TRY(text_check(&expansion->seen));
    text_printf(expansion->out, "#line 1 \"%s\"\n", name);
    const char *line = text_string(&file);
    for (size_t number = 1; *line != '\0'; number++) {
        const size_t length = strcspn(line, "\n");
        size_t name_length = 0;
        const char *included = included_name(line, &name_length);
        if (included != NULL) {
            TRY(expand_include(expansion, included, name_length, name, number));
        } else {
            text_append(expansion->out, line, length);
            text_append(expansion->out, "\n", 1);
        }
        line += length + (line[length] == '\n');
    }
    st = text_check(expansion->out);
out:
    text_free(&file);
    return st;
}

clat_status source_read(struct text *out, char *const directory[3], const char *name) {
    struct expansion expansion = {.out = out, .directory = directory};
    const clat_status st = expand(&expansion, name, NULL);
    text_free(&expansion.seen);
    return st;
}

/* ---------------------------------------------------------------- the program -------------- */

clat_status source_assemble(struct source *source, char *const directory[3],
                            const struct program_request *request) {
    clat_status st = CLAT_OK;
    *source = (struct source){0};
    text_printf(&source->part[SOURCE_DEFINES], "#line 1 \"defines\"\n%s\n", request->defines);
    text_printf(&source->part[SOURCE_SNIPPET], "#line 1 \"snippet\"\n%s\n",
                request->snippet != NULL ? request->snippet : "");
    TRY(text_check(&source->part[SOURCE_DEFINES]));
    TRY(text_check(&source->part[SOURCE_SNIPPET]));
    st = source_read(&source->part[SOURCE_FILE], directory, request->source);
out:
    if (st != CLAT_OK)
        source_free(source);
    return st;
}

void source_free(struct source *source) {
    for (int i = 0; i < SOURCE_PARTS; i++)
        text_free(&source->part[i]);
}

/* ---------------------------------------------------------------- lines in logs ------------ */

struct location {
    const char *name; /* not terminated */
    size_t name_length, line;
};

/* Reads `#line 12 "name"`: where the next line is. */
static bool read_directive(struct location *next, const char *line) {
    static const char word[] = "#line ";
    if (strncmp(line, word, sizeof word - 1) != 0)
        return false;
    char *quote = NULL;
    const unsigned long number = strtoul(line + sizeof word - 1, &quote, 10);
    if (strncmp(quote, " \"", 2) != 0)
        return false;
    *next = (struct location){quote + 2, strcspn(quote + 2, "\"\n"), number};
    return true;
}

/* Where line `number` of all parts together comes from; a NULL name when there is no such line. */
static struct location locate(const struct source *source, size_t number) {
    struct location at = {0};
    size_t count = 0;
    for (int i = 0; i < SOURCE_PARTS; i++) {
        const char *line = text_string(&source->part[i]);
        while (*line != '\0') {
            const bool directive = read_directive(&at, line);
            if (++count == number)
                return at;
            at.line += !directive;
            line += strcspn(line, "\n");
            line += *line == '\n';
        }
    }
    return (struct location){0};
}

void source_name_lines(struct text *out, const struct source *source, const char *log) {
    static const char mark[] = "<kernel>:";
    const char *found;
    while ((found = strstr(log, mark)) != NULL) {
        char *end = NULL;
        const struct location at = locate(source, strtoul(found + sizeof mark - 1, &end, 10));
        text_append(out, log, (size_t)(found - log));
        if (at.name != NULL)
            text_printf(out, "%.*s:%zu", (int)at.name_length, at.name, at.line);
        else
            text_append(out, found, (size_t)(end - found));
        log = end;
    }
    text_append(out, log, strlen(log));
}
