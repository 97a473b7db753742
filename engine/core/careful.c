/*
 * See careful.h.
 *
 * Mirrors first: an error there is nobody's to park, and is returned. Then each projection under a savepoint. If its
 * merges or recomputations fail, they are rolled back, its deltas are forgotten, and all keys they touched are
 * recomputed from the definition instead (in the last part of the transaction), in halves where that fails, too, until
 * the guilty keys stand alone. What then:
 *
 *      the connection, or worth retrying          returned; the batch comes again
 *      classes 22, 23, P0 (data, constraints,     the key is parked: a dead letter; the target keeps its last good rows
 *      raised by a trigger)
 *      anything else, or too many such keys,      the projection is paused, its touched keys noted; `resume` brings it back
 *      or "everything" is what fails              when the cause is mended
 *
 * With on_error = halt the batch fails in all these cases, and where the recomputation has helped, too: the error names
 * the projection and, where one stands alone, the key. Nothing is applied or confirmed beyond until somebody has mended
 * the cause.
 */
#include "core/careful.h"

#include "core/applier.h"
#include "core/mend.h"
#include "core/project.h"
#include "core/slices.h"
#include "core/standing.h"
#include "core/statements.h"
#include "host/value_text.h"
#include "pg/sink.h"

#include <stdio.h>
#include <string.h>

enum { FETCH_ROWS = 4096 };

struct pj_careful {
    struct pj_setup *setup;
    const char *read_url;
    size_t batch_bytes;
    const struct pj_stop *stop;
    const struct pj_log *log;
    struct pj_session *session;
    bool in_transaction;
    int64_t raised; /* by how much checkpoint.version was raised in the open transaction */
    bool changed;   /* keys were parked in it */
};

/* One batch under way. */
struct run {
    struct pj_careful *careful;
    struct pj_writer *writer;
    struct pj_batch *batch;
    bool commit;
    const struct pj_sink *sink;
    struct pj_error *error;        /* the sink's; code PJ_OK as long as nothing is wrong */
    size_t parked;                 /* keys of the projection at hand */
    const struct pj_value *guilty; /* on_error = halt: the key that was found instead; NULL: none alone */
};

struct pj_careful *pj_careful_new(struct pj_setup *setup, const char *read_url, size_t batch_bytes,
                                  const struct pj_stop *stop, const struct pj_log *log)
{
    struct pj_careful *careful = pj_alloc(sizeof *careful);
    *careful =
        (struct pj_careful){.setup = setup, .read_url = read_url, .batch_bytes = batch_bytes, .stop = stop, .log = log};
    return careful;
}

void pj_careful_reset(struct pj_careful *careful)
{
    pj_session_close(careful->session);
    careful->session = NULL;
    careful->in_transaction = careful->changed = false;
    careful->raised = 0;
}

void pj_careful_free(struct pj_careful *careful)
{
    if (!careful)
        return;
    pj_careful_reset(careful);
    pj_free(careful);
}

bool pj_careful_in_transaction(const struct pj_careful *careful)
{
    return careful->in_transaction;
}

int pj_careful_ping(struct pj_careful *careful, struct pj_error *error)
{
    pj_error_clear(error);
    return pj_session_exec(careful->session, "SELECT", error);
}

static int open_session(struct pj_careful *careful, struct pj_error *error)
{
    struct pj_session_options options = {
        .side = PJ_READ, .url = careful->read_url, .purpose = "careful", .stop = careful->stop};
    if (careful->session)
        return PJ_OK;
    int code = pj_session_open(&careful->session, &options, error);
    return code == PJ_OK ? pj_statements_prepare(careful->session, careful->setup, error) : code;
}

static bool query(struct run *run, const char *sql)
{
    run->sink->query(run->sink->self, sql, NULL, NULL);
    return run->error->code == PJ_OK;
}

/* A deferred constraint would only fail at COMMIT, for all. A savepoint that is gone back to defers it again. */
static const char check_constraints[] = "SET CONSTRAINTS ALL IMMEDIATE";

/* ------------------------------------------------------------------------------------------------- keys, one by one */

/* Back to the savepoint: whatever has failed since is undone. The failure is handed out, without the row's values, for
 * log and catalog may be read by more people than the rows, and cleared. */
