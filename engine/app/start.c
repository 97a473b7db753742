/*
 * See start.h. Two stages, each repeated with backoff while its database is down:
 *
 *   read side    connect, install the catalog, take the daemon's lock (or stand by until it is free), take over: raise
 * the epoch, read the checkpoint write side   connect, check what streaming needs, load modules, read and bind the
 * tables; where there is no complete checkpoint run the first start; check mirrors and targets
 *
 * The read session, and with it the lock, is kept while the write database is waited for. The control thread, which
 * writes the daemon's row, runs only while the lock is held: a daemon standing by must not write over the active one's.
 *
 * What waiting can mend (a retryable error, an unreachable database) is logged once and now and then (base/causes.h) and
 * tried again; everything else ends the attempt. A first start that failed left no slot (core/snapshot.h).
 */
#include "app/start.h"

#include "app/deployment.h"
#include "app/progress.h"
#include "base/clock.h"
#include "base/mem.h"
#include "core/pause.h"
#include "core/roster.h"
#include "core/source.h"
#include "core/standing.h"

#include <stdio.h>
#include <string.h>

enum { STANDBY_POLL_MS = 1000, GRACE_MS = 3000, GRACE_POLL_MS = 100, STEP_TIMEOUT_MS = 60000 };

/* The setup is opened later; a zeroed one may be closed. */
static int make_outfit(struct pj_start *start, struct pj_error *error)
{
    pj_outfit_free(start->outfit);
    start->outfit = pj_alloc(sizeof *start->outfit);
    struct pj_deployment *deployment = &start->outfit->deployment;
    return start->deploy ? start->deploy(start->deploy_context, deployment, error)
                         : pj_deployment_make(deployment, &start->app->config, error);
}

int pj_start_open(struct pj_start *start, struct pj_app *app, bool daemon, struct pj_error *error)
{
    *start = (struct pj_start){.app = app, .daemon = daemon, .keeps_row = daemon};
    start->state = pj_state_new();
    start->gate = pj_gate_new();
    if (!daemon)
        start->deadline_us = pj_clock_monotonic_us() + (uint64_t)app->options.wait_ms * 1000 + 1;
    return make_outfit(start, error);
}

static void close_read(struct pj_start *start)
{
    pj_control_stop(start->control);
    start->control = NULL;
    pj_session_close(start->read);
    start->read = NULL;
}

void pj_start_close(struct pj_start *start)
{
    pj_outfit_free(start->outfit);
    close_read(start);
    pj_gate_free(start->gate);
    pj_state_free(start->state);
}

/* -------------------------------------------------------------------------------------------------------- waiting */

static bool worth_waiting(const struct pj_error *error)
{
    return error->retryable || error->code == PJ_EUNREACHABLE;
}

/* Never longer than the time that is left. */
static int next_wait(struct pj_start *start)
{
    int wait = pj_backoff_next(&start->backoff);
    if (!start->deadline_us)
        return wait;
    uint64_t now = pj_clock_monotonic_us();
    int left = now < start->deadline_us ? (int)((start->deadline_us - now) / 1000) + 1 : 0;
    return left < wait ? left : wait;
}

/* Logs each cause once, and waits; PJ_OK: try again. Else the error stays what it was, or says that a stop was asked. */
static int wait_for_better(struct pj_start *start, struct pj_error *error)
{
    if (!worth_waiting(error))
        return error->code;
    if (start->deadline_us && pj_clock_monotonic_us() >= start->deadline_us)
        return error->code;
    if (pj_causes_news(&start->causes, error, pj_clock_monotonic_us(), 0)) {
        pj_log(&start->app->log, PJ_LOG_WARNING, "waiting: %s", error->message);
        if (error->hint[0])
            pj_log(&start->app->log, PJ_LOG_WARNING, "HINT: %s", error->hint);
        start->waited = true;
        pj_backoff_reset(&start->backoff);
    }
    pj_state_set(start->state, PJ_WAITING, error->message, error->hint);
    return pj_stop_sleep(&start->app->stop, next_wait(start), error);
}

static void waited_enough(struct pj_start *start)
{
    if (start->waited)
        pj_log(&start->app->log, PJ_LOG_INFO, "going on");
    start->waited = false;
    pj_causes_over(&start->causes);
    pj_backoff_reset(&start->backoff);
}

/* ------------------------------------------------------------------------------------------------------ read side */

