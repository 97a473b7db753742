/* What the files of difference share. */
#ifndef PJ_CORE_DIFFERENCE_INTERNAL_H
#define PJ_CORE_DIFFERENCE_INTERNAL_H

#include "base/buf.h"
#include "core/difference.h"

/*
 * Which rows are to be looked at, as a condition on each side: on the source over its own columns, on the mirror over
 * the columns of an alias "m". What holds for a key on one side holds for it on the other.
 */
struct pj_scope {
    char *source, *mirror; /* pj_free */
};
void pj_scope_free(struct pj_scope *scope);

/* Where the two disagree. *agrees: nowhere, and the scope is empty. */
int pj_difference_find(struct pj_session *write, struct pj_session *read, const struct pj_table *table,
                       struct pj_scope *scope, bool *agrees, struct pj_error *error);

/* Fetches the source's rows of the scope, and makes the tables of what differs from the mirror's: the first of the two
 * halves of pj_difference_mend_table. The mirror is as it was. *mended is set. */
int pj_difference_look_at(struct pj_session *write, struct pj_session *read, const struct pj_table *table,
                          const struct pj_scope *scope, struct pj_mended *mended, struct pj_error *error);

/*
 * COPY from the source to the read side, row by row through here. Both statements must be of the same format; a `sink`
 * in the place of the second one takes the rows instead (text format: each with its newline).
 */
typedef void (*pj_row_sink)(void *context, const char *row, size_t length);

int pj_difference_copy(struct pj_session *write, const char *out_sql, struct pj_session *read, const char *in_sql,
                       struct pj_error *error);
int pj_difference_read(struct pj_session *from, pj_row_sink sink, void *context, struct pj_error *error);
/* Two at once, whichever has something: neither waits for the other. */
int pj_difference_read_both(struct pj_session *const from[2], const pj_row_sink sinks[2], void *context,
                            struct pj_error *error);

/* The temporary table that holds a mirror's rows as they were (`gone`) or will be (`come`), where they differ; and two
 * for the work. */
enum pj_rows_kept { PJ_ROWS_SOURCE, PJ_ROWS_GONE, PJ_ROWS_COME, PJ_ROWS_DIFFERING };
void pj_difference_rows_name(struct pj_buf *sql, const struct pj_table *table, enum pj_rows_kept which);
int pj_difference_rows_exist(struct pj_session *read, const struct pj_table *table, enum pj_rows_kept which,
                             bool *exist, struct pj_error *error);

/* Runs SQL made of `before`, the name of the table of what differs, and `after`. That table has a row for each row that
 * differs: `pgprojector_at`, its place in the mirror (NULL: missing there), `pgprojector_was`, the row there, and the
 * source's values, `pgprojector_here` being true where the source has it. *rows, where it is given, is set to the
 * number of rows written. */
int pj_difference_run(struct pj_session *read, const struct pj_table *table, const char *before, const char *after,
                      int64_t *rows, struct pj_error *error);

/* How many rows that table has of each kind. */
int pj_difference_count(struct pj_session *read, const struct pj_table *table, struct pj_mended *mended,
                        struct pj_error *error);

/* Writes that to the mirror, and drops it. What was kept of the rows stays. PJ_EDATA where other rows were met than were
 * found. */
int pj_difference_write_rows(struct pj_session *read, const struct pj_table *table, struct pj_error *error);

#endif
