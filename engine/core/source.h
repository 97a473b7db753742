/*
 * The write database as pgprojector needs it: its identity, whether it can be streamed from, and the tables to mirror.
 * All by blocking sessions. Each refusal names the thing and the remedy.
 */
#ifndef PJ_CORE_SOURCE_H
#define PJ_CORE_SOURCE_H

#include "base/buf.h"
#include "pg/session.h"
#include "wire/table.h"

struct pj_source_identity {
    char system_id[24];
    uint32_t timeline;
    char database[64];
    int server_version;    /* as PQserverVersion: 150020 */
    int sender_timeout_ms; /* wal_sender_timeout as it holds for the session; 0: none */
    pj_lsn wal_flush;      /* IDENTIFY_SYSTEM's xlogpos */
};

/* `replication` is a replication=database session. Refuses a standby (pg_is_in_recovery) on servers before 16. */
int pj_source_identify(struct pj_session *replication, struct pj_source_identity *identity, struct pj_error *error);

/*
 * Checks what streaming needs, cheapest first: server version >= 12, wal_level = logical, server encoding UTF8, the
 * role's REPLICATION attribute, free slots and walsenders, output_plugin_libraries naming wal2json where that setting
 * exists. (A missing plugin shows only when a slot is created; pj_slot_create explains it.) PJ_ECONFIG.
 */
int pj_source_check(struct pj_session *write, struct pj_error *error);

/* A table that is wanted: by a module or by the configuration. */
struct pj_wanted_table {
    char *schema, *name;
    char *wanted_by; /* for messages: "module conversation_summary" or "[mirrors] tables" */
};

/* Frees what it points to. */
void pj_wanted_table_free(struct pj_wanted_table *table);

/*
 * Reads the wanted tables from the catalog into a new array of `count` tables (index set, in the order given;
 * duplicates must have been removed). Refuses, all at once in one message where there are several faults: a table that
 * does not exist or is no table (PJ_ECONFIG), has no usable primary key (none, or deferrable: `indisprimary AND
 * indimmediate`), has no replica identity (NOTHING, or an identity index that is gone), is unlogged or temporary, or
 * may not be SELECTed.
 */
int pj_source_tables(struct pj_session *write, const struct pj_wanted_table *wanted, int count,
                     struct pj_table **tables, struct pj_error *error);
void pj_source_tables_free(struct pj_table *tables, int count);

/*
 * Enters the tables' names, and the names of all leaves of partitioned ones, into the map.
 */
int pj_source_fill_relmap(struct pj_session *write, const struct pj_table *tables, int count, struct pj_relmap *map,
                          struct pj_error *error);

/*
 * Waits until others see what a transaction did. The stream may bring a commit some microseconds before its server
 * makes it visible; a look into the catalog in between would miss the partition that it created. Bounded: 10 s, then
 * retryable.
 */
int pj_source_await_visible(struct pj_session *write, uint32_t xid, struct pj_error *error);

/* Where in the stream a name was met. */
struct pj_passage {
    uint32_t xid; /* of the transaction */
    pj_lsn position;
};

/*
 * Looks up a relation that the stream named and the map does not know: a new partition of a mirrored table is entered
 * under its root (and added to the root's leaves, so that nobody else may read them meanwhile), anything else as of no
 * concern. PJ_ESCHEMA for a name that is not there any more and may be a former one of a partition (`at`; NULL: not asked).
 */
int pj_source_resolve(struct pj_session *write, const char *schema, const char *name, struct pj_table *tables,
                      int count, struct pj_relmap *map, const struct pj_passage *at, struct pj_error *error);

/*
 * What a TRUNCATE of one partition has emptied. *condition (pj_free) is an SQL condition over the root's columns that
 * holds for exactly its rows; NULL where there is none that another server could evaluate, or the partition is gone.
 * *ancestors (pj_free) lists the partitioned tables above it, "schema.name", one a line.
 */
int pj_source_partition(struct pj_session *write, const char *schema, const char *name, char **condition,
                        char **ancestors, struct pj_error *error);

/*
 * A fingerprint of all that matters for the tables (oids, names, columns, types, identity, partitions), as 32 hex
 * digits. Two that differ mean that the schema has changed. `*what` (pj_free; may be NULL) gets the first difference in
 * words when `before` is the tables as known: "public.messages: column content is gone".
 */
int pj_source_compare(struct pj_session *write, const struct pj_table *tables, int count, struct pj_error *error);

/* The slot. */
struct pj_slot {
    bool exists;
    char plugin[64], database[64];
    bool active;
    int active_pid;
    pj_lsn restart, confirmed_flush;
    char wal_status[16];    /* reserved, extended, unreserved, lost; "" where unknown */
    int64_t retained_bytes; /* WAL kept for it */
    int64_t safe_bytes;     /* safe_wal_size; -1: without limit */
};

int pj_slot_read(struct pj_session *write, const char *name, struct pj_slot *slot, struct pj_error *error);

/* Appends who would keep, or keeps, a new slot from its consistent point: the oldest three, each in words; nothing where
 * nobody does. `walsender`: the pid of the one that waits (0: none); older_ms: only those whose transactions have been open
 * for longer (0: all). A role that may not see others' sessions sees its own. */
int pj_slot_blockers(struct pj_session *write, int walsender, int older_ms, struct pj_buf *names,
                     struct pj_error *error);

/*
 * Creates the slot with an exported snapshot on a replication session; the snapshot lives until the session's next
 * command. Bounds the wait for open transactions by wait_ms; on expiry nothing is left behind and the blocker is named
 * (pid, application, age, query start; a prepared transaction's gid). `write` is an ordinary session for looking that
 * up. A missing or refused plugin is explained with its remedy. `temporary` slots vanish with the session. After PJ_ESTOPPED
 * it is open whether the slot is there, and who asked for a lasting one drops it: `write` can ask nothing any more.
 */
int pj_slot_create(struct pj_session *replication, struct pj_session *write, const char *name, const char *plugin,
                   bool temporary, int wait_ms, pj_lsn *consistent_point, char snapshot[64], struct pj_error *error);

/* Drops the slot if it exists and is inactive, ending its walsender where `terminate`. */
int pj_slot_drop(struct pj_session *write, const char *name, bool terminate, struct pj_error *error);

#endif
