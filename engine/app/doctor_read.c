/* What `doctor` examines on the read database. */
#include "app/doctor.h"
#include "app/status.h"
#include "base/clock.h"
#include "base/mem.h"
#include "pg/quote.h"
#include "sql.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { ANSWER_MS = 10000 };

static const char *field(const PGresult *row, const char *name)
{
    return PQgetvalue(row, 0, PQfnumber(row, name));
}

static bool is_true(const PGresult *row, const char *name)
{
    return field(row, name)[0] == 't';
}

static void check_server(struct pj_doctor *doctor, const PGresult *row)
{
    bool good = atoi(field(row, "version_number")) >= 120000;
    pj_doctor_add(doctor, good ? PJ_FINE : PJ_FAIL, "read: version", good ? NULL : "PostgreSQL 12 or newer is needed",
                  "PostgreSQL %s", field(row, "version"));
    bool utf8 = strcmp(field(row, "encoding"), "UTF8") == 0;
    pj_doctor_add(doctor, utf8 ? PJ_FINE : PJ_FAIL, "read: encoding",
                  utf8 ? NULL : "create the read database WITH ENCODING 'UTF8'", "%s", field(row, "encoding"));
    if (is_true(row, "standby"))
        pj_doctor_add(doctor, PJ_FAIL, "read: primary", "point READ_DATABASE_URL at the primary",
                      "the server is a standby");
    if (is_true(row, "read_only"))
        pj_doctor_add(doctor, PJ_FAIL, "read: writable", "ALTER ROLE … SET default_transaction_read_only = off",
                      "default_transaction_read_only is on");
}

static void check_role(struct pj_doctor *doctor, const PGresult *row)
{
    bool superuser = is_true(row, "superuser");
    pj_doctor_add(doctor, superuser ? PJ_WARN : PJ_FINE, "read: role",
                  superuser ? "use a role that owns what it writes and nothing else" : NULL, "%s%s", field(row, "role"),
                  superuser ? " is a superuser" : "");
}

/* The remedy of a missing privilege, ready to be pasted: the caller frees it. */
static char *grant(struct pj_doctor *doctor, const char *what, const char *on)
{
    struct pj_buf sql = {0};
    pj_buf_printf(&sql, "GRANT %s ", what);
    pj_quote_identifier(&sql, on);
    pj_buf_puts(&sql, " TO ");
    pj_quote_identifier(&sql, PQuser(pj_session_conn(doctor->read)));
    return pj_buf_take(&sql);
}

static void check_privileges(struct pj_doctor *doctor, const PGresult *row)
{
    const char *schema = pj_config_get(&doctor->app->config, PJ_SET_SCHEMA);
    char *on_database = grant(doctor, "CREATE ON DATABASE", PQdb(pj_session_conn(doctor->read)));
    char *on_schema = grant(doctor, "USAGE, CREATE ON SCHEMA", schema);
    if (is_true(row, "has_catalog") && !is_true(row, "owns_catalog"))
        pj_doctor_add(doctor, PJ_FAIL, "read: catalog",
                      "run as the role that owns schema pgprojector, or be granted it",
                      "schema pgprojector belongs to another role");
    else if (!is_true(row, "has_catalog") && !is_true(row, "may_create_schema"))
        pj_doctor_add(doctor, PJ_FAIL, "read: catalog", on_database, "%s may not create the schema pgprojector",
                      field(row, "role"));
    if (!PQgetisnull(row, 0, PQfnumber(row, "may_create_tables")) && !is_true(row, "may_create_tables"))
        pj_doctor_add(doctor, PJ_FAIL, "read: schema", on_schema, "%s may not create tables in schema %s",
                      field(row, "role"), schema);
    pj_free(on_database);
    pj_free(on_schema);
}

/* Lag is measured by each server's own clock, so a skew does no harm; it confuses whoever reads the logs. */
static void check_clocks(struct pj_doctor *doctor)
{
    if (!doctor->write)
        return;
    double skew = (double)(doctor->write_skew_us - doctor->read_skew_us) / 1e6;
    bool apart = skew > 1 || skew < -1;
    pj_doctor_add(doctor, apart ? PJ_WARN : PJ_FINE, "clocks", apart ? "let both servers follow NTP" : NULL,
                  "the write database's clock is %.2f s %s the read database's", skew < 0 ? -skew : skew,
                  skew < 0 ? "behind" : "ahead of");
}

static void check_row(struct pj_doctor *doctor, const PGresult *row)
{
    doctor->read_skew_us = strtoll(field(row, "clock_us"), NULL, 10) - pj_clock_wall_us();
    check_server(doctor, row);
    check_role(doctor, row);
    check_privileges(doctor, row);
    pj_doctor_check_sessions(doctor, "read: sessions", doctor->read, is_true(row, "sees_sessions"));
    check_clocks(doctor);
}

