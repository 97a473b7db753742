/*
 * `module new`: a directory with a module that builds, a fixture for it, and a Makefile. What it is made of stands in
 * engine/app/template/, which the build turns into strings; @NAME@ and the like are filled in here.
 */
#include "app/module.h"
#include "base/buf.h"
#include "base/mem.h"
#include "template.h"

#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

enum { NAME_MAX_LENGTH = 48 };

static int check_name(const char *name, struct pj_error *error)
{
    size_t good = strspn(name, "abcdefghijklmnopqrstuvwxyz0123456789_");
    if (name[0] >= 'a' && name[0] <= 'z' && !name[good] && good <= NAME_MAX_LENGTH)
        return PJ_OK;
    pj_error_set(error, PJ_ECONFIG, "\"%.80s\" cannot be a module's name", name);
    return pj_error_hint(error,
                         "a letter a-z, then a-z, 0-9 and _, at most %d in all: the name is also that of its file "
                         "and of its table",
                         NAME_MAX_LENGTH);
}

/* ---------------------------------------------------------------------------------------------------------- places */

/* The program's own path; "pgprojector" where it cannot be told. */
static char *program_path(void)
{
    char path[PATH_MAX];
    ssize_t length = readlink("/proc/self/exe", path, sizeof path - 1);
    return length > 0 ? pj_strndup(path, (size_t)length) : pj_strdup("pgprojector");
}

/* module.mk: of the build tree the program lies in, or of the installation. "" where there is neither. */
static char *find_makefile(const char *program)
{
    static const char *const places[] = {"../projections/module.mk", "../share/pgprojector/module.mk"};
    const char *slash = strrchr(program, '/');
    for (size_t i = 0; slash && i < sizeof places / sizeof *places; i++) {
        char *path = pj_sprintf("%.*s/%s", (int)(slash - program), program, places[i]);
        char *resolved = realpath(path, NULL);
        pj_free(path);
        if (resolved) {
            path = pj_strdup(resolved);
            free(resolved);
            return path;
        }
    }
    return pj_strdup("");
}

/* --------------------------------------------------------------------------------------------------------- writing */

struct words {
    const char *pairs[4][2];
};

static void fill_in(const char *text, const struct words *words, struct pj_buf *out)
{
    while (*text) {
        const char *replacement = NULL;
        size_t length = 1;
        for (int i = 0; i < 3 && *text == '@'; i++)
            if (strncmp(text, words->pairs[i][0], strlen(words->pairs[i][0])) == 0) {
                replacement = words->pairs[i][1];
                length = strlen(words->pairs[i][0]);
            }
        if (replacement)
            pj_buf_puts(out, replacement);
        else
            pj_buf_put(out, text, length);
        text += length;
    }
}

static int write_file(const char *directory, const char *name, const char *text, const struct words *words,
                      struct pj_error *error)
{
    struct pj_buf content = {0};
    char *path = pj_sprintf("%s/%s", directory, name);
    FILE *file = fopen(path, "wx");
    fill_in(text, words, &content);
    bool good = file && fwrite(content.data, 1, content.length, file) == content.length;
    if (file && fclose(file) != 0)
        good = false;
    if (!good) {
        pj_error_set(error, PJ_EFAIL, "cannot write %s: %s", path, strerror(errno));
        pj_error_hint(error, "nothing of the module is left; where the disk is full make room, or name another place: "
                             "--dir DIR");
    }
    pj_buf_free(&content);
    pj_free(path);
    return error->code;
}

static int make_directory(const char *directory, struct pj_error *error)
{
    if (mkdir(directory, 0755) == 0)
        return PJ_OK;
    if (errno == EEXIST) {
        pj_error_set(error, PJ_ECONFIG, "%s exists already; it is not touched", directory);
        return pj_error_hint(error, "give another name, or another directory to make it in: --dir DIR");
    }
    pj_error_set(error, PJ_ECONFIG, "cannot make %s: %s", directory, strerror(errno));
    return pj_error_hint(error, "--dir names the directory in which the module's own is made; it must exist and be "
                                "writable");
}

/* What was made so far, some of it perhaps in half: nobody is to take it for a module, nor to be in the way of the next
 * attempt. */
static void unmake(const char *directory, const char *source)
{
    const char *const names[] = {source, "Makefile", "test.json", ".gitignore"};
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        char *path = pj_sprintf("%s/%s", directory, names[i]);
        unlink(path);
        pj_free(path);
    }
    rmdir(directory);
}

static int write_all(const char *directory, const char *name, struct pj_error *error)
{
    char *program = program_path(), *makefile = find_makefile(program), *source = pj_sprintf("%s.c", name);
    const struct words words = {{{"@NAME@", name}, {"@PROGRAM@", program}, {"@MODULE_MK@", makefile}}};
    int code = write_file(directory, source, pj_template_module, &words, error);
    if (code == PJ_OK)
        code = write_file(directory, "Makefile", pj_template_makefile, &words, error);
    if (code == PJ_OK)
        code = write_file(directory, "test.json", pj_template_fixture, &words, error);
    if (code == PJ_OK)
        code = write_file(directory, ".gitignore", "*.so\n", &words, error);
    if (code != PJ_OK)
        unmake(directory, source);
    pj_free(program);
    pj_free(makefile);
    pj_free(source);
    return code;
}

int pj_module_new_command(struct pj_app *app, struct pj_error *error)
{
    const char *name = app->operands[1];
    pj_error_clear(error);
    if (check_name(name, error) != PJ_OK)
        return error->code;
    char *directory = app->options.dir ? pj_sprintf("%s/%s", app->options.dir, name) : pj_strdup(name);
    int code = make_directory(directory, error);
    if (code == PJ_OK)
        code = write_all(directory, name, error);
    if (code == PJ_OK)
        printf("%s: the module (%s.c), a fixture (test.json) and a Makefile.\n"
               "Next: make -C %s test, then edit %s.c; `make check` holds it against your databases.\n",
               directory, name, directory, name);
    pj_free(directory);
    return code;
}
