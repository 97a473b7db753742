#include "core/mirror_refresh.h"

#include "base/buf.h"
#include "core/keywork.h"
#include "core/mirror.h"
#include "core/table_lock.h"
#include "core/textarray.h"

#include <string.h>

enum { READERS_MS = 60000 }; /* how long somebody may have the mirror open */

enum { NAME, THERE };
static const char gained_sql[] =
    "SELECT n.name, a.attname IS NOT NULL FROM pgprojector.mirror m "
    "CROSS JOIN unnest($3::text[]) WITH ORDINALITY AS n (name, place) "
    "LEFT JOIN pg_catalog.pg_attribute a ON a.attrelid = to_regclass(format('%I.%I', $1::text, $2::text)) "
    "AND a.attname = n.name AND a.attnum > 0 AND NOT a.attisdropped "
    "WHERE m.schema_name = $1 AND m.table_name = $2 AND m.state = 'exact' AND n.name <> ALL (m.columns) "
    "ORDER BY n.place";

int pj_mirror_gained(struct pj_session *read, const struct pj_table *table, PGresult **gained, struct pj_error *error)
{
    struct pj_buf names = {0};
    pj_textarray_begin(&names);
    for (int i = 0; i < table->ncolumns; i++)
        pj_textarray_add(&names, table->columns[i].name);
    pj_textarray_end(&names);
    const char *params[] = {table->schema, table->name, pj_buf_text(&names)};
    int code = pj_session_query(read, gained, gained_sql, 3, params, error);
    pj_buf_free(&names);
    return code;
}

static int add_columns(struct pj_session *read, const struct pj_table *table, const PGresult *gained,
                       struct pj_error *error)
{
    struct pj_buf sql = {0};
    for (int row = 0; row < PQntuples(gained); row++) {
        const char *name = PQgetvalue(gained, row, NAME);
        if (PQgetvalue(gained, row, THERE)[0] == 't')
            continue;
        const struct pj_table_column *column = &table->columns[pj_table_column_index(table, name, strlen(name))];
        pj_buf_printf(&sql, "%s ADD COLUMN ", sql.length ? "," : "");
        pj_quote_identifier(&sql, name);
        pj_buf_printf(&sql, " %s%s%s", column->type_sql, column->collation_sql ? " COLLATE " : "",
                      column->collation_sql ? column->collation_sql : "");
    }
    int code = sql.length ? pj_session_execf(read, error, "ALTER TABLE %s%s", table->mirror_sql, sql.data) : PJ_OK;
    pj_buf_free(&sql);
    return code;
}

static int alter(struct pj_session *write, struct pj_session *read, const struct pj_table *table,
                 const PGresult *gained, struct pj_error *error)
{
    const struct pj_patience patience = {.milliseconds = READERS_MS};
    int code = pj_table_lock_begin(read, table->schema, table->name, &patience, error);
    if (code != PJ_OK)
        return code;
    code = pj_mirror_create_types(write, read, table, 1, error);
    if (code == PJ_OK)
        code = add_columns(read, table, gained, error);
    return pj_keywork_end(read, code, error);
}

int pj_mirror_refresh(struct pj_session *write, struct pj_session *read, const struct pj_table *table,
                      struct pj_error *error)
{
    PGresult *gained;
    int code = pj_mirror_gained(read, table, &gained, error);
    if (code == PJ_OK && PQntuples(gained))
        code = alter(write, read, table, gained, error);
    PQclear(gained);
    return code == PJ_OK ? PJ_OK : pj_error_wrap(error, "mirror %s", table->mirror_sql);
}
