/* See progress.h. */
#include "app/progress.h"

#include "app/start.h"
#include "base/clock.h"

#include <stdio.h>
#include <string.h>
#include <unistd.h>

enum { LOG_EVERY_US = 3000000 };

/* Statistics may be stale, so more rows than expected can come: no more than 99 % is claimed before the end. */
static int percent(const struct pj_snapshot_progress *progress)
{
    if (progress->rows_expected <= 0)
        return -1;
    int64_t value = progress->rows * 100 / progress->rows_expected;
    return value > 99 ? 99 : (int)value;
}

static void describe(const struct pj_snapshot_progress *progress, char *text, size_t size)
{
    int length = snprintf(text, size, "%s%s%s", progress->phase, progress->detail[0] ? " " : "", progress->detail);
    if (length > 0 && (size_t)length < size && progress->rows)
        length += snprintf(text + length, size - (size_t)length, ", %lld rows", (long long)progress->rows);
    if (length > 0 && (size_t)length < size && progress->bytes)
        length += snprintf(text + length, size - (size_t)length, ", %.1f MB", (double)progress->bytes / 1e6);
    if (length > 0 && (size_t)length < size && percent(progress) >= 0)
        snprintf(text + length, size - (size_t)length, ", about %d %%", percent(progress));
}

static void show_in_place(struct pj_start *start, const char *text)
{
    dprintf(start->app->log.fd, "\r\033[K%s", text);
    start->line_open = true;
}

/* Each phase's beginning, and then every few seconds. */
static void show_in_log(struct pj_start *start, const struct pj_snapshot_progress *progress, const char *text)
{
    uint64_t now = pj_clock_monotonic_us();
    bool new_phase = strcmp(start->phase, progress->phase) != 0;
    if (!new_phase && now - start->logged_us < LOG_EVERY_US)
        return;
    start->logged_us = now;
    snprintf(start->phase, sizeof start->phase, "%s", progress->phase);
    pj_log(&start->app->log, PJ_LOG_INFO, "%s", text);
}

void pj_progress_show(void *context, const struct pj_snapshot_progress *progress)
{
    struct pj_start *start = context;
    char text[320];
    describe(progress, text, sizeof text);
    pj_state_set(start->state, PJ_SNAPSHOT, text, "");
    if (isatty(start->app->log.fd))
        show_in_place(start, text);
    else
        show_in_log(start, progress, text);
}

void pj_progress_end(struct pj_start *start)
{
    if (start->line_open)
        dprintf(start->app->log.fd, "\r\033[K");
    start->line_open = false;
}
