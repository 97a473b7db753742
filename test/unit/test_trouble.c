#include "core/trouble.h"

#include <criterion/criterion.h>
#include <string.h>

enum { SECOND = 1000000, MINUTE = 60 * SECOND };

static struct pj_error statement(const char *sqlstate)
{
    struct pj_error error;
    pj_error_set(&error, PJ_EFAIL, "read database: no (SQLSTATE %s)", sqlstate);
    strcpy(error.sqlstate, sqlstate);
    error.server = "read database";
    error.retryable = true;
    error.storage = strcmp(sqlstate, "53100") == 0;
    return error;
}

static struct pj_error gone(const char *message)
{
    struct pj_error error;
    pj_error_set(&error, PJ_EUNREACHABLE, "%s", message);
    error.retryable = true;
    return error;
}

/* Something could not be applied when decoding had reached 1000. */
static struct pj_trouble at_1000(const char *sqlstate)
{
    struct pj_trouble trouble = {0};
    const struct pj_error error = statement(sqlstate);
    pj_trouble_met(&trouble, &error, false, 1000, SECOND);
    return trouble;
}

Test(trouble, is_open_after_a_statement_alone)
{
    struct pj_trouble trouble = {0};
    const struct pj_error lost = gone("connection lost"), refused = statement("57P03"), full = statement("53100");
    cr_assert(pj_trouble_met(&trouble, &lost, false, 10, 1));
    cr_assert_not(trouble.open);
    cr_assert(pj_trouble_met(&trouble, &refused, true, 10, 2));
    cr_assert_not(trouble.open, "only connecting has failed");
    cr_assert(pj_trouble_met(&trouble, &full, false, 10, 3));
    cr_assert(trouble.open);
}

Test(trouble, stays_open_over_what_fails_while_connecting)
{
    struct pj_trouble trouble = at_1000("53100");
    const struct pj_error refused = gone("refused");
    pj_trouble_met(&trouble, &refused, true, 900, 2 * SECOND);
    cr_assert(trouble.open);
    cr_assert_str_eq(trouble.cause.sqlstate, "53100");
    cr_assert_eq(trouble.reached, 1000);
}

Test(trouble, is_over_when_something_is_committed)
{
    struct pj_trouble trouble = at_1000("55P03");
    cr_assert(pj_trouble_passed(&trouble, true, 10));
    pj_trouble_end(&trouble, true);
    cr_assert_not(trouble.open);
}

Test(trouble, is_over_with_a_part_that_goes_beyond_where_it_failed)
{
    const struct pj_trouble trouble = at_1000("53100");
    cr_assert_not(pj_trouble_passed(&trouble, false, 500));
    cr_assert_not(pj_trouble_passed(&trouble, false, 1000), "a message that was held stands there, too");
    cr_assert(pj_trouble_passed(&trouble, false, 1001));
}

Test(trouble, is_over_in_idleness_only_where_decoding_has_passed_it)
{
    const struct pj_trouble trouble = at_1000("55P03");
    cr_assert_not(pj_trouble_settled(&trouble, 900, 60 * SECOND), "it has not come again");
    cr_assert_not(pj_trouble_settled(&trouble, 1000, 60 * SECOND));
    cr_assert_not(pj_trouble_settled(&trouble, 1001, SECOND), "more of it may come");
    cr_assert(pj_trouble_settled(&trouble, 1001, 6 * SECOND));
}

Test(trouble, is_no_further_back_for_a_failure_on_the_way_there)
{
    struct pj_trouble trouble = at_1000("53100");
    const struct pj_error timeout = statement("55P03");
    pj_trouble_met(&trouble, &timeout, false, 400, 2 * SECOND);
    cr_assert_not(pj_trouble_passed(&trouble, false, 500));
    pj_trouble_end(&trouble, true);
    pj_trouble_met(&trouble, &timeout, false, 1200, 3 * SECOND);
    cr_assert_eq(trouble.reached, 1200);
}

Test(trouble, is_none_before_anything_has_failed)
{
    const struct pj_trouble trouble = {0};
    cr_assert_not(pj_trouble_passed(&trouble, false, 1000));
    cr_assert_not(pj_trouble_settled(&trouble, 1000, 60 * SECOND));
}

/* A server that ends itself on a full WAL disk and is started again by its supervisor, for an hour. */
Test(trouble, says_causes_that_alternate_once_in_ten_minutes)
{
    struct pj_trouble trouble = {0};
    const struct pj_error full = statement("53100"), refused = gone("refused"), starting = gone("starting up");
    int said = 0;
    for (uint64_t at = 0; at < 60LL * MINUTE; at += 20 * SECOND) {
        said += pj_trouble_met(&trouble, &full, false, 1000, at);
        said += pj_trouble_met(&trouble, &refused, true, 1000, at + SECOND);
        said += pj_trouble_met(&trouble, &starting, true, 1000, at + 2 * SECOND);
        cr_assert(trouble.open, "connections that open again do not end it");
    }
    cr_assert_eq(said, 3 * 6);
}

/* The same without a statement's word: open connections end it each time, but nothing is committed. */
Test(trouble, says_causes_once_while_nothing_is_committed_in_between)
{
    struct pj_trouble trouble = {0};
    const struct pj_error lost = gone("connection lost"), refused = gone("refused");
    int said = 0;
    for (uint64_t at = 0; at < 10LL * MINUTE; at += 10 * SECOND) {
        said += pj_trouble_met(&trouble, &lost, false, 1000, at);
        said += pj_trouble_met(&trouble, &refused, true, 1000, at + SECOND);
        pj_trouble_end(&trouble, false);
    }
    cr_assert_eq(said, 2);
    pj_trouble_end(&trouble, true);
    cr_assert(pj_trouble_met(&trouble, &lost, false, 1000, 10LL * MINUTE));
}

Test(trouble, says_an_almost_full_disk_once_a_minute)
{
    struct pj_trouble trouble = {0};
    const struct pj_error full = statement("53100");
    int said = 0, ended = 0;
    for (uint64_t at = 0; at < 5LL * MINUTE; at += 5 * SECOND) {
        said += pj_trouble_met(&trouble, &full, false, 1000, at);
        ended += pj_trouble_end(&trouble, true) > 0;
    }
    cr_assert_eq(said, 5);
    cr_assert_eq(ended, 5, "what was not said to begin is not said to end");
}

Test(trouble, says_a_full_disk_of_either_side)
{
    struct pj_trouble trouble = {0};
    const struct pj_error read = statement("53100");
    struct pj_error write = read;
    write.server = "write database";
    cr_assert(pj_trouble_met(&trouble, &read, false, 1000, 0));
    cr_assert(pj_trouble_met(&trouble, &write, false, 1000, SECOND));
    cr_assert_not(pj_trouble_met(&trouble, &read, false, 1000, 2 * SECOND));
}

Test(trouble, tells_its_end_where_it_was_more_than_a_hiccup)
{
    struct pj_trouble trouble = at_1000("55P03");
    cr_assert_eq(pj_trouble_end(&trouble, true), 0, "one attempt");
    trouble = at_1000("53100");
    cr_assert_eq(pj_trouble_end(&trouble, true), 1, "a full disk");
    trouble = at_1000("55P03");
    const struct pj_error again = statement("55P03");
    pj_trouble_met(&trouble, &again, false, 1000, 2 * SECOND);
    cr_assert_eq(pj_trouble_end(&trouble, true), 2);
    cr_assert_eq(pj_trouble_end(&trouble, true), 0);
}
