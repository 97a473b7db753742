/*
 * A module against real databases, for `module check`. One fault must not hide the next: therefore each question is asked of
 * a reduced copy of the descriptor (all tables and one column; the definition alone; the definition and one stream), and
 * each SQL text is run in a savepoint.
 *
 * The mirrors need not exist: empty temporary tables are made after the source's catalog, the target from the
 * definition, all in one transaction that is rolled back. The statements are run, on nothing: planning finds faults that
 * preparing does not (an ON CONFLICT without its index).
 */
#include "app/module.h"
#include "base/mem.h"
#include "core/mirror.h"
#include "core/source.h"

#include <string.h>

struct probe {
    const struct pj_module *module;
    struct pj_binding binding; /* without columns of tables that are not there */
    const struct pj_module_databases *databases;
    struct pj_module_report *report;
    int ntables;
    struct pj_table *tables; /* those that are there */
    bool complete;           /* all are */
    int nsources;            /* those whose table is there, without key and columns; behind them the end */
    struct pj_source *sources;
    int *places; /* their indexes in the module's list */
};

/* A fault, unless it is the database's and not the module's. `what` may be NULL. */
static void found(struct probe *probe, struct pj_error *error, const char *what)
{
    if (what)
        pj_error_wrap(error, "%s", what);
    bool privilege = strcmp(error->sqlstate, "42501") == 0;
    if (error->retryable || error->code == PJ_EUNREACHABLE || error->code == PJ_ESTOPPED || privilege)
        pj_module_note(probe->report, "could not be checked: %s", error->message);
    else
        pj_fault_list_add(&probe->report->faults, error);
}

/* ---------------------------------------------------------------------------------------------------------- tables */

static int read_one(struct probe *probe, struct pj_session *source, const struct pj_wanted_table *wanted)
{
    struct pj_table *table;
    struct pj_error error;
    if (pj_source_tables(source, wanted, 1, &table, &error) == PJ_OK) {
        pj_source_tables_free(table, 1);
        return PJ_OK;
    }
    if (probe->databases->write)
        found(probe, &error, "write database");
    else
        pj_module_note(probe->report, "%s.%s has no mirror on the read database yet: its columns were not looked at",
                       wanted->schema, wanted->name);
    return error.code;
}

static void take_out(struct pj_wanted_table *wanted, int *count, int i)
{
    pj_free(wanted[i].schema);
    pj_free(wanted[i].name);
    pj_free(wanted[i].wanted_by);
    wanted[i] = wanted[--*count];
}

/* Without the write database the mirrors, where they exist, stand for the source. */
static void read_tables(struct probe *probe)
{
    struct pj_session *source = probe->databases->write ? probe->databases->write : probe->databases->read;
    struct pj_wanted_table *wanted = NULL;
    struct pj_error error;
    int count = 0;
    pj_projection_want(probe->module, &probe->binding, &wanted, &count, &error);
    int all = count;
    for (int i = count - 1; i >= 0; i--)
        if (read_one(probe, source, &wanted[i]) != PJ_OK)
            take_out(wanted, &count, i);
    probe->complete = count == all;
    if (count && pj_source_tables(source, wanted, count, &probe->tables, &error) == PJ_OK)
        probe->ntables = count;
    while (count)
        take_out(wanted, &count, count - 1);
    pj_free(wanted);
}

/* --------------------------------------------------------------------------------------------------------- sources */

static int bind(struct probe *probe, const struct pj_module *reduced, struct pj_projection *projection,
                struct pj_error *error)
{
    return pj_projection_bind(projection, reduced, &probe->binding, probe->tables, probe->ntables, error);
}

static struct pj_module reduced(const struct probe *probe)
{
    return (struct pj_module){.name = probe->module->name,
                              .version = probe->module->version,
                              .sources = probe->sources,
                              .options = probe->module->options};
}

static bool is_there(struct probe *probe, const struct pj_source *source)
{
    struct pj_source alone[] = {{.table = source->table}, {0}};
    struct pj_module module = {.name = probe->module->name, .sources = alone};
    struct pj_binding tables = {.default_schema = probe->binding.default_schema};
    const char *pair[2][2] = {{source->table, NULL}, {NULL, NULL}};
    for (const char *const(*given)[2] = probe->binding.tables; given && (*given)[0]; given++)
        if (strcmp((*given)[0], source->table) == 0) {
            pair[0][1] = (*given)[1];
            tables.tables = (const char *const(*)[2])pair;
        }
    struct pj_projection projection;
    struct pj_error error;
    if (pj_projection_bind(&projection, &module, &tables, probe->tables, probe->ntables, &error) != PJ_OK)
        return false;
    pj_projection_free(&projection);
    return true;
}

static void choose_sources(struct probe *probe)
{
    int count = pj_module_source_count(probe->module);
    probe->sources = pj_alloc(sizeof *probe->sources * (size_t)(count + 1));
    probe->places = pj_alloc(sizeof *probe->places * (size_t)(count + 1));
    for (int i = 0; i < count; i++)
        if (is_there(probe, &probe->module->sources[i])) {
            probe->places[probe->nsources] = i;
            probe->sources[probe->nsources++].table = probe->module->sources[i].table;
        }
}

