/* The two faces of a status: lines for people, one JSON object for programs (its keys are documented in the README). */
#include "app/status.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

/* --------------------------------------------------------------------------------------------------------- people */

static void print_bytes(char *text, size_t size, int64_t bytes)
{
    static const char *const units[] = {"B", "kB", "MB", "GB", "TB"};
    double amount = (double)bytes;
    int unit = 0;
    for (; amount >= 1024 && unit < 4; unit++)
        amount /= 1024;
    snprintf(text, size, unit ? "%.1f %s" : "%.0f %s", amount, units[unit]);
}

static void print_side(const char *name, const struct pj_status_side *side)
{
    if (side->code != PJ_OK)
        printf("%-12s %s: %s\n", name, side->reachable ? "cannot be asked" : "unreachable", side->error);
    if (*side->hint)
        printf("%-12s hint: %s\n", "", side->hint);
}

static void print_stall(const struct pj_status *status)
{
    static const char frozen[] = "its process or machine stands still, or the network between has gone: to end it "
                                 "(kill -9) is safe at any time, then start it again";
    const struct pj_stall *stall = &status->stall;
    if (stall->seconds > 0)
        printf("%-12s %s\n", "", stall->message);
    if (stall->seconds > 0 || status->silent)
        printf("%-12s hint: %s\n", "", stall->seconds > 0 ? stall->hint : frozen);
}

static void print_daemon(const struct pj_status *status)
{
    if (!status->daemon_known) {
        printf("%-12s %s\n", "daemon",
               status->installed ? "has never run" : "not started: no catalog on the read database");
        return;
    }
    if (status->running)
        printf("%-12s %s, pid %d on %s, version %s, since %s\n", "daemon", status->state, status->pid, status->host,
               status->version, status->started_at);
    else
        printf("%-12s %s; last seen %.0f s ago as %s, pid %d on %s\n", "daemon",
               status->silent ? "connected, but silent" : "not running", status->heartbeat_age_s, status->state,
               status->pid, status->host);
    if (status->message[0])
        printf("%-12s %s\n", "", status->message);
    if (status->hint[0])
        printf("%-12s hint: %s\n", "", status->hint);
    print_stall(status);
}

static void print_applied(const struct pj_status *status)
{
    if (!status->checkpoint.complete) {
        printf("%-12s nothing: the first start is not complete\n", "applied");
        return;
    }
    printf("%-12s %s", "applied", PJ_LSN(status->checkpoint.lsn));
    if (status->lag_s < 0) {
        puts("; lag unknown");
        return;
    }
    char bytes[32];
    print_bytes(bytes, sizeof bytes, status->lag_bytes);
    printf("; lag %.1f s, %s\n", status->lag_s, bytes);
}

void pj_status_print_slot(const struct pj_status *status)
{
    const struct pj_slot *slot = &status->slot;
    if (status->write.code != PJ_OK || !status->slot_name[0])
        return;
    if (!slot->exists) {
        printf("%-12s %s does not exist on the write database\n", "slot", status->slot_name);
        return;
    }
    char bytes[32];
    print_bytes(bytes, sizeof bytes, slot->retained_bytes);
    printf("%-12s %s, %s%s%s, retains %s of WAL", "slot", status->slot_name, slot->active ? "active" : "inactive",
           slot->wal_status[0] ? ", WAL " : "", slot->wal_status, bytes);
    if (slot->safe_bytes >= 0) {
        print_bytes(bytes, sizeof bytes, slot->safe_bytes);
        printf(" (%s more until it is lost)", bytes);
    }
    putchar('\n');
    if (pj_status_slot_in_danger(slot))
        printf("%-12s hint: %s\n", "", pj_status_slot_remedy);
}

static const char *text_of(const json_t *object, const char *key)
{
    const char *text = json_string_value(json_object_get(object, key));
    return text ? text : "";
}

static long long number_of(const json_t *object, const char *key)
{
    return (long long)json_integer_value(json_object_get(object, key));
}

static void print_projection(const json_t *item, const json_t *figures, bool first)
{
    const char *state = text_of(item, "state"), *table = text_of(item, "table");
    long long noted = number_of(item, "dirtyKeys"), parked = number_of(item, "deadLetters");
    printf("%-12s %s (", first ? "projections" : "", text_of(item, "name"));
    printf(*table ? "%s.%s" : "no table", text_of(item, "schema"), table);
    printf("): %s", state);
    if (strcmp(state, "live") != 0)
        printf(" since %s", text_of(item, "since"));
    if (strcmp(state, "live") != 0 && strcmp(state, "retired") != 0)
        printf(noted == 1 ? ", %lld change noted" : ", %lld changes noted", noted);
    if (parked)
        printf(parked == 1 ? ", %lld DEAD LETTER (%s)" : ", %lld DEAD LETTERS (%s)", parked,
               "pgprojector deadletters list");
    long long refused = number_of(json_object_get(figures, "refused_rows"), text_of(item, "name"));
    if (refused)
        printf(", its apply() has refused %lld row%s (the log says why)", refused, refused == 1 ? "" : "s");
    putchar('\n');
    if (*text_of(item, "reason"))
        printf("%-12s   because: %s\n", "", text_of(item, "reason"));
}

static void print_job(const json_t *item)
{
    printf("%-12s %s, %s", text_of(item, "kind"), text_of(item, "projection"),
           json_is_true(json_object_get(item, "running")) ? text_of(item, "phase") : "INTERRUPTED: start it again");
    if (number_of(item, "total"))
        printf(", %lld of %lld keys", number_of(item, "done"), number_of(item, "total"));
    if (json_is_number(json_object_get(item, "remainingSeconds")))
        printf(", %.0f a second, %.0f s left", json_number_value(json_object_get(item, "rate")),
               json_number_value(json_object_get(item, "remainingSeconds")));
    putchar('\n');
}

