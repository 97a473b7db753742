/* From messages to a batch: what is skipped, what is taken, what is handed back, and when the server is not the one
 * we left. */
#include "core/intake.h"

#include "reference/batch_fixture.h"

#include <criterion/criterion.h>

/* --------------------------------------------------------------------------------------------------- a fake decoder */

/* What a message says; it is its own payload. */
struct script {
    enum pj_action action;
    uint32_t xid;
    pj_lsn end;
    int64_t time;
    const char *relation; /* "messages", "leaf" (a partition of it), "other", "ignored", "stranger" */
    const char *identity, *row;
    size_t ballast; /* bytes that decoding takes in the arena besides */
};

struct fake {
    struct pj_decoder decoder;
    struct pj_table tables[2];
    bool stranger_known, broken;
    int decoded;
};

static bool look_up(struct fake *fake, const char *relation, const struct pj_table **table)
{
    *table = NULL;
    if (strcmp(relation, "messages") == 0 || strncmp(relation, "leaf", 4) == 0)
        *table = &fake->tables[0];
    else if (strcmp(relation, "other") == 0)
        *table = &fake->tables[1];
    else if (strcmp(relation, "stranger") == 0)
        return fake->stranger_known;
    return true;
}

static int decode(struct pj_decoder *decoder, const char *message, size_t length, pj_lsn lsn, struct pj_arena *arena,
                  struct pj_row_change *change, struct pj_error *error)
{
    struct fake *fake = (struct fake *)decoder;
    struct script script;
    cr_assert_eq(length, sizeof script);
    memcpy(&script, message, sizeof script);
    (void)lsn;
    fake->decoded++;
    if (fake->broken)
        return pj_error_set(error, PJ_EDATA, "nonsense");
    *change = (struct pj_row_change){
        .action = script.action, .xid = script.xid, .end_lsn = script.end, .commit_us = script.time};
    if (!script.relation)
        return PJ_OK;
    const struct pj_table *table;
    bool known = look_up(fake, script.relation, &table);
    if (table)
        *change = batch_change(arena, table, script.action, script.identity, NULL, script.row);
    if (!known)
        change->action = PJ_UNKNOWN_RELATION;
    change->schema = "public";
    change->name = script.relation;
    if (script.ballast)
        memset(pj_arena_alloc(arena, script.ballast), 0, script.ballast);
    return PJ_OK;
}

/* -------------------------------------------------------------------------------------------------------- the stage */

enum { CAP = 256 << 10 };

static struct fake fake;
static struct pj_intake intake;
static struct pj_error error;
static enum pj_intake_outcome outcome;

static void set_up(void)
{
    static const struct batch_table messages = {"messages", 3, 4, {0, -1}, {0, -1}, false};
    static const struct batch_table other = {"other", 3, 4, {0, -1}, {0, -1}, false};
    fake = (struct fake){.decoder = {.plugin = "fake", .decode = decode}};
    fake.tables[0] = batch_table(0, &messages);
    fake.tables[1] = batch_table(1, &other);
    intake = (struct pj_intake){.decoder = &fake.decoder, .batch_bytes = CAP};
    intake.batch = pj_batch_new(fake.tables, 2);
    pj_error_clear(&error);
}

static void tear_down(void)
{
    pj_intake_learn(&intake, NULL, NULL);
    pj_batch_free(intake.batch);
    pj_table_free(&fake.tables[0]);
    pj_table_free(&fake.tables[1]);
}

TestSuite(intake, .init = set_up, .fini = tear_down);

/* A fresh connection; what was collected is gone, as with every failure. */
static void connect_at(pj_lsn lsn, uint32_t witness_xid, int64_t witness_time, bool witness_expected)
{
    struct pj_checkpoint checkpoint = {.complete = true, .lsn = lsn, .witness_xid = witness_xid, .witness_lsn = lsn};
    checkpoint.witness_time_us = witness_time;
    pj_batch_reset(intake.batch, 1 << 20);
    pj_error_clear(&error);
    pj_intake_begin(&intake, &checkpoint, witness_expected);
}

static int take(struct script script)
{
    struct pj_copydata message = {.kind = PJ_COPYDATA_XLOG, .start = script.end};
    message.payload = (const char *)&script;
    message.length = sizeof script;
    return pj_intake_message(&intake, &message, &outcome, &error);
}

static void taken(struct script script, enum pj_intake_outcome expected)
{
    cr_assert_eq(take(script), PJ_OK, "%s", error.message);
    cr_assert_eq(outcome, expected, "outcome %d, not %d", outcome, expected);
}

static struct script begin(uint32_t xid)
{
    return (struct script){.action = PJ_BEGIN, .xid = xid};
}

static struct script commit(uint32_t xid, pj_lsn end, int64_t time)
{
    return (struct script){.action = PJ_COMMIT, .xid = xid, .end = end, .time = time};
}

static struct script insert(const char *relation, const char *row)
{
    return (struct script){.action = PJ_INSERT, .relation = relation, .row = row};
}

static struct script truncate_of(const char *relation)
{
    return (struct script){.action = PJ_TRUNCATE, .relation = relation};
}

/* A whole transaction of one row that is taken, or skipped. */
static void transaction(uint32_t xid, pj_lsn end, int64_t time, const char *row, enum pj_intake_outcome expected)
{
    taken(begin(xid), PJ_INTAKE_MORE);
    taken(insert("messages", row), PJ_INTAKE_MORE);
    taken(commit(xid, end, time), expected);
}

static void refused(struct script script, int code, const char *why)
{
    cr_assert_eq(take(script), code, "%s: %s", pj_code_name(error.code), error.message);
    cr_assert(strstr(error.message, why), "%s", error.message);
}

static void assert_gap(int code)
{
    cr_assert_eq(code, PJ_EGAP, "%s: %s", pj_code_name(code), error.message);
    cr_assert_not(error.retryable);
    cr_assert(strstr(error.hint, "resync"), "names the remedy: %s", error.hint);
}

/* Rows of `bytes` in all, in the open transaction. */
static void rows_of(size_t bytes)
{
    enum { PIECE = 4096 };
    char row[32];
    static int serial;
    for (size_t sent = 0; sent < bytes; sent += PIECE) {
        snprintf(row, sizeof row, "%d|a|b", serial++);
        struct script script = insert("messages", row);
        script.ballast = PIECE;
        taken(script, PJ_INTAKE_MORE);
    }
}

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

/* -------------------------------------------------------------------------------- a huge transaction of unknown end */

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

/* --------------------------------------------------------------------------------------------------------- TRUNCATE */

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
