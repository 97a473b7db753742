/*
 * How rows are handed to a prepared statement: many as arrays, one a column; a single one by its values. A quiet stream
 * writes one row at a time, and for one an array is the most of the work: of a plan that unpacks nothing the server makes
 * a look-up by index and no more.
 */
#ifndef PJ_CORE_GIVEN_H
#define PJ_CORE_GIVEN_H

#include "base/buf.h"

#include <stddef.h>

enum pj_given { PJ_MANY, PJ_ONE };

static inline enum pj_given pj_given(size_t rows)
{
    return rows == 1 ? PJ_ONE : PJ_MANY;
}

/*
 * Appends a column of the rows given, for a SELECT list without FROM: "$2::pg_catalog.uuid", or unnest() of it. The arrays
 * belong there, side by side, and not into FROM, where each would be laid down whole in a tuple store of its own before
 * the first row comes out. `type` as in SQL, qualified.
 */
void pj_given_put(struct pj_buf *sql, enum pj_given given, int parameter, const char *type);

/* The same for the rows' number, from 1, as bigint; `parameter` and `type` are any column's. */
void pj_given_put_ordinal(struct pj_buf *sql, enum pj_given given, int parameter, const char *type);

#endif
