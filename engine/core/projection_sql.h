/* The SQL of a projection, made of its module's texts. Private to core/projection*.c and core/target.c. */
#ifndef PJ_CORE_PROJECTION_SQL_H
#define PJ_CORE_PROJECTION_SQL_H

#include "core/given.h"
#include "core/projection.h"

/* Splits "table", "schema.table" or "\"Odd.Schema\".\"T\"" into two texts that the caller frees. */
void pj_name_split(const char *name, const char *default_schema, char **schema, char **table);

/* The table that a module's name for it means in a deployment; the caller frees both. */
void pj_actual_table(const struct pj_binding *binding, const char *declared, char **schema, char **name);

/* What {table} stands for; the caller frees. */
char *pj_relation_sql(const struct pj_projection_source *source);

/* Fills definition_sql and merge_sql: all that needs no knowledge of the target's types. */
int pj_projection_build_sql(struct pj_projection *projection, struct pj_error *error);

/* How far a definition's {keys(…)} restrict it to the keys given: not at all where it has none; partly where some name
 * fewer columns than are given. */
enum pj_restriction { PJ_UNRESTRICTED, PJ_RESTRICTED, PJ_RESTRICTED_PARTLY };

/* Appends the definition of one key, whose first `nkeys` columns the statement around calls pj_key.k1, k2 … */
int pj_sql_put_definition_of(const struct pj_projection *projection, int nkeys, struct pj_buf *sql,
                             enum pj_restriction *restriction, struct pj_error *error);

/* Appends the columns of touched rows that those downstream want to know, called t1, t2 …, in the form in which keys
 * are held. `alias` is the written table's, or "". */
void pj_sql_put_touched(const struct pj_projection *projection, const char *alias, struct pj_buf *sql);

/* Appends the SELECT of such rows from a relation: one more than may be; then there are too many, and all is dirty. */
void pj_sql_put_touched_select(const char *from, struct pj_buf *sql);

/* Fills the recompute texts. `columns`: the definition's, in its order; key_types and key_kinds are set. */
int pj_projection_build_recompute(struct pj_projection *projection, const char *const *columns, int count,
                                  struct pj_error *error);

/* Fills wanted_sql alone; key_types and key_kinds are set. */
int pj_projection_build_wanted(struct pj_projection *projection, struct pj_error *error);

/* Fills merge_touched_sql where others are chained on the projection. Asks the server what each merge writes:
 * PJ_ECONFIG where that is not one INSERT, UPDATE or DELETE of the target. key_kinds are set. `target`: the table
 * that it is asked of, quoted. */
int pj_projection_build_touched(struct pj_session *read, struct pj_projection *projection, const char *target,
                                struct pj_error *error);

/* A text of SQL with another table in a table's place; both as they are made here, quoted and qualified, so that
 * they are found without mistake. To be freed. */
char *pj_sql_instead(const char *text, const char *table, const char *other);

/* The same question alone, whoever is chained on the projection, of the table that its SQL names. */
int pj_projection_check_merges(struct pj_session *read, const struct pj_projection *projection, struct pj_error *error);

/* PJ_ECONFIG where the source's column or a stream's first one carries the routing key in another form than the target's
 * key_kinds say. */
int pj_projection_check_kinds(const struct pj_projection *projection, struct pj_error *error);

/* What {delta} stands for, of a stream; merge_sql has the form for many. To be freed. */
char *pj_sql_delta(const struct pj_stream *stream, enum pj_given given);

/* The SQL type as which keys and delta columns of a kind are sent: "pg_catalog.uuid"; "pg_catalog.text" for PJ_ANY. */
const char *pj_kind_sql(enum pj_type kind);

/* Appends "TABLE (…) WHERE …", the rest of CREATE INDEX ON, for one of the module's mirror indexes; *source (index of a
 * source) is the one whose mirror it is on. */
int pj_projection_index_sql(const struct pj_projection *projection, const char *text, struct pj_buf *sql, int *source,
                            struct pj_error *error);

#endif
