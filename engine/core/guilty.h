/*
 * Modules that have taken the daemon along (host/guard.h), kept in mind by their file and section. What is built beside
 * without anybody having asked (a start, a SIGHUP, the daemon's own restart) leaves them out, or two of them would take
 * turns; and who resumes one is told that it is still the same.
 */
#ifndef PJ_CORE_GUILTY_H
#define PJ_CORE_GUILTY_H

#include "host/guard.h"
#include "pg/session.h"

/* Within the caller's transaction. One a name: the last. */
int pj_guilty_note(struct pj_session *session, const struct pj_guilt *guilt, struct pj_error *error);

/* *what: what this very module (NULL: the one last known) has done, with its time; NULL: nothing. To be freed. */
int pj_guilty_of(struct pj_session *session, const char *name, const char *mark, char **what, struct pj_error *error);

/* Where it was another module than the one that serves now; NULL: whichever it was. */
int pj_guilty_forget(struct pj_session *session, const char *name, const char *mark, struct pj_error *error);

#endif
