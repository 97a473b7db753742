/*
 * `module record`: a fixture of what happens on the write database now.
 *
 * A temporary slot is made, with its snapshot exported: that snapshot is the state just before the first recorded
 * change, so the old rows that the stream does not carry are read under it, exactly, and no mirror is needed.
 * Everything recorded is collected in one batch, in which a row that changes several times is one change, as a daemon
 * would see it.
 */
#include "app/deployment.h"
#include "app/module.h"
#include "base/clock.h"
#include "base/mem.h"
#include "core/batch.h"
#include "core/source.h"
#include "host/fixture.h"
#include "host/value_text.h"
#include "wire/pgtext.h"
#include "wire/wal2json.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { DEFAULT_CHANGES = 10, DEFAULT_SECONDS = 60, PAUSE_MS = 200, SLOT_WAIT_MS = 10000, STEP_TIMEOUT_MS = 60000 };

struct recording {
    struct pj_app *app;
    struct pj_loaded_module loaded;
    struct pj_module plain; /* the module's sources alone */
    struct pj_projection projection;
    bool bound;
    int ntables;
    struct pj_table *tables;
    struct pj_relmap *map;
    struct pj_decoder *decoder;
    struct pj_batch *batch;
    struct pj_session *write, *snapshot, *replication;
    char slot[64];
    int changes, wanted;
    bool all_messages; /* this server's wal2json cannot leave logical messages out */
    bool ended;
};

/* --------------------------------------------------------------------------------------------------------- opening */

static int open_one(struct pj_session **session, const struct pj_session_options *options, struct pj_error *error)
{
    int code = pj_session_open(session, options, error);
    if (code == PJ_OK && !options->replication)
        pj_session_set_timeout(*session, STEP_TIMEOUT_MS);
    return code;
}

/* An interruption ends the recording, not what is asked of the first two: the old rows of what there is are read then. */
static int open_databases(struct recording *recording, struct pj_error *error)
{
    struct pj_app *app = recording->app;
    const char *url = pj_config_get(&app->config, PJ_SET_WRITE_URL);
    if (!url) {
        pj_error_set(error, PJ_ECONFIG, "WRITE_DATABASE_URL is not set: there is nothing to record from");
        return pj_error_hint(error, "set it in the environment, or write_database_url in a file given by -c FILE");
    }
    struct pj_session_options options = {.side = PJ_WRITE, .url = url, .purpose = "module record"};
    int code = open_one(&recording->write, &options, error);
    if (code == PJ_OK)
        code = open_one(&recording->snapshot, &options, error);
    options.replication = true;
    options.stop = &app->stop;
    return code == PJ_OK ? open_one(&recording->replication, &options, error) : code;
}

static void free_wanted(struct pj_wanted_table *wanted, int count)
{
    for (int i = 0; i < count; i++) {
        pj_free(wanted[i].schema);
        pj_free(wanted[i].name);
        pj_free(wanted[i].wanted_by);
    }
    pj_free(wanted);
}

static int bind_module(struct recording *recording, const struct pj_binding *binding, struct pj_error *error)
{
    const struct pj_module *module = recording->loaded.module;
    struct pj_wanted_table *wanted = NULL;
    int count = 0;
    recording->plain = (struct pj_module){.name = module->name, .sources = module->sources, .options = module->options};
    int code = pj_projection_want(module, binding, &wanted, &count, error);
    if (code == PJ_OK)
        code = pj_source_tables(recording->write, wanted, count, &recording->tables, error);
    free_wanted(wanted, count);
    if (code != PJ_OK)
        return pj_error_hint(
            error, "where it is another projection's table there is nothing to record: apply() never sees it");
    recording->ntables = count;
    recording->map = pj_relmap_new();
    code = pj_source_fill_relmap(recording->write, recording->tables, count, recording->map, error);
    if (code == PJ_OK)
        code = pj_projection_bind(&recording->projection, &recording->plain, binding, recording->tables, count, error);
    recording->bound = code == PJ_OK;
    recording->decoder = pj_wal2json_new(recording->map);
    recording->batch = pj_batch_new(recording->tables, count);
    return code;
}

