/*
 * A callback that one thread sets and others call. Once pj_waker_set has returned, no call of the former callback is
 * under way, so that its context may be freed. A callback must not set, or cause a call of, its own waker.
 */
#ifndef PJ_CORE_WAKER_H
#define PJ_CORE_WAKER_H

#include <pthread.h>

struct pj_waker {
    pthread_mutex_t lock;
    void (*wake)(void *context); /* NULL: nobody to wake */
    void *context;
};

static inline void pj_waker_init(struct pj_waker *waker)
{
    pthread_mutex_init(&waker->lock, NULL);
}

static inline void pj_waker_destroy(struct pj_waker *waker)
{
    pthread_mutex_destroy(&waker->lock);
}

static inline void pj_waker_set(struct pj_waker *waker, void (*wake)(void *context), void *context)
{
    pthread_mutex_lock(&waker->lock);
    waker->wake = wake;
    waker->context = context;
    pthread_mutex_unlock(&waker->lock);
}

static inline void pj_waker_call(struct pj_waker *waker)
{
    pthread_mutex_lock(&waker->lock);
    if (waker->wake)
        waker->wake(waker->context);
    pthread_mutex_unlock(&waker->lock);
}

#endif
