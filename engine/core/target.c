/*
 * A projection's table on the read database: created from the definition's result columns, filled from it, and at each
 * start compared with what the module says now. What the table was built from (module version, md5 of the definition
 * with the options in it) stands in pgprojector.projection; a module that says something else has to be rebuilt first,
 * for its deltas would be added to rows of another meaning.
 */
#include "base/mem.h"
#include "core/chain.h"
#include "core/fill_keys.h"
#include "core/prepared.h"
#include "core/projection_sql.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static int failed(const struct pj_projection *projection, struct pj_error *error)
{
    return pj_error_wrap(error, "projection %s", projection->module->name); /* a NAME.next is called NAME, too */
}

/* An error of the module's SQL is a mistake in the module or in its configuration; a lost connection is not. */
static int bad_sql(struct pj_error *error, const char *what)
{
    bool of_the_text = strncmp(error->sqlstate, "42", 2) == 0 || strncmp(error->sqlstate, "22", 2) == 0;
    if (of_the_text)
        error->code = PJ_ECONFIG;
    if (of_the_text && !error->hint[0])
        pj_error_hint(error, "correct the module; `pgprojector module check FILE` names all that is wrong with it");
    return pj_error_wrap(error, "%s", what);
}

/* The same of its run over all rows: it is one of these that it cannot digest. */
static int bad_row(struct pj_error *error, const char *what)
{
    if (strncmp(error->sqlstate, "22", 2) == 0)
        pj_error_hint(error,
                      "some row makes the definition fail: let it allow for such rows (NULLIF, CASE), with a new "
                      "version of the module, or mend the row on the write database");
    return bad_sql(error, what);
}

/* Runs a text of any length. */
static int run(struct pj_session *read, struct pj_buf *sql, struct pj_error *error)
{
    int code = pj_session_exec(read, pj_buf_text(sql), error);
    pj_buf_free(sql);
    return code;
}

/* ---------------------------------------------------------------------------------------------------------- create */

static int table_exists(struct pj_session *read, const char *quoted_name, bool *exists, struct pj_error *error)
{
    PGresult *result;
    int code =
        pj_session_query_row(read, &result, "SELECT pg_catalog.to_regclass($1) IS NOT NULL", 1, &quoted_name, error);
    *exists = code == PJ_OK && PQgetvalue(result, 0, 0)[0] == 't';
    PQclear(result);
    return code;
}

/* The state in which our own catalog row has this very table; "" where it has none. */
static int recorded_state(struct pj_session *read, const struct pj_projection *projection, char state[16],
                          struct pj_error *error)
{
    const char *params[] = {projection->name, projection->target_schema, projection->target_name};
    PGresult *result;
    int code = pj_session_query(read, &result,
                                "SELECT state FROM pgprojector.projection "
                                "WHERE name = $1 AND target_schema = $2 AND target_table = $3",
                                3, params, error);
    state[0] = '\0';
    if (code == PJ_OK && PQntuples(result) == 1) {
        strncpy(state, PQgetvalue(result, 0, 0), 15);
        state[15] = '\0';
    }
    PQclear(result);
    return code;
}

/* A table of that name may be there if it is a leftover of a build of ours; then it goes. */
static int clear_the_way(struct pj_session *read, const struct pj_projection *projection, struct pj_error *error)
{
    bool exists;
    char state[16];
    int code = table_exists(read, projection->target_sql, &exists, error);
    if (code != PJ_OK || !exists)
        return code;
    code = recorded_state(read, projection, state, error);
    if (code != PJ_OK)
        return code;
    if (strcmp(state, "building") == 0)
        return pj_session_execf(read, error, "DROP TABLE %s", projection->target_sql);
    pj_error_set(error, PJ_ECONFIG, "there is already a table %s on the read database, and pgprojector did not make it",
                 projection->target_sql);
    return pj_error_hint(error, "drop or rename it; it is not touched");
}

