/* Filling a table by chunks of routing keys, where its definition fails for some of them. */
#ifndef PJ_CORE_FILL_KEYS_H
#define PJ_CORE_FILL_KEYS_H

#include "core/projection.h"

/* Whether filling at once has failed by the fault of some key, and the other keys can be told. Not with on_error = halt:
 * then no row may be missing. */
bool pj_fill_keys_can(const struct pj_projection *projection, const struct pj_error *fault);

/*
 * Within the caller's transaction, into the empty table: the definition's rows, key by key; *rows: how many. The keys that
 * fail are parked (*parked: how many; at more than PJ_PARK_AT_MOST it gives up); they were not touched before by anybody
 * who has to be told. The key's types are known (pj_projection_create_target or pj_projection_describe_target).
 */
int pj_fill_keys(struct pj_session *read, struct pj_projection *projection, int64_t *rows, int64_t *parked,
                 struct pj_error *error);

#endif
