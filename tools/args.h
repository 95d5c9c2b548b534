/* Command lines as tables: a row says an option's name, where its value goes, and its help. */
#ifndef ARGS_H
#define ARGS_H

#include "tool.h"

enum arg_kind {
    ARG_FLAG,   /* bool */
    ARG_STRING, /* const char *; borrowed from argv */
    ARG_SIZE,   /* size_t */
    ARG_NUMBER, /* double, not negative */
    ARG_WORD    /* int: index of the word in `words` */
};

struct arg {
    const char *name; /* without "--" */
    enum arg_kind kind;
    void *target;
    const char *value; /* "FILE", for the help; NULL for flags */
    const char *help;
    const char *const *words; /* ARG_WORD */
    size_t n_words;
    bool *given; /* set when the option occurs; may be NULL */
};

enum { ARGS_MAX = 40, ARGS_GO_ON = -1 };

struct args_command {
    const char *usage;           /* "bench [OPTION]... OP|SUITE" */
    const char *about;           /* paragraph under it */
    const char *notes;           /* after the options; may be NULL */
    size_t min_words, max_words; /* positional arguments */
    const struct arg *args;      /* the command's own */
    size_t n_args;
};

/*
 * Parses argv[1..]; the common options are added to the command's own. Gives ARGS_GO_ON with the
 * positional arguments in words[] (as many as *n_words), or the exit code: help was printed, or the
 * usage was wrong and stderr knows.
 */
int args_parse(int argc, char **argv, const struct args_command *command,
               struct tool_common *common, const char *const **words, size_t *n_words);

#endif
