/*
 * See fixture.h. A case is run like a batch: rows are read from JSON into the form that apply() gets, handed over one
 * by one, and what the host has combined of it is written back as JSON. Comparing is fixture_compare.c's.
 */
#include "host/deltas.h"
#include "host/fixture_internal.h"
#include "host/value_text.h"
#include "wire/pgtext.h"

#include <stdio.h>

static const char *const type_names[] = {"any",   "boolean", "smallint",  "integer",     "bigint", "text",
                                         "bytea", "date",    "timestamp", "timestamptz", "uuid"};
enum { TYPES = sizeof type_names / sizeof *type_names };

const char *pj_fixture_type_name(enum pj_type type)
{
    return type_names[type];
}

/* --------------------------------------------------------------------------------------------------------- reading */

int pj_fixture_read(const char *path, json_t **cases, struct pj_error *error)
{
    json_error_t where;
    json_t *json = json_load_file(path, JSON_REJECT_DUPLICATES, &where);
    pj_error_clear(error);
    *cases = NULL;
    if (!json) {
        if (where.line < 0)
            return pj_error_set(error, PJ_ECONFIG, "fixture %s: %s", path, where.text);
        return pj_error_set(error, PJ_ECONFIG, "fixture %s, line %d, column %d: %s", path, where.line, where.column,
                            where.text);
    }
    if (json_is_object(json)) {
        *cases = json_array();
        json_array_append_new(*cases, json);
        return PJ_OK;
    }
    *cases = json;
    bool good = json_is_array(json) && json_array_size(json) > 0;
    for (size_t i = 0; good && i < json_array_size(json); i++)
        good = json_is_object(json_array_get(json, i));
    if (good)
        return PJ_OK;
    json_decref(json);
    *cases = NULL;
    pj_error_set(error, PJ_ECONFIG, "fixture %s is neither a case nor a list of cases", path);
    return pj_error_hint(error, "a case is {\"changes\": […], \"expect\": {…}}; see projections/README.md");
}

const char *pj_fixture_name(const json_t *test, size_t index, char space[32])
{
    const char *name = json_string_value(json_object_get(test, "name"));
    snprintf(space, 32, "case %zu", index + 1);
    return name && *name ? name : space;
}

int pj_fixture_members(const json_t *object, const char *where, const char *const *known, struct pj_error *error)
{
    if (!json_is_object(object))
        return pj_error_set(error, PJ_ECONFIG, "%s is not an object {…}", where);
    const char *key;
    json_t *value;
    json_object_foreach((json_t *)(size_t)object, key, value)
    {
        const char *const *name = known;
        struct pj_buf list = {0};
        for (; *name && strcmp(*name, key) != 0; name++)
            pj_buf_printf(&list, "%s%s", list.length ? ", " : "", *name);
        if (!*name) {
            pj_error_set(error, PJ_ECONFIG, "%s has an unknown member \"%.60s\"", where, key);
            pj_error_hint(error, "known are: %s", pj_buf_text(&list));
        }
        pj_buf_free(&list);
        if (!*name)
            return PJ_ECONFIG;
    }
    return PJ_OK;
}

/* ----------------------------------------------------------------------------------------------------------- types */

static enum pj_type type_by_name(const char *name)
{
    for (int i = 0; name && i < TYPES; i++)
        if (strcmp(type_names[i], name) == 0)
            return (enum pj_type)i;
    return PJ_ANY;
}

static enum pj_type given_type(const struct pj_fixture_case *fixture, const char *table, const char *column,
                               enum pj_type otherwise)
{
    char *name = pj_sprintf("%s.%s", table, column);
    const char *given = json_string_value(json_object_get(json_object_get(fixture->test, "types"), name));
    pj_free(name);
    return given ? type_by_name(given) : otherwise;
}

static enum pj_type source_type(const struct pj_fixture_case *fixture, const struct pj_source *source,
                                const char *column)
{
    for (const struct pj_column *declared = source->columns; declared && declared->name; declared++)
        if (strcmp(declared->name, column) == 0)
            return given_type(fixture, source->table, column, declared->type);
    return given_type(fixture, source->table, column, PJ_ANY);
}

