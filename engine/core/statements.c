/*
 * See statements.h. Three choices behind the session's settings:
 *
 *  - Generic plans, forced: the arrays differ in length at every call, the plan should not. Planned for the default guess
 *    of a hundred elements, and with sequential scans, hash and merge joins made dear, each keyed statement walks the
 *    index, whether it was planned on an empty table or a huge one. (A plan made on an empty table would otherwise keep
 *    its sequential scan until the next ANALYZE.)
 *  - synchronous_commit is pinned on: what is confirmed to the write database must be durable.
 *  - READ COMMITTED is, too, for a role's default may be another: the first statement waits for the checkpoint's lock, and
 *    those after it must see what its former holder has committed (core/keywork.h).
 */
#include "core/statements.h"

#include "base/buf.h"
#include "base/mem.h"
#include "core/given.h"
#include "core/mirror.h"
#include "core/prepared.h"
#include "core/projection_sql.h"

#include <stdio.h>

static const char *suffix(enum pj_given given)
{
    return given == PJ_ONE ? "_one" : "";
}

const char *pj_statement_mirror(enum pj_mirror_statement which, int table, enum pj_given given,
                                char name[PJ_STATEMENT_NAME])
{
    snprintf(name, PJ_STATEMENT_NAME, "%c%d%s", (char)which, table, suffix(given));
    return name;
}

const char *pj_statement_merge(int projection, int stream, enum pj_given given, char name[PJ_STATEMENT_NAME])
{
    snprintf(name, PJ_STATEMENT_NAME, "m%d_%d%s", projection, stream, suffix(given));
    return name;
}

const char *pj_statement_recompute(int projection, bool full_key, char name[PJ_STATEMENT_NAME])
{
    snprintf(name, PJ_STATEMENT_NAME, "%c%d", full_key ? 'f' : 'r', projection);
    return name;
}

const char *pj_statement_note(int projection, enum pj_note which, char name[PJ_STATEMENT_NAME])
{
    snprintf(name, PJ_STATEMENT_NAME, "%c_%d", (char)which, projection);
    return name;
}

const char *pj_statement_park(int projection, char name[PJ_STATEMENT_NAME])
{
    snprintf(name, PJ_STATEMENT_NAME, "park%d", projection);
    return name;
}

/* ------------------------------------------------------------------------------------------------------ mirror SQL */

static void put_given_columns(struct pj_buf *sql, const struct pj_table *table, bool identity, enum pj_given given)
{
    int count = identity ? table->nidentity : table->ncolumns;
    for (int i = 0; i < count; i++) {
        int column = identity ? table->identity[i] : i;
        pj_buf_puts(sql, i ? ", " : "");
        pj_given_put(sql, given, i + 1, table->columns[column].array_sql);
        pj_buf_printf(sql, " AS c%d", column);
    }
}

/*
 * The rows given, as u, each element named by its column's index in the table (all columns, or the identity's):
 *
 *      (SELECT unnest($1::a[]) AS c0, unnest($2::b[]) AS c1) AS u      many: an array for each column
 *      (SELECT $1::a AS c0, $2::b AS c1) AS u                          one: its values; the planner pulls this up
 */
static void put_given(struct pj_buf *sql, const struct pj_table *table, bool identity, enum pj_given given)
{
    pj_buf_puts(sql, "(SELECT ");
    put_given_columns(sql, table, identity, given);
    pj_buf_puts(sql, ") AS u");
}

static void put_element(struct pj_buf *sql, const struct pj_table *table, int column)
{
    pj_buf_printf(sql, "CAST(u.c%d AS %s)", column, table->columns[column].cast_sql);
}

/* By the index's own equality, as the source's identity is unique by that: of citext two rows never differ by case alone. */
static void put_match(struct pj_buf *sql, const struct pj_table *table)
{
    for (int i = 0; i < table->nidentity; i++) {
        const struct pj_table_column *column = &table->columns[table->identity[i]];
        pj_buf_puts(sql, i ? " AND m." : "m.");
        pj_quote_identifier(sql, column->name);
        pj_buf_printf(sql, " %s ", column->equal_sql);
        put_element(sql, table, table->identity[i]);
    }
}

