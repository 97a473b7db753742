/* The shared object behind a loaded module, in memory (module.h has what others may do with it). */
#ifndef PJ_HOST_IMAGE_H
#define PJ_HOST_IMAGE_H

#include "host/module.h"

/* Reads a file from its beginning; `path` names it. Nothing of it is run yet. */
struct pj_module_image *pj_module_image_read(int file, const char *path);
/* Opens what was read. PJ_ECONFIG naming the file. */
int pj_module_image_open(struct pj_module_image *image, const char *path, struct pj_error *error);
void *pj_module_image_handle(const struct pj_module_image *image); /* dlopen's */

#endif
