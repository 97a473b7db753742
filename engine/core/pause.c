/*
 * See pause.h. Resuming goes in the rounds of core/catchup.h: what was noted is recomputed until little is left, then
 * the rest together with the change of state, in one transaction.
 *
 * A paused projection has a reason where the daemon has paused it, and none where a person has. A person's pause of
 * what is paused already takes the reason away, and with it all that the daemon does by itself for that reason. Its
 * apply() stays off where it was at fault.
 */
#include "core/pause.h"

#include "base/mem.h"
#include "core/catchup.h"
#include "core/guilty.h"

#include <stdio.h>
#include <string.h>

/* ---------------------------------------------------------------------------------------------------------- states */

/* "" where there is no such projection. *reason is to be freed; NULL: none. */
static int read_state(struct pj_session *session, const char *name, char state[16], char **reason,
                      struct pj_error *error)
{
    PGresult *result;
    int code = pj_session_query(session, &result, "SELECT state, reason FROM pgprojector.projection WHERE name = $1", 1,
                                &name, error);
    bool found = code == PJ_OK && PQntuples(result) == 1;
    snprintf(state, 16, "%s", found ? PQgetvalue(result, 0, 0) : "");
    *reason = found && !PQgetisnull(result, 0, 1) ? pj_strdup(PQgetvalue(result, 0, 1)) : NULL;
    PQclear(result);
    if (code != PJ_OK || found)
        return code;
    pj_error_set(error, PJ_ECONFIG, "there is no projection \"%.60s\"", name);
    return pj_error_hint(error, "`pgprojector status` lists them");
}

/* *met: false where it has another reason by now. */
static int set_state(struct pj_session *work, const char *name, const char *state, const char *reason, bool *met,
                     struct pj_error *error)
{
    const char *params[] = {name, state, reason};
    PGresult *result;
    int code = pj_session_query(
        work, &result,
        "UPDATE pgprojector.projection SET state = $2, since = pg_catalog.clock_timestamp(), reason = NULL, "
        "apply_off = false WHERE name = $1 AND reason IS NOT DISTINCT FROM $3::pg_catalog.text",
        3, params, error);
    *met = code == PJ_OK && strcmp(PQcmdTuples(result), "1") == 0;
    PQclear(result);
    return code == PJ_OK && *met ? pj_keywork_changed(work, error) : code;
}

static int wrong_state(const char *name, const char *state, struct pj_error *error)
{
    pj_error_set(error, PJ_EFAIL, "it is %s", state);
    return strcmp(state, "retired") == 0 ? pj_error_hint(error, "`pgprojector module add %s` takes it up again", name)
                                         : error->code;
}

/* ----------------------------------------------------------------------------------------------------------- pause */

/* Its state is what it was, and who notes its keys, and how. */
static int acknowledge(struct pj_session *work, const char *name, struct pj_error *error)
{
    PGresult *result;
    int code = pj_session_query(work, &result, "UPDATE pgprojector.projection SET reason = NULL WHERE name = $1", 1,
                                &name, error);
    PQclear(result);
    return code;
}

static int pause_locked(struct pj_session *work, const char *name, enum pj_paused *how, char **reason,
                        struct pj_error *error)
{
    char state[16];
    bool met;
    int code = read_state(work, name, state, reason, error);
    if (code != PJ_OK)
        return code;
    if (strcmp(state, "paused") == 0) {
        *how = *reason ? PJ_PAUSE_ACKNOWLEDGED : PJ_PAUSED_BEFORE;
        return *reason ? acknowledge(work, name, error) : PJ_OK;
    }
    if (strcmp(state, "live") != 0 && strcmp(state, "failing") != 0)
        return wrong_state(name, state, error);
    *how = PJ_PAUSED_NOW;
    return set_state(work, name, "paused", *reason, &met, error);
}

