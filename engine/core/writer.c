/*
 * See writer.h. A cursor walks over phases, and in each over tables or projections, and there over chunks of rows:
 *
 *      DELETES (tables) -> UPDATES -> INSERTS -> MERGES (projections, streams) -> RECOMPUTE (projections) -> ANSWERS -> END
 *                                                  ^                                                          |
 *                                                  +--------- the next level, where there are chains ---------+
 *
 * A projection that is chained on others (core/chain.h) is of a higher level than they. What their statements touched
 * comes back with the answers and becomes its dirty keys, so in ANSWERS those are waited for; where nothing was sent
 * that anything is chained on, nothing is.
 *
 * Deletes come before updates and inserts, so that rows may swap keys. A row whose identity stays but whose primary key
 * changes (identity by another index) is written as delete and insert for the same reason.
 */
#include "core/writer_internal.h"

#include "core/project.h"
#include "core/touched.h"

enum {
    CARRIED_KEYS = 50000,            /* dirty keys gathered over the parts of one transaction; more: all */
    TOUCHED_KEYS = 4 * CARRIED_KEYS, /* dirty keys that come of touched rows upstream within one batch; more: all */
};

struct pj_writer *pj_writer_new(struct pj_setup *setup)
{
    struct pj_writer *writer = pj_alloc(sizeof *writer);
    writer->setup = setup;
    writer->width = PJ_MAX_SOURCE_COLUMNS;
    for (int i = 0; i < setup->ntables; i++)
        if (setup->tables[i].ncolumns > writer->width)
            writer->width = setup->tables[i].ncolumns;
    writer->arrays = pj_alloc((size_t)writer->width * sizeof *writer->arrays);
    writer->params = pj_alloc((size_t)(writer->width + 1) * sizeof *writer->params);
    writer->fresh = true;
    writer->touching = pj_alloc((size_t)(setup->nprojections + 1) * sizeof *writer->touching);
    for (int i = 0; i < setup->nprojections; i++) {
        writer->touching[i] = (struct pj_touching){writer, &setup->projections[i]};
        if (setup->projections[i].level > writer->levels)
            writer->levels = setup->projections[i].level;
    }
    return writer;
}

void pj_writer_free(struct pj_writer *writer)
{
    if (!writer)
        return;
    for (int i = 0; i < writer->width; i++)
        pj_buf_free(&writer->arrays[i]);
    pj_free(writer->arrays);
    pj_free(writer->params);
    pj_free(writer->touching);
    pj_free(writer);
}

void pj_writer_begin_transaction(struct pj_writer *writer)
{
    writer->fresh = true;
}

/* -------------------------------------------------------------------------------------------------- over the parts */

/* Forgets what earlier batches left behind; of the same transaction's earlier parts, what gathers stays. */
static void make_room(struct pj_writer *writer, int index)
{
    struct pj_projection *projection = &writer->setup->projections[index];
    if (writer->fresh || !projection->live)
        pj_deltas_reset(projection->deltas);
    else
        pj_deltas_next_part(projection->deltas);
}

/*
 * Over the parts of a transaction deltas and dirty keys gather. The deltas are merged with the last part, for within
 * one transaction no version of a row can be pruned, and merging the same rows part after part makes each pass all
 * before it; when they take half as much memory as the part itself, they are merged with it, so that memory stays
 * bounded by the batch's. Dirty keys are recomputed in the last part only, for a part is a state that never existed;
 * when they have become many they become all.
 */
static void settle(struct pj_writer *writer, int index)
{
    struct pj_deltas *deltas = writer->setup->projections[index].deltas;
    if (!writer->setup->projections[index].live) {
        pj_deltas_finish_as_keys(deltas);
        return;
    }
    if (!writer->last && pj_deltas_key_count(deltas) > CARRIED_KEYS)
        pj_deltas_keys_to_all(deltas);
    if (writer->last || pj_deltas_bytes(deltas) > pj_batch_bytes(writer->batch) / 2)
        pj_deltas_finish(deltas);
    else
        pj_deltas_hold(deltas);
}

void pj_writer_carry(struct pj_writer *writer, int projection)
{
    pj_deltas_finish_as_keys(writer->setup->projections[projection].deltas);
}

int pj_writer_prepare(struct pj_writer *writer, struct pj_batch *batch, bool last, struct pj_error *error)
{
    writer->batch = batch;
    writer->last = last;
    writer->phase = DELETES;
    writer->item = writer->stream = 0;
    writer->at = 0;
    writer->level = writer->unanswered = 0;
    writer->waiting = false;
    for (int i = 0; i < writer->setup->nprojections; i++) {
        struct pj_projection *projection = &writer->setup->projections[i];
        if (!projection->target_sql)
            continue;
        make_room(writer, i);
        int code = pj_project_batch(projection, batch, error);
        if (code != PJ_OK)
            return code;
        settle(writer, i);
    }
    writer->fresh = last;
    return PJ_OK;
}

/* --------------------------------------------------------------------------------------------------------- chains */

void pj_writer_on_answers(struct pj_writer *writer, void (*answered)(void *context), void *context)
{
    writer->answered = answered;
    writer->context = context;
}