static int set_not_null(struct pj_session *read, const struct pj_projection *projection, struct pj_error *error)
{
    struct pj_buf sql = {0};
    pj_buf_printf(&sql, "ALTER TABLE %s ", projection->target_sql);
    for (int i = 0; i < projection->nkey; i++) {
        pj_buf_puts(&sql, i ? ", ALTER COLUMN " : "ALTER COLUMN ");
        pj_quote_identifier(&sql, projection->module->key[i]);
        pj_buf_puts(&sql, " SET NOT NULL");
    }
    int code = run(read, &sql, error);
    return code == PJ_OK ? PJ_OK : bad_sql(error, "the definition's result lacks a column of the key");
}

/* Enters the table as one that is being built. */
static int record(struct pj_session *read, const struct pj_projection *projection, struct pj_error *error)
{
    const struct pj_module *module = projection->module;
    char version[16];
    snprintf(version, sizeof version, "%u", module->version);
    struct pj_buf key = {0};
    pj_buf_puts(&key, "{");
    for (int i = 0; i < projection->nkey; i++) {
        pj_buf_puts(&key, i ? "," : "");
        pj_quote_identifier(&key, module->key[i]);
    }
    pj_buf_puts(&key, "}");
    const char *params[] = {projection->name,        version,           projection->target_schema,
                            projection->target_name, pj_buf_text(&key), projection->definition_sql};
    PGresult *result;
    int code =
        pj_session_query(read, &result,
                         "INSERT INTO pgprojector.projection AS p "
                         "(name, module_version, target_schema, target_table, key, definition, state) "
                         "VALUES ($1, $2::bigint, $3, $4, $5::text[], md5($6), 'building') "
                         "ON CONFLICT (name) DO UPDATE SET module_version = excluded.module_version, "
                         "target_schema = excluded.target_schema, target_table = excluded.target_table, "
                         "key = excluded.key, definition = excluded.definition, state = 'building', since = now()",
                         6, params, error);
    PQclear(result);
    pj_buf_free(&key);
    return code;
}

static int create(struct pj_session *read, const struct pj_projection *projection, struct pj_error *error)
{
    struct pj_buf sql = {0};
    int fillfactor = projection->module->fillfactor ? projection->module->fillfactor : 100;
    pj_buf_printf(&sql, "CREATE TABLE %s WITH (fillfactor = %d) AS\n%s\nWITH NO DATA", projection->target_sql,
                  fillfactor, projection->definition_sql);
    int code = run(read, &sql, error);
    if (code != PJ_OK && strcmp(error->sqlstate, "3F000") == 0) {
        struct pj_buf name = {0};
        pj_quote_identifier(&name, projection->target_schema);
        error->code = PJ_ECONFIG;
        pj_error_hint(error,
                      "on the read database: CREATE SCHEMA %s, with CREATE on it for the role of READ_DATABASE_URL",
                      pj_buf_text(&name));
        pj_buf_free(&name);
    }
    return code == PJ_OK ? PJ_OK : bad_sql(error, "the definition is refused");
}

/* ------------------------------------------------------------------------------------------------------------ fill */

static void put_key(struct pj_buf *sql, const struct pj_projection *projection)
{
    for (int i = 0; i < projection->nkey; i++) {
        pj_buf_puts(sql, i ? ", " : "");
        pj_quote_identifier(sql, projection->module->key[i]);
    }
}

static int add_primary_key(struct pj_session *read, const struct pj_projection *projection, struct pj_error *error)
{
    struct pj_buf sql = {0};
    pj_buf_printf(&sql, "ALTER TABLE %s ADD PRIMARY KEY (", projection->target_sql);
    put_key(&sql, projection);
    pj_buf_puts(&sql, ")");
    int code = run(read, &sql, error);
    if (code == PJ_OK)
        return PJ_OK;
    bad_sql(error, "the definition's result has rows that share a key, or has none");
    return *error->hint ? error->code
                        : pj_error_hint(error, "let the definition give one row for each key, none of it NULL");
}

static int add_indexes(struct pj_session *read, const struct pj_projection *projection, struct pj_error *error)
{
    const char *const *indexes = projection->module->target_indexes;
    for (int i = 0; indexes && indexes[i]; i++) {
        int code = pj_session_execf(read, error, "CREATE INDEX ON %s %s", projection->target_sql, indexes[i]);
        if (code != PJ_OK)
            return bad_sql(error, indexes[i]);
    }
    return PJ_OK;
}

