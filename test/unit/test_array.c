/* Binary arrays, byte by byte as array_recv of PostgreSQL takes them. */
#include "pg/array.h"

#include <criterion/criterion.h>

static struct pj_value value(const void *bytes, int32_t length)
{
    return (struct pj_value){bytes, length};
}

static void assert_bytes(const struct pj_buf *array, const void *bytes, size_t length)
{
    cr_assert_eq(array->length, length, "%zu bytes, not %zu", array->length, length);
    for (size_t i = 0; i < length; i++)
        cr_assert_eq(array->data[i], ((const char *)bytes)[i], "byte %zu is %02x", i, (unsigned char)array->data[i]);
}

Test(array, of_integers_with_a_null_between)
{
    struct pj_buf array = {0};
    pj_array_begin(&array, PJ_INT4);
    pj_array_put(&array, value("\0\0\0\1", 4));
    pj_array_put(&array, pj_make_null());
    pj_array_put(&array, value("\xff\xff\xff\xfe", 4));
    pj_array_end(&array, 3);
    static const char bytes[] = "\0\0\0\1"         /* dimensions */
                                "\0\0\0\1"         /* flags: there may be NULLs */
                                "\0\0\0\x17"       /* int4 */
                                "\0\0\0\3\0\0\0\1" /* length, lower bound */
                                "\0\0\0\4\0\0\0\1"
                                "\xff\xff\xff\xff"
                                "\0\0\0\4\xff\xff\xff\xfe";
    assert_bytes(&array, bytes, sizeof bytes - 1);
    pj_buf_free(&array);
}

Test(array, of_texts_empty_ones_among_them)
{
    struct pj_buf array = {0};
    pj_array_begin(&array, PJ_TEXT);
    pj_array_put(&array, value("\xc3\xa9{,}\"\\", 7));
    pj_array_put(&array, value("", 0));
    pj_array_put(&array, value(NULL, 0));
    pj_array_end(&array, 3);
    static const char bytes[] = "\0\0\0\1\0\0\0\1\0\0\0\x19\0\0\0\3\0\0\0\1"
                                "\0\0\0\7\xc3\xa9{,}\"\\"
                                "\0\0\0\0"
                                "\0\0\0\0";
    assert_bytes(&array, bytes, sizeof bytes - 1);
    pj_buf_free(&array);
}

Test(array, of_bytes_with_zeros_in_them)
{
    struct pj_buf array = {0};
    pj_array_begin(&array, PJ_BYTEA);
    pj_array_put(&array, value("\0\1\0", 3));
    pj_array_end(&array, 1);
    static const char bytes[] = "\0\0\0\1\0\0\0\1\0\0\0\x11\0\0\0\1\0\0\0\1\0\0\0\3\0\1\0";
    assert_bytes(&array, bytes, sizeof bytes - 1);
    pj_buf_free(&array);
}

Test(array, that_is_empty_has_no_dimension)
{
    struct pj_buf array = {0};
    pj_array_begin(&array, PJ_UUID);
    pj_array_end(&array, 0);
    assert_bytes(&array, "\0\0\0\0\0\0\0\1\0\0\x0b\x86", 12);
    pj_buf_free(&array);
}

/* pg_type.oid of each kind's type. What is held as text goes as text. */
Test(array, names_the_type_of_its_elements)
{
    static const uint32_t oids[] = {
        [PJ_ANY] = 25,    [PJ_BOOL] = 16,        [PJ_INT2] = 21,          [PJ_INT4] = 23,
        [PJ_INT8] = 20,   [PJ_TEXT] = 25,        [PJ_BYTEA] = 17,         [PJ_DATE] = 1082,
        [PJ_UUID] = 2950, [PJ_TIMESTAMP] = 1114, [PJ_TIMESTAMPTZ] = 1184,
    };
    struct pj_buf array = {0};
    for (size_t type = 0; type < sizeof oids / sizeof *oids; type++) {
        pj_array_begin(&array, (enum pj_type)type);
        uint32_t oid;
        memcpy(&oid, array.data + 8, sizeof oid);
        cr_assert_eq(__builtin_bswap32(oid), oids[type], "type %zu: %u", type, __builtin_bswap32(oid));
    }
    pj_buf_free(&array);
}

Test(array, begun_anew_forgets_what_it_held)
{
    struct pj_buf array = {0};
    pj_array_begin(&array, PJ_TEXT);
    for (int i = 0; i < 1000; i++)
        pj_array_put(&array, value("some text", 9));
    pj_array_end(&array, 1000);
    cr_assert_eq(array.length, 20 + 1000 * 13);
    pj_array_begin(&array, PJ_INT2);
    pj_array_put(&array, value("\x12\x34", 2));
    pj_array_end(&array, 1);
    assert_bytes(&array, "\0\0\0\1\0\0\0\1\0\0\0\x15\0\0\0\1\0\0\0\1\0\0\0\2\x12\x34", 26);
    pj_buf_free(&array);
}

Test(array, counts_more_elements_than_a_byte_holds)
{
    struct pj_buf array = {0};
    pj_array_begin(&array, PJ_BOOL);
    for (int i = 0; i < 70000; i++)
        pj_array_put(&array, value(i % 2 ? "\1" : "", 1));
    pj_array_end(&array, 70000);
    cr_assert_eq(array.length, 20 + 70000 * 5);
    cr_assert_arr_eq(array.data + 12, "\0\x01\x11\x70\0\0\0\1", 8);
    cr_assert_arr_eq(array.data + array.length - 10, "\0\0\0\1\0\0\0\0\1\1", 10);
    pj_buf_free(&array);
}
