/*
 * A module removed. Its row stays, `retired`, so that its file in the directory does not bring it back: only `module
 * add` does. In one transaction the row is retired and the mirrors that nobody else asks for are forgotten; the
 * pipeline goes on without them; what is to be dropped is dropped then, when nobody writes it any more. Interrupted, it
 * goes on where it was when it is begun again. Cancelled before the module is retired, nothing has changed; after that
 * it is not dropped any more.
 */
#include "core/build.h"
#include "core/registering_internal.h"

#include "base/mem.h"
#include "core/keywork.h"
#include "core/standing.h"
#include "core/table_lock.h"

#include <string.h>

enum { PATIENCE_MS = 2000 }; /* for whoever has a table open that is to go */

static int run(struct pj_session *session, const char *sql, int count, const char *const *params,
               struct pj_error *error)
{
    PGresult *result;
    int code = pj_session_query(session, &result, sql, count, params, error);
    PQclear(result);
    return code;
}

/* --------------------------------------------------------------------------------------------------- who needs what */

/* Another module that reads this one's table. */
static int check_chained(const struct pj_outfit *outfit, const char *name, struct pj_error *error)
{
    const struct pj_projection *removed = pj_outfit_projection(outfit, name);
    for (int i = 0; removed && removed->target_sql && i < outfit->setup.nprojections; i++) {
        const struct pj_projection *other = &outfit->setup.projections[i];
        for (int j = 0; j < other->nsources; j++)
            if (other->sources[j].upstream == removed) {
                pj_error_set(error, PJ_ECONFIG, "module %s reads the table of %s", other->name, name);
                return pj_error_hint(error, "remove %s first", other->name);
            }
    }
    return PJ_OK;
}

static bool reads(const struct pj_projection *projection, const char *schema, const char *table)
{
    for (int i = 0; i < projection->nsources; i++) {
        const struct pj_table *source = projection->sources[i].table;
        if (source && strcmp(source->schema, schema) == 0 && strcmp(source->name, table) == 0)
            return true;
    }
    return false;
}

static bool read_by_others(const struct pj_outfit *outfit, const char *name, const struct pj_table *table)
{
    for (int i = 0; i < outfit->setup.nprojections; i++)
        if (strcmp(outfit->setup.projections[i].name, name) != 0 &&
            reads(&outfit->setup.projections[i], table->schema, table->name))
            return true;
    return false;
}

static bool configured(const struct pj_deployment *configuration, const struct pj_table *table)
{
    for (int i = 0; i < configuration->nwanted; i++)
        if (strcmp(configuration->wanted[i].schema, table->schema) == 0 &&
            strcmp(configuration->wanted[i].name, table->name) == 0)
            return true;
    return false;
}

/* The mirrors that only this module asks for. */
static void find_unwanted(const struct pj_outfit *outfit, const char *name, const struct pj_deployment *configuration,
                          struct pj_deployment *unwanted)
{
    const struct pj_projection *removed = pj_outfit_projection(outfit, name);
    for (int i = 0; removed && i < removed->nsources; i++) {
        const struct pj_table *table = removed->sources[i].table;
        if (table && !read_by_others(outfit, name, table) && !configured(configuration, table))
            pj_deployment_want(unwanted, table->schema, table->name, name);
    }
}

static void want_no_more(struct pj_deployment *deployment, const struct pj_deployment *unwanted)
{
    for (int i = 0; i < unwanted->nwanted; i++)
        for (int j = 0; j < deployment->nwanted; j++) {
            struct pj_wanted_table *table = &deployment->wanted[j];
            if (strcmp(table->schema, unwanted->wanted[i].schema) != 0 ||
                strcmp(table->name, unwanted->wanted[i].name) != 0)
                continue;
            pj_free(table->schema);
            pj_free(table->name);
            pj_free(table->wanted_by);
            *table = deployment->wanted[--deployment->nwanted];
            break;
        }
}

