/*
 * See handover.h. A mutex and an eventfd for each of the two who wait: for an offer, for streaming. The descriptors,
 * and not a condition, so that a wait can be ended by a stop, which is a descriptor, too.
 */
#include "core/handover.h"

#include "base/clock.h"
#include "base/mem.h"
#include "core/waker.h"

#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/eventfd.h>
#include <unistd.h>

struct pj_handover {
    pthread_mutex_t lock;
    struct pj_outfit *in_use, *offered; /* offered: NULL where nothing is */
    bool streaming;                     /* with the one in use */
    struct pj_outfit *former;           /* a list: to be retired when the one in use streams */
    struct pj_outfit *retired;          /* a list */
    struct pj_waker pipeline;
    int offered_fd, moved_fd; /* readable: something is offered; something has changed for the registrar */
};

void pj_outfit_free(struct pj_outfit *outfit)
{
    if (!outfit)
        return;
    pj_setup_close(&outfit->setup);
    pj_deployment_free(&outfit->deployment);
    pj_free(outfit);
}

/* Out of descriptors at the daemon's start is like out of memory. */
static int event_fd(void)
{
    int fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    if (fd >= 0)
        return fd;
    perror("pgprojector: eventfd");
    abort();
}

static void ring(int fd)
{
    uint64_t one = 1;
    ssize_t written = write(fd, &one, sizeof one);
    (void)written;
}

static void hush(int fd)
{
    uint64_t rings;
    ssize_t count = read(fd, &rings, sizeof rings);
    (void)count;
}

/* With the lock held. */
static void put(struct pj_outfit **list, struct pj_outfit *outfit)
{
    if (!outfit)
        return;
    outfit->next = *list;
    *list = outfit;
}

/* With the lock held. */
static void retire_former(struct pj_handover *handover)
{
    while (handover->former) {
        struct pj_outfit *outfit = handover->former;
        handover->former = outfit->next;
        put(&handover->retired, outfit);
    }
}

struct pj_handover *pj_handover_new(struct pj_outfit *first)
{
    struct pj_handover *handover = pj_alloc(sizeof *handover);
    pthread_mutex_init(&handover->lock, NULL);
    pj_waker_init(&handover->pipeline);
    handover->offered_fd = event_fd();
    handover->moved_fd = event_fd();
    handover->in_use = first;
    return handover;
}

void pj_handover_free(struct pj_handover *handover)
{
    if (!handover)
        return;
    retire_former(handover);
    for (struct pj_outfit *outfit; (outfit = pj_handover_retired(handover));)
        pj_outfit_free(outfit);
    pj_outfit_free(handover->offered);
    pj_outfit_free(handover->in_use);
    close(handover->offered_fd);
    close(handover->moved_fd);
    pj_waker_destroy(&handover->pipeline);
    pthread_mutex_destroy(&handover->lock);
    pj_free(handover);
}

/* Waits for one descriptor, or the stop, or the end of time; which of the first two it was shows in what is looked
 * at next. */
static void wait_fd(int fd, const struct pj_stop *stop, uint64_t deadline_us)
{
    struct pollfd fds[2] = {{.fd = fd, .events = POLLIN}, {.fd = stop ? stop->fd : -1, .events = POLLIN}};
    uint64_t now = pj_clock_monotonic_us();
    int left = !deadline_us ? -1 : now < deadline_us ? (int)((deadline_us - now) / 1000) + 1 : 0;
    poll(fds, 2, left);
}

static uint64_t deadline_after(int timeout_ms)
{
    return timeout_ms < 0 ? 0 : pj_clock_monotonic_us() + (uint64_t)timeout_ms * 1000 + 1;
}

static bool over(uint64_t deadline_us)
{
    return deadline_us && pj_clock_monotonic_us() >= deadline_us;
}

/* ------------------------------------------------------------------------------------------------------- registrar */

void pj_handover_offer(struct pj_handover *handover, struct pj_outfit *next)
{
    pthread_mutex_lock(&handover->lock);
    put(&handover->retired, handover->offered);
    handover->offered = next;
    pthread_mutex_unlock(&handover->lock);
    ring(handover->offered_fd);
    pj_waker_call(&handover->pipeline);
}

enum standing { WAITING, STREAMING, RETIRED };

