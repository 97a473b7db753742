/*
 * The applying half of the pipeline: when a batch goes, the fast way or the careful one; what is confirmed afterwards;
 * and the gate, by which a fence has it stand still.
 */
#include "core/pipeline_internal.h"

#include <stdio.h>
#include <string.h>

static void apply_carefully(struct pj_pipeline *p, struct pj_batch *batch, bool commit);

/* ----------------------------------------------------------------------------------------------------- confirmation */

void pj_pipeline_publish(struct pj_pipeline *p)
{
    p->figures.received = p->received;
    p->figures.applied = p->applied;
    p->figures.confirmed = p->confirmed;
    p->figures.skipped = p->intake.skipped;
    p->figures.buffered_bytes = pj_batch_bytes(p->collecting);
    pj_state_set_figures(p->options->state, &p->figures);
}

void pj_pipeline_status(struct pj_pipeline *p, bool reply_wanted)
{
    struct pj_error error;
    pj_error_clear(&error);
    p->status_us = pj_pipeline_now(p);
    if (reply_wanted)
        p->ping_us = p->status_us;
    if (pj_reader_status(p->reader, p->received, p->confirmed, reply_wanted, &error) != PJ_OK)
        pj_pipeline_fail(p, &error);
}

bool pj_pipeline_apply_idle(const struct pj_pipeline *p)
{
    return pj_applier_idle(p->applier) && p->applying == NORMALLY;
}

/* A transaction of several parts is open. */
bool pj_pipeline_apply_open(const struct pj_pipeline *p)
{
    return pj_applier_in_transaction(p->applier) || (p->applying == NORMALLY && pj_careful_in_transaction(p->careful));
}

/* Nothing is buffered: no transaction is open, none waits, none is being applied. */
bool pj_pipeline_drained(const struct pj_pipeline *p)
{
    return !p->intake.in_transaction && !p->held && !p->collecting->transactions && pj_pipeline_apply_idle(p) &&
           !pj_pipeline_apply_open(p);
}

void pj_pipeline_spare_all(struct pj_pipeline *p)
{
    memcpy(p->spare, p->batches, sizeof p->spare);
    p->nspare = BATCHES;
}

void pj_pipeline_collect_anew(struct pj_pipeline *p)
{
    p->collecting = p->intake.batch = p->spare[--p->nspare];
}

void pj_pipeline_apply_batch(struct pj_pipeline *p, struct pj_batch *batch, bool commit)
{
    if (pj_pipeline_apply_idle(p))
        p->apply_us = pj_pipeline_now(p);
    if (p->careful_until)
        apply_carefully(p, batch, commit);
    else
        pj_applier_apply(p->applier, batch, commit);
}

/* A keepalive's position becomes the checkpoint (and is confirmed when that is durable), at a bounded rate. */
static void advance_by_keepalive(struct pj_pipeline *p)
{
    enum pj_gate_state gate = pj_gate_state(p->options->gate, NULL);
    if (pj_pipeline_drained(p) && pj_trouble_settled(&p->trouble, p->received, pj_pipeline_now(p) - p->data_us))
        pj_pipeline_relax(p, false);
    if (p->keepalive <= p->applied || !pj_pipeline_drained(p) || p->purpose != TO_STREAM || gate == PJ_GATE_HELD ||
        gate == PJ_GATE_REACHED)
        return;
    uint64_t now = pj_pipeline_now(p), least = now - p->data_us < IDLE_POSITION_US ? POSITION_US : IDLE_POSITION_US;
    if (now - p->position_us < least)
        return;
    struct pj_error error;
    pj_error_clear(&error);
    if (pj_intake_keepalive(&p->intake, p->keepalive, &error) != PJ_OK) {
        pj_pipeline_fail(p, &error);
        return;
    }
    p->position_us = now;
    p->intake.skip_to = 0;
    struct pj_batch *batch = p->collecting;
    batch->end_lsn = p->keepalive;
    pj_pipeline_collect_anew(p);
    pj_pipeline_apply_batch(p, batch, true);
}