/* "SELECT u.ordinal, m.id AS c0, … FROM (…) AS u JOIN mirror m ON …", all in the form in which it is sent. */
static void put_old_rows(struct pj_buf *sql, const struct pj_table *table, enum pj_given given)
{
    bool computed = false;
    pj_buf_puts(sql, "SELECT u.ordinal");
    for (int i = 0; i < table->ncolumns; i++) {
        const struct pj_table_column *column = &table->columns[i];
        computed = computed || (column->output_sql && column->toastable);
        pj_buf_puts(sql, ", ");
        if (column->output_sql)
            pj_buf_printf(sql, "pg_catalog.textin(%s(", column->output_sql);
        pj_buf_puts(sql, "m.");
        pj_quote_identifier(sql, column->name);
        pj_buf_printf(sql, "%s AS c%d", column->output_sql ? "))" : "", i);
    }
    pj_buf_puts(sql, " FROM (SELECT ");
    put_given_columns(sql, table, true, given);
    pj_buf_puts(sql, ", ");
    pj_given_put_ordinal(sql, given, 1, table->columns[table->identity[0]].array_sql);
    pj_buf_printf(sql, " AS ordinal) AS u JOIN %s m ON ", table->mirror_sql);
    put_match(sql, table);
    pj_buf_puts(sql, computed ? " OFFSET 0" : ""); /* texts that are made, once */
}

/* The bytes of what may be wide in a row; without reading a TOASTed text. */
static void put_size(struct pj_buf *sql, const struct pj_table *table, int wide, enum pj_given given)
{
    pj_buf_puts(sql, "SELECT r.*, ");
    bool first = true;
    for (int i = 0; i < table->ncolumns; i++) {
        if (!table->columns[i].toastable)
            continue;
        pj_buf_printf(sql, "%scoalesce(pg_catalog.octet_length(r.c%d), 0)::bigint", first ? "" : " + ", i);
        first = false;
    }
    pj_buf_puts(sql, " AS size FROM (");
    put_old_rows(sql, table, given);
    pj_buf_puts(sql, wide > 1 ? ") AS r OFFSET 0" : ") AS r"); /* once, not for each column */
}

/*
 * The ordinal, NULL, and the row; or, where what may be wide in it is wider than the last parameter, the row without
 * that, and instead of NULL how much it is.
 */
static void put_fetch(struct pj_buf *sql, const struct pj_table *table, enum pj_given given)
{
    int wide = pj_table_wide_columns(table);
    pj_buf_puts(sql, "SELECT s.ordinal, ");
    if (wide)
        pj_buf_printf(sql, "CASE WHEN s.size > $%d::bigint THEN s.size END", table->nidentity + 1);
    else
        pj_buf_puts(sql, "NULL::bigint");
    for (int i = 0; i < table->ncolumns; i++)
        if (table->columns[i].toastable)
            pj_buf_printf(sql, ", CASE WHEN s.size <= $%d::bigint THEN s.c%d END", table->nidentity + 1, i);
        else
            pj_buf_printf(sql, ", s.c%d", i);
    pj_buf_puts(sql, " FROM (");
    if (wide)
        put_size(sql, table, wide, given);
    else
        put_old_rows(sql, table, given);
    pj_buf_puts(sql, ") AS s");
}

static void put_insert(struct pj_buf *sql, const struct pj_table *table, enum pj_given given)
{
    pj_buf_printf(sql, "INSERT INTO %s (", table->mirror_sql);
    pj_mirror_columns(sql, table, NULL);
    pj_buf_puts(sql, ") SELECT ");
    for (int i = 0; i < table->ncolumns; i++) {
        pj_buf_puts(sql, i ? ", " : "");
        put_element(sql, table, i);
    }
    pj_buf_puts(sql, " FROM ");
    put_given(sql, table, false, given);
}

static bool in_identity(const struct pj_table *table, int column)
{
    for (int i = 0; i < table->nidentity; i++)
        if (table->identity[i] == column)
            return true;
    return false;
}

/* Where all columns are the identity there is nothing to set; the first is then set to itself. */
static void put_update(struct pj_buf *sql, const struct pj_table *table, enum pj_given given)
{
    pj_buf_printf(sql, "UPDATE %s m SET ", table->mirror_sql);
    bool all = table->nidentity == table->ncolumns, first = true;
    for (int i = 0; i < table->ncolumns; i++) {
        if (all ? i > 0 : in_identity(table, i))
            continue;
        pj_buf_puts(sql, first ? "" : ", ");
        first = false;
        pj_quote_identifier(sql, table->columns[i].name);
        pj_buf_puts(sql, " = ");
        put_element(sql, table, i);
    }
    pj_buf_puts(sql, " FROM ");
    put_given(sql, table, false, given);
    pj_buf_puts(sql, " WHERE ");
    put_match(sql, table);
}

