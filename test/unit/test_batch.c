/* The collapse of changes to final rows, case by case. Random histories are in test_batch_histories.c. */
#include "reference/batch_stage.h"

/* ----------------------------------------------------------------------------------------------------- the collapse */

Test(batch, an_insert_has_no_old_and_asks_for_none)
{
    insert(PLAIN, "1|a|b|c");
    cr_assert_eq(row_of(PLAIN, "1")->old_state, PJ_OLD_NONE);
    resolve();
    assert_pair(PLAIN, "1", NULL, "1|a|b|c");
}

Test(batch, many_changes_of_one_row_are_one_pair)
{
    insert(PLAIN, "1|a|b|c");
    for (int i = 0; i < 1000; i++) {
        char row[64];
        snprintf(row, sizeof row, "1|a%d|b|c", i);
        update(PLAIN, "1", row);
    }
    cr_assert_eq(batch->tables[PLAIN].count, 1);
    cr_assert_eq(batch->changes, 1001);
    resolve();
    assert_pair(PLAIN, "1", NULL, "1|a999|b|c");
}

Test(batch, an_update_wants_the_old_row)
{
    update(PLAIN, "1", "1|new|b|c");
    fetch(PLAIN, "1", "1|old|b|c");
    resolve();
    assert_pair(PLAIN, "1", "1|old|b|c", "1|new|b|c");
    cr_assert(pj_row_changed(&tables[PLAIN], row_of(PLAIN, "1")));
}

Test(batch, an_update_that_changes_nothing_is_no_change)
{
    update(PLAIN, "1", "1|a|\\N|");
    fetch(PLAIN, "1", "1|a|\\N|");
    resolve();
    cr_assert_not(pj_row_changed(&tables[PLAIN], row_of(PLAIN, "1")));
}

Test(batch, null_and_the_empty_text_differ)
{
    update(PLAIN, "1", "1|a|\\N|c");
    fetch(PLAIN, "1", "1|a||c");
    resolve();
    cr_assert(pj_row_changed(&tables[PLAIN], row_of(PLAIN, "1")));
}

Test(batch, a_delete_wants_the_old_row_for_projections)
{
    delete (PLAIN, "1");
    fetch(PLAIN, "1", "1|a|b|c");
    resolve();
    assert_pair(PLAIN, "1", "1|a|b|c", NULL);
}

Test(batch, what_is_made_and_gone_is_nothing)
{
    insert(PLAIN, "1|a|b|c");
    update(PLAIN, "1", "1|a2|b|c");
    delete (PLAIN, "1");
    resolve();
    assert_pair(PLAIN, "1", NULL, NULL);
    cr_assert_not(pj_row_changed(&tables[PLAIN], row_of(PLAIN, "1")));
}

Test(batch, deleted_and_made_again_is_an_update)
{
    delete (PLAIN, "1");
    insert(PLAIN, "1|new|b|c");
    delete (PLAIN, "1");
    insert(PLAIN, "1|newer|b|c");
    fetch(PLAIN, "1", "1|old|b|c");
    resolve();
    assert_pair(PLAIN, "1", "1|old|b|c", "1|newer|b|c");
}

Test(batch, tables_do_not_mix)
{
    insert(PLAIN, "1|a|b|c");
    insert(FULL, "1|x|y|z");
    delete (PLAIN, "1");
    resolve();
    assert_pair(PLAIN, "1", NULL, NULL);
    assert_pair(FULL, "1", NULL, "1|x|y|z");
}

Test(batch, keys_of_two_columns_are_not_run_together)
{
    insert(PAIR, "a|bc|1|1");
    insert(PAIR, "ab|c|2|2");
    insert(PAIR, "abc||3|3");
    insert(PAIR, "|abc|4|4");
    cr_assert_eq(batch->tables[PAIR].count, 4);
    update(PAIR, "ab|c", "ab|c|2x|2");
    resolve();
    assert_pair(PAIR, "a|bc", NULL, "a|bc|1|1");
    assert_pair(PAIR, "ab|c", NULL, "ab|c|2x|2");
    assert_pair(PAIR, "|abc", NULL, "|abc|4|4");
}

/* ------------------------------------------------------------------------------------------------------ key changes */

Test(batch, a_changed_key_ends_one_row_and_begins_another)
{
    update(PLAIN, "1", "2|a|b|c");
    cr_assert_eq(row_of(PLAIN, "2")->old_state, PJ_OLD_NONE);
    fetch(PLAIN, "1", "1|a|b|c");
    resolve();
    assert_pair(PLAIN, "1", "1|a|b|c", NULL);
    assert_pair(PLAIN, "2", NULL, "2|a|b|c");
}

Test(batch, a_chain_of_key_changes_leaves_its_ends)
{
    update(PLAIN, "1", "2|a|b|c");
    update(PLAIN, "2", "3|a|b|c");
    update(PLAIN, "3", "4|a|b|c");
    fetch(PLAIN, "1", "1|a|b|c");
    resolve();
    assert_pair(PLAIN, "1", "1|a|b|c", NULL);
    assert_pair(PLAIN, "2", NULL, NULL);
    assert_pair(PLAIN, "3", NULL, NULL);
    assert_pair(PLAIN, "4", NULL, "4|a|b|c");
}

Test(batch, a_key_changed_there_and_back_is_an_update)
{
    update(PLAIN, "1", "2|a|b|c");
    update(PLAIN, "2", "1|x|b|c");
    fetch(PLAIN, "1", "1|a|b|c");
    resolve();
    assert_pair(PLAIN, "1", "1|a|b|c", "1|x|b|c");
    assert_pair(PLAIN, "2", NULL, NULL);
}

