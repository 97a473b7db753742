/* Creating the catalog (sql/catalog.sql), and seeing that it is there. */
#include "core/catalog_internal.h"

#include "core/keywork.h"
#include "sql.h"

#define XXH_INLINE_ALL
#include <xxhash.h>

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

/*
 * What was installed, as text: a digest of the statements, and how many things they made. It stands in the schema's
 * comment. Where it is still right nothing is run: some of the statements take locks for which even readers of the
 * checkpoint wait, and two readers' transactions and a daemon that starts could wait for each other.
 */
static int read_stamp(struct pj_session *read, char stamp[80], bool *found, struct pj_error *error)
{
    static const char sql[] =
        "SELECT pg_catalog.concat('; ', $1::text, ', ', (SELECT pg_catalog.count(*) FROM pg_catalog.pg_class "
        "WHERE relnamespace = s.oid), '+', (SELECT pg_catalog.count(*) FROM pg_catalog.pg_proc "
        "WHERE pronamespace = s.oid)), pg_catalog.obj_description(s.oid, 'pg_namespace') "
        "FROM (SELECT pg_catalog.to_regnamespace('pgprojector')::oid AS oid) AS s";
    char digest[20];
    snprintf(digest, sizeof digest, "%016" PRIx64, (uint64_t)XXH3_64bits(pj_sql_catalog, strlen(pj_sql_catalog)));
    const char *params[] = {digest};
    PGresult *result;
    int code = pj_session_query_row(read, &result, sql, 1, params, error);
    if (code == PJ_OK) {
        snprintf(stamp, 80, "%s", PQgetvalue(result, 0, 0));
        *found = strstr(PQgetvalue(result, 0, 1), stamp) != NULL;
    }
    PQclear(result);
    return code;
}

static int leave_stamp(struct pj_session *read, struct pj_error *error)
{
    char stamp[80];
    bool found;
    int code = read_stamp(read, stamp, &found, error);
    return code == PJ_OK
               ? pj_session_execf(read, error, "COMMENT ON SCHEMA pgprojector IS '%s%s'",
                                  "Catalog of the pgprojector daemon: checkpoint, mirrors, projections", stamp)
               : code;
}

static int install(struct pj_session *read, struct pj_error *error)
{
    int code = pj_session_execf(read, error, "SELECT pg_catalog.pg_advisory_xact_lock(%d, %d)", PJ_CATALOG_LOCK,
                                PJ_CATALOG_LOCK_INSTALL);
    if (code == PJ_OK)
        code = pj_session_exec(read, "SET LOCAL client_min_messages = warning", error);
    if (code == PJ_OK)
        code = pj_session_exec(read, pj_sql_catalog, error);
    return code == PJ_OK ? leave_stamp(read, error) : code;
}

static void explain_install(struct pj_session *read, struct pj_error *error)
{
    if (strcmp(error->sqlstate, "42501") != 0)
        return;
    error->code = PJ_ECONFIG;
    pj_error_hint(error, "GRANT CREATE ON DATABASE %s TO \"%s\", or run pgprojector init as a role that may",
                  PQdb(pj_session_conn(read)), PQuser(pj_session_conn(read)));
}

int pj_catalog_install(struct pj_session *read, struct pj_error *error)
{
    char stamp[80];
    bool installed = false;
    int code = read_stamp(read, stamp, &installed, error);
    if (installed)
        return PJ_OK;
    if (code == PJ_OK)
        code = pj_session_exec(read, "BEGIN", error);
    if (code == PJ_OK)
        code = install(read, error);
    if (code == PJ_OK)
        code = pj_session_exec(read, "COMMIT", error);
    if (code == PJ_OK)
        return PJ_OK;
    explain_install(read, error);
    pj_error_wrap(error, "create the catalog in schema pgprojector");
    pj_keywork_rollback(read);
    return error->code;
}