static bool undo(struct run *run, const char *savepoint, struct pj_error *failure)
{
    char sql[64];
    *failure = *run->error;
    pj_mend_strip(failure);
    pj_error_clear(run->error);
    snprintf(sql, sizeof sql, "ROLLBACK TO SAVEPOINT %s", savepoint);
    return query(run, sql);
}

static void park(struct run *run, int index, const struct pj_value *key, const struct pj_error *failure)
{
    struct pj_projection *projection = &run->careful->setup->projections[index];
    pj_deltas_park(projection->deltas, key);
    pj_writer_park(run->writer, run->sink, index, key, failure, run->batch->end_lsn);
    run->careful->changed = true;
    run->parked++;
}

/* Recomputes keys; parks those that fail by themselves. False where the projection cannot be helped this way:
 * *failure. */
static bool recompute(struct run *run, int index, const struct pj_value *keys, size_t count, struct pj_error *failure)
{
    if (!count || !query(run, "SAVEPOINT keys"))
        return run->error->code == PJ_OK;
    pj_writer_recompute(run->writer, run->sink, index, keys, count);
    if (run->error->code == PJ_OK && query(run, check_constraints))
        return query(run, "RELEASE SAVEPOINT keys");
    if (run->error->retryable || !undo(run, "keys", failure) || !query(run, "RELEASE SAVEPOINT keys"))
        return false;
    if (!pj_mend_is_key_fault(failure) || run->parked >= PJ_PARK_AT_MOST)
        return false;
    if (count == 1 && run->careful->setup->projections[index].halt_on_error) {
        run->guilty = keys;
        return false;
    }
    if (count > 1)
        return recompute(run, index, keys, count / 2, failure) &&
               recompute(run, index, keys + count / 2, count - count / 2, failure);
    park(run, index, keys, failure);
    return run->error->code == PJ_OK;
}

/* ------------------------------------------------------------------------------------------------------ projections */

/* All that was touched, as routing keys. */
static struct pj_value *touched_keys(struct run *run, struct pj_projection *projection, size_t *count)
{
    size_t nrouting, nfull;
    const struct pj_value *full = pj_deltas_full_keys(projection->deltas, &nfull);
    for (size_t i = 0; i < nfull; i++)
        pj_deltas_mark(projection->deltas, &full[i * (size_t)projection->nkey], 1);
    pj_deltas_finish(projection->deltas);
    const struct pj_value *routing = pj_deltas_routing_keys(projection->deltas, &nrouting);
    struct pj_value *keys = pj_arena_alloc(&run->batch->arena, (nrouting + 1) * sizeof *keys);
    if (nrouting)
        memcpy(keys, routing, nrouting * sizeof *keys);
    *count = nrouting;
    return keys;
}

static void pause_projection(struct run *run, int index, const struct pj_error *failure)
{
    struct pj_projection *projection = &run->careful->setup->projections[index];
    const char *name = projection->name;
    pj_log(run->careful->log, PJ_LOG_ERROR, "projection %s is paused: %s", name, failure->message);
    pj_log(run->careful->log, PJ_LOG_ERROR, "HINT: mend the cause, then run `pgprojector resume %s`; the others go on",
           name);
    /* keys parked on the way here are not, now that it is undone; withheld, they would not be noted any more */
    if (pj_standing_load_parked(run->careful->session, projection, run->error) != PJ_OK ||
        pj_standing_pause(run->careful->session, projection, failure, run->error) != PJ_OK)
        return;
    projection->live = false;
    run->careful->raised++;
    pj_writer_note(run->writer, run->sink, index);
}

/* on_error = halt: the batch fails with what the projection could not take, and so will the next attempt. */
static void halt(struct run *run, int index, const struct pj_error *failure)
{
    const struct pj_projection *projection = &run->careful->setup->projections[index];
    struct pj_buf key = {0};
    *run->error = *failure;
    pj_error_set(run->error, PJ_EFAIL, "%.500s", failure->message);
    memcpy(run->error->sqlstate, failure->sqlstate, sizeof failure->sqlstate);
    if (run->guilty && pj_value_text(projection->key_kinds[0], *run->guilty, &key))
        pj_error_wrap(run->error, "key %.200s", pj_buf_text(&key));
    pj_buf_free(&key);
    pj_error_wrap(run->error, "projection %s", projection->name);
    pj_project_halt(projection, run->error);
}

