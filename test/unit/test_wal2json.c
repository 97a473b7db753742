/* The decoder on hand-written messages, on recorded ones against the jansson reference, and on damaged ones. */
#include "../reference/table_fixture.h"
#include "../reference/wal2json_reference.h"

#include "base/buf.h"
#include "wire/wal2json.h"

#include <criterion/criterion.h>
#include <dirent.h>
#include <stdio.h>

#define CORPUS "test/fuzz/corpus/fuzz_wal2json"

static struct fixture_map fixture;
static struct pj_decoder *decoder;
static struct pj_arena arena;
static struct pj_row_change change;
static struct pj_error error;

static void set_up(void)
{
    fixture = fixture_map_new();
    decoder = pj_wal2json_new(fixture.map);
    pj_arena_init(&arena);
}

static void tear_down(void)
{
    decoder->free(decoder);
    pj_arena_free(&arena);
    fixture_map_free(&fixture);
}

TestSuite(wal2json, .init = set_up, .fini = tear_down);

/* On a copy of exact size, so that a sanitizer sees any byte read behind it, and so that nothing may point into it. */
static int decode_bytes(const char *bytes, size_t length)
{
    char *copy = pj_realloc(NULL, length);
    memcpy(copy, bytes, length);
    int code = decoder->decode(decoder, copy, length, 77, &arena, &change, &error);
    memset(copy, 'x', length);
    pj_free(copy);
    return code;
}

static int decode(const char *message)
{
    return decode_bytes(message, strlen(message));
}

static void accept(const char *message)
{
    cr_assert_eq(decode(message), PJ_OK, "%s: %s", message, error.message);
}

static void refuse(const char *message)
{
    cr_assert_eq(decode(message), PJ_EDATA, "%s", message);
    cr_assert_eq(error.code, PJ_EDATA);
}

static void is_bytes(struct pj_value value, const char *bytes, int length)
{
    cr_assert_eq(value.length, length, "length %d", value.length);
    cr_assert(length <= 0 || memcmp(value.data, bytes, (size_t)length) == 0);
}

static void is_text(struct pj_value value, const char *text)
{
    is_bytes(value, text, (int)strlen(text));
}

/* An INSERT of one column into public.all. */
static const char *insert(const char *column, const char *value)
{
    static char message[4096];
    snprintf(message, sizeof message,
             "{\"action\":\"I\",\"schema\":\"public\",\"table\":\"all\",\"columns\":[{\"name\":\"%s\",\"value\":%s}]}",
             column, value);
    return message;
}

/* ------------------------------------------------------------------------------------------------- transactions */

Test(wal2json, begin_and_commit)
{
    accept("{\"action\":\"B\",\"xid\":729,\"timestamp\":\"2026-11-20 12:25:29.598395+00\"}");
    cr_assert_eq(change.action, PJ_BEGIN);
    cr_assert_eq(change.xid, 729);
    cr_assert_eq(change.end_lsn, 0);
    accept("{\"action\":\"C\",\"xid\":4294967295,\"timestamp\":\"2026-11-20 12:25:29.598395+00\"}");
    cr_assert_eq(change.action, PJ_COMMIT);
    cr_assert_eq(change.xid, UINT32_MAX);
    cr_assert_eq(change.end_lsn, 77, "the header's position is the commit's end");
    cr_assert_eq(change.commit_us, INT64_C(0x000303b31bbe01bb));
}

Test(wal2json, commit_without_the_optional_parts)
{
    accept("{\"action\":\"C\"}");
    cr_assert_eq(change.xid, 0);
    cr_assert_eq(change.commit_us, 0);
    accept("{\"action\":\"C\",\"xid\":null,\"timestamp\":null}");
    accept("{\"action\":\"C\",\"lsn\":\"0/1554A60\",\"nextlsn\":\"0/1554A90\",\"origin\":0}");
    refuse("{\"action\":\"C\",\"timestamp\":\"yesterday\"}");
    refuse("{\"action\":\"C\",\"timestamp\":5}");
    refuse("{\"action\":\"C\",\"xid\":4294967296}");
    refuse("{\"action\":\"C\",\"xid\":-1}");
    refuse("{\"action\":\"C\",\"xid\":1.5}");
    refuse("{\"action\":\"C\",\"xid\":\"1\"}");
}

