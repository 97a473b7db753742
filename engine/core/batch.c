/*
 * The collapse of changes to final rows.
 *
 * A row is known by its replica identity. What each change does to it:
 *
 *   INSERT  the identity was free in the source, hence also in the mirror unless this batch has touched it:
 *           a fresh row has no old.
 *   UPDATE  a row not seen before has an old that must be fetched. Columns the stream leaves out (unchanged TOAST) come
 *           from the image just before the change: the row's new_row in here, or else its old, remembered as `base`
 *           until the fetch. A changed identity ends the row under its old identity and goes on under the new one, where
 *           there can be no old, for the identity was free at that moment; `base` is carried along.
 *   DELETE  new_row is gone; old must be fetched all the same, for projections want to see it.
 *
 * What contradicts this (an INSERT of a row that is there, a change to one that is gone) is an error: the mirror is no
 * longer what the source was, and going on would only spread it.
 */
#include "core/batch.h"

#include <string.h>
#include <xxhash.h>

/* Old rows of up to USUAL_COLUMNS columns are not counted before they are there: their texts are bounded (core/slices). */
enum { FIRST_SLOTS = 256, USUAL_COLUMNS = 16, COLUMN_BYTES = 24 };

struct pj_batch *pj_batch_new(const struct pj_table *tables, int ntables)
{
    struct pj_batch *batch = pj_alloc(sizeof *batch);
    pj_arena_init(&batch->arena);
    batch->tables = pj_alloc((size_t)ntables * sizeof *batch->tables);
    batch->ntables = ntables;
    batch->ends_at_commit = true;
    for (int i = 0; i < ntables; i++)
        batch->tables[i].table = &tables[i];
    return batch;
}

void pj_batch_free(struct pj_batch *batch)
{
    if (!batch)
        return;
    for (int i = 0; i < batch->ntables; i++) {
        pj_free(batch->tables[i].rows);
        pj_free(batch->tables[i].slots);
    }
    pj_free(batch->tables);
    pj_arena_free(&batch->arena);
    pj_free(batch);
}

/* Empties a table's rows. An index that a large batch made is given back, not kept for every small one to come. */
static void reset_rows(struct pj_table_rows *rows, size_t keep_bytes)
{
    if (rows->nslots * sizeof *rows->slots > keep_bytes / 8) {
        pj_free(rows->slots);
        pj_free(rows->rows);
        rows->slots = rows->rows = NULL;
        rows->nslots = rows->capacity = 0;
    } else if (rows->count) {
        memset(rows->slots, 0, rows->nslots * sizeof *rows->slots);
    }
    rows->count = 0;
    rows->truncated = false;
    rows->emptied = NULL;
}

void pj_batch_rehome(struct pj_batch *batch, const struct pj_table *tables, const int *from)
{
    struct pj_table_rows *moved = pj_alloc((size_t)(batch->ntables + 1) * sizeof *moved);
    for (int i = 0; i < batch->ntables; i++) {
        moved[i] = batch->tables[from[i]];
        moved[i].table = &tables[i];
    }
    pj_free(batch->tables);
    batch->tables = moved;
}

void pj_batch_reset(struct pj_batch *batch, size_t keep_bytes)
{
    for (int i = 0; i < batch->ntables; i++)
        reset_rows(&batch->tables[i], keep_bytes);
    pj_arena_reset(&batch->arena, keep_bytes);
    batch->filled = NULL;
    batch->owed = 0;
    batch->changes = batch->transactions = 0;
    batch->ends_at_commit = true;
    batch->end_lsn = batch->floor_lsn = batch->reaches = 0;
    batch->xid = 0;
    batch->commit_us = 0;
}

/* ---------------------------------------------------------------------------------------------------- finding rows */

static uint64_t hash_identity(const struct pj_value *identity, int count)
{
    if (count == 1 && identity[0].length >= 0)
        return XXH3_64bits(identity[0].data, (size_t)identity[0].length);
    uint64_t hash = 0;
    for (int i = 0; i < count; i++)
        hash = XXH3_64bits_withSeed(identity[i].data, identity[i].length > 0 ? (size_t)identity[i].length : 0,
                                    hash + (uint64_t)(int64_t)identity[i].length);
    return hash;
}

