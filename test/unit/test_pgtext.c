/* The expected bytes are what PostgreSQL 15's *_send functions give for the texts its output functions write. */
#include "wire/pgtext.h"

#include <criterion/criterion.h>
#include <stdio.h>
#include <string.h>

static struct pj_arena arena;

static void set_up(void)
{
    pj_arena_init(&arena);
}

static void tear_down(void)
{
    pj_arena_free(&arena);
}

TestSuite(pgtext, .init = set_up, .fini = tear_down);

static const struct {
    enum pj_type type;
    const char *text, *hex;
} from_server[] = {
    /* clang-format off */
    {PJ_DATE, "4714-11-24 BC", "ffda97a7"},
    {PJ_DATE, "4714-12-31 BC", "ffda97cc"},
    {PJ_DATE, "4713-01-01 BC", "ffda97cd"},
    {PJ_DATE, "0401-02-29 BC", "fff2a015"},
    {PJ_DATE, "0002-12-31 BC", "fff4da8a"},
    {PJ_DATE, "0001-01-01 BC", "fff4da8b"},
    {PJ_DATE, "0001-02-29 BC", "fff4dac6"},
    {PJ_DATE, "0001-12-31 BC", "fff4dbf8"},
    {PJ_DATE, "0001-01-01", "fff4dbf9"},
    {PJ_DATE, "0004-02-29", "fff4e07b"},
    {PJ_DATE, "0099-12-31", "fff56937"},
    {PJ_DATE, "1582-10-15", "fffdacc0"},
    {PJ_DATE, "1600-02-29", "fffdc58a"},
    {PJ_DATE, "1700-02-28", "fffe5436"},
    {PJ_DATE, "1900-02-28", "ffff718e"},
    {PJ_DATE, "1969-12-31", "ffffd532"},
    {PJ_DATE, "1999-12-31", "ffffffff"},
    {PJ_DATE, "2000-01-01", "00000000"},
    {PJ_DATE, "2000-02-29", "0000003b"},
    {PJ_DATE, "2100-03-01", "00008ee8"},
    {PJ_DATE, "9999-12-31", "002c95d3"},
    {PJ_DATE, "10000-01-01", "002c95d4"},
    {PJ_DATE, "294276-12-31", "065ce7ee"},
    {PJ_DATE, "5874897-12-31", "7fda970c"},
    {PJ_DATE, "infinity", "7fffffff"},
    {PJ_DATE, "-infinity", "80000000"},
    {PJ_TIMESTAMP, "4714-11-24 00:00:00 BC", "fd0f7cc1411fa000"},
    {PJ_TIMESTAMP, "4714-11-24 00:00:00.000001 BC", "fd0f7cc1411fa001"},
    {PJ_TIMESTAMP, "0001-12-31 23:59:59.999999 BC", "ff1fe2ffc59c5fff"},
    {PJ_TIMESTAMP, "0001-01-01 00:00:00", "ff1fe2ffc59c6000"},
    {PJ_TIMESTAMP, "1969-12-31 23:59:59.9", "fffca2fec4c69960"},
    {PJ_TIMESTAMP, "1999-12-31 23:59:59.999999", "ffffffffffffffff"},
    {PJ_TIMESTAMP, "2000-01-01 00:00:00", "0000000000000000"},
    {PJ_TIMESTAMP, "2000-01-01 00:00:00.000001", "0000000000000001"},
    {PJ_TIMESTAMP, "2000-02-29 12:34:56.78", "000004ad6c8922e0"},
    {PJ_TIMESTAMP, "2026-11-20 12:25:29.598395", "000303b31bbe01bb"},
    {PJ_TIMESTAMP, "9999-12-31 23:59:59.999", "0380e70b913b7c18"},
    {PJ_TIMESTAMP, "10000-01-01 00:00:00", "0380e70b913b8000"},
    {PJ_TIMESTAMP, "294276-12-31 23:59:59.999999", "7fffff5bb3b29fff"},
    {PJ_TIMESTAMP, "infinity", "7fffffffffffffff"},
    {PJ_TIMESTAMP, "-infinity", "8000000000000000"},
    {PJ_TIMESTAMPTZ, "4714-11-24 00:00:00+00 BC", "fd0f7cc1411fa000"},
    {PJ_TIMESTAMPTZ, "0044-03-15 12:00:00+00 BC", "ff1af9e8fb46d000"},
    {PJ_TIMESTAMPTZ, "1850-01-01 00:00:00.5+00", "ffef2ee5ba18e120"},
    {PJ_TIMESTAMPTZ, "2000-01-01 00:00:00+00", "0000000000000000"},
    {PJ_TIMESTAMPTZ, "2026-11-20 12:25:29.1+00", "000303b31bb666e0"},
    {PJ_TIMESTAMPTZ, "294276-12-31 23:59:59.999999+00", "7fffff5bb3b29fff"},
    {PJ_TIMESTAMPTZ, "infinity", "7fffffffffffffff"},
    {PJ_TIMESTAMPTZ, "-infinity", "8000000000000000"},
    {PJ_TIMESTAMPTZ, "2026-11-20 17:55:29.1+05:30", "000303b31bb666e0"},
    {PJ_TIMESTAMPTZ, "1850-01-01 05:53:28.5+05:53:28", "ffef2ee5ba18e120"},
    {PJ_TIMESTAMPTZ, "4714-11-24 05:53:28+05:53:28 BC", "fd0f7cc1411fa000"},
    {PJ_TIMESTAMPTZ, "294277-01-01 05:29:59.999999+05:30", "7fffff5bb3b29fff"},
    {PJ_TIMESTAMPTZ, "2026-07-20 08:25:29.1-04", "0002fa08c53b46e0"},
    {PJ_TIMESTAMPTZ, "1849-12-31 19:03:58.5-04:56:02", "ffef2ee5ba18e120"},
    {PJ_TIMESTAMPTZ, "4714-11-24 05:03:58-04:56:02 BC", "fd0f7cc9a2e40800"},
    {PJ_TIMESTAMPTZ, "1900-01-01 00:19:32+00:19:32", "fff4c9ee7c0b8000"},
    {PJ_INT2, "0", "0000"},
    {PJ_INT2, "-1", "ffff"},
    {PJ_INT2, "32767", "7fff"},
    {PJ_INT2, "-32768", "8000"},
    {PJ_INT4, "0", "00000000"},
    {PJ_INT4, "-1", "ffffffff"},
    {PJ_INT4, "2147483647", "7fffffff"},
    {PJ_INT4, "-2147483648", "80000000"},
    {PJ_INT4, "1000000", "000f4240"},
    {PJ_INT8, "0", "0000000000000000"},
    {PJ_INT8, "-1", "ffffffffffffffff"},
    {PJ_INT8, "9223372036854775807", "7fffffffffffffff"},
    {PJ_INT8, "-9223372036854775808", "8000000000000000"},
    {PJ_INT8, "10", "000000000000000a"},
    {PJ_UUID, "00000000-0000-0000-0000-000000000000", "00000000000000000000000000000000"},
    {PJ_UUID, "ffffffff-ffff-ffff-ffff-ffffffffffff", "ffffffffffffffffffffffffffffffff"},
    {PJ_UUID, "01234567-89ab-cdef-0123-456789abcdef", "0123456789abcdef0123456789abcdef"},
    {PJ_BYTEA, "\\x", ""},
    {PJ_BYTEA, "\\x00", "00"},
    {PJ_BYTEA, "\\x0123456789abcdef", "0123456789abcdef"},
    {PJ_BYTEA, "", ""},
    {PJ_BYTEA, "00ff", "00ff"},
    {PJ_BYTEA, "0123456789abcdef", "0123456789abcdef"},
    {PJ_BOOL, "t", "01"},
    {PJ_BOOL, "f", "00"},
    {PJ_BOOL, "true", "01"},
    {PJ_BOOL, "false", "00"},
    /* clang-format on */
};

