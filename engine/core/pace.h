/*
 * When to commit at once and when to gather: batches by arrival rate. Pure; the caller brings the clock.
 *
 * While the stream is quiet a batch is what has arrived: it goes at once, and its cost is latency only. While it runs
 * hot (catching up, a burst), small batches would cost the read database far more than they save in time, so
 * transactions are gathered up to a number, an age or the batch's cap, whichever comes first. The number is small at
 * first and doubles, so that the read database does not wait for a first batch as large as those to come.
 */
#ifndef PJ_CORE_PACE_H
#define PJ_CORE_PACE_H

#include <stdbool.h>
#include <stdint.h>

struct pj_pace {
    uint64_t window_us;    /* when the current window began */
    uint64_t in_window;    /* messages that arrived in it */
    bool hot;              /* what the last whole window was */
    int doubled;           /* how often the number was, since it is hot */
    uint64_t gathering_us; /* since when the batch gathers; 0: it holds no transaction */
};

enum {
    PJ_PACE_WINDOW_US = 10000,
    PJ_PACE_HOT_MESSAGES = 320, /* a window: 32,000 messages a second, some 8,000 small transactions */
    PJ_PACE_FIRST_TRANSACTIONS = 2048,
    PJ_PACE_GATHER_TRANSACTIONS = 16384,
    PJ_PACE_NAP_US = 400
};

/* `messages` have arrived by now. */
void pj_pace_arrived(struct pj_pace *pace, uint64_t messages, uint64_t now_us);

/* Whether a batch of so many whole transactions should wait for more. */
bool pj_pace_gather(struct pj_pace *pace, uint64_t transactions, uint64_t longest_us, uint64_t now_us);

/* A batch has gone. */
void pj_pace_handed_over(struct pj_pace *pace);

#endif
