/*
 * What a pipeline leaves to the one that follows it with another outfit, where both follow the same tables: the open
 * stream, and what has been collected from it. So that nothing is connected, checked, decoded and skipped anew.
 */
#ifndef PJ_CORE_RELAY_H
#define PJ_CORE_RELAY_H

#include "core/batch.h"
#include "core/intake.h"
#include "core/pace.h"
#include "core/setup.h"

#include <libpq-fe.h>

struct pj_relay {
    PGconn *stream;               /* in COPY BOTH; NULL once it is given away */
    const struct pj_setup *setup; /* that was streamed with; must live until the relay is taken up */
    struct pj_intake intake;      /* decoder and batch are for who takes it up to replace */
    struct pj_batch *collecting;
    struct pj_batch *again; /* was being applied, and came to nothing: it is to be applied first; NULL: none */
    bool commit;            /* `again`: it ends its transaction */
    pj_lsn received, applied, confirmed, keepalive;
    uint64_t heartbeat_us;
    struct pj_pace pace;
};

/* Whether the relay can be taken up with this setup: the source's tables are the same, column by column, be it in
 * another order. Its batches are for that setup then. */
bool pj_relay_fits(struct pj_relay *relay, const struct pj_setup *setup);
void pj_relay_free(struct pj_relay *relay); /* closes the stream; NULL is fine */

#endif
