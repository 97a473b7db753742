/*
 * A module's SQL, for `module check`. The mirrors need not exist: empty temporary tables are made after the source's
 * catalog, the target from the definition, all in one transaction that is rolled back. Each text is run in a savepoint
 * of its own, on nothing: planning finds faults that preparing does not (an ON CONFLICT without its index).
 */
#include "app/module_probe.h"
#include "base/mem.h"
#include "core/mirror.h"

#include <string.h>

/* ------------------------------------------------------------------------------------------------------ statements */

static bool step(struct pj_probe *probe, const char *sql, int nparams, const char *what)
{
    static const char *const nothing[PJ_MAX_SOURCE_COLUMNS] = {NULL};
    struct pj_session *read = probe->databases->read;
    struct pj_error error, ignored;
    PGresult *result = NULL;
    int code = pj_session_exec(read, "SAVEPOINT pj_check", &error);
    if (code == PJ_OK)
        code = pj_session_query(read, &result, sql, nparams, nothing, &error);
    PQclear(result);
    if (code == PJ_OK)
        return pj_session_exec(read, "RELEASE SAVEPOINT pj_check", &error) == PJ_OK;
    pj_probe_found(probe, &error, what);
    pj_session_exec(read, "ROLLBACK TO SAVEPOINT pj_check", &ignored);
    return false;
}

/* ---------------------------------------------------------------------------------------------------------- mirrors */

static bool named_before(const struct pj_probe *probe, int i)
{
    for (int j = 0; j < i; j++)
        if (strcmp(probe->tables[j].name, probe->tables[i].name) == 0)
            return true;
    return false;
}

/* The temporary table's name is the mirror's, so that messages read well. */
static void name_temporary(struct pj_probe *probe, int i)
{
    struct pj_table *table = &probe->tables[i];
    struct pj_buf sql = {0};
    char *name = named_before(probe, i) ? pj_sprintf("%s %d", table->name, i) : pj_strdup(table->name);
    pj_buf_puts(&sql, "pg_temp.");
    pj_quote_identifier(&sql, name);
    pj_free(name);
    pj_free(table->mirror_sql);
    table->mirror_sql = pj_buf_take(&sql);
}

static bool make_mirrors(struct pj_probe *probe)
{
    struct pj_session *read = probe->databases->read;
    struct pj_error error;
    int code = pj_session_exec(read,
                               "BEGIN; SET LOCAL statement_timeout = '30s'; SET LOCAL lock_timeout = '5s'; "
                               "SET LOCAL client_min_messages = error",
                               &error);
    if (code == PJ_OK && probe->databases->write)
        code = pj_mirror_create_types(probe->databases->write, read, probe->tables, probe->ntables, &error);
    for (int i = 0; code == PJ_OK && i < probe->ntables; i++) {
        name_temporary(probe, i);
        code = pj_mirror_create(read, &probe->tables[i], &error);
        if (code == PJ_OK)
            code = pj_mirror_add_keys(read, &probe->tables[i], &error);
    }
    if (code == PJ_OK)
        code = pj_probe_make_upstreams(probe, &error);
    if (code != PJ_OK)
        pj_module_note(probe->report, "definition, merges and indexes could not be checked: %s", error.message);
    return code == PJ_OK;
}

/* ------------------------------------------------------------------------------------------------------- definition */

/* A descriptor with the target, as a temporary table, and nothing else that could be wrong. `target` gets its name. */
static struct pj_module with_target(const struct pj_probe *probe, char **target)
{
    struct pj_module module = pj_probe_reduced(probe);
    struct pj_buf name = {0};
    pj_buf_puts(&name, "pg_temp.");
    pj_quote_identifier(&name, "pj_target");
    *target = pj_buf_take(&name);
    module.target = *target;
    module.key = probe->module->key;
    module.definition = probe->module->definition;
    return module;
}

static bool has_column(const PGresult *columns, const char *name)
{
    for (int row = 0; row < PQntuples(columns); row++)
        if (strcmp(PQgetvalue(columns, row, 0), name) == 0)
            return true;
    return false;
}

/* Whether the definition's result has the columns of the key. */
static bool check_key(struct pj_probe *probe, const struct pj_projection *projection)
{
    const char *params[] = {projection->target_sql};
    struct pj_error error;
    PGresult *columns;
    bool good = true;
    if (pj_session_query(
            probe->databases->read, &columns,
            "SELECT a.attname, pg_catalog.string_agg(a.attname, ', ') OVER () FROM pg_catalog.pg_attribute a "
            "WHERE a.attrelid = pg_catalog.to_regclass($1) AND a.attnum > 0",
            1, params, &error) != PJ_OK) {
        pj_probe_found(probe, &error, "definition");
        return false;
    }
    for (const char *const *key = probe->module->key; *key; key++) {
        if (has_column(columns, *key))
            continue;
        good = false;
        pj_error_set(&error, PJ_ECONFIG, "the definition's result has no column \"%s\", which is in the key", *key);
        if (PQntuples(columns))
            pj_error_hint(&error, "its columns are: %s", PQgetvalue(columns, 0, 1));
        pj_fault_list_add(&probe->report->faults, &error);
    }
    PQclear(columns);
    return good;
}

