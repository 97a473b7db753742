/*
 * See config.h. Every value is kept as text together with where it came from and its rank; reading flags, environment
 * and file is then nothing but pj_config_set() in any order, and pj_config_resolve() can name the culprit of a wrong
 * value.
 */
#include "app/config.h"

#include "app/values.h"
#include "base/buf.h"
#include "base/mem.h"

#include <string.h>

const struct pj_setting_info *pj_setting_info(enum pj_setting_id id)
{
#define PJ_SETTING_INFO(id, key, flag, variable, preset, help) {key, flag, variable, preset, help},
    static const struct pj_setting_info infos[] = {PJ_SETTINGS(PJ_SETTING_INFO)};
#undef PJ_SETTING_INFO
    return &infos[id];
}

static void setting_free(struct pj_setting *setting)
{
    pj_free(setting->value);
    pj_free(setting->origin);
}

void pj_config_init(struct pj_config *config)
{
    memset(config, 0, sizeof *config);
    for (int id = 0; id < PJ_SETTING_COUNT; id++) {
        const char *preset = pj_setting_info((enum pj_setting_id)id)->preset;
        if (preset)
            pj_config_set(config, (enum pj_setting_id)id, PJ_RANK_DEFAULT, preset, "the default");
    }
}

static void module_free(struct pj_config_module *module)
{
    for (int i = 0; i < module->nentries; i++) {
        pj_free(module->entries[i].key);
        pj_free(module->entries[i].value);
        pj_free(module->entries[i].origin);
    }
    pj_free(module->entries);
    pj_free(module->name);
    pj_free(module->origin);
}

void pj_config_free(struct pj_config *config)
{
    for (int id = 0; id < PJ_SETTING_COUNT; id++)
        setting_free(&config->settings[id]);
    setting_free(&config->mirrors);
    for (int i = 0; i < config->nmodules; i++)
        module_free(&config->modules[i]);
    pj_free(config->modules);
    pj_free(config->file);
    memset(config, 0, sizeof *config);
}

void pj_config_set(struct pj_config *config, enum pj_setting_id id, enum pj_rank rank, const char *value,
                   const char *origin)
{
    struct pj_setting *setting = &config->settings[id];
    if (rank < setting->rank)
        return;
    setting_free(setting);
    setting->value = pj_strdup(value);
    setting->origin = pj_strdup(origin);
    setting->rank = rank;
}

const char *pj_config_get(const struct pj_config *config, enum pj_setting_id id)
{
    return config->settings[id].value;
}

void pj_config_read_environment(struct pj_config *config, char *(*lookup)(const char *name))
{
    for (int id = 0; id < PJ_SETTING_COUNT; id++) {
        const char *variable = pj_setting_info((enum pj_setting_id)id)->variable;
        const char *value = lookup(variable);
        if (!value || !*value)
            continue;
        char *origin = pj_sprintf("environment %s", variable);
        pj_config_set(config, (enum pj_setting_id)id, PJ_RANK_ENVIRONMENT, value, origin);
        pj_free(origin);
    }
}

int pj_config_read(struct pj_config *config, char *(*lookup)(const char *name), struct pj_error *error)
{
    const char *file = lookup("PGPROJECTOR_CONFIG");
    if (!config->file && file && *file)
        config->file = pj_strdup(file);
    char *path = pj_strdup(config->file); /* which the reading replaces */
    int code = path ? pj_config_read_file(config, path, error) : PJ_OK;
    pj_free(path);
    if (code == PJ_OK)
        pj_config_read_environment(config, lookup);
    return code;
}

/* ----------------------------------------------------------------------------------------------------- resolving */

static int wrong(const struct pj_config *config, enum pj_setting_id id, const char *wanted, struct pj_error *error)
{
    const struct pj_setting *setting = &config->settings[id];
    return pj_error_set(error, PJ_ECONFIG, "%s: %s = \"%.100s\" is not %s", setting->origin, pj_setting_info(id)->key,
                        setting->value, wanted);
}

