/* The order in which a batch's rows are written. */
#include "reference/batch_stage.h"

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
