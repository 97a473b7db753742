/* Which setups can take up a relay, and that its batches are theirs then. */
#include "core/relay.h"

#include "reference/batch_fixture.h"

#include <criterion/criterion.h>

enum { TABLES = 2 };

static const struct batch_table descriptions[TABLES] = {
    {"people", 2, 0x2, {0, -1}, {0, -1}, false},
    {"places", 3, 0x4, {0, -1}, {1, -1}, false},
};

static struct pj_table now[TABLES], then[TABLES];
static struct pj_setup former = {.tables = now, .ntables = TABLES}, next = {.tables = then, .ntables = TABLES};
static struct pj_relay *relay;
static struct pj_error error;

static struct pj_table table(int index, int description)
{
    struct pj_table made = batch_table(index, &descriptions[description]);
    for (int i = 0; i < made.ncolumns; i++)
        made.columns[i].type_sql = pj_strdup("pg_catalog.text");
    return made;
}

/* The next setup has the same tables, the other way round; a row of each has been collected. */
static void set_up(void)
{
    relay = pj_alloc(sizeof *relay);
    relay->setup = &former;
    for (int i = 0; i < TABLES; i++) {
        now[i] = table(i, i);
        then[i] = table(i, TABLES - 1 - i);
    }
    relay->collecting = pj_batch_new(now, TABLES);
    relay->again = pj_batch_new(now, TABLES);
    struct pj_batch *batch = relay->again;
    const char *rows[TABLES] = {"1|a", "2|b|c"};
    for (int i = 0; i < TABLES; i++) {
        struct pj_row_change change = batch_change(&batch->arena, &now[i], PJ_INSERT, NULL, NULL, rows[i]);
        cr_assert_eq(pj_batch_change(batch, &change, &error), PJ_OK, "%s", error.message);
    }
}

static void tear_down(void)
{
    pj_relay_free(relay);
    for (int i = 0; i < TABLES; i++) {
        pj_table_free(&now[i]);
        pj_table_free(&then[i]);
    }
}

TestSuite(relay, .init = set_up, .fini = tear_down);

Test(relay, what_was_collected_is_found_under_the_next_setups_tables)
{
    cr_assert(pj_relay_fits(relay, &next));
    for (int i = 0; i < TABLES; i++) {
        const struct pj_table_rows *rows = &relay->again->tables[i];
        cr_expect_eq(rows->table, &then[i]);
        cr_assert_eq(rows->count, 1);
        cr_expect_str_eq(batch_text(rows->rows[0]->new_row, then[i].ncolumns), i ? "1|a" : "2|b|c");
    }
}

Test(relay, another_column_type_does_not_fit)
{
    pj_free(then[0].columns[2].type_sql);
    then[0].columns[2].type_sql = pj_strdup("pg_catalog.varchar(10)");
    cr_expect_not(pj_relay_fits(relay, &next));
}

Test(relay, a_table_made_anew_or_with_another_identity_does_not_fit)
{
    then[1].oid = 4711;
    cr_expect_not(pj_relay_fits(relay, &next));
    then[1].oid = 0;
    then[0].identity[0] = 0;
    cr_expect_not(pj_relay_fits(relay, &next));
}

Test(relay, a_mirror_that_is_joining_or_one_more_does_not_fit)
{
    then[0].joining = true;
    cr_expect_not(pj_relay_fits(relay, &next));
    then[0].joining = false;
    former.ntables = 1;
    cr_expect_not(pj_relay_fits(relay, &next));
    former.ntables = TABLES;
    cr_expect(pj_relay_fits(relay, &next));
}
