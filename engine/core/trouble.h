/*
 * The pipeline's trouble: what has failed and is tried again, when the log says it, and when it is over. No I/O, no clock:
 * positions and times are the caller's.
 *
 * Where only connecting failed, open connections are its end. A statement that has failed while they were good leaves the
 * trouble *open*: that they are open again means nothing then, whatever failed in between. It is over when something is
 * committed; or when what could not be applied has been: a part is written that goes beyond it, or decoding has passed it
 * and nothing is left to apply.
 */
#ifndef PJ_CORE_TROUBLE_H
#define PJ_CORE_TROUBLE_H

#include "base/causes.h"
#include "base/lsn.h"

struct pj_trouble {
    struct pj_causes causes; /* what the log was told */
    struct pj_error cause;   /* while open: the statement's error */
    int attempts;            /* since all was well */
    bool open, told;         /* told: the log knows of it */
    pj_lsn reached;          /* while open: what could not be applied stands at or before this */
};

/*
 * It has failed. connecting: while the connections were being opened; received: what decoding has reached. Returns whether
 * the log is to say it; else it has said so of late. A cause that comes again after something was committed is news; but a
 * full disk and its like once a minute at most: one that is almost full lets this and that through.
 */
bool pj_trouble_met(struct pj_trouble *trouble, const struct pj_error *error, bool connecting, pj_lsn received,
                    uint64_t now_us);

/* Whether it is over by a batch that was written and goes up to `reaches`. */
bool pj_trouble_passed(const struct pj_trouble *trouble, bool committed, pj_lsn reaches);

/* Whether it is over with nothing left to apply, `idle_us` after the last change arrived. Of a transaction of which only a
 * part had come the end is not known: hence the time. */
bool pj_trouble_settled(const struct pj_trouble *trouble, pj_lsn received, uint64_t idle_us);

/* It is over; committed: the read database has taken something. Returns the attempts where that is to be said, else 0. */
int pj_trouble_end(struct pj_trouble *trouble, bool committed);

#endif
