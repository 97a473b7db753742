/*
 * The configuration file: libinih reads it line by line, this decides what each line means.
 *
 *      [pgprojector]           settings, see PJ_SETTINGS
 *      [mirrors]               tables = further tables to mirror
 *      [module NAME]           table.X, column.X.Y and the module's options; checked when the module is known
 *
 * Nothing is guessed: an unknown section, an unknown key, a key given twice, an indented line that would silently
 * become part of the value above it, a section name too long for the library, are errors that name file and line.
 */
#include "app/config.h"
#include "app/values.h"
#include "base/buf.h"
#include "base/mem.h"

#include <errno.h>
#include <ini.h>
#include <stdio.h>
#include <string.h>

enum { LONGEST_SECTION = 49, LONGEST_LINE = 64 << 10 }; /* the first is libinih's: longer ones arrive cut */

struct reading {
    struct pj_config *config;
    const char *path;
    FILE *file;
    int line;         /* of what was read last */
    bool line_begins; /* the next piece is the beginning of a line */
    bool indented;    /* the line begins with white space: libinih takes it for a continuation */
    bool seen[PJ_SETTING_COUNT];
    struct pj_error *error;
};

/* fgets that counts lines: the library's handler is not told where it is. */
static char *read_piece(char *text, int size, void *stream)
{
    struct reading *reading = stream;
    if (!fgets(text, size, reading->file))
        return NULL;
    if (reading->line_begins) {
        reading->line++;
        reading->indented = *text == ' ' || *text == '\t';
    }
    reading->line_begins = strchr(text, '\n') != NULL;
    return text;
}

static int complain(struct reading *reading, const char *text, const char *word, const char *nearest)
{
    if (reading->error->code == PJ_OK) {
        pj_error_set(reading->error, PJ_ECONFIG, "%s:%d: %s \"%.100s\"", reading->path, reading->line, text, word);
        if (nearest)
            pj_error_hint(reading->error, "did you mean \"%s\"?", nearest);
    }
    return 0;
}

static const char *nearest_setting(const char *word)
{
    const char *keys[PJ_SETTING_COUNT + 1] = {0};
    for (int id = 0; id < PJ_SETTING_COUNT; id++)
        keys[id] = pj_setting_info((enum pj_setting_id)id)->key;
    return pj_value_nearest(word, keys);
}

/* A key that another section has, or nearly. */
static int complain_of_section(struct reading *reading, const char *text, const char *key, const char *nearest,
                               const char *section)
{
    bool first = reading->error->code == PJ_OK;
    complain(reading, text, key, NULL);
    if (first && nearest)
        pj_error_hint(reading->error, "did you mean \"%s\" of [%s]?", nearest, section);
    return 0;
}

static void append_line(char **value, const char *more)
{
    char *whole = pj_sprintf("%s %s", *value, more);
    pj_free(*value);
    *value = whole;
}

static int take_setting(struct reading *reading, const char *key, const char *value, const char *origin)
{
    for (int id = 0; id < PJ_SETTING_COUNT; id++) {
        if (strcmp(key, pj_setting_info((enum pj_setting_id)id)->key) != 0)
            continue;
        bool list = id == PJ_SET_MODULES;
        if (reading->indented && reading->seen[id] && list) {
            if (reading->config->settings[id].rank == PJ_RANK_FILE)
                append_line(&reading->config->settings[id].value, value);
            return 1;
        }
        if (reading->seen[id])
            return complain(reading,
                            reading->indented ? "an indented line continues the value of" : "a second value for", key,
                            NULL);
        reading->seen[id] = true;
        pj_config_set(reading->config, (enum pj_setting_id)id, PJ_RANK_FILE, value, origin);
        return 1;
    }
    if (strcmp(key, "tables") == 0)
        return complain_of_section(reading, "unknown key in [pgprojector]:", key, key, "mirrors");
    return complain(reading, "unknown key in [pgprojector]:", key, nearest_setting(key));
}

static int take_mirrors(struct reading *reading, const char *key, const char *value, const char *origin)
{
    static const char *const keys[] = {"tables", NULL};
    struct pj_setting *mirrors = &reading->config->mirrors;
    const char *nearest = pj_value_nearest(key, keys);
    if (strcmp(key, "tables") != 0 && !nearest)
        return complain_of_section(reading, "unknown key in [mirrors]:", key, nearest_setting(key), "pgprojector");
    if (strcmp(key, "tables") != 0)
        return complain(reading, "unknown key in [mirrors]:", key, nearest);
    if (mirrors->value && !reading->indented)
        return complain(reading, "a second value for", key, NULL);
    if (mirrors->value) {
        append_line(&mirrors->value, value);
        return 1;
    }
    *mirrors = (struct pj_setting){pj_strdup(value), pj_strdup(origin), PJ_RANK_FILE};
    return 1;
}