static bool try_column(struct probe *probe, int i, const struct pj_column *column)
{
    struct pj_column one[] = {*column, {0}};
    struct pj_module module = reduced(probe);
    struct pj_projection projection;
    struct pj_error error;
    probe->sources[i].columns = one;
    int code = bind(probe, &module, &projection, &error);
    probe->sources[i].columns = NULL;
    if (code == PJ_OK)
        pj_projection_free(&projection);
    else
        found(probe, &error, NULL);
    return code == PJ_OK;
}

/* Keys that are there are kept: the type of the target's key is held against theirs. */
static void check_columns(struct probe *probe)
{
    for (int i = 0; i < probe->nsources; i++) {
        const struct pj_source *declared = &probe->module->sources[probe->places[i]];
        const struct pj_column key = {declared->key, PJ_ANY};
        for (const struct pj_column *column = declared->columns; column && column->name; column++)
            try_column(probe, i, column);
        if (declared->key && try_column(probe, i, &key))
            probe->sources[i].key = declared->key;
    }
}

/* What the configuration says: options and names that the module does not know. */
static bool check_settings(struct probe *probe)
{
    struct pj_module module = reduced(probe);
    struct pj_projection projection;
    struct pj_error error;
    if (bind(probe, &module, &projection, &error) == PJ_OK) {
        pj_projection_free(&projection);
        return true;
    }
    found(probe, &error, NULL);
    return false;
}

/* ------------------------------------------------------------------------------------------------------ statements */

static bool step(struct probe *probe, const char *sql, int nparams, const char *what)
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
    found(probe, &error, what);
    pj_session_exec(read, "ROLLBACK TO SAVEPOINT pj_check", &ignored);
    return false;
}

/* ---------------------------------------------------------------------------------------------------------- mirrors */

static bool named_before(const struct probe *probe, int i)
{
    for (int j = 0; j < i; j++)
        if (strcmp(probe->tables[j].name, probe->tables[i].name) == 0)
            return true;
    return false;
}

/* The temporary table's name is the mirror's, so that messages read well. */
static void name_temporary(struct probe *probe, int i)
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

static bool make_mirrors(struct probe *probe)
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
    if (code != PJ_OK)
        pj_module_note(probe->report, "definition, merges and indexes could not be checked: %s", error.message);
    return code == PJ_OK;
}

/* ------------------------------------------------------------------------------------------------------- definition */

