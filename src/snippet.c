#include "snippet.h"

#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#define XXH_INLINE_ALL
#include <xxhash.h>

struct snippet {
    struct snippet *next;
    size_t references;
    char text[];
};

/* All snippets in use: a few, as a rule. */
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static struct snippet *all;

clat_status snippet_take(struct snippet **out, const char *text) {
    const size_t length = strlen(text);
    pthread_mutex_lock(&lock);
    struct snippet *snippet = all;
    while (snippet != NULL && strcmp(snippet->text, text) != 0)
        snippet = snippet->next;
    if (snippet == NULL && (snippet = malloc(sizeof *snippet + length + 1)) != NULL) {
        snippet->next = all;
        snippet->references = 0;
        memcpy(snippet->text, text, length + 1);
        all = snippet;
    }
    if (snippet != NULL)
        snippet->references++;
    pthread_mutex_unlock(&lock);
    *out = snippet;
    return snippet != NULL ? CLAT_OK : status_no_memory(sizeof *snippet + length + 1);
}

struct snippet *snippet_retain(struct snippet *snippet) {
    if (snippet == NULL)
        return NULL;
    pthread_mutex_lock(&lock);
    snippet->references++;
    pthread_mutex_unlock(&lock);
    return snippet;
}

void snippet_release(struct snippet *snippet) {
    if (snippet == NULL)
        return;
    pthread_mutex_lock(&lock);
    const bool last = --snippet->references == 0;
    if (last) {
        struct snippet **link = &all;
        while (*link != snippet)
            link = &(*link)->next;
        *link = snippet->next;
    }
    pthread_mutex_unlock(&lock);
    if (last)
        free(snippet);
}

uint32_t snippet_number(const struct snippet *snippet) {
    return (uint32_t)XXH3_64bits(snippet->text, strlen(snippet->text));
}

const char *snippet_text(const struct snippet *snippet) {
    return snippet->text;
}
