/* What the stream leaves out and where it comes from (unchanged TOAST), and rows that are known by another identity than
 * their primary key. */
#include "reference/batch_stage.h"

/* -------------------------------------------------------------------------------------------------- unchanged TOAST */

Test(batch, what_the_stream_leaves_out_comes_from_the_old_row)
{
    update(PLAIN, "1", "1|new|~|c2");
    fetch(PLAIN, "1", "1|old|toast|c1");
    resolve();
    assert_pair(PLAIN, "1", "1|old|toast|c1", "1|new|toast|c2");
}

Test(batch, what_the_stream_leaves_out_comes_from_the_image_before_it_in_here)
{
    insert(PLAIN, "1|a|toast|c");
    update(PLAIN, "1", "1|b|~|~");
    update(PLAIN, "1", "1|b|\\N|~");
    update(PLAIN, "1", "1|c|~|~"); /* NULL is a value, too */
    resolve();
    assert_pair(PLAIN, "1", NULL, "1|c|\\N|c");
}

Test(batch, unresolved_it_asks_for_the_same_old_rows_again)
{
    insert(PLAIN, "1|a|b|c");
    update(PLAIN, "2", "2|x|~|y");
    update(PLAIN, "3", "4|x|~|~");
    fetch(PLAIN, "2", "2|k|l|m");
    fetch(PLAIN, "3", "3|n|o|p");
    resolve();
    assert_pair(PLAIN, "2", "2|k|l|m", "2|x|l|y");
    assert_pair(PLAIN, "4", NULL, "4|x|o|p");
    pj_batch_unresolve(batch);
    cr_assert_eq(row_of(PLAIN, "1")->old_state, PJ_OLD_NONE);
    cr_assert_eq(pj_batch_resolve(batch, &error), PJ_EDATA, "the old rows are wanted again");
    fetch(PLAIN, "2", "2|q|r|s");
    fetch(PLAIN, "3", "3|t|u|v");
    resolve();
    assert_pair(PLAIN, "1", NULL, "1|a|b|c");
    assert_pair(PLAIN, "2", "2|q|r|s", "2|x|r|y");
    assert_pair(PLAIN, "3", "3|t|u|v", NULL);
    assert_pair(PLAIN, "4", NULL, "4|x|u|v");
}

Test(batch, a_value_left_out_twice_comes_from_the_old_row)
{
    update(PLAIN, "1", "1|b|~|x");
    update(PLAIN, "1", "1|c|~|~");
    fetch(PLAIN, "1", "1|a|toast|y");
    resolve();
    assert_pair(PLAIN, "1", "1|a|toast|y", "1|c|toast|x");
}

Test(batch, an_old_value_does_not_come_back_over_a_newer_one)
{
    update(PLAIN, "1", "1|b|short|~");
    update(PLAIN, "1", "1|c|~|~");
    fetch(PLAIN, "1", "1|a|toast|y");
    resolve();
    assert_pair(PLAIN, "1", "1|a|toast|y", "1|c|short|y");
}

Test(batch, unchanged_values_travel_along_a_chain_of_keys)
{
    update(PLAIN, "1", "2|a|~|~");
    update(PLAIN, "2", "3|a|~|new");
    update(PLAIN, "3", "4|a|~|~");
    fetch(PLAIN, "1", "1|a|toast|old");
    resolve();
    assert_pair(PLAIN, "4", NULL, "4|a|toast|new");
}

Test(batch, unchanged_values_follow_their_row_when_keys_swap)
{
    update(PLAIN, "1", "tmp|one|~|~");
    update(PLAIN, "2", "1|two|~|~");
    update(PLAIN, "tmp", "2|one|~|~");
    update(PLAIN, "2", "2|one more|~|~");
    fetch(PLAIN, "1", "1|one|toast1|x1");
    fetch(PLAIN, "2", "2|two|toast2|x2");
    resolve();
    assert_pair(PLAIN, "1", "1|one|toast1|x1", "1|two|toast2|x2");
    assert_pair(PLAIN, "2", "2|two|toast2|x2", "2|one more|toast1|x1");
}

