/* See aside.h. */
#include "core/aside.h"

#include <errno.h>
#include <poll.h>

static void *run(void *argument)
{
    struct pj_aside *aside = argument;
    aside->work(aside->context, &aside->cancel, &aside->error);
    pj_stop_ask(&aside->over);
    return NULL;
}

int pj_aside_begin(struct pj_aside *aside, pj_aside_fn work, void *context, struct pj_error *error)
{
    *aside = (struct pj_aside)PJ_ASIDE_NONE;
    aside->work = work;
    aside->context = context;
    pj_error_clear(&aside->error);
    int code = pj_stop_init(&aside->cancel, error);
    if (code == PJ_OK)
        code = pj_stop_init(&aside->over, error);
    if (code == PJ_OK && pthread_create(&aside->thread, NULL, run, aside) != 0)
        code = pj_error_set(error, PJ_EFAIL, "no thread could be started");
    aside->running = code == PJ_OK;
    return code;
}

static void join(struct pj_aside *aside)
{
    if (aside->running)
        pthread_join(aside->thread, NULL);
    aside->running = false;
}

bool pj_aside_await(struct pj_aside *aside, const struct pj_stop *sign, const struct pj_stop *stop)
{
    struct pollfd fds[3] = {{.fd = aside->over.fd, .events = POLLIN},
                            {.fd = sign ? sign->fd : -1, .events = POLLIN},
                            {.fd = stop ? stop->fd : -1, .events = POLLIN}};
    while (poll(fds, 3, -1) < 0 && errno == EINTR)
        ;
    if (sign && pj_stop_asked(sign))
        return true;
    if (!pj_stop_asked(&aside->over))
        pj_stop_ask(&aside->cancel);
    join(aside);
    return false;
}

void pj_aside_end(struct pj_aside *aside)
{
    if (aside->running)
        pj_stop_ask(&aside->cancel);
    join(aside);
    pj_stop_close(&aside->cancel);
    pj_stop_close(&aside->over);
}
