/* Deltas: how rows combine, what is dirty, what is withheld, and what apply() may not do. */
#include "base/mem.h"
#include "host/deltas.h"

#include <criterion/criterion.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

/* ---------------------------------------------------------------------------------------- a module to play with */

/* apply() of this module does what the change says: values are {key, second key, verb, amount, text}. */
enum verb {
    EMIT,
    DIRTY_ONE,
    DIRTY_FULL,
    DIRTY_ALL,
    REFUSE,
    EMIT_NOWHERE,
    EMIT_SHORT,
    DIRTY_THREE,
    DIRTY_SHORT,
    DIRTY_BELOW
};

static const struct pj_column columns[] = {{"a", PJ_INT8}, {"b", PJ_INT8}, {"verb", PJ_INT8},
                                           {"n", PJ_INT8}, {"t", PJ_TEXT}, {NULL, PJ_ANY}};
static const struct pj_source sources[] = {{"things", "a", columns}, {NULL, NULL, NULL}};
static const char *const key[] = {"a", "b", NULL};
static const struct pj_stream_column stream_columns[] = {{"a", PJ_INT8, PJ_KEY},     {"sum", PJ_INT8, PJ_SUM},
                                                         {"least", PJ_INT8, PJ_MIN}, {"greatest", PJ_INT8, PJ_MAX},
                                                         {"last", PJ_TEXT, PJ_LAST}, {NULL, PJ_ANY, PJ_KEY}};
static const struct pj_stream streams[] = {{"s", stream_columns, "merge"}, {NULL, NULL, NULL}};
static const struct pj_option options[] = {{"word", "default", "a word", NULL}, {NULL, NULL, NULL, NULL}};

static int apply(const struct pj_host *host, struct pj_call *call, const struct pj_change *change)
{
    const struct pj_value *row = change->new_row;
    struct pj_value out[] = {row[0], row[3], row[3], row[3], row[4]};
    switch ((enum verb)pj_int64(row[2])) {
    case EMIT:
        host->emit(call, 0, out);
        return 0;
    case DIRTY_ONE:
        host->dirty(call, row, 1);
        return 0;
    case DIRTY_FULL:
        host->dirty(call, row, 2);
        return 0;
    case DIRTY_ALL:
        host->dirty_all(call);
        return 0;
    case REFUSE:
        host->fail(call, "option %s says no to %d", host->option(call, 0), 7);
        return 1;
    case EMIT_NOWHERE:
        host->emit(call, 3, out);
        return 0;
    case EMIT_SHORT:
        out[1].length = 4;
        host->emit(call, 0, out);
        return 0;
    case DIRTY_THREE:
        host->dirty(call, row, 3);
        return 0;
    case DIRTY_SHORT:
        out[1].length = 4;
        host->dirty(call, out, 2);
        return 0;
    case DIRTY_BELOW:
        out[0].length = -7;
        host->dirty(call, out, 1);
        return 0;
    }
    return 1;
}

static const struct pj_module module = {.name = "toy",
                                        .sources = sources,
                                        .target = "toys",
                                        .key = key,
                                        .definition = "SELECT",
                                        .streams = streams,
                                        .options = options,
                                        .apply = apply};
static const char *const values[] = {"configured"};

static struct pj_deltas *deltas;
static struct pj_error error;

static void set_up(void)
{
    deltas = pj_deltas_new(&module, values);
}

static void tear_down(void)
{
    pj_deltas_free(deltas);
}

static int change(int64_t a, int64_t b, enum verb verb, int64_t n, const char *text)
{
    unsigned char space[4][8];
    struct pj_value row[] = {pj_make_int64(a, space[0]),
                             pj_make_int64(b, space[1]),
                             pj_make_int64((int64_t)verb, space[2]),
                             n == INT64_MIN ? pj_make_null() : pj_make_int64(n, space[3]),
                             {(const unsigned char *)text, text ? (int32_t)strlen(text) : PJ_NULL}};
    struct pj_change one = {.source = 0, .new_row = row};
    return pj_deltas_apply(deltas, &one, &error);
}

#define NOTHING INT64_MIN

TestSuite(deltas, .init = set_up, .fini = tear_down);

