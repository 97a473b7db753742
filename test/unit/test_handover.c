/* Handing over: who has which outfit when, who is woken, that two threads always find each other, and that nothing
 * is lost (leaks, under the sanitizers). */
#include "core/handover.h"

#include "base/mem.h"

#include <criterion/criterion.h>
#include <pthread.h>
#include <stdatomic.h>

static struct pj_outfit *outfit(int64_t roster)
{
    struct pj_outfit *made = pj_alloc(sizeof *made);
    made->roster = roster;
    return made;
}

static void count(void *context)
{
    ++*(atomic_int *)context;
}

Test(handover, frees_what_nobody_has_taken_back)
{
    struct pj_handover *handover = pj_handover_new(outfit(1));
    pj_handover_offer(handover, outfit(2));
    pj_handover_offer(handover, outfit(3));
    pj_handover_take(handover, 0, NULL);
    pj_handover_offer(handover, outfit(4));
    pj_handover_free(handover);
    pj_handover_free(NULL);
    pj_outfit_free(NULL);
}

Test(handover, an_offer_wakes_the_pipeline_and_is_taken_once)
{
    struct pj_outfit *first = outfit(1), *second = outfit(2);
    struct pj_handover *handover = pj_handover_new(first);
    atomic_int woken = 0;
    pj_handover_on_offer(handover, count, &woken);
    cr_expect_not(pj_handover_offered(handover));
    cr_expect_null(pj_handover_take(handover, 0, NULL));
    cr_expect_eq(pj_handover_in_use(handover), first);
    pj_handover_offer(handover, second);
    cr_expect_eq(woken, 1);
    cr_expect(pj_handover_offered(handover));
    cr_expect_eq(pj_handover_in_use(handover), first, "it is in use until the pipeline has ended");
    cr_expect_null(pj_handover_retired(handover));
    cr_expect_eq(pj_handover_take(handover, 0, NULL), second);
    cr_expect_eq(pj_handover_in_use(handover), second);
    cr_expect_not(pj_handover_offered(handover));
    cr_expect_null(pj_handover_retired(handover), "it may still be looked at");
    pj_handover_streaming(handover, second);
    cr_expect_eq(pj_handover_retired(handover), first);
    cr_expect_null(pj_handover_retired(handover));
    pj_outfit_free(first);
    pj_handover_free(handover);
}

Test(handover, an_offer_made_before_anybody_listened_wakes_the_one_who_begins_to)
{
    struct pj_handover *handover = pj_handover_new(outfit(1));
    atomic_int woken = 0;
    pj_handover_offer(handover, outfit(2));
    pj_handover_on_offer(handover, count, &woken);
    cr_expect_eq(woken, 1);
    pj_handover_on_offer(handover, NULL, NULL);
    pj_handover_offer(handover, outfit(3));
    cr_expect_eq(woken, 1);
    pj_handover_free(handover);
}

Test(handover, a_second_offer_replaces_the_first)
{
    struct pj_handover *handover = pj_handover_new(outfit(1));
    struct pj_outfit *second = outfit(2), *third = outfit(3);
    struct pj_error error;
    pj_handover_offer(handover, second);
    pj_handover_offer(handover, third);
    cr_expect_eq(pj_handover_wait_streaming(handover, second, -1, NULL, &error), PJ_EFAIL);
    cr_expect(error.retryable);
    cr_expect_eq(pj_handover_retired(handover), second);
    pj_outfit_free(second);
    cr_expect_eq(pj_handover_take(handover, -1, NULL), third);
    pj_handover_free(handover);
}

Test(handover, one_that_the_owner_made_takes_the_place_of_the_one_in_use)
{
    struct pj_outfit *first = outfit(1), *offered = outfit(2), *made = outfit(3);
    struct pj_handover *handover = pj_handover_new(first);
    struct pj_error error;
    pj_handover_offer(handover, offered);
    pj_handover_replace(handover, made);
    cr_expect_eq(pj_handover_in_use(handover), made);
    cr_expect_eq(pj_handover_wait_streaming(handover, first, -1, NULL, &error), PJ_EFAIL);
    pj_handover_streaming(handover, made);
    cr_expect_eq(pj_handover_retired(handover), first);
    pj_outfit_free(first);
    cr_expect_eq(pj_handover_take(handover, 0, NULL), offered, "an offer stays");
    pj_handover_free(handover);
}

Test(handover, waiting_ends_with_the_time_and_with_a_stop)
{
    struct pj_outfit *first = outfit(1);
    struct pj_handover *handover = pj_handover_new(first);
    struct pj_error error;
    struct pj_stop stop;
    cr_expect_eq(pj_handover_wait_streaming(handover, first, 1, NULL, &error), PJ_EUNREACHABLE);
    cr_expect_null(pj_handover_take(handover, 1, NULL));
    cr_assert_eq(pj_stop_init(&stop, &error), PJ_OK);
    pj_stop_ask(&stop);
    cr_expect_eq(pj_handover_wait_streaming(handover, first, -1, &stop, &error), PJ_ESTOPPED);
    cr_expect_null(pj_handover_take(handover, -1, &stop));
    struct pj_outfit other = {0};
    pj_handover_streaming(handover, &other); /* of a run that is over: says nothing of this one */
    cr_expect_eq(pj_handover_wait_streaming(handover, first, 0, NULL, &error), PJ_EUNREACHABLE);
    pj_handover_streaming(handover, first);
    cr_expect_eq(pj_handover_wait_streaming(handover, first, 0, NULL, &error), PJ_OK);
    pj_stop_close(&stop);
    pj_handover_free(handover);
}

enum { ROUNDS = 2000 };

/* The pipeline's owner, whose pipeline ends whenever something is offered. */
static void *run(void *context)
{
    struct pj_handover *handover = context;
    for (int64_t expected = 1; expected <= ROUNDS; expected++) {
        struct pj_outfit *taken = pj_handover_take(handover, -1, NULL);
        cr_assert_not_null(taken);
        cr_assert_eq(taken->roster, expected);
        pj_handover_streaming(handover, taken);
    }
    return NULL;
}

Test(handover, two_threads_find_each_other_each_time, .timeout = 60)
{
    struct pj_handover *handover = pj_handover_new(outfit(0));
    struct pj_error error;
    pthread_t thread;
    cr_assert_eq(pthread_create(&thread, NULL, run, handover), 0);
    for (int64_t round = 1; round <= ROUNDS; round++) {
        struct pj_outfit *next = outfit(round);
        pj_handover_offer(handover, next);
        cr_assert_eq(pj_handover_wait_streaming(handover, next, -1, NULL, &error), PJ_OK);
        cr_assert_eq(pj_handover_in_use(handover), next);
        struct pj_outfit *former = pj_handover_retired(handover);
        cr_assert_not_null(former);
        cr_assert_eq(former->roster, round - 1);
        pj_outfit_free(former);
        cr_assert_null(pj_handover_retired(handover));
    }
    pthread_join(thread, NULL);
    pj_handover_free(handover);
}
