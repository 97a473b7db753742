/*
 * Work aside: on a thread of its own, with sessions of its own, beside what its owner does on others. The owner waits
 * for it, or has it cancelled, by which a call of a session that is under way ends, too.
 */
#ifndef PJ_CORE_ASIDE_H
#define PJ_CORE_ASIDE_H

#include "pg/stop.h"

#include <pthread.h>

/* The work. Its sessions have `cancel` as their stop; what it returns is looked for in the error. */
typedef void (*pj_aside_fn)(void *context, const struct pj_stop *cancel, struct pj_error *error);

struct pj_aside {
    pj_aside_fn work;
    void *context;
    pthread_t thread;
    bool running;          /* the thread is there to be joined */
    struct pj_stop cancel; /* asked by the owner */
    struct pj_stop over;   /* asked by the thread, last */
    struct pj_error error; /* the thread's, until pj_aside_await or pj_aside_end has returned */
};

#define PJ_ASIDE_NONE                                                                                                  \
    {                                                                                                                  \
        .cancel = {-1}, .over = { -1 }                                                                                 \
    } /* as it is before it begins; may be ended */

/* `aside` stays where it is until it is ended, and `context` as long. PJ_EFAIL where no thread can be started. */
int pj_aside_begin(struct pj_aside *aside, pj_aside_fn work, void *context, struct pj_error *error);

/*
 * Waits until `sign` is asked (true; NULL: there is none), or until the work is over, be it by an error (false; then
 * aside->error says how it ended). A stop that is asked meanwhile is passed on, and becomes the work's error; it may be
 * NULL.
 */
bool pj_aside_await(struct pj_aside *aside, const struct pj_stop *sign, const struct pj_stop *stop);

/* Cancels the work, where it is not over, and waits for its end. */
void pj_aside_end(struct pj_aside *aside);

#endif