static bool same_identity(const struct pj_value *a, const struct pj_value *b, int count)
{
    for (int i = 0; i < count; i++)
        if (!pj_equal(a[i], b[i]))
            return false;
    return true;
}

static void insert_slot(struct pj_table_rows *rows, struct pj_row *row)
{
    size_t at = row->hash & (rows->nslots - 1);
    while (rows->slots[at])
        at = (at + 1) & (rows->nslots - 1);
    rows->slots[at] = row;
}

static void grow_slots(struct pj_table_rows *rows)
{
    pj_free(rows->slots);
    rows->nslots = rows->nslots ? rows->nslots * 2 : FIRST_SLOTS;
    rows->slots = pj_alloc(rows->nslots * sizeof *rows->slots);
    for (size_t i = 0; i < rows->count; i++)
        insert_slot(rows, rows->rows[i]);
}

static struct pj_row *find_row(const struct pj_table_rows *rows, const struct pj_value *identity, uint64_t hash)
{
    if (!rows->nslots)
        return NULL;
    size_t at = hash & (rows->nslots - 1);
    for (struct pj_row *row; (row = rows->slots[at]); at = (at + 1) & (rows->nslots - 1))
        if (row->hash == hash && same_identity(row->identity, identity, rows->table->nidentity))
            return row;
    return NULL;
}

static void make_place(struct pj_table_rows *rows)
{
    if (rows->count < rows->capacity)
        return;
    rows->capacity = rows->capacity ? rows->capacity * 2 : FIRST_SLOTS;
    rows->rows = pj_realloc(rows->rows, rows->capacity * sizeof *rows->rows);
}

void pj_batch_append(struct pj_table_rows *rows, struct pj_row *row)
{
    make_place(rows);
    rows->rows[rows->count++] = row;
}

static struct pj_row *add_row(struct pj_batch *batch, struct pj_table_rows *rows, struct pj_value *identity,
                              uint64_t hash, enum pj_old_state old_state)
{
    if (rows->count * 2 >= rows->nslots)
        grow_slots(rows);
    struct pj_row *row = pj_arena_alloc(&batch->arena, sizeof *row);
    *row = (struct pj_row){.hash = hash, .identity = identity, .base = row, .old_state = old_state};
    pj_batch_append(rows, row);
    if (old_state == PJ_OLD_UNKNOWN && rows->table->ncolumns > USUAL_COLUMNS)
        batch->owed += (size_t)(rows->table->ncolumns - USUAL_COLUMNS) * COLUMN_BYTES;
    insert_slot(rows, row);
    return row;
}

/* ------------------------------------------------------------------------------------------------------ the changes */

static int contradiction(struct pj_error *error, const struct pj_table *table, const char *what)
{
    pj_error_set(error, PJ_EDATA, "table %s.%s: the stream %s", table->schema, table->name, what);
    return pj_error_hint(error, "the mirror no longer equals the source; was it written to by hand? Stop the daemon, "
                                "run `pgprojector resync` and start it again");
}

static int column_missing(struct pj_error *error, const struct pj_table *table, int column)
{
    const char *name = table->columns[column].name;
    pj_error_set(error, PJ_ESCHEMA, "table %s.%s: column %s is missing from the stream", table->schema, table->name,
                 name);
    return pj_error_hint(error,
                         "was it dropped or renamed on the write database? Give it back its name there, stop the "
                         "daemon, run `pgprojector resync` (what was written meanwhile has the other name in the "
                         "WAL) and start it again");
}

/* The identity as found among a row's values; where the stream left a column of it out, it has not changed. */
static struct pj_value *identity_of(struct pj_batch *batch, const struct pj_table *table, const struct pj_value *values,
                                    const struct pj_value *unchanged)
{
    struct pj_value *identity = pj_arena_alloc(&batch->arena, (size_t)table->nidentity * sizeof *identity);
    for (int i = 0; i < table->nidentity; i++) {
        identity[i] = values[table->identity[i]];
        if (identity[i].length == PJ_ABSENT && unchanged)
            identity[i] = unchanged[i];
    }
    return identity;
}

