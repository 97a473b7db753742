/* The program's beginning and end: command line, configuration, one command, its exit code. */
#include "app/options.h"
#include "app/signals.h"
#include "base/mem.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* Flags have been taken already; they keep their rank over what is read here. */
int pj_app_configure(struct pj_app *app, struct pj_error *error)
{
    int code = pj_config_read(&app->config, getenv, error);
    if (code == PJ_OK)
        code = pj_config_resolve(&app->config, error);
    if (code == PJ_OK)
        app->log.least = app->config.log_level;
    return code;
}

int pj_app_connect(const struct pj_app *app, enum pj_side side, const char *purpose, int timeout_ms,
                   struct pj_session **session, struct pj_error *error)
{
    struct pj_session_options options = {
        .side = side,
        .url = pj_config_get(&app->config, side == PJ_WRITE ? PJ_SET_WRITE_URL : PJ_SET_READ_URL),
        .purpose = purpose,
        .stop = &app->stop,
    };
    int code = pj_session_open(session, &options, error);
    if (code == PJ_OK)
        pj_session_set_timeout(*session, timeout_ms);
    return code;
}

static void print_error(const struct pj_error *error)
{
    fflush(stdout);
    fprintf(stderr, "pgprojector: %s\n", error->message);
    if (error->hint[0])
        fprintf(stderr, "hint: %s\n", error->hint);
}

/* Of the daemon; it is promised to end within 10 s. A command may have to tidy up for longer. */
enum { STOP_MS = 9000 };

static int run_verb(struct pj_app *app, const struct pj_verb *verb, struct pj_error *error)
{
    if (!verb || app->options.help) {
        pj_options_help(verb);
        return PJ_OK;
    }
    int code = verb->needs_config ? pj_app_configure(app, error) : PJ_OK;
    if (code != PJ_OK)
        return code;
    struct pj_signals signals = {.patience_ms = verb->run == pj_run ? STOP_MS : -1};
    code = pj_signals_start(&signals, &app->stop, &app->log, &app->hup, error);
    if (code != PJ_OK)
        return code;
    code = verb->run(app, error);
    pj_signals_stop(&signals);
    return code;
}

/* Who reads a pipe and has gone away (head) has had enough. */
static bool reader_is_gone(void)
{
    struct pollfd output = {.fd = STDOUT_FILENO, .events = POLLOUT};
    return poll(&output, 1, 0) == 1 && (output.revents & (POLLERR | POLLHUP));
}

/* An answer that did not reach its place (a full disk) is none, whatever it said. */
static bool output_lost(void)
{
    bool lost = ferror(stdout) != 0, unread = lost && reader_is_gone();
    errno = 0;
    if (fclose(stdout) == 0)
        errno = 0;
    else /* some file systems say it only now */
        lost = true;
    if (lost && !unread && errno != EPIPE)
        fprintf(stderr, "pgprojector: the output could not be written: %s\n",
                errno ? strerror(errno) : "is the disk full?");
    return lost;
}

/* libpq has them sent behind the settings that sessions need, and over these. */
static void disregard_environment(void)
{
    static const char *const names[] = {"PGTZ", "PGDATESTYLE", "PGGEQO"};
    for (size_t i = 0; i < sizeof names / sizeof *names; i++)
        unsetenv(names[i]);
}

/* Where one of the descriptors for input, output and log is closed, the first file or socket that is opened would take its
 * place, and be written into. */
static void fill_standard_descriptors(void)
{
    int fd;
    while ((fd = open("/dev/null", O_RDWR)) >= 0 && fd <= STDERR_FILENO)
        ;
    if (fd > STDERR_FILENO)
        close(fd);
}

int main(int argc, char **argv)
{
    fill_standard_descriptors();
    disregard_environment();
    struct pj_app app = {.log = {PJ_LOG_INFO, 2}, .options = {.keys = 20}, .argv = argv};
    struct pj_error error;
    pj_error_clear(&error);
    const struct pj_verb *verb;
    pj_config_init(&app.config);
    pj_waker_init(&app.hup);
    int code = pj_stop_init(&app.stop, &error);
    if (code == PJ_OK)
        code = pj_options_read(&app, argc, argv, &verb, &error);
    if (code == PJ_OK)
        code = run_verb(&app, verb, &error);
    if (code != PJ_OK && error.message[0])
        print_error(&error);
    pj_stop_close(&app.stop);
    pj_config_free(&app.config);
    if (output_lost() || code == PJ_ESTOPPED)
        return EXIT_FAILURE; /* only a command that did not finish says that it was stopped */
    return pj_code_exit(code);
}
