/* Chains: which module reads which one's table, in what order they come, what is refused, what is returned. No
 * server. */
#include "base/mem.h"
#include "core/chain.h"
#include "core/projection_sql.h"
#include "core/touched.h"

#include <criterion/criterion.h>

#define TEXT(text) ((char *)(uintptr_t)(text))

static struct pj_table_column columns[] = {{.name = TEXT("a"), .type = PJ_INT4, .type_sql = TEXT("pg_catalog.int4")}};
static const struct pj_table mirror = {.schema = TEXT("public"),
                                       .name = TEXT("things"),
                                       .mirror_sql = TEXT("\"public\".\"things\""),
                                       .ncolumns = 1,
                                       .columns = columns};
static const struct pj_binding plain = {0};
static const char *const key[] = {"a", "b", NULL};
static const char *const key_of_down[] = {"b", "a", NULL};

static const struct pj_source of_things[] = {{"things", "a", NULL}, {NULL, NULL, NULL}};
static const struct pj_source of_up[] = {{"things", NULL, NULL}, {"up", "b", NULL}, {NULL, NULL, NULL}};
static const struct pj_source of_down[] = {{"down", "b", NULL}, {NULL, NULL, NULL}};

static const struct pj_module up = {.name = "up_module",
                                    .version = 1,
                                    .sources = of_things,
                                    .target = "up",
                                    .key = key,
                                    .definition = "SELECT t.a, t.b FROM {things} AS t WHERE {keys(t.a)}"};
static const struct pj_module down = {.name = "down_module",
                                      .version = 1,
                                      .sources = of_up,
                                      .target = "down",
                                      .key = key_of_down,
                                      .definition = "SELECT u.b, u.a FROM {up} AS u WHERE {keys(u.b)}"};
static const struct pj_module last = {.name = "last_module",
                                      .version = 1,
                                      .sources = of_down,
                                      .target = "other.last",
                                      .key = key_of_down,
                                      .definition = "SELECT d.b, d.a FROM {down} AS d"};

static struct pj_projection bound[2];
static struct pj_error error;

/* ----------------------------------------------------------------------------------------------------------- order */

Test(chain, upstream_comes_first)
{
    const struct pj_chain_node nodes[] = {{&last, &plain}, {&down, &plain}, {&up, &plain}};
    int order[3];
    cr_assert_eq(pj_chain_order(nodes, 3, order, &error), PJ_OK, "%s", error.message);
    cr_expect(order[0] == 2 && order[1] == 1 && order[2] == 0);
    const struct pj_chain_node apart[] = {{&last, &plain}, {&up, &plain}};
    cr_assert_eq(pj_chain_order(apart, 2, order, &error), PJ_OK);
    cr_expect(order[0] == 0 && order[1] == 1, "what is no target of theirs is no chain");
}

Test(chain, names_mean_what_the_configuration_says)
{
    static const char *const tables[][2] = {{"up", "app.Up"}, {NULL, NULL}};
    const struct pj_binding elsewhere = {.tables = tables}, in_app = {.default_schema = "app"},
                            beside = {.beside = true};
    struct pj_module named = up;
    named.target = "app.Up";
    int order[2];
    const struct pj_chain_node nodes[] = {{&down, &elsewhere}, {&named, &plain}};
    cr_assert_eq(pj_chain_order(nodes, 2, order, &error), PJ_OK);
    cr_expect(order[0] == 1 && order[1] == 0);
    cr_expect(pj_chain_is_target(nodes, 2, "app", "Up"));
    const struct pj_chain_node schema[] = {{&up, &in_app}};
    cr_expect(pj_chain_is_target(schema, 1, "app", "up") && !pj_chain_is_target(schema, 1, "public", "up"));
    const struct pj_chain_node next[] = {{&up, &beside}};
    cr_expect_not(pj_chain_is_target(next, 1, "public", "up"), "nothing is chained on a table beside");
}

static void circle(const struct pj_chain_node *nodes, int count, const char *names)
{
    int order[4];
    cr_expect_eq(pj_chain_order(nodes, count, order, &error), PJ_ECONFIG);
    cr_expect(strstr(error.message, names), "%s", error.message);
}

Test(chain, circles_are_refused_by_name)
{
    struct pj_module round = up;
    static const struct pj_source of_itself[] = {{"up", "a", NULL}, {NULL, NULL, NULL}};
    static const struct pj_source of_last[] = {{"other.last", "a", NULL}, {NULL, NULL, NULL}};
    round.sources = of_last;
    const struct pj_chain_node three[] = {{&round, &plain}, {&down, &plain}, {&last, &plain}};
    circle(three, 3, "in a circle: ");
    for (int i = 0; i < 3; i++)
        cr_expect(strstr(error.message, three[i].module->name), "%s", error.message);
    round.sources = of_itself;
    const struct pj_chain_node one[] = {{&down, &plain}, {&round, &plain}};
    circle(one, 2, "up_module -> up_module");
}

