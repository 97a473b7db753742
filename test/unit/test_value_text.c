/* Values to text and back: what PostgreSQL would show, and the same bytes again. */
#include "host/value_text.h"
#include "wire/pgtext.h"

#include <criterion/criterion.h>

static struct pj_arena arena;

static void begin(void)
{
    pj_arena_init(&arena);
}

static void end(void)
{
    pj_arena_free(&arena);
}

TestSuite(value_text, .init = begin, .fini = end);

static void same(enum pj_type type, const char *text)
{
    struct pj_value value;
    struct pj_buf out = {0};
    cr_assert(pj_pgtext_to_binary(type, text, strlen(text), &arena, &value), "%s", text);
    cr_expect(pj_value_text(type, value, &out));
    cr_expect_str_eq(pj_buf_text(&out), text, "%s came back as %s", text, pj_buf_text(&out));
    pj_buf_free(&out);
}

Test(value_text, values_come_back_as_they_were)
{
    same(PJ_BOOL, "t");
    same(PJ_BOOL, "f");
    same(PJ_INT2, "-32768");
    same(PJ_INT4, "2147483647");
    same(PJ_INT8, "-9223372036854775808");
    same(PJ_TEXT, "");
    same(PJ_TEXT, "naïve ☃ 𝄞");
    same(PJ_ANY, "1.50");
    same(PJ_BYTEA, "\\x00ff7f");
    same(PJ_UUID, "00112233-4455-6677-8899-aabbccddeeff");
}

Test(value_text, dates_and_times_of_all_ages)
{
    const char *const dates[] = {"2000-01-01", "2000-02-29", "1999-12-31",    "1900-03-01",    "0001-01-01",
                                 "2100-02-28", "infinity",   "0001-12-31 BC", "4713-01-01 BC", "5874897-12-31"};
    for (size_t i = 0; i < sizeof dates / sizeof *dates; i++)
        same(PJ_DATE, dates[i]);
    same(PJ_TIMESTAMP, "2026-01-02 03:04:05");
    same(PJ_TIMESTAMP, "1999-12-31 23:59:59.999999");
    same(PJ_TIMESTAMP, "-infinity");
    same(PJ_TIMESTAMPTZ, "2026-01-02 03:04:05.5+00");
    same(PJ_TIMESTAMPTZ, "0044-03-15 12:00:00.000001+00 BC");
    same(PJ_TIMESTAMPTZ, "294276-12-31 23:59:59.999999+00");
}

Test(value_text, every_day_of_eight_centuries)
{
    for (int day = -150000; day < 150000; day += 1) {
        struct pj_value value, back;
        unsigned char bytes[8];
        struct pj_buf out = {0};
        value = pj_make_int64(day, bytes);
        value.data += 4;
        value.length = 4;
        pj_value_text(PJ_DATE, value, &out);
        cr_assert(pj_pgtext_to_binary(PJ_DATE, out.data, out.length, &arena, &back), "%s", out.data);
        cr_assert(pj_equal(value, back), "day %d: %s", day, out.data);
        pj_buf_free(&out);
    }
}

Test(value_text, what_is_no_value_has_no_text)
{
    struct pj_buf out = {0};
    struct pj_value odd = {(const unsigned char *)"abc", 3};
    cr_expect_not(pj_value_text(PJ_INT8, odd, &out));
    cr_expect_not(pj_value_text(PJ_UUID, pj_make_null(), &out));
    cr_expect_eq(out.length, 0);
    const struct pj_value not_utf8[] = {{(const unsigned char *)"\xff\x00", 2}, {(const unsigned char *)"\xc3", 1}};
    const char *const shown[] = {"\\xff00", "\\xc3"};
    for (int i = 0; i < 2; i++) {
        cr_expect(pj_value_text(PJ_ANY, not_utf8[i], &out));
        cr_expect_str_eq(out.data, shown[i]);
        pj_buf_clear(&out);
    }
    pj_buf_free(&out);
}

/* ----------------------------------------------------------------------------------------------------------- validity */

static bool fits(enum pj_type type, const char *bytes)
{
    return pj_value_fits(type, (struct pj_value){(const unsigned char *)bytes, (int32_t)strlen(bytes)});
}

Test(value_text, only_text_that_a_server_takes_fits)
{
    const char *const texts[] = {"", "plain", "na\xc3\xafve", "\xed\x9f\xbf", "\xee\x80\x80", "\xf4\x8f\xbf\xbf"};
    const char *const broken[] = {
        "\xff",         "\xc3",     "a\xc3(",           "\xc0\x80",         "\xe0\x9f\xbf",
        "\xed\xa0\x80", "\xe2\x82", "\xf0\x8f\xbf\xbf", "\xf4\x90\x80\x80", "\xf5\x80\x80\x80"};
    for (size_t i = 0; i < sizeof texts / sizeof *texts; i++)
        cr_expect(fits(PJ_TEXT, texts[i]) && fits(PJ_ANY, texts[i]), "%zu", i);
    for (size_t i = 0; i < sizeof broken / sizeof *broken; i++)
        cr_expect(!fits(PJ_TEXT, broken[i]) && !fits(PJ_ANY, broken[i]) && fits(PJ_BYTEA, broken[i]), "%zu", i);
    cr_expect(!pj_value_fits(PJ_TEXT, (struct pj_value){(const unsigned char *)"a\0b", 3}));
}

static bool number_fits(enum pj_type type, int64_t number)
{
    unsigned char space[8];
    struct pj_value value = pj_make_int64(number, space);
    if (type == PJ_DATE)
        value = (struct pj_value){space + 4, 4};
    return pj_value_fits(type, value);
}

Test(value_text, only_times_that_a_server_takes_fit)
{
    cr_expect(number_fits(PJ_DATE, 0) && number_fits(PJ_DATE, INT32_MIN) && number_fits(PJ_DATE, INT32_MAX));
    cr_expect(number_fits(PJ_DATE, -2451545) && !number_fits(PJ_DATE, -2451546));
    cr_expect(number_fits(PJ_DATE, 2145031948) && !number_fits(PJ_DATE, 2145031949));
    cr_expect(number_fits(PJ_TIMESTAMP, INT64_MIN) && number_fits(PJ_TIMESTAMPTZ, INT64_MAX));
    cr_expect(number_fits(PJ_TIMESTAMP, INT64_C(9223371331199999999)) &&
              !number_fits(PJ_TIMESTAMP, INT64_C(9223371331200000000)));
    cr_expect(number_fits(PJ_TIMESTAMPTZ, INT64_C(-211813488000000000)) &&
              !number_fits(PJ_TIMESTAMPTZ, INT64_C(-211813488000000001)));
    cr_expect(pj_value_fits(PJ_UUID, pj_make_null()) && !fits(PJ_UUID, "short") && !fits(PJ_INT4, ""));
    cr_expect(!pj_value_fits(PJ_TEXT, (struct pj_value){NULL, -2}));
}
