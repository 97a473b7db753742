/*
 * See build.h. This file: beginning a build, and undoing one. What is committed when:
 *
 *   prepare   leftovers go; then one transaction: NAME.next is entered (`building`), TABLE__next is there, empty. In a rollback the
 *             kept row and table become NAME.next and TABLE__next, with a note of how the table was called.
 *   fill      (build_fill.c) the rows in one transaction; then key, indexes; rounds of noted keys.
 *   swap      (build_swap.c) one transaction: NAME -> NAME.kept, NAME.next -> NAME, their tables likewise. A second one drops
 *             what was kept, unless it is to be kept.
 *
 * So after a crash the row NAME.next tells that there is something to clear, and whether it is to be dropped or kept
 * again; a NAME.kept that nobody wanted says so (reason "replaced"), and goes with the next swap or daemon
 * (pj_build_drop_replaced). One that could not be dropped before the next swap, for somebody has it open, is that of no
 * projection any more, but in pgprojector.discarded.
 */
#include "core/build.h"

#include "base/mem.h"
#include "core/build_internal.h"
#include "core/projection_sql.h"
#include "core/table_lock.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { PATIENCE_MS = 2000 }; /* for whoever has a table open that is to go */

/* ---------------------------------------------------------------------------------------------------- shared parts */

static void copy(char *to, size_t size, const PGresult *result, int column)
{
    snprintf(to, size, "%s", PQgetvalue(result, 0, column));
}

int pj_build_read_row(struct pj_session *session, const char *name, const char *suffix, struct pj_build_row *row,
                      struct pj_error *error)
{
    const char *params[] = {name, suffix};
    PGresult *result;
    *row = (struct pj_build_row){.oid = "0"};
    int code = pj_session_query(session, &result,
                                "SELECT p.target_schema, p.target_table, p.state, p.module_version, p.definition, "
                                "pg_catalog.substr(CASE WHEN p.reason LIKE 'kept as %' "
                                "THEN pg_catalog.split_part(p.reason, pg_catalog.chr(10), 1) END, 9), "
                                "coalesce((SELECT c.oid FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n "
                                "ON n.oid = c.relnamespace WHERE n.nspname = p.target_schema "
                                "AND c.relname = p.target_table), 0) "
                                "FROM pgprojector.projection p WHERE p.name = $1 || $2",
                                2, params, error);
    if (code == PJ_OK && PQntuples(result) == 1) {
        row->there = true;
        copy(row->schema, sizeof row->schema, result, 0);
        copy(row->table, sizeof row->table, result, 1);
        copy(row->state, sizeof row->state, result, 2);
        copy(row->version, sizeof row->version, result, 3);
        copy(row->digest, sizeof row->digest, result, 4);
        copy(row->kept_as, sizeof row->kept_as, result, 5);
        copy(row->oid, sizeof row->oid, result, 6);
    }
    PQclear(result);
    return code;
}

int pj_build_run(struct pj_session *session, const char *sql, int count, const char *const *params,
                 struct pj_error *error)
{
    PGresult *result;
    int code = pj_session_query(session, &result, sql, count, params, error);
    PQclear(result);
    return code;
}

int pj_build_run_made(struct pj_session *session, const char *query, int count, const char *const *params,
                      struct pj_error *error)
{
    PGresult *made;
    int code = pj_session_query_kept(session, &made, query, count, params, error);
    for (int row = 0; code == PJ_OK && row < PQntuples(made); row++)
        code = pj_session_exec(session, PQgetvalue(made, row, 0), error);
    PQclear(made);
    return code;
}

static void put_table(struct pj_buf *sql, const char *schema, const char *table)
{
    pj_quote_identifier(sql, schema);
    pj_buf_puts(sql, ".");
    pj_quote_identifier(sql, table);
}

int pj_build_rename_table(struct pj_session *session, const char *schema, const char *from, const char *to,
                          struct pj_error *error)
{
    struct pj_buf sql = {0};
    pj_buf_puts(&sql, "ALTER TABLE ");
    put_table(&sql, schema, from);
    pj_buf_puts(&sql, " RENAME TO ");
    pj_quote_identifier(&sql, to);
    int code = pj_session_exec(session, pj_buf_text(&sql), error);
    pj_buf_free(&sql);
    return code;
}

