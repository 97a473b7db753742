/*
 * See mend_within.h. Within the caller's transaction:
 *
 *      SAVEPOINT, recompute the keys (and what is chained on those), RELEASE
 *      on an error: back to the savepoint; halves; the guilty keys are parked, or the projection is paused and noted for
 *
 * Whatever is parked or paused here the daemon does not know of: checkpoint.version is raised (core/standing.h).
 */
#include "core/mend_within.h"

#include "base/mem.h"
#include "base/text.h"
#include "core/chainwork.h"
#include "core/keywork.h"
#include "core/mend.h"
#include "core/standing.h"

#include <stdio.h>
#include <string.h>

/* ------------------------------------------------------------------------------------------------------ standing */

int pj_within_standing(const struct pj_within *work, enum pj_within_standing *standing, struct pj_error *error)
{
    const char *name = work->projection->name;
    PGresult *result;
    int code = pj_session_query(work->read, &result,
                                "SELECT state IN ('live', 'failing') FROM pgprojector.projection "
                                "WHERE name = $1 AND state <> 'retired'",
                                1, &name, error);
    bool there = code == PJ_OK && PQntuples(result) == 1;
    *standing = !there ? PJ_WITHIN_ABSENT : PQgetvalue(result, 0, 0)[0] == 't' ? PJ_WITHIN_LIVE : PJ_WITHIN_NOTED;
    PQclear(result);
    return code;
}

int pj_within_note_all(struct pj_session *read, const char *name, struct pj_error *error)
{
    PGresult *result;
    int code = pj_session_query(read, &result, "INSERT INTO pgprojector.dirty_key (projection, key) VALUES ($1, NULL)",
                                1, &name, error);
    PQclear(result);
    return code;
}

static void remember(struct pj_within *work, const struct pj_error *fault)
{
    struct pj_error shown = *fault;
    pj_mend_strip(&shown);
    snprintf(work->fault, sizeof work->fault, "%.*s", (int)pj_text_clip(shown.message, sizeof work->fault - 1),
             shown.message);
}

/* What cannot be helped by parking keys. The error is dealt with. */
static int pause_projection(struct pj_within *work, struct pj_error *error)
{
    struct pj_error cause = *error;
    pj_error_clear(error);
    remember(work, &cause);
    work->paused = true;
    int code = pj_standing_pause(work->read, work->projection, &cause, error);
    return code == PJ_OK ? pj_within_note_all(work->read, work->projection->name, error) : code;
}

/* ---------------------------------------------------------------------------------------------------- savepoints */

/* Back to where the work began; what another moment, or another connection, might allow is an error. */
static int undo(const struct pj_within *work, struct pj_error *error)
{
    struct pj_error failure = *error;
    bool alive = PQstatus(pj_session_conn(work->read)) == CONNECTION_OK && failure.code != PJ_ESTOPPED;
    if (failure.retryable || !alive)
        return failure.code;
    int code = pj_session_exec(work->read,
                               "ROLLBACK TO SAVEPOINT pgprojector_within; RELEASE SAVEPOINT pgprojector_within", error);
    if (code == PJ_OK)
        *error = failure;
    return code;
}

/* A deferred constraint would only fail at COMMIT, and take the others with it. */
static int check_constraints(const struct pj_within *work, struct pj_error *error)
{
    return pj_session_exec(work->read, "SET CONSTRAINTS ALL IMMEDIATE", error);
}

/* A command may not have looked at the table of this projection yet. */
static int describe(const struct pj_within *work, struct pj_error *error)
{
    return work->projection->recompute_all_sql ? PJ_OK
                                               : pj_projection_check_target(work->read, work->projection, error);
}

/* ----------------------------------------------------------------------------------------------------------- keys */

