/*
 * The pipeline, on one event loop.
 *
 *                      +------------------------- timer, jittered ------------------------+
 *                      v                                                                  |
 *      start ---> CONNECTING --both ends open--> STREAMING <---> RESOLVING             BACKOFF
 *                      |                             |               |                    ^
 *                      +---------- failure ----------+---------------+--> CLOSING --------+--- worth retrying
 *                                                                            |
 *                                                                            +--> HALTED ---- not without somebody's help
 *                                                                            +--> FINISHED -- stop, another daemon,
 *                                                                                              another outfit
 *
 * STREAMING: the reader's messages go through the intake into the collecting batch, while the applier applies another
 * one. A batch is handed over at a commit, when the applier is idle and the pace says so, or when it is full and can be
 * made ready behind the one that is written; or in the middle of a transaction, when it has reached its cap or a
 * TRUNCATE must not be mixed with what came before it. When all are full the socket is left unread. RESOLVING is
 * STREAMING with the intake held up: a relation that the map does not know is being looked up on the write database.
 *
 * Any failure closes both connections, drops what was not committed, and goes through CONNECTING again, where the truth
 * is read back from the checkpoint. There is no other way to recover, so that this one is well trodden.
 *
 * Another outfit (core/handover.h) is offered: what has been collected up to a commit is applied, a transaction in
 * parts up to its end, and this one finishes; its owner runs the other. The applying session goes on to that, and the
 * stream does where it can (pipeline_relay.c).
 *
 * Confirmation. What is reported as flushed is the end of the transaction *before* the last applied one, so that the
 * last one, the witness, comes again after a reconnect. While nothing but keepalives arrives, the keepalive's position
 * is made the checkpoint and then reported.
 */
#include "core/pipeline_internal.h"

#include "base/clock.h"
#include "core/mend.h"
#include "wire/wal2json.h"

#include <stdlib.h>
#include <string.h>

static const char *const state_names[] = {"connecting", "streaming", "resolving", "closing",
                                          "backoff",    "halted",    "finished"};

uint64_t pj_pipeline_now(struct pj_pipeline *p)
{
    (void)p;
    return pj_clock_monotonic_us();
}

void pj_pipeline_enter(struct pj_pipeline *p, enum pipeline_state state)
{
    pj_log(p->options->log, PJ_LOG_DEBUG, "pipeline: %s -> %s", state_names[p->state], state_names[state]);
    p->state = state;
}

bool pj_pipeline_running(const struct pj_pipeline *p)
{
    return p->state == STREAMING || p->state == RESOLVING;
}

/* --------------------------------------------------------------------------------------------------------- failures */

void pj_pipeline_finish(struct pj_pipeline *p)
{
    pj_pipeline_enter(p, FINISHED);
    if (p->purpose == TO_STOP && p->error->code == PJ_ERELOAD)
        pj_error_clear(p->error);
    uv_close((uv_handle_t *)&p->stop, NULL);
    uv_close((uv_handle_t *)&p->wake, NULL);
    uv_close((uv_handle_t *)&p->tick, NULL);
    uv_close((uv_handle_t *)&p->retry, NULL);
    pj_gate_on_request(p->options->gate, NULL, NULL);
    if (p->options->handover)
        pj_handover_on_offer(p->options->handover, NULL, NULL);
}

static void on_retry(uv_timer_t *timer)
{
    pj_pipeline_connect(timer->data);
}

static void back_off(struct pj_pipeline *p)
{
    pj_pipeline_enter(p, BACKOFF);
    uint64_t half = (uint64_t)p->backoff_ms / 2 + 1;
    uint64_t pause = half + (uint64_t)rand() % half; /* jitter only; nothing depends on its quality */
    p->backoff_ms = p->backoff_ms * 2 < BACKOFF_LAST_MS ? p->backoff_ms * 2 : BACKOFF_LAST_MS;
    uv_timer_start(&p->retry, on_retry, pause, 0);
}

