/* Stopping that does not come to an end. */
#include "app/signals.h"

#include <criterion/criterion.h>
#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

/* In a process of its own: asked to stop, it goes on for ever. How it ends, as waitpid() tells it. */
static int go_on_for_ever(int patience_ms)
{
    pid_t child = fork();
    if (child == 0) {
        struct pj_error error;
        struct pj_log log = {.least = PJ_LOG_ERROR, .fd = 2};
        struct pj_stop stop;
        struct pj_waker hup = {0};
        struct pj_signals signals = {.patience_ms = patience_ms};
        pj_stop_init(&stop, &error);
        if (pj_signals_start(&signals, &stop, &log, &hup, &error) != PJ_OK)
            _exit(3);
        kill(getpid(), SIGTERM);
        usleep(1000000);
        _exit(pj_stop_asked(&stop) ? 1 : 2);
    }
    int status = -1;
    waitpid(child, &status, 0);
    return WIFEXITED(status) ? WEXITSTATUS(status) : -1;
}

Test(signals, a_daemon_that_does_not_come_to_an_end_is_ended)
{
    cr_expect_eq(go_on_for_ever(200), 0);
}

Test(signals, a_command_is_left_the_time_it_takes)
{
    cr_expect_eq(go_on_for_ever(-1), 1);
}