/* Where waiting for the lock is not what is wanted. */
static int refuse_second(const struct pj_start *start, const char *holder, struct pj_error *error)
{
    pj_error_set(error, PJ_EFAIL, "another daemon is at work on this read database: %s", holder);
    return pj_error_hint(error, start->resync ? "stop it first; with on_gap = resync it does by itself what is needed"
                                              : "where `pgprojector run` has been started, `init` is not needed; see "
                                                "`pgprojector status`");
}

/* Polls for the lock. While another daemon has it, nothing is written. A command refuses, but not at once: of a process
 * that was killed a moment ago the server may still be at its last statement. */
static int take_lock(struct pj_start *start, struct pj_error *error)
{
    bool told = false;
    uint64_t refuse_us = pj_clock_monotonic_us() + (uint64_t)GRACE_MS * 1000;
    for (;;) {
        bool mine;
        char *holder = NULL;
        int code = pj_catalog_lock(start->read, &mine, &holder, error);
        if (code == PJ_OK && !mine && !start->daemon && pj_clock_monotonic_us() >= refuse_us)
            code = refuse_second(start, holder ? holder : "unknown", error);
        if (code == PJ_OK && !mine && !told)
            pj_log(&start->app->log, PJ_LOG_INFO, "standby: waiting: another daemon holds the read database%s%s",
                   holder ? ": " : "", holder ? holder : "");
        told = told || (code == PJ_OK && !mine);
        if (code == PJ_OK && !mine)
            pj_state_set(start->state, PJ_STANDBY, holder ? holder : "another daemon", "");
        pj_free(holder);
        if (code != PJ_OK || mine)
            return code;
        code = pj_stop_sleep(&start->app->stop, start->daemon ? STANDBY_POLL_MS : GRACE_POLL_MS, error);
        if (code != PJ_OK)
            return code;
    }
}

static int start_control(struct pj_start *start, struct pj_error *error)
{
    if (!start->keeps_row || start->control)
        return PJ_OK;
    return pj_control_start(&start->control, start->outfit->deployment.read_url, start->state, start->gate,
                            &start->app->log, error);
}

/* What the write database sends is UTF8; anything else could not hold it all, and would say so only at that row. */
static int check_read_encoding(struct pj_session *read, struct pj_error *error)
{
    const char *encoding = PQparameterStatus(pj_session_conn(read), "server_encoding");
    if (encoding && strcmp(encoding, "UTF8") == 0)
        return PJ_OK;
    pj_error_set(error, PJ_ECONFIG, "read database: its encoding is %s, not UTF8", encoding ? encoding : "unknown");
    return pj_error_hint(error, "create the read database WITH ENCODING 'UTF8' TEMPLATE template0");
}

/* Before anything is made there: nothing of what would be said then is the remedy. Where the write database cannot be
 * reached, who needs it says so. */
static int check_apart(struct pj_start *start, struct pj_error *error)
{
    struct pj_checkpoint checkpoint;
    struct pj_session *write = NULL;
    bool installed;
    int code = pj_catalog_read(start->read, &checkpoint, &installed, error);
    if (code != PJ_OK || (installed && checkpoint.complete))
        return code;
    code = pj_app_connect(start->app, PJ_WRITE, "start", STEP_TIMEOUT_MS, &write, error);
    if (code == PJ_OK)
        code = pj_catalog_check_apart(write, start->read, error);
    else if (code != PJ_ESTOPPED)
        code = PJ_OK;
    pj_session_close(write);
    if (code == PJ_OK)
        pj_error_clear(error);
    return code;
}

static int try_read_side(struct pj_start *start, struct pj_error *error)
{
    close_read(start);
    int code = pj_app_connect(start->app, PJ_READ, "apply", STEP_TIMEOUT_MS, &start->read, error);
    if (code == PJ_OK)
        code = check_read_encoding(start->read, error);
    if (code == PJ_OK)
        code = check_apart(start, error);
    if (code == PJ_OK)
        code = pj_catalog_install(start->read, error);
    if (code == PJ_OK)
        code = take_lock(start, error);
    if (code == PJ_OK)
        code = start_control(start, error);
    if (code == PJ_OK) {
        pj_state_set(start->state, PJ_STARTING, "", "");
        code = pj_catalog_take_over(start->read, -1, &start->checkpoint, error);
    }
    if (code == PJ_OK)
        pj_log(&start->app->log, PJ_LOG_DEBUG, "epoch %lld on the read database", (long long)start->checkpoint.epoch);
    return code;
}

static int reach_read_side(struct pj_start *start, struct pj_error *error)
{
    while (try_read_side(start, error) != PJ_OK)
        if (wait_for_better(start, error) != PJ_OK)
            return error->code;
    return PJ_OK;
}

