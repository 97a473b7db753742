/*
 * A module that does not serve has nobody who notes what its table misses. So its projection is paused with a reason of
 * its own (PJ_STANDS_STILL), and "everything" is noted as dirty: should the very same module come back, resuming
 * compares the whole table.
 */
#include "core/roster.h"

#include "base/mem.h"
#include "core/keywork.h"

#include <string.h>

/* `why`: what is wrong with its module; NULL: there is none. */
static int stand_still(struct pj_session *read, const char *name, const char *state, const char *why,
                       const struct pj_log *log, struct pj_error *error)
{
    int code = pj_standing_note_everything(read, name, error);
    if (code != PJ_OK || strcmp(state, "paused") == 0)
        return code;
    char *reason =
        pj_sprintf("%s%s", why ? "the module " : "no module of the version and definition that made its table is there",
                   why ? why : "");
    char *full = pj_sprintf(PJ_STANDS_STILL "%s", reason);
    const char *params[] = {name, full};
    PGresult *result;
    if (log)
        pj_log(log, PJ_LOG_WARNING,
               "projection %s stands still: %s; put the module back, or let a new version be built, or remove it: "
               "pgprojector module remove %s",
               name, reason, name);
    code = pj_session_query(read, &result,
                            "UPDATE pgprojector.projection SET state = 'paused', since = pg_catalog.clock_timestamp(), "
                            "reason = $2 WHERE name = $1",
                            2, params, error);
    PQclear(result);
    pj_free(reason);
    pj_free(full);
    return code == PJ_OK ? pj_keywork_changed(read, error) : code;
}

static int stand_still_all(const struct pj_setup *setup, const struct pj_deployment *deployment,
                           struct pj_session *read, const struct pj_log *log, struct pj_error *error)
{
    pj_lsn lsn;
    PGresult *rows = NULL;
    int code = pj_keywork_begin(read, &lsn, error);
    if (code == PJ_OK) /* what is being built is not noted by what begins now: it must not be swapped in */
        code = pj_session_exec(read,
                               "UPDATE pgprojector.projection SET state = 'retired' WHERE state = 'building' "
                               "AND pg_catalog.strpos(name, '.') > 0",
                               error);
    if (code == PJ_OK) /* names with a dot are tables beside others */
        code = pj_session_query(read, &rows,
                                "SELECT name, state FROM pgprojector.projection WHERE state IN ('live', 'failing', "
                                "'paused') AND pg_catalog.strpos(name, '.') = 0",
                                0, NULL, error);
    for (int i = 0; code == PJ_OK && i < PQntuples(rows); i++)
        if (!pj_setup_projection(setup, PQgetvalue(rows, i, 0)))
            code = stand_still(read, PQgetvalue(rows, i, 0), PQgetvalue(rows, i, 1),
                               pj_deployment_why_left_out(deployment, PQgetvalue(rows, i, 0)), log, error);
    PQclear(rows);
    return pj_keywork_end(read, code, error);
}

int pj_roster_stand_still(const struct pj_setup *setup, const struct pj_deployment *deployment, struct pj_session *read,
                          const struct pj_log *log, struct pj_error *error)
{
    int code = stand_still_all(setup, deployment, read, log, error);
    return code == PJ_OK ? PJ_OK : pj_error_wrap(error, "projections without a module");
}
