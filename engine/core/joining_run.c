/* From an empty mirror to an exact one; why it becomes exact is told in joining.h. The copy is joining_copy.c's. */
#include "core/joining_internal.h"

#include "base/mem.h"
#include "core/difference.h"
#include "core/fence.h"
#include "core/keywork.h"
#include "core/textarray.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { CHUNK_ROWS = 4000, FEW = 1000, PATIENT_ROUNDS = 5, KEY_COLUMNS = 32, FENCE_ATTEMPTS = 3 };

static const char no_end[] = "9223372036854775807";

int pj_joining_working(void *context, struct pj_error *error)
{
    struct pj_job *job = context;
    return pj_job_advance(job, job->now.done, error);
}

/* ----------------------------------------------------------------------------------------------------------- notes */

struct notes {
    char last_id[24];
    int64_t count;
    bool all; /* a TRUNCATE is among them */
};

static int look(struct pj_session *session, const struct pj_table *table, struct notes *notes, struct pj_error *error)
{
    const char *params[] = {table->schema, table->name};
    PGresult *result;
    int code = pj_session_query_row(session, &result,
                                    "SELECT coalesce(pg_catalog.max(id), 0), pg_catalog.count(*), "
                                    "coalesce(pg_catalog.bool_or(identity IS NULL), false) "
                                    "FROM pgprojector.dirty_row WHERE schema_name = $1 AND table_name = $2",
                                    2, params, error);
    if (code == PJ_OK) {
        snprintf(notes->last_id, sizeof notes->last_id, "%s", PQgetvalue(result, 0, 0));
        notes->count = strtoll(PQgetvalue(result, 0, 1), NULL, 10);
        notes->all = PQgetvalue(result, 0, 2)[0] == 't';
    }
    PQclear(result);
    return code;
}

static int forget_notes(struct pj_session *session, const struct pj_table *table, const char *last_id,
                        struct pj_error *error)
{
    const char *params[] = {table->schema, table->name, last_id};
    PGresult *result;
    int code = pj_session_query(session, &result,
                                "DELETE FROM pgprojector.dirty_row WHERE schema_name = $1 AND table_name = $2 "
                                "AND id <= $3::bigint",
                                3, params, error);
    PQclear(result);
    return code;
}

/* The noted identities up to last_id, each once; the identity's columns as columns. */
static int read_notes(struct pj_session *session, const struct pj_table *table, const char *last_id, PGresult **rows,
                      struct pj_error *error)
{
    struct pj_buf sql = {0};
    const char *params[] = {table->schema, table->name, last_id};
    pj_buf_puts(&sql, "SELECT DISTINCT ");
    for (int i = 0; i < table->nidentity; i++)
        pj_buf_printf(&sql, "%sidentity[%d]", i ? ", " : "", i + 1);
    pj_buf_puts(&sql, " FROM pgprojector.dirty_row WHERE schema_name = $1 AND table_name = $2 AND id <= $3::bigint "
                      "AND identity IS NOT NULL");
    int code = pj_session_query(session, rows, pj_buf_text(&sql), 3, params, error);
    pj_buf_free(&sql);
    return code;
}

/* ---------------------------------------------------------------------------------------------------------- mending */

static int mend_chunk(struct pj_session *write, struct pj_session *read, const struct pj_table *table,
                      const PGresult *rows, int first, int count, struct pj_error *error)
{
    char *arrays[KEY_COLUMNS];
    struct pj_mended mended;
    for (int column = 0; column < table->nidentity; column++) {
        struct pj_buf array = {0};
        pj_textarray_begin(&array);
        for (int row = first; row < first + count; row++)
            pj_textarray_add(&array, PQgetvalue(rows, row, column));
        pj_textarray_end(&array);
        arrays[column] = pj_buf_take(&array);
    }
    int code = pj_difference_mend_identities(write, read, table, (const char *const *)arrays, &mended, error);
    for (int column = 0; column < table->nidentity; column++)
        pj_free(arrays[column]);
    return code;
}