static int park(struct pj_within *work, const char *key, const struct pj_error *fault, struct pj_error *error)
{
    struct pj_error cause = *fault;
    PGresult *result;
    pj_error_clear(error);
    remember(work, &cause);
    work->parked++;
    int code = pj_session_query_row(work->read, &result, "SELECT lsn FROM pgprojector.checkpoint", 0, NULL, error);
    if (code == PJ_OK)
        code = pj_mend_note_failure(work->read, work->projection->name, key, &cause, PQgetvalue(result, 0, 0), error);
    PQclear(result);
    return code;
}

static int write_keys(const struct pj_within *work, const PGresult *keys, int first, int count, struct pj_error *error)
{
    char *arrays[PJ_MAX_SOURCE_COLUMNS];
    int code = describe(work, error);
    if (code != PJ_OK)
        return code;
    pj_mend_arrays(keys, first, count, work->width, arrays);
    code =
        pj_keywork_recompute(work->read, work->projection, work->width > 1, (const char *const *)arrays, NULL, error);
    for (int i = 0; i < work->width; i++)
        pj_free(arrays[i]);
    return code == PJ_OK ? check_constraints(work, error) : code;
}

/* *helped: false where the projection cannot be helped by parking keys, or is not to be (on_error = halt: no row may
 * be missing while it passes for live); the error then says why. */
static int recompute(struct pj_within *work, const PGresult *keys, int first, int count, bool *helped,
                     struct pj_error *error)
{
    int code = pj_session_exec(work->read, "SAVEPOINT pgprojector_within", error);
    if (code == PJ_OK && write_keys(work, keys, first, count, error) == PJ_OK)
        return pj_session_exec(work->read, "RELEASE SAVEPOINT pgprojector_within", error);
    if (code == PJ_OK)
        code = undo(work, error);
    if (code != PJ_OK)
        return code;
    *helped = pj_mend_is_key_fault(error) && work->parked < PJ_PARK_AT_MOST && !work->projection->halt_on_error;
    if (!*helped)
        return PJ_OK;
    if (count == 1)
        return park(work, PQgetvalue(keys, first, 0), error, error);
    code = recompute(work, keys, first, count / 2, helped, error);
    return code == PJ_OK && *helped ? recompute(work, keys, first + count / 2, count - count / 2, helped, error) : code;
}

int pj_within_keys(struct pj_within *work, const PGresult *keys, struct pj_error *error)
{
    bool helped = true;
    int code = PQntuples(keys) ? recompute(work, keys, 0, PQntuples(keys), &helped, error) : PJ_OK;
    return code == PJ_OK && !helped ? pause_projection(work, error) : code;
}

/* ------------------------------------------------------------------------------------------------------ everything */

/* With the planner's whole choice, as far as this transaction had it narrowed (core/keywork.c). */
static int write_all(const struct pj_within *work, struct pj_error *error)
{
    PGresult *result = NULL;
    int code = describe(work, error);
    if (code == PJ_OK)
        code = pj_session_query_row(work->read, &result, "SHOW enable_hashjoin", 0, NULL, error);
    bool narrowed = code == PJ_OK && strcmp(PQgetvalue(result, 0, 0), "off") == 0;
    PQclear(result);
    if (code == PJ_OK && narrowed)
        code = pj_session_exec(work->read, PJ_KEYWORK_WIDE, error);
    if (code == PJ_OK)
        code = pj_session_exec(work->read, work->projection->recompute_all_sql, error);
    if (code == PJ_OK && narrowed)
        code = pj_session_exec(work->read, PJ_KEYWORK_NARROW, error);
    if (code == PJ_OK)
        code = pj_chainwork_all(work->read, work->projection, error);
    return code == PJ_OK ? check_constraints(work, error) : code;
}

int pj_within_all(struct pj_within *work, struct pj_error *error)
{
    int code = pj_session_exec(work->read, "SAVEPOINT pgprojector_within", error);
    if (code == PJ_OK && write_all(work, error) == PJ_OK)
        return pj_session_exec(work->read, "RELEASE SAVEPOINT pgprojector_within", error);
    if (code == PJ_OK)
        code = undo(work, error);
    return code == PJ_OK ? pause_projection(work, error) : code;
}
