/* Work aside: how its owner waits for it, has it cancelled, and hears how it ended. */
#include "core/aside.h"

#include <criterion/criterion.h>

struct job {
    struct pj_stop sign; /* asked as soon as the work has begun, where `signs` */
    bool signs, endless;
};

static void work(void *context, const struct pj_stop *cancel, struct pj_error *error)
{
    struct job *job = context;
    if (job->signs)
        pj_stop_ask(&job->sign);
    while (job->endless && pj_stop_sleep(cancel, 60000, error) == PJ_OK)
        ;
}

static void begin(struct pj_aside *aside, struct job *job)
{
    struct pj_error error;
    cr_assert_eq(pj_stop_init(&job->sign, &error), PJ_OK);
    cr_assert_eq(pj_aside_begin(aside, work, job, &error), PJ_OK);
}

Test(aside, work_that_ends_by_itself)
{
    struct job job = {0};
    struct pj_aside aside;
    begin(&aside, &job);
    cr_expect_not(pj_aside_await(&aside, NULL, NULL));
    cr_expect_eq(aside.error.code, PJ_OK);
    cr_expect_not(pj_aside_await(&aside, &job.sign, NULL), "it is over, and has given no sign");
    pj_aside_end(&aside);
    pj_stop_close(&job.sign);
}

Test(aside, a_sign_comes_before_the_end, .timeout = 20)
{
    struct job job = {.signs = true, .endless = true};
    struct pj_aside aside;
    begin(&aside, &job);
    cr_expect(pj_aside_await(&aside, &job.sign, NULL));
    pj_aside_end(&aside);
    cr_expect_eq(aside.error.code, PJ_ESTOPPED, "cancelled, for it would not have ended");
    pj_stop_close(&job.sign);
}

Test(aside, a_stop_is_passed_on, .timeout = 20)
{
    struct job job = {.endless = true};
    struct pj_aside aside;
    struct pj_stop stop;
    struct pj_error error;
    cr_assert_eq(pj_stop_init(&stop, &error), PJ_OK);
    begin(&aside, &job);
    pj_stop_ask(&stop);
    cr_expect_not(pj_aside_await(&aside, &job.sign, &stop));
    cr_expect_eq(aside.error.code, PJ_ESTOPPED);
    pj_aside_end(&aside);
    pj_stop_close(&stop);
    pj_stop_close(&job.sign);
}

Test(aside, what_never_began_may_be_ended)
{
    struct pj_aside aside = PJ_ASIDE_NONE;
    pj_aside_end(&aside);
    cr_expect_not(aside.running);
}
