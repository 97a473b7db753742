/*
 * The catalog on the read database.
 *
 * One daemon a read database, and the stale one harmless:
 *   - the lock, a session-level advisory lock, keeps a second daemon waiting;
 *   - a lock can be lost without its holder noticing (frozen, partitioned), so whoever has it *takes over*: ends the
 *     former backend, locks the checkpoint row, by which a COMMIT still under way is over, and raises the epoch. The
 *     former daemon's next batch finds another epoch and changes nothing.
 *
 * Advisory locks are keyed by two ints: "pgjp" in ASCII, and what it is for.
 */
#include "core/catalog.h"

#include "base/mem.h"
#include "core/source_internal.h"
#include "core/textarray.h"
#include "sql.h"

#define XXH_INLINE_ALL
#include <xxhash.h>

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { LOCK_CLASS = 0x70676a70, LOCK_DAEMON = 1, LOCK_INSTALL = 2 };

enum { TAKE_OVER_WAIT_MS = 10000, GONE_WAIT_MS = 1000, GONE_POLL_MS = 20 };

/* ------------------------------------------------------------------------------------------------------- install */

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
    int code =
        pj_session_execf(read, error, "SELECT pg_catalog.pg_advisory_xact_lock(%d, %d)", LOCK_CLASS, LOCK_INSTALL);
    if (code == PJ_OK)
        code = pj_session_exec(read, "SET LOCAL client_min_messages = warning", error);
    if (code == PJ_OK)
        code = pj_session_exec(read, pj_sql_catalog, error);
    return code == PJ_OK ? leave_stamp(read, error) : code;
}

static int rollback(struct pj_session *read, int code)
{
    struct pj_error ignored;
    if (PQstatus(pj_session_conn(read)) == CONNECTION_OK)
        pj_session_exec(read, "ROLLBACK", &ignored);
    return code;
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
    return rollback(read, error->code);
}

/* ---------------------------------------------------------------------------------------------------------- read */

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

static int read_row(struct pj_session *read, const char *suffix, struct pj_checkpoint *checkpoint,
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
    return *installed ? read_row(read, "", checkpoint, error) : PJ_OK;
}

/* ---------------------------------------------------------------------------------------------------------- lock */

static char *describe_holder(struct pj_session *read)
{
    char class[16], object[16];
    snprintf(class, sizeof class, "%d", LOCK_CLASS);
    snprintf(object, sizeof object, "%d", LOCK_DAEMON);
    const char *params[] = {class, object};
    struct pj_error ignored;
    PGresult *result;
    char *holder = NULL;
    if (pj_session_query(read, &result, pj_sql_catalog_lock_holder, 2, params, &ignored) == PJ_OK && PQntuples(result))
        holder = pj_strdup(PQgetvalue(result, 0, 0));
    PQclear(result);
    return holder;
}

int pj_catalog_lock(struct pj_session *read, bool *mine, char **holder, struct pj_error *error)
{
    char *sql = pj_sprintf("SELECT pg_catalog.pg_try_advisory_lock(%d, %d)", LOCK_CLASS, LOCK_DAEMON);
    PGresult *result;
    *mine = false;
    if (holder)
        *holder = NULL;
    int code = pj_session_query_row(read, &result, sql, 0, NULL, error);
    pj_free(sql);
    if (code != PJ_OK)
        return pj_error_wrap(error, "take the daemon's lock");
    *mine = PQgetvalue(result, 0, 0)[0] == 't';
    PQclear(result);
    if (!*mine && holder)
        *holder = describe_holder(read);
    return PJ_OK;
}

static int daemon_is_there(struct pj_session *read, bool *there, struct pj_error *error)
{
    PGresult *result;
    int code = pj_session_query(read, &result,
                                "SELECT FROM pg_catalog.pg_stat_activity WHERE datname = pg_catalog.current_database() "
                                "AND application_name = 'pgprojector control'",
                                0, NULL, error);
    *there = code == PJ_OK && PQntuples(result) > 0;
    PQclear(result);
    return code == PJ_OK ? PJ_OK : pj_error_wrap(error, "look for a daemon");
}

/* One that was killed a moment ago is given the time to be gone. */
int pj_catalog_lock_without_daemon(struct pj_session *read, bool *mine, char **holder, struct pj_error *error)
{
    bool there = true;
    int code = PJ_OK;
    *mine = false;
    if (holder)
        *holder = NULL;
    for (int waited = 0; code == PJ_OK && waited <= GONE_WAIT_MS; waited += GONE_POLL_MS) {
        code = daemon_is_there(read, &there, error);
        if (code != PJ_OK || !there)
            break;
        char *has = describe_holder(read);
        bool held = has;
        if (held && holder)
            *holder = has;
        else
            pj_free(has);
        if (held)
            return PJ_OK;
        code = pj_stop_sleep(NULL, GONE_POLL_MS, error);
    }
    return code == PJ_OK && !there ? pj_catalog_lock(read, mine, holder, error) : code;
}

/* ----------------------------------------------------------------------------------------------------- take over */

