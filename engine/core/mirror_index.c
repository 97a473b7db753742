/*
 * The indexes that modules ask for on mirrors. Made at the first start inside its transaction; on mirrors that are
 * streamed into without holding the stream up (CONCURRENTLY), which can leave an invalid index behind: that one is
 * dropped and made again.
 */
#include "base/mem.h"
#include "core/projection.h"
#include "core/projection_sql.h"

#define XXH_INLINE_ALL
#include <xxhash.h>

#include <stdio.h>
#include <string.h>

/*
 * A name that tells what the index is on, with a digest of its text at the end: two modules that ask for the same index
 * get one, and starting again finds it. At most 63 bytes.
 */
static void index_name(const struct pj_table *table, const char *text, char name[64])
{
    size_t length = 0;
    const char *columns = strchr(text, '(');
    const char *const parts[] = {table->name, columns ? columns : ""};
    for (int i = 0; i < 2; i++)
        for (const char *at = parts[i]; *at && length < 54; at++) {
            bool word = (*at >= 'a' && *at <= 'z') || (*at >= '0' && *at <= '9');
            if (word || (length > 0 && name[length - 1] != '_'))
                name[length++] = word ? *at : '_';
        }
    while (length > 0 && name[length - 1] == '_')
        length--;
    snprintf(name + length, 64 - length, "_%08x", (unsigned)XXH3_64bits(text, strlen(text)));
}

/* An error of the module's SQL is a mistake in the module; a lost connection is not. */
static int bad_sql(struct pj_error *error, const char *what)
{
    if (strncmp(error->sqlstate, "42", 2) == 0 || strncmp(error->sqlstate, "22", 2) == 0)
        error->code = PJ_ECONFIG;
    return pj_error_wrap(error, "%s", what);
}

/* One that was given up is maintained, and of no use. Whoever has the table open keeps us from dropping it: then it
 * goes with pj_projection_drop_unfinished_indexes, or is made again. */
static void drop_unfinished(struct pj_session *read, const char *qualified)
{
    struct pj_error ignored;
    pj_session_set_tick(read, 0, NULL, NULL); /* that has had its say */
    if (pj_session_exec(read, "SET lock_timeout = '2s'", &ignored) == PJ_OK)
        pj_session_execf(read, &ignored, "DROP INDEX CONCURRENTLY IF EXISTS %s", qualified);
    pj_session_exec(read, "RESET lock_timeout", &ignored);
}

/* *state: "" where there is none of that name, else "valid" or "invalid". */
static int look(struct pj_session *read, const char *qualified, char state[8], struct pj_error *error)
{
    PGresult *result;
    int code = pj_session_query_row(read, &result,
                                    "SELECT CASE WHEN pg_catalog.to_regclass($1) IS NULL THEN '' WHEN EXISTS "
                                    "(SELECT FROM pg_catalog.pg_index WHERE indexrelid = pg_catalog.to_regclass($1) "
                                    "AND NOT indisvalid) THEN 'invalid' ELSE 'valid' END",
                                    1, &qualified, error);
    snprintf(state, 8, "%s", code == PJ_OK ? PQgetvalue(result, 0, 0) : "");
    PQclear(result);
    return code;
}

static int create_index(struct pj_session *read, const struct pj_table *table, const char *text, bool concurrently,
                        struct pj_error *error)
{
    char name[64], state[8];
    index_name(table, text, name);
    struct pj_buf qualified = {0}, sql = {0};
    pj_quote_identifier(&qualified, table->schema);
    pj_buf_puts(&qualified, ".");
    pj_quote_identifier(&qualified, name);
    pj_buf_puts(&sql, concurrently ? "CREATE INDEX CONCURRENTLY " : "CREATE INDEX ");
    pj_quote_identifier(&sql, name);
    pj_buf_printf(&sql, " ON %s", text);
    int code = look(read, pj_buf_text(&qualified), state, error);
    if (code == PJ_OK && strcmp(state, "invalid") == 0 && concurrently) {
        code = pj_session_execf(read, error, "DROP INDEX CONCURRENTLY %s", pj_buf_text(&qualified));
        state[0] = '\0';
    }
    if (code == PJ_OK && !*state) {
        code = pj_session_exec(read, pj_buf_text(&sql), error);
        if (code != PJ_OK && concurrently)
            drop_unfinished(read, pj_buf_text(&qualified));
    }
    pj_buf_free(&qualified);
    pj_buf_free(&sql);
    return code == PJ_OK ? PJ_OK : bad_sql(error, text);
}

