/*
 * See build_internal.h: the views that read the table. Each is defined again by its own text, by CREATE OR REPLACE VIEW, which
 * keeps its oid, its grants and whatever is built upon it. The table's name in the text means the new table by then.
 *
 * That may fail (a privilege, a name that two tables have now), or, worse, mean other columns without a word: an alias list
 * names them by their place. So sql/build_obstacles.sql refuses what goes by places where these differ, and each view must
 * read columns of the same names as before. Both are found out before anything is built, by a rehearsal: the swap's
 * names and views, with the empty table, undone at once.
 */
#include "core/build_internal.h"

#include "core/table_lock.h"
#include "sql.h"

#include <string.h>

/* A lock that somebody else has: a rehearsal is not worth waiting for, the swap looks again. */
enum { ATTEMPTS = 3 };

static const char away[] = "pgprojector__away"; /* what the former table is called while the rehearsal lasts */

int pj_build_read_views(struct pj_session *session, const struct pj_build_row *table, PGresult **views,
                        struct pj_error *error)
{
    const char *params[] = {table->oid};
    return pj_session_query_kept(session, views, pj_sql_build_views, 1, params, error);
}

int pj_build_lock_views(struct pj_session *session, const PGresult *views, struct pj_error *error)
{
    int code = PJ_OK;
    for (int i = 0; code == PJ_OK && i < PQntuples(views); i++)
        code = pj_session_exec(session, PQgetvalue(views, i, PJ_VIEW_LOCK), error);
    return code;
}

/* ------------------------------------------------------------------------------------------------------- redefining */

static int refuse(const char *view, struct pj_error *error)
{
    if (error->retryable || error->code == PJ_ESTOPPED)
        return error->code;
    error->code = PJ_ECONFIG;
    pj_error_wrap(error, "view %s, which reads the table, cannot be defined for the new one", view);
    return pj_error_hint(error, "mend or drop that view first, and put it back afterwards; nothing has been swapped");
}

static const char *columns_read(const PGresult *views, const char *oid)
{
    for (int i = 0; i < PQntuples(views); i++)
        if (strcmp(PQgetvalue(views, i, PJ_VIEW_OID), oid) == 0)
            return PQgetvalue(views, i, PJ_VIEW_COLUMNS);
    return "";
}

static int compare(const PGresult *before, const PGresult *after, struct pj_error *error)
{
    for (int i = 0; i < PQntuples(before); i++) {
        const char *was = PQgetvalue(before, i, PJ_VIEW_COLUMNS);
        const char *is = columns_read(after, PQgetvalue(before, i, PJ_VIEW_OID));
        if (strcmp(was, is) == 0)
            continue;
        pj_error_set(error, PJ_ECONFIG, "by its text it would read the columns %s instead of %s", is, was);
        return refuse(PQgetvalue(before, i, PJ_VIEW_NAME), error);
    }
    return PJ_OK;
}

int pj_build_redefine_views(struct pj_session *session, const struct pj_build_row *next, const PGresult *views,
                            struct pj_error *error)
{
    PGresult *after = NULL;
    for (int i = 0; i < PQntuples(views); i++)
        if (pj_session_exec(session, PQgetvalue(views, i, PJ_VIEW_DEFINITION), error) != PJ_OK)
            return refuse(PQgetvalue(views, i, PJ_VIEW_NAME), error);
    if (!PQntuples(views))
        return PJ_OK;
    int code = pj_build_read_views(session, next, &after, error);
    if (code == PJ_OK)
        code = compare(views, after, error);
    PQclear(after);
    return code;
}

/* -------------------------------------------------------------------------------------------------------- rehearsal */

static int rehearse(struct pj_session *session, const char *table, const struct pj_build_row *former,
                    const struct pj_build_row *next, const PGresult *views, struct pj_error *error)
{
    int milliseconds, code = pj_table_lock_timeout(session, &milliseconds, error);
    if (code == PJ_OK)
        code = pj_session_execf(session, error, "SET LOCAL lock_timeout = %d", milliseconds);
    if (code == PJ_OK)
        code = pj_build_lock_views(session, views, error);
    if (code == PJ_OK)
        code = pj_build_rename_table(session, former->schema, former->table, away, error);
    if (code == PJ_OK)
        code = pj_build_rename_table(session, next->schema, next->table, table, error);
    return code == PJ_OK ? pj_build_redefine_views(session, next, views, error) : code;
}

int pj_build_rehearse_views(struct pj_session *session, const char *table, const struct pj_build_row *former,
                            const struct pj_build_row *next, struct pj_error *error)
{
    PGresult *views = NULL;
    bool again = true;
    int code = strcmp(former->oid, "0") == 0 ? PJ_OK : pj_build_read_views(session, former, &views, error);
    for (int i = 0; code == PJ_OK && again && PQntuples(views) && i < ATTEMPTS; i++) {
        code = pj_session_exec(session, "SAVEPOINT pgprojector_views", error);
        if (code == PJ_OK)
            code = rehearse(session, table, former, next, views, error);
        again = code != PJ_OK && pj_table_lock_in_the_way(error);
        if (code == PJ_OK || again)
            code = pj_session_exec(
                session, "ROLLBACK TO SAVEPOINT pgprojector_views; RELEASE SAVEPOINT pgprojector_views", error);
    }
    PQclear(views);
    return code;
}
