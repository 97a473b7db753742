/*
 * See registrar.h.
 *
 *      survey -> wait -> (woken) -> survey, where that was asked for -> requests, until there is none -> what a swap has left to
 *                                                                    be resumed -> what is left to be dropped -> wait
 *
 * An error that is worth trying again (a database went away) has all sessions opened anew after a pause; the request
 * stays as it is, `running`, and is begun again. One that somebody is in the way of, who has a table open, is put off: the
 * others are served, and it is tried again some seconds later. Anything else ends it. When the daemon ends in the midst of one, the
 * next daemon begins it again.
 */
#include "core/registrar.h"

#include "base/causes.h"
#include "base/clock.h"
#include "base/mem.h"

#include <errno.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <sys/eventfd.h>
#include <unistd.h>

enum { PAUSE_MS = 500, LONGEST_PAUSE_MS = 5000, PUT_OFF_MS = 5000, GRACE_MS = 3000 };

struct pj_registrar {
    pthread_t thread;
    struct pj_registering work;
    struct pj_stop stop;  /* of all that it does */
    struct pj_stop ended; /* asked by the thread when it is done */
    int wake_fd;
    atomic_bool survey;
    int pause_ms;
    struct pj_causes causes; /* what was logged of late */
    struct pj_buf put_off;   /* the requests that were, since it was woken: ids with commas between them */
};

void pj_registrar_wake(struct pj_registrar *registrar, bool survey)
{
    uint64_t one = 1;
    if (survey)
        atomic_store(&registrar->survey, true);
    ssize_t written = write(registrar->wake_fd, &one, sizeof one);
    (void)written; /* fails only where it rang 2^64 times */
}

/* What somebody reads is asked for again by and by. */
static void wait_for_work(struct pj_registrar *registrar)
{
    const struct pj_registering *work = &registrar->work;
    bool later = registrar->put_off.length || work->untidy || work->unfinished || work->look_again;
    struct pollfd fds[2] = {{.fd = registrar->wake_fd, .events = POLLIN}, {.fd = registrar->stop.fd, .events = POLLIN}};
    poll(fds, 2, later ? PUT_OFF_MS : -1);
    uint64_t rings;
    ssize_t count = read(registrar->wake_fd, &rings, sizeof rings);
    (void)count;
    if (work->look_again)
        atomic_store(&registrar->survey, true);
}

/* ------------------------------------------------------------------------------------------------------- requests */

/* What did not fit the table that was replaced may fit the new one. */
static int look_again(struct pj_registrar *registrar, struct pj_error *error)
{
    bool still = false;
    int code = pj_registering_stands_still(&registrar->work, &still, error);
    if (code == PJ_OK && still)
        pj_registrar_wake(registrar, true);
    return code;
}

/* Somebody is in its way; the others need not wait for that. */
static int put_off(struct pj_registrar *registrar, const struct pj_request *request, const struct pj_error *reason,
                   struct pj_error *error)
{
    struct pj_error cause; /* the reason tells how long somebody has been reading */
    pj_error_set(&cause, reason->code, "request %lld", (long long)request->id);
    if (pj_causes_news(&registrar->causes, &cause, pj_clock_monotonic_us(), 0))
        pj_log(registrar->work.log, PJ_LOG_WARNING, "request for %s waits, others are served: %s", request->name,
               reason->message);
    pj_buf_printf(&registrar->put_off, registrar->put_off.length ? ",%lld" : "%lld", (long long)request->id);
    int code = pj_registering_open(&registrar->work, error);
    return code == PJ_OK ? pj_request_put_off(registrar->work.look, request->id, reason, error) : code;
}

static int serve(struct pj_registrar *registrar, const struct pj_request *request, struct pj_error *error)
{
    struct pj_error outcome;
    if (request->kind == PJ_REQUEST_RELOAD)
        pj_registering_survey(&registrar->work, &outcome);
    else
        pj_registering_serve(&registrar->work, request, &outcome);
    if (outcome.code != PJ_OK && outcome.in_use)
        return put_off(registrar, request, &outcome, error);
    if (outcome.code != PJ_OK && outcome.retryable) {
        *error = outcome;
        return error->code;
    }
    if (outcome.code == PJ_ESTOPPED && pj_stop_asked(&registrar->stop)) {
        *error = outcome;
        return error->code;
    }
    if (outcome.code != PJ_OK && outcome.code != PJ_ESTOPPED) {
        pj_log(registrar->work.log, PJ_LOG_ERROR, "request for %s failed: nothing has changed",
               *request->name ? request->name : "the module directory");
        pj_log_error(registrar->work.log, PJ_LOG_ERROR, &outcome);
    }
    int code = pj_registering_open(&registrar->work, error); /* they may have been closed */
    if (code == PJ_OK && outcome.code == PJ_OK && request->kind != PJ_REQUEST_RELOAD)
        code = look_again(registrar, error);
    else if (code == PJ_OK && outcome.code != PJ_OK && outcome.code != PJ_ESTOPPED && request->kind == PJ_REQUEST_BUILD)
        code = pj_registering_say_why(&registrar->work, request->name, &outcome, error);
    return code == PJ_OK ? pj_request_end(registrar->work.look, request->id, &outcome, error) : code;
}

