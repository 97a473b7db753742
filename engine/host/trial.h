/* Doing something in a child first, for it may crash, end the process or never end: a module's code, on being
 * loaded. */
#ifndef PJ_HOST_TRIAL_H
#define PJ_HOST_TRIAL_H

#include "base/error.h"

/*
 * Runs `work` in a child of this process, which is then gone with all that it did. PJ_OK where it came to its end;
 * PJ_ECONFIG where the child crashed, ended, or did not return within 10 s: "WHAT crashes: signal 11 (Segmentation
 * fault)".
 */
int pj_trial(void (*work)(void *context), void *context, const char *what, struct pj_error *error);

#endif
