/*
 * For `module check`: whether the target's place is free. Its name must be nobody else's where the module is to be deployed:
 * no table that it reads itself, no mirror, no other module's target, none that somebody else made; and its schema must be
 * there. All of that would be refused when the module is added, or at a first start.
 */
#include "app/deployment.h"
#include "app/module_probe.h"
#include "base/mem.h"
#include "core/chain.h"
#include "core/projection_sql.h"

#include <glob.h>
#include <string.h>

struct place {
    struct pj_probe *probe;
    char *schema, *table;
};

#define TAKEN(place, hint, ...)                                                                                        \
    do {                                                                                                               \
        struct pj_error fault;                                                                                         \
        pj_error_set(&fault, PJ_ECONFIG, __VA_ARGS__);                                                                 \
        pj_error_hint(&fault, "%s", hint);                                                                             \
        pj_fault_list_add(&(place)->probe->report->faults, &fault);                                                    \
    } while (0)

static const char another[] = "give the target another name";

/* Whether the module reads the table of that name. */
static bool reads(const struct place *place, const struct pj_module *module, const struct pj_binding *binding)
{
    bool found = false;
    for (const struct pj_source *source = module->sources; source->table && !found; source++) {
        char *schema, *table;
        pj_actual_table(binding, source->table, &schema, &table);
        found = strcmp(schema, place->schema) == 0 && strcmp(table, place->table) == 0;
        pj_free(schema);
        pj_free(table);
    }
    return found;
}

/* ---------------------------------------------------------------------------------------------------- other modules */

static void ask_module(struct place *place, const char *path)
{
    const struct pj_module_databases *databases = place->probe->databases;
    struct pj_loaded_module other;
    struct pj_binding binding;
    struct pj_error ignored;
    if (pj_module_load(&other, path, &ignored) != PJ_OK)
        return; /* its own matter */
    pj_deployment_bind(databases->config, path, &binding);
    const struct pj_chain_node node = {other.module, &binding};
    if (strcmp(other.module->name, place->probe->module->name) != 0 &&
        pj_chain_is_target(&node, 1, place->schema, place->table))
        TAKEN(place, another, "target %s.%s is the table of module %s, too (%s)", place->schema, place->table,
              other.module->name, path);
    pj_binding_free(&binding);
    pj_module_unload(&other);
}

/* Of those that are deployed: the first of the directories. */
static void ask_modules(struct place *place)
{
    const struct pj_module_databases *databases = place->probe->databases;
    if (!databases->directories || !databases->directories[0])
        return;
    char *pattern = pj_sprintf("%s/*.so", databases->directories[0]);
    glob_t files = {0};
    glob(pattern, 0, NULL, &files);
    for (size_t i = 0; i < files.gl_pathc; i++)
        ask_module(place, files.gl_pathv[i]);
    globfree(&files);
    pj_free(pattern);
}

/* ----------------------------------------------------------------------------------------------- the read database */

/* Schemas that mirrors need are made with them. */
static bool is_a_mirrors(const struct place *place)
{
    for (int i = 0; i < place->probe->ntables; i++)
        if (strcmp(place->probe->tables[i].schema, place->schema) == 0)
            return true;
    return false;
}

static void say_schema(struct place *place)
{
    struct pj_buf hint = {0};
    pj_buf_puts(&hint, "on the read database: CREATE SCHEMA ");
    pj_quote_identifier(&hint, place->schema);
    pj_buf_puts(&hint, ", with CREATE on it for the role of READ_DATABASE_URL");
    TAKEN(place, pj_buf_text(&hint), "target %s.%s: there is no schema \"%s\" on the read database", place->schema,
          place->table, place->schema);
    pj_buf_free(&hint);
}

/* Who has it by the catalog: "mirror", or the name of a projection; NULL where it is nobody's that we know. To be freed. */
static int find_owner(struct place *place, char **owner, struct pj_error *error)
{
    const char *params[] = {place->schema, place->table};
    struct pj_session *read = place->probe->databases->read;
    PGresult *result;
    bool installed;
    *owner = NULL;
    int code = pj_session_query_row(
        read, &result, "SELECT pg_catalog.to_regclass('pgprojector.projection') IS NOT NULL", 0, NULL, error);
    installed = code == PJ_OK && PQgetvalue(result, 0, 0)[0] == 't';
    PQclear(result);
    if (!installed)
        return code;
    code = pj_session_query(read, &result,
                            "SELECT 'projection ' || name FROM pgprojector.projection WHERE target_schema = $1 "
                            "AND target_table = $2 UNION ALL SELECT 'mirror' FROM pgprojector.mirror "
                            "WHERE schema_name = $1 AND table_name = $2",
                            2, params, error);
    if (code == PJ_OK && PQntuples(result))
        *owner = pj_strdup(PQgetvalue(result, 0, 0));
    PQclear(result);
    return code;
}

static void judge(struct place *place, bool there, const char *owner)
{
    char *own = pj_sprintf("projection %s", place->probe->module->name);
    if (owner && strcmp(owner, "mirror") == 0)
        TAKEN(place, another, "target %s.%s is a mirror", place->schema, place->table);
    else if (owner && strcmp(owner, own) != 0)
        TAKEN(place, another, "target %s.%s is the table of %s", place->schema, place->table, owner);
    else if (there && !owner)
        TAKEN(
            place, "drop or rename it, or give the target another name",
            "target %s.%s: there is already a table of that name on the read database, and pgprojector did not make it",
            place->schema, place->table);
    pj_free(own);
}

static void ask_database(struct place *place)
{
    const char *params[] = {place->schema, place->table};
    struct pj_error error;
    char *owner = NULL;
    PGresult *result;
    int code = pj_session_query_row(
        place->probe->databases->read, &result,
        "SELECT n.oid IS NOT NULL, c.oid IS NOT NULL FROM (VALUES ($1::text, $2::text)) AS v (schema_name, table_name) "
        "LEFT JOIN pg_catalog.pg_namespace n ON n.nspname = v.schema_name "
        "LEFT JOIN pg_catalog.pg_class c ON c.relnamespace = n.oid AND c.relname = v.table_name",
        2, params, &error);
    bool schema = code == PJ_OK && PQgetvalue(result, 0, 0)[0] == 't';
    bool there = code == PJ_OK && PQgetvalue(result, 0, 1)[0] == 't';
    PQclear(result);
    if (code == PJ_OK)
        code = find_owner(place, &owner, &error);
    if (code != PJ_OK)
        pj_probe_found(place->probe, &error, "target");
    else if (!schema && !is_a_mirrors(place))
        say_schema(place);
    else
        judge(place, there, owner);
    pj_free(owner);
}

void pj_probe_place(struct pj_probe *probe)
{
    struct place place = {.probe = probe};
    if (!probe->module->target)
        return;
    pj_name_split(probe->module->target, probe->binding.default_schema, &place.schema, &place.table);
    if (reads(&place, probe->module, &probe->binding)) {
        TAKEN(&place, another, "target %s.%s is a table that the module reads", place.schema, place.table);
    } else {
        ask_modules(&place);
        if (probe->databases->read)
            ask_database(&place);
    }
    pj_free(place.schema);
    pj_free(place.table);
}