/* The URLs' values are left out of the message: they may hold a password. */
static int missing_url(enum pj_setting_id id, struct pj_error *error)
{
    const struct pj_setting_info *info = pj_setting_info(id);
    pj_error_set(error, PJ_ECONFIG, "%s is not set", info->variable);
    return pj_error_hint(error,
                         "set %s=postgresql://user@host:5432/database in the environment, or %s in a file given "
                         "by -c FILE",
                         info->variable, info->key);
}

static int check_slot(const struct pj_config *config, struct pj_error *error)
{
    const char *slot = pj_config_get(config, PJ_SET_SLOT);
    if (!slot || (strlen(slot) < 64 && *slot && strspn(slot, "abcdefghijklmnopqrstuvwxyz0123456789_") == strlen(slot)))
        return PJ_OK;
    return wrong(config, PJ_SET_SLOT, "a slot name (1 to 63 of a-z, 0-9 and _)", error);
}

static int check_schema(const struct pj_config *config, struct pj_error *error)
{
    const char *schema = pj_config_get(config, PJ_SET_SCHEMA);
    if (*schema && strlen(schema) < 64)
        return PJ_OK;
    return wrong(config, PJ_SET_SCHEMA, "a schema name (1 to 63 bytes)", error);
}

static int resolve_amounts(struct pj_config *config, struct pj_error *error)
{
    if (!pj_value_int(pj_config_get(config, PJ_SET_JOBS), 1, 16, &config->jobs))
        return wrong(config, PJ_SET_JOBS, "a number from 1 to 16", error);
    if (!pj_value_duration(pj_config_get(config, PJ_SET_SLOT_WAIT), &config->slot_wait_ms) || !config->slot_wait_ms)
        return wrong(config, PJ_SET_SLOT_WAIT, "a time such as 500ms, 60s or 5min", error);
    if (!pj_value_duration(pj_config_get(config, PJ_SET_GATHER), &config->gather_ms) || config->gather_ms > 10000)
        return wrong(config, PJ_SET_GATHER, "a time such as 250ms, at most 10s", error);
    if (!pj_value_bytes(pj_config_get(config, PJ_SET_BATCH_BYTES), &config->batch_bytes) ||
        config->batch_bytes < 64 << 10 || config->batch_bytes > 1 << 30)
        return wrong(config, PJ_SET_BATCH_BYTES, "a size from 64kB to 1GB", error);
    const char *on_gap = pj_config_get(config, PJ_SET_ON_GAP);
    config->resync_on_gap = strcmp(on_gap, "resync") == 0;
    if (!config->resync_on_gap && strcmp(on_gap, "halt") != 0)
        return wrong(config, PJ_SET_ON_GAP, "halt or resync", error);
    if (!pj_value_on_error(pj_config_get(config, PJ_SET_ON_ERROR), &config->halt_on_error))
        return wrong(config, PJ_SET_ON_ERROR, "park or halt", error);
    if (!pj_value_duration(pj_config_get(config, PJ_SET_APPLY_TIMEOUT), &config->apply_timeout_ms) ||
        (config->apply_timeout_ms && config->apply_timeout_ms < 100))
        return wrong(config, PJ_SET_APPLY_TIMEOUT, "a time such as 10s, at least 100ms, or 0 for no limit", error);
    if (!pj_log_level_parse(pj_config_get(config, PJ_SET_LOG_LEVEL), &config->log_level))
        return wrong(config, PJ_SET_LOG_LEVEL, "one of debug, info, warning, error", error);
    return PJ_OK;
}

int pj_config_resolve(struct pj_config *config, struct pj_error *error)
{
    pj_error_clear(error);
    if (!pj_config_get(config, PJ_SET_WRITE_URL))
        return missing_url(PJ_SET_WRITE_URL, error);
    if (!pj_config_get(config, PJ_SET_READ_URL))
        return missing_url(PJ_SET_READ_URL, error);
    int code = check_slot(config, error);
    if (code == PJ_OK)
        code = check_schema(config, error);
    return code == PJ_OK ? resolve_amounts(config, error) : code;
}
