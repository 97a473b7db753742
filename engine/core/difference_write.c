/*
 * Writing what a look at a mirror has found to differ (difference.c): rows that are too many are deleted and those that
 * are otherwise updated, by their places, then the missing ones inserted.
 *
 * An update finds room on its page where others have been updated before, and then no index has to know. New rows go
 * behind one another, not into the room that others have left, one here, one there: for each of these a page would be
 * read, written and logged as a whole, and none of them would be visible to all any more, so that recomputing had to
 * look at a row wherever it would have counted in an index. So the mirror's fillfactor is less meanwhile, which takes the
 * lock that VACUUM takes, until the transaction is over. (3 million messages, 15,000 missing and 15,000 others, with
 * deleting and inserting instead: 1.7 s and 500 MB of WAL to write them, 1.0 s and 340 MB so; recomputing 2.0 and 1.4 s.)
 */
#include "core/difference_internal.h"

#include "base/mem.h"
#include "core/mirror.h"

#include <stdlib.h>
#include <string.h>

enum {
    MANY_ROWS = 1000, /* fewer find room wherever it is */
    FULL_PERCENT = 80,
};

/* Exactly the rows that were found must be met: a trigger may have kept some away, or a hand have been there since. */
static int write_exactly(struct pj_session *read, const struct pj_table *table, const char *before, const char *after,
                         int64_t rows, struct pj_error *error)
{
    int64_t met;
    int code = pj_difference_run(read, table, before, after, &met, error);
    if (code != PJ_OK || met == rows)
        return code;
    pj_error_set(error, PJ_EDATA, "%lld rows were to be written, %lld were", (long long)rows, (long long)met);
    return pj_error_hint(error,
                         "does a trigger on %s keep rows from being written, or did somebody write to it meanwhile? "
                         "Take that away, then start again",
                         table->mirror_sql);
}

static int delete_rows(struct pj_session *read, const struct pj_table *table, int64_t rows, struct pj_error *error)
{
    char *before = pj_sprintf("DELETE FROM %s AS m USING ", table->mirror_sql);
    int code = write_exactly(read, table, before,
                             " AS d WHERE m.ctid = d.pgprojector_at AND d.pgprojector_here IS NULL", rows, error);
    pj_free(before);
    return code;
}

/* The primary key stays, by which rows were matched; no other index of a mirror is unique. */
static int update_rows(struct pj_session *read, const struct pj_table *table, int64_t rows, struct pj_error *error)
{
    struct pj_buf before = {0};
    pj_buf_printf(&before, "UPDATE %s AS m SET ", table->mirror_sql);
    for (int i = 0; i < table->ncolumns; i++) {
        pj_buf_puts(&before, i ? ", " : "");
        pj_quote_identifier(&before, table->columns[i].name);
        pj_buf_puts(&before, " = d.");
        pj_quote_identifier(&before, table->columns[i].name);
    }
    pj_buf_puts(&before, " FROM ");
    int code = write_exactly(read, table, pj_buf_text(&before),
                             " AS d WHERE m.ctid = d.pgprojector_at AND d.pgprojector_here", rows, error);
    pj_buf_free(&before);
    return code;
}

/* In the order in which most of the mirror's indexes are met page after page. */
static int insert_rows(struct pj_session *read, const struct pj_table *table, int64_t rows, struct pj_error *error)
{
    struct pj_buf before = {0}, after = {0};
    int order = table->insert_order ? table->insert_order - 1 : table->key[0];
    pj_buf_printf(&before, "INSERT INTO %s (", table->mirror_sql);
    pj_mirror_columns(&before, table, NULL);
    pj_buf_puts(&before, ") SELECT ");
    pj_mirror_columns(&before, table, "d.");
    pj_buf_puts(&before, " FROM ");
    pj_buf_puts(&after, " AS d WHERE d.pgprojector_here AND d.pgprojector_at IS NULL ORDER BY d.");
    pj_quote_identifier(&after, table->columns[order].name);
    int code = write_exactly(read, table, pj_buf_text(&before), pj_buf_text(&after), rows, error);
    pj_buf_free(&before);
    pj_buf_free(&after);
    return code;
}

