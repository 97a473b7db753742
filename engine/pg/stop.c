/* See stop.h. */
#include "pg/stop.h"

#include <errno.h>
#include <poll.h>
#include <stdint.h>
#include <string.h>
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

static int stopped(struct pj_error *error)
{
    return pj_error_set(error, PJ_ESTOPPED, "stopped on request");
}

int pj_stop_sleep(const struct pj_stop *stop, int milliseconds, struct pj_error *error)
{
    return stop_within(stop, milliseconds) ? stopped(error) : PJ_OK;
}
