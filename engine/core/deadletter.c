/* See deadletter.h. */
#include "core/deadletter.h"

#include "base/clock.h"
#include "base/mem.h"
#include "core/chain.h"
#include "core/mend.h"
#include "core/standing.h"
#include "core/textarray.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { TURN_US = 300000, TURN_KEYS = 200, TOGETHER = 50 };

#define MATCHES                                                                                                        \
    "($1::text IS NULL OR projection = $1) AND ($2::text IS NULL OR key = $2) AND ($3::text IS NULL OR sqlstate = $3)"

/* ------------------------------------------------------------------------------------------------------- listing */

static int query(struct pj_session *session, const struct pj_deadletter_filter *filter, const char *sql,
                 PGresult **result, struct pj_error *error)
{
    const char *params[] = {filter->projection, filter->key, filter->sqlstate};
    return pj_session_query(session, result, sql, 3, params, error);
}

int pj_deadletter_list(struct pj_session *read, const struct pj_deadletter_filter *filter, int limit, PGresult **result,
                       struct pj_error *error)
{
    char *sql = pj_sprintf("SELECT projection, key, sqlstate, message, first_lsn, last_lsn, attempts, "
                           "pg_catalog.to_char(parked_at, 'YYYY-MM-DD\"T\"HH24:MI:SS\"Z\"'), "
                           "pg_catalog.round(extract(epoch FROM pg_catalog.clock_timestamp() - parked_at)), "
                           "pg_catalog.to_char(next_try_at, 'YYYY-MM-DD\"T\"HH24:MI:SS\"Z\"') "
                           "FROM pgprojector.dead_letter WHERE " MATCHES
                           " ORDER BY parked_at, projection, key COLLATE \"C\" LIMIT %d",
                           limit);
    int code = query(read, filter, sql, result, error);
    pj_free(sql);
    return code;
}

int pj_deadletter_count(struct pj_session *read, const struct pj_deadletter_filter *filter, int64_t *count,
                        struct pj_error *error)
{
    PGresult *result;
    *count = 0;
    int code =
        query(read, filter, "SELECT pg_catalog.count(*) FROM pgprojector.dead_letter WHERE " MATCHES, &result, error);
    if (code == PJ_OK)
        *count = strtoll(PQgetvalue(result, 0, 0), NULL, 10);
    PQclear(result);
    return code;
}

/* ------------------------------------------------------------------------------------------------------- retrying */

/* Some keys of one projection, together: each change of what is parked makes the daemon read it again. */
struct attempt {
    struct pj_session *work;
    const struct pj_projection *projection;
    const char *name;
    const PGresult *keys; /* the key in column 1 */
    struct pj_deadletter_tally *tally;
    const struct pj_mark *mark; /* that the statements are of; NULL: not to be looked at */
    const int64_t *roster;      /* the same of the daemon's own setup, which has all that is built beside */
};

/* Within the transaction that recomputed them. */
static int heal(const struct attempt *attempt, const char *keys, struct pj_error *error)
{
    const char *params[] = {attempt->name, keys};
    PGresult *result;
    int code = pj_session_query(attempt->work, &result,
                                "DELETE FROM pgprojector.dead_letter WHERE projection = $1 AND key = ANY ($2::text[])",
                                2, params, error);
    PQclear(result);
    return code == PJ_OK ? pj_keywork_changed(attempt->work, error) : code;
}

/* Within the transaction: another module may keep the table by now, and then the statement is not for it. */
static int check_roster(const struct attempt *attempt, struct pj_error *error)
{
    int64_t roster;
    if (!attempt->roster)
        return PJ_OK;
    int code = pj_standing_roster(attempt->work, &roster, error);
    if (code == PJ_OK && roster != *attempt->roster)
        code = pj_error_set(error, PJ_ERELOAD, "which modules keep which tables has changed");
    return code;
}

static int try_keys(const struct attempt *attempt, int first, int count, struct pj_error *error)
{
    struct pj_buf array = {0};
    pj_textarray_begin(&array);
    for (int i = first; i < first + count; i++)
        pj_textarray_add(&array, PQgetvalue(attempt->keys, i, 1));
    pj_textarray_end(&array);
    const char *params[] = {pj_buf_text(&array)};
    pj_lsn lsn;
    int code = pj_keywork_begin_of(attempt->work, attempt->mark, &lsn, error);
    if (code == PJ_OK)
        code = check_roster(attempt, error);
    if (code == PJ_OK)
        code = pj_keywork_recompute(attempt->work, attempt->projection, false, params, NULL, error);
    if (code == PJ_OK)
        code = heal(attempt, params[0], error);
    code = pj_keywork_end(attempt->work, code, error);
    pj_buf_free(&array);
    return code;
}

