/*
 * Is a module's descriptor well-formed? A refusal names file, field, what is there and what should be: module authors
 * read these messages, and get all of them at once. Magic, ABI version and size come first, for what lies behind them
 * may be laid out otherwise. A FATAL fault leaves a descriptor that cannot even be bound to tables.
 */
#include "host/module.h"

#include "pg/quote.h"

#include <stdio.h>
#include <string.h>

enum { NAME_MAX_LENGTH = 48, KEY_MAX_COLUMNS = 32 };

struct check {
    const struct pj_module *module;
    const char *path;
    struct pj_error *error; /* the fault being noted */
    struct pj_fault_list *faults;
};

#define REFUSE(check, ...) (pj_error_set((check)->error, PJ_ECONFIG, __VA_ARGS__), refuse(check))
#define FATAL(check, ...) ((check)->faults->fatal = true, REFUSE(check, __VA_ARGS__))

static void refuse(const struct check *check)
{
    pj_error_wrap(check->error, "module %s", check->path);
    if (!*check->error->hint)
        pj_error_hint(check->error, "correct the module's descriptor (engine/include/pgprojector.h) and build it anew");
    pj_fault_list_add(check->faults, check->error);
}

static bool empty(const char *text)
{
    return !text || !*text;
}

/* A server would cut it, and what is looked for under the whole name not be there. `what`: "target"; `name` may be NULL. */
static void check_length(const struct check *check, const char *what, const char *name, bool table)
{
    if (name && (table ? pj_name_is_long(name) : strlen(name) > PJ_NAME_BYTES))
        REFUSE(check, "%s %.160s: a name of more than %d bytes, which PostgreSQL would cut", what, name, PJ_NAME_BYTES);
}

/* -------------------------------------------------------------------------------------------------------- header */

/* False where nothing behind it can be read. */
static bool check_header(const struct check *check)
{
    const struct pj_module *module = check->module;
    if (!module) {
        FATAL(check, "pj_module() returned NULL");
    } else if (module->magic != PJ_MODULE_MAGIC) {
        FATAL(check, "magic is 0x%08x, not 0x%08x: not a projection module", module->magic, PJ_MODULE_MAGIC);
    } else if (module->abi_version != PJ_ABI_VERSION) {
        pj_error_set(check->error, PJ_ECONFIG, "built for ABI version %u, this pgprojector has version %d",
                     module->abi_version, PJ_ABI_VERSION);
        pj_error_hint(check->error, "build the module anew with this pgprojector's pgprojector.h");
        refuse(check);
    } else if (module->size != sizeof *module) {
        pj_error_set(check->error, PJ_ECONFIG, "its struct pj_module has %zu bytes, this pgprojector's has %zu",
                     module->size, sizeof *module);
        pj_error_hint(check->error, "set size to sizeof(struct pj_module) and build with this pgprojector's header");
        refuse(check);
    } else {
        return true;
    }
    check->faults->fatal = true;
    return false;
}

static bool good_name(const char *name)
{
    if (empty(name) || !(name[0] >= 'a' && name[0] <= 'z'))
        return false;
    size_t good = strspn(name, "abcdefghijklmnopqrstuvwxyz0123456789_");
    return name[good] == '\0' && good <= NAME_MAX_LENGTH;
}

/* The file must be called after the module, so that a name in the configuration means one thing. */
static void check_name(const struct check *check)
{
    const char *name = check->module->name;
    if (!good_name(name)) {
        FATAL(check, "name \"%.60s\" must match [a-z][a-z0-9_]*, with at most %d characters", name ? name : "",
              NAME_MAX_LENGTH);
        return;
    }
    const char *slash = strrchr(check->path, '/');
    const char *file = slash ? slash + 1 : check->path;
    size_t length = strlen(name);
    if (strncmp(file, name, length) != 0 || strcmp(file + length, ".so") != 0)
        REFUSE(check, "the module calls itself \"%s\", so its file must be %s.so", name, name);
}

/* ------------------------------------------------------------------------------------------------------- sources */

static bool known_type(enum pj_type type)
{
    return type >= PJ_ANY && type <= PJ_UUID;
}