static int create_indexes(struct pj_session *read, const struct pj_projection *projection, bool concurrently,
                          struct pj_error *error)
{
    pj_error_clear(error);
    const char *const *indexes = projection->module->mirror_indexes;
    int code = PJ_OK;
    for (int i = 0; indexes && indexes[i] && code == PJ_OK; i++) {
        struct pj_buf sql = {0};
        int source = 0;
        code = pj_projection_index_sql(projection, indexes[i], &sql, &source, error);
        if (code == PJ_OK)
            code = create_index(read, projection->sources[source].table, pj_buf_text(&sql), concurrently, error);
        pj_buf_free(&sql);
    }
    return code == PJ_OK ? PJ_OK : pj_error_wrap(error, "module %s: mirror index", projection->module->name);
}

int pj_projection_create_mirror_indexes(struct pj_session *read, const struct pj_projection *projection,
                                        struct pj_error *error)
{
    return create_indexes(read, projection, false, error);
}

int pj_projection_add_mirror_indexes(struct pj_session *read, const struct pj_projection *projection,
                                     struct pj_error *error)
{
    return create_indexes(read, projection, true, error);
}

int pj_projection_drop_unfinished_indexes(struct pj_session *read, struct pj_error *error)
{
    PGresult *names;
    int code = pj_session_query(
        read, &names,
        "SELECT pg_catalog.format('%I.%I', n.nspname, c.relname) FROM pg_catalog.pg_index i "
        "JOIN pg_catalog.pg_class c ON c.oid = i.indexrelid JOIN pg_catalog.pg_class t ON t.oid = i.indrelid "
        "JOIN pg_catalog.pg_namespace n ON n.oid = t.relnamespace "
        "JOIN pgprojector.mirror m ON m.schema_name = n.nspname AND m.table_name = t.relname "
        "WHERE NOT i.indisvalid AND c.relname ~ '_[0-9a-f]{8}$' AND NOT EXISTS "
        "(SELECT FROM pg_catalog.pg_stat_progress_create_index p WHERE p.index_relid = i.indexrelid)",
        0, NULL, error);
    for (int row = 0; code == PJ_OK && row < PQntuples(names); row++)
        drop_unfinished(read, PQgetvalue(names, row, 0));
    PQclear(names);
    return code == PJ_OK ? PJ_OK : pj_error_wrap(error, "unfinished indexes");
}

int pj_projection_mirror_index(const struct pj_projection *projection, int index, char **sql,
                               const struct pj_table **table, struct pj_error *error)
{
    struct pj_buf text = {0}, statement = {0};
    int source = 0;
    int code = pj_projection_index_sql(projection, projection->module->mirror_indexes[index], &text, &source, error);
    if (code == PJ_OK) {
        char name[64];
        *table = projection->sources[source].table;
        index_name(*table, pj_buf_text(&text), name);
        pj_buf_puts(&statement, "CREATE INDEX ");
        pj_quote_identifier(&statement, name);
        pj_buf_printf(&statement, " ON %s", pj_buf_text(&text));
    }
    pj_buf_free(&text);
    *sql = pj_buf_take(&statement);
    return code == PJ_OK ? PJ_OK : pj_error_wrap(error, "module %s: mirror index", projection->module->name);
}

int pj_projection_run_index(struct pj_session *read, const char *sql, struct pj_error *error)
{
    return pj_session_exec(read, sql, error) == PJ_OK ? PJ_OK : bad_sql(error, sql);
}
