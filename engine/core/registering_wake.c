/* What stands still, or waits because a table that it reads was replaced: why, and how it is made live again. */
#include "core/registering_internal.h"

#include "base/mem.h"
#include "core/build.h"
#include "core/pause.h"

#include <string.h>

int pj_registering_wake_up(struct pj_registering *r, const char *name, struct pj_error *error)
{
    PGresult *result;
    int code = pj_session_query(r->look, &result,
                                "SELECT pg_catalog.starts_with(reason, '" PJ_STANDS_STILL "') "
                                "FROM pgprojector.projection WHERE name = $1 AND state = 'paused' "
                                "AND (pg_catalog.starts_with(reason, '" PJ_STANDS_STILL "') "
                                "OR pg_catalog.starts_with(reason, '" PJ_CATCHES_UP "'))",
                                1, &name, error);
    bool waits = code == PJ_OK && PQntuples(result) == 1, changed;
    bool still = waits && PQgetvalue(result, 0, 0)[0] == 't';
    PQclear(result);
    const struct pj_projection *projection = waits ? pj_outfit_projection(pj_outfit_in_use(r), name) : NULL;
    if (!projection)
        return code;
    pj_log(r->log, PJ_LOG_INFO,
           still ? "projection %s has its module again: it is made right"
                 : "projection %s: a table that it reads was replaced: it is made right",
           name);
    struct pj_mend mend = pj_registering_mend(r, projection, NULL);
    return pj_resume(&mend, still ? PJ_STANDS_STILL : PJ_CATCHES_UP, &changed, error);
}

bool pj_registering_goes_on_after(const struct pj_registering *r, const struct pj_error *error)
{
    if (error->code == PJ_ESTOPPED)
        return !pj_stop_asked(r->stop);
    if (error->in_use)
        return true;
    return !error->retryable && error->code != PJ_EUNREACHABLE;
}

int pj_registering_stands_still(struct pj_registering *r, bool *yes, struct pj_error *error)
{
    PGresult *result;
    int code = pj_session_query_row(r->look, &result,
                                    "SELECT EXISTS (SELECT FROM pgprojector.projection WHERE state = 'paused' "
                                    "AND pg_catalog.starts_with(reason, '" PJ_STANDS_STILL "'))",
                                    0, NULL, error);
    *yes = code == PJ_OK && PQgetvalue(result, 0, 0)[0] == 't';
    PQclear(result);
    return code;
}

int pj_registering_say_why(struct pj_registering *r, const char *name, const struct pj_error *fault,
                           struct pj_error *error)
{
    char *reason = pj_sprintf(PJ_STANDS_STILL "the module that made its table is not there, and the one that is cannot "
                                              "take its place: %s%s%s",
                              fault->message, *fault->hint ? "; " : "", fault->hint);
    const char *params[] = {name, reason};
    PGresult *result;
    int code = pj_session_query(r->look, &result,
                                "UPDATE pgprojector.projection SET reason = $2 WHERE name = $1 AND state = 'paused' "
                                "AND pg_catalog.starts_with(reason, '" PJ_STANDS_STILL "')",
                                2, params, error);
    if (code == PJ_OK && strcmp(PQcmdTuples(result), "1") == 0)
        pj_log(r->log, PJ_LOG_ERROR, "projection %s %s", name, reason);
    PQclear(result);
    pj_free(reason);
    return code;
}

/* Those that cannot be resumed stay as they are, with their reason. */
int pj_registering_catch_up(struct pj_registering *r, struct pj_error *error)
{
    PGresult *names = NULL;
    pj_error_clear(error);
    int code = pj_registering_open(r, error);
    if (code == PJ_OK)
        code = pj_session_query(r->look, &names,
                                "SELECT name FROM pgprojector.projection WHERE state = 'paused' "
                                "AND (pg_catalog.starts_with(reason, '" PJ_STANDS_STILL "') "
                                "OR pg_catalog.starts_with(reason, '" PJ_CATCHES_UP "')) ORDER BY name",
                                0, NULL, error);
    for (int i = 0; code == PJ_OK && i < PQntuples(names); i++) {
        code = pj_registering_wake_up(r, PQgetvalue(names, i, 0), error);
        if (code == PJ_OK || !pj_registering_goes_on_after(r, error))
            continue;
        pj_log_error(r->log, PJ_LOG_WARNING, error);
        pj_error_clear(error);
        code = PJ_OK;
    }
    PQclear(names);
    return code;
}
