/*
 * The pipeline: receive, decode, batch, project, apply, confirm; with reconnects, halts and the fence's gate. Its story
 * and its states stand at the head of pipeline.c.
 */
#ifndef PJ_CORE_PIPELINE_H
#define PJ_CORE_PIPELINE_H

#include "base/log.h"
#include "core/connect.h"
#include "core/gate.h"
#include "core/handover.h"
#include "core/relay.h"
#include "core/state.h"

struct pj_pipeline_options {
    struct pj_outfit *outfit; /* its setup checked against the read side */
    struct pj_session *
        *read; /* *read holds the daemon's lock, taken over with `epoch`; the pipeline's from now on. NULL: it
                                 connects by itself, and takes over. After PJ_ERELOAD the same for the next run */
    struct pj_relay **relay;        /* what the former run has left to this one, and this one to the next, or NULL */
    struct pj_connect_epoch *epoch; /* kept from one run to the next */
    struct pj_handover *handover;   /* NULL: there is never another outfit */
    struct pj_state *state;
    struct pj_gate *gate;
    const struct pj_stop *stop;
    const struct pj_log *log;
};

/*
 * Streams until asked to stop: then PJ_OK, with what was applied confirmed. Databases that go away are waited for; a
 * halt keeps it here, its reason in the state, until the stop. PJ_ESTALE as soon as another daemon has taken over;
 * PJ_EGAP, instead of a halt, where the deployment says resync_on_gap. PJ_ERELOAD where another outfit is offered, or
 * the one it has is not for the read side as it is now (nothing has been offered then, but ought to be): to be run
 * again with another.
 */
int pj_pipeline_run(const struct pj_pipeline_options *options, struct pj_error *error);

#endif
