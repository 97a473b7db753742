/* Loading modules: from a file to a checked descriptor. */
#ifndef PJ_HOST_MODULE_H
#define PJ_HOST_MODULE_H

#include "base/error.h"
#include "host/faults.h"
#include "pgprojector.h"

/* The most columns a source, a stream or a key may declare; pj_module_check refuses more. */
enum { PJ_MAX_SOURCE_COLUMNS = 64 };

struct pj_loaded_module {
    void *handle; /* dlopen's */
    char *path;
    const struct pj_module *module; /* in the shared object: valid while it is loaded */
};

/*
 * Opens `path` (RTLD_NOW | RTLD_LOCAL), finds pj_module and checks the descriptor: magic, ABI version and size (both
 * values named in the error), names, that every list is well-formed (the stream's first column is a PJ_KEY, sums are
 * PJ_INT8, target, key and definition come together …). PJ_ECONFIG with file, field and remedy. The file, and every
 * directory above it, must not be writable by others than root or the daemon's user.
 */
int pj_module_load(struct pj_loaded_module *loaded, const char *path, struct pj_error *error);
void pj_module_unload(struct pj_loaded_module *loaded); /* half-built and emptied ones are fine */

/*
 * The same, but with everything that is wrong, added to `faults`. A file with unsafe permissions is not opened. Where
 * faults->fatal is left false the module is loaded and its lists may be read, though it may have faults.
 */
void pj_module_inspect(struct pj_loaded_module *loaded, const char *path, struct pj_fault_list *faults);
void pj_module_faults(const struct pj_module *module, const char *path, struct pj_fault_list *faults);

/* The descriptor check alone; `path` is for messages. */
int pj_module_check(const struct pj_module *module, const char *path, struct pj_error *error);

/* Counts of the lists that end with a NULL. A NULL list has 0. */
int pj_module_source_count(const struct pj_module *module);
int pj_module_stream_count(const struct pj_module *module);
int pj_module_option_count(const struct pj_module *module);
int pj_module_key_count(const struct pj_module *module);
int pj_source_column_count(const struct pj_source *source);
int pj_stream_column_count(const struct pj_stream *stream);

#endif
