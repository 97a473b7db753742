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
 *                                                                            +--> FINISHED -- stop, or another daemon
 *
 * STREAMING: the reader's messages go through the intake into the collecting batch, while the applier applies the other
 * one. A batch is handed over at a commit, when the applier is idle and the pace says so; or in the middle of a
 * transaction, when it has reached its cap or a TRUNCATE must not be mixed with what came before it. When both are full
 * the socket is left unread. RESOLVING is STREAMING with the intake held up: a relation that the map does not know is
 * being looked up on the write database.
 *
 * Any failure closes both connections, drops what was not committed, and goes through CONNECTING again, where the truth is
 * read back from the checkpoint. There is no other way to recover, so that this one is well trodden.
 *
 * Confirmation. What is reported as flushed is the end of the transaction *before* the last applied one, so that the last
 * one, the witness, comes again after a reconnect. While nothing but keepalives arrives, the keepalive's position is made
 * the checkpoint and then reported.
 */
#include "core/pipeline.h"

#include "base/clock.h"
#include "core/applier.h"
#include "core/careful.h"
#include "core/connect.h"
#include "core/intake.h"
#include "core/pace.h"
#include "pg/reader.h"
#include "wire/wal2json.h"

#include <stdlib.h>
#include <string.h>

enum pipeline_state { CONNECTING, STREAMING, RESOLVING, CLOSING, BACKOFF, HALTED, FINISHED };

static const char *const state_names[] = {"connecting", "streaming", "resolving", "closing",
                                          "backoff",    "halted",    "finished"};

enum {
    TICK_MS = 50,
    STATUS_US = 200 * 1000,      /* least time between status updates after a commit */
    HEARTBEAT_US = 5000 * 1000,  /* longest time without one */
    PING_US = 400 * 1000,        /* how often an idle stream is asked for its position */
    POSITION_US = 100 * 1000,    /* least time between checkpoints that only move the position */
    IDLE_POSITION_US = 900 * 1000, /* the same while nothing but keepalives arrives */
    SCHEMA_US = 10 * 1000 * 1000,
    BACKOFF_FIRST_MS = 250,
    BACKOFF_LAST_MS = 30000,
    STOP_US = 5 * 1000 * 1000,   /* how long a stop waits for the batch under way */
    KEEP_BYTES = 4 << 20,
    MESSAGES_A_TURN = 20000      /* then the loop comes round, for status and results */
};

struct pipeline {
    const struct pj_pipeline_options *options;
    enum pipeline_state state, after_closing;
    uv_loop_t loop;
    uv_poll_t stop;
    uv_async_t wake; /* the gate's */
    uv_timer_t tick, retry;
    int open_parts; /* connections being closed */

    struct pj_decoder *decoder;
    struct pj_intake intake;
    struct pj_applier *applier;
    struct pj_careful *careful;
    pj_lsn careful_until;       /* the fast way has failed before this position: the careful one up to it; 0: the fast one */
    struct pj_reader *reader;
    struct pj_batch *batches[2], *collecting;
    struct pj_pace pace;
    bool holding;               /* a message was handed back by the intake and is to be handed in again */
    struct pj_copydata held;
    bool split;                 /* the collecting batch must be applied as a part before `held` is taken */

    pj_lsn received, applied, confirmed;
    pj_lsn keepalive;           /* the latest keepalive's position; 0: none since the last data */
    uint64_t status_us, ping_us, position_us, schema_us, apply_us, data_us, stop_us;
    struct pj_connect_epoch epoch; /* the connect job's while one runs */
    struct pj_session *first_read; /* the caller's session, for the first connect */
    int backoff_ms;
    bool stopping;

    uv_work_t connect_work, resolve_work, schema_work, careful_work;
    bool connecting, resolving, watching, applying_carefully; /* jobs under way on other threads */
    struct pj_batch *careful_batch;
    bool careful_commit;
    struct pj_checkpoint careful_believed;
    struct pj_error careful_error;
    struct pj_connections connections;
    bool resolve_partition;     /* what the resolve job looks up */
    char *condition, *ancestors; /* what it found */
    struct pj_error connect_error, resolve_error, schema_error;
    struct pj_error *error;     /* of pj_pipeline_run */
    struct pj_figures figures;
};

static void connect_again(struct pipeline *p);
static void apply_carefully(struct pipeline *p, struct pj_batch *batch, bool commit);
static void pump(struct pipeline *p);

