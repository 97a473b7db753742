/*
 * `module test`: fixtures through a module's apply(), without a server. Each case runs in a process of its own, for
 * apply() may crash or never return; then the case is named and the others go on.
 */
#include "app/module.h"
#include "base/mem.h"
#include "host/fixture.h"

#include <errno.h>
#include <glob.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

/* A child's exit code tells what it found, and that it came to its end: apply() might have called exit(). */
enum { DEADLINE_S = 10, ENDED = 40 };

struct test_run {
    const struct pj_module *module;
    bool record;
    int passed, failed, bad; /* bad: ill-formed */
};

/* ---------------------------------------------------------------------------------------------------- finding files */

static bool is_directory(const char *path)
{
    struct stat status;
    return stat(path, &status) == 0 && S_ISDIR(status.st_mode);
}

static int choose_module(const struct pj_app *app, const char *directory, const glob_t *found, char **path,
                         struct pj_error *error)
{
    if (found->gl_pathc == 1) {
        *path = pj_strdup(found->gl_pathv[0]);
        return PJ_OK;
    }
    if (found->gl_pathc > 1) {
        pj_error_set(error, PJ_ECONFIG, "%s holds %zu modules", directory, found->gl_pathc);
        return pj_error_hint(error, "name one: pgprojector module test %s", found->gl_pathv[0]);
    }
    char *resolved = realpath(directory, NULL);
    *path = pj_module_file(app, strrchr(resolved, '/') + 1);
    free(resolved);
    if (access(*path, F_OK) == 0)
        return PJ_OK;
    pj_error_set(error, PJ_ECONFIG, "%s holds no module (no .so file), nor is there %s", directory, *path);
    return pj_error_hint(error, "build it first: make -C %s", directory);
}

/* The module of a directory: the .so in it, or the one in the module directory that is called like it. */
static int find_module(const struct pj_app *app, const char *operand, char **path, char **directory,
                       struct pj_error *error)
{
    pj_error_clear(error);
    if (is_directory(operand)) {
        char *pattern = pj_sprintf("%s/*.so", operand);
        glob_t found = {0};
        glob(pattern, 0, NULL, &found);
        *directory = pj_strdup(operand);
        choose_module(app, operand, &found, path, error);
        globfree(&found);
        pj_free(pattern);
        return error->code;
    }
    *path = pj_module_file(app, operand);
    const char *slash = strrchr(*path, '/');
    *directory = slash ? pj_strndup(*path, (size_t)(slash - *path)) : pj_strdup(".");
    if (access(*path, F_OK) == 0)
        return PJ_OK;
    pj_error_set(error, PJ_ECONFIG, "there is no module %s", *path);
    return pj_error_hint(error, "give a module's directory, or its file");
}

/* ----------------------------------------------------------------------------------------------------- one case */

/* Not into what --record prints. */
static FILE *words_of(const struct test_run *run)
{
    return run->record ? stderr : stdout;
}

static void print_refusal(FILE *out, const char *name, const struct pj_error *error)
{
    fprintf(out, "FAIL  %s\n      %s\n", name, error->message);
    if (error->hint[0])
        fprintf(out, "      hint: %s\n", error->hint);
}

static void print_report(const char *name, struct pj_buf *report)
{
    printf("FAIL  %s\n", name);
    for (char *line = strtok(report->data, "\n"); line; line = strtok(NULL, "\n"))
        printf("      %s\n", line);
}

/* In the child. With --record, what came out replaces what is expected, and goes to stdout. */
static int run_case(const struct test_run *run, const json_t *test, const char *name)
{
    struct pj_error error;
    struct pj_buf report = {0};
    json_t *actual = NULL;
    int code = pj_fixture_run(run->module, test, &actual, &error);
    if (code == PJ_OK && run->record) {
        json_t *whole = json_copy((json_t *)(size_t)test);
        json_object_set(whole, "expect", actual);
        fputs(run->passed ? ",\n" : "[\n", stdout);
        json_dumpf(whole, stdout, JSON_INDENT(2));
        json_decref(whole);
    } else if (code == PJ_OK) {
        code = pj_fixture_compare(run->module, test, actual, &report, &error);
        if (code == PJ_OK && report.length)
            print_report(name, &report);
        else if (code == PJ_OK)
            printf("ok    %s\n", name);
    }
    if (code != PJ_OK)
        print_refusal(words_of(run), name, &error);
    if (code == PJ_OK && report.length)
        code = PJ_EFAIL;
    pj_buf_free(&report);
    json_decref(actual);
    return code;
}