/* --------------------------------------------------------------------------------------------------------- binding */

static int bind_with(const struct pj_module *module, const struct pj_binding *how)
{
    cr_assert_eq(pj_projection_bind(&bound[0], &up, &plain, &mirror, 1, &error), PJ_OK, "%s", error.message);
    return pj_projection_bind_chained(&bound[1], module, how, &mirror, 1, bound, 1, &error);
}

static void refused(const struct pj_module *module, const struct pj_binding *how, const char *words)
{
    cr_expect_eq(bind_with(module, how), PJ_ECONFIG);
    cr_expect(strstr(error.message, words) && strstr(error.message, "module down_module"), "%s", error.message);
    pj_projection_free(&bound[0]);
}

Test(chain, a_source_is_the_upstreams_table)
{
    cr_assert_eq(bind_with(&down, &plain), PJ_OK, "%s", error.message);
    pj_chain_link(&bound[1]);
    cr_expect_str_eq(bound[1].definition_sql, "SELECT u.b, u.a FROM \"public\".\"up\" AS u WHERE true\n");
    cr_expect(bound[1].level == 1 && bound[0].level == 0 && bound[0].nchained == 1);
    cr_expect(bound[0].chained[0].downstream == &bound[1] && bound[0].chained[0].width == 1);
    cr_expect(bound[0].ntouched == 1 && bound[0].touched[0] == 1, "b, the second column of the upstream's key");
    cr_expect_null(bound[1].sources[1].table);
    pj_projection_free(&bound[1]);
    pj_projection_free(&bound[0]);
}

Test(chain, single_rows_and_everything)
{
    static const struct pj_column both[] = {{"b", PJ_ANY}, {"a", PJ_INT4}, {NULL, PJ_ANY}};
    static const struct pj_source fine[] = {{"up", "b", both}, {NULL, NULL, NULL}};
    static const struct pj_source coarse[] = {{"up", NULL, NULL}, {NULL, NULL, NULL}};
    struct pj_module module = down;
    module.sources = fine;
    cr_assert_eq(bind_with(&module, &plain), PJ_OK, "%s", error.message);
    pj_chain_link(&bound[1]);
    const struct pj_chained *chained = &bound[0].chained[0];
    cr_expect(chained->width == 2 && bound[0].touched[chained->columns[0]] == 1 &&
              bound[0].touched[chained->columns[1]] == 0);
    pj_projection_free(&bound[1]);
    pj_projection_free(&bound[0]);
    module.sources = coarse;
    cr_assert_eq(bind_with(&module, &plain), PJ_OK, "%s", error.message);
    pj_chain_link(&bound[1]);
    cr_expect(bound[0].chained[0].width == 0 && bound[0].ntouched == 1,
              "something must come back, to tell that there is");
    pj_projection_free(&bound[1]);
    pj_projection_free(&bound[0]);
}

Test(chain, columns_are_of_the_upstreams_key)
{
    static const struct pj_source wrong_key[] = {{"up", "c", NULL}, {NULL, NULL, NULL}};
    static const struct pj_column swapped[] = {{"a", PJ_ANY}, {"b", PJ_ANY}, {NULL, PJ_ANY}};
    static const struct pj_source wrong_order[] = {{"up", "b", swapped}, {NULL, NULL, NULL}};
    static const struct pj_column one[] = {{"b", PJ_ANY}, {NULL, PJ_ANY}};
    static const struct pj_source too_few[] = {{"up", "b", one}, {NULL, NULL, NULL}};
    struct pj_module module = down;
    module.sources = wrong_key;
    refused(&module, &plain, "its column \"c\" is not in the key (a, b)");
    module.sources = wrong_order;
    refused(&module, &plain, "its columns must be the 2 that carry the target's key");
    module.sources = too_few;
    refused(&module, &plain, "its columns must be the 2 that carry the target's key");
}

Test(chain, what_cannot_be_told_apart_is_refused)
{
    static const char *const renamed[][2] = {{"up.b", "c"}, {NULL, NULL}};
    const struct pj_binding other = {.columns = renamed};
    refused(&down, &other, "column.up.b: the table is projection up_module's");
    struct pj_table both[] = {mirror, mirror};
    both[1].name = TEXT("up");
    cr_assert_eq(pj_projection_bind(&bound[0], &up, &plain, &mirror, 1, &error), PJ_OK);
    cr_expect_eq(pj_projection_bind_chained(&bound[1], &down, &plain, both, 2, bound, 1, &error), PJ_ECONFIG);
    cr_expect(strstr(error.message, "public.up is a mirror as well as the table of projection up_module"), "%s",
              error.message);
    struct pj_module indexed = down;
    static const char *const indexes[] = {"{up} (b)", NULL};
    indexed.mirror_indexes = indexes;
    cr_assert_eq(pj_projection_bind_chained(&bound[1], &indexed, &plain, &mirror, 1, bound, 1, &error), PJ_OK);
    struct pj_buf sql = {0};
    int source;
    cr_expect_eq(pj_projection_index_sql(&bound[1], indexes[0], &sql, &source, &error), PJ_ECONFIG);
    cr_expect(strstr(error.message, "declares its own indexes"), "%s", error.message);
    pj_buf_free(&sql);
    pj_projection_free(&bound[1]);
    pj_projection_free(&bound[0]);
}

