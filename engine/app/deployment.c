/*
 * See deployment.h.
 *
 * Where modules are: a program run from the build tree finds projections/ beside itself, an installed one PREFIX/bin
 * finds PREFIX/lib/pgprojector/modules; module_dir overrides both. Without a list, every NAME.so there is deployed, in
 * the order of their names.
 */
#include "app/deployment.h"

#include "app/values.h"
#include "base/buf.h"
#include "base/mem.h"

#include <glob.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

/* ------------------------------------------------------------------------------------------------ finding modules */

static char *executable_directory(void)
{
    char path[PATH_MAX];
    ssize_t length = readlink("/proc/self/exe", path, sizeof path - 1);
    if (length <= 0)
        return pj_strdup(".");
    path[length] = '\0';
    *strrchr(path, '/') = '\0';
    return pj_strdup(path);
}

static bool is_directory(const char *path)
{
    struct stat status;
    return stat(path, &status) == 0 && S_ISDIR(status.st_mode);
}

char *pj_deployment_module_dir(const struct pj_config *config)
{
    const char *configured = pj_config_get(config, PJ_SET_MODULE_DIR);
    if (configured)
        return pj_strdup(configured);
    char *directory = executable_directory();
    char *built = pj_sprintf("%s/projections", directory);
    const char *slash = strrchr(directory, '/');
    char *installed = pj_sprintf("%.*s/lib/pgprojector/modules", slash ? (int)(slash - directory) : 0, directory);
    bool in_build_tree = is_directory(built);
    pj_free(directory);
    pj_free(in_build_tree ? installed : built);
    return in_build_tree ? built : installed;
}

static void add_module(struct pj_deployment *deployment, char *path)
{
    size_t size = sizeof *deployment->modules * (size_t)(deployment->nmodules + 1);
    deployment->modules = pj_realloc(deployment->modules, size);
    deployment->modules[deployment->nmodules++] = (struct pj_deployed_module){.path = path};
}

/* Module paths are absolute, so that what is loaded does not depend on where the program was started. */
static int add_file(struct pj_deployment *deployment, const char *path, const char *origin, struct pj_error *error)
{
    size_t length = strlen(path);
    if (length < 4 || strcmp(path + length - 3, ".so") != 0)
        return pj_error_set(error, PJ_ECONFIG, "%s: a module's file ends with .so, not as %s", origin, path);
    char *absolute = realpath(path, NULL);
    if (!absolute) {
        pj_error_set(error, PJ_ECONFIG, "%s: there is no module file %s", origin, path);
        return pj_error_hint(error, "build it into that directory, or correct modules or module_dir");
    }
    add_module(deployment, pj_strdup(absolute));
    free(absolute);
    return PJ_OK;
}

static int add_listed(struct pj_deployment *deployment, const struct pj_setting *list, const char *directory,
                      struct pj_error *error)
{
    const char *at = list->value;
    int code = PJ_OK;
    for (char *word; code == PJ_OK && (word = pj_value_next_word(&at)); pj_free(word)) {
        char *path = strchr(word, '/') ? pj_strdup(word) : pj_sprintf("%s/%s.so", directory, word);
        code = add_file(deployment, path, list->origin, error);
        pj_free(path);
    }
    return code;
}

static int add_all(struct pj_deployment *deployment, const char *directory, struct pj_error *error)
{
    char *pattern = pj_sprintf("%s/*.so", directory);
    glob_t found = {0};
    int code = PJ_OK;
    if (glob(pattern, 0, NULL, &found) == 0)
        for (size_t i = 0; code == PJ_OK && i < found.gl_pathc; i++)
            code = add_file(deployment, found.gl_pathv[i], "module_dir", error);
    globfree(&found);
    pj_free(pattern);
    return code;
}

