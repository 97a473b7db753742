/*
 * The stage of the batch's tests: a batch of four tables, what is collected in it, and the pairs that it makes of that.
 * One for each program.
 */
#ifndef PJ_TEST_BATCH_STAGE_H
#define PJ_TEST_BATCH_STAGE_H

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

static inline void set_up(void)
{
    for (int i = 0; i < TABLES; i++)
        tables[i] = batch_table(i, &descriptions[i]);
    batch = pj_batch_new(tables, TABLES);
    pj_error_clear(&error);
}

static inline void tear_down(void)
{
    pj_batch_free(batch);
    for (int i = 0; i < TABLES; i++)
        pj_table_free(&tables[i]);
}

TestSuite(batch, .init = set_up, .fini = tear_down);

static inline int collect(int table, enum pj_action action, const char *identity, const char *old_row, const char *row)
{
    struct pj_row_change change = batch_change(&batch->arena, &tables[table], action, identity, old_row, row);
    return pj_batch_change(batch, &change, &error);
}

static inline void insert(int table, const char *row)
{
    cr_assert_eq(collect(table, PJ_INSERT, NULL, NULL, row), PJ_OK, "INSERT %s: %s", row, error.message);
}

static inline void update(int table, const char *identity, const char *row)
{
    cr_assert_eq(collect(table, PJ_UPDATE, identity, NULL, row), PJ_OK, "UPDATE %s: %s", row, error.message);
}

static inline void update_full(const char *old_row, const char *row)
{
    cr_assert_eq(collect(FULL, PJ_UPDATE, NULL, old_row, row), PJ_OK, "UPDATE %s: %s", row, error.message);
}

static inline void delete (int table, const char *identity)
{
    cr_assert_eq(collect(table, PJ_DELETE, identity, NULL, NULL), PJ_OK, "DELETE %s: %s", identity, error.message);
}

static inline struct pj_row *row_of(int table, const char *identity)
{
    struct pj_row *row = batch_row(batch, table, identity);
    cr_assert_not_null(row, "%s has no row %s", tables[table].name, identity);
    return row;
}

/* The mirror had this row. */
static inline void fetch(int table, const char *identity, const char *old)
{
    struct pj_row *row = row_of(table, identity);
    cr_assert_eq(row->old_state, PJ_OLD_UNKNOWN, "row %s is not wanted", identity);
    pj_batch_set_old(row, batch_values(&batch->arena, old, tables[table].ncolumns));
}

static inline void resolve(void)
{
    cr_assert_eq(pj_batch_resolve(batch, &error), PJ_OK, "%s", error.message);
}

static inline bool same_text(const char *a, const char *b)
{
    return a && b ? strcmp(a, b) == 0 : a == b;
}

static inline void assert_pair(int table, const char *identity, const char *old, const char *new_row)
{
    const struct pj_row *row = row_of(table, identity);
    const char *got_old = batch_text(row->old, tables[table].ncolumns);
    const char *got_new = batch_text(row->new_row, tables[table].ncolumns);
    cr_assert(same_text(got_old, old), "row %s: old is %s, not %s", identity, got_old ? got_old : "none", old);
    cr_assert(same_text(got_new, new_row), "row %s: new is %s, not %s", identity, got_new ? got_new : "none", new_row);
}

static inline void assert_contradiction(int table, enum pj_action action, const char *identity, const char *row,
                                        const char *why)
{
    cr_assert_eq(collect(table, action, identity, NULL, row), PJ_EDATA);
    cr_assert(strstr(error.message, why), "%s", error.message);
    cr_assert(strstr(error.message, tables[table].name), "names its table: %s", error.message);
    cr_assert_neq(error.hint[0], '\0');
    cr_assert_not(error.retryable);
}

#endif