Test(wal2json, logical_messages_change_nothing)
{
    accept("{\"action\":\"M\",\"xid\":null,\"timestamp\":null,\"transactional\":false,\"prefix\":\"p\",\"content\":"
           "\"c\"}");
    cr_assert_eq(change.action, PJ_MESSAGE);
    cr_assert_null(change.table);
}

/* --------------------------------------------------------------------------------------------------------- rows */

Test(wal2json, insert_into_known_table)
{
    accept(
        "{\"action\":\"I\",\"xid\":5,\"timestamp\":\"x\",\"schema\":\"public\",\"table\":\"conversations\",\"columns\":"
        "["
        "{\"name\":\"id\",\"value\":\"01234567-89ab-cdef-0123-456789abcdef\"},{\"name\":\"tenant_id\",\"value\":null},"
        "{\"name\":\"title\",\"value\":\"T\"},{\"name\":\"updated_at\",\"value\":\"2000-01-01 00:00:00.000001+00\"}]}");
    cr_assert_eq(change.action, PJ_INSERT);
    cr_assert_eq(change.table, fixture.tables[FIXTURE_CONVERSATIONS]);
    is_bytes(change.values[0], "\x01\x23\x45\x67\x89\xab\xcd\xef\x01\x23\x45\x67\x89\xab\xcd\xef", 16);
    cr_assert(pj_is_null(change.values[1]));
    is_text(change.values[2], "T");
    cr_assert_eq(change.values[3].length, PJ_ABSENT);
    cr_assert_eq(change.values[4].length, PJ_ABSENT);
    cr_assert_eq(pj_int64(change.values[5]), 1);
    cr_assert_null(change.identity);
    cr_assert_null(change.old_values);
}

Test(wal2json, update_carries_the_old_identity)
{
    accept("{\"action\":\"U\",\"schema\":\"public\",\"table\":\"all\",\"columns\":[{\"name\":\"id\",\"value\":1},"
           "{\"name\":\"second\",\"value\":10}],\"identity\":[{\"name\":\"id\",\"value\":1},{\"name\":\"second\","
           "\"value\":9}]}");
    cr_assert_eq(change.action, PJ_UPDATE);
    cr_assert_eq(pj_int64(change.values[11]), 10);
    cr_assert_eq(pj_int64(change.identity[0]), 1);
    cr_assert_eq(pj_int64(change.identity[1]), 9);
    cr_assert_null(change.old_values);
}

Test(wal2json, identity_comes_in_the_tables_order_of_it)
{
    struct pj_table *all = fixture.tables[FIXTURE_ALL];
    all->identity[0] = 11;
    all->identity[1] = 0;
    pj_relmap_put(fixture.map, "public", "all", all);
    accept("{\"action\":\"D\",\"schema\":\"public\",\"table\":\"all\",\"identity\":[{\"name\":\"id\",\"value\":1},"
           "{\"name\":\"second\",\"value\":9}]}");
    cr_assert_eq(change.action, PJ_DELETE);
    cr_assert_null(change.values);
    cr_assert_eq(pj_int64(change.identity[0]), 9);
    cr_assert_eq(pj_int64(change.identity[1]), 1);
}