static bool named_in(const char *column, const struct pj_source *source, const char *const *key)
{
    bool found = source && source->key && strcmp(source->key, column) == 0;
    for (const struct pj_column *known = source ? source->columns : NULL; known && known->name && !found; known++)
        found = strcmp(known->name, column) == 0;
    for (; key && *key && !found; key++)
        found = strcmp(*key, column) == 0;
    return found;
}

/* Whether "TABLE.COLUMN" is a column that the module reads, or may be a key of; or "target.COLUMN" of its target's key. */
static bool is_a_column(const struct pj_module *module, const char *name)
{
    const char *dot = strrchr(name, '.');
    size_t length = dot ? (size_t)(dot - name) : 0;
    for (int i = 0; length && i < pj_module_source_count(module); i++)
        if (strncmp(module->sources[i].table, name, length) == 0 && !module->sources[i].table[length] &&
            named_in(dot + 1, &module->sources[i], module->key))
            return true;
    return length && strncmp(name, "target.", length + 1) == 0 && named_in(dot + 1, NULL, module->key);
}

static int check_types(const struct pj_fixture_case *fixture, struct pj_error *error)
{
    const char *name;
    json_t *type, *types = json_object_get(fixture->test, "types");
    if (types && !json_is_object(types))
        return pj_error_set(error, PJ_ECONFIG, "types is not an object {…}");
    json_object_foreach(types, name, type)
    {
        const char *word = json_string_value(type);
        if (!is_a_column(fixture->module, name)) {
            pj_error_set(error, PJ_ECONFIG, "types: the module reads no column \"%.60s\"", name);
            return pj_error_hint(error,
                                 "\"TABLE.COLUMN\" as the module declares them, or \"target.COLUMN\" of its key");
        }
        if (!word || strcmp(type_names[type_by_name(word)], word) != 0) {
            pj_error_set(error, PJ_ECONFIG, "types: \"%.60s\" is of an unknown type", name);
            return pj_error_hint(error, "one of boolean, smallint, integer, bigint, text, bytea, date, timestamp, "
                                        "timestamptz, uuid, or any for all others");
        }
    }
    return PJ_OK;
}

static void source_shape(const struct pj_fixture_case *fixture, const struct pj_source *source,
                         struct pj_fixture_shape *shape)
{
    shape->width = shape->nkey = 0;
    for (const struct pj_column *column = source->columns; column && column->name; column++)
        shape->names[shape->width++] = column->name;
    if (!shape->width && source->key)
        shape->names[shape->width++] = source->key;
    for (int i = 0; i < shape->width; i++)
        shape->types[i] = source_type(fixture, source, shape->names[i]);
}

void pj_fixture_stream_shape(const struct pj_fixture_case *fixture, int stream, struct pj_fixture_shape *shape)
{
    shape->width = shape->nkey = 0;
    for (const struct pj_stream_column *column = fixture->module->streams[stream].columns; column->name; column++) {
        shape->nkey += column->combine == PJ_KEY;
        shape->types[shape->width] = column->type;
        shape->names[shape->width++] = column->name;
    }
}

/*
 * The module does not say of what types its target's key is: that follows from the definition. But the routing key is
 * of the type of the columns that carry it, and what apply() gives as a key mostly is a column of the same name.
 */
static enum pj_type key_type(const struct pj_fixture_case *fixture, int place)
{
    const struct pj_module *module = fixture->module;
    const char *name = module->key[place];
    enum pj_type type = given_type(fixture, "target", name, PJ_ANY);
    for (int i = 0; type == PJ_ANY && i < pj_module_source_count(module); i++)
        if (place == 0 && module->sources[i].key)
            type = source_type(fixture, &module->sources[i], module->sources[i].key);
    for (int i = 0; type == PJ_ANY && i < pj_module_source_count(module); i++)
        type = source_type(fixture, &module->sources[i], name);
    for (int i = 0; type == PJ_ANY && i < pj_module_stream_count(module); i++)
        for (const struct pj_stream_column *column = module->streams[i].columns; column->name; column++)
            if (strcmp(column->name, name) == 0)
                type = column->type;
    return type;
}

void pj_fixture_key_shape(const struct pj_fixture_case *fixture, int count, struct pj_fixture_shape *shape)
{
    shape->width = shape->nkey = count;
    for (int i = 0; i < count; i++) {
        shape->names[i] = fixture->module->key[i];
        shape->types[i] = key_type(fixture, i);
    }
}

