#include "args.h"

#include <getopt.h>
#include <string.h>

static size_t add_common(struct arg *table, struct tool_common *common, bool *help) {
    const struct arg rows[] = {
        {.name = "device",
         .kind = ARG_STRING,
         .target = &common->device,
         .value = "D",
         .help = "index, or part of a device or platform name"},
        {.name = "json",
         .kind = ARG_STRING,
         .target = &common->json,
         .value = "FILE",
         .help = "write the outcome as JSON; - is standard output"},
        {.name = "verbose",
         .kind = ARG_FLAG,
         .target = &common->verbose,
         .help = "show the library's log on standard error"},
        {.name = "help", .kind = ARG_FLAG, .target = help, .help = "this text"},
    };
    memcpy(table, rows, sizeof rows);
    return sizeof rows / sizeof rows[0];
}

/* In lines of a page's width, those after the first as far in as the help of all options. */
static void print_wrapped(const char *text) {
    enum { INDENT = 29, WIDTH = 96 };
    size_t column = INDENT;
    while (*text) {
        const size_t word = strcspn(text, " ");
        const bool fits = column + 1 + word <= WIDTH;
        if (column > INDENT && !fits) {
            printf("\n%*s", INDENT, "");
            column = INDENT;
        } else if (column > INDENT) {
            putchar(' ');
            column++;
        }
        printf("%.*s", (int)word, text);
        column += word;
        text += word + (text[word] == ' ');
    }
    putchar('\n');
}

static void print_help(const struct args_command *command, const struct arg *table, size_t count) {
    printf("Usage: clattice %s\n\n%s\n\nOptions:\n", command->usage, command->about);
    for (size_t i = 0; i < count; i++) {
        char left[64];
        snprintf(left, sizeof left, "--%s%s%s", table[i].name, table[i].value ? " " : "",
                 table[i].value ? table[i].value : "");
        printf("  %-26s ", left);
        print_wrapped(table[i].help);
    }
    if (command->notes)
        printf("\n%s\n", command->notes);
}

static bool bad_word(const struct arg *arg, const char *text) {
    fprintf(stderr, "clattice: --%s takes", arg->name);
    for (size_t i = 0; i < arg->n_words; i++)
        fprintf(stderr, "%s %s", i ? (i + 1 < arg->n_words ? "," : " or") : "", arg->words[i]);
    fprintf(stderr, ", not \"%s\"\n", text);
    return false;
}

static bool store(const struct arg *arg, const char *text) {
    if (arg->given)
        *arg->given = true;
    switch (arg->kind) {
    case ARG_FLAG:
        *(bool *)arg->target = true;
        return true;
    case ARG_STRING:
        *(const char **)arg->target = text;
        return true;
    case ARG_SIZE:
        return parse_size(text, arg->target) ||
               tool_error("--%s takes a whole number, not \"%s\"", arg->name, text);
    case ARG_NUMBER: {
        double value;
        if (!parse_double(text, &value) || value < 0)
            return tool_error("--%s takes a number of 0 or more, not \"%s\"", arg->name, text);
        *(double *)arg->target = value;
        return true;
    }
    case ARG_WORD: {
        const int index = find_word(text, arg->words, arg->n_words);
        if (index < 0)
            return bad_word(arg, text);
        *(int *)arg->target = index;
        return true;
    }
    }
    return false;
}

/* getopt_long numbers long options from this, out of the way of '?' and ':'. */
enum { FIRST_KEY = 1000 };

static bool parse_options(int argc, char **argv, const struct arg *table, size_t count) {
    struct option options[ARGS_MAX + 1] = {{0}};
    for (size_t i = 0; i < count; i++)
        options[i] =
            (struct option){.name = table[i].name,
                            .has_arg = table[i].kind == ARG_FLAG ? no_argument : required_argument,
                            .val = FIRST_KEY + (int)i};

    opterr = 0;
    optind = 1;
    for (;;) {
        const int current = optind;
        const int key = getopt_long(argc, argv, ":h", options, NULL);
        if (key == -1)
            return true;
        if (key == ':')
            return tool_error("%s needs a value", argv[optind - 1]);
        if (key == '?')
            return tool_error("%s is not an option here, or is ambiguous", argv[current]);
        for (size_t i = 0; i < count; i++) {
            const bool wanted =
                key == 'h' ? strcmp(table[i].name, "help") == 0 : key == FIRST_KEY + (int)i;
            if (wanted && !store(&table[i], optarg))
                return false;
        }
    }
}

static bool check_words(const struct args_command *command, int argc, char **argv, size_t n_words) {
    if (n_words < command->min_words)
        return tool_error("%s: an argument is missing", argv[0]);
    if (n_words > command->max_words)
        return tool_error("%s: unexpected argument \"%s\"", argv[0], argv[argc - 1]);
    return true;
}

int args_parse(int argc, char **argv, const struct args_command *command,
               struct tool_common *common, const char *const **words, size_t *n_words) {
    struct arg table[ARGS_MAX];
    bool help = false;
    for (size_t i = 0; i < command->n_args; i++)
        table[i] = command->args[i];
    const size_t count = command->n_args + add_common(table + command->n_args, common, &help);

    bool ok = parse_options(argc, argv, table, count);
    if (ok && help) {
        print_help(command, table, count);
        return TOOL_OK;
    }
    *words = (const char *const *)argv + optind;
    *n_words = (size_t)(argc - optind);
    if (ok && check_words(command, argc, argv, *n_words))
        return ARGS_GO_ON;
    fprintf(stderr, "Try `clattice help %s`.\n", argv[0]);
    return TOOL_USAGE;
}