static struct pj_config_module *module_section(struct pj_config *config, const char *name, const char *origin)
{
    for (int i = 0; i < config->nmodules; i++)
        if (strcmp(config->modules[i].name, name) == 0)
            return &config->modules[i];
    config->modules = pj_realloc(config->modules, sizeof *config->modules * (size_t)(config->nmodules + 1));
    struct pj_config_module *module = &config->modules[config->nmodules++];
    *module = (struct pj_config_module){.name = pj_strdup(name), .origin = pj_strdup(origin)};
    return module;
}

static int take_entry(struct reading *reading, const char *name, const char *key, const char *value, const char *origin)
{
    if (reading->indented)
        return complain(reading, "an indented line continues the value of", key, NULL);
    struct pj_config_module *module = module_section(reading->config, name, origin);
    for (int i = 0; i < module->nentries; i++)
        if (strcmp(module->entries[i].key, key) == 0)
            return complain(reading, "a second value for", key, NULL);
    module->entries = pj_realloc(module->entries, sizeof *module->entries * (size_t)(module->nentries + 1));
    module->entries[module->nentries++] = (struct pj_config_entry){pj_strdup(key), pj_strdup(value), pj_strdup(origin)};
    return 1;
}

static int take_line(struct reading *reading, const char *section, const char *key, const char *value,
                     const char *origin)
{
    static const char *const sections[] = {"pgprojector", "mirrors", "module NAME", NULL};
    if (strlen(section) >= LONGEST_SECTION)
        return complain(reading, "the section's name is too long:", section, NULL);
    if (strcmp(section, "pgprojector") == 0)
        return take_setting(reading, key, value, origin);
    if (strcmp(section, "mirrors") == 0)
        return take_mirrors(reading, key, value, origin);
    if (strncmp(section, "module ", 7) == 0 && section[7 + strspn(section + 7, " ")])
        return take_entry(reading, section + 7 + strspn(section + 7, " "), key, value, origin);
    if (!*section)
        return complain(reading, "no section above; [pgprojector] should stand before", key, NULL);
    complain(reading, "unknown section", section, pj_value_nearest(section, sections));
    if (!reading->error->hint[0])
        pj_error_hint(reading->error, "the sections are [pgprojector], [mirrors] and [module NAME]");
    return 0;
}

static int handle(void *context, const char *section, const char *key, const char *value)
{
    struct reading *reading = context;
    char *origin = pj_sprintf("%s:%d", reading->path, reading->line);
    int good = take_line(reading, section, key, value, origin);
    pj_free(origin);
    return good;
}

static int read_stream(struct pj_config *config, FILE *file, const char *path, struct pj_error *error)
{
    struct reading reading = {.config = config, .path = path, .file = file, .line_begins = true, .error = error};
    /* Debian's libinih has its limits as variables: lines of 200 bytes would be too short for a connection string */
    ini_use_stack = false;
    ini_allow_realloc = true;
    ini_max_line = LONGEST_LINE;
    int line = ini_parse_stream(read_piece, &reading, handle, &reading);
    if (line != 0 && error->code == PJ_OK)
        pj_error_set(error, PJ_ECONFIG, "%s:%d: neither [section] nor key = value", path, line);
    return error->code;
}

static void remember_file(struct pj_config *config, const char *path)
{
    pj_free(config->file);
    config->file = pj_strdup(path);
}

int pj_config_read_file(struct pj_config *config, const char *path, struct pj_error *error)
{
    pj_error_clear(error);
    FILE *file = fopen(path, "re");
    if (!file)
        return pj_error_set(error, PJ_ECONFIG, "cannot open the configuration file %s: %s", path, strerror(errno));
    int code = read_stream(config, file, path, error);
    if (code == PJ_OK && ferror(file))
        code = pj_error_set(error, PJ_ECONFIG, "cannot read the configuration file %s", path);
    fclose(file);
    remember_file(config, path);
    return code;
}

int pj_config_read_text(struct pj_config *config, const char *text, const char *path, struct pj_error *error)
{
    pj_error_clear(error);
    if (!*text)
        return PJ_OK; /* fmemopen refuses an empty buffer */
    FILE *file = fmemopen((void *)(size_t)text, strlen(text), "r");
    if (!file)
        return pj_error_set(error, PJ_EFAIL, "%s: %s", path, strerror(errno));
    int code = read_stream(config, file, path, error);
    fclose(file);
    return code;
}