static int collect_insert(struct pj_batch *batch, struct pj_table_rows *rows, const struct pj_row_change *change,
                          struct pj_error *error)
{
    const struct pj_table *table = rows->table;
    for (int i = 0; i < table->ncolumns; i++)
        if (change->values[i].length == PJ_ABSENT)
            return column_missing(error, table, i);
    struct pj_value *identity = identity_of(batch, table, change->values, NULL);
    uint64_t hash = hash_identity(identity, table->nidentity);
    struct pj_row *row = find_row(rows, identity, hash);
    if (!row)
        row = add_row(batch, rows, identity, hash, PJ_OLD_NONE);
    else if (row->new_row)
        return contradiction(error, table, "inserts a row that is already there");
    row->new_row = change->values;
    row->base = row;
    return PJ_OK;
}

/* The row a change speaks of; NULL where it is known to be gone. */
static struct pj_row *touched_row(struct pj_batch *batch, struct pj_table_rows *rows, struct pj_value *identity,
                                  bool *fresh)
{
    uint64_t hash = hash_identity(identity, rows->table->nidentity);
    struct pj_row *row = find_row(rows, identity, hash);
    *fresh = !row;
    if (!row)
        return add_row(batch, rows, identity, hash, rows->truncated ? PJ_OLD_NONE : PJ_OLD_UNKNOWN);
    return row->new_row ? row : NULL;
}

/* Fills what the stream left out of an UPDATE from the image before it, as far as that is in here. */
static int carry_over(const struct pj_table *table, const struct pj_row *row, bool fresh,
                      const struct pj_row_change *change, struct pj_error *error)
{
    for (int i = 0; i < table->ncolumns; i++) {
        struct pj_value *value = &change->values[i];
        if (value->length != PJ_ABSENT)
            continue;
        if (!table->columns[i].toastable)
            return column_missing(error, table, i);
        if (!fresh)
            *value = row->new_row[i];
        else if (change->old_values)
            *value = change->old_values[i];
    }
    return PJ_OK;
}

static int collect_update(struct pj_batch *batch, struct pj_table_rows *rows, const struct pj_row_change *change,
                          struct pj_error *error)
{
    const struct pj_table *table = rows->table;
    bool fresh;
    struct pj_row *row = touched_row(batch, rows, change->identity, &fresh);
    if (!row || (fresh && row->old_state == PJ_OLD_NONE))
        return contradiction(error, table, "updates a row that is gone");
    int code = carry_over(table, row, fresh, change, error);
    if (code != PJ_OK)
        return code;
    struct pj_value *identity = identity_of(batch, table, change->values, change->identity);
    for (int i = 0; i < table->nidentity; i++)
        change->values[table->identity[i]] = identity[i];
    if (same_identity(identity, change->identity, table->nidentity)) {
        row->new_row = change->values;
        return PJ_OK;
    }
    uint64_t hash = hash_identity(identity, table->nidentity);
    struct pj_row *moved = find_row(rows, identity, hash);
    if (!moved)
        moved = add_row(batch, rows, identity, hash, PJ_OLD_NONE);
    else if (moved->new_row)
        return contradiction(error, table, "gives a row the key of another");
    row->new_row = NULL;
    moved->new_row = change->values;
    moved->base = row->base;
    return PJ_OK;
}

static int collect_delete(struct pj_batch *batch, struct pj_table_rows *rows, const struct pj_row_change *change,
                          struct pj_error *error)
{
    bool fresh;
    struct pj_row *row = touched_row(batch, rows, change->identity, &fresh);
    if (!row || (fresh && row->old_state == PJ_OLD_NONE))
        return contradiction(error, rows->table, "deletes a row that is gone");
    row->new_row = NULL;
    return PJ_OK;
}

