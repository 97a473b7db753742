/* What `doctor` examines on the write database. */
#include "app/doctor.h"

#include "base/clock.h"
#include "core/source.h"
#include "sql.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { ANSWER_MS = 10000, TRIAL_WAIT_MS = 3000 };

static const char *field(const PGresult *row, const char *name)
{
    return PQgetvalue(row, 0, PQfnumber(row, name));
}

static bool is_true(const PGresult *row, const char *name)
{
    return field(row, name)[0] == 't';
}

static void check_version(struct pj_doctor *doctor, const PGresult *row)
{
    bool good = atoi(field(row, "version_number")) >= 120000;
    pj_doctor_add(doctor, good ? PJ_FINE : PJ_FAIL, "write: version", good ? NULL : "PostgreSQL 12 or newer is needed",
                  "PostgreSQL %s", field(row, "version"));
    if (is_true(row, "standby"))
        pj_doctor_add(doctor, PJ_FAIL, "write: primary", "point WRITE_DATABASE_URL at the primary",
                      "the server is a standby");
}

static void check_settings(struct pj_doctor *doctor, const PGresult *row)
{
    bool logical = strcmp(field(row, "wal_level"), "logical") == 0;
    pj_doctor_add(doctor, logical ? PJ_FINE : PJ_FAIL, "write: wal_level",
                  logical ? NULL : "ALTER SYSTEM SET wal_level = logical, then restart the server", "%s",
                  field(row, "wal_level"));
    bool utf8 = strcmp(field(row, "encoding"), "UTF8") == 0;
    pj_doctor_add(doctor, utf8 ? PJ_FINE : PJ_FAIL, "write: encoding",
                  utf8 ? NULL : "only UTF8 databases can be followed", "%s", field(row, "encoding"));
}

static void check_libraries(struct pj_doctor *doctor, const PGresult *row)
{
    if (PQgetisnull(row, 0, PQfnumber(row, "libraries")))
        return; /* a server that has no such setting needs none */
    bool good = is_true(row, "libraries_fit");
    pj_doctor_add(doctor, good ? PJ_FINE : PJ_FAIL, "write: plugin allowed",
                  good ? NULL
                       : "as a superuser: ALTER SYSTEM SET output_plugin_libraries = pgoutput, test_decoding, wal2json "
                         "(a list without quotes), then SELECT pg_reload_conf()",
                  "output_plugin_libraries is %s", field(row, "libraries"));
}

static void check_role(struct pj_doctor *doctor, const PGresult *row)
{
    const char *role = field(row, "role");
    if (!is_true(row, "replication"))
        pj_doctor_add(doctor, PJ_FAIL, "write: role", "ALTER ROLE … REPLICATION", "%s has no REPLICATION attribute",
                      role);
    else if (is_true(row, "superuser"))
        pj_doctor_add(doctor, PJ_WARN, "write: role", "use a role with REPLICATION, and SELECT on the mirrored tables",
                      "%s is a superuser", role);
    else
        pj_doctor_add(doctor, PJ_FINE, "write: role", NULL, "%s, REPLICATION", role);
}

/* The fence of `verify` creates a temporary slot beside the daemon's, on a walsender of its own. */
static void check_room(struct pj_doctor *doctor, const char *check, const char *what, int spare, int most,
                       const char *remedy)
{
    int needed = 2; /* ours, if it is not there yet, and the fence's; where ours exists one will do */
    if (spare >= needed)
        pj_doctor_add(doctor, PJ_FINE, check, NULL, "%d of %d spare", spare, most);
    else
        pj_doctor_add(doctor, spare > 0 ? PJ_WARN : PJ_FAIL, check, remedy,
                      "%d of %d spare; the daemon needs one %s, `verify` another", spare, most, what);
}

static void check_rooms(struct pj_doctor *doctor, const PGresult *row)
{
    check_room(doctor, "write: slots", "slot", atoi(field(row, "spare_slots")), atoi(field(row, "max_slots")),
               "raise max_replication_slots (needs a restart), or drop slots that nobody uses");
    check_room(doctor, "write: walsenders", "walsender", atoi(field(row, "spare_senders")),
               atoi(field(row, "max_senders")), "raise max_wal_senders (needs a restart)");
}