/* ------------------------------------------------------------------------------------------------------- the gate */

/* A message of a transaction stands before its commit, so it proves it: before the whole, or a part, is collected. */
bool pj_pipeline_beyond_gate(const struct pj_pipeline *p)
{
    pj_lsn target;
    return pj_gate_state(p->options->gate, &target) == PJ_GATE_ADVANCING && p->intake.in_transaction &&
           p->reaches > target && !pj_pipeline_apply_open(p);
}

bool pj_pipeline_gate_lets_read(struct pj_pipeline *p)
{
    switch (pj_gate_state(p->options->gate, NULL)) {
    case PJ_GATE_OPEN:
        return true;
    case PJ_GATE_ASKED:
        return p->intake.in_transaction;
    case PJ_GATE_ADVANCING:
        return p->collecting->transactions == 0 &&
               !pj_pipeline_beyond_gate(p); /* one at a time, for it may end beyond the target */
    case PJ_GATE_HELD:
    case PJ_GATE_REACHED:
        break;
    }
    return false;
}

static bool gate_lets_apply(struct pj_pipeline *p)
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

bool pj_pipeline_may_leave(struct pj_pipeline *p)
{
    bool more = p->collecting->transactions || p->intake.in_transaction || p->held;
    return pj_pipeline_apply_idle(p) && !pj_pipeline_apply_open(p) && (!more || !gate_lets_apply(p));
}

void pj_pipeline_mind_gate(struct pj_pipeline *p)
{
    pj_lsn target;
    enum pj_gate_state state = pj_gate_state(p->options->gate, &target);
    bool applying = !pj_pipeline_apply_idle(p);
    if (state == PJ_GATE_ASKED && pj_pipeline_drained(p)) {
        pj_gate_held(p->options->gate);
    } else if (state == PJ_GATE_ADVANCING && !applying) {
        bool beyond = p->collecting->ends_at_commit && p->collecting->transactions && p->collecting->end_lsn > target;
        if (beyond || pj_pipeline_beyond_gate(p) || p->applied >= target ||
            (pj_pipeline_drained(p) && p->keepalive >= target))
            pj_gate_reached(p->options->gate);
        else if (pj_pipeline_drained(p) && pj_pipeline_now(p) - p->ping_us > 20000)
            pj_pipeline_status(p, true);
    }
}

/* ----------------------------------------------------------------------------------------------------- handing over */

/* Hands the collecting batch to the applier, and goes on with the other. */
static void hand_over(struct pj_pipeline *p, bool commit)
{
    struct pj_batch *batch = p->collecting;
    pj_pipeline_collect_anew(p);
    p->collecting->ends_at_commit = !p->intake.in_transaction;
    batch->reaches = p->received;
    if (p->held)
        p->held = HELD;
    p->in_parts = !commit;
    pj_pace_handed_over(&p->pace);
    pj_pipeline_apply_batch(p, batch, commit);
}

static bool worth_committing(struct pj_pipeline *p)
{
    const struct pj_batch *batch = p->collecting;
    uint64_t now = pj_pipeline_now(p);
    if (pj_pipeline_apply_open(p) || p->purpose != TO_STREAM || p->careful_until || pj_intake_full(&p->intake))
        return true;
    if (!pj_batch_has_rows(batch)) {
        /* only the position moves; that may wait */
        if (now - p->position_us < POSITION_US && pj_gate_state(p->options->gate, NULL) == PJ_GATE_OPEN)
            return false;
        p->position_us = now;
        return true;
    }
    if (pj_gate_state(p->options->gate, NULL) != PJ_GATE_OPEN)
        return true;
    return !pj_pace_gather(&p->pace, batch->transactions, (uint64_t)p->options->outfit->deployment.gather_ms * 1000,
                           now);
}

/*
 * While catching up, a batch that need not grow any more goes behind the one that is being written, so that the read
 * database does not wait for it. A quiet stream gains nothing by it: what arrives while a batch is applied is the next.
 */
