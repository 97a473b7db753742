/*
 * See build.h: the swap. One transaction, in this order:
 *
 *   1. The checkpoint row: from here on nothing comes from the stream, and the daemon waits.
 *   2. ACCESS EXCLUSIVE on the views, then on the two tables, with a short lock_timeout: whoever reads behind us waits no longer than
 *      that. In this order, for a reader of a view locks the view first.
 *   3. The rest of the noted keys; before 2 where it is a comparison of the whole table, for which no reader shall wait.
 *   4. Once more: does something hang on the table that cannot go along, has an index been added since?
 *   5. Settings, owner, grants, comments; names of tables and indexes; the views (build_views.c).
 *   6. The catalog: rows, dead letters, version and roster number; those that are chained on the table (build_chain.c).
 *
 * Where a lock is not to be had at once, everything is let go, and tried again after a pause. While somebody has the
 * table open in a transaction that is not a matter of moments it is not even tried: each attempt would have the stream
 * and the readers wait for nothing.
 */
#include "core/build.h"

#include "base/mem.h"
#include "core/build_internal.h"
#include "core/catchup.h"
#include "core/table_lock.h"
#include "core/textarray.h"
#include "sql.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* Readers that never leave a moment, and lock in different orders (the table first; a view first), make each attempt a
 * matter of luck: many short ones cost stream and readers less than few long ones, and are over sooner. */
enum { FIRST_PAUSE_MS = 20, LONGEST_PAUSE_MS = 150, SAY_AFTER = 20, ROUNDS = 2 };

static const char old_ms[] = "150"; /* a transaction older than that is not worth waiting for with locks held */

struct swap {
    struct pj_build *build;
    struct pj_session *work;
    struct pj_build_row former, next;
    PGresult *views;
    PGresult *holders; /* whoever had one of the relations open at the last look, as sql/build_blockers.sql tells it */
    const char *waits; /* for what, where an attempt has come to nothing */
    int attempts;
    int lock_ms; /* how long a table's lock is waited for */
};

static bool has_former(const struct swap *swap)
{
    return strcmp(swap->former.oid, "0") != 0;
}

static int read_tables(struct swap *swap, struct pj_error *error)
{
    int code = pj_build_read_row(swap->work, swap->build->name, "", &swap->former, error);
    if (code == PJ_OK)
        code = pj_build_read_row(swap->work, swap->build->name, PJ_NEXT_NAME, &swap->next, error);
    if (code == PJ_OK && strcmp(swap->next.oid, "0") == 0)
        code = pj_error_set(error, PJ_EFAIL, "the table %s is gone", swap->build->next->target_sql);
    if (code == PJ_OK && strcmp(swap->next.state, "building") != 0) {
        code = pj_error_set(error, PJ_EFAIL, "the daemon has begun anew meanwhile, and noted nothing for it");
        error->retryable = true;
    }
    return code;
}

static int read_views(struct swap *swap, struct pj_error *error)
{
    PQclear(swap->views);
    return pj_build_read_views(swap->work, &swap->former, &swap->views, error);
}

/* ------------------------------------------------------------------------------------------------------- whose turn */

static int look_who_reads(struct swap *swap, PGresult **holders, struct pj_error *error)
{
    struct pj_buf oids = {0};
    pj_textarray_begin(&oids);
    pj_textarray_add(&oids, swap->former.oid);
    pj_textarray_add(&oids, swap->next.oid);
    for (int i = 0; i < PQntuples(swap->views); i++)
        pj_textarray_add(&oids, PQgetvalue(swap->views, i, PJ_VIEW_OID));
    pj_textarray_end(&oids);
    const char *params[] = {pj_buf_text(&oids), old_ms};
    int code = pj_session_query(swap->work, holders, pj_sql_build_blockers, 2, params, error);
    pj_buf_free(&oids);
    return code;
}

enum { HOLDER, TRANSACTION, AGE_IS_KNOWN };

static bool is_among(const PGresult *holders, const char *transaction)
{
    bool found = false;
    for (int i = 0; !found && i < PQntuples(holders); i++)
        found = strcmp(PQgetvalue(holders, i, TRANSACTION), transaction) == 0;
    return found;
}

/* Somebody who has one of the relations open for longer; "" where nobody has. To be freed. Whose age the server does not
 * show, as it does not of other roles' sessions by default, is met at two looks: an attempt and a pause apart. */
static int find_blocker(struct swap *swap, char **blocker, struct pj_error *error)
{
    PGresult *now;
    const char *who = NULL;
    int code = look_who_reads(swap, &now, error);
    for (int i = 0; !who && i < PQntuples(now); i++)
        if (PQgetvalue(now, i, AGE_IS_KNOWN)[0] == 't' || is_among(swap->holders, PQgetvalue(now, i, TRANSACTION)))
            who = PQgetvalue(now, i, HOLDER);
    *blocker = pj_strdup(who ? who : "");
    PQclear(swap->holders);
    swap->holders = now;
    return code;
}

