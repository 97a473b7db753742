/*
 * The receiving half of the pipeline: messages are pulled while there is room and nobody holds the intake up, and what
 * the intake cannot take for now (a relation to be looked up, a TRUNCATE that must not be mixed with what came before)
 * is handed in again later.
 */
#include "core/pipeline_internal.h"

/* -------------------------------------------------------------------------------------------------------- receiving */

/* What was found is the intake's, or nobody's. */
static void settle_look_up(struct pj_pipeline *p, bool wanted)
{
    if (p->resolve_partition && wanted) {
        pj_intake_learn(&p->intake, p->condition, p->ancestors);
    } else {
        pj_free(p->condition);
        pj_free(p->ancestors);
    }
    p->condition = p->ancestors = NULL;
}

static void on_resolved(uv_work_t *work, int status)
{
    struct pj_pipeline *p = work->data;
    (void)status;
    p->source_job = NO_SOURCE_JOB;
    settle_look_up(p, p->state != CLOSING && p->resolve_error.code == PJ_OK);
    if (p->state == CLOSING) {
        pj_pipeline_closed_so_far(p);
    } else if (p->resolve_error.code != PJ_OK) {
        pj_pipeline_fail(p, &p->resolve_error);
    } else {
        pj_pipeline_enter(p, STREAMING);
        pj_pipeline_pump(p);
    }
}

/* A partition's rows are not taken before the catalog knows of it: if it is dropped later, that must not go
 * unnoticed. */
static void note_partitions(struct pj_pipeline *p)
{
    struct pj_session *read;
    struct pj_session_options session = {.side = PJ_READ,
                                         .url = p->options->outfit->deployment.read_url,
                                         .purpose = "resolve",
                                         .stop = p->options->stop};
    if (pj_session_open(&read, &session, &p->resolve_error) != PJ_OK)
        return;
    pj_session_set_timeout(read, 30000);
    pj_catalog_note_leaves(read, p->options->outfit->setup.tables, p->options->outfit->setup.ntables,
                           &p->resolve_error);
    pj_session_close(read);
}

static void resolve_job(uv_work_t *work)
{
    struct pj_pipeline *p = work->data;
    struct pj_setup *setup = &p->options->outfit->setup;
    struct pj_passage at = {.xid = p->intake.xid, .position = p->reaches};
    struct pj_session *write;
    struct pj_session_options session = {.side = PJ_WRITE,
                                         .url = p->options->outfit->deployment.write_url,
                                         .purpose = "resolve",
                                         .stop = p->options->stop};
    if (pj_session_open(&write, &session, &p->resolve_error) != PJ_OK)
        return;
    pj_session_set_timeout(write, 30000);
    const char *schema = p->intake.unknown_schema, *name = p->intake.unknown_name;
    if (pj_source_await_visible(write, p->intake.xid, &p->resolve_error) != PJ_OK)
        ; /* reported as it is */
    else if (p->resolve_partition)
        pj_source_partition(write, schema, name, &p->condition, &p->ancestors, &p->resolve_error);
    else if (pj_source_resolve(write, schema, name, setup->tables, setup->ntables, setup->relmap, &at,
                               &p->resolve_error) == PJ_OK)
        note_partitions(p);
    pj_session_close(write);
}

void pj_pipeline_look_up(struct pj_pipeline *p)
{
    if (p->source_job)
        return; /* both jobs read the tables' partitions, one of them adds to them: the watch's end calls again */
    pj_error_clear(&p->resolve_error);
    p->resolve_work.data = p;
    p->source_job = LOOKING_UP;
    uv_queue_work(&p->loop, &p->resolve_work, resolve_job, on_resolved);
}

static void resolve(struct pj_pipeline *p, bool partition)
{
    pj_pipeline_enter(p, RESOLVING);
    p->resolve_partition = partition;
    pj_pipeline_look_up(p);
}

/* Takes one message; false where the intake cannot go on for now. */
static bool take_message(struct pj_pipeline *p, const struct pj_copydata *message, struct pj_error *error)
{
    enum pj_intake_outcome outcome;
    p->reaches = message->start;
    if (pj_intake_message(&p->intake, message, &outcome, error) != PJ_OK)
        return false;
    bool unknown = outcome == PJ_INTAKE_UNKNOWN || outcome == PJ_INTAKE_PARTITION;
    p->held = outcome == PJ_INTAKE_SPLIT ? HELD_FOR_PART : unknown ? HELD : NOTHING_HELD;
    if (p->held)
        p->held_message = *message;
    if (unknown)
        resolve(p, outcome == PJ_INTAKE_PARTITION);
    if (message->start > p->received)
        p->received = message->start;
    return !p->held;
}

static void take_keepalive(struct pj_pipeline *p, const struct pj_copydata *message)
{
    p->keepalive = message->start;
    if (message->start > p->received)
        p->received = message->start;
    if (!message->reply_wanted)
        return;
    pj_pipeline_status(p, false);
    /* It hears from us all the time: one that asks is shutting down, or close to giving us up. The watch sees which. */
    if (pj_pipeline_now(p) - p->schema_us > ASKED_US)
        p->schema_us = 0;
}

/* Whether there is room, and nobody holds the intake up. */
static bool may_read(struct pj_pipeline *p)
{
    const struct pj_batch *batch = p->collecting;
    /* the transaction that is being applied in parts has its end here: it is to be committed before another one
     * begins */
    if (p->in_parts && batch->ends_at_commit && batch->transactions)
        return false;
    if (p->purpose == TO_LEAVE && !p->intake.in_transaction)
        return false;
    return p->state == STREAMING && p->held != HELD_FOR_PART && pj_pipeline_gate_lets_read(p) &&
           (p->intake.discarding ||
            !(p->intake.in_transaction ? pj_intake_overfull(&p->intake) : pj_intake_full(&p->intake)));
}

/* Reads until there is nothing more for now; false after a failure. */
static bool read_messages(struct pj_pipeline *p, uint64_t *taken)
{
    struct pj_error error;
    pj_error_clear(&error);
    if (p->held == HELD && p->state == STREAMING)
        take_message(p, &p->held_message, &error);
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
    pj_pipeline_fail(p, &error);
    return false;
}

static void watch_reader(struct pj_pipeline *p, bool more)
{
    p->reading = may_read(p);
    if (!p->reading)
        p->heard_us = pj_pipeline_now(p);
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
void pj_pipeline_pump(struct pj_pipeline *p)
{
    uint64_t taken = 0;
    if (!pj_pipeline_running(p) || p->purpose == TO_STOP)
        return;
    if (!read_messages(p, &taken))
        return;
    if (taken) {
        p->heard_us = pj_pipeline_now(p);
        p->data_us = p->collecting->transactions || p->intake.in_transaction ? pj_pipeline_now(p) : p->data_us;
        pj_pace_arrived(&p->pace, taken, pj_pipeline_now(p));
    }
    pj_pipeline_apply_ready(p);
    if (!pj_pipeline_running(p))
        return;
    pj_pipeline_mind_gate(p);
    if (pj_pipeline_running(p))
        watch_reader(p, taken >= MESSAGES_A_TURN);
    if (p->purpose == TO_LEAVE)
        pj_pipeline_go_on_leaving(p);
}

void pj_pipeline_readable(void *context)
{
    pj_pipeline_pump(context);
}
