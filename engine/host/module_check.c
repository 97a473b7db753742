/*
 * Is a module's descriptor well-formed? A refusal names file, field, what is there and what should be: module authors
 * read these messages. Magic, ABI version and size come first, for what lies behind them may be laid out otherwise.
 */
#include "host/module.h"

#include <stdio.h>
#include <string.h>

enum { NAME_MAX_LENGTH = 48, KEY_MAX_COLUMNS = 32 };

struct check {
    const struct pj_module *module;
    const char *path;
    struct pj_error *error;
};

#define REFUSE(check, ...) (pj_error_set((check)->error, PJ_ECONFIG, __VA_ARGS__), refuse(check))

static int refuse(const struct check *check)
{
    pj_error_wrap(check->error, "module %s", check->path);
    if (!*check->error->hint)
        pj_error_hint(check->error, "correct the module's descriptor (engine/include/pgprojector.h) and build it anew");
    return check->error->code;
}

static bool empty(const char *text)
{
    return !text || !*text;
}

/* -------------------------------------------------------------------------------------------------------- header */

static int check_header(const struct check *check)
{
    const struct pj_module *module = check->module;
    if (!module)
        return REFUSE(check, "pj_module() returned NULL");
    if (module->magic != PJ_MODULE_MAGIC)
        return REFUSE(check, "magic is 0x%08x, not 0x%08x: not a projection module", module->magic, PJ_MODULE_MAGIC);
    if (module->abi_version != PJ_ABI_VERSION) {
        pj_error_set(check->error, PJ_ECONFIG, "built for ABI version %u, this pgprojector has version %d",
                     module->abi_version, PJ_ABI_VERSION);
        pj_error_hint(check->error, "build the module anew with this pgprojector's pgprojector.h");
        return refuse(check);
    }
    if (module->size != sizeof *module) {
        pj_error_set(check->error, PJ_ECONFIG, "its struct pj_module has %zu bytes, this pgprojector's has %zu",
                     module->size, sizeof *module);
        pj_error_hint(check->error, "set size to sizeof(struct pj_module) and build with this pgprojector's header");
        return refuse(check);
    }
    return PJ_OK;
}

static bool good_name(const char *name)
{
    if (empty(name) || !(name[0] >= 'a' && name[0] <= 'z'))
        return false;
    size_t good = strspn(name, "abcdefghijklmnopqrstuvwxyz0123456789_");
    return name[good] == '\0' && good <= NAME_MAX_LENGTH;
}

/* The file must be called after the module, so that a name in the configuration means one thing. */
static int check_name(const struct check *check)
{
    const char *name = check->module->name;
    if (!good_name(name))
        return REFUSE(check, "name \"%.60s\" must match [a-z][a-z0-9_]*, with at most %d characters", name ? name : "",
                      NAME_MAX_LENGTH);
    const char *slash = strrchr(check->path, '/');
    const char *file = slash ? slash + 1 : check->path;
    size_t length = strlen(name);
    if (strncmp(file, name, length) != 0 || strcmp(file + length, ".so") != 0)
        return REFUSE(check, "the module calls itself \"%s\", so its file must be %s.so", name, name);
    return PJ_OK;
}

/* ------------------------------------------------------------------------------------------------------- sources */

static bool known_type(enum pj_type type)
{
    return type >= PJ_ANY && type <= PJ_UUID;
}

static int check_source_columns(const struct check *check, const struct pj_source *source)
{
    if (source->columns && !check->module->apply)
        return REFUSE(check, "source %s lists columns, but there is no apply() to read them", source->table);
    for (const struct pj_column *column = source->columns; column && column->name; column++) {
        if (empty(column->name))
            return REFUSE(check, "source %s: a column has no name", source->table);
        if (!known_type(column->type))
            return REFUSE(check, "source %s: column %s has the unknown type %d", source->table, column->name,
                          (int)column->type);
        for (const struct pj_column *other = source->columns; other < column; other++)
            if (strcmp(other->name, column->name) == 0)
                return REFUSE(check, "source %s lists column %s twice", source->table, column->name);
    }
    return PJ_OK;
}

static int check_sources(const struct check *check)
{
    const struct pj_source *sources = check->module->sources;
    if (pj_module_source_count(check->module) == 0)
        return REFUSE(check, "sources is empty: a module reads at least one table");
    for (int i = 0; sources[i].table; i++) {
        if (empty(sources[i].table))
            return REFUSE(check, "source %d has no name", i);
        if (sources[i].key && empty(sources[i].key))
            return REFUSE(check, "source %s: key is an empty name (NULL says that there is none)", sources[i].table);
        for (int j = 0; j < i; j++)
            if (strcmp(sources[i].table, sources[j].table) == 0)
                return REFUSE(check, "source %s is declared twice", sources[i].table);
        int code = check_source_columns(check, &sources[i]);
        if (code != PJ_OK)
            return code;
    }
    return PJ_OK;
}

/* -------------------------------------------------------------------------------------------------------- target */

static int check_no_target(const struct check *check)
{
    const struct pj_module *module = check->module;
    if (module->key || module->target_indexes || module->definition || module->streams || module->apply ||
        module->fillfactor)
        return REFUSE(check,
                      "target is NULL, but key, target_indexes, fillfactor, definition, streams or apply is set");
    return PJ_OK;
}

