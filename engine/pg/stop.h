/* Asking for a stop, across threads. */
#ifndef PJ_PG_STOP_H
#define PJ_PG_STOP_H

#include "base/error.h"

#include <stdbool.h>

/*
 * A request to stop, shared by threads: a file descriptor that becomes readable when asked, and stays so.
 */
struct pj_stop {
    int fd; /* an eventfd, or an epoll of some; -1: can never be asked */
};

int pj_stop_init(struct pj_stop *stop, struct pj_error *error);
void pj_stop_close(struct pj_stop *stop);
void pj_stop_ask(struct pj_stop *stop); /* async-signal-safe, from any thread */
bool pj_stop_asked(const struct pj_stop *stop);

/* One that is asked as soon as either of two is; not to be asked itself, and closed before the two are. */
int pj_stop_either(struct pj_stop *either, const struct pj_stop *one, const struct pj_stop *other,
                   struct pj_error *error);

/* Sleeps; PJ_ESTOPPED as soon as a stop is asked. */
int pj_stop_sleep(const struct pj_stop *stop, int milliseconds, struct pj_error *error);

#endif