static void check_source_column(const struct check *check, const struct pj_source *source,
                                const struct pj_column *column)
{
    if (empty(column->name)) {
        FATAL(check, "source %s: a column has no name", source->table);
        return;
    }
    if (!known_type(column->type))
        FATAL(check, "source %s: column %s has the unknown type %d", source->table, column->name, (int)column->type);
    check_length(check, "column", column->name, false);
    for (const struct pj_column *other = source->columns; other < column; other++)
        if (strcmp(other->name, column->name) == 0)
            REFUSE(check, "source %s lists column %s twice", source->table, column->name);
}

static void check_source_columns(const struct check *check, const struct pj_source *source)
{
    /* with a target it may be another projection's table: only the deployment tells (core/projection.c) */
    if (source->columns && !check->module->apply && !check->module->target)
        REFUSE(check, "source %s lists columns, but there is no apply() to read them", source->table);
    if (pj_source_column_count(source) > PJ_MAX_SOURCE_COLUMNS)
        FATAL(check, "source %s lists %d columns; at most %d are possible", source->table,
              pj_source_column_count(source), PJ_MAX_SOURCE_COLUMNS);
    for (const struct pj_column *column = source->columns; column && column->name; column++)
        check_source_column(check, source, column);
}

static void check_sources(const struct check *check)
{
    const struct pj_source *sources = check->module->sources;
    if (pj_module_source_count(check->module) == 0)
        FATAL(check, "sources is empty: a module reads at least one table");
    for (int i = 0; sources && sources[i].table; i++) {
        if (empty(sources[i].table))
            FATAL(check, "source %d has no name", i);
        if (sources[i].key && empty(sources[i].key))
            FATAL(check, "source %s: key is an empty name (NULL says that there is none)", sources[i].table);
        check_length(check, "source", sources[i].table, true);
        check_length(check, "key", sources[i].key, false);
        for (int j = 0; j < i; j++)
            if (strcmp(sources[i].table, sources[j].table) == 0)
                REFUSE(check, "source %s is declared twice", sources[i].table);
        check_source_columns(check, &sources[i]);
    }
}

/* -------------------------------------------------------------------------------------------------------- target */

static void check_no_target(const struct check *check)
{
    const struct pj_module *module = check->module;
    if (module->key || module->target_indexes || module->definition || module->streams || module->apply ||
        module->fillfactor)
        REFUSE(check, "target is NULL, but key, target_indexes, fillfactor, definition, streams or apply is set");
}

static void check_key(const struct check *check)
{
    const struct pj_module *module = check->module;
    int nkey = pj_module_key_count(module);
    if (nkey == 0 || nkey > KEY_MAX_COLUMNS)
        FATAL(check, "key has %d columns; a target needs 1 to %d", nkey, KEY_MAX_COLUMNS);
    for (int i = 0; i < nkey; i++) {
        check_length(check, "key", module->key[i], false);
        for (int j = 0; j < i; j++)
            if (strcmp(module->key[i], module->key[j]) == 0)
                REFUSE(check, "key lists column %s twice", module->key[i]);
    }
}

static void check_target(const struct check *check)
{
    const struct pj_module *module = check->module;
    if (!module->target) {
        check_no_target(check);
        return;
    }
    if (empty(module->target))
        FATAL(check, "target is an empty name");
    check_length(check, "target", module->target, true);
    check_key(check);
    if (empty(module->definition))
        FATAL(check, "there is a target, %s, but no definition", module->target);
    if (module->fillfactor != 0 && (module->fillfactor < 10 || module->fillfactor > 100))
        REFUSE(check, "fillfactor is %d; it must be 10 to 100, or 0 for the default", module->fillfactor);
}

/* ------------------------------------------------------------------------------------------------------- streams */

static bool can_be_ordered(enum pj_type type)
{
    return type == PJ_INT2 || type == PJ_INT4 || type == PJ_INT8 || type == PJ_DATE || type == PJ_TIMESTAMP ||
           type == PJ_TIMESTAMPTZ;
}