/* Drops a row of ours with all that belongs to it, within a transaction. */
static int drop_row(struct pj_session *work, const char *name, const char *suffix, const struct pj_build_row *row,
                    struct pj_error *error)
{
    const char *params[] = {name, suffix};
    struct pj_buf sql = {0};
    pj_buf_puts(&sql, "DROP TABLE IF EXISTS ");
    put_table(&sql, row->schema, row->table);
    int code = pj_session_exec(work, pj_buf_text(&sql), error);
    pj_buf_free(&sql);
    if (code == PJ_OK)
        code = pj_build_run(work, "DELETE FROM pgprojector.dirty_key WHERE projection = $1 || $2", 2, params, error);
    return code == PJ_OK
               ? pj_build_run(work, "DELETE FROM pgprojector.projection WHERE name = $1 || $2", 2, params, error)
               : code;
}

/* -------------------------------------------------------------------------------------------------------- leftovers */

/* An interrupted rollback: the kept table has its name and its row again. */
static int keep_again(struct pj_session *work, const char *name, const struct pj_build_row *next,
                      struct pj_error *error)
{
    const char *params[] = {name, next->kept_as};
    int code = PJ_OK;
    if (strcmp(next->oid, "0") != 0)
        code = pj_build_rename_table(work, next->schema, next->table, next->kept_as, error);
    if (code == PJ_OK)
        code =
            pj_build_run(work, "DELETE FROM pgprojector.dirty_key WHERE projection = $1 || '.next'", 1, params, error);
    if (code == PJ_OK)
        code = pj_build_run(work, "DELETE FROM pgprojector.dead_letter WHERE projection = $1 || '.next'", 1, params,
                            error);
    return code == PJ_OK ? pj_build_run(work,
                                        "UPDATE pgprojector.projection SET name = $1 || '.kept', target_table = $2, "
                                        "state = 'retired', reason = NULL WHERE name = $1 || '.next'",
                                        2, params, error)
                         : code;
}

static int forget_jobs(struct pj_session *work, const char *name, int64_t but, struct pj_error *error)
{
    char id[24];
    snprintf(id, sizeof id, "%lld", (long long)but);
    const char *params[] = {name, id};
    return pj_build_run(work,
                        "DELETE FROM pgprojector.job WHERE kind IN ('build', 'rollback') AND name = $1 "
                        "AND id <> $2::bigint",
                        2, params, error);
}

/* Within a transaction: what an interrupted build left goes, or is kept again. */
static int clear_within(struct pj_session *work, const char *name, int64_t job, bool *there, struct pj_error *error)
{
    struct pj_build_row next;
    int code = pj_build_read_row(work, name, PJ_NEXT_NAME, &next, error);
    *there = next.there;
    if (code == PJ_OK)
        code = forget_jobs(work, name, job, error);
    if (code != PJ_OK || !next.there)
        return code;
    return *next.kept_as ? keep_again(work, name, &next, error) : drop_row(work, name, PJ_NEXT_NAME, &next, error);
}

/* A keywork transaction that has the table of a row (which may not be there) before it has the checkpoint row, for
 * whoever reads that table must not hold up the stream. */
static int begin(struct pj_session *work, const struct pj_build_row *row, struct pj_error *error)
{
    static const struct pj_patience patience = {.milliseconds = PATIENCE_MS};
    pj_lsn lsn;
    int code = row->there ? pj_table_lock_begin(work, row->schema, row->table, &patience, error)
                          : pj_keywork_begin_alone(work, error);
    return code == PJ_OK ? pj_keywork_lock(work, &lsn, error) : code;
}

/* `job`: of what is under way, 0: nothing is. */
static int clear(struct pj_session *work, const char *name, int64_t job, bool *there, struct pj_error *error)
{
    struct pj_build_row next;
    *there = false;
    int code = pj_build_read_row(work, name, PJ_NEXT_NAME, &next, error);
    if (code == PJ_OK && next.there)
        code = pj_table_lock_end_orphans(work, next.schema, next.table, error);
    if (code == PJ_OK)
        code = begin(work, &next, error);
    if (code == PJ_OK)
        code = clear_within(work, name, job, there, error);
    code = pj_keywork_end(work, code, error);
    return code == PJ_OK ? PJ_OK : pj_error_wrap(error, "remove what was built beside %s", name);
}