/* ------------------------------------------------------------------------------------------------------ statements */

static void describe_by_hand(struct pj_projection *projection, enum pj_type second)
{
    projection->key_types = pj_alloc(2 * sizeof *projection->key_types);
    projection->key_kinds = pj_alloc(2 * sizeof *projection->key_kinds);
    for (int i = 0; i < 2; i++)
        projection->key_types[i] = pj_strdup("pg_catalog.int4");
    projection->key_kinds[0] = PJ_INT4;
    projection->key_kinds[1] = second;
    const char *const target[] = {"a", "b"};
    cr_assert_eq(pj_projection_build_recompute(projection, target, 2, &error), PJ_OK);
}

Test(chain, recomputations_return_what_they_touch)
{
    cr_assert_eq(bind_with(&down, &plain), PJ_OK);
    describe_by_hand(&bound[0], PJ_ANY);
    cr_expect_null(strstr(bound[0].recompute_routing_sql, "RETURNING"), "nobody wants to know yet");
    pj_chain_link(&bound[1]);
    pj_projection_build_recompute(&bound[0], (const char *const[]){"a", "b"}, 2, &error);
    cr_expect(strstr(bound[0].recompute_routing_sql, "RETURNING pj_t.\"b\"::pg_catalog.text AS t1"));
    cr_expect(strstr(bound[0].recompute_full_sql, "SELECT DISTINCT * FROM (SELECT * FROM pj_gone UNION ALL"));
    cr_expect_null(strstr(bound[0].recompute_all_sql, "RETURNING"), "all is dirty then");
    pj_projection_free(&bound[1]);
    pj_projection_free(&bound[0]);
}

Test(chain, kinds_must_agree)
{
    cr_assert_eq(bind_with(&down, &plain), PJ_OK);
    describe_by_hand(&bound[0], PJ_INT8);
    describe_by_hand(&bound[1], PJ_INT4);
    cr_expect_eq(pj_chain_check_kinds(&bound[1], &error), PJ_ECONFIG);
    cr_expect(strstr(error.message, "but b of \"public\".\"up\", which carries it"), "%s", error.message);
    bound[0].key_kinds[1] = PJ_INT4;
    cr_expect_eq(pj_chain_check_kinds(&bound[1], &error), PJ_OK);
    pj_projection_free(&bound[1]);
    pj_projection_free(&bound[0]);
}

/* -------------------------------------------------------------------------------------------------- touched rows */

static PGresult *touched_rows(int count)
{
    PGresAttDesc column = {.name = TEXT("t1"), .format = 1, .typid = 23, .typlen = 4, .atttypmod = -1};
    PGresult *rows = PQmakeEmptyPGresult(NULL, PGRES_TUPLES_OK);
    PQsetResultAttrs(rows, 1, &column);
    for (int i = 0; i < count; i++) {
        unsigned char bytes[4] = {(unsigned char)(i >> 24), (unsigned char)(i >> 16), (unsigned char)(i >> 8),
                                  (unsigned char)i};
        PQsetvalue(rows, i, 0, (char *)bytes, 4);
    }
    return rows;
}

static size_t dirty_after(int count, size_t keys_at_most, bool *all)
{
    PGresult *rows = touched_rows(count);
    size_t keys;
    pj_deltas_reset(bound[1].deltas);
    pj_touched_mark(&bound[0], rows, keys_at_most);
    pj_deltas_finish(bound[1].deltas);
    *all = pj_deltas_all_dirty(bound[1].deltas);
    pj_deltas_routing_keys(bound[1].deltas, &keys);
    PQclear(rows);
    return keys;
}

Test(chain, touched_rows_become_dirty_keys)
{
    bool all;
    cr_assert_eq(bind_with(&down, &plain), PJ_OK);
    pj_chain_link(&bound[1]);
    cr_expect(dirty_after(0, 10, &all) == 0 && !all);
    cr_expect(dirty_after(7, 10, &all) == 7 && !all);
    cr_expect(dirty_after(11, 10, &all) == 0 && all, "too many keys");
    cr_expect(dirty_after(PJ_TOUCHED_AT_MOST + 1, SIZE_MAX, &all) == 0 && all, "there may be more than were returned");
    pj_deltas_reset(bound[1].deltas);
    pj_touched_mark_all(&bound[0]);
    cr_expect(pj_deltas_all_dirty(bound[1].deltas));
    pj_projection_free(&bound[1]);
    pj_projection_free(&bound[0]);
}
