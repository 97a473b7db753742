/*
 * What is to be dropped, and may be open: tables beside that nobody builds any more, tables that a swap has replaced,
 * mirrors that were removed or have never been finished. Each by itself, in short attempts behind which nobody waits
 * (core/table_lock.h). What somebody reads is left to another time, and holds nothing up: it is no part of what anybody
 * has asked for. What others hang on is the operator's, and said in the log.
 */
#include "core/registering_internal.h"

#include "base/clock.h"
#include "core/build.h"
#include "core/joining.h"

int pj_registering_put_off(struct pj_registering *r, const char *what, struct pj_error *error)
{
    struct pj_error cause;
    if (!pj_registering_goes_on_after(r, error))
        return error->code;
    pj_error_set(&cause, error->code, "%s", what); /* the message tells how long somebody has been reading */
    if (pj_causes_news(&r->put_off, &cause, pj_clock_monotonic_us(), 0))
        pj_log_error(r->log, PJ_LOG_WARNING, error);
    r->untidy = r->untidy || error->in_use;
    pj_error_clear(error);
    return PJ_OK;
}

/* `one` of each name that the query gives. */
static int each(struct pj_registering *r, const char *query,
                int (*one)(struct pj_registering *r, const char *name, struct pj_error *error), struct pj_error *error)
{
    PGresult *names;
    int code = pj_session_query(r->look, &names, query, 0, NULL, error);
    for (int i = 0; code == PJ_OK && i < PQntuples(names); i++) {
        code = one(r, PQgetvalue(names, i, 0), error);
        if (code != PJ_OK)
            code = pj_registering_put_off(r, PQgetvalue(names, i, 0), error);
    }
    PQclear(names);
    return code;
}

static int drop_replaced(struct pj_registering *r, const char *name, struct pj_error *error)
{
    return pj_build_drop_replaced(r->work, name, error);
}

/* What a daemon that was killed was building, and nobody asks for any more. */
static const char beside_sql[] = "SELECT pg_catalog.left(p.name, -5) FROM pgprojector.projection p "
                                 "WHERE p.name LIKE '%.next' AND NOT EXISTS (SELECT FROM pgprojector.request r WHERE "
                                 "r.state IN ('waiting', 'running') AND r.name || '.next' = p.name) ORDER BY 1";
static const char replaced_sql[] = "SELECT pg_catalog.left(name, -5) FROM pgprojector.projection "
                                   "WHERE name LIKE '%.kept' AND reason = '" PJ_REPLACED "' ORDER BY 1";

static int drop_unfinished_mirrors(struct pj_registering *r, struct pj_error *error)
{
    int removed;
    r->unfinished = false;
    if (pj_joining_clean(r->work, &removed, error) == PJ_OK)
        return PJ_OK;
    r->unfinished = true;
    return pj_registering_put_off(r, "unfinished mirrors", error);
}

int pj_registering_tidy(struct pj_registering *r, struct pj_error *error)
{
    pj_error_clear(error);
    if (!r->untidy && !r->unfinished)
        return PJ_OK;
    r->untidy = false;
    int code = pj_registering_open(r, error);
    if (code == PJ_OK)
        code = each(r, beside_sql, pj_registering_give_up, error);
    if (code == PJ_OK)
        code = each(r, replaced_sql, drop_replaced, error);
    if (code == PJ_OK)
        code = pj_registering_drop_discarded(r, error);
    if (code == PJ_OK && r->unfinished)
        code = drop_unfinished_mirrors(r, error);
    if (code != PJ_OK)
        r->untidy = true;
    else if (!r->untidy && !r->look_again)
        pj_causes_over(&r->put_off);
    return code;
}
