/* Amounts, lists, nearest words: the forms a configuration's values may have, and those it may not. */
#include "app/backoff.h"
#include "app/values.h"
#include "base/mem.h"

#include <criterion/criterion.h>
#include <string.h>

Test(values, durations_need_a_unit)
{
    static const struct {
        const char *text;
        int milliseconds; /* -1: refused */
    } cases[] = {{"250ms", 250}, {"60s", 60000},       {" 5 min ", -1}, {"5 min", 300000}, {"1h", 3600000},
                 {"0", 0},       {"60", -1},           {"", -1},        {"-1s", -1},       {"1.5s", -1},
                 {"1d", -1},     {"99999999999h", -1}, {"s", -1},       {"2147484s", -1}};
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        int milliseconds = -1;
        bool good = pj_value_duration(cases[i].text, &milliseconds);
        cr_expect(good == (cases[i].milliseconds >= 0), "\"%s\"", cases[i].text);
        if (good)
            cr_expect(milliseconds == cases[i].milliseconds, "\"%s\" is %d", cases[i].text, milliseconds);
    }
}

Test(values, sizes_are_powers_of_1024)
{
    size_t bytes;
    cr_assert(pj_value_bytes("8MB", &bytes) && bytes == 8 << 20);
    cr_assert(pj_value_bytes("8MiB", &bytes) && bytes == 8 << 20);
    cr_assert(pj_value_bytes("512 kB", &bytes) && bytes == 512 << 10);
    cr_assert(pj_value_bytes("8388608", &bytes) && bytes == 8388608);
    cr_assert_not(pj_value_bytes("8 bananas", &bytes));
    cr_assert_not(pj_value_bytes("99999999999999999999", &bytes));
    cr_assert_not(pj_value_bytes("18446744073709551615GB", &bytes), "it overflows");
    cr_assert_not(pj_value_bytes("", &bytes));
}

Test(values, numbers_keep_to_their_range)
{
    int number;
    cr_assert(pj_value_int("1", 1, 16, &number) && number == 1);
    cr_assert(pj_value_int("16", 1, 16, &number) && number == 16);
    cr_assert_not(pj_value_int("0", 1, 16, &number));
    cr_assert_not(pj_value_int("17", 1, 16, &number));
    cr_assert_not(pj_value_int("4294967297", 1, 16, &number));
    cr_assert_not(pj_value_int("1x", 1, 16, &number));
}

static void expect_name(const char **at, const char *schema, const char *name)
{
    char *found_schema, *found_name;
    cr_assert(pj_value_next_name(at, &found_schema, &found_name) == 1, "before \"%s\"", *at);
    cr_expect_str_eq(found_name, name);
    cr_expect((schema == NULL) == (found_schema == NULL));
    if (schema && found_schema)
        cr_expect_str_eq(found_schema, schema);
    pj_free(found_schema);
    pj_free(found_name);
}

Test(values, names_are_those_of_sql)
{
    const char *at = "users, Audit.Log , \"Mixed Case\".\"a,b\",\"say \"\"hi\"\"\".x, gr\xc3\xbc\xc3\x9f"
                     "e,";
    expect_name(&at, NULL, "users");
    expect_name(&at, "audit", "log");
    expect_name(&at, "Mixed Case", "a,b");
    expect_name(&at, "say \"hi\"", "x");
    expect_name(&at, NULL,
                "gr\xc3\xbc\xc3\x9f"
                "e");
    char *schema, *name;
    cr_assert(pj_value_next_name(&at, &schema, &name) == 0);
}

Test(values, what_is_no_name_is_refused)
{
    static const char *const wrong[] = {"a b", "\"open", "a.", ".a", "a.b.c", "\"\"", "a;b", "a.\"x"};
    for (size_t i = 0; i < sizeof wrong / sizeof *wrong; i++) {
        const char *at = wrong[i];
        char *schema, *name;
        cr_expect(pj_value_next_name(&at, &schema, &name) == -1, "%s", wrong[i]);
        cr_expect(schema == NULL && name == NULL);
    }
}

Test(values, words_are_trimmed_and_empty_ones_left_out)
{
    const char *at = " one ,, two,\tthree four ,";
    const char *const wanted[] = {"one", "two", "three four"};
    for (int i = 0; i < 3; i++) {
        char *word = pj_value_next_word(&at);
        cr_assert_str_eq(word, wanted[i]);
        pj_free(word);
    }
    cr_assert_null(pj_value_next_word(&at));
}

Test(values, the_nearest_word_is_near)
{
    static const char *const words[] = {"slot", "slot_wait", "jobs", NULL};
    cr_assert_str_eq(pj_value_nearest("slott", words), "slot");
    cr_assert_str_eq(pj_value_nearest("slotwait", words), "slot_wait");
    cr_assert_null(pj_value_nearest("bananas", words));
}

Test(backoff, doubles_up_to_thirty_seconds_with_jitter)
{
    struct pj_backoff backoff = {0};
    int middle = 500;
    for (int i = 0; i < 12; i++) {
        int wait = pj_backoff_next(&backoff);
        cr_expect(wait >= middle / 2 && wait <= 30000 && wait < middle / 2 + middle, "attempt %d: %d", i, wait);
        middle = middle * 2 < 30000 ? middle * 2 : 30000;
    }
    pj_backoff_reset(&backoff);
    cr_expect(pj_backoff_next(&backoff) < 750);
}
