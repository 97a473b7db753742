/* How much goes into one statement: by rows, and by bytes where rows are large. */
#include "core/writer.h"

#include "reference/batch_fixture.h"

#include <criterion/criterion.h>

enum { TABLE, TABLES, ROWS = 40, LARGE = 300 * 1024, LIMIT = 512 * 1024 };

static const struct batch_table description = {"texts", 2, 0x2, {0, -1}, {0, -1}, false};
static struct pj_table tables[TABLES];
static struct pj_setup setup = {.tables = tables, .ntables = TABLES};
static size_t statements, largest;
static char last_statement[32];
static int32_t last_key; /* bytes of the last statement's first parameter */

static void measure(void *self, const char *statement, int count, const struct pj_value *params, pj_result_fn result,
                    void *context)
{
    size_t bytes = 0;
    (void)self, (void)result, (void)context;
    for (int i = 0; i < count; i++) {
        cr_assert_geq(params[i].length, 0);
        bytes += (size_t)params[i].length;
    }
    snprintf(last_statement, sizeof last_statement, "%s", statement);
    last_key = params[0].length;
    statements++;
    largest = bytes > largest ? bytes : largest;
}

static void insert(struct pj_batch *batch, int id, size_t length)
{
    struct pj_error error;
    char key[16];
    snprintf(key, sizeof key, "%d|", id);
    struct pj_row_change change = batch_change(&batch->arena, &tables[TABLE], PJ_INSERT, NULL, NULL, key);
    change.values[1] = (struct pj_value){pj_arena_alloc(&batch->arena, length), (int32_t)length};
    memset((unsigned char *)(uintptr_t)change.values[1].data, 'x', length);
    cr_assert_eq(pj_batch_change(batch, &change, &error), PJ_OK);
}

/* Writes so many new rows with a text of so many bytes. */
static void write_rows(int rows, size_t length)
{
    struct pj_error error;
    tables[TABLE] = batch_table(TABLE, &description);
    struct pj_batch *batch = pj_batch_new(tables, TABLES);
    struct pj_writer *writer = pj_writer_new(&setup);
    const struct pj_sink sink = {.execute = measure};
    statements = largest = 0;
    for (int id = 0; id < rows; id++)
        insert(batch, id, length);
    cr_assert_eq(pj_batch_resolve(batch, &error), PJ_OK);
    cr_assert_eq(pj_writer_prepare(writer, batch, true, &error), PJ_OK);
    while (pj_writer_step(writer, &sink) == PJ_WRITER_MORE)
        ;
    pj_writer_free(writer);
    pj_batch_free(batch);
    pj_table_free(&tables[TABLE]);
}

Test(writer, a_statement_ends_with_the_row_that_fills_it)
{
    write_rows(ROWS, LARGE);
    cr_expect_eq(statements, ROWS / 2);
    cr_expect_leq(largest, LIMIT + LARGE, "%zu bytes in one statement", largest);
}

Test(writer, small_rows_go_by_their_number)
{
    write_rows(4097, 8);
    cr_expect_eq(statements, 2);
}

Test(writer, one_row_goes_by_its_values)
{
    write_rows(2, 8);
    cr_expect_str_eq(last_statement, "i0");
    cr_expect_eq(last_key, 20 + 2 * (4 + 1), "an array of two texts");
    write_rows(1, 8);
    cr_expect_str_eq(last_statement, "i0_one");
    cr_expect_eq(last_key, 1);
}