static void put_delete(struct pj_buf *sql, const struct pj_table *table, enum pj_given given)
{
    pj_buf_printf(sql, "DELETE FROM %s m USING ", table->mirror_sql);
    put_given(sql, table, true, given);
    pj_buf_puts(sql, " WHERE ");
    put_match(sql, table);
}

/* INSERT INTO pgprojector.dirty_row, of a table that is joining: the identities as text, NULL for all rows. */
static void put_note_row(struct pj_buf *sql, const struct pj_table *table, bool all, enum pj_given given)
{
    pj_buf_puts(sql, "INSERT INTO pgprojector.dirty_row (schema_name, table_name, identity) SELECT ");
    pj_quote_literal(sql, table->schema);
    pj_buf_puts(sql, ", ");
    pj_quote_literal(sql, table->name);
    if (all) {
        pj_buf_puts(sql, ", NULL");
        return;
    }
    for (int i = 0; i < table->nidentity; i++)
        pj_buf_printf(sql, "%su.c%d::pg_catalog.text", i ? ", " : ", ARRAY[", table->identity[i]);
    pj_buf_puts(sql, "] FROM ");
    put_given(sql, table, true, given);
}

static void put_mirror_statement(struct pj_buf *sql, enum pj_mirror_statement which, const struct pj_table *table,
                                 enum pj_given given)
{
    if (table->joining) {
        put_note_row(sql, table, which == PJ_EMPTY, given);
        return;
    }
    switch (which) {
    case PJ_FETCH_OLD:
        put_fetch(sql, table, given);
        break;
    case PJ_INSERT_ROWS:
        put_insert(sql, table, given);
        break;
    case PJ_UPDATE_ROWS:
        put_update(sql, table, given);
        break;
    case PJ_DELETE_ROWS:
        put_delete(sql, table, given);
        break;
    case PJ_EMPTY:
        pj_buf_printf(sql, "DELETE FROM %s", table->mirror_sql);
        break;
    }
}

/* ------------------------------------------------------------------------------------------------------- preparing */

/* What the statements are prepared and run with. */
#define SESSION_SETTINGS(X)                                                                                            \
    X(synchronous_commit, on)                                                                                          \
    X(default_transaction_isolation, 'read committed')                                                                 \
    X(plan_cache_mode, force_generic_plan)                                                                             \
    X(enable_seqscan, off)                                                                                             \
    X(enable_hashjoin, off)                                                                                            \
    X(enable_mergejoin, off)                                                                                           \
    X(jit, off)                                                                                                        \
    X(idle_in_transaction_session_timeout, '60s')
#define PUT_SET(name, value) "SET " #name " = " #value "; "
#define PUT_RESET(name, value) "RESET " #name "; "
static const char session_settings[] = SESSION_SETTINGS(PUT_SET);
static const char ordinary_settings[] = SESSION_SETTINGS(PUT_RESET);

/* The binary form of a pg_lsn is that of a bigint. */
static const char fence_sql[] = "SELECT epoch FROM pgprojector.checkpoint WHERE lsn = $1::pg_lsn "
                                "AND epoch = $2::bigint AND version = $3::bigint FOR UPDATE";
/*
 * Everything up to COMMIT may be under way when the answer comes, so finding no row must fail at the server. The function
 * that fails is called only then: it has settings of its own, and called for each batch it took a third of the statement.
 */
static const char checkpoint_sql[] =
    "WITH moved AS (UPDATE pgprojector.checkpoint SET lsn = $4::pg_lsn, "
    "witness_xid = coalesce($5::bigint, witness_xid), "
    "witness_lsn = CASE WHEN $5::bigint IS NULL THEN witness_lsn ELSE $4::pg_lsn END, "
    "witness_time = CASE WHEN $5::bigint IS NULL THEN witness_time ELSE $6::timestamptz END, "
    "applied_at = clock_timestamp() WHERE lsn = $1::pg_lsn AND epoch = $2::bigint AND version = $3::bigint "
    "RETURNING 1) SELECT CASE count(*) WHEN 1 THEN true ELSE pgprojector.demand_one(count(*)) END FROM moved";

static void prepare(struct pj_buf *script, const char *name, const char *sql)
{
    pj_buf_printf(script, "PREPARE \"%s\" AS ", name);
    pj_buf_puts(script, sql);
    pj_buf_puts(script, "\n;\n");
}

