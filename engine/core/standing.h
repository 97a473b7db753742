/*
 * How the projections stand: live or not, and which of their keys are parked. Kept in the read database's catalog, held
 * in memory by the daemon; checkpoint.version ties the two together.
 */
#ifndef PJ_CORE_STANDING_H
#define PJ_CORE_STANDING_H

#include "core/projection.h"
#include "pg/session.h"

/* Reads states and dead letters into the projections (`live`, the parked keys of their deltas), the version that they
 * are, and the roster that they are of (checkpoint.roster). In one transaction of its own. */
int pj_standing_load(struct pj_session *read, struct pj_projection *projections, int count, int64_t *version,
                     int64_t *roster, struct pj_error *error);

/* checkpoint.roster, as it is now. What is made for it must be read afterwards: then a change in between shows by
 * the number. */
int pj_standing_roster(struct pj_session *read, int64_t *roster, struct pj_error *error);

/*
 * What a command takes its setup to be of: the roster, and what is being built beside. A text to be compared. To be
 * read, like the roster, before anything that the setup is made of; looked at again under the checkpoint row's lock
 * (pj_keywork_begin_of).
 */
struct pj_mark {
    char text[64];
};
int pj_standing_mark(struct pj_session *read, struct pj_mark *mark, struct pj_error *error);

/* Within the caller's transaction: reads the dead letters of one projection anew. */
int pj_standing_load_parked(struct pj_session *read, struct pj_projection *projection, struct pj_error *error);

/* Within the caller's transaction: pauses a projection that is live and cannot go on, notes why (without values of rows),
 * and raises the version. One that is paused already keeps its own reason. */
int pj_standing_pause(struct pj_session *read, const struct pj_projection *projection, const struct pj_error *cause,
                      struct pj_error *error);

/* Within the caller's transaction: all of a projection that is not live, or is about to be none, is to be compared when it
 * is resumed. */
int pj_standing_note_everything(struct pj_session *read, const char *name, struct pj_error *error);

/* Within the caller's transaction: what was read is no longer so. */
int pj_standing_changed(struct pj_session *read, struct pj_error *error);

#endif
