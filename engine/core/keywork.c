/*
 * See keywork.h. The settings are those for which the recompute statements are made (core/statements.c says why):
 * generic plans that walk indexes. They are set for the transaction only, so that the session may be used for other
 * things. Should the process be stopped within a transaction, the server ends it after some seconds, and the daemon
 * goes on.
 */
#include "core/keywork.h"

#include "base/mem.h"
#include "core/chainwork.h"
#include "core/standing.h"

#include <stdlib.h>
#include <string.h>

static const char begin_sql[] = "BEGIN ISOLATION LEVEL READ COMMITTED READ WRITE; SET LOCAL synchronous_commit = on; "
                                "SET LOCAL plan_cache_mode = force_generic_plan; " PJ_KEYWORK_NARROW
                                "; SET LOCAL jit = off; SET LOCAL idle_in_transaction_session_timeout = '10s'";
static const char lock_sql[] = "SELECT lsn FROM pgprojector.checkpoint FOR UPDATE";

static int take_lsn(const PGresult *result, pj_lsn *lsn, struct pj_error *error)
{
    *lsn = 0;
    if (PQntuples(result) == 1 && pj_lsn_parse(PQgetvalue(result, 0, 0), lsn))
        return PJ_OK;
    pj_error_set(error, PJ_EUNHEALTHY, "the first start is not complete");
    return pj_error_hint(error, "start the daemon with `pgprojector run`, or see `pgprojector status`");
}

int pj_keywork_begin(struct pj_session *read, pj_lsn *lsn, struct pj_error *error)
{
    PGresult *result;
    char *sql = pj_sprintf("%s; %s", begin_sql, lock_sql);
    int code = pj_session_query(read, &result, sql, 0, NULL, error);
    pj_free(sql);
    if (code == PJ_OK)
        code = take_lsn(result, lsn, error);
    PQclear(result);
    if (code == PJ_OK)
        return PJ_OK;
    pj_keywork_rollback(read);
    return pj_error_wrap(error, "lock the checkpoint");
}

int pj_keywork_check(struct pj_session *read, const struct pj_mark *mark, struct pj_error *error)
{
    struct pj_mark now;
    int code = mark ? pj_standing_mark(read, &now, error) : PJ_OK;
    if (!mark || code != PJ_OK || strcmp(now.text, mark->text) == 0)
        return code;
    pj_error_set(error, PJ_ERELOAD, "modules were registered, exchanged or removed meanwhile");
    return pj_error_hint(error, "what was done until then stays; run the command again");
}

/* A statement of its own after the lock's: that one's snapshot may be from before it waited. */
int pj_keywork_begin_of(struct pj_session *read, const struct pj_mark *mark, pj_lsn *lsn, struct pj_error *error)
{
    int code = pj_keywork_begin(read, lsn, error);
    if (code == PJ_OK)
        code = pj_keywork_check(read, mark, error);
    if (code != PJ_OK)
        pj_keywork_rollback(read);
    return code;
}

int pj_keywork_begin_alone(struct pj_session *read, struct pj_error *error)
{
    return pj_session_exec(read, begin_sql, error);
}

int pj_keywork_lock(struct pj_session *read, pj_lsn *lsn, struct pj_error *error)
{
    PGresult *result;
    int code = pj_session_query(read, &result, lock_sql, 0, NULL, error);
    if (code == PJ_OK)
        code = take_lsn(result, lsn, error);
    PQclear(result);
    return code == PJ_OK ? PJ_OK : pj_error_wrap(error, "lock the checkpoint");
}

/* COMMIT of a transaction that has failed is answered by the tag ROLLBACK. */
int pj_keywork_commit(struct pj_session *read, struct pj_error *error)
{
    PGresult *result;
    int code = pj_session_query(read, &result, "COMMIT", 0, NULL, error);
    if (code == PJ_OK && strcmp(PQcmdStatus(result), "COMMIT") != 0)
        code = pj_error_set(error, PJ_EFAIL, "read database: the transaction was rolled back");
    PQclear(result);
    return code;
}

/* After a stop or a lost connection nothing can be sent any more; closing the session then rolls back. */
void pj_keywork_rollback(struct pj_session *read)
{
    struct pj_error ignored;
    PGconn *conn = pj_session_conn(read);
    if (PQstatus(conn) == CONNECTION_OK && PQtransactionStatus(conn) != PQTRANS_IDLE &&
        PQtransactionStatus(conn) != PQTRANS_ACTIVE)
        pj_session_exec(read, "ROLLBACK", &ignored);
}

int pj_keywork_end(struct pj_session *read, int code, struct pj_error *error)
{
    if (code == PJ_OK)
        code = pj_keywork_commit(read, error);
    if (code != PJ_OK)
        pj_keywork_rollback(read);
    return code;
}

int pj_keywork_changed(struct pj_session *read, struct pj_error *error)
{
    return pj_standing_changed(read, error);
}

int pj_keywork_roster_changed(struct pj_session *read, struct pj_error *error)
{
    return pj_session_exec(read, "UPDATE pgprojector.checkpoint SET version = version + 1, roster = roster + 1", error);
}

int pj_keywork_recompute(struct pj_session *read, const struct pj_projection *projection, bool full,
                         const char *const *keys, int64_t *rows, struct pj_error *error)
{
    bool all_columns = full && projection->nkey > 1;
    const char *sql = all_columns ? projection->recompute_full_sql : projection->recompute_routing_sql;
    PGresult *result;
    int code = pj_session_query(read, &result, sql, all_columns ? projection->nkey : 1, keys, error);
    if (code == PJ_OK && rows)
        *rows = strtoll(PQcmdTuples(result), NULL, 10);
    if (code == PJ_OK)
        code = pj_chainwork_touched(read, projection, result, error);
    PQclear(result);
    return code;
}