int pj_pause(struct pj_session *work, const char *name, enum pj_paused *how, char **reason, struct pj_error *error)
{
    pj_lsn lsn;
    *how = PJ_PAUSED_BEFORE;
    *reason = NULL;
    int code = pj_keywork_begin(work, &lsn, error);
    if (code == PJ_OK)
        code = pause_locked(work, name, how, reason, error);
    code = pj_keywork_end(work, code, error);
    return code == PJ_OK ? PJ_OK : pj_error_wrap(error, "pause %s", name);
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

int pj_pause_guilty(struct pj_session *work, const struct pj_guilt *guilt, const char *reason, bool *found,
                    struct pj_error *error)
{
    const char *name = guilt->projection;
    pj_lsn lsn;
    *found = false;
    int code = pj_keywork_begin(work, &lsn, error);
    if (code == PJ_OK)
        code = switch_off(work, name, reason, found, error);
    if (code == PJ_OK)
        code = pj_guilty_note(work, guilt, error);
    code = pj_keywork_end(work, code, error);
    return code == PJ_OK ? PJ_OK : pj_error_wrap(error, "pause %s", name);
}

/* ---------------------------------------------------------------------------------------------------------- resume */

struct resuming {
    struct pj_mend *mend;
    char *reason;    /* what it was paused for when it began; NULL: by a person */
    bool taken_over; /* by now it is paused for something else */
};

static int go_live(struct resuming *resuming, struct pj_error *error)
{
    struct pj_session *work = resuming->mend->work;
    const char *name = resuming->mend->projection->name;
    bool met;
    int code = set_state(work, name, "live", resuming->reason, &met, error);
    if (code == PJ_OK && met)
        return pj_keywork_commit(work, error);
    if (code != PJ_OK)
        return code;
    resuming->taken_over = true;
    pj_error_set(error, PJ_EFAIL, "meanwhile it was paused anew");
    return pj_error_hint(error, "see `pgprojector status` for why; `pgprojector resume %s` takes it up all the same",
                         name);
}

/* *done: false where there were too many, or a key failed, which a further round then finds and parks. */
static int finish(struct resuming *resuming, int64_t few, bool *done, struct pj_error *error)
{
    struct pj_mend *mend = resuming->mend;
    pj_lsn lsn;
    *done = false;
    int code = pj_keywork_begin_of(mend->work, mend->mark, &lsn, error);
    if (code != PJ_OK)
        return code;
    code = pj_catchup_rest(mend, few, done, error);
    if (code == PJ_OK && *done)
        code = go_live(resuming, error);
    if (code == PJ_OK && *done)
        return PJ_OK;
    pj_keywork_rollback(mend->work);
    *done = false;
    return code != PJ_OK && pj_mend_is_key_fault(error) ? PJ_OK : code;
}

/* A round before each attempt to finish: it leaves little to the last transaction, and parks the keys that fail. */
static int resume(struct resuming *resuming, struct pj_error *error)
{
    bool done = false;
    int code = pj_job_begin(&resuming->mend->job, "resume", resuming->mend->projection->name, error);
    for (int round = 0; code == PJ_OK && !done; round++) {
        code = pj_catchup_round(resuming->mend, error);
        if (code == PJ_OK)
            code = finish(resuming, pj_catchup_few(round), &done, error);
    }
    pj_job_end(&resuming->mend->job);
    return code;
}

int pj_resume(struct pj_mend *mend, const char *because, bool *changed, struct pj_error *error)
{
    const char *name = mend->projection->name;
    struct resuming resuming = {.mend = mend};
    char state[16];
    *changed = false;
    int code = read_state(mend->job.session, name, state, &resuming.reason, error);
    bool another = because && (!resuming.reason || strncmp(resuming.reason, because, strlen(because)) != 0);
    bool nothing = code == PJ_OK && (strcmp(state, "live") == 0 || another);
    if (code == PJ_OK && !nothing && strcmp(state, "paused") != 0)
        code = wrong_state(name, state, error);
    if (code == PJ_OK && !nothing) {
        code = resume(&resuming, error);
        *changed = code == PJ_OK;
    }
    pj_free(resuming.reason);
    if (because && resuming.taken_over) /* so it is to stay */
        code = PJ_OK;
    return code == PJ_OK ? PJ_OK : pj_error_wrap(error, "resume %s", name);
}
