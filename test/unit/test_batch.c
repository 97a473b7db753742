/* The collapse of changes to final rows, case by case. Random histories are in test_batch_histories.c. */
#include "core/batch.h"

#include "reference/batch_fixture.h"

#include <criterion/criterion.h>

/* c0 is the key of PLAIN and FULL; c2 and c3 may be TOASTed everywhere. PAIR has two key columns, the second of
 * which may be left out. INDEXED has c0 as primary key and c1 as replica identity. */
enum { PLAIN, PAIR, INDEXED, FULL, TABLES };

static const struct batch_table descriptions[TABLES] = {
    {"plain", 4, 0xc, {0, -1}, {0, -1}, false},
    {"pair", 4, 0xe, {0, 1, -1}, {0, 1, -1}, false},
    {"indexed", 4, 0xc, {0, -1}, {1, -1}, false},
    {"full", 4, 0xc, {0, -1}, {0, -1}, true},
};

static struct pj_table tables[TABLES];
static struct pj_batch *batch;
static struct pj_error error;

static void set_up(void)
{
    for (int i = 0; i < TABLES; i++)
        tables[i] = batch_table(i, &descriptions[i]);
    batch = pj_batch_new(tables, TABLES);
    pj_error_clear(&error);
}

static void tear_down(void)
{
    pj_batch_free(batch);
    for (int i = 0; i < TABLES; i++)
        pj_table_free(&tables[i]);
}

TestSuite(batch, .init = set_up, .fini = tear_down);

static int collect(int table, enum pj_action action, const char *identity, const char *old_row, const char *row)
{
    struct pj_row_change change = batch_change(&batch->arena, &tables[table], action, identity, old_row, row);
    return pj_batch_change(batch, &change, &error);
}

static void insert(int table, const char *row)
{
    cr_assert_eq(collect(table, PJ_INSERT, NULL, NULL, row), PJ_OK, "INSERT %s: %s", row, error.message);
}

static void update(int table, const char *identity, const char *row)
{
    cr_assert_eq(collect(table, PJ_UPDATE, identity, NULL, row), PJ_OK, "UPDATE %s: %s", row, error.message);
}

static void update_full(const char *old_row, const char *row)
{
    cr_assert_eq(collect(FULL, PJ_UPDATE, NULL, old_row, row), PJ_OK, "UPDATE %s: %s", row, error.message);
}

static void delete (int table, const char *identity)
{
    cr_assert_eq(collect(table, PJ_DELETE, identity, NULL, NULL), PJ_OK, "DELETE %s: %s", identity, error.message);
}

static struct pj_row *row_of(int table, const char *identity)
{
    struct pj_row *row = batch_row(batch, table, identity);
    cr_assert_not_null(row, "%s has no row %s", tables[table].name, identity);
    return row;
}

/* The mirror had this row. */
static void fetch(int table, const char *identity, const char *old)
{
    struct pj_row *row = row_of(table, identity);
    cr_assert_eq(row->old_state, PJ_OLD_UNKNOWN, "row %s is not wanted", identity);
    pj_batch_set_old(row, batch_values(&batch->arena, old, tables[table].ncolumns));
}

static void resolve(void)
{
    cr_assert_eq(pj_batch_resolve(batch, &error), PJ_OK, "%s", error.message);
}

static bool same_text(const char *a, const char *b)
{
    return a && b ? strcmp(a, b) == 0 : a == b;
}

static void assert_pair(int table, const char *identity, const char *old, const char *new_row)
{
    const struct pj_row *row = row_of(table, identity);
    const char *got_old = batch_text(row->old, tables[table].ncolumns);
    const char *got_new = batch_text(row->new_row, tables[table].ncolumns);
    cr_assert(same_text(got_old, old), "row %s: old is %s, not %s", identity, got_old ? got_old : "none", old);
    cr_assert(same_text(got_new, new_row), "row %s: new is %s, not %s", identity, got_new ? got_new : "none", new_row);
}

