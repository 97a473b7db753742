/*
 * Repair. For a chunk of suspect keys:
 *
 *      fence       the source's snapshot at some commit, and the read side standing at the same, held there by the
 *                  checkpoint row's lock: apply waits, and begins its next batch with what we have written
 *      mirrors     the suspects' rows from the source, written where they differ (difference.c)
 *      targets     the keys that depend on mended rows, and the suspects of the target itself, made equal to the definition
 *      COMMIT
 *
 * Suspects that were only moving when they were looked at first do not differ any more, and nothing is written for
 * them. A chunk is as large as fits into half a second, for so long apply stands still; it is all in one transaction, so
 * that a kill leaves it undone or done. One that meets the fence's time limit is undone, and its keys are taken again by
 * half as many: what is slow is mended slowly. A target's key that cannot be written (a constraint, say) is found by halving and
 * parked, or the projection is paused (core/mend_within.h): the mirrors beneath are mended all the same, and no row may
 * pass for live that does not follow from them.
 */
#include "core/repair.h"

#include "base/clock.h"
#include "base/mem.h"
#include "core/difference.h"
#include "core/keywork.h"
#include "core/mend.h"
#include "core/mend_within.h"
#include "core/textarray.h"

#include <stdio.h>
#include <string.h>

enum { HOLD_US = 500000, FIRST_CHUNK = 128, LARGEST_CHUNK = 4096 };

/* The suspects of one mirror or projection: their columns as texts, one behind the other, each ended by a zero byte. */
struct suspects {
    const char *kind;
    char *name; /* as verify calls it */
    int width;
    struct pj_buf keys;
    size_t at;   /* what comes before is done, or in the chunk under way */
    size_t from; /* where that begins */
};

struct pj_repair {
    const struct pj_setup *setup;
    const struct pj_mark *mark;
    int count;
    struct suspects *suspects; /* the tables', then the projections' */
    int chunk;                 /* keys of each of them that fit at the moment */
    int taken;                 /* the most that one of them has in the chunk under way */
};

struct pj_repair *pj_repair_new(const struct pj_setup *setup, const struct pj_mark *mark)
{
    struct pj_repair *repair = pj_alloc(sizeof *repair);
    repair->setup = setup;
    repair->mark = mark;
    repair->chunk = FIRST_CHUNK;
    repair->count = setup->ntables + setup->nprojections;
    repair->suspects = pj_alloc(sizeof *repair->suspects * (size_t)(repair->count + 1));
    for (int i = 0; i < setup->ntables; i++) {
        const struct pj_table *table = &setup->tables[i];
        repair->suspects[i] = (struct suspects){
            .kind = "mirror", .name = pj_sprintf("%s.%s", table->schema, table->name), .width = table->nkey};
    }
    for (int i = 0; i < setup->nprojections; i++) {
        const struct pj_projection *projection = &setup->projections[i];
        repair->suspects[setup->ntables + i] =
            (struct suspects){.kind = "projection", .name = pj_strdup(projection->name), .width = projection->nkey};
    }
    return repair;
}

void pj_repair_free(struct pj_repair *repair)
{
    if (!repair)
        return;
    for (int i = 0; i < repair->count; i++) {
        pj_free(repair->suspects[i].name);
        pj_buf_free(&repair->suspects[i].keys);
    }
    pj_free(repair->suspects);
    pj_free(repair);
}

void pj_repair_note(struct pj_repair *repair, const struct pj_difference *difference)
{
    for (int i = 0; i < repair->count; i++) {
        struct suspects *suspects = &repair->suspects[i];
        if (strcmp(suspects->kind, difference->kind) != 0 || strcmp(suspects->name, difference->name) != 0)
            continue;
        for (int column = 0; column < difference->nvalues; column++)
            pj_buf_put(&suspects->keys, difference->values[column], strlen(difference->values[column]) + 1);
        return;
    }
}

/* -------------------------------------------------------------------------------------------------------- chunks */

static bool pending(const struct pj_repair *repair)
{
    for (int i = 0; i < repair->count; i++)
        if (repair->suspects[i].at < repair->suspects[i].keys.length)
            return true;
    return false;
}

/* The next chunk as one array literal a column; how many keys it has. The arrays are to be freed. */
static int take_chunk(struct pj_repair *repair, struct suspects *suspects, char **arrays)
{
    int count = 0;
    struct pj_buf *columns = pj_alloc(sizeof *columns * (size_t)(suspects->width + 1));
    for (int i = 0; i < suspects->width; i++)
        pj_textarray_begin(&columns[i]);
    for (; count < repair->chunk && suspects->at < suspects->keys.length; count++)
        for (int i = 0; i < suspects->width; i++) {
            const char *value = suspects->keys.data + suspects->at;
            pj_textarray_add(&columns[i], value);
            suspects->at += strlen(value) + 1;
        }
    for (int i = 0; i < suspects->width; i++) {
        pj_textarray_end(&columns[i]);
        arrays[i] = pj_buf_take(&columns[i]);
    }
    pj_free(columns);
    repair->taken = count > repair->taken ? count : repair->taken;
    return count;
}

