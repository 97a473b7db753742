/*
 * How a session waits: poll() on its socket until the server has said something, the deadline is over, or a stop is
 * asked for; a tick is called meanwhile. What is given up is cancelled at the server.
 */
#include "base/clock.h"
#include "base/mem.h"
#include "pg/consume.h"
#include "pg/session_internal.h"

#include <errno.h>
#include <poll.h>
#include <pthread.h>
#include <stdatomic.h>
#include <sys/eventfd.h>
#include <unistd.h>

enum { CANCEL_MS = 1000 };

void pj_session_set_timeout(struct pj_session *session, int milliseconds)
{
    session->timeout_ms = milliseconds;
}

void pj_session_set_tick(struct pj_session *session, int milliseconds,
                         int (*tick)(void *context, struct pj_error *error), void *context)
{
    session->tick_ms = milliseconds;
    session->tick = tick;
    session->tick_context = context;
}

/* ------------------------------------------------------------------------------------------------------- cancelling */

/* A request to give up what runs, shared by the one who asks and the thread that sends it: whoever is last frees it. */
struct cancellation {
    PGcancel *request;
    atomic_int users;
    int sent_fd; /* an eventfd */
};

static void leave_cancellation(struct cancellation *cancellation)
{
    if (atomic_fetch_sub(&cancellation->users, 1) > 1)
        return;
    PQfreeCancel(cancellation->request);
    close(cancellation->sent_fd);
    pj_free(cancellation);
}

static void *send_cancellation(void *argument)
{
    struct cancellation *cancellation = argument;
    char ignored[256];
    uint64_t one = 1;
    PQcancel(cancellation->request, ignored, sizeof ignored);
    ssize_t written = write(cancellation->sent_fd, &one, sizeof one);
    (void)written;
    leave_cancellation(cancellation);
    return NULL;
}

/* Asks the server to give up what runs. PQcancel waits for the server to hang up, which a frozen one never does: so
 * it waits on a thread of its own, and we for it no longer than a moment. */
static void cancel(struct pj_session *session)
{
    PGcancel *request = PQgetCancel(session->conn);
    if (!request)
        return;
    struct cancellation *cancellation = pj_alloc(sizeof *cancellation);
    *cancellation = (struct cancellation){.request = request, .users = 2, .sent_fd = eventfd(0, EFD_CLOEXEC)};
    pthread_t thread;
    if (cancellation->sent_fd < 0 || pthread_create(&thread, NULL, send_cancellation, cancellation) != 0) {
        atomic_store(&cancellation->users, 1);
    } else {
        pthread_detach(thread);
        struct pollfd sent = {.fd = cancellation->sent_fd, .events = POLLIN};
        poll(&sent, 1, CANCEL_MS);
    }
    leave_cancellation(cancellation);
}

/* ---------------------------------------------------------------------------------------------------------- waiting */

uint64_t pj_session_deadline(int milliseconds)
{
    return milliseconds > 0 ? pj_clock_monotonic_us() + (uint64_t)milliseconds * 1000 : 0;
}

static int remaining_ms(uint64_t deadline)
{
    if (!deadline)
        return -1;
    uint64_t now = pj_clock_monotonic_us();
    return now >= deadline ? 0 : (int)((deadline - now + 999) / 1000);
}

/* The next moment at which a wait ends without an answer: the deadline, or a tick. */
static int patience_ms(const struct pj_session *session, uint64_t deadline)
{
    int left = remaining_ms(deadline);
    bool ticks = session->tick && session->given_up.code == PJ_OK;
    return ticks && (left < 0 || left > session->tick_ms) ? session->tick_ms : left;
}

/* Asks once; the server's answer is waited for. */
static void run_tick(struct pj_session *session)
{
    if (session->tick && session->given_up.code == PJ_OK &&
        session->tick(session->tick_context, &session->given_up) != PJ_OK)
        cancel(session);
}

int pj_session_await(struct pj_session *session, short events, uint64_t deadline, bool *ready, struct pj_error *error)
{
    struct pollfd fds[2] = {{.fd = PQsocket(session->conn), .events = events},
                            {.fd = session->stop ? session->stop->fd : -1, .events = POLLIN}};
    for (;;) {
        int count = poll(fds, 2, patience_ms(session, deadline));
        if (count > 0 || (count < 0 && errno != EINTR) || (count == 0 && deadline && remaining_ms(deadline) == 0))
            break;
        if (count == 0)
            run_tick(session);
    }
    if (fds[1].revents)
        return pj_error_set(error, PJ_ESTOPPED, "stopped on request");
    *ready = fds[0].revents != 0;
    return PJ_OK;
}

static int timed_out(struct pj_session *session, struct pj_error *error)
{
    cancel(session);
    pj_error_set(error, PJ_EUNREACHABLE, "%s: no answer within %d ms", pj_side_name(session->side),
                 session->timeout_ms);
    error->retryable = true;
    return error->code;
}

int pj_session_await_answer(struct pj_session *session, short events, uint64_t deadline, struct pj_error *error)
{
    bool ready;
    int code = pj_session_await(session, events, deadline, &ready, error);
    if (code == PJ_ESTOPPED)
        cancel(session);
    if (code != PJ_OK)
        return code;
    return ready ? PJ_OK : timed_out(session, error);
}

int pj_session_wait(struct pj_session *session, int milliseconds, bool *readable, struct pj_error *error)
{
    pj_error_clear(error);
    int code =
        pj_session_await(session, POLLIN, pj_session_deadline(milliseconds > 0 ? milliseconds : 1), readable, error);
    if (code == PJ_OK && *readable && !pj_consume(session->conn))
        code = pj_pg_error(error, session->conn, NULL, session->side);
    return code;
}
