/*
 * See rebuild.h. Why one pass is exact beside the daemon: a row that was right in the snapshot is kept right by the
 * stream; one that was wrong is recomputed from the mirrors at a commit, under the checkpoint row's lock, and kept
 * right from there. Rows are compared by their binary image, as the recomputation compares them: a row that differs in
 * no more than the form of a number (1.0, 1.00) is mended, too.
 *
 * The differing keys are held by the server as a cursor that outlives its transaction, so that no snapshot is open
 * while they are mended, however long a throttled rebuild takes.
 *
 * Where the module's version or definition is another one than the table was built by, a daemon of the old module would
 * go on adding deltas of the old meaning: the daemon's lock is held meanwhile, and what the catalog records is changed
 * last.
 */
#include "core/rebuild.h"

#include "base/mem.h"
#include "core/catalog.h"
#include "core/comparison.h"
#include "core/deadletter.h"
#include "core/verify_internal.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { FEW = 1000 }; /* rows that are mended one by one, whatever share of the table they are */

/* ------------------------------------------------------------------------------------------------------- comparing */

/* Parked keys show their last good rows, and may. */
static int open_comparison(struct pj_mend *mend, bool but_noted, int64_t *differing, struct pj_error *error)
{
    char *sql;
    unsigned leave_out = PJ_COMPARE_BUT_PARKED | (but_noted ? PJ_COMPARE_BUT_NOTED : 0);
    int code = pj_comparison_sql(mend->job.session, mend->projection, leave_out, &sql, error);
    if (code == PJ_OK)
        code = pj_mend_open_cursor(mend, "pgprojector_rebuild", sql, differing, error);
    pj_free(sql);
    return code;
}

/* Where most rows differ, whole routing keys are recomputed: that is one look-up for all rows of a key. Where few do,
 * their keys may have many others. */
static int mostly_differs(struct pj_mend *mend, int64_t differing, bool *mostly, struct pj_error *error)
{
    int64_t rows = 0;
    *mostly = false;
    if (differing < FEW || mend->projection->nkey == 1)
        return PJ_OK;
    int code = pj_sample_size(mend->job.session, mend->projection->target_sql, &rows, error);
    *mostly = differing > rows / 2;
    return code;
}

int pj_rebuild_pass(struct pj_mend *mend, int64_t *differing, struct pj_error *error)
{
    bool mostly = false;
    *differing = 0;
    int code = pj_job_phase(&mend->job, "comparing", -1, error);
    if (code == PJ_OK)
        code = open_comparison(mend, false, differing, error);
    if (code == PJ_OK)
        code = mostly_differs(mend, *differing, &mostly, error);
    if (code != PJ_OK)
        return pj_error_wrap(error, "compare the table with the definition");
    return pj_mend_cursor(mend, "mending", !mostly, "pgprojector_rebuild", error);
}

int pj_rebuild_count_differing(struct pj_mend *mend, int64_t *differing, struct pj_error *error)
{
    *differing = 0;
    int code = pj_job_phase(&mend->job, "verifying", -1, error);
    if (code == PJ_OK)
        code = open_comparison(mend, true, differing, error);
    if (code != PJ_OK)
        return pj_error_wrap(error, "compare the table with the definition");
    return pj_session_exec(mend->job.session, "CLOSE pgprojector_rebuild", error);
}

/* ----------------------------------------------------------------------------------------------------------- shape */

static int shape_differs(const struct pj_projection *projection, const char *column, const char *how,
                         struct pj_error *error)
{
    pj_error_set(error, PJ_ECONFIG, "the shape has changed: column %.60s of %s %s", column, projection->target_sql,
                 how);
    return pj_error_hint(error, "build a new table beside, and swap it in: pgprojector rebuild %s --fresh",
                         projection->name);
}

/* Each column of the one must be one of the other, of the same type. What the same version has not made somebody has
 * added, and may stay. */
