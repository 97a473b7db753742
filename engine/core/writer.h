/*
 * Turns a resolved batch into statements, one at a time, so that the sender can pace them: mirrors, then merges, then
 * recomputations. Knows what to send, nothing of transactions.
 */
#ifndef PJ_CORE_WRITER_H
#define PJ_CORE_WRITER_H

#include "core/batch.h"
#include "core/setup.h"
#include "core/statements.h"
#include "pg/sink.h"

struct pj_writer;

struct pj_writer *pj_writer_new(struct pj_setup *setup);
void pj_writer_free(struct pj_writer *writer);

/* Forgets the deltas and dirty keys gathered over the parts of an earlier transaction. */
void pj_writer_begin_transaction(struct pj_writer *writer);

/*
 * Runs every projection over a resolved batch. `last`: it ends its transaction, so that the deltas gathered over all
 * its parts are merged, and their dirty keys recomputed, after it. An error of a module is wrapped with its name.
 */
int pj_writer_prepare(struct pj_writer *writer, struct pj_batch *batch, bool last, struct pj_error *error);

/* Sends the next statement, if one can be sent now. */
enum pj_writer_progress {
    PJ_WRITER_MORE,  /* there may be more to send */
    PJ_WRITER_WAITS, /* the answers to what was sent decide what comes next: `answered` fires when they are there */
    PJ_WRITER_DONE,
};
enum pj_writer_progress pj_writer_step(struct pj_writer *writer, const struct pj_sink *sink);

/* Where statements are answered later: what is called, by the last answer that was waited for. Only chains wait. */
void pj_writer_on_answers(struct pj_writer *writer, void (*answered)(void *context), void *context);

/*
 * The careful way (core/careful.c), instead of pj_writer_step: first the mirrors, then one projection at a time.
 */
void pj_writer_mirrors(struct pj_writer *writer, const struct pj_sink *sink);
void pj_writer_projection(struct pj_writer *writer, const struct pj_sink *sink, int projection);

/* What a projection has gathered becomes dirty keys, recomputed with the last part of the transaction. */
void pj_writer_carry(struct pj_writer *writer, int projection);

/* Sends a recomputation of routing keys. */
void pj_writer_recompute(struct pj_writer *writer, const struct pj_sink *sink, int projection,
                         const struct pj_value *keys, size_t count);

/* Enters a dead letter for a routing key. */
void pj_writer_park(struct pj_writer *writer, const struct pj_sink *sink, int projection, const struct pj_value *key,
                    const struct pj_error *failure, pj_lsn lsn);

/* Notes, in pgprojector.dirty_key, what a projection that is not live has dirty. */
void pj_writer_note(struct pj_writer *writer, const struct pj_sink *sink, int projection);

/* Sends PJ_FETCH_OLD for some rows of a table; of those with more than `share` bytes in what may be wide only how much
 * that is (pj_applier_take_old_rows). */
void pj_writer_send_fetch(struct pj_writer *writer, const struct pj_sink *sink, const struct pj_table *table,
                          struct pj_row *const *rows, size_t count, size_t share, pj_result_fn result, void *context);

#endif
