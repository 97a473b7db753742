/*
 * CONNECTING: a job opens both ends with all their checks (core/connect), or the read side alone where the former
 * pipeline has left its stream (core/relay); then STREAMING begins.
 */
#include "core/pipeline_internal.h"

#include <string.h>

/*
 * While the socket is left unread the walsender's own question is not seen, so what it hears must come by itself well
 * within its patience (wal_sender_timeout): else a part of a large transaction that takes longer to apply costs the
 * stream, each time anew.
 */
static uint64_t heartbeat_for(int sender_timeout_ms)
{
    uint64_t third = (uint64_t)sender_timeout_ms * 1000 / 3;
    return third && third < HEARTBEAT_US ? third : HEARTBEAT_US;
}

static void begin_afresh(struct pj_pipeline *p)
{
    const struct pj_connections *c = &p->connections;
    p->heartbeat_us = heartbeat_for(c->sender_timeout_ms);
    p->applied = c->checkpoint.lsn;
    p->received = p->confirmed = c->confirmed;
    p->keepalive = 0;
    pj_intake_begin(&p->intake, &c->checkpoint, c->witness_expected);
    p->pace = (struct pj_pace){0};
}

static void begin_streaming(struct pj_pipeline *p)
{
    struct pj_error error;
    pj_error_clear(&error);
    struct pj_connections *c = &p->connections;
    bool relayed = p->relay != NULL;
    if (relayed) {
        c->stream = p->relay->stream;
        p->relay->stream = NULL;
    }
    int code = pj_applier_connect(p->applier, &p->loop, c->apply, &c->checkpoint, &error);
    c->apply = NULL;
    if (code == PJ_OK) {
        code = pj_reader_open(&p->reader, &p->loop, c->stream, pj_pipeline_readable, p, &error);
        c->stream = NULL;
    }
    pj_connect_close(c);
    if (code != PJ_OK) {
        pj_pipeline_drop_relay(p);
        pj_pipeline_fail(p, &error);
        return;
    }
    p->schema_us = p->data_us = p->heard_us = pj_pipeline_now(p);
    pj_pipeline_enter(p, STREAMING);
    if (relayed)
        pj_pipeline_take_up_relay(p);
    else
        begin_afresh(p);
    if (!pj_pipeline_running(p))
        return; /* a batch that was left to it has failed before anything was sent: a module's refusal */
    bool trying = p->trouble.open; /* what could not be applied comes again first */
    pj_log(p->options->log, trying && p->trouble.attempts > 1 ? PJ_LOG_DEBUG : PJ_LOG_INFO,
           "%s slot %s at %s, applied up to %s", relayed ? "another setup; going on with" : "streaming from",
           c->checkpoint.slot, PJ_LSN(p->confirmed), PJ_LSN(p->applied));
    if (trying) {
        pj_state_set(p->options->state, PJ_WAITING, p->trouble.cause.message, p->trouble.cause.hint);
    } else {
        pj_pipeline_relax(p, false);
        pj_state_set(p->options->state, PJ_STREAMING, "", "");
    }
    if (p->options->handover)
        pj_handover_streaming(p->options->handover, p->options->outfit);
    pj_pipeline_status(p, true);
    pj_pipeline_pump(p);
}

static void on_connected(uv_work_t *work, int status)
{
    struct pj_pipeline *p = work->data;
    (void)status;
    p->first_read = NULL;
    if (p->connect_error.code == PJ_ERELOAD || (p->connect_error.code == PJ_OK && p->purpose == TO_LEAVE))
        pj_pipeline_pass_relay_on(p);
    else if (p->connect_error.code != PJ_OK || p->purpose == TO_STOP)
        pj_pipeline_drop_relay(p);
    if (p->connect_error.code == PJ_ERELOAD) {
        p->kept = p->connections.apply;
        p->connections.apply = NULL;
    }
    if (p->connect_error.code != PJ_OK) {
        pj_pipeline_fail(p, &p->connect_error);
    } else if (p->purpose == TO_STOP) {
        pj_connect_close(&p->connections);
        pj_pipeline_close(p, FINISHED);
    } else if (p->purpose == TO_LEAVE) {
        p->kept = p->connections.apply;
        p->connections.apply = NULL;
        pj_connect_close(&p->connections);
        pj_pipeline_leave(p);
    } else {
        begin_streaming(p);
    }
}

struct pj_connect_options pj_pipeline_connect_options(struct pj_pipeline *p)
{
    return (struct pj_connect_options){.deployment = &p->options->outfit->deployment,
                                       .setup = &p->options->outfit->setup,
                                       .roster = p->options->outfit->roster,
                                       .decoder = p->decoder,
                                       .stop = p->options->stop,
                                       .log = p->options->log,
                                       .epoch = p->options->epoch};
}

static void connect_job(uv_work_t *work)
{
    struct pj_pipeline *p = work->data;
    struct pj_connect_options options = pj_pipeline_connect_options(p);
    options.read = p->first_read;
    if (p->relay)
        pj_connect_read_side(&options, p->relay->applied, &p->connections, &p->connect_error);
    else
        pj_connect_open(&options, &p->connections, &p->connect_error);
}

void pj_pipeline_connect(struct pj_pipeline *p)
{
    pj_pipeline_enter(p, CONNECTING);
    pj_error_clear(&p->connect_error);
    p->connect_work.data = p;
    uv_queue_work(&p->loop, &p->connect_work, connect_job, on_connected);
}