static int compare_shapes(const struct pj_projection *projection, bool new_version, const PGresult *wanted,
                          const PGresult *found, struct pj_error *error)
{
    for (int i = 0; i < PQnfields(wanted); i++) {
        int at = 0;
        while (at < PQnfields(found) && strcmp(PQfname(found, at), PQfname(wanted, i)) != 0)
            at++;
        if (at == PQnfields(found))
            return shape_differs(projection, PQfname(wanted, i), "is not there", error);
        if (PQftype(found, at) != PQftype(wanted, i) || PQfmod(found, at) != PQfmod(wanted, i))
            return shape_differs(projection, PQfname(wanted, i), "has another type than in the definition", error);
    }
    for (int i = 0; new_version && i < PQnfields(found); i++) {
        int at = 0;
        while (at < PQnfields(wanted) && strcmp(PQfname(wanted, at), PQfname(found, i)) != 0)
            at++;
        if (at == PQnfields(wanted))
            return shape_differs(projection, PQfname(found, i), "is not in the definition", error);
    }
    return PJ_OK;
}

static int check_shape(struct pj_mend *mend, bool new_version, struct pj_error *error)
{
    const struct pj_projection *projection = mend->projection;
    PGresult *wanted = NULL, *found = NULL;
    int code = pj_comparison_describe(mend->job.session, projection->definition_sql, true, &wanted, error);
    if (code == PJ_OK)
        code = pj_comparison_describe(mend->job.session, projection->target_sql, false, &found, error);
    if (code == PJ_OK)
        code = compare_shapes(projection, new_version, wanted, found, error);
    PQclear(wanted);
    PQclear(found);
    return code;
}

/* --------------------------------------------------------------------------------------------------- other version */

static int take_daemons_lock(struct pj_session *look, const char *name, struct pj_error *error)
{
    bool mine;
    char *holder;
    int code = pj_catalog_lock_without_daemon(look, &mine, &holder, error);
    if (code == PJ_OK && !mine) {
        code = pj_error_set(error, PJ_EFAIL,
                            "the module is not as it was when the table was built, and a daemon is running: %s",
                            holder ? holder : "unknown");
        pj_error_hint(error,
                      "it has the former module in memory; let it build the new one's table beside: pgprojector "
                      "rebuild %s --fresh",
                      name);
    }
    pj_free(holder);
    return code;
}

static int record(struct pj_mend *mend, struct pj_error *error)
{
    char version[16];
    snprintf(version, sizeof version, "%u", mend->projection->module->version);
    const char *params[] = {mend->projection->name, version, mend->projection->definition_sql};
    pj_lsn lsn;
    PGresult *result = NULL;
    int code = pj_keywork_begin_of(mend->work, mend->mark, &lsn, error);
    if (code != PJ_OK)
        return code;
    code = pj_session_query(mend->work, &result,
                            "UPDATE pgprojector.projection SET module_version = $2::bigint, "
                            "definition = pg_catalog.md5($3) WHERE name = $1",
                            3, params, error);
    PQclear(result);
    if (code == PJ_OK)
        code = pj_keywork_changed(mend->work, error);
    return pj_keywork_end(mend->work, code, error);
}

/* --------------------------------------------------------------------------------------------------------- rebuild */

static int state_of(struct pj_mend *mend, char state[16], struct pj_error *error)
{
    const char *name = mend->projection->name;
    PGresult *result;
    int code = pj_session_query(mend->job.session, &result, "SELECT state FROM pgprojector.projection WHERE name = $1",
                                1, &name, error);
    if (code == PJ_OK && PQntuples(result) == 0)
        code = pj_error_set(error, PJ_EFAIL,
                            "it has not been built on this read database: pgprojector module add builds it");
    snprintf(state, 16, "%s", code == PJ_OK ? PQgetvalue(result, 0, 0) : "");
    PQclear(result);
    return code;
}

