/*
 * See chainwork.h. Within one transaction, for each projection that is chained on the upstream:
 *
 *      SAVEPOINT, recompute the keys (and what is chained on those), RELEASE
 *      on an error: back to the savepoint; halves; the guilty keys are parked, or the projection is paused and noted for
 *
 * Whatever is parked or paused here the daemon does not know of: checkpoint.version is raised (core/standing.h).
 */
#include "core/chainwork.h"

#include "base/mem.h"
#include "core/keywork.h"
#include "core/mend.h"
#include "core/standing.h"
#include "core/textarray.h"

#include <string.h>

/* One downstream at work. */
struct work {
    struct pj_session *read;
    struct pj_projection *projection;
    int width; /* of the keys: 1, or all columns */
    int parked;
};

/* ------------------------------------------------------------------------------------------------------ standing */

enum standing { ABSENT, NOTED, LIVE };

/* One that is not built is filled when it is, and one that was retired is built anew. */
static int look_at_standing(const struct work *work, enum standing *standing, struct pj_error *error)
{
    const char *name = work->projection->name;
    PGresult *result;
    int code = pj_session_query(work->read, &result,
                                "SELECT state IN ('live', 'failing') FROM pgprojector.projection "
                                "WHERE name = $1 AND state <> 'retired'",
                                1, &name, error);
    bool there = code == PJ_OK && PQntuples(result) == 1;
    *standing = !there ? ABSENT : PQgetvalue(result, 0, 0)[0] == 't' ? LIVE : NOTED;
    PQclear(result);
    return code;
}

static int note_all(struct pj_session *read, const char *name, struct pj_error *error)
{
    PGresult *result;
    int code = pj_session_query(read, &result, "INSERT INTO pgprojector.dirty_key (projection, key) VALUES ($1, NULL)",
                                1, &name, error);
    PQclear(result);
    return code;
}

/* What cannot be helped by parking keys. The error is dealt with. */
static int pause_projection(const struct work *work, struct pj_error *error)
{
    struct pj_error cause = *error;
    pj_error_clear(error);
    int code = pj_standing_pause(work->read, work->projection, &cause, error);
    return code == PJ_OK ? note_all(work->read, work->projection->name, error) : code;
}

/* ---------------------------------------------------------------------------------------------------- savepoints */

/* Back to where the work began; what another moment, or another connection, might allow is an error. */
static int undo(const struct work *work, struct pj_error *error)
{
    struct pj_error failure = *error;
    bool alive = PQstatus(pj_session_conn(work->read)) == CONNECTION_OK && failure.code != PJ_ESTOPPED;
    if (failure.retryable || !alive)
        return failure.code;
    int code = pj_session_exec(work->read,
                               "ROLLBACK TO SAVEPOINT pgprojector_chain; RELEASE SAVEPOINT pgprojector_chain", error);
    if (code == PJ_OK)
        *error = failure;
    return code;
}

/* A deferred constraint would only fail at COMMIT, and take the upstream with it. */
static int check_constraints(const struct work *work, struct pj_error *error)
{
    return pj_session_exec(work->read, "SET CONSTRAINTS ALL IMMEDIATE", error);
}

/* A command may not have looked at the table of this projection yet. */
static int describe(const struct work *work, struct pj_error *error)
{
    return work->projection->recompute_all_sql ? PJ_OK
                                               : pj_projection_check_target(work->read, work->projection, error);
}

/* ----------------------------------------------------------------------------------------------------------- keys */

static int park(struct work *work, const char *key, const struct pj_error *fault, struct pj_error *error)
{
    struct pj_error cause = *fault;
    PGresult *result;
    pj_error_clear(error);
    work->parked++;
    int code = pj_session_query_row(work->read, &result, "SELECT lsn FROM pgprojector.checkpoint", 0, NULL, error);
    if (code == PJ_OK)
        code = pj_mend_note_failure(work->read, work->projection->name, key, &cause, PQgetvalue(result, 0, 0), error);
    PQclear(result);
    return code;
}

