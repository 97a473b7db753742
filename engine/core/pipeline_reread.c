/*
 * The catalog has changed under a batch: a command has paused a projection, a key was parked or healed beside the
 * daemon. The fence has met another version than ours, so the batch's transaction came to nothing; else all is in order,
 * and there is no reason to let go of the stream, whose messages are gone. So the applying connection is brought back to
 * rest, what the daemon holds of the catalog is read again in it, and the very same batch is applied once more, from the
 * old rows on (whoever changed the catalog may have repaired a mirror). The stream is collected meanwhile.
 *
 *      apply --40001--> REREADING: roll back, read (a job) --> apply
 *                            \--another roster, another daemon, a lost connection--> as after any failure
 *
 * A later part of a large transaction cannot be applied again: what came before it is gone. Then, as after any failure,
 * all is read once more from the checkpoint on.
 */
#include "core/pipeline_internal.h"

#include <string.h>

enum { IN_A_ROW = 8 }; /* then it is something else, or others leave us no time: with a pause, then */

/* PJ_OK with the cause's error where the version is the same: then it was something else. */
static void read_again(struct pj_pipeline *p, struct pj_session *read)
{
    struct pj_connect_options options = pj_pipeline_connect_options(p);
    int64_t version = p->reread.believed.version;
    options.read = read;
    pj_session_set_timeout(read, 30000);
    if (pj_session_recover(read, &p->reread.error) != PJ_OK ||
        pj_connect_reread(&options, &p->reread.believed, &p->reread.error) != PJ_OK)
        return;
    if (p->reread.believed.version == version)
        p->reread.error = p->reread.cause;
}

static void reread_job(uv_work_t *work)
{
    struct pj_pipeline *p = work->data;
    struct pj_session *read = pj_session_attach(p->reread.conn, PJ_READ, p->options->stop);
    read_again(p, read);
    p->reread.conn = pj_session_detach(read);
}

static void drop_connection(struct pj_pipeline *p)
{
    PQfinish(p->reread.conn);
    p->reread.conn = NULL;
}

static void apply_again(struct pj_pipeline *p)
{
    struct pj_error error;
    PGconn *conn = p->reread.conn;
    p->reread.conn = NULL;
    if (pj_applier_connect(p->applier, &p->loop, conn, &p->reread.believed, &error) != PJ_OK) {
        pj_pipeline_fail(p, &error);
        return;
    }
    struct pj_batch *batch = p->reread.batch;
    p->reread.batch = NULL;
    pj_applier_apply(p->applier, batch, p->reread.commit);
}

static void on_reread(uv_work_t *work, int status)
{
    struct pj_pipeline *p = work->data;
    (void)status;
    p->applying = NORMALLY;
    if (p->state == CLOSING) {
        drop_connection(p);
        pj_pipeline_closed_so_far(p);
    } else if (p->reread.error.code == PJ_ERELOAD) {
        p->kept = p->reread.conn;
        pj_pipeline_fail(p, &p->reread.error);
    } else if (p->reread.error.code != PJ_OK) {
        drop_connection(p);
        pj_pipeline_fail(p, &p->reread.error);
    } else {
        apply_again(p);
    }
}

/* The applier has let go of its connection. */
static void on_released(void *context)
{
    struct pj_pipeline *p = context;
    if (p->state == CLOSING || !p->reread.conn) {
        drop_connection(p);
        p->applying = NORMALLY;
        if (p->state == CLOSING)
            pj_pipeline_closed_so_far(p);
        else
            pj_pipeline_fail(p, &p->reread.cause);
        return;
    }
    pj_error_clear(&p->reread.error);
    p->reread.work.data = p;
    uv_queue_work(&p->loop, &p->reread.work, reread_job, on_reread);
}

bool pj_pipeline_reread(struct pj_pipeline *p, const struct pj_error *error)
{
    bool changed = strcmp(error->sqlstate, "40001") == 0;
    if (!changed || !pj_pipeline_running(p) || p->applying != NORMALLY || p->purpose == TO_STOP ||
        p->reread.in_a_row >= IN_A_ROW)
        return false;
    p->reread.believed = *pj_applier_believed(p->applier);
    p->reread.cause = *error;
    p->reread.batch = pj_applier_take_back(p->applier, &p->reread.commit, &p->reread.conn, on_released, p);
    if (!p->reread.batch)
        return false;
    p->reread.in_a_row++;
    p->applying = REREADING;
    bool ours = strstr(error->message, "the catalog has changed") != NULL; /* as pgprojector.demand_one says it */
    pj_log(p->options->log, PJ_LOG_INFO, "%s",
           ours ? "a command has changed a projection's state or its keys: reading it again" : error->message);
    return true;
}
