/*
 * A halted pipeline keeps the read database's lock, so that a second daemon stands by and a resync asks for this one to
 * be stopped first, instead of both going on beside a daemon that still says of itself that it is halted. The session
 * that had the lock is gone with the failure; another takes it, and is asked now and then whether it is still there, for
 * a server that was restarted has forgotten the lock. Who finds it taken for good by somebody else ends.
 */
#include "core/pipeline_internal.h"

#include <stdio.h>

enum { RETRY_US = 2 * 1000 * 1000, PROBE_US = 3 * 1000 * 1000, ATTEMPTS = 5 };

/* Somebody may have had the lock, and be gone again: then this daemon has been overtaken all the same. */
static bool still_ours(struct pj_pipeline *p)
{
    struct pj_checkpoint checkpoint;
    bool installed;
    if (pj_catalog_read(p->halt_lock, &checkpoint, &installed, &p->halt_error) != PJ_OK)
        return false;
    p->halt_mine = installed && checkpoint.epoch == p->options->epoch->believed;
    return p->halt_mine;
}

/* The server may not have noticed yet that the session is gone, and keep the lock for it: then it is not somebody else's. */
static void end_former(struct pj_pipeline *p)
{
    char pid[16];
    const char *params[] = {pid};
    struct pj_error ignored;
    PGresult *result;
    snprintf(pid, sizeof pid, "%d", p->halt_pid);
    if (!p->halt_pid)
        return;
    pj_session_query(p->halt_lock, &result,
                     "SELECT pg_catalog.pg_terminate_backend(pid) FROM pg_catalog.pg_stat_activity WHERE pid = "
                     "$1::int AND pid <> pg_catalog.pg_backend_pid() AND datname = pg_catalog.current_database() "
                     "AND application_name = 'pgprojector halted'",
                     1, params, &ignored);
    PQclear(result);
}

static void lock_job(uv_work_t *work)
{
    struct pj_pipeline *p = work->data;
    struct pj_session_options options = {
        .side = PJ_READ, .url = p->options->outfit->deployment.read_url, .purpose = "halted", .stop = p->options->stop};
    if (p->halt_lock && pj_session_exec(p->halt_lock, "SELECT", &p->halt_error) == PJ_OK)
        return;
    pj_session_close(p->halt_lock);
    p->halt_lock = NULL;
    p->halt_mine = false;
    pj_error_clear(&p->halt_error);
    if (pj_session_open(&p->halt_lock, &options, &p->halt_error) != PJ_OK)
        return;
    pj_session_set_timeout(p->halt_lock, 10000);
    end_former(p);
    if (pj_catalog_lock(p->halt_lock, &p->halt_mine, NULL, &p->halt_error) == PJ_OK && p->halt_mine && still_ours(p)) {
        p->halt_pid = PQbackendPID(pj_session_conn(p->halt_lock));
        return;
    }
    pj_session_close(p->halt_lock);
    p->halt_lock = NULL;
}

static void on_locked(uv_work_t *work, int status)
{
    struct pj_pipeline *p = work->data;
    (void)status;
    p->halt_locking = false;
    if (p->halt_mine)
        p->halt_refused = 0;
    if (p->state != HALTED || p->halt_mine || p->halt_error.code != PJ_OK || ++p->halt_refused < ATTEMPTS)
        return;
    pj_error_set(p->error, PJ_ESTALE, "another daemon has taken over while this one was halted");
    pj_pipeline_finish(p);
}

void pj_pipeline_keep_lock(struct pj_pipeline *p)
{
    uint64_t now = pj_pipeline_now(p);
    if (p->halt_locking || now - p->halt_us < (p->halt_lock ? PROBE_US : RETRY_US))
        return;
    p->halt_us = now;
    p->halt_locking = true;
    pj_error_clear(&p->halt_error);
    p->halt_work.data = p;
    uv_queue_work(&p->loop, &p->halt_work, lock_job, on_locked);
}
