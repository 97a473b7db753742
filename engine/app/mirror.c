/*
 * `mirror refresh`: the mirrors get the columns that their sources have gained. These have values in rows that no change
 * brings any more, so a resync follows, in the same run: it holds the daemon's lock by then, and what a mirror has been
 * given is kept from that commit on. Killed in between, the mirror has columns that the daemon passes over, as before.
 */
#include "app/app.h"
#include "app/deployment.h"
#include "app/start.h"
#include "base/mem.h"
#include "core/mirror_refresh.h"
#include "core/setup.h"

#include <stdio.h>
#include <string.h>

enum { TIMEOUT_MS = 30000 };

/* "messages", or "public.messages". */
static bool is_called(const struct pj_table *table, const char *name)
{
    size_t schema = strlen(table->schema);
    return strcmp(table->name, name) == 0 || (strncmp(table->schema, name, schema) == 0 && name[schema] == '.' &&
                                              strcmp(table->name, name + schema + 1) == 0);
}

static bool is_wanted(const struct pj_app *app, const struct pj_table *table)
{
    bool wanted = app->noperands == 1; /* no table is named: all */
    for (int i = 1; i < app->noperands; i++)
        wanted = wanted || is_called(table, app->operands[i]);
    return wanted;
}

static int check_names(const struct pj_app *app, const struct pj_setup *setup, struct pj_error *error)
{
    for (int i = 1; i < app->noperands; i++) {
        bool known = false;
        for (int t = 0; t < setup->ntables; t++)
            known = known || is_called(&setup->tables[t], app->operands[i]);
        if (!known) {
            pj_error_set(error, PJ_ECONFIG, "\"%.100s\" is not a mirrored table", app->operands[i]);
            return pj_error_hint(error, "`pgprojector status` lists them");
        }
    }
    return PJ_OK;
}

/* The tables as they are on the source, with all their columns. */
static int each_table(const struct pj_app *app, struct pj_session *write, struct pj_session *read,
                      int (*work)(void *context, struct pj_session *write, struct pj_session *read,
                                  const struct pj_table *table, struct pj_error *error),
                      void *context, struct pj_error *error)
{
    struct pj_deployment deployment = {0};
    struct pj_setup setup = {0};
    int code = pj_deployment_make(&deployment, &app->config, error);
    if (code == PJ_OK)
        code = pj_setup_open(&setup, &deployment, write, NULL, error);
    if (code == PJ_OK)
        code = check_names(app, &setup, error);
    for (int i = 0; code == PJ_OK && i < setup.ntables; i++)
        if (is_wanted(app, &setup.tables[i]))
            code = work(context, write, read, &setup.tables[i], error);
    pj_setup_close(&setup);
    pj_deployment_free(&deployment);
    return code;
}

/* ---------------------------------------------------------------------------------------------- what there is to do */

static int show(void *context, struct pj_session *write, struct pj_session *read, const struct pj_table *table,
                struct pj_error *error)
{
    int *count = context;
    PGresult *gained;
    (void)write;
    int code = pj_mirror_gained(read, table, &gained, error);
    for (int row = 0; code == PJ_OK && row < PQntuples(gained); row++, ++*count)
        printf("%s.%s: column %s is new\n", table->schema, table->name, PQgetvalue(gained, row, 0));
    PQclear(gained);
    return code;
}

static int look(const struct pj_app *app, int *count, struct pj_error *error)
{
    struct pj_session *write = NULL, *read = NULL;
    *count = 0;
    int code = pj_app_connect(app, PJ_READ, "mirror", TIMEOUT_MS, &read, error);
    if (code == PJ_OK)
        code = pj_start_require_complete(read, error);
    if (code == PJ_OK)
        code = pj_app_connect(app, PJ_WRITE, "mirror", TIMEOUT_MS, &write, error);
    if (code == PJ_OK)
        code = each_table(app, write, read, show, count, error);
    pj_session_close(write);
    pj_session_close(read);
    return code;
}

/* -------------------------------------------------------------------------------------------------------- doing it */

static int refresh_table(void *context, struct pj_session *write, struct pj_session *read, const struct pj_table *table,
                         struct pj_error *error)
{
    (void)context;
    return pj_mirror_refresh(write, read, table, error);
}

/* Within the resync, once it has the daemon's lock. */
static int refresh(void *context, struct pj_session *write, struct pj_session *read, struct pj_error *error)
{
    return each_table(context, write, read, refresh_table, NULL, error);
}

int pj_mirror_command(struct pj_app *app, struct pj_error *error)
{
    if (!app->noperands || strcmp(app->operands[0], "refresh") != 0) {
        pj_error_set(error, PJ_ECONFIG, "what about the mirrors?");
        return pj_error_hint(error, "pgprojector mirror refresh [TABLE ...]");
    }
    int count;
    int code = look(app, &count, error);
    if (code == PJ_OK && !count)
        puts("no mirror lacks a column of its source");
    return code == PJ_OK && count ? pj_resync_after(app, refresh, app, error) : code;
}