/* -------------------------------------------------------------------------------------------------------- combining */

Test(deltas, combine_by_key)
{
    change(1, 0, EMIT, 5, "first");
    change(2, 0, EMIT, 1, NULL);
    change(1, 0, EMIT, -7, "second, and longer");
    change(1, 0, EMIT, NOTHING, NULL);
    pj_deltas_finish(deltas);
    size_t count;
    const struct pj_value *row = pj_deltas_rows(deltas, 0, &count);
    cr_assert_eq(count, 2);
    cr_expect_eq(pj_int64(row[0]), 1);
    cr_expect_eq(pj_int64(row[1]), -2);
    cr_expect_eq(pj_int64(row[2]), -7);
    cr_expect_eq(pj_int64(row[3]), 5);
    cr_expect_eq(row[4].length, 18);
    cr_expect_eq(memcmp(row[4].data, "second, and longer", 18), 0);
    cr_expect_eq(pj_int64(row[5]), 2);
    cr_expect(pj_is_null(row[9]));
}

Test(deltas, nulls_give_way_and_sum_to_zero)
{
    change(1, 0, EMIT, NOTHING, NULL);
    pj_deltas_finish(deltas);
    size_t count;
    const struct pj_value *row = pj_deltas_rows(deltas, 0, &count);
    cr_assert_eq(count, 1);
    cr_expect_eq(pj_int64(row[1]), 0);
    cr_expect(pj_is_null(row[2]) && pj_is_null(row[3]) && pj_is_null(row[4]));
    pj_deltas_reset(deltas);
    change(1, 0, EMIT, NOTHING, NULL);
    change(1, 0, EMIT, 4, "x");
    pj_deltas_finish(deltas);
    row = pj_deltas_rows(deltas, 0, &count);
    cr_expect_eq(pj_int64(row[1]), 4);
    cr_expect_eq(pj_int64(row[2]), 4);
    cr_expect_eq(pj_int64(row[3]), 4);
}

Test(deltas, a_sum_beyond_bigint_is_an_error)
{
    cr_expect_eq(change(1, 0, EMIT, INT64_MAX, NULL), PJ_OK);
    cr_expect_eq(change(1, 0, EMIT, 1, NULL), PJ_EFAIL, "the module's fault, not the batch's: care can help");
    cr_expect_not_null(strstr(error.message, "projection toy: apply() of a change of things: stream s: column sum"),
                       "%s", error.message);
}

Test(deltas, agree_with_a_plain_model_over_many_keys)
{
    enum { KEYS = 5000 };
    static int64_t sum[KEYS], least[KEYS], greatest[KEYS];
    static bool seen[KEYS];
    unsigned seed = (unsigned)time(NULL);
    fprintf(stderr, "seed %u\n", seed);
    for (int round = 0; round < 2; round++) {
        memset(seen, 0, sizeof seen);
        memset(sum, 0, sizeof sum);
        size_t keys = 0;
        for (int i = 0; i < 60000; i++) {
            int k = rand_r(&seed) % KEYS;
            int64_t n = rand_r(&seed) % 2001 - 1000;
            change(k, 0, EMIT, n, NULL);
            sum[k] += n;
            least[k] = !seen[k] || n < least[k] ? n : least[k];
            greatest[k] = !seen[k] || n > greatest[k] ? n : greatest[k];
            keys += !seen[k];
            seen[k] = true;
        }
        pj_deltas_finish(deltas);
        size_t count;
        const struct pj_value *row = pj_deltas_rows(deltas, 0, &count);
        cr_assert_eq(count, keys);
        for (size_t i = 0; i < count; i++, row += 5) {
            int64_t k = pj_int64(row[0]);
            cr_assert(i == 0 || k > pj_int64(row[-5]), "not sorted");
            cr_assert(pj_int64(row[1]) == sum[k] && pj_int64(row[2]) == least[k] && pj_int64(row[3]) == greatest[k]);
        }
        pj_deltas_reset(deltas);
    }
}

/* ------------------------------------------------------------------------------------------------------- dirty keys */