/* What the server refuses is a failed attempt, whatever its class, and so is what takes too long (the retrier's
 * statements have a time limit); what another moment might allow is an error. */
static bool refused(const struct pj_error *error)
{
    return error->sqlstate[0] && (!error->retryable || strcmp(error->sqlstate, "57014") == 0);
}

static int retry_keys(const struct attempt *attempt, int first, int count, struct pj_error *error)
{
    int code = try_keys(attempt, first, count, error);
    if (code == PJ_OK) {
        attempt->tally->healed += count;
        return PJ_OK;
    }
    if (!refused(error))
        return code;
    if (count == 1) {
        attempt->tally->failed++;
        return pj_mend_park(attempt->work, attempt->mark, attempt->name, PQgetvalue(attempt->keys, first, 1), error,
                            error);
    }
    code = retry_keys(attempt, first, count / 2, error);
    return code == PJ_OK ? retry_keys(attempt, first + count / 2, count - count / 2, error) : code;
}

/* How many of the keys from `first` on can be tried together. */
static int same_projection(const PGresult *keys, int first)
{
    int end = first + 1;
    while (end < PQntuples(keys) && end - first < TOGETHER &&
           strcmp(PQgetvalue(keys, end, 0), PQgetvalue(keys, first, 0)) == 0)
        end++;
    return end - first;
}

static const struct pj_projection *find(const struct pj_projection *projections, int count, const char *name)
{
    for (int i = 0; i < count; i++)
        if (projections[i].recompute_routing_sql && strcmp(projections[i].name, name) == 0)
            return &projections[i];
    return NULL;
}

static const char keys_sql[] = "SELECT d.projection, d.key, p.state = 'live' FROM pgprojector.dead_letter d "
                               "JOIN pgprojector.projection p ON p.name = d.projection WHERE "
                               "($1::text IS NULL OR d.projection = $1) AND ($2::text IS NULL OR d.key = $2) "
                               "AND ($3::text IS NULL OR d.sqlstate = $3) ORDER BY d.projection, d.parked_at";

int pj_deadletter_retry(struct pj_session *look, struct pj_session *work, const struct pj_mark *mark,
                        const struct pj_projection *projections, int count, const struct pj_deadletter_filter *filter,
                        struct pj_deadletter_tally *tally, struct pj_error *error)
{
    PGresult *keys;
    int code = query(look, filter, keys_sql, &keys, error);
    for (int i = 0, size; code == PJ_OK && i < PQntuples(keys); i += size) {
        const char *name = PQgetvalue(keys, i, 0);
        const struct attempt attempt = {.work = work,
                                        .projection = find(projections, count, name),
                                        .name = name,
                                        .keys = keys,
                                        .tally = tally,
                                        .mark = mark};
        size = same_projection(keys, i);
        if (!attempt.projection || PQgetvalue(keys, i, 2)[0] != 't')
            tally->skipped += size;
        else
            code = retry_keys(&attempt, i, size, error);
    }
    PQclear(keys);
    return code == PJ_OK ? PJ_OK : pj_error_wrap(error, "retry dead letters");
}

/* ----------------------------------------------------------------------------------------------------- discarding */

static int discard(struct pj_session *work, const struct pj_deadletter_filter *filter, int64_t *discarded,
                   struct pj_error *error)
{
    PGresult *result;
    int code = query(work, filter, "DELETE FROM pgprojector.dead_letter WHERE " MATCHES, &result, error);
    if (code == PJ_OK)
        *discarded = strtoll(PQcmdTuples(result), NULL, 10);
    PQclear(result);
    return code == PJ_OK && *discarded ? pj_keywork_changed(work, error) : code;
}

int pj_deadletter_discard(struct pj_session *work, const struct pj_deadletter_filter *filter, int64_t *discarded,
                          struct pj_error *error)
{
    pj_lsn lsn;
    *discarded = 0;
    int code = pj_keywork_begin(work, &lsn, error);
    if (code != PJ_OK)
        return code;
    code = discard(work, filter, discarded, error);
    code = pj_keywork_end(work, code, error);
    return code == PJ_OK ? PJ_OK : pj_error_wrap(error, "discard dead letters");
}

/* ------------------------------------------------------------------------------------------------------ by itself */

struct pj_retrier {
    const struct pj_log *log;
    int64_t roster;
    int count;
    struct pj_projection *projections; /* of each only name, recomputations, and what is chained on it */
};

static char *copy_text(const char *text)
{
    return text ? pj_strdup(text) : NULL;
}

