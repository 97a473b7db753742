/* The parts of verify that need no server: what is counted and shown, and the SQL that makes rows comparable. */
#include "core/verify_internal.h"

#include <criterion/criterion.h>
#include <stdio.h>
#include <string.h>

struct seen {
    int reports, tables;
    char last[200];
    int64_t rows, of, differences;
};

static void report(void *context, const struct pj_difference *difference)
{
    struct seen *seen = context;
    seen->reports++;
    snprintf(seen->last, sizeof seen->last, "%s %s %s %s", difference->kind, difference->name, difference->fault,
             difference->key);
}

static void compared(void *context, const char *kind, const char *name, int64_t rows, int64_t of, int64_t differences)
{
    struct seen *seen = context;
    seen->tables++;
    seen->rows = rows;
    seen->of = of;
    seen->differences = differences;
    snprintf(seen->last, sizeof seen->last, "%s %s", kind, name);
}

Test(verify, counts_all_differences_and_shows_the_first_few)
{
    struct seen seen = {0};
    struct pj_verify_options options = {.keys_shown = 2, .report = report, .compared = compared, .context = &seen};
    struct pj_verify_tally tally = {.options = &options, .kind = "mirror", .name = "public.t"};
    pj_verify_tally_add(&tally, "missing", "{\"id\" : 1}", NULL);
    cr_assert_str_eq(seen.last, "mirror public.t missing {\"id\" : 1}");
    pj_verify_tally_add(&tally, "extra", "{\"id\" : 2}", NULL);
    pj_verify_tally_add(&tally, "differs", "{\"id\" : 3}", NULL);
    cr_assert_eq(seen.reports, 2);
    pj_verify_tally_close(&tally, 10, 40);
    cr_assert_eq(seen.tables, 1);
    cr_assert_eq(seen.rows, 10);
    cr_assert_eq(seen.of, 40);
    cr_assert_eq(seen.differences, 3);
    cr_assert_str_eq(seen.last, "mirror public.t");
}

Test(verify, shows_nothing_where_no_keys_are_wanted_or_nobody_listens)
{
    struct seen seen = {0};
    struct pj_verify_options none = {.keys_shown = 0, .report = report, .compared = compared, .context = &seen};
    struct pj_verify_tally tally = {.options = &none, .kind = "mirror", .name = "t"};
    pj_verify_tally_add(&tally, "extra", "{}", NULL);
    cr_assert_eq(seen.reports, 0);
    cr_assert_eq(tally.differences, 1);

    struct pj_verify_options deaf = {.keys_shown = 5};
    struct pj_verify_tally silent = {.options = &deaf, .kind = "mirror", .name = "t"};
    pj_verify_tally_add(&silent, "extra", "{}", NULL);
    pj_verify_tally_close(&silent, 1, 0);
    cr_assert_eq(silent.differences, 1);
}

Test(verify, a_row_is_compared_as_a_record_s_text)
{
    static const char *const names[] = {"id", "Odd \"name\"", "a'b"};
    struct pj_buf sql = {0};
    pj_verify_row_text(&sql, "t.", names, 3);
    cr_assert_str_eq(pj_buf_text(&sql), "ROW(t.\"id\", t.\"Odd \"\"name\"\"\", t.\"a'b\")::pg_catalog.text");
    pj_buf_clear(&sql);
    pj_verify_row_text(&sql, "", names, 1);
    cr_assert_str_eq(pj_buf_text(&sql), "ROW(\"id\")::pg_catalog.text");
    pj_buf_free(&sql);
}

Test(verify, a_key_is_reported_as_a_json_object)
{
    static const char *const names[] = {"id", "a'b\\"};
    struct pj_buf sql = {0};
    pj_verify_key_json(&sql, "d.", names, 2);
    cr_assert_str_eq(pj_buf_text(&sql),
                     "pg_catalog.json_build_object('id', d.\"id\",  E'a''b\\\\', d.\"a'b\\\")::pg_catalog.text");
    pj_buf_free(&sql);
}
