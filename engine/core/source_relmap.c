/*
 * Partitions: the stream names the leaves, the mirror is their root's.
 *
 * What identifies a row in the stream is the *leaf's* replica identity, and a new partition does not inherit its
 * root's: so every leaf is held to what the root says. A leaf made later shows as a name the map does not know; it is
 * looked up then, once, and entered under its root, or as of no concern.
 */
#include "base/mem.h"
#include "core/source_internal.h"
#include "core/textarray.h"
#include "sql.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { VISIBLE_TRIES = 5000, VISIBLE_PAUSE_MS = 2 };

/* -------------------------------------------------------------------------------------------------------- leaves */

static int by_bytes(const void *a, const void *b)
{
    return strcmp(*(const char *const *)a, *(const char *const *)b);
}

void pj_source_identity_text(const struct pj_table *table, struct pj_buf *text)
{
    if (table->identity_full) {
        pj_buf_puts(text, "FULL");
        return;
    }
    const char **names = pj_alloc((size_t)table->nidentity * sizeof *names);
    for (int i = 0; i < table->nidentity; i++)
        names[i] = table->columns[table->identity[i]].name;
    qsort(names, (size_t)table->nidentity, sizeof *names, by_bytes);
    for (int i = 0; i < table->nidentity; i++) {
        pj_buf_puts(text, i ? ", " : "");
        pj_quote_identifier(text, names[i]);
    }
    pj_free(names);
}

static void check_identity(const PGresult *result, int row, const struct pj_table *table, struct pj_faults *faults)
{
    struct pj_buf wanted = {0};
    pj_source_identity_text(table, &wanted);
    const char *found = pj_field(result, row, "identity"), *schema = pj_field(result, row, "nspname"),
               *name = pj_field(result, row, "relname");
    if (strcmp(found, pj_buf_text(&wanted)) != 0) {
        pj_fault(faults, "partition %s.%s has replica identity (%s), its root %s.%s (%s)", schema, name, found,
                 table->schema, table->name, pj_buf_text(&wanted));
        struct pj_buf sql = {0};
        pj_quote_identifier(&sql, schema);
        pj_buf_puts(&sql, ".");
        pj_quote_identifier(&sql, name);
        pj_fault_hint(faults, "ALTER TABLE %s REPLICA IDENTITY … like its root's (partitions do not inherit it)",
                      pj_buf_text(&sql));
        pj_buf_free(&sql);
    }
    pj_buf_free(&wanted);
}

static void check_leaf(struct pj_session *write, const PGresult *result, int row, const struct pj_table *table,
                       struct pj_faults *faults)
{
    const char *schema = pj_field(result, row, "nspname"), *name = pj_field(result, row, "relname");
    const char *role = PQuser(pj_session_conn(write));
    if (*pj_field(result, row, "relkind") == 'f') {
        pj_fault(faults, "partition %s.%s of %s.%s is a foreign table, whose changes are not in this server's WAL",
                 schema, name, table->schema, table->name);
        return;
    }
    if (*pj_field(result, row, "relpersistence") != 'p') {
        pj_fault(faults, "partition %s.%s is not logged: its changes are not in the WAL", schema, name);
        pj_fault_hint(faults, "ALTER TABLE \"%s\".\"%s\" SET LOGGED", schema, name);
    }
    if (!faults->streaming && !pj_field_true(result, row, "selectable")) {
        pj_fault(faults, "role \"%s\" may not read partition %s.%s", role, schema, name);
        pj_fault_hint(faults, "GRANT SELECT ON \"%s\".\"%s\" TO \"%s\"", schema, name, role);
    }
    check_identity(result, row, table, faults);
}

static void add_leaf(const PGresult *result, int row, struct pj_table *table)
{
    table->leaves = pj_realloc(table->leaves, (size_t)(table->nleaves + 1) * sizeof *table->leaves);
    table->leaves[table->nleaves++] = (struct pj_table_leaf){.schema = pj_strdup(pj_field(result, row, "nspname")),
                                                             .name = pj_strdup(pj_field(result, row, "relname")),
                                                             .oid = pj_field_uint(result, row, "oid"),
                                                             .attached = pj_field_true(result, row, "attached"),
                                                             .touched = pj_field_true(result, row, "touched")};
}

/* *result is NULL where no table is partitioned. */
static int query_leaves(struct pj_session *write, const struct pj_table *tables, int count, PGresult **result,
                        struct pj_error *error)
{
    struct pj_buf roots = {0};
    int partitioned = 0;
    pj_textarray_begin(&roots);
    for (int i = 0; i < count; i++)
        if (tables[i].partitioned) {
            pj_textarray_add_oid(&roots, tables[i].oid);
            partitioned++;
        }
    pj_textarray_end(&roots);
    const char *params[] = {pj_buf_text(&roots)};
    *result = NULL;
    int code = partitioned ? pj_session_query(write, result, pj_sql_source_leaves, 1, params, error) : PJ_OK;
    pj_buf_free(&roots);
    return code;
}

