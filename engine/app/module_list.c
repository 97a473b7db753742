/* `module list`: what is in the module directory, what the catalog has, and how the two relate. */
#include "app/deployment.h"
#include "app/module.h"
#include "app/scope.h"
#include "base/mem.h"
#include "core/guilty.h"

#include <jansson.h>
#include <stdio.h>
#include <string.h>

static int read_rows(struct pj_session *read, PGresult **rows, struct pj_error *error)
{
    return pj_session_query(
        read, rows,
        "SELECT p.name, p.module_version, p.state, coalesce(p.reason, ''), "
        "CASE WHEN state <> 'retired' OR pg_catalog.to_regclass(pg_catalog.quote_ident(target_schema) || '.' || "
        "pg_catalog.quote_ident(target_table)) IS NOT NULL "
        "THEN pg_catalog.quote_ident(target_schema) || '.' || pg_catalog.quote_ident(target_table) END, "
        "coalesce((SELECT c.reltuples::bigint FROM pg_catalog.pg_class c WHERE c.oid = pg_catalog.to_regclass("
        "pg_catalog.quote_ident(target_schema) || '.' || pg_catalog.quote_ident(target_table))), -1), "
        "coalesce((SELECT r.kind || ' ' || r.state FROM pgprojector.request r WHERE r.name = p.name "
        "AND r.state IN ('waiting', 'running')), '') FROM pgprojector.projection p ORDER BY p.name",
        0, NULL, error);
}

static int row_of(const PGresult *rows, const char *name)
{
    for (int i = 0; i < PQntuples(rows); i++)
        if (strcmp(PQgetvalue(rows, i, 0), name) == 0)
            return i;
    return -1;
}

static json_t *text_or_null(const char *text)
{
    return *text ? json_string(text) : json_null();
}

static void add_row(json_t *entry, const PGresult *rows, int row)
{
    long long tuples = strtoll(PQgetvalue(rows, row, 5), NULL, 10);
    json_object_set_new(entry, "recorded", json_integer(strtoll(PQgetvalue(rows, row, 1), NULL, 10)));
    json_object_set_new(entry, "state", json_string(PQgetvalue(rows, row, 2)));
    json_object_set_new(entry, "reason", text_or_null(PQgetvalue(rows, row, 3)));
    json_object_set_new(entry, "table", text_or_null(PQgetvalue(rows, row, 4)));
    json_object_set_new(entry, "rows", tuples < 0 ? json_null() : json_integer(tuples));
    json_object_set_new(entry, "request", text_or_null(PQgetvalue(rows, row, 6)));
}

/* Where this very file has taken the daemon along: no table is built by it unless `module add` asks. */
static void add_guilt(json_t *entry, const struct pj_deployed_module *module, const struct pj_loaded_module *loaded,
                      struct pj_session *read)
{
    struct pj_error ignored;
    char *what;
    struct pj_module_mark mark = pj_module_mark(loaded->image, &module->binding);
    if (pj_guilty_of(read, pj_deployed_name(module).text, mark.text, &what, &ignored) == PJ_OK && what)
        json_object_set_new(entry, "error", json_string(what));
    pj_free(what);
}

static json_t *describe_file(const struct pj_deployed_module *module, const PGresult *rows, struct pj_session *read)
{
    struct pj_module_name name = pj_deployed_name(module);
    struct pj_loaded_module loaded;
    struct pj_error error;
    int row = row_of(rows, name.text);
    json_t *entry = json_pack("{s:s,s:s}", "name", name.text, "file", module->path);
    if (pj_module_load(&loaded, module->path, &error) == PJ_OK) {
        json_object_set_new(entry, "version", json_integer(loaded.module->version));
        json_object_set_new(entry, "state", json_string(loaded.module->target ? "new" : "mirrors only"));
        add_guilt(entry, module, &loaded, read);
    } else {
        json_object_set_new(entry, "version", json_null());
        json_object_set_new(entry, "state", json_string("broken"));
        json_object_set_new(entry, "error", json_string(error.message));
    }
    pj_module_unload(&loaded);
    if (row >= 0)
        add_row(entry, rows, row);
    return entry;
}

static json_t *gather(const struct pj_deployment *deployment, const PGresult *rows, struct pj_session *read)
{
    json_t *list = json_array();
    for (int i = 0; i < deployment->nmodules; i++)
        json_array_append_new(list, describe_file(&deployment->modules[i], rows, read));
    for (int row = 0; row < PQntuples(rows); row++) {
        const char *name = PQgetvalue(rows, row, 0);
        if (pj_deployment_find(deployment, name, false))
            continue;
        json_t *entry = json_pack("{s:s,s:n,s:n}", "name", name, "file", "version");
        add_row(entry, rows, row);
        json_array_append_new(list, entry);
    }
    return list;
}

static const char *field(const json_t *entry, const char *key)
{
    const char *text = json_string_value(json_object_get(entry, key));
    return text ? text : "-";
}

static void number(const json_t *entry, const char *key, char text[24])
{
    const json_t *value = json_object_get(entry, key);
    snprintf(text, 24, "-");
    if (json_is_integer(value))
        snprintf(text, 24, "%lld", (long long)json_integer_value(value));
}

static void print(const json_t *list)
{
    size_t i;
    json_t *entry;
    printf("%-30s %7s %8s  %-12s %-36s %12s\n", "MODULE", "VERSION", "RECORDED", "STATE", "TABLE", "ROWS (ABOUT)");
    json_array_foreach(list, i, entry)
    {
        char version[24], recorded[24], rows[24];
        number(entry, "version", version);
        number(entry, "recorded", recorded);
        number(entry, "rows", rows);
        printf("%-30s %7s %8s  %-12s %-36s %12s\n", field(entry, "name"), version, recorded, field(entry, "state"),
               field(entry, "table"), rows);
        if (json_is_string(json_object_get(entry, "request")))
            printf("    %s\n", field(entry, "request"));
        if (json_is_string(json_object_get(entry, "reason")))
            printf("    %s\n", field(entry, "reason"));
        if (json_is_string(json_object_get(entry, "error")))
            printf("    %s\n", field(entry, "error"));
    }
}

int pj_module_list_command(struct pj_app *app, struct pj_error *error)
{
    struct pj_deployment deployment = {0};
    struct pj_session *read = NULL;
    PGresult *rows = NULL;
    int code = pj_app_configure(app, error);
    if (code == PJ_OK)
        code = pj_deployment_make(&deployment, &app->config, error);
    if (code == PJ_OK)
        code = pj_scope_connect(app, "module", &read, error);
    if (code == PJ_OK)
        code = read_rows(read, &rows, error);
    if (code == PJ_OK) {
        json_t *list = gather(&deployment, rows, read);
        if (app->options.json) {
            json_dumpf(list, stdout, JSON_INDENT(2));
            putchar('\n');
        } else {
            print(list);
        }
        json_decref(list);
    }
    PQclear(rows);
    pj_session_close(read);
    pj_deployment_free(&deployment);
    return code;
}