/* The fast way has failed for this projection, and is undone. */
static void mend(struct run *run, int index, const struct pj_error *first)
{
    struct pj_projection *projection = &run->careful->setup->projections[index];
    struct pj_error failure = *first;
    if (!run->commit) {
        pj_writer_carry(run->writer, index);
        return;
    }
    if (projection->refusal.code != PJ_OK) /* its table is not as it was: all of it is noted */
        pj_deltas_mark_all(projection->deltas);
    pj_deltas_finish_as_keys(projection->deltas);
    size_t count;
    struct pj_value *keys = touched_keys(run, projection, &count);
    run->parked = 0;
    run->guilty = NULL;
    bool helped = !pj_deltas_all_dirty(projection->deltas) && recompute(run, index, keys, count, &failure);
    if (projection->halt_on_error) {
        if (run->error->code == PJ_OK)
            halt(run, index, &failure);
        return;
    }
    if (helped && run->parked)
        pj_log(run->careful->log, PJ_LOG_WARNING, "projection %s: %zu key%s parked: %s", projection->name, run->parked,
               run->parked == 1 ? "" : "s", failure.message);
    if (!helped && run->error->code == PJ_OK && query(run, "ROLLBACK TO SAVEPOINT projection"))
        pause_projection(run, index, &failure);
}

static void apply_projection(struct run *run, int index)
{
    struct pj_error failure;
    const struct pj_projection *projection = &run->careful->setup->projections[index];
    if (projection->target_sql && projection->live && !run->commit) {
        /* a part is a state that never was: once merged, it would be what a key that fails in a later part goes on
         * showing */
        pj_writer_carry(run->writer, index);
        return;
    }
    if (projection->target_sql && !projection->live) {
        pj_writer_projection(run->writer, run->sink, index); /* notes keys; if that fails, so does the batch */
        return;
    }
    if (!projection->target_sql || !query(run, "SAVEPOINT projection"))
        return;
    if (projection->refusal.code != PJ_OK) { /* there are no statements to try */
        mend(run, index, &projection->refusal);
    } else {
        pj_writer_projection(run->writer, run->sink, index);
        if (run->error->code == PJ_OK)
            query(run, check_constraints);
        if (run->error->code != PJ_OK && !run->error->retryable && undo(run, "projection", &failure))
            mend(run, index, &failure);
    }
    query(run, "RELEASE SAVEPOINT projection");
}

/* -------------------------------------------------------------------------------------------------------- the batch */

struct fetch {
    struct pj_batch *batch;
    const struct pj_table *table;
    struct pj_row **wanted;
    bool late; /* some rows are too large */
};

static int on_old_rows(void *context, const PGresult *result, struct pj_error *error)
{
    struct fetch *fetch = context;
    (void)error;
    if (pj_applier_take_old_rows(fetch->batch, fetch->table, fetch->wanted, result))
        fetch->late = true;
    return PJ_OK;
}

static void send_fetch(struct run *run, struct fetch *fetch, size_t count, size_t share)
{
    pj_writer_send_fetch(run->writer, run->sink, fetch->table, fetch->wanted, count, share, on_old_rows, fetch);
}

static size_t count_unknown(const struct pj_batch *batch)
{
    size_t count = 0;
    for (int t = 0; t < batch->ntables; t++)
        for (size_t i = 0; !batch->tables[t].table->joining && i < batch->tables[t].count; i++)
            count += batch->tables[t].rows[i]->old_state == PJ_OLD_UNKNOWN;
    return count;
}

/* Returns whether rows are too large. */
static bool fetch_table(struct run *run, struct pj_table_rows *rows, size_t share)
{
    struct pj_row *wanted[FETCH_ROWS];
    struct fetch fetch = {run->batch, rows->table, wanted, false};
    if (rows->table->joining)
        return false;
    for (size_t i = 0, count = 0; i < rows->count || count; i++) {
        if (i < rows->count && rows->rows[i]->old_state == PJ_OLD_UNKNOWN)
            wanted[count++] = rows->rows[i];
        if (count < FETCH_ROWS && i + 1 < rows->count)
            continue;
        if (count)
            send_fetch(run, &fetch, count, share);
        count = 0;
    }
    return fetch.late;
}

