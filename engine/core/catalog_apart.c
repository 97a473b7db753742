/* Whether write and read database are two. Advisory locks belong to a database: one that the one session has is met by
 * the other where they are in the same. */
#include "core/catalog.h"

#include "base/clock.h"

#include <stdio.h>
#include <unistd.h>

static int refuse(struct pj_session *read, struct pj_error *error)
{
    pj_error_set(error, PJ_ECONFIG, "the write and the read database are the same one, \"%s\"",
                 PQdb(pj_session_conn(read)));
    return pj_error_hint(error, "let WRITE_DATABASE_URL and READ_DATABASE_URL name two databases; they may be of one "
                                "server");
}

int pj_catalog_check_apart(struct pj_session *write, struct pj_session *read, struct pj_error *error)
{
    char key[24];
    snprintf(key, sizeof key, "%lld", (long long)(pj_clock_monotonic_us() ^ (uint64_t)getpid() << 44));
    const char *params[] = {key};
    PGresult *had = NULL, *met = NULL;
    int code = pj_session_query(write, &had, "SELECT pg_catalog.pg_advisory_lock($1::bigint)", 1, params, error);
    if (code == PJ_OK) /* given back at once, where it was to be had */
        code = pj_session_query_row(read, &met,
                                    "SELECT CASE WHEN pg_catalog.pg_try_advisory_lock($1::bigint) "
                                    "THEN NOT pg_catalog.pg_advisory_unlock($1::bigint) ELSE true END",
                                    1, params, error);
    bool same = code == PJ_OK && PQgetvalue(met, 0, 0)[0] == 't';
    PQclear(had);
    PQclear(met);
    if (code == PJ_OK)
        code = pj_session_query(write, &had, "SELECT pg_catalog.pg_advisory_unlock($1::bigint)", 1, params, error);
    if (code == PJ_OK)
        PQclear(had);
    return code == PJ_OK && same ? refuse(read, error) : code;
}
