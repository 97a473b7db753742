/*
 * A batch: the final rows of whole source transactions (or of a part of one that is too large). Changes to one row
 * collapse to one pair, old and new. Pure: no I/O, no clock. Life of a batch:
 *
 *     collect: pj_batch_change …, pj_batch_commit …      while another batch is being applied
 *     fetch:   rows whose old is PJ_OLD_UNKNOWN are read from the mirror: pj_batch_set_old
 *     resolve: pj_batch_resolve fills what the stream left out; then `old` and `new_row` of every row are final
 *     reset                                       (or unresolve, and the same rows once more from `fetch` on)
 */
#ifndef PJ_CORE_BATCH_H
#define PJ_CORE_BATCH_H

#include "wire/change.h"

enum pj_old_state {
    PJ_OLD_NONE,    /* there was no row: `old` is NULL */
    PJ_OLD_UNKNOWN, /* there was one; to be fetched from the mirror */
    PJ_OLD_KNOWN,
    /* Of rows that core/slices works off: */
    PJ_OLD_LATE,      /* too large to be fetched with the batch */
    PJ_OLD_LATE_BASE, /* the same, and another row takes values from it */
    PJ_OLD_SLICED     /* no more of the batch: what it was and is cannot be told from here */
};

struct pj_row {
    uint64_t hash;
    struct pj_value *identity; /* table->nidentity values: the key of the collapse */
    struct pj_value *old;      /* table->ncolumns values, or NULL */
    struct pj_value *new_row;  /* the same; NULL: deleted. PJ_ABSENT values only before pj_batch_resolve */
    struct pj_row *base;       /* the row whose `old` holds what is PJ_ABSENT in new_row */
    enum pj_old_state old_state;
    uint32_t old_bytes; /* of a row that is, or was, PJ_OLD_LATE: what its values take, at most UINT32_MAX */
};

/* What resolving has filled in a row: the values as they were collected. */
struct pj_filled {
    struct pj_filled *next;
    struct pj_row *row;
    struct pj_value *collected;
};

/* A partition that was truncated by itself. */
struct pj_emptied {
    struct pj_emptied *next;
    const char *name;      /* "schema.name" */
    const char *condition; /* SQL over the table's columns: its rows */
};

struct pj_table_rows {
    const struct pj_table *table;
    struct pj_row **rows; /* in order of first appearance; see pj_batch_sort */
    size_t count, capacity;
    struct pj_row **slots; /* open addressing, a power of two */
    size_t nslots;
    bool truncated;             /* the table is emptied before this batch's rows are written */
    struct pj_emptied *emptied; /* partitions that are emptied before, in the arena; NULL: none */
};

struct pj_batch {
    struct pj_arena arena; /* rows and values */
    struct pj_table_rows *tables;
    int ntables;
    struct pj_filled *filled;       /* in the arena */
    size_t owed;                    /* what its old rows will take by their number of columns alone */
    uint64_t changes, transactions; /* in this batch; a part of a transaction counts when its commit is in here */
    bool ends_at_commit;            /* the last thing collected was a commit (or nothing) */
    pj_lsn end_lsn;                 /* of the last commit */
    pj_lsn floor_lsn;               /* end LSN of the commit before it, 0 where there is none in this batch */
    pj_lsn reaches;                 /* how far the stream was received when it was handed over; set by the owner */
    uint32_t xid;                   /* of the last commit; 0: none */
    int64_t commit_us;
};

struct pj_batch *pj_batch_new(const struct pj_table *tables, int ntables);
void pj_batch_free(struct pj_batch *batch);
/* The batch is for other tables, which are the same but for their order: table i was from[i]. */
void pj_batch_rehome(struct pj_batch *batch, const struct pj_table *tables, const int *from);
void pj_batch_reset(struct pj_batch *batch, size_t keep_bytes); /* keeps about so much memory for the next one */

/*
 * Collects a row change (INSERT, UPDATE, DELETE) whose values lie in batch->arena. PJ_ESCHEMA where a column that
 * cannot be left out is missing (dropped or renamed on the source), PJ_EDATA where the change contradicts what came
 * before it.
 */
int pj_batch_change(struct pj_batch *batch, const struct pj_row_change *change, struct pj_error *error);

/* A TRUNCATE may only begin a batch: true where the table has no row in here yet, and is now marked. */
bool pj_batch_truncate(struct pj_batch *batch, const struct pj_table *table);

/* The same for one partition of the table; the texts are copied. */
bool pj_batch_truncate_partition(struct pj_batch *batch, const struct pj_table *table, const char *name,
                                 const char *condition);

void pj_batch_commit(struct pj_batch *batch, pj_lsn end_lsn, uint32_t xid, int64_t commit_us);

bool pj_batch_has_rows(const struct pj_batch *batch); /* anything to write: rows or a TRUNCATE */
size_t pj_batch_bytes(const struct pj_batch *batch);  /* what it holds takes; 0 after a reset */

/* Enters a fetched old row: table->ncolumns values that live as long as the batch. */
void pj_batch_set_old(struct pj_row *row, struct pj_value *old);

/* Enters that an old row is too large, of so many bytes: PJ_OLD_LATE. */
void pj_batch_set_late(struct pj_row *row, uint64_t bytes);

/* A row's values, bytes and all, in an arena. */
struct pj_value *pj_batch_copy_values(struct pj_arena *arena, const struct pj_value *values, int count);

/* Puts a row of another batch behind a table's rows; it is not found by its identity. */
void pj_batch_append(struct pj_table_rows *rows, struct pj_row *row);

/*
 * Gives the rows whose old is PJ_OLD_UNKNOWN what the batch before this one, which is resolved, has made of them; copied,
 * as long as that takes no more than `bytes`; else PJ_OLD_LATE. Returns how many are that. What is unknown after it,
 * `before` has not touched, or has written in a slice.
 */
size_t pj_batch_follow(struct pj_batch *batch, const struct pj_batch *before, size_t bytes);

/* PJ_EDATA where a row that the stream updates or deletes was not in the mirror. Tables that are joining are left as
 * they are. */
int pj_batch_resolve(struct pj_batch *batch, struct pj_error *error);

/* Makes the batch as it was collected: what was fetched is unknown again, what was filled is left out again. Not once
 * rows were sliced. */
void pj_batch_unresolve(struct pj_batch *batch);

/* After resolve: whether anything is to be done for the row (it changed; it was not both made and gone in here). */
bool pj_row_changed(const struct pj_table *table, const struct pj_row *row);

/* Sorts each table's rows by identity bytes, so that they are written in the order of the key; many new rows, where the
 * table has an insert_order, by that column's (batch_sort.c). */
void pj_batch_sort(struct pj_batch *batch);

#endif
