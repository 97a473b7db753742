/* The mirrors' tables on the read database: types, tables, keys, indexes. */
#ifndef PJ_CORE_MIRROR_H
#define PJ_CORE_MIRROR_H

#include "base/buf.h"
#include "pg/session.h"
#include "wire/table.h"

#include <stdbool.h>

/*
 * Creates the schemas, enum types and domains that the tables' columns need on the read database, where they are
 * missing, after the source's (labels in order; a domain's base type, checks and default left out: the source has
 * checked). A type that exists but differs (another kind, missing labels) is PJ_ECONFIG, named. Extension types must
 * exist already; where not, PJ_ECONFIG naming the extension. Within the caller's transaction on `read`.
 */
int pj_mirror_create_types(struct pj_session *write, struct pj_session *read, const struct pj_table *tables, int count,
                           struct pj_error *error);

/*
 * Creates the empty mirror without any index: all columns (generated ones as plain ones, no defaults, NOT NULL kept
 * only on key and identity columns). A table of that name that pgprojector did not create is PJ_ECONFIG. fillfactor 85.
 */
int pj_mirror_create(struct pj_session *read, const struct pj_table *table, struct pj_error *error);

/*
 * The indexes that a mirror itself carries, as statements that may run beside each other: the unique one on the primary
 * key, and the identity's, where that is another (false: it is not, and nothing was appended).
 */
enum pj_mirror_index { PJ_INDEX_KEY, PJ_INDEX_IDENTITY };
bool pj_mirror_index(struct pj_buf *sql, const struct pj_table *table, enum pj_mirror_index which);

/* Appends the names of the replica identity's columns, as an array. */
void pj_mirror_put_identity(struct pj_buf *array, const struct pj_table *table);

/* Makes the identity's index on a mirror that needs one and has none: the source's identity may have become another. */
int pj_mirror_index_identity(struct pj_session *read, const struct pj_table *table, struct pj_error *error);

/* Makes the unique index the primary key, which takes no time but an exclusive lock. */
int pj_mirror_attach_key(struct pj_session *read, const struct pj_table *table, struct pj_error *error);

/* Adds the primary key, and the identity index where it is another: the above, one after the other. */
int pj_mirror_add_keys(struct pj_session *read, const struct pj_table *table, struct pj_error *error);

/* Whether the server vacuums the mirror by itself (it does, from the start). */
int pj_mirror_autovacuum(struct pj_session *read, const struct pj_table *table, bool on, struct pj_error *error);

/* Drops the mirrors that the catalog lists (of a first start that did not complete). */
int pj_mirror_drop_all(struct pj_session *read, struct pj_error *error);

/*
 * Checks that each mirror still has the columns, types and keys that the stream will write, and that the source is the
 * one noted, with all columns that were mirrored. PJ_ESCHEMA, named.
 */
int pj_mirror_check(struct pj_session *read, const struct pj_table *tables, int count, struct pj_error *error);

/* The same, whatever has become of the source's rows: it may be another table of that name, with other partitions. A
 * column that the source has no more is refused where the mirror still has it. */
int pj_mirror_check_shape(struct pj_session *read, const struct pj_table *tables, int count, struct pj_error *error);

/*
 * Leaves out of the tables what the complete mirrors, by the catalog, do not have: columns that the source gained
 * later; and marks those that are joining. Does nothing before the first start is complete. Columns of keys and
 * identities stay: a check will name them. `adopt`: of the source's columns those stay, too, that somebody has given the
 * mirror by hand; only a resync makes them exact.
 */
int pj_mirror_limit(struct pj_session *read, struct pj_table *tables, int count, bool adopt, struct pj_error *error);

/*
 * Finds for each table the order in which rows are best inserted: that of the column with which most of its mirror's
 * indexes begin, where it is more than begin with the identity's first column, and of a type of a fixed width.
 */
int pj_mirror_learn_order(struct pj_session *read, struct pj_table *tables, int count, struct pj_error *error);

/* The condition on a row that some columns (the key's, the identity's) are among `keys`, one array literal of texts
 * for each: "("id", "b") IN (SELECT u.k0::type, … FROM unnest(…) AS u(k0, …))", with the columns under a prefix.
 * pj_free. */
char *pj_mirror_key_condition(const struct pj_table *table, const int *columns, int count, const char *const *keys,
                              const char *prefix);

/* Appends "a, b, c" of the columns, quoted; with a prefix such as "m." before each (NULL: none). */
void pj_mirror_columns(struct pj_buf *sql, const struct pj_table *table, const char *prefix);

#endif
