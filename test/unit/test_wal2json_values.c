/* The decoder's values, type by type, and other spellings of a message than the plugin's; what is malformed. */
#include "reference/wal2json_stage.h"

#include "wire/json_scan.h"

/* ------------------------------------------------------------------------------------------------------- values */

Test(wal2json, numbers_are_taken_as_their_text_or_exactly)
{
    static const char *const texts[] = {
        "1.50", "-0.001", "1e+300", "1E-7", "0", "-0", "123456789012345678901234567890.5", "9007199254740993"};
    for (size_t i = 0; i < sizeof texts / sizeof *texts; i++) {
        accept(insert("any", texts[i]));
        is_text(change.values[1], texts[i]);
    }
    accept(insert("big", "-9223372036854775808"));
    cr_assert_eq(pj_int64(change.values[4]), INT64_MIN);
    static const char *const wrong[] = {"9223372036854775808", "1.0", "1e3", "\"\"", "\" 1\"", "[1]", "true", "{}"};
    for (size_t i = 0; i < sizeof wrong / sizeof *wrong; i++)
        refuse(insert("big", wrong[i]));
    refuse(insert("small", "32768"));
    refuse(insert("id", "2147483648"));
}

Test(wal2json, domains_write_their_numbers_and_booleans_as_strings)
{
    accept(insert("id", "\"5\""));
    cr_assert_eq(pj_int64(change.values[0]), 5);
    accept(insert("flag", "\"t\""));
    is_bytes(change.values[2], "\1", 1);
    accept(insert("any", "\"NaN\""));
    is_text(change.values[1], "NaN");
    accept(insert("bytes", "\"\\\\x00ff\""));
    is_bytes(change.values[6], "\0\xff", 2);
}

Test(wal2json, booleans)
{
    accept(insert("flag", "true"));
    is_bytes(change.values[2], "\1", 1);
    accept(insert("flag", "false"));
    is_bytes(change.values[2], "\0", 1);
    refuse(insert("any", "true"));
    refuse(insert("id", "false"));
    refuse(insert("flag", "1"));
}

Test(wal2json, a_kind_of_value_that_the_type_never_has_is_refused)
{
    static const char *const columns[] = {"text", "bytes", "day", "local", "at"};
    for (size_t i = 0; i < sizeof columns / sizeof *columns; i++) {
        refuse(insert(columns[i], "20260101"));
        refuse(insert(columns[i], "true"));
        refuse(insert(columns[i], "[]"));
        accept(insert(columns[i], "null"));
    }
}

Test(wal2json, all_escapes)
{
    accept(insert("text", "\"\\\"\\\\\\/\\b\\f\\n\\r\\t\\u0001\\u00e9\\u20AC\\ud83d\\uDE00 plain\""));
    is_text(change.values[5], "\"\\/\b\f\n\r\t\x01\xc3\xa9\xe2\x82\xac\xf0\x9f\x98\x80 plain");
    accept(insert("any", "\"{\\\"a\\\": 1}\""));
    is_text(change.values[1], "{\"a\": 1}");
    accept(insert("day", "\"2000\\u002d01-01\""));
    cr_assert_eq(pj_int64(change.values[7]), 0);
    accept(insert("t\\u0065xt", "\"x\""));
    is_text(change.values[5], "x");
    static const char *const wrong[] = {
        "\\u0000", "\\ud83d", "\\ud83dx", "\\ud83d\\u0041", "\\ude00", "\\u12g4", "\\u12", "\\x",
        "\\",      "\\'",     "\n",       "\x01",           "\x1f"};
    for (size_t i = 0; i < sizeof wrong / sizeof *wrong; i++) {
        char value[32];
        snprintf(value, sizeof value, "\"%s\"", wrong[i]);
        refuse(insert("text", value));
    }
}

