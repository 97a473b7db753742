/* See pace.h. */
#include "core/pace.h"

void pj_pace_arrived(struct pj_pace *pace, uint64_t messages, uint64_t now_us)
{
    uint64_t elapsed = now_us - pace->window_us;
    if (elapsed >= PJ_PACE_WINDOW_US) {
        /* a window that was looked at late counts by its rate */
        pace->hot = pace->in_window * PJ_PACE_WINDOW_US >= (uint64_t)PJ_PACE_HOT_MESSAGES * elapsed;
        pace->window_us = now_us;
        pace->in_window = 0;
    }
    pace->in_window += messages;
}

bool pj_pace_gather(struct pj_pace *pace, uint64_t transactions, uint64_t longest_us, uint64_t now_us)
{
    if (!transactions) {
        pace->gathering_us = 0;
        return true;
    }
    if (!pace->gathering_us)
        pace->gathering_us = now_us;
    pj_pace_arrived(pace, 0, now_us);
    if (!pace->hot)
        pace->doubled = 0;
    return pace->hot && transactions < (uint64_t)PJ_PACE_FIRST_TRANSACTIONS << pace->doubled &&
           now_us - pace->gathering_us < longest_us;
}

void pj_pace_handed_over(struct pj_pace *pace)
{
    pace->gathering_us = 0;
    if (pace->hot && PJ_PACE_FIRST_TRANSACTIONS << pace->doubled < PJ_PACE_GATHER_TRANSACTIONS)
        pace->doubled++;
}
