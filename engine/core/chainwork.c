/*
 * See chainwork.h. For each projection that is chained on the upstream, what was touched becomes keys of it; these are
 * recomputed as core/mend_within.h has it, or noted.
 */
#include "core/chainwork.h"

#include "base/mem.h"
#include "core/mend_within.h"
#include "core/textarray.h"

#include <string.h>

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
static int take_keys(const struct pj_within *work, const char *name, const struct pj_chained *chained,
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

static int everything(struct pj_within *work, struct pj_error *error)
{
    enum pj_within_standing standing;
    int code = pj_within_standing(work, &standing, error);
    if (code != PJ_OK || standing == PJ_WITHIN_ABSENT)
        return code;
    return standing == PJ_WITHIN_LIVE ? pj_within_all(work, error)
                                      : pj_within_note_all(work->read, work->projection->name, error);
}

static int pass_on(struct pj_session *read, const struct pj_chained *chained, const PGresult *touched,
                   struct pj_error *error)
{
    struct pj_within work = {.read = read, .projection = chained->downstream, .width = chained->width};
    enum pj_within_standing standing;
    if (!chained->width || PQntuples(touched) > PJ_TOUCHED_AT_MOST)
        return everything(&work, error);
    int code = pj_within_standing(&work, &standing, error);
    if (code != PJ_OK || standing == PJ_WITHIN_ABSENT)
        return code;
    PGresult *keys;
    code = take_keys(&work, work.projection->name, chained, touched, standing == PJ_WITHIN_NOTED, &keys, error);
    if (code == PJ_OK && standing == PJ_WITHIN_LIVE)
        code = pj_within_keys(&work, keys, error);
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
static int look_beside(const struct pj_within *work, const char *beside, bool *there, bool *alike,
                       struct pj_error *error)
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
    const struct pj_within work = {.read = read, .projection = chained->downstream, .width = chained->width};
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
        code = pj_within_note_all(read, beside, error);
    }
    pj_free(beside);
    return code;
}

int pj_chainwork_all(struct pj_session *read, const struct pj_projection *upstream, struct pj_error *error)
{
    int code = PJ_OK;
    for (int i = 0; code == PJ_OK && i < upstream->nchained; i++) {
        struct pj_within work = {.read = read, .projection = upstream->chained[i].downstream};
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
