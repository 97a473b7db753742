/*
 * From messages of the stream to a batch: decodes, skips what is already applied, looks out for the witness. Does no
 * I/O.
 */
#ifndef PJ_CORE_INTAKE_H
#define PJ_CORE_INTAKE_H

#include "core/batch.h"
#include "core/catalog.h"
#include "wire/copydata.h"

struct pj_intake {
    struct pj_decoder *decoder; /* borrowed */
    size_t batch_bytes;         /* a batch's cap */
    struct pj_batch *batch;     /* where changes go; set by the owner, borrowed */
    bool in_transaction;        /* between B and C */
    uint32_t xid;               /* of the open transaction */
    bool discarding;            /* the open transaction's changes are not kept */
    pj_lsn skip_to;             /* transactions that end up to here are applied already; 0: past them */
    bool witness_expected, witness_seen;
    struct pj_checkpoint checkpoint; /* as at the connect */
    uint32_t known_new_xid;          /* a transaction that an earlier pass found to be new; outlives reconnects */
    bool once_more;                  /* the last error only asks for such a transaction again, from its beginning on */
    char unknown_schema[64], unknown_name[64]; /* of PJ_INTAKE_UNKNOWN and PJ_INTAKE_PARTITION */
    struct {                                   /* what was learned of the partition asked for last; owned */
        char *name;                            /* "schema.name"; NULL: nothing */
        char *condition, *ancestors;           /* as pj_source_partition gives them */
    } partition;
    uint64_t skipped; /* transactions, since the start */
};

enum pj_intake_outcome {
    PJ_INTAKE_MORE,     /* taken; nothing complete */
    PJ_INTAKE_COMMIT,   /* taken; the batch now ends at a commit */
    PJ_INTAKE_SPLIT,    /* not taken: what is in the batch must be applied first; hand the message in again then */
    PJ_INTAKE_UNKNOWN,  /* not taken: the relation must be looked up; hand the message in again then */
    PJ_INTAKE_PARTITION /* not taken: what the partition holds must be looked up (pj_intake_learn); the same */
};

/* Begins a pass over the stream, from a fresh connection. */
void pj_intake_begin(struct pj_intake *intake, const struct pj_checkpoint *checkpoint, bool witness_expected);

/* Takes an XLogData message. Errors: the decoder's, the batch's, PJ_EGAP. */
int pj_intake_message(struct pj_intake *intake, const struct pj_copydata *message, enum pj_intake_outcome *outcome,
                      struct pj_error *error);

/* A keepalive says that all up to its position has been sent. PJ_EGAP where the witness should have been among it. */
int pj_intake_keepalive(struct pj_intake *intake, pj_lsn position, struct pj_error *error);

/* Answers PJ_INTAKE_PARTITION; takes the texts (pj_free). */
void pj_intake_learn(struct pj_intake *intake, char *condition, char *ancestors);

/* The batch has reached its cap: the transaction it is in is still to be completed, another one is not to be begun. */
static inline bool pj_intake_full(const struct pj_intake *intake)
{
    return pj_batch_bytes(intake->batch) >= intake->batch_bytes;
}

/* In the middle of a transaction: it must be applied in parts. One that others stand before in the batch is given a
 * quarter more to end within. */
static inline bool pj_intake_overfull(const struct pj_intake *intake)
{
    size_t more = intake->batch->transactions ? intake->batch_bytes / 4 : 0;
    return pj_batch_bytes(intake->batch) >= intake->batch_bytes + more;
}

#endif
