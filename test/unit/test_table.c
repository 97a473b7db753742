#include "../reference/table_fixture.h"

#include <criterion/criterion.h>
#include <stdio.h>

Test(table, finds_columns_by_their_exact_name)
{
    struct pj_table *table = fixture_table(0, "public", "messages", fixture_messages);
    cr_assert_eq(pj_table_column_index(table, "id", 2), 0);
    cr_assert_eq(pj_table_column_index(table, "content and more", 7), 5);
    cr_assert_eq(pj_table_column_index(table, "content and more", 8), -1);
    cr_assert_eq(pj_table_column_index(table, "conten", 6), -1);
    cr_assert_eq(pj_table_column_index(table, "Content", 7), -1);
    cr_assert_eq(pj_table_column_index(table, "", 0), -1);
    fixture_table_free(table);
}

Test(table, half_built_ones_can_be_freed)
{
    struct pj_table table = {.ncolumns = 3};
    pj_table_free(&table);
    table.columns = pj_alloc(2 * sizeof *table.columns);
    table.ncolumns = 2;
    pj_table_free(&table);
    cr_assert_eq(table.ncolumns, 0);
}

static const struct pj_table *get(const struct pj_relmap *map, const char *schema, const char *name, bool *known)
{
    return pj_relmap_get(map, schema, strlen(schema), name, strlen(name), known);
}

Test(relmap, tells_known_from_unknown_and_of_no_concern)
{
    struct pj_table *table = fixture_table(0, "public", "messages", fixture_messages);
    struct pj_relmap *map = pj_relmap_new();
    bool known = true;
    cr_assert_null(get(map, "public", "messages", &known));
    cr_assert_not(known);
    pj_relmap_put(map, "public", "messages", table);
    pj_relmap_put(map, "public", "other", NULL);
    cr_assert_eq(get(map, "public", "messages", &known), table);
    cr_assert(known);
    cr_assert_null(get(map, "public", "other", &known));
    cr_assert(known);
    cr_assert_null(get(map, "publicm", "essages", &known));
    cr_assert_not(known, "a name is not the two names run together");
    cr_assert_eq(pj_relmap_get(map, "publicity", 6, "messagesX", 8, &known), table);
    pj_relmap_free(map);
    pj_relmap_free(NULL);
    fixture_table_free(table);
}

Test(relmap, a_later_put_replaces)
{
    struct pj_table *one = fixture_table(0, "public", "one", fixture_messages);
    struct pj_relmap *map = pj_relmap_new();
    bool known;
    pj_relmap_put(map, "public", "t", NULL);
    uint64_t generation = pj_relmap_generation(map);
    pj_relmap_put(map, "public", "t", one);
    cr_assert_eq(get(map, "public", "t", &known), one);
    cr_assert_neq(pj_relmap_generation(map), generation);
    pj_relmap_free(map);
    fixture_table_free(one);
}

Test(relmap, holds_thousands_of_partitions)
{
    struct pj_table *table = fixture_table(0, "public", "messages", fixture_messages);
    struct pj_relmap *map = pj_relmap_new();
    char name[32];
    bool known;
    for (int i = 0; i < 5000; i++) {
        snprintf(name, sizeof name, "part_%d", i);
        pj_relmap_put(map, i % 2 ? "a" : "b", name, i % 3 ? table : NULL);
    }
    for (int i = 0; i < 5000; i++) {
        snprintf(name, sizeof name, "part_%d", i);
        cr_assert_eq(get(map, i % 2 ? "a" : "b", name, &known), i % 3 ? table : NULL);
        cr_assert(known);
        get(map, i % 2 ? "b" : "a", name, &known);
        cr_assert_not(known);
    }
    pj_relmap_free(map);
    fixture_table_free(table);
}