/*
 * A pid may have been given to another backend since: its start and its name must be the ones we noted. Where somebody
 * else has taken over since, the backend is not ours to end.
 */
static const char former_sql[] =
    "SELECT pg_catalog.pg_terminate_backend(a.pid) FROM pg_catalog.pg_stat_activity a "
    "JOIN pgprojector.checkpoint c ON c.backend_pid = a.pid AND c.backend_start = a.backend_start "
    "WHERE a.application_name LIKE 'pgprojector%' AND a.pid <> pg_catalog.pg_backend_pid() "
    "AND ($1::bigint < 0 OR c.epoch = $1::bigint)";

static int end_former(struct pj_session *read, int64_t believed_epoch, struct pj_error *error)
{
    char believed[24];
    snprintf(believed, sizeof believed, "%lld", (long long)believed_epoch);
    const char *params[] = {believed};
    for (int waited = 0, pause = 1; waited <= TAKE_OVER_WAIT_MS; waited += pause, pause = pause < 25 ? pause * 2 : 50) {
        PGresult *result;
        int code = pj_session_query(read, &result, former_sql, 1, params, error);
        if (code != PJ_OK)
            return pj_error_wrap(error, "end the former daemon's backend");
        int alive = PQntuples(result);
        PQclear(result);
        if (!alive)
            return PJ_OK;
        code = pj_stop_sleep(NULL, pause, error);
        if (code != PJ_OK)
            return code;
    }
    pj_error_set(error, PJ_EUNREACHABLE, "read database: the former daemon's backend does not end within %d s",
                 TAKE_OVER_WAIT_MS / 1000);
    error->retryable = true;
    return error->code;
}

static int raise_epoch(struct pj_session *read, int64_t believed_epoch, struct pj_checkpoint *checkpoint,
                       struct pj_error *error)
{
    static const char sql[] =
        "UPDATE pgprojector.checkpoint SET epoch = epoch + 1, backend_pid = pg_catalog.pg_backend_pid(), backend_start "
        "= "
        "(SELECT a.backend_start FROM pg_catalog.pg_stat_activity a WHERE a.pid = pg_catalog.pg_backend_pid())";
    int code = read_row(read, "FOR UPDATE", checkpoint, error);
    if (code != PJ_OK)
        return code;
    if (believed_epoch >= 0 && checkpoint->epoch != believed_epoch)
        return pj_error_set(error, PJ_ESTALE, "another daemon has taken over (epoch %lld, ours was %lld)",
                            (long long)checkpoint->epoch, (long long)believed_epoch);
    code = pj_session_exec(read, sql, error);
    return code == PJ_OK ? read_row(read, "", checkpoint, error) : code;
}

int pj_catalog_take_over(struct pj_session *read, int64_t believed_epoch, struct pj_checkpoint *checkpoint,
                         struct pj_error *error)
{
    memset(checkpoint, 0, sizeof *checkpoint);
    int code = end_former(read, believed_epoch, error);
    if (code == PJ_OK)
        code = pj_session_exec(read, "BEGIN ISOLATION LEVEL READ COMMITTED", error);
    if (code != PJ_OK)
        return code;
    code = raise_epoch(read, believed_epoch, checkpoint, error);
    if (code == PJ_OK)
        code = pj_session_exec(read, "COMMIT", error);
    return code == PJ_OK ? PJ_OK : rollback(read, pj_error_wrap(error, "take over the read database"));
}

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

/* --------------------------------------------------------------------------------------------------- first start */

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

static char *columns_array(const struct pj_table *table, const int *list, int count)
{
    struct pj_buf array = {0};
    pj_textarray_begin(&array);
    for (int i = 0; i < count; i++)
        pj_textarray_add(&array, table->columns[list ? list[i] : i].name);
    pj_textarray_end(&array);
    return pj_buf_take(&array);
}

static char *types_array(const struct pj_table *table)
{
    struct pj_buf array = {0};
    pj_textarray_begin(&array);
    for (int i = 0; i < table->ncolumns; i++)
        pj_textarray_add(&array, table->columns[i].type_sql);
    pj_textarray_end(&array);
    return pj_buf_take(&array);
}

static char *numbers_array(const struct pj_table *table)
{
    struct pj_buf array = {0};
    pj_textarray_begin(&array);
    for (int i = 0; i < table->ncolumns; i++)
        pj_textarray_add_oid(&array, (uint32_t)table->columns[i].number);
    pj_textarray_end(&array);
    return pj_buf_take(&array);
}

static char *leaves_array(const struct pj_table *table)
{
    struct pj_buf array = {0};
    pj_textarray_begin(&array);
    for (int i = 0; i < table->nleaves; i++)
        pj_textarray_add_oid(&array, table->leaves[i].oid);
    pj_textarray_end(&array);
    return pj_buf_take(&array);
}

