/* `pgprojector module`: the author's kit (new, check, test, record) and registering (add, remove, list). */
#ifndef PJ_APP_MODULE_H
#define PJ_APP_MODULE_H

#include "app/app.h"
#include "core/projection.h"

/* Sub-commands; their operands are app->operands, from the second on. */
int pj_module_new_command(struct pj_app *app, struct pj_error *error);
int pj_module_check_command(struct pj_app *app, struct pj_error *error);
int pj_module_test_command(struct pj_app *app, struct pj_error *error);
int pj_module_record_command(struct pj_app *app, struct pj_error *error);
int pj_module_add_command(struct pj_app *app, struct pj_error *error);
int pj_module_remove_command(struct pj_app *app, struct pj_error *error);
int pj_module_list_command(struct pj_app *app, struct pj_error *error);

/* `module check` of the operands' files, as far as they are here and without the databases, which says something
 * only where there are faults: then PJ_ECONFIG. */
int pj_module_check_quietly(struct pj_app *app, struct pj_error *error);

/* The file of a module: as given where it is a path (has a slash or ends with .so), else NAME.so in the module
 * directory, or among the examples beside it. To be freed. */
char *pj_module_file(const struct pj_app *app, const char *name);

/* ----------------------------------------------------------------------------------------------------------- check */

/* What was found of one module. Faults are errors; notes are things to know, or what could not be looked at. */
struct pj_module_report {
    const char *path; /* as given */
    struct pj_fault_list faults, notes;
};

struct pj_module_databases {
    struct pj_session *write, *read; /* NULL: not to be had */
    char **directories;              /* where modules lie whose tables it may read; ends with NULL; NULL: nowhere */
    const struct pj_config *config;  /* by which those are bound */
};

/* Holds a loaded module against the databases: tables, columns, definition, merges, indexes. Changes nothing: what
 * it makes on the read database is temporary, and rolled back. */
void pj_module_probe(const struct pj_module *module, const struct pj_binding *binding,
                     const struct pj_module_databases *databases, struct pj_module_report *report);

void pj_module_note(struct pj_module_report *report, const char *format, ...) __attribute__((format(printf, 2, 3)));

#endif
