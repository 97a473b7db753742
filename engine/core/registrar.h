/*
 * The registrar: the daemon's thread that serves requests (core/request.h) and looks at the module directory when it is
 * told to. One thing at a time, with sessions of its own, which it has only while there is something to do.
 */
#ifndef PJ_CORE_REGISTRAR_H
#define PJ_CORE_REGISTRAR_H

#include "core/registering.h"

struct pj_registrar;

struct pj_registrar_options {
    struct pj_handover *handover;
    int (*deploy)(void *context, struct pj_deployment *deployment, struct pj_error *error);
    void *context;
    const struct pj_log *log;
};

/* All that the options point to must outlive it. It begins with a survey. */
int pj_registrar_start(struct pj_registrar **registrar, const struct pj_registrar_options *options,
                       struct pj_error *error);

/* From any thread. There may be a request; with `survey`: the directory and the configuration are to be looked at
 * (SIGHUP). */
void pj_registrar_wake(struct pj_registrar *registrar, bool survey);

/* Gives up what it does (a build goes on with the next start), and ends the thread, within 3 s. False where that
 * could not be had: then it is left behind, and what it uses must not be freed. NULL is fine. */
bool pj_registrar_stop(struct pj_registrar *registrar);

#endif