static void after_closing(struct pj_pipeline *p)
{
    for (int i = 0; i < BATCHES; i++)
        pj_batch_reset(p->batches[i], KEEP_BYTES);
    pj_pipeline_spare_all(p);
    pj_pipeline_collect_anew(p);
    p->held = NOTHING_HELD;
    p->in_parts = false;
    p->reread.batch = NULL;
    pj_careful_reset(p->careful);
    if (p->purpose == TO_STOP || p->after_closing == FINISHED)
        pj_pipeline_finish(p);
    else if (p->purpose == TO_LEAVE)
        pj_pipeline_leave(p);
    else if (p->after_closing == BACKOFF)
        back_off(p);
    else if (p->after_closing == CONNECTING)
        pj_pipeline_connect(p);
    else
        pj_pipeline_enter(p, HALTED);
}

/* Closed is when both connections are, and no job works on what is to be dropped. */
void pj_pipeline_closed_so_far(struct pj_pipeline *p)
{
    if (p->state == CLOSING && p->open_parts == 0 && p->source_job != LOOKING_UP && p->applying == NORMALLY)
        after_closing(p);
}

static void on_part_closed(void *context)
{
    struct pj_pipeline *p = context;
    p->open_parts--;
    pj_pipeline_closed_so_far(p);
}

void pj_pipeline_close(struct pj_pipeline *p, enum pipeline_state next)
{
    bool to_another = p->error->code == PJ_ERELOAD || (p->purpose == TO_LEAVE && next == CONNECTING);
    bool relay = to_another && pj_pipeline_may_relay(p);
    pj_pipeline_enter(p, CLOSING);
    p->after_closing = next;
    p->open_parts = 1;
    if (relay) {
        p->open_parts++;
        pj_pipeline_leave_relay(p, on_part_closed);
    } else if (p->reader) {
        p->open_parts++;
        pj_reader_close(p->reader, on_part_closed, p);
        p->reader = NULL;
    }
    if (pj_applier_connected(p->applier)) {
        p->open_parts++;
        if (p->purpose == TO_LEAVE && next == CONNECTING && !pj_pipeline_apply_open(p))
            pj_applier_release(p->applier, &p->kept, on_part_closed, p);
        else
            pj_applier_disconnect(p->applier, on_part_closed, p);
    }
    on_part_closed(p);
}

void pj_pipeline_relax(struct pj_pipeline *p, bool committed)
{
    if (p->trouble.open)
        pj_state_set(p->options->state, PJ_STREAMING, "", "");
    int attempts = pj_trouble_end(&p->trouble, committed);
    if (attempts)
        pj_log(p->options->log, PJ_LOG_INFO, "going on, after %d attempt%s", attempts, attempts == 1 ? "" : "s");
}

/*
 * Serialization failures are how a changed catalog and other commands make themselves known, and the intake asks for a
 * large transaction once more when it has learnt that it is new: all in order. The first after a commit is no reason to
 * pause; were it to come again at once, it would be.
 */
static void try_again(struct pj_pipeline *p, const struct pj_error *error)
{
    bool rereading = p->intake.once_more, expected = rereading || strcmp(error->sqlstate, "40001") == 0;
    p->intake.once_more = false;
    p->figures.reconnects++;
    pj_pipeline_publish(p); /* a stream that ends each time at once would never come to it */
    bool hurry = expected && !p->hurried;
    p->hurried = hurry;
    enum pj_log_level level = PJ_LOG_INFO;
    if (!expected)
        level = pj_trouble_met(&p->trouble, error, p->state == CONNECTING, p->received, pj_pipeline_now(p))
                    ? PJ_LOG_WARNING
                    : PJ_LOG_DEBUG;
    pj_log_error(p->options->log, level, error);
    if (!hurry && !rereading) /* that is nothing to wait for; what else there may be stays said */
        pj_state_set(p->options->state, PJ_WAITING, error->message, error->hint);
    pj_pipeline_close(p, hurry ? CONNECTING : BACKOFF);
}

static bool for_the_owner(const struct pj_pipeline *p, const struct pj_error *error)
{
    return error->code == PJ_ESTALE || error->code == PJ_ERELOAD ||
           (error->code == PJ_EGAP && p->options->outfit->deployment.resync_on_gap);
}

