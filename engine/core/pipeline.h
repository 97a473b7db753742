/*
 * The pipeline: receive, decode, batch, project, apply, confirm; with reconnects, halts and the fence's gate. Its story and
 * its states stand at the head of pipeline.c.
 */
#ifndef PJ_CORE_PIPELINE_H
#define PJ_CORE_PIPELINE_H

#include "base/log.h"
#include "core/gate.h"
#include "core/setup.h"
#include "core/state.h"

struct pj_pipeline_options {
    const struct pj_deployment *deployment;
    struct pj_setup *setup;  /* checked against the read side */
    struct pj_session *read; /* holds the daemon's lock, taken over with `epoch`; the pipeline's from now on */
    int64_t epoch;
    struct pj_state *state;
    struct pj_gate *gate;
    const struct pj_stop *stop;
    const struct pj_log *log;
};

/*
 * Streams until asked to stop: then PJ_OK, with what was applied confirmed. Databases that go away are waited for; a halt
 * keeps it here, its reason in the state, until the stop. PJ_ESTALE as soon as another daemon has taken over; PJ_EGAP,
 * instead of a halt, where the deployment says resync_on_gap.
 */
int pj_pipeline_run(const struct pj_pipeline_options *options, struct pj_error *error);

#endif
