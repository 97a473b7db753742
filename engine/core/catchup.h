/*
 * Recomputing the keys that were noted of a projection that is not live (pgprojector.dirty_key), until so few are left
 * that the rest fits into the transaction that makes it live. What resuming a projection and building one beside have
 * in common.
 */
#ifndef PJ_CORE_CATCHUP_H
#define PJ_CORE_CATCHUP_H

#include "core/mend.h"

/* One round: what has been noted up to now is recomputed in chunks, and leaves the log; a key that cannot be written
 * is parked. The job has begun. */
int pj_catchup_round(struct pj_mend *mend, struct pj_error *error);

/* How many entries the last transaction may have to itself after so many rounds: it grows, so that rounds come to an
 * end. */
int64_t pj_catchup_few(int round);

/* Within a keywork transaction: whether "everything" is among what is noted, and the rest so a comparison of the whole table. */
int pj_catchup_is_everything(struct pj_mend *mend, bool *yes, struct pj_error *error);

/* Within a keywork transaction: the rest, if it is at most `few` entries, and after some rounds also where everything was
 * noted again, if few rows differ; the log is empty then. *done says so. An error may be the fault of a key
 * (pj_mend_is_key_fault), which a further round finds and parks. */
int pj_catchup_rest(struct pj_mend *mend, int64_t few, bool *done, struct pj_error *error);

#endif