static uint64_t now_us(struct pipeline *p)
{
    (void)p;
    return pj_clock_monotonic_us();
}

static void enter(struct pipeline *p, enum pipeline_state state)
{
    pj_log(p->options->log, PJ_LOG_DEBUG, "pipeline: %s -> %s", state_names[p->state], state_names[state]);
    p->state = state;
}

static bool running(const struct pipeline *p)
{
    return p->state == STREAMING || p->state == RESOLVING;
}

/* --------------------------------------------------------------------------------------------------------- failures */

static void finish_loop(struct pipeline *p)
{
    enter(p, FINISHED);
    uv_close((uv_handle_t *)&p->stop, NULL);
    uv_close((uv_handle_t *)&p->wake, NULL);
    uv_close((uv_handle_t *)&p->tick, NULL);
    uv_close((uv_handle_t *)&p->retry, NULL);
    pj_gate_on_request(p->options->gate, NULL, NULL);
}

static void on_retry(uv_timer_t *timer)
{
    connect_again(timer->data);
}

static void back_off(struct pipeline *p)
{
    enter(p, BACKOFF);
    uint64_t half = (uint64_t)p->backoff_ms / 2 + 1;
    uint64_t pause = half + (uint64_t)rand() % half; /* jitter only; nothing depends on its quality */
    p->backoff_ms = p->backoff_ms * 2 < BACKOFF_LAST_MS ? p->backoff_ms * 2 : BACKOFF_LAST_MS;
    uv_timer_start(&p->retry, on_retry, pause, 0);
}

static void after_closing(struct pipeline *p)
{
    for (int i = 0; i < 2; i++)
        pj_batch_reset(p->batches[i], KEEP_BYTES);
    p->collecting = p->intake.batch = p->batches[0];
    p->holding = p->split = false;
    pj_careful_reset(p->careful);
    if (p->stopping || p->after_closing == FINISHED)
        finish_loop(p);
    else if (p->after_closing == BACKOFF)
        back_off(p);
    else
        enter(p, HALTED);
}

/* Closed is when both connections are, and no job works on what is to be dropped. */
static void closed_so_far(struct pipeline *p)
{
    if (p->state == CLOSING && p->open_parts == 0 && !p->resolving && !p->applying_carefully)
        after_closing(p);
}

static void on_part_closed(void *context)
{
    struct pipeline *p = context;
    p->open_parts--;
    closed_so_far(p);
}

static void close_parts(struct pipeline *p, enum pipeline_state next)
{
    enter(p, CLOSING);
    p->after_closing = next;
    p->open_parts = 1;
    if (p->reader) {
        p->open_parts++;
        pj_reader_close(p->reader, on_part_closed, p);
        p->reader = NULL;
    }
    if (pj_applier_connected(p->applier)) {
        p->open_parts++;
        pj_applier_disconnect(p->applier, on_part_closed, p);
    }
    on_part_closed(p);
}

/* Says what happened, once, and what comes of it. */
static void fail(struct pipeline *p, const struct pj_error *error)
{
    if (p->state == CLOSING || p->state == FINISHED)
        return;
    struct pj_state *state = p->options->state;
    if (p->stopping || error->code == PJ_ESTOPPED) {
        close_parts(p, FINISHED);
    } else if (error->code == PJ_ESTALE || (error->code == PJ_EGAP && p->options->deployment->resync_on_gap)) {
        *p->error = *error;
        close_parts(p, FINISHED);
    } else if (error->retryable || (p->state == CONNECTING && error->code == PJ_ECONFIG)) {
        pj_log_error(p->options->log, PJ_LOG_WARNING, error);
        pj_state_set(state, PJ_WAITING, error->message, error->hint);
        p->figures.reconnects++;
        close_parts(p, BACKOFF);
    } else {
        pj_log(p->options->log, PJ_LOG_ERROR, "halted: %s", error->message);
        if (error->hint[0])
            pj_log(p->options->log, PJ_LOG_ERROR, "HINT: %s", error->hint);
        pj_state_set(state, PJ_HALTED, error->message, error->hint);
        close_parts(p, HALTED);
    }
}

/* ----------------------------------------------------------------------------------------------------- confirmation */

static void publish(struct pipeline *p)
{
    p->figures.received = p->received;
    p->figures.applied = p->applied;
    p->figures.confirmed = p->confirmed;
    p->figures.skipped = p->intake.skipped;
    p->figures.buffered_bytes = pj_batch_bytes(p->collecting);
    pj_state_set_figures(p->options->state, &p->figures);
}

