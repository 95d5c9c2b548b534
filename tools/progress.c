#include "progress.h"

#include <signal.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>

#define REDRAW_SECONDS 0.1
#define LINE_SECONDS 5.0

enum { BAR = 24, FALLBACK_WIDTH = 100, MAX_WIDTH = 130 };

static volatile sig_atomic_t interrupted;

static void on_interrupt(int signal_number) {
    (void)signal_number;
    interrupted = 1;
}

void progress_begin(struct progress *progress, FILE *file) {
    *progress = (struct progress){.file = file, .terminal = isatty(fileno(file)) == 1};
    progress->index = SIZE_MAX;
    interrupted = 0;
    struct sigaction action = {.sa_handler = on_interrupt, .sa_flags = (int)SA_RESETHAND};
    sigaction(SIGINT, &action, NULL);
}

static size_t terminal_width(FILE *file) {
    struct winsize size = {0};
    if (ioctl(fileno(file), TIOCGWINSZ, &size) != 0 || size.ws_col < 20)
        return FALLBACK_WIDTH;
    return size.ws_col < MAX_WIDTH ? size.ws_col : MAX_WIDTH;
}

/* 0 .. 1 of the whole run, by time. */
static double share(const clat_tune_progress *step) {
    const double whole = step->elapsed_seconds + step->remaining_seconds;
    return whole > 0 ? step->elapsed_seconds / whole : 0;
}

static void format_time(char *text, size_t size, double seconds) {
    const unsigned s = seconds > 0 ? (unsigned)(seconds + 0.5) : 0;
    snprintf(text, size, "%u:%02u", s / 60, s % 60);
}

/* Without the leading dimensions, which a line has no room for. */
static int problem_length(const char *problem) {
    const char *end = strstr(problem, " lda=");
    return end ? (int)(end - problem) : (int)strlen(problem);
}

static void draw_bar(struct progress *progress, const clat_tune_progress *step) {
    char bar[BAR + 1], eta[24], line[512];
    const double done = share(step);
    for (int i = 0; i < BAR; i++)
        bar[i] = i < (int)(done * BAR + 0.5) ? '#' : '.';
    bar[BAR] = '\0';
    format_time(eta, sizeof eta, step->remaining_seconds);
    snprintf(line, sizeof line,
             "[%s] %3.0f%% ETA %s  %zu/%zu %.*s: best %.1f GFLOP/s, candidate %zu of %zu: %s %s",
             bar, done * 100, eta, step->index + 1, step->count, problem_length(step->problem),
             step->problem, step->best_gflops, step->candidate, step->candidates,
             step->implementation, step->tunables);
    fprintf(progress->file, "\r%.*s\033[K", (int)terminal_width(progress->file) - 1, line);
    fflush(progress->file);
    progress->drawn = true;
}

static void print_line(struct progress *progress, const clat_tune_progress *step) {
    char eta[24];
    format_time(eta, sizeof eta, step->remaining_seconds);
    fprintf(progress->file,
            "  %3.0f%%  ETA %5s  %zu/%zu %.*s: candidate %zu of %zu, best %.1f GFLOP/s\n",
            share(step) * 100, eta, step->index + 1, step->count, problem_length(step->problem),
            step->problem, step->candidate, step->candidates, step->best_gflops);
    fflush(progress->file);
}

bool progress_step(void *user, const clat_tune_progress *step) {
    struct progress *progress = user;
    const double now = now_seconds();
    progress->tried++;
    progress->rejected += !(step->gflops > 0);
    if (progress->terminal) {
        if (now >= progress->next) {
            draw_bar(progress, step);
            progress->next = now + REDRAW_SECONDS;
        }
    } else if (now >= progress->next || step->index != progress->index) {
        print_line(progress, step);
        progress->next = now + LINE_SECONDS;
    }
    progress->index = step->index;
    return !interrupted;
}

void progress_end(struct progress *progress) {
    signal(SIGINT, SIG_DFL);
    if (progress->drawn)
        fputs("\r\033[K", progress->file);
    fflush(progress->file);
}
