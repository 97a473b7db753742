/*
 * Loading a projection module: is the file one that nobody else can have written, does it load, is its descriptor one
 * that we understand? The last question is module_check.c's.
 *
 * A module runs with all the rights of the daemon, so the file must be as hard to replace as the daemon's own program.
 * Who owns that program is therefore trusted like root and the user we run as.
 */
#include "host/module.h"

#include "base/buf.h"
#include "base/mem.h"
#include "host/image.h"
#include "host/trial.h"

#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

/* -------------------------------------------------------------------------------------------------------- safety */

static bool trusted_owner(uid_t owner)
{
    struct stat program;
    return owner == 0 || owner == geteuid() || (stat("/proc/self/exe", &program) == 0 && owner == program.st_uid);
}

/* A group of the same number as the owner is the owner's private group (the rule of pam_umask): nobody else. */
static bool trusted_group(const struct stat *status)
{
    return !(status->st_mode & S_IWGRP) || status->st_gid == 0 || status->st_gid == status->st_uid;
}

/* In a directory with the sticky bit others may add names, but not replace ours. */
static bool trusted_others(const struct stat *status)
{
    return !(status->st_mode & S_IWOTH) || (S_ISDIR(status->st_mode) && status->st_mode & S_ISVTX);
}

static int check_status(const char *path, const struct stat *status, struct pj_error *error)
{
    if (!trusted_owner(status->st_uid)) {
        pj_error_set(error, PJ_ECONFIG, "%s belongs to user %u, who could replace the module", path, status->st_uid);
        return pj_error_hint(error, "give it to root or to the user who runs pgprojector: chown root '%s'", path);
    }
    if (!trusted_group(status) || !trusted_others(status)) {
        pj_error_set(error, PJ_ECONFIG, "%s is writable by others (mode %04o), who could replace the module", path,
                     (unsigned)(status->st_mode & 07777));
        return pj_error_hint(error, "chmod go-w '%s'", path);
    }
    return PJ_OK;
}

static int failed(const char *path, struct pj_error *error)
{
    return pj_error_set(error, PJ_ECONFIG, "%s: %s", path, strerror(errno));
}

static void add_fault(const char *given, struct pj_error *error, struct pj_fault_list *faults)
{
    pj_error_wrap(error, "module %s", given);
    pj_fault_list_add(faults, error);
}

/* Whether one is a file of whom it should be is asked of what was opened, and that is what is read: another file of its
 * name, a moment later, does not matter. A pipe must not keep us waiting. */
static int check_file(const char *path, int *file, struct pj_error *error)
{
    struct stat status;
    *file = open(path, O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK);
    if (*file < 0 || fstat(*file, &status) != 0)
        return failed(path, error);
    if (!S_ISREG(status.st_mode)) {
        pj_error_set(error, PJ_ECONFIG, "cannot load module: %s is not a file", path);
        return pj_error_hint(error, "a module is a shared object: NAME.so");
    }
    return check_status(path, &status, error);
}

/* The file, which is opened on the way (-1: it is not), then each directory above it. `path` is resolved and absolute;
 * it is cut down. */
static void check_path(const char *given, char *path, int *file, struct pj_fault_list *faults)
{
    struct pj_error error;
    struct stat status;
    if (check_file(path, file, &error) != PJ_OK)
        add_fault(given, &error, faults);
    for (char *slash; (slash = strrchr(path, '/'));) {
        *slash = '\0';
        const char *above = *path ? path : "/";
        if ((stat(above, &status) != 0 ? failed(above, &error) : check_status(above, &status, &error)) != PJ_OK)
            add_fault(given, &error, faults);
    }
}

/* ------------------------------------------------------------------------------------------------------- loading */

typedef const struct pj_module *(*entry_fn)(void);

static entry_fn find_entry(void *handle)
{
    /* ISO C has no conversion from a data to a function pointer; POSIX says that the bytes are the same. */
    void *symbol = dlsym(handle, "pj_module");
    entry_fn entry = NULL;
    memcpy(&entry, &symbol, sizeof entry);
    return entry;
}

static int find_module(struct pj_loaded_module *loaded, struct pj_error *error)
{
    if (pj_module_image_open(loaded->image, loaded->path, error) != PJ_OK)
        return error->code;
    entry_fn entry = find_entry(pj_module_image_handle(loaded->image));
    if (!entry) {
        pj_error_set(error, PJ_ECONFIG, "%s: no symbol pj_module: not a projection module", loaded->path);
        return pj_error_hint(error, "export `const struct pj_module *pj_module(void)`; see projections/README.md");
    }
    loaded->module = entry();
    return PJ_OK;
}

