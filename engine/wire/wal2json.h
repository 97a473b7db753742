/*
 * wal2json, format-version 2: the options to ask for, and the decoder of what then comes.
 */
#ifndef PJ_WIRE_WAL2JSON_H
#define PJ_WIRE_WAL2JSON_H

#include "base/buf.h"
#include "wire/change.h"

/* A decoder that finds tables by `map`, which must outlive it and may gain entries while it lives. */
struct pj_decoder *pj_wal2json_new(const struct pj_relmap *map);

/*
 * Appends the option list of START_REPLICATION, from "(" to ")", with the names quoted and escaped as wal2json's
 * add-tables wants them. `add_tables` holds `count` pairs {schema, table}; a NULL table subscribes to the whole schema.
 * `filter_messages`: logical messages of other prefixes than PJ_WAL2JSON_PREFIX are not wanted.
 */
void pj_wal2json_options(struct pj_buf *sql, const char *const (*add_tables)[2], int count, bool filter_messages);

#define PJ_WAL2JSON_FILTER "add-msg-prefixes" /* the option that filters messages */
#define PJ_WAL2JSON_PREFIX "pgprojector"      /* of the few logical messages that come from here */

/* Whether options were refused because the server's wal2json does not know that filter: ask again without it. */
bool pj_wal2json_knows_no_filter(const struct pj_error *error);

#endif
