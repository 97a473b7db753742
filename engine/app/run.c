/*
 * `run` and `init`: get ready (start.c); then the one streams until it is asked to stop, the other is done.
 */
#include "app/app.h"
#include "app/start.h"
#include "base/clock.h"
#include "base/mem.h"
#include "core/deadletter.h"
#include "core/pipeline.h"

#include <stdio.h>
#include <unistd.h>

/* ------------------------------------------------------------------------------------------------------------ run */

static void say_hello(const struct pj_start *start)
{
    char *write_url = pj_conninfo_redacted(start->deployment.write_url);
    char *read_url = pj_conninfo_redacted(start->deployment.read_url);
    pj_log(&start->app->log, PJ_LOG_INFO, "pgprojector %s, pid %d, %d module%s; write database: %s; read database: %s",
           PJ_VERSION, (int)getpid(), start->deployment.nmodules, start->deployment.nmodules == 1 ? "" : "s",
           write_url ? write_url : "", read_url ? read_url : "");
    pj_free(write_url);
    pj_free(read_url);
}

static int stream(struct pj_start *start, struct pj_error *error)
{
    struct pj_pipeline_options options = {
        .deployment = &start->deployment,
        .setup = &start->setup,
        .read = start->read,
        .epoch = start->checkpoint.epoch,
        .state = start->state,
        .gate = start->gate,
        .stop = &start->app->stop,
        .log = &start->app->log,
    };
    start->read = NULL; /* the pipeline's from now on */
    struct pj_retrier *retrier = pj_retrier_new(&start->setup, &start->app->log);
    pj_control_set_chore(start->control, pj_retrier_turn, retrier);
    int code = pj_pipeline_run(&options, error);
    if (pj_control_set_chore(start->control, NULL, NULL))
        pj_retrier_free(retrier);
    return code;
}

/* The log has the reason where the operator looks for it; the top then has nothing more to say. */
static int logged(struct pj_start *start, int code, struct pj_error *error)
{
    if (code == PJ_OK || code == PJ_ESTOPPED) {
        pj_state_set(start->state, PJ_STOPPED, "", "");
        pj_log(&start->app->log, PJ_LOG_INFO, "stopped on request");
        return PJ_OK;
    }
    pj_state_set(start->state, PJ_STOPPED, error->message, error->hint);
    pj_log_error(&start->app->log, PJ_LOG_ERROR, error);
    pj_error_clear(error);
    return code;
}

/* Another daemon has taken over and writes its own state: ours must not cover it, so the control thread is left to die
 * with the process instead of writing once more. */
static int superseded(struct pj_start *start, struct pj_error *error)
{
    pj_log_error(&start->app->log, PJ_LOG_ERROR, error);
    _exit(pj_code_exit(PJ_ESTALE));
}

/* A gap right after a resync is one that a resync does not close. */
static const uint64_t resync_again_us = 60 * 1000 * 1000ull;

/*
 * on_gap = resync. The pipeline has met a gap and let go of everything. Where the resync cannot be made, the daemon is
 * made ready once more without, and halts at the same gap.
 */
static int close_gap(struct pj_start *start, uint64_t *resynced_us, struct pj_error *error)
{
    const struct pj_log *log = &start->app->log;
    pj_log(log, PJ_LOG_ERROR, "gap: %s", error->message);
    pj_start_again(start);
    uint64_t now = pj_clock_monotonic_us();
    start->resync = !*resynced_us || now - *resynced_us > resync_again_us;
    int code = PJ_OK;
    if (start->resync) {
        pj_log(log, PJ_LOG_WARNING, "on_gap = resync: the read side is now made equal to a new snapshot");
        code = pj_start_make_ready(start, error);
        *resynced_us = pj_clock_monotonic_us();
        if (code == PJ_OK || code == PJ_ESTOPPED || code == PJ_ESTALE)
            return code;
        pj_log_error(log, PJ_LOG_ERROR, error);
        pj_start_again(start);
        start->resync = false;
    } else {
        pj_log(log, PJ_LOG_WARNING,
               "on_gap = resync is disregarded: this gap followed within a minute of a resync, "
               "which one more would not close");
    }
    start->deployment.resync_on_gap = false;
    return pj_start_make_ready(start, error);
}

int pj_run(struct pj_app *app, struct pj_error *error)
{
    struct pj_start start;
    uint64_t resynced_us = 0;
    int code = pj_start_open(&start, app, true, error);
    if (code == PJ_OK) {
        say_hello(&start);
        code = pj_start_make_ready(&start, error);
    }
    if (code == PJ_OK)
        code = stream(&start, error);
    while (code == PJ_EGAP && start.deployment.resync_on_gap) {
        code = close_gap(&start, &resynced_us, error);
        if (code == PJ_OK)
            code = stream(&start, error);
    }
    if (code == PJ_ESTALE)
        return superseded(&start, error);
    code = logged(&start, code, error);
    pj_start_close(&start);
    return code;
}

/* ----------------------------------------------------------------------------------------------------------- init */

/* Looks without locking, so that `init` beside a running daemon is as idempotent as without. */
static int look_for_checkpoint(struct pj_app *app, struct pj_checkpoint *checkpoint, struct pj_error *error)
{
    struct pj_session *read;
    bool installed;
    int code = pj_app_connect(app, PJ_READ, "init", 30000, &read, error);
    if (code != PJ_OK)
        return code;
    code = pj_catalog_read(read, checkpoint, &installed, error);
    pj_session_close(read);
    return code;
}

static void say_done(const char *how, const struct pj_checkpoint *checkpoint)
{
    printf("%s at LSN %s, slot %s\n", how, PJ_LSN(checkpoint->lsn), checkpoint->slot);
}

static int initialise(struct pj_app *app, struct pj_error *error)
{
    struct pj_start start;
    int code = pj_start_open(&start, app, false, error);
    if (code == PJ_OK)
        code = pj_start_make_ready(&start, error);
    if (code == PJ_OK)
        say_done("initialised", &start.checkpoint);
    pj_start_close(&start);
    return code;
}

int pj_init(struct pj_app *app, struct pj_error *error)
{
    struct pj_checkpoint checkpoint = {0};
    int code = look_for_checkpoint(app, &checkpoint, error);
    if (code == PJ_OK && checkpoint.complete) {
        say_done("already initialised", &checkpoint);
        return PJ_OK;
    }
    if (code != PJ_OK && code != PJ_EUNREACHABLE)
        return code;
    return initialise(app, error);
}