static void assert_contradiction(int table, enum pj_action action, const char *identity, const char *row,
                                 const char *why)
{
    cr_assert_eq(collect(table, action, identity, NULL, row), PJ_EDATA);
    cr_assert(strstr(error.message, why), "%s", error.message);
    cr_assert(strstr(error.message, tables[table].name), "names its table: %s", error.message);
    cr_assert_neq(error.hint[0], '\0');
    cr_assert_not(error.retryable);
}

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

/* --------------------------------------------------------------------------------------------------------- TRUNCATE */

Test(batch, a_truncate_marks_a_table_without_rows)
{
    insert(FULL, "1|a|b|c");
    cr_assert(pj_batch_truncate(batch, &tables[PLAIN]));
    cr_assert(batch->tables[PLAIN].truncated);
    cr_assert_not(batch->tables[FULL].truncated);
    cr_assert(pj_batch_has_rows(batch));
    cr_assert_not(batch->ends_at_commit);
    cr_assert(pj_batch_truncate(batch, &tables[PLAIN])); /* twice is once */
}

Test(batch, a_truncate_behind_rows_of_its_table_is_refused)
{
    insert(PLAIN, "1|a|b|c");
    delete (PLAIN, "1"); /* even where nothing is left of them */
    cr_assert_not(pj_batch_truncate(batch, &tables[PLAIN]));
    cr_assert_not(batch->tables[PLAIN].truncated);
}

Test(batch, nothing_is_left_to_change_after_a_truncate)
{
    cr_assert(pj_batch_truncate(batch, &tables[PLAIN]));
    assert_contradiction(PLAIN, PJ_UPDATE, "1", "1|a|b|c", "updates a row that is gone");
    assert_contradiction(PLAIN, PJ_DELETE, "2", NULL, "deletes a row that is gone");
}

Test(batch, rows_made_after_a_truncate_have_no_old)
{
    cr_assert(pj_batch_truncate(batch, &tables[PLAIN]));
    insert(PLAIN, "1|a|b|c");
    update(PLAIN, "1", "2|a|~|c");
    resolve();
    assert_pair(PLAIN, "1", NULL, NULL);
    assert_pair(PLAIN, "2", NULL, "2|a|b|c");
}

Test(batch, a_truncated_partition_leaves_rows_of_others_to_be_changed)
{
    char name[] = "public.p1", condition[] = "c0 < 10";
    cr_assert(pj_batch_truncate_partition(batch, &tables[PLAIN], name, condition));
    memset(name, 'x', sizeof name - 1); /* the texts were copied */
    memset(condition, 'x', sizeof condition - 1);
    cr_assert(pj_batch_truncate_partition(batch, &tables[PLAIN], "public.p2", "c0 > 90"));
    cr_assert(pj_batch_has_rows(batch));
    cr_assert_not(batch->ends_at_commit);
    const struct pj_emptied *emptied = batch->tables[PLAIN].emptied;
    cr_assert_not(batch->tables[PLAIN].truncated);
    cr_assert_str_eq(emptied->name, "public.p2");
    cr_assert_str_eq(emptied->next->name, "public.p1");
    cr_assert_str_eq(emptied->next->condition, "c0 < 10");
    cr_assert_null(emptied->next->next);
    update(PLAIN, "50", "50|a|b|c");
    cr_assert_eq(row_of(PLAIN, "50")->old_state, PJ_OLD_UNKNOWN);
    cr_assert_not(pj_batch_truncate_partition(batch, &tables[PLAIN], "public.p3", "true"));
}

/* ------------------------------------------------------------------------------------------- commits, size, reset */