Test(pgtext, gives_the_servers_bytes)
{
    for (size_t i = 0; i < sizeof from_server / sizeof *from_server; i++) {
        struct pj_value value;
        char hex[64] = "";
        const char *text = from_server[i].text;
        cr_assert(pj_pgtext_to_binary(from_server[i].type, text, strlen(text), &arena, &value), "\"%s\"", text);
        for (int k = 0; k < value.length; k++)
            snprintf(hex + 2 * k, 3, "%02x", value.data[k]);
        cr_assert_str_eq(hex, from_server[i].hex, "\"%s\"", text);
    }
}

Test(pgtext, trailing_zeros_of_a_fraction_change_nothing)
{
    struct pj_value a, b;
    cr_assert(pj_pgtext_to_binary(PJ_TIMESTAMPTZ, "2026-11-20 12:25:29.100000+00", 29, &arena, &a));
    cr_assert(pj_pgtext_to_binary(PJ_TIMESTAMPTZ, "2026-11-20 12:25:29.1+00", 24, &arena, &b));
    cr_assert(pj_equal(a, b));
}

Test(pgtext, text_is_copied)
{
    char text[] = "g\xc3\xbc";
    struct pj_value value;
    for (int any = 0; any < 2; any++) {
        cr_assert(pj_pgtext_to_binary(any ? PJ_ANY : PJ_TEXT, text, 3, &arena, &value));
        cr_assert_neq((const void *)value.data, (const void *)text);
        cr_assert_eq(value.length, 3);
        cr_assert_eq(memcmp(value.data, text, 3), 0);
        cr_assert(pj_pgtext_to_binary(any ? PJ_ANY : PJ_TEXT, "", 0, &arena, &value));
        cr_assert_eq(value.length, 0);
        cr_assert_not_null(value.data);
    }
}