Test(wal2json, identity_full_is_the_whole_old_row)
{
    accept("{\"action\":\"U\",\"schema\":\"public\",\"table\":\"full\",\"columns\":[{\"name\":\"id\",\"value\":2},"
           "{\"name\":\"second\",\"value\":9}],\"identity\":[{\"name\":\"id\",\"value\":1},{\"name\":\"text\","
           "\"value\":\"old\"},"
           "{\"name\":\"second\",\"value\":9}]}");
    is_text(change.old_values[5], "old");
    cr_assert_eq(pj_int64(change.old_values[0]), 1);
    cr_assert_eq(change.old_values[1].length, PJ_ABSENT);
    cr_assert_eq(pj_int64(change.identity[0]), 1);
    cr_assert_eq(pj_int64(change.identity[1]), 9);
    cr_assert_eq(pj_int64(change.values[0]), 2);
    refuse("{\"action\":\"D\",\"schema\":\"public\",\"table\":\"full\",\"identity\":[{\"name\":\"id\",\"value\":1}]}");
    cr_assert_not_null(strstr(error.message, "public.full: column second"));
}

Test(wal2json, missing_identity_names_the_table)
{
    refuse("{\"action\":\"D\",\"schema\":\"public\",\"table\":\"all\"}");
    cr_assert_not_null(strstr(error.message, "public.all"));
    cr_assert_not_null(strstr(error.hint, "REPLICA IDENTITY"));
    refuse("{\"action\":\"U\",\"schema\":\"public\",\"table\":\"all\",\"columns\":[{\"name\":\"id\",\"value\":1}]}");
    refuse("{\"action\":\"U\",\"schema\":\"public\",\"table\":\"all\",\"identity\":[{\"name\":\"id\",\"value\":1},"
           "{\"name\":\"second\",\"value\":9}]}");
    refuse("{\"action\":\"D\",\"schema\":\"public\",\"table\":\"all\",\"identity\":[{\"name\":\"id\",\"value\":1}]}");
    cr_assert_not_null(strstr(error.message, "column second"));
    refuse("{\"action\":\"I\",\"schema\":\"public\",\"table\":\"all\"}");
}

Test(wal2json, truncate)
{
    accept("{\"action\":\"T\",\"xid\":735,\"schema\":\"public\",\"table\":\"all\"}");
    cr_assert_eq(change.action, PJ_TRUNCATE);
    cr_assert_eq(change.table, fixture.tables[FIXTURE_ALL]);
}

/* ---------------------------------------------------------------------------------------------------- relations */

Test(wal2json, relations_of_no_concern_and_unknown_ones)
{
    for (int round = 0; round < 2; round++) {
        accept("{\"action\":\"I\",\"schema\":\"public\",\"table\":\"ignored\",\"columns\":[{\"name\":\"id\",\"value\":["
               "1]}]}");
        cr_assert_eq(change.action, PJ_INSERT);
        cr_assert_null(change.table);
        cr_assert_null(change.values);
        accept("{\"action\":\"D\",\"schema\":\"public\",\"table\":\"n\\u00e9w\",\"identity\":[{\"name\":\"id\","
               "\"value\":1}]}");
        cr_assert_eq(change.action, PJ_UNKNOWN_RELATION);
        cr_assert_str_eq(change.schema, "public");
        cr_assert_str_eq(change.name, "n\xc3\xa9w");
    }
    pj_relmap_put(fixture.map, "public", "n\xc3\xa9w", fixture.tables[FIXTURE_ALL]);
    accept("{\"action\":\"T\",\"schema\":\"public\",\"table\":\"n\xc3\xa9w\"}");
    cr_assert_eq(change.table, fixture.tables[FIXTURE_ALL]);
}

Test(wal2json, a_leaf_counts_as_its_root_whatever_its_columns_order)
{
    accept("{\"action\":\"I\",\"schema\":\"public\",\"table\":\"p\\\"art\",\"columns\":[{\"name\":\"content\","
           "\"value\":\"c\"},"
           "{\"name\":\"sequence_number\",\"value\":3},{\"name\":\"id\",\"value\":\"01234567-89ab-cdef-0123-"
           "456789abcdef\"}]}");
    cr_assert_eq(change.table, fixture.tables[FIXTURE_MESSAGES]);
    is_text(change.values[5], "c");
    cr_assert_eq(pj_int64(change.values[3]), 3);
    cr_assert_eq(change.values[0].length, 16);
}