static void begin_chunk(struct pj_repair *repair)
{
    repair->taken = 0;
    for (int i = 0; i < repair->count; i++)
        repair->suspects[i].from = repair->suspects[i].at;
}

static void adapt(struct pj_repair *repair, uint64_t held_us)
{
    if (held_us > HOLD_US)
        repair->chunk = repair->taken / 2;
    else if (held_us < HOLD_US / 2 && repair->taken == repair->chunk)
        repair->chunk *= 2;
    repair->chunk = repair->chunk < 1 ? 1 : repair->chunk;
    repair->chunk = repair->chunk > LARGEST_CHUNK ? LARGEST_CHUNK : repair->chunk;
}

/* After a statement that met the time limit (core/fence.c): the chunk is undone, and taken again in smaller ones. */
static bool take_again(struct pj_repair *repair, struct pj_error *error)
{
    if (strcmp(error->sqlstate, "57014") != 0 || !repair->taken)
        return false;
    if (repair->taken == 1) {
        pj_error_hint(error, "a single key takes longer than apply may stand still for (30 s, or less where the "
                             "statement_timeout of role or database says so); without this limit `pgprojector rebuild "
                             "NAME` mends a projection, "
                             "`pgprojector resync` everything");
        return false;
    }
    repair->chunk = repair->taken / 2;
    for (int i = 0; i < repair->count; i++)
        repair->suspects[i].at = repair->suspects[i].from;
    return true;
}

static char **arrays_for(const struct suspects *suspects)
{
    return pj_alloc(sizeof(char *) * (size_t)(suspects->width + 1));
}

static void free_arrays(char **arrays, int count)
{
    for (int i = 0; i < count; i++)
        pj_free(arrays[i]);
    pj_free(arrays);
}

/* ------------------------------------------------------------------------------------------------------- mending */

static int mend_table(struct pj_repair *repair, int index, struct pj_session *write, struct pj_session *read,
                      struct pj_repaired *repaired, struct pj_error *error)
{
    struct suspects *suspects = &repair->suspects[index];
    char **arrays = arrays_for(suspects);
    struct pj_mended mended = {0};
    int code = PJ_OK;
    if (take_chunk(repair, suspects, arrays))
        code = pj_difference_mend_keys(write, read, &repair->setup->tables[index], (const char *const *)arrays, &mended,
                                       error);
    repaired->rows += pj_mended_rows(&mended);
    free_arrays(arrays, suspects->width);
    return code;
}

/* A deferred constraint would only fail at COMMIT, for all. */
static int recompute(struct pj_session *read, const struct pj_projection *projection, const char *const *arrays,
                     int count, struct pj_error *error)
{
    int64_t rows;
    int code = pj_difference_recompute(read, projection, &rows, error);
    if (code == PJ_OK && count)
        code = pj_keywork_recompute(read, projection, projection->nkey > 1, arrays, NULL, error);
    return code == PJ_OK ? pj_session_exec(read, "SET CONSTRAINTS ALL IMMEDIATE", error) : code;
}

/* The routing keys of mended rows and of suspects, without those that are parked: they have their own time. */
static int list_keys(struct pj_session *read, const char *name, const char *touched, const char *suspects,
                     PGresult **keys, struct pj_error *error)
{
    const char *params[] = {name, touched ? touched : "{}", suspects};
    return pj_session_query(read, keys,
                            "SELECT DISTINCT k.key FROM pg_catalog.unnest($2::text[] || $3::text[]) AS k(key) "
                            "WHERE k.key IS NOT NULL AND NOT EXISTS (SELECT FROM pgprojector.dead_letter d "
                            "WHERE d.projection = $1 AND d.key = k.key) ORDER BY 1",
                            3, params, error);
}

/* Tells what became of it. */
static void tell(const struct pj_within *work, struct pj_repaired *repaired)
{
    const char *name = work->projection->name;
    repaired->failed++;
    if (work->paused)
        snprintf(repaired->fault, sizeof repaired->fault,
                 "projection %s is paused: %s; mend the cause, then run `pgprojector resume %s`", name, work->fault,
                 name);
    else
        snprintf(repaired->fault, sizeof repaired->fault, "projection %s: %d key%s parked: %s", name, work->parked,
                 work->parked == 1 ? "" : "s", work->fault);
}

/* It has failed as a whole, and is undone. One that is not live is noted for (note_others). `suspects`: their routing
 * keys. */
static int mend_by_key(struct pj_session *read, struct pj_projection *projection, const char *suspects,
                       struct pj_repaired *repaired, struct pj_error *error)
{
    struct pj_within work = {.read = read, .projection = projection, .width = 1};
    struct pj_difference_keys touched = {0};
    enum pj_within_standing standing;
    PGresult *keys = NULL;
    snprintf(work.fault, sizeof work.fault, "%.500s", error->message);
    pj_error_clear(error);
    int code = pj_within_standing(&work, &standing, error);
    if (code == PJ_OK && standing == PJ_WITHIN_LIVE)
        code = pj_difference_touched_keys(read, projection, &touched, error);
    if (code == PJ_OK && touched.all) {
        code = pj_within_all(&work, error);
    } else if (code == PJ_OK && standing == PJ_WITHIN_LIVE) {
        code = list_keys(read, projection->name, touched.keys, suspects, &keys, error);
        if (code == PJ_OK)
            code = pj_within_keys(&work, keys, error);
    }
    if (code == PJ_OK)
        tell(&work, repaired);
    pj_free(touched.keys);
    PQclear(keys);
    return code;
}

