/*
 * See joining.h: preparing and cleaning; the way to exactness is joining_run.c's.
 */
#include "core/joining.h"

#include "base/mem.h"
#include "core/catalog.h"
#include "core/keywork.h"
#include "core/mirror.h"
#include "core/table_lock.h"

enum { PATIENCE_MS = 2000 }; /* for whoever has an unfinished mirror open */

/* --------------------------------------------------------------------------------------------------------- missing */

int pj_joining_missing(struct pj_session *read, struct pj_table *tables, int ntables, int *count,
                       struct pj_error *error)
{
    int code = PJ_OK;
    *count = 0;
    for (int i = 0; code == PJ_OK && i < ntables; i++) {
        const char *params[] = {tables[i].schema, tables[i].name};
        PGresult *result;
        code = pj_session_query_row(read, &result,
                                    "SELECT NOT EXISTS (SELECT FROM pgprojector.mirror WHERE schema_name = $1 "
                                    "AND table_name = $2 AND state = 'exact')",
                                    2, params, error);
        tables[i].joining = code == PJ_OK && PQgetvalue(result, 0, 0)[0] == 't';
        *count += tables[i].joining;
        PQclear(result);
    }
    return code == PJ_OK ? PJ_OK : pj_error_wrap(error, "look for mirrors");
}

/* --------------------------------------------------------------------------------------------------------- forget */

/* Within a transaction: the unfinished mirror, its row, what was noted of it. */
static int forget(struct pj_session *work, const char *schema, const char *name, struct pj_error *error)
{
    static const char *const statements[] = {
        "DELETE FROM pgprojector.mirror WHERE schema_name = $1 AND table_name = $2",
        "DELETE FROM pgprojector.dirty_row WHERE schema_name = $1 AND table_name = $2",
    };
    const char *params[] = {schema, name};
    struct pj_buf table = {0};
    pj_quote_identifier(&table, schema);
    pj_buf_puts(&table, ".");
    pj_quote_identifier(&table, name);
    int code = pj_session_execf(work, error, "SET LOCAL client_min_messages = warning; DROP TABLE IF EXISTS %s",
                                pj_buf_text(&table));
    if (code != PJ_OK)
        pj_error_wrap(error, "drop the unfinished mirror %s", pj_buf_text(&table));
    pj_buf_free(&table);
    for (size_t i = 0; code == PJ_OK && i < sizeof statements / sizeof *statements; i++) {
        PGresult *result;
        code = pj_session_query(work, &result, statements[i], 2, params, error);
        PQclear(result);
    }
    return code;
}

/* In a transaction of its own: whoever reads it is waited for only for a while, and nobody waits behind us. */
static int forget_alone(struct pj_session *work, const char *schema, const char *name, struct pj_error *error)
{
    static const struct pj_patience patience = {.milliseconds = PATIENCE_MS};
    int code = pj_table_lock_end_orphans(work, schema, name, error); /* a copy that was given up */
    if (code == PJ_OK)
        code = pj_table_lock_begin(work, schema, name, &patience, error);
    if (code == PJ_OK)
        code = forget(work, schema, name, error);
    return pj_keywork_end(work, code, error);
}

/* All that are not in use, then the first error. */
int pj_joining_clean(struct pj_session *work, int *removed, struct pj_error *error)
{
    struct pj_error next;
    PGresult *unfinished;
    int code = pj_session_query(work, &unfinished,
                                "SELECT schema_name, table_name FROM pgprojector.mirror WHERE state = 'joining'", 0,
                                NULL, error);
    *removed = 0;
    for (int row = 0; (code == PJ_OK || error->in_use) && row < PQntuples(unfinished); row++) {
        bool done = forget_alone(work, PQgetvalue(unfinished, row, 0), PQgetvalue(unfinished, row, 1), &next) == PJ_OK;
        *removed += done;
        if (!done && (code == PJ_OK || !next.in_use)) {
            *error = next;
            code = next.code;
        }
    }
    PQclear(unfinished);
    return code == PJ_OK ? PJ_OK : pj_error_wrap(error, "remove unfinished mirrors");
}

/* --------------------------------------------------------------------------------------------------------- prepare */

static int is_unfinished(struct pj_session *work, const struct pj_table *table, bool *yes, struct pj_error *error)
{
    const char *params[] = {table->schema, table->name};
    PGresult *result;
    int code = pj_session_query_row(work, &result,
                                    "SELECT EXISTS (SELECT FROM pgprojector.mirror WHERE schema_name = $1 "
                                    "AND table_name = $2 AND state = 'joining')",
                                    2, params, error);
    *yes = code == PJ_OK && PQgetvalue(result, 0, 0)[0] == 't';
    PQclear(result);
    return code;
}

static int prepare_table(struct pj_session *work, const struct pj_table *table, struct pj_error *error)
{
    int code = pj_mirror_create(work, table, error);
    return code == PJ_OK ? pj_catalog_enter_joining(work, table, error) : code;
}

/* What an attempt before has left. */
static int clear_way(struct pj_session *work, const struct pj_table *tables, int ntables, struct pj_error *error)
{
    int code = PJ_OK;
    for (int i = 0; code == PJ_OK && i < ntables; i++) {
        bool unfinished = false;
        if (tables[i].joining)
            code = is_unfinished(work, &tables[i], &unfinished, error);
        if (code == PJ_OK && unfinished)
            code = forget_alone(work, tables[i].schema, tables[i].name, error);
    }
    return code;
}

static int prepare(struct pj_session *write, struct pj_session *work, const struct pj_table *tables, int ntables,
                   struct pj_error *error)
{
    int code = PJ_OK;
    for (int i = 0; code == PJ_OK && i < ntables; i++) {
        if (!tables[i].joining)
            continue;
        code = pj_mirror_create_types(write, work, &tables[i], 1, error);
        if (code == PJ_OK)
            code = prepare_table(work, &tables[i], error);
    }
    return pj_keywork_end(work, code, error);
}

int pj_joining_prepare(const struct pj_joining *joining, const struct pj_table *tables, int ntables,
                       struct pj_error *error)
{
    struct pj_session *write;
    struct pj_session_options options = {
        .side = PJ_WRITE, .url = joining->write_url, .purpose = "join", .stop = joining->stop};
    int code = pj_session_open(&write, &options, error);
    if (code == PJ_OK)
        code = clear_way(joining->work, tables, ntables, error);
    if (code == PJ_OK)
        code = pj_session_exec(joining->work, "BEGIN", error);
    if (code == PJ_OK)
        code = prepare(write, joining->work, tables, ntables, error);
    pj_session_close(write);
    return code == PJ_OK ? PJ_OK : pj_error_wrap(error, "add mirrors");
}
