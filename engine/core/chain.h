/*
 * Chains: projections that read other projections' tables. Which one reads which, in what order they have to be taken,
 * and what of an upstream's key the downstream wants to know. No I/O; what happens in a batch stands in core/writer.c,
 * what happens beside the daemon in core/chainwork.h.
 *
 * Words: the *upstream* keeps the table, the *downstream* reads it. A projection's *level* is 0 where it reads mirrors
 * alone, else one more than the highest level it reads.
 */
#ifndef PJ_CORE_CHAIN_H
#define PJ_CORE_CHAIN_H

#include "core/projection.h"

/* A module as it is deployed, before it is bound. */
struct pj_chain_node {
    const struct pj_module *module;
    const struct pj_binding *binding;
};

/* Whether a table is the target of one of them (of a table beside it is not: nothing is chained on that). */
bool pj_chain_is_target(const struct pj_chain_node *nodes, int count, const char *schema, const char *table);

/*
 * Fills order[0 … count-1] with the nodes' indexes: by level, within a level as they were given. PJ_ECONFIG where
 * modules read each other's tables in a circle, naming them.
 */
int pj_chain_order(const struct pj_chain_node *nodes, int count, int *order, struct pj_error *error);

/*
 * Binds a source to a projection's target; both are bound otherwise. PJ_ECONFIG where a column is not one of the
 * upstream's key. The upstream must outlive the source, at its place.
 */
int pj_chain_bind_source(const struct pj_projection *projection, int source, const struct pj_projection *upstream,
                         struct pj_error *error);

/* Tells the upstreams of a bound projection of it: from now on their statements say which rows they touched. */
void pj_chain_link(struct pj_projection *projection);

/* Whether the columns are of the same form in both tables, as far as both have been looked at. */
int pj_chain_check_kinds(const struct pj_projection *projection, struct pj_error *error);

void pj_chain_free(struct pj_projection *projection);

#endif
