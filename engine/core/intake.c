/*
 * See intake.h.
 *
 * Already applied or not? A transaction's end LSN stands in its COMMIT, so whether it is to be skipped shows only at
 * its end. That matters just after a (re)connect: until the first transaction beyond the checkpoint, each is collected
 * alone and dropped at its COMMIT where it ends at or before the checkpoint. The usual one, the witness, is known by
 * its xid and not kept at all. Another one that outgrows the batch must not be applied in parts before its end is
 * known: its changes are dropped while reading on, and if its COMMIT then shows that it is new after all, the stream is
 * started once more, this time knowing its xid.
 */
#include "core/intake.h"

#include <stdio.h>
#include <string.h>

enum { KEEP_BYTES = 1 << 20 };

void pj_intake_begin(struct pj_intake *intake, const struct pj_checkpoint *checkpoint, bool witness_expected)
{
    intake->in_transaction = intake->discarding = intake->witness_seen = false;
    pj_intake_learn(intake, NULL, NULL);
    if (checkpoint->lsn != intake->checkpoint.lsn)
        intake->known_new_xid = 0; /* it was the first one beyond the former checkpoint, so it is applied by now */
    intake->checkpoint = *checkpoint;
    intake->skip_to = checkpoint->lsn;
    intake->witness_expected = witness_expected;
}

static int witness_missing(struct pj_intake *intake, pj_lsn position, struct pj_error *error)
{
    const struct pj_checkpoint *checkpoint = &intake->checkpoint;
    pj_error_set(error, PJ_EGAP,
                 "the write database has sent all up to %s, but not again the last applied transaction "
                 "(xid %u, end %s): it is not the server that the read side was fed from",
                 PJ_LSN(position), checkpoint->witness_xid, PJ_LSN(checkpoint->witness_lsn));
    return pj_error_hint(error,
                         "was it restored from a backup or image? The read side goes on serving what it has. Stop the "
                         "daemon, run `pgprojector resync` and start it again");
}

static bool lacks_witness(const struct pj_intake *intake)
{
    return intake->witness_expected && !intake->witness_seen;
}

static int begin(struct pj_intake *intake, const struct pj_row_change *change, struct pj_error *error)
{
    if (intake->in_transaction)
        return pj_error_set(error, PJ_EDATA, "a BEGIN inside a transaction");
    intake->in_transaction = true;
    intake->xid = change->xid;
    intake->discarding = intake->skip_to && intake->witness_expected && !intake->witness_seen && change->xid &&
                         change->xid == intake->checkpoint.witness_xid;
    intake->batch->ends_at_commit = false;
    if (intake->skip_to && change->xid && change->xid == intake->known_new_xid) {
        if (lacks_witness(intake))
            return witness_missing(intake, intake->checkpoint.lsn, error);
        intake->skip_to = 0;
    }
    return PJ_OK;
}

/* A transaction that ends at or before the checkpoint. */
static int skip(struct pj_intake *intake, const struct pj_row_change *change, struct pj_error *error)
{
    const struct pj_checkpoint *checkpoint = &intake->checkpoint;
    pj_batch_reset(intake->batch, KEEP_BYTES);
    intake->skipped++;
    if (change->end_lsn != checkpoint->witness_lsn || !checkpoint->witness_xid)
        return PJ_OK;
    bool same_time =
        !checkpoint->witness_time_us || !change->commit_us || change->commit_us == checkpoint->witness_time_us;
    if (intake->xid != checkpoint->witness_xid || !same_time)
        return witness_missing(intake, change->end_lsn, error);
    intake->witness_seen = true;
    return PJ_OK;
}

static int start_once_more(struct pj_intake *intake, struct pj_error *error)
{
    intake->known_new_xid = intake->xid;
    intake->once_more = true;
    pj_error_set(error, PJ_EFAIL, "transaction %u is too large to be kept until its end is known; reading it once more",
                 intake->xid);
    error->retryable = true;
    return error->code;
}

static int commit(struct pj_intake *intake, const struct pj_row_change *change, enum pj_intake_outcome *outcome,
                  struct pj_error *error)
{
    if (!intake->in_transaction)
        return pj_error_set(error, PJ_EDATA, "a COMMIT outside a transaction");
    bool discarded = intake->discarding;
    intake->in_transaction = intake->discarding = false;
    if (intake->skip_to && change->end_lsn <= intake->skip_to)
        return skip(intake, change, error);
    if (intake->skip_to && lacks_witness(intake))
        return witness_missing(intake, change->end_lsn, error);
    if (discarded)
        return start_once_more(intake, error);
    intake->skip_to = 0;
    pj_batch_commit(intake->batch, change->end_lsn, change->xid ? change->xid : intake->xid, change->commit_us);
    *outcome = PJ_INTAKE_COMMIT;
    return PJ_OK;
}

/* Before the first new transaction nothing may be applied in parts. */
static void bound_memory(struct pj_intake *intake)
{
    if (intake->skip_to && pj_intake_overfull(intake))
        intake->discarding = true;
    if (intake->discarding && pj_batch_bytes(intake->batch) > KEEP_BYTES) {
        pj_batch_reset(intake->batch, KEEP_BYTES);
        intake->batch->ends_at_commit = false;
    }
}

void pj_intake_learn(struct pj_intake *intake, char *condition, char *ancestors)
{
    pj_free(intake->partition.name);
    pj_free(intake->partition.condition);
    pj_free(intake->partition.ancestors);
    intake->partition.name =
        condition || ancestors ? pj_sprintf("%s.%s", intake->unknown_schema, intake->unknown_name) : NULL;
    intake->partition.condition = condition;
    intake->partition.ancestors = ancestors;
}

