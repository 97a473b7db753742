/* A projection's table held against its definition, as one query. */
#ifndef PJ_CORE_COMPARISON_H
#define PJ_CORE_COMPARISON_H

#include "core/projection.h"
#include "pg/session.h"

enum {
    PJ_COMPARE_BUT_PARKED = 1, /* without rows whose routing key is parked */
    PJ_COMPARE_BUT_NOTED = 2,  /* without rows that will be recomputed anyway, for their keys have been noted */
    PJ_COMPARE_BUT_GIVEN = 4,  /* without rows whose routing key is in $1, an array of texts */
};

/* *sql (pj_free): a query for the keys of the rows that differ: a text for each column of the key, in its order. Wants
 * hashes of whole tables in memory (work_mem) and no JIT. */
int pj_comparison_sql(struct pj_session *look, const struct pj_projection *projection, unsigned leave_out, char **sql,
                      struct pj_error *error);

/* The names and types of a table's or a query's columns, without a row of it. `relation`: quoted, or the query. */
int pj_comparison_describe(struct pj_session *look, const char *relation, bool query, PGresult **columns,
                           struct pj_error *error);

/* The names alone, each as long as the result; the array is to be freed with pj_free. */
const char **pj_comparison_names(const PGresult *columns);

#endif
