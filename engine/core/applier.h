/*
 * Applies batches to the read database: mirrors, projections and checkpoint in one transaction. One batch after the
 * other, but of two: the next one is made ready while the server works. The story of a batch stands at the head of
 * applier.c.
 */
#ifndef PJ_CORE_APPLIER_H
#define PJ_CORE_APPLIER_H

#include "core/batch.h"
#include "core/catalog.h"
#include "core/setup.h"

#include <libpq-fe.h>
#include <uv.h>

struct pj_applier;

struct pj_applier_callbacks {
    /* The batch is written; `committed` where its transaction is, too. The batch is the owner's again. */
    void (*done)(void *context, struct pj_batch *batch, bool committed);
    /* The batch is lost, its transaction is rolled back or its outcome unknown; the applier must be disconnected. */
    void (*failed)(void *context, const struct pj_error *error);
    void *context;
};

/* `batch_bytes`: a batch's cap; old rows take no more than about that, or come in slices (core/slices). */
struct pj_applier *pj_applier_new(struct pj_setup *setup, size_t batch_bytes,
                                  const struct pj_applier_callbacks *callbacks);
void pj_applier_free(struct pj_applier *applier); /* disconnected; NULL is fine */

/* Takes a prepared session's connection (pj_statements_prepare). `checkpoint` says what the row holds, and our
 * epoch. */
int pj_applier_connect(struct pj_applier *applier, uv_loop_t *loop, PGconn *conn,
                       const struct pj_checkpoint *checkpoint, struct pj_error *error);

/* Forgets what is under way and closes the connection; `closed` fires once, from the loop. */
void pj_applier_disconnect(struct pj_applier *applier, void (*closed)(void *context), void *context);
/* The same where nothing is under way, but the connection is given back in *kept before `closed` fires; NULL where
 * it is of no use any more. */
void pj_applier_release(struct pj_applier *applier, PGconn **kept, void (*closed)(void *context), void *context);
/*
 * After a failure of the batch under way: takes it back as it was collected, to be applied once more, and gives the
 * connection back in *conn before `closed` fires (pj_pipe_salvage). NULL, and nothing is done, where that cannot be: it
 * is not the first of its transaction, was begun in slices, or another batch is under way behind it. *commit: as it was applied with.
 */
struct pj_batch *pj_applier_take_back(struct pj_applier *applier, bool *commit, PGconn **conn,
                                      void (*closed)(void *context), void *context);
bool pj_applier_connected(const struct pj_applier *applier);

/*
 * Applies a batch; only when idle, or when pj_applier_takes_ahead. With `commit`, it is the last (or only) part of the
 * transaction and batch->end_lsn becomes the checkpoint; else the transaction stays open for the parts to come.
 */
void pj_applier_apply(struct pj_applier *applier, struct pj_batch *batch, bool commit);

/* What the careful way (core/careful.h) shares with this one. It works on the applier's writer while the applier is
 * idle, and tells it afterwards where the checkpoint row stands. */
struct pj_sink;
struct pj_writer *pj_applier_writer(struct pj_applier *applier);
const struct pj_checkpoint *pj_applier_believed(const struct pj_applier *applier);
void pj_applier_believe(struct pj_applier *applier, pj_lsn lsn, int64_t version);
void pj_applier_send_fence(const struct pj_sink *sink, const struct pj_checkpoint *believed);
void pj_applier_send_checkpoint(const struct pj_sink *sink, const struct pj_checkpoint *believed,
                                const struct pj_batch *batch);
void pj_applier_send_commit(const struct pj_sink *sink); /* an error where the answer is ROLLBACK */
/* Enters what pj_writer_send_fetch has brought; returns how many rows are late. */
size_t pj_applier_take_old_rows(struct pj_batch *batch, const struct pj_table *table, struct pj_row *const *wanted,
                                const PGresult *result);

/* One batch is under way, and far enough for the next one to be taken behind it. */
bool pj_applier_takes_ahead(const struct pj_applier *applier);

/* Nothing is under way (a transaction between two parts may be open). */
bool pj_applier_idle(const struct pj_applier *applier);
bool pj_applier_in_transaction(const struct pj_applier *applier);

#endif