static void prepare_mirror(struct pj_buf *script, enum pj_mirror_statement which, const struct pj_table *table,
                           enum pj_given given)
{
    char name[PJ_STATEMENT_NAME];
    struct pj_buf sql = {0};
    put_mirror_statement(&sql, which, table, given);
    prepare(script, pj_statement_mirror(which, table->index, given, name), sql.data);
    pj_buf_free(&sql);
}

/* Returns a digest of it. */
static uint64_t add_mirror(struct pj_prepared *sets, const struct pj_table *table)
{
    static const enum pj_mirror_statement all[] = {PJ_FETCH_OLD, PJ_INSERT_ROWS, PJ_UPDATE_ROWS, PJ_DELETE_ROWS,
                                                   PJ_EMPTY};
    struct pj_buf script = {0};
    for (size_t i = 0; i < sizeof all / sizeof *all; i++) {
        if (table->joining && all[i] != PJ_DELETE_ROWS && all[i] != PJ_EMPTY)
            continue;
        prepare_mirror(&script, all[i], table, PJ_MANY);
        if (all[i] != PJ_EMPTY)
            prepare_mirror(&script, all[i], table, PJ_ONE);
    }
    char *what = pj_sprintf("mirror %s.%s", table->schema, table->name);
    uint64_t digest = pj_prepared_add(sets, what, PJ_DIGEST, &script);
    pj_free(what);
    return digest;
}

/* Keys are noted as text, one element for each key column given: 1, or all. */
static void prepare_note(struct pj_buf *script, const struct pj_projection *projection, int index, int nkey)
{
    struct pj_buf sql = {0};
    char name[PJ_STATEMENT_NAME];
    pj_buf_puts(&sql, "INSERT INTO pgprojector.dirty_key (projection, key) SELECT ");
    pj_quote_literal(&sql, projection->name);
    for (int i = 0; i < nkey; i++)
        pj_buf_printf(&sql, "%sk.k%d::text", i ? ", " : ", ARRAY[", i);
    pj_buf_puts(&sql, "] FROM unnest(");
    for (int i = 0; i < nkey; i++)
        pj_buf_printf(&sql, "%s$%d::%s[]", i ? ", " : "", i + 1, pj_kind_sql(projection->key_kinds[i]));
    pj_buf_puts(&sql, ") AS k(");
    for (int i = 0; i < nkey; i++)
        pj_buf_printf(&sql, "%sk%d", i ? ", " : "", i);
    pj_buf_puts(&sql, ")");
    prepare(script, pj_statement_note(index, nkey > 1 ? PJ_NOTE_FULL : PJ_NOTE_ROUTING, name), sql.data);
    pj_buf_free(&sql);
}

/*
 * One entry is enough, but it must be the latest: whoever catches up compares the table, then drops the entries that were
 * there when the comparison began. So the former one makes way for a new one, and is not left to speak for this batch.
 */
static void prepare_note_all(struct pj_buf *script, const struct pj_projection *projection, int index)
{
    struct pj_buf sql = {0};
    char name[PJ_STATEMENT_NAME];
    pj_buf_puts(&sql, "WITH former AS (DELETE FROM pgprojector.dirty_key WHERE projection = ");
    pj_quote_literal(&sql, projection->name);
    pj_buf_puts(&sql, " AND key IS NULL) INSERT INTO pgprojector.dirty_key (projection, key) VALUES (");
    pj_quote_literal(&sql, projection->name);
    pj_buf_puts(&sql, ", NULL)");
    prepare(script, pj_statement_note(index, PJ_NOTE_ALL, name), sql.data);
    pj_buf_free(&sql);
}

static void prepare_park(struct pj_buf *script, const struct pj_projection *projection, int index)
{
    struct pj_buf sql = {0};
    char name[PJ_STATEMENT_NAME];
    pj_buf_puts(&sql,
                "INSERT INTO pgprojector.dead_letter AS d (projection, key, sqlstate, message, first_lsn, last_lsn, "
                "next_try_at) SELECT ");
    pj_quote_literal(&sql, projection->name);
    pj_buf_printf(&sql,
                  ", k.k::text, $2::text, $3::text, '0/0'::pg_lsn + $4::bigint::numeric, '0/0'::pg_lsn + "
                  "$4::bigint::numeric, clock_timestamp() + interval '30 seconds' FROM unnest($1::%s[]) AS k(k) "
                  "ON CONFLICT (projection, key) DO UPDATE SET sqlstate = excluded.sqlstate, message = "
                  "excluded.message, last_lsn = excluded.last_lsn, attempts = d.attempts + 1",
                  pj_kind_sql(projection->key_kinds[0]));
    prepare(script, pj_statement_park(index, name), sql.data);
    pj_buf_free(&sql);
}

