/*
 * The schema watch: some changes of the source's tables leave no trace in the stream, so its catalog is held against
 * what is known every few seconds, by a job beside the stream.
 */
#include "core/pipeline_internal.h"

#include <string.h>

/* The server shuts down, or has not started yet: either way the one that streams is not to stay. */
static const char CANNOT_CONNECT_NOW[] = "57P03";

static void on_schema_checked(uv_work_t *work, int status)
{
    struct pj_pipeline *p = work->data;
    (void)status;
    p->source_job = NO_SOURCE_JOB;
    if (!pj_pipeline_running(p))
        return;
    if (p->state == RESOLVING)
        pj_pipeline_look_up(p);
    /* a server that shuts down waits until all it has sent is confirmed, which the last transaction is not before
     * something follows it: let it go */
    bool leaving = strcmp(p->schema_error.sqlstate, CANNOT_CONNECT_NOW) == 0;
    if (p->schema_error.code == PJ_ESCHEMA || leaving)
        pj_pipeline_fail(p, &p->schema_error);
    if (p->purpose == TO_LEAVE)
        pj_pipeline_go_on_leaving(p);
}

static void schema_job(uv_work_t *work)
{
    struct pj_pipeline *p = work->data;
    struct pj_session *write;
    struct pj_session_options session = {.side = PJ_WRITE,
                                         .url = p->options->outfit->deployment.write_url,
                                         .purpose = "watch",
                                         .stop = p->options->stop};
    if (pj_session_open(&write, &session, &p->schema_error) != PJ_OK)
        return;
    pj_session_set_timeout(write, 20000);
    pj_source_compare(write, p->options->outfit->setup.tables, p->options->outfit->setup.ntables, &p->schema_error);
    pj_session_close(write);
}

void pj_pipeline_watch_schema(struct pj_pipeline *p)
{
    if (p->source_job || p->purpose != TO_STREAM)
        return;
    p->schema_us = pj_pipeline_now(p);
    p->source_job = WATCHING;
    pj_error_clear(&p->schema_error);
    p->schema_work.data = p;
    uv_queue_work(&p->loop, &p->schema_work, schema_job, on_schema_checked);
}
