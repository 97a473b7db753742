/* One message of the stream, decoded. */
#ifndef PJ_WIRE_CHANGE_H
#define PJ_WIRE_CHANGE_H

#include "base/error.h"
#include "base/lsn.h"
#include "base/mem.h"
#include "wire/table.h"

enum pj_action {
    PJ_BEGIN,
    PJ_COMMIT,
    PJ_INSERT,
    PJ_UPDATE,
    PJ_DELETE,
    PJ_TRUNCATE,
    PJ_MESSAGE,         /* a logical message; transactional or not, it changes nothing, and nothing in it is read */
    PJ_UNKNOWN_RELATION /* a row change of a relation the relmap has no entry for; schema and name are set */
};

struct pj_row_change {
    enum pj_action action;
    uint32_t xid;   /* BEGIN and COMMIT; 0 where the source does not say */
    pj_lsn end_lsn; /* COMMIT: the transaction's end LSN (first byte behind its commit record) */
    int64_t
        commit_us; /* COMMIT: the commit's time by the source's clock, microseconds since 2000-01-01 UTC; 0 unknown */

    /* INSERT, UPDATE, DELETE, TRUNCATE: the table, or NULL where the relation is known to be of no concern. */
    const struct pj_table *table;

    /* INSERT, UPDATE: table->ncolumns values in the table's order, in the arena; PJ_ABSENT where the stream has
     * none. */
    struct pj_value *values;

    /* UPDATE, DELETE: the identity the stream carries: table->nidentity values in the order of table->identity. For an
     * UPDATE that does not change it these equal the ones in `values`. NULL for INSERT. */
    struct pj_value *identity;

    /* UPDATE, DELETE under REPLICA IDENTITY FULL: the whole old row, table->ncolumns values, PJ_ABSENT where left out;
     * else NULL. */
    struct pj_value *old_values;

    const char *schema, *name; /* UNKNOWN_RELATION, TRUNCATE: as the stream names it; NUL-terminated, in the arena */
};

/*
 * A source's decoder: from the payload of one XLogData message to a change. An interface, so that another output plugin
 * is another decoder. Decoders are single-threaded, do no I/O, and keep no state from one message to the next but
 * caches.
 */
struct pj_decoder {
    const char *plugin; /* the output plugin's name, for CREATE_REPLICATION_SLOT */

    /*
     * Decodes one message. `lsn` is the XLogData header's start position (for a COMMIT: its end LSN). Values are put
     * into `arena`; nothing in `change` points into `message`. Returns PJ_OK, or PJ_EDATA for what is truncated,
     * malformed, of an unknown kind, or a value that is not of its column's type; the message names table and column
     * and quotes at most 120 bytes of what it found wrong in the structure, never a value.
     */
    int (*decode)(struct pj_decoder *decoder, const char *message, size_t length, pj_lsn lsn, struct pj_arena *arena,
                  struct pj_row_change *change, struct pj_error *error);

    void (*free)(struct pj_decoder *decoder); /* also frees `decoder`; NULL is not allowed */
};

#endif
