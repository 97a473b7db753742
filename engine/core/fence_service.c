/*
 * One request at a time is served, the oldest first. The row's state is the conversation:
 *
 *      requester           row         daemon
 *      inserts          requested      takes it, holds the gate
 *                       held           the gate is held: apply stands still at a commit
 *      sets target      advance        lets the gate advance to it
 *                       reached        the gate has reached it; target becomes the checkpoint apply stands at
 *      deletes the row                 releases the gate
 *
 * What can fail: the requester vanishes (15 s after the gate was asked for, the row is marked expired and then the gate
 * released, in this order, so that no snapshot shows "reached" beside data that moved on); the daemon's session is lost
 * (the gate is released at once: apply must not stand still for want of a witness; the row still says "reached" then,
 * and the requester notices by the checkpoint, which is no longer the row's target).
 */
#include "core/fence_service.h"

#include "base/clock.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { FENCE_MS = 15000 };

struct row {
    bool exists;
    char state[16];
    pj_lsn target; /* 0: none */
};

void pj_fence_service_drop(struct pj_fence_service *service)
{
    pj_gate_release(service->gate);
    service->step = PJ_FENCE_NONE;
    service->id = 0;
    service->cleaned = false;
}

/* The gate goes free, and the next request may be taken. */
static void finish(struct pj_fence_service *service)
{
    pj_gate_release(service->gate);
    service->step = PJ_FENCE_NONE;
    service->id = 0;
}

/* Rows in the middle of a conversation whose daemon's side is gone. */
static int clean(struct pj_fence_service *service, struct pj_session *session, struct pj_error *error)
{
    static const char sql[] = "WITH left_over AS (UPDATE pgprojector.fence SET state = 'expired' "
                              "                   WHERE state IN ('held', 'advance', 'reached') RETURNING id) "
                              "SELECT pg_catalog.pg_notify('pgprojector', 'fence') FROM left_over";
    int code = pj_session_exec(session, sql, error);
    service->cleaned = code == PJ_OK;
    return code;
}

static int take(struct pj_fence_service *service, struct pj_session *session, bool *moved, struct pj_error *error)
{
    static const char sql[] =
        "WITH old AS (DELETE FROM pgprojector.fence "
        "             WHERE requested_at < pg_catalog.clock_timestamp() - interval '60 seconds') "
        "SELECT id FROM pgprojector.fence WHERE state = 'requested' "
        "AND requested_at >= pg_catalog.clock_timestamp() - interval '60 seconds' ORDER BY id LIMIT 1";
    PGresult *result;
    int code = pj_session_query(session, &result, sql, 0, NULL, error);
    if (code != PJ_OK)
        return code;
    if (PQntuples(result) == 1) {
        service->id = strtoll(PQgetvalue(result, 0, 0), NULL, 10);
        service->step = PJ_FENCE_ASKED;
        service->deadline_us = pj_clock_monotonic_us() + (uint64_t)FENCE_MS * 1000;
        pj_gate_hold(service->gate);
        *moved = true;
    }
    PQclear(result);
    return PJ_OK;
}

static int read_row(const struct pj_fence_service *service, struct pj_session *session, struct row *row,
                    struct pj_error *error)
{
    char id[24];
    snprintf(id, sizeof id, "%" PRId64, service->id);
    const char *params[] = {id};
    PGresult *result;
    int code = pj_session_query(session, &result, "SELECT state, target FROM pgprojector.fence WHERE id = $1::bigint",
                                1, params, error);
    if (code != PJ_OK)
        return code;
    memset(row, 0, sizeof *row);
    row->exists = PQntuples(result) == 1;
    if (row->exists) {
        snprintf(row->state, sizeof row->state, "%s", PQgetvalue(result, 0, 0));
        if (!pj_lsn_parse(PQgetvalue(result, 0, 1), &row->target))
            row->target = 0;
    }
    PQclear(result);
    return PJ_OK;
}

static int mark(const struct pj_fence_service *service, struct pj_session *session, const char *state,
                struct pj_error *error)
{
    return pj_session_execf(session, error,
                            "UPDATE pgprojector.fence SET state = '%s' WHERE id = %" PRId64 "; NOTIFY pgprojector",
                            state, service->id);
}

static int mark_reached(const struct pj_fence_service *service, struct pj_session *session, struct pj_error *error)
{
    return pj_session_execf(session, error,
                            "UPDATE pgprojector.fence SET state = 'reached', "
                            "target = (SELECT lsn FROM pgprojector.checkpoint) "
                            "WHERE id = %" PRId64 " AND state = 'advance'; NOTIFY pgprojector",
                            service->id);
}

/* One step of the conversation, where there is one to take. */
static int step(struct pj_fence_service *service, struct pj_session *session, const struct row *row, bool *moved,
                struct pj_error *error)
{
    enum pj_gate_state gate = pj_gate_state(service->gate, NULL);
    int code = PJ_OK;
    *moved = true;
    if (service->step == PJ_FENCE_ASKED && gate == PJ_GATE_HELD) {
        service->step = PJ_FENCE_HELD;
        code = mark(service, session, "held", error);
    } else if (service->step == PJ_FENCE_HELD && strcmp(row->state, "advance") == 0 && row->target) {
        service->step = PJ_FENCE_ADVANCING;
        pj_gate_advance(service->gate, row->target);
    } else if (service->step == PJ_FENCE_ADVANCING && gate == PJ_GATE_REACHED) {
        service->step = PJ_FENCE_REACHED;
        code = mark_reached(service, session, error);
    } else {
        *moved = false;
    }
    return code;
}

/* Goes on with the fence being served: to its next step, or to its end. */
static int serve(struct pj_fence_service *service, struct pj_session *session, bool *moved, struct pj_error *error)
{
    struct row row;
    int code = read_row(service, session, &row, error);
    if (code != PJ_OK)
        return code;
    if (!row.exists || strcmp(row.state, "expired") == 0) {
        finish(service);
        *moved = true;
        return PJ_OK;
    }
    if (pj_clock_monotonic_us() >= service->deadline_us) {
        code = mark(service, session, "expired", error);
        finish(service);
        *moved = true;
        return code;
    }
    return step(service, session, &row, moved, error);
}

int pj_fence_service_tick(struct pj_fence_service *service, struct pj_session *session, bool willing,
                          struct pj_error *error)
{
    int code = PJ_OK;
    pj_error_clear(error);
    if (willing && !service->cleaned)
        code = clean(service, session, error);
    for (bool moved = true; moved && code == PJ_OK;) {
        moved = false;
        if (service->step != PJ_FENCE_NONE)
            code = serve(service, session, &moved, error);
        else if (willing)
            code = take(service, session, &moved, error);
    }
    return code != PJ_OK ? pj_error_wrap(error, "serve a fence") : PJ_OK;
}
