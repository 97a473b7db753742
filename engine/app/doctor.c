/* `doctor`: runs the checks from the nearest (configuration, modules) to the farthest (both databases together). */
#include "app/doctor.h"

#include "app/deployment.h"
#include "base/mem.h"
#include "base/text.h"
#include "pg/quote.h"

#include <jansson.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

void pj_doctor_add(struct pj_doctor *doctor, enum pj_level level, const char *check, const char *remedy,
                   const char *format, ...)
{
    char text[2048];
    va_list args;
    va_start(args, format);
    vsnprintf(text, sizeof text, format, args);
    va_end(args);
    pj_text_mend(text);
    doctor->findings = pj_realloc(doctor->findings, sizeof *doctor->findings * (size_t)(doctor->count + 1));
    doctor->findings[doctor->count++] =
        (struct pj_finding){level, pj_strdup(check), pj_strdup(text), pj_strdup(remedy ? remedy : "")};
}

void pj_doctor_add_error(struct pj_doctor *doctor, enum pj_level level, const char *check, const struct pj_error *error)
{
    pj_doctor_add(doctor, level, check, error->hint, "%s", error->message);
}

void pj_doctor_check_sessions(struct pj_doctor *doctor, const char *check, struct pj_session *session, bool seen)
{
    struct pj_buf remedy = {0};
    pj_buf_puts(&remedy, "GRANT pg_read_all_stats TO ");
    pj_quote_identifier(&remedy, PQuser(pj_session_conn(session)));
    pj_doctor_add(
        doctor, seen ? PJ_FINE : PJ_WARN, check, seen ? NULL : pj_buf_text(&remedy), "%s",
        seen ? "it is shown since when other roles' sessions are at work"
             : "it is not shown since when other roles' sessions are at work: who is in the way cannot always be told");
    pj_buf_free(&remedy);
}

/* -------------------------------------------------------------------------------------------- what needs no server */

static bool has_password(const char *url)
{
    PQconninfoOption *options = url ? PQconninfoParse(url, NULL) : NULL;
    bool found = false;
    for (PQconninfoOption *option = options; option && option->keyword; option++)
        found = found || (option->val && strcmp(option->keyword, "password") == 0);
    PQconninfoFree(options);
    return found;
}

static bool password_in_file(const struct pj_config *config)
{
    for (int id = PJ_SET_WRITE_URL; id <= PJ_SET_READ_URL; id++)
        if (config->settings[id].rank == PJ_RANK_FILE && has_password(config->settings[id].value))
            return true;
    return false;
}

static void check_file(struct pj_doctor *doctor)
{
    const struct pj_config *config = &doctor->app->config;
    struct stat status;
    if (!config->file || stat(config->file, &status) != 0 || !(status.st_mode & (S_IRGRP | S_IROTH)))
        return;
    if (password_in_file(config))
        pj_doctor_add(doctor, PJ_WARN, "configuration file", "chmod 600, or keep the password in a libpq password file",
                      "%s holds a password and may be read by others", config->file);
}

static bool check_configuration(struct pj_doctor *doctor)
{
    struct pj_error error;
    bool good = pj_app_configure(doctor->app, &error) == PJ_OK;
    if (good)
        pj_doctor_add(doctor, PJ_FINE, "configuration", NULL, "%s",
                      doctor->app->config.file ? doctor->app->config.file : "from the environment");
    else
        pj_doctor_add_error(doctor, PJ_FAIL, "configuration", &error);
    check_file(doctor);
    return good;
}

static void check_module(struct pj_doctor *doctor, const char *path)
{
    struct pj_loaded_module loaded;
    struct pj_error error;
    if (pj_module_load(&loaded, path, &error) != PJ_OK) {
        pj_doctor_add_error(doctor, PJ_FAIL, "module", &error);
        return;
    }
    pj_doctor_add(doctor, PJ_FINE, "module", NULL, "%s, version %u, %s", loaded.module->name, loaded.module->version,
                  path);
    pj_module_unload(&loaded);
}

static bool check_deployment(struct pj_doctor *doctor)
{
    struct pj_error error;
    bool good = pj_deployment_make(&doctor->deployment, &doctor->app->config, &error) == PJ_OK;
    if (!good)
        pj_doctor_add_error(doctor, PJ_FAIL, "modules", &error);
    for (int i = 0; i < doctor->deployment.nmodules; i++)
        check_module(doctor, doctor->deployment.modules[i].path);
    if (good && !doctor->deployment.nmodules)
        pj_doctor_add(doctor, PJ_WARN, "modules", "set module_dir, or modules, if there should be some",
                      "none: only the tables of [mirrors] are mirrored");
    return good;
}

/* ------------------------------------------------------------------------------------------------------ reporting */

static const char *const level_words[] = {"ok", "warn", "fail"};

static void print_text(const struct pj_doctor *doctor, const int counts[3])
{
    for (int i = 0; i < doctor->count; i++) {
        const struct pj_finding *finding = &doctor->findings[i];
        printf("%-5s %-24s %s\n", level_words[finding->level], finding->check, finding->text);
        if (finding->remedy[0])
            printf("%-5s %-24s remedy: %s\n", "", "", finding->remedy);
    }
    printf("%d ok, %d warnings, %d failed\n", counts[PJ_FINE], counts[PJ_WARN], counts[PJ_FAIL]);
}

static void print_json(const struct pj_doctor *doctor, const int counts[3])
{
    json_t *checks = json_array();
    for (int i = 0; i < doctor->count; i++) {
        const struct pj_finding *finding = &doctor->findings[i];
        json_array_append_new(checks, json_pack("{s:s,s:s,s:s,s:o}", "level", level_words[finding->level], "check",
                                                finding->check, "text", finding->text, "remedy",
                                                finding->remedy[0] ? json_string(finding->remedy) : json_null()));
    }
    json_t *json = json_pack("{s:i,s:i,s:i,s:o}", "ok", counts[PJ_FINE], "warnings", counts[PJ_WARN], "failed",
                             counts[PJ_FAIL], "checks", checks);
    json_dumpf(json, stdout, JSON_INDENT(2));
    putchar('\n');
    json_decref(json);
}

static int report(const struct pj_doctor *doctor)
{
    int counts[3] = {0};
    for (int i = 0; i < doctor->count; i++)
        counts[doctor->findings[i].level]++;
    if (doctor->app->options.json)
        print_json(doctor, counts);
    else
        print_text(doctor, counts);
    return counts[PJ_FAIL] ? PJ_EFAIL : PJ_OK;
}

static void discharge(struct pj_doctor *doctor)
{
    for (int i = 0; i < doctor->count; i++) {
        pj_free(doctor->findings[i].check);
        pj_free(doctor->findings[i].text);
        pj_free(doctor->findings[i].remedy);
    }
    pj_free(doctor->findings);
    pj_session_close(doctor->write);
    pj_session_close(doctor->read);
    if (doctor->setup_open)
        pj_setup_close(&doctor->setup);
    pj_deployment_free(&doctor->deployment);
}

int pj_doctor(struct pj_app *app, struct pj_error *error)
{
    struct pj_doctor doctor = {.app = app};
    if (check_configuration(&doctor)) {
        bool deployed = check_deployment(&doctor);
        pj_doctor_examine_write(&doctor);
        pj_doctor_examine_read(&doctor);
        if (deployed)
            pj_doctor_examine_tables(&doctor);
    }
    int code = report(&doctor);
    discharge(&doctor);
    pj_error_clear(error); /* the list has said it all */
    return code;
}
