/*
 * The control thread. Its life:
 *
 *      connect --ok--> LISTEN --> loop: write the daemon's row when it is due, serve a fence, wait
 *         ^                          |
 *         +---- pause (backoff) <----+ any error: the gate is released at once, the session closed
 *
 * It waits on two descriptors: its session's socket (NOTIFY) and an eventfd on which the state's and the gate's
 * callbacks and pj_control_stop() ring. Ringing for the end is not the session's own stop: the last write must still go
 * through. Only when it does not go through in time does the session get its stop.
 */
#include "core/control.h"

#include "base/causes.h"
#include "base/clock.h"
#include "base/mem.h"
#include "core/daemon_row.h"
#include "core/dirty_log.h"
#include "core/fence_service.h"
#include "core/stall.h"
#include "core/waker.h"
#include "pg/consume.h"

#include <errno.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <time.h>
#include <unistd.h>

enum {
    TURN_MS = 1000,   /* the longest wait between two looks */
    ANSWER_MS = 2000, /* how long the server may take for one statement */
    PAUSE_MS = 250,   /* before the first attempt to reconnect */
    LONGEST_PAUSE_MS = 2000,
    GRACE_MS = 2400, /* the last write's time, before it is cut off */
    CUT_OFF_MS = 500,
    CHORE_MS = 10000,    /* between two calls of the chore */
    CHORE_WAIT_MS = 3000 /* for one that is under way, when it is taken away */
};

#define STALLED_S 5.0 /* a statement that takes longer is told in the log */

struct pj_control {
    pthread_t thread;
    char *read_url;
    struct pj_state *state;
    const struct pj_log *log;
    struct pj_stop cut_off; /* the session's stop */
    struct pj_stop ended;   /* asked by the thread when it is done */
    int wake_fd;
    atomic_bool ending;
    atomic_bool abandoned;      /* the thread must touch nothing but this object any more */
    pthread_mutex_t chore_lock; /* held during its calls */
    pj_control_chore chore;
    void *chore_context;
    struct pj_waker listener; /* of requests */

    /* all below: the thread's own */
    struct pj_session *session; /* NULL between connections */
    struct pj_fence_service fence;
    struct pj_daemon_row row;
    uint64_t chore_at_us; /* monotonic */
    int pause_ms;
    struct pj_causes causes;   /* what was logged of late */
    uint64_t stall_told_at_us; /* monotonic; 0: nothing stands still that was told */
    bool told;                 /* something was logged since all was well */
};

static void ring(void *context)
{
    struct pj_control *control = context;
    uint64_t one = 1;
    ssize_t written = write(control->wake_fd, &one, sizeof one);
    (void)written; /* fails only where it rang 2^64 times */
}

/* ------------------------------------------------------------------------------------------------------ the session */

/* What the applying session stands still for: told at once, then every ten minutes, and that it goes on. A server that writes
 * nothing any more still answers this: it is asked where our own statement has timed out, on the new session. */
static int watch_stall(struct pj_control *control, struct pj_error *error)
{
    struct pj_stall stall;
    uint64_t now = pj_clock_monotonic_us();
    int code = pj_stall_look(control->session, STALLED_S, &stall, error);
    if (code != PJ_OK)
        return code;
    if (stall.seconds <= 0) {
        if (control->stall_told_at_us)
            pj_log(control->log, PJ_LOG_INFO, "pgprojector apply: going on");
        control->stall_told_at_us = 0;
    } else if (!control->stall_told_at_us || now - control->stall_told_at_us >= PJ_SAY_AGAIN_US) {
        pj_log(control->log, PJ_LOG_WARNING, "%s", stall.message);
        pj_log(control->log, PJ_LOG_WARNING, "HINT: %s", stall.hint);
        control->stall_told_at_us = now;
    }
    return PJ_OK;
}

static int connect_session(struct pj_control *control, struct pj_error *error)
{
    struct pj_session_options options = {.side = PJ_READ,
                                         .url = control->read_url,
                                         .purpose = "control",
                                         .connect_timeout_s = 3,
                                         .stop = &control->cut_off};
    int code = pj_session_open(&control->session, &options, error);
    if (code != PJ_OK)
        return code;
    pj_session_set_timeout(control->session, ANSWER_MS);
    control->row.written_at_us = 0;
    code = pj_session_exec(control->session, "LISTEN pgprojector", error);
    if (code == PJ_OK)
        code = watch_stall(control, error);
    pj_waker_call(&control->listener); /* what was said while we were away is missed */
    return code;
}

static void lose_session(struct pj_control *control)
{
    pj_fence_service_drop(&control->fence);
    pj_session_close(control->session);
    control->session = NULL;
}

