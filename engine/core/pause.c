/*
 * See pause.h. Resuming goes in the rounds of core/catchup.h: what was noted is recomputed until little is left, then
 * the rest together with the change of state, in one transaction.
 */
#include "core/pause.h"

#include "core/catchup.h"

#include <stdio.h>
#include <string.h>

/* ---------------------------------------------------------------------------------------------------------- states */

/* Within a transaction. "" where there is no such projection. */
static int read_state(struct pj_session *session, const char *name, char state[16], struct pj_error *error)
{
    PGresult *result;
    int code =
        pj_session_query(session, &result, "SELECT state FROM pgprojector.projection WHERE name = $1", 1, &name, error);
    bool found = code == PJ_OK && PQntuples(result) == 1;
    snprintf(state, 16, "%s", found ? PQgetvalue(result, 0, 0) : "");
    PQclear(result);
    if (code != PJ_OK || found)
        return code;
    pj_error_set(error, PJ_ECONFIG, "there is no projection \"%.60s\"", name);
    return pj_error_hint(error, "`pgprojector status` lists them");
}

static int set_state(struct pj_session *work, const char *name, const char *state, struct pj_error *error)
{
    const char *params[] = {name, state};
    PGresult *result;
    int code = pj_session_query(
        work, &result,
        "UPDATE pgprojector.projection SET state = $2, since = pg_catalog.clock_timestamp(), reason = NULL, "
        "apply_off = false WHERE name = $1",
        2, params, error);
    PQclear(result);
    return code == PJ_OK ? pj_keywork_changed(work, error) : code;
}

static int wrong_state(const char *name, const char *state, struct pj_error *error)
{
    pj_error_set(error, PJ_EFAIL, "it is %s", state);
    return strcmp(state, "retired") == 0 ? pj_error_hint(error, "`pgprojector module add %s` takes it up again", name)
                                         : error->code;
}

/* ----------------------------------------------------------------------------------------------------------- pause */

static int pause_locked(struct pj_session *work, const char *name, bool *changed, struct pj_error *error)
{
    char state[16];
    int code = read_state(work, name, state, error);
    if (code != PJ_OK || strcmp(state, "paused") == 0)
        return code;
    if (strcmp(state, "live") != 0 && strcmp(state, "failing") != 0)
        return wrong_state(name, state, error);
    *changed = true;
    return set_state(work, name, "paused", error);
}

int pj_pause(struct pj_session *work, const char *name, bool *changed, struct pj_error *error)
{
    pj_lsn lsn;
    *changed = false;
    int code = pj_keywork_begin(work, &lsn, error);
    if (code == PJ_OK)
        code = pause_locked(work, name, changed, error);
    if (code == PJ_OK)
        code = pj_keywork_commit(work, error);
    if (code == PJ_OK)
        return PJ_OK;
    pj_keywork_rollback(work);
    return pj_error_wrap(error, "pause %s", name);
}

/* One that is being built stays what it is, without its apply(); how the table of a rollback was called stays noted. */
static int switch_off(struct pj_session *work, const char *name, const char *reason, bool *found,
                      struct pj_error *error)
{
    const char *params[] = {name, reason};
    PGresult *result;
    int code = pj_session_query(
        work, &result,
        "UPDATE pgprojector.projection SET apply_off = true, reason = CASE WHEN reason LIKE 'kept as %' "
        "THEN pg_catalog.split_part(reason, pg_catalog.chr(10), 1) || pg_catalog.chr(10) || $2 "
        "ELSE $2 END, "
        "since = pg_catalog.clock_timestamp(), "
        "state = CASE WHEN state IN ('live', 'failing') THEN 'paused' ELSE state END "
        "WHERE name = $1",
        2, params, error);
    *found = code == PJ_OK && strcmp(PQcmdTuples(result), "1") == 0;
    PQclear(result);
    return code == PJ_OK && *found ? pj_keywork_changed(work, error) : code;
}

int pj_pause_guilty(struct pj_session *work, const char *name, const char *reason, bool *found, struct pj_error *error)
{
    pj_lsn lsn;
    *found = false;
    int code = pj_keywork_begin(work, &lsn, error);
    if (code == PJ_OK)
        code = switch_off(work, name, reason, found, error);
    if (code == PJ_OK)
        code = pj_keywork_commit(work, error);
    if (code == PJ_OK)
        return PJ_OK;
    pj_keywork_rollback(work);
    return pj_error_wrap(error, "pause %s", name);
}

/* ---------------------------------------------------------------------------------------------------------- resume */

static int go_live(struct pj_mend *mend, struct pj_error *error)
{
    int code = set_state(mend->work, mend->projection->name, "live", error);
    return code == PJ_OK ? pj_keywork_commit(mend->work, error) : code;
}

/* *done: false where there were too many, or a key failed, which a further round then finds and parks. */
static int finish(struct pj_mend *mend, int64_t few, bool *done, struct pj_error *error)
{
    pj_lsn lsn;
    *done = false;
    int code = pj_keywork_begin_of(mend->work, mend->mark, &lsn, error);
    if (code != PJ_OK)
        return code;
    code = pj_catchup_rest(mend, few, done, error);
    if (code == PJ_OK && *done)
        code = go_live(mend, error);
    if (code == PJ_OK && *done)
        return PJ_OK;
    pj_keywork_rollback(mend->work);
    *done = false;
    return code != PJ_OK && pj_mend_is_key_fault(error) ? PJ_OK : code;
}

/* A round before each attempt to finish: it leaves little to the last transaction, and parks the keys that fail. */
static int resume(struct pj_mend *mend, struct pj_error *error)
{
    bool done = false;
    int code = PJ_OK;
    for (int round = 0; code == PJ_OK && !done; round++) {
        code = pj_catchup_round(mend, error);
        if (code == PJ_OK)
            code = finish(mend, pj_catchup_few(round), &done, error);
    }
    return code;
}

int pj_resume(struct pj_mend *mend, bool *changed, struct pj_error *error)
{
    const char *name = mend->projection->name;
    char state[16];
    *changed = false;
    int code = read_state(mend->job.session, name, state, error);
    if (code == PJ_OK && strcmp(state, "live") == 0)
        return PJ_OK;
    if (code == PJ_OK && strcmp(state, "paused") != 0)
        code = wrong_state(name, state, error);
    if (code == PJ_OK)
        code = pj_job_begin(&mend->job, "resume", name, error);
    if (code == PJ_OK)
        code = resume(mend, error);
    *changed = code == PJ_OK;
    pj_job_end(&mend->job);
    return code == PJ_OK ? PJ_OK : pj_error_wrap(error, "resume %s", name);
}
