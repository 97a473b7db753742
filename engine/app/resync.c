/* `resync`: a daemon that does nothing else, and ends. It holds the daemon's lock and keeps the daemon's row, so that
 * `status` says what goes on. */
#include "app/app.h"
#include "app/start.h"

#include <stdio.h>
#include <string.h>

static int require_complete(struct pj_app *app, struct pj_error *error)
{
    struct pj_session *read;
    int code = pj_app_connect(app, PJ_READ, "resync", 30000, &read, error);
    if (code == PJ_OK)
        code = pj_start_require_complete(read, error);
    pj_session_close(read);
    return code;
}

int pj_resync(struct pj_app *app, struct pj_error *error)
{
    return pj_resync_after(app, NULL, NULL, error);
}

int pj_resync_after(struct pj_app *app, pj_start_prepare prepare, void *context, struct pj_error *error)
{
    struct pj_start start;
    int code = pj_start_open(&start, app, false, error);
    start.resync = start.keeps_row = true;
    start.prepare = prepare;
    start.prepare_context = context;
    if (code == PJ_OK)
        code = require_complete(app, error);
    if (code == PJ_EUNREACHABLE && app->options.wait_ms) /* it is waited for below, and looked at there */
        code = PJ_OK;
    if (code == PJ_OK)
        code = pj_start_make_ready(&start, error);
    if (code == PJ_OK) {
        pj_state_set(start.state, PJ_STOPPED, "resync complete", "");
        printf("resynced at LSN %s, slot %s\n", PJ_LSN(start.checkpoint.lsn), start.checkpoint.slot);
    } else {
        pj_state_set(start.state, PJ_STOPPED, error->message, error->hint);
    }
    pj_start_close(&start);
    return code;
}
