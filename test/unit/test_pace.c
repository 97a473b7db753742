/* When a batch goes at once, and when it gathers. */
#include "core/pace.h"

#include <criterion/criterion.h>

enum { WINDOW = PJ_PACE_WINDOW_US, HOT = PJ_PACE_HOT_MESSAGES };

static const uint64_t start = 1000000000;

/* A pace whose window begins at `start`. */
static struct pj_pace fresh(void)
{
    struct pj_pace pace = {0};
    pj_pace_arrived(&pace, 0, start);
    return pace;
}

/* One that has just become hot; the time is start + WINDOW. */
static struct pj_pace hot(void)
{
    struct pj_pace pace = fresh();
    pj_pace_arrived(&pace, HOT, start);
    pj_pace_arrived(&pace, HOT, start + WINDOW);
    cr_assert(pace.hot);
    return pace;
}

Test(pace, is_quiet_at_first_however_much_comes_at_once)
{
    struct pj_pace pace = {0};
    pj_pace_arrived(&pace, 1000000, start);
    cr_assert_not(pace.hot);
    cr_assert_not(pj_pace_gather(&pace, 1, 500000, start));
}

Test(pace, becomes_hot_after_a_whole_window_of_enough_messages)
{
    struct pj_pace pace = fresh();
    pj_pace_arrived(&pace, HOT, start);
    pj_pace_arrived(&pace, 0, start + WINDOW - 1);
    cr_assert_not(pace.hot);
    pj_pace_arrived(&pace, 0, start + WINDOW);
    cr_assert(pace.hot);
}

Test(pace, stays_quiet_with_one_message_less)
{
    struct pj_pace pace = fresh();
    pj_pace_arrived(&pace, HOT - 1, start);
    pj_pace_arrived(&pace, 1000000, start + WINDOW); /* these belong to the next window */
    cr_assert_not(pace.hot);
    pj_pace_arrived(&pace, 0, start + 2 * WINDOW);
    cr_assert(pace.hot);
}

Test(pace, adds_up_what_arrives_in_a_window)
{
    struct pj_pace pace = fresh();
    for (int i = 0; i < HOT; i++)
        pj_pace_arrived(&pace, 1, start + (uint64_t)i);
    pj_pace_arrived(&pace, 0, start + WINDOW);
    cr_assert(pace.hot);
}

Test(pace, a_window_looked_at_late_counts_by_its_rate)
{
    struct pj_pace pace = fresh();
    pj_pace_arrived(&pace, 10 * HOT - 1, start);
    pj_pace_arrived(&pace, 0, start + 10 * WINDOW);
    cr_assert_not(pace.hot);
    pj_pace_arrived(&pace, 10 * HOT, start + 10 * WINDOW);
    pj_pace_arrived(&pace, 0, start + 20 * WINDOW);
    cr_assert(pace.hot);
}

Test(pace, cools_down_when_nothing_arrives)
{
    struct pj_pace pace = hot();
    pj_pace_arrived(&pace, 0, start + 2 * WINDOW);
    cr_assert(pace.hot, "the second window was full as well");
    pj_pace_arrived(&pace, 0, start + 3 * WINDOW);
    cr_assert_not(pace.hot);
}

Test(pace, a_quiet_batch_goes_at_once)
{
    struct pj_pace pace = fresh();
    cr_assert_not(pj_pace_gather(&pace, 1, 500000, start));
    cr_assert_not(pj_pace_gather(&pace, 1, 500000, start + 1));
}

Test(pace, an_empty_batch_waits)
{
    struct pj_pace quiet = fresh(), busy = hot();
    cr_assert(pj_pace_gather(&quiet, 0, 500000, start));
    cr_assert(pj_pace_gather(&busy, 0, 500000, start + WINDOW));
}

/* How many transactions a hot batch is sent with. */
static uint64_t enough(struct pj_pace *pace)
{
    uint64_t count = 1;
    while (pj_pace_gather(pace, count, 500000, start + WINDOW))
        count++;
    return count;
}