static enum standing standing_of(struct pj_handover *handover, const struct pj_outfit *outfit)
{
    pthread_mutex_lock(&handover->lock);
    enum standing standing = RETIRED;
    if (outfit == handover->in_use)
        standing = handover->streaming ? STREAMING : WAITING;
    else if (outfit == handover->offered)
        standing = WAITING;
    pthread_mutex_unlock(&handover->lock);
    return standing;
}

int pj_handover_wait_streaming(struct pj_handover *handover, const struct pj_outfit *outfit, int timeout_ms,
                               const struct pj_stop *stop, struct pj_error *error)
{
    uint64_t deadline_us = deadline_after(timeout_ms);
    pj_error_clear(error);
    for (;;) {
        hush(handover->moved_fd); /* before looking, so that no ring is lost */
        enum standing standing = standing_of(handover, outfit);
        if (standing == STREAMING)
            return PJ_OK;
        if (standing == RETIRED)
            break;
        if (pj_stop_asked(stop))
            return pj_error_set(error, PJ_ESTOPPED, "stopped on request");
        if (over(deadline_us)) {
            pj_error_set(error, PJ_EUNREACHABLE, "the stream did not begin with the new setup within %d ms",
                         timeout_ms);
            error->retryable = true;
            return error->code;
        }
        wait_fd(handover->moved_fd, stop, deadline_us);
    }
    pj_error_set(error, PJ_EFAIL, "the new setup was replaced by another one before it was used");
    error->retryable = true;
    return error->code;
}

const struct pj_outfit *pj_handover_in_use(struct pj_handover *handover)
{
    pthread_mutex_lock(&handover->lock);
    const struct pj_outfit *outfit = handover->in_use;
    pthread_mutex_unlock(&handover->lock);
    return outfit;
}

struct pj_outfit *pj_handover_retired(struct pj_handover *handover)
{
    pthread_mutex_lock(&handover->lock);
    struct pj_outfit *outfit = handover->retired;
    if (outfit)
        handover->retired = outfit->next;
    pthread_mutex_unlock(&handover->lock);
    if (outfit)
        outfit->next = NULL;
    return outfit;
}

/* -------------------------------------------------------------------------------------------------------- pipeline */

void pj_handover_on_offer(struct pj_handover *handover, void (*wake)(void *context), void *context)
{
    pj_waker_set(&handover->pipeline, wake, context);
    if (wake && pj_handover_offered(handover))
        pj_waker_call(&handover->pipeline);
}

bool pj_handover_offered(struct pj_handover *handover)
{
    pthread_mutex_lock(&handover->lock);
    bool offered = handover->offered != NULL;
    pthread_mutex_unlock(&handover->lock);
    return offered;
}

void pj_handover_streaming(struct pj_handover *handover, const struct pj_outfit *outfit)
{
    pthread_mutex_lock(&handover->lock);
    if (outfit == handover->in_use) {
        handover->streaming = true;
        retire_former(handover);
    }
    pthread_mutex_unlock(&handover->lock);
    ring(handover->moved_fd);
}

/* --------------------------------------------------------------------------------------------- the pipeline's owner */

/* With the lock held. */
static void use(struct pj_handover *handover, struct pj_outfit *outfit)
{
    put(&handover->former, handover->in_use);
    handover->in_use = outfit;
    handover->streaming = false;
}

struct pj_outfit *pj_handover_take(struct pj_handover *handover, int timeout_ms, const struct pj_stop *stop)
{
    uint64_t deadline_us = deadline_after(timeout_ms);
    for (;;) {
        hush(handover->offered_fd);
        pthread_mutex_lock(&handover->lock);
        struct pj_outfit *taken = handover->offered;
        handover->offered = NULL;
        if (taken)
            use(handover, taken);
        pthread_mutex_unlock(&handover->lock);
        if (taken)
            ring(handover->moved_fd);
        if (taken || pj_stop_asked(stop) || over(deadline_us))
            return taken;
        wait_fd(handover->offered_fd, stop, deadline_us);
    }
}

void pj_handover_replace(struct pj_handover *handover, struct pj_outfit *outfit)
{
    pthread_mutex_lock(&handover->lock);
    use(handover, outfit);
    pthread_mutex_unlock(&handover->lock);
    ring(handover->moved_fd);
}
