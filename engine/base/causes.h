/*
 * What the log has been told of late, so that a trouble that lasts is said once, and now and then: a disk that is full all
 * night must not fill the log's disk, too. Causes alternate (a server that keeps restarting is full, gone, starting up by
 * turns), so several are remembered; one more takes the place of the one that was said longest ago.
 *
 * All zeros is a table without any. No clock of its own: times are the caller's, in microseconds, and only grow.
 */
#ifndef PJ_BASE_CAUSES_H
#define PJ_BASE_CAUSES_H

#include "base/error.h"

enum {
    PJ_CAUSES = 8,
    PJ_SAY_AGAIN_US = 600 * 1000 * 1000, /* a cause that lasts is said so often */
    PJ_SAY_ANEW_US = 60 * 1000 * 1000    /* for pj_causes_news: one that comes and goes is said so often */
};

struct pj_causes {
    struct pj_cause {
        struct pj_error error; /* PJ_OK: no entry */
        uint64_t said_us;
        bool over;
    } said[PJ_CAUSES];
};

/* Whether an error is to be said now; then it counts as said. Not where its cause was, in the last PJ_SAY_AGAIN_US; of one
 * that is over, in the last `anew_us`. */
bool pj_causes_news(struct pj_causes *causes, const struct pj_error *error, uint64_t now_us, uint64_t anew_us);

/* All is well: what comes from here on is another trouble, be it of the same cause. */
void pj_causes_over(struct pj_causes *causes);

#endif
