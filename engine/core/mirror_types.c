/*
 * The types that the mirrors' columns need: schemas, enums, domains and composite types are made after the source's
 * where they are missing; one that is there is held against the source's. What cannot be made from the catalog alone
 * (extension types, ranges, base types) must be there already.
 *
 * A domain is made without its checks, default and NOT NULL: the source has checked, and functions in a check may be
 * missing here.
 */
#include "base/mem.h"
#include "core/mirror.h"
#include "core/source_internal.h"
#include "sql.h"

#include <string.h>

static const char *kind_name(char typtype)
{
    switch (typtype) {
    case 'e':
        return "an enum";
    case 'd':
        return "a domain";
    case 'c':
        return "a composite type";
    case 'r':
        return "a range type";
    case 'm':
        return "a multirange type";
    default:
        return "a base type";
    }
}

/* ------------------------------------------------------------------------------------------- against what is there */

static int compare_type(const PGresult *types, int row, const PGresult *found, struct pj_error *error)
{
    const char *name = pj_field(types, row, "sql_name");
    char wanted = *pj_field(types, row, "typtype"), there = *pj_field(found, 0, "typtype");
    if (wanted != there)
        pj_error_set(error, PJ_ECONFIG, "read database: type %s is %s there, %s on the write database", name,
                     kind_name(there), kind_name(wanted));
    else if (wanted == 'd' && strcmp(pj_field(types, row, "base"), pj_field(found, 0, "base")) != 0)
        pj_error_set(error, PJ_ECONFIG, "read database: domain %s is over %s there, over %s on the write database",
                     name, pj_field(found, 0, "base"), pj_field(types, row, "base"));
    else if (wanted == 'e' && !pj_field_true(found, 0, "labels_fit"))
        pj_error_set(error, PJ_ECONFIG,
                     "read database: enum %s lacks labels of the write database's, or has them in another "
                     "order: %s",
                     name, pj_field(types, row, "labels"));
    else if (wanted == 'c' && strcmp(pj_field(types, row, "attributes"), pj_field(found, 0, "attributes")) != 0)
        pj_error_set(error, PJ_ECONFIG, "read database: composite type %s is (%s) there, (%s) on the write database",
                     name, pj_field(found, 0, "attributes"), pj_field(types, row, "attributes"));
    else
        return PJ_OK;
    return pj_error_hint(error,
                         "make the type on the read database like the write database's, or drop it there so that "
                         "pgprojector makes it");
}

/* -------------------------------------------------------------------------------------------------------- create */

static int refuse_type(const PGresult *types, int row, struct pj_error *error)
{
    const char *name = pj_field(types, row, "sql_name"), *extension = pj_field(types, row, "extension");
    if (*extension) {
        pj_error_set(error, PJ_ECONFIG, "read database: type %s of extension %s does not exist", name, extension);
        return pj_error_hint(error, "CREATE EXTENSION %s SCHEMA %s on the read database", extension,
                             pj_field(types, row, "nspname"));
    }
    pj_error_set(error, PJ_ECONFIG, "read database: type %s (%s) does not exist", name,
                 kind_name(*pj_field(types, row, "typtype")));
    return pj_error_hint(error, "create it on the read database as it is on the write database");
}

/* "{a,b}" as the server gave it, to the list of literals of CREATE TYPE: by the server itself. */
static int put_labels(struct pj_session *read, const char *labels, struct pj_buf *sql, struct pj_error *error)
{
    const char *params[] = {labels};
    PGresult *result;
    int code = pj_session_query_row(read, &result,
                                    "SELECT pg_catalog.string_agg(pg_catalog.quote_literal(l), ', ' ORDER BY n) "
                                    "FROM unnest($1::text[]) WITH ORDINALITY AS u (l, n)",
                                    1, params, error);
    if (code == PJ_OK)
        pj_buf_puts(sql, PQgetvalue(result, 0, 0));
    PQclear(result);
    return code;
}

