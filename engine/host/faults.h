/* A list of errors, for those who want to hear of everything that is wrong and not of the first thing only. */
#ifndef PJ_HOST_FAULTS_H
#define PJ_HOST_FAULTS_H

#include "base/error.h"

struct pj_fault_list {
    int count;
    struct pj_error *faults; /* in the order found */
    bool fatal;              /* what was looked at cannot be used, not even to look for further faults */
};

/* Adds a copy, unless the same message is there already. */
void pj_fault_list_add(struct pj_fault_list *list, const struct pj_error *error);
void pj_fault_list_free(struct pj_fault_list *list); /* may be used anew */

#endif