Test(batch, a_row_made_again_has_nothing_of_its_predecessor)
{
    update(PLAIN, "1", "2|a|~|~"); /* 2 stands on 1's old row … */
    delete (PLAIN, "2");
    insert(PLAIN, "2|b|fresh|new"); /* … and now no longer */
    update(PLAIN, "2", "2|c|~|~");
    fetch(PLAIN, "1", "1|a|toast|old");
    resolve();
    assert_pair(PLAIN, "2", NULL, "2|c|fresh|new");
}

Test(batch, two_rows_may_stand_on_the_old_row_of_a_third_after_each_other)
{
    update(PLAIN, "1", "2|a|~|~");
    delete (PLAIN, "2");
    insert(PLAIN, "1|i|i|i");
    update(PLAIN, "3", "2|z|~|~");
    fetch(PLAIN, "1", "1|a|toast1|old1");
    fetch(PLAIN, "3", "3|z|toast3|old3");
    resolve();
    assert_pair(PLAIN, "1", "1|a|toast1|old1", "1|i|i|i");
    assert_pair(PLAIN, "2", NULL, "2|z|toast3|old3");
    assert_pair(PLAIN, "3", "3|z|toast3|old3", NULL);
}

/* ------------------------------------------------------------------------------------------------ other identities */

Test(batch, a_full_old_row_gives_what_the_stream_leaves_out)
{
    update_full("1|a|toast|c", "1|b|~|~");
    fetch(FULL, "1", "1|a|toast|c");
    resolve();
    assert_pair(FULL, "1", "1|a|toast|c", "1|b|toast|c");
}

Test(batch, a_full_old_row_gives_it_along_a_key_change)
{
    update_full("1|a|toast|c", "2|a|~|~");
    update_full("2|a|toast|c", "3|a|~|d");
    fetch(FULL, "1", "1|a|toast|c");
    resolve();
    assert_pair(FULL, "1", "1|a|toast|c", NULL);
    assert_pair(FULL, "3", NULL, "3|a|toast|d");
}

Test(batch, a_full_old_row_that_leaves_it_out_as_well_leaves_it_to_the_mirror)
{
    update_full("1|a|~|c", "1|b|~|~");
    fetch(FULL, "1", "1|a|toast|c");
    resolve();
    assert_pair(FULL, "1", "1|a|toast|c", "1|b|toast|c");
}

Test(batch, rows_are_matched_by_the_identity_index_not_by_the_key)
{
    insert(INDEXED, "1|x|b|c");
    update(INDEXED, "x", "2|x|b|c"); /* the primary key changes, the identity does not */
    insert(INDEXED, "1|y|b|c");
    cr_assert_eq(batch->tables[INDEXED].count, 2);
    resolve();
    assert_pair(INDEXED, "x", NULL, "2|x|b|c");
    assert_pair(INDEXED, "y", NULL, "1|y|b|c");
}

Test(batch, primary_keys_may_swap_under_another_identity)
{
    update(INDEXED, "x", "tmp|x|b|~");
    update(INDEXED, "y", "1|y|b|~");
    update(INDEXED, "x", "2|x|b|~");
    fetch(INDEXED, "x", "1|x|b|cx");
    fetch(INDEXED, "y", "2|y|b|cy");
    resolve();
    assert_pair(INDEXED, "x", "1|x|b|cx", "2|x|b|cx");
    assert_pair(INDEXED, "y", "2|y|b|cy", "1|y|b|cy");
}

Test(batch, an_identity_that_is_not_the_key_may_change)
{
    update(INDEXED, "x", "1|z|~|c");
    fetch(INDEXED, "x", "1|x|toast|c");
    resolve();
    assert_pair(INDEXED, "x", "1|x|toast|c", NULL);
    assert_pair(INDEXED, "z", NULL, "1|z|toast|c");
}
