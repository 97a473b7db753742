#include "base/causes.h"

#include <criterion/criterion.h>
#include <stdio.h>
#include <string.h>

enum { SECOND = 1000000, MINUTE = 60 * SECOND };

static struct pj_error gone(const char *message)
{
    struct pj_error error;
    pj_error_set(&error, PJ_EUNREACHABLE, "%s", message);
    return error;
}

static struct pj_error full(const char *server)
{
    struct pj_error error;
    pj_error_set(&error, PJ_EFAIL, "%s: its disk is full", server);
    strcpy(error.sqlstate, "53100");
    error.server = server;
    return error;
}

Test(causes, says_each_once_and_every_ten_minutes)
{
    struct pj_causes causes = {0};
    const struct pj_error error = gone("refused");
    uint64_t now = 7 * MINUTE;
    cr_assert(pj_causes_news(&causes, &error, now, 0));
    cr_assert_not(pj_causes_news(&causes, &error, now + 1, 0));
    cr_assert_not(pj_causes_news(&causes, &error, now + 10LL * MINUTE - 1, 0));
    cr_assert(pj_causes_news(&causes, &error, now + 10LL * MINUTE, 0));
    cr_assert_not(pj_causes_news(&causes, &error, now + 19LL * MINUTE, 0));
}

Test(causes, says_each_of_several_that_alternate_once)
{
    struct pj_causes causes = {0};
    const struct pj_error by_turns[] = {full("read database"), gone("refused"), gone("starting up"),
                                        full("write database")};
    int said = 0;
    for (uint64_t turn = 0; turn < 40; turn++)
        said += pj_causes_news(&causes, &by_turns[turn % 4], turn * 10 * SECOND, 0);
    cr_assert_eq(said, 4);
}

Test(causes, forgets_the_oldest_where_there_are_many)
{
    struct pj_causes causes = {0};
    char message[32];
    struct pj_error error;
    for (int i = 0; i <= PJ_CAUSES; i++) {
        snprintf(message, sizeof message, "cause %d", i);
        error = gone(message);
        cr_assert(pj_causes_news(&causes, &error, (uint64_t)(i + 1) * SECOND, 0));
    }
    cr_assert_not(pj_causes_news(&causes, &error, MINUTE, 0), "said last");
    error = gone("cause 1");
    cr_assert_not(pj_causes_news(&causes, &error, MINUTE, 0), "its place was not taken");
    error = gone("cause 0");
    cr_assert(pj_causes_news(&causes, &error, MINUTE, 0), "its place was");
}

Test(causes, says_one_that_was_over_anew)
{
    struct pj_causes causes = {0};
    const struct pj_error error = gone("refused");
    cr_assert(pj_causes_news(&causes, &error, MINUTE, 0));
    pj_causes_over(&causes);
    cr_assert(pj_causes_news(&causes, &error, MINUTE + 1, 0));
    cr_assert_not(pj_causes_news(&causes, &error, MINUTE + 2, 0), "said since");
}

Test(causes, says_one_that_comes_and_goes_as_often_as_allowed)
{
    struct pj_causes causes = {0};
    const struct pj_error error = full("read database");
    int said = 0;
    for (uint64_t at = 0; at < 10LL * MINUTE; at += 5 * SECOND) {
        said += pj_causes_news(&causes, &error, at, MINUTE);
        pj_causes_over(&causes);
    }
    cr_assert_eq(said, 10);
}
