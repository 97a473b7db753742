/*
 * Has the schema moved? Some changes leave no trace in the stream (a renamed table, a partition dropped or attached
 * with rows in it, a dropped toastable column), so the catalog is read again from time to time and held against what is
 * known.
 *
 * Not a difference: a column that is new (ignored until the mirror is told), a partition that was born as one (its rows
 * are in the stream).
 */
#include "base/mem.h"
#include "core/source_internal.h"

#include <stdio.h>
#include <string.h>

/* The remedy where the mirror can no longer follow. */
static int differs(struct pj_error *error)
{
    error->code = PJ_ESCHEMA;
    if (!*error->hint)
        pj_error_hint(error, "undo the change on the write database, or adapt the mirror's columns by hand, then run "
                             "pgprojector resync");
    return PJ_ESCHEMA;
}

/* ----------------------------------------------------------------------------------------------- one table's parts */

static const struct pj_table_column *find_column(const struct pj_table *table, const char *name)
{
    for (int i = 0; i < table->ncolumns; i++)
        if (strcmp(table->columns[i].name, name) == 0)
            return &table->columns[i];
    return NULL;
}

static int compare_columns(const struct pj_table *known, const struct pj_table *now, struct pj_error *error)
{
    for (int i = 0; i < known->ncolumns; i++) {
        const struct pj_table_column *before = &known->columns[i], *after = find_column(now, before->name);
        if (!after) {
            pj_error_set(error, PJ_ESCHEMA, "%s.%s: column %s is gone (dropped or renamed)", known->schema, known->name,
                         before->name);
            return differs(error);
        }
        if (before->number != after->number) {
            pj_error_set(error, PJ_ESCHEMA, "%s.%s: column %s was dropped and added again", known->schema, known->name,
                         before->name);
            pj_error_hint(error,
                          "the values it has now are not in the stream; pgprojector resync makes the mirror exact "
                          "again");
            return differs(error);
        }
        if (strcmp(before->type_sql, after->type_sql) != 0 || before->type_oid != after->type_oid) {
            pj_error_set(error, PJ_ESCHEMA, "%s.%s: column %s has type %s, was %s", known->schema, known->name,
                         before->name, after->type_sql, before->type_sql);
            return differs(error);
        }
    }
    return PJ_OK;
}

static void key_text(const struct pj_table *table, const int *list, int count, struct pj_buf *text)
{
    for (int i = 0; i < count; i++)
        pj_buf_printf(text, "%s%s", i ? ", " : "", table->columns[list[i]].name);
}

static int compare_list(const struct pj_table *known, const struct pj_table *now, bool identity, struct pj_error *error)
{
    struct pj_buf before = {0}, after = {0};
    key_text(known, identity ? known->identity : known->key, identity ? known->nidentity : known->nkey, &before);
    key_text(now, identity ? now->identity : now->key, identity ? now->nidentity : now->nkey, &after);
    pj_buf_puts(&before, identity && known->identity_full ? " of the full row" : "");
    pj_buf_puts(&after, identity && now->identity_full ? " of the full row" : "");
    int code = PJ_OK;
    if (strcmp(pj_buf_text(&before), pj_buf_text(&after)) != 0) {
        pj_error_set(error, PJ_ESCHEMA, "%s.%s: its %s is (%s), was (%s)", known->schema, known->name,
                     identity ? "replica identity" : "primary key", pj_buf_text(&after), pj_buf_text(&before));
        code = differs(error);
    }
    pj_buf_free(&before);
    pj_buf_free(&after);
    return code;
}

static const struct pj_table_leaf *find_leaf(const struct pj_table *table, uint32_t oid)
{
    for (int i = 0; i < table->nleaves; i++)
        if (table->leaves[i].oid == oid)
            return &table->leaves[i];
    return NULL;
}

int pj_source_was_attached(const struct pj_table *root, const char *schema, const char *name, struct pj_error *error)
{
    pj_error_set(error, PJ_ESCHEMA,
                 "%s.%s: table %s.%s was attached as a partition; rows it had before are not in the mirror",
                 root->schema, root->name, schema, name);
    return pj_error_hint(error, "pgprojector resync makes the mirror exact again");
}

