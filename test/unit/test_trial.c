/* What is tried in a child harms nobody, whatever it does. */
#include "host/trial.h"

#include <criterion/criterion.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>

static struct pj_error error;
static int value;

static void set_value(void *context)
{
    *(int *)context = 1;
}

static void crash(void *context)
{
    (void)context;
    raise(SIGSEGV);
}

static void leave(void *context)
{
    exit(*(int *)context);
}

Test(trial, what_comes_to_its_end_is_gone)
{
    cr_expect_eq(pj_trial(set_value, &value, "it", &error), PJ_OK);
    cr_expect_eq(value, 0);
}

Test(trial, what_does_not_is_named)
{
    struct sigaction none = {.sa_handler = SIG_DFL}; /* a sanitizer's handler would make an exit of it */
    sigaction(SIGSEGV, &none, NULL);
    cr_expect_eq(pj_trial(crash, NULL, "it", &error), PJ_ECONFIG);
    cr_expect_str_eq(error.message, "it crashes: signal 11 (Segmentation fault)");
    cr_expect_eq(pj_trial(leave, &value, "it", &error), PJ_ECONFIG);
    cr_expect_str_eq(error.message, "it ends the process (exit code 0)");
}