/* Those that read its table are copies, too. */
static void copy_chained(struct pj_projection *copy, const struct pj_projection *from, struct pj_projection *copies,
                         const struct pj_setup *setup)
{
    copy->chained = pj_alloc(sizeof *copy->chained * (size_t)(from->nchained + 1));
    for (; copy->nchained < from->nchained; copy->nchained++) {
        const struct pj_chained *chained = &from->chained[copy->nchained];
        int *columns = pj_alloc(sizeof *columns * (size_t)(chained->width + 1));
        memcpy(columns, chained->columns, sizeof *columns * (size_t)chained->width);
        copy->chained[copy->nchained] =
            (struct pj_chained){copies + (chained->downstream - setup->projections), chained->width, columns};
    }
}

struct pj_retrier *pj_retrier_new(const struct pj_setup *setup, int64_t roster, const struct pj_log *log)
{
    struct pj_retrier *retrier = pj_alloc(sizeof *retrier);
    retrier->log = log;
    retrier->roster = roster;
    retrier->count = setup->nprojections;
    retrier->projections = pj_alloc(sizeof *retrier->projections * (size_t)(setup->nprojections + 1));
    for (int i = 0; i < setup->nprojections; i++) {
        const struct pj_projection *from = &setup->projections[i];
        struct pj_projection *copy = &retrier->projections[i];
        copy->name = pj_strdup(from->name);
        copy->nkey = from->nkey;
        copy->halt_on_error = from->halt_on_error;
        copy->recompute_routing_sql = copy_text(from->recompute_routing_sql);
        copy->recompute_full_sql = copy_text(from->recompute_full_sql);
        copy->recompute_all_sql = copy_text(from->recompute_all_sql);
        copy_chained(copy, from, retrier->projections, setup);
    }
    return retrier;
}

void pj_retrier_free(struct pj_retrier *retrier)
{
    if (!retrier)
        return;
    for (int i = 0; i < retrier->count; i++) {
        struct pj_projection *copy = &retrier->projections[i];
        pj_free(copy->name);
        pj_free(copy->recompute_routing_sql);
        pj_free(copy->recompute_full_sql);
        pj_free(copy->recompute_all_sql);
        pj_chain_free(copy);
    }
    pj_free(retrier->projections);
    pj_free(retrier);
}

static int due_keys(struct pj_session *session, PGresult **keys, struct pj_error *error)
{
    char *sql = pj_sprintf("SELECT d.projection, d.key FROM pgprojector.dead_letter d JOIN pgprojector.projection p "
                           "ON p.name = d.projection WHERE d.next_try_at <= pg_catalog.clock_timestamp() "
                           "AND p.state = 'live' ORDER BY d.projection, d.next_try_at LIMIT %d",
                           TURN_KEYS);
    int code = pj_session_query(session, keys, sql, 0, NULL, error);
    pj_free(sql);
    return code;
}

static void tell(const struct pj_retrier *retrier, const struct pj_deadletter_tally *tally)
{
    if (tally->healed || tally->failed)
        pj_log(retrier->log, PJ_LOG_INFO, "dead letters retried: %lld healed, %lld failed again",
               (long long)tally->healed, (long long)tally->failed);
}

static int retry_due(const struct pj_retrier *retrier, struct pj_session *session, const PGresult *keys,
                     struct pj_error *error)
{
    struct pj_deadletter_tally tally = {0};
    uint64_t until_us = pj_clock_monotonic_us() + TURN_US;
    int code = PJ_OK;
    for (int i = 0, size; code == PJ_OK && i < PQntuples(keys) && pj_clock_monotonic_us() < until_us; i += size) {
        const char *name = PQgetvalue(keys, i, 0);
        const struct attempt attempt = {.work = session,
                                        .projection = find(retrier->projections, retrier->count, name),
                                        .name = name,
                                        .keys = keys,
                                        .tally = &tally,
                                        .roster = &retrier->roster};
        size = same_projection(keys, i);
        if (attempt.projection)
            code = retry_keys(&attempt, i, size, error);
    }
    tell(retrier, &tally);
    return code;
}

/* Apply may hold the checkpoint row for long (a large transaction), and the session has other duties: then another
 * time. */
int pj_retrier_turn(void *context, struct pj_session *session, struct pj_error *error)
{
    const struct pj_retrier *retrier = context;
    PGresult *keys;
    int code = due_keys(session, &keys, error);
    if (code == PJ_OK && PQntuples(keys) > 0) {
        code = pj_session_exec(session, "SET lock_timeout = '300ms'; SET statement_timeout = '1500ms'", error);
        if (code == PJ_OK)
            code = retry_due(retrier, session, keys, error);
        if (code != PJ_OK && PQtransactionStatus(pj_session_conn(session)) == PQTRANS_IDLE) {
            code = PJ_OK; /* the session is in order: no reason to lose it */
            pj_error_clear(error);
        }
        if (code == PJ_OK)
            code = pj_session_exec(session, "RESET lock_timeout; RESET statement_timeout", error);
    }
    PQclear(keys);
    return code;
}
