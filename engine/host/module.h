/* Loading modules: from a file to a checked descriptor. */
#ifndef PJ_HOST_MODULE_H
#define PJ_HOST_MODULE_H

#include "base/error.h"
#include "host/faults.h"
#include "pgprojector.h"

/* The most columns a source, a stream or a key may declare; pj_module_check refuses more. */
enum { PJ_MAX_SOURCE_COLUMNS = 64 };

/*
 * A shared object in memory: what its file was when it was read. What becomes of the file afterwards (replaced,
 * overwritten, removed) does not concern it, and two versions of one module are two images. Counted; released by the
 * last who has it.
 */
struct pj_module_image;
struct pj_module_image *pj_module_image_share(struct pj_module_image *image); /* the same, counted once more */
void pj_module_image_release(struct pj_module_image *image);                  /* NULL is fine */
bool pj_module_image_same(const struct pj_module_image *a, const struct pj_module_image *b); /* the same bytes */
/* A text by which the same bytes are known again: 32 hexadecimal digits. */
enum { PJ_DIGEST_SIZE = 33 };
void pj_module_image_digest(const struct pj_module_image *image, char text[PJ_DIGEST_SIZE]);

/*
 * The images that the process had before a guard replaced it (host/guard.h): they stay open over an exec. So a
 * projection may go on with the module that served, where the file is another by now.
 */
struct pj_former_images {
    int count;
    struct {
        int fd;
        char name[72]; /* of the file, without its directory */
    } of[64];
};
/* To be called before any module is loaded. */
void pj_former_images_find(struct pj_former_images *former);
/* One of that file name, which is the caller's to release and is found no more; NULL: there is none any more. */
struct pj_module_image *pj_former_images_take(struct pj_former_images *former, const char *name);
void pj_former_images_close(struct pj_former_images *former);

/* What [module NAME] may say of any module; no option may have that name. */
#define PJ_ON_ERROR "on_error"

struct pj_loaded_module {
    struct pj_module_image *image;
    char *path;                     /* of the file that it was read from */
    const struct pj_module *module; /* in the image: valid while it is loaded */
};

/*
 * Reads `path` into memory, opens that (RTLD_NOW | RTLD_LOCAL), finds pj_module and checks the descriptor: magic, ABI
 * version and size (both values named in the error), names, that every list is well-formed (the stream's first column
 * is a PJ_KEY, sums are PJ_INT8, target, key and definition come together …). PJ_ECONFIG with file, field and remedy.
 * The file (as it was opened: what is checked is what is read), and every directory above it, must not be writable by
 * others than root or the daemon's user. A child of the
 * process loads it first: one that crashes or never returns is refused like any other fault.
 */
int pj_module_load(struct pj_loaded_module *loaded, const char *path, struct pj_error *error);
void pj_module_unload(struct pj_loaded_module *loaded); /* half-built and emptied ones are fine */

/* The same module once more, from memory. */
void pj_module_load_again(struct pj_loaded_module *loaded, struct pj_module_image *image, const char *path);

/*
 * The same, but with everything that is wrong, added to `faults`. A file with unsafe permissions is not loaded. Where
 * faults->fatal is left false the module is loaded and its lists may be read, though it may have faults.
 */
void pj_module_inspect(struct pj_loaded_module *loaded, const char *path, struct pj_fault_list *faults);
void pj_module_faults(const struct pj_module *module, const char *path, struct pj_fault_list *faults);

/* The descriptor check alone; `path` is for messages. */
int pj_module_check(const struct pj_module *module, const char *path, struct pj_error *error);

/* Whether an option may have that value; PJ_ECONFIG names what it may have. */
int pj_module_option_check(const struct pj_option *option, const char *value, struct pj_error *error);

/* Counts of the lists that end with a NULL. A NULL list has 0. */
int pj_module_source_count(const struct pj_module *module);
int pj_module_stream_count(const struct pj_module *module);
int pj_module_option_count(const struct pj_module *module);
int pj_module_key_count(const struct pj_module *module);
int pj_source_column_count(const struct pj_source *source);
int pj_stream_column_count(const struct pj_stream *stream);

#endif