int pj_build_clear(struct pj_session *work, const char *name, bool *there, struct pj_error *error)
{
    return clear(work, name, 0, there, error);
}

int pj_build_drop_kept(struct pj_session *work, const char *name, bool *there, struct pj_error *error)
{
    struct pj_build_row kept;
    int code = pj_build_read_row(work, name, PJ_KEPT_NAME, &kept, error);
    *there = false;
    if (code != PJ_OK || !kept.there)
        return code;
    code = begin(work, &kept, error);
    if (code == PJ_OK)
        code = pj_build_read_row(work, name, PJ_KEPT_NAME, &kept, error);
    if (code == PJ_OK && kept.there)
        code = drop_row(work, name, PJ_KEPT_NAME, &kept, error);
    code = pj_keywork_end(work, code, error);
    *there = kept.there;
    return code == PJ_OK ? PJ_OK : pj_error_wrap(error, "drop the table kept of %s", name);
}

int pj_build_drop_replaced(struct pj_session *work, const char *name, struct pj_error *error)
{
    PGresult *names;
    int code = pj_session_query(work, &names,
                                "SELECT pg_catalog.left(name, -5) FROM pgprojector.projection WHERE name LIKE '%.kept' "
                                "AND reason = '" PJ_REPLACED "' AND name = coalesce($1 || '.kept', name)",
                                1, &name, error);
    for (int row = 0; code == PJ_OK && row < PQntuples(names); row++) {
        bool there;
        code = pj_build_drop_kept(work, PQgetvalue(names, row, 0), &there, error);
    }
    PQclear(names);
    return code;
}

/* ---------------------------------------------------------------------------------------------------------- prepare */

/* A table of that name that the catalog does not know as this projection's. */
static int check_is_free(struct pj_session *work, const char *name, const char *schema, const char *table,
                         struct pj_error *error)
{
    const char *params[] = {schema, table, name};
    PGresult *result;
    int code = pj_session_query(work, &result,
                                "SELECT FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n "
                                "ON n.oid = c.relnamespace WHERE n.nspname = $1 AND c.relname = $2 AND NOT EXISTS "
                                "(SELECT FROM pgprojector.projection WHERE target_schema = $1 AND target_table = $2 "
                                "AND name IN ($3, $3 || '.next', $3 || '.kept'))",
                                3, params, error);
    bool taken = code == PJ_OK && PQntuples(result) > 0;
    PQclear(result);
    if (!taken)
        return code;
    pj_error_set(error, PJ_ECONFIG, "there is already a table %s.%s on the read database, and it is not one of %s",
                 schema, table, name);
    return pj_error_hint(error, "drop or rename it; it is not touched");
}

static int other_version(const struct pj_build_row *kept, const struct pj_module *module, struct pj_error *error)
{
    if (strtoul(kept->version, NULL, 10) != module->version)
        pj_error_set(error, PJ_ECONFIG, "the kept table was built by version %s of the module, this is version %u",
                     kept->version, module->version);
    else
        pj_error_set(
            error, PJ_ECONFIG,
            "the kept table was built by another definition of version %s of the module (an option, a table or "
            "a column name has changed since)",
            kept->version);
    return pj_error_hint(error, "install version %s of the module, with its settings of then, and roll back again",
                         kept->version);
}

static int check_kept(struct pj_session *work, const struct pj_build *build, const struct pj_build_row *kept,
                      struct pj_error *error)
{
    if (!kept->there || strcmp(kept->oid, "0") == 0) {
        pj_error_set(error, PJ_ECONFIG, "there is no kept table to roll back to");
        return pj_error_hint(error, "`pgprojector rebuild %s --fresh --keep-old` keeps what it replaces", build->name);
    }
    const char *params[] = {kept->digest, build->next->definition_sql};
    PGresult *result;
    int code = pj_session_query_row(work, &result, "SELECT $1 = pg_catalog.md5($2)", 2, params, error);
    bool same = code == PJ_OK && PQgetvalue(result, 0, 0)[0] == 't';
    PQclear(result);
    if (code == PJ_OK && (!same || strtoul(kept->version, NULL, 10) != build->next->module->version))
        code = other_version(kept, build->next->module, error);
    return code;
}

