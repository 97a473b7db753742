/* What the files of verify share. */
#ifndef PJ_CORE_VERIFY_INTERNAL_H
#define PJ_CORE_VERIFY_INTERNAL_H

#include "base/buf.h"
#include "core/mirror.h"
#include "core/verify.h"

/* The differences of one table: counted all, reported the first few. */
struct pj_verify_tally {
    const struct pj_verify_options *options;
    const char *kind, *name;
    int64_t differences, shown, handed;
    int nvalues; /* columns of the key */
};

enum { PJ_VERIFY_KEY_COLUMNS = 32 }; /* the most a key can have */

/* One more difference, handed out where there is still room: its key as JSON, and each of its columns as text. */
void pj_verify_tally_add(struct pj_verify_tally *tally, const char *fault, const char *key, const char *const *values);

/* The same from a row of a result: the JSON in a field, the texts in those behind it. */
void pj_verify_tally_add_row(struct pj_verify_tally *tally, const char *fault, const PGresult *rows, int row,
                             int field);
void pj_verify_tally_close(const struct pj_verify_tally *tally, int64_t rows, int64_t of);

/*
 * Rows that are compared outside the server, by a pass over both tables in the order of their keys' digests. The query
 * must give: digest of the key (ascending by bytes), digest of the row, key as JSON, its columns as texts. Each side
 * fetches a page at a time.
 */
int pj_verify_merge(struct pj_session *write, const char *write_sql, struct pj_session *read, const char *read_sql,
                    struct pj_verify_tally *tally, struct pj_error *error);

/* What stands behind FROM for the source, under its own name: a plain table without what inherits from it, for the
 * stream has that under its name. pj_free. */
char *pj_verify_source_from(const struct pj_table *table);

/* How many rows there are, about; few are counted. `from` is what stands behind FROM. */
int pj_sample_size(struct pj_session *session, const char *from, int64_t *rows, struct pj_error *error);

/* Appends "(SELECT … LIMIT wanted)": some rows of a relation of about `rows`. */
void pj_sample_put(struct pj_buf *sql, const char *columns, const char *from, int64_t wanted, int64_t rows);

/* Draws keys from both sides. *condition (pj_free) is the one on rows of either side; NULL: the sample would be
 * everything. */
int pj_sample_mirror(struct pj_session *write, struct pj_session *read, const struct pj_table *table, int64_t sample,
                     char **condition, int64_t *rows, struct pj_error *error);

/* Draws routing keys from the target and its sources. *keys (pj_free) is an array literal; NULL as above. */
int pj_sample_projection(struct pj_session *read, const struct pj_projection *projection, int64_t sample, char **keys,
                         int64_t *rows, struct pj_error *error);

/* Appends "json_build_object('id', k."id")::text"; the prefix may be "". */
void pj_verify_key_json(struct pj_buf *sql, const char *prefix, const char *const *names, int count);

/* Appends ", k."id"::text, …". */
void pj_verify_key_texts(struct pj_buf *sql, const char *prefix, const char *const *names, int count);

/* Appends "ROW(k."id", …)::text": a record's output quotes, so that no two different rows have the same text, and NULL
 * is not ''. */
void pj_verify_row_text(struct pj_buf *sql, const char *prefix, const char *const *names, int count);

#endif
