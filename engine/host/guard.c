/*
 * See guard.h. A module runs inside the daemon's process, so nothing inside can undo what a bad one has done: a heap
 * that it has scribbled over, a lock that it holds, a loop that it never leaves. But all that counts is on the read
 * database, in whole transactions, and the daemon may be killed at any instant anyway. So it replaces itself:
 *
 *      apply() crashes           the signal's handler, on a stack of its own  --+
 *      apply() calls exit()      an atexit function                           --+--> execve of the same program and
 *      apply() does not return   the watchdog's thread                        --+    arguments: the same process id
 *
 * The new one is told who is guilty (PGPROJECTOR_GUILTY = "signal 11 PROJECTION MODULE TABLE"), pauses that projection
 * (core/pause.h) before it streams, and no longer calls its apply(): a module can do this once, and then not again
 * until somebody resumes it. All connections are closed by the exec (they are CLOEXEC); what their transactions had not
 * committed is rolled back and comes again.
 *
 * Only a call is guarded. Before and after it a number is raised, odd while a call is under way: a signal that meets an
 * even one, or another thread, keeps the action that it had. The watchdog looks at the number from time to time; one
 * that is odd and the same for the whole limit is a call that does not return. It counts looks, not seconds, so that a
 * process that was frozen and thawed is not accused. No clock is read on the way of a row.
 *
 * A crash leaves a core dump where they are enabled: a child, which is a copy of all there is, dies of the signal.
 * Between the signal and the exec nothing is called but what is async-signal-safe; the environment is made ready
 * before.
 *
 * Signal handlers are given no context, so what they need is static here, and nowhere else in the program.
 */
#include "host/guard.h"

#include "base/mem.h"

#include <errno.h>
#include <limits.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

enum { LONGEST_LOOK_MS = 500, LOOKS = 20, LEAVING_MS = 3000, STACK_BYTES = 64 * 1024 };

#define VARIABLE "PGPROJECTOR_GUILTY"

static const int fatal[] = {SIGSEGV, SIGBUS, SIGFPE, SIGILL, SIGABRT};
enum { FATAL = sizeof fatal / sizeof *fatal };

struct pj_guard {
    struct pj_guard_options options;
    struct pj_stop end;
    pthread_t thread;
    int look_ms, looks; /* the limit: so many looks, so long apart */
    sigset_t mask;      /* what the new process begins with */
    char **environment; /* ends with `handed_over` */
    char handed_over[400];
    struct sigaction before[FATAL];
    atomic_flag restarting;
};

/* The call under way. Written by the thread that calls, read by the watchdog. */
static struct {
    _Atomic(const char *) projection, mark, table;
    _Atomic(const void *) thread;
    atomic_ulong number; /* odd: under way */
} call;

static _Atomic(struct pj_guard *) the_guard;

/* A stack overflow leaves no stack for its handler. */
static _Thread_local struct {
    bool armed;
    _Alignas(16) char stack[STACK_BYTES];
} own;

/* ------------------------------------------------------------------------------------------------ around the calls */

static void arm_thread(void)
{
    stack_t stack = {.ss_sp = own.stack, .ss_size = sizeof own.stack}, has;
    own.armed = true;
    if (sigaltstack(NULL, &has) == 0 && has.ss_flags & SS_DISABLE)
        sigaltstack(&stack, NULL);
}

void pj_guard_about(const char *projection, const char *mark, const char *table)
{
    if (!own.armed)
        arm_thread();
    atomic_store_explicit(&call.thread, &own, memory_order_relaxed);
    atomic_store_explicit(&call.projection, projection, memory_order_relaxed);
    atomic_store_explicit(&call.mark, *mark ? mark : "-", memory_order_relaxed);
    atomic_store_explicit(&call.table, table, memory_order_relaxed);
}

static void raise_number(void)
{
    unsigned long number = atomic_load_explicit(&call.number, memory_order_relaxed);
    atomic_store_explicit(&call.number, number + 1, memory_order_release);
}

void pj_guard_enter(void)
{
    raise_number();
}

void pj_guard_leave(void)
{
    raise_number();
}

static bool in_call_here(void)
{
    return atomic_load(&call.number) & 1 && atomic_load(&call.thread) == &own;
}

/* --------------------------------------------------------------------------------- restarting: async-signal-safe */

