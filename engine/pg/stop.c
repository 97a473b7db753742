/* See stop.h. */
#include "pg/stop.h"

#include <errno.h>
#include <poll.h>
#include <stdint.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <unistd.h>

int pj_stop_init(struct pj_stop *stop, struct pj_error *error)
{
    stop->fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    return stop->fd < 0 ? pj_error_set(error, PJ_EFAIL, "eventfd: %s", strerror(errno)) : PJ_OK;
}

void pj_stop_close(struct pj_stop *stop)
{
    if (stop->fd >= 0)
        close(stop->fd);
    stop->fd = -1;
}

void pj_stop_ask(struct pj_stop *stop)
{
    uint64_t one = 1;
    ssize_t written = write(stop->fd, &one, sizeof one);
    (void)written; /* fails only where it was asked 2^64 times */
}

/* The descriptor is never read, so it stays readable. */
static bool stop_within(const struct pj_stop *stop, int milliseconds)
{
    struct pollfd fd = {.fd = stop ? stop->fd : -1, .events = POLLIN};
    return poll(&fd, 1, milliseconds) > 0;
}

bool pj_stop_asked(const struct pj_stop *stop)
{
    return stop && stop_within(stop, 0);
}

static bool watch(int epoll, const struct pj_stop *stop)
{
    struct epoll_event event = {.events = EPOLLIN};
    return !stop || stop->fd < 0 || epoll_ctl(epoll, EPOLL_CTL_ADD, stop->fd, &event) == 0;
}

/* An epoll descriptor is readable itself while one of those that it watches is. */
int pj_stop_either(struct pj_stop *either, const struct pj_stop *one, const struct pj_stop *other,
                   struct pj_error *error)
{
    either->fd = epoll_create1(EPOLL_CLOEXEC);
    if (either->fd >= 0 && watch(either->fd, one) && watch(either->fd, other))
        return PJ_OK;
    pj_error_set(error, PJ_EFAIL, "epoll: %s", strerror(errno));
    pj_stop_close(either);
    return error->code;
}

static int stopped(struct pj_error *error)
{
    return pj_error_set(error, PJ_ESTOPPED, "stopped on request");
}

int pj_stop_sleep(const struct pj_stop *stop, int milliseconds, struct pj_error *error)
{
    return stop_within(stop, milliseconds) ? stopped(error) : PJ_OK;
}
