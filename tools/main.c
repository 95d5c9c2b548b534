/* `clattice`: looks at a device, checks it, tunes it, measures it. */
#include "overhead.h"
#include "peer.h"

#include <string.h>

static const struct {
    const char *name, *about;
    int (*run)(int argc, char **argv);
} commands[] = {
    {"info", "the device, what was proven about it, and where files live", command_info},
    {"check", "run every operator on the device and compare with f64", command_check},
    {"tune", "search fast tunables and write the device's config file", command_tune},
    {"bench", "time operators, verified, beside other libraries", command_bench},
    {"report", "tables and plots of what bench measured", command_report},
    {"mask", "what a mask leaves visible, the tiles visited, and a picture", command_mask},
    {"demo", "tune, then show GEMM, attention and sparse attention", command_demo},
};
enum { N_COMMANDS = sizeof commands / sizeof commands[0] };

static void print_usage(FILE *file) {
    fputs("Usage: clattice COMMAND [OPTION]...\n"
          "       clattice --version\n"
          "\n"
          "Transformer arithmetic on any OpenCL device.\n"
          "\n"
          "Commands:\n",
          file);
    for (size_t i = 0; i < N_COMMANDS; i++)
        fprintf(file, "  %-7s %s\n", commands[i].name, commands[i].about);
    fputs("  help    this text, or `clattice help COMMAND`\n"
          "\n"
          "Each command takes --help, --device D (index, or part of a name) and --json FILE.\n"
          "Exit status: 0 success, 1 failure or a wrong result, 2 bad usage.\n",
          file);
}

static int run_command(int argc, char **argv) {
    for (size_t i = 0; i < N_COMMANDS; i++)
        if (strcmp(argv[0], commands[i].name) == 0)
            return commands[i].run(argc, argv);
    tool_error("no command \"%s\"; see `clattice help`", argv[0]);
    return TOOL_USAGE;
}

int main(int argc, char **argv) {
    const int child = overhead_child();
    if (child >= 0)
        return child;
    peer_openblas_unshackle(argv);
    setvbuf(stdout, NULL, _IOLBF, 0); /* whole lines as they come, also into a pipe */
    if (argc < 2) {
        print_usage(stderr);
        return TOOL_USAGE;
    }
    if (strcmp(argv[1], "--version") == 0 || strcmp(argv[1], "-V") == 0) {
        printf("clattice %s\n", clat_version());
        return TOOL_OK;
    }
    const bool help = strcmp(argv[1], "help") == 0;
    if (help && argc == 3 && strcmp(argv[2], "help") != 0)
        return run_command(2, (char *[]){argv[2], (char[]){"--help"}, NULL});
    if (help || strcmp(argv[1], "--help") == 0 || strcmp(argv[1], "-h") == 0) {
        print_usage(stdout);
        return TOOL_OK;
    }
    return run_command(argc - 1, argv + 1);
}