Test(wal2json, follows_a_replaced_table)
{
    struct pj_table *other = fixture_table(FIXTURE_ALL, "public", "all", fixture_conversations);
    accept(insert("id", "1"));
    pj_relmap_put(fixture.map, "public", "all", other);
    accept(insert("title", "\"t\""));
    cr_assert_eq(change.table, other);
    is_text(change.values[2], "t");
    fixture_table_free(other);
}

Test(wal2json, many_relations_take_turns)
{
    char message[256], name[32];
    for (int i = 0; i < 40; i++) {
        snprintf(name, sizeof name, "leaf_%d", i);
        pj_relmap_put(fixture.map, "public", name, fixture.tables[i % 2 ? FIXTURE_ALL : FIXTURE_FULL]);
    }
    for (int i = 0; i < 400; i++) {
        snprintf(message, sizeof message,
                 "{\"action\":\"I\",\"schema\":\"public\",\"table\":\"leaf_%d\",\"columns\":[{\"name\":\"id\","
                 "\"value\":%d}]}",
                 i * 7 % 40, i);
        accept(message);
        cr_assert_eq(change.table, fixture.tables[i * 7 % 40 % 2 ? FIXTURE_ALL : FIXTURE_FULL]);
        cr_assert_eq(pj_int64(change.values[0]), i);
    }
}

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
    refuse("{\"action\":\"M\",\"prefix\":\"secret");
    cr_assert_null(strstr(error.message, "secret"));
}

/* ------------------------------------------------------------------------------------------ recorded and damaged */

struct corpus {
    char *messages[512];
    char *names[512];
    int count;
};

static char *read_file(const char *name)
{
    char path[512];
    snprintf(path, sizeof path, CORPUS "/%s", name);
    FILE *file = fopen(path, "rb");
    cr_assert_not_null(file, "%s", path);
    char *text = pj_alloc(1 << 16);
    cr_assert_lt(fread(text, 1, (1 << 16) - 1, file), (1 << 16) - 1, "%s is too long", path);
    fclose(file);
    return text;
}

static struct corpus read_corpus(void)
{
    struct corpus corpus = {.count = 0};
    struct dirent *entry;
    DIR *dir = opendir(CORPUS);
    cr_assert_not_null(dir, "run from the top of the repository");
    while ((entry = readdir(dir)))
        if (entry->d_name[0] != '.' && corpus.count < 512) {
            corpus.names[corpus.count] = pj_strdup(entry->d_name);
            corpus.messages[corpus.count++] = read_file(entry->d_name);
        }
    closedir(dir);
    cr_assert_gt(corpus.count, 30);
    return corpus;
}

static void free_corpus(struct corpus *corpus)
{
    for (int i = 0; i < corpus->count; i++) {
        pj_free(corpus->messages[i]);
        pj_free(corpus->names[i]);
    }
}

static void agree(const char *message, size_t length, const char *name)
{
    struct pj_row_change reference;
    enum reference_verdict verdict = reference_decode(fixture.map, message, length, 77, &arena, &reference);
    int code = decode_bytes(message, length);
    if (verdict == REFERENCE_CANNOT_TELL || (code != PJ_OK && reference_minus_zero(message, length)))
        return;
    cr_assert_eq(code == PJ_OK, verdict == REFERENCE_ACCEPTS, "%s: %.*s", name, (int)length, message);
    if (code == PJ_OK)
        cr_assert(reference_same(&change, &reference), "%s: %.*s", name, (int)length, message);
}

