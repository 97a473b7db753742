/* The lists of columns in a wal2json message: [{"name":"id","value":1},…]. */
#ifndef PJ_WIRE_WAL2JSON_ROW_H
#define PJ_WIRE_WAL2JSON_ROW_H

#include "wire/change.h"
#include "wire/json_scan.h"
#include "wire/wal2json_relation.h"

/* A message under way. */
struct pj_wal2json_reader {
    struct pj_json json;
    const char *message; /* its first byte */
    struct pj_arena *arena;
    struct pj_error *error;
};

/*
 * Reads a list of the table's columns: column i becomes values[slots[i]]. Columns whose slot is -1 and columns the
 * table does not have are passed over; values that the list does not name stay as they are. PJ_EDATA where it is
 * malformed, names a column twice, or a value is not of its column's type.
 */
int pj_wal2json_row(struct pj_wal2json_reader *reader, const struct pj_wal2json_shape *shape, const int *slots,
                    struct pj_value *values);

/* Makes a string's span its text: decoded into the arena where it has escapes, else as it stands in the message. */
void pj_wal2json_unescape(struct pj_wal2json_reader *reader, struct pj_json_span *span);

/* The error for a message that is not what it should be where the reader stands. Returns PJ_EDATA. */
int pj_wal2json_malformed(struct pj_wal2json_reader *reader, const char *expected);

#endif