static int begin(struct recording *recording, struct pj_error *error)
{
    char snapshot[64];
    pj_lsn consistent;
    snprintf(recording->slot, sizeof recording->slot, "pgprojector_record_%d", (int)getpid());
    int code = pj_slot_create(recording->replication, recording->write, recording->slot, recording->decoder->plugin,
                              true, SLOT_WAIT_MS, &consistent, snapshot, error);
    if (code == PJ_OK)
        code = pj_session_execf(recording->snapshot, error,
                                "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY; SET TRANSACTION SNAPSHOT '%s'",
                                snapshot);
    return code;
}

/* ------------------------------------------------------------------------------------------------------- collecting */

static int collect(struct recording *recording, const struct pj_row_change *change, struct pj_error *error)
{
    if (change->action != PJ_INSERT && change->action != PJ_UPDATE && change->action != PJ_DELETE &&
        change->action != PJ_TRUNCATE)
        return PJ_OK;
    if (!change->table)
        return PJ_OK;
    if (change->action == PJ_TRUNCATE) {
        fprintf(stderr, "pgprojector: %s was truncated; the recording ends before that\n", change->table->name);
        recording->ended = true;
        return PJ_OK;
    }
    recording->ended = ++recording->changes >= recording->wanted;
    return pj_batch_change(recording->batch, change, error);
}

static int take_message(struct recording *recording, const char *text, size_t length, struct pj_error *error)
{
    struct pj_row_change change;
    for (int tries = 0; tries < 2; tries++) {
        int code =
            recording->decoder->decode(recording->decoder, text, length, 1, &recording->batch->arena, &change, error);
        if (code != PJ_OK)
            return code;
        if (change.action != PJ_UNKNOWN_RELATION)
            return collect(recording, &change, error);
        code = pj_source_resolve(recording->write, change.schema, change.name, recording->tables, recording->ntables,
                                 recording->map, NULL, error);
        if (code != PJ_OK)
            return code;
    }
    return pj_error_set(error, PJ_EDATA, "relation %s.%s cannot be told", change.schema, change.name);
}

static int query_slot(struct recording *recording, PGresult **result, struct pj_error *error)
{
    struct pj_buf sql = {0};
    pj_buf_printf(&sql,
                  "SELECT data FROM pg_catalog.pg_logical_slot_get_changes('%s', NULL, %d, "
                  "'format-version', '2', 'include-types', 'false', 'include-transaction', 'false'%s)",
                  recording->slot, recording->wanted - recording->changes + 1,
                  recording->all_messages ? "" : ", '" PJ_WAL2JSON_FILTER "', '" PJ_WAL2JSON_PREFIX "'");
    int code = pj_session_query(recording->replication, result, pj_buf_text(&sql), 0, NULL, error);
    pj_buf_free(&sql);
    return code;
}

static int poll_slot(struct recording *recording, struct pj_error *error)
{
    PGresult *result;
    int code = query_slot(recording, &result, error);
    if (code != PJ_OK && pj_wal2json_knows_no_filter(error)) {
        recording->all_messages = true;
        code = query_slot(recording, &result, error);
    }
    for (int row = 0; code == PJ_OK && !recording->ended && row < PQntuples(result); row++)
        code = take_message(recording, PQgetvalue(result, row, 0), (size_t)PQgetlength(result, row, 0), error);
    PQclear(result);
    return code;
}

/* Until enough has changed, the time is over, or somebody interrupts: what there is, is printed all the same. */
static int stream(struct recording *recording, struct pj_error *error)
{
    const struct pj_verb_options *options = &recording->app->options;
    uint64_t seconds = (uint64_t)(options->seconds ? options->seconds : DEFAULT_SECONDS);
    uint64_t deadline = pj_clock_monotonic_us() + seconds * 1000000;
    int code = PJ_OK;
    while (code == PJ_OK && !recording->ended && pj_clock_monotonic_us() < deadline) {
        code = poll_slot(recording, error);
        if (code == PJ_OK && !recording->ended)
            code = pj_stop_sleep(&recording->app->stop, PAUSE_MS, error);
    }
    if (code == PJ_ESTOPPED)
        code = PJ_OK;
    if (code == PJ_OK && !recording->changes) {
        pj_error_set(error, PJ_EFAIL, "nothing that module %s reads has changed within %llu s",
                     recording->loaded.module->name, (unsigned long long)seconds);
        code = pj_error_hint(error, "change something, or wait longer: --seconds S");
    }
    return code;
}

/* -------------------------------------------------------------------------------------------------------- old rows */

