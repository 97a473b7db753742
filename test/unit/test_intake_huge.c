/* A transaction that outgrows a batch before it is known whether it is applied already. */
#include "reference/intake_stage.h"

/* Sends the huge transaction up to its commit. */
static void huge(uint32_t xid)
{
    taken(begin(xid), PJ_INTAKE_MORE);
    rows_of(8 << 20);
    cr_assert(intake.discarding);
    cr_assert_lt(pj_batch_bytes(intake.batch), 2 << 20, "%zu bytes", pj_batch_bytes(intake.batch));
}

Test(intake, a_huge_one_that_is_applied_already_is_skipped_in_bounded_memory)
{
    connect_at(0x300, 0, 0, false);
    huge(5);
    taken(commit(5, 0x300, 0), PJ_INTAKE_MORE);
    cr_assert_not(pj_batch_has_rows(intake.batch));
    transaction(6, 0x400, 0, "1|a|b", PJ_INTAKE_COMMIT);
    cr_assert_eq(intake.batch->tables[0].count, 1);
}

Test(intake, a_huge_one_that_is_new_is_read_once_more_knowing_its_xid)
{
    connect_at(0x300, 6, 111, true);
    transaction(6, 0x300, 111, "1|a|b", PJ_INTAKE_MORE);
    huge(7);
    cr_assert_neq(take(commit(7, 0x400, 120)), PJ_OK);
    cr_assert(error.retryable, "%s", error.message);
    cr_assert_eq(intake.batch->transactions, 0);

    connect_at(0x300, 6, 111, true);
    transaction(6, 0x300, 111, "1|a|b", PJ_INTAKE_MORE);
    taken(begin(7), PJ_INTAKE_MORE);
    rows_of(8 << 20);
    cr_assert_not(intake.discarding);
    cr_assert_gt(intake.batch->tables[0].count, 2000); /* the pipeline would have applied it in parts */
    taken(commit(7, 0x400, 120), PJ_INTAKE_COMMIT);
    cr_assert_eq(intake.batch->end_lsn, 0x400);
}

Test(intake, a_huge_one_known_to_be_new_does_not_excuse_the_witness)
{
    connect_at(0x300, 6, 111, true);
    transaction(6, 0x300, 111, "1|a|b", PJ_INTAKE_MORE);
    huge(7);
    cr_assert(take(commit(7, 0x400, 120)) != PJ_OK && error.retryable);
    connect_at(0x300, 6, 111, true);
    assert_gap(take(begin(7)));
}

static void apply_the_huge_one(uint32_t xid, pj_lsn from, pj_lsn end)
{
    connect_at(from, 0, 0, false);
    huge(xid);
    cr_assert(take(commit(xid, end, 0)) != PJ_OK && error.retryable);
    connect_at(from, 0, 0, false);
    taken(begin(xid), PJ_INTAKE_MORE);
    rows_of(CAP);
    taken(commit(xid, end, 0), PJ_INTAKE_COMMIT);
}

Test(intake, a_huge_one_that_has_become_the_witness_is_known_as_that)
{
    apply_the_huge_one(7, 0x300, 0x400);
    connect_at(0x400, 7, 120, true);
    taken(begin(7), PJ_INTAKE_MORE);
    rows_of(8 << 20);
    taken(commit(7, 0x400, 120), PJ_INTAKE_MORE);
    cr_assert(intake.witness_seen);
}

Test(intake, a_huge_one_that_was_new_once_is_skipped_when_it_is_sent_again)
{
    apply_the_huge_one(7, 0x300, 0x400);
    connect_at(0x500, 8, 130, true);
    huge(7);
    taken(commit(7, 0x400, 0), PJ_INTAKE_MORE);
    transaction(8, 0x500, 130, "1|a|b", PJ_INTAKE_MORE);
    transaction(9, 0x600, 140, "1|a|b", PJ_INTAKE_COMMIT);
}

Test(intake, a_huge_one_stays_known_while_its_application_fails)
{
    apply_the_huge_one(7, 0x300, 0x400);
    connect_at(0x300, 0, 0, false); /* the COMMIT did not come through */
    taken(begin(7), PJ_INTAKE_MORE);
    rows_of(2 * CAP);
    cr_assert_not(intake.discarding);
    taken(commit(7, 0x400, 0), PJ_INTAKE_COMMIT);
}

Test(intake, a_truncate_behind_rows_of_a_transaction_of_unknown_end_reads_it_once_more)
{
    connect_at(0x300, 0, 0, false);
    taken(begin(7), PJ_INTAKE_MORE);
    taken(insert("messages", "1|a|b"), PJ_INTAKE_MORE);
    taken(truncate_of("messages"), PJ_INTAKE_MORE);
    cr_assert(intake.discarding);
    cr_assert(take(commit(7, 0x400, 0)) != PJ_OK && error.retryable, "%s", error.message);
    connect_at(0x300, 0, 0, false);
    taken(begin(7), PJ_INTAKE_MORE);
    taken(insert("messages", "1|a|b"), PJ_INTAKE_MORE);
    taken(truncate_of("messages"), PJ_INTAKE_SPLIT);
}