/* The child's end, as a code. */
static int judge(FILE *out, const char *name, int status)
{
    if (WIFEXITED(status) && WEXITSTATUS(status) >= ENDED)
        return ENDED - WEXITSTATUS(status);
    if (WIFEXITED(status))
        fprintf(out, "FAIL  %s\n      apply() ended the process (exit code %d)\n", name, WEXITSTATUS(status));
    else if (WTERMSIG(status) == SIGALRM)
        fprintf(out, "FAIL  %s\n      apply() did not return within %d s\n", name, DEADLINE_S);
    else
        fprintf(out,
                "FAIL  %s\n      apply() crashed: signal %d (%s)\n      hint: a pointer that was NULL? old_row and "
                "new_row may be; declared lists end with a NULL\n",
                name, WTERMSIG(status), strsignal(WTERMSIG(status)));
    return PJ_EFAIL;
}

static int run_in_child(const struct test_run *run, const json_t *test, const char *name)
{
    fflush(stdout);
    pid_t child = fork();
    if (child == 0) {
        alarm(DEADLINE_S);
        int code = run_case(run, test, name);
        fflush(stdout);
        _exit(ENDED - code);
    }
    int status = 0;
    pid_t ended = child;
    while (child > 0 && (ended = waitpid(child, &status, 0)) < 0 && errno == EINTR)
        continue;
    if (child > 0 && ended == child)
        return judge(words_of(run), name, status);
    fprintf(words_of(run), "FAIL  %s\n      cannot run it: %s\n", name, strerror(errno));
    return PJ_EFAIL;
}

/* ----------------------------------------------------------------------------------------------------------- files */

static void run_file(struct test_run *run, const json_t *cases)
{
    for (size_t i = 0; i < json_array_size(cases); i++) {
        char space[32];
        const json_t *test = json_array_get(cases, i);
        int code = run_in_child(run, test, pj_fixture_name(test, i, space));
        run->passed += code == PJ_OK;
        run->failed += code != PJ_OK;
        run->bad += code == PJ_ECONFIG;
    }
}

static int run_files(struct test_run *run, char *const *files, size_t count, struct pj_error *error)
{
    int code = PJ_OK;
    for (size_t i = 0; code == PJ_OK && i < count; i++) {
        json_t *cases;
        code = pj_fixture_read(files[i], &cases, error);
        if (code != PJ_OK)
            break;
        if (!run->record)
            printf("module %s, %s:\n", run->module->name, files[i]);
        run_file(run, cases);
        json_decref(cases);
    }
    if (run->record) /* one list of all, as a fixture has it */
        fputs(run->passed ? "\n]\n" : "[]\n", stdout);
    return code;
}

static int conclude(const struct test_run *run, struct pj_error *error)
{
    if (!run->record)
        printf("%d passed, %d failed\n", run->passed, run->failed);
    if (!run->failed)
        return PJ_OK;
    return pj_error_set(error, run->bad ? PJ_ECONFIG : PJ_EFAIL, "module %s: %d of %d cases failed", run->module->name,
                        run->failed, run->passed + run->failed);
}

static int test_module(struct pj_app *app, const char *path, const char *directory, struct pj_error *error)
{
    struct pj_loaded_module loaded;
    if (pj_module_load(&loaded, path, error) != PJ_OK)
        return error->code;
    struct test_run run = {.module = loaded.module, .record = app->options.record};
    char *pattern = pj_sprintf("%s/*.json", directory);
    glob_t found = {0};
    int code;
    if (app->noperands > 2) {
        code = run_files(&run, app->operands + 2, (size_t)app->noperands - 2, error);
    } else if (glob(pattern, 0, NULL, &found) == 0) {
        code = run_files(&run, found.gl_pathv, found.gl_pathc, error);
    } else {
        code = pj_error_set(error, PJ_ECONFIG, "there is no fixture (*.json) in %s", directory);
        pj_error_hint(error, "name one behind the module, or record one: pgprojector module record %s",
                      loaded.module->name);
    }
    globfree(&found);
    pj_free(pattern);
    code = code == PJ_OK ? conclude(&run, error) : code;
    pj_module_unload(&loaded);
    return code;
}

int pj_module_test_command(struct pj_app *app, struct pj_error *error)
{
    char *path = NULL, *directory = NULL;
    int code = find_module(app, app->operands[1], &path, &directory, error);
    if (code == PJ_OK)
        code = test_module(app, path, directory, error);
    pj_free(path);
    pj_free(directory);
    return code;
}