static void send_status(struct pipeline *p, bool reply_wanted)
{
    struct pj_error error;
    pj_error_clear(&error);
    p->status_us = now_us(p);
    if (reply_wanted)
        p->ping_us = p->status_us;
    if (pj_reader_status(p->reader, p->received, p->confirmed, reply_wanted, &error) != PJ_OK)
        fail(p, &error);
}

static bool apply_idle(const struct pipeline *p)
{
    return pj_applier_idle(p->applier) && !p->applying_carefully;
}

/* A transaction of several parts is open. */
static bool apply_open(const struct pipeline *p)
{
    return pj_applier_in_transaction(p->applier) || (!p->applying_carefully && pj_careful_in_transaction(p->careful));
}

/* Nothing is buffered: no transaction is open, none waits, none is being applied. */
static bool drained(const struct pipeline *p)
{
    return !p->intake.in_transaction && !p->holding && !p->collecting->transactions && apply_idle(p) && !apply_open(p);
}

static void apply_batch(struct pipeline *p, struct pj_batch *batch, bool commit)
{
    p->apply_us = now_us(p);
    if (p->careful_until)
        apply_carefully(p, batch, commit);
    else
        pj_applier_apply(p->applier, batch, commit);
}

/* A keepalive's position becomes the checkpoint (and is confirmed when that is durable), at a bounded rate. */
static void advance_by_keepalive(struct pipeline *p)
{
    enum pj_gate_state gate = pj_gate_state(p->options->gate, NULL);
    if (p->keepalive <= p->applied || !drained(p) || p->stopping || gate == PJ_GATE_HELD || gate == PJ_GATE_REACHED)
        return;
    uint64_t now = now_us(p), least = now - p->data_us < IDLE_POSITION_US ? POSITION_US : IDLE_POSITION_US;
    if (now - p->position_us < least)
        return;
    struct pj_error error;
    pj_error_clear(&error);
    if (pj_intake_keepalive(&p->intake, p->keepalive, &error) != PJ_OK) {
        fail(p, &error);
        return;
    }
    p->position_us = now;
    p->intake.skip_to = 0;
    struct pj_batch *batch = p->collecting;
    batch->end_lsn = p->keepalive;
    p->collecting = p->intake.batch = p->batches[batch == p->batches[0]];
    apply_batch(p, batch, true);
}

/* ------------------------------------------------------------------------------------------------------- the gate */

static bool gate_lets_read(struct pipeline *p)
{
    switch (pj_gate_state(p->options->gate, NULL)) {
    case PJ_GATE_OPEN:
        return true;
    case PJ_GATE_ASKED:
        return p->intake.in_transaction;
    case PJ_GATE_ADVANCING:
        return p->collecting->transactions == 0; /* one at a time, for it may end beyond the target */
    case PJ_GATE_HELD:
    case PJ_GATE_REACHED:
        break;
    }
    return false;
}

static bool gate_lets_apply(struct pipeline *p)
{
    pj_lsn target;
    switch (pj_gate_state(p->options->gate, &target)) {
    case PJ_GATE_OPEN:
    case PJ_GATE_ASKED:
        return true;
    case PJ_GATE_ADVANCING:
        return p->collecting->end_lsn <= target;
    case PJ_GATE_HELD:
    case PJ_GATE_REACHED:
        break;
    }
    return false;
}

static void mind_the_gate(struct pipeline *p)
{
    pj_lsn target;
    enum pj_gate_state state = pj_gate_state(p->options->gate, &target);
    bool applying = !apply_idle(p);
    if (state == PJ_GATE_ASKED && drained(p)) {
        pj_gate_held(p->options->gate);
    } else if (state == PJ_GATE_ADVANCING && !applying) {
        bool beyond = p->collecting->ends_at_commit && p->collecting->transactions && p->collecting->end_lsn > target;
        if (beyond || p->applied >= target || (drained(p) && p->keepalive >= target))
            pj_gate_reached(p->options->gate);
        else if (drained(p) && now_us(p) - p->ping_us > 20000)
            send_status(p, true);
    }
}

/* ------------------------------------------------------------------------------------------------------ handing over */

