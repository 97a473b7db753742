/*
 * Many keys of a projection recomputed beside the running daemon: in chunks, each a short transaction of keywork.h, as
 * large as fits into some milliseconds. What rebuild, resume and others have in common.
 *
 * Each of them is PJ_ERELOAD where the projection may not be what it was when its setup was made (pj_keywork_begin_of):
 * then it is to be begun again with another setup.
 *
 * A key that cannot be written (SQLSTATE classes 22, 23, P0) is found by halving its chunk, and parked as a dead
 * letter; the others go on.
 */
#ifndef PJ_CORE_MEND_H
#define PJ_CORE_MEND_H

#include "core/job.h"
#include "core/keywork.h"

/* At more keys that cannot be written, something else is wrong. */
enum { PJ_PARK_AT_MOST = 1000 };

/* Who else is at the table. */
enum pj_mend_company {
    PJ_MEND_ASKS,      /* whether a daemon runs is asked at the first key */
    PJ_MEND_DAEMON,    /* one runs, and is to be left room */
    PJ_MEND_NO_DAEMON, /* none runs */
    PJ_MEND_NOBODY     /* the table is being built, and nobody else writes to it: no lock, and no room to be left */
};

struct pj_mend_options {
    int chunk;    /* keys of a transaction at most; 0: 20000, which without a daemon is what sets the bound */
    int max_rate; /* keys a second at most; 0: as fast as leaves the daemon its room */
};

struct pj_mend {
    struct pj_session *work; /* the short transactions */
    struct pj_job job;       /* its session is also the one for looking: cursors, comparisons */
    const struct pj_projection *projection;
    const struct pj_mark *mark; /* of before the projection's setup was made; NULL as for pj_keywork_begin_of */
    const struct pj_stop *stop;
    struct pj_mend_options options;
    enum pj_mend_company company;

    /* filled here */
    int chunk;             /* what fits at the moment */
    int64_t keys;          /* recomputed since the object was made */
    int64_t rows;          /* rows inserted or updated */
    int64_t parked;        /* keys that had to be parked; at more than PJ_PARK_AT_MOST it gives up */
    char last_parked[256]; /* the routing key parked last */
    uint64_t begun_us;     /* for the rate */
    uint64_t held_us;      /* how long the last transaction had the lock */
};

/*
 * Recomputes the keys in rows first … first + count - 1 of a result: its first column is the routing key as text; with
 * `full` one column for each key column.
 */
int pj_mend_keys(struct pj_mend *mend, bool full, const PGresult *keys, int first, int count, struct pj_error *error);

/* The whole of a cursor of such rows on the job's session, as the phase `phase` of the job. */
int pj_mend_cursor(struct pj_mend *mend, const char *phase, bool full, const char *cursor, struct pj_error *error);

/* Opens a cursor over the query's rows, which outlives its transaction and so holds no snapshot; *count: its rows. */
int pj_mend_open_cursor(struct pj_mend *mend, const char *cursor, const char *query, int64_t *count,
                        struct pj_error *error);

/* The same keys as array literals, one for each of `width` columns; each to be freed. With a `width` of 1 a key that is
 * the same as in the row before is left out. */
void pj_mend_arrays(const PGresult *keys, int first, int count, int width, char **arrays);

/* Whether an error is the fault of a key: parking it lets the others go on. */
bool pj_mend_is_key_fault(const struct pj_error *error);

/* Takes the values out of a message that speaks of a row, for log and catalog, which more people may read than the rows; leaves
 * others, which name tables and columns, alone. */
void pj_mend_strip(struct pj_error *fault);

/* Within the caller's transaction: parks a key, or notes one more failed attempt. `lsn` as text. */
int pj_mend_note_failure(struct pj_session *work, const char *projection, const char *key, const struct pj_error *fault,
                         const char *lsn, struct pj_error *error);

/* The same for a projection that no daemon has as live, so that nobody is to be told; takes no lock of the checkpoint's. */
int pj_mend_enter_failure(struct pj_session *work, const char *projection, const char *key,
                          const struct pj_error *fault, struct pj_error *error);

/* Parks a key, or notes one more failed attempt. In a transaction of its own; `mark` as for pj_keywork_begin_of. */
int pj_mend_park(struct pj_session *work, const struct pj_mark *mark, const char *projection, const char *key,
                 const struct pj_error *fault, struct pj_error *error);

#endif
