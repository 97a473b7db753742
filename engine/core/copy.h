/* Copying the source tables, as an exported snapshot shows them, into their empty mirrors. */
#ifndef PJ_CORE_COPY_H
#define PJ_CORE_COPY_H

#include "pg/session.h"
#include "wire/table.h"

struct pj_copy_options {
    const char *write_url, *read_url;
    const char *snapshot; /* its name; exported, and alive until pj_copy_tables returns */
    int jobs;             /* pairs of connections */
    const struct pj_stop *stop;
    /* called after each round of the pump, which may be often; `table` is one being copied */
    void (*progress)(void *context, const char *table, int64_t rows, int64_t rows_expected, int64_t bytes);
    /* called a few times a second while a server lets a connection wait (for a lock, say); its error ends the copy.
     * NULL: none */
    int (*waiting)(void *context, struct pj_error *error);
    void *context; /* of both */
};

/* Can values of the column go from one database to another in binary format? No types' oids may be in them. */
bool pj_copy_column_binary(const struct pj_table_column *column);

/* COPY's format for the table's rows: "binary" where all columns can, else "text". */
const char *pj_copy_format(const struct pj_table *table);

/* `write` is an ordinary session, for looking up sizes. Errors name the table. */
int pj_copy_tables(struct pj_session *write, const struct pj_copy_options *options, const struct pj_table *tables,
                   int count, struct pj_error *error);

#endif
