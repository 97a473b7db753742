/* What the parts of core/source share. Not for others. */
#ifndef PJ_CORE_SOURCE_INTERNAL_H
#define PJ_CORE_SOURCE_INTERNAL_H

#include "base/buf.h"
#include "core/source.h"

/* Faults are gathered, so that one start shows all of them; the first remedies are kept as hints. */
struct pj_faults {
    struct pj_buf text, hint;
    int count;
    bool streaming; /* rows need not be readable: a lost privilege is no fault */
};

void pj_fault(struct pj_faults *faults, const char *format, ...) __attribute__((format(printf, 2, 3)));
void pj_fault_hint(struct pj_faults *faults, const char *format, ...) __attribute__((format(printf, 2, 3)));
int pj_faults_report(struct pj_faults *faults, int code, struct pj_error *error); /* empties; PJ_OK where none */

/* A result's field, by its name. */
const char *pj_field(const PGresult *result, int row, const char *name);
bool pj_field_true(const PGresult *result, int row, const char *name);
uint32_t pj_field_uint(const PGresult *result, int row, const char *name); /* 0 for NULL */

/* A query whose one parameter is the array of the tables' oids. */
int pj_source_query_tables(struct pj_session *write, const struct pj_table *tables, int count, const char *sql,
                           PGresult **result, struct pj_error *error);

/* pj_source_tables, or, for `streaming`, without asking whether the rows may be read. */
int pj_source_read_tables(struct pj_session *write, const struct pj_wanted_table *wanted, int count, bool streaming,
                          struct pj_table **tables, struct pj_error *error);

/* The text by which a table's replica identity and its leaves' are compared (sql/source_leaves.sql). */
void pj_source_identity_text(const struct pj_table *table, struct pj_buf *text);

/* Reads the leaves of the partitioned ones among `tables`, and notes faults of leaves that do not follow their root. */
int pj_source_read_leaves(struct pj_session *write, struct pj_table *tables, int count, struct pj_faults *faults,
                          struct pj_error *error);

/* PJ_ESCHEMA: a table with rows of its own past has become a partition of the root. */
int pj_source_was_attached(const struct pj_table *root, const char *schema, const char *name, struct pj_error *error);

/* How a column's values are held, by its base type's oid. */
enum pj_type pj_source_kind(uint32_t type_oid);

#endif