static char *append(char *at, const char *end, const char *text)
{
    while (*text && at < end)
        *at++ = *text++;
    *at = '\0';
    return at;
}

static char *append_number(char *at, const char *end, unsigned number)
{
    char digits[12], *first = digits + sizeof digits - 1;
    *first = '\0';
    do
        *--first = (char)('0' + number % 10);
    while (number /= 10);
    return append(at, end, first);
}

static void write_error(const char *text)
{
    ssize_t written = write(STDERR_FILENO, text, strlen(text));
    (void)written;
}

static _Noreturn void restart(struct pj_guard *guard, const char *what, unsigned number)
{
    char *at = guard->handed_over;
    const char *end = guard->handed_over + sizeof guard->handed_over - 1;
    at = append(at, end, VARIABLE "=");
    at = append(at, end, what);
    at = append(at, end, " ");
    at = append_number(at, end, number);
    at = append(at, end, " ");
    at = append(at, end, atomic_load(&call.projection));
    at = append(at, end, " ");
    at = append(at, end, atomic_load(&call.mark));
    at = append(at, end, " ");
    append(at, end, atomic_load(&call.table));
    pthread_sigmask(SIG_SETMASK, &guard->mask, NULL);
    execve("/proc/self/exe", guard->options.argv, guard->environment);
    write_error("pgprojector: cannot restart itself after a module's fault: ");
    write_error(guard->handed_over);
    write_error("\n");
    _exit(EXIT_FAILURE);
}

/* One thread restarts; another that comes to it waits for its end. */
static void only_one(struct pj_guard *guard)
{
    while (atomic_flag_test_and_set(&guard->restarting))
        pause();
}

/* The sockets are the child's, too: the servers see our end only when it has gone. */
static void leave_core(int number)
{
    pid_t child = _Fork();
    if (child == 0) {
        sigset_t all;
        struct sigaction end = {.sa_handler = SIG_DFL};
        sigaction(number, &end, NULL);
        sigfillset(&all);
        sigprocmask(SIG_UNBLOCK, &all, NULL);
        kill(getpid(), number);
        _exit(EXIT_FAILURE);
    }
    int status;
    while (child > 0 && waitpid(child, &status, 0) < 0 && errno == EINTR)
        continue;
}

static void on_fatal(int number, siginfo_t *info, void *context)
{
    (void)context;
    int saved = errno;
    struct pj_guard *guard = atomic_load(&the_guard);
    if (guard && in_call_here() && !pj_stop_asked(guard->options.stop)) {
        only_one(guard);
        leave_core(number);
        restart(guard, "signal", (unsigned)number);
    }
    /* not ours: what it does without us it does when it comes again */
    for (int i = 0; guard && i < FATAL; i++)
        if (fatal[i] == number)
            sigaction(number, &guard->before[i], NULL);
    if (info->si_code <= 0)
        raise(number);
    errno = saved;
}

/* exit() in a module would end the daemon as if it had been asked to. */
static void on_exit_of_process(void)
{
    struct pj_guard *guard = atomic_load(&the_guard);
    if (!guard || !in_call_here() || pj_stop_asked(guard->options.stop))
        return;
    only_one(guard);
    restart(guard, "exit", 0);
}

/* ---------------------------------------------------------------------------------------------------- the watchdog */

static void too_long(struct pj_guard *guard, int looks)
{
    if (pj_stop_asked(guard->options.stop)) {
        pj_log(guard->options.log, PJ_LOG_WARNING,
               "stopping without projection %s, whose apply() has not returned for %d ms: what it was at work on is "
               "rolled back",
               atomic_load(&call.projection), looks * guard->look_ms);
        _exit(EXIT_SUCCESS);
    }
    only_one(guard);
    restart(guard, "timeout", (unsigned)guard->options.timeout_ms);
}

static void *watch(void *context)
{
    struct pj_guard *guard = context;
    struct pj_error ended;
    unsigned long seen = 0;
    int looks = 0;
    while (pj_stop_sleep(&guard->end, guard->look_ms, &ended) == PJ_OK) {
        unsigned long number = atomic_load_explicit(&call.number, memory_order_acquire);
        looks = number & 1 && number == seen ? looks + (looks < INT_MAX) : 0;
        seen = number;
        bool leaving = looks > LEAVING_MS / guard->look_ms && pj_stop_asked(guard->options.stop);
        if (leaving || looks > guard->looks)
            too_long(guard, looks);
    }
    return NULL;
}

