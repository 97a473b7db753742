/* See trial.h. */
#include "host/trial.h"

#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

enum { TIMEOUT_S = 10, DONE = 40 };

/* Whatever thread this is a copy of: the alarm must be able to end it. */
static _Noreturn void run_child(void (*work)(void *context), void *context)
{
    sigset_t alarm_only;
    sigemptyset(&alarm_only);
    sigaddset(&alarm_only, SIGALRM);
    signal(SIGALRM, SIG_DFL);
    sigprocmask(SIG_UNBLOCK, &alarm_only, NULL);
    alarm(TIMEOUT_S);
    work(context);
    _exit(DONE);
}

int pj_trial(void (*work)(void *context), void *context, const char *what, struct pj_error *error)
{
    fflush(stdout);
    pid_t child = fork();
    if (child == 0)
        run_child(work, context);
    int status = 0;
    while (child > 0 && waitpid(child, &status, 0) < 0 && errno == EINTR)
        continue;
    if (child < 0 || (WIFEXITED(status) && WEXITSTATUS(status) == DONE))
        return PJ_OK;
    if (WIFEXITED(status))
        return pj_error_set(error, PJ_ECONFIG, "%s ends the process (exit code %d)", what, WEXITSTATUS(status));
    if (WTERMSIG(status) == SIGALRM)
        return pj_error_set(error, PJ_ECONFIG, "%s did not end within %d s", what, TIMEOUT_S);
    return pj_error_set(error, PJ_ECONFIG, "%s crashes: signal %d (%s)", what, WTERMSIG(status),
                        strsignal(WTERMSIG(status)));
}