static int create_type(struct pj_session *read, const PGresult *types, int row, struct pj_error *error)
{
    const char *name = pj_field(types, row, "sql_name"), *collation = pj_field(types, row, "collation_sql");
    struct pj_buf sql = {0};
    int code = PJ_OK;
    switch (*pj_field(types, row, "extension") ? 'x' : *pj_field(types, row, "typtype")) {
    case 'e':
        pj_buf_printf(&sql, "CREATE TYPE %s AS ENUM (", name);
        code = put_labels(read, pj_field(types, row, "labels"), &sql, error);
        pj_buf_puts(&sql, ")");
        break;
    case 'd':
        pj_buf_printf(&sql, "CREATE DOMAIN %s AS %s%s%s", name, pj_field(types, row, "base"),
                      *collation ? " COLLATE " : "", collation);
        break;
    case 'c':
        pj_buf_printf(&sql, "CREATE TYPE %s AS (%s)", name, pj_field(types, row, "attributes"));
        break;
    default:
        code = refuse_type(types, row, error);
    }
    if (code == PJ_OK)
        code = pj_session_exec(read, pj_buf_text(&sql), error);
    pj_buf_free(&sql);
    return code;
}

static int ensure_type(struct pj_session *read, const PGresult *types, int row, struct pj_error *error)
{
    const char *labels = pj_field(types, row, "labels");
    const char *params[] = {pj_field(types, row, "nspname"), pj_field(types, row, "typname"), *labels ? labels : "{}"};
    PGresult *found;
    int code = pj_session_query(read, &found, pj_sql_mirror_type_found, 3, params, error);
    if (code != PJ_OK)
        return code;
    code = PQntuples(found) ? compare_type(types, row, found, error) : create_type(read, types, row, error);
    PQclear(found);
    return code;
}

/* ------------------------------------------------------------------------------------------------------- schemas */

/* Not CREATE SCHEMA IF NOT EXISTS: that needs CREATE on the database even where the schema is there. */
static int ensure_schema(struct pj_session *read, const char *schema, struct pj_error *error)
{
    const char *params[] = {schema};
    PGresult *result;
    int code =
        pj_session_query(read, &result, "SELECT FROM pg_catalog.pg_namespace WHERE nspname = $1", 1, params, error);
    bool there = code == PJ_OK && PQntuples(result);
    PQclear(result);
    if (code != PJ_OK || there)
        return code;
    struct pj_buf sql = {0};
    pj_buf_puts(&sql, "CREATE SCHEMA ");
    pj_quote_identifier(&sql, schema);
    code = pj_session_exec(read, pj_buf_text(&sql), error);
    pj_buf_free(&sql);
    return code;
}

/* ----------------------------------------------------------------------------------------------------------- all */

static void explain(struct pj_session *read, struct pj_error *error)
{
    if (strcmp(error->sqlstate, "42501") != 0)
        return;
    error->code = PJ_ECONFIG;
    pj_error_hint(error, "GRANT CREATE ON DATABASE %s TO \"%s\", and CREATE on its schemas",
                  PQdb(pj_session_conn(read)), PQuser(pj_session_conn(read)));
}

int pj_mirror_create_types(struct pj_session *write, struct pj_session *read, const struct pj_table *tables, int count,
                           struct pj_error *error)
{
    PGresult *types;
    int code = pj_source_query_tables(write, tables, count, pj_sql_mirror_types, &types, error);
    for (int i = 0; code == PJ_OK && i < count; i++)
        code = ensure_schema(read, tables[i].schema, error);
    for (int row = 0; code == PJ_OK && row < PQntuples(types); row++) {
        code = ensure_schema(read, pj_field(types, row, "nspname"), error);
        if (code == PJ_OK)
            code = ensure_type(read, types, row, error);
        if (code != PJ_OK)
            pj_error_wrap(error, "type %s", pj_field(types, row, "sql_name"));
    }
    PQclear(types);
    if (code != PJ_OK)
        explain(read, error);
    return code == PJ_OK ? PJ_OK : error->code;
}
