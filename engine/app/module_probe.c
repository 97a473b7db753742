/*
 * A module against real databases, for `module check`: tables and columns here, SQL in module_probe_sql.c. One fault
 * must not hide the next: therefore each question is asked of a reduced copy of the descriptor (all tables and one
 * column; the definition alone; the definition and one stream).
 */
#include "app/module_probe.h"
#include "base/mem.h"
#include "core/chain.h"
#include "core/projection_sql.h"

#include <string.h>

void pj_probe_found(struct pj_probe *probe, struct pj_error *error, const char *what)
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

/* *chained: it is another module's table, and what that one wants is on the list now. */
static int read_one(struct pj_probe *probe, struct pj_session *source, const struct pj_wanted_table *of,
                    struct pj_wanted_table **wanted, int *count, bool *chained)
{
    struct pj_table *table;
    struct pj_error error;
    *chained = false;
    if (pj_source_tables(source, of, 1, &table, &error) == PJ_OK) {
        pj_source_tables_free(table, 1);
        return PJ_OK;
    }
    *chained = pj_probe_add_upstream(probe, of, wanted, count);
    if (*chained)
        return error.code;
    if (probe->databases->write)
        pj_probe_found(probe, &error, "write database");
    else
        pj_module_note(probe->report, "%s.%s has no mirror on the read database yet: its columns were not looked at",
                       of->schema, of->name);
    return PJ_EFAIL;
}

static void take_out(struct pj_wanted_table *wanted, int *count, int i)
{
    pj_free(wanted[i].schema);
    pj_free(wanted[i].name);
    pj_free(wanted[i].wanted_by);
    wanted[i] = wanted[--*count];
}

/* Without the write database the mirrors, where they exist, stand for the source. */
static void read_tables(struct pj_probe *probe)
{
    struct pj_session *source = probe->databases->write ? probe->databases->write : probe->databases->read;
    struct pj_wanted_table *wanted = NULL;
    struct pj_error error;
    int count = 0;
    pj_projection_want(probe->module, &probe->binding, &wanted, &count, &error);
    probe->complete = true;
    for (int i = 0; i < count;) {
        const struct pj_wanted_table of = wanted[i]; /* the list may move */
        bool chained;
        if (read_one(probe, source, &of, &wanted, &count, &chained) == PJ_OK) {
            i++;
            continue;
        }
        probe->complete = probe->complete && chained;
        take_out(wanted, &count, i);
    }
    if (count && pj_source_tables(source, wanted, count, &probe->tables, &error) == PJ_OK)
        probe->ntables = count;
    while (count)
        take_out(wanted, &count, count - 1);
    pj_free(wanted);
}

/* --------------------------------------------------------------------------------------------------------- sources */

int pj_probe_bind(struct pj_probe *probe, const struct pj_module *reduced, struct pj_projection *projection,
                  struct pj_error *error)
{
    return pj_projection_bind_chained(projection, reduced, &probe->binding, probe->tables, probe->ntables, probe->bound,
                                      probe->nbound, error);
}

struct pj_module pj_probe_reduced(const struct pj_probe *probe)
{
    return (struct pj_module){.name = probe->module->name,
                              .version = probe->module->version,
                              .sources = probe->sources,
                              .options = probe->module->options};
}

static bool is_there(struct pj_probe *probe, const struct pj_source *source)
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
    if (pj_projection_bind_chained(&projection, &module, &tables, probe->tables, probe->ntables, probe->bound,
                                   probe->nbound, &error) != PJ_OK)
        return false;
    pj_projection_free(&projection);
    return true;
}

static void choose_sources(struct pj_probe *probe)
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

static bool try_column(struct pj_probe *probe, int i, const struct pj_column *column)
{
    struct pj_column one[] = {*column, {0}};
    struct pj_module module = pj_probe_reduced(probe);
    struct pj_projection projection;
    struct pj_error error;
    probe->sources[i].columns = one;
    int code = pj_probe_bind(probe, &module, &projection, &error);
    probe->sources[i].columns = NULL;
    if (code == PJ_OK)
        pj_projection_free(&projection);
    else
        pj_probe_found(probe, &error, NULL);
    return code == PJ_OK;
}

