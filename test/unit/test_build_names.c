/* Names of indexes as the server makes them (makeObjectName): what is cut, and where. */
#include "base/mem.h"
#include "core/build_internal.h"

#include <criterion/criterion.h>
#include <string.h>

static void expect(const char *table, const char *columns, const char *label, const char *wanted)
{
    char *name = pj_build_object_name(table, columns, label);
    cr_expect_str_eq(name, wanted, "\"%s\" instead of \"%s\"", name, wanted);
    cr_expect(strlen(name) <= 63);
    pj_free(name);
}

#define LONG "conversation_titles_under_a_name_as_long_as_the_server_admits__"

Test(build_names, short_names_are_whole)
{
    expect("titles", NULL, "pkey", "titles_pkey");
    expect("titles", "a_b", "idx", "titles_a_b_idx");
    expect("titles", "expr", "idx2", "titles_expr_idx2");
}

/* As PostgreSQL 15 has named them. */
Test(build_names, the_longer_part_is_cut)
{
    expect(LONG, NULL, "pkey", "conversation_titles_under_a_name_as_long_as_the_server_adm_pkey");
    expect(LONG, "title", "idx", "conversation_titles_under_a_name_as_long_as_the_serve_title_idx");
    expect("t", LONG, "key", "t_conversation_titles_under_a_name_as_long_as_the_server_ad_key");
    expect(LONG, LONG, "idx", "conversation_titles_under_a_n_conversation_titles_under_a_n_idx");
}

Test(build_names, no_character_is_cut_in_two)
{
    /* 2 bytes each; 58 are left beside "_pkey", 57 of them whole with the "x" in front */
    expect("xäääääääääääääääääääääääääääääää", NULL, "pkey", "xääääääääääääääääääääääääääää_pkey");
}
