/*
 * The stage of the intake's tests: an intake whose decoder takes messages that say themselves what they mean, and what may
 * come of them. One for each program.
 */
#ifndef PJ_TEST_INTAKE_STAGE_H
#define PJ_TEST_INTAKE_STAGE_H

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

static inline bool look_up(struct fake *fake, const char *relation, const struct pj_table **table)
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

static inline int decode(struct pj_decoder *decoder, const char *message, size_t length, pj_lsn lsn,
                         struct pj_arena *arena, struct pj_row_change *change, struct pj_error *error)
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

static inline void set_up(void)
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

static inline void tear_down(void)
{
    pj_intake_learn(&intake, NULL, NULL);
    pj_batch_free(intake.batch);
    pj_table_free(&fake.tables[0]);
    pj_table_free(&fake.tables[1]);
}

TestSuite(intake, .init = set_up, .fini = tear_down);

/* A fresh connection; what was collected is gone, as with every failure. */
static inline void connect_at(pj_lsn lsn, uint32_t witness_xid, int64_t witness_time, bool witness_expected)
{
    struct pj_checkpoint checkpoint = {.complete = true, .lsn = lsn, .witness_xid = witness_xid, .witness_lsn = lsn};
    checkpoint.witness_time_us = witness_time;
    pj_batch_reset(intake.batch, 1 << 20);
    pj_error_clear(&error);
    pj_intake_begin(&intake, &checkpoint, witness_expected);
}

static inline int take(struct script script)
{
    struct pj_copydata message = {.kind = PJ_COPYDATA_XLOG, .start = script.end};
    message.payload = (const char *)&script;
    message.length = sizeof script;
    return pj_intake_message(&intake, &message, &outcome, &error);
}

static inline void taken(struct script script, enum pj_intake_outcome expected)
{
    cr_assert_eq(take(script), PJ_OK, "%s", error.message);
    cr_assert_eq(outcome, expected, "outcome %d, not %d", outcome, expected);
}

static inline struct script begin(uint32_t xid)
{
    return (struct script){.action = PJ_BEGIN, .xid = xid};
}

static inline struct script commit(uint32_t xid, pj_lsn end, int64_t time)
{
    return (struct script){.action = PJ_COMMIT, .xid = xid, .end = end, .time = time};
}

static inline struct script insert(const char *relation, const char *row)
{
    return (struct script){.action = PJ_INSERT, .relation = relation, .row = row};
}

static inline struct script truncate_of(const char *relation)
{
    return (struct script){.action = PJ_TRUNCATE, .relation = relation};
}

/* A whole transaction of one row that is taken, or skipped. */
static inline void transaction(uint32_t xid, pj_lsn end, int64_t time, const char *row, enum pj_intake_outcome expected)
{
    taken(begin(xid), PJ_INTAKE_MORE);
    taken(insert("messages", row), PJ_INTAKE_MORE);
    taken(commit(xid, end, time), expected);
}

static inline void refused(struct script script, int code, const char *why)
{
    cr_assert_eq(take(script), code, "%s: %s", pj_code_name(error.code), error.message);
    cr_assert(strstr(error.message, why), "%s", error.message);
}

static inline void assert_gap(int code)
{
    cr_assert_eq(code, PJ_EGAP, "%s: %s", pj_code_name(code), error.message);
    cr_assert_not(error.retryable);
    cr_assert(strstr(error.hint, "resync"), "names the remedy: %s", error.hint);
}

/* Rows of `bytes` in all, in the open transaction. */
static inline void rows_of(size_t bytes)
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

#endif
