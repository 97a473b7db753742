/* See snapshot_room.h. A slot of the name we want, before we have said that we want it, is somebody else's. */
#include "core/snapshot_room.h"

#include "base/buf.h"

/* A view is in the way, too. Tables in the catalog are our own: an unfinished start's, to be dropped by the next. */
static const char there_sql[] = "SELECT pg_catalog.to_regclass($1) IS NOT NULL";
static const char foreign_sql[] =
    "SELECT pg_catalog.to_regclass($1) IS NOT NULL AND pg_catalog.to_regclass($1) NOT IN ("
    "SELECT coalesce(pg_catalog.to_regclass(pg_catalog.quote_ident(schema_name) || '.' || "
    "pg_catalog.quote_ident(table_name)), 0) FROM pgprojector.mirror UNION ALL "
    "SELECT coalesce(pg_catalog.to_regclass(pg_catalog.quote_ident(target_schema) || '.' || "
    "pg_catalog.quote_ident(target_table)), 0) FROM pgprojector.projection)";

struct room {
    struct pj_session *read;
    const char *sql;
    struct pj_buf taken; /* names, quoted, with commas */
    int count;
};

static int look(struct room *room, const char *table, struct pj_error *error)
{
    PGresult *result;
    int code = pj_session_query_row(room->read, &result, room->sql, 1, &table, error);
    if (code == PJ_OK && PQgetvalue(result, 0, 0)[0] == 't')
        pj_buf_printf(&room->taken, "%s%s", room->count++ ? ", " : "", table);
    PQclear(result);
    return code;
}

static int refuse(const struct room *room, struct pj_error *error)
{
    pj_error_set(error, PJ_ECONFIG, "read database: %s exist%s already and %s not made by pgprojector",
                 pj_buf_text(&room->taken), room->count == 1 ? "s" : "", room->count == 1 ? "was" : "were");
    return pj_error_hint(error,
                         "drop or rename %s, or give another database as READ_DATABASE_URL (the write database itself "
                         "cannot be the read database)",
                         room->count == 1 ? "it" : "them");
}

int pj_snapshot_room_for_tables(struct pj_session *read, bool installed, const struct pj_table *tables, int ntables,
                                const struct pj_projection *projections, int nprojections, struct pj_error *error)
{
    struct room room = {.read = read, .sql = installed ? foreign_sql : there_sql};
    int code = PJ_OK;
    for (int i = 0; code == PJ_OK && i < ntables; i++)
        code = look(&room, tables[i].mirror_sql, error);
    for (int i = 0; code == PJ_OK && i < nprojections; i++)
        if (projections[i].target_sql)
            code = look(&room, projections[i].target_sql, error);
    if (code == PJ_OK && room.count)
        code = refuse(&room, error);
    pj_buf_free(&room.taken);
    return code;
}

int pj_snapshot_room_for_slot(struct pj_session *write, const char *name, struct pj_error *error)
{
    struct pj_slot slot;
    int code = pj_slot_read(write, name, &slot, error);
    if (code != PJ_OK || !slot.exists)
        return code;
    pj_error_set(error, PJ_ECONFIG,
                 "slot %s exists already on the write database (plugin %s, database %s%s) and was not "
                 "made for this read database",
                 name, *slot.plugin ? slot.plugin : "none", *slot.database ? slot.database : "none",
                 slot.active ? ", in use" : "");
    return pj_error_hint(error, "give another slot name, or, if nobody needs it, SELECT pg_drop_replication_slot('%s')",
                         name);
}