/* ---------------------------------------------------------------------------------------------------------- values */

json_t *pj_fixture_value(enum pj_type type, struct pj_value value)
{
    struct pj_buf text = {0};
    json_t *json;
    bool number = type == PJ_INT2 || type == PJ_INT4 || type == PJ_INT8;
    if (!pj_value_text(type, value, &text) && !pj_value_text(PJ_ANY, value, &text))
        json = json_null();
    else if (number && text.data[0] != '\\')
        json = json_integer(pj_int64(value));
    else if (type == PJ_BOOL && value.length == 1)
        json = json_boolean(value.data[0]);
    else
        json = json_string(pj_buf_text(&text));
    pj_buf_free(&text);
    return json;
}

static int read_value(struct pj_fixture_case *fixture, enum pj_type type, const json_t *json, struct pj_value *value,
                      struct pj_error *error)
{
    char number[32];
    const char *text = json_string_value(json);
    size_t length = text ? json_string_length(json) : 0;
    if (json_is_null(json)) {
        *value = pj_make_null();
        return PJ_OK;
    }
    if (json_is_integer(json)) {
        length = (size_t)snprintf(number, sizeof number, "%lld", (long long)json_integer_value(json));
        text = number;
    } else if (json_is_boolean(json)) {
        text = json_is_true(json) ? "t" : "f";
        length = 1;
    }
    if (!text) {
        pj_error_set(error, PJ_ECONFIG, "is %s", json_is_real(json) ? "a number with a fraction" : "a list or object");
        return pj_error_hint(error, "write it as a string, as PostgreSQL shows it: \"1.50\", \"{1,2}\"");
    }
    if (pj_pgtext_to_binary(type, text, length, &fixture->arena, value))
        return PJ_OK;
    return pj_error_set(error, PJ_ECONFIG, "\"%.80s\" is no %s", text, type_names[type]);
}

int pj_fixture_read_row(struct pj_fixture_case *fixture, const struct pj_fixture_shape *shape, const json_t *object,
                        const char *where, struct pj_value *row, struct pj_error *error)
{
    const char *known[PJ_MAX_SOURCE_COLUMNS + 1] = {0};
    for (int i = 0; i < shape->width; i++)
        known[i] = shape->names[i];
    int code = pj_fixture_members(object, where, known, error);
    for (int i = 0; code == PJ_OK && i < shape->width; i++) {
        const json_t *value = json_object_get(object, shape->names[i]);
        row[i] = pj_make_null();
        code = value ? read_value(fixture, shape->types[i], value, &row[i], error) : PJ_OK;
        if (code != PJ_OK)
            pj_error_wrap(error, "%s: %s", where, shape->names[i]);
    }
    return code;
}

json_t *pj_fixture_row(const struct pj_fixture_shape *shape, const struct pj_value *row)
{
    json_t *object = json_object();
    for (int i = 0; i < shape->width; i++)
        if (!pj_is_null(row[i]))
            json_object_set_new(object, shape->names[i], pj_fixture_value(shape->types[i], row[i]));
    return object;
}

/* --------------------------------------------------------------------------------------------------------- running */

static int read_options(struct pj_fixture_case *fixture, struct pj_error *error)
{
    const struct pj_option *declared = fixture->module->options;
    int count = pj_module_option_count(fixture->module);
    const char *known[PJ_MAX_SOURCE_COLUMNS + 1] = {0};
    json_t *given = json_object_get(fixture->test, "options");
    fixture->options = pj_alloc(sizeof *fixture->options * (size_t)(count + 1));
    for (int i = 0; i < count; i++) {
        const json_t *value = json_object_get(given, declared[i].name);
        if (i < PJ_MAX_SOURCE_COLUMNS)
            known[i] = declared[i].name;
        if (value && !json_is_string(value))
            return pj_error_set(error, PJ_ECONFIG, "options: %s must be a string", declared[i].name);
        fixture->options[i] = value ? json_string_value(value) : declared[i].value;
        if (pj_module_option_check(&declared[i], fixture->options[i], error) != PJ_OK)
            return error->code;
    }
    return given ? pj_fixture_members(given, "options", known, error) : PJ_OK;
}

