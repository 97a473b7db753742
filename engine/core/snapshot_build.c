/*
 * See snapshot_build.h. A few threads, each with a session of its own, take one task of the plan after the other.
 *
 * The threads watch a stop of their own: the caller's is passed on to it, and so is the first error.
 */
#include "core/snapshot_build.h"

#include "base/clock.h"
#include "base/mem.h"
#include "core/mirror.h"
#include "core/snapshot_plan.h"
#include "core/textarray.h"

#include <errno.h>
#include <poll.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { PROGRESS_MS = 200, LEAST_SORT_KB = 4096, MOST_SORT_KB = 128 * 1024 };

struct crew {
    const struct pj_snapshot_build *build;
    struct pj_stop cancel; /* asked by the first who fails, and when the caller is asked to stop */
    struct pj_stop over;   /* asked by the last who leaves */
    pthread_mutex_t mutex; /* guards what follows */
    pthread_cond_t done;   /* a task is done, or somebody has failed */
    struct pj_snapshot_plan plan;
    int at_work;
    struct pj_error first; /* the first error */
};

/* ------------------------------------------------------------------------------------------------------- session */

/* A commit not awaited would spoil what copy.c does for VACUUM. */
static int tune(struct pj_session *session, struct pj_error *error)
{
    return pj_session_exec(session, "SET synchronous_commit = local; SET maintenance_work_mem = '32MB'", error);
}

static int open_session(struct pj_session **session, const struct crew *crew, const struct pj_stop *stop,
                        struct pj_error *error)
{
    struct pj_session_options options = {
        .side = PJ_READ, .url = crew->build->read_url, .purpose = "snapshot build", .stop = stop};
    int code = pj_session_open(session, &options, error);
    return code == PJ_OK ? tune(*session, error) : code;
}

/* ---------------------------------------------------------------------------------------------------------- tasks */

static const char *name_of(const struct pj_task *task)
{
    return task->kind == PJ_TASK_FILL ? task->projection->name : task->table->mirror_sql;
}

/* VACUUM, for then definitions and readers need not look whether rows are visible; ANALYZE, for their plans. */
static int settle(struct pj_session *session, const struct pj_table *table, struct pj_error *error)
{
    char *sql = pj_sprintf("VACUUM (ANALYZE) %s", table->mirror_sql);
    int code = pj_session_exec(session, sql, error);
    pj_free(sql);
    return code == PJ_OK ? PJ_OK : pj_error_wrap(error, "vacuum mirror %s", table->mirror_sql);
}

/*
 * Runs are sorted the quicker the more of them a processor's cache holds (an index on two columns of 3 million messages:
 * 2.0 s with 4 MB, 2.4 with 32, 3.3 with 512; four of six such at a time with others: 9 % of a first start's CPU). The
 * least memory, then, with which the runs can be merged in one go, for which each wants some 272 kB of it: the square
 * root of that times what there is to sort, taken for a quarter of the table.
 */
static int sort_kb(int64_t bytes)
{
    int64_t kb = LEAST_SORT_KB, sorted_kb = bytes / 4 / 1024;
    while (kb < MOST_SORT_KB && kb * kb < sorted_kb * 272)
        kb += 1024;
    return (int)kb;
}

/*
 * Every connection has an index of its own to make; the server's parallel workers would only get in each other's way.
 * Six indexes of 3 million messages, two at a time on two cores: 9.7 s and 16.7 s of CPU with workers and 128 MB, 8.7 s
 * and 14.4 s without and with 32 MB.
 */
static int make_index(struct pj_session *session, const struct pj_task *task, bool alone, struct pj_error *error)
{
    int code =
        pj_session_execf(session, error, "%s max_parallel_maintenance_workers%s; SET maintenance_work_mem = %d",
                         alone ? "RESET" : "SET", alone ? "" : " = 0", alone ? MOST_SORT_KB : sort_kb(task->weight));
    if (code == PJ_OK)
        code = pj_projection_run_index(session, task->sql, error);
    return code == PJ_OK ? PJ_OK : pj_error_wrap(error, "index mirror %s", task->table->mirror_sql);
}