/* Hands the collecting batch to the applier, and goes on with the other. */
static void hand_over(struct pipeline *p, bool commit)
{
    struct pj_batch *batch = p->collecting;
    p->collecting = p->intake.batch = p->batches[batch == p->batches[0]];
    p->collecting->ends_at_commit = !p->intake.in_transaction;
    p->split = false;
    p->pace.gathering_us = 0;
    apply_batch(p, batch, commit);
}

static bool worth_committing(struct pipeline *p)
{
    const struct pj_batch *batch = p->collecting;
    uint64_t now = now_us(p);
    if (apply_open(p) || p->stopping || p->careful_until)
        return true;
    if (!pj_batch_has_rows(batch)) {
        /* only the position moves; that may wait */
        if (now - p->position_us < POSITION_US && pj_gate_state(p->options->gate, NULL) == PJ_GATE_OPEN)
            return false;
        p->position_us = now;
        return true;
    }
    if (pj_gate_state(p->options->gate, NULL) != PJ_GATE_OPEN || pj_intake_full(&p->intake))
        return true;
    return !pj_pace_gather(&p->pace, batch->transactions, (uint64_t)p->options->deployment->gather_ms * 1000, now);
}

static void apply_what_is_ready(struct pipeline *p)
{
    if (!running(p) || !apply_idle(p) || p->intake.discarding)
        return;
    const struct pj_batch *batch = p->collecting;
    bool part = p->split || (pj_intake_overfull(&p->intake) && !batch->ends_at_commit && !p->intake.skip_to);
    if (part)
        hand_over(p, false);
    else if (batch->ends_at_commit && batch->transactions && gate_lets_apply(p) && worth_committing(p))
        hand_over(p, true);
    else
        advance_by_keepalive(p);
}

static void on_applied(void *context, struct pj_batch *batch, bool committed)
{
    struct pipeline *p = context;
    p->figures.batches++;
    p->figures.changes += batch->changes;
    p->figures.transactions += batch->transactions;
    p->figures.last_batch_transactions = batch->transactions;
    p->figures.apply_us = (int64_t)(now_us(p) - p->apply_us);
    if (committed) {
        /* one transaction behind what is applied; a position that only a keepalive gave is confirmed as it is */
        pj_lsn floor = !batch->transactions ? batch->end_lsn : batch->floor_lsn ? batch->floor_lsn : p->applied;
        p->applied = batch->end_lsn;
        p->confirmed = floor > p->confirmed ? floor : p->confirmed;
        if (batch->commit_us)
            p->figures.applied_commit_us = batch->commit_us;
        p->backoff_ms = BACKOFF_FIRST_MS;
    }
    pj_batch_reset(batch, KEEP_BYTES);
    if (committed && now_us(p) - p->status_us > STATUS_US)
        send_status(p, false);
    pump(p);
}

/* Whether taking care can help: something a server or a module said of this batch, not that the mirror is wrong. */
static bool care_may_help(const struct pipeline *p, const struct pj_error *error)
{
    return !p->careful_until && !error->retryable && error->code == PJ_EFAIL;
}

static void on_apply_failed(void *context, const struct pj_error *error)
{
    struct pipeline *p = context;
    struct pj_error wrapped = *error;
    if (error->code != PJ_ESTALE)
        pj_error_wrap(&wrapped, "apply");
    if (care_may_help(p, error)) {
        p->careful_until = p->received;
        wrapped.retryable = true;
        pj_log(p->options->log, PJ_LOG_INFO, "the same transactions again, with care");
    }
    fail(p, &wrapped);
}

static void careful_job(uv_work_t *work)
{
    struct pipeline *p = work->data;
    pj_careful_apply(p->careful, pj_applier_writer(p->applier), p->careful_batch, p->careful_commit,
                     &p->careful_believed, &p->careful_error);
}

static void on_careful_done(uv_work_t *work, int status)
{
    struct pipeline *p = work->data;
    (void)status;
    p->applying_carefully = false;
    if (p->state == CLOSING) {
        closed_so_far(p);
        return;
    }
    if (p->careful_error.code != PJ_OK) {
        on_apply_failed(p, &p->careful_error);
        return;
    }
    if (p->careful_commit) {
        pj_applier_believe(p->applier, p->careful_believed.lsn, p->careful_believed.version);
        if (p->careful_believed.lsn >= p->careful_until) {
            p->careful_until = 0;
            pj_careful_reset(p->careful);
        }
    }
    on_applied(p, p->careful_batch, p->careful_commit);
}

