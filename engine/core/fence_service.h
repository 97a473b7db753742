/*
 * The daemon's side of the fence: from rows of pgprojector.fence to moves of the apply gate and back. Used by the
 * control thread alone (core/control.h), on its session.
 */
#ifndef PJ_CORE_FENCE_SERVICE_H
#define PJ_CORE_FENCE_SERVICE_H

#include "core/gate.h"
#include "pg/session.h"

enum pj_fence_step { PJ_FENCE_NONE, PJ_FENCE_ASKED, PJ_FENCE_HELD, PJ_FENCE_ADVANCING, PJ_FENCE_REACHED };

struct pj_fence_service {
    struct pj_gate *gate;
    enum pj_fence_step step;
    int64_t id;           /* of the row being served */
    uint64_t deadline_us; /* monotonic: the gate is released by then */
    bool cleaned;         /* what an earlier session left behind has been marked as expired */
};

/*
 * Does what is to be done now. To be called when a NOTIFY has come, when the gate has moved, and at least once a second
 * as long as a fence is being served. New requests are taken only where `willing`. On an error the caller must drop the
 * fence, for what the requester sees is not known any more.
 */
int pj_fence_service_tick(struct pj_fence_service *service, struct pj_session *session, bool willing,
                          struct pj_error *error);

/* Releases the gate at once, whatever the requester sees; for when the session is lost, and at the end. */
void pj_fence_service_drop(struct pj_fence_service *service);

#endif