/* -------------------------------------------------------------------------------------------------------- retiring */

static int forget_mirrors(struct pj_session *work, const struct pj_deployment *unwanted, struct pj_error *error)
{
    int code = PJ_OK;
    for (int i = 0; code == PJ_OK && i < unwanted->nwanted; i++) {
        const char *params[] = {unwanted->wanted[i].schema, unwanted->wanted[i].name};
        code = run(work, "DELETE FROM pgprojector.mirror WHERE schema_name = $1 AND table_name = $2", 2, params, error);
    }
    return code;
}

/* Nobody knows them as mirrors any more; that they are to be dropped is known from here on. */
static int discard_mirrors(struct pj_session *work, const struct pj_deployment *unwanted, struct pj_error *error)
{
    int code = PJ_OK;
    for (int i = 0; code == PJ_OK && i < unwanted->nwanted; i++) {
        const char *params[] = {unwanted->wanted[i].schema, unwanted->wanted[i].name};
        code = run(work, "INSERT INTO pgprojector.discarded VALUES ($1, $2) ON CONFLICT DO NOTHING", 2, params, error);
    }
    return code;
}

static int retire_locked(struct pj_session *work, const char *name, const struct pj_deployment *unwanted, bool discard,
                         struct pj_error *error)
{
    static const char retire_sql[] =
        "UPDATE pgprojector.projection SET state = 'retired', since = pg_catalog.clock_timestamp(), reason = NULL "
        "WHERE name = $1";
    static const char *const statements[] = {
        retire_sql,
        "DELETE FROM pgprojector.dirty_key WHERE projection = $1",
        "DELETE FROM pgprojector.dead_letter WHERE projection = $1",
    };
    int code = PJ_OK;
    for (size_t i = 0; code == PJ_OK && i < sizeof statements / sizeof *statements; i++)
        code = run(work, statements[i], 1, &name, error);
    if (code == PJ_OK)
        code = forget_mirrors(work, unwanted, error);
    if (code == PJ_OK && discard)
        code = discard_mirrors(work, unwanted, error);
    return code == PJ_OK ? run(work, "UPDATE pgprojector.checkpoint SET version = version + 1, roster = roster + 1", 0,
                               NULL, error)
                         : code;
}

static int retire(struct pj_session *work, const char *name, const struct pj_deployment *unwanted, bool discard,
                  struct pj_error *error)
{
    pj_lsn lsn;
    int code = pj_keywork_begin(work, &lsn, error);
    if (code == PJ_OK)
        code = retire_locked(work, name, unwanted, discard, error);
    return pj_keywork_end(work, code, error);
}

/* Makes what goes on without it, retires, hands over. */
static int go_on_without(struct pj_registering *r, const char *name, const struct pj_deployment *unwanted, bool discard,
                         struct pj_error *error)
{
    struct pj_outfit *after = pj_outfit_make(r, name, NULL, false, error);
    if (!after)
        return error->code;
    if (unwanted->nwanted) { /* opened once more without its mirrors */
        pj_setup_close(&after->setup);
        want_no_more(&after->deployment, unwanted);
        if (pj_setup_open(&after->setup, &after->deployment, r->write, r->look, error) != PJ_OK) {
            pj_outfit_free(after);
            return error->code;
        }
    }
    int code = pj_outfit_check(r, after, NULL, error);
    if (code == PJ_OK)
        code = retire(r->work, name, unwanted, discard, error);
    if (code == PJ_OK)
        code = pj_standing_roster(r->look, &after->roster, error);
    if (code != PJ_OK) {
        pj_outfit_free(after);
        return code;
    }
    return pj_outfit_hand_over(r, after, error);
}

/* -------------------------------------------------------------------------------------------------------- dropping */

static const char forget_discarded_sql[] =
    "DELETE FROM pgprojector.discarded WHERE schema_name = $1 AND table_name = $2";

static int waiting(void *context, struct pj_error *error)
{
    struct pj_registering *r = context;
    return pj_registering_check_cancelled(r, r->work, error);
}

