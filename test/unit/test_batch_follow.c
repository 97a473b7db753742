/* What the batch before has made of rows that this one changes again: pj_batch_follow. */
#include "core/batch.h"

#include "reference/batch_fixture.h"

#include <criterion/criterion.h>

enum { PLAIN, TABLES };

static const struct batch_table description = {"plain", 4, 0xc, {0, -1}, {0, -1}, false};
static struct pj_table tables[TABLES];
static struct pj_batch *before, *batch;
static struct pj_error error;

static void set_up(void)
{
    tables[PLAIN] = batch_table(PLAIN, &description);
    before = pj_batch_new(tables, TABLES);
    batch = pj_batch_new(tables, TABLES);
    pj_error_clear(&error);
}

static void tear_down(void)
{
    pj_batch_free(before);
    pj_batch_free(batch);
    pj_table_free(&tables[PLAIN]);
}

TestSuite(batch_follow, .init = set_up, .fini = tear_down);

static void collect(struct pj_batch *into, enum pj_action action, const char *identity, const char *row)
{
    struct pj_row_change change = batch_change(&into->arena, &tables[PLAIN], action, identity, NULL, row);
    cr_assert_eq(pj_batch_change(into, &change, &error), PJ_OK, "%s", error.message);
}

static void follow(void)
{
    cr_assert_eq(pj_batch_resolve(before, &error), PJ_OK, "%s", error.message);
    pj_batch_follow(batch, before, SIZE_MAX);
}

static void assert_old(const char *identity, enum pj_old_state state, const char *old)
{
    const struct pj_row *row = batch_row(batch, PLAIN, identity);
    cr_assert_eq(row->old_state, state, "row %s", identity);
    if (old)
        cr_assert_str_eq(batch_text(row->old, tables[PLAIN].ncolumns), old);
}

Test(batch_follow, a_row_written_before_has_its_old_from_there)
{
    collect(before, PJ_INSERT, NULL, "1|a|b|c");
    collect(before, PJ_UPDATE, "1", "1|a|B|c");
    collect(batch, PJ_UPDATE, "1", "1|z|B|c");
    follow();
    assert_old("1", PJ_OLD_KNOWN, "1|a|B|c");
}

Test(batch_follow, what_the_batch_before_left_out_is_filled_in)
{
    collect(before, PJ_UPDATE, "1", "1|a|B|~");
    pj_batch_set_old(batch_row(before, PLAIN, "1"), batch_values(&before->arena, "1|x|y|toast", 4));
    collect(batch, PJ_DELETE, "1", NULL);
    follow();
    assert_old("1", PJ_OLD_KNOWN, "1|a|B|toast");
}

Test(batch_follow, a_row_that_was_not_touched_before_stays_unknown)
{
    collect(before, PJ_INSERT, NULL, "1|a|b|c");
    collect(batch, PJ_UPDATE, "2", "2|z|b|c");
    follow();
    assert_old("2", PJ_OLD_UNKNOWN, NULL);
}

Test(batch_follow, a_new_row_has_no_old_though_one_of_its_key_was_there)
{
    collect(before, PJ_DELETE, "1", NULL);
    pj_batch_set_old(batch_row(before, PLAIN, "1"), batch_values(&before->arena, "1|x|y|z", 4));
    collect(batch, PJ_INSERT, NULL, "1|a|b|c");
    follow();
    assert_old("1", PJ_OLD_NONE, NULL);
}

Test(batch_follow, a_change_to_a_row_that_is_gone_is_a_contradiction)
{
    collect(before, PJ_DELETE, "1", NULL);
    pj_batch_set_old(batch_row(before, PLAIN, "1"), batch_values(&before->arena, "1|x|y|z", 4));
    collect(batch, PJ_UPDATE, "1", "1|a|b|c");
    follow();
    cr_assert_eq(pj_batch_resolve(batch, &error), PJ_EDATA);
}

/* The one before is reset while this one is still being written. */
Test(batch_follow, what_was_taken_over_outlives_the_batch_before)
{
    collect(before, PJ_INSERT, NULL, "1|a|b|c");
    collect(batch, PJ_UPDATE, "1", "1|z|b|c");
    follow();
    pj_batch_reset(before, 0);
    collect(before, PJ_INSERT, NULL, "9|other|other|other");
    assert_old("1", PJ_OLD_KNOWN, "1|a|b|c");
}
