/* Built with a header whose descriptor was shorter. */
#define NAME "other_size"
#define SIZE (sizeof(struct pj_module) - 8)
#include "good.c"