static const char for_readers[] = "readers to leave a moment";
static const char for_keys[] = "noted keys to become few enough for the last step";
static const char for_others[] = "a view or an index, made or dropped meanwhile";

/* Told in the job's row, of readers when they do not leave for a while; in the log now and then. */
static int tell_waiting(struct swap *swap, const char *blocker, struct pj_error *error)
{
    struct pj_build *build = swap->build;
    bool readers = *blocker || swap->waits == for_readers, while_already = swap->attempts >= SAY_AFTER;
    if (readers && !while_already)
        return PJ_OK;
    snprintf(build->phase, sizeof build->phase, "waiting for %s", *blocker ? blocker : swap->waits);
    if (build->log && while_already && (swap->attempts & (swap->attempts - 1)) == 0 && readers)
        pj_log(build->log, PJ_LOG_INFO, "swap of %s: %s, which has %s.%s open", build->name, build->phase,
               swap->former.schema, swap->former.table);
    else if (build->log && while_already && (swap->attempts & (swap->attempts - 1)) == 0)
        pj_log(build->log, PJ_LOG_INFO, "swap of %s: %s", build->name, build->phase);
    return pj_job_phase(&build->mend->job, build->phase, -1, error);
}

static int pause_between(struct swap *swap, struct pj_error *error)
{
    int doublings = swap->attempts < 8 ? swap->attempts : 8;
    int pause_ms = FIRST_PAUSE_MS << doublings;
    swap->attempts++;
    return pj_stop_sleep(swap->build->mend->stop, pause_ms < LONGEST_PAUSE_MS ? pause_ms : LONGEST_PAUSE_MS, error);
}

/* ------------------------------------------------------------------------------------------------------------ locks */

static int lock_tables(struct swap *swap, struct pj_error *error)
{
    struct pj_buf sql = {0};
    pj_buf_puts(&sql, "LOCK TABLE ");
    if (has_former(swap)) {
        pj_quote_identifier(&sql, swap->former.schema);
        pj_buf_puts(&sql, ".");
        pj_quote_identifier(&sql, swap->former.table);
        pj_buf_puts(&sql, ", ");
    }
    pj_buf_printf(&sql, "%s IN ACCESS EXCLUSIVE MODE", swap->build->next->target_sql);
    int code = pj_session_exec(swap->work, pj_buf_text(&sql), error);
    pj_buf_free(&sql);
    return code;
}

/* A reader may open the table first and the view then: of the two it is the swap that gives way, not the reader that
 * fails. A view made or dropped until the table was locked: *same false. */
static int lock_all(struct swap *swap, bool *same, struct pj_error *error)
{
    int code = pj_session_execf(swap->work, error, "SET LOCAL lock_timeout = %d", swap->lock_ms);
    if (code == PJ_OK)
        code = read_tables(swap, error);
    if (code == PJ_OK)
        code = read_views(swap, error);
    int count = code == PJ_OK ? PQntuples(swap->views) : 0;
    if (code == PJ_OK)
        code = pj_build_lock_views(swap->work, swap->views, error);
    if (code == PJ_OK)
        code = lock_tables(swap, error);
    if (code == PJ_OK)
        code = read_views(swap, error);
    *same = code == PJ_OK && PQntuples(swap->views) == count;
    return code;
}

/* ------------------------------------------------------------------------------------------------------------ names */

static int rename_all(struct swap *swap, const char *kept_table, struct pj_error *error)
{
    const char *table = swap->build->table;
    struct pj_build_renaming to = {swap->former.table, kept_table, swap->next.table, table};
    int code = PJ_OK;
    if (has_former(swap))
        code = pj_build_rename_table(swap->work, swap->former.schema, swap->former.table, kept_table, error);
    if (code == PJ_OK)
        code = pj_build_rename_table(swap->work, swap->next.schema, swap->next.table, table, error);
    if (code == PJ_OK)
        code = pj_build_rename_indexes(swap->work, &swap->former, &swap->next, &to, error);
    return code == PJ_OK ? PJ_OK : pj_error_wrap(error, "names");
}

/* ---------------------------------------------------------------------------------------------------------- catalog */

/* $1: the name; $2, $3 where there are: see enter(). Dead letters refer to their projection's name: both are changed
 * by one statement, at whose end that is checked. */
static const char forget_sql[] = "DELETE FROM pgprojector.dead_letter WHERE projection IN ($1, $1 || '.kept')";
static const char forget_keys_sql[] = "DELETE FROM pgprojector.dirty_key "
                                      "WHERE projection IN ($1, $1 || '.kept', $1 || '.next')";