static void complain(struct pj_control *control, const struct pj_error *error)
{
    if (!pj_causes_news(&control->causes, error, pj_clock_monotonic_us(), PJ_SAY_ANEW_US))
        return;
    pj_log(control->log, PJ_LOG_WARNING, "control session: %s", error->message);
    control->told = true;
}

static void relax(struct pj_control *control)
{
    if (control->told)
        pj_log(control->log, PJ_LOG_INFO, "control session: back");
    control->told = false;
    pj_causes_over(&control->causes);
    control->pause_ms = PAUSE_MS;
}

/* What has arrived, be it in the answer to a statement: then the socket does not show it any more. */
static bool hear(struct pj_control *control)
{
    bool heard = false;
    for (PGnotify *notice; (notice = PQnotifies(pj_session_conn(control->session))); heard = true) {
        if (strcmp(notice->extra, "request") == 0)
            pj_waker_call(&control->listener);
        PQfreemem(notice);
    }
    return heard;
}

/* Waits for a NOTIFY, a ring, or the time to be over; without a session for the latter two. */
static int wait_for_news(struct pj_control *control, int milliseconds, struct pj_error *error)
{
    PGconn *conn = control->session ? pj_session_conn(control->session) : NULL;
    struct pollfd fds[2] = {{.fd = control->wake_fd, .events = POLLIN},
                            {.fd = conn ? PQsocket(conn) : -1, .events = POLLIN}};
    if (conn && hear(control))
        return PJ_OK;
    poll(fds, 2, milliseconds);
    uint64_t rings;
    ssize_t count = read(control->wake_fd, &rings, sizeof rings);
    (void)count;
    if (!conn || !fds[1].revents)
        return PJ_OK;
    if (!pj_consume(conn))
        return pj_pg_error(error, conn, NULL, PJ_READ);
    hear(control);
    return PJ_OK;
}

/* A pause between attempts, with jitter so that a crowd of daemons does not knock in step; ended only by the end. */
static void pause_attempts(struct pj_control *control)
{
    int milliseconds = control->pause_ms / 2 + (int)(pj_clock_monotonic_us() % (uint64_t)control->pause_ms);
    uint64_t until = pj_clock_monotonic_us() + (uint64_t)milliseconds * 1000;
    struct pj_error ignored;
    for (uint64_t now; !atomic_load(&control->ending) && (now = pj_clock_monotonic_us()) < until;)
        wait_for_news(control, (int)((until - now) / 1000) + 1, &ignored);
    control->pause_ms = control->pause_ms * 2 < LONGEST_PAUSE_MS ? control->pause_ms * 2 : LONGEST_PAUSE_MS;
}

/* ------------------------------------------------------------------------------------------------------- the thread */

static int do_chore(struct pj_control *control, enum pj_phase phase, struct pj_error *error)
{
    uint64_t now = pj_clock_monotonic_us();
    if (phase != PJ_STREAMING || now < control->chore_at_us)
        return PJ_OK;
    control->chore_at_us = now + (uint64_t)CHORE_MS * 1000;
    int code = watch_stall(control, error);
    if (code != PJ_OK)
        return code;
    pthread_mutex_lock(&control->chore_lock);
    code = control->chore ? control->chore(control->chore_context, control->session, error) : PJ_OK;
    pthread_mutex_unlock(&control->chore_lock);
    return code == PJ_OK ? pj_dirty_log_trim(control->session, error) : code;
}

void pj_control_set_listener(struct pj_control *control, void (*listener)(void *context), void *context)
{
    if (control)
        pj_waker_set(&control->listener, listener, context);
}

bool pj_control_set_chore(struct pj_control *control, pj_control_chore chore, void *context)
{
    if (!control)
        return true;
    struct timespec until;
    clock_gettime(CLOCK_REALTIME, &until);
    until.tv_sec += CHORE_WAIT_MS / 1000;
    if (pthread_mutex_timedlock(&control->chore_lock, &until) != 0)
        return false;
    control->chore = chore;
    control->chore_context = context;
    pthread_mutex_unlock(&control->chore_lock);
    return true;
}

/* Connected: what is due, then a wait. */
static int turn(struct pj_control *control, struct pj_error *error)
{
    struct pj_daemon_moment now;
    pj_daemon_row_look(&control->row, &now);
    /* a fence first: apply may be standing still for it */
    int code = pj_fence_service_tick(&control->fence, control->session, now.phase == PJ_STREAMING, error);
    if (code == PJ_OK && now.phase != PJ_STANDBY && pj_daemon_row_due(&control->row, &now))
        code = pj_daemon_row_write(&control->row, control->session, &now, error);
    if (code == PJ_OK)
        code = do_chore(control, now.phase, error);
    if (code != PJ_OK)
        return code;
    relax(control);
    return atomic_load(&control->ending) ? PJ_OK : wait_for_news(control, TURN_MS, error);
}

