/* Binding: names and columns of a deployment, what is refused, and the SQL that comes of it. No server. */
#include "base/mem.h"
#include "core/projection_sql.h"
#include "core/source.h"

#include <criterion/criterion.h>
#include <stdio.h>

/* ------------------------------------------------------------------------------------------- tables and a module */

#define TEXT(text) ((char *)(uintptr_t)(text))

static struct pj_table_column columns[] = {
    {.name = TEXT("id"), .type = PJ_UUID, .type_sql = TEXT("pg_catalog.uuid")},
    {.name = TEXT("Owner"), .type = PJ_INT4, .type_sql = TEXT("pg_catalog.int4")},
};
static const struct pj_table table = {.schema = TEXT("app"),
                                      .name = TEXT("Things"),
                                      .mirror_sql = TEXT("\"app\".\"Things\""),
                                      .ncolumns = 2,
                                      .columns = columns};

static int apply(const struct pj_host *host, struct pj_call *call, const struct pj_change *change)
{
    (void)host;
    (void)call;
    (void)change;
    return 0;
}

static const struct pj_column seen[] = {{"owner", PJ_INT4}, {NULL, PJ_ANY}};
static const struct pj_source sources[] = {{"things", "owner", seen}, {NULL, NULL, NULL}};
static const char *const key[] = {"owner", "id", NULL};
static const struct pj_option options[] = {{"word", "it's", "a word", NULL}, {NULL, NULL, NULL, NULL}};
static const struct pj_stream_column delta[] = {
    {"owner", PJ_INT4, PJ_KEY}, {"n", PJ_INT8, PJ_SUM}, {NULL, PJ_ANY, PJ_KEY}};
static const struct pj_stream streams[] = {{"s", delta, "UPDATE {target} t FROM {delta} d"}, {NULL, NULL, NULL}};
static const struct pj_module good = {
    .name = "m",
    .version = 1,
    .sources = sources,
    .target = "owned",
    .key = key,
    .streams = streams,
    .options = options,
    .apply = apply,
    .definition = "SELECT t.owner, t.id, {option:word} FROM {things} AS t WHERE {keys(t.owner, t.id)}"};

static const char *const bound_tables[][2] = {{"things", "app.Things"}, {NULL, NULL}};
static const char *const bound_columns[][2] = {{"things.owner", "Owner"}, {NULL, NULL}};
static const struct pj_binding binding = {.tables = bound_tables, .columns = bound_columns};

static struct pj_projection projection;
static struct pj_error error;

static int bind(const struct pj_module *module, const struct pj_binding *how)
{
    return pj_projection_bind(&projection, module, how, &table, 1, &error);
}

static void refused(const struct pj_module *module, const struct pj_binding *how, const char *words)
{
    cr_expect_eq(bind(module, how), PJ_ECONFIG);
    cr_expect(strstr(error.message, words) && strstr(error.message, "module m"), "%s", error.message);
}

/* ----------------------------------------------------------------------------------------------------------- names */

static void splits(const char *name, const char *schema, const char *last)
{
    char *first, *second;
    pj_name_split(name, NULL, &first, &second);
    cr_expect_str_eq(first, schema);
    cr_expect_str_eq(second, last);
    pj_free(first);
    pj_free(second);
}

Test(projection, names_are_split)
{
    splits("t", "public", "t");
    splits("s.T", "s", "T");
    splits("\"a.b\".\"c\"\"d\"", "a.b", "c\"d");
}

Test(projection, wants_each_table_once)
{
    struct pj_wanted_table *wanted = NULL;
    int count = 0;
    pj_projection_want(&good, &binding, &wanted, &count, &error);
    pj_projection_want(&good, &binding, &wanted, &count, &error);
    cr_assert_eq(count, 1);
    cr_expect_str_eq(wanted[0].schema, "app");
    cr_expect_str_eq(wanted[0].name, "Things");
    cr_expect_str_eq(wanted[0].wanted_by, "module m");
    pj_free(wanted[0].schema);
    pj_free(wanted[0].name);
    pj_free(wanted[0].wanted_by);
    pj_free(wanted);
}

/* ------------------------------------------------------------------------------------------------------------- sql */

Test(projection, expands_names_options_and_deltas)
{
    cr_assert_eq(bind(&good, &binding), PJ_OK, "%s", error.message);
    cr_expect_str_eq(projection.definition_sql,
                     "SELECT t.owner, t.id, 'it''s' FROM (SELECT \"id\" AS \"id\", \"Owner\" AS \"owner\" FROM "
                     "\"app\".\"Things\") AS t WHERE true\n");
    cr_expect_str_eq(
        projection.merge_sql[0],
        "UPDATE \"public\".\"owned\" t FROM (SELECT pg_catalog.unnest($1::pg_catalog.int4[]) AS \"owner\", "
        "pg_catalog.unnest($2::pg_catalog.int8[]) AS \"n\") d");
    char *one = pj_sql_delta(projection.module->streams, PJ_ONE);
    cr_expect_str_eq(one, "(SELECT $1::pg_catalog.int4 AS \"owner\", $2::pg_catalog.int8 AS \"n\")");
    pj_free(one);
    cr_expect_eq(projection.sources[0].columns[0], 1);
    pj_projection_free(&projection);
}