/* Says what happened, once, without the values of rows, and what comes of it. */
void pj_pipeline_fail(struct pj_pipeline *p, const struct pj_error *cause)
{
    struct pj_error without_values = *cause;
    const struct pj_error *error = &without_values;
    if (p->state == CLOSING || p->state == FINISHED)
        return;
    pj_mend_strip(&without_values);
    if (p->purpose == TO_STOP || error->code == PJ_ESTOPPED) {
        pj_pipeline_close(p, FINISHED);
    } else if (for_the_owner(p, error)) {
        *p->error = *error;
        pj_pipeline_close(p, FINISHED);
    } else if (error->retryable || (p->state == CONNECTING && error->code == PJ_ECONFIG)) {
        try_again(p, error);
    } else {
        pj_log(p->options->log, PJ_LOG_ERROR, "halted: %s", error->message);
        if (error->hint[0])
            pj_log(p->options->log, PJ_LOG_ERROR, "HINT: %s", error->hint);
        pj_state_set(p->options->state, PJ_HALTED, error->message, error->hint);
        pj_pipeline_close(p, HALTED);
    }
}

/* --------------------------------------------------------------------------------------------------------- the loop */

/* A stop lets the batch under way finish, for a while; then confirms and closes. */
static void go_on_stopping(struct pj_pipeline *p)
{
    switch (p->state) {
    case STREAMING:
    case RESOLVING:
        if (!pj_pipeline_apply_idle(p) && pj_pipeline_now(p) - p->stop_us < STOP_US)
            return;
        pj_pipeline_status(p, false);
        if (pj_pipeline_running(p))
            pj_pipeline_close(p, FINISHED);
        break;
    case BACKOFF:
    case HALTED:
        uv_timer_stop(&p->retry);
        pj_pipeline_finish(p);
        break;
    case CONNECTING: /* the job sees the stop, too */
    case CLOSING:
    case FINISHED:
        break;
    }
}

static void on_stop(uv_poll_t *poll, int status, int events)
{
    struct pj_pipeline *p = poll->data;
    (void)status;
    (void)events;
    uv_poll_stop(poll); /* the descriptor stays readable */
    p->purpose = TO_STOP;
    p->stop_us = pj_pipeline_now(p);
    go_on_stopping(p);
}

void pj_pipeline_leave(struct pj_pipeline *p)
{
    pj_error_set(p->error, PJ_ERELOAD, "another setup is to be used");
    pj_pipeline_finish(p);
}

/*
 * While it streams, what has been collected up to a commit still goes (pipeline_apply.c); then, at a commit, it ends. A
 * job that looks at the setup is waited for before, not after, the stream is closed.
 */
void pj_pipeline_go_on_leaving(struct pj_pipeline *p)
{
    switch (p->state) {
    case STREAMING:
    case RESOLVING:
        if (!pj_pipeline_may_leave(p) || p->source_job)
            return;
        pj_pipeline_status(p, false);
        if (pj_pipeline_running(p))
            pj_pipeline_close(p, CONNECTING); /* but that is the owner's business */
        break;
    case BACKOFF:
    case HALTED:
        uv_timer_stop(&p->retry);
        pj_pipeline_leave(p);
        break;
    case CONNECTING: /* when the job is over */
    case CLOSING:
    case FINISHED:
        break;
    }
}

static void on_wake(uv_async_t *async)
{
    struct pj_pipeline *p = async->data;
    if (p->purpose == TO_STREAM && p->options->handover && pj_handover_offered(p->options->handover)) {
        pj_log(p->options->log, PJ_LOG_DEBUG, "pipeline: leaving at the next commit");
        p->purpose = TO_LEAVE;
    }
    if (pj_pipeline_running(p) && p->purpose != TO_STOP)
        pj_pipeline_pump(p);
    if (p->purpose == TO_LEAVE)
        pj_pipeline_go_on_leaving(p);
}

static void wake_pipeline(void *context)
{
    struct pj_pipeline *p = context;
    uv_async_send(&p->wake);
}

/* The connection may be open and nobody there: a frozen server, or something between that acknowledges for it. */
static void fail_silent(struct pj_pipeline *p)
{
    struct pj_error error;
    pj_error_set(&error, PJ_EUNREACHABLE, "write database: not a word for %d s, though asked for one",
                 SILENCE_US / 1000000);
    error.retryable = true;
    pj_pipeline_fail(p, &error);
}

