/*
 * The stream goes from one pipeline to the next, when another outfit is to be used (core/relay.h): it is left open, at
 * whatever message it is, with what has been collected. What was being applied and came to nothing for another roster
 * (a swap has been committed meanwhile) goes along, as it was collected, and is applied first by the next.
 *
 * Not so in the midst of a transaction in parts, of the careful way, or while a message waits for a look-up: then the
 * stream is closed, and opened anew.
 */
#include "core/pipeline_internal.h"

bool pj_pipeline_may_relay(const struct pj_pipeline *p)
{
    return p->options->relay && p->state == STREAMING && p->reader && !p->held && !p->in_parts && !p->careful_until &&
           pj_pipeline_apply_idle(p) && !pj_pipeline_apply_open(p) && p->purpose != TO_STOP;
}

void pj_pipeline_leave_relay(struct pj_pipeline *p, void (*closed)(void *context))
{
    struct pj_setup *setup = &p->options->outfit->setup;
    struct pj_relay *relay = pj_alloc(sizeof *relay);
    *relay = (struct pj_relay){
        .setup = setup,
        .intake = p->intake,
        .collecting = p->collecting,
        .again = p->reread.batch,
        .commit = p->reread.commit,
        .received = p->received,
        .applied = p->applied,
        .confirmed = p->confirmed,
        .keepalive = p->keepalive,
        .heartbeat_us = p->heartbeat_us,
        .pace = p->pace,
    };
    pj_reader_release(p->reader, &relay->stream, closed, p);
    p->reader = NULL;
    p->intake.partition.name = p->intake.partition.condition = p->intake.partition.ancestors = NULL;
    for (int i = 0; i < BATCHES; i++)
        if (p->batches[i] == relay->collecting || p->batches[i] == relay->again)
            p->batches[i] = pj_batch_new(setup->tables, setup->ntables);
    pj_pipeline_spare_all(p);
    pj_pipeline_collect_anew(p);
    *p->options->relay = relay;
}

/* Only beside the applying session, for without it the daemon's lock has to be taken anew, too. */
void pj_pipeline_accept_relay(struct pj_pipeline *p)
{
    p->relay = *p->options->relay;
    *p->options->relay = NULL;
    if (p->relay && (!p->first_read || !pj_relay_fits(p->relay, &p->options->outfit->setup)))
        pj_pipeline_drop_relay(p);
}

static void take_batch(struct pj_pipeline *p, int place, struct pj_batch **from)
{
    pj_batch_free(p->batches[place]);
    p->batches[place] = *from;
    *from = NULL;
}

/* The last of the batches is the first to be taken from the spare ones. */
void pj_pipeline_take_up_relay(struct pj_pipeline *p)
{
    struct pj_relay *relay = p->relay;
    struct pj_intake intake = relay->intake;
    intake.decoder = p->intake.decoder;
    intake.batch_bytes = p->intake.batch_bytes;
    struct pj_batch *again = relay->again;
    bool commit = relay->commit;
    take_batch(p, BATCHES - 1, &relay->collecting);
    if (again)
        take_batch(p, BATCHES - 2, &relay->again);
    p->intake = intake;
    pj_pipeline_spare_all(p);
    pj_pipeline_collect_anew(p);
    if (again)
        p->nspare--;
    relay->intake = (struct pj_intake){0};
    p->applied = relay->applied;
    p->received = relay->received;
    p->confirmed = relay->confirmed;
    p->keepalive = relay->keepalive;
    p->heartbeat_us = relay->heartbeat_us;
    p->pace = relay->pace;
    pj_pipeline_drop_relay(p);
    if (again)
        pj_pipeline_apply_batch(p, again, commit);
}

void pj_pipeline_pass_relay_on(struct pj_pipeline *p)
{
    if (p->relay)
        p->relay->setup = &p->options->outfit->setup; /* its batches are for this one now */
    *p->options->relay = p->relay;
    p->relay = NULL;
}

void pj_pipeline_drop_relay(struct pj_pipeline *p)
{
    pj_relay_free(p->relay);
    p->relay = NULL;
}
