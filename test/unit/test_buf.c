#include "base/buf.h"
#include "base/mem.h"

#include <criterion/criterion.h>

Test(buf, an_empty_one_is_an_empty_text)
{
    struct pj_buf buf = {0};
    cr_assert_str_eq(pj_buf_text(&buf), "");
    char *taken = pj_buf_take(&buf);
    cr_assert_str_eq(taken, "");
    pj_free(taken);
    pj_buf_free(&buf);
}

Test(buf, grows_and_stays_a_c_string)
{
    struct pj_buf buf = {0};
    for (int i = 0; i < 10000; i++) {
        pj_buf_printf(&buf, "%d,", i % 10);
        cr_assert_eq(buf.data[buf.length], '\0');
        cr_assert_lt(buf.length, buf.capacity);
    }
    cr_assert_eq(buf.length, 20000);
    cr_assert_eq(strncmp(pj_buf_text(&buf), "0,1,2,3,4,5,6,7,8,9,0,", 22), 0);
    pj_buf_free(&buf);
    cr_assert_null(buf.data);
}

Test(buf, puts_at_the_edge_of_its_capacity)
{
    for (size_t length = 250; length < 260; length++) {
        struct pj_buf buf = {0};
        char bytes[300];
        memset(bytes, 'x', sizeof bytes);
        pj_buf_put(&buf, bytes, length);
        cr_assert_eq(strlen(pj_buf_text(&buf)), length);
        pj_buf_free(&buf);
    }
}

Test(buf, holds_zero_bytes)
{
    struct pj_buf buf = {0};
    pj_buf_put(&buf, "a\0b", 3);
    cr_assert_eq(buf.length, 3);
    cr_assert_eq(memcmp(buf.data, "a\0b", 4), 0);
    pj_buf_free(&buf);
}

Test(buf, writes_integers_in_network_order)
{
    struct pj_buf buf = {0};
    pj_buf_put_int32(&buf, -2);
    pj_buf_put_int32(&buf, 0x01020304);
    cr_assert_eq(memcmp(buf.data, "\xff\xff\xff\xfe\1\2\3\4", 8), 0);
    pj_buf_free(&buf);
}

Test(buf, clear_keeps_the_room_and_take_gives_it_away)
{
    struct pj_buf buf = {0};
    pj_buf_puts(&buf, "text");
    size_t capacity = buf.capacity;
    pj_buf_clear(&buf);
    cr_assert_str_eq(pj_buf_text(&buf), "");
    cr_assert_eq(buf.capacity, capacity);
    pj_buf_puts(&buf, "more");
    char *taken = pj_buf_take(&buf);
    cr_assert_str_eq(taken, "more");
    cr_assert_null(buf.data);
    cr_assert_eq(buf.length, 0);
    pj_free(taken);
}
