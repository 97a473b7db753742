/*
 * See reload.h. Modules, their sections and the log level may change; everything else belongs to connections, to the
 * slot, or to memory that is there already, and keeps its value until the daemon is started again.
 */
#include "app/reload.h"

#include "app/deployment.h"
#include "base/mem.h"

#include <stdlib.h>
#include <string.h>

static bool may_change(enum pj_setting_id id)
{
    return id == PJ_SET_MODULE_DIR || id == PJ_SET_MODULES || id == PJ_SET_LOG_LEVEL;
}

static bool same_text(const char *a, const char *b)
{
    return a && b ? strcmp(a, b) == 0 : a == b;
}

/* Flags and environment are those of the process; the file is read anew. */
static int read_again(const struct pj_app *app, struct pj_config *config, struct pj_error *error)
{
    pj_config_init(config);
    for (int id = 0; id < PJ_SETTING_COUNT; id++) {
        const struct pj_setting *setting = &app->config.settings[id];
        if (setting->rank == PJ_RANK_FLAG)
            pj_config_set(config, (enum pj_setting_id)id, PJ_RANK_FLAG, setting->value, setting->origin);
    }
    int code = app->config.file ? pj_config_read_file(config, app->config.file, error) : PJ_OK;
    if (code != PJ_OK)
        return code;
    pj_config_read_environment(config, getenv);
    return pj_config_resolve(config, error);
}

static void put_back(struct pj_setting *setting, const struct pj_setting *former)
{
    pj_free(setting->value);
    pj_free(setting->origin);
    *setting = (struct pj_setting){former->value ? pj_strdup(former->value) : NULL,
                                   former->origin ? pj_strdup(former->origin) : NULL, former->rank};
}

static bool changed_since(const struct pj_reload *reload, const struct pj_config *fresh, enum pj_setting_id id)
{
    return !same_text(fresh->settings[id].value, reload->current.settings[id].value);
}

static int keep_fixed(const struct pj_reload *reload, struct pj_config *fresh, struct pj_error *error)
{
    for (int i = 0; i < PJ_SETTING_COUNT; i++) {
        enum pj_setting_id id = (enum pj_setting_id)i;
        if (!changed_since(reload, fresh, id))
            continue;
        const char *key = pj_setting_info(id)->key;
        pj_log(&reload->app->log, may_change(id) ? PJ_LOG_INFO : PJ_LOG_WARNING, "%s: %s %s",
               fresh->settings[id].origin ? fresh->settings[id].origin : "configuration", key,
               may_change(id) ? "has changed" : "has changed, which takes effect when the daemon is started again");
        if (!may_change(id))
            put_back(&fresh->settings[id], &reload->current.settings[id]);
    }
    if (!same_text(fresh->mirrors.value, reload->current.mirrors.value))
        pj_log(&reload->app->log, PJ_LOG_INFO,
               "[mirrors] tables has changed: mirrors of new ones are added; those no longer named stay");
    return pj_config_resolve(fresh, error);
}

void pj_reload_init(struct pj_reload *reload, struct pj_app *app)
{
    reload->app = app;
    pthread_mutex_init(&reload->lock, NULL);
    struct pj_error ignored; /* it was read a moment ago, by the same rules */
    if (read_again(app, &reload->current, &ignored) == PJ_OK)
        return;
    pj_config_free(&reload->current);
    pj_config_init(&reload->current);
}

void pj_reload_free(struct pj_reload *reload)
{
    pj_config_free(&reload->current);
    pthread_mutex_destroy(&reload->lock);
}

static int deploy_locked(struct pj_reload *reload, struct pj_deployment *deployment, struct pj_error *error)
{
    struct pj_config fresh;
    int code = read_again(reload->app, &fresh, error);
    if (code == PJ_OK)
        code = keep_fixed(reload, &fresh, error);
    if (code == PJ_OK)
        code = pj_deployment_make(deployment, &fresh, error);
    if (code != PJ_OK) {
        pj_config_free(&fresh);
        return pj_error_wrap(error, "the configuration is not taken over, and the former one stays in force");
    }
    pj_config_free(&reload->current);
    reload->current = fresh;
    reload->app->log.least = fresh.log_level;
    return PJ_OK;
}

int pj_reload_deploy(void *context, struct pj_deployment *deployment, struct pj_error *error)
{
    struct pj_reload *reload = context;
    pthread_mutex_lock(&reload->lock);
    int code = deploy_locked(reload, deployment, error);
    pthread_mutex_unlock(&reload->lock);
    return code;
}

int pj_reload_deploy_anyhow(void *context, struct pj_deployment *deployment, struct pj_error *error)
{
    struct pj_reload *reload = context;
    if (pj_reload_deploy(context, deployment, error) == PJ_OK)
        return PJ_OK;
    pj_log_error(&reload->app->log, PJ_LOG_WARNING, error);
    pthread_mutex_lock(&reload->lock);
    pj_deployment_free(deployment);
    int code = pj_deployment_make(deployment, &reload->current, error);
    pthread_mutex_unlock(&reload->lock);
    return code;
}