/* -------------------------------------------------------------------------------------------------- start and stop */

static void make_environment(struct pj_guard *guard)
{
    int count = 0, kept = 0;
    while (environ[count])
        count++;
    guard->environment = pj_alloc(sizeof *guard->environment * (size_t)(count + 2));
    for (int i = 0; i < count; i++)
        if (strncmp(environ[i], VARIABLE "=", sizeof VARIABLE) != 0)
            guard->environment[kept++] = environ[i];
    guard->environment[kept] = guard->handed_over;
}

static void install_handlers(struct pj_guard *guard)
{
    struct sigaction action = {.sa_sigaction = on_fatal, .sa_flags = SA_SIGINFO | SA_ONSTACK};
    for (int i = 0; i < FATAL; i++)
        sigaddset(&action.sa_mask, fatal[i]);
    for (int i = 0; i < FATAL; i++)
        sigaction(fatal[i], &action, &guard->before[i]);
    static bool registered;
    if (!registered)
        atexit(on_exit_of_process);
    registered = true;
}

static int start_thread(struct pj_guard *guard)
{
    sigset_t all;
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &guard->mask);
    int failed = pthread_create(&guard->thread, NULL, watch, guard);
    pthread_sigmask(SIG_SETMASK, &guard->mask, NULL);
    return failed;
}

int pj_guard_start(struct pj_guard **out, const struct pj_guard_options *options, struct pj_error *error)
{
    struct pj_guard *guard = pj_alloc(sizeof *guard);
    int limit = options->timeout_ms;
    *out = NULL;
    *guard = (struct pj_guard){.options = *options, .look_ms = LONGEST_LOOK_MS, .looks = INT_MAX};
    if (limit && limit < LONGEST_LOOK_MS * LOOKS)
        guard->look_ms = limit / LOOKS + 1;
    if (limit)
        guard->looks = limit / guard->look_ms;
    atomic_flag_clear(&guard->restarting);
    int failed = 0;
    if (pj_stop_init(&guard->end, error) == PJ_OK && (failed = start_thread(guard)) != 0)
        pj_error_set(error, PJ_EFAIL, "start the watchdog's thread: %s", strerror(failed));
    if (error->code != PJ_OK) {
        pj_stop_close(&guard->end);
        pj_free(guard);
        return error->code;
    }
    make_environment(guard);
    atomic_store(&the_guard, guard);
    install_handlers(guard);
    *out = guard;
    return PJ_OK;
}

void pj_guard_stop(struct pj_guard *guard)
{
    if (!guard)
        return;
    for (int i = 0; i < FATAL; i++)
        sigaction(fatal[i], &guard->before[i], NULL);
    atomic_store(&the_guard, NULL);
    pj_stop_ask(&guard->end);
    pthread_join(guard->thread, NULL);
    pj_stop_close(&guard->end);
    pj_free(guard->environment);
    pj_free(guard);
}

/* ------------------------------------------------------------------------------------------------ after the restart */

bool pj_guard_read(const char *handed_over, struct pj_guilt *guilt)
{
    char what[12];
    int number, length = 0;
    if (sscanf(handed_over, "%11s %d %95s %39s %n", what, &number, guilt->projection, guilt->mark, &length) != 4 ||
        !length)
        return false;
    const char *table = handed_over + length;
    if (strcmp(what, "signal") == 0)
        snprintf(guilt->what, sizeof guilt->what, "its apply() crashed with signal %d (%s) on a change of %s", number,
                 strsignal(number), table);
    else if (strcmp(what, "timeout") == 0)
        snprintf(guilt->what, sizeof guilt->what, "its apply() did not return within %g s on a change of %s",
                 number / 1000.0, table);
    else
        snprintf(guilt->what, sizeof guilt->what, "its apply() ended the process on a change of %s", table);
    return true;
}

bool pj_guard_guilty(struct pj_guilt *guilt)
{
    const char *handed_over = getenv(VARIABLE);
    if (!handed_over)
        return false;
    prctl(PR_SET_NAME, program_invocation_short_name); /* it was called "exe", after the link that led to it */
    bool good = pj_guard_read(handed_over, guilt);
    unsetenv(VARIABLE);
    return good;
}
