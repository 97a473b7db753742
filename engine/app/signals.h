/* SIGTERM and SIGINT ask for a stop, the second one ends the process at once; SIGHUP is passed on; SIGPIPE is
 * ignored. */
#ifndef PJ_APP_SIGNALS_H
#define PJ_APP_SIGNALS_H

#include "base/log.h"
#include "core/waker.h"
#include "pg/session.h"

#include <pthread.h>

struct pj_signals {
    pthread_t thread;
    int fd;             /* a signalfd */
    struct pj_stop end; /* asks the thread to end */
    uint64_t asked_us;  /* when the first signal came; 0: none yet */
    int patience_ms;    /* from the caller: after how long of stopping the process ends as it is, with 0; -1: never */
    struct pj_stop *stop;
    const struct pj_log *log;
    struct pj_waker *hup;
};

/* To be called before any other thread is started: those inherit the blocked signals. Arguments must outlive it. */
int pj_signals_start(struct pj_signals *signals, struct pj_stop *stop, const struct pj_log *log, struct pj_waker *hup,
                     struct pj_error *error);
void pj_signals_stop(struct pj_signals *signals);

#endif
