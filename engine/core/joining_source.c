/*
 * The source as joining mirrors are read from it.
 *
 * A commit comes in the stream as soon as its record is in the WAL, and only then, by microseconds, or by as long as a
 * synchronous standby lets it wait, becomes visible on the server. So an ordinary snapshot may lack what the stream has
 * passed, noted or not noted. A slot's does not: it holds exactly what has committed in the WAL before its consistent
 * point, and that lies behind all that had been sent when its creation began. It waits for transactions that are open,
 * the one at the standby among them; they are named where progress is shown, and that is no reason to begin anew.
 *
 * The slot goes as soon as the session has taken its snapshot over: it keeps no WAL while a table is copied.
 */
#include "core/joining_internal.h"

#include "base/mem.h"
#include "core/pin.h"

#include <stdio.h>

enum {
    FIRST_WAIT_MS = 1000, /* then whoever is in the way is named; each wait is twice as long */
    PIN_MS = 500,
    PAUSE_MS = 500
};

const char **pj_joining_names(const struct pj_table *tables, int ntables)
{
    const char **names = pj_alloc((size_t)(ntables + 1) * sizeof *names);
    int count = 0;
    for (int i = 0; i < ntables; i++)
        if (tables[i].joining)
            names[count++] = tables[i].mirror_sql;
    names[count] = NULL;
    return names;
}

int pj_joining_wait(const struct pj_joining *joining, struct pj_error *error)
{
    snprintf(joining->waiting, PJ_JOINING_WAITING, "waiting: %.200s", error->message);
    pj_error_clear(error);
    int code = pj_job_phase(joining->job, joining->waiting, -1, error);
    return code == PJ_OK ? pj_stop_sleep(joining->stop, PAUSE_MS, error) : code;
}

static int open_session(const struct pj_joining *joining, bool replication, struct pj_session **session,
                        struct pj_error *error)
{
    struct pj_session_options options = {.side = PJ_WRITE,
                                         .url = joining->write_url,
                                         .purpose = "join",
                                         .replication = replication,
                                         .stop = joining->stop};
    int code = pj_session_open(session, &options, error);
    if (code == PJ_OK)
        pj_session_set_tick(*session, PJ_JOINING_TICK_MS, pj_joining_working, joining->job);
    return code;
}

/* The name is nobody else's on that server while the session lasts. */
static int take_snapshot(const struct pj_joining *joining, struct pj_session *replication, struct pj_session *write,
                         int wait_ms, const char *const *pinned, struct pj_error *error)
{
    char name[64], snapshot[64];
    pj_lsn consistent_point;
    snprintf(name, sizeof name, "pgprojector_join_%d", PQbackendPID(pj_session_conn(replication)));
    int code = pj_slot_create(replication, write, name, "wal2json", true, wait_ms, &consistent_point, snapshot, error);
    if (code == PJ_OK)
        code = pj_session_execf(
            write, error, "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY; SET TRANSACTION SNAPSHOT '%s'", snapshot);
    return code == PJ_OK ? pj_pin(write, pinned, PIN_MS, joining->stop, error) : code;
}

/* *again: it may be had another time. A server that is gone is left to whoever begins anew. */
static int try_snapshot(const struct pj_joining *joining, int wait_ms, const char *const *pinned,
                        struct pj_session **write, bool *again, struct pj_error *error)
{
    struct pj_session *replication = NULL;
    *write = NULL;
    *again = false;
    int code = open_session(joining, false, write, error);
    if (code == PJ_OK)
        code = open_session(joining, true, &replication, error);
    if (code == PJ_OK) {
        code = take_snapshot(joining, replication, *write, wait_ms, pinned, error);
        *again = code != PJ_OK && error->retryable && !error->storage;
    }
    pj_session_close(replication);
    if (code != PJ_OK) {
        pj_session_close(*write);
        *write = NULL;
    }
    return code;
}

int pj_joining_snapshot(const struct pj_joining *joining, const char *phase, const char *const *pinned,
                        struct pj_session **write, struct pj_error *error)
{
    int most = joining->slot_wait_ms, wait_ms = most < FIRST_WAIT_MS ? most : FIRST_WAIT_MS;
    bool again;
    int code = try_snapshot(joining, wait_ms, pinned, write, &again, error);
    while (again) {
        wait_ms = wait_ms < most / 2 ? 2 * wait_ms : most;
        code = pj_joining_wait(joining, error);
        if (code != PJ_OK)
            return code;
        code = try_snapshot(joining, wait_ms, pinned, write, &again, error);
    }
    return code == PJ_OK ? pj_job_phase(joining->job, phase, -1, error) : code;
}