static int fill(struct pj_session *session, const struct pj_task *task, const struct pj_log *log,
                struct pj_error *error)
{
    const char *name = task->projection->name;
    int64_t parked;
    if (pj_projection_fill_target(session, task->projection, &parked, error) != PJ_OK)
        return pj_error_wrap(error, "build projection %s", name);
    if (parked && log)
        pj_log(log, PJ_LOG_WARNING,
               "projection %s: %lld key%s parked, for which the definition fails: pgprojector deadletters list %s",
               name, (long long)parked, parked == 1 ? "" : "s", name);
    return tune(session, error);
}

static int perform(struct pj_session *session, const struct pj_task *task, bool alone, const struct pj_log *log,
                   struct pj_error *error)
{
    switch (task->kind) {
    case PJ_TASK_SETTLE:
        return settle(session, task->table, error);
    case PJ_TASK_INDEX:
        return make_index(session, task, alone, error);
    default:
        return fill(session, task, log, error);
    }
}

static int perform_timed(struct crew *crew, struct pj_session *session, const struct pj_task *task, bool alone,
                         struct pj_error *error)
{
    static const char *const words[] = {"vacuum", "index", "fill"};
    uint64_t begun = pj_clock_monotonic_us();
    int code = perform(session, task, alone, crew->build->log, error);
    if (code == PJ_OK)
        pj_log(crew->build->log, PJ_LOG_DEBUG, "%s %s: %.2f s%s%s", words[task->kind], name_of(task),
               (double)(pj_clock_monotonic_us() - begun) / 1e6, task->sql ? ": " : "", task->sql ? task->sql : "");
    return code;
}

/* -------------------------------------------------------------------------------------------------------- threads */

/* The next task, waited for where all that is left waits for one that runs; NULL at the end, or where somebody has
 * failed. *alone: nothing else runs or waits. */
static struct pj_task *take(struct crew *crew, bool *alone)
{
    struct pj_task *taken = NULL;
    pthread_mutex_lock(&crew->mutex);
    while (crew->first.code == PJ_OK && !(taken = pj_snapshot_plan_take(&crew->plan)) &&
           !pj_snapshot_plan_taken(&crew->plan))
        pthread_cond_wait(&crew->done, &crew->mutex);
    *alone = taken && pj_snapshot_plan_last(&crew->plan);
    pthread_mutex_unlock(&crew->mutex);
    return taken;
}

static void finish(struct crew *crew, struct pj_task *task)
{
    pthread_mutex_lock(&crew->mutex);
    task->state = PJ_TASK_DONE;
    pthread_cond_broadcast(&crew->done);
    pthread_mutex_unlock(&crew->mutex);
}

static int work(struct crew *crew, struct pj_error *error)
{
    struct pj_session *session;
    struct pj_task *task;
    bool alone;
    int code = open_session(&session, crew, &crew->cancel, error);
    while (code == PJ_OK && (task = take(crew, &alone))) {
        code = perform_timed(crew, session, task, alone, error);
        if (code == PJ_OK)
            finish(crew, task);
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
    pthread_cond_broadcast(&crew->done);
    bool last = --crew->at_work == 0;
    pthread_mutex_unlock(&crew->mutex);
    if (code != PJ_OK)
        pj_stop_ask(&crew->cancel);
    if (last)
        pj_stop_ask(&crew->over);
    return NULL;
}

/* ------------------------------------------------------------------------------------------------------- watching */

/* "7 of 15, "public"."messages"": how far it has come, and the first of what runs. */
static void report(struct crew *crew)
{
    char text[128] = "";
    int done = 0;
    const struct pj_task *running = NULL;
    if (!crew->build->progress)
        return;
    pthread_mutex_lock(&crew->mutex);
    for (int i = 0; i < crew->plan.count; i++) {
        done += crew->plan.tasks[i].state == PJ_TASK_DONE;
        if (!running && crew->plan.tasks[i].state == PJ_TASK_RUNNING)
            running = &crew->plan.tasks[i];
    }
    snprintf(text, sizeof text, "%d of %d%s%s", done, crew->plan.count, running ? ", " : "",
             running ? name_of(running) : "");
    pthread_mutex_unlock(&crew->mutex);
    crew->build->progress(crew->build->context, text);
}

/* Until the last of the crew leaves; a stop is passed on. */
static void watch(struct crew *crew)
{
    const struct pj_stop *stop = crew->build->stop;
    struct pollfd fds[2] = {{.fd = crew->over.fd, .events = POLLIN}, {.fd = stop ? stop->fd : -1, .events = POLLIN}};
    for (int ready = 0; ready == 0 || (ready < 0 && errno == EINTR);) {
        report(crew);
        ready = poll(fds, 2, PROGRESS_MS);
    }
    if (!pj_stop_asked(&crew->over))
        pj_stop_ask(&crew->cancel);
}

static int run(struct crew *crew, int jobs, struct pj_error *error)
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
        watch(crew);
    for (int i = 0; i < started; i++)
        pthread_join(threads[i], NULL);
    pj_free(threads);
    if (!started)
        return pj_error_set(error, PJ_EFAIL, "no thread could be started");
    if (crew->first.code != PJ_OK)
        *error = crew->first;
    return crew->first.code;
}

