/* The catalog on the read database (sql/catalog.sql): checkpoint, mirrors, projections, the daemon's row. */
#ifndef PJ_CORE_CATALOG_H
#define PJ_CORE_CATALOG_H

#include "core/source.h"
#include "pg/session.h"

struct pj_checkpoint {
    bool complete; /* the first start is complete: lsn is set */
    char instance[24];
    char slot[64]; /* "" where none was intended yet */
    pj_lsn lsn;
    char system_id[24];
    uint32_t timeline;
    char database[64];
    int64_t epoch;
    int64_t version;         /* of what the daemon holds in memory (core/standing.h) */
    uint32_t witness_xid;    /* 0: none */
    pj_lsn witness_lsn;      /* its end LSN */
    int64_t witness_time_us; /* commit time, microseconds since 2000-01-01 UTC; 0: unknown */
    int backend_pid;
    char backend_start[40]; /* as text, "" where none */
    char resync_at[40];     /* when a resync was begun that is not complete, as text; "" where none was */
};

/* Creates what is missing; idempotent, safe when two do it at once (an advisory lock). Takes no lock on any table
 * where this version's catalog is there already. */
int pj_catalog_install(struct pj_session *read, struct pj_error *error);

/* *installed is false where there is no catalog; then the rest is empty. */
int pj_catalog_read(struct pj_session *read, struct pj_checkpoint *checkpoint, bool *installed, struct pj_error *error);

/* PJ_ECONFIG where the two sessions are in one and the same database. A copy of it, on a server of the same system
 * identifier, is another. */
int pj_catalog_check_apart(struct pj_session *write, struct pj_session *read, struct pj_error *error);

/*
 * The daemon's lock: one daemon a read database. Tries once, as a session-level advisory lock on this session; *mine
 * says whether it was had. *holder (pj_free, may be NULL) describes who has it: "pid 123 on host h since …".
 */
int pj_catalog_lock(struct pj_session *read, bool *mine, char **holder, struct pj_error *error);

/* The same for a command, which must not take it from under a daemon that is about to connect again: while the
 * session of a daemon's control thread is there, a daemon is (*holder: NULL where it has no lock at this moment). One
 * whose sessions are about to end is waited for, up to a second. */
int pj_catalog_lock_without_daemon(struct pj_session *read, bool *mine, char **holder, struct pj_error *error);

/* Whether a daemon shows itself: by its control session, or by its row within the last seconds (a connection that it
 * has lost it opens anew). One that is frozen does for some time. */
int pj_catalog_daemon_alive(struct pj_session *read, bool *alive, struct pj_error *error);

/* What the daemon says of itself, as long as its row is fresh; else `running` is false, and all else empty. */
struct pj_daemon_says {
    bool running;
    char state[16], message[512], hint[512];
};
int pj_catalog_daemon_says(struct pj_session *read, struct pj_daemon_says *says, struct pj_error *error);

/*
 * Takes over: ends our former backend if it still lives, locks the checkpoint row (so that a COMMIT under way is over),
 * raises the epoch, enters this session's backend, commits, and returns the row. Where believed_epoch >= 0 and the
 * row's epoch is another, PJ_ESTALE: somebody took over in between.
 */
int pj_catalog_take_over(struct pj_session *read, int64_t believed_epoch, struct pj_checkpoint *checkpoint,
                         struct pj_error *error);

/* Notes that the checkpoint, which is part of this timeline's history, is on it from now on. PJ_ESTALE where it is no
 * longer as given. */
int pj_catalog_follow_timeline(struct pj_session *read, const struct pj_checkpoint *checkpoint, uint32_t timeline,
                               struct pj_error *error);

/* Commits the intent to create this slot, before it is created. */
int pj_catalog_intend_slot(struct pj_session *read, const char *slot, const struct pj_source_identity *identity,
                           struct pj_error *error);

/* Commits the intent to make the slot anew (under the name it has), before the former one is dropped. PJ_ESTALE where
 * the epoch is another. */
int pj_catalog_intend_resync(struct pj_session *read, int64_t epoch, struct pj_error *error);

/* Completes a resync: checkpoint = lsn, on this write database, no witness, intent fulfilled. Within the caller's
 * transaction. */
int pj_catalog_complete_resync(struct pj_session *read, pj_lsn lsn, const struct pj_source_identity *identity,
                               int64_t epoch, struct pj_error *error);

/* Enters the tables as mirrors, replacing the list. What is joining stays in it, so that its table will be dropped, but of
 * no source: the stream that was noted of is not the one that goes on. Within the caller's transaction. */
int pj_catalog_enter_mirrors(struct pj_session *read, const struct pj_table *tables, int count, struct pj_error *error);

/* Enters one more, in the state `joining`. Within the caller's transaction. */
int pj_catalog_enter_joining(struct pj_session *read, const struct pj_table *table, struct pj_error *error);

/* Appends, as an array, what the catalog notes of the table's partitions by name: "oid schema.name". */
void pj_catalog_put_leaf_names(struct pj_buf *array, const struct pj_table *table);

/* Adds to the catalog the partitions that the tables have by now. */
int pj_catalog_note_leaves(struct pj_session *read, const struct pj_table *tables, int count, struct pj_error *error);

/* Completes the first start: checkpoint = lsn, all projections live. Within the caller's transaction. */
int pj_catalog_complete(struct pj_session *read, pj_lsn lsn, const struct pj_source_identity *identity, int64_t epoch,
                        struct pj_error *error);

#endif
