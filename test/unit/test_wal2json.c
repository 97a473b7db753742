/* The decoder on hand-written messages: transactions, rows, relations. */
#include "reference/wal2json_stage.h"

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

/* An application's message is bytes of any kind, which wal2json writes as they are. */
Test(wal2json, logical_messages_may_hold_any_bytes)
{
    accept("{\"action\":\"M\",\"transactional\":false,\"prefix\":\"p\",\"content\":\"\xc3\"}");
    cr_assert_eq(change.action, PJ_MESSAGE);
    accept("{\"action\":\"M\",\"xid\":7,\"transactional\":true,\"prefix\":\"p\",\"content\":\"\xff\x01\xfe\"}");
    cr_assert_eq(change.action, PJ_MESSAGE);
    cr_assert_eq(decode_bytes("{\"action\":\"M\",\"content\":\"\0\"}", 27), PJ_OK);
    refuse("{\"action\":\"M");
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
    cr_assert_not_null(strstr(error.hint, "ALTER TABLE \"public\".\"all\" REPLICA IDENTITY"));
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

/* ------------------------------------------------------------------------------------------------------ options */

Test(wal2json, options_escape_names_for_wal2json_and_for_sql)
{
    static const char *const tables[][2] = {
        {"public", "plain_1"}, {"public", "Od d.S,x"},           {"a'b", "we\"ird\\"},
        {"public", "*"},       {"public", "gr\xc3\xbc\xc3\x9f"}, {"all of it", NULL}};
    struct pj_buf sql = {0};
    pj_wal2json_options(&sql, tables, 6, false);
    cr_assert_str_eq(
        pj_buf_text(&sql),
        "(\"format-version\" '2', \"include-xids\" 'true', \"include-timestamp\" 'true', "
        "\"include-types\" 'false', \"include-lsn\" 'false', \"include-transaction\" 'true', \"add-tables\" "
        "'public.plain_1,public.Od\\ d\\.S\\,x,a\\''b.we\\\"ird\\\\,public.\\*,public.gr\xc3\xbc\xc3\x9f,"
        "all\\ of\\ it.*')");
    pj_buf_free(&sql);
}

Test(wal2json, options_leave_the_messages_of_others_out)
{
    static const char *const tables[][2] = {{"public", "t"}};
    struct pj_buf sql = {0};
    pj_wal2json_options(&sql, tables, 1, true);
    cr_assert_not_null(strstr(pj_buf_text(&sql), ", \"add-msg-prefixes\" 'pgprojector', \"add-tables\" 'public.t')"));
    pj_buf_free(&sql);
}

Test(wal2json, knows_who_has_no_such_filter)
{
    struct pj_error refused;
    pj_error_set(&refused, PJ_EFAIL, "write database: option \"add-msg-prefixes\" = \"pgprojector\" is unknown");
    cr_assert_not(pj_wal2json_knows_no_filter(&refused));
    strcpy(refused.sqlstate, "22023");
    cr_assert(pj_wal2json_knows_no_filter(&refused));
    pj_error_set(&refused, PJ_EFAIL, "write database: option \"include-xids\" = \"true\" is unknown");
    strcpy(refused.sqlstate, "22023");
    cr_assert_not(pj_wal2json_knows_no_filter(&refused));
}

Test(wal2json, names_its_plugin)
{
    cr_assert_str_eq(decoder->plugin, "wal2json");
}