/* ----------------------------------------------------------------------------------------------------- write side */

static int first_start(struct pj_start *start, struct pj_error *error)
{
    const struct pj_deployment *deployment = &start->outfit->deployment;
    struct pj_snapshot_options options = {
        .write_url = deployment->write_url,
        .read_url = deployment->read_url,
        .slot = deployment->slot,
        .plugin = "wal2json",
        .jobs = deployment->jobs,
        .slot_wait_ms = deployment->slot_wait_ms,
        .stop = &start->app->stop,
        .log = &start->app->log,
        .progress = pj_progress_show,
        .context = start,
    };
    pj_log(&start->app->log, PJ_LOG_INFO, "first start: copying %d tables, building %d projections",
           start->outfit->setup.ntables, start->outfit->setup.nprojections);
    pj_state_set(start->state, PJ_SNAPSHOT, "beginning", "");
    pj_session_set_timeout(start->read, 0); /* a copy takes as long as it takes */
    int code = pj_snapshot_run(start->read, start->checkpoint.epoch, &options, start->outfit->setup.tables,
                               start->outfit->setup.ntables, start->outfit->setup.projections,
                               start->outfit->setup.nprojections, error);
    pj_progress_end(start);
    pj_session_set_timeout(start->read, STEP_TIMEOUT_MS);
    if (code != PJ_OK)
        return pj_error_wrap(error, "first start");
    bool installed;
    code = pj_catalog_read(start->read, &start->checkpoint, &installed, error);
    if (code == PJ_OK)
        pj_log(&start->app->log, PJ_LOG_INFO, "first start complete at %s, slot %s", PJ_LSN(start->checkpoint.lsn),
               start->checkpoint.slot);
    return code;
}

static int open_setup(struct pj_start *start, struct pj_error *error)
{
    struct pj_outfit *outfit = start->outfit;
    struct pj_session *write;
    outfit->deployment.adopt_columns = start->resync;
    int code = pj_app_connect(start->app, PJ_WRITE, "start", STEP_TIMEOUT_MS, &write, error);
    if (code != PJ_OK)
        return code;
    code = pj_source_check(write, error);
    if (code == PJ_OK && start->prepare)
        code = start->prepare(start->prepare_context, write, start->read, error);
    if (code == PJ_OK)
        code = pj_standing_roster(start->read, &outfit->roster, error);
    if (code == PJ_OK)
        code = pj_roster_open_again(&outfit->setup, &outfit->deployment, &start->former, write, start->read,
                                    &start->app->log, error);
    pj_session_close(write);
    return code;
}

static int resync(struct pj_start *start, struct pj_error *error)
{
    struct pj_resync_options options = {
        .write_url = start->outfit->deployment.write_url,
        .read_url = start->outfit->deployment.read_url,
        .plugin = "wal2json",
        .slot_wait_ms = start->outfit->deployment.slot_wait_ms,
        .stop = &start->app->stop,
        .log = &start->app->log,
        .progress = pj_progress_show,
        .context = start,
    };
    struct pj_resynced done;
    pj_log(&start->app->log, PJ_LOG_INFO, "resync: comparing %d tables with a new snapshot of the write database",
           start->outfit->setup.ntables);
    pj_state_set(start->state, PJ_SNAPSHOT, "resync: beginning", "");
    int code = pj_setup_check_resync(&start->outfit->setup, start->read, error);
    pj_session_set_timeout(start->read, 0);
    if (code == PJ_OK)
        code = pj_resync_run(start->read, start->checkpoint.epoch, &options, &start->outfit->setup, &done, error);
    pj_progress_end(start);
    pj_session_set_timeout(start->read, STEP_TIMEOUT_MS);
    if (code != PJ_OK)
        return code;
    start->resync = false;
    start->outfit->deployment.adopt_columns = false;
    pj_log(&start->app->log, PJ_LOG_INFO, "resync complete at %s: %lld rows of mirrors mended, %lld of projections",
           PJ_LSN(done.lsn), (long long)done.rows, (long long)done.target_rows);
    bool installed;
    return pj_catalog_read(start->read, &start->checkpoint, &installed, error);
}

/* The name belongs to what has been applied; another one would be another position. */
static void warn_of_other_slot(const struct pj_start *start)
{
    const char *wanted = start->outfit->deployment.slot, *has = start->checkpoint.slot;
    if (start->checkpoint.complete && wanted && *wanted && strcmp(wanted, has) != 0)
        pj_log(&start->app->log, PJ_LOG_WARNING,
               "slot = %s is ignored: what has been applied belongs to slot %s; another name needs a new start "
               "(README, \"Starting anew\")",
               wanted, has);
}

