/*
 * Rows and changes for the tests of batch and intake, written as texts: a row is "1|name|body", its values' bytes
 * between bars, "~" what the stream leaves out, "\N" NULL. Types are of no concern there, so a value's bytes are its
 * text.
 */
#ifndef PJ_TEST_BATCH_FIXTURE_H
#define PJ_TEST_BATCH_FIXTURE_H

#include "core/batch.h"

#include <stdio.h>

/* Which columns are the primary key and which the replica identity (lists that end with -1); the rest is made up. */
struct batch_table {
    const char *name;
    int ncolumns;
    unsigned toastable; /* a bit a column */
    int key[4], identity[4];
    bool identity_full;
};

static inline int *batch_list(const int *from, int *count)
{
    int *list = pj_alloc(4 * sizeof *list);
    for (*count = 0; *count < 4 && from[*count] >= 0; ++*count)
        list[*count] = from[*count];
    return list;
}

static inline struct pj_table batch_table(int index, const struct batch_table *from)
{
    struct pj_table table = {.schema = pj_strdup("public"), .name = pj_strdup(from->name), .index = index};
    table.ncolumns = from->ncolumns;
    table.columns = pj_alloc((size_t)table.ncolumns * sizeof *table.columns);
    for (int i = 0; i < table.ncolumns; i++) {
        table.columns[i].name = pj_sprintf("c%d", i);
        table.columns[i].toastable = from->toastable >> i & 1;
    }
    table.key = batch_list(from->key, &table.nkey);
    table.identity = batch_list(from->identity, &table.nidentity);
    table.identity_is_key = memcmp(from->key, from->identity, sizeof from->key) == 0;
    table.identity_full = from->identity_full;
    return table;
}

static inline struct pj_value batch_value(struct pj_arena *arena, const char *text, size_t length)
{
    if (length == 1 && *text == '~')
        return (struct pj_value){NULL, PJ_ABSENT};
    if (length == 2 && memcmp(text, "\\N", 2) == 0)
        return pj_make_null();
    unsigned char *bytes = pj_arena_alloc(arena, length);
    memcpy(bytes, text, length);
    return (struct pj_value){bytes, (int32_t)length};
}

/* `count` values of a text; NULL for NULL. */
static inline struct pj_value *batch_values(struct pj_arena *arena, const char *text, int count)
{
    if (!text)
        return NULL;
    struct pj_value *values = pj_arena_alloc(arena, (size_t)count * sizeof *values);
    for (int i = 0; i < count; i++) {
        size_t length = strcspn(text, "|");
        values[i] = batch_value(arena, text, length);
        text += length + (text[length] == '|');
    }
    return values;
}

/* The text of values, good until the fourth call after this one; NULL for NULL. */
static inline const char *batch_text(const struct pj_value *values, int count)
{
    static char texts[4][512];
    static int turn;
    if (!values)
        return NULL;
    char *text = texts[turn++ % 4];
    int length = 0;
    for (int i = 0; i < count; i++) {
        const char *bytes = values[i].length == PJ_ABSENT ? "~"
                            : values[i].length < 0        ? "\\N"
                                                          : (const char *)values[i].data;
        int size = values[i].length == PJ_ABSENT ? 1 : values[i].length < 0 ? 2 : values[i].length;
        length += snprintf(text + length, 512 - (size_t)length, "%s%.*s", i ? "|" : "", size, size ? bytes : "");
    }
    return text;
}

/* A change as a decoder hands it over. With an old row (REPLICA IDENTITY FULL) the identity is found in that. */
static inline struct pj_row_change batch_change(struct pj_arena *arena, const struct pj_table *table,
                                                enum pj_action action, const char *identity, const char *old_row,
                                                const char *row)
{
    struct pj_row_change change = {.action = action, .table = table, .schema = table->schema, .name = table->name};
    change.values = batch_values(arena, row, table->ncolumns);
    change.identity = batch_values(arena, identity, table->nidentity);
    change.old_values = batch_values(arena, old_row, table->ncolumns);
    if (old_row && !identity) {
        change.identity = pj_arena_alloc(arena, (size_t)table->nidentity * sizeof *change.identity);
        for (int i = 0; i < table->nidentity; i++)
            change.identity[i] = change.old_values[table->identity[i]];
    }
    return change;
}

/* The final row of an identity; NULL where the batch has none. */
static inline struct pj_row *batch_row(const struct pj_batch *batch, int table, const char *identity)
{
    const struct pj_table_rows *rows = &batch->tables[table];
    for (size_t i = 0; i < rows->count; i++)
        if (strcmp(batch_text(rows->rows[i]->identity, rows->table->nidentity), identity) == 0)
            return rows->rows[i];
    return NULL;
}

#endif
