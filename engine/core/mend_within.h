/*
 * Keys of a projection recomputed within a transaction that does more than that, and that has the checkpoint row's lock
 * (core/keywork.h): what the projection cannot take does not keep the rest from being committed. Guilty keys are found
 * by halving and parked, each under a savepoint; where that is no remedy, or on_error = halt says that no row may be
 * missing while it passes for live, the projection is paused, with its reason, and "everything" noted for it.
 */
#ifndef PJ_CORE_MEND_WITHIN_H
#define PJ_CORE_MEND_WITHIN_H

#include "core/projection.h"
#include "pg/session.h"

struct pj_within {
    struct pj_session *read;
    struct pj_projection *projection;
    int width; /* of the keys: 1, or all columns */

    /* filled here */
    int parked;      /* keys */
    bool paused;     /* it had to be */
    char fault[512]; /* why, without values; of the last key, or of the pause */
};

/* Of the projection, in the catalog. One that is not built is filled when it is, and one that was retired is built
 * anew: ABSENT. One that is not live is only noted for. */
enum pj_within_standing { PJ_WITHIN_ABSENT, PJ_WITHIN_NOTED, PJ_WITHIN_LIVE };
int pj_within_standing(const struct pj_within *work, enum pj_within_standing *standing, struct pj_error *error);

/* Makes the rows of the keys equal to the definition, of one that is live. `keys`: rows of `width` columns, as text. An
 * error is the connection's, or worth another try: the whole transaction has to be given up. */
int pj_within_keys(struct pj_within *work, const PGresult *keys, struct pj_error *error);

/* The same of all rows. */
int pj_within_all(struct pj_within *work, struct pj_error *error);

/* Notes "everything". */
int pj_within_note_all(struct pj_session *read, const char *name, struct pj_error *error);

#endif