/* What was being built beside: its request ends with this as its reason, and what served goes on. */
static int give_up_guilty(struct pj_start *start, struct pj_error *error)
{
    const struct pj_guilt *guilt = &start->guilt;
    bool found;
    int code = pj_pause_guilty(start->read, guilt, guilt->what, &found, error);
    if (code != PJ_OK)
        return code;
    start->guilty = false;
    pj_log(&start->app->log, PJ_LOG_ERROR, "the build of %s is given up: %s", guilt->projection, guilt->what);
    return PJ_OK;
}

/* Before anything is streamed: its apply() must not be called again. */
static int pause_guilty(struct pj_start *start, struct pj_error *error)
{
    const struct pj_guilt *guilt = &start->guilt;
    const struct pj_log *log = &start->app->log;
    bool found;
    char *reason =
        pj_sprintf("%s; mend and replace the module, then run pgprojector resume %s", guilt->what, guilt->projection);
    int code = pj_pause_guilty(start->read, guilt, reason, &found, error);
    pj_free(reason);
    if (code != PJ_OK)
        return code;
    start->guilty = false;
    pj_log(log, PJ_LOG_ERROR, "projection %s is paused: %s", guilt->projection, guilt->what);
    pj_log(log, PJ_LOG_ERROR,
           "HINT: mend and replace the module, then run `pgprojector resume %s`, which has the new file loaded; the "
           "others go on, "
           "and apply() is not called until then",
           guilt->projection);
    return PJ_OK;
}

int pj_start_refuse_resync(struct pj_error *error)
{
    pj_error_set(error, PJ_EFAIL, "there is nothing to resync: the first start is not complete");
    return pj_error_hint(error,
                         "`pgprojector run` or `pgprojector init` makes it, and begins anew where it was interrupted");
}

int pj_start_require_complete(struct pj_session *read, struct pj_error *error)
{
    struct pj_checkpoint checkpoint = {0};
    bool installed;
    int code = pj_catalog_read(read, &checkpoint, &installed, error);
    return code != PJ_OK || checkpoint.complete ? code : pj_start_refuse_resync(error);
}

static int try_write_side(struct pj_start *start, struct pj_error *error)
{
    if (start->resync && !start->daemon && !start->checkpoint.complete)
        return pj_start_refuse_resync(error);
    pj_setup_close(&start->outfit->setup);
    int code = open_setup(start, error);
    if (code == PJ_OK)
        warn_of_other_slot(start);
    if (code == PJ_OK && start->checkpoint.complete && start->resync)
        code = resync(start, error);
    if (code == PJ_OK && !start->checkpoint.complete)
        code = first_start(start, error);
    if (code == PJ_OK)
        code = pj_setup_check_read(&start->outfit->setup, start->read, error);
    if (code == PJ_OK && start->guilty)
        code = strchr(start->guilt.projection, '.') ? give_up_guilty(start, error) : pause_guilty(start, error);
    if (code == PJ_OK && start->daemon)
        code = pj_roster_stand_still(&start->outfit->setup, &start->outfit->deployment, start->read, &start->app->log,
                                     error);
    if (code == PJ_OK)
        code = pj_catalog_note_leaves(start->read, start->outfit->setup.tables, start->outfit->setup.ntables, error);
    return code;
}

/* Whether the read session, and with it the lock, is still good; ends a transaction that an error left open. */
static bool read_side_lives(struct pj_start *start)
{
    struct pj_error ignored;
    bool idle = PQtransactionStatus(pj_session_conn(start->read)) == PQTRANS_IDLE;
    return pj_session_exec(start->read, idle ? "SELECT 1" : "ROLLBACK", &ignored) == PJ_OK;
}

static int reach_write_side(struct pj_start *start, struct pj_error *error)
{
    while (try_write_side(start, error) != PJ_OK) {
        if (wait_for_better(start, error) != PJ_OK)
            return error->code;
        if (!read_side_lives(start) && reach_read_side(start, error) != PJ_OK)
            return error->code;
    }
    waited_enough(start);
    return PJ_OK;
}

int pj_start_make_ready(struct pj_start *start, struct pj_error *error)
{
    int code = reach_read_side(start, error);
    if (code != PJ_OK)
        return code;
    waited_enough(start);
    return reach_write_side(start, error);
}

int pj_start_again(struct pj_start *start, struct pj_error *error)
{
    close_read(start);
    return make_outfit(start, error);
}
