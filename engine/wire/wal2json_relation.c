/* See wal2json_relation.h. */
#include "wire/wal2json_relation.h"

#include "base/buf.h"
#include "base/mem.h"

/* A JSON string as PostgreSQL's escape_json(), and so wal2json, writes it. */
static void put_string(struct pj_buf *buf, const char *text)
{
    static const char letters[] = {['\b'] = 'b', ['\t'] = 't', ['\n'] = 'n', ['\f'] = 'f', ['\r'] = 'r'};
    pj_buf_puts(buf, "\"");
    for (; *text; text++) {
        unsigned char c = (unsigned char)*text;
        if (c == '"' || c == '\\')
            pj_buf_printf(buf, "\\%c", c);
        else if (c < sizeof letters && letters[c])
            pj_buf_printf(buf, "\\%c", letters[c]);
        else if (c < ' ')
            pj_buf_printf(buf, "\\u%04x", c);
        else
            pj_buf_put(buf, text, 1);
    }
    pj_buf_puts(buf, "\"");
}

/* ---------------------------------------------------------------------------------------------------------- shapes */

static void free_shape(struct pj_wal2json_shape *shape)
{
    if (!shape)
        return;
    for (int i = 0; i < shape->ncolumns; i++)
        pj_free(shape->columns[i].lead);
    pj_free(shape->columns);
    pj_free(shape->row_slots);
    pj_free(shape->identity_slots);
    pj_free(shape);
}

static void learn_column(struct pj_wal2json_column *column, const struct pj_table_column *source)
{
    struct pj_buf lead = {0};
    pj_buf_puts(&lead, "{\"name\":");
    put_string(&lead, source->name);
    pj_buf_puts(&lead, ",\"value\":");
    column->lead_length = lead.length;
    column->lead = pj_buf_take(&lead);
    column->type = source->type;
}

static struct pj_wal2json_shape *new_shape(const struct pj_table *table)
{
    struct pj_wal2json_shape *shape = pj_alloc(sizeof *shape);
    size_t count = (size_t)table->ncolumns;
    shape->table = table;
    shape->ncolumns = table->ncolumns;
    shape->columns = pj_alloc(count * sizeof *shape->columns);
    shape->row_slots = pj_alloc(count * sizeof *shape->row_slots);
    shape->identity_slots = pj_alloc(count * sizeof *shape->identity_slots);
    for (int i = 0; i < table->ncolumns; i++) {
        learn_column(&shape->columns[i], &table->columns[i]);
        shape->row_slots[i] = i;
        shape->identity_slots[i] = -1;
    }
    for (int i = 0; i < table->nidentity; i++)
        shape->identity_slots[table->identity[i]] = i;
    return shape;
}

static const struct pj_wal2json_shape *shape_of(struct pj_wal2json_relations *relations, const struct pj_table *table)
{
    if (table->index >= relations->nshapes) {
        int wanted = table->index + 1;
        relations->shapes = pj_realloc(relations->shapes, (size_t)wanted * sizeof *relations->shapes);
        while (relations->nshapes < wanted)
            relations->shapes[relations->nshapes++] = NULL;
    }
    struct pj_wal2json_shape **place = &relations->shapes[table->index];
    if (!*place)
        *place = new_shape(table);
    return *place;
}

/* ------------------------------------------------------------------------------------------------------- relations */

void pj_wal2json_relations_init(struct pj_wal2json_relations *relations, const struct pj_relmap *map)
{
    *relations = (struct pj_wal2json_relations){.map = map, .generation = pj_relmap_generation(map)};
}

void pj_wal2json_relations_free(struct pj_wal2json_relations *relations)
{
    for (int i = 0; i < PJ_WAL2JSON_RECENT; i++)
        pj_free(relations->recent[i].head);
    for (int i = 0; i < relations->nshapes; i++)
        free_shape(relations->shapes[i]);
    pj_free(relations->shapes);
    pj_wal2json_relations_init(relations, relations->map);
}

void pj_wal2json_relations_refresh(struct pj_wal2json_relations *relations)
{
    if (relations->generation != pj_relmap_generation(relations->map))
        pj_wal2json_relations_free(relations);
}

const struct pj_wal2json_relation *pj_wal2json_relations_match(struct pj_wal2json_relations *relations,
                                                               struct pj_json *json)
{
    if (json->end - json->at < 9 || memcmp(json->at, "\"schema\":", 9) != 0)
        return NULL;
    for (int i = 0; i < PJ_WAL2JSON_RECENT; i++) {
        int at = (relations->last + i) % PJ_WAL2JSON_RECENT;
        const struct pj_wal2json_relation *relation = &relations->recent[at];
        if (relation->head && pj_json_literal(json, relation->head, relation->head_length)) {
            relations->last = at;
            return relation;
        }
    }
    return NULL;
}

const struct pj_wal2json_relation *pj_wal2json_relations_find(struct pj_wal2json_relations *relations,
                                                              const char *schema, const char *name)
{
    bool known;
    const struct pj_table *table = pj_relmap_get(relations->map, schema, strlen(schema), name, strlen(name), &known);
    if (!known)
        return NULL;
    struct pj_buf head = {0};
    pj_buf_puts(&head, "\"schema\":");
    put_string(&head, schema);
    pj_buf_puts(&head, ",\"table\":");
    put_string(&head, name);
    struct pj_wal2json_relation *relation = &relations->recent[relations->oldest];
    relations->last = relations->oldest;
    relations->oldest = (relations->oldest + 1) % PJ_WAL2JSON_RECENT;
    pj_free(relation->head);
    relation->head_length = head.length;
    relation->head = pj_buf_take(&head);
    relation->shape = table ? shape_of(relations, table) : NULL;
    return relation;
}