Test(wal2json, utf8)
{
    static const char *const right[] = {"\x7f",         "\xc2\x80",         "\xdf\xbf",
                                        "\xe0\xa0\x80", "\xed\x9f\xbf",     "\xee\x80\x80",
                                        "\xef\xbf\xbf", "\xf0\x90\x80\x80", "\xf4\x8f\xbf\xbf"};
    static const char *const wrong[] = {"\x80",
                                        "\xbf",
                                        "\xc0\x80",
                                        "\xc1\xbf",
                                        "\xe0\x9f\xbf",
                                        "\xed\xa0\x80",
                                        "\xed\xbf\xbf",
                                        "\xf0\x8f\xbf\xbf",
                                        "\xf4\x90\x80\x80",
                                        "\xf5\x80\x80\x80",
                                        "\xff",
                                        "\xc3",
                                        "\xe2\x82",
                                        "\xf0\x9f\x98",
                                        "\xc3\x28",
                                        "\xe2\x28\xac",
                                        "\xf0\x9f\x28\x80"};
    char value[64];
    for (int lead = 0; lead < 20; lead++) { /* at every offset within a block */
        for (size_t i = 0; i < sizeof right / sizeof *right; i++) {
            snprintf(value, sizeof value, "\"%.*s%s\"", lead, "aaaaaaaaaaaaaaaaaaaaaaaa", right[i]);
            accept(insert("text", value));
            cr_assert_eq((size_t)change.values[5].length, strlen(value) - 2);
            cr_assert_eq(memcmp(change.values[5].data, value + 1, strlen(value) - 2), 0);
        }
        for (size_t i = 0; i < sizeof wrong / sizeof *wrong; i++) {
            snprintf(value, sizeof value, "\"%.*s%s\"", lead, "aaaaaaaaaaaaaaaaaaaaaaaa", wrong[i]);
            refuse(insert("text", value));
        }
    }
}

Test(wal2json, a_value_that_does_not_fit_names_its_column_and_is_not_quoted)
{
    refuse(insert("at", "\"secret-value\""));
    cr_assert_not_null(strstr(error.message, "public.all.at"));
    cr_assert_null(strstr(error.message, "secret"));
    refuse("{\"action\":\"I\",\"schema\":\"public\",\"table\":\"all\",\"columns\":[{\"name\":\"text\",\"value\":"
           "\"secret\"");
    cr_assert_null(strstr(error.message, "secret"));
    cr_assert_not_null(strstr(error.message, "\"table\":\"all\""));
}

Test(wal2json, a_megabyte_of_text)
{
    struct pj_buf message = {0};
    pj_buf_puts(
        &message,
        "{\"action\":\"I\",\"schema\":\"public\",\"table\":\"all\",\"columns\":[{\"name\":\"text\",\"value\":\"");
    for (int i = 0; i < 1 << 18; i++)
        pj_buf_puts(&message, i % 1000 ? "abcd" : "\\n\xc3\xa9.");
    pj_buf_puts(&message, "\"}]}");
    accept(message.data);
    cr_assert_eq(change.values[5].length, 1 << 20);
    is_bytes((struct pj_value){change.values[5].data, 8}, "\n\xc3\xa9.abcd", 8);
    pj_buf_free(&message);
}

/* ------------------------------------------------------------------------------------------------- other spellings */

Test(wal2json, unknown_keys_and_columns_are_skipped)
{
    accept("{\"action\":\"I\",\"x\":{\"a\":[1,-2.5e3,true,null,\"\\u00e9\",{},[]],\"b\":{}},\"schema\":\"public\","
           "\"table\":\"all\",\"pk\":[{\"name\":\"id\",\"type\":\"integer\"}],\"columns\":[{\"name\":\"id\",\"type\":"
           "\"integer\","
           "\"typeoid\":23,\"value\":7,\"optional\":false,\"position\":1},{\"name\":\"added later\",\"value\":\"v\"},"
           "{\"name\":\"text\",\"value\":\"t\"}],\"y\":[]}");
    cr_assert_eq(pj_int64(change.values[0]), 7);
    is_text(change.values[5], "t");
}

Test(wal2json, white_space_and_another_order_of_keys)
{
    accept(" {\t\"action\" : \"U\" ,\n\"identity\":[ {\"value\" : 1 , \"name\" : \"id\" } , "
           "{\"name\":\"second\",\"value\":2} ],"
           "\"columns\" : [ { \"name\" : \"text\" , \"value\" : \"t\" } ] ,\r\"table\":\"all\",\"xid\": 9 ,"
           "\"schema\" : \"public\" } \n");
    cr_assert_eq(change.table, fixture.tables[FIXTURE_ALL]);
    cr_assert_eq(change.xid, 9);
    is_text(change.values[5], "t");
    cr_assert_eq(pj_int64(change.identity[0]), 1);
    cr_assert_eq(pj_int64(change.identity[1]), 2);
}