static void prepare_merge(struct pj_buf *script, const struct pj_projection *projection, int index, int stream)
{
    const char *merge = (projection->nchained ? projection->merge_touched_sql : projection->merge_sql)[stream];
    char name[PJ_STATEMENT_NAME];
    char *many = pj_sql_delta(&projection->module->streams[stream], PJ_MANY);
    char *one = pj_sql_delta(&projection->module->streams[stream], PJ_ONE);
    char *merge_one = pj_sql_instead(merge, many, one);
    prepare(script, pj_statement_merge(index, stream, PJ_MANY, name), merge);
    prepare(script, pj_statement_merge(index, stream, PJ_ONE, name), merge_one);
    pj_free(merge_one);
    pj_free(one);
    pj_free(many);
}

/* What the statements' texts do not tell: of what types the table's columns are. That follows from module, definition
 * and what it reads; else a kept statement might be of types that are no more. */
static uint64_t digest_of(const struct pj_projection *projection, uint64_t read)
{
    char version[16];
    snprintf(version, sizeof version, "%u ", projection->module->version);
    return pj_prepared_digest(pj_prepared_digest(read, version), projection->definition_sql);
}

/* All that is prepared of a projection that is not live, too. */
static void add_notes(struct pj_prepared *sets, const struct pj_projection *projection, int index)
{
    struct pj_buf script = {0};
    prepare_note(&script, projection, index, 1);
    if (projection->nkey > 1)
        prepare_note(&script, projection, index, projection->nkey);
    prepare_note_all(&script, projection, index);
    prepare_park(&script, projection, index);
    char *what = pj_sprintf("projection %s", projection->name);
    pj_prepared_add(sets, what, PJ_DIGEST, &script);
    pj_free(what);
}

/* What is over its table and its definition, and fails where somebody has changed these. Returns a digest of it; `read`: of
 * what it may read. */
static uint64_t add_projection(struct pj_prepared *sets, struct pj_projection *projection, int index, uint64_t read)
{
    char name[PJ_STATEMENT_NAME];
    struct pj_buf script = {0};
    for (int stream = 0; stream < projection->nstreams; stream++)
        prepare_merge(&script, projection, index, stream);
    prepare(&script, pj_statement_recompute(index, false, name), projection->recompute_routing_sql);
    if (projection->recompute_full_sql)
        prepare(&script, pj_statement_recompute(index, true, name), projection->recompute_full_sql);
    char *what = pj_sprintf("projection %s", projection->name);
    uint64_t digest = pj_prepared_add(sets, what, digest_of(projection, read), &script);
    pj_free(what);
    pj_error_clear(&projection->refusal);
    pj_prepared_let_refuse(sets, &projection->refusal);
    return digest;
}

int pj_statements_forget(struct pj_session *session, struct pj_error *error)
{
    int code = pj_session_exec(session, ordinary_settings, error);
    return code == PJ_OK ? pj_prepared_run(&(struct pj_prepared){0}, session, error) : code;
}

int pj_statements_prepare(struct pj_session *read, const struct pj_setup *setup, struct pj_error *error)
{
    struct pj_prepared sets = {0};
    struct pj_buf script = {0};
    uint64_t mirrors = 0, tables = 0;
    prepare(&script, PJ_STATEMENT_FENCE, fence_sql);
    prepare(&script, PJ_STATEMENT_CHECKPOINT, checkpoint_sql);
    pj_prepared_add(&sets, "checkpoint", PJ_DIGEST, &script);
    for (int i = 0; i < setup->ntables; i++)
        mirrors ^= add_mirror(&sets, &setup->tables[i]);
    for (int i = 0; i < setup->nprojections; i++) {
        struct pj_projection *projection = &setup->projections[i];
        if (!projection->target_sql)
            continue;
        add_notes(&sets, projection, i);
        /* upstream before downstream */
        tables ^= add_projection(&sets, projection, i, projection->level ? mirrors ^ tables : mirrors);
    }
    int code = pj_session_exec(read, session_settings, error);
    if (code == PJ_OK)
        code = pj_prepared_run(&sets, read, error);
    pj_prepared_free(&sets);
    return code;
}
