/*
 * See image.h. A file that is overwritten (cp over it) changes under whoever has it mapped, and crashes him; and dlopen
 * of a file that is already open gives the former one. So the file's bytes are copied into an anonymous file (memfd),
 * and that is opened, by its name under /proc/self/fd. The dynamic linker knows what it has opened by such names, too:
 * the descriptor stays open, and its number taken, as long as the object is there. Where memory cannot be opened so (no
 * /proc, a policy against executing it), the file itself is: by its path, for which those who may write to its directories
 * answer (host/module.c has looked at them).
 */
#include "host/image.h"

#include "base/mem.h"
#include "host/elf.h"

#define XXH_INLINE_ALL
#include <xxhash.h>

#include <dirent.h>
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

struct pj_module_image {
    atomic_int users;
    void *handle; /* NULL: only read so far */
    int fd;       /* -1: opened from the file */
    XXH128_hash_t digest;
};

enum { PIECE = 1 << 16, NAME_SIZE = 40 };

#define MEMORY_NAME "pgprojector:"

static void name_of(int fd, char name[NAME_SIZE])
{
    snprintf(name, NAME_SIZE, "/proc/self/fd/%d", fd);
}

/* Copies it all, and sums it up on the way. `to` -1: only the latter. */
static bool copy(int from, int to, XXH128_hash_t *digest)
{
    XXH3_state_t *state = XXH3_createState();
    char *piece = pj_alloc(PIECE);
    ssize_t count;
    XXH3_128bits_reset(state);
    while ((count = read(from, piece, PIECE)) > 0) {
        XXH3_128bits_update(state, piece, (size_t)count);
        for (ssize_t done = 0; to >= 0 && done < count;) {
            ssize_t written = write(to, piece + done, (size_t)(count - done));
            if (written < 0)
                to = -1;
            done += written;
        }
    }
    *digest = XXH3_128bits_digest(state);
    XXH3_freeState(state);
    pj_free(piece);
    return count == 0 && to >= 0;
}

static int copy_to_memory(int file, const char *path, XXH128_hash_t *digest)
{
    const char *base = strrchr(path, '/');
    char name[NAME_MAX];
    snprintf(name, sizeof name, MEMORY_NAME "%.200s", base ? base + 1 : path);
    int fd = memfd_create(name, 0); /* stays over the exec of a guard: see pj_former_images_find */
    bool whole = copy(file, fd, digest);
    if (whole || fd < 0)
        return fd;
    close(fd);
    return -1;
}

static void *open_memory(int fd)
{
    char name[NAME_SIZE];
    name_of(fd, name);
    return dlopen(name, RTLD_NOW | RTLD_LOCAL);
}

struct pj_module_image *pj_module_image_read(int file, const char *path)
{
    struct pj_module_image *image = pj_alloc(sizeof *image);
    atomic_init(&image->users, 1);
    image->fd = copy_to_memory(file, path, &image->digest);
    return image;
}

int pj_module_image_open(struct pj_module_image *image, const char *path, struct pj_error *error)
{
    image->handle = image->fd >= 0 ? open_memory(image->fd) : NULL;
    if (image->handle)
        return PJ_OK;
    if (image->fd >= 0)
        close(image->fd);
    image->fd = -1;
    image->handle = dlopen(path, RTLD_NOW | RTLD_LOCAL);
    if (image->handle)
        return PJ_OK;
    char why[160];
    if (pj_elf_file_foreign(path, why, sizeof why))
        pj_error_set(error, PJ_ECONFIG, "cannot load module: %s %s", path, why);
    else
        pj_error_set(error, PJ_ECONFIG, "cannot load module: %s", dlerror());
    return pj_error_hint(error, "a module is a shared object for this machine, without undefined symbols: "
                                "build it with -shared -fPIC -Wl,-z,defs");
}

void *pj_module_image_handle(const struct pj_module_image *image)
{
    return image->handle;
}

struct pj_module_image *pj_module_image_share(struct pj_module_image *image)
{
    atomic_fetch_add(&image->users, 1);
    return image;
}

bool pj_module_image_same(const struct pj_module_image *a, const struct pj_module_image *b)
{
    return a == b || XXH128_isEqual(a->digest, b->digest);
}

void pj_module_image_digest(const struct pj_module_image *image, char text[PJ_DIGEST_SIZE])
{
    snprintf(text, PJ_DIGEST_SIZE, "%016llx%016llx", (unsigned long long)image->digest.high64,
             (unsigned long long)image->digest.low64);
}

/* An object may refuse to go (its own flags, or what it links to); then its name stays taken, too. */
void pj_module_image_release(struct pj_module_image *image)
{
    if (!image || atomic_fetch_sub(&image->users, 1) > 1)
        return;
    if (image->handle)
        dlclose(image->handle);
    char name[NAME_SIZE];
    name_of(image->fd, name);
    void *still = image->fd >= 0 ? dlopen(name, RTLD_NOW | RTLD_NOLOAD) : NULL;
    if (still)
        dlclose(still);
    else if (image->fd >= 0)
        close(image->fd);
    pj_free(image);
}

/* ---------------------------------------------------------------------------------------------- of a former process */

/* What the link of a descriptor says where it is one of ours: "/memfd:pgprojector:NAME.so (deleted)". */
static bool read_name(int fd, char *name, size_t size)
{
    static const char before[] = "/memfd:" MEMORY_NAME, after[] = " (deleted)";
    char link[NAME_SIZE], target[NAME_MAX + 64];
    name_of(fd, link);
    ssize_t length = readlink(link, target, sizeof target - 1);
    if (length < (ssize_t)(sizeof before + sizeof after))
        return false;
    target[length] = '\0';
    char *end = target + length - (sizeof after - 1);
    if (strncmp(target, before, sizeof before - 1) != 0 || strcmp(end, after) != 0)
        return false;
    *end = '\0';
    return (size_t)snprintf(name, size, "%s", target + sizeof before - 1) < size;
}

void pj_former_images_find(struct pj_former_images *former)
{
    const int most = sizeof former->of / sizeof *former->of;
    former->count = 0;
    DIR *directory = opendir("/proc/self/fd");
    for (struct dirent *entry; directory && (entry = readdir(directory)) && former->count < most;) {
        int fd = (int)strtol(entry->d_name, NULL, 10);
        if (read_name(fd, former->of[former->count].name, sizeof former->of->name))
            former->of[former->count++].fd = fd;
    }
    if (directory)
        closedir(directory);
}

static struct pj_module_image *open_former(int fd)
{
    struct pj_module_image *image = pj_alloc(sizeof *image);
    char name[NAME_SIZE];
    name_of(fd, name);
    int from = open(name, O_RDONLY | O_CLOEXEC);
    atomic_init(&image->users, 1);
    image->fd = fd;
    image->handle = from >= 0 ? open_memory(fd) : NULL;
    if (from >= 0) {
        copy(from, -1, &image->digest);
        close(from);
    }
    if (image->handle)
        return image;
    close(fd);
    pj_free(image);
    return NULL;
}

struct pj_module_image *pj_former_images_take(struct pj_former_images *former, const char *name)
{
    struct pj_module_image *image = NULL;
    for (int i = 0; !image && i < former->count;) {
        if (strcmp(former->of[i].name, name) != 0) {
            i++;
            continue;
        }
        image = open_former(former->of[i].fd);
        former->of[i] = former->of[--former->count];
    }
    return image;
}

void pj_former_images_close(struct pj_former_images *former)
{
    while (former->count)
        close(former->of[--former->count].fd);
}