/* In the key's order: rows of one routing key then share pages, which is what merges and readers touch together. */
int pj_projection_fill_rows(struct pj_session *read, const struct pj_projection *projection, int64_t *rows,
                            struct pj_error *error)
{
    struct pj_buf sql = {0};
    PGresult *result;
    pj_buf_printf(&sql, "INSERT INTO %s SELECT * FROM (\n%s\n) AS pj_d ORDER BY ", projection->target_sql,
                  projection->definition_sql);
    put_key(&sql, projection);
    int code = pj_session_query(read, &result, pj_buf_text(&sql), 0, NULL, error);
    if (code == PJ_OK)
        *rows = strtoll(PQcmdTuples(result), NULL, 10);
    PQclear(result);
    pj_buf_free(&sql);
    return code == PJ_OK ? PJ_OK : bad_row(error, "filling from the definition");
}

int pj_projection_finish_target(struct pj_session *read, const struct pj_projection *projection, struct pj_error *error)
{
    int code = add_primary_key(read, projection, error);
    if (code == PJ_OK)
        code = add_indexes(read, projection, error);
    if (code == PJ_OK)
        code = pj_session_execf(read, error, "ANALYZE %s", projection->target_sql);
    return code;
}

/* At once; else, where that fails by the fault of some keys, without these. */
static int fill(struct pj_session *read, struct pj_projection *projection, int64_t *parked, struct pj_error *error)
{
    int64_t rows;
    struct pj_error ignored;
    int code = pj_projection_fill_rows(read, projection, &rows, error);
    if (code == PJ_OK || PQtransactionStatus(pj_session_conn(read)) != PQTRANS_IDLE ||
        !pj_fill_keys_can(projection, error))
        return code;
    code = pj_session_exec(read, "BEGIN", error);
    if (code == PJ_OK)
        code = pj_fill_keys(read, projection, &rows, parked, error);
    if (code == PJ_OK)
        return pj_session_exec(read, "COMMIT", error);
    pj_session_exec(read, "ROLLBACK", &ignored);
    return code;
}

/* Grouping and sorting a whole table wants more memory than a server's default; machine code takes longer to make
 * than it saves. */
int pj_projection_fill_target(struct pj_session *read, struct pj_projection *projection, int64_t *parked,
                              struct pj_error *error)
{
    pj_error_clear(error);
    *parked = 0;
    if (!projection->target_sql)
        return PJ_OK;
    int code =
        pj_session_exec(read, "SET work_mem = '128MB'; SET maintenance_work_mem = '256MB'; SET jit = off", error);
    if (code == PJ_OK)
        code = fill(read, projection, parked, error);
    if (code == PJ_OK)
        code = pj_projection_finish_target(read, projection, error);
    if (code == PJ_OK)
        code = pj_session_exec(read, "RESET work_mem; RESET maintenance_work_mem; RESET jit", error);
    return code == PJ_OK ? PJ_OK : failed(projection, error);
}

/* ----------------------------------------------------------------------------------------------------------- check */

static enum pj_type kind_of(unsigned long type_oid)
{
    static const struct {
        unsigned oid;
        enum pj_type kind;
    } kinds[] = {{16, PJ_BOOL},   {17, PJ_BYTEA},       {20, PJ_INT8},          {21, PJ_INT2},
                 {23, PJ_INT4},   {25, PJ_TEXT},        {1042, PJ_TEXT},        {1043, PJ_TEXT},
                 {1082, PJ_DATE}, {1114, PJ_TIMESTAMP}, {1184, PJ_TIMESTAMPTZ}, {2950, PJ_UUID}};
    for (size_t i = 0; i < sizeof kinds / sizeof *kinds; i++)
        if (kinds[i].oid == type_oid)
            return kinds[i].kind;
    return PJ_ANY;
}

