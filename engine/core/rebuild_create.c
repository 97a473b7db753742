/*
 * A projection's table where there is none: dropped by somebody, or of a module that was added later. No daemon may
 * run, for one that does has another list of projections in memory; its lock is held meanwhile, and the checkpoint
 * row's, so that the table is filled at the commit where the mirrors stand. One transaction: it is there and right, or
 * nothing has changed.
 */
#include "base/mem.h"
#include "core/catalog.h"
#include "core/chainwork.h"
#include "core/rebuild.h"

static int is_missing(struct pj_mend *mend, bool *missing, struct pj_error *error)
{
    const char *params[] = {mend->projection->name, mend->projection->target_sql};
    PGresult *result;
    int code = pj_session_query_row(mend->job.session, &result,
                                    "SELECT pg_catalog.to_regclass($2) IS NULL OR NOT EXISTS "
                                    "(SELECT FROM pgprojector.projection WHERE name = $1)",
                                    2, params, error);
    *missing = code == PJ_OK && PQgetvalue(result, 0, 0)[0] == 't';
    PQclear(result);
    return code;
}

static int keep_daemons_away(struct pj_session *look, struct pj_error *error)
{
    bool mine;
    char *holder;
    int code = pj_catalog_lock_without_daemon(look, &mine, &holder, error);
    if (code == PJ_OK && !mine) {
        code = pj_error_set(error, PJ_EFAIL, "its table is not there, and a daemon is running: %s",
                            holder ? holder : "unknown");
        pj_error_hint(error, "stop it, rebuild, start it");
    }
    pj_free(holder);
    return code;
}

/* What was noted of keys is in what the table was filled from. */
static int make_live(struct pj_session *work, const struct pj_projection *projection, struct pj_error *error)
{
    static const char *const statements[] = {
        "UPDATE pgprojector.projection SET state = 'live', since = pg_catalog.now(), reason = NULL WHERE name = $1",
        "DELETE FROM pgprojector.dirty_key WHERE projection = $1",
        "DELETE FROM pgprojector.dead_letter WHERE projection = $1",
    };
    const char *name = projection->name;
    int code = PJ_OK;
    for (size_t i = 0; code == PJ_OK && i < sizeof statements / sizeof *statements; i++) {
        PGresult *result;
        code = pj_session_query(work, &result, statements[i], 1, &name, error);
        PQclear(result);
    }
    return code == PJ_OK ? pj_keywork_changed(work, error) : code;
}

static int create(struct pj_session *work, struct pj_projection *projection, struct pj_error *error)
{
    pj_lsn lsn;
    int code = pj_keywork_begin(work, &lsn, error);
    if (code != PJ_OK)
        return code;
    code = pj_projection_create_mirror_indexes(work, projection, error);
    if (code == PJ_OK)
        code = pj_projection_create_target(work, projection, error);
    int64_t parked; /* none, within a transaction */
    if (code == PJ_OK)
        code = pj_projection_fill_target(work, projection, &parked, error);
    if (code == PJ_OK)
        code = make_live(work, projection, error);
    if (code == PJ_OK)
        code = pj_chainwork_all(work, projection, error);
    return pj_keywork_end(work, code, error);
}

int pj_rebuild_create_missing(struct pj_mend *mend, struct pj_projection *projection, bool *created,
                              struct pj_error *error)
{
    int code = is_missing(mend, created, error);
    if (code != PJ_OK || !*created)
        return code;
    const char *name = projection->name;
    code = keep_daemons_away(mend->job.session, error);
    if (code == PJ_OK)
        code = pj_job_begin(&mend->job, "rebuild", name, error);
    if (code == PJ_OK)
        code = pj_job_phase(&mend->job, "filling", -1, error);
    if (code == PJ_OK)
        code = create(mend->work, projection, error);
    pj_job_end(&mend->job);
    return code == PJ_OK ? PJ_OK : pj_error_wrap(error, "rebuild %s", name);
}