static int check_target(const struct check *check)
{
    const struct pj_module *module = check->module;
    if (!module->target)
        return check_no_target(check);
    if (empty(module->target))
        return REFUSE(check, "target is an empty name");
    int nkey = pj_module_key_count(module);
    if (nkey == 0 || nkey > KEY_MAX_COLUMNS)
        return REFUSE(check, "key has %d columns; a target needs 1 to %d", nkey, KEY_MAX_COLUMNS);
    for (int i = 0; i < nkey; i++)
        for (int j = 0; j < i; j++)
            if (strcmp(module->key[i], module->key[j]) == 0)
                return REFUSE(check, "key lists column %s twice", module->key[i]);
    if (empty(module->definition))
        return REFUSE(check, "there is a target, %s, but no definition", module->target);
    if (module->fillfactor != 0 && (module->fillfactor < 10 || module->fillfactor > 100))
        return REFUSE(check, "fillfactor is %d; it must be 10 to 100, or 0 for the default", module->fillfactor);
    return PJ_OK;
}

/* ------------------------------------------------------------------------------------------------------- streams */

static bool can_be_ordered(enum pj_type type)
{
    return type == PJ_INT2 || type == PJ_INT4 || type == PJ_INT8 || type == PJ_DATE || type == PJ_TIMESTAMP ||
           type == PJ_TIMESTAMPTZ;
}

static int check_stream_column(const struct check *check, const struct pj_stream *stream, int i)
{
    const struct pj_stream_column *column = &stream->columns[i];
    const char *where = stream->name, *name = column->name;
    if (empty(name))
        return REFUSE(check, "stream %s: column %d has no name", where, i);
    if (column->type <= PJ_ANY || column->type > PJ_UUID)
        return REFUSE(check, "stream %s: column %s has type %d; it must be one of the listed types and not PJ_ANY",
                      where, name, (int)column->type);
    if (column->combine < PJ_KEY || column->combine > PJ_LAST)
        return REFUSE(check, "stream %s: column %s has the unknown combine %d", where, name, (int)column->combine);
    if (i == 0 && column->combine != PJ_KEY)
        return REFUSE(check, "stream %s: its first column, %s, must be PJ_KEY: the routing key", where, name);
    if (i > 0 && column->combine == PJ_KEY && stream->columns[i - 1].combine != PJ_KEY)
        return REFUSE(check, "stream %s: the PJ_KEY column %s must stand before the others", where, name);
    if (column->combine == PJ_SUM && column->type != PJ_INT8)
        return REFUSE(check, "stream %s: column %s is PJ_SUM, so its type must be PJ_INT8", where, name);
    if ((column->combine == PJ_MIN || column->combine == PJ_MAX) && !can_be_ordered(column->type))
        return REFUSE(check, "stream %s: column %s is PJ_MIN or PJ_MAX, so it must be an integer, date or timestamp",
                      where, name);
    for (int j = 0; j < i; j++)
        if (strcmp(stream->columns[j].name, name) == 0)
            return REFUSE(check, "stream %s lists column %s twice", where, name);
    return PJ_OK;
}

static int check_streams(const struct check *check)
{
    const struct pj_module *module = check->module;
    int count = pj_module_stream_count(module);
    if (count && !module->apply)
        return REFUSE(check, "there are streams, but no apply() to feed them");
    for (int i = 0; i < count; i++) {
        const struct pj_stream *stream = &module->streams[i];
        if (empty(stream->name) || pj_stream_column_count(stream) == 0)
            return REFUSE(check, "stream %d has no name or no columns", i);
        if (empty(stream->merge))
            return REFUSE(check, "stream %s has no merge statement", stream->name);
        for (int j = 0; stream->columns[j].name; j++) {
            int code = check_stream_column(check, stream, j);
            if (code != PJ_OK)
                return code;
        }
    }
    return PJ_OK;
}

/* ------------------------------------------------------------------------------------------------------- options */

static int check_options(const struct check *check)
{
    for (const struct pj_option *option = check->module->options; option && option->name; option++) {
        if (!good_name(option->name))
            return REFUSE(check, "option \"%.60s\" must match [a-z][a-z0-9_]*", option->name);
        if (!option->value)
            return REFUSE(check, "option %s has no default value", option->name);
    }
    return PJ_OK;
}

static int check_indexes(const struct check *check, const char *field, const char *const *indexes)
{
    for (int i = 0; indexes && indexes[i]; i++)
        if (empty(indexes[i]))
            return REFUSE(check, "%s: number %d is empty", field, i);
    return PJ_OK;
}

int pj_module_check(const struct pj_module *module, const char *path, struct pj_error *error)
{
    pj_error_clear(error);
    const struct check check = {module, path, error};
    int code = check_header(&check);
    if (code == PJ_OK)
        code = check_name(&check);
    if (code == PJ_OK)
        code = check_sources(&check);
    if (code == PJ_OK)
        code = check_target(&check);
    if (code == PJ_OK)
        code = check_streams(&check);
    if (code == PJ_OK)
        code = check_options(&check);
    if (code == PJ_OK)
        code = check_indexes(&check, "mirror_indexes", module->mirror_indexes);
    if (code == PJ_OK)
        code = check_indexes(&check, "target_indexes", module->target_indexes);
    return code;
}