int pj_batch_change(struct pj_batch *batch, const struct pj_row_change *change, struct pj_error *error)
{
    struct pj_table_rows *rows = &batch->tables[change->table->index];
    batch->ends_at_commit = false;
    batch->changes++;
    switch (change->action) {
    case PJ_INSERT:
        return collect_insert(batch, rows, change, error);
    case PJ_UPDATE:
        return collect_update(batch, rows, change, error);
    case PJ_DELETE:
        return collect_delete(batch, rows, change, error);
    default:
        return pj_error_set(error, PJ_EDATA, "not a row change");
    }
}

bool pj_batch_truncate(struct pj_batch *batch, const struct pj_table *table)
{
    struct pj_table_rows *rows = &batch->tables[table->index];
    if (rows->count)
        return false;
    rows->truncated = true;
    batch->ends_at_commit = false;
    return true;
}

static const char *copy_text(struct pj_batch *batch, const char *text)
{
    size_t size = strlen(text) + 1;
    return memcpy(pj_arena_alloc(&batch->arena, size), text, size);
}

bool pj_batch_truncate_partition(struct pj_batch *batch, const struct pj_table *table, const char *name,
                                 const char *condition)
{
    struct pj_table_rows *rows = &batch->tables[table->index];
    if (rows->count)
        return false;
    struct pj_emptied *emptied = pj_arena_alloc(&batch->arena, sizeof *emptied);
    *emptied = (struct pj_emptied){rows->emptied, copy_text(batch, name), copy_text(batch, condition)};
    rows->emptied = emptied;
    batch->ends_at_commit = false;
    return true;
}

void pj_batch_commit(struct pj_batch *batch, pj_lsn end_lsn, uint32_t xid, int64_t commit_us)
{
    batch->floor_lsn = batch->end_lsn;
    batch->end_lsn = end_lsn;
    batch->xid = xid;
    batch->commit_us = commit_us;
    batch->transactions++;
    batch->ends_at_commit = true;
}

bool pj_batch_has_rows(const struct pj_batch *batch)
{
    for (int i = 0; i < batch->ntables; i++)
        if (batch->tables[i].count || batch->tables[i].truncated || batch->tables[i].emptied)
            return true;
    return false;
}

/*
 * By what is in it, not by what is allocated: an empty batch that still holds the indexes of former ones must not be
 * taken for full. A row has its place in `rows` and at most four slots.
 */
size_t pj_batch_bytes(const struct pj_batch *batch)
{
    size_t bytes = batch->arena.used + batch->owed;
    for (int i = 0; i < batch->ntables; i++)
        bytes += batch->tables[i].count * 5 * sizeof(struct pj_row *);
    return bytes;
}

/* -------------------------------------------------------------------------------------------------------- resolving */

void pj_batch_set_old(struct pj_row *row, struct pj_value *old)
{
    row->old = old;
    row->old_state = PJ_OLD_KNOWN;
}

void pj_batch_set_late(struct pj_row *row, uint64_t bytes)
{
    row->old_bytes = bytes < UINT32_MAX ? (uint32_t)bytes : UINT32_MAX;
    row->old_state = PJ_OLD_LATE;
}

struct pj_value *pj_batch_copy_values(struct pj_arena *arena, const struct pj_value *values, int count)
{
    struct pj_value *copy = pj_arena_alloc(arena, (size_t)count * sizeof *copy);
    for (int i = 0; i < count; i++) {
        copy[i] = values[i];
        if (values[i].length > 0)
            copy[i].data =
                memcpy(pj_arena_alloc(arena, (size_t)values[i].length), values[i].data, (size_t)values[i].length);
    }
    return copy;
}

static size_t values_bytes(const struct pj_value *values, int count)
{
    size_t bytes = 0;
    for (int i = 0; i < count; i++)
        bytes += values[i].length > 0 ? (size_t)values[i].length : 0;
    return bytes;
}

/* A row that `before` has deleted cannot be changed again. It stays unknown here, and whoever knows it otherwise (the
 * cache) writes another number of rows than were meant: a contradiction either way. */