Test(projection, restricts_to_the_routing_key_or_to_the_full_key)
{
    static const char *const result[] = {"owner", "id"};
    cr_assert_eq(bind(&good, &binding), PJ_OK, "%s", error.message);
    projection.key_types = pj_alloc(2 * sizeof *projection.key_types);
    projection.key_kinds = pj_alloc(2 * sizeof *projection.key_kinds);
    projection.key_types[0] = pj_strdup("pg_catalog.int4");
    projection.key_types[1] = pj_strdup("app.odd");
    projection.key_kinds[0] = PJ_INT4;
    cr_assert_eq(pj_projection_build_recompute(&projection, result, 2, &error), PJ_OK);
    cr_expect_not_null(strstr(projection.recompute_routing_sql, "WHERE (t.owner) = pj_key.k1\n"));
    cr_expect_not_null(strstr(projection.recompute_full_sql, "WHERE (t.owner) = pj_key.k1 AND (t.id) = pj_key.k2\n"));
    cr_expect_not_null(strstr(projection.recompute_full_sql, "a2::app.odd AS k2"));
    cr_expect_not_null(strstr(projection.recompute_full_sql, "pg_catalog.unnest($2::pg_catalog.text[])"));
    cr_expect_not_null(strstr(projection.recompute_all_sql, "WHERE true\n"));
    pj_projection_free(&projection);
}

Test(projection, index_columns_are_renamed)
{
    cr_assert_eq(bind(&good, &binding), PJ_OK, "%s", error.message);
    struct pj_buf sql = {0};
    int source = -1;
    pj_projection_index_sql(&projection, "{things} (owner, id DESC)", &sql, &source, &error);
    cr_expect_str_eq(sql.data, "\"app\".\"Things\" (\"Owner\", id DESC)");
    cr_expect_eq(source, 0);
    pj_buf_free(&sql);
    pj_projection_free(&projection);
}

/* --------------------------------------------------------------------------------------------------------- refusals */

Test(projection, refuses_what_does_not_fit)
{
    struct pj_binding other = binding;
    static const char *const nowhere[][2] = {{"thinks", "app.Things"}, {NULL, NULL}};
    other.tables = nowhere;
    refused(&good, &other, "table.thinks: the module reads no table of that name");
    other.tables = NULL;
    refused(&good, &other, "table public.things is not among the mirrored tables");
    other = binding;
    other.columns = NULL;
    refused(&good, &other, "table app.Things has no column \"owner\"");
    static const char *const gone[][2] = {{"things.owner", "Gone"}, {NULL, NULL}};
    other.columns = gone;
    refused(&good, &other, "no column \"Gone\"");
    static const char *const odd[][2] = {{"words", "x"}, {NULL, NULL}};
    other = binding;
    other.options = odd;
    refused(&good, &other, "no option \"words\"");
    static const char *const few[] = {"one", "two", NULL};
    static const struct pj_option choosy[] = {{"size", "one", "how large", few}, {NULL, NULL, NULL, NULL}};
    static const char *const three[][2] = {{"size", "three"}, {NULL, NULL}};
    struct pj_module module = good;
    module.options = choosy;
    other.options = three;
    refused(&module, &other, "option size cannot be \"three\"; it may be one of: one, two");
}

Test(projection, refuses_wrong_types_and_placeholders)
{
    static const struct pj_column wrong[] = {{"owner", PJ_INT8}, {NULL, PJ_ANY}};
    static const struct pj_source wrong_sources[] = {{"things", "owner", wrong}, {NULL, NULL, NULL}};
    struct pj_module module = good;
    module.sources = wrong_sources;
    refused(&module, &binding, "Owner is of type pg_catalog.int4, and the module wants bigint");
    module = good;
    module.apply = NULL;
    module.streams = NULL;
    refused(&module, &binding, "source things lists columns, but there is no apply() to read them");
    module = good;
    module.definition = "SELECT FROM {stuff}";
    refused(&module, &binding, "definition: {stuff}: not one of the module's sources");
    module.definition = "SELECT {keys(a, b, c)}";
    refused(&module, &binding, "{keys(…)} with 3 expressions");
    static const struct pj_stream keys_in_merge[] = {{"s", delta, "UPDATE {keys(a)}"}, {NULL, NULL, NULL}};
    module = good;
    module.streams = keys_in_merge;
    refused(&module, &binding, "merge of stream s: {keys(…)} belongs into the definition only");
}
