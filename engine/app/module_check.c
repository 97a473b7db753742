/* `module check`: everything that is wrong with the modules named, each as far as it can be looked at. */
#include "app/deployment.h"
#include "app/module.h"
#include "base/mem.h"

#include <jansson.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { STEP_TIMEOUT_MS = 60000 };

struct check_run {
    struct pj_app *app;
    struct pj_module_databases databases;
    struct pj_fault_list unreachable; /* why a database is not to be had */
    json_t *modules;                  /* with --json */
    json_t *seen;                     /* "module NAME" and "table NAME" to the file that has it */
    int count, faulty, faults;
    bool quiet; /* only faults are worth a word */
};

void pj_module_note(struct pj_module_report *report, const char *format, ...)
{
    char text[2048];
    va_list args;
    va_start(args, format);
    vsnprintf(text, sizeof text, format, args);
    va_end(args);
    struct pj_error note;
    pj_error_set(&note, PJ_OK, "%s", text);
    pj_fault_list_add(&report->notes, &note);
}

/* ------------------------------------------------------------------------------------------------------- databases */

static void open_side(struct check_run *run, enum pj_side side, struct pj_session **session)
{
    struct pj_error error;
    enum pj_setting_id url = side == PJ_WRITE ? PJ_SET_WRITE_URL : PJ_SET_READ_URL;
    if (!pj_config_get(&run->app->config, url))
        pj_error_set(&error, PJ_OK, "%s is not set", pj_setting_info(url)->variable);
    else if (pj_app_connect(run->app, side, "module check", STEP_TIMEOUT_MS, session, &error) == PJ_OK)
        return;
    pj_fault_list_add(&run->unreachable, &error);
}

/* ---------------------------------------------------------------------------------------------------- two of a kind */

static void check_unique(struct check_run *run, const char *kind, const char *name, struct pj_module_report *report)
{
    char *key = pj_sprintf("%s %s", kind, name);
    const char *other = json_string_value(json_object_get(run->seen, key));
    if (other && strcmp(other, report->path) != 0) {
        struct pj_error error;
        pj_error_set(&error, PJ_ECONFIG, "%s is also in %s", key, other);
        pj_error_hint(&error, "only one of them can be deployed");
        pj_fault_list_add(&report->faults, &error);
    }
    json_object_set_new(run->seen, key, json_string(report->path));
    pj_free(key);
}

/* -------------------------------------------------------------------------------------------------------- reporting */

static void print_list(const struct pj_fault_list *list, const char *word)
{
    for (int i = 0; i < list->count; i++) {
        printf("  %-6s %s\n", word, list->faults[i].message);
        if (list->faults[i].hint[0])
            printf("         remedy: %s\n", list->faults[i].hint);
    }
}

static json_t *list_json(const struct pj_fault_list *list)
{
    json_t *json = json_array();
    for (int i = 0; i < list->count; i++) {
        const struct pj_error *error = &list->faults[i];
        json_array_append_new(json, json_pack("{s:s,s:o}", "message", error->message, "remedy",
                                              error->hint[0] ? json_string(error->hint) : json_null()));
    }
    return json;
}

static void report_module(struct check_run *run, const struct pj_module_report *report)
{
    run->count++;
    run->faulty += report->faults.count > 0;
    run->faults += report->faults.count;
    if (run->quiet && !report->faults.count)
        return;
    if (run->app->options.json) {
        json_array_append_new(run->modules, json_pack("{s:s,s:o,s:o}", "file", report->path, "faults",
                                                      list_json(&report->faults), "notes", list_json(&report->notes)));
        return;
    }
    if (report->faults.count)
        printf("%s: %d fault%s\n", report->path, report->faults.count, report->faults.count == 1 ? "" : "s");
    else
        printf("%s: no fault\n", report->path);
    print_list(&report->faults, "fault:");
    print_list(&report->notes, "note:");
}

static void conclude(struct check_run *run)
{
    if (!run->app->options.json) {
        printf("%d module%s checked, %d with faults\n", run->count, run->count == 1 ? "" : "s", run->faulty);
        return;
    }
    json_t *json = json_pack("{s:i,s:i,s:i,s:O}", "checked", run->count, "faulty", run->faulty, "faults", run->faults,
                             "modules", run->modules);
    json_dumpf(json, stdout, JSON_INDENT(2));
    putchar('\n');
    json_decref(json);
}