/* Whether the module has changed since; a paused projection needs a rebuild only then, for resuming mends it. */
static int look_first(struct pj_mend *mend, struct pj_rebuild_result *result, struct pj_error *error)
{
    char state[16];
    int code = state_of(mend, state, error);
    if (code != PJ_OK)
        return code;
    if (strcmp(state, "retired") == 0) {
        pj_error_set(error, PJ_ECONFIG, "it was removed: its table is not kept up any more");
        return pj_error_hint(error, "`pgprojector module add %s` builds it anew", mend->projection->name);
    }
    code = pj_projection_check_recorded(mend->job.session, mend->projection, error);
    result->new_version = code == PJ_ECONFIG;
    if (result->new_version)
        return take_daemons_lock(mend->job.session, mend->projection->name, error);
    if (code == PJ_OK && strcmp(state, "live") != 0) {
        code = pj_error_set(error, PJ_EFAIL, "it is %s", state);
        if (strcmp(state, "paused") == 0)
            pj_error_hint(error, "pgprojector resume %s mends it, too", mend->projection->name);
    }
    return code;
}

/* In a snapshot of its own; a table in which nothing differed has been verified by that. */
static int verify_again(struct pj_mend *mend, struct pj_rebuild_result *result, struct pj_error *error)
{
    int64_t found = 0;
    struct pj_verify_options options = {.keys_shown = 0};
    struct pj_session *look = mend->job.session;
    int code = pj_job_phase(&mend->job, "verifying", -1, error);
    if (code == PJ_OK)
        code = pj_session_exec(look,
                               "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY; SET LOCAL work_mem = '128MB'; "
                               "SET LOCAL jit = off",
                               error);
    if (code == PJ_OK)
        code = pj_verify_projection(look, mend->projection, &options, &found, error);
    if (code == PJ_OK)
        code = pj_session_exec(look, "COMMIT", error);
    if (code != PJ_OK)
        return code;
    result->unmended = found;
    if (!found)
        return PJ_OK;
    pj_error_set(error, PJ_EDIFFERENT, "%lld rows differ from the definition after the rebuild", (long long)found);
    return pj_error_hint(error,
                         "something else writes to the table, or the definition is not a function of the mirrors");
}

static int rebuild(struct pj_mend *mend, bool verify, struct pj_rebuild_result *result, struct pj_error *error)
{
    const char *name = mend->projection->name;
    struct pj_deadletter_filter filter = {.projection = name};
    struct pj_deadletter_tally tally = {0};
    int code = pj_job_phase(&mend->job, "dead letters", -1, error);
    if (code == PJ_OK)
        code =
            pj_deadletter_retry(mend->job.session, mend->work, mend->mark, mend->projection, 1, &filter, &tally, error);
    if (code == PJ_OK)
        code = pj_rebuild_pass(mend, &result->differing, error);
    if (code == PJ_OK && verify && result->differing)
        code = verify_again(mend, result, error);
    if (code == PJ_OK && result->new_version)
        code = record(mend, error);
    struct pj_error ignored;
    pj_deadletter_count(mend->job.session, &filter, &result->dead_letters, code == PJ_OK ? error : &ignored);
    return code == PJ_OK ? error->code : code;
}

int pj_rebuild(struct pj_mend *mend, bool verify, struct pj_rebuild_result *result, struct pj_error *error)
{
    *result = (struct pj_rebuild_result){.unmended = -1};
    const char *name = mend->projection->name;
    int code = look_first(mend, result, error);
    if (code == PJ_OK)
        code = check_shape(mend, result->new_version, error);
    if (code == PJ_OK)
        code = pj_job_begin(&mend->job, "rebuild", name, error);
    if (code == PJ_OK)
        code = rebuild(mend, verify, result, error);
    pj_job_end(&mend->job);
    return code == PJ_OK ? PJ_OK : pj_error_wrap(error, "rebuild %s", name);
}