Test(wal2json, agrees_with_jansson_on_recorded_messages)
{
    struct corpus corpus = read_corpus();
    int rows = 0;
    for (int i = 0; i < corpus.count; i++) {
        if (strncmp(corpus.names[i], "recorded-", 9) == 0)
            accept(corpus.messages[i]);
        rows += change.table != NULL;
        agree(corpus.messages[i], strlen(corpus.messages[i]), corpus.names[i]);
    }
    cr_assert_gt(rows, 15, "only %d of the messages are rows of tables we know", rows);
    free_corpus(&corpus);
}

Test(wal2json, refuses_every_beginning_of_a_message)
{
    struct corpus corpus = read_corpus();
    for (int i = 0; i < corpus.count; i++) {
        if (strncmp(corpus.names[i], "recorded-", 9) != 0)
            continue;
        for (size_t length = 0; length < strlen(corpus.messages[i]); length++)
            cr_assert_eq(decode_bytes(corpus.messages[i], length), PJ_EDATA, "%s, %zu bytes", corpus.names[i], length);
        pj_arena_reset(&arena, 1 << 20);
    }
    free_corpus(&corpus);
}

/* Bytes changed, doubled, dropped at random: the scanner and jansson go on agreeing. */
static size_t damage(char *message, size_t length, uint64_t *state)
{
    static const char bytes[] = "{}[]\",:\\0123456789-+.eE nulltruefalse\x80\xc3\xff\t\n\x01";
    for (int count = 1 + (int)(*state >> 60) % 3; count > 0 && length > 2; count--) {
        *state = *state * UINT64_C(6364136223846793005) + UINT64_C(1442695040888963407);
        size_t at = (size_t)(*state >> 33) % (length - 1);
        switch (*state >> 32 & 3) {
        case 0:
            memmove(message + at, message + at + 1, length - at - 1);
            length--;
            break;
        case 1:
            memmove(message + at + 1, message + at, length - at);
            length++;
            break;
        default:
            message[at] = bytes[(*state >> 40) % (sizeof bytes - 1)];
        }
    }
    return length;
}

Test(wal2json, agrees_with_jansson_on_damaged_messages)
{
    struct corpus corpus = read_corpus();
    const char *seed_text = getenv("SEED");
    uint64_t seed = seed_text ? strtoull(seed_text, NULL, 10) : 20260131, state = seed;
    static char message[1 << 17];
    for (int round = 0; round < 20000; round++) {
        const char *original = corpus.messages[round % corpus.count];
        size_t length = strlen(original);
        memcpy(message, original, length);
        length = damage(message, length, &state);
        char name[64];
        snprintf(name, sizeof name, "SEED=%llu round %d", (unsigned long long)seed, round);
        agree(message, length, name);
        if (round % 1000 == 999)
            pj_arena_reset(&arena, 1 << 20);
    }
    free_corpus(&corpus);
}

/* ------------------------------------------------------------------------------------------------------ options */

Test(wal2json, options_escape_names_for_wal2json_and_for_sql)
{
    static const char *const tables[][2] = {
        {"public", "plain_1"}, {"public", "Od d.S,x"},           {"a'b", "we\"ird\\"},
        {"public", "*"},       {"public", "gr\xc3\xbc\xc3\x9f"}, {"all of it", NULL}};
    struct pj_buf sql = {0};
    pj_wal2json_options(&sql, tables, 6);
    cr_assert_str_eq(
        pj_buf_text(&sql),
        "(\"format-version\" '2', \"include-xids\" 'true', \"include-timestamp\" 'true', "
        "\"include-types\" 'false', \"include-lsn\" 'false', \"include-transaction\" 'true', \"add-tables\" "
        "'public.plain_1,public.Od\\ d\\.S\\,x,a\\''b.we\\\"ird\\\\,public.\\*,public.gr\xc3\xbc\xc3\x9f,"
        "all\\ of\\ it.*')");
    pj_buf_free(&sql);
}

Test(wal2json, names_its_plugin)
{
    cr_assert_str_eq(decoder->plugin, "wal2json");
}
