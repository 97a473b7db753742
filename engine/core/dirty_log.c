/*
 * See dirty_log.h. "Everything" is entered under the checkpoint row's lock, and only after it is committed do the
 * entries before it go, without the lock. So whoever is catching up (core/catchup.c) misses nothing: what a round of
 * his does not find any more is covered by an entry behind the last that he has looked at, which he meets in his next
 * round, or, at the latest, in his last transaction, which has the lock.
 */
#include "core/dirty_log.h"

#include "core/keywork.h"

#include <stdlib.h>

enum { CHUNKS = 10 };

/* Past 50,000 a projection is compared as a whole when it catches up; there is no need to know more. */
static const char outgrown_sql[] =
    "SELECT p.name FROM pgprojector.projection AS p WHERE p.state NOT IN ('live', 'failing') AND 100000 < "
    "(SELECT pg_catalog.count(*) FROM (SELECT FROM pgprojector.dirty_key AS d WHERE d.projection = p.name LIMIT "
    "100001) AS few)";

static const char delete_sql[] =
    "DELETE FROM pgprojector.dirty_key WHERE ctid = ANY (ARRAY(SELECT d.ctid FROM pgprojector.dirty_key AS d "
    "WHERE d.projection = $1 AND d.id < $2 ORDER BY d.id LIMIT 20000))";

/* *id: of the entry that says "everything"; the result is to be cleared. */
static int enter_everything(struct pj_session *read, const char *name, PGresult **id, struct pj_error *error)
{
    pj_lsn lsn;
    int code = pj_keywork_begin(read, &lsn, error);
    if (code != PJ_OK)
        return code;
    code = pj_session_query_row(read, id,
                                "INSERT INTO pgprojector.dirty_key (projection, key) VALUES ($1, NULL) RETURNING id", 1,
                                &name, error);
    return pj_keywork_end(read, code, error);
}

static int trim(struct pj_session *read, const char *name, struct pj_error *error)
{
    PGresult *id = NULL, *deleted;
    bool more = true;
    int code = enter_everything(read, name, &id, error);
    const char *params[] = {name, code == PJ_OK ? PQgetvalue(id, 0, 0) : NULL};
    for (int i = 0; code == PJ_OK && more && i < CHUNKS; i++) {
        code = pj_session_query(read, &deleted, delete_sql, 2, params, error);
        more = code == PJ_OK && strtol(PQcmdTuples(deleted), NULL, 10) > 0;
        PQclear(deleted);
    }
    PQclear(id);
    return code;
}

int pj_dirty_log_trim(struct pj_session *read, struct pj_error *error)
{
    PGresult *outgrown;
    int code = pj_session_query(read, &outgrown, outgrown_sql, 0, NULL, error);
    for (int i = 0; code == PJ_OK && i < PQntuples(outgrown); i++)
        code = trim(read, PQgetvalue(outgrown, i, 0), error);
    PQclear(outgrown);
    return code == PJ_OK ? PJ_OK : pj_error_wrap(error, "trim the log of dirty keys");
}
