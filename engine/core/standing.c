/* See standing.h. */
#include "core/standing.h"

#include "base/text.h"
#include "core/mend.h"
#include "wire/pgtext.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static int load_state(struct pj_session *read, struct pj_projection *projection, struct pj_error *error)
{
    const char *params[] = {projection->name};
    PGresult *result;
    int code = pj_session_query(
        read, &result, "SELECT state IN ('live', 'failing'), apply_off FROM pgprojector.projection WHERE name = $1", 1,
        params, error);
    if (code == PJ_OK) {
        bool found = PQntuples(result) == 1;
        projection->live = found && strcmp(PQgetvalue(result, 0, 0), "t") == 0;
        projection->apply_off = found && !projection->live && strcmp(PQgetvalue(result, 0, 1), "t") == 0;
    }
    PQclear(result);
    return code;
}

static int park_row(const PGresult *result, int row, struct pj_projection *projection, struct pj_arena *arena,
                    struct pj_error *error)
{
    struct pj_value key;
    if (!pj_pgtext_to_binary(projection->key_kinds[0], PQgetvalue(result, row, 0), (size_t)PQgetlength(result, row, 0),
                             arena, &key))
        return pj_error_set(error, PJ_EFAIL, "projection %s: a dead letter's key is not of the key's type",
                            projection->name);
    pj_deltas_park(projection->deltas, &key);
    return PJ_OK;
}

int pj_standing_load_parked(struct pj_session *read, struct pj_projection *projection, struct pj_error *error)
{
    const char *params[] = {projection->name};
    PGresult *result;
    struct pj_arena arena;
    pj_arena_init(&arena);
    pj_deltas_forget_parked(projection->deltas);
    int code = pj_session_query(read, &result, "SELECT key FROM pgprojector.dead_letter WHERE projection = $1", 1,
                                params, error);
    for (int row = 0; code == PJ_OK && row < PQntuples(result); row++)
        code = park_row(result, row, projection, &arena, error);
    PQclear(result);
    pj_arena_free(&arena);
    return code;
}

static int load(struct pj_session *read, struct pj_projection *projections, int count, int64_t *version,
                int64_t *roster, struct pj_error *error)
{
    PGresult *result;
    int code =
        pj_session_query_row(read, &result, "SELECT version, roster FROM pgprojector.checkpoint", 0, NULL, error);
    if (code == PJ_OK) {
        *version = strtoll(PQgetvalue(result, 0, 0), NULL, 10);
        *roster = strtoll(PQgetvalue(result, 0, 1), NULL, 10);
    }
    PQclear(result);
    for (int i = 0; code == PJ_OK && i < count; i++) {
        if (!projections[i].target_sql)
            continue;
        code = load_state(read, &projections[i], error);
        if (code == PJ_OK)
            code = pj_standing_load_parked(read, &projections[i], error);
    }
    return code;
}

int pj_standing_load(struct pj_session *read, struct pj_projection *projections, int count, int64_t *version,
                     int64_t *roster, struct pj_error *error)
{
    int code = pj_session_exec(read, "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY", error);
    if (code == PJ_OK)
        code = load(read, projections, count, version, roster, error);
    if (code == PJ_OK)
        return pj_session_exec(read, "COMMIT", error);
    struct pj_error ignored;
    pj_session_exec(read, "ROLLBACK", &ignored);
    return pj_error_wrap(error, "read the projections' states");
}

int pj_standing_changed(struct pj_session *read, struct pj_error *error)
{
    return pj_session_exec(read, "UPDATE pgprojector.checkpoint SET version = version + 1", error);
}

int pj_standing_roster(struct pj_session *read, int64_t *roster, struct pj_error *error)
{
    PGresult *result;
    int code = pj_session_query_row(read, &result, "SELECT roster FROM pgprojector.checkpoint", 0, NULL, error);
    if (code == PJ_OK)
        *roster = strtoll(PQgetvalue(result, 0, 0), NULL, 10);
    PQclear(result);
    return code == PJ_OK ? PJ_OK : pj_error_wrap(error, "read the roster's number");
}

int pj_standing_mark(struct pj_session *read, struct pj_mark *mark, struct pj_error *error)
{
    PGresult *result;
    int code = pj_session_query_row(
        read, &result,
        "SELECT roster || ' ' || coalesce((SELECT pg_catalog.md5(pg_catalog.string_agg(name, ',' ORDER BY name)) "
        "FROM pgprojector.projection WHERE state = 'building'), '') FROM pgprojector.checkpoint",
        0, NULL, error);
    snprintf(mark->text, sizeof mark->text, "%s", code == PJ_OK ? PQgetvalue(result, 0, 0) : "");
    PQclear(result);
    return code == PJ_OK ? PJ_OK : pj_error_wrap(error, "read the roster's number");
}

/* A former entry makes way for a new one: a resume under way may be about to drop it (core/statements.c). */
int pj_standing_note_everything(struct pj_session *read, const char *name, struct pj_error *error)
{
    PGresult *result;
    int code = pj_session_query(read, &result,
                                "WITH former AS (DELETE FROM pgprojector.dirty_key WHERE projection = $1 AND key IS "
                                "NULL) INSERT INTO pgprojector.dirty_key (projection) VALUES ($1)",
                                1, &name, error);
    PQclear(result);
    return code;
}

int pj_standing_pause(struct pj_session *read, const struct pj_projection *projection, const struct pj_error *cause,
                      struct pj_error *error)
{
    char reason[512];
    struct pj_error shown = *cause;
    pj_mend_strip(&shown);
    snprintf(reason, sizeof reason, "%.*s", (int)pj_text_clip(shown.message, sizeof reason - 1), shown.message);
    const char *params[] = {projection->name, reason};
    PGresult *result;
    int code = pj_session_query(read, &result,
                                "UPDATE pgprojector.projection SET state = 'paused', since = clock_timestamp(), "
                                "reason = $2 WHERE name = $1 AND state IN ('live', 'failing')",
                                2, params, error);
    PQclear(result);
    return code == PJ_OK ? pj_standing_changed(read, error) : code;
}
