/* TRUNCATE splits the batch; of partitions it is to be known what of their root they hold. */
#include "reference/intake_stage.h"

static void past_the_checkpoint(void)
{
    connect_at(0x100, 0, 0, false);
    taken(begin(5), PJ_INTAKE_MORE);
    taken(commit(5, 0x200, 0), PJ_INTAKE_COMMIT);
    taken(begin(6), PJ_INTAKE_MORE);
}

/* What the pipeline does on a SPLIT: the batch is applied, the collecting one is empty. */
static void apply_part(void)
{
    pj_batch_reset(intake.batch, 1 << 20);
    intake.batch->ends_at_commit = false;
}

Test(intake, a_truncate_before_rows_is_taken)
{
    past_the_checkpoint();
    taken(insert("other", "1|a|b"), PJ_INTAKE_MORE);
    taken(truncate_of("messages"), PJ_INTAKE_MORE);
    cr_assert(intake.batch->tables[0].truncated);
    cr_assert_not(intake.batch->tables[1].truncated);
}

Test(intake, a_truncate_behind_rows_splits_and_is_handed_in_again)
{
    past_the_checkpoint();
    taken(insert("messages", "1|a|b"), PJ_INTAKE_MORE);
    taken(truncate_of("messages"), PJ_INTAKE_SPLIT);
    cr_assert_not(intake.batch->tables[0].truncated);
    apply_part();
    taken(truncate_of("messages"), PJ_INTAKE_MORE);
    cr_assert(intake.batch->tables[0].truncated);
    taken(insert("messages", "1|a|b"), PJ_INTAKE_MORE);
    taken(commit(6, 0x300, 0), PJ_INTAKE_COMMIT);
}

Test(intake, the_partitions_of_a_truncated_root_need_no_look_up)
{
    past_the_checkpoint();
    taken(truncate_of("messages"), PJ_INTAKE_MORE);
    taken(truncate_of("leaf"), PJ_INTAKE_MORE);
    taken(truncate_of("leaf2"), PJ_INTAKE_MORE);
    cr_assert_null(intake.batch->tables[0].emptied);
}

Test(intake, a_partition_truncated_behind_the_root_and_new_rows_is_looked_up)
{
    past_the_checkpoint();
    taken(truncate_of("messages"), PJ_INTAKE_MORE);
    taken(insert("messages", "1|a|b"), PJ_INTAKE_MORE);
    taken(truncate_of("leaf"), PJ_INTAKE_PARTITION);
    pj_intake_learn(&intake, pj_strdup("c0 < 10"), pj_strdup("public.messages"));
    taken(truncate_of("leaf"), PJ_INTAKE_SPLIT);
}

Test(intake, a_partition_truncated_by_itself_is_looked_up)
{
    past_the_checkpoint();
    taken(truncate_of("leaf"), PJ_INTAKE_PARTITION);
    cr_assert_str_eq(intake.unknown_schema, "public");
    cr_assert_str_eq(intake.unknown_name, "leaf");
    cr_assert_null(intake.batch->tables[0].emptied);
    pj_intake_learn(&intake, pj_strdup("c0 < 10"), pj_strdup("public.messages"));
    taken(truncate_of("leaf"), PJ_INTAKE_MORE);
    const struct pj_emptied *emptied = intake.batch->tables[0].emptied;
    cr_assert_not_null(emptied);
    cr_assert_str_eq(emptied->name, "public.leaf");
    cr_assert_str_eq(emptied->condition, "c0 < 10");
    cr_assert_not(intake.batch->tables[0].truncated);
}

Test(intake, what_was_learned_of_a_partition_serves_once)
{
    past_the_checkpoint();
    taken(truncate_of("leaf"), PJ_INTAKE_PARTITION);
    pj_intake_learn(&intake, pj_strdup("c0 < 10"), pj_strdup("public.messages"));
    taken(truncate_of("leaf"), PJ_INTAKE_MORE);
    taken(truncate_of("leaf"), PJ_INTAKE_PARTITION); /* its bounds may be others by now */
    pj_intake_learn(&intake, pj_strdup("c0 < 11"), pj_strdup("public.messages"));
    taken(truncate_of("leaf2"), PJ_INTAKE_PARTITION); /* that was another one's */
}

Test(intake, what_was_learned_of_a_partition_does_not_outlive_the_connection)
{
    past_the_checkpoint();
    taken(truncate_of("leaf"), PJ_INTAKE_PARTITION);
    pj_intake_learn(&intake, pj_strdup("c0 < 10"), pj_strdup("public.messages"));
    past_the_checkpoint();
    taken(truncate_of("leaf"), PJ_INTAKE_PARTITION);
}

