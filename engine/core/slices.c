/*
 * See slices.h. Each row is written by itself, under its identity, so the order of slices is free but for two things:
 *
 * A row whose key has changed may take values that the stream left out from the row under its former key, its base. The
 * base is fetched for it, too, and must not have been overwritten by then: a row comes before its base, which is fetched
 * once more for itself where it falls into the next slice. Where keys have gone round in a circle, the row that is first
 * stays in memory until the last one, which takes from it, is written.
 *
 * Under a replica identity that is not the primary key, rows may pass primary keys on to one another: deletes must come
 * before inserts, in all of the table. So such a table's rows stay together, in one slice.
 *
 * TRUNCATE comes first of all, hence with the first slice.
 */
#include "core/slices.h"

#include <string.h>

enum { LEAST_SHARE = 256, CHUNK_ROWS = 4096, CHUNK_BYTES = 1 << 20 };

/* A row to come. */
struct place {
    struct pj_row *row;
    struct pj_row *base; /* the late row that it takes values from; NULL: none */
    bool first, last;    /* of a circle */
};

struct pj_slices {
    struct pj_batch *from;
    struct place *places;      /* by table */
    size_t *ends;              /* for each table: where its places end */
    size_t nplaces, begun, at; /* the present slice is begun..at */
    int table;
    size_t budget;
    struct pj_batch *parts[2]; /* in turn: what was sent of one may lie in its arena when the next is planned */
    int turn;
    struct pj_slice slice;
    size_t capacity;        /* of its `wanted` */
    struct pj_arena pinned; /* the old row of a circle's first */
};

size_t pj_slices_share(size_t batch_bytes, size_t nrows)
{
    size_t share = nrows ? batch_bytes / nrows : batch_bytes;
    return share > LEAST_SHARE ? share : LEAST_SHARE;
}

/* -------------------------------------------------------------------------------------------------------- the order */

static bool is_late(const struct pj_row *row)
{
    return row->old_state == PJ_OLD_LATE || row->old_state == PJ_OLD_LATE_BASE;
}

static bool any_late(const struct pj_table_rows *rows)
{
    for (size_t i = 0; i < rows->count; i++)
        if (is_late(rows->rows[i]))
            return true;
    return false;
}

/* Another row, a late one, from which it takes values; else NULL. No row is the base of two that take from it. */
static struct pj_row *late_base(const struct pj_table *table, const struct pj_row *row)
{
    if (!row->new_row || row->base == row || (!is_late(row->base) && row->base->old_state != PJ_OLD_SLICED))
        return NULL;
    for (int i = 0; i < table->ncolumns; i++)
        if (row->new_row[i].length == PJ_ABSENT)
            return row->base;
    return NULL;
}

/* A row, its base, the base of that, and so on. */
static void place_from(struct pj_slices *slices, const struct pj_table *table, struct pj_row *row)
{
    while (row) {
        struct pj_row *base = late_base(table, row);
        slices->places[slices->nplaces++] = (struct place){.row = row, .base = base};
        if (is_late(row))
            row->old_state = PJ_OLD_SLICED;
        row = base && base->old_state != PJ_OLD_SLICED ? base : NULL;
    }
}

static void place_circle(struct pj_slices *slices, const struct pj_table *table, struct pj_row *row)
{
    size_t first = slices->nplaces;
    place_from(slices, table, row);
    slices->places[first].first = true;
    slices->places[slices->nplaces - 1].last = true;
}

/* Where all from which nothing is taken, and what they take from, is placed, circles are left. */
static void place_all(struct pj_slices *slices, const struct pj_table *table, struct pj_row **rows, size_t count)
{
    for (size_t i = 0; i < count; i++)
        if (rows[i]->old_state != PJ_OLD_LATE_BASE && rows[i]->old_state != PJ_OLD_SLICED)
            place_from(slices, table, rows[i]);
    for (size_t i = 0; i < count; i++)
        if (rows[i]->old_state == PJ_OLD_LATE_BASE)
            place_circle(slices, table, rows[i]);
}

/* Takes out of a table's rows what is late, or takes from what is. */
static void take_out(struct pj_slices *slices, struct pj_table_rows *rows)
{
    struct pj_row **taken = pj_alloc((rows->count + 1) * sizeof *taken), *base;
    size_t kept = 0, ntaken = 0;
    for (size_t i = 0; i < rows->count; i++) {
        struct pj_row *row = rows->rows[i];
        if ((base = late_base(rows->table, row)))
            base->old_state = PJ_OLD_LATE_BASE;
        if (base || is_late(row) || !rows->table->identity_is_key)
            taken[ntaken++] = row;
        else
            rows->rows[kept++] = row;
    }
    rows->count = kept;
    if (!kept)
        memset(rows->slots, 0, rows->nslots * sizeof *rows->slots); /* as resetting takes it to be */
    place_all(slices, rows->table, taken, ntaken);
    pj_free(taken);
}