Test(batch, remembers_the_last_commit_and_the_end_of_the_one_before)
{
    cr_assert(batch->ends_at_commit);
    insert(PLAIN, "1|a|b|c");
    cr_assert_not(batch->ends_at_commit);
    pj_batch_commit(batch, 0x100, 7, 1000);
    cr_assert(batch->ends_at_commit);
    cr_assert_eq(batch->floor_lsn, 0);
    pj_batch_commit(batch, 0x200, 8, 2000);
    cr_assert_eq(batch->floor_lsn, 0x100);
    cr_assert_eq(batch->end_lsn, 0x200);
    cr_assert_eq(batch->xid, 8);
    cr_assert_eq(batch->commit_us, 2000);
    cr_assert_eq(batch->transactions, 2);
    insert(PLAIN, "2|a|b|c");
    cr_assert_not(batch->ends_at_commit);
    cr_assert_eq(batch->end_lsn, 0x200);
}

Test(batch, has_rows_as_soon_as_there_is_something_to_write)
{
    cr_assert_not(pj_batch_has_rows(batch));
    pj_batch_commit(batch, 0x100, 7, 1000);
    cr_assert_not(pj_batch_has_rows(batch));
    insert(INDEXED, "1|x|b|c");
    cr_assert(pj_batch_has_rows(batch));
}

Test(batch, a_reset_forgets_everything)
{
    char row[64];
    for (int i = 0; i < 1000; i++) {
        snprintf(row, sizeof row, "%d|a|b|c", i);
        insert(PLAIN, row);
    }
    cr_assert(pj_batch_truncate(batch, &tables[FULL]));
    cr_assert(pj_batch_truncate_partition(batch, &tables[PAIR], "public.p", "true"));
    pj_batch_commit(batch, 0x100, 7, 1000);
    pj_batch_reset(batch, 1 << 20);
    cr_assert_not(pj_batch_has_rows(batch));
    cr_assert(batch->ends_at_commit);
    cr_assert_eq(batch->changes + batch->transactions + batch->end_lsn + batch->floor_lsn + batch->xid, 0);
    cr_assert_eq(batch->commit_us, 0);
    cr_assert_not(batch->tables[FULL].truncated);
    cr_assert_null(batch->tables[PAIR].emptied);
    update(PLAIN, "5", "5|a|b|c"); /* it is not the row 5 of before */
    cr_assert_eq(row_of(PLAIN, "5")->old_state, PJ_OLD_UNKNOWN);
    update(FULL, "1", "1|a|b|c");
    cr_assert_eq(row_of(FULL, "1")->old_state, PJ_OLD_UNKNOWN);
}

/* An empty batch that counted what it keeps for later use could be full before it has taken anything, and for ever. */
Test(batch, an_empty_batch_has_no_size_whatever_it_held_before)
{
    char row[64];
    for (int table = 0; table < TABLES; table++) {
        for (int i = 0; i < 20000; i++) {
            snprintf(row, sizeof row, "%d|%d|b|c", i, i);
            insert(table, row);
        }
        cr_assert_gt(pj_batch_bytes(batch), 20000 * 100);
        pj_batch_reset(batch, 1 << 20);
        cr_assert_eq(pj_batch_bytes(batch), 0, "%zu bytes", pj_batch_bytes(batch));
    }
}

Test(batch, its_size_grows_with_every_row_and_covers_what_is_allocated)
{
    char row[64];
    size_t before = 0;
    for (int i = 0; i < 5000; i++) {
        snprintf(row, sizeof row, "%d|a|b|c", i);
        insert(PLAIN, row);
        cr_assert_gt(pj_batch_bytes(batch), before);
        before = pj_batch_bytes(batch);
        const struct pj_table_rows *rows = &batch->tables[PLAIN];
        if (i >= 1000) /* the first few have room for more */
            cr_assert_geq(before, batch->arena.used + (rows->count + rows->nslots) * sizeof(struct pj_row *));
    }
}

Test(batch, a_reset_keeps_only_so_much)
{
    char row[64];
    for (int i = 0; i < 50000; i++) {
        snprintf(row, sizeof row, "%d|a|b|c", i);
        insert(PLAIN, row);
    }
    pj_batch_reset(batch, 4 << 20);
    cr_assert_leq(batch->tables[PLAIN].nslots * sizeof(struct pj_row *), (4 << 20) / 8);
    insert(PLAIN, "1|a|b|c");
    pj_batch_reset(batch, 0);
    cr_assert_eq(batch->tables[PLAIN].nslots, 0);
    insert(PLAIN, "1|a|b|c");
    resolve();
    assert_pair(PLAIN, "1", NULL, "1|a|b|c");
}