/* The module and its definition as they were when the table was built. */
int pj_projection_check_recorded(struct pj_session *read, const struct pj_projection *projection,
                                 struct pj_error *error)
{
    const char *params[] = {projection->name, projection->definition_sql};
    PGresult *result;
    int code = pj_session_query(read, &result,
                                "SELECT module_version, definition = md5($2), "
                                "pg_catalog.quote_ident(target_schema) || '.' || pg_catalog.quote_ident(target_table) "
                                "FROM pgprojector.projection WHERE name = $1",
                                2, params, error);
    if (code != PJ_OK)
        return code;
    if (PQntuples(result) == 0) {
        pj_error_set(error, PJ_ECONFIG, "it has not been built on this read database");
        pj_error_hint(error, "`pgprojector module add %s` builds it, with or without a daemon", projection->name);
    } else if (strtoul(PQgetvalue(result, 0, 0), NULL, 10) != projection->module->version) {
        pj_error_set(error, PJ_ECONFIG,
                     "rebuild needed: its table was built by version %s of the module, this is version %u",
                     PQgetvalue(result, 0, 0), projection->module->version);
        pj_error_hint(error,
                      "install version %s of the module, or build the new one's table: pgprojector module add %s",
                      PQgetvalue(result, 0, 0), projection->name);
    } else if (PQgetvalue(result, 0, 1)[0] != 't') {
        pj_error_set(error, PJ_ECONFIG,
                     "rebuild needed: its table was built from another definition, by the same "
                     "version %u of the module",
                     projection->module->version);
        pj_error_hint(error,
                      "an option, a table or a column name has changed, or the definition without its version: "
                      "put it back, or have its table built anew: pgprojector module add %s",
                      projection->name);
    }
    PQclear(result);
    return error->code;
}

/* The target's columns and, for each, its place in the key (0: none), type name and base type. */
static int read_columns(struct pj_session *read, const struct pj_projection *projection, const char *table,
                        PGresult **result, struct pj_error *error)
{
    const char *params[] = {table};
    int code = pj_session_query(
        read, result,
        "SELECT a.attname, pg_catalog.quote_ident(n.nspname) || '.' || pg_catalog.quote_ident(t.typname), "
        "       CASE WHEN t.typtype = 'd' THEN t.typbasetype ELSE t.oid END, "
        "       coalesce(pg_catalog.array_position(i.indkey::pg_catalog.int2[], a.attnum), -1) "
        "FROM pg_catalog.pg_attribute a "
        "JOIN pg_catalog.pg_type t ON t.oid = a.atttypid "
        "JOIN pg_catalog.pg_namespace n ON n.oid = t.typnamespace "
        "LEFT JOIN pg_catalog.pg_index i ON i.indrelid = a.attrelid AND i.indisprimary "
        "WHERE a.attrelid = pg_catalog.to_regclass($1) AND a.attnum > 0 AND NOT a.attisdropped ORDER BY a.attnum",
        1, params, error);
    if (code == PJ_OK && PQntuples(*result) == 0) {
        PQclear(*result);
        *result = NULL;
        pj_error_set(error, PJ_ECONFIG, "its table %s is gone", table);
        code = pj_error_hint(error, "`pgprojector module add %s` builds it anew, with or without a daemon",
                             projection->name);
    }
    return code;
}

/* `keyed`: the table has its primary key, which must be the module's. */
static int fill_key(struct pj_projection *projection, const PGresult *columns, bool keyed, struct pj_error *error)
{
    if (!projection->key_types) {
        projection->key_types = pj_alloc((size_t)projection->nkey * sizeof *projection->key_types);
        projection->key_kinds = pj_alloc((size_t)projection->nkey * sizeof *projection->key_kinds);
    }
    for (int i = 0; i < projection->nkey; i++) {
        int row = 0;
        while (row < PQntuples(columns) && strcmp(PQgetvalue(columns, row, 0), projection->module->key[i]) != 0)
            row++;
        if (row == PQntuples(columns) || (keyed && atoi(PQgetvalue(columns, row, 3)) != i)) {
            pj_error_set(error, PJ_ECONFIG, "column %s of %s is not number %d of its primary key",
                         projection->module->key[i], projection->target_sql, i + 1);
            return pj_error_hint(error,
                                 "put it back, or drop the table and, without a daemon, run `pgprojector rebuild %s`",
                                 projection->name);
        }
        pj_free(projection->key_types[i]);
        projection->key_types[i] = pj_strdup(PQgetvalue(columns, row, 1));
        projection->key_kinds[i] = kind_of(strtoul(PQgetvalue(columns, row, 2), NULL, 10));
    }
    pj_deltas_know_kinds(projection->deltas, projection->key_kinds);
    return PJ_OK;
}