static void open_module(struct pj_loaded_module *loaded, struct pj_fault_list *faults)
{
    struct pj_error error;
    if (find_module(loaded, &error) == PJ_OK) {
        pj_module_faults(loaded->module, loaded->path, faults);
        return;
    }
    faults->fatal = true;
    pj_fault_list_add(faults, &error);
}

static void load_once(void *context)
{
    struct pj_fault_list faults = {0};
    open_module(context, &faults);
}

/* Loading runs the module's code, and reading its descriptor follows its pointers: a child does it first. */
static bool survives_loading(struct pj_loaded_module *loaded, struct pj_fault_list *faults)
{
    struct pj_error error;
    if (pj_trial(load_once, loaded, "loading it, or reading its descriptor,", &error) == PJ_OK)
        return true;
    pj_error_wrap(&error, "module %s", loaded->path);
    pj_error_hint(&error,
                  "pj_module() returns the address of a constant, and nothing else; each of its lists ends with "
                  "a NULL");
    pj_fault_list_add(faults, &error);
    faults->fatal = true;
    return false;
}

/* A file that others could have replaced is not loaded: what it runs then might be theirs. */
void pj_module_inspect(struct pj_loaded_module *loaded, const char *path, struct pj_fault_list *faults)
{
    memset(loaded, 0, sizeof *loaded);
    int before = faults->count, file = -1;
    char resolved[PATH_MAX], walked[PATH_MAX];
    if (!realpath(path, resolved)) {
        struct pj_error error;
        pj_error_set(&error, PJ_ECONFIG, "module %s: %s", path, strerror(errno));
        pj_error_hint(&error, "modules are given by name (NAME.so in the modules directory) or by path");
        pj_fault_list_add(faults, &error);
    } else {
        memcpy(walked, resolved, sizeof walked);
        check_path(path, walked, &file, faults);
    }
    if (faults->count > before) {
        faults->fatal = true;
    } else {
        *loaded = (struct pj_loaded_module){pj_module_image_read(file, resolved), pj_strdup(resolved), NULL};
        if (survives_loading(loaded, faults))
            open_module(loaded, faults);
    }
    if (file >= 0)
        close(file);
    if (faults->fatal)
        pj_module_unload(loaded);
}

int pj_module_load(struct pj_loaded_module *loaded, const char *path, struct pj_error *error)
{
    struct pj_fault_list faults = {0};
    pj_error_clear(error);
    pj_module_inspect(loaded, path, &faults);
    if (faults.count) {
        *error = faults.faults[0];
        pj_module_unload(loaded);
    }
    pj_fault_list_free(&faults);
    return error->code;
}

void pj_module_unload(struct pj_loaded_module *loaded)
{
    pj_module_image_release(loaded->image);
    pj_free(loaded->path);
    memset(loaded, 0, sizeof *loaded);
}

void pj_module_load_again(struct pj_loaded_module *loaded, struct pj_module_image *image, const char *path)
{
    *loaded = (struct pj_loaded_module){pj_module_image_share(image), pj_strdup(path),
                                        find_entry(pj_module_image_handle(image))()};
}

/* -------------------------------------------------------------------------------------------------------- counts */

int pj_module_source_count(const struct pj_module *module)
{
    int count = 0;
    while (module->sources && module->sources[count].table)
        count++;
    return count;
}

int pj_module_stream_count(const struct pj_module *module)
{
    int count = 0;
    while (module->streams && module->streams[count].name)
        count++;
    return count;
}

int pj_module_option_count(const struct pj_module *module)
{
    int count = 0;
    while (module->options && module->options[count].name)
        count++;
    return count;
}

int pj_module_option_check(const struct pj_option *option, const char *value, struct pj_error *error)
{
    struct pj_buf choices = {0};
    for (int i = 0; option->choices && option->choices[i]; i++) {
        if (strcmp(option->choices[i], value) == 0) {
            pj_buf_free(&choices);
            return PJ_OK;
        }
        pj_buf_printf(&choices, "%s%s", i ? ", " : "", option->choices[i]);
    }
    if (option->choices)
        pj_error_set(error, PJ_ECONFIG, "option %s cannot be \"%.100s\"; it may be one of: %s", option->name, value,
                     pj_buf_text(&choices));
    pj_buf_free(&choices);
    return option->choices ? PJ_ECONFIG : PJ_OK;
}

int pj_module_key_count(const struct pj_module *module)
{
    int count = 0;
    while (module->key && module->key[count])
        count++;
    return count;
}

int pj_source_column_count(const struct pj_source *source)
{
    int count = 0;
    while (source->columns && source->columns[count].name)
        count++;
    return count;
}

int pj_stream_column_count(const struct pj_stream *stream)
{
    int count = 0;
    while (stream->columns && stream->columns[count].name)
        count++;
    return count;
}