/* Whether a partitioned table above it has just been emptied. `ancestors`: a name a line. */
static bool covered(const struct pj_table_rows *rows, const char *ancestors)
{
    for (const struct pj_emptied *emptied = rows->emptied; emptied; emptied = emptied->next) {
        size_t length = strlen(emptied->name);
        for (const char *at = ancestors; (at = strstr(at, emptied->name)); at++)
            if ((at == ancestors || at[-1] == '\n') && (at[length] == '\n' || !at[length]))
                return true;
    }
    return false;
}

static int partition_untold(struct pj_intake *intake, const struct pj_row_change *change, const char *name,
                            struct pj_error *error)
{
    if (intake->skip_to) {
        intake->discarding = true; /* no fault if it is applied already; asked again where it proves to be new */
        return PJ_OK;
    }
    pj_error_set(error, PJ_ESCHEMA,
                 "partition %s of %s.%s was truncated by itself, and which rows of the mirror were its "
                 "cannot be told (it is a hash or default partition, or gone)",
                 name, change->table->schema, change->table->name);
    return pj_error_hint(error, "stop the daemon, run `pgprojector resync` and start it again; DELETE works on any "
                                "partition");
}

/*
 * A truncated partitioned table comes as the root, then all below it. A partition alone leaves the mirror's other rows
 * in place: the mirror does not know which rows were the partition's, the partition's constraint does.
 */
static int truncate_partition(struct pj_intake *intake, const struct pj_row_change *change,
                              enum pj_intake_outcome *outcome, struct pj_error *error)
{
    const struct pj_table_rows *rows = &intake->batch->tables[change->table->index];
    if (rows->truncated && !rows->count)
        return PJ_OK; /* the root was, just before */
    char name[160];
    snprintf(name, sizeof name, "%s.%s", change->schema, change->name);
    if (!intake->partition.name || strcmp(intake->partition.name, name) != 0) {
        snprintf(intake->unknown_schema, sizeof intake->unknown_schema, "%s", change->schema);
        snprintf(intake->unknown_name, sizeof intake->unknown_name, "%s", change->name);
        *outcome = PJ_INTAKE_PARTITION;
        return PJ_OK;
    }
    bool done = !rows->count && covered(rows, intake->partition.ancestors);
    if (!done && !intake->partition.condition)
        return partition_untold(intake, change, name, error);
    if (!done && !pj_batch_truncate_partition(intake->batch, change->table, name, intake->partition.condition))
        *outcome = PJ_INTAKE_SPLIT;
    else
        pj_intake_learn(intake, NULL, NULL); /* it may be another one by the next TRUNCATE */
    return PJ_OK;
}

static int truncate(struct pj_intake *intake, const struct pj_row_change *change, enum pj_intake_outcome *outcome,
                    struct pj_error *error)
{
    const struct pj_table *table = change->table;
    if (strcmp(table->name, change->name) != 0 || strcmp(table->schema, change->schema) != 0)
        return truncate_partition(intake, change, outcome, error);
    if (pj_batch_truncate(intake->batch, change->table))
        return PJ_OK;
    *outcome = PJ_INTAKE_SPLIT;
    return PJ_OK;
}

static int row_change(struct pj_intake *intake, const struct pj_row_change *change, enum pj_intake_outcome *outcome,
                      struct pj_error *error)
{
    if (!intake->in_transaction)
        return pj_error_set(error, PJ_EDATA, "a row change outside a transaction");
    if (!change->table || intake->discarding)
        return PJ_OK;
    if (change->action == PJ_TRUNCATE)
        return truncate(intake, change, outcome, error);
    return pj_batch_change(intake->batch, change, error);
}

int pj_intake_message(struct pj_intake *intake, const struct pj_copydata *message, enum pj_intake_outcome *outcome,
                      struct pj_error *error)
{
    struct pj_row_change change;
    *outcome = PJ_INTAKE_MORE;
    int code = intake->decoder->decode(intake->decoder, message->payload, message->length, message->start,
                                       &intake->batch->arena, &change, error);
    if (code != PJ_OK)
        return pj_error_wrap(error, "message at %s", PJ_LSN(message->start));
    switch (change.action) {
    case PJ_BEGIN:
        return begin(intake, &change, error);
    case PJ_COMMIT:
        return commit(intake, &change, outcome, error);
    case PJ_UNKNOWN_RELATION:
        if (intake->discarding)
            return PJ_OK;
        snprintf(intake->unknown_schema, sizeof intake->unknown_schema, "%s", change.schema);
        snprintf(intake->unknown_name, sizeof intake->unknown_name, "%s", change.name);
        *outcome = PJ_INTAKE_UNKNOWN;
        return PJ_OK;
    case PJ_MESSAGE:
        return PJ_OK;
    default:
        code = row_change(intake, &change, outcome, error);
        if (*outcome == PJ_INTAKE_SPLIT && intake->skip_to) {
            intake->discarding = true; /* a split would apply a part before the end is known */
            *outcome = PJ_INTAKE_MORE;
        }
        bound_memory(intake);
        return code == PJ_OK ? code : pj_error_wrap(error, "transaction %u", intake->xid);
    }
}

int pj_intake_keepalive(struct pj_intake *intake, pj_lsn position, struct pj_error *error)
{
    if (intake->in_transaction || position <= intake->checkpoint.lsn || !intake->skip_to)
        return PJ_OK;
    if (lacks_witness(intake))
        return witness_missing(intake, position, error);
    return PJ_OK;
}