static void apply_carefully(struct pipeline *p, struct pj_batch *batch, bool commit)
{
    p->careful_batch = batch;
    p->careful_commit = commit;
    p->careful_believed = *pj_applier_believed(p->applier);
    pj_error_clear(&p->careful_error);
    p->applying_carefully = true;
    p->careful_work.data = p;
    uv_queue_work(&p->loop, &p->careful_work, careful_job, on_careful_done);
}

/* -------------------------------------------------------------------------------------------------------- receiving */

static void on_resolved(uv_work_t *work, int status)
{
    struct pipeline *p = work->data;
    (void)status;
    p->resolving = false;
    if (p->state == CLOSING) {
        closed_so_far(p);
        return;
    }
    if (p->resolve_error.code != PJ_OK) {
        fail(p, &p->resolve_error);
        return;
    }
    if (p->resolve_partition)
        pj_intake_learn(&p->intake, p->condition, p->ancestors);
    enter(p, STREAMING);
    pump(p);
}

static void resolve_job(uv_work_t *work)
{
    struct pipeline *p = work->data;
    struct pj_setup *setup = p->options->setup;
    struct pj_session *write;
    struct pj_session_options session = {.side = PJ_WRITE, .url = p->options->deployment->write_url,
                                         .purpose = "resolve", .stop = p->options->stop};
    if (pj_session_open(&write, &session, &p->resolve_error) != PJ_OK)
        return;
    pj_session_set_timeout(write, 30000);
    const char *schema = p->intake.unknown_schema, *name = p->intake.unknown_name;
    if (pj_source_await_visible(write, p->intake.xid, &p->resolve_error) != PJ_OK)
        ; /* reported as it is */
    else if (p->resolve_partition)
        pj_source_partition(write, schema, name, &p->condition, &p->ancestors, &p->resolve_error);
    else
        pj_source_resolve(write, schema, name, setup->tables, setup->ntables, setup->relmap, &p->resolve_error);
    pj_session_close(write);
}

static void resolve(struct pipeline *p, bool partition)
{
    enter(p, RESOLVING);
    p->resolve_partition = partition;
    pj_error_clear(&p->resolve_error);
    p->resolve_work.data = p;
    p->resolving = true;
    uv_queue_work(&p->loop, &p->resolve_work, resolve_job, on_resolved);
}

/* Takes one message; false where the intake cannot go on for now. */
static bool take_message(struct pipeline *p, const struct pj_copydata *message, struct pj_error *error)
{
    enum pj_intake_outcome outcome;
    if (pj_intake_message(&p->intake, message, &outcome, error) != PJ_OK)
        return false;
    bool unknown = outcome == PJ_INTAKE_UNKNOWN || outcome == PJ_INTAKE_PARTITION;
    p->holding = outcome == PJ_INTAKE_SPLIT || unknown;
    if (p->holding)
        p->held = *message;
    if (outcome == PJ_INTAKE_SPLIT)
        p->split = true;
    if (unknown)
        resolve(p, outcome == PJ_INTAKE_PARTITION);
    if (outcome == PJ_INTAKE_COMMIT || message->start > p->received)
        p->received = message->start > p->received ? message->start : p->received;
    return !p->holding;
}

static void take_keepalive(struct pipeline *p, const struct pj_copydata *message)
{
    p->keepalive = message->start;
    if (message->start > p->received)
        p->received = message->start;
    if (message->reply_wanted)
        send_status(p, false);
}

/* Whether there is room, and nobody holds the intake up. */
static bool may_read(struct pipeline *p)
{
    return p->state == STREAMING && !p->split && gate_lets_read(p) &&
           (p->intake.discarding || !(p->intake.in_transaction ? pj_intake_overfull(&p->intake) : pj_intake_full(&p->intake)));
}

/* Reads until there is nothing more for now; false after a failure. */
static bool read_messages(struct pipeline *p, uint64_t *taken)
{
    struct pj_error error;
    pj_error_clear(&error);
    if (p->holding && p->state == STREAMING && !p->split)
        take_message(p, &p->held, &error);
    bool got = true;
    while (error.code == PJ_OK && got && may_read(p) && *taken < MESSAGES_A_TURN) {
        struct pj_copydata message;
        if (pj_reader_next(p->reader, &message, &got, &error) != PJ_OK || !got)
            break;
        ++*taken;
        p->figures.bytes += message.length;
        if (message.kind == PJ_COPYDATA_KEEPALIVE)
            take_keepalive(p, &message);
        else if (!take_message(p, &message, &error))
            break;
    }
    if (error.code == PJ_OK)
        return true;
    fail(p, &error);
    return false;
}