/* The definition's columns, without running it; one that the server refuses is refused once more, and better said, when
 * its statements are prepared. */
static int definition_columns(struct pj_session *read, const struct pj_projection *projection, PGresult **columns,
                              struct pj_error *error)
{
    char *sql = pj_sprintf("SELECT * FROM (\n%s\n) AS pj_d LIMIT 0", projection->definition_sql);
    int code = pj_session_query(read, columns, sql, 0, NULL, error);
    pj_free(sql);
    bool aborted = PQtransactionStatus(pj_session_conn(read)) == PQTRANS_INERROR;
    if (code == PJ_OK || aborted || !pj_prepared_is_refusal(error))
        return code;
    pj_error_clear(error);
    return PJ_OK;
}

/* Of the definition's columns, in their order: one that somebody has added to the table is not the projection's. */
static int build(struct pj_session *read, struct pj_projection *projection, const PGresult *columns,
                 struct pj_error *error)
{
    PGresult *wanted = NULL;
    int code = definition_columns(read, projection, &wanted, error);
    int count = wanted ? PQnfields(wanted) : PQntuples(columns);
    const char **names = pj_alloc(((size_t)count + 1) * sizeof *names);
    for (int i = 0; i < count; i++)
        names[i] = wanted ? PQfname(wanted, i) : PQgetvalue(columns, i, 0);
    if (code == PJ_OK)
        code = pj_projection_build_recompute(projection, names, count, error);
    pj_free(names);
    PQclear(wanted);
    return code;
}

int pj_projection_describe_target(struct pj_session *read, struct pj_projection *projection, struct pj_error *error)
{
    return pj_projection_describe_as(read, projection, projection->target_sql, error);
}

int pj_projection_describe_as(struct pj_session *read, struct pj_projection *projection, const char *table,
                              struct pj_error *error)
{
    pj_error_clear(error);
    if (!projection->target_sql)
        return PJ_OK;
    PGresult *columns = NULL;
    int code = read_columns(read, projection, table, &columns, error);
    bool beside = strcmp(projection->name, projection->module->name) != 0; /* gets its primary key when it is filled */
    if (code == PJ_OK)
        code = fill_key(projection, columns, !beside, error);
    if (code == PJ_OK)
        code = pj_projection_check_kinds(projection, error);
    if (code == PJ_OK)
        code = pj_chain_check_kinds(projection, error);
    if (code == PJ_OK)
        code = build(read, projection, columns, error);
    if (code == PJ_OK)
        code = pj_projection_build_touched(read, projection, table, error);
    PQclear(columns);
    return code == PJ_OK ? PJ_OK : failed(projection, error);
}

/* Before the tables are copied, not after. */
static int check_new(struct pj_session *read, struct pj_projection *projection, struct pj_error *error)
{
    PGresult *columns = NULL;
    int code = read_columns(read, projection, projection->target_sql, &columns, error);
    if (code == PJ_OK)
        code = fill_key(projection, columns, false, error);
    PQclear(columns);
    return code == PJ_OK ? pj_projection_check_kinds(projection, error) : code;
}

int pj_projection_create_target(struct pj_session *read, struct pj_projection *projection, struct pj_error *error)
{
    pj_error_clear(error);
    if (!projection->target_sql)
        return PJ_OK;
    int code = clear_the_way(read, projection, error);
    if (code == PJ_OK)
        code = create(read, projection, error);
    if (code == PJ_OK)
        code = set_not_null(read, projection, error);
    if (code == PJ_OK)
        code = check_new(read, projection, error);
    if (code == PJ_OK)
        code = record(read, projection, error);
    return code == PJ_OK ? PJ_OK : failed(projection, error);
}

int pj_projection_check_target(struct pj_session *read, struct pj_projection *projection, struct pj_error *error)
{
    pj_error_clear(error);
    if (!projection->target_sql)
        return PJ_OK;
    if (pj_projection_check_recorded(read, projection, error) != PJ_OK)
        return failed(projection, error);
    return pj_projection_describe_target(read, projection, error);
}