static int find_by_oid(const struct pj_table *tables, int count, uint32_t oid)
{
    for (int i = 0; i < count; i++)
        if (tables[i].oid == oid)
            return i;
    return -1;
}

int pj_source_read_leaves(struct pj_session *write, struct pj_table *tables, int count, struct pj_faults *faults,
                          struct pj_error *error)
{
    PGresult *result;
    int code = query_leaves(write, tables, count, &result, error);
    for (int row = 0; code == PJ_OK && row < PQntuples(result); row++) {
        int root = find_by_oid(tables, count, pj_field_uint(result, row, "root"));
        if (root < 0)
            continue;
        check_leaf(write, result, row, &tables[root], faults);
        add_leaf(result, row, &tables[root]);
        pj_lsn_parse(pj_field(result, row, "as_of"), &tables[root].leaves_as_of);
    }
    PQclear(result);
    return code;
}

/* ----------------------------------------------------------------------------------------------------------- map */

/* A name once taken for one of no concern may have had rows that were passed over. */
static int put_leaf(const PGresult *result, int row, const struct pj_table *table, struct pj_relmap *map,
                    struct pj_error *error)
{
    const char *schema = pj_field(result, row, "nspname"), *name = pj_field(result, row, "relname");
    bool known;
    const struct pj_table *before = pj_relmap_get(map, schema, strlen(schema), name, strlen(name), &known);
    if (known && before != table) {
        pj_error_set(error, PJ_ESCHEMA, "%s.%s has become a partition of %s.%s; its rows may have been passed over",
                     schema, name, table->schema, table->name);
        return pj_error_hint(error, "pgprojector resync makes the mirror exact again");
    }
    pj_relmap_put(map, schema, name, table);
    return PJ_OK;
}

int pj_source_fill_relmap(struct pj_session *write, const struct pj_table *tables, int count, struct pj_relmap *map,
                          struct pj_error *error)
{
    pj_error_clear(error);
    for (int i = 0; i < count; i++)
        pj_relmap_put(map, tables[i].schema, tables[i].name, &tables[i]);
    PGresult *result;
    int code = query_leaves(write, tables, count, &result, error);
    for (int row = 0; code == PJ_OK && row < PQntuples(result); row++) {
        int root = find_by_oid(tables, count, pj_field_uint(result, row, "root"));
        if (root >= 0)
            code = put_leaf(result, row, &tables[root], map, error);
    }
    PQclear(result);
    return code;
}

static bool knows_leaf(const struct pj_table *root, uint32_t oid)
{
    for (int i = 0; i < root->nleaves; i++)
        if (root->leaves[i].oid == oid)
            return true;
    return false;
}

/* It must have been born as a leaf, unless it is known by another name, and identify its rows as its root does. */
static int check_new_leaf(const PGresult *result, int row, const struct pj_table *root, struct pj_error *error)
{
    struct pj_faults faults = {0};
    if (pj_field_true(result, row, "attached") && !knows_leaf(root, pj_field_uint(result, row, "oid")))
        return pj_source_was_attached(root, pj_field(result, row, "nspname"), pj_field(result, row, "relname"), error);
    check_identity(result, row, root, &faults);
    return pj_faults_report(&faults, PJ_ESCHEMA, error);
}

static int enter_new_leaf(struct pj_session *write, struct pj_table *root, const char *schema, const char *name,
                          struct pj_relmap *map, struct pj_error *error)
{
    PGresult *result;
    int code = query_leaves(write, root, 1, &result, error);
    int found = -1;
    for (int row = 0; code == PJ_OK && row < PQntuples(result); row++)
        if (strcmp(pj_field(result, row, "nspname"), schema) == 0 &&
            strcmp(pj_field(result, row, "relname"), name) == 0)
            found = row;
    if (found >= 0)
        code = check_new_leaf(result, found, root, error);
    if (code == PJ_OK && found >= 0 && !knows_leaf(root, pj_field_uint(result, found, "oid")))
        add_leaf(result, found, root);
    PQclear(result);
    if (code == PJ_OK)
        pj_relmap_put(map, schema, name, root);
    return code;
}