Test(deltas, dirty_keys_are_listed_once_and_sorted)
{
    change(3, 0, DIRTY_ONE, 0, NULL);
    change(1, 0, DIRTY_ONE, 0, NULL);
    change(3, 0, DIRTY_ONE, 0, NULL);
    pj_deltas_finish(deltas);
    size_t count;
    const struct pj_value *keys = pj_deltas_routing_keys(deltas, &count);
    cr_assert_eq(count, 2);
    cr_expect_eq(pj_int64(keys[0]), 1);
    cr_expect_eq(pj_int64(keys[1]), 3);
}

Test(deltas, a_dirty_routing_key_withholds_its_deltas_and_full_keys)
{
    change(1, 0, EMIT, 1, NULL);
    change(2, 0, EMIT, 1, NULL);
    change(1, 8, DIRTY_FULL, 0, NULL);
    change(2, 9, DIRTY_FULL, 0, NULL);
    change(1, 0, DIRTY_ONE, 0, NULL);
    pj_deltas_finish(deltas);
    size_t count;
    const struct pj_value *row = pj_deltas_rows(deltas, 0, &count);
    cr_assert_eq(count, 1);
    cr_expect_eq(pj_int64(row[0]), 2);
    const struct pj_value *full = pj_deltas_full_keys(deltas, &count);
    cr_assert_eq(count, 1);
    cr_expect_eq(pj_int64(full[0]), 2);
    cr_expect_eq(pj_int64(full[1]), 9);
}

Test(deltas, all_dirty_withholds_everything_until_the_reset)
{
    change(1, 0, EMIT, 1, NULL);
    change(1, 1, DIRTY_FULL, 0, NULL);
    change(1, 0, DIRTY_ALL, 0, NULL);
    change(2, 0, EMIT, 1, NULL);
    pj_deltas_finish(deltas);
    size_t count;
    cr_expect(pj_deltas_all_dirty(deltas));
    pj_deltas_rows(deltas, 0, &count);
    cr_expect_eq(count, 0);
    pj_deltas_full_keys(deltas, &count);
    cr_expect_eq(count, 0);
    pj_deltas_reset(deltas);
    change(2, 0, EMIT, 1, NULL);
    pj_deltas_finish(deltas);
    cr_expect(!pj_deltas_all_dirty(deltas));
    pj_deltas_rows(deltas, 0, &count);
    cr_expect_eq(count, 1);
}

Test(deltas, of_a_held_part_are_combined_with_those_of_the_next)
{
    size_t count;
    change(1, 0, EMIT, 5, "first part");
    change(2, 8, DIRTY_FULL, 0, NULL);
    pj_deltas_hold(deltas);
    pj_deltas_rows(deltas, 0, &count);
    cr_expect_eq(count, 0, "held rows are not to be merged yet");
    pj_deltas_full_keys(deltas, &count);
    cr_expect_eq(count, 0);
    pj_deltas_next_part(deltas);
    change(1, 0, EMIT, -7, NULL);
    change(3, 0, EMIT, 1, NULL);
    pj_deltas_finish(deltas);
    const struct pj_value *row = pj_deltas_rows(deltas, 0, &count);
    cr_assert_eq(count, 2);
    cr_expect_eq(pj_int64(row[1]), -2);
    cr_expect_eq(pj_int64(row[3]), 5, "what a later part takes away stays in a greatest value");
    cr_expect_eq(row[4].length, 10);
}

Test(deltas, of_a_finished_part_are_forgotten_but_its_dirty_keys_stay)
{
    size_t count;
    change(1, 0, EMIT, 5, NULL);
    change(2, 8, DIRTY_FULL, 0, NULL);
    change(4, 0, DIRTY_ONE, 0, NULL);
    pj_deltas_finish(deltas);
    pj_deltas_next_part(deltas);
    cr_expect_eq(pj_deltas_bytes(deltas), 0);
    change(1, 0, EMIT, 1, NULL);
    change(4, 0, EMIT, 1, NULL);
    pj_deltas_finish(deltas);
    const struct pj_value *row = pj_deltas_rows(deltas, 0, &count);
    cr_assert_eq(count, 1, "4 is dirty as a whole");
    cr_expect_eq(pj_int64(row[1]), 1);
    pj_deltas_full_keys(deltas, &count);
    cr_expect_eq(count, 1);
}

