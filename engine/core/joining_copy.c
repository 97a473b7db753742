/*
 * The copy of a mirror that is added while the daemon runs.
 *
 * It reads from a snapshot that holds whatever the stream had brought before the first note (joining_source.c), and that
 * one session keeps for all connections. The tables are pinned by that session, or a TRUNCATE before they are read
 * would show them empty. A TRUNCATE later on is noted as "all rows": the whole mirror is then compared with its source.
 */
#include "core/joining_internal.h"

#include "base/mem.h"
#include "core/copy.h"
#include "core/mirror.h"

#include <stdio.h>

enum { WAITS = 10 };

/* The copy's connections hear of a cancellation by a stop of their own. */
struct copying {
    struct pj_job *job;
    struct pj_stop cancelled;
    struct pj_error why; /* code PJ_OK: it is not */
    int waits;           /* how often a server was waited for since rows came last */
};

/* Whoever asked for a lock on the source (TRUNCATE, ALTER TABLE) after the guard had its own, and before the copy begins,
 * waits for the guard, and the copy for him: begun anew, we let him go first. */
static int copy_waits(void *context, struct pj_error *error)
{
    struct copying *copying = context;
    int code = pj_job_advance(copying->job, copying->job->now.done, error);
    if (code != PJ_OK || ++copying->waits < WAITS)
        return code;
    pj_error_set(error, PJ_EFAIL, "the copy is kept waiting, by somebody who is to alter or empty the table");
    error->retryable = true;
    return error->code;
}

static void copied(void *context, const char *table, int64_t rows, int64_t rows_expected, int64_t bytes)
{
    struct copying *copying = context;
    struct pj_error error;
    (void)table;
    (void)bytes;
    copying->waits = 0;
    copying->job->now.total = rows_expected > rows ? rows_expected : rows;
    if (pj_job_advance(copying->job, rows, &error) != PJ_ESTOPPED || copying->why.code != PJ_OK)
        return;
    copying->why = error;
    pj_stop_ask(&copying->cancelled);
}

/* Opens the session that exports the snapshot, and keeps the tables as they are in it. */
static int open_guard(const struct pj_joining *joining, const struct pj_table *tables, int ntables,
                      struct pj_session **guard, char snapshot[64], struct pj_error *error)
{
    const char **names = pj_joining_names(tables, ntables);
    PGresult *result = NULL;
    int code = pj_joining_snapshot(joining, "copying", names, guard, error);
    pj_free(names);
    if (code == PJ_OK)
        code = pj_session_query_row(*guard, &result, "SELECT pg_catalog.pg_export_snapshot()", 0, NULL, error);
    snprintf(snapshot, 64, "%s", code == PJ_OK ? PQgetvalue(result, 0, 0) : "");
    PQclear(result);
    return code;
}

static int copy_rows(const struct pj_joining *joining, struct copying *copying, const struct pj_stop *stop,
                     const struct pj_table *table, const char *snapshot, struct pj_error *error)
{
    struct pj_session *write;
    struct pj_session_options options = {.side = PJ_WRITE, .url = joining->write_url, .purpose = "join", .stop = stop};
    struct pj_copy_options copy = {.write_url = joining->write_url,
                                   .read_url = joining->read_url,
                                   .snapshot = snapshot,
                                   .jobs = joining->jobs,
                                   .stop = stop,
                                   .progress = copied,
                                   .waiting = copy_waits,
                                   .context = copying};
    int code = pj_session_open(&write, &options, error);
    if (code == PJ_OK)
        pj_session_set_tick(write, PJ_JOINING_TICK_MS, copy_waits, copying);
    if (code == PJ_OK)
        code = pj_copy_tables(write, &copy, table, 1, error);
    pj_session_close(write);
    if (code == PJ_ESTOPPED && copying->why.code != PJ_OK)
        *error = copying->why;
    return code;
}

static int copy_table(const struct pj_joining *joining, const struct pj_table *table, const char *snapshot,
                      struct pj_error *error)
{
    struct copying copying = {.job = joining->job};
    struct pj_stop either = {.fd = -1};
    int code = pj_stop_init(&copying.cancelled, error);
    if (code == PJ_OK)
        code = pj_stop_either(&either, joining->stop, &copying.cancelled, error);
    if (code == PJ_OK)
        code = copy_rows(joining, &copying, &either, table, snapshot, error);
    pj_stop_close(&either);
    pj_stop_close(&copying.cancelled);
    return code;
}

static int add_keys(const struct pj_joining *joining, const struct pj_table *table, struct pj_error *error)
{
    int code = pj_session_exec(joining->work, "SET maintenance_work_mem = '256MB'", error);
    if (code == PJ_OK)
        code = pj_mirror_add_keys(joining->work, table, error);
    if (code == PJ_OK)
        code = pj_session_execf(joining->work, error, "ANALYZE %s", table->mirror_sql);
    return code == PJ_OK ? pj_session_exec(joining->work, "RESET maintenance_work_mem", error) : code;
}

/* One table after the other, for what is handed over must be consecutive; each by several connections. */
static int copy_each(const struct pj_joining *joining, const struct pj_table *tables, int ntables, const char *snapshot,
                     struct pj_error *error)
{
    int code = PJ_OK;
    for (int i = 0; code == PJ_OK && i < ntables; i++)
        if (tables[i].joining)
            code = copy_table(joining, &tables[i], snapshot, error);
    return code;
}

/* Locks that were lost with their session have not kept anybody from rewriting a table before it was read. `code`: what
 * the copy has come to; where it has failed for that, its snapshot was gone, which is said of the locks instead. */
static int still_guarded(struct pj_session *guard, int code, struct pj_error *error)
{
    struct pj_error lost;
    if (code == PJ_ESTOPPED || (code != PJ_OK && error->storage) || pj_session_exec(guard, "SELECT", &lost) == PJ_OK)
        return code;
    *error = lost;
    return pj_error_wrap(error, "hold the tables' locks");
}

int pj_joining_copy(const struct pj_joining *joining, const struct pj_table *tables, int ntables,
                    struct pj_error *error)
{
    struct pj_session *guard = NULL;
    char snapshot[64];
    int code = open_guard(joining, tables, ntables, &guard, snapshot, error);
    if (code == PJ_OK)
        code = still_guarded(guard, copy_each(joining, tables, ntables, snapshot, error), error);
    pj_session_close(guard);
    if (code == PJ_OK)
        code = pj_job_phase(joining->job, "indexing", -1, error);
    for (int i = 0; code == PJ_OK && i < ntables; i++)
        if (tables[i].joining)
            code = add_keys(joining, &tables[i], error);
    return code;
}