static void watch_reader(struct pipeline *p, bool more)
{
    if (!may_read(p))
        pj_reader_watch(p->reader, PJ_READING_PAUSED, 0);
    else if (more)
        pj_reader_watch(p->reader, PJ_READING_NAP, 1); /* the loop comes round, then at once */
    else if (p->pace.hot)
        pj_reader_watch(p->reader, PJ_READING_NAP, PJ_PACE_NAP_US);
    else
        pj_reader_watch(p->reader, PJ_READING_EAGER, 0);
}

/* The heart: takes what has come, applies what is ready, and says how to be woken again. */
static void pump(struct pipeline *p)
{
    uint64_t taken = 0;
    if (!running(p) || p->stopping)
        return;
    if (!read_messages(p, &taken))
        return;
    if (taken) {
        p->data_us = p->collecting->transactions || p->intake.in_transaction ? now_us(p) : p->data_us;
        pj_pace_arrived(&p->pace, taken, now_us(p));
    }
    apply_what_is_ready(p);
    if (!running(p))
        return;
    mind_the_gate(p);
    if (running(p))
        watch_reader(p, taken >= MESSAGES_A_TURN);
}

static void on_readable(void *context)
{
    pump(context);
}

/* ----------------------------------------------------------------------------------------------------- the schema watch */

static void on_schema_checked(uv_work_t *work, int status)
{
    struct pipeline *p = work->data;
    (void)status;
    p->watching = false;
    if (!running(p))
        return;
    bool leaving = strstr(p->schema_error.message, "shutting down") != NULL;
    if (p->schema_error.code == PJ_ESCHEMA || (leaving && !drained(p)))
        fail(p, &p->schema_error); /* a server that shuts down waits for us: let it go */
}

static void schema_job(uv_work_t *work)
{
    struct pipeline *p = work->data;
    struct pj_session *write;
    struct pj_session_options session = {.side = PJ_WRITE, .url = p->options->deployment->write_url,
                                         .purpose = "watch", .stop = p->options->stop};
    if (pj_session_open(&write, &session, &p->schema_error) != PJ_OK)
        return;
    pj_session_set_timeout(write, 20000);
    pj_source_compare(write, p->options->setup->tables, p->options->setup->ntables, &p->schema_error);
    pj_session_close(write);
}

static void watch_schema(struct pipeline *p)
{
    if (p->watching || p->stopping)
        return;
    p->schema_us = now_us(p);
    p->watching = true;
    pj_error_clear(&p->schema_error);
    p->schema_work.data = p;
    uv_queue_work(&p->loop, &p->schema_work, schema_job, on_schema_checked);
}

/* ------------------------------------------------------------------------------------------------------- connecting */

static void begin_streaming(struct pipeline *p)
{
    struct pj_error error;
    pj_error_clear(&error);
    struct pj_connections *c = &p->connections;
    int code = pj_applier_connect(p->applier, &p->loop, c->apply, &c->checkpoint, &error);
    c->apply = NULL;
    if (code == PJ_OK) {
        code = pj_reader_open(&p->reader, &p->loop, c->stream, on_readable, p, &error);
        c->stream = NULL;
    }
    pj_connect_close(c);
    if (code != PJ_OK) {
        fail(p, &error);
        return;
    }
    p->applied = c->checkpoint.lsn;
    p->received = p->confirmed = c->confirmed;
    p->keepalive = 0;
    pj_intake_begin(&p->intake, &c->checkpoint, c->witness_expected);
    p->pace = (struct pj_pace){0};
    p->schema_us = p->data_us = now_us(p);
    enter(p, STREAMING);
    pj_log(p->options->log, PJ_LOG_INFO, "streaming from slot %s at %s, applied up to %s", c->checkpoint.slot,
           PJ_LSN(c->confirmed), PJ_LSN(p->applied));
    pj_state_set(p->options->state, PJ_STREAMING, "", "");
    send_status(p, true);
    pump(p);
}

