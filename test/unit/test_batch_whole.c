/* The batch as a whole: TRUNCATE, commits, its size, and its use again and again. */
#include "reference/batch_stage.h"

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
