/*
 * See snapshot_build.h. An INSERT … SELECT runs on one core, and definitions of one level do not depend on each other, so a
 * few threads, each with a session of its own, take one projection after the other; then comes the next level.
 *
 * The threads watch a stop of their own: the caller's is passed on to it, and so is the first error.
 */
#include "core/snapshot_build.h"

#include "base/mem.h"

#include <errno.h>
#include <poll.h>
#include <pthread.h>
#include <string.h>

struct crew {
    const char *read_url;
    struct pj_projection *projections;
    int count;
    struct pj_stop cancel; /* asked by the first who fails, and when the caller is asked to stop */
    struct pj_stop over;   /* asked by the last who leaves */
    pthread_mutex_t mutex; /* guards what follows */
    int next, at_work;
    struct pj_error first; /* the first error */
};

/* ------------------------------------------------------------------------------------------------------- session */

int pj_snapshot_build_open(struct pj_session **session, const char *read_url, const struct pj_stop *stop,
                           struct pj_error *error)
{
    static const char settings[] = "SET statement_timeout = 0; SET lock_timeout = 0; SET synchronous_commit = off; "
                                   "SET maintenance_work_mem = '128MB'; SET work_mem = '64MB'";
    struct pj_session_options options = {.side = PJ_READ, .url = read_url, .purpose = "snapshot build", .stop = stop};
    int code = pj_session_open(session, &options, error);
    return code == PJ_OK ? pj_session_exec(*session, settings, error) : code;
}

/* -------------------------------------------------------------------------------------------------------- threads */

/* The next projection with a target; NULL where there is none left, or somebody has failed. */
static struct pj_projection *take(struct crew *crew)
{
    struct pj_projection *taken = NULL;
    pthread_mutex_lock(&crew->mutex);
    while (!taken && crew->first.code == PJ_OK && crew->next < crew->count) {
        taken = &crew->projections[crew->next++];
        if (!taken->target_sql)
            taken = NULL;
    }
    pthread_mutex_unlock(&crew->mutex);
    return taken;
}

static int work(struct crew *crew, struct pj_error *error)
{
    struct pj_session *session;
    struct pj_projection *projection;
    int code = pj_snapshot_build_open(&session, crew->read_url, &crew->cancel, error);
    while (code == PJ_OK && (projection = take(crew))) {
        code = pj_projection_fill_target(session, projection, error);
        if (code != PJ_OK)
            pj_error_wrap(error, "build projection %s", projection->name);
    }
    pj_session_close(session);
    return code;
}

static void *work_thread(void *argument)
{
    struct crew *crew = argument;
    struct pj_error error;
    int code = work(crew, &error);
    pthread_mutex_lock(&crew->mutex);
    if (code != PJ_OK && crew->first.code == PJ_OK)
        crew->first = error;
    bool last = --crew->at_work == 0;
    pthread_mutex_unlock(&crew->mutex);
    if (code != PJ_OK)
        pj_stop_ask(&crew->cancel);
    if (last)
        pj_stop_ask(&crew->over);
    return NULL;
}

/* ----------------------------------------------------------------------------------------------------------- all */

static void pass_on_stop(struct crew *crew, const struct pj_stop *stop)
{
    struct pollfd fds[2] = {{.fd = crew->over.fd, .events = POLLIN}, {.fd = stop ? stop->fd : -1, .events = POLLIN}};
    while (poll(fds, 2, -1) < 0 && errno == EINTR)
        ;
    if (!pj_stop_asked(&crew->over))
        pj_stop_ask(&crew->cancel);
}

static int run(struct crew *crew, int jobs, const struct pj_stop *stop, struct pj_error *error)
{
    pthread_t *threads = pj_alloc((size_t)jobs * sizeof *threads);
    int started = 0;
    crew->at_work = jobs;
    while (started < jobs && pthread_create(&threads[started], NULL, work_thread, crew) == 0)
        started++;
    pthread_mutex_lock(&crew->mutex);
    crew->at_work -= jobs - started;
    bool over = crew->at_work == 0;
    pthread_mutex_unlock(&crew->mutex);
    if (!over)
        pass_on_stop(crew, stop);
    for (int i = 0; i < started; i++)
        pthread_join(threads[i], NULL);
    pj_free(threads);
    if (!started)
        return pj_error_set(error, PJ_EFAIL, "no thread could be started");
    if (crew->first.code != PJ_OK)
        *error = crew->first;
    return crew->first.code;
}

static int build_level(const char *read_url, int jobs, const struct pj_stop *stop, struct pj_projection *projections,
                       int count, struct pj_error *error)
{
    struct crew crew = {.read_url = read_url, .projections = projections, .count = count, .cancel = {-1}, .over = {-1}};
    int targets = 0;
    for (int i = 0; i < count; i++)
        targets += projections[i].target_sql != NULL;
    if (!targets)
        return PJ_OK;
    int threads = jobs < 1 ? 1 : jobs < targets ? jobs : targets;
    pthread_mutex_init(&crew.mutex, NULL);
    int code = pj_stop_init(&crew.cancel, error);
    if (code == PJ_OK)
        code = pj_stop_init(&crew.over, error);
    if (code == PJ_OK)
        code = run(&crew, threads, stop, error);
    pj_stop_close(&crew.cancel);
    pj_stop_close(&crew.over);
    pthread_mutex_destroy(&crew.mutex);
    return code;
}

int pj_snapshot_build_targets(const char *read_url, int jobs, const struct pj_stop *stop,
                              struct pj_projection *projections, int count, struct pj_error *error)
{
    int code = PJ_OK;
    for (int first = 0, end; code == PJ_OK && first < count; first = end) {
        for (end = first + 1; end < count && projections[end].level == projections[first].level;)
            end++;
        code = build_level(read_url, jobs, stop, projections + first, end - first, error);
    }
    return code;
}
