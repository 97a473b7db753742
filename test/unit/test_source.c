/* The parts of reading the source's catalog that need no server. */
#include "base/mem.h"
#include "core/source_internal.h"
#include "core/textarray.h"

#include <criterion/criterion.h>

Test(source, base_types_have_their_kinds_and_others_are_any)
{
    static const struct {
        uint32_t oid;
        enum pj_type kind;
    } known[] = {{16, PJ_BOOL},
                 {21, PJ_INT2},
                 {23, PJ_INT4},
                 {20, PJ_INT8},
                 {25, PJ_TEXT},
                 {1043, PJ_TEXT},
                 {1042, PJ_TEXT},
                 {17, PJ_BYTEA},
                 {1082, PJ_DATE},
                 {1114, PJ_TIMESTAMP},
                 {2950, PJ_UUID},
                 {1184, PJ_TIMESTAMPTZ},
                 {1700, PJ_ANY} /* numeric */,
                 {701, PJ_ANY} /* float8 */,
                 {18, PJ_ANY} /* "char" */,
                 {19, PJ_ANY} /* name */,
                 {114, PJ_ANY},
                 {3802, PJ_ANY},
                 {1007, PJ_ANY},
                 {99999, PJ_ANY}};
    for (size_t i = 0; i < sizeof known / sizeof *known; i++)
        cr_assert_eq(pj_source_kind(known[i].oid), known[i].kind, "oid %u", known[i].oid);
}

static char *identity_of(struct pj_table *table)
{
    struct pj_buf text = {0};
    pj_source_identity_text(table, &text);
    return pj_buf_take(&text);
}

Test(source, the_identity_text_is_the_servers)
{
    struct pj_table_column columns[] = {{.name = "region"}, {.name = "Id"}, {.name = "a_1"}, {.name = "1st"}};
    int identity[] = {0, 2, 1, 3};
    struct pj_table table = {.ncolumns = 4, .columns = columns, .nidentity = 4, .identity = identity};
    char *text = identity_of(&table);
    cr_assert_str_eq(text, "\"1st\", \"Id\", \"a_1\", \"region\"");
    pj_free(text);
    table.identity_full = true;
    text = identity_of(&table);
    cr_assert_str_eq(text, "FULL");
    pj_free(text);
}

Test(source, several_faults_make_one_message)
{
    struct pj_faults faults = {0};
    struct pj_error error;
    cr_assert_eq(pj_faults_report(&faults, PJ_ECONFIG, &error), PJ_OK);
    pj_fault(&faults, "table %s has no primary key", "a");
    pj_fault_hint(&faults, "add one");
    pj_fault(&faults, "table %s does not exist", "b");
    pj_fault_hint(&faults, "create it");
    cr_assert_eq(pj_faults_report(&faults, PJ_ECONFIG, &error), PJ_ECONFIG);
    cr_assert_str_eq(error.message, "table a has no primary key; table b does not exist");
    cr_assert_str_eq(error.hint, "add one; create it");
    cr_assert_eq(faults.count, 0);
}

Test(textarray, elements_cannot_be_taken_for_syntax)
{
    struct pj_buf array = {0};
    pj_textarray_begin(&array);
    pj_textarray_add(&array, "a,b");
    pj_textarray_add(&array, "say \"so\"\\");
    pj_textarray_add(&array, "NULL");
    pj_textarray_add(&array, NULL);
    pj_textarray_add(&array, "");
    pj_textarray_add_oid(&array, 4294967295u);
    pj_textarray_end(&array);
    cr_assert_str_eq(pj_buf_text(&array), "{\"a,b\",\"say \\\"so\\\"\\\\\",\"NULL\",NULL,\"\",4294967295}");
    pj_buf_free(&array);
}

Test(textarray, an_empty_list_and_one_that_begins_with_a_brace)
{
    struct pj_buf array = {0};
    pj_textarray_begin(&array);
    pj_textarray_end(&array);
    cr_assert_str_eq(pj_buf_text(&array), "{}");
    pj_buf_clear(&array);
    pj_textarray_begin(&array);
    pj_textarray_add(&array, "{");
    pj_textarray_add(&array, "{");
    pj_textarray_end(&array);
    cr_assert_str_eq(pj_buf_text(&array), "{\"{\",\"{\"}");
    pj_buf_free(&array);
}