static void check_stream_column(const struct check *check, const struct pj_stream *stream, int i)
{
    const struct pj_stream_column *column = &stream->columns[i];
    const char *where = stream->name, *name = column->name;
    if (empty(name)) {
        FATAL(check, "stream %s: column %d has no name", where, i);
        return;
    }
    check_length(check, "column", name, false);
    if (column->type <= PJ_ANY || column->type > PJ_UUID)
        FATAL(check, "stream %s: column %s has type %d; it must be one of the listed types and not PJ_ANY", where, name,
              (int)column->type);
    if (column->combine < PJ_KEY || column->combine > PJ_LAST)
        REFUSE(check, "stream %s: column %s has the unknown combine %d", where, name, (int)column->combine);
    if (i == 0 && column->combine != PJ_KEY)
        REFUSE(check, "stream %s: its first column, %s, must be PJ_KEY: the routing key", where, name);
    if (i > 0 && column->combine == PJ_KEY && stream->columns[i - 1].combine != PJ_KEY)
        REFUSE(check, "stream %s: the PJ_KEY column %s must stand before the others", where, name);
    if (column->combine == PJ_SUM && column->type != PJ_INT8)
        REFUSE(check, "stream %s: column %s is PJ_SUM, so its type must be PJ_INT8", where, name);
    if ((column->combine == PJ_MIN || column->combine == PJ_MAX) && !can_be_ordered(column->type))
        REFUSE(check, "stream %s: column %s is PJ_MIN or PJ_MAX, so it must be an integer, date or timestamp", where,
               name);
    for (int j = 0; j < i; j++)
        if (strcmp(stream->columns[j].name, name) == 0)
            REFUSE(check, "stream %s lists column %s twice", where, name);
}

static void check_streams(const struct check *check)
{
    const struct pj_module *module = check->module;
    int count = pj_module_stream_count(module);
    if (count && !module->apply)
        REFUSE(check, "there are streams, but no apply() to feed them");
    for (int i = 0; i < count; i++) {
        const struct pj_stream *stream = &module->streams[i];
        if (empty(stream->name) || pj_stream_column_count(stream) == 0) {
            FATAL(check, "stream %d has no name or no columns", i);
            continue;
        }
        if (empty(stream->merge))
            FATAL(check, "stream %s has no merge statement", stream->name);
        for (int j = 0; stream->columns[j].name; j++)
            check_stream_column(check, stream, j);
    }
}

/* ------------------------------------------------------------------------------------------------------- options */

static void check_options(const struct check *check)
{
    for (const struct pj_option *option = check->module->options; option && option->name; option++) {
        if (!good_name(option->name))
            REFUSE(check, "option \"%.60s\" must match [a-z][a-z0-9_]*", option->name);
        if (strcmp(option->name, PJ_ON_ERROR) == 0)
            REFUSE(check, "option " PJ_ON_ERROR ": that name is pgprojector's own in the section [module NAME]");
        if (!option->value)
            FATAL(check, "option %s has no default value", option->name);
        struct pj_error unfit;
        if (pj_module_option_check(option, option->value, &unfit) != PJ_OK)
            REFUSE(check, "the default of %s", unfit.message);
    }
}

static void check_indexes(const struct check *check, const char *field, const char *const *indexes)
{
    for (int i = 0; indexes && indexes[i]; i++)
        if (empty(indexes[i]))
            REFUSE(check, "%s: number %d is empty", field, i);
}

void pj_module_faults(const struct pj_module *module, const char *path, struct pj_fault_list *faults)
{
    struct pj_error error;
    pj_error_clear(&error);
    const struct check check = {module, path, &error, faults};
    if (!check_header(&check))
        return;
    check_name(&check);
    check_sources(&check);
    check_target(&check);
    check_streams(&check);
    check_options(&check);
    check_indexes(&check, "mirror_indexes", module->mirror_indexes);
    check_indexes(&check, "target_indexes", module->target_indexes);
}

int pj_module_check(const struct pj_module *module, const char *path, struct pj_error *error)
{
    struct pj_fault_list faults = {0};
    pj_error_clear(error);
    pj_module_faults(module, path, &faults);
    if (faults.count)
        *error = faults.faults[0];
    pj_fault_list_free(&faults);
    return error->code;
}
