/* How long to wait before the next attempt: exponential with jitter, so that many daemons do not knock in step. */
#ifndef PJ_APP_BACKOFF_H
#define PJ_APP_BACKOFF_H

#include <stdint.h>

struct pj_backoff {
    int next_ms;   /* the middle of the next wait */
    uint64_t seed; /* of the jitter; 0: not yet begun */
};

void pj_backoff_reset(struct pj_backoff *backoff);

/* The next wait in milliseconds: around 500, then twice as long each time up to 30 s, each half to one and a half of
 * it, never more than 30 s. */
int pj_backoff_next(struct pj_backoff *backoff);

#endif