static const struct {
    enum pj_type type;
    const char *text;
} refused[] = {
    {PJ_INT2, "32768"},
    {PJ_INT2, "-32769"},
    {PJ_INT4, "2147483648"},
    {PJ_INT4, "-2147483649"},
    {PJ_INT8, "9223372036854775808"},
    {PJ_INT8, "-9223372036854775809"},
    {PJ_INT8, "99999999999999999999"},
    {PJ_INT8, "18446744073709551617"},
    {PJ_INT4, ""},
    {PJ_INT4, "-"},
    {PJ_INT4, "+1"},
    {PJ_INT4, "01"},
    {PJ_INT4, "-0"},
    {PJ_INT4, " 1"},
    {PJ_INT4, "1 "},
    {PJ_INT4, "1.0"},
    {PJ_INT4, "1e3"},
    {PJ_INT4, "0x1"},
    {PJ_INT4, "1_0"},
    {PJ_BOOL, ""},
    {PJ_BOOL, "T"},
    {PJ_BOOL, "1"},
    {PJ_BOOL, "yes"},
    {PJ_BOOL, "tru"},
    {PJ_BOOL, "true "},
    {PJ_UUID, ""},
    {PJ_UUID, "01234567-89ab-cdef-0123-456789abcde"},
    {PJ_UUID, "01234567-89ab-cdef-0123-456789abcdef0"},
    {PJ_UUID, "01234567-89AB-cdef-0123-456789abcdef"},
    {PJ_UUID, "0123456789ab-cdef-0123-456789abcdef01"},
    {PJ_UUID, "g1234567-89ab-cdef-0123-456789abcdef"},
    {PJ_UUID, "01234567-89ab-cdef-0123-456789abcde\xff"},
    {PJ_UUID, "{1234567-89ab-cdef-0123-456789abcde}"},
    {PJ_BYTEA, "0"},
    {PJ_BYTEA, "\\x0"},
    {PJ_BYTEA, "0g"},
    {PJ_BYTEA, "\\000"},
    {PJ_BYTEA, "\\xAB"},
    {PJ_BYTEA, "\\x \\x"},
    {PJ_DATE, ""},
    {PJ_DATE, "2026-1-01"},
    {PJ_DATE, "2026-01-1"},
    {PJ_DATE, "26-01-01"},
    {PJ_DATE, "0000-01-01"},
    {PJ_DATE, "02026-01-01"},
    {PJ_DATE, "2026-13-01"},
    {PJ_DATE, "2026-00-01"},
    {PJ_DATE, "2026-02-29"},
    {PJ_DATE, "1900-02-29"},
    {PJ_DATE, "2026-04-31"},
    {PJ_DATE, "2026-01-00"},
    {PJ_DATE, "2026-01-32"},
    {PJ_DATE, "0004-02-29 BC"},
    {PJ_DATE, "2026-01-01 "},
    {PJ_DATE, "2026-01-01 AD"},
    {PJ_DATE, "2026-01-01BC"},
    {PJ_DATE, "01/02/2026"},
    {PJ_DATE, "4714-11-23 BC"},
    {PJ_DATE, "5874898-01-01"},
    {PJ_DATE, "99999999-01-01"},
    {PJ_DATE, "-2026-01-01"},
    {PJ_DATE, "Infinity"},
    {PJ_DATE, "+infinity"},
    {PJ_DATE, "2026-01-01 00:00:00"},
    {PJ_TIMESTAMP, "2026-01-01"},
    {PJ_TIMESTAMP, "2026-01-01T00:00:00"},
    {PJ_TIMESTAMP, "2026-01-01 24:00:00"},
    {PJ_TIMESTAMP, "2026-01-01 00:60:00"},
    {PJ_TIMESTAMP, "2026-01-01 00:00:60"},
    {PJ_TIMESTAMP, "2026-01-01 00:00"},
    {PJ_TIMESTAMP, "2026-01-01 00:00:00."},
    {PJ_TIMESTAMP, "2026-01-01 00:00:00.1234567"},
    {PJ_TIMESTAMP, "2026-01-01 00:00:00+00"},
    {PJ_TIMESTAMP, "4714-11-23 23:59:59.999999 BC"},
    {PJ_TIMESTAMP, "294277-01-01 00:00:00"},
    {PJ_TIMESTAMP, "5874897-01-01 00:00:00"},
    {PJ_TIMESTAMPTZ, "2026-01-01 00:00:00"},
    {PJ_TIMESTAMPTZ, "2026-01-01 00:00:00Z"},
    {PJ_TIMESTAMPTZ, "2026-01-01 00:00:00+0"},
    {PJ_TIMESTAMPTZ, "2026-01-01 00:00:00+00:"},
    {PJ_TIMESTAMPTZ, "2026-01-01 00:00:00+00:60"},
    {PJ_TIMESTAMPTZ, "2026-01-01 00:00:00+00:00:0"},
    {PJ_TIMESTAMPTZ, "2026-01-01 00:00:00 UTC"},
    {PJ_TIMESTAMPTZ, "2026-01-01 00:00:00+0000"},
    {PJ_TIMESTAMPTZ, "4714-11-24 00:00:00+01 BC"},
    {PJ_TIMESTAMPTZ, "294276-12-31 23:59:59-01"},
};

Test(pgtext, refuses_what_the_server_does_not_write)
{
    for (size_t i = 0; i < sizeof refused / sizeof *refused; i++) {
        struct pj_value value;
        const char *text = refused[i].text;
        cr_assert_not(pj_pgtext_to_binary(refused[i].type, text, strlen(text), &arena, &value), "type %d \"%s\"",
                      (int)refused[i].type, text);
    }
}

/* On a copy of exact size, so that a sanitizer sees any byte read behind it. */
Test(pgtext, reads_no_further_than_the_text)
{
    for (size_t i = 0; i < sizeof from_server / sizeof *from_server; i++)
        for (size_t length = 0; length <= strlen(from_server[i].text); length++) {
            struct pj_value value;
            char *copy = pj_realloc(NULL, length);
            memcpy(copy, from_server[i].text, length);
            pj_pgtext_to_binary(from_server[i].type, copy, length, &arena, &value);
            pj_free(copy);
        }
}