static void count_answer(struct pj_writer *writer)
{
    if (--writer->unanswered || !writer->waiting)
        return;
    writer->waiting = false;
    writer->answered(writer->context);
}

int pj_writer_on_touched(void *context, const PGresult *result, struct pj_error *error)
{
    const struct pj_touching *touching = context;
    (void)error;
    pj_touched_mark(touching->projection, result, touching->writer->last ? TOUCHED_KEYS : CARRIED_KEYS);
    count_answer(touching->writer);
    return PJ_OK;
}

int pj_writer_on_all_touched(void *context, const PGresult *result, struct pj_error *error)
{
    const struct pj_touching *touching = context;
    (void)result;
    (void)error;
    pj_touched_mark_all(touching->projection);
    count_answer(touching->writer);
    return PJ_OK;
}

struct pj_touching *pj_writer_touching(struct pj_writer *writer, int projection)
{
    if (!writer->setup->projections[projection].nchained)
        return NULL;
    writer->unanswered++;
    return &writer->touching[projection];
}

/* What was touched upstream is among the dirty keys now, which are read with the last part. */
static void settle_touched(struct pj_writer *writer, int index)
{
    const struct pj_projection *projection = &writer->setup->projections[index];
    if (!projection->level || !projection->target_sql)
        return;
    if (!projection->live)
        pj_deltas_finish_as_keys(projection->deltas);
    else if (writer->last)
        pj_deltas_finish(projection->deltas);
}

/* From ANSWERS on; false where answers are missing yet. */
static bool begin_level(struct pj_writer *writer)
{
    if (writer->level == writer->levels) {
        writer->phase = END;
        return true;
    }
    writer->waiting = writer->unanswered > 0;
    if (writer->waiting)
        return false;
    writer->level++;
    writer->phase = MERGES;
    for (int i = 0; i < writer->setup->nprojections; i++)
        if (writer->setup->projections[i].level == writer->level)
            settle_touched(writer, i);
    return true;
}

/* Sends the next statement of the item under the cursor; false when the item has none left. */
static bool send_next(struct pj_writer *writer, const struct pj_sink *sink)
{
    const struct pj_projection *projection = &writer->setup->projections[writer->item];
    const struct pj_table_rows *rows = &writer->batch->tables[writer->item];
    switch (writer->phase) {
    case DELETES:
        return pj_writer_send_deletes(writer, sink, rows);
    case UPDATES:
        return pj_writer_send_updates(writer, sink, rows);
    case INSERTS:
        return pj_writer_send_inserts(writer, sink, rows);
    case MERGES:
        return projection->target_sql && projection->live && pj_writer_send_merge(writer, sink, projection);
    case RECOMPUTE:
        if (projection->target_sql && !projection->live)
            return pj_writer_send_notes(writer, sink, projection);
        return projection->target_sql && writer->last && pj_writer_send_recompute(writer, sink, projection);
    case ANSWERS:
    case END:
        break;
    }
    return false;
}

/* Whether it is the turn of the item under the cursor: projections come level by level. */
static bool has_turn(const struct pj_writer *writer)
{
    return writer->phase < MERGES || writer->setup->projections[writer->item].level == writer->level;
}

/* Sends the next statement of the phases before `end`; false where there is none, or none before answers are there. */
static bool step_until(struct pj_writer *writer, const struct pj_sink *sink, enum phase end)
{
    while (writer->phase < end) {
        if (writer->phase == ANSWERS) {
            if (!begin_level(writer))
                return false;
            continue;
        }
        int items = writer->phase < MERGES ? writer->batch->ntables : writer->setup->nprojections;
        if (writer->item < items && has_turn(writer) && send_next(writer, sink))
            return true;
        writer->stream = 0;
        writer->at = 0;
        if (writer->item < items && ++writer->item < items)
            continue;
        writer->item = 0;
        writer->phase++;
    }
    return false;
}

enum pj_writer_progress pj_writer_step(struct pj_writer *writer, const struct pj_sink *sink)
{
    if (step_until(writer, sink, END))
        return PJ_WRITER_MORE;
    return writer->phase == END ? PJ_WRITER_DONE : PJ_WRITER_WAITS;
}

/* -------------------------------------------------------------------------------------------------- the careful way */

void pj_writer_mirrors(struct pj_writer *writer, const struct pj_sink *sink)
{
    while (step_until(writer, sink, MERGES))
        ;
}

/* Runs one phase of one item to its end. */
static void run_phase(struct pj_writer *writer, const struct pj_sink *sink, enum phase phase, int item)
{
    writer->phase = phase;
    writer->item = item;
    writer->stream = 0;
    writer->at = 0;
    while (send_next(writer, sink))
        ;
}

void pj_writer_projection(struct pj_writer *writer, const struct pj_sink *sink, int projection)
{
    settle_touched(writer, projection);
    run_phase(writer, sink, MERGES, projection);
    run_phase(writer, sink, RECOMPUTE, projection);
}

void pj_writer_note(struct pj_writer *writer, const struct pj_sink *sink, int projection)
{
    struct pj_projection *noted = &writer->setup->projections[projection];
    bool live = noted->live;
    noted->live = false;
    run_phase(writer, sink, RECOMPUTE, projection);
    noted->live = live;
}