/* The lock on its own xid is what a transaction gives back last, after all others see what it did. */
int pj_source_await_visible(struct pj_session *write, uint32_t xid, struct pj_error *error)
{
    static const char sql[] =
        "SELECT FROM pg_catalog.pg_locks WHERE locktype = 'transactionid' AND transactionid::text = $1 "
        "AND mode = 'ExclusiveLock' AND granted";
    char text[16];
    snprintf(text, sizeof text, "%u", xid);
    const char *params[] = {text};
    for (int tries = 0; tries < VISIBLE_TRIES; tries++) {
        PGresult *result;
        int code = pj_session_query(write, &result, sql, 1, params, error);
        bool ended = code == PJ_OK && PQntuples(result) == 0;
        PQclear(result);
        if (code == PJ_OK && !ended)
            code = pj_stop_sleep(NULL, VISIBLE_PAUSE_MS, error);
        if (code != PJ_OK || ended)
            return code;
    }
    pj_error_set(error, PJ_EFAIL,
                 "write database: transaction %u has come in the stream, and is still not visible there", xid);
    error->retryable = true;
    return pj_error_hint(error, "does its COMMIT wait for a synchronous standby?");
}

static int refuse_vanished(const struct pj_table *root, const char *schema, const char *name, struct pj_error *error)
{
    struct pj_buf sql = {0};
    pj_quote_identifier(&sql, schema);
    pj_buf_puts(&sql, ".");
    pj_quote_identifier(&sql, name);
    pj_error_set(
        error, PJ_ESCHEMA,
        "%s.%s: rows of a table %s have come, which is not there any more, and a partition that was not known has "
        "changed its name or owner: it may be that",
        root->schema, root->name, pj_buf_text(&sql));
    pj_error_hint(
        error,
        "where it was a partition, pgprojector resync makes the mirror exact; where not, CREATE TABLE %s () on the "
        "write database, start the daemon again, and drop that when it has caught up",
        pj_buf_text(&sql));
    pj_buf_free(&sql);
    return PJ_ESCHEMA;
}

/*
 * A name that the catalog has no more: of a table that was dropped, most likely, which concerns nobody. Or the former one of
 * a leaf: one that nobody has met under its present name, or met only after this position; or one that was made by this
 * very transaction, which may have renamed it before it ended.
 */
static int check_vanished(struct pj_session *write, const char *schema, const char *name, const struct pj_table *root,
                          const struct pj_passage *at, struct pj_error *error)
{
    PGresult *result;
    bool may_be = at->position <= root->renamed_until;
    int code = query_leaves(write, root, 1, &result, error);
    for (int row = 0; code == PJ_OK && row < PQntuples(result); row++)
        may_be = may_be || pj_field_uint(result, row, "made_by") == at->xid ||
                 (pj_field_true(result, row, "touched") && !knows_leaf(root, pj_field_uint(result, row, "oid")));
    PQclear(result);
    return code == PJ_OK && may_be ? refuse_vanished(root, schema, name, error) : code;
}

static int check_all_vanished(struct pj_session *write, const char *schema, const char *name,
                              const struct pj_table *tables, int count, const struct pj_passage *at,
                              struct pj_error *error)
{
    int code = PJ_OK;
    for (int i = 0; code == PJ_OK && i < count; i++)
        if (tables[i].partitioned)
            code = check_vanished(write, schema, name, &tables[i], at, error);
    return code;
}

int pj_source_resolve(struct pj_session *write, const char *schema, const char *name, struct pj_table *tables,
                      int count, struct pj_relmap *map, const struct pj_passage *at, struct pj_error *error)
{
    static const char sql[] = "SELECT CASE WHEN c.relispartition THEN pg_catalog.pg_partition_root(c.oid)::oid END "
                              "FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace "
                              "WHERE n.nspname = $1 AND c.relname = $2";
    const char *params[] = {schema, name};
    PGresult *result;
    int code = pj_session_query(write, &result, sql, 2, params, error);
    if (code != PJ_OK)
        return pj_error_wrap(error, "look up relation %s.%s", schema, name);
    bool there = PQntuples(result) > 0;
    int root = there ? find_by_oid(tables, count, (uint32_t)strtoul(PQgetvalue(result, 0, 0), NULL, 10)) : -1;
    PQclear(result);
    if (root >= 0)
        return enter_new_leaf(write, &tables[root], schema, name, map, error);
    if (!there && at)
        code = check_all_vanished(write, schema, name, tables, count, at, error);
    if (code == PJ_OK)
        pj_relmap_put(map, schema, name, NULL);
    return code;
}

int pj_source_partition(struct pj_session *write, const char *schema, const char *name, char **condition,
                        char **ancestors, struct pj_error *error)
{
    const char *params[] = {schema, name};
    PGresult *result;
    *condition = *ancestors = NULL;
    int code = pj_session_query(write, &result, pj_sql_source_partition, 2, params, error);
    if (code != PJ_OK)
        return pj_error_wrap(error, "look up partition %s.%s", schema, name);
    if (PQntuples(result) && !PQgetisnull(result, 0, 0))
        *condition = pj_strdup(PQgetvalue(result, 0, 0));
    *ancestors = pj_strdup(PQntuples(result) ? PQgetvalue(result, 0, 1) : "");
    PQclear(result);
    return PJ_OK;
}