/* -------------------------------------------------------------------------------------------------------- checking */

static void check_loaded(struct check_run *run, const struct pj_loaded_module *loaded, struct pj_module_report *report)
{
    struct pj_binding binding;
    check_unique(run, "module", loaded->module->name, report);
    if (loaded->module->target)
        check_unique(run, "table", loaded->module->target, report);
    for (int i = 0; i < run->unreachable.count; i++)
        pj_fault_list_add(&report->notes, &run->unreachable.faults[i]);
    pj_deployment_bind(&run->app->config, loaded->path, &binding);
    pj_module_probe(loaded->module, &binding, &run->databases, report);
    pj_binding_free(&binding);
}

static void check_file(struct check_run *run, const char *name)
{
    char *path = pj_module_file(run->app, name);
    struct pj_module_report report = {.path = path};
    struct pj_loaded_module loaded = {0};
    pj_module_inspect(&loaded, path, &report.faults);
    if (report.faults.fatal || !loaded.module)
        pj_module_note(&report, "its tables and its SQL were not looked at: what is above comes first");
    else
        check_loaded(run, &loaded, &report);
    report_module(run, &report);
    pj_module_unload(&loaded);
    pj_fault_list_free(&report.faults);
    pj_fault_list_free(&report.notes);
    pj_free(path);
}

/* Whose tables may be read: what is in the module directory, and what lies beside those that are checked. */
static void find_directories(struct check_run *run)
{
    struct pj_app *app = run->app;
    int count = 0;
    char **directories = pj_alloc(sizeof *directories * (size_t)(app->noperands + 1));
    directories[count++] = pj_deployment_module_dir(&app->config);
    for (int i = 1; i < app->noperands; i++) {
        char *path = pj_module_file(app, app->operands[i]);
        const char *slash = strrchr(path, '/');
        char *directory = slash ? pj_strndup(path, (size_t)(slash - path)) : pj_strdup(".");
        bool new = true;
        for (int j = 0; j < count; j++)
            new = new &&strcmp(directories[j], directory) != 0;
        if (new)
            directories[count++] = directory;
        else
            pj_free(directory);
        pj_free(path);
    }
    directories[count] = NULL;
    run->databases.directories = directories;
    run->databases.config = &app->config;
}

static void free_directories(struct check_run *run)
{
    for (char **directory = run->databases.directories; directory && *directory; directory++)
        pj_free(*directory);
    pj_free(run->databases.directories);
}

int pj_module_check_quietly(struct pj_app *app, struct pj_error *error)
{
    struct check_run run = {.app = app, .modules = json_array(), .seen = json_object(), .quiet = true};
    for (int i = 1; i < app->noperands; i++) {
        char *path = pj_module_file(app, app->operands[i]);
        if (access(path, F_OK) == 0) /* the daemon may be on another machine */
            check_file(&run, app->operands[i]);
        pj_free(path);
    }
    pj_fault_list_free(&run.unreachable);
    json_decref(run.modules);
    json_decref(run.seen);
    if (!run.faults)
        return PJ_OK;
    pj_error_set(error, PJ_ECONFIG, "%d module%s with faults: nothing was added", run.faulty,
                 run.faulty == 1 ? "" : "s");
    return pj_error_hint(error, "mend them; `pgprojector module check` names them again");
}

int pj_module_check_command(struct pj_app *app, struct pj_error *error)
{
    struct check_run run = {.app = app, .modules = json_array(), .seen = json_object()};
    int code = pj_config_read(&app->config, getenv, error); /* not resolved: a URL may be missing */
    if (code == PJ_OK) {
        find_directories(&run);
        open_side(&run, PJ_WRITE, &run.databases.write);
        open_side(&run, PJ_READ, &run.databases.read);
        for (int i = 1; i < app->noperands; i++)
            check_file(&run, app->operands[i]);
        conclude(&run);
    }
    if (code == PJ_OK && run.faults)
        code = PJ_EFAIL; /* the list has said it all: no message */
    free_directories(&run);
    pj_session_close(run.databases.write);
    pj_session_close(run.databases.read);
    pj_fault_list_free(&run.unreachable);
    json_decref(run.modules);
    json_decref(run.seen);
    return code;
}
