/* What `doctor` examines on tables: those the modules and the configuration want, on both sides. */
#include "app/doctor.h"
#include "base/mem.h"
#include "core/joining.h"
#include "core/mirror.h"
#include "core/snapshot_room.h"
#include "sql.h"

#include <jansson.h>
#include <stdio.h>
#include <string.h>

enum { FLOAT4 = 700, FLOAT8 = 701, NUMERIC = 1700 }; /* type oids */

/* wal2json writes NaN and the infinities as null. */
static void check_numbers(struct pj_doctor *doctor, const struct pj_table *table)
{
    struct pj_buf names = {0};
    for (int i = 0; i < table->ncolumns; i++) {
        uint32_t type = table->columns[i].type_oid;
        if (type == FLOAT4 || type == FLOAT8 || type == NUMERIC)
            pj_buf_printf(&names, "%s%s", names.length ? ", " : "", table->columns[i].name);
    }
    if (names.length)
        pj_doctor_add(
            doctor, PJ_WARN, "table: numbers",
            "where these can hold NaN or Infinity, refuse them: ADD CHECK (c NOT IN ('NaN', 'Infinity', '-Infinity'))",
            "%s.%s (%s): wal2json sends NaN and Infinity as NULL", table->schema, table->name, pj_buf_text(&names));
    pj_buf_free(&names);
}

static void check_table(struct pj_doctor *doctor, const struct pj_table *table)
{
    pj_doctor_add(doctor, PJ_FINE, "table", NULL, "%s.%s: %d columns, replica identity %s%s", table->schema,
                  table->name, table->ncolumns,
                  table->identity_full     ? "FULL"
                  : table->identity_is_key ? "primary key"
                                           : "another index",
                  table->partitioned ? ", partitioned" : "");
    check_numbers(doctor, table);
}

/* ------------------------------------------------------------------------------------------------------ new columns */

static bool listed(const json_t *names, const char *name)
{
    size_t i;
    const json_t *item;
    json_array_foreach(names, i, item) if (strcmp(json_string_value(item), name) == 0) return true;
    return false;
}

static void report_new_columns(struct pj_doctor *doctor, const struct pj_table *table, const json_t *mirrored)
{
    for (int i = 0; i < table->ncolumns; i++)
        if (!listed(mirrored, table->columns[i].name))
            pj_doctor_add(doctor, PJ_WARN, "table: new column",
                          "columns added later are not mirrored; pgprojector mirror refresh takes them up",
                          "%s.%s.%s is not in the mirror", table->schema, table->name, table->columns[i].name);
}

static void check_new_columns(struct pj_doctor *doctor, const struct pj_table *table)
{
    const char *params[] = {table->schema, table->name};
    struct pj_error error;
    PGresult *result;
    if (pj_session_query(doctor->read, &result, pj_sql_doctor_new_columns, 2, params, &error) != PJ_OK)
        return; /* the catalog's own check has said why */
    if (PQntuples(result) == 0) {
        pj_doctor_add(
            doctor, PJ_WARN, "table: mirror",
            "send the daemon SIGHUP, or restart it: it adds the mirror, or says in `pgprojector status` why it "
            "cannot",
            "%s.%s is not mirrored yet", table->schema, table->name);
    } else {
        json_t *mirrored = json_loads(PQgetvalue(result, 0, 0), 0, NULL);
        report_new_columns(doctor, table, mirrored);
        json_decref(mirrored);
    }
    PQclear(result);
}

static void check_read_side(struct pj_doctor *doctor)
{
    struct pj_error error;
    int missing;
    for (int i = 0; i < doctor->setup.ntables; i++)
        check_new_columns(doctor, &doctor->setup.tables[i]);
    /* from here on as the daemon sees them: without the columns, and the mirrors, just reported */
    if (pj_mirror_limit(doctor->read, doctor->setup.tables, doctor->setup.ntables, false, &error) == PJ_OK &&
        pj_joining_missing(doctor->read, doctor->setup.tables, doctor->setup.ntables, &missing, &error) == PJ_OK &&
        pj_setup_check_read(&doctor->setup, doctor->read, &error) == PJ_OK)
        pj_doctor_add(doctor, PJ_FINE, "mirrors, projections", NULL, "are as the catalog says");
    else
        pj_doctor_add_error(doctor, PJ_FAIL, "mirrors, projections", &error);
}

/* ---------------------------------------------------------------------------------------------- before a first start */

static void check_room_for_slot(struct pj_doctor *doctor)
{
    const struct pj_checkpoint *checkpoint = &doctor->checkpoint;
    const char *configured = pj_config_get(&doctor->app->config, PJ_SET_SLOT);
    struct pj_error error;
    char name[64] = "";
    if (configured && *configured)
        snprintf(name, sizeof name, "%s", configured);
    else if (doctor->installed)
        snprintf(name, sizeof name, "pgprojector_%s", checkpoint->instance);
    if (!*name || strcmp(name, checkpoint->slot) == 0) /* unknown yet, or an unfinished start's, which the next drops */
        return;
    if (pj_snapshot_room_for_slot(doctor->write, name, &error) == PJ_OK)
        pj_doctor_add(doctor, PJ_FINE, "slot", NULL, "%s is free", name);
    else
        pj_doctor_add_error(doctor, PJ_FAIL, "slot", &error);
}

static void check_room(struct pj_doctor *doctor)
{
    const struct pj_setup *setup = &doctor->setup;
    struct pj_error error;
    if (pj_snapshot_room_for_tables(doctor->read, doctor->installed, setup->tables, setup->ntables, setup->projections,
                                    setup->nprojections, &error) == PJ_OK)
        pj_doctor_add(doctor, PJ_FINE, "read: tables", NULL, "none is in the way of mirrors and projections");
    else
        pj_doctor_add_error(doctor, PJ_FAIL, "read: tables", &error);
    check_room_for_slot(doctor);
}

void pj_doctor_examine_tables(struct pj_doctor *doctor)
{
    if (!doctor->write)
        return;
    struct pj_error error;
    if (pj_setup_open(&doctor->setup, &doctor->deployment, doctor->write, NULL, &error) != PJ_OK) {
        pj_doctor_add_error(doctor, PJ_FAIL, "tables", &error);
        return;
    }
    doctor->setup_open = true;
    for (int i = 0; i < doctor->setup.ntables; i++)
        check_table(doctor, &doctor->setup.tables[i]);
    if (doctor->read && doctor->initialised)
        check_read_side(doctor);
    else if (doctor->read)
        check_room(doctor);
}