struct pj_slices *pj_slices_new(struct pj_batch *batch, size_t batch_bytes)
{
    struct pj_slices *slices = pj_alloc(sizeof *slices);
    size_t count = 0;
    slices->from = batch;
    slices->budget = batch_bytes / 4;
    pj_arena_init(&slices->pinned);
    for (int t = 0; t < batch->ntables; t++)
        count += batch->tables[t].count;
    slices->places = pj_alloc((count + 1) * sizeof *slices->places);
    slices->ends = pj_alloc(((size_t)batch->ntables + 1) * sizeof *slices->ends);
    for (int t = 0; t < batch->ntables; t++) {
        if (any_late(&batch->tables[t]))
            take_out(slices, &batch->tables[t]);
        slices->ends[t] = slices->nplaces;
    }
    return slices;
}

void pj_slices_free(struct pj_slices *slices)
{
    if (!slices)
        return;
    pj_batch_free(slices->parts[0]);
    pj_batch_free(slices->parts[1]);
    pj_arena_free(&slices->pinned);
    pj_free(slices->slice.wanted);
    pj_free(slices->places);
    pj_free(slices->ends);
    pj_free(slices);
}

/* ------------------------------------------------------------------------------------------------------- one by one */

/* Whether the circle that begins at a place has its last row in a later slice. */
static bool goes_on(const struct pj_slices *slices, size_t place)
{
    while (!slices->places[place].last)
        place++;
    return place >= slices->at;
}

static void pin(struct pj_slices *slices, struct pj_row *row)
{
    pj_arena_reset(&slices->pinned, 0);
    pj_batch_set_old(row, pj_batch_copy_values(&slices->pinned, row->old, slices->slice.table->ncolumns));
}

static void let_go(struct pj_row *row)
{
    row->old = NULL;
    row->old_state = PJ_OLD_SLICED;
}

/* The present slice is written: what was fetched for it is held no longer, what its rows are now is in the mirror. */
static void forget(struct pj_slices *slices)
{
    struct pj_row *pinned = NULL;
    for (size_t i = slices->begun; i < slices->at; i++) {
        const struct place *place = &slices->places[i];
        if (place->first && goes_on(slices, i))
            pin(slices, pinned = place->row);
        else
            place->row->old_state =
                PJ_OLD_SLICED; /* an old row that is not of the slice stays, for who takes from it */
        if (place->last)
            let_go(place->base);
    }
    for (size_t i = 0; i < slices->slice.nwanted; i++)
        if (slices->slice.wanted[i] != pinned)
            let_go(slices->slice.wanted[i]);
    slices->slice.nwanted = 0;
    slices->begun = slices->at;
}

/* TRUNCATE is this one's to write. */
static void take_truncates(struct pj_slices *slices, struct pj_batch *part)
{
    for (int t = 0; t < part->ntables; t++) {
        struct pj_table_rows *from = &slices->from->tables[t];
        part->tables[t].truncated = from->truncated;
        part->tables[t].emptied = from->emptied;
        from->truncated = false;
        from->emptied = NULL;
    }
}

size_t pj_slices_chunk(const struct pj_slice *slice, size_t at)
{
    size_t count = 0, bytes = 0;
    while (at + count < slice->nwanted && count < CHUNK_ROWS && bytes < CHUNK_BYTES)
        bytes += slice->wanted[at + count++]->old_bytes;
    return count;
}

static struct pj_batch *begin_part(struct pj_slices *slices)
{
    struct pj_batch **part = &slices->parts[slices->turn];
    slices->turn = !slices->turn;
    if (!*part)
        *part = pj_batch_new(slices->from->tables[0].table, slices->from->ntables);
    for (int t = 0; t < slices->from->ntables; t++)
        (*part)->tables[t].count = 0;
    pj_batch_reset(*part, slices->budget);
    if (slices->at == 0)
        take_truncates(slices, *part);
    return *part;
}

/* What fetching it would take; 0 where it is here, or asked for. */
static size_t missing(const struct pj_row *row)
{
    return row && row->old_state == PJ_OLD_SLICED ? row->old_bytes : 0;
}

static void want(struct pj_slices *slices, struct pj_row *row)
{
    struct pj_slice *slice = &slices->slice;
    if (!row || row->old_state != PJ_OLD_SLICED)
        return;
    if (slice->nwanted == slices->capacity) {
        slices->capacity = slices->capacity ? slices->capacity * 2 : 64;
        slice->wanted = pj_realloc(slice->wanted, slices->capacity * sizeof *slice->wanted);
    }
    slice->wanted[slice->nwanted++] = row;
    row->old_state = PJ_OLD_UNKNOWN;
}

const struct pj_slice *pj_slices_next(struct pj_slices *slices)
{
    struct pj_slice *slice = &slices->slice;
    size_t bytes = 0;
    forget(slices);
    if (slices->at == slices->nplaces)
        return NULL;
    while (slices->at == slices->ends[slices->table])
        slices->table++;
    slice->batch = begin_part(slices);
    struct pj_table_rows *rows = &slice->batch->tables[slices->table];
    slice->table = rows->table;
    for (; slices->at < slices->ends[slices->table]; slices->at++) {
        const struct place *place = &slices->places[slices->at];
        bytes += missing(place->row) + missing(place->base);
        if (bytes > slices->budget && rows->count && slice->table->identity_is_key)
            break;
        want(slices, place->row);
        want(slices, place->base);
        pj_batch_append(rows, place->row);
    }
    return slice;
}
