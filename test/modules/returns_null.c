/* A module without a descriptor. */
#include "pgprojector.h"

const struct pj_module *pj_module(void)
{
    return NULL;
}