static int find_modules(struct pj_deployment *deployment, const struct pj_config *config, struct pj_error *error)
{
    char *directory = pj_deployment_module_dir(config);
    int code = PJ_OK;
    if (config->settings[PJ_SET_MODULES].value) {
        code = add_listed(deployment, &config->settings[PJ_SET_MODULES], directory, error);
    } else if (is_directory(directory)) {
        code = add_all(deployment, directory, error);
    } else if (config->settings[PJ_SET_MODULE_DIR].value || !config->mirrors.value) {
        code = pj_error_set(error, PJ_ECONFIG, "the module directory %s is not there", directory);
        pj_error_hint(error, "set module_dir in [pgprojector], or PGPROJECTOR_MODULE_DIR");
    }
    pj_free(directory);
    return code;
}

/* ------------------------------------------------------------------------------------------------------- bindings */

static int unknown_key(const struct pj_config_entry *entry, const char *what, const char *module,
                       const char *const *known, const char *word, struct pj_error *error)
{
    const char *nearest = pj_value_nearest(word, known);
    pj_error_set(error, PJ_ECONFIG, "%s: %s of module %s: \"%.100s\"", entry->origin, what, module, word);
    if (nearest)
        return pj_error_hint(error, "did you mean \"%s\"?", nearest);
    struct pj_buf all = {0};
    for (int i = 0; known[i]; i++)
        pj_buf_printf(&all, "%s%s", i ? ", " : "", known[i]);
    pj_error_hint(error, all.length ? "it has %s" : "it has none%s", pj_buf_text(&all));
    pj_buf_free(&all);
    return error->code;
}

static bool among(const char *word, size_t length, const char *const *words)
{
    for (; *words; words++)
        if (strlen(*words) == length && memcmp(*words, word, length) == 0)
            return true;
    return false;
}

/* "column.TABLE.COLUMN" belongs to one of the tables; whether it has the column, only the source can say. */
static int check_column_key(const struct pj_config_entry *entry, const char *module, const char *const *tables,
                            struct pj_error *error)
{
    const char *word = entry->key + strlen("column.");
    const char *dot = strrchr(word, '.');
    if (dot && dot[1] && among(word, (size_t)(dot - word), tables))
        return PJ_OK;
    return unknown_key(entry, "not a column (column.TABLE.COLUMN)", module, tables, word, error);
}

static int check_on_error(const struct pj_config_entry *entry, struct pj_error *error)
{
    bool halt;
    if (pj_value_on_error(entry->value, &halt))
        return PJ_OK;
    return pj_error_set(error, PJ_ECONFIG, "%s: " PJ_ON_ERROR " = \"%.100s\" is not park or halt", entry->origin,
                        entry->value);
}

static int check_table_name(const struct pj_config_entry *entry, struct pj_error *error)
{
    if (!pj_name_is_long(entry->value))
        return PJ_OK;
    pj_error_set(error, PJ_ECONFIG, "%s: %.100s = %.160s: a name of more than %d bytes, which no table has",
                 entry->origin, entry->key, entry->value, PJ_NAME_BYTES);
    return pj_error_hint(error, "name the table as the write database has it");
}

static int check_entry(const struct pj_config_entry *entry, const char *module, const char *const *tables,
                       const char *const *options, struct pj_error *error)
{
    if (strncmp(entry->key, "table.", 6) == 0)
        return among(entry->key + 6, strlen(entry->key + 6), tables)
                   ? check_table_name(entry, error)
                   : unknown_key(entry, "not a table", module, tables, entry->key + 6, error);
    if (strncmp(entry->key, "column.", 7) == 0)
        return check_column_key(entry, module, tables, error);
    if (strcmp(entry->key, PJ_ON_ERROR) == 0)
        return check_on_error(entry, error);
    return among(entry->key, strlen(entry->key), options)
               ? PJ_OK
               : unknown_key(entry, "not an option", module, options, entry->key, error);
}

/* Of an option whose values are listed. Said here, not only where the module is bound: a daemon that stands by binds nothing
 * before it takes over. */
static int check_choice(const struct pj_config_entry *entry, const struct pj_module *module, struct pj_error *error)
{
    for (const struct pj_option *option = module->options; option && option->name; option++) {
        if (strcmp(option->name, entry->key) != 0 || pj_module_option_check(option, entry->value, error) == PJ_OK)
            continue;
        const char *nearest = pj_value_nearest(entry->value, option->choices);
        pj_error_wrap(error, "%s: module %s", entry->origin, module->name);
        return pj_error_hint(error, "did you mean \"%s\"?", nearest ? nearest : option->value);
    }
    return PJ_OK;
}