/* Large and small batches in turn: what one of them leaves behind must not be seen by the next. */
Test(batch, may_be_used_again_and_again)
{
    static const int sizes[] = {5000, 1, 3, 300, 1, 0, 20000, 2, 127, 128, 129, 1};
    char row[64], identity[16];
    for (size_t round = 0; round < sizeof sizes / sizeof *sizes; round++) {
        for (int i = 0; i < sizes[round]; i++) {
            snprintf(row, sizeof row, "%d|%zu|b|c", i * 7919, round);
            insert(PLAIN, row);
        }
        cr_assert_eq(batch->tables[PLAIN].count, (size_t)sizes[round]);
        for (int i = 0; i < sizes[round]; i++) {
            snprintf(identity, sizeof identity, "%d", i * 7919);
            snprintf(row, sizeof row, "%d|%zu|~|d", i * 7919, round);
            update(PLAIN, identity, row);
        }
        cr_assert_eq(batch->tables[PLAIN].count, (size_t)sizes[round]);
        for (int i = 0; i < sizes[round]; i++) {
            const struct pj_row *made = batch->tables[PLAIN].rows[i];
            snprintf(row, sizeof row, "%d|%zu|b|d", i * 7919, round);
            cr_assert_str_eq(batch_text(made->new_row, 4), row);
            cr_assert_eq(made->old_state, PJ_OLD_NONE);
        }
        update(PLAIN, "never", "never|a|b|c");
        cr_assert_eq(row_of(PLAIN, "never")->old_state, PJ_OLD_UNKNOWN);
        pj_batch_reset(batch, 64 << 10);
    }
}

Test(batch, rows_are_found_among_very_many)
{
    enum { MANY = 100000 };
    char row[64], identity[16];
    for (int i = 0; i < MANY; i++) {
        snprintf(row, sizeof row, "%d|a|b|c", i);
        insert(PLAIN, row);
    }
    for (int i = 0; i < MANY; i += 2) {
        snprintf(identity, sizeof identity, "%d", i);
        delete (PLAIN, identity);
    }
    cr_assert_eq(batch->tables[PLAIN].count, MANY);
    for (int i = 0; i < MANY; i++)
        cr_assert_eq(batch->tables[PLAIN].rows[i]->new_row == NULL, i % 2 == 0);
}

/* ---------------------------------------------------------------------------------------------------------- sorting */

Test(batch, sorts_rows_by_the_bytes_of_their_identity)
{
    insert(PLAIN, "b|1|b|c");
    insert(PLAIN, "\xff|1|b|c"); /* bytes are unsigned */
    insert(PLAIN, "ab|1|b|c");
    insert(PLAIN, "|1|b|c");
    insert(PLAIN, "a|1|b|c");
    insert(PLAIN, "eight---x|1|b|c");
    insert(PLAIN, "eight---|1|b|c");
    insert(PLAIN, "eight---a|1|b|c");
    pj_batch_sort(batch);
    static const char *const order[] = {"", "a", "ab", "b", "eight---", "eight---a", "eight---x", "\xff"};
    for (size_t i = 0; i < sizeof order / sizeof *order; i++)
        cr_assert_str_eq(batch_text(batch->tables[PLAIN].rows[i]->identity, 1), order[i]);
}

Test(batch, sorts_by_the_first_key_column_first)
{
    insert(PAIR, "b|a|b|c");
    insert(PAIR, "a|b|b|c");
    insert(PAIR, "ab|a|b|c");
    insert(PAIR, "a|a|b|c");
    pj_batch_sort(batch);
    static const char *const order[] = {"a|a", "a|b", "ab|a", "b|a"};
    for (size_t i = 0; i < sizeof order / sizeof *order; i++)
        cr_assert_str_eq(batch_text(batch->tables[PAIR].rows[i]->identity, 2), order[i]);
}