static int enter_mirror(struct pj_session *read, const struct pj_table *table, const char *state,
                        struct pj_error *error)
{
    char oid[16];
    snprintf(oid, sizeof oid, "%u", table->oid);
    char *columns = columns_array(table, NULL, table->ncolumns), *types = types_array(table);
    char *key = columns_array(table, table->key, table->nkey), *leaves = leaves_array(table);
    char *identity = columns_array(table, table->identity, table->nidentity), *numbers = numbers_array(table);
    const char *params[] = {table->schema, table->name, oid, columns, types, key, identity, leaves, numbers, state};
    PGresult *result;
    int code = pj_session_query(read, &result,
                                "INSERT INTO pgprojector.mirror (schema_name, table_name, source_oid, columns, "
                                "types, key, identity, leaves, numbers, state) "
                                "VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10)",
                                10, params, error);
    PQclear(result);
    pj_free(columns);
    pj_free(types);
    pj_free(key);
    pj_free(identity);
    pj_free(leaves);
    pj_free(numbers);
    return code;
}

int pj_catalog_enter_mirrors(struct pj_session *read, const struct pj_table *tables, int count, struct pj_error *error)
{
    int code = pj_session_exec(read, "DELETE FROM pgprojector.mirror", error);
    for (int i = 0; code == PJ_OK && i < count; i++)
        code = enter_mirror(read, &tables[i], "exact", error);
    return code == PJ_OK ? PJ_OK : pj_error_wrap(error, "enter the mirrors into the catalog");
}

int pj_catalog_enter_joining(struct pj_session *read, const struct pj_table *table, struct pj_error *error)
{
    int code = enter_mirror(read, table, "joining", error);
    return code == PJ_OK ? PJ_OK : pj_error_wrap(error, "enter mirror %s into the catalog", table->mirror_sql);
}

static int note_leaves(struct pj_session *read, const struct pj_table *table, struct pj_error *error)
{
    static const char sql[] =
        "UPDATE pgprojector.mirror SET leaves = ARRAY(SELECT unnest(leaves) UNION SELECT unnest($3::oid[])) "
        "WHERE schema_name = $1 AND table_name = $2 AND NOT leaves @> $3::oid[]";
    struct pj_buf leaves = {0};
    pj_textarray_begin(&leaves);
    for (int i = 0; i < table->nleaves; i++)
        pj_textarray_add_oid(&leaves, table->leaves[i].oid);
    pj_textarray_end(&leaves);
    const char *params[] = {table->schema, table->name, leaves.data};
    PGresult *result;
    int code = pj_session_query(read, &result, sql, 3, params, error);
    PQclear(result);
    pj_buf_free(&leaves);
    return code;
}

int pj_catalog_note_leaves(struct pj_session *read, const struct pj_table *tables, int count, struct pj_error *error)
{
    int code = PJ_OK;
    for (int i = 0; code == PJ_OK && i < count; i++)
        if (tables[i].nleaves)
            code = note_leaves(read, &tables[i], error);
    return code == PJ_OK ? PJ_OK : pj_error_wrap(error, "note partitions in the catalog");
}

int pj_catalog_complete(struct pj_session *read, pj_lsn lsn, const struct pj_source_identity *identity, int64_t epoch,
                        struct pj_error *error)
{
    char timeline[16], believed[24];
    snprintf(timeline, sizeof timeline, "%u", identity->timeline);
    snprintf(believed, sizeof believed, "%lld", (long long)epoch);
    const char *params[] = {PJ_LSN(lsn), identity->system_id, timeline, identity->database, believed};
    int code = update_row(read,
                          "UPDATE pgprojector.checkpoint SET lsn = $1, system_id = $2, timeline = $3, database = $4, "
                          "witness_xid = NULL, witness_lsn = NULL, witness_time = NULL, "
                          "applied_at = pg_catalog.clock_timestamp() WHERE lsn IS NULL AND epoch = $5",
                          5, params, "another daemon has taken over", error);
    if (code == PJ_OK)
        code =
            pj_session_exec(read, "UPDATE pgprojector.projection SET state = 'live', since = pg_catalog.now()", error);
    return code == PJ_OK ? PJ_OK : pj_error_wrap(error, "complete the first start");
}

/* ---------------------------------------------------------------------------------------------------------- resync */

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

int pj_catalog_complete_resync(struct pj_session *read, pj_lsn lsn, const struct pj_source_identity *identity,
                               int64_t epoch, struct pj_error *error)
{
    char timeline[16], believed[24];
    snprintf(timeline, sizeof timeline, "%u", identity->timeline);
    snprintf(believed, sizeof believed, "%lld", (long long)epoch);
    const char *params[] = {PJ_LSN(lsn), identity->system_id, timeline, identity->database, believed};
    int code = update_row(read,
                          "UPDATE pgprojector.checkpoint SET lsn = $1, system_id = $2, timeline = $3, database = $4, "
                          "witness_xid = NULL, witness_lsn = NULL, witness_time = NULL, resync_at = NULL, "
                          "applied_at = pg_catalog.clock_timestamp() WHERE resync_at IS NOT NULL AND epoch = $5",
                          5, params, "another daemon has taken over", error);
    return code == PJ_OK ? PJ_OK : pj_error_wrap(error, "complete the resync");
}