static int write_keys(const struct work *work, const PGresult *keys, int first, int count, struct pj_error *error)
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
static int recompute(struct work *work, const PGresult *keys, int first, int count, bool *helped,
                     struct pj_error *error)
{
    int code = pj_session_exec(work->read, "SAVEPOINT pgprojector_chain", error);
    if (code == PJ_OK && write_keys(work, keys, first, count, error) == PJ_OK)
        return pj_session_exec(work->read, "RELEASE SAVEPOINT pgprojector_chain", error);
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

/* ------------------------------------------------------------------------------------------------------ everything */

/* With the planner's whole choice, as far as this transaction had it narrowed (core/keywork.c). */
static int write_all(const struct work *work, struct pj_error *error)
{
    static const char widen[] = "SET LOCAL enable_seqscan = on; SET LOCAL enable_hashjoin = on; "
                                "SET LOCAL enable_mergejoin = on";
    static const char narrow[] = "SET LOCAL enable_seqscan = off; SET LOCAL enable_hashjoin = off; "
                                 "SET LOCAL enable_mergejoin = off";
    PGresult *result = NULL;
    int code = describe(work, error);
    if (code == PJ_OK)
        code = pj_session_query_row(work->read, &result, "SHOW enable_hashjoin", 0, NULL, error);
    bool narrowed = code == PJ_OK && strcmp(PQgetvalue(result, 0, 0), "off") == 0;
    PQclear(result);
    if (code == PJ_OK && narrowed)
        code = pj_session_exec(work->read, widen, error);
    if (code == PJ_OK)
        code = pj_session_exec(work->read, work->projection->recompute_all_sql, error);
    if (code == PJ_OK && narrowed)
        code = pj_session_exec(work->read, narrow, error);
    if (code == PJ_OK)
        code = pj_chainwork_all(work->read, work->projection, error);
    return code == PJ_OK ? check_constraints(work, error) : code;
}

static int recompute_all(const struct work *work, struct pj_error *error)
{
    int code = pj_session_exec(work->read, "SAVEPOINT pgprojector_chain", error);
    if (code == PJ_OK && write_all(work, error) == PJ_OK)
        return pj_session_exec(work->read, "RELEASE SAVEPOINT pgprojector_chain", error);
    if (code == PJ_OK)
        code = undo(work, error);
    return code == PJ_OK ? pause_projection(work, error) : code;
}

static int everything(const struct work *work, struct pj_error *error)
{
    enum standing standing;
    int code = look_at_standing(work, &standing, error);
    if (code != PJ_OK || standing == ABSENT)
        return code;
    return standing == LIVE ? recompute_all(work, error) : note_all(work->read, work->projection->name, error);
}

/* --------------------------------------------------------------------------------------------------- touched rows */

/* The columns of touched rows that are the keys downstream, as array literals; each to be freed. */
static void take_arrays(const struct pj_chained *chained, const PGresult *touched, char **arrays)
{
    for (int i = 0; i < chained->width; i++) {
        struct pj_buf array = {0};
        pj_textarray_begin(&array);
        for (int row = 0; row < PQntuples(touched); row++)
            pj_textarray_add(&array, PQgetvalue(touched, row, chained->columns[i]));
        pj_textarray_end(&array);
        arrays[i] = pj_buf_take(&array);
    }
}

/* The keys each once, without those that are parked: they have their own time. Noted, or as rows. */
static char *keys_sql(int width, bool note)
{
    struct pj_buf sql = {0};
    pj_buf_puts(&sql, note ? "INSERT INTO pgprojector.dirty_key (projection, key) SELECT $1, ARRAY[" : "SELECT ");
    for (int i = 0; i < width; i++)
        pj_buf_printf(&sql, "%sk.k%d", i ? ", " : "", i);
    pj_buf_puts(&sql, note ? "] FROM (SELECT DISTINCT * FROM unnest(" : " FROM (SELECT DISTINCT * FROM unnest(");
    for (int i = 0; i < width; i++)
        pj_buf_printf(&sql, "%s$%d::pg_catalog.text[]", i ? ", " : "", i + 2);
    pj_buf_puts(&sql, ") AS u(");
    for (int i = 0; i < width; i++)
        pj_buf_printf(&sql, "%sk%d", i ? ", " : "", i);
    pj_buf_puts(&sql, ")) AS k WHERE NOT EXISTS (SELECT FROM pgprojector.dead_letter AS d WHERE d.projection = $1 "
                      "AND d.key = k.k0)");
    return pj_buf_take(&sql);
}

/* For the projection called `name`: the downstream, or its next one. */
static int take_keys(const struct work *work, const char *name, const struct pj_chained *chained,
                     const PGresult *touched, bool note, PGresult **keys, struct pj_error *error)
{
    const char *params[PJ_MAX_SOURCE_COLUMNS + 1] = {name};
    char *arrays[PJ_MAX_SOURCE_COLUMNS], *sql = keys_sql(work->width, note);
    take_arrays(chained, touched, arrays);
    for (int i = 0; i < work->width; i++)
        params[i + 1] = arrays[i];
    int code = pj_session_query(work->read, keys, sql, work->width + 1, params, error);
    for (int i = 0; i < work->width; i++)
        pj_free(arrays[i]);
    pj_free(sql);
    return code;
}

static int recompute_touched(struct work *work, const PGresult *keys, struct pj_error *error)
{
    bool helped = true;
    int code = PQntuples(keys) ? recompute(work, keys, 0, PQntuples(keys), &helped, error) : PJ_OK;
    return code == PJ_OK && !helped ? pause_projection(work, error) : code;
}

static int pass_on(struct pj_session *read, const struct pj_chained *chained, const PGresult *touched,
                   struct pj_error *error)
{
    struct work work = {.read = read, .projection = chained->downstream, .width = chained->width};
    enum standing standing;
    if (!chained->width || PQntuples(touched) > PJ_TOUCHED_AT_MOST)
        return everything(&work, error);
    int code = look_at_standing(&work, &standing, error);
    if (code != PJ_OK || standing == ABSENT)
        return code;
    PGresult *keys;
    code = take_keys(&work, work.projection->name, chained, touched, standing == NOTED, &keys, error);
    if (code == PJ_OK && standing == LIVE)
        code = recompute_touched(&work, keys, error);
    PQclear(keys);
    return code == PJ_OK ? PJ_OK : pj_error_wrap(error, "projection %s, chained on it", chained->downstream->name);
}

/* ----------------------------------------------------------------------------------------------------- built beside */

static bool linked(const struct pj_projection *upstream, const char *name)
{
    for (int i = 0; i < upstream->nchained; i++)
        if (strcmp(upstream->chained[i].downstream->name, name) == 0)
            return true;
    return false;
}

/* *there: one is being built of that name; *alike: by the definition of the one that serves, and so with its keys. */
static int look_beside(const struct work *work, const char *beside, bool *there, bool *alike, struct pj_error *error)
{
    const char *params[] = {beside, work->projection->name};
    PGresult *result;
    int code = pj_session_query(work->read, &result,
                                "SELECT coalesce(n.module_version = p.module_version AND n.definition = p.definition, "
                                "false) FROM pgprojector.projection n LEFT JOIN pgprojector.projection p "
                                "ON p.name = $2 WHERE n.name = $1 AND n.state = 'building'",
                                2, params, error);
    *there = code == PJ_OK && PQntuples(result) == 1;
    *alike = *there && PQgetvalue(result, 0, 0)[0] == 't';
    PQclear(result);
    return code;
}

/*
 * What another process is building beside the downstream (core/build.h), which this one's modules do not show: it must
 * know of what was touched, too. Where its key may be another, of everything. touched: NULL: all rows.
 */
static int note_beside(struct pj_session *read, const struct pj_projection *upstream, const struct pj_chained *chained,
                       const PGresult *touched, struct pj_error *error)
{
    const struct work work = {.read = read, .projection = chained->downstream, .width = chained->width};
    if (strchr(chained->downstream->name, '.')) /* itself built beside, and noted for */
        return PJ_OK;
    char *beside = pj_sprintf("%s%s", chained->downstream->name, PJ_NEXT_NAME);
    bool there = false, alike = false;
    int code = linked(upstream, beside) ? PJ_OK : look_beside(&work, beside, &there, &alike, error);
    if (there && alike && touched && chained->width && PQntuples(touched) <= PJ_TOUCHED_AT_MOST) {
        PGresult *none;
        code = take_keys(&work, beside, chained, touched, true, &none, error);
        PQclear(none);
    } else if (there) {
        code = note_all(read, beside, error);
    }
    pj_free(beside);
    return code;
}

int pj_chainwork_all(struct pj_session *read, const struct pj_projection *upstream, struct pj_error *error)
{
    int code = PJ_OK;
    for (int i = 0; code == PJ_OK && i < upstream->nchained; i++) {
        const struct work work = {.read = read, .projection = upstream->chained[i].downstream};
        code = everything(&work, error);
        if (code == PJ_OK)
            code = note_beside(read, upstream, &upstream->chained[i], NULL, error);
    }
    return code;
}

int pj_chainwork_touched(struct pj_session *read, const struct pj_projection *upstream, const PGresult *touched,
                         struct pj_error *error)
{
    if (!upstream->nchained || !PQntuples(touched))
        return PJ_OK;
    /* what the upstream itself has deferred is not the downstream's to answer for */
    int code = pj_session_exec(read, "SET CONSTRAINTS ALL IMMEDIATE", error);
    for (int i = 0; code == PJ_OK && i < upstream->nchained; i++)
        code = pass_on(read, &upstream->chained[i], touched, error);
    for (int i = 0; code == PJ_OK && i < upstream->nchained; i++)
        code = note_beside(read, upstream, &upstream->chained[i], touched, error);
    return code;
}
