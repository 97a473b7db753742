/*
 * See signals.h. Signals are blocked everywhere and read from a signalfd by a thread of their own, so there is no
 * handler, no global that one would need, and nothing that must be async-signal-safe.
 */
#include "app/signals.h"

#include "base/clock.h"

#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <string.h>
#include <sys/signalfd.h>
#include <unistd.h>

enum { SAME_REQUEST_US = 1000000 };

static sigset_t handled(void)
{
    sigset_t set;
    sigemptyset(&set);
    sigaddset(&set, SIGTERM);
    sigaddset(&set, SIGINT);
    sigaddset(&set, SIGHUP);
    return set;
}

/*
 * The second request means now: state that matters is on the read database, in whole transactions. One right after the
 * first is the same request, sent to the process group and by a supervisor, too.
 */
static void take(struct pj_signals *signals, int number)
{
    if (number == SIGHUP) {
        pj_log(signals->log, PJ_LOG_INFO, "SIGHUP: looking at the configuration and the module directory");
        pj_waker_call(signals->hup);
        return;
    }
    uint64_t now = pj_clock_monotonic_us();
    if (signals->asked_us && now - signals->asked_us < SAME_REQUEST_US)
        return;
    if (pj_stop_asked(signals->stop))
        _exit(128 + number);
    signals->asked_us = now;
    pj_log(signals->log, PJ_LOG_DEBUG, "signal %d: stopping", number);
    pj_stop_ask(signals->stop);
}

/* In milliseconds, as poll() takes it. */
static int patience_left(const struct pj_signals *signals)
{
    if (!signals->asked_us || signals->patience_ms < 0)
        return -1;
    uint64_t gone_ms = (pj_clock_monotonic_us() - signals->asked_us) / 1000;
    return gone_ms < (uint64_t)signals->patience_ms ? signals->patience_ms - (int)gone_ms : 0;
}

/* A server that does not answer, a name that is not resolved: each wait is bounded, but not their sum. To end here is as
 * safe as a kill. */
static void give_up(const struct pj_signals *signals)
{
    pj_log(signals->log, PJ_LOG_WARNING,
           "not all has come to an end within %d s (a server or a name server that does not "
           "answer?); ending as it is: nothing is lost, what was under way will be undone",
           signals->patience_ms / 1000);
    _exit(0);
}

static void *watch(void *context)
{
    struct pj_signals *signals = context;
    struct pollfd fds[2] = {{.fd = signals->fd, .events = POLLIN}, {.fd = signals->end.fd, .events = POLLIN}};
    for (;;) {
        int count = poll(fds, 2, patience_left(signals));
        if (count == 0)
            give_up(signals);
        if (count < 0 && errno != EINTR)
            return NULL;
        if (count > 0 && fds[1].revents)
            return NULL;
        struct signalfd_siginfo info;
        if (count > 0 && read(signals->fd, &info, sizeof info) == sizeof info)
            take(signals, (int)info.ssi_signo);
    }
}

int pj_signals_start(struct pj_signals *signals, struct pj_stop *stop, const struct pj_log *log, struct pj_waker *hup,
                     struct pj_error *error)
{
    signals->stop = stop;
    signals->log = log;
    signals->hup = hup;
    signals->asked_us = 0;
    signal(SIGPIPE, SIG_IGN);
    sigset_t set = handled();
    pthread_sigmask(SIG_BLOCK, &set, NULL);
    if (pj_stop_init(&signals->end, error) != PJ_OK)
        return error->code;
    signals->fd = signalfd(-1, &set, SFD_CLOEXEC | SFD_NONBLOCK);
    int failed = signals->fd < 0 ? errno : pthread_create(&signals->thread, NULL, watch, signals);
    return failed ? pj_error_set(error, PJ_EFAIL, "cannot watch for signals: %s", strerror(failed)) : PJ_OK;
}

void pj_signals_stop(struct pj_signals *signals)
{
    pj_stop_ask(&signals->end);
    pthread_join(signals->thread, NULL);
    pj_stop_close(&signals->end);
    close(signals->fd);
}