Test(intake, a_partition_truncated_behind_rows_splits_and_is_not_looked_up_twice)
{
    past_the_checkpoint();
    taken(insert("messages", "1|a|b"), PJ_INTAKE_MORE);
    taken(truncate_of("leaf"), PJ_INTAKE_PARTITION);
    pj_intake_learn(&intake, pj_strdup("c0 < 10"), pj_strdup("public.messages"));
    taken(truncate_of("leaf"), PJ_INTAKE_SPLIT);
    apply_part();
    taken(truncate_of("leaf"), PJ_INTAKE_MORE);
    cr_assert_not_null(intake.batch->tables[0].emptied);
}

Test(intake, what_lies_below_a_truncated_partition_is_covered_by_it)
{
    past_the_checkpoint();
    taken(truncate_of("leaf"), PJ_INTAKE_PARTITION);
    pj_intake_learn(&intake, pj_strdup("c0 < 10"), pj_strdup("public.messages"));
    taken(truncate_of("leaf"), PJ_INTAKE_MORE);
    taken(truncate_of("leaf_1"), PJ_INTAKE_PARTITION);
    pj_intake_learn(&intake, NULL, pj_strdup("public.messages\npublic.leaf"));
    taken(truncate_of("leaf_1"), PJ_INTAKE_MORE);
    cr_assert_null(intake.batch->tables[0].emptied->next);
}

Test(intake, a_name_that_only_begins_or_ends_like_an_ancestor_covers_nothing)
{
    static const char *const ancestors[] = {"public.messages\npublic.leaf1", "public.messages\nxpublic.leaf",
                                            "public.leaf1\nmypublic.leaf\npublic.messages"};
    for (size_t i = 0; i < sizeof ancestors / sizeof *ancestors; i++) {
        past_the_checkpoint();
        taken(truncate_of("leaf"), PJ_INTAKE_PARTITION);
        pj_intake_learn(&intake, pj_strdup("c0 < 10"), pj_strdup("public.messages"));
        taken(truncate_of("leaf"), PJ_INTAKE_MORE);
        taken(truncate_of("leaf_1"), PJ_INTAKE_PARTITION);
        pj_intake_learn(&intake, pj_strdup("c0 = 5"), pj_strdup(ancestors[i]));
        taken(truncate_of("leaf_1"), PJ_INTAKE_MORE);
        cr_assert_str_eq(intake.batch->tables[0].emptied->condition, "c0 = 5");
    }
}

Test(intake, rows_written_since_end_the_cover)
{
    past_the_checkpoint();
    taken(truncate_of("leaf"), PJ_INTAKE_PARTITION);
    pj_intake_learn(&intake, pj_strdup("c0 < 10"), pj_strdup("public.messages"));
    taken(truncate_of("leaf"), PJ_INTAKE_MORE);
    taken(insert("messages", "1|a|b"), PJ_INTAKE_MORE);
    taken(truncate_of("leaf_1"), PJ_INTAKE_PARTITION);
    pj_intake_learn(&intake, pj_strdup("c0 = 5"), pj_strdup("public.messages\npublic.leaf"));
    taken(truncate_of("leaf_1"), PJ_INTAKE_SPLIT);
}

Test(intake, a_partition_without_a_condition_is_refused_by_name)
{
    past_the_checkpoint();
    taken(truncate_of("leaf"), PJ_INTAKE_PARTITION);
    pj_intake_learn(&intake, NULL, pj_strdup("public.messages"));
    refused(truncate_of("leaf"), PJ_ESCHEMA, "public.leaf");
    cr_assert(strstr(error.hint, "resync"), "%s", error.hint);
}

/* It was applied in its time; that its partition is gone by now is of no concern. */
Test(intake, a_partition_without_a_condition_in_what_is_skipped_is_no_fault)
{
    connect_at(0x300, 0, 0, false);
    taken(begin(5), PJ_INTAKE_MORE);
    taken(truncate_of("leaf"), PJ_INTAKE_PARTITION);
    pj_intake_learn(&intake, NULL, pj_strdup("public.messages"));
    taken(truncate_of("leaf"), PJ_INTAKE_MORE);
    taken(commit(5, 0x300, 0), PJ_INTAKE_MORE);
    cr_assert_eq(intake.skipped, 1);
}

Test(intake, a_partition_without_a_condition_of_a_transaction_that_proves_new_is_refused_by_name)
{
    for (int pass = 0; pass < 2; pass++) {
        connect_at(0x300, 0, 0, false);
        taken(begin(5), PJ_INTAKE_MORE);
        taken(truncate_of("leaf"), PJ_INTAKE_PARTITION);
        pj_intake_learn(&intake, NULL, pj_strdup("public.messages"));
        if (pass == 1) {
            refused(truncate_of("leaf"), PJ_ESCHEMA, "public.leaf");
            break;
        }
        taken(truncate_of("leaf"), PJ_INTAKE_MORE);
        cr_assert(take(commit(5, 0x400, 0)) != PJ_OK && error.retryable, "%s", error.message);
    }
}
