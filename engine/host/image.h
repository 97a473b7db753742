/* The shared object behind a loaded module, in memory (module.h has what others may do with it). */
#ifndef PJ_HOST_IMAGE_H
#define PJ_HOST_IMAGE_H

#include "host/module.h"

/* Reads the file and opens what was read. NULL: PJ_ECONFIG naming the file. */
struct pj_module_image *pj_module_image_open(const char *path, struct pj_error *error);
void *pj_module_image_handle(const struct pj_module_image *image); /* dlopen's */

#endif
