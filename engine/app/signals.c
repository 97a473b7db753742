/*
 * See signals.h. Signals are taken by a thread of their own with sigwait(), so there is no handler, no global that one
 * would need, and nothing that must be async-signal-safe.
 */
#include "app/signals.h"

#include <signal.h>
#include <string.h>
#include <unistd.h>

static sigset_t handled(void)
{
    sigset_t set;
    sigemptyset(&set);
    sigaddset(&set, SIGTERM);
    sigaddset(&set, SIGINT);
    sigaddset(&set, SIGHUP);
    return set;
}

/* The second request means now: state that matters is on the read database, in whole transactions. */
static void *wait_for_signals(void *context)
{
    struct pj_signals *signals = context;
    sigset_t set = handled();
    for (;;) {
        int number;
        if (sigwait(&set, &number) != 0)
            continue;
        if (number == SIGHUP) {
            pj_log(signals->log, PJ_LOG_INFO, "SIGHUP: nothing is reloaded yet; restart to change the configuration");
            continue;
        }
        if (pj_stop_asked(signals->stop))
            _exit(128 + number);
        pj_log(signals->log, PJ_LOG_DEBUG, "signal %d: stopping", number);
        pj_stop_ask(signals->stop);
    }
    return NULL;
}

int pj_signals_start(struct pj_signals *signals, struct pj_stop *stop, const struct pj_log *log, struct pj_error *error)
{
    signals->stop = stop;
    signals->log = log;
    signal(SIGPIPE, SIG_IGN);
    sigset_t set = handled();
    pthread_sigmask(SIG_BLOCK, &set, NULL);
    int failed = pthread_create(&signals->thread, NULL, wait_for_signals, signals);
    return failed ? pj_error_set(error, PJ_EFAIL, "cannot start a thread: %s", strerror(failed)) : PJ_OK;
}

void pj_signals_stop(struct pj_signals *signals)
{
    pthread_cancel(signals->thread);
    pthread_join(signals->thread, NULL);
}