Test(batch, what_is_sorted_is_still_found)
{
    insert(PLAIN, "2|a|b|c");
    insert(PLAIN, "1|a|b|c");
    pj_batch_sort(batch);
    update(PLAIN, "2", "2|x|~|c");
    for (int i = 3; i < 1000; i++) { /* and while the table grows */
        char row[64];
        snprintf(row, sizeof row, "%d|a|b|c", i);
        insert(PLAIN, row);
    }
    delete (PLAIN, "1");
    resolve();
    assert_pair(PLAIN, "1", NULL, NULL);
    assert_pair(PLAIN, "2", NULL, "2|x|b|c");
}

/* Long ones with much in common, short ones, and numbers: each against its predecessor. */
Test(batch, sorts_many_rows_as_it_sorts_few)
{
    static const char *const forms[] = {"%u", "common prefix %u", "%08x", "\x7f%u", "%u and what follows"};
    char row[96];
    unsigned state = 12345;
    for (size_t form = 0; form < sizeof forms / sizeof *forms; form++)
        for (int i = 0; i < 1500; i++) {
            char key[64];
            state = state * 1664525u + 1013904223u;
            snprintf(key, sizeof key, forms[form], i < 10 ? (unsigned)i : state >> (state % 29));
            snprintf(row, sizeof row, "%s|%d|b|c", key, i);
            (void)collect(PLAIN, PJ_INSERT, NULL, NULL, row); /* twins are refused */
            snprintf(row, sizeof row, "%s|%d|b|c", i % 3 ? "same first key" : key, i);
            (void)collect(PAIR, PJ_INSERT, NULL, NULL, row);
        }
    size_t counts[] = {batch->tables[PLAIN].count, batch->tables[PAIR].count};
    pj_batch_sort(batch);
    for (int table = PLAIN; table <= PAIR; table++) {
        const struct pj_table_rows *rows = &batch->tables[table];
        cr_assert_eq(rows->count, counts[table]);
        for (size_t i = 1; i < rows->count; i++) {
            int order = 0;
            for (int k = 0; !order && k < rows->table->nidentity; k++) {
                const struct pj_value *a = &rows->rows[i - 1]->identity[k], *b = &rows->rows[i]->identity[k];
                size_t shorter = (size_t)(a->length < b->length ? a->length : b->length);
                order = memcmp(a->data, b->data, shorter);
                order = order ? order : a->length - b->length;
            }
            cr_assert_lt(order, 0, "row %zu of %s", i, rows->table->name);
        }
    }
}

/* Only new rows, and only where they are many; those of one value keep the order in which they came. */
Test(batch, sorts_new_rows_by_the_insert_order)
{
    enum { MANY = 1000 };
    char row[64], identity[16];
    tables[PLAIN].insert_order = 1 + 1;
    for (int i = 0; i < MANY; i++) {
        snprintf(row, sizeof row, "%d|g%d|b|%d", (i * 7919) % MANY, i % 3, i);
        insert(PLAIN, row);
        snprintf(identity, sizeof identity, "old%d", (i * 7919) % MANY);
        delete (PLAIN, identity);
    }
    pj_batch_sort(batch);
    const struct pj_row *last_new = NULL, *last_old = NULL;
    for (size_t i = 0; i < batch->tables[PLAIN].count; i++) {
        const struct pj_row *now = batch->tables[PLAIN].rows[i], **last = now->new_row ? &last_new : &last_old;
        if (*last && now->new_row) {
            int order = memcmp((*last)->new_row[1].data, now->new_row[1].data, 2);
            cr_assert_leq(order, 0);
            cr_assert(order || atoi(batch_text(&(*last)->new_row[3], 1)) < atoi(batch_text(&now->new_row[3], 1)));
        } else if (*last) {
            cr_assert_lt(strcmp(batch_text((*last)->identity, 1), batch_text(now->identity, 1)), 0);
        }
        *last = now;
    }
}