static bool may_go_ahead(struct pj_pipeline *p)
{
    return pj_applier_takes_ahead(p->applier) && p->nspare && p->purpose == TO_STREAM &&
           pj_gate_state(p->options->gate, NULL) == PJ_GATE_OPEN &&
           (pj_intake_full(&p->intake) || p->collecting->transactions >= PJ_PACE_GATHER_TRANSACTIONS);
}

void pj_pipeline_apply_ready(struct pj_pipeline *p)
{
    bool idle = pj_pipeline_apply_idle(p);
    if (!pj_pipeline_running(p) || p->intake.discarding || (!idle && !may_go_ahead(p)))
        return;
    const struct pj_batch *batch = p->collecting;
    bool part =
        p->held == HELD_FOR_PART || (pj_intake_overfull(&p->intake) && !batch->ends_at_commit && !p->intake.skip_to);
    if (part && pj_pipeline_beyond_gate(p))
        return;
    if (part)
        hand_over(p, false);
    else if (batch->ends_at_commit && batch->transactions && gate_lets_apply(p) && worth_committing(p))
        hand_over(p, true);
    else if (idle)
        advance_by_keepalive(p);
}

static void count_refused(struct pj_figures *figures, const struct pj_projection *projection)
{
    for (int i = 0; i < PJ_REFUSERS; i++) {
        struct pj_refused *refused = &figures->refused[i];
        if (!*refused->projection)
            snprintf(refused->projection, sizeof refused->projection, "%.63s", projection->name);
        if (strncmp(refused->projection, projection->name, sizeof refused->projection - 1) != 0)
            continue;
        refused->rows += projection->refused;
        return;
    }
}

/* Rows that apply() has refused are written by their definition, and nobody else is harmed; but somebody should know. The
 * words may be others for each row, so it is the projection that is said once and now and then. */
static void mind_refusals(struct pj_pipeline *p)
{
    struct pj_setup *setup = &p->options->outfit->setup;
    for (int i = 0; i < setup->nprojections; i++) {
        struct pj_projection *projection = &setup->projections[i];
        if (!projection->refused)
            continue;
        struct pj_error key;
        pj_error_set(&key, PJ_EFAIL, "%s", projection->name);
        if (pj_causes_news(&p->refusals, &key, pj_pipeline_now(p), 0)) {
            pj_error_hint(
                &projection->refused_last,
                "the keys of such rows are recomputed from the definition, which takes longer; mend the module, "
                "then `pgprojector module add %s`",
                projection->module->name);
            pj_log_error(p->options->log, PJ_LOG_WARNING, &projection->refused_last);
        }
        count_refused(&p->figures, projection);
        projection->refused = 0;
    }
}

void pj_pipeline_applied(void *context, struct pj_batch *batch, bool committed)
{
    struct pj_pipeline *p = context;
    mind_refusals(p);
    p->figures.batches++;
    p->figures.changes += batch->changes;
    p->figures.transactions += batch->transactions;
    p->figures.last_batch_transactions = batch->transactions;
    p->figures.apply_us = (int64_t)(pj_pipeline_now(p) - p->apply_us);
    p->apply_us = pj_pipeline_now(p); /* of what is under way behind it */
    if (committed) {
        /* one transaction behind what is applied; a position that only a keepalive gave is confirmed as it is */
        pj_lsn floor = !batch->transactions ? batch->end_lsn : batch->floor_lsn ? batch->floor_lsn : p->applied;
        p->applied = batch->end_lsn;
        p->confirmed = floor > p->confirmed ? floor : p->confirmed;
        if (batch->commit_us)
            p->figures.applied_commit_us = batch->commit_us;
        p->backoff_ms = BACKOFF_FIRST_MS;
        p->hurried = false;
        p->reread.in_a_row = 0;
    }
    if (pj_trouble_passed(&p->trouble, committed, batch->reaches))
        pj_pipeline_relax(p, committed);
    pj_batch_reset(batch, p->pace.hot ? p->options->outfit->deployment.batch_bytes : KEEP_BYTES);
    p->spare[p->nspare++] = batch;
    if (committed && pj_pipeline_now(p) - p->status_us > STATUS_US)
        pj_pipeline_status(p, false);
    pj_pipeline_pump(p);
}

