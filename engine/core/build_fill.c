/*
 * See build.h: filling the table beside. Why it is exact: every batch that commits after the snapshot of the rows was
 * taken has noted its keys; every one before it is in the snapshot. A noted key is recomputed at a commit, under the
 * checkpoint row's lock, and if it is touched again it is noted again.
 *
 * The rows come by one INSERT … SELECT of the definition: it has no inner progress that a server would tell. So the
 * progress shown is the size that the new table has reached against that of the former one, an estimate; without a
 * former table there is none.
 */
#include "core/build.h"

#include "core/build_internal.h"
#include "core/catchup.h"
#include "core/fill_keys.h"
#include "core/rebuild.h"
#include "sql.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { TICK_MS = 300 };

static const char indexing_mirrors[] = "indexing the mirrors";

/* -------------------------------------------------------------------------------------------------------- progress */

struct meter {
    struct pj_build *build;
    struct pj_build_row former, next;
    int64_t total; /* rows expected; -1: not known */
};

/* The former table's rows and their part that the new one's size stands for. */
static int read_meter(struct meter *meter, int64_t *total, int64_t *done, struct pj_error *error)
{
    const char *params[] = {meter->former.oid, meter->next.oid};
    PGresult *result;
    int code = pj_session_query_row(
        meter->build->mend->job.session, &result,
        "SELECT coalesce(t.rows, -1), coalesce(pg_catalog.floor(least(1, pg_catalog.pg_relation_size($2::oid)::float8 "
        "/ nullif(pg_catalog.pg_relation_size($1::oid), 0)) * t.rows), 0) FROM (SELECT (SELECT reltuples::bigint "
        "FROM pg_catalog.pg_class WHERE oid = $1::oid AND reltuples > 0)) AS t(rows)",
        2, params, error);
    if (code == PJ_OK) {
        *total = strtoll(PQgetvalue(result, 0, 0), NULL, 10);
        *done = strtoll(PQgetvalue(result, 0, 1), NULL, 10);
    }
    PQclear(result);
    return code;
}

/* While the server fills. */
static int filling(void *context, struct pj_error *error)
{
    struct meter *meter = context;
    int64_t ignored, done = 0;
    int code = meter->total > 0 ? read_meter(meter, &ignored, &done, error) : PJ_OK;
    return code == PJ_OK ? pj_job_advance(&meter->build->mend->job, done, error) : code;
}

/* While the server makes indexes: only looks whether the build was cancelled. */
static int indexing(void *context, struct pj_error *error)
{
    struct pj_build *build = context;
    return pj_job_advance(&build->mend->job, 0, error);
}

/* ------------------------------------------------------------------------------------------------------------- rows */

/* In a snapshot of its own; `by_keys`: without those for which the definition fails. */
static int insert(struct pj_build *build, bool by_keys, struct pj_error *error)
{
    struct pj_session *work = build->mend->work;
    int code = pj_session_exec(work,
                               "BEGIN ISOLATION LEVEL REPEATABLE READ READ WRITE; SET LOCAL work_mem = '128MB'; "
                               "SET LOCAL jit = off",
                               error);
    if (code == PJ_OK)
        code = by_keys ? pj_fill_keys(work, build->next, &build->rows, &build->parked, error)
                       : pj_projection_fill_rows(work, build->next, &build->rows, error);
    return pj_keywork_end(work, code, error);
}

static int fill_rows(struct pj_build *build, struct pj_error *error)
{
    struct meter meter = {.build = build, .total = -1};
    struct pj_mend *mend = build->mend;
    int64_t done;
    int code = pj_build_read_row(mend->work, build->name, "", &meter.former, error);
    if (code == PJ_OK)
        code = pj_build_read_row(mend->work, build->name, PJ_NEXT_NAME, &meter.next, error);
    if (code == PJ_OK)
        code = read_meter(&meter, &meter.total, &done, error);
    if (code == PJ_OK)
        code = pj_job_phase(&mend->job, "filling", meter.total, error);
    if (code != PJ_OK)
        return code;
    pj_session_set_tick(mend->work, TICK_MS, filling, &meter);
    code = insert(build, false, error);
    if (code != PJ_OK && pj_fill_keys_can(build->next, error))
        code = insert(build, true, error);
    pj_session_set_tick(mend->work, 0, NULL, NULL);
    if (build->parked && build->log)
        pj_log(build->log, PJ_LOG_WARNING, "build %s: %lld key%s parked, for which the definition fails", build->name,
               (long long)build->parked, build->parked == 1 ? "" : "s");
    return code;
}

/* The kept table is as it was when it was replaced: what differs is mended. */
static int mend_kept(struct pj_build *build, struct pj_error *error)
{
    return pj_rebuild_pass(build->mend, &build->rows, error);
}

/* ---------------------------------------------------------------------------------------------------------- indexes */

static int make_indexes(struct pj_build *build, struct pj_error *error)
{
    struct pj_session *work = build->mend->work;
    struct pj_build_row former, next;
    int made, code = pj_session_exec(work, "SET maintenance_work_mem = '256MB'", error);
    if (code == PJ_OK && !build->from_kept)
        code = pj_projection_finish_target(work, build->next, error);
    if (code == PJ_OK)
        code = pj_build_read_row(work, build->name, "", &former, error);
    if (code == PJ_OK)
        code = pj_build_read_row(work, build->name, PJ_NEXT_NAME, &next, error);
    if (code == PJ_OK)
        code = pj_build_carry_indexes(work, &former, &next, build->log, &made, error);
    return code == PJ_OK ? pj_session_exec(work, "RESET maintenance_work_mem", error) : code;
}

