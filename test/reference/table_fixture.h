/* Tables as the decoder's tests, its fuzzer and its benchmark want them: made from a line of words, without a
 * server. */
#ifndef PJ_TEST_TABLE_FIXTURE_H
#define PJ_TEST_TABLE_FIXTURE_H

#include "base/mem.h"
#include "wire/table.h"

/* Columns end with a NULL name. The key columns are the primary key and the replica identity, in the order of the
 * list. */
struct fixture_column {
    const char *name;
    enum pj_type type;
    bool key;
};

static inline struct pj_table *fixture_table(int index, const char *schema, const char *name,
                                             const struct fixture_column *columns)
{
    struct pj_table *table = pj_alloc(sizeof *table);
    table->schema = pj_strdup(schema);
    table->name = pj_strdup(name);
    table->mirror_sql = pj_sprintf("\"%s\".\"%s\"", schema, name);
    table->index = index;
    table->identity_is_key = true;
    while (columns[table->ncolumns].name)
        table->ncolumns++;
    table->columns = pj_alloc((size_t)table->ncolumns * sizeof *table->columns);
    table->key = pj_alloc((size_t)table->ncolumns * sizeof *table->key);
    table->identity = pj_alloc((size_t)table->ncolumns * sizeof *table->identity);
    for (int i = 0; i < table->ncolumns; i++) {
        table->columns[i].name = pj_strdup(columns[i].name);
        table->columns[i].type = columns[i].type;
        table->columns[i].toastable = columns[i].type == PJ_TEXT;
        if (columns[i].key)
            table->key[table->nkey++] = table->identity[table->nidentity++] = i;
    }
    return table;
}

static inline void fixture_table_free(struct pj_table *table)
{
    pj_table_free(table);
    pj_free(table);
}

static const struct fixture_column fixture_messages[] = {{"id", PJ_UUID, true},
                                                         {"conversation_id", PJ_UUID, false},
                                                         {"sender_id", PJ_UUID, false},
                                                         {"sequence_number", PJ_INT8, false},
                                                         {"client_message_id", PJ_TEXT, false},
                                                         {"content", PJ_TEXT, false},
                                                         {"created_at", PJ_TIMESTAMPTZ, false},
                                                         {"deleted_at", PJ_TIMESTAMPTZ, false},
                                                         {0}};

static const struct fixture_column fixture_conversations[] = {{"id", PJ_UUID, true},
                                                              {"tenant_id", PJ_UUID, false},
                                                              {"title", PJ_TEXT, false},
                                                              {"type", PJ_TEXT, false},
                                                              {"created_at", PJ_TIMESTAMPTZ, false},
                                                              {"updated_at", PJ_TIMESTAMPTZ, false},
                                                              {0}};

/* One column of each type, and some whose names and types are out of the ordinary. */
static const struct fixture_column fixture_all[] = {{"id", PJ_INT4, true},
                                                    {"any", PJ_ANY, false},
                                                    {"flag", PJ_BOOL, false},
                                                    {"small", PJ_INT2, false},
                                                    {"big", PJ_INT8, false},
                                                    {"text", PJ_TEXT, false},
                                                    {"bytes", PJ_BYTEA, false},
                                                    {"day", PJ_DATE, false},
                                                    {"local", PJ_TIMESTAMP, false},
                                                    {"at", PJ_TIMESTAMPTZ, false},
                                                    {"v\"q \xc3\xa9\\\n", PJ_UUID, false},
                                                    {"second", PJ_INT4, true},
                                                    {0}};

/* The tables that the messages in test/fuzz/corpus/fuzz_wal2json speak of, under their names in the stream:
 * public.messages, its partition public.p"art, public.conversations, public.all, public.full (REPLICA IDENTITY
 * FULL), public.ignored (known, of no concern). */
enum { FIXTURE_MESSAGES, FIXTURE_CONVERSATIONS, FIXTURE_ALL, FIXTURE_FULL, FIXTURE_TABLES };

struct fixture_map {
    struct pj_table *tables[FIXTURE_TABLES];
    struct pj_relmap *map;
};

static inline struct fixture_map fixture_map_new(void)
{
    struct fixture_map fixture = {.map = pj_relmap_new()};
    fixture.tables[FIXTURE_MESSAGES] = fixture_table(FIXTURE_MESSAGES, "public", "messages", fixture_messages);
    fixture.tables[FIXTURE_CONVERSATIONS] =
        fixture_table(FIXTURE_CONVERSATIONS, "public", "conversations", fixture_conversations);
    fixture.tables[FIXTURE_ALL] = fixture_table(FIXTURE_ALL, "public", "all", fixture_all);
    fixture.tables[FIXTURE_FULL] = fixture_table(FIXTURE_FULL, "public", "full", fixture_all);
    fixture.tables[FIXTURE_FULL]->identity_full = true;
    for (int i = 0; i < FIXTURE_TABLES; i++)
        pj_relmap_put(fixture.map, "public", fixture.tables[i]->name, fixture.tables[i]);
    pj_relmap_put(fixture.map, "public", "p\"art", fixture.tables[FIXTURE_MESSAGES]);
    pj_relmap_put(fixture.map, "public", "ignored", NULL);
    return fixture;
}

static inline void fixture_map_free(struct fixture_map *fixture)
{
    pj_relmap_free(fixture->map);
    for (int i = 0; i < FIXTURE_TABLES; i++)
        fixture_table_free(fixture->tables[i]);
}

#endif