static void select_row(const struct pj_table *table, struct pj_buf *sql)
{
    for (int i = 0; i < table->ncolumns; i++) {
        pj_buf_puts(sql, i ? ", " : "SELECT ");
        pj_quote_identifier(sql, table->columns[i].name);
    }
    pj_buf_puts(sql, " FROM ");
    pj_quote_identifier(sql, table->schema);
    pj_buf_puts(sql, ".");
    pj_quote_identifier(sql, table->name);
    for (int i = 0; i < table->nidentity; i++) {
        pj_buf_puts(sql, i ? " AND " : " WHERE ");
        const struct pj_table_column *column = &table->columns[table->identity[i]];
        pj_quote_identifier(sql, column->name);
        pj_buf_printf(sql, " %s $%d::%s", column->equal_sql, i + 1, column->type_sql);
    }
}

static int take_old(struct recording *recording, const struct pj_table *table, struct pj_row *row, PGresult *result,
                    struct pj_error *error)
{
    struct pj_arena *arena = &recording->batch->arena;
    struct pj_value *old = pj_arena_alloc(arena, sizeof *old * (size_t)table->ncolumns);
    for (int i = 0; i < table->ncolumns; i++) {
        const struct pj_table_column *column = &table->columns[i];
        old[i] = pj_make_null();
        if (!PQgetisnull(result, 0, i) && !pj_pgtext_to_binary(column->type, PQgetvalue(result, 0, i),
                                                               (size_t)PQgetlength(result, 0, i), arena, &old[i]))
            return pj_error_set(error, PJ_EDATA, "%s.%s: a value of it is no %s", table->name, column->name,
                                column->type_sql);
    }
    pj_batch_set_old(row, old);
    return PJ_OK;
}

static int fetch_old(struct recording *recording, const struct pj_table *table, struct pj_row *row,
                     struct pj_error *error)
{
    struct pj_buf sql = {0};
    char *params[PJ_MAX_SOURCE_COLUMNS] = {NULL};
    PGresult *result;
    select_row(table, &sql);
    for (int i = 0; i < table->nidentity; i++) {
        struct pj_buf text = {0};
        if (pj_value_text(table->columns[table->identity[i]].type, row->identity[i], &text))
            params[i] = pj_strdup(pj_buf_text(&text));
        pj_buf_free(&text);
    }
    int code = pj_session_query(recording->snapshot, &result, pj_buf_text(&sql), table->nidentity,
                                (const char *const *)params, error);
    if (code == PJ_OK && PQntuples(result) == 1)
        code = take_old(recording, table, row, result, error);
    PQclear(result);
    for (int i = 0; i < table->nidentity; i++)
        pj_free(params[i]);
    pj_buf_free(&sql);
    return code;
}

static int fetch_all_old(struct recording *recording, struct pj_error *error)
{
    int code = PJ_OK;
    for (int t = 0; t < recording->batch->ntables; t++) {
        struct pj_table_rows *rows = &recording->batch->tables[t];
        for (size_t i = 0; code == PJ_OK && i < rows->count; i++)
            if (rows->rows[i]->old_state == PJ_OLD_UNKNOWN)
                code = fetch_old(recording, rows->table, rows->rows[i], error);
    }
    return code == PJ_OK ? pj_batch_resolve(recording->batch, error) : code;
}

/* --------------------------------------------------------------------------------------------------------- writing */

static const char *declared_name(const struct pj_source *source, int i)
{
    return source->columns ? source->columns[i].name : source->key;
}

static json_t *side_json(const struct recording *recording, int index, const struct pj_value *row)
{
    const struct pj_projection_source *source = &recording->projection.sources[index];
    const struct pj_source *declared = &recording->loaded.module->sources[index];
    json_t *json = json_object();
    for (int i = 0; i < source->width; i++) {
        const struct pj_table_column *column = &source->table->columns[source->columns[i]];
        json_object_set_new(json, declared_name(declared, i), pj_fixture_value(column->type, row[source->columns[i]]));
    }
    return json;
}

static void put_change(const struct recording *recording, json_t *changes, int index, const struct pj_value *old,
                       const struct pj_value *new_row)
{
    json_t *change = json_object();
    json_object_set_new(change, "table", json_string(recording->loaded.module->sources[index].table));
    json_object_set_new(change, "old", old ? side_json(recording, index, old) : json_null());
    json_object_set_new(change, "new", new_row ? side_json(recording, index, new_row) : json_null());
    json_array_append_new(changes, change);
}