Test(batch, keys_may_swap)
{
    update(PLAIN, "1", "tmp|one|b|c");
    update(PLAIN, "2", "1|two|b|c");
    update(PLAIN, "tmp", "2|one|b|c");
    fetch(PLAIN, "1", "1|one|b|c");
    fetch(PLAIN, "2", "2|two|b|c");
    resolve();
    assert_pair(PLAIN, "1", "1|one|b|c", "1|two|b|c");
    assert_pair(PLAIN, "2", "2|two|b|c", "2|one|b|c");
    assert_pair(PLAIN, "tmp", NULL, NULL);
}

Test(batch, a_row_may_take_the_key_of_a_deleted_one)
{
    delete (PLAIN, "2");
    update(PLAIN, "1", "2|one|b|c");
    fetch(PLAIN, "1", "1|one|b|c");
    fetch(PLAIN, "2", "2|two|b|c");
    resolve();
    assert_pair(PLAIN, "1", "1|one|b|c", NULL);
    assert_pair(PLAIN, "2", "2|two|b|c", "2|one|b|c");
}

Test(batch, one_of_two_key_columns_may_change_alone)
{
    update(PAIR, "1|k", "2|~|b|c"); /* the second was left out: unchanged */
    fetch(PAIR, "1|k", "1|k|b|c");
    resolve();
    assert_pair(PAIR, "1|k", "1|k|b|c", NULL);
    assert_pair(PAIR, "2|k", NULL, "2|k|b|c");
}

/* --------------------------------------------------------------------------------------------------- contradictions */

Test(batch, inserting_a_row_that_is_there_is_a_contradiction)
{
    insert(PLAIN, "1|a|b|c");
    assert_contradiction(PLAIN, PJ_INSERT, NULL, "1|a|b|c", "inserts a row that is already there");
}

Test(batch, inserting_over_a_row_that_was_updated_is_a_contradiction)
{
    update(PLAIN, "1", "1|a|b|c");
    assert_contradiction(PLAIN, PJ_INSERT, NULL, "1|a|b|c", "inserts a row that is already there");
}

Test(batch, changing_a_deleted_row_is_a_contradiction)
{
    delete (PLAIN, "1");
    assert_contradiction(PLAIN, PJ_UPDATE, "1", "1|a|b|c", "updates a row that is gone");
    assert_contradiction(PLAIN, PJ_DELETE, "1", NULL, "deletes a row that is gone");
}

Test(batch, changing_a_row_under_its_former_key_is_a_contradiction)
{
    update(PLAIN, "1", "2|a|b|c");
    assert_contradiction(PLAIN, PJ_UPDATE, "1", "1|a|b|c", "updates a row that is gone");
    assert_contradiction(PLAIN, PJ_DELETE, "1", NULL, "deletes a row that is gone");
}

Test(batch, taking_the_key_of_a_row_that_is_there_is_a_contradiction)
{
    insert(PLAIN, "2|a|b|c");
    assert_contradiction(PLAIN, PJ_UPDATE, "1", "2|a|b|c", "gives a row the key of another");
}

Test(batch, an_old_row_that_is_not_in_the_mirror_is_a_contradiction)
{
    update(PLAIN, "1", "1|a|b|c");
    cr_assert_eq(pj_batch_resolve(batch, &error), PJ_EDATA);
    cr_assert(strstr(error.message, "public.plain"), "%s", error.message);
    cr_assert_neq(error.hint[0], '\0');
}

Test(batch, so_is_one_of_a_row_that_is_only_deleted)
{
    delete (FULL, "1");
    cr_assert_eq(pj_batch_resolve(batch, &error), PJ_EDATA);
    cr_assert(strstr(error.message, "public.full"), "%s", error.message);
}

Test(batch, messages_never_quote_values)
{
    insert(PLAIN, "secret|hidden|b|c");
    cr_assert_eq(collect(PLAIN, PJ_INSERT, NULL, NULL, "secret|hidden|b|c"), PJ_EDATA);
    cr_assert_not(strstr(error.message, "secret") || strstr(error.message, "hidden"), "%s", error.message);
}

Test(batch, what_is_no_row_change_is_refused)
{
    cr_assert_eq(collect(PLAIN, PJ_TRUNCATE, NULL, NULL, NULL), PJ_EDATA);
}

/* -------------------------------------------------------------------------------------------------- missing columns */

static void assert_missing(int table, enum pj_action action, const char *identity, const char *row, const char *column)
{
    cr_assert_eq(collect(table, action, identity, NULL, row), PJ_ESCHEMA);
    cr_assert(strstr(error.message, column) && strstr(error.message, tables[table].name), "%s", error.message);
    cr_assert_neq(error.hint[0], '\0');
}

Test(batch, an_insert_must_have_every_column)
{
    assert_missing(PLAIN, PJ_INSERT, NULL, "1|a|b|~", "c3"); /* toastable or not: an INSERT leaves nothing out */
    assert_missing(PLAIN, PJ_INSERT, NULL, "1|~|b|c", "c1");
    assert_missing(PLAIN, PJ_INSERT, NULL, "~|a|b|c", "c0");
}

Test(batch, an_update_may_leave_out_only_what_can_be_toasted)
{
    assert_missing(PLAIN, PJ_UPDATE, "1", "1|~|b|c", "c1");
    insert(PLAIN, "2|a|b|c");
    assert_missing(PLAIN, PJ_UPDATE, "2", "2|~|b|c", "c1"); /* even where the image before it is known */
    assert_missing(PLAIN, PJ_UPDATE, "3", "~|a|b|c", "c0");
}