/* Whether taking care can help: something a server or a module said of this batch, not that the mirror is wrong. */
static bool care_may_help(const struct pj_pipeline *p, const struct pj_error *error)
{
    return !p->careful_until && !error->retryable && error->code == PJ_EFAIL;
}

void pj_pipeline_apply_failed(void *context, const struct pj_error *error)
{
    struct pj_pipeline *p = context;
    if (pj_pipeline_reread(p, error))
        return;
    struct pj_error wrapped = *error;
    if (error->code != PJ_ESTALE)
        pj_error_wrap(&wrapped, "apply");
    if (care_may_help(p, error)) {
        p->careful_until = p->received;
        wrapped.retryable = true;
        pj_log(p->options->log, PJ_LOG_INFO, "the same transactions again, with care");
    }
    /* what is durable is confirmed: batches that fail each time would otherwise hold the slot where it is */
    if (pj_pipeline_running(p))
        pj_pipeline_status(p, false);
    pj_pipeline_fail(p, &wrapped);
}

static void careful_job(uv_work_t *work)
{
    struct pj_pipeline *p = work->data;
    pj_careful_apply(p->careful, pj_applier_writer(p->applier), p->careful_batch, p->careful_commit,
                     &p->careful_believed, &p->careful_error);
}

static void on_careful_done(uv_work_t *work, int status)
{
    struct pj_pipeline *p = work->data;
    (void)status;
    p->applying = NORMALLY;
    if (p->state == CLOSING) {
        pj_pipeline_closed_so_far(p);
        return;
    }
    if (p->careful_error.code != PJ_OK) {
        pj_pipeline_apply_failed(p, &p->careful_error);
        return;
    }
    if (p->careful_commit) {
        pj_applier_believe(p->applier, p->careful_believed.lsn, p->careful_believed.version);
        if (p->careful_believed.lsn >= p->careful_until) {
            p->careful_until = 0;
            pj_careful_reset(p->careful);
        }
    }
    pj_pipeline_applied(p, p->careful_batch, p->careful_commit);
}

static void apply_carefully(struct pj_pipeline *p, struct pj_batch *batch, bool commit)
{
    p->careful_batch = batch;
    p->careful_commit = commit;
    p->careful_believed = *pj_applier_believed(p->applier);
    pj_error_clear(&p->careful_error);
    p->applying = CAREFULLY;
    p->careful_work.data = p;
    uv_queue_work(&p->loop, &p->careful_work, careful_job, on_careful_done);
}

/* ----------------------------------------------------------------------------------------------- between two parts */

static void ping_job(uv_work_t *work)
{
    struct pj_pipeline *p = work->data;
    pj_careful_ping(p->careful, &p->careful_error);
}

static void on_pinged(uv_work_t *work, int status)
{
    struct pj_pipeline *p = work->data;
    (void)status;
    p->applying = NORMALLY;
    if (p->state == CLOSING)
        pj_pipeline_closed_so_far(p);
    else if (p->careful_error.code != PJ_OK)
        pj_pipeline_apply_failed(p, &p->careful_error);
    else
        pj_pipeline_pump(p);
}

/*
 * A transaction may have a long stretch that concerns no mirror, or come slowly. The read server ends a session that is
 * idle in its transaction for a minute, lest a frozen daemon hold the checkpoint row's lock for ever; we are not frozen.
 * (The applier's pipeline has no Sync before the transaction's end, and the server does not count that as idle.)
 */
void pj_pipeline_stay_awake(struct pj_pipeline *p)
{
    if (!pj_pipeline_apply_idle(p) || !pj_careful_in_transaction(p->careful) ||
        pj_pipeline_now(p) - p->apply_us < AWAKE_US)
        return;
    p->apply_us = pj_pipeline_now(p);
    p->applying = CAREFULLY;
    p->careful_work.data = p;
    uv_queue_work(&p->loop, &p->careful_work, ping_job, on_pinged);
}
