/* See job.h. */
#include "core/job.h"

#include "base/clock.h"
#include "core/catalog.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { EVERY_US = 250000, END_MS = 1000 };

/* Installing only where it is needed: it takes locks for which a busy daemon would have to wait. */
static int ensure_table(struct pj_session *session, struct pj_error *error)
{
    PGresult *result;
    int code =
        pj_session_query_row(session, &result,
                             "SELECT NOT EXISTS (SELECT FROM pg_catalog.pg_attribute WHERE attname = 'committed' "
                             "AND attrelid = pg_catalog.to_regclass('pgprojector.request'))",
                             0, NULL, error);
    bool missing = code == PJ_OK && PQgetvalue(result, 0, 0)[0] == 't';
    PQclear(result);
    return missing ? pj_catalog_install(session, error) : code;
}

static int enter(struct pj_job *job, const char *kind, const char *name, struct pj_error *error)
{
    const char *params[] = {kind, name};
    PGresult *result;
    int code = pj_session_query(job->session, &result,
                                "DELETE FROM pgprojector.job j WHERE kind = $1 AND name = $2 AND NOT EXISTS "
                                "(SELECT FROM pg_catalog.pg_stat_activity a WHERE a.pid = j.pid "
                                "AND (a.backend_start IS NULL OR a.backend_start <= j.started_at))",
                                2, params, error);
    PQclear(result);
    if (code == PJ_OK)
        code = pj_session_query_row(
            job->session, &result,
            "INSERT INTO pgprojector.job (kind, name, phase) VALUES ($1, $2, 'beginning') RETURNING id", 2, params,
            error);
    if (code == PJ_OK)
        job->id = strtoll(PQgetvalue(result, 0, 0), NULL, 10);
    PQclear(result);
    return code;
}

int pj_job_begin(struct pj_job *job, const char *kind, const char *name, struct pj_error *error)
{
    job->now = (struct pj_progress){.kind = kind, .name = name, .phase = "beginning", .total = -1, .remaining_s = -1};
    int code = ensure_table(job->session, error);
    if (code == PJ_OK)
        code = enter(job, kind, name, error);
    return code == PJ_OK ? PJ_OK : pj_error_wrap(error, "write pgprojector.job");
}

static void estimate(struct pj_job *job, uint64_t now_us)
{
    double seconds = (double)(now_us - job->phase_us) / 1e6;
    struct pj_progress *now = &job->now;
    now->rate = seconds > 0.2 ? (double)now->done / seconds : 0;
    now->remaining_s = now->total >= 0 && now->rate > 0 ? (double)(now->total - now->done) / now->rate : -1;
}

#define CANCELLED(request)                                                                                             \
    "cancelled OR EXISTS (SELECT FROM pgprojector.request r WHERE r.id = " request "::bigint AND r.cancelled)"

static int was_cancelled(const struct pj_job *job, struct pj_error *error)
{
    return pj_error_set(error, PJ_ESTOPPED, "%s %s was cancelled", job->now.kind, job->now.name);
}

int pj_job_check(const struct pj_job *job, struct pj_session *session, struct pj_error *error)
{
    char id[24], request[24];
    snprintf(id, sizeof id, "%lld", job->id);
    snprintf(request, sizeof request, "%lld", (long long)job->request);
    const char *params[] = {id, request};
    PGresult *result;
    int code = pj_session_query(session, &result,
                                "SELECT FROM pgprojector.job WHERE id = $1::bigint AND (" CANCELLED("$2") ")", 2,
                                params, error);
    bool cancelled = code == PJ_OK && PQntuples(result) > 0;
    PQclear(result);
    return cancelled ? was_cancelled(job, error) : code;
}

static int write_row(struct pj_job *job, bool new_phase, struct pj_error *error)
{
    char id[24], done[24], total[24], request[24];
    snprintf(id, sizeof id, "%lld", job->id);
    snprintf(request, sizeof request, "%lld", (long long)job->request);
    snprintf(done, sizeof done, "%lld", (long long)job->now.done);
    snprintf(total, sizeof total, "%lld", (long long)job->now.total);
    const char *params[] = {
        id, job->now.phase, done, job->now.total < 0 ? NULL : total, new_phase ? "true" : "false", request};
    PGresult *result;
    int code = pj_session_query(job->session, &result,
                                "UPDATE pgprojector.job SET phase = $2, done = $3::bigint, total = $4::bigint, "
                                "updated_at = pg_catalog.clock_timestamp(), phase_at = CASE WHEN $5::boolean "
                                "THEN pg_catalog.clock_timestamp() ELSE phase_at END WHERE id = $1::bigint "
                                "RETURNING " CANCELLED("$6"),
                                6, params, error);
    bool cancelled = code == PJ_OK && PQntuples(result) == 1 && strcmp(PQgetvalue(result, 0, 0), "t") == 0;
    PQclear(result);
    job->written_us = pj_clock_monotonic_us();
    if (job->show)
        job->show(job->context, &job->now);
    if (cancelled)
        return was_cancelled(job, error);
    return code == PJ_OK ? PJ_OK : pj_error_wrap(error, "write pgprojector.job");
}

int pj_job_phase(struct pj_job *job, const char *phase, int64_t total, struct pj_error *error)
{
    job->now.phase = phase;
    job->now.done = 0;
    job->now.total = total;
    job->phase_us = pj_clock_monotonic_us();
    estimate(job, job->phase_us);
    return write_row(job, true, error);
}

int pj_job_advance(struct pj_job *job, int64_t done, struct pj_error *error)
{
    uint64_t now_us = pj_clock_monotonic_us();
    job->now.done = done;
    if (now_us - job->written_us < EVERY_US && done != job->now.total)
        return PJ_OK;
    estimate(job, now_us);
    return write_row(job, false, error);
}

/* A frozen server must not hold up who was asked to stop; what is left of the row the next one of its kind removes. */
void pj_job_end(struct pj_job *job)
{
    PGconn *conn = pj_session_conn(job->session);
    struct pj_error ignored;
    char sql[80];
    snprintf(sql, sizeof sql, "DELETE FROM pgprojector.job WHERE id = %lld", job->id);
    if (job->id && PQtransactionStatus(conn) == PQTRANS_IDLE)
        pj_session_exec_last(job->session, sql, END_MS, &ignored);
    job->id = 0;
}
