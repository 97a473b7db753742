/*
 * A private PostgreSQL for unit tests that need one: a child of the test, on a socket in a directory of its own, that ends
 * with the test; and a session to it. PG_BIN says where its programs are.
 */
#ifndef PJ_TEST_SERVER_FIXTURE_H
#define PJ_TEST_SERVER_FIXTURE_H

#include "pg/session.h"

#include "reference/shell.h"

#include <errno.h>
#include <pwd.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

static char directory[64];
static pid_t server;
static struct pj_session *session;
static struct pj_error error;

/* PostgreSQL refuses to run as root. */
static inline void drop_root(void)
{
    const struct passwd *user = getpwnam("postgres");
    if (geteuid() == 0 && user && (setgid(user->pw_gid) != 0 || setuid(user->pw_uid) != 0))
        _exit(1);
}

static inline pid_t spawn(const char *program, const char *const *arguments)
{
    pid_t pid = fork();
    if (pid != 0)
        return pid;
    drop_root();
    prctl(PR_SET_PDEATHSIG, SIGQUIT);
    char path[256];
    snprintf(path, sizeof path, "%s/%s", getenv("PG_BIN") ? getenv("PG_BIN") : "/usr/lib/postgresql/15/bin", program);
    if (!freopen("/dev/null", "w", stdout))
        _exit(1);
    char log[128];
    snprintf(log, sizeof log, "%s/%s.log", directory, program);
    if (!freopen(log, "w", stderr))
        _exit(1);
    execv(path, (char *const *)(uintptr_t)arguments);
    _exit(127);
}

static inline void open_session(void)
{
    char url[160];
    snprintf(url, sizeof url, "host=%s dbname=postgres user=postgres", directory);
    struct pj_session_options options = {.side = PJ_READ, .url = url};
    for (int i = 0; i < 600 && pj_session_open(&session, &options, &error) != PJ_OK; i++)
        nanosleep(&(struct timespec){.tv_nsec = 50000000}, NULL);
    cr_assert_not_null(session, "%s", error.message);
}

static inline void start(void)
{
    strcpy(directory, "/tmp/pjt-XXXXXX");
    cr_assert_not_null(mkdtemp(directory));
    if (geteuid() == 0)
        shell("chown postgres %s", directory);
    char data[96];
    snprintf(data, sizeof data, "%s/data", directory);
    const char *const initdb[] = {"initdb", "-D", data, "-U", "postgres", "-E", "UTF8", "--locale=C", "-N", NULL};
    int status = -1;
    waitpid(spawn("initdb", initdb), &status, 0);
    cr_assert_eq(status, 0, "initdb failed; see %s", directory);
    const char *const postgres[] = {"postgres",          "-D", data,        "-k", directory,        "-c",
                                    "listen_addresses=", "-c", "fsync=off", "-c", "autovacuum=off", NULL};
    server = spawn("postgres", postgres);
    open_session();
}

static inline void stop(void)
{
    pj_session_close(session);
    if (server > 0) {
        kill(server, SIGQUIT);
        waitpid(server, NULL, 0);
    }
    shell("rm -rf %s", directory);
}

static inline void sql(const char *text)
{
    int code = pj_session_exec(session, text, &error);
    cr_assert_eq(code, PJ_OK, "%s\n%s", error.message, text);
}

#endif
