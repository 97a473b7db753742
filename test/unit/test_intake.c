/* From messages to a batch: what is skipped, what is taken, what is handed back. */
#include "reference/intake_stage.h"

/* -------------------------------------------------------------------------------------------------------- taking */

Test(intake, a_transaction_becomes_rows_and_ends_at_its_commit)
{
    connect_at(0x100, 0, 0, false);
    taken(begin(7), PJ_INTAKE_MORE);
    cr_assert(intake.in_transaction);
    cr_assert_not(intake.batch->ends_at_commit);
    taken(insert("messages", "1|a|b"), PJ_INTAKE_MORE);
    taken(commit(7, 0x200, 5000), PJ_INTAKE_COMMIT);
    cr_assert_not(intake.in_transaction);
    cr_assert(intake.batch->ends_at_commit);
    cr_assert_eq(intake.batch->end_lsn, 0x200);
    cr_assert_eq(intake.batch->xid, 7);
    cr_assert_eq(intake.batch->commit_us, 5000);
    cr_assert_eq(intake.batch->tables[0].count, 1);
}

Test(intake, an_empty_transaction_still_counts_for_the_position)
{
    connect_at(0x100, 0, 0, false);
    taken(begin(7), PJ_INTAKE_MORE);
    taken(commit(7, 0x200, 0), PJ_INTAKE_COMMIT);
    cr_assert_eq(intake.batch->end_lsn, 0x200);
    cr_assert_not(pj_batch_has_rows(intake.batch));
}

Test(intake, a_commit_without_xid_has_that_of_its_begin)
{
    connect_at(0x100, 0, 0, false);
    taken(begin(7), PJ_INTAKE_MORE);
    taken(commit(0, 0x200, 0), PJ_INTAKE_COMMIT);
    cr_assert_eq(intake.batch->xid, 7);
}

Test(intake, logical_messages_change_nothing_inside_and_outside_of_transactions)
{
    connect_at(0x100, 0, 0, false);
    taken((struct script){.action = PJ_MESSAGE}, PJ_INTAKE_MORE);
    cr_assert(intake.batch->ends_at_commit);
    taken(begin(7), PJ_INTAKE_MORE);
    taken((struct script){.action = PJ_MESSAGE}, PJ_INTAKE_MORE);
    cr_assert(intake.in_transaction);
    taken(commit(7, 0x200, 0), PJ_INTAKE_COMMIT);
}

Test(intake, a_relation_of_no_concern_is_passed_over)
{
    connect_at(0x100, 0, 0, false);
    taken(begin(7), PJ_INTAKE_MORE);
    taken(insert("ignored", NULL), PJ_INTAKE_MORE);
    taken(truncate_of("ignored"), PJ_INTAKE_MORE);
    taken(commit(7, 0x200, 0), PJ_INTAKE_COMMIT);
    cr_assert_not(pj_batch_has_rows(intake.batch));
}

Test(intake, an_unknown_relation_is_named_and_handed_in_again)
{
    connect_at(0x100, 0, 0, false);
    taken(begin(7), PJ_INTAKE_MORE);
    taken(insert("stranger", NULL), PJ_INTAKE_UNKNOWN);
    cr_assert_str_eq(intake.unknown_schema, "public");
    cr_assert_str_eq(intake.unknown_name, "stranger");
    taken(insert("stranger", NULL), PJ_INTAKE_UNKNOWN); /* nobody has looked it up yet */
    fake.stranger_known = true;
    taken(insert("stranger", NULL), PJ_INTAKE_MORE);
    taken(commit(7, 0x200, 0), PJ_INTAKE_COMMIT);
}

Test(intake, a_full_batch_is_not_discarded_once_something_new_was_seen)
{
    connect_at(0x100, 0, 0, false);
    transaction(7, 0x200, 0, "one|a|b", PJ_INTAKE_COMMIT);
    taken(begin(8), PJ_INTAKE_MORE);
    rows_of(2 * CAP);
    cr_assert(pj_intake_full(&intake));
    cr_assert_not(intake.discarding);
    cr_assert_gt(intake.batch->tables[0].count, 1);
}

/* -------------------------------------------------------------------------------------------------------- skipping */

Test(intake, what_ends_at_or_before_the_checkpoint_is_skipped)
{
    connect_at(0x300, 0, 0, false);
    transaction(5, 0x100, 0, "1|a|b", PJ_INTAKE_MORE);
    transaction(6, 0x300, 0, "1|a|b", PJ_INTAKE_MORE); /* the same row: each is collected alone */
    cr_assert_not(pj_batch_has_rows(intake.batch));
    cr_assert_eq(intake.skipped, 2);
    cr_assert_eq(intake.batch->transactions, 0);
    transaction(7, 0x301, 0, "1|a|b", PJ_INTAKE_COMMIT);
    cr_assert_eq(intake.skipped, 2);
    cr_assert_eq(intake.batch->tables[0].count, 1);
    cr_assert_eq(intake.batch->floor_lsn, 0);
}