static void on_tick(uv_timer_t *timer)
{
    struct pj_pipeline *p = timer->data;
    if (p->purpose == TO_STOP) {
        go_on_stopping(p);
        return;
    }
    if (p->purpose == TO_LEAVE)
        pj_pipeline_go_on_leaving(p);
    if (p->state == HALTED)
        pj_pipeline_keep_lock(p);
    if (!pj_pipeline_running(p))
        return;
    pj_pipeline_publish(p);
    uint64_t now = pj_pipeline_now(p);
    bool owed = p->confirmed && now - p->status_us > p->heartbeat_us;
    bool ping = now - p->ping_us > PING_US && pj_pipeline_drained(p);
    if (ping || owed)
        pj_pipeline_status(p, true);
    if (pj_pipeline_running(p) && p->reading && now - p->heard_us > SILENCE_US)
        fail_silent(p);
    if (pj_pipeline_running(p))
        pj_pipeline_stay_awake(p);
    if (pj_pipeline_running(p) && now - p->schema_us > SCHEMA_US)
        pj_pipeline_watch_schema(p);
    if (pj_pipeline_running(p))
        pj_pipeline_pump(p);
}

static void init_loop(struct pj_pipeline *p)
{
    uv_loop_init(&p->loop);
    uv_poll_init(&p->loop, &p->stop, p->options->stop->fd);
    uv_async_init(&p->loop, &p->wake, on_wake);
    uv_timer_init(&p->loop, &p->tick);
    uv_timer_init(&p->loop, &p->retry);
    p->stop.data = p->wake.data = p->tick.data = p->retry.data = p;
    uv_poll_start(&p->stop, UV_READABLE, on_stop);
    uv_timer_start(&p->tick, on_tick, TICK_MS, TICK_MS);
    pj_gate_on_request(p->options->gate, wake_pipeline, p);
    if (p->options->handover)
        pj_handover_on_offer(p->options->handover, wake_pipeline, p);
}

/* The daemon's lock stays where it is, and the next run has no need to take over once more. */
static void keep_session(struct pj_pipeline *p)
{
    if (!p->kept)
        return;
    if (p->error->code == PJ_ERELOAD)
        *p->options->read = pj_session_attach(p->kept, PJ_READ, p->options->stop);
    else
        PQfinish(p->kept);
}

int pj_pipeline_run(const struct pj_pipeline_options *options, struct pj_error *error)
{
    pj_error_clear(error);
    struct pj_setup *setup = &options->outfit->setup;
    struct pj_pipeline *p = pj_alloc(sizeof *p);
    p->options = options;
    p->error = error;
    p->first_read = *options->read;
    *options->read = NULL;
    p->backoff_ms = BACKOFF_FIRST_MS;
    p->decoder = pj_wal2json_new(setup->relmap);
    for (int i = 0; i < BATCHES; i++)
        p->batches[i] = pj_batch_new(setup->tables, setup->ntables);
    pj_pipeline_spare_all(p);
    p->intake = (struct pj_intake){.decoder = p->decoder, .batch_bytes = options->outfit->deployment.batch_bytes};
    pj_pipeline_collect_anew(p);
    struct pj_applier_callbacks callbacks = {
        .done = pj_pipeline_applied, .failed = pj_pipeline_apply_failed, .context = p};
    size_t batch_bytes = options->outfit->deployment.batch_bytes;
    p->applier = pj_applier_new(setup, batch_bytes, &callbacks);
    p->careful = pj_careful_new(setup, options->outfit->deployment.read_url, batch_bytes, options->stop, options->log);
    pj_state_get_figures(options->state, &p->figures);
    p->intake.skipped = p->figures.skipped;
    pj_pipeline_accept_relay(p);
    init_loop(p);
    pj_pipeline_connect(p);
    uv_run(&p->loop, UV_RUN_DEFAULT);
    uv_loop_close(&p->loop);
    pj_pipeline_publish(p);
    pj_session_close(p->halt_lock);
    keep_session(p);
    pj_careful_free(p->careful);
    pj_applier_free(p->applier);
    for (int i = 0; i < BATCHES; i++)
        pj_batch_free(p->batches[i]);
    pj_intake_learn(&p->intake, NULL, NULL);
    p->decoder->free(p->decoder);
    pj_free(p);
    return error->code;
}