/* Whoever reads it is waited for only for a while: others are served before it is tried again. Nobody waits behind us. */
static int drop_table(struct pj_registering *r, const char *schema, const char *table, struct pj_error *error)
{
    const struct pj_patience patience = {.milliseconds = PATIENCE_MS, .between = waiting, .context = r};
    const char *params[] = {schema, table};
    int code = pj_table_lock_begin(r->work, schema, table, &patience, error);
    if (code == PJ_OK) {
        struct pj_buf sql = {0};
        pj_buf_puts(&sql, "DROP TABLE IF EXISTS ");
        pj_quote_identifier(&sql, schema);
        pj_buf_puts(&sql, ".");
        pj_quote_identifier(&sql, table);
        code = pj_session_exec(r->work, pj_buf_text(&sql), error);
        pj_buf_free(&sql);
    }
    if (code == PJ_OK)
        code = run(r->work, forget_discarded_sql, 2, params, error);
    code = pj_keywork_end(r->work, code, error);
    if (code == PJ_OK || strcmp(error->sqlstate, "2BP01") != 0)
        return code;
    error->code = PJ_ECONFIG;
    pj_error_wrap(error, "the table %s.%s stays", schema, table);
    return pj_error_hint(error, "drop what depends on it, then the table");
}

static int it_stays(const char *schema, const char *table, struct pj_error *error)
{
    pj_error_set(error, PJ_ESTOPPED, "it is removed, but its table %s.%s stays: somebody had it open", schema, table);
    return error->code;
}

static int drop_own_table(struct pj_registering *r, const char *schema, const char *table, struct pj_error *error)
{
    int code = drop_table(r, schema, table, error);
    if (code == PJ_ESTOPPED && !pj_stop_asked(r->stop))
        return it_stays(schema, table, error);
    return code == PJ_OK ? PJ_OK : pj_error_wrap(error, "it is removed, but not its table");
}

static int drop_target(struct pj_registering *r, const char *name, struct pj_error *error)
{
    bool there;
    PGresult *row;
    int code = pj_build_drop_kept(r->work, name, &there, error);
    if (code == PJ_OK)
        code = pj_session_query(
            r->look, &row,
            "SELECT target_schema, target_table FROM pgprojector.projection WHERE name = $1 AND state = 'retired'", 1,
            &name, error);
    if (code != PJ_OK)
        return code;
    if (PQntuples(row) == 1)
        code = drop_own_table(r, PQgetvalue(row, 0, 0), PQgetvalue(row, 0, 1), error);
    PQclear(row);
    return code;
}

/* One that others hang on is the operator's. */
static int drop_discarded(struct pj_registering *r, const char *schema, const char *table, struct pj_error *error)
{
    const char *params[] = {schema, table};
    struct pj_error ignored;
    int code = drop_table(r, schema, table, error);
    if (code == PJ_ECONFIG)
        run(r->work, forget_discarded_sql, 2, params, &ignored);
    return code;
}

/* Those that go by that name again are not meant. */
static const char discarded_sql[] =
    "SELECT schema_name, table_name FROM pgprojector.discarded d WHERE NOT EXISTS (SELECT FROM pgprojector.mirror m "
    "WHERE (m.schema_name, m.table_name) = (d.schema_name, d.table_name)) AND NOT EXISTS (SELECT FROM "
    "pgprojector.projection p WHERE (p.target_schema, p.target_table) = (d.schema_name, d.table_name)) ORDER BY 1, 2";

/* All of them, then the first error. */
static int drop_mirrors(struct pj_registering *r, struct pj_error *error)
{
    struct pj_error next;
    PGresult *tables;
    int code = pj_session_query(r->look, &tables, discarded_sql, 0, NULL, error);
    for (int i = 0; (code == PJ_OK || code == PJ_ECONFIG || error->in_use) && i < PQntuples(tables); i++)
        if (drop_discarded(r, PQgetvalue(tables, i, 0), PQgetvalue(tables, i, 1), &next) != PJ_OK && code == PJ_OK) {
            *error = next;
            code = next.code;
        }
    PQclear(tables);
    return code;
}

