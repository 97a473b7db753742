/*
 * Tables, and the map from names in the stream to tables: an open-addressing hash table over "schema, name". It is
 * filled at start and when a partition turns up, and asked once for each relation and decoder cache, so it need not be
 * clever.
 */
#include "wire/table.h"

#include "base/mem.h"

#include <string.h>

static void free_column(struct pj_table_column *column)
{
    pj_free(column->name);
    pj_free(column->type_sql);
    pj_free(column->array_sql);
    pj_free(column->cast_sql);
    pj_free(column->equal_sql);
    pj_free(column->output_sql);
    pj_free(column->collation_sql);
}

void pj_table_free(struct pj_table *table)
{
    for (int i = 0; table->columns && i < table->ncolumns; i++)
        free_column(&table->columns[i]);
    pj_free(table->columns);
    pj_free(table->schema);
    pj_free(table->name);
    pj_free(table->mirror_sql);
    pj_free(table->key);
    pj_free(table->identity);
    *table = (struct pj_table){0};
}

static void shift_after(int *indexes, int count, int removed)
{
    for (int i = 0; i < count; i++)
        indexes[i] -= indexes[i] > removed;
}

void pj_table_remove_column(struct pj_table *table, int column)
{
    free_column(&table->columns[column]);
    memmove(&table->columns[column], &table->columns[column + 1],
            (size_t)(table->ncolumns - column - 1) * sizeof *table->columns);
    table->ncolumns--;
    shift_after(table->key, table->nkey, column);
    shift_after(table->identity, table->nidentity, column);
}

static bool same(const char *text, const char *bytes, size_t length)
{
    return strncmp(text, bytes, length) == 0 && text[length] == '\0';
}

int pj_table_wide_columns(const struct pj_table *table)
{
    int count = 0;
    for (int i = 0; i < table->ncolumns; i++)
        count += table->columns[i].toastable;
    return count;
}

int pj_table_column_index(const struct pj_table *table, const char *name, size_t length)
{
    for (int i = 0; i < table->ncolumns; i++)
        if (same(table->columns[i].name, name, length))
            return i;
    return -1;
}

/* --------------------------------------------------------------------------------------------------- the name map */

struct entry {
    char *schema, *name; /* NULL where the place is free */
    const struct pj_table *table;
};

struct pj_relmap {
    struct entry *entries;
    size_t capacity; /* a power of two */
    size_t count;
    uint64_t generation;
};

enum { FIRST_CAPACITY = 64 };

static uint64_t hash_more(uint64_t hash, const char *bytes, size_t length)
{
    for (size_t i = 0; i < length; i++)
        hash = (hash ^ (unsigned char)bytes[i]) * UINT64_C(0x100000001b3);
    return hash;
}

/* FNV-1a over both names, a zero byte between them, its high bits folded in. */
static uint64_t hash_names(const char *schema, size_t schema_length, const char *name, size_t name_length)
{
    uint64_t hash = hash_more(UINT64_C(0xcbf29ce484222325), schema, schema_length);
    hash = hash_more(hash, "", 1);
    hash = hash_more(hash, name, name_length);
    return hash ^ hash >> 32;
}

/* The entry of that name, or the free place where it belongs. */
static struct entry *find(const struct pj_relmap *map, const char *schema, size_t schema_length, const char *name,
                          size_t name_length)
{
    size_t at = hash_names(schema, schema_length, name, name_length) & (map->capacity - 1);
    for (;; at = (at + 1) & (map->capacity - 1)) {
        struct entry *entry = &map->entries[at];
        if (!entry->name || (same(entry->name, name, name_length) && same(entry->schema, schema, schema_length)))
            return entry;
    }
}

struct pj_relmap *pj_relmap_new(void)
{
    struct pj_relmap *map = pj_alloc(sizeof *map);
    map->capacity = FIRST_CAPACITY;
    map->entries = pj_alloc(map->capacity * sizeof *map->entries);
    return map;
}

void pj_relmap_free(struct pj_relmap *map)
{
    if (!map)
        return;
    for (size_t i = 0; i < map->capacity; i++) {
        pj_free(map->entries[i].schema);
        pj_free(map->entries[i].name);
    }
    pj_free(map->entries);
    pj_free(map);
}

static void grow(struct pj_relmap *map)
{
    struct pj_relmap larger = *map;
    larger.capacity *= 2;
    larger.entries = pj_alloc(larger.capacity * sizeof *larger.entries);
    for (size_t i = 0; i < map->capacity; i++) {
        const struct entry *old = &map->entries[i];
        if (old->name)
            *find(&larger, old->schema, strlen(old->schema), old->name, strlen(old->name)) = *old;
    }
    pj_free(map->entries);
    *map = larger;
}

void pj_relmap_put(struct pj_relmap *map, const char *schema, const char *name, const struct pj_table *table)
{
    if (map->count * 2 >= map->capacity)
        grow(map);
    struct entry *entry = find(map, schema, strlen(schema), name, strlen(name));
    if (!entry->name) {
        entry->schema = pj_strdup(schema);
        entry->name = pj_strdup(name);
        map->count++;
    }
    entry->table = table;
    map->generation++;
}

const struct pj_table *pj_relmap_get(const struct pj_relmap *map, const char *schema, size_t schema_length,
                                     const char *name, size_t name_length, bool *known)
{
    const struct entry *entry = find(map, schema, schema_length, name, name_length);
    *known = entry->name != NULL;
    return entry->table;
}

uint64_t pj_relmap_generation(const struct pj_relmap *map)
{
    return map->generation;
}
