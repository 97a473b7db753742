/* `slot`: the replication slot of this deployment, shown; or dropped, where the deployment is to end. */
#include "app/app.h"
#include "app/status.h"

#include <stdio.h>
#include <string.h>

enum { TIMEOUT_MS = 30000 };

static int no_slot_yet(struct pj_error *error)
{
    pj_error_set(error, PJ_EUNHEALTHY, "nothing has been started yet: there is no slot");
    return pj_error_hint(error, "start the daemon: pgprojector run");
}

/* What kept us from knowing, if anything did. */
static int check_sides(const struct pj_status *status, struct pj_error *error)
{
    const struct pj_status_side *side = status->read.code == PJ_OK ? &status->write : &status->read;
    if (side->code != PJ_OK)
        return pj_error_set(error, side->code, "%s", side->error);
    return status->slot_name[0] ? PJ_OK : no_slot_yet(error);
}

static int conclude(const struct pj_status *status, struct pj_error *error)
{
    const struct pj_slot *slot = &status->slot;
    if (!slot->exists) {
        pj_error_set(error, PJ_EUNHEALTHY, "slot %s does not exist on the write database", status->slot_name);
        return pj_error_hint(error, "pgprojector resync makes it anew, with a new snapshot");
    }
    if (strcmp(slot->wal_status, "lost") == 0) {
        pj_error_set(error, PJ_EUNHEALTHY, "slot %s is lost: the server has removed WAL that it needs",
                     status->slot_name);
        return pj_error_hint(error, "pgprojector resync makes it anew, with a new snapshot");
    }
    return PJ_OK;
}

static int show(const struct pj_app *app, struct pj_error *error)
{
    struct pj_status status;
    pj_status_gather(app, &status);
    int code = check_sides(&status, error);
    if (code == PJ_OK && app->options.json) {
        json_t *json = pj_status_slot_json(&status);
        json_dumpf(json, stdout, JSON_INDENT(2));
        putchar('\n');
        json_decref(json);
    } else if (code == PJ_OK && status.slot.exists) {
        pj_status_print_slot(&status);
        printf("%-12s plugin %s, database %s\n", "", status.slot.plugin, status.slot.database);
        printf("%-12s restart %s, confirmed %s, applied %s\n", "", PJ_LSN(status.slot.restart),
               PJ_LSN(status.slot.confirmed_flush), PJ_LSN(status.checkpoint.lsn));
    }
    if (code == PJ_OK)
        code = conclude(&status, error);
    pj_status_free(&status);
    return code;
}

/* Ours are made with our plugin, in the database that is connected to; another's is not touched. */
static int drop_ours(struct pj_session *write, const char *name, struct pj_error *error)
{
    struct pj_slot slot;
    int code = pj_slot_read(write, name, &slot, error);
    if (code != PJ_OK)
        return code;
    if (!slot.exists) {
        printf("slot %s does not exist on the write database\n", name);
        return PJ_OK;
    }
    if (strcmp(slot.plugin, "wal2json") != 0 || strcmp(slot.database, PQdb(pj_session_conn(write))) != 0)
        return pj_error_set(error, PJ_ECONFIG,
                            "slot %s is of plugin %s in database %s: it was not made by this deployment", name,
                            slot.plugin, slot.database);
    if (slot.active) {
        pj_error_set(error, PJ_EFAIL, "slot %s is in use by pid %d of the write database", name, slot.active_pid);
        return pj_error_hint(error, "stop the daemon first");
    }
    code = pj_slot_drop(write, name, false, error);
    if (code == PJ_OK)
        printf("slot %s is dropped, and holds back no WAL; the tables of the read database stay as they are. A daemon "
               "that is started again halts; pgprojector resync takes it up, with a new snapshot\n",
               name);
    return code;
}

static int drop(const struct pj_app *app, struct pj_error *error)
{
    struct pj_session *read = NULL, *write = NULL;
    struct pj_checkpoint checkpoint = {0};
    bool installed = false;
    int code = pj_app_connect(app, PJ_READ, "slot", TIMEOUT_MS, &read, error);
    if (code == PJ_OK)
        code = pj_catalog_read(read, &checkpoint, &installed, error);
    if (code == PJ_OK && !checkpoint.slot[0])
        code = no_slot_yet(error);
    if (code == PJ_OK)
        code = pj_app_connect(app, PJ_WRITE, "slot", TIMEOUT_MS, &write, error);
    if (code == PJ_OK)
        code = drop_ours(write, checkpoint.slot, error);
    pj_session_close(write);
    pj_session_close(read);
    return code;
}

int pj_slot_command(struct pj_app *app, struct pj_error *error)
{
    const char *what = app->noperands ? app->operands[0] : "show";
    if (strcmp(what, "show") == 0)
        return show(app, error);
    if (strcmp(what, "drop") == 0)
        return drop(app, error);
    pj_error_set(error, PJ_ECONFIG, "\"%.60s\" is nothing that can be done with a slot", what);
    return pj_error_hint(error, "pgprojector slot [show|drop]");
}