static void check_limits(struct pj_doctor *doctor, const PGresult *row)
{
    const char *keep = field(row, "keep_size");
    bool endless = strcmp(keep, "-1") == 0;
    pj_doctor_add(doctor, endless ? PJ_WARN : PJ_FINE, "write: retained WAL",
                  endless
                      ? "set max_slot_wal_keep_size to what the disk can spare: a slot that nobody reads would fill it"
                      : NULL,
                  "max_slot_wal_keep_size is %s", endless ? "-1: no limit" : keep);
    int timeout = atoi(field(row, "sender_timeout_ms"));
    if (timeout > 0 && timeout < 10000)
        pj_doctor_add(doctor, PJ_WARN, "write: wal_sender_timeout", "60 s, the default, is a good value",
                      "%d ms is short: a stutter of the network ends the stream", timeout);
    else if (timeout == 0)
        pj_doctor_add(doctor, PJ_WARN, "write: wal_sender_timeout", "60 s, the default, is a good value",
                      "off: the walsender of a vanished daemon keeps the slot");
}

static void check_open_transactions(struct pj_doctor *doctor, const PGresult *row)
{
    if (*field(row, "prepared"))
        pj_doctor_add(
            doctor, PJ_WARN, "write: prepared", "COMMIT PREPARED or ROLLBACK PREPARED what nobody will finish",
            "prepared transactions older than a minute hold up slots and `verify`: %s", field(row, "prepared"));
    if (*field(row, "open_transactions"))
        pj_doctor_add(doctor, PJ_WARN, "write: transactions", "end them before a first start or a `verify`",
                      "open for more than a minute: %s", field(row, "open_transactions"));
}

static void check_row(struct pj_doctor *doctor, const PGresult *row)
{
    doctor->write_skew_us = strtoll(field(row, "clock_us"), NULL, 10) - pj_clock_wall_us();
    check_version(doctor, row);
    check_settings(doctor, row);
    check_libraries(doctor, row);
    check_role(doctor, row);
    pj_doctor_check_sessions(doctor, "write: sessions", doctor->write, is_true(row, "sees_sessions"));
    check_rooms(doctor, row);
    check_limits(doctor, row);
    check_open_transactions(doctor, row);
}

/* -------------------------------------------------------------------------------------------------- a trial slot */

static int try_slot(struct pj_doctor *doctor, struct pj_error *error)
{
    struct pj_session_options options = {.side = PJ_WRITE,
                                         .url = pj_config_get(&doctor->app->config, PJ_SET_WRITE_URL),
                                         .purpose = "doctor",
                                         .replication = true,
                                         .stop = &doctor->app->stop};
    struct pj_session *replication;
    int code = pj_session_open(&replication, &options, error);
    if (code != PJ_OK)
        return pj_error_wrap(error, "replication connection");
    char name[64], snapshot[64];
    snprintf(name, sizeof name, "pgprojector_doctor_%d", (int)getpid());
    pj_lsn point;
    code = pj_slot_create(replication, doctor->write, name, "wal2json", true, TRIAL_WAIT_MS, &point, snapshot, error);
    pj_session_close(replication); /* and with it the slot */
    return code;
}

/* Transactions in the way say nothing of the plugin, but much of how long a first start would wait. */
static void check_plugin(struct pj_doctor *doctor)
{
    struct pj_error error;
    int code = try_slot(doctor, &error);
    if (code == PJ_OK)
        pj_doctor_add(doctor, PJ_FINE, "write: plugin", NULL, "wal2json works: a temporary slot could be created");
    else
        pj_doctor_add_error(doctor, code == PJ_EUNREACHABLE ? PJ_WARN : PJ_FAIL, "write: plugin", &error);
}

void pj_doctor_examine_write(struct pj_doctor *doctor)
{
    struct pj_error error;
    PGresult *row;
    int code = pj_app_connect(doctor->app, PJ_WRITE, "doctor", ANSWER_MS, &doctor->write, &error);
    if (code == PJ_OK)
        code = pj_session_query_row(doctor->write, &row, pj_sql_doctor_write, 0, NULL, &error);
    if (code != PJ_OK) {
        pj_doctor_add_error(doctor, PJ_FAIL, "write: connection", &error);
        return;
    }
    bool worth_trying = strcmp(field(row, "wal_level"), "logical") == 0 && is_true(row, "replication") &&
                        atoi(field(row, "spare_slots")) > 0 && atoi(field(row, "spare_senders")) > 0;
    check_row(doctor, row);
    PQclear(row);
    if (worth_trying)
        check_plugin(doctor);
}
