/* See guilty.h. */
#include "core/guilty.h"

#include "base/mem.h"

/* What was being built beside goes by its module's name. */
int pj_guilty_note(struct pj_session *session, const struct pj_guilt *guilt, struct pj_error *error)
{
    const char *params[] = {guilt->projection, guilt->mark, guilt->what};
    PGresult *result;
    int code = pj_session_query(session, &result,
                                "INSERT INTO pgprojector.guilty_module (name, mark, what) "
                                "VALUES (pg_catalog.split_part($1, '.', 1), $2, $3) ON CONFLICT (name) DO UPDATE "
                                "SET mark = excluded.mark, what = excluded.what, since = excluded.since",
                                3, params, error);
    PQclear(result);
    return code;
}

int pj_guilty_of(struct pj_session *session, const char *name, const char *mark, char **what, struct pj_error *error)
{
    const char *params[] = {name, mark};
    PGresult *result;
    int code = pj_session_query(
        session, &result,
        "SELECT what || pg_catalog.to_char(since, ' (YYYY-MM-DD HH24:MI:SS)') "
        "FROM pgprojector.guilty_module WHERE name = $1 AND mark = coalesce($2::pg_catalog.text, mark)",
        2, params, error);
    *what = code == PJ_OK && PQntuples(result) == 1 ? pj_strdup(PQgetvalue(result, 0, 0)) : NULL;
    PQclear(result);
    return code;
}

int pj_guilty_forget(struct pj_session *session, const char *name, const char *mark, struct pj_error *error)
{
    const char *params[] = {name, mark};
    PGresult *result;
    int code = pj_session_query(session, &result,
                                "DELETE FROM pgprojector.guilty_module WHERE name = $1 AND mark IS DISTINCT FROM $2", 2,
                                params, error);
    PQclear(result);
    return code;
}
