#include "team.h"
#include "tool.h"

#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>
#include <string.h>

static struct {
    pthread_mutex_t lock;
    pthread_cond_t work, done;
    pthread_t threads[TEAM_MAX];
    unsigned size;    /* with the caller; 0: not started */
    unsigned round;   /* counts calls: a worker that sees a new one has work */
    unsigned working; /* workers that have not finished this round */
    bool ending;
    atomic_size_t next;
    size_t count, chunk;
    team_fn fn;
    void *arg;
} team = {.lock = PTHREAD_MUTEX_INITIALIZER,
          .work = PTHREAD_COND_INITIALIZER,
          .done = PTHREAD_COND_INITIALIZER};

unsigned team_size(void) {
    cpu_set_t set;
    if (sched_getaffinity(0, sizeof set, &set) != 0)
        return 1;
    const int cpus = CPU_COUNT(&set);
    return cpus < TEAM_MAX ? (unsigned)cpus : TEAM_MAX;
}

static void take_part(unsigned thread) {
    for (;;) {
        const size_t first = atomic_fetch_add(&team.next, team.chunk);
        if (first >= team.count)
            return;
        const size_t left = team.count - first,
                     last = first + (left < team.chunk ? left : team.chunk);
        for (size_t i = first; i < last; i++)
            team.fn(team.arg, i, thread);
    }
}

static void *worker(void *opaque) {
    const unsigned thread = (unsigned)(size_t)opaque;
    unsigned seen = 0;
    pthread_mutex_lock(&team.lock);
    for (;;) {
        while (team.round == seen && !team.ending)
            pthread_cond_wait(&team.work, &team.lock);
        if (team.ending)
            break;
        seen = team.round;
        pthread_mutex_unlock(&team.lock);
        take_part(thread);
        pthread_mutex_lock(&team.lock);
        if (--team.working == 0)
            pthread_cond_signal(&team.done);
    }
    pthread_mutex_unlock(&team.lock);
    return NULL;
}

static bool start(void) {
    const unsigned size = team_size();
    team.ending = false;
    team.round = 0;
    for (team.size = 1; team.size < size; team.size++) {
        const int err =
            pthread_create(&team.threads[team.size], NULL, worker, (void *)(size_t)team.size);
        if (err) {
            team_finish();
            return tool_error("cannot start a thread: %s", strerror(err));
        }
    }
    return true;
}

bool team_for(size_t count, size_t chunk, team_fn fn, void *arg) {
    if (!team.size && !start())
        return false;
    pthread_mutex_lock(&team.lock);
    atomic_store(&team.next, 0);
    team.count = count;
    team.chunk = chunk ? chunk : 1;
    team.fn = fn;
    team.arg = arg;
    team.working = team.size - 1;
    team.round++;
    pthread_cond_broadcast(&team.work);
    pthread_mutex_unlock(&team.lock);
    take_part(0);
    pthread_mutex_lock(&team.lock);
    while (team.working > 0)
        pthread_cond_wait(&team.done, &team.lock);
    pthread_mutex_unlock(&team.lock);
    return true;
}

void team_finish(void) {
    pthread_mutex_lock(&team.lock);
    team.ending = true;
    pthread_cond_broadcast(&team.work);
    pthread_mutex_unlock(&team.lock);
    for (unsigned i = 1; i < team.size; i++)
        pthread_join(team.threads[i], NULL);
    team.size = 0;
}