static int find_source(const struct pj_fixture_case *fixture, const char *table, const char *where,
                       struct pj_error *error)
{
    const struct pj_source *sources = fixture->module->sources;
    struct pj_buf names = {0};
    for (int i = 0; sources[i].table; i++) {
        if (table && strcmp(sources[i].table, table) == 0) {
            pj_buf_free(&names);
            return i;
        }
        pj_buf_printf(&names, "%s%s", i ? ", " : "", sources[i].table);
    }
    if (table)
        pj_error_set(error, PJ_ECONFIG, "%s: the module reads no table \"%.60s\"", where, table);
    else
        pj_error_set(error, PJ_ECONFIG, "%s has no \"table\"", where);
    pj_error_hint(error, "it reads: %s", pj_buf_text(&names));
    pj_buf_free(&names);
    return -1;
}

static int read_side(struct pj_fixture_case *fixture, const struct pj_fixture_shape *shape, const json_t *change,
                     const char *side, const char *where, const struct pj_value **row, struct pj_error *error)
{
    const json_t *object = json_object_get(change, side);
    *row = NULL;
    if (!object || json_is_null(object))
        return PJ_OK;
    struct pj_value *values = pj_arena_alloc(&fixture->arena, sizeof *values * (size_t)(shape->width + 1));
    char *place = pj_sprintf("%s, %s", where, side);
    int code = pj_fixture_read_row(fixture, shape, object, place, values, error);
    pj_free(place);
    *row = values;
    return code;
}

static int read_change(struct pj_fixture_case *fixture, const json_t *json, const char *where, struct pj_change *change,
                       struct pj_error *error)
{
    static const char *const known[] = {"table", "old", "new", NULL};
    struct pj_fixture_shape shape;
    if (pj_fixture_members(json, where, known, error) != PJ_OK)
        return error->code;
    change->source = find_source(fixture, json_string_value(json_object_get(json, "table")), where, error);
    if (change->source >= 0 && fixture->module->sources[change->source].columns && !fixture->module->apply)
        return pj_error_set(error, PJ_ECONFIG,
                            "%s: %s can only be another projection's table (it lists columns, and there is no "
                            "apply()): no change of it comes to a module",
                            where, fixture->module->sources[change->source].table);
    if (change->source < 0)
        return error->code;
    source_shape(fixture, &fixture->module->sources[change->source], &shape);
    int code = read_side(fixture, &shape, json, "old", where, &change->old_row, error);
    if (code == PJ_OK)
        code = read_side(fixture, &shape, json, "new", where, &change->new_row, error);
    if (code == PJ_OK && !change->old_row && !change->new_row) {
        pj_error_set(error, PJ_ECONFIG, "%s has neither an old nor a new row", where);
        code = pj_error_hint(error, "an inserted row has \"new\", a deleted one \"old\", an updated one both");
    }
    return code;
}

static int read_changes(struct pj_fixture_case *fixture, struct pj_change **changes, size_t *count,
                        struct pj_error *error)
{
    const json_t *list = json_object_get(fixture->test, "changes");
    if (!json_is_array(list)) {
        pj_error_set(error, PJ_ECONFIG, "\"changes\" is not a list");
        return pj_error_hint(error, "\"changes\": [{\"table\": …, \"old\": {…} or null, \"new\": {…} or null}, …]");
    }
    *count = json_array_size(list);
    *changes = pj_arena_alloc(&fixture->arena, sizeof **changes * (*count + 1));
    int code = PJ_OK;
    for (size_t i = 0; code == PJ_OK && i < *count; i++) {
        char where[32];
        snprintf(where, sizeof where, "change %zu", i + 1);
        code = read_change(fixture, json_array_get(list, i), where, &(*changes)[i], error);
    }
    return code;
}

static json_t *rows_json(const struct pj_fixture_shape *shape, const struct pj_value *rows, size_t count)
{
    json_t *list = json_array();
    for (size_t i = 0; i < count; i++)
        json_array_append_new(list, pj_fixture_row(shape, &rows[i * (size_t)shape->width]));
    return list;
}