static bool same_key(const struct pj_table *table, const struct pj_row *row)
{
    for (int i = 0; i < table->nkey; i++)
        if (!pj_equal(row->old[table->key[i]], row->new_row[table->key[i]]))
            return false;
    return true;
}

/* A change of the primary key comes to modules as two. */
static void put_row(const struct recording *recording, json_t *changes, int index, const struct pj_row *row)
{
    const struct pj_table *table = recording->projection.sources[index].table;
    if (!pj_row_changed(table, row))
        return;
    if (!row->old || !row->new_row || same_key(table, row)) {
        put_change(recording, changes, index, row->old, row->new_row);
        return;
    }
    put_change(recording, changes, index, row->old, NULL);
    put_change(recording, changes, index, NULL, row->new_row);
}

/* What a column is, where the module leaves that open. */
static void put_types(const struct recording *recording, json_t *types, int index)
{
    const struct pj_projection_source *source = &recording->projection.sources[index];
    const struct pj_source *declared = &recording->loaded.module->sources[index];
    for (int i = 0; i < source->width; i++) {
        enum pj_type type = source->table->columns[source->columns[i]].type;
        if ((declared->columns && declared->columns[i].type != PJ_ANY) || type == PJ_ANY)
            continue;
        char *name = pj_sprintf("%s.%s", declared->table, declared_name(declared, i));
        json_object_set_new(types, name, json_string(pj_fixture_type_name(type)));
        pj_free(name);
    }
}

static json_t *fixture_json(const struct recording *recording)
{
    json_t *types = json_object(), *changes = json_array();
    for (int s = 0; s < recording->projection.nsources; s++) {
        const struct pj_table *table = recording->projection.sources[s].table;
        const struct pj_table_rows *rows = &recording->batch->tables[table->index];
        put_types(recording, types, s);
        for (size_t i = 0; i < rows->count; i++)
            put_row(recording, changes, s, rows->rows[i]);
    }
    json_t *json = json_pack("{s:s,s:o,s:o}", "name", "recorded", "types", types, "changes", changes);
    return json;
}

static int print_fixture(const struct recording *recording, struct pj_error *error)
{
    json_t *json = fixture_json(recording), *actual = NULL;
    int code = pj_fixture_run(recording->loaded.module, json, &actual, error);
    if (actual)
        json_object_set(json, "expect", actual);
    json_dumpf(json, stdout, JSON_INDENT(2));
    putchar('\n');
    json_decref(actual);
    json_decref(json);
    return code;
}

/* ------------------------------------------------------------------------------------------------------- the whole */

static int record(struct recording *recording, struct pj_error *error)
{
    struct pj_binding binding;
    int code = open_databases(recording, error);
    pj_deployment_bind(&recording->app->config, recording->loaded.path, &binding);
    if (code == PJ_OK)
        code = bind_module(recording, &binding, error);
    if (code == PJ_OK)
        code = begin(recording, error);
    if (code == PJ_OK) {
        fprintf(stderr, "pgprojector: recording up to %d changes\n", recording->wanted);
        code = stream(recording, error);
    }
    if (code == PJ_OK)
        code = fetch_all_old(recording, error);
    if (code == PJ_OK)
        code = print_fixture(recording, error);
    pj_binding_free(&binding);
    return code;
}

static void discharge(struct recording *recording)
{
    pj_session_close(recording->replication);
    pj_session_close(recording->snapshot);
    pj_session_close(recording->write);
    if (recording->bound)
        pj_projection_free(&recording->projection);
    if (recording->decoder)
        recording->decoder->free(recording->decoder);
    pj_batch_free(recording->batch);
    pj_relmap_free(recording->map);
    if (recording->tables)
        pj_source_tables_free(recording->tables, recording->ntables);
    pj_module_unload(&recording->loaded);
}

int pj_module_record_command(struct pj_app *app, struct pj_error *error)
{
    struct recording recording = {.app = app, .wanted = app->options.changes ? app->options.changes : DEFAULT_CHANGES};
    int code = pj_config_read(&app->config, getenv, error); /* not resolved: a URL may be missing */
    char *path = pj_module_file(app, app->operands[1]);
    if (code == PJ_OK)
        code = pj_module_load(&recording.loaded, path, error);
    if (code == PJ_OK)
        code = record(&recording, error);
    discharge(&recording);
    pj_free(path);
    return code;
}