static int serve_all(struct pj_registrar *registrar, struct pj_error *error)
{
    struct pj_request request;
    struct pj_request_space space;
    bool found;
    int code = PJ_OK;
    pj_buf_clear(&registrar->put_off);
    do {
        code = pj_registering_open(&registrar->work, error);
        if (code == PJ_OK)
            code = pj_request_next(registrar->work.look, pj_buf_text(&registrar->put_off), &request, &space, &found,
                                   error);
        if (code == PJ_OK && found)
            code = serve(registrar, &request, error);
    } while (code == PJ_OK && found);
    return code;
}

static int survey(struct pj_registrar *registrar, struct pj_error *error)
{
    if (!atomic_exchange(&registrar->survey, false))
        return PJ_OK;
    int code = pj_registering_survey(&registrar->work, error);
    if (code == PJ_OK)
        return PJ_OK;
    if (error->retryable || code == PJ_ESTOPPED) {
        atomic_store(&registrar->survey, true); /* once more, later */
        return code;
    }
    pj_log_error(registrar->work.log, PJ_LOG_ERROR, error);
    pj_error_clear(error);
    return PJ_OK;
}

/* ------------------------------------------------------------------------------------------------------ the thread */

static void complain(struct pj_registrar *registrar, const struct pj_error *error)
{
    if (pj_causes_news(&registrar->causes, error, pj_clock_monotonic_us(), 0))
        pj_log(registrar->work.log, PJ_LOG_WARNING, "registrar: %s; trying again", error->message);
}

static void pause_attempts(struct pj_registrar *registrar)
{
    struct pj_error ignored;
    pj_stop_sleep(&registrar->stop, registrar->pause_ms, &ignored);
    registrar->pause_ms = registrar->pause_ms * 2 < LONGEST_PAUSE_MS ? registrar->pause_ms * 2 : LONGEST_PAUSE_MS;
}

static void *run(void *context)
{
    struct pj_registrar *registrar = context;
    struct pj_error error;
    while (!pj_stop_asked(&registrar->stop)) {
        pj_error_clear(&error);
        int code = survey(registrar, &error);
        if (code == PJ_OK)
            code = serve_all(registrar, &error);
        if (code == PJ_OK)
            code = pj_registering_catch_up(&registrar->work, &error);
        if (code == PJ_OK)
            code = pj_registering_tidy(&registrar->work, &error);
        pj_registering_close(&registrar->work);
        if (code == PJ_OK) {
            registrar->pause_ms = PAUSE_MS;
            if (!registrar->put_off.length)
                pj_causes_over(&registrar->causes);
            wait_for_work(registrar);
        } else if (code != PJ_ESTOPPED) {
            complain(registrar, &error);
            pause_attempts(registrar);
        }
    }
    pj_stop_ask(&registrar->ended);
    return NULL;
}

/* Signals are another thread's. */
static int start_thread(struct pj_registrar *registrar)
{
    sigset_t all, before;
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    int failed = pthread_create(&registrar->thread, NULL, run, registrar);
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    return failed;
}

static void dispose(struct pj_registrar *registrar)
{
    if (registrar->wake_fd >= 0)
        close(registrar->wake_fd);
    pj_stop_close(&registrar->stop);
    pj_stop_close(&registrar->ended);
    pj_buf_free(&registrar->put_off);
    pj_free(registrar);
}

int pj_registrar_start(struct pj_registrar **out, const struct pj_registrar_options *options, struct pj_error *error)
{
    pj_error_clear(error);
    struct pj_registrar *registrar = pj_alloc(sizeof *registrar);
    registrar->pause_ms = PAUSE_MS;
    registrar->stop.fd = registrar->ended.fd = -1;
    registrar->wake_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    atomic_init(&registrar->survey, true);
    registrar->work = (struct pj_registering){.handover = options->handover,
                                              .deploy = options->deploy,
                                              .context = options->context,
                                              .log = options->log,
                                              .stop = &registrar->stop};
    int code = registrar->wake_fd < 0 ? pj_error_set(error, PJ_EFAIL, "eventfd: %s", strerror(errno)) : PJ_OK;
    if (code == PJ_OK)
        code = pj_stop_init(&registrar->stop, error);
    if (code == PJ_OK)
        code = pj_stop_init(&registrar->ended, error);
    int failed = code == PJ_OK ? start_thread(registrar) : 0;
    if (failed)
        code = pj_error_set(error, PJ_EFAIL, "start the registrar's thread: %s", strerror(failed));
    if (code != PJ_OK)
        dispose(registrar);
    else
        *out = registrar;
    return code;
}

bool pj_registrar_stop(struct pj_registrar *registrar)
{
    if (!registrar)
        return true;
    struct pj_error ignored;
    pj_stop_ask(&registrar->stop);
    if (pj_stop_sleep(&registrar->ended, GRACE_MS, &ignored) == PJ_OK) {
        pthread_detach(registrar->thread);
        return false;
    }
    pthread_join(registrar->thread, NULL);
    dispose(registrar);
    return true;
}