static int run_crew(struct crew *crew, struct pj_error *error)
{
    int jobs = crew->build->jobs < 1 ? 1 : crew->build->jobs;
    pthread_mutex_init(&crew->mutex, NULL);
    pthread_cond_init(&crew->done, NULL);
    int code = pj_stop_init(&crew->cancel, error);
    if (code == PJ_OK)
        code = pj_stop_init(&crew->over, error);
    if (code == PJ_OK)
        code = run(crew, jobs < crew->plan.count ? jobs : crew->plan.count, error);
    pj_stop_close(&crew->cancel);
    pj_stop_close(&crew->over);
    pthread_cond_destroy(&crew->done);
    pthread_mutex_destroy(&crew->mutex);
    return code;
}

/* ----------------------------------------------------------------------------------------------------------- all */

static int read_sizes(struct pj_session *session, const struct pj_snapshot_build *build, int64_t *bytes,
                      struct pj_error *error)
{
    struct pj_buf names = {0};
    PGresult *result;
    pj_textarray_begin(&names);
    for (int i = 0; i < build->ntables; i++)
        pj_textarray_add(&names, build->tables[i].mirror_sql);
    pj_textarray_end(&names);
    const char *params[] = {pj_buf_text(&names)};
    int code = pj_session_query(session, &result,
                                "SELECT pg_catalog.pg_relation_size(pg_catalog.to_regclass(name)) "
                                "FROM pg_catalog.unnest($1::text[]) WITH ORDINALITY AS mirror (name, place) "
                                "ORDER BY place",
                                1, params, error);
    for (int i = 0; code == PJ_OK && i < PQntuples(result) && i < build->ntables; i++)
        bytes[i] = strtoll(PQgetvalue(result, i, 0), NULL, 10);
    PQclear(result);
    pj_buf_free(&names);
    return code;
}

/* The unique indexes become the keys last: that takes an exclusive lock, for which nothing is to queue. */
static int finish_mirrors(struct pj_session *session, const struct pj_snapshot_build *build, struct pj_error *error)
{
    int code = PJ_OK;
    for (int i = 0; code == PJ_OK && i < build->ntables; i++) {
        code = pj_mirror_attach_key(session, &build->tables[i], error);
        if (code == PJ_OK)
            code = pj_mirror_autovacuum(session, &build->tables[i], true, error);
    }
    return code;
}

int pj_snapshot_build_run(const struct pj_snapshot_build *build, struct pj_error *error)
{
    struct crew crew = {.build = build, .cancel = {-1}, .over = {-1}};
    struct pj_session *session;
    int64_t *bytes = pj_alloc((size_t)(build->ntables + 1) * sizeof *bytes);
    int code = open_session(&session, &crew, build->stop, error);
    if (code == PJ_OK)
        code = read_sizes(session, build, bytes, error);
    if (code == PJ_OK)
        code = pj_snapshot_plan_make(&crew.plan, build->tables, bytes, build->ntables, build->projections,
                                     build->nprojections, error);
    if (code == PJ_OK && crew.plan.count)
        code = run_crew(&crew, error);
    if (code == PJ_OK)
        code = finish_mirrors(session, build, error);
    pj_session_close(session);
    pj_snapshot_plan_free(&crew.plan);
    pj_free(bytes);
    return code;
}
