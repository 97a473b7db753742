/*
 * Old rows that are too large to be held all at once. What is fetched with a batch is cut: a row wider than its share
 * of the cap comes without its values, as PJ_OLD_LATE. Such rows are taken out of the batch and worked off first, slice
 * by slice: a slice is a batch of its own for as long as its old rows are in memory, applied as a part of the same
 * transaction. Pure: no I/O. The head of slices.c tells in which order.
 *
 *     pj_slices_share       how wide a row may be that is fetched with the batch
 *     pj_slices_new         after that fetch, where it left rows PJ_OLD_LATE
 *     pj_slices_next        a slice: `wanted` are fetched into it (pj_batch_set_old), then it is resolved and written
 *     ...                   the values of the slice before are gone; its statements must have been answered when the
 *                           rows wanted for the next one are entered
 *     pj_batch_resolve      of the batch, which now has the other rows only
 */
#ifndef PJ_CORE_SLICES_H
#define PJ_CORE_SLICES_H

#include "core/batch.h"

struct pj_slices;

struct pj_slice {
    struct pj_batch *batch;       /* rows of one table; its arena is where fetched values go */
    const struct pj_table *table; /* that one */
    struct pj_row **wanted;       /* of that table; not all of them need be rows of the slice */
    size_t nwanted;
};

/* Bytes of the values that may be wide, for each of so many rows that are fetched with a batch of this cap. */
size_t pj_slices_share(size_t batch_bytes, size_t nrows);

/* Takes the late rows out of a batch of this cap, which must stay where it is meanwhile. */
struct pj_slices *pj_slices_new(struct pj_batch *batch, size_t batch_bytes);
void pj_slices_free(struct pj_slices *slices); /* NULL is fine */

/* How many of a slice's wanted rows to ask for in one statement, from the one at `at` on. */
size_t pj_slices_chunk(const struct pj_slice *slice, size_t at);

/* The next one, valid until the call after; NULL: that was all. */
const struct pj_slice *pj_slices_next(struct pj_slices *slices);

#endif
