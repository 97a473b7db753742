/* See backoff.h. */
#include "app/backoff.h"

#include "base/clock.h"

#include <unistd.h>

enum { FIRST_MS = 500, MOST_MS = 30000 };

void pj_backoff_reset(struct pj_backoff *backoff)
{
    backoff->next_ms = FIRST_MS;
    if (!backoff->seed)
        backoff->seed = (uint64_t)pj_clock_wall_us() ^ (uint64_t)getpid() << 32;
}

/* splitmix64: good enough for jitter */
static uint64_t draw(uint64_t *seed)
{
    uint64_t z = *seed += UINT64_C(0x9e3779b97f4a7c15);
    z = (z ^ z >> 30) * UINT64_C(0xbf58476d1ce4e5b9);
    z = (z ^ z >> 27) * UINT64_C(0x94d049bb133111eb);
    return z ^ z >> 31;
}

int pj_backoff_next(struct pj_backoff *backoff)
{
    if (!backoff->next_ms)
        pj_backoff_reset(backoff);
    int middle = backoff->next_ms;
    backoff->next_ms = middle * 2 < MOST_MS ? middle * 2 : MOST_MS;
    int wait = middle / 2 + (int)(draw(&backoff->seed) % (uint64_t)middle);
    return wait < MOST_MS ? wait : MOST_MS;
}