/* ----------------------------------------------------------------------------------------------------- new pages */

/* How a mirror was before its pages passed for full; NULL where they are not to, or nothing was changed. */
struct spared {
    char *options, *lock_timeout; /* to be set again; pj_free */
};

static void forget(struct spared *spared)
{
    pj_free(spared->options);
    pj_free(spared->lock_timeout);
    *spared = (struct spared){0};
}

/* Not for a few rows, nor where pages pass for full early already; nor where there are triggers, for a table with
 * deferred ones pending cannot be altered. */
static int look_at_mirror(struct pj_session *read, const struct pj_table *table, struct spared *before,
                          struct pj_error *error)
{
    struct pj_buf sql = {0};
    const char *params[] = {table->mirror_sql};
    PGresult *result;
    pj_buf_puts(&sql, "SELECT coalesce('SET (fillfactor = ' || o.fill || ')', 'RESET (fillfactor)'), "
                      "pg_catalog.current_setting('lock_timeout') FROM pg_catalog.pg_class AS c LEFT JOIN LATERAL "
                      "(SELECT pg_catalog.split_part(unnest, '=', 2)::pg_catalog.int4 AS fill "
                      "FROM pg_catalog.unnest(c.reloptions) WHERE unnest LIKE 'fillfactor=%') AS o ON true "
                      "WHERE c.oid = $1::pg_catalog.regclass AND NOT c.relhastriggers AND (SELECT pg_catalog.count(*) "
                      "FROM ");
    pj_difference_rows_name(&sql, table, PJ_ROWS_DIFFERING);
    pj_buf_printf(&sql, " WHERE pgprojector_here) >= %d AND coalesce(o.fill, 100) > %d", MANY_ROWS, FULL_PERCENT);
    int code = pj_session_query(read, &result, pj_buf_text(&sql), 1, params, error);
    if (code == PJ_OK && PQntuples(result)) {
        before->options = pj_strdup(PQgetvalue(result, 0, 0));
        before->lock_timeout = pj_strdup(PQgetvalue(result, 0, 1));
    }
    PQclear(result);
    pj_buf_free(&sql);
    return code;
}

/* Lets the mirror's pages pass for full. Where that cannot be (a VACUUM is at work, the table is another role's, an event
 * trigger forbids it), rows go where there is room. */
static int spare_pages(struct pj_session *read, const struct pj_table *table, struct spared *before,
                       struct pj_error *error)
{
    int code = look_at_mirror(read, table, before, error);
    if (code != PJ_OK || !before->options)
        return code;
    code = pj_session_execf(read, error,
                            "SAVEPOINT pgprojector_pages; SET LOCAL lock_timeout = 100; "
                            "ALTER TABLE %s SET (fillfactor = %d); SET LOCAL lock_timeout = '%s'; "
                            "RELEASE SAVEPOINT pgprojector_pages",
                            table->mirror_sql, FULL_PERCENT, before->lock_timeout);
    if (code != PJ_EFAIL || !*error->sqlstate || strncmp(error->sqlstate, "57", 2) == 0)
        return code;
    forget(before);
    pj_error_clear(error);
    return pj_session_exec(read, "ROLLBACK TO SAVEPOINT pgprojector_pages; RELEASE SAVEPOINT pgprojector_pages", error);
}

/* ----------------------------------------------------------------------------------------------------------- all */

int pj_difference_write_rows(struct pj_session *read, const struct pj_table *table, struct pj_error *error)
{
    struct spared before = {0};
    struct pj_mended found;
    int code = pj_difference_count(read, table, &found, error);
    if (code == PJ_OK)
        code = spare_pages(read, table, &before, error);
    if (code == PJ_OK)
        code = delete_rows(read, table, found.extra, error);
    if (code == PJ_OK)
        code = update_rows(read, table, found.changed, error);
    if (code == PJ_OK)
        code = insert_rows(read, table, found.missing, error);
    if (code == PJ_OK && before.options)
        code = pj_session_execf(read, error, "ALTER TABLE %s %s", table->mirror_sql, before.options);
    forget(&before);
    return code == PJ_OK ? pj_difference_run(read, table, "DROP TABLE ", "", NULL, error) : code;
}