static int check_entries(const struct pj_config_module *section, const struct pj_module *module, struct pj_error *error)
{
    int ntables = pj_module_source_count(module), noptions = pj_module_option_count(module);
    const char **tables = pj_alloc(sizeof *tables * (size_t)(ntables + 1));
    const char **options = pj_alloc(sizeof *options * (size_t)(noptions + 1));
    for (int i = 0; i < ntables; i++)
        tables[i] = module->sources[i].table;
    for (int i = 0; i < noptions; i++)
        options[i] = module->options[i].name;
    int code = PJ_OK;
    for (int i = 0; code == PJ_OK && i < section->nentries; i++) {
        code = check_entry(&section->entries[i], module->name, tables, options, error);
        if (code == PJ_OK)
            code = check_choice(&section->entries[i], module, error);
    }
    pj_free(tables);
    pj_free(options);
    return code;
}

static int check_section(const struct pj_config_module *section, const char *path, struct pj_error *error)
{
    struct pj_loaded_module loaded;
    if (pj_module_load(&loaded, path, error) != PJ_OK) {
        pj_error_clear(error); /* whoever runs it will say so */
        return PJ_OK;
    }
    int code = check_entries(section, loaded.module, error);
    pj_module_unload(&loaded);
    return code;
}

typedef const char *pair[2];

static const pair *pairs(const struct pj_config_module *section, const char *prefix)
{
    pair *list = pj_alloc(sizeof *list * (size_t)((section ? section->nentries : 0) + 1));
    int count = 0;
    for (int i = 0; section && i < section->nentries; i++) {
        const struct pj_config_entry *entry = &section->entries[i];
        bool plain = strncmp(entry->key, "table.", 6) != 0 && strncmp(entry->key, "column.", 7) != 0 &&
                     strcmp(entry->key, PJ_ON_ERROR) != 0;
        if (*prefix ? strncmp(entry->key, prefix, strlen(prefix)) != 0 : !plain)
            continue;
        list[count][0] = pj_strdup(entry->key + strlen(prefix));
        list[count++][1] = pj_strdup(entry->value);
    }
    return (const pair *)list;
}

static void bind_section(struct pj_deployed_module *module, const struct pj_config_module *section,
                         const char *default_schema)
{
    module->binding.tables = pairs(section, "table.");
    module->binding.columns = pairs(section, "column.");
    module->binding.options = pairs(section, "");
    module->binding.default_schema = default_schema;
}

/* What the section says (its form is checked later), else what holds for all. */
static bool halts_on_error(const struct pj_config *config, const struct pj_config_module *section)
{
    bool halt = config->halt_on_error;
    for (int i = 0; section && i < section->nentries; i++)
        if (strcmp(section->entries[i].key, PJ_ON_ERROR) == 0)
            pj_value_on_error(section->entries[i].value, &halt);
    return halt;
}

/* A module's file is NAME.so; its section is [module NAME]. */
static bool named(const char *path, const char *name)
{
    const char *base = strrchr(path, '/') + 1;
    size_t length = strlen(name);
    return strncmp(base, name, length) == 0 && strcmp(base + length, ".so") == 0;
}

static const struct pj_config_module *section_of(const struct pj_config *config, const char *path)
{
    for (int i = 0; i < config->nmodules; i++)
        if (named(path, config->modules[i].name))
            return &config->modules[i];
    return NULL;
}

static int bind_modules(struct pj_deployment *deployment, const struct pj_config *config, struct pj_error *error)
{
    for (int i = 0; i < deployment->nmodules; i++) {
        struct pj_deployed_module *module = &deployment->modules[i];
        bind_section(module, section_of(config, module->path), deployment->default_schema);
        module->binding.halt_on_error = halts_on_error(config, section_of(config, module->path));
    }
    for (int i = 0; i < deployment->nmodules; i++) {
        const struct pj_config_module *section = section_of(config, deployment->modules[i].path);
        int code = section ? check_section(section, deployment->modules[i].path, error) : PJ_OK;
        if (code != PJ_OK)
            return code;
    }
    return PJ_OK;
}

