/* The rows that were written last: what is remembered, and for whom it is forgotten. */
#include "core/rowcache.h"

#include "reference/batch_fixture.h"

#include <criterion/criterion.h>

enum { TABLE, TABLES };

static const struct batch_table description = {"plain", 2, 0, {0, -1}, {0, -1}, false};
static struct pj_table tables[TABLES];
static struct pj_batch *batch;
static struct pj_rowcache *cache;
static struct pj_error error;

static void set_up(void)
{
    tables[TABLE] = batch_table(TABLE, &description);
    batch = pj_batch_new(tables, TABLES);
    cache = pj_rowcache_new();
    pj_error_clear(&error);
}

static void tear_down(void)
{
    pj_rowcache_free(cache);
    pj_batch_free(batch);
    pj_table_free(&tables[TABLE]);
}

TestSuite(rowcache, .init = set_up, .fini = tear_down);

static struct pj_row *collect(enum pj_action action, const char *identity, const char *row)
{
    struct pj_row_change change = batch_change(&batch->arena, &tables[TABLE], action, identity, NULL, row);
    cr_assert_eq(pj_batch_change(batch, &change, &error), PJ_OK, "%s", error.message);
    return batch->tables[TABLE].rows[batch->tables[TABLE].count - 1];
}

static void written(void)
{
    cr_assert_eq(pj_batch_resolve(batch, &error), PJ_OK, "%s", error.message);
    pj_rowcache_learn(cache, batch);
    pj_batch_reset(batch, 0);
}

static void update(const char *identity, const char *old, const char *row)
{
    pj_batch_set_old(collect(PJ_UPDATE, identity, row), batch_values(&batch->arena, old, 2));
    written();
}

static void insert(const char *row)
{
    collect(PJ_INSERT, NULL, row);
    written();
}

/* What the cache has for a row that changes again; NULL: it has to be fetched. */
static const char *remembered(const char *identity)
{
    pj_batch_reset(batch, 0);
    struct pj_row *row = collect(PJ_DELETE, identity, NULL);
    pj_rowcache_fill(cache, batch);
    return row->old_state == PJ_OLD_KNOWN ? batch_text(row->old, 2) : NULL;
}

static void insert_very_many(void)
{
    for (int i = 0; i < 100000; i++) {
        char row[32];
        snprintf(row, sizeof row, "new%d|x", i);
        insert(row);
    }
}

Test(rowcache, knows_what_was_written_last)
{
    insert("1|a");
    cr_assert_str_eq(remembered("1"), "1|a");
    pj_batch_reset(batch, 0);
    update("1", "1|a", "1|b");
    cr_assert_str_eq(remembered("1"), "1|b");
    cr_assert_null(remembered("2"));
}

Test(rowcache, forgets_what_is_gone)
{
    insert("1|a");
    pj_batch_set_old(collect(PJ_DELETE, "1", NULL), batch_values(&batch->arena, "1|a", 2));
    written();
    cr_assert_null(remembered("1"));
}

Test(rowcache, new_rows_do_not_wash_out_one_that_has_changed)
{
    update("1", "1|a", "1|b");
    insert_very_many();
    cr_assert_str_eq(remembered("1"), "1|b");
}

Test(rowcache, new_rows_take_the_places_of_new_rows)
{
    insert("1|a");
    insert_very_many();
    cr_assert_null(remembered("1"));
    cr_assert_str_eq(remembered("new99999"), "new99999|x");
}

Test(rowcache, knows_nothing_any_more_when_cleared)
{
    update("1", "1|a", "1|b");
    pj_rowcache_clear(cache);
    cr_assert_null(remembered("1"));
}