/* Within a savepoint, so that a projection that cannot be written does not keep the others from being mended. */
static int mend_projection(struct pj_repair *repair, int index, struct pj_session *read, struct pj_repaired *repaired,
                           struct pj_error *error)
{
    struct pj_projection *projection = &repair->setup->projections[index];
    struct suspects *suspects = &repair->suspects[repair->setup->ntables + index];
    if (!projection->target_sql)
        return PJ_OK;
    char **arrays = arrays_for(suspects);
    int count = take_chunk(repair, suspects, arrays);
    int code = pj_session_exec(read, "SAVEPOINT pgprojector_repair", error);
    if (code == PJ_OK)
        code = recompute(read, projection, (const char *const *)arrays, count, error);
    if (code == PJ_OK) {
        repaired->keys += count;
        code = pj_session_exec(read, "RELEASE SAVEPOINT pgprojector_repair", error);
    } else if (!error->retryable && error->sqlstate[0] && PQstatus(pj_session_conn(read)) == CONNECTION_OK) {
        struct pj_error fault = *error;
        code = pj_session_exec(read, "ROLLBACK TO SAVEPOINT pgprojector_repair; RELEASE SAVEPOINT pgprojector_repair",
                               error);
        if (code == PJ_OK) {
            *error = fault;
            code = mend_by_key(read, projection, arrays[0], repaired, error);
        }
    }
    free_arrays(arrays, suspects->width);
    return code == PJ_OK ? PJ_OK : pj_error_wrap(error, "projection %s", projection->name);
}

/* What is not live must know that rows beneath it have changed. */
static int note_others(struct pj_session *read, const struct pj_repaired *repaired, struct pj_error *error)
{
    if (!repaired->rows)
        return PJ_OK;
    int code = pj_session_exec(read,
                               "INSERT INTO pgprojector.dirty_key (projection, key) SELECT name, NULL "
                               "FROM pgprojector.projection WHERE state NOT IN ('live', 'failing', 'retired')",
                               error);
    return code == PJ_OK ? pj_keywork_changed(read, error) : code;
}

static int mend_chunk(struct pj_repair *repair, struct pj_session *write, struct pj_session *read,
                      struct pj_repaired *repaired, struct pj_error *error)
{
    struct pj_repaired chunk = {0};
    int code = pj_keywork_check(read, repair->mark, error);
    for (int i = 0; code == PJ_OK && i < repair->setup->ntables; i++)
        code = mend_table(repair, i, write, read, &chunk, error);
    for (int i = 0; code == PJ_OK && i < repair->setup->nprojections; i++)
        code = mend_projection(repair, i, read, &chunk, error);
    if (code == PJ_OK)
        code = note_others(read, &chunk, error);
    if (code == PJ_OK)
        code = pj_keywork_commit(read, error);
    if (code != PJ_OK)
        return code;
    repaired->rows += chunk.rows;
    repaired->keys += chunk.keys;
    repaired->failed += chunk.failed;
    if (chunk.failed)
        memcpy(repaired->fault, chunk.fault, sizeof chunk.fault);
    return PJ_OK;
}

/* One chunk, at a fence of its own. */
static int next_chunk(struct pj_repair *repair, const struct pj_fence_options *options, struct pj_repaired *repaired,
                      struct pj_error *error)
{
    struct pj_session *write, *read;
    pj_lsn lsn;
    int code = pj_fence_open(options, &write, &read, &lsn, error);
    uint64_t held_us = pj_clock_monotonic_us();
    begin_chunk(repair);
    if (code == PJ_OK)
        code = mend_chunk(repair, write, read, repaired, error);
    if (code == PJ_OK)
        adapt(repair, pj_clock_monotonic_us() - held_us);
    else if (take_again(repair, error))
        code = PJ_OK;
    pj_session_close(write);
    pj_session_close(read);
    return code;
}

int pj_repair_run(struct pj_repair *repair, const struct pj_fence_options *options, struct pj_repaired *repaired,
                  struct pj_error *error)
{
    struct pj_fence_options locking = *options;
    locking.lock = true;
    int code = PJ_OK;
    pj_error_clear(error);
    while (code == PJ_OK && pending(repair))
        code = next_chunk(repair, &locking, repaired, error);
    for (int i = 0; i < repair->count; i++) {
        pj_buf_clear(&repair->suspects[i].keys);
        repair->suspects[i].at = 0;
    }
    return code == PJ_OK ? PJ_OK : pj_error_wrap(error, "repair");
}