Test(pace, a_hot_batch_gathers_up_to_a_number_that_doubles)
{
    struct pj_pace pace = hot();
    for (uint64_t expected = PJ_PACE_FIRST_TRANSACTIONS; expected < PJ_PACE_GATHER_TRANSACTIONS; expected *= 2) {
        cr_assert_eq(enough(&pace), expected);
        pj_pace_handed_over(&pace);
    }
    cr_assert_eq(enough(&pace), PJ_PACE_GATHER_TRANSACTIONS);
    pj_pace_handed_over(&pace);
    cr_assert_eq(enough(&pace), PJ_PACE_GATHER_TRANSACTIONS);
}

Test(pace, the_number_is_small_again_after_a_quiet_time)
{
    struct pj_pace pace = hot();
    enough(&pace);
    pj_pace_handed_over(&pace);
    pj_pace_arrived(&pace, 0, start + 2 * WINDOW);
    pj_pace_arrived(&pace, HOT, start + 3 * WINDOW); /* the window before was quiet */
    cr_assert_not(pj_pace_gather(&pace, 1, 500000, start + 3 * WINDOW));
    pj_pace_arrived(&pace, 0, start + 4 * WINDOW);
    cr_assert(pj_pace_gather(&pace, PJ_PACE_FIRST_TRANSACTIONS - 1, 500000, start + 4 * WINDOW));
    cr_assert_not(pj_pace_gather(&pace, PJ_PACE_FIRST_TRANSACTIONS, 500000, start + 4 * WINDOW));
}

Test(pace, a_hot_batch_gathers_up_to_an_age)
{
    struct pj_pace pace = hot();
    uint64_t now = start + WINDOW;
    cr_assert(pj_pace_gather(&pace, 1, 5000, now));
    cr_assert(pj_pace_gather(&pace, 2, 5000, now + 4999));
    cr_assert_not(pj_pace_gather(&pace, 3, 5000, now + 5000));
    cr_assert_not(pj_pace_gather(&pace, 3, 5000, now + 5001)); /* and is not young again */
}

Test(pace, the_age_is_that_of_the_batch_that_holds_something)
{
    struct pj_pace pace = hot();
    uint64_t now = start + WINDOW;
    cr_assert(pj_pace_gather(&pace, 1, 5000, now));
    cr_assert(pj_pace_gather(&pace, 0, 5000, now + 4000)); /* it went; the next one is empty */
    cr_assert(pj_pace_gather(&pace, 1, 5000, now + 6000));
    cr_assert(pj_pace_gather(&pace, 1, 5000, now + 9999));
    cr_assert_not(pj_pace_gather(&pace, 1, 5000, now + 11000));
}

Test(pace, a_batch_that_gathers_goes_as_soon_as_the_stream_turns_quiet)
{
    struct pj_pace pace = hot();
    uint64_t now = start + WINDOW;
    cr_assert(pj_pace_gather(&pace, 1, 500000, now));
    cr_assert(pj_pace_gather(&pace, 1, 500000, now + WINDOW));
    cr_assert_not(pj_pace_gather(&pace, 1, 500000, now + 2 * WINDOW));
}

Test(pace, nothing_gathers_where_no_time_is_given)
{
    struct pj_pace pace = hot();
    cr_assert_not(pj_pace_gather(&pace, 1, 0, start + WINDOW));
}

/* A minute at a steady rate, in bursts: hot throughout or never. */
static bool hot_at(uint64_t messages_a_second, uint64_t bursts_a_second)
{
    struct pj_pace pace = fresh();
    uint64_t hot_windows = 0, looks = 0, step = 1000000 / bursts_a_second;
    for (uint64_t now = start; now < start + 60000000; now += step) {
        pj_pace_arrived(&pace, messages_a_second / bursts_a_second, now);
        if (now > start + 5 * WINDOW) {
            looks++;
            hot_windows += pace.hot;
        }
    }
    cr_assert(hot_windows == 0 || hot_windows == looks, "%llu of %llu", (unsigned long long)hot_windows,
              (unsigned long long)looks);
    return hot_windows > 0;
}

Test(pace, does_not_waver_at_a_steady_rate)
{
    cr_assert(hot_at(200000, 5000));
    cr_assert(hot_at(64000, 1000));
    cr_assert_not(hot_at(16000, 1000));
    cr_assert_not(hot_at(4000, 500)); /* 1,000 transactions a second */
    cr_assert(hot_at(64000, 50));     /* windows that are looked at late */
    cr_assert_not(hot_at(16000, 50));
}