/* Outside of any transaction: indexes on mirrors are made concurrently. */
static int with_ticks(struct pj_build *build, const char *phase,
                      int (*step)(struct pj_build *build, struct pj_error *error), struct pj_error *error)
{
    struct pj_mend *mend = build->mend;
    int code = pj_job_phase(&mend->job, phase, -1, error);
    if (code != PJ_OK)
        return code;
    pj_session_set_tick(mend->work, TICK_MS, indexing, build);
    code = step(build, error);
    pj_session_set_tick(mend->work, 0, NULL, NULL);
    return code;
}

/* CREATE INDEX CONCURRENTLY waits for every transaction whose snapshot is older, whatever that reads. */
static int say_whom_it_waits_for(struct pj_build *build, struct pj_error *error)
{
    struct pj_job *job = &build->mend->job;
    char pid[16], phase[sizeof build->phase];
    const char *params[] = {pid};
    PGresult *result;
    snprintf(pid, sizeof pid, "%d", PQbackendPID(pj_session_conn(build->mend->work)));
    int code = pj_session_query(job->session, &result, pj_sql_index_wait, 1, params, error);
    if (code != PJ_OK)
        return code;
    bool waits = PQntuples(result) == 1;
    snprintf(phase, sizeof phase, waits ? "%s: waiting for %s" : "%s", indexing_mirrors,
             waits ? PQgetvalue(result, 0, 0) : "");
    PQclear(result);
    if (strcmp(phase, job->now.phase) == 0)
        return pj_job_advance(job, 0, error);
    memcpy(build->phase, phase, sizeof phase);
    if (build->log && waits)
        pj_log(build->log, PJ_LOG_INFO, "%s %s: %s", job->now.kind, build->name, phase);
    return pj_job_phase(job, build->phase, -1, error);
}

static int tick_mirrors(void *context, struct pj_error *error)
{
    return say_whom_it_waits_for(context, error);
}

static int index_mirrors(struct pj_build *build, struct pj_error *error)
{
    struct pj_session *work = build->mend->work;
    pj_session_set_tick(work, TICK_MS, tick_mirrors, build);
    return pj_projection_add_mirror_indexes(work, build->next, error);
}

int pj_build_index_mirrors(struct pj_build *build, struct pj_error *error)
{
    struct pj_job *job = &build->mend->job;
    int code = job->id ? PJ_OK : pj_job_begin(job, build->from_kept ? "rollback" : "build", build->name, error);
    if (code == PJ_OK)
        code = with_ticks(build, indexing_mirrors, index_mirrors, error);
    if (code != PJ_OK)
        pj_job_end(job);
    return code;
}

/* ------------------------------------------------------------------------------------------------ the stream's keys */

static int count_noted(struct pj_build *build, int64_t *count, struct pj_error *error)
{
    const char *name = build->next->name;
    PGresult *result;
    int code = pj_session_query_row(build->mend->job.session, &result,
                                    "SELECT pg_catalog.count(*) FROM pgprojector.dirty_key WHERE projection = $1", 1,
                                    &name, error);
    *count = code == PJ_OK ? strtoll(PQgetvalue(result, 0, 0), NULL, 10) : 0;
    PQclear(result);
    return code;
}

int pj_build_catch_up(struct pj_build *build, struct pj_error *error)
{
    int64_t noted;
    int code = PJ_OK;
    for (int round = 0; code == PJ_OK; round++) {
        code = pj_catchup_round(build->mend, error);
        if (code == PJ_OK)
            code = count_noted(build, &noted, error);
        if (code == PJ_OK && noted <= pj_catchup_few(round))
            break;
    }
    return code == PJ_OK ? PJ_OK : pj_error_wrap(error, "catch up");
}

static int verify(struct pj_build *build, struct pj_error *error)
{
    int64_t differing;
    int code = pj_rebuild_count_differing(build->mend, &differing, error);
    if (code != PJ_OK && build->parked && pj_mend_is_key_fault(error)) {
        if (build->log)
            pj_log(build->log, PJ_LOG_WARNING, "build %s: not compared with the definition, which fails as a whole",
                   build->name);
        pj_error_clear(error);
        return PJ_OK;
    }
    if (code != PJ_OK || !differing)
        return code;
    pj_error_set(error, PJ_EDIFFERENT, "%lld rows of the new table differ from the definition", (long long)differing);
    return pj_error_hint(error, "something else writes to the table, or the definition is not a function of the "
                                "mirrors; what served goes on serving");
}

int pj_build_fill(struct pj_build *build, struct pj_error *error)
{
    build->mend->company = PJ_MEND_NOBODY;
    int code = pj_build_index_mirrors(build, error);
    if (code == PJ_OK)
        code = build->from_kept ? mend_kept(build, error) : fill_rows(build, error);
    if (code == PJ_OK)
        code = with_ticks(build, "indexing", make_indexes, error);
    if (code == PJ_OK)
        code = pj_build_catch_up(build, error);
    if (code == PJ_OK && build->verify)
        code = verify(build, error);
    if (code == PJ_OK)
        return PJ_OK;
    pj_job_end(&build->mend->job);
    return pj_error_wrap(error, build->from_kept ? "roll back %s" : "build %s", build->name);
}