Test(intake, a_truncate_in_what_is_skipped_empties_nothing)
{
    connect_at(0x300, 0, 0, false);
    taken(begin(5), PJ_INTAKE_MORE);
    taken(insert("messages", "1|a|b"), PJ_INTAKE_MORE);
    taken(truncate_of("messages"), PJ_INTAKE_MORE); /* no SPLIT: nothing may be applied yet */
    taken(insert("messages", "1|a|b"), PJ_INTAKE_MORE);
    taken(commit(5, 0x200, 0), PJ_INTAKE_MORE);
    cr_assert_not(pj_batch_has_rows(intake.batch));
    cr_assert_eq(intake.skipped, 1);
}

Test(intake, the_witness_is_known_again_and_not_kept)
{
    connect_at(0x300, 6, 111, true);
    transaction(5, 0x200, 100, "1|a|b", PJ_INTAKE_MORE);
    cr_assert_not(intake.witness_seen);
    taken(begin(6), PJ_INTAKE_MORE);
    cr_assert(intake.discarding);
    taken(insert("messages", "1|a|b"), PJ_INTAKE_MORE);
    cr_assert_not(pj_batch_has_rows(intake.batch));
    taken(insert("stranger", NULL), PJ_INTAKE_MORE); /* nor looked up */
    rows_of(4 << 20);
    cr_assert_lt(pj_batch_bytes(intake.batch), 2 << 20);
    taken(commit(6, 0x300, 111), PJ_INTAKE_MORE);
    cr_assert(intake.witness_seen);
    transaction(7, 0x400, 120, "2|a|b", PJ_INTAKE_COMMIT);
}

/* The pipeline waits for the end of what is discarded: it must end with its COMMIT, not with the next BEGIN, which
 * may be far away on an idle source. */
Test(intake, discarding_ends_with_the_transaction)
{
    connect_at(0x300, 6, 111, true);
    taken(begin(6), PJ_INTAKE_MORE);
    taken(commit(6, 0x300, 111), PJ_INTAKE_MORE);
    cr_assert_not(intake.discarding);
    cr_assert(intake.batch->ends_at_commit);
    connect_at(0x300, 0, 0, false);
    taken(begin(5), PJ_INTAKE_MORE);
    rows_of(2 * CAP);
    cr_assert(intake.discarding);
    taken(commit(5, 0x200, 0), PJ_INTAKE_MORE);
    cr_assert_not(intake.discarding);
    cr_assert_not(pj_intake_full(&intake));
}

Test(intake, the_witness_may_lack_a_commit_time_on_either_side)
{
    connect_at(0x300, 6, 0, true);
    transaction(6, 0x300, 111, "1|a|b", PJ_INTAKE_MORE);
    cr_assert(intake.witness_seen);
    connect_at(0x300, 6, 111, true);
    transaction(6, 0x300, 0, "1|a|b", PJ_INTAKE_MORE);
    cr_assert(intake.witness_seen);
}

Test(intake, the_witness_must_be_seen_anew_on_every_connection)
{
    connect_at(0x300, 6, 111, true);
    transaction(6, 0x300, 111, "1|a|b", PJ_INTAKE_MORE);
    connect_at(0x300, 6, 111, true);
    cr_assert_not(intake.witness_seen);
    taken(begin(7), PJ_INTAKE_MORE);
    assert_gap(take(commit(7, 0x400, 120)));
}

/* --------------------------------------------------------------------------------------------------------- nonsense */

Test(intake, a_begin_inside_a_transaction_is_refused)
{
    connect_at(0x100, 0, 0, false);
    taken(begin(7), PJ_INTAKE_MORE);
    refused(begin(8), PJ_EDATA, "BEGIN inside");
}

Test(intake, a_commit_outside_a_transaction_is_refused)
{
    connect_at(0x100, 0, 0, false);
    refused(commit(7, 0x200, 0), PJ_EDATA, "COMMIT outside");
    transaction(7, 0x200, 0, "1|a|b", PJ_INTAKE_COMMIT);
    refused(commit(7, 0x300, 0), PJ_EDATA, "COMMIT outside");
}

Test(intake, a_row_outside_a_transaction_is_refused)
{
    connect_at(0x100, 0, 0, false);
    refused(insert("messages", "1|a|b"), PJ_EDATA, "outside");
    refused(truncate_of("messages"), PJ_EDATA, "outside");
    refused(insert("ignored", NULL), PJ_EDATA, "outside");
}

Test(intake, a_new_connection_forgets_the_open_transaction)
{
    connect_at(0x100, 0, 0, false);
    taken(begin(7), PJ_INTAKE_MORE);
    connect_at(0x100, 0, 0, false);
    cr_assert_not(intake.in_transaction);
    transaction(7, 0x200, 0, "1|a|b", PJ_INTAKE_COMMIT);
}

Test(intake, the_decoders_complaint_says_where)
{
    connect_at(0x100, 0, 0, false);
    fake.broken = true;
    struct script script = begin(7);
    script.end = 0xabc;
    refused(script, PJ_EDATA, "0/ABC");
    cr_assert(strstr(error.message, "nonsense"), "%s", error.message);
}

Test(intake, the_batchs_complaint_names_the_transaction)
{
    connect_at(0x100, 0, 0, false);
    taken(begin(4711), PJ_INTAKE_MORE);
    taken(insert("messages", "1|a|b"), PJ_INTAKE_MORE);
    refused(insert("messages", "1|a|b"), PJ_EDATA, "transaction 4711");
}