/* One that was kept and could not be dropped: somebody has it open. */
static const char discard_sql[] = "INSERT INTO pgprojector.discarded SELECT target_schema, target_table "
                                  "FROM pgprojector.projection WHERE name = $1 || '.kept' ON CONFLICT DO NOTHING";
static const char make_way_sql[] =
    "DELETE FROM pgprojector.projection WHERE name = $1 || '.kept' OR name = $1 AND NOT $2::boolean";
static const char keep_sql[] =
    "UPDATE pgprojector.projection SET name = $1 || '.kept', target_table = $2, state = 'retired', "
    "reason = CASE WHEN $3::boolean THEN NULL ELSE '" PJ_REPLACED "' END, "
    "since = pg_catalog.clock_timestamp() WHERE name = $1";
static const char take_over_sql[] =
    "WITH renamed AS (UPDATE pgprojector.projection SET name = $1, target_table = $2, state = 'live', reason = NULL, "
    "since = pg_catalog.clock_timestamp() WHERE name = $1 || '.next') "
    "UPDATE pgprojector.dead_letter SET projection = $1 WHERE projection = $1 || '.next'";

static int note_request(struct swap *swap, struct pj_error *error)
{
    char id[24];
    snprintf(id, sizeof id, "%lld", (long long)swap->build->request);
    const char *params[] = {id};
    return swap->build->request
               ? pj_build_run(swap->work, "UPDATE pgprojector.request SET committed = true WHERE id = $1::bigint", 1,
                              params, error)
               : PJ_OK;
}

static int enter(struct swap *swap, const char *kept_table, struct pj_error *error)
{
    const char *name = swap->build->name;
    const struct {
        const char *sql, *second, *third;
    } statements[] = {
        {forget_sql, NULL, NULL},
        {forget_keys_sql, NULL, NULL},
        {discard_sql, NULL, NULL},
        {make_way_sql, has_former(swap) ? "true" : "false", NULL},
        {keep_sql, kept_table, swap->build->keep_old ? "true" : "false"},
        {take_over_sql, swap->build->table, NULL},
    };
    int code = PJ_OK;
    for (size_t i = 0; code == PJ_OK && i < sizeof statements / sizeof *statements; i++) {
        const char *params[] = {name, statements[i].second, statements[i].third};
        code = pj_build_run(swap->work, statements[i].sql, 1 + !!params[1] + !!params[2], params, error);
    }
    if (code == PJ_OK)
        code = pj_build_pause_chained(swap->build, error);
    if (code == PJ_OK)
        code = note_request(swap, error);
    if (code == PJ_OK)
        code = pj_keywork_roster_changed(swap->work, error);
    return code;
}

/* ---------------------------------------------------------------------------------------------------------- attempt */

static int carry(struct swap *swap, struct pj_error *error)
{
    const struct pj_build_row *former = &swap->former, *next = &swap->next;
    char *kept_table;
    int code = pj_build_kept_name(swap->work, *former->schema ? former->schema : next->schema,
                                  *former->table ? former->table : swap->build->table, &kept_table, error);
    if (code == PJ_OK)
        code = pj_build_check_obstacles(swap->work, former, next, error);
    if (code == PJ_OK)
        code = pj_build_carry_settings(swap->work, former, next, error);
    if (code == PJ_OK)
        code = pj_build_carry_identity(swap->work, former, next, error);
    if (code == PJ_OK)
        code = rename_all(swap, kept_table, error);
    if (code == PJ_OK)
        code = pj_build_redefine_views(swap->work, next, swap->views, error);
    if (code == PJ_OK)
        code = enter(swap, kept_table, error);
    pj_free(kept_table);
    return code;
}

/* *taken: all is ours, and as it was when it was got ready. */
static int take(struct swap *swap, bool *taken, struct pj_error *error)
{
    bool same;
    *taken = false;
    swap->waits = for_others;
    int code = lock_all(swap, &same, error);
    return code == PJ_OK && same ? pj_build_indexes_carried(swap->work, &swap->former, &swap->next, taken, error)
                                 : code;
}

static int catch_up(struct swap *swap, int64_t few, bool *caught_up, struct pj_error *error)
{
    swap->waits = for_keys;
    int code = pj_catchup_rest(swap->build->mend, few, caught_up, error);
    return code != PJ_OK && pj_mend_is_key_fault(error) ? PJ_OK : code; /* a further round parks it */
}