Test(wal2json, malformed_messages)
{
    static const char *const messages[] = {
        "",
        " ",
        "{}",
        "[]",
        "null",
        "\"action\"",
        "{\"action\"}",
        "{\"action\":}",
        "{\"action\":\"B\",}",
        "{\"action\":\"B\"}}",
        "{\"action\":\"B\"} x",
        "{\"action\":\"X\"}",
        "{\"action\":\"\"}",
        "{\"action\":\"BC\"}",
        "{\"action\":1}",
        "{\"xid\":1,\"action\":\"B\"}",
        "{\"action\":\"B\",\"action\":\"B\"}",
        "{\"action\":\"B\",\"xid\":1,\"xid\":1}",
        "{\"action\":\"B\" \"xid\":1}",
        "{\"action\":\"B\",\"a\":01}",
        "{\"action\":\"B\",\"a\":1.}",
        "{\"action\":\"B\",\"a\":.5}",
        "{\"action\":\"B\",\"a\":-}",
        "{\"action\":\"B\",\"a\":1e}",
        "{\"action\":\"B\",\"a\":+1}",
        "{\"action\":\"B\",\"a\":nul}",
        "{\"action\":\"B\",\"a\":[1,]}",
        "{\"action\":\"B\",\"a\":[}",
        "{\"action\":\"B\",\"a\":{]}",
        "{\"action\":\"B\",\"a\":{1:2}}",
        "{\"action\":\"B\",\"a\":{\"b\"}}",
        "{\"action\":\"B\",\"a\":[1}}",
        "{'action':'B'}",
        "{\"action\":\"B\",\"a\":NaN}",
        "{\"action\":\"T\"}",
        "{\"action\":\"T\",\"schema\":\"public\"}",
        "{\"action\":\"T\",\"table\":\"all\"}",
        "{\"action\":\"T\",\"schema\":null,\"table\":\"all\"}",
        "{\"action\":\"T\",\"schema\":\"public\",\"table\":5}",
        "{\"action\":\"T\",\"schema\":\"public\",\"table\":\"all\",\"table\":\"all\"}",
        "{\"action\":\"I\",\"schema\":\"public\",\"table\":\"all\",\"columns\":{}}",
        "{\"action\":\"I\",\"schema\":\"public\",\"table\":\"all\",\"columns\":[1]}",
        "{\"action\":\"I\",\"schema\":\"public\",\"table\":\"all\",\"columns\":[{}]}",
        "{\"action\":\"I\",\"schema\":\"public\",\"table\":\"all\",\"columns\":[{\"name\":\"id\"}]}",
        "{\"action\":\"I\",\"schema\":\"public\",\"table\":\"all\",\"columns\":[{\"value\":1}]}",
        "{\"action\":\"I\",\"schema\":\"public\",\"table\":\"all\",\"columns\":[{\"name\":1,\"value\":1}]}",
        "{\"action\":\"I\",\"schema\":\"public\",\"table\":\"all\",\"columns\":[{\"name\":\"id\",\"value\":1,\"value\":"
        "1}]}",
        "{\"action\":\"I\",\"schema\":\"public\",\"table\":\"all\",\"columns\":[{\"name\":\"id\",\"value\":1,\"name\":"
        "\"id\"}]}",
        "{\"action\":\"I\",\"schema\":\"public\",\"table\":\"all\",\"columns\":[{\"name\":\"id\",\"value\":1},]}",
        "{\"action\":\"I\",\"schema\":\"public\",\"table\":\"all\",\"columns\":[{\"name\":\"id\",\"value\":1}"
        "{\"name\":\"text\",\"value\":\"\"}]}",
        "{\"action\":\"I\",\"schema\":\"public\",\"table\":\"all\",\"columns\":[{\"name\":\"id\",\"value\":1},"
        "{\"name\":\"id\",\"value\":1}]}",
        "{\"action\":\"I\",\"schema\":\"public\",\"table\":\"all\",\"columns\":[],\"columns\":[]}",
    };
    for (size_t i = 0; i < sizeof messages / sizeof *messages; i++)
        refuse(messages[i]);
    cr_assert_eq(decode_bytes("{\"action\":\"B\"}\0", 15), PJ_EDATA);
    cr_assert_eq(decode_bytes("{\"action\":\"B\",\"xid\":803\0}", 25), PJ_EDATA);
}

Test(wal2json, nesting_has_a_limit)
{
    char message[400];
    for (int depth = PJ_JSON_DEPTH - 1; depth <= PJ_JSON_DEPTH + 1; depth++) {
        size_t at = (size_t)sprintf(message, "{\"action\":\"B\",\"a\":");
        memset(message + at, '[', (size_t)depth);
        memset(message + at + depth, ']', (size_t)depth);
        strcpy(message + at + 2 * depth, "}");
        cr_assert_eq(decode(message), depth <= PJ_JSON_DEPTH ? PJ_OK : PJ_EDATA, "%d", depth);
    }
}

Test(wal2json, what_went_wrong_is_named_within_bounds)
{
    refuse("{\"action\":\"Q\",\"xid\":1}");
    cr_assert_not_null(strstr(error.message, "actions"));
    char message[2000];
    memset(message, 'z', sizeof message);
    memcpy(message, "{\"action\":\"", 11);
    cr_assert_eq(decode_bytes(message, sizeof message), PJ_EDATA);
    cr_assert_lt(strlen(error.message), 300);
}