/* A descriptor with the target, as a temporary table, and nothing else that could be wrong. `target` gets its name. */
static struct pj_module with_target(const struct probe *probe, char **target)
{
    struct pj_module module = reduced(probe);
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
static bool check_key(struct probe *probe, const struct pj_projection *projection)
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
        found(probe, &error, "definition");
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

static void add_key(const struct probe *probe, const struct pj_projection *projection, struct pj_buf *sql)
{
    pj_buf_printf(sql, "ALTER TABLE %s ADD PRIMARY KEY (", projection->target_sql);
    for (const char *const *key = probe->module->key; *key; key++) {
        pj_buf_puts(sql, key == probe->module->key ? "" : ", ");
        pj_quote_identifier(sql, *key);
    }
    pj_buf_puts(sql, ")");
}

static bool create_target(struct probe *probe, const struct pj_projection *projection)
{
    char *sql = pj_sprintf("CREATE TABLE %s AS\n%s\nWITH NO DATA", projection->target_sql, projection->definition_sql);
    bool good = step(probe, sql, 0, "definition");
    pj_free(sql);
    return good;
}

static bool key_target(struct probe *probe, const struct pj_projection *projection)
{
    struct pj_buf sql = {0};
    add_key(probe, projection, &sql);
    bool good = check_key(probe, projection) && step(probe, pj_buf_text(&sql), 0, "the target's primary key");
    pj_buf_free(&sql);
    return good;
}

/* The definition as it is run: for some keys, and for all. */
static void check_recompute(struct probe *probe, struct pj_projection *projection)
{
    struct pj_error error;
    if (pj_projection_describe_target(probe->databases->read, projection, &error) != PJ_OK) {
        found(probe, &error, "key");
        return;
    }
    step(probe, projection->recompute_all_sql, 0, "definition, run for all keys");
    step(probe, projection->recompute_routing_sql, 1, "definition, with {keys(…)} for routing keys");
    if (projection->recompute_full_sql)
        step(probe, projection->recompute_full_sql, projection->nkey, "definition, with {keys(…)} for single rows");
}

/* True where there is a target now, though maybe without its key. */
static bool check_definition(struct probe *probe)
{
    char *target;
    struct pj_module module = with_target(probe, &target);
    struct pj_projection projection;
    struct pj_error error;
    bool good = bind(probe, &module, &projection, &error) == PJ_OK;
    if (!good) {
        found(probe, &error, NULL);
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

static void check_merge(struct probe *probe, const struct pj_stream *stream, bool target_made)
{
    char *target, *what = pj_sprintf("merge of stream %s", stream->name);
    struct pj_stream alone[] = {*stream, {0}};
    struct pj_module module = with_target(probe, &target);
    struct pj_projection projection;
    struct pj_error error;
    module.definition = "SELECT";
    module.streams = alone;
    if (bind(probe, &module, &projection, &error) != PJ_OK) {
        found(probe, &error, NULL);
    } else {
        if (!target_made)
            pj_module_note(probe->report, "the %s could not be checked without a target", what);
        else if (!strstr(stream->merge, "{delta}"))
            step(probe, projection.merge_sql[0], 0, what);
        else
            step(probe, projection.merge_sql[0], pj_stream_column_count(stream), what);
        pj_projection_free(&projection);
    }
    pj_free(what);
    pj_free(target);
}

static void check_merge_text(struct probe *probe, const struct pj_stream *stream)
{
    struct pj_error error;
    if (strstr(stream->merge, "{delta}"))
        return;
    pj_error_set(&error, PJ_ECONFIG, "merge of stream %s: {delta} does not occur in it", stream->name);
    pj_error_hint(&error, "it stands for the rows that apply() emitted; a merge without it does the same every time");
    pj_fault_list_add(&probe->report->faults, &error);
}

static void check_target_indexes(struct probe *probe)
{
    for (const char *const *index = probe->module->target_indexes; index && *index; index++) {
        char *sql = pj_sprintf("CREATE INDEX ON pg_temp.pj_target %s", *index);
        char *what = pj_sprintf("target index %s", *index);
        step(probe, sql, 0, what);
        pj_free(what);
        pj_free(sql);
    }
}

static void check_mirror_index(struct probe *probe, const char *index)
{
    const char *const alone[] = {index, NULL};
    struct pj_module module = reduced(probe);
    struct pj_projection projection;
    struct pj_error error, ignored;
    module.mirror_indexes = alone;
    if (bind(probe, &module, &projection, &error) != PJ_OK)
        return;
    struct pj_session *read = probe->databases->read;
    if (pj_session_exec(read, "SAVEPOINT pj_check", &ignored) == PJ_OK &&
        pj_projection_create_mirror_indexes(read, &projection, &error) != PJ_OK)
        found(probe, &error, NULL);
    pj_session_exec(read, "ROLLBACK TO SAVEPOINT pj_check", &ignored);
    pj_projection_free(&projection);
}

static void check_sql(struct probe *probe)
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

/* ----------------------------------------------------------------------------------------------------------- notes */

static void note_costs(struct probe *probe)
{
    const struct pj_module *module = probe->module;
    if (!module->target)
        return;
    if (!strstr(module->definition, "{keys("))
        pj_module_note(probe->report,
                       "the definition has no {keys(…)}: each batch that changes anything runs all of it");
    for (const struct pj_source *source = module->sources; !module->apply && source->table; source++)
        if (!source->key)
            pj_module_note(probe->report,
                           "source %s has no key: each batch that changes it computes the whole target anew",
                           source->table);
}

/* Columns of tables that are not there cannot be bound, and would hide what can. */
static void leave_out_columns(struct probe *probe)
{
    int count = 0, kept = 0;
    while (probe->binding.columns && probe->binding.columns[count][0])
        count++;
    const char *(*columns)[2] = pj_alloc(sizeof *columns * (size_t)(count + 1));
    for (int i = 0; i < count; i++) {
        bool missing = false;
        for (const struct pj_source *source = probe->module->sources; source->table; source++) {
            size_t length = strlen(source->table);
            bool its = strncmp(probe->binding.columns[i][0], source->table, length) == 0 &&
                       probe->binding.columns[i][0][length] == '.';
            missing = missing || (its && !is_there(probe, source));
        }
        if (missing)
            continue;
        columns[kept][0] = probe->binding.columns[i][0];
        columns[kept++][1] = probe->binding.columns[i][1];
    }
    probe->binding.columns = (const char *const(*)[2])columns;
}

static void ask(struct probe *probe)
{
    read_tables(probe);
    leave_out_columns(probe);
    choose_sources(probe);
    if (!check_settings(probe)) {
        pj_module_note(probe->report, "columns and SQL were not looked at: the configuration comes first");
        return;
    }
    check_columns(probe);
    if (!probe->databases->read)
        pj_module_note(probe->report, "definition, merges and indexes were not looked at: that needs a read database");
    else if (!probe->complete)
        pj_module_note(probe->report, "definition, merges and indexes were not looked at: a table is missing");
    else
        check_sql(probe);
}

void pj_module_probe(const struct pj_module *module, const struct pj_binding *binding,
                     const struct pj_module_databases *databases, struct pj_module_report *report)
{
    struct probe probe = {.module = module, .binding = *binding, .databases = databases, .report = report};
    for (int i = 0; i < pj_module_stream_count(module); i++)
        check_merge_text(&probe, &module->streams[i]);
    note_costs(&probe);
    if (databases->write || databases->read) {
        ask(&probe);
        pj_free((void *)(size_t)probe.binding.columns);
    } else {
        pj_module_note(report, "tables, columns and SQL were not looked at: that needs the databases");
    }
    if (probe.tables)
        pj_source_tables_free(probe.tables, probe.ntables);
    pj_free(probe.sources);
    pj_free(probe.places);
}