static size_t follow_table(struct pj_batch *batch, const struct pj_table_rows *rows, const struct pj_table_rows *before,
                           size_t *room)
{
    size_t late = 0;
    int ncolumns = rows->table->ncolumns;
    for (size_t i = 0; before->count && i < rows->count; i++) {
        struct pj_row *row = rows->rows[i], *former;
        if (row->old_state != PJ_OLD_UNKNOWN || !(former = find_row(before, row->identity, row->hash)))
            continue;
        if (!former->new_row || former->old_state == PJ_OLD_SLICED)
            continue;
        size_t bytes = values_bytes(former->new_row, ncolumns);
        if (bytes > *room) {
            pj_batch_set_late(row, bytes);
            late++;
            continue;
        }
        *room -= bytes;
        pj_batch_set_old(row, pj_batch_copy_values(&batch->arena, former->new_row, ncolumns));
    }
    return late;
}

size_t pj_batch_follow(struct pj_batch *batch, const struct pj_batch *before, size_t bytes)
{
    size_t late = 0;
    for (int t = 0; t < batch->ntables; t++)
        if (!batch->tables[t].table->joining)
            late += follow_table(batch, &batch->tables[t], &before->tables[t], &bytes);
    return late;
}

static void keep_collected(struct pj_batch *batch, const struct pj_table *table, struct pj_row *row)
{
    size_t size = (size_t)table->ncolumns * sizeof *row->new_row;
    struct pj_filled *filled = pj_arena_alloc(&batch->arena, sizeof *filled);
    *filled = (struct pj_filled){batch->filled, row, pj_arena_alloc(&batch->arena, size)};
    memcpy(filled->collected, row->new_row, size);
    batch->filled = filled;
}

static int fill_absent(struct pj_batch *batch, const struct pj_table *table, struct pj_row *row, struct pj_error *error)
{
    bool kept = false;
    if (!row->new_row)
        return PJ_OK;
    for (int i = 0; i < table->ncolumns; i++) {
        if (row->new_row[i].length != PJ_ABSENT)
            continue;
        if (!row->base->old)
            return contradiction(error, table, "leaves out a value that is nowhere to be found");
        if (!kept)
            keep_collected(batch, table, row);
        kept = true;
        row->new_row[i] = row->base->old[i];
    }
    return PJ_OK;
}

int pj_batch_resolve(struct pj_batch *batch, struct pj_error *error)
{
    for (int t = 0; t < batch->ntables; t++) {
        struct pj_table_rows *rows = &batch->tables[t];
        if (rows->table->joining)
            continue;
        for (size_t i = 0; i < rows->count; i++)
            if (rows->rows[i]->old_state == PJ_OLD_UNKNOWN)
                return contradiction(error, rows->table, "changes a row that is not in the mirror");
        for (size_t i = 0; i < rows->count; i++) {
            int code = fill_absent(batch, rows->table, rows->rows[i], error);
            if (code != PJ_OK)
                return code;
        }
    }
    return PJ_OK;
}

/* Collecting knows of a row that there was none, or that there was one: what it was comes from a fetch alone. */
void pj_batch_unresolve(struct pj_batch *batch)
{
    for (const struct pj_filled *filled = batch->filled; filled; filled = filled->next)
        filled->row->new_row = filled->collected;
    batch->filled = NULL;
    for (int t = 0; t < batch->ntables; t++)
        for (size_t i = 0; i < batch->tables[t].count; i++) {
            struct pj_row *row = batch->tables[t].rows[i];
            if (row->old_state == PJ_OLD_KNOWN || row->old_state == PJ_OLD_LATE)
                row->old_state = PJ_OLD_UNKNOWN;
            row->old = NULL;
        }
}

bool pj_row_changed(const struct pj_table *table, const struct pj_row *row)
{
    if (!row->old || !row->new_row)
        return row->old || row->new_row;
    for (int i = 0; i < table->ncolumns; i++)
        if (!pj_equal(row->old[i], row->new_row[i]))
            return true;
    return false;
}
