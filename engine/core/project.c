/*
 * See project.h. Modules see the columns they declared, in their order. They are promised that a pair has one primary
 * key; under another replica identity a row may keep its identity and change its key: that comes to them as two
 * changes.
 */
#include "core/project.h"

#include "base/mem.h"
#include "host/guard.h"
#include "host/value_text.h"

#include <string.h>

static void pick(const struct pj_projection_source *source, const struct pj_value *row, struct pj_value *out)
{
    for (int i = 0; i < source->width; i++)
        out[i] = row[source->columns[i]];
}

bool pj_project_same_key(const struct pj_table *table, const struct pj_row *row)
{
    if (table->identity_is_key)
        return true;
    for (int i = 0; i < table->nkey; i++)
        if (!pj_equal(row->old[table->key[i]], row->new_row[table->key[i]]))
            return false;
    return true;
}

/* The place of the routing key among the columns that a module sees of a source; -1 where it does not. */
static int routing_column(const struct pj_source *source)
{
    if (!source->columns)
        return source->key ? 0 : -1;
    for (int i = 0; source->key && source->columns[i].name; i++)
        if (strcmp(source->columns[i].name, source->key) == 0)
            return i;
    return -1;
}

/* Instead of what apply() would have said: a row concerns its routing keys, or everything where it shows none. */
static void mark_routing_keys(struct pj_projection *projection, const struct pj_change *change)
{
    int column = routing_column(&projection->module->sources[change->source]);
    if (column < 0) {
        pj_deltas_mark_all(projection->deltas);
        return;
    }
    if (change->old_row)
        pj_deltas_mark(projection->deltas, &change->old_row[column], 1);
    if (change->new_row)
        pj_deltas_mark(projection->deltas, &change->new_row[column], 1);
}

/* on_error = halt: names the row's key, for it is not going to stand in a dead letter, and the remedy. */
static int refuse(const struct pj_projection *projection, const struct pj_change *change, struct pj_error *error)
{
    int column = routing_column(&projection->module->sources[change->source]);
    const struct pj_value *row = change->new_row ? change->new_row : change->old_row;
    struct pj_buf text = {0};
    if (row && column >= 0 && projection->key_kinds && pj_value_text(projection->key_kinds[0], row[column], &text))
        pj_error_wrap(error, "key %.200s", pj_buf_text(&text));
    pj_buf_free(&text);
    return pj_project_halt(projection, error);
}

int pj_project_halt(const struct pj_projection *projection, struct pj_error *error)
{
    const char *name = projection->name;
    return pj_error_hint(
        error,
        "mend the cause and restart the daemon; or let it go on without: set on_error = park in [module %s], or "
        "`pgprojector pause %s`, and restart it",
        projection->module->name, name);
}

/* Hands one pair to apply(); a side that is NULL is left out. */
static int project_pair(struct pj_projection *projection, int index, const struct pj_value *old,
                        const struct pj_value *new_row, struct pj_error *error)
{
    struct pj_projection_source *source = &projection->sources[index];
    struct pj_value picked_old[PJ_MAX_SOURCE_COLUMNS], picked_new[PJ_MAX_SOURCE_COLUMNS];
    struct pj_change change = {.source = index};
    if (old) {
        pick(source, old, picked_old);
        change.old_row = picked_old;
    }
    if (new_row) {
        pick(source, new_row, picked_new);
        change.new_row = picked_new;
    }
    if (!projection->apply_off) {
        if (pj_deltas_apply(projection->deltas, &change, error) == PJ_OK)
            return PJ_OK;
        if (projection->live && projection->halt_on_error)
            return refuse(projection, &change, error);
        projection->refused++;
        projection->refused_last = *error;
        pj_error_clear(error);
    }
    mark_routing_keys(projection, &change);
    return PJ_OK;
}

static int project_row(struct pj_projection *projection, int index, const struct pj_table *table,
                       const struct pj_row *row, struct pj_error *error)
{
    if (!row->old || !row->new_row || pj_project_same_key(table, row))
        return project_pair(projection, index, row->old, row->new_row, error);
    int code = project_pair(projection, index, row->old, NULL, error);
    return code == PJ_OK ? project_pair(projection, index, NULL, row->new_row, error) : code;
}

static int project_table(struct pj_projection *projection, int index, const struct pj_table_rows *rows,
                         struct pj_error *error)
{
    if (rows->table->joining) /* what reads it is built when it is exact */
        return PJ_OK;
    pj_guard_about(projection->name, projection->mark, projection->module->sources[index].table);
    if (rows->truncated || rows->emptied)
        pj_deltas_mark_all(projection->deltas);
    for (size_t i = 0; i < rows->count; i++) {
        if (!pj_row_changed(rows->table, rows->rows[i]))
            continue;
        int code = project_row(projection, index, rows->table, rows->rows[i], error);
        if (code != PJ_OK)
            return code;
    }
    return PJ_OK;
}

int pj_project_batch(struct pj_projection *projection, const struct pj_batch *batch, struct pj_error *error)
{
    for (int s = 0; s < projection->nsources; s++) {
        if (projection->sources[s].upstream)
            continue; /* what is written there comes as dirty keys (core/writer.c) */
        const struct pj_table_rows *rows = &batch->tables[projection->sources[s].table->index];
        int code = project_table(projection, s, rows, error);
        if (code != PJ_OK)
            return code;
    }
    return PJ_OK;
}