static void say_last(struct pj_control *control)
{
    struct pj_daemon_moment now;
    struct pj_error error;
    pj_fence_service_drop(&control->fence);
    pj_daemon_row_look(&control->row, &now);
    enum pj_phase phase = now.phase;
    now.phase = PJ_STOPPED;
    if (phase != PJ_STANDBY && (control->session || connect_session(control, &error) == PJ_OK))
        pj_daemon_row_write(&control->row, control->session, &now, &error);
}

static void *run(void *context)
{
    struct pj_control *control = context;
    struct pj_error error;
    while (!atomic_load(&control->ending)) {
        int code = control->session ? turn(control, &error) : connect_session(control, &error);
        if (code == PJ_OK)
            continue;
        if (atomic_load(&control->abandoned))
            return NULL;
        lose_session(control);
        complain(control, &error);
        pause_attempts(control);
    }
    say_last(control);
    pj_session_close(control->session);
    control->session = NULL;
    pj_stop_ask(&control->ended);
    return NULL;
}

/* -------------------------------------------------------------------------------------------------- start and stop */

/* Signals are the main thread's. */
static int start_thread(struct pj_control *control)
{
    sigset_t all, before;
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    int failed = pthread_create(&control->thread, NULL, run, control);
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    return failed;
}

static void dispose(struct pj_control *control)
{
    if (control->wake_fd >= 0)
        close(control->wake_fd);
    pj_stop_close(&control->cut_off);
    pj_stop_close(&control->ended);
    pthread_mutex_destroy(&control->chore_lock);
    pj_waker_destroy(&control->listener);
    pj_free(control->read_url);
    pj_free(control);
}

int pj_control_start(struct pj_control **out, const char *read_url, struct pj_state *state, struct pj_gate *gate,
                     const struct pj_log *log, struct pj_error *error)
{
    *out = NULL;
    pj_error_clear(error);
    struct pj_control *control = pj_alloc(sizeof *control);
    control->read_url = pj_strdup(read_url);
    pthread_mutex_init(&control->chore_lock, NULL);
    pj_waker_init(&control->listener);
    control->state = state;
    control->log = log;
    control->fence.gate = gate;
    control->pause_ms = PAUSE_MS;
    control->cut_off.fd = control->ended.fd = -1;
    control->wake_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    pj_daemon_row_init(&control->row, state);
    int code = control->wake_fd < 0 ? pj_error_set(error, PJ_EFAIL, "eventfd: %s", strerror(errno)) : PJ_OK;
    if (code == PJ_OK)
        code = pj_stop_init(&control->cut_off, error);
    if (code == PJ_OK)
        code = pj_stop_init(&control->ended, error);
    if (code != PJ_OK) {
        dispose(control);
        return code;
    }
    pj_state_on_change(state, ring, control);
    pj_gate_on_progress(gate, ring, control);
    int failed = start_thread(control);
    if (failed) {
        pj_state_on_change(state, NULL, NULL);
        pj_gate_on_progress(gate, NULL, NULL);
        dispose(control);
        return pj_error_set(error, PJ_EFAIL, "start the control thread: %s", strerror(failed));
    }
    *out = control;
    return PJ_OK;
}

static bool joined_within(struct pj_control *control, int milliseconds)
{
    struct pj_error ignored;
    if (pj_stop_sleep(&control->ended, milliseconds, &ignored) == PJ_OK)
        return false;
    pthread_join(control->thread, NULL);
    return true;
}

/*
 * The wait is bounded even where the thread hangs in what nothing can cut off (a name look-up, a frozen server's answer
 * to a cancel request): then it is left behind with its own memory, and ends without a look at anything else.
 */
void pj_control_stop(struct pj_control *control)
{
    if (!control)
        return;
    pj_state_on_change(control->state, NULL, NULL);
    pj_gate_on_progress(control->fence.gate, NULL, NULL);
    atomic_store(&control->ending, true);
    ring(control);
    if (joined_within(control, GRACE_MS)) {
        dispose(control);
        return;
    }
    pj_stop_ask(&control->cut_off);
    if (joined_within(control, CUT_OFF_MS)) {
        dispose(control);
        return;
    }
    pj_gate_release(control->fence.gate);
    atomic_store(&control->abandoned, true);
    pthread_detach(control->thread);
}
