/*
 * The checkpoint's row: reading it, and the steps that move it beside the stream. Installing the catalog, the daemon's
 * lock and the list of mirrors have files of their own.
 */
#include "core/catalog_internal.h"

#include "base/mem.h"
#include "core/source_internal.h"
#include "sql.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* ------------------------------------------------------------------------------------------------------------- read */

static void copy_text(char *to, size_t size, const PGresult *result, const char *name)
{
    snprintf(to, size, "%s", pj_field(result, 0, name));
}

static void copy_checkpoint(const PGresult *result, struct pj_checkpoint *checkpoint)
{
    checkpoint->complete = pj_lsn_parse(pj_field(result, 0, "lsn"), &checkpoint->lsn);
    copy_text(checkpoint->instance, sizeof checkpoint->instance, result, "instance");
    copy_text(checkpoint->slot, sizeof checkpoint->slot, result, "slot");
    copy_text(checkpoint->system_id, sizeof checkpoint->system_id, result, "system_id");
    copy_text(checkpoint->database, sizeof checkpoint->database, result, "database");
    copy_text(checkpoint->backend_start, sizeof checkpoint->backend_start, result, "backend_start");
    copy_text(checkpoint->resync_at, sizeof checkpoint->resync_at, result, "resync_at");
    checkpoint->timeline = pj_field_uint(result, 0, "timeline");
    checkpoint->epoch = strtoll(pj_field(result, 0, "epoch"), NULL, 10);
    checkpoint->witness_xid = pj_field_uint(result, 0, "witness_xid");
    pj_lsn_parse(pj_field(result, 0, "witness_lsn"), &checkpoint->witness_lsn);
    checkpoint->witness_time_us = strtoll(pj_field(result, 0, "witness_us"), NULL, 10);
    checkpoint->backend_pid = atoi(pj_field(result, 0, "backend_pid"));
}

int pj_catalog_read_row(struct pj_session *read, const char *suffix, struct pj_checkpoint *checkpoint,
                        struct pj_error *error)
{
    char *sql = pj_sprintf("%s %s", pj_sql_catalog_checkpoint, suffix);
    PGresult *result;
    int code = pj_session_query_row(read, &result, sql, 0, NULL, error);
    if (code == PJ_OK)
        copy_checkpoint(result, checkpoint);
    PQclear(result);
    pj_free(sql);
    return code == PJ_OK ? PJ_OK : pj_error_wrap(error, "read the checkpoint");
}

int pj_catalog_read(struct pj_session *read, struct pj_checkpoint *checkpoint, bool *installed, struct pj_error *error)
{
    memset(checkpoint, 0, sizeof *checkpoint);
    *installed = false;
    PGresult *result;
    int code = pj_session_query_row(
        read, &result, "SELECT pg_catalog.to_regclass('pgprojector.checkpoint') IS NOT NULL", 0, NULL, error);
    if (code != PJ_OK)
        return code;
    *installed = PQgetvalue(result, 0, 0)[0] == 't';
    PQclear(result);
    return *installed ? pj_catalog_read_row(read, "", checkpoint, error) : PJ_OK;
}

/* ------------------------------------------------------------------------------------------------------------ write */

/* Runs an UPDATE of the checkpoint that must find exactly the row it expects. */
static int update_row(struct pj_session *read, const char *sql, int count, const char *const *params,
                      const char *unless, struct pj_error *error)
{
    PGresult *result;
    int code = pj_session_query(read, &result, sql, count, params, error);
    if (code == PJ_OK && strcmp(PQcmdTuples(result), "1") != 0)
        code = pj_error_set(error, PJ_ESTALE, "the checkpoint changed no row: %s", unless);
    PQclear(result);
    return code;
}

int pj_catalog_follow_timeline(struct pj_session *read, const struct pj_checkpoint *checkpoint, uint32_t timeline,
                               struct pj_error *error)
{
    char number[16], believed[24];
    snprintf(number, sizeof number, "%u", timeline);
    snprintf(believed, sizeof believed, "%lld", (long long)checkpoint->epoch);
    const char *params[] = {number, PJ_LSN(checkpoint->lsn), believed};
    int code = update_row(read, "UPDATE pgprojector.checkpoint SET timeline = $1 WHERE lsn = $2 AND epoch = $3", 3,
                          params, "another daemon has taken over", error);
    return code == PJ_OK ? PJ_OK : pj_error_wrap(error, "note the write database's timeline");
}

/* ------------------------------------------------------------------------------------------- first start and resync */

int pj_catalog_intend_slot(struct pj_session *read, const char *slot, const struct pj_source_identity *identity,
                           struct pj_error *error)
{
    char timeline[16];
    snprintf(timeline, sizeof timeline, "%u", identity->timeline);
    const char *params[] = {slot, identity->system_id, timeline, identity->database};
    int code = update_row(read,
                          "UPDATE pgprojector.checkpoint SET slot = $1, system_id = $2, timeline = $3, database = $4 "
                          "WHERE lsn IS NULL",
                          4, params, "the first start is already complete", error);
    return code == PJ_OK ? PJ_OK : pj_error_wrap(error, "note the intended slot %s", slot);
}

int pj_catalog_intend_resync(struct pj_session *read, int64_t epoch, struct pj_error *error)
{
    char believed[24];
    snprintf(believed, sizeof believed, "%lld", (long long)epoch);
    const char *params[] = {believed};
    int code = update_row(read,
                          "UPDATE pgprojector.checkpoint SET resync_at = pg_catalog.clock_timestamp() "
                          "WHERE lsn IS NOT NULL AND epoch = $1",
                          1, params, "another daemon has taken over", error);
    return code == PJ_OK ? PJ_OK : pj_error_wrap(error, "note the intended resync");
}

/* What a first start and a resync end with: another stream of changes begins, from a witness of its own. */
#define BEGINS_ANEW                                                                                                    \
    "UPDATE pgprojector.checkpoint SET lsn = $1, system_id = $2, timeline = $3, database = $4, witness_xid = NULL, "   \
    "witness_lsn = NULL, witness_time = NULL, resync_at = NULL, applied_at = pg_catalog.clock_timestamp() "            \
    "WHERE epoch = $5 AND "

static int complete(struct pj_session *read, pj_lsn lsn, const struct pj_source_identity *identity, int64_t epoch,
                    const char *sql, struct pj_error *error)
{
    char timeline[16], believed[24];
    snprintf(timeline, sizeof timeline, "%u", identity->timeline);
    snprintf(believed, sizeof believed, "%lld", (long long)epoch);
    const char *params[] = {PJ_LSN(lsn), identity->system_id, timeline, identity->database, believed};
    return update_row(read, sql, 5, params, "another daemon has taken over", error);
}

int pj_catalog_complete(struct pj_session *read, pj_lsn lsn, const struct pj_source_identity *identity, int64_t epoch,
                        struct pj_error *error)
{
    int code = complete(read, lsn, identity, epoch, BEGINS_ANEW "lsn IS NULL", error);
    if (code == PJ_OK)
        code =
            pj_session_exec(read, "UPDATE pgprojector.projection SET state = 'live', since = pg_catalog.now()", error);
    return code == PJ_OK ? PJ_OK : pj_error_wrap(error, "complete the first start");
}

int pj_catalog_complete_resync(struct pj_session *read, pj_lsn lsn, const struct pj_source_identity *identity,
                               int64_t epoch, struct pj_error *error)
{
    int code = complete(read, lsn, identity, epoch, BEGINS_ANEW "resync_at IS NOT NULL", error);
    return code == PJ_OK ? PJ_OK : pj_error_wrap(error, "complete the resync");
}