/* Within transactions of both: what is noted up to last_id, from the source's snapshot. */
static int mend(const struct pj_joining *joining, struct pj_session *write, struct pj_session *read,
                const struct pj_table *table, const struct notes *notes, struct pj_error *error)
{
    struct pj_mended mended;
    PGresult *rows;
    if (notes->all)
        return pj_difference_mend_table(write, read, table, &mended, error);
    int code = read_notes(read, table, notes->last_id, &rows, error);
    int count = code == PJ_OK ? PQntuples(rows) : 0;
    for (int first = 0; code == PJ_OK && first < count; first += CHUNK_ROWS) {
        int size = count - first < CHUNK_ROWS ? count - first : CHUNK_ROWS;
        code = mend_chunk(write, read, table, rows, first, size, error);
        if (code == PJ_OK && pj_stop_asked(joining->stop))
            code = pj_error_set(error, PJ_ESTOPPED, "stopped");
    }
    PQclear(rows);
    return code;
}

/* One round of one table, beside the stream: nobody else writes to its mirror. */
static int round_of(const struct pj_joining *joining, struct pj_session *write, const struct pj_table *table,
                    const struct notes *notes, struct pj_error *error)
{
    int code = pj_session_exec(joining->work, "BEGIN", error);
    if (code == PJ_OK)
        code = mend(joining, write, joining->work, table, notes, error);
    if (code == PJ_OK)
        code = forget_notes(joining->work, table, notes->last_id, error);
    return pj_keywork_end(joining->work, code, error);
}

static int look_at_all(const struct pj_joining *joining, const struct pj_table *tables, int ntables,
                       struct notes *notes, bool *any, struct pj_error *error)
{
    int code = PJ_OK;
    *any = false;
    for (int i = 0; code == PJ_OK && i < ntables; i++)
        if (tables[i].joining) {
            code = look(joining->work, &tables[i], &notes[i], error);
            *any = *any || notes[i].count;
        }
    return code;
}

/* The snapshot comes after the look: what the stream has noted is in it. */
static int round_of_all(const struct pj_joining *joining, const struct pj_table *tables, int ntables,
                        struct pj_error *error)
{
    struct notes *notes = pj_alloc((size_t)ntables * sizeof *notes);
    struct pj_session *write = NULL;
    bool any;
    int code = look_at_all(joining, tables, ntables, notes, &any, error);
    if (code == PJ_OK && any)
        code = pj_joining_snapshot(joining, "catching up", NULL, &write, error);
    for (int i = 0; code == PJ_OK && i < ntables; i++)
        if (notes[i].count)
            code = round_of(joining, write, &tables[i], &notes[i], error);
    pj_session_close(write);
    pj_free(notes);
    return code;
}

/* ----------------------------------------------------------------------------------------------------- the last one */

/* A resync takes the source from it: what was changed until then may not have been noted. */
static int enter_exact(struct pj_session *read, const struct pj_table *table, struct pj_error *error)
{
    char *oid = pj_sprintf("%u", table->oid);
    const char *params[] = {table->schema, table->name, oid};
    PGresult *result;
    int code = pj_session_query(read, &result,
                                "UPDATE pgprojector.mirror SET state = 'exact' WHERE schema_name = $1 "
                                "AND table_name = $2 AND source_oid = $3::oid AND state = 'joining'",
                                3, params, error);
    bool entered = code == PJ_OK && strcmp(PQcmdTuples(result), "1") == 0;
    PQclear(result);
    pj_free(oid);
    if (code != PJ_OK || entered)
        return code;
    pj_error_set(error, PJ_EFAIL, "the read side was resynced while it was copied; it is begun anew");
    error->retryable = true;
    return error->code;
}