/* Where it is the write database, nothing else that could be said of it is of use, and much would be wrong. */
static bool check_apart(struct pj_doctor *doctor)
{
    struct pj_error error;
    if (!doctor->write || pj_catalog_check_apart(doctor->write, doctor->read, &error) == PJ_OK)
        return true;
    pj_doctor_add_error(doctor, PJ_FAIL, "databases", &error);
    pj_session_close(doctor->read);
    doctor->read = NULL;
    return false;
}

/* ------------------------------------------------------------------------------------------------- slot and daemon */

static void check_catalog(struct pj_doctor *doctor)
{
    struct pj_error error;
    bool installed;
    if (pj_catalog_read(doctor->read, &doctor->checkpoint, &installed, &error) != PJ_OK) {
        pj_doctor_add_error(doctor, PJ_FAIL, "read: catalog", &error);
        return;
    }
    doctor->installed = installed;
    doctor->initialised = installed && doctor->checkpoint.complete;
    if (doctor->initialised)
        pj_doctor_add(doctor, PJ_FINE, "read: catalog", NULL, "initialised, at LSN %s", PJ_LSN(doctor->checkpoint.lsn));
    else
        pj_doctor_add(doctor, PJ_FINE, "read: catalog", NULL, "not initialised yet: `run` will do it");
}

static void check_slot(struct pj_doctor *doctor, const struct pj_status *status)
{
    const struct pj_slot *slot = &status->slot;
    const char *remedy = "stop the daemon and run `pgprojector resync`, then start it again";
    if (!slot->exists)
        pj_doctor_add(doctor, PJ_FAIL, "slot", remedy, "%s does not exist", status->slot_name);
    else if (strcmp(slot->wal_status, "lost") == 0)
        pj_doctor_add(doctor, PJ_FAIL, "slot", remedy, "%s is lost: WAL that it needed was removed", status->slot_name);
    else if (pj_status_slot_in_danger(slot))
        pj_doctor_add(doctor, PJ_WARN, "slot", pj_status_slot_remedy,
                      "%s may be lost: it retains %lld MB of WAL, and is lost at %lld MB more", status->slot_name,
                      (long long)(slot->retained_bytes >> 20),
                      (long long)(slot->safe_bytes > 0 ? slot->safe_bytes >> 20 : 0));
    else
        pj_doctor_add(doctor, slot->retained_bytes > INT64_C(1) << 30 ? PJ_WARN : PJ_FINE, "slot",
                      slot->retained_bytes > INT64_C(1) << 30 ? "is the daemon running and keeping up?" : NULL,
                      "%s, %s, retains %lld MB of WAL", status->slot_name, slot->active ? "active" : "inactive",
                      (long long)(slot->retained_bytes >> 20));
}

static void check_daemon(struct pj_doctor *doctor, const struct pj_status *status)
{
    bool halted = status->running && strcmp(status->state, "halted") == 0;
    if (halted)
        pj_doctor_add(doctor, PJ_FAIL, "daemon", status->hint, "halted: %s", status->message);
    else if (status->healthy)
        pj_doctor_add(doctor, PJ_FINE, "daemon", NULL, "streaming, pid %d on %s", status->pid, status->host);
    else
        pj_doctor_add(doctor, PJ_WARN, "daemon", status->stall.seconds > 0 ? status->stall.hint : status->hint,
                      "%s%s%s", status->reason, status->message[0] ? ": " : "", status->message);
}

static void check_dead_letters(struct pj_doctor *doctor, const struct pj_status *status)
{
    if (status->dead_letters)
        pj_doctor_add(
            doctor, PJ_WARN, "dead letters",
            "`pgprojector deadletters show` says why; mend the cause, then `pgprojector deadletters retry --all`",
            "keys that could not be written: %lld", (long long)status->dead_letters);
}

static void check_replication(struct pj_doctor *doctor)
{
    struct pj_status status;
    pj_status_gather(doctor->app, &status);
    if (status.read.code == PJ_OK && status.write.code == PJ_OK) {
        check_slot(doctor, &status);
        check_daemon(doctor, &status);
        check_dead_letters(doctor, &status);
    }
    pj_status_free(&status);
}

void pj_doctor_examine_read(struct pj_doctor *doctor)
{
    struct pj_error error;
    PGresult *row = NULL;
    const char *params[] = {pj_config_get(&doctor->app->config, PJ_SET_SCHEMA)};
    int code = pj_app_connect(doctor->app, PJ_READ, "doctor", ANSWER_MS, &doctor->read, &error);
    if (code == PJ_OK && !check_apart(doctor))
        return;
    if (code == PJ_OK)
        code = pj_session_query_row(doctor->read, &row, pj_sql_doctor_read, 1, params, &error);
    if (code != PJ_OK) {
        pj_doctor_add_error(doctor, PJ_FAIL, "read: connection", &error);
        return;
    }
    check_row(doctor, row);
    PQclear(row);
    check_catalog(doctor);
    if (doctor->initialised)
        check_replication(doctor);
}
