/*
 * Prepared statements in sets, of which a session keeps those that it has already: one that goes on with another setup has
 * most of them, with their plans.
 */
#ifndef PJ_CORE_PREPARED_H
#define PJ_CORE_PREPARED_H

#include "base/buf.h"
#include "pg/session.h"

struct pj_prepared_set;

struct pj_prepared {
    int count;
    struct pj_prepared_set *sets;
};

/* FNV-1a of some text, on top of another digest; PJ_DIGEST to begin with. */
#define PJ_DIGEST 0xcbf29ce484222325
uint64_t pj_prepared_digest(uint64_t digest, const char *text);

/*
 * Adds a set: a script of PREPARE statements, which is taken over, and whose names no other set has. `what` is said in errors.
 * A set is another where its script is, or `digest`, of whatever else its statements depend on. Returns the digest of both.
 */
uint64_t pj_prepared_add(struct pj_prepared *prepared, const char *what, uint64_t digest, struct pj_buf *script);

/* The set added last is one that others do without: that the server refuses it is no error of pj_prepared_run, but
 * becomes *refusal, which the caller has cleared, and which lives as long as the sets. */
void pj_prepared_let_refuse(struct pj_prepared *prepared, struct pj_error *refusal);

/* Whether an error is the server's word on a statement, and not what becomes of a session or passes by itself. */
bool pj_prepared_is_refusal(const struct pj_error *error);

/* What the session has of other sets is deallocated, the sets that it lacks are prepared. After an error it has none; of a
 * set that was refused neither. */
int pj_prepared_run(const struct pj_prepared *prepared, struct pj_session *session, struct pj_error *error);
void pj_prepared_free(struct pj_prepared *prepared);

#endif