static int orphan_section(const struct pj_deployment *deployment, const struct pj_config_module *section,
                          struct pj_error *error)
{
    const char **names = pj_alloc(sizeof *names * (size_t)(deployment->nmodules + 1));
    for (int i = 0; i < deployment->nmodules; i++) {
        char *name = pj_strdup(strrchr(deployment->modules[i].path, '/') + 1);
        name[strlen(name) - strlen(".so")] = '\0';
        names[i] = name;
    }
    const char *nearest = pj_value_nearest(section->name, names);
    pj_error_set(error, PJ_ECONFIG, "%s: no module \"%.60s\" is deployed", section->origin, section->name);
    if (nearest)
        pj_error_hint(error, "did you mean [module %s]?", nearest);
    for (int i = 0; i < deployment->nmodules; i++)
        pj_free((char *)(size_t)names[i]);
    pj_free(names);
    return error->code;
}

static int check_sections(const struct pj_deployment *deployment, const struct pj_config *config,
                          struct pj_error *error)
{
    for (int i = 0; i < config->nmodules; i++) {
        bool used = false;
        for (int j = 0; j < deployment->nmodules; j++)
            used = used || named(deployment->modules[j].path, config->modules[i].name);
        if (!used)
            return orphan_section(deployment, &config->modules[i], error);
    }
    return PJ_OK;
}

/* ------------------------------------------------------------------------------------------------ further mirrors */

static void add_wanted(struct pj_deployment *deployment, char *schema, char *name)
{
    pj_deployment_want(deployment, schema ? schema : deployment->default_schema, name, "[mirrors] tables");
    pj_free(schema);
    pj_free(name);
}

static int want_mirrors(struct pj_deployment *deployment, const struct pj_setting *mirrors, struct pj_error *error)
{
    const char *at = mirrors->value;
    char *schema, *name;
    int more = 0;
    while (at && (more = pj_value_next_name(&at, &schema, &name)) > 0)
        add_wanted(deployment, schema, name);
    if (more == 0)
        return PJ_OK;
    pj_error_set(error, PJ_ECONFIG, "%s: [mirrors] tables: not a table's name at \"%.40s\"", mirrors->origin, at);
    return pj_error_hint(error, "a comma list such as: tables = users, audit.log, \"Mixed Case\".\"T\"");
}

/* ------------------------------------------------------------------------------------------------------ the whole */

int pj_deployment_make(struct pj_deployment *deployment, const struct pj_config *config, struct pj_error *error)
{
    pj_error_clear(error);
    *deployment = (struct pj_deployment){
        .write_url = pj_strdup(pj_config_get(config, PJ_SET_WRITE_URL)),
        .read_url = pj_strdup(pj_config_get(config, PJ_SET_READ_URL)),
        .slot = pj_strdup(pj_config_get(config, PJ_SET_SLOT)),
        .default_schema = pj_strdup(pj_config_get(config, PJ_SET_SCHEMA)),
        .module_dir = pj_deployment_module_dir(config),
        .jobs = config->jobs,
        .slot_wait_ms = config->slot_wait_ms,
        .batch_bytes = config->batch_bytes,
        .gather_ms = config->gather_ms,
        .resync_on_gap = config->resync_on_gap,
    };
    int code = find_modules(deployment, config, error);
    if (code == PJ_OK)
        code = check_sections(deployment, config, error);
    if (code == PJ_OK)
        code = bind_modules(deployment, config, error);
    if (code == PJ_OK)
        code = want_mirrors(deployment, &config->mirrors, error);
    return code;
}

void pj_deployment_bind(const struct pj_config *config, const char *path, struct pj_binding *binding)
{
    struct pj_deployed_module module = {0};
    bind_section(&module, section_of(config, path), pj_config_get(config, PJ_SET_SCHEMA));
    *binding = module.binding;
}
