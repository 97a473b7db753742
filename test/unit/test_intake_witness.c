/* Whether the server is the one that we left: the witness, and keepalives before and after it. */
#include "reference/intake_stage.h"

/* ---------------------------------------------------------------------------------------------- not the same server */

Test(intake, something_new_before_the_witness_is_a_gap)
{
    connect_at(0x300, 6, 111, true);
    transaction(5, 0x200, 100, "1|a|b", PJ_INTAKE_MORE);
    taken(begin(7), PJ_INTAKE_MORE);
    taken(insert("messages", "2|a|b"), PJ_INTAKE_MORE);
    assert_gap(take(commit(7, 0x400, 120)));
    cr_assert(strstr(error.message, "xid 6") && strstr(error.message, "0/300"), "%s", error.message);
    cr_assert_eq(intake.batch->transactions, 0);
}

Test(intake, another_transaction_that_ends_where_the_witness_did_is_a_gap)
{
    connect_at(0x300, 6, 111, true);
    taken(begin(9), PJ_INTAKE_MORE);
    assert_gap(take(commit(9, 0x300, 111)));
}

Test(intake, the_witness_with_another_commit_time_is_a_gap)
{
    connect_at(0x300, 6, 111, true);
    taken(begin(6), PJ_INTAKE_MORE);
    assert_gap(take(commit(6, 0x300, 112)));
}

Test(intake, the_witness_with_another_end_is_none)
{
    connect_at(0x300, 6, 111, true);
    transaction(6, 0x2f0, 111, "1|a|b", PJ_INTAKE_MORE);
    cr_assert_not(intake.witness_seen);
    taken(begin(7), PJ_INTAKE_MORE);
    assert_gap(take(commit(7, 0x400, 120)));
    connect_at(0x300, 6, 111, true);
    taken(begin(6), PJ_INTAKE_MORE);
    assert_gap(take(commit(6, 0x310, 111)));
}

Test(intake, a_witness_that_need_not_come_may_come)
{
    connect_at(0x300, 6, 111, false);
    transaction(6, 0x300, 111, "1|a|b", PJ_INTAKE_MORE);
    transaction(7, 0x400, 120, "1|a|b", PJ_INTAKE_COMMIT);
}

Test(intake, a_new_transaction_may_have_the_number_of_a_witness_that_need_not_come)
{
    connect_at(0x300, 6, 111, false);
    transaction(6, 0x400, 120, "1|a|b", PJ_INTAKE_COMMIT);
    cr_assert_eq(intake.batch->tables[0].count, 1);
}

Test(intake, one_that_need_not_come_but_comes_wrong_is_a_gap)
{
    connect_at(0x300, 6, 111, false);
    taken(begin(9), PJ_INTAKE_MORE);
    assert_gap(take(commit(9, 0x300, 111)));
}

/* ------------------------------------------------------------------------------------------------------- keepalives */

Test(intake, a_keepalive_beyond_the_checkpoint_without_the_witness_is_a_gap)
{
    connect_at(0x300, 6, 111, true);
    cr_assert_eq(pj_intake_keepalive(&intake, 0x2ff, &error), PJ_OK);
    cr_assert_eq(pj_intake_keepalive(&intake, 0x300, &error), PJ_OK);
    assert_gap(pj_intake_keepalive(&intake, 0x301, &error));
}

Test(intake, a_keepalive_behind_the_witness_is_not)
{
    connect_at(0x300, 6, 111, true);
    transaction(6, 0x300, 111, "1|a|b", PJ_INTAKE_MORE);
    cr_assert_eq(pj_intake_keepalive(&intake, 0x400, &error), PJ_OK);
}

Test(intake, a_keepalive_inside_a_transaction_says_nothing)
{
    connect_at(0x300, 6, 111, true);
    taken(begin(6), PJ_INTAKE_MORE);
    cr_assert_eq(pj_intake_keepalive(&intake, 0x400, &error), PJ_OK);
}

Test(intake, nothing_is_demanded_where_no_witness_is_expected)
{
    connect_at(0x300, 6, 111, false);
    cr_assert_eq(pj_intake_keepalive(&intake, 0x400, &error), PJ_OK);
}