Test(deltas, bytes_tell_what_is_held_and_not_what_once_was)
{
    for (int i = 0; i < 5000; i++)
        change(i, 0, EMIT, 1, "a text of some bytes");
    size_t full = pj_deltas_bytes(deltas);
    cr_expect_gt(full, 5000 * 5 * sizeof(struct pj_value));
    pj_deltas_reset(deltas);
    cr_expect_eq(pj_deltas_bytes(deltas), 0);
    change(1, 0, EMIT, 1, NULL);
    cr_expect_lt(pj_deltas_bytes(deltas), 1000);
}

Test(deltas, a_key_with_a_null_is_no_row_of_the_target)
{
    struct pj_value none = pj_make_null();
    pj_deltas_mark(deltas, &none, 1);
    pj_deltas_finish(deltas);
    size_t count;
    pj_deltas_routing_keys(deltas, &count);
    cr_expect_eq(count, 0);
}

/* ------------------------------------------------------------------------------------------------------ complaints */

static void complains(enum verb verb, const char *words)
{
    cr_expect_eq(change(1, 2, verb, 0, NULL), PJ_EFAIL);
    cr_expect_not_null(strstr(error.message, words), "%s", error.message);
}

Test(deltas, apply_is_told_off)
{
    complains(REFUSE, "option configured says no to 7");
    complains(EMIT_NOWHERE, "stream 3");
    complains(EMIT_SHORT, "column sum was given a value of 4 bytes");
    complains(DIRTY_THREE, "dirty with 3 values");
    complains(DIRTY_BELOW, "key column a -7 bytes");
}

Test(deltas, a_dirty_key_must_be_of_the_targets_types)
{
    static const enum pj_type kinds[] = {PJ_INT8, PJ_INT8}, other_kinds[] = {PJ_TEXT, PJ_INT8};
    size_t count;
    cr_expect_eq(change(1, 2, DIRTY_SHORT, 0, NULL), PJ_OK, "where the types are not known");
    pj_deltas_reset(deltas);
    pj_deltas_know_kinds(deltas, kinds);
    complains(DIRTY_SHORT, "dirty: for key column b 4 bytes");
    cr_expect_eq(change(1, 2, DIRTY_FULL, 0, NULL), PJ_OK);
    pj_deltas_know_kinds(deltas, other_kinds);
    complains(DIRTY_ONE, "dirty: for key column a 8 bytes");
    pj_deltas_finish(deltas);
    pj_deltas_full_keys(deltas, &count);
    cr_expect_eq(count, 1);
    pj_deltas_routing_keys(deltas, &count);
    cr_expect_eq(count, 0);
}

/* ------------------------------------------------------------------------------------------------- without apply() */

static void change_row(struct pj_deltas *plain, int source, const struct pj_value *before, const struct pj_value *after)
{
    struct pj_change one = {.source = source, .old_row = before, .new_row = after};
    cr_assert_eq(pj_deltas_apply(plain, &one, &error), PJ_OK);
}

Test(deltas, without_apply_old_and_new_routing_keys_are_dirty)
{
    static const struct pj_source keyed[] = {{"a", "id", NULL}, {"b", NULL, NULL}, {NULL, NULL, NULL}};
    static const char *const one_key[] = {"id", NULL};
    static const struct pj_module without = {
        .name = "w", .sources = keyed, .target = "t", .key = one_key, .definition = "SELECT"};
    struct pj_deltas *plain = pj_deltas_new(&without, NULL);
    unsigned char space[2][8];
    struct pj_value four = pj_make_int64(4, space[0]), nine = pj_make_int64(9, space[1]);
    change_row(plain, 0, &four, &nine);
    pj_deltas_finish(plain);
    size_t count;
    pj_deltas_routing_keys(plain, &count);
    cr_expect_eq(count, 2);
    cr_expect(!pj_deltas_all_dirty(plain));
    change_row(plain, 1, NULL, &four);
    cr_expect(pj_deltas_all_dirty(plain));
    pj_deltas_free(plain);
}
