/* What `status` concludes of a daemon that stands still. */
#include "app/status.h"

#include <criterion/criterion.h>
#include <string.h>

static struct pj_status streaming(void)
{
    struct pj_status status = {.installed = true, .daemon_known = true, .connected = true, .state = "streaming"};
    status.read.reachable = status.write.reachable = true;
    status.checkpoint.complete = true;
    status.slot.exists = status.slot.active = true;
    return status;
}

static void stall(struct pj_status *status, const char *kind, const char *event, const char *holders)
{
    status->stall.seconds = 41;
    pj_stall_describe(&status->stall, "pgprojector apply", "7", kind, event, holders);
}

static void expect_words(const struct pj_stall *stall, const char *message, const char *hint)
{
    cr_assert(strstr(stall->message, message), "%s", stall->message);
    cr_assert(strstr(stall->hint, hint), "%s", stall->hint);
}

Test(status, a_short_wait_is_no_alarm)
{
    struct pj_status status = streaming();
    stall(&status, "Lock", "relation", "pid 8 (joe)");
    pj_status_conclude(&status);
    cr_assert(status.healthy && status.running && !status.silent);
}

Test(status, lag_is_told_with_its_cause)
{
    struct pj_status status = streaming();
    status.checkpoint.lsn = status.checkpoint.witness_lsn = 100;
    status.checkpoint.witness_time_us = 1;
    status.current_lsn = 200;
    status.commit_age_s = 41;
    stall(&status, "Lock", "relation", "pid 8 (joe)");
    pj_status_conclude(&status);
    cr_assert(!status.healthy);
    cr_assert(strstr(status.reason, "lags behind: pgprojector apply (pid 7"), "%s", status.reason);
    cr_assert(strstr(status.reason, "has waited for 41 s for a lock that pid 8 (joe) has"), "%s", status.reason);
}

Test(status, a_daemon_that_cannot_report_is_not_called_gone)
{
    struct pj_status status = streaming();
    status.heartbeat_age_s = 40;
    stall(&status, "LWLock", "WALWrite", "");
    pj_status_conclude(&status);
    cr_assert(status.silent && !status.running && !status.healthy);
    cr_assert(strstr(status.reason, "the daemon does not report: pgprojector apply"), "%s", status.reason);
}

Test(status, nor_is_one_that_is_frozen)
{
    struct pj_status status = streaming();
    status.heartbeat_age_s = 40;
    pj_status_conclude(&status);
    cr_assert_str_eq(status.reason, "the daemon does not report");
}

Test(status, one_that_is_gone_is_called_so)
{
    struct pj_status gone = streaming(), stopped = streaming();
    gone.heartbeat_age_s = stopped.heartbeat_age_s = 40;
    gone.connected = false;
    strcpy(stopped.state, "stopped");
    stall(&stopped, "IPC", "SyncRep", "");
    pj_status_conclude(&gone);
    pj_status_conclude(&stopped);
    cr_assert_str_eq(gone.reason, "the daemon is not running");
    cr_assert_str_eq(stopped.reason, "the daemon is not running");
}

Test(status, names_what_is_waited_for)
{
    struct pj_status status = streaming();
    stall(&status, "IPC", "SyncRep", "");
    expect_words(&status.stall, "for a synchronous standby", "synchronous_standby_names");
    stall(&status, "IO", "WALSync", "");
    expect_words(&status.stall, "for that server (IO: WALSync)", "its disk");
    stall(&status, "", "", "");
    expect_words(&status.stall, "has been at one statement for 41 s", "large transaction");
    stall(&status, "Lock", "relation", "");
    expect_words(&status.stall, "a lock that somebody has", "pg_terminate_backend");
}