static int compare_leaves(const struct pj_table *known, const struct pj_table *now, struct pj_error *error)
{
    for (int i = 0; i < known->nleaves; i++) {
        const struct pj_table_leaf *before = &known->leaves[i], *after = find_leaf(now, before->oid);
        if (!after) {
            pj_error_set(error, PJ_ESCHEMA, "%s.%s: partition %s.%s is gone (dropped or detached)", known->schema,
                         known->name, before->schema, before->name);
            pj_error_hint(error, "its rows are still in the mirror; pgprojector resync makes it exact again");
            return differs(error);
        }
        if (strcmp(before->schema, after->schema) != 0 || strcmp(before->name, after->name) != 0) {
            pj_error_set(error, PJ_ESCHEMA, "%s.%s: partition %s.%s was renamed to %s.%s", known->schema, known->name,
                         before->schema, before->name, after->schema, after->name);
            return differs(error);
        }
    }
    for (int i = 0; i < now->nleaves; i++)
        if (now->leaves[i].attached && !find_leaf(known, now->leaves[i].oid))
            return pj_source_was_attached(known, now->leaves[i].schema, now->leaves[i].name, error);
    return PJ_OK;
}

static int compare_table(const struct pj_table *known, const struct pj_table *now, struct pj_error *error)
{
    if (known->oid != now->oid) {
        pj_error_set(error, PJ_ESCHEMA,
                     "table %s.%s is another one than before (dropped and created again, or renamed)", known->schema,
                     known->name);
        return differs(error);
    }
    int code = compare_columns(known, now, error);
    if (code == PJ_OK)
        code = compare_list(known, now, false, error);
    if (code == PJ_OK)
        code = compare_list(known, now, true, error);
    return code == PJ_OK ? compare_leaves(known, now, error) : code;
}

/* ----------------------------------------------------------------------------------------------------------- all */

/* A table that is gone may have been renamed: its oid tells. */
static int find_renamed(struct pj_session *write, const struct pj_table *known, struct pj_error *error)
{
    char oid[16];
    snprintf(oid, sizeof oid, "%u", known->oid);
    const char *params[] = {oid, known->schema, known->name};
    PGresult *result;
    int code = pj_session_query(write, &result,
                                "SELECT n.nspname, c.relname FROM pg_catalog.pg_class c "
                                "JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace WHERE c.oid = $1::oid "
                                "AND (n.nspname <> $2 OR c.relname <> $3)",
                                3, params, error);
    if (code == PJ_OK && PQntuples(result)) {
        pj_error_set(error, PJ_ESCHEMA, "table %s.%s was renamed to %s.%s", known->schema, known->name,
                     PQgetvalue(result, 0, 0), PQgetvalue(result, 0, 1));
        code = differs(error);
    }
    PQclear(result);
    return code;
}

/* Before reading: whatever pj_source_tables refuses is named by it, but a rename is worth its own words. */
static int find_renames(struct pj_session *write, const struct pj_table *tables, int count, struct pj_error *error)
{
    int code = PJ_OK;
    for (int i = 0; code == PJ_OK && i < count; i++)
        code = find_renamed(write, &tables[i], error);
    return code;
}

int pj_source_compare(struct pj_session *write, const struct pj_table *tables, int count, struct pj_error *error)
{
    struct pj_wanted_table *wanted = pj_alloc((size_t)count * sizeof *wanted);
    char by[] = "the mirrors"; /* wanted_by is not const */
    for (int i = 0; i < count; i++)
        wanted[i] = (struct pj_wanted_table){tables[i].schema, tables[i].name, by};
    struct pj_table *now;
    int code = pj_source_read_tables(write, wanted, count, true, &now, error);
    pj_free(wanted);
    if (code == PJ_ECONFIG) {
        struct pj_error renamed;
        if (find_renames(write, tables, count, &renamed) == PJ_ESCHEMA)
            *error = renamed;
        return differs(error);
    }
    for (int i = 0; code == PJ_OK && i < count; i++)
        code = compare_table(&tables[i], &now[i], error);
    pj_source_tables_free(now, count);
    return code;
}
