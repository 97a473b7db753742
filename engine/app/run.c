/*
 * `run` and `init`: get ready (start.c); then the one streams until it is asked to stop, the other is done.
 */
#include "app/app.h"
#include "app/reload.h"
#include "app/start.h"
#include "base/clock.h"
#include "base/mem.h"
#include "core/deadletter.h"
#include "core/pipeline.h"
#include "core/registrar.h"
#include "pg/conninfo.h"

#include <pthread.h>
#include <stdio.h>
#include <unistd.h>

/* How long what is on its way is waited for, before the daemon makes it by itself. */
enum { NEXT_WAIT_MS = 5000 };

/* ------------------------------------------------------------------------------------------------------------ run */

/* What lives as long as the daemon, while outfits come and go. */
struct run {
    struct pj_start start;
    struct pj_connect_epoch epoch;
    struct pj_relay *relay;       /* from one pipeline to the next; NULL: nothing */
    struct pj_handover *handover; /* NULL until the first outfit is ready */
    struct pj_outfit *outfit;     /* in use; the handover's */
    struct pj_reload reload;
    struct pj_registrar *registrar; /* NULL until there is a handover */

    /* Dead letters are retried by the control thread, perhaps at this very moment: the next retrier takes over with
     * its next turn. */
    pthread_mutex_t retrier_lock;
    struct pj_retrier *retrier; /* the control thread's */
    struct pj_retrier *next_retrier;
};

static void say_hello(const struct pj_start *start)
{
    const struct pj_deployment *deployment = &start->outfit->deployment;
    char *write_url = pj_conninfo_redacted(deployment->write_url);
    char *read_url = pj_conninfo_redacted(deployment->read_url);
    pj_log(&start->app->log, PJ_LOG_INFO, "pgprojector %s, pid %d, %d module%s; write database: %s; read database: %s",
           PJ_VERSION, (int)getpid(), deployment->nmodules, deployment->nmodules == 1 ? "" : "s",
           write_url ? write_url : "", read_url ? read_url : "");
    pj_free(write_url);
    pj_free(read_url);
}

static int retry_turn(void *context, struct pj_session *session, struct pj_error *error)
{
    struct run *run = context;
    pthread_mutex_lock(&run->retrier_lock);
    if (run->next_retrier) {
        pj_retrier_free(run->retrier);
        run->retrier = run->next_retrier;
        run->next_retrier = NULL;
    }
    pthread_mutex_unlock(&run->retrier_lock);
    return run->retrier ? pj_retrier_turn(run->retrier, session, error) : PJ_OK;
}

static void retry_with(struct run *run, const struct pj_outfit *outfit)
{
    struct pj_retrier *next = pj_retrier_new(&outfit->setup, outfit->roster, &run->start.app->log);
    pthread_mutex_lock(&run->retrier_lock);
    pj_retrier_free(run->next_retrier);
    run->next_retrier = next;
    pthread_mutex_unlock(&run->retrier_lock);
}

/* The modules have changed, and with them what the tables are: what is made for them is on its way
 * (core/registrar.h). */
static bool take_next(struct run *run, const struct pj_error *error)
{
    struct pj_start *start = &run->start;
    struct pj_outfit *next = pj_handover_take(run->handover, 0, NULL);
    if (!next) {
        pj_log(&start->app->log, PJ_LOG_INFO, "waiting: %s", error->message);
        pj_state_set(start->state, PJ_WAITING, error->message, "");
        next = pj_handover_take(run->handover, NEXT_WAIT_MS, &start->app->stop);
    }
    run->outfit = next ? next : run->outfit;
    return next != NULL;
}

/* Takes the chore away. One that hangs is left behind with what it uses. */
static void end_retries(struct run *run)
{
    if (pj_control_set_chore(run->start.control, NULL, NULL)) {
        pj_retrier_free(run->retrier);
        pj_retrier_free(run->next_retrier);
    }
    run->retrier = run->next_retrier = NULL;
}

static void serve_requests(void *context)
{
    const struct run *run = context;
    pj_registrar_wake(run->registrar, false);
}

static void look_again(void *context)
{
    const struct run *run = context;
    pj_registrar_wake(run->registrar, true);
}

/* Streams, with one outfit after the other, until something else is to be done. PJ_ERELOAD: there is none to go on
 * with. */