static void on_connected(uv_work_t *work, int status)
{
    struct pipeline *p = work->data;
    (void)status;
    p->connecting = false;
    p->first_read = NULL;
    if (p->connect_error.code != PJ_OK) {
        fail(p, &p->connect_error);
    } else if (p->stopping) {
        pj_connect_close(&p->connections);
        close_parts(p, FINISHED);
    } else {
        begin_streaming(p);
    }
}

static void connect_job(uv_work_t *work)
{
    struct pipeline *p = work->data;
    struct pj_connect_options options = {.deployment = p->options->deployment,
                                         .setup = p->options->setup,
                                         .decoder = p->decoder,
                                         .stop = p->options->stop,
                                         .epoch = &p->epoch,
                                         .read = p->first_read};
    pj_connect_open(&options, &p->connections, &p->connect_error);
}

static void connect_again(struct pipeline *p)
{
    enter(p, CONNECTING);
    pj_error_clear(&p->connect_error);
    p->connect_work.data = p;
    p->connecting = true;
    uv_queue_work(&p->loop, &p->connect_work, connect_job, on_connected);
}

/* --------------------------------------------------------------------------------------------------------- the loop */

/* A stop lets the batch under way finish, for a while; then confirms and closes. */
static void go_on_stopping(struct pipeline *p)
{
    switch (p->state) {
    case STREAMING:
    case RESOLVING:
        if (!apply_idle(p) && now_us(p) - p->stop_us < STOP_US)
            return;
        send_status(p, false);
        if (running(p))
            close_parts(p, FINISHED);
        break;
    case BACKOFF:
    case HALTED:
        uv_timer_stop(&p->retry);
        finish_loop(p);
        break;
    case CONNECTING: /* the job sees the stop, too */
    case CLOSING:
    case FINISHED:
        break;
    }
}

static void on_stop(uv_poll_t *poll, int status, int events)
{
    struct pipeline *p = poll->data;
    (void)status;
    (void)events;
    uv_poll_stop(poll); /* the descriptor stays readable */
    p->stopping = true;
    p->stop_us = now_us(p);
    go_on_stopping(p);
}

static void on_wake(uv_async_t *async)
{
    struct pipeline *p = async->data;
    if (running(p) && !p->stopping)
        pump(p);
}

static void wake_pipeline(void *context)
{
    struct pipeline *p = context;
    uv_async_send(&p->wake);
}

static void on_tick(uv_timer_t *timer)
{
    struct pipeline *p = timer->data;
    if (p->stopping) {
        go_on_stopping(p);
        return;
    }
    if (!running(p))
        return;
    publish(p);
    uint64_t now = now_us(p);
    bool owed = p->confirmed && now - p->status_us > HEARTBEAT_US;
    bool ping = now - p->ping_us > PING_US && drained(p);
    if (ping || owed)
        send_status(p, ping);
    if (running(p) && now - p->schema_us > SCHEMA_US)
        watch_schema(p);
    if (running(p))
        pump(p);
}

static void init_loop(struct pipeline *p)
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
}

int pj_pipeline_run(const struct pj_pipeline_options *options, struct pj_error *error)
{
    pj_error_clear(error);
    struct pj_setup *setup = options->setup;
    struct pipeline *p = pj_alloc(sizeof *p);
    p->options = options;
    p->error = error;
    p->epoch.believed = options->epoch;
    p->first_read = options->read;
    p->backoff_ms = BACKOFF_FIRST_MS;
    p->decoder = pj_wal2json_new(setup->relmap);
    for (int i = 0; i < 2; i++)
        p->batches[i] = pj_batch_new(setup->tables, setup->ntables);
    p->intake = (struct pj_intake){.decoder = p->decoder, .batch_bytes = options->deployment->batch_bytes};
    p->collecting = p->intake.batch = p->batches[0];
    struct pj_applier_callbacks callbacks = {.done = on_applied, .failed = on_apply_failed, .context = p};
    p->applier = pj_applier_new(setup, &callbacks);
    p->careful = pj_careful_new(setup, options->deployment->read_url, options->stop, options->log);
    init_loop(p);
    connect_again(p);
    uv_run(&p->loop, UV_RUN_DEFAULT);
    uv_loop_close(&p->loop);
    publish(p);
    pj_careful_free(p->careful);
    pj_applier_free(p->applier);
    for (int i = 0; i < 2; i++)
        pj_batch_free(p->batches[i]);
    pj_intake_learn(&p->intake, NULL, NULL);
    p->decoder->free(p->decoder);
    pj_free(p);
    return error->code;
}