static void add_key(const struct pj_probe *probe, const struct pj_projection *projection, struct pj_buf *sql)
{
    pj_buf_printf(sql, "ALTER TABLE %s ADD PRIMARY KEY (", projection->target_sql);
    for (const char *const *key = probe->module->key; *key; key++) {
        pj_buf_puts(sql, key == probe->module->key ? "" : ", ");
        pj_quote_identifier(sql, *key);
    }
    pj_buf_puts(sql, ")");
}

/* Inside a subselect first: there a second statement, or a semicolon, is a syntax error in the right place. */
static bool create_target(struct pj_probe *probe, const struct pj_projection *projection)
{
    char *alone = pj_sprintf("SELECT FROM (\n%s\n) AS pj_definition", projection->definition_sql);
    char *sql = pj_sprintf("CREATE TABLE %s AS\n%s\nWITH NO DATA", projection->target_sql, projection->definition_sql);
    bool good = step(probe, alone, 0, "definition") && step(probe, sql, 0, "definition, as a table");
    pj_free(alone);
    pj_free(sql);
    return good;
}

static bool key_target(struct pj_probe *probe, const struct pj_projection *projection)
{
    struct pj_buf sql = {0};
    add_key(probe, projection, &sql);
    bool good = check_key(probe, projection) && step(probe, pj_buf_text(&sql), 0, "the target's primary key");
    pj_buf_free(&sql);
    return good;
}

/* The definition as it is run: for some keys, and for all. */
static void check_recompute(struct pj_probe *probe, struct pj_projection *projection)
{
    struct pj_error error;
    if (pj_projection_describe_target(probe->databases->read, projection, &error) != PJ_OK) {
        pj_probe_found(probe, &error, "key");
        return;
    }
    step(probe, projection->recompute_all_sql, 0, "definition, run for all keys");
    step(probe, projection->recompute_routing_sql, 1, "definition, with {keys(…)} for routing keys");
    if (projection->recompute_full_sql)
        step(probe, projection->recompute_full_sql, projection->nkey, "definition, with {keys(…)} for single rows");
}

/* True where there is a target now, though maybe without its key. */
static bool check_definition(struct pj_probe *probe)
{
    char *target;
    struct pj_module module = with_target(probe, &target);
    struct pj_projection projection;
    struct pj_error error;
    bool good = pj_probe_bind(probe, &module, &projection, &error) == PJ_OK;
    if (!good) {
        pj_probe_found(probe, &error, NULL);
    } else {
        good = create_target(probe, &projection);
        if (good && key_target(probe, &projection))
            check_recompute(probe, &projection);
        pj_projection_free(&projection);
    }
    pj_free(target);
    return good;
}

/* -------------------------------------------------------------------------------------------------- merges, indexes */

static void check_merge(struct pj_probe *probe, const struct pj_stream *stream, bool target_made)
{
    char *target, *what = pj_sprintf("merge of stream %s", stream->name);
    struct pj_stream alone[] = {*stream, {0}};
    struct pj_module module = with_target(probe, &target);
    struct pj_projection projection;
    struct pj_error error;
    module.definition = "SELECT";
    module.streams = alone;
    if (pj_probe_bind(probe, &module, &projection, &error) != PJ_OK) {
        pj_probe_found(probe, &error, NULL);
    } else {
        if (!target_made)
            pj_module_note(probe->report, "the %s could not be checked without a target", what);
        else if (strstr(stream->merge, "{delta}"))
            step(probe, projection.merge_sql[0], pj_stream_column_count(stream), what);
        pj_projection_free(&projection);
    }
    pj_free(what);
    pj_free(target);
}

static void check_target_indexes(struct pj_probe *probe)
{
    for (const char *const *index = probe->module->target_indexes; index && *index; index++) {
        char *sql = pj_sprintf("CREATE INDEX ON pg_temp.pj_target %s", *index);
        char *what = pj_sprintf("target index %s", *index);
        step(probe, sql, 0, what);
        pj_free(what);
        pj_free(sql);
    }
}

static void check_mirror_index(struct pj_probe *probe, const char *index)
{
    const char *const alone[] = {index, NULL};
    struct pj_module module = pj_probe_reduced(probe);
    struct pj_projection projection;
    struct pj_error error, ignored;
    module.mirror_indexes = alone;
    if (pj_probe_bind(probe, &module, &projection, &error) != PJ_OK)
        return;
    struct pj_session *read = probe->databases->read;
    if (pj_session_exec(read, "SAVEPOINT pj_check", &ignored) == PJ_OK &&
        pj_projection_create_mirror_indexes(read, &projection, &error) != PJ_OK)
        pj_probe_found(probe, &error, NULL);
    pj_session_exec(read, "ROLLBACK TO SAVEPOINT pj_check", &ignored);
    pj_projection_free(&projection);
}

void pj_probe_sql(struct pj_probe *probe)
{
    struct pj_error ignored;
    if (make_mirrors(probe)) {
        bool made = probe->module->target && check_definition(probe);
        for (int i = 0; i < pj_module_stream_count(probe->module); i++)
            check_merge(probe, &probe->module->streams[i], made);
        if (made)
            check_target_indexes(probe);
        for (const char *const *index = probe->module->mirror_indexes; index && *index; index++)
            check_mirror_index(probe, *index);
    }
    pj_session_exec(probe->databases->read, "ROLLBACK", &ignored);
}