static void fetch_slice(struct run *run, const struct pj_slice *slice)
{
    for (size_t at = 0, count; at < slice->nwanted; at += count) {
        struct fetch fetch = {slice->batch, slice->table, slice->wanted + at, false};
        count = pj_slices_chunk(slice, at);
        send_fetch(run, &fetch, count, SIZE_MAX / 2);
    }
}

static void begin_transaction(struct run *run, const struct pj_checkpoint *believed)
{
    if (!query(run, "BEGIN"))
        return;
    pj_writer_begin_transaction(run->writer);
    run->careful->in_transaction = true;
    run->careful->changed = false;
    run->careful->raised = 0;
    pj_applier_send_fence(run->sink, believed);
}

static void commit(struct run *run, struct pj_checkpoint *believed)
{
    struct pj_careful *careful = run->careful;
    if (careful->changed && pj_standing_changed(careful->session, run->error) == PJ_OK)
        careful->raised++;
    believed->version += careful->raised; /* under our own lock: nobody else can have raised it */
    pj_applier_send_checkpoint(run->sink, believed, run->batch);
    pj_applier_send_commit(run->sink);
    if (run->error->code != PJ_OK)
        return;
    careful->in_transaction = false;
    believed->lsn = run->batch->end_lsn;
}

/* What fails here is a mirror's, and no projection's to answer for. */
static void write_mirrors(struct run *run)
{
    pj_writer_mirrors(run->writer, run->sink);
    query(run, check_constraints);
    if (strcmp(run->error->sqlstate, "22P02") == 0 && !run->error->hint[0])
        pj_error_hint(run->error,
                      "the type is not any more as it is on the write database: change it like that one (of an enum: "
                      "ALTER TYPE … ADD VALUE) on the read database, then restart the daemon");
}

/* Writes what is in the batch, its old rows known. */
static void apply_rows(struct run *run)
{
    if (run->error->code == PJ_OK && pj_batch_resolve(run->batch, run->error) == PJ_OK &&
        pj_writer_prepare(run->writer, run->batch, run->commit, run->error) == PJ_OK) {
        write_mirrors(run);
        for (int i = 0; i < run->careful->setup->nprojections && run->error->code == PJ_OK; i++)
            apply_projection(run, i);
    }
}

/* The rows whose old ones are too large, as parts of the transaction (core/slices). */
static void apply_slices(struct run *run)
{
    struct pj_slices *slices = pj_slices_new(run->batch, run->careful->batch_bytes);
    const struct pj_slice *slice;
    while (run->error->code == PJ_OK && (slice = pj_slices_next(slices))) {
        struct run part = *run;
        part.batch = slice->batch;
        part.commit = false;
        fetch_slice(&part, slice);
        apply_rows(&part);
    }
    pj_slices_free(slices);
}

static void apply(struct run *run, struct pj_checkpoint *believed)
{
    bool late = false;
    if (!run->careful->in_transaction)
        begin_transaction(run, believed);
    size_t share = pj_slices_share(run->careful->batch_bytes, count_unknown(run->batch));
    for (int i = 0; i < run->batch->ntables; i++)
        late = fetch_table(run, &run->batch->tables[i], share) || late;
    if (late)
        apply_slices(run);
    if (run->error->code == PJ_OK)
        apply_rows(run);
    if (run->error->code == PJ_OK && run->commit)
        commit(run, believed);
}

int pj_careful_apply(struct pj_careful *careful, struct pj_writer *writer, struct pj_batch *batch, bool commit_it,
                     struct pj_checkpoint *believed, struct pj_error *error)
{
    pj_error_clear(error);
    if (open_session(careful, error) != PJ_OK)
        return error->code;
    struct pj_session_sink state = {careful->session, error};
    const struct pj_sink sink = pj_session_sink(&state);
    struct run run = {
        .careful = careful, .writer = writer, .batch = batch, .commit = commit_it, .sink = &sink, .error = error};
    pj_batch_sort(batch);
    apply(&run, believed);
    return error->code;
}