/* Of another module's table the columns are those of a key, all or none. */
static void check_chained(struct pj_probe *probe, const struct pj_source *declared)
{
    struct pj_source alone[] = {*declared, {0}};
    struct pj_module module = pj_probe_reduced(probe);
    struct pj_projection projection;
    struct pj_error error;
    module.sources = alone;
    module.target = probe->module->target;
    module.key = probe->module->key;
    module.definition = "SELECT";
    if (pj_probe_bind(probe, &module, &projection, &error) == PJ_OK)
        pj_projection_free(&projection);
    else
        pj_probe_found(probe, &error, NULL);
}

static bool is_chained(const struct pj_probe *probe, const struct pj_source *source)
{
    for (int i = 0; i < probe->nbound; i++) {
        const struct pj_chain_node node = {probe->bound[i].module, &probe->binding};
        char *schema, *table;
        pj_actual_table(&probe->binding, source->table, &schema, &table);
        bool its = pj_chain_is_target(&node, 1, schema, table);
        pj_free(schema);
        pj_free(table);
        if (its)
            return true;
    }
    return false;
}

/* Keys that are there are kept: the type of the target's key is held against theirs. */
static void check_columns(struct pj_probe *probe)
{
    for (int i = 0; i < probe->nsources; i++) {
        const struct pj_source *declared = &probe->module->sources[probe->places[i]];
        const struct pj_column key = {declared->key, PJ_ANY};
        if (is_chained(probe, declared)) {
            check_chained(probe, declared);
            continue;
        }
        for (const struct pj_column *column = declared->columns; column && column->name; column++)
            try_column(probe, i, column);
        if (declared->key && try_column(probe, i, &key))
            probe->sources[i].key = declared->key;
    }
}

/* What the configuration says: options and names that the module does not know. */
static bool check_settings(struct pj_probe *probe)
{
    struct pj_module module = pj_probe_reduced(probe);
    struct pj_projection projection;
    struct pj_error error;
    if (pj_probe_bind(probe, &module, &projection, &error) == PJ_OK) {
        pj_projection_free(&projection);
        return true;
    }
    pj_probe_found(probe, &error, NULL);
    return false;
}

/* ------------------------------------------------------------------------------------------- without databases */

static void check_merge_text(struct pj_probe *probe, const struct pj_stream *stream)
{
    struct pj_error error;
    if (strstr(stream->merge, "{delta}"))
        return;
    pj_error_set(&error, PJ_ECONFIG, "merge of stream %s: {delta} does not occur in it", stream->name);
    pj_error_hint(&error, "it stands for the rows that apply() emitted; a merge without it does the same every time");
    pj_fault_list_add(&probe->report->faults, &error);
}

static void note_costs(struct pj_probe *probe)
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
static void leave_out_columns(struct pj_probe *probe)
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

static void ask(struct pj_probe *probe)
{
    struct pj_error error;
    read_tables(probe);
    if (probe->complete && pj_probe_bind_upstreams(probe, &error) != PJ_OK) {
        pj_probe_found(probe, &error, NULL);
        probe->complete = false;
    }
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
        pj_module_note(probe->report, "definition, merges and indexes were not looked at: a table is not there");
    else
        pj_probe_sql(probe);
}

void pj_module_probe(const struct pj_module *module, const struct pj_binding *binding,
                     const struct pj_module_databases *databases, struct pj_module_report *report)
{
    struct pj_probe probe = {.module = module, .binding = *binding, .databases = databases, .report = report};
    for (int i = 0; i < pj_module_stream_count(module); i++)
        check_merge_text(&probe, &module->streams[i]);
    note_costs(&probe);
    if (databases->write || databases->read) {
        ask(&probe);
        pj_free((void *)(size_t)probe.binding.columns);
    } else {
        pj_module_note(report, "tables, columns and SQL were not looked at: that needs the databases");
    }
    pj_probe_place(&probe);
    if (probe.tables)
        pj_source_tables_free(probe.tables, probe.ntables);
    pj_probe_free_upstreams(&probe);
    pj_free(probe.sources);
    pj_free(probe.places);
}