/* The kept table in the place of an empty one. */
static int take_kept(struct pj_session *work, const struct pj_build *build, struct pj_error *error)
{
    struct pj_build_row kept;
    int code = pj_build_read_row(work, build->name, PJ_KEPT_NAME, &kept, error);
    if (code == PJ_OK)
        code = check_kept(work, build, &kept, error);
    if (code == PJ_OK)
        code = check_is_free(work, build->name, kept.schema, build->next->target_name, error);
    if (code == PJ_OK)
        code = pj_build_rename_table(work, kept.schema, kept.table, build->next->target_name, error);
    const char *params[] = {build->name, build->next->target_name};
    return code == PJ_OK ? pj_build_run(work,
                                        "UPDATE pgprojector.projection SET name = $1 || '.next', state = 'building', "
                                        "since = pg_catalog.clock_timestamp(), reason = 'kept as ' || target_table, "
                                        "target_table = $2 WHERE name = $1 || '.kept'",
                                        2, params, error)
                         : code;
}

/* What stands in the way, or could not go along, is said before anything long begins. */
static int check_way(struct pj_session *work, const struct pj_build *build, struct pj_error *error)
{
    struct pj_build_row former, next;
    int code = pj_build_read_row(work, build->name, "", &former, error);
    if (code == PJ_OK)
        code = pj_build_read_row(work, build->name, PJ_NEXT_NAME, &next, error);
    if (code == PJ_OK)
        code = check_is_free(work, build->name, next.schema, build->table, error);
    if (code == PJ_OK)
        code = pj_build_check_obstacles(work, &former, &next, error);
    return code == PJ_OK ? pj_build_carry_settings(work, &former, &next, error) : code;
}

/* The last thing of all: it has the locks of the table that serves, and of its views, for a moment. */
static int rehearse_views(struct pj_session *work, const struct pj_build *build, struct pj_error *error)
{
    struct pj_build_row former, next;
    int code = pj_build_read_row(work, build->name, "", &former, error);
    if (code == PJ_OK)
        code = pj_build_read_row(work, build->name, PJ_NEXT_NAME, &next, error);
    return code == PJ_OK ? pj_build_rehearse_views(work, build->table, &former, &next, error) : code;
}

/* The checkpoint's version stays: what the pipeline holds in memory has nothing of it, until it is handed a setup
 * that has. */
static int prepare(struct pj_build *build, struct pj_error *error)
{
    struct pj_session *work = build->mend->work;
    struct pj_build_row kept = {.there = false};
    bool there;
    int code = clear(work, build->name, build->mend->job.id, &there, error);
    if (code == PJ_OK && build->from_kept)
        code = pj_build_read_row(work, build->name, PJ_KEPT_NAME, &kept, error);
    if (code == PJ_OK)
        code = begin(work, &kept, error);
    if (code == PJ_OK)
        code = build->from_kept ? take_kept(work, build, error) : pj_projection_create_target(work, build->next, error);
    if (code == PJ_OK)
        code = check_way(work, build, error);
    if (code == PJ_OK)
        code = pj_build_check_chained(build, work, error);
    if (code == PJ_OK)
        code = rehearse_views(work, build, error);
    return pj_keywork_end(work, code, error);
}

static void take_name(struct pj_build *build)
{
    char *schema, *table;
    pj_name_split(build->next->module->target, NULL, &schema, &table);
    snprintf(build->table, sizeof build->table, "%s", table);
    pj_free(schema);
    pj_free(table);
}

int pj_build_prepare(struct pj_build *build, struct pj_error *error)
{
    struct pj_job *job = &build->mend->job;
    build->rows = 0;
    take_name(build);
    int code = job->id ? PJ_OK : pj_job_begin(job, build->from_kept ? "rollback" : "build", build->name, error);
    if (code == PJ_OK)
        code = pj_job_phase(job, "preparing", -1, error);
    if (code == PJ_OK)
        code = prepare(build, error);
    if (code == PJ_OK)
        code = pj_projection_describe_target(job->session, build->next, error);
    if (code == PJ_OK)
        return PJ_OK;
    pj_job_end(job);
    return pj_error_wrap(error, build->from_kept ? "roll back %s" : "build %s", build->name);
}