static int stream(struct run *run, struct pj_error *error)
{
    struct pj_start *start = &run->start;
    struct pj_pipeline_options options = {
        .read = &start->read,
        .relay = &run->relay,
        .epoch = &run->epoch,
        .handover = run->handover,
        .state = start->state,
        .gate = start->gate,
        .stop = &start->app->stop,
        .log = &start->app->log,
    };
    run->epoch = (struct pj_connect_epoch){.believed = start->checkpoint.epoch};
    pj_control_set_chore(start->control, retry_turn, run);
    pj_control_set_listener(start->control, serve_requests, run);
    serve_requests(run); /* what was entered meanwhile */
    int code;
    do {
        options.outfit = run->outfit;
        retry_with(run, run->outfit);
        code = pj_pipeline_run(&options, error);
    } while (code == PJ_ERELOAD && take_next(run, error));
    pj_relay_free(run->relay);
    run->relay = NULL;
    end_retries(run);
    pj_control_set_listener(start->control, NULL, NULL);
    return code == PJ_ERELOAD && pj_stop_asked(&start->app->stop) ? PJ_ESTOPPED : code;
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
    if (pj_start_again(start, error) != PJ_OK)
        return error->code;
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
        if (pj_start_again(start, error) != PJ_OK)
            return error->code;
        start->resync = false;
    } else {
        pj_log(log, PJ_LOG_WARNING,
               "on_gap = resync is disregarded: this gap followed within a minute of a resync, "
               "which one more would not close");
    }
    start->outfit->deployment.resync_on_gap = false;
    return pj_start_make_ready(start, error);
}

/* The outfit that has been made ready is the one to run; a former one is the handover's, to be freed when nobody
 * needs it. */
static void put_on(struct run *run)
{
    run->outfit = run->start.outfit;
    run->start.outfit = NULL;
    if (run->handover)
        pj_handover_replace(run->handover, run->outfit);
    else
        run->handover = pj_handover_new(run->outfit);
}

static int start_registrar(struct run *run, struct pj_error *error)
{
    struct pj_registrar_options options = {
        .handover = run->handover, .deploy = pj_reload_deploy, .context = &run->reload, .log = &run->start.app->log};
    if (run->registrar)
        return PJ_OK;
    int code = pj_registrar_start(&run->registrar, &options, error);
    if (code == PJ_OK)
        pj_waker_set(&run->start.app->hup, look_again, run);
    return code;
}

static int stream_on(struct run *run, struct pj_error *error)
{
    struct pj_start *start = &run->start;
    uint64_t resynced_us = 0;
    int code = PJ_OK;
    do {
        put_on(run);
        code = start_registrar(run, error);
        if (code != PJ_OK)
            return code;
        code = stream(run, error);
        if (code == PJ_EGAP && run->outfit->deployment.resync_on_gap) {
            code = close_gap(start, &resynced_us, error);
        } else if (code == PJ_ERELOAD) { /* nobody has offered one: then by ourselves */
            code = pj_start_again(start, error);
            if (code == PJ_OK)
                code = pj_start_make_ready(start, error);
        } else {
            return code;
        }
    } while (code == PJ_OK);
    return code;
}

/* From here on a module's crash restarts the process; and this one may be such a restart. */
static int watch_modules(struct pj_start *start, struct pj_guard **guard, struct pj_error *error)
{
    struct pj_guard_options options = {.argv = start->app->argv,
                                       .timeout_ms = start->app->config.apply_timeout_ms,
                                       .stop = &start->app->stop,
                                       .log = &start->app->log};
    if (start->guilty)
        pj_log(&start->app->log, PJ_LOG_ERROR, "the daemon has restarted itself because of projection %s: %s",
               start->guilt.projection, start->guilt.what);
    return pj_guard_start(guard, &options, error);
}

int pj_run(struct pj_app *app, struct pj_error *error)
{
    struct run run = {.retrier_lock = PTHREAD_MUTEX_INITIALIZER};
    struct pj_guard *guard = NULL;
    int code = pj_start_open(&run.start, app, true, error);
    run.start.guilty = pj_guard_guilty(&run.start.guilt);
    pj_former_images_find(&run.start.former);
    if (code == PJ_OK)
        code = watch_modules(&run.start, &guard, error);
    pj_reload_init(&run.reload, app);
    run.start.deploy = pj_reload_deploy_anyhow;
    run.start.deploy_context = &run.reload;
    if (code == PJ_OK) {
        say_hello(&run.start);
        code = pj_start_make_ready(&run.start, error);
        pj_former_images_close(&run.start.former);
    }
    if (code == PJ_OK)
        code = stream_on(&run, error);
    if (code == PJ_ESTALE)
        return superseded(&run.start, error);
    pj_waker_set(&app->hup, NULL, NULL);
    bool left_behind = !pj_registrar_stop(run.registrar);
    code = logged(&run.start, code, error);
    pj_guard_stop(guard);
    pj_start_close(&run.start);
    if (left_behind) /* it still uses what is here, so all goes with the process */
        _exit(pj_code_exit(code));
    pj_handover_free(run.handover);
    pj_reload_free(&run.reload);
    pthread_mutex_destroy(&run.retrier_lock);
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