static void print_request(const json_t *item)
{
    printf("%-12s %s %s: %s", "request", text_of(item, "kind"), text_of(item, "module"), text_of(item, "state"));
    if (*text_of(item, "endedAt"))
        printf(" at %s", text_of(item, "endedAt"));
    printf(*text_of(item, "message") ? ": %s\n" : "%s\n", text_of(item, "message"));
    if (*text_of(item, "hint"))
        printf("%-12s   hint: %s\n", "", text_of(item, "hint"));
}

static void print_lists(const struct pj_status *status)
{
    size_t i;
    json_t *item;
    json_array_foreach(status->projections, i, item) print_projection(item, status->figures, i == 0);
    json_array_foreach(status->jobs, i, item) print_job(item);
    json_array_foreach(status->requests, i, item) print_request(item);
    json_array_foreach(status->mirrors, i, item)
        printf("%-12s %s.%s\n", i ? "" : "mirrors", text_of(item, "schema"), text_of(item, "table"));
    json_array_foreach(status->unfit, i, item)
    {
        printf("%-12s %s.%s: %s\n", i ? "" : "not mirrored", text_of(item, "schema"), text_of(item, "table"),
               text_of(item, "reason"));
        printf("%-12s   hint: %s\n", "", text_of(item, "hint"));
    }
}

void pj_status_print(const struct pj_status *status)
{
    printf("%-12s %s%s%s\n", "health", status->healthy ? "healthy" : "not healthy", status->healthy ? "" : ": ",
           status->reason);
    print_side("read side", &status->read);
    print_side("write side", &status->write);
    if (status->read.code == PJ_OK) {
        print_daemon(status);
        print_applied(status);
    }
    pj_status_print_slot(status);
    print_lists(status);
}

/* ------------------------------------------------------------------------------------------------------- programs */

static json_t *lsn_json(pj_lsn lsn)
{
    return lsn ? json_string(PJ_LSN(lsn)) : json_null();
}

static json_t *seconds_json(double seconds)
{
    return seconds < 0 ? json_null() : json_real(round(seconds * 1000) / 1000);
}

static json_t *bytes_json(int64_t bytes)
{
    return bytes < 0 ? json_null() : json_integer(bytes);
}

static json_t *text_json(const char *text)
{
    return *text ? json_string(text) : json_null();
}

static json_t *side_json(const struct pj_status_side *side)
{
    return json_pack("{s:b,s:o,s:o}", "reachable", side->reachable, "error", text_json(side->error), "hint",
                     text_json(side->hint));
}

static json_t *stall_json(const struct pj_stall *stall)
{
    if (stall->seconds <= 0)
        return json_null();
    return json_pack("{s:o,s:s,s:s}", "seconds", seconds_json(stall->seconds), "message", stall->message, "hint",
                     stall->hint);
}

static json_t *daemon_json(const struct pj_status *status)
{
    if (!status->daemon_known)
        return json_pack("{s:b,s:n}", "running", 0, "state");
    return json_pack("{s:b,s:s,s:o,s:o,s:i,s:s,s:s,s:s,s:o,s:o,s:O}", "running", status->running, "state",
                     status->state, "message", text_json(status->message), "hint", text_json(status->hint), "pid",
                     status->pid, "host", status->host, "version", status->version, "startedAt", status->started_at,
                     "heartbeatAgeSeconds", seconds_json(status->heartbeat_age_s), "stall", stall_json(&status->stall),
                     "figures", status->figures ? status->figures : json_null());
}

json_t *pj_status_slot_json(const struct pj_status *status)
{
    const struct pj_slot *slot = &status->slot;
    if (!status->slot_name[0] || status->write.code != PJ_OK)
        return json_pack("{s:o,s:n}", "name", text_json(status->slot_name), "exists");
    if (!slot->exists)
        return json_pack("{s:s,s:b}", "name", status->slot_name, "exists", 0);
    return json_pack("{s:s,s:b,s:b,s:o,s:o,s:o,s:o,s:o}", "name", status->slot_name, "exists", 1, "active",
                     slot->active, "walStatus", text_json(slot->wal_status), "restartLsn", lsn_json(slot->restart),
                     "confirmedFlushLsn", lsn_json(slot->confirmed_flush), "retainedBytes",
                     bytes_json(slot->retained_bytes), "safeBytes", bytes_json(slot->safe_bytes));
}

static json_t *list_json(json_t *list)
{
    return list ? json_incref(list) : json_array();
}

json_t *pj_status_json(const struct pj_status *status)
{
    json_t *replication = json_pack("{s:b,s:o,s:o,s:o,s:o,s:o}", "initialised", status->checkpoint.complete,
                                    "appliedLsn", lsn_json(status->checkpoint.lsn), "currentLsn",
                                    lsn_json(status->current_lsn), "lagSeconds", seconds_json(status->lag_s),
                                    "lagBytes", bytes_json(status->lag_bytes), "slot", pj_status_slot_json(status));
    return json_pack("{s:b,s:o,s:o,s:o,s:o,s:o,s:o,s:o,s:o,s:o,s:o,s:I}", "healthy", status->healthy, "reason",
                     text_json(status->reason), "write", side_json(&status->write), "read", side_json(&status->read),
                     "daemon", daemon_json(status), "replication", replication, "projections",
                     list_json(status->projections), "mirrors", list_json(status->mirrors), "jobs",
                     list_json(status->jobs), "requests", list_json(status->requests), "unfitMirrors",
                     list_json(status->unfit), "deadLetters", (json_int_t)status->dead_letters);
}
