#include "core/copy_plan.h"

#include "base/mem.h"

#include <criterion/criterion.h>

static struct pj_table_column columns[] = {
    {.name = "Id", .type_oid = 20, .cast_sql = "pg_catalog.int8"},
    {.name = "say \"what\"", .type_oid = 25, .cast_sql = "pg_catalog.text"},
};

static struct pj_table table = {
    .schema = "public", .name = "t", .mirror_sql = "\"public\".\"t\"", .ncolumns = 2, .columns = columns};

/* Every block in exactly one piece, none below the size asked for but the only one, the last one open. */
static void check_cut(int64_t blocks, int64_t least)
{
    struct pj_copy_plan plan = {0};
    pj_copy_plan_cut(&plan, &table, "public.t", blocks, least);
    cr_assert_geq(plan.count, 1);
    int64_t at = 0;
    for (int i = 0; i < plan.count; i++) {
        cr_assert_eq(plan.pieces[i].first, at, "%ld blocks by %ld: piece %d", (long)blocks, (long)least, i);
        bool last = i == plan.count - 1;
        cr_assert(last ? plan.pieces[i].end == -1 : plan.pieces[i].end - at >= least);
        at = plan.pieces[i].end;
    }
    if (least > 0 && plan.count > 1)
        cr_assert_geq(blocks - plan.pieces[plan.count - 1].first, least);
    pj_copy_plan_free(&plan);
}

Test(copy_plan, cuts_without_gap_or_overlap)
{
    for (int64_t blocks = 0; blocks < 200; blocks++)
        for (int64_t least = 0; least < 40; least++)
            check_cut(blocks, least);
}

Test(copy_plan, cuts_a_large_relation_and_not_a_small_one)
{
    struct pj_copy_plan plan = {0};
    pj_copy_plan_cut(&plan, &table, "public.t", 8192, 8192);
    cr_assert_eq(plan.count, 1);
    pj_copy_plan_cut(&plan, &table, "public.t", 4 * 8192, 8192);
    cr_assert_eq(plan.count, 5);
    pj_copy_plan_free(&plan);
}

static void check_out(int64_t first, int64_t end, const char *where)
{
    struct pj_copy_piece piece = {&table, (char[]){"public.t_1"}, first, end};
    struct pj_buf sql = {0}, wanted = {0};
    pj_copy_piece_out(&piece, &sql);
    pj_buf_printf(&wanted,
                  "COPY (SELECT \"Id\", \"say \"\"what\"\"\" FROM ONLY public.t_1%s) TO STDOUT (FORMAT binary)", where);
    cr_assert_str_eq(pj_buf_text(&sql), pj_buf_text(&wanted));
    pj_buf_free(&sql);
    pj_buf_free(&wanted);
}

Test(copy_plan, reads_the_leaf_by_ranges_of_blocks)
{
    check_out(0, -1, "");
    check_out(0, 10, " WHERE ctid < '(10,0)'::pg_catalog.tid");
    check_out(10, 20, " WHERE ctid >= '(10,0)'::pg_catalog.tid AND ctid < '(20,0)'::pg_catalog.tid");
    check_out(20, -1, " WHERE ctid >= '(20,0)'::pg_catalog.tid");
}

Test(copy_plan, writes_into_the_mirror_by_column_names)
{
    struct pj_copy_piece piece = {&table, (char[]){"public.t_1"}, 0, -1};
    struct pj_buf sql = {0};
    pj_copy_piece_in(&piece, &sql);
    cr_assert_str_eq(pj_buf_text(&sql),
                     "COPY \"public\".\"t\" (\"Id\", \"say \"\"what\"\"\") FROM STDIN (FORMAT binary)");
    pj_buf_free(&sql);
}

static bool binary(uint32_t oid, const char *cast, const char *output)
{
    struct pj_table_column column = {.type_oid = oid, .cast_sql = pj_strdup(cast), .output_sql = pj_strdup(output)};
    bool result = pj_copy_column_binary(&column);
    pj_free(column.cast_sql);
    pj_free(column.output_sql);
    return result;
}

Test(copy_plan, binary_only_where_no_oid_of_one_database_travels)
{
    cr_assert(binary(2950, "pg_catalog.uuid", NULL));
    cr_assert(binary(1007, "pg_catalog.int4[]", "pg_catalog.array_out"));
    cr_assert(binary(1700, "pg_catalog.\"numeric\"", "pg_catalog.numeric_out"));
    cr_assert(binary(16400, "public.mood", "pg_catalog.enum_out"));
    cr_assert_not(binary(16399, "public.mood[]", "pg_catalog.array_out"));
    cr_assert_not(binary(16410, "app.pair", "pg_catalog.record_out"));
    cr_assert_not(binary(16420, "public.citext", "public.citextout"));
    cr_assert_not(binary(2205, "pg_catalog.regclass", "pg_catalog.regclassout"));
    cr_assert_not(binary(2210, "pg_catalog.regclass[]", "pg_catalog.array_out"));
    cr_assert_not(binary(1034, "pg_catalog.aclitem[]", "pg_catalog.array_out"));
}

Test(copy_plan, one_column_that_cannot_go_in_binary_makes_the_table_go_as_text)
{
    struct pj_table_column mixed[] = {
        columns[0], {.name = "c", .type_oid = 16410, .cast_sql = "app.pair", .output_sql = "pg_catalog.record_out"}};
    struct pj_table other = {.mirror_sql = "\"m\"", .ncolumns = 2, .columns = mixed};
    struct pj_copy_piece piece = {&other, (char[]){"t"}, 0, -1};
    struct pj_buf sql = {0};
    pj_copy_piece_in(&piece, &sql);
    cr_assert_not_null(strstr(pj_buf_text(&sql), "FORMAT text"));
    pj_buf_free(&sql);
}