static void put_keys(json_t *result, const char *member, const struct pj_fixture_case *fixture,
                     const struct pj_value *keys, size_t count, int width)
{
    struct pj_fixture_shape shape;
    if (!count)
        return;
    pj_fixture_key_shape(fixture, width, &shape);
    json_object_set_new(result, member, rows_json(&shape, keys, count));
}

static json_t *result_json(const struct pj_fixture_case *fixture, const struct pj_deltas *deltas)
{
    json_t *result = json_object(), *streams = json_object();
    size_t count = 0;
    for (int i = 0; i < pj_module_stream_count(fixture->module); i++) {
        struct pj_fixture_shape shape;
        const struct pj_value *rows = pj_deltas_rows(deltas, i, &count);
        pj_fixture_stream_shape(fixture, i, &shape);
        if (count)
            json_object_set_new(streams, fixture->module->streams[i].name, rows_json(&shape, rows, count));
    }
    if (json_object_size(streams))
        json_object_set(result, "streams", streams);
    json_decref(streams);
    if (pj_deltas_all_dirty(deltas))
        json_object_set_new(result, "dirty_all", json_true());
    const struct pj_value *keys = pj_deltas_routing_keys(deltas, &count);
    put_keys(result, "dirty_keys", fixture, keys, count, 1);
    keys = pj_deltas_full_keys(deltas, &count);
    put_keys(result, "dirty_rows", fixture, keys, count, pj_module_key_count(fixture->module));
    return result;
}

/* One batch of the changes; a refusal of apply() is a result like others. */
static json_t *run_once(const struct pj_fixture_case *fixture, const struct pj_change *changes, size_t count,
                        bool backwards)
{
    struct pj_deltas *deltas = pj_deltas_new(fixture->module, fixture->options);
    struct pj_error error;
    json_t *result = NULL;
    pj_error_clear(&error);
    for (size_t i = 0; i < count && !result; i++)
        if (pj_deltas_apply(deltas, &changes[backwards ? count - 1 - i : i], &error) != PJ_OK)
            result = json_pack("{s:s}", "error", error.message);
    if (!result) {
        pj_deltas_finish(deltas);
        result = result_json(fixture, deltas);
    }
    pj_deltas_free(deltas);
    return result;
}

static int check_repeats(const struct pj_fixture_case *fixture, const struct pj_change *changes, size_t count,
                         const json_t *actual, struct pj_error *error)
{
    json_t *backwards = run_once(fixture, changes, count, true), *again = run_once(fixture, changes, count, false);
    bool refused = json_object_get(actual, "error") != NULL;
    if (!json_equal(again, actual)) {
        pj_error_set(error, PJ_EFAIL, "apply() gives another result when it is given the same changes again");
        pj_error_hint(error, "it must be a function of its arguments: no static variables, no clock");
    } else if (!refused && !json_equal(backwards, actual)) {
        pj_error_set(error, PJ_EFAIL, "apply() gives another result when the changes come in the opposite order");
        pj_error_hint(error, "nothing is promised of the order between rows; is a PJ_LAST column given from two rows?");
    }
    json_decref(backwards);
    json_decref(again);
    return error->code;
}

static int run_case(struct pj_fixture_case *fixture, json_t **actual, struct pj_error *error)
{
    static const char *const known[] = {"name", "description", "options", "types", "changes", "expect", NULL};
    struct pj_change *changes = NULL;
    size_t count = 0;
    int code = pj_fixture_members(fixture->test, "the case", known, error);
    if (code == PJ_OK)
        code = check_types(fixture, error);
    if (code == PJ_OK)
        code = read_options(fixture, error);
    if (code == PJ_OK)
        code = read_changes(fixture, &changes, &count, error);
    if (code != PJ_OK)
        return code;
    *actual = run_once(fixture, changes, count, false);
    return check_repeats(fixture, changes, count, *actual, error);
}

int pj_fixture_run(const struct pj_module *module, const json_t *test, json_t **actual, struct pj_error *error)
{
    struct pj_fixture_case fixture = {.module = module, .test = test};
    pj_error_clear(error);
    *actual = NULL;
    pj_arena_init(&fixture.arena);
    int code = run_case(&fixture, actual, error);
    pj_arena_free(&fixture.arena);
    pj_free(fixture.options);
    return code;
}
