/* The role of one module: a table of what can be there, and what comes of it. */
#include "core/roster.h"

#include <criterion/criterion.h>

static void expect(struct pj_roster_fact fact, enum pj_roster_serve serve, bool build, enum pj_roster_note note)
{
    struct pj_roster_role role = pj_roster_decide(&fact);
    cr_expect_eq(role.serve, serve, "serves %d, not %d", role.serve, serve);
    cr_expect_eq(role.build, build, "builds %d, not %d", role.build, build);
    cr_expect_eq(role.note, note, "notes %d, not %d", role.note, note);
}

static struct pj_roster_fact there(enum pj_roster_row row, enum pj_roster_memory memory)
{
    return (struct pj_roster_fact){.file = PJ_FILE_THERE, .row = row, .memory = memory, .target = true};
}

static struct pj_roster_fact wished(enum pj_roster_row row, enum pj_roster_memory memory, enum pj_roster_wish wish)
{
    struct pj_roster_fact fact = there(row, memory);
    fact.wish = wish;
    return fact;
}

Test(roster, what_the_catalog_has_serves)
{
    expect(there(PJ_ROW_SAME, PJ_MEMORY_NONE), PJ_SERVE_FILE, false, PJ_NOTE_NONE);
    expect(there(PJ_ROW_SAME, PJ_MEMORY_SAME), PJ_SERVE_MEMORY, false, PJ_NOTE_NONE);
}

Test(roster, a_file_compiled_anew_is_taken_without_a_build)
{
    expect(there(PJ_ROW_SAME, PJ_MEMORY_OTHER), PJ_SERVE_FILE, false, PJ_NOTE_NONE);
}

Test(roster, a_new_one_is_built_with_nothing_that_serves)
{
    expect(there(PJ_ROW_NONE, PJ_MEMORY_NONE), PJ_SERVE_NOTHING, true, PJ_NOTE_NONE);
}

Test(roster, another_version_is_built_beside_the_former_one_where_that_is_in_memory)
{
    expect(there(PJ_ROW_OTHER, PJ_MEMORY_OTHER), PJ_SERVE_MEMORY, true, PJ_NOTE_NONE);
    expect(there(PJ_ROW_OTHER, PJ_MEMORY_NONE), PJ_SERVE_NOTHING, true, PJ_NOTE_NONE);
}

Test(roster, a_removed_one_comes_back_only_when_asked_for)
{
    expect(there(PJ_ROW_RETIRED, PJ_MEMORY_NONE), PJ_SERVE_NOTHING, false, PJ_NOTE_NONE);
    expect(wished(PJ_ROW_RETIRED, PJ_MEMORY_NONE, PJ_WISH_ADD), PJ_SERVE_NOTHING, true, PJ_NOTE_NONE);
}

Test(roster, a_fresh_table_is_built_on_request_alone)
{
    expect(wished(PJ_ROW_SAME, PJ_MEMORY_SAME, PJ_WISH_ADD), PJ_SERVE_MEMORY, false, PJ_NOTE_NONE);
    expect(wished(PJ_ROW_SAME, PJ_MEMORY_SAME, PJ_WISH_FRESH), PJ_SERVE_MEMORY, true, PJ_NOTE_NONE);
    expect(wished(PJ_ROW_SAME, PJ_MEMORY_OTHER, PJ_WISH_FRESH), PJ_SERVE_FILE, true, PJ_NOTE_NONE);
}

Test(roster, a_file_that_vanished_or_broke_retires_nothing)
{
    struct pj_roster_fact fact = {.row = PJ_ROW_SAME, .memory = PJ_MEMORY_OTHER, .target = true};
    expect(fact, PJ_SERVE_MEMORY, false, PJ_NOTE_GONE);
    fact.file = PJ_FILE_BROKEN;
    expect(fact, PJ_SERVE_MEMORY, false, PJ_NOTE_BROKEN);
    fact.memory = PJ_MEMORY_NONE;
    expect(fact, PJ_SERVE_NOTHING, false, PJ_NOTE_STANDS_STILL);
    fact.row = PJ_ROW_NONE;
    expect(fact, PJ_SERVE_NOTHING, false, PJ_NOTE_BROKEN_NEW);
}

Test(roster, one_without_a_table_has_nothing_to_build)
{
    struct pj_roster_fact fact = {.file = PJ_FILE_THERE, .memory = PJ_MEMORY_OTHER};
    expect(fact, PJ_SERVE_FILE, false, PJ_NOTE_NONE);
    fact.memory = PJ_MEMORY_SAME;
    fact.wish = PJ_WISH_FRESH;
    expect(fact, PJ_SERVE_MEMORY, false, PJ_NOTE_NONE);
}