int pj_registering_drop_discarded(struct pj_registering *r, struct pj_error *error)
{
    PGresult *tables;
    int code = pj_session_query(r->look, &tables, discarded_sql, 0, NULL, error);
    for (int i = 0; code == PJ_OK && i < PQntuples(tables); i++) {
        code = drop_discarded(r, PQgetvalue(tables, i, 0), PQgetvalue(tables, i, 1), error);
        if (code != PJ_OK)
            code = pj_registering_put_off(r, PQgetvalue(tables, i, 1), error);
    }
    PQclear(tables);
    return code;
}

static int drop(struct pj_registering *r, const char *name, struct pj_error *error)
{
    int code = drop_target(r, name, error);
    return code == PJ_OK ? drop_mirrors(r, error) : code;
}

/* ----------------------------------------------------------------------------------------------------------- remove */

/* *retired: it was removed before. */
static int check(struct pj_registering *r, const char *name, bool *retired, struct pj_error *error)
{
    bool known;
    int code = pj_roster_known(r->look, name, &known, retired, error);
    if (code != PJ_OK)
        return code;
    if (!known) {
        const struct pj_projection *projection = pj_outfit_projection(pj_outfit_in_use(r), name);
        pj_error_set(error, PJ_ECONFIG,
                     projection ? "module %.60s has no table of its own" : "there is no projection \"%.60s\"", name);
        return projection ? pj_error_hint(error, "take its file out of the module directory; its mirrors stay")
                          : pj_error_hint(error, "`pgprojector module list` lists them");
    }
    return check_chained(pj_outfit_in_use(r), name, error);
}

static int retire_and_go_on(struct pj_registering *r, const struct pj_request *request, struct pj_error *error)
{
    struct pj_deployment configuration = {0}, unwanted = {0};
    bool there;
    int code = r->deploy(r->context, &configuration, error);
    if (code == PJ_OK)
        code = pj_build_clear(r->work, request->name, &there, error);
    if (code == PJ_OK) {
        find_unwanted(pj_outfit_in_use(r), request->name, &configuration, &unwanted);
        code = go_on_without(r, request->name, &unwanted, request->drop_table, error);
    }
    pj_deployment_free(&configuration);
    pj_deployment_free(&unwanted);
    return code;
}

/* While it waited for its turn to drop the table. */
static int cancelled(struct pj_registering *r, const struct pj_request *request, struct pj_error *error)
{
    PGresult *row;
    const char *name = request->name;
    int code = pj_session_query(r->look, &row,
                                "SELECT target_schema, target_table FROM pgprojector.projection "
                                "WHERE name = $1 AND state = 'retired'",
                                1, &name, error);
    if (code == PJ_OK && PQntuples(row) == 1 && request->drop_table)
        code = it_stays(PQgetvalue(row, 0, 0), PQgetvalue(row, 0, 1), error);
    else if (code == PJ_OK)
        code = pj_error_set(error, PJ_ESTOPPED, "cancelled");
    PQclear(row);
    return code;
}

int pj_registering_remove(struct pj_registering *r, const struct pj_request *request, struct pj_error *error)
{
    const char *name = request->name;
    bool retired = false;
    int code = request->cancelled ? cancelled(r, request, error) : check(r, name, &retired, error);
    if (code == PJ_OK && (!retired || pj_outfit_projection(pj_outfit_in_use(r), name)))
        code = retire_and_go_on(r, request, error);
    if (code == PJ_OK && request->drop_table)
        code = drop(r, name, error);
    if (code == PJ_OK)
        pj_log(r->log, PJ_LOG_INFO, "module %s is removed%s", name,
               request->drop_table ? ", with its table" : "; its table stays as it is");
    return code;
}