/* A few keys come after the locks, for it is these that most attempts come to nothing by. */
static int within(struct swap *swap, int64_t few, bool *done, struct pj_error *error)
{
    bool everything, taken = false, caught_up = false;
    *done = false;
    int code = pj_catchup_is_everything(swap->build->mend, &everything, error);
    if (code == PJ_OK && everything)
        code = catch_up(swap, few, &caught_up, error);
    if (code == PJ_OK && (caught_up || !everything))
        code = take(swap, &taken, error);
    if (code == PJ_OK && taken && !everything)
        code = catch_up(swap, few, &caught_up, error);
    if (code != PJ_OK || !taken || !caught_up)
        return code;
    code = carry(swap, error);
    *done = code == PJ_OK;
    return *done ? pj_keywork_commit(swap->work, error) : code;
}

/* *done false without an error: another time. */
static int attempt(struct swap *swap, int64_t few, bool *done, struct pj_error *error)
{
    pj_lsn lsn;
    *done = false;
    int code = pj_keywork_begin(swap->work, &lsn, error);
    if (code != PJ_OK)
        return code;
    code = within(swap, few, done, error);
    if (code == PJ_OK && *done)
        return PJ_OK;
    pj_keywork_rollback(swap->work);
    *done = false;
    if (code == PJ_OK || !pj_table_lock_in_the_way(error))
        return code;
    swap->waits = for_readers;
    return PJ_OK;
}

/* ------------------------------------------------------------------------------------------------------------- swap */

/* Planning the catalog's queries took a third of the time that the stream stood still; it is done before, too. */
static int plan(struct swap *swap, struct pj_error *error)
{
    int code = pj_table_lock_timeout(swap->work, &swap->lock_ms, error);
    return code == PJ_OK ? pj_build_plan_carrying(swap->work, &swap->former, &swap->next, error) : code;
}

/* All that can be done before: indexes that somebody has added since; and last, for the rest of the keys is recomputed
 * with the locks held, what has been noted: twice, for the first round may have taken a while. */
static int get_ready(struct swap *swap, char **blocker, struct pj_error *error)
{
    int made, code = read_tables(swap, error);
    if (code == PJ_OK)
        code = pj_build_carry_indexes(swap->work, &swap->former, &swap->next, NULL, &made, error);
    if (code == PJ_OK)
        code = plan(swap, error);
    if (code == PJ_OK)
        code = read_views(swap, error);
    if (code == PJ_OK)
        code = find_blocker(swap, blocker, error);
    for (int i = 0; code == PJ_OK && i < ROUNDS; i++)
        code = pj_catchup_round(swap->build->mend, error);
    return code;
}

static int try_until_done(struct swap *swap, struct pj_error *error)
{
    bool done = false;
    int code = pj_job_phase(&swap->build->mend->job, "swapping", -1, error);
    while (code == PJ_OK && !done) {
        char *blocker = NULL;
        code = get_ready(swap, &blocker, error);
        if (code == PJ_OK && !*blocker)
            code = attempt(swap, pj_catchup_few(swap->attempts / 2), &done, error);
        if (code == PJ_OK && !done)
            code = tell_waiting(swap, blocker, error);
        if (code == PJ_OK && !done)
            code = pause_between(swap, error);
        if (code == PJ_OK && !done)
            code = pj_job_advance(&swap->build->mend->job, 0, error);
        pj_free(blocker);
    }
    PQclear(swap->views);
    PQclear(swap->holders);
    return code;
}

/* What a former swap has kept makes way. Where it is open, or others hang on it, it is left: its name is not needed. */
static int drop_kept(struct pj_build *build, struct pj_error *error)
{
    bool there;
    int code = build->from_kept ? PJ_OK : pj_build_drop_kept(build->mend->work, build->name, &there, error);
    if (code == PJ_OK || !(error->in_use || strcmp(error->sqlstate, "2BP01") == 0))
        return code;
    if (build->log)
        pj_log_error(build->log, PJ_LOG_WARNING, error);
    pj_error_clear(error);
    return PJ_OK;
}

/* The swap is through: what fails here is no failure of it. */
static void drop_former(struct pj_build *build)
{
    struct pj_error error;
    bool there;
    if (build->keep_old || build->drop_later ||
        pj_build_drop_kept(build->mend->work, build->name, &there, &error) == PJ_OK || !build->log)
        return;
    pj_error_hint(&error, "`pgprojector rebuild %s --drop-kept` drops it later", build->name);
    pj_log_error(build->log, PJ_LOG_WARNING, &error);
}

int pj_build_swap(struct pj_build *build, struct pj_error *error)
{
    struct swap swap = {.build = build, .work = build->mend->work};
    int code = drop_kept(build, error);
    if (code == PJ_OK)
        code = try_until_done(&swap, error);
    if (code == PJ_OK)
        drop_former(build);
    pj_job_end(&build->mend->job);
    return code == PJ_OK ? PJ_OK : pj_error_wrap(error, "swap %s", build->name);
}
