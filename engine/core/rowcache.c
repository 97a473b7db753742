/*
 * See rowcache.h. A row's place follows from its table and the hash of its identity; a newer row takes the place of an
 * older one, but a row that was only inserted does not take that of one that has changed: of a stream of new messages
 * few change again, of the conversations they belong to nearly all. A batch of many rows only corrects what is here: it
 * would wash out the rows that change again and again.
 */
#include "core/rowcache.h"

#include <string.h>

enum { SLOTS = 8192, ROW_BYTES = 1024, LEARN_ROWS = 512 };

struct slot {
    const struct pj_table *table; /* NULL: free */
    uint64_t hash;
    bool changed; /* the row has been more than inserted */
    size_t capacity;
    unsigned char *bytes; /* the row: a length for each column, then their bytes */
};

struct pj_rowcache {
    struct slot *slots;
};

struct pj_rowcache *pj_rowcache_new(void)
{
    struct pj_rowcache *cache = pj_alloc(sizeof *cache);
    cache->slots = pj_alloc(SLOTS * sizeof *cache->slots);
    return cache;
}

void pj_rowcache_free(struct pj_rowcache *cache)
{
    if (!cache)
        return;
    for (size_t i = 0; i < SLOTS; i++)
        pj_free(cache->slots[i].bytes);
    pj_free(cache->slots);
    pj_free(cache);
}

void pj_rowcache_clear(struct pj_rowcache *cache)
{
    for (size_t i = 0; i < SLOTS; i++)
        cache->slots[i].table = NULL;
}

static struct slot *slot_of(const struct pj_rowcache *cache, const struct pj_table *table, uint64_t hash)
{
    return &cache->slots[(hash + (uint64_t)table->index * 0x9e3779b97f4a7c15u) % SLOTS];
}

/* The values of a slot's row, in the arena where they are to stay, bytes and all. */
static struct pj_value *copy_out(const struct slot *slot, struct pj_arena *arena)
{
    int count = slot->table->ncolumns;
    size_t head = (size_t)count * sizeof(int32_t), total = 0;
    struct pj_value *values = pj_arena_alloc(arena, (size_t)count * sizeof *values);
    for (int i = 0; i < count; i++) {
        memcpy(&values[i].length, slot->bytes + (size_t)i * sizeof(int32_t), sizeof(int32_t));
        total += values[i].length > 0 ? (size_t)values[i].length : 0;
    }
    unsigned char *bytes = pj_arena_alloc(arena, total + 1);
    memcpy(bytes, slot->bytes + head, total);
    for (int i = 0; i < count; i++) {
        values[i].data = values[i].length >= 0 ? bytes : NULL;
        bytes += values[i].length > 0 ? values[i].length : 0;
    }
    return values;
}

static bool same_identity(const struct pj_table *table, const struct pj_row *row, const struct pj_value *values)
{
    for (int i = 0; i < table->nidentity; i++)
        if (!pj_equal(row->identity[i], values[table->identity[i]]))
            return false;
    return true;
}

void pj_rowcache_fill(struct pj_rowcache *cache, struct pj_batch *batch)
{
    for (int t = 0; t < batch->ntables; t++) {
        struct pj_table_rows *rows = &batch->tables[t];
        for (size_t i = 0; i < rows->count; i++) {
            struct pj_row *row = rows->rows[i];
            const struct slot *slot = slot_of(cache, rows->table, row->hash);
            if (row->old_state != PJ_OLD_UNKNOWN || slot->table != rows->table || slot->hash != row->hash)
                continue;
            struct pj_value *values = copy_out(slot, &batch->arena);
            if (same_identity(rows->table, row, values))
                pj_batch_set_old(row, values);
        }
    }
}

static size_t row_bytes(const struct pj_table *table, const struct pj_value *values)
{
    size_t bytes = (size_t)table->ncolumns * sizeof(int32_t);
    for (int i = 0; i < table->ncolumns; i++)
        bytes += values[i].length > 0 ? (size_t)values[i].length : 0;
    return bytes;
}

static void put(struct slot *slot, const struct pj_table *table, const struct pj_row *row)
{
    size_t size = row_bytes(table, row->new_row);
    slot->table = NULL;
    if (size > ROW_BYTES)
        return;
    if (slot->capacity < size) {
        slot->capacity = size;
        slot->bytes = pj_realloc(slot->bytes, size);
    }
    unsigned char *at = slot->bytes + (size_t)table->ncolumns * sizeof(int32_t);
    for (int i = 0; i < table->ncolumns; i++) {
        const struct pj_value *value = &row->new_row[i];
        memcpy(slot->bytes + (size_t)i * sizeof(int32_t), &value->length, sizeof(int32_t));
        if (value->length > 0) {
            memcpy(at, value->data, (size_t)value->length);
            at += value->length;
        }
    }
    slot->table = table;
    slot->hash = row->hash;
    slot->changed = row->old;
}

static void forget_table(struct pj_rowcache *cache, const struct pj_table *table)
{
    for (size_t i = 0; i < SLOTS; i++)
        if (cache->slots[i].table == table)
            cache->slots[i].table = NULL;
}

static void learn_table(struct pj_rowcache *cache, const struct pj_table_rows *rows, bool few)
{
    if (rows->table->joining)
        return;
    if (rows->truncated || rows->emptied)
        forget_table(cache, rows->table);
    for (size_t i = 0; i < rows->count; i++) {
        const struct pj_row *row = rows->rows[i];
        struct slot *slot = slot_of(cache, rows->table, row->hash);
        bool mine = slot->table == rows->table && slot->hash == row->hash;
        bool room = few && (row->old || !slot->table || !slot->changed);
        if (row->new_row && (room || mine))
            put(slot, rows->table, row);
        else if (mine)
            slot->table = NULL;
    }
}

void pj_rowcache_learn(struct pj_rowcache *cache, const struct pj_batch *batch)
{
    size_t count = 0;
    for (int t = 0; t < batch->ntables; t++)
        count += batch->tables[t].count;
    for (int t = 0; t < batch->ntables; t++)
        learn_table(cache, &batch->tables[t], count <= LEARN_ROWS);
}