static int make_exact(const struct pj_joining *joining, struct pj_session *write, struct pj_session *read,
                      const struct pj_table *table, int64_t few, bool *done, struct pj_error *error)
{
    struct notes notes;
    int code = look(read, table, &notes, error);
    *done = code == PJ_OK && notes.count <= few && (!notes.all || few > FEW);
    if (!*done)
        return code;
    code = mend(joining, write, read, table, &notes, error);
    if (code == PJ_OK)
        code = forget_notes(read, table, no_end, error);
    return code == PJ_OK ? enter_exact(read, table, error) : code;
}

/*
 * A transaction that is open for long on the write database keeps the fence waiting: named where progress is shown, and
 * no reason to begin anew. If a database is gone, the next round says so. A daemon that is halted does not come back
 * while this waits for it: all is undone, which has it try again, and begun anew when it streams.
 */
static int wait_for_fence(const struct pj_joining *joining, struct pj_error *error)
{
    if (error->retryable || error->code == PJ_EUNREACHABLE)
        return pj_joining_wait(joining, error);
    error->retryable = error->code == PJ_EUNHEALTHY;
    return error->code;
}

/* All of them, at one commit. *done: false where it could not be had, or more was noted than apply should wait for: it
 * waits for ever more of it, and after some rounds for whole tables, or one that is emptied all the time would never
 * join. */
static int finish(const struct pj_joining *joining, const struct pj_table *tables, int ntables, int64_t few, bool *done,
                  struct pj_error *error)
{
    const char **pinned = pj_joining_names(tables, ntables); /* one emptied after the fence would look empty at it */
    struct pj_fence_options fence = {.write_url = joining->write_url,
                                     .read_url = joining->read_url,
                                     .wait_ms = 1000,
                                     .attempts = FENCE_ATTEMPTS,
                                     .lock = true,
                                     .write_tables = pinned,
                                     .stop = joining->stop};
    struct pj_session *write, *read;
    pj_lsn lsn;
    *done = true;
    int code = pj_fence_open(&fence, &write, &read, &lsn, error);
    pj_free(pinned);
    if (code != PJ_OK) {
        *done = false;
        return wait_for_fence(joining, error);
    }
    for (int i = 0; code == PJ_OK && *done && i < ntables; i++)
        if (tables[i].joining)
            code = make_exact(joining, write, read, &tables[i], few, done, error);
    if (code == PJ_OK && *done)
        code = pj_keywork_roster_changed(read, error);
    if (code == PJ_OK && *done)
        code = pj_keywork_commit(read, error);
    pj_session_close(write);
    pj_session_close(read); /* what is not committed is rolled back */
    return code;
}

static int catch_up(const struct pj_joining *joining, const struct pj_table *tables, int ntables,
                    struct pj_error *error)
{
    int64_t few = FEW;
    bool done = false;
    int code = pj_job_phase(joining->job, "catching up", -1, error);
    for (int round = 0; code == PJ_OK && !done; round++) {
        few = round < PATIENT_ROUNDS ? FEW : 2 * few;
        code = round_of_all(joining, tables, ntables, error);
        if (code == PJ_OK)
            code = finish(joining, tables, ntables, few, &done, error);
    }
    return code;
}

int pj_joining_run(const struct pj_joining *joining, const struct pj_table *tables, int ntables, struct pj_error *error)
{
    int first = 0;
    while (first < ntables && !tables[first].joining)
        first++;
    if (first == ntables)
        return PJ_OK;
    int code = pj_job_begin(joining->job, "mirror", tables[first].name, error);
    pj_session_set_tick(joining->work, PJ_JOINING_TICK_MS, pj_joining_working, joining->job);
    if (code == PJ_OK)
        code = pj_joining_copy(joining, tables, ntables, error);
    if (code == PJ_OK)
        code = catch_up(joining, tables, ntables, error);
    pj_session_set_tick(joining->work, 0, NULL, NULL);
    pj_job_end(joining->job);
    return code == PJ_OK ? PJ_OK : pj_error_wrap(error, "add mirror %s", tables[first].mirror_sql);
}
