/*
 * What came out of a case against what it expects. What is expected is first brought into the form in which results are
 * written (so that "2026-01-01 12:00:00+02" and "2026-01-01 10:00:00+00" are the same), then rows are matched by key.
 */
#include "host/fixture_internal.h"

struct comparison {
    struct pj_fixture_case fixture;
    struct pj_buf *report;
    struct pj_error *error;
};

/* ------------------------------------------------------------------------------------------------- canonical form */

static json_t *canonical_row(struct comparison *comparison, const struct pj_fixture_shape *shape, const json_t *row,
                             const char *where)
{
    struct pj_value values[PJ_MAX_SOURCE_COLUMNS];
    if (pj_fixture_read_row(&comparison->fixture, shape, row, where, values, comparison->error) != PJ_OK)
        return NULL;
    return pj_fixture_row(shape, values);
}

/* The rows in canonical form, or NULL and the error; a missing list is an empty one. */
static json_t *canonical_rows(struct comparison *comparison, const struct pj_fixture_shape *shape, const json_t *list,
                              const char *where)
{
    json_t *rows = json_array();
    if (list && !json_is_array(list)) {
        pj_error_set(comparison->error, PJ_ECONFIG, "expect: %s is not a list", where);
        json_decref(rows);
        return NULL;
    }
    for (size_t i = 0; i < json_array_size(list); i++) {
        char *place = pj_sprintf("expect: %s, row %zu", where, i + 1);
        json_t *row = canonical_row(comparison, shape, json_array_get(list, i), place);
        pj_free(place);
        if (!row) {
            json_decref(rows);
            return NULL;
        }
        json_array_append_new(rows, row);
    }
    return rows;
}

/* ------------------------------------------------------------------------------------------------------ comparing */

static void put_json(struct pj_buf *report, const json_t *value)
{
    char *text = value ? json_dumps(value, JSON_ENCODE_ANY | JSON_COMPACT) : NULL;
    pj_buf_puts(report, text ? text : "null");
    free(text);
}

static void put_columns(struct pj_buf *report, const struct pj_fixture_shape *shape, int from, int to,
                        const json_t *row)
{
    for (int i = from; i < to; i++) {
        const json_t *value = json_object_get(row, shape->names[i]);
        if (!value && i >= shape->nkey)
            continue;
        pj_buf_printf(report, " %s=", shape->names[i]);
        put_json(report, value);
    }
}

static bool same_key(const struct pj_fixture_shape *shape, const json_t *a, const json_t *b)
{
    for (int i = 0; i < shape->nkey; i++) {
        const json_t *left = json_object_get(a, shape->names[i]), *right = json_object_get(b, shape->names[i]);
        if ((left || right) && !json_equal(left, right))
            return false;
    }
    return true;
}

/* Takes the row of that key out of the list. */
static json_t *take_row(const struct pj_fixture_shape *shape, json_t *list, const json_t *like)
{
    for (size_t i = 0; i < json_array_size(list); i++) {
        json_t *row = json_array_get(list, i);
        if (!same_key(shape, row, like))
            continue;
        json_incref(row);
        json_array_remove(list, i);
        return row;
    }
    return NULL;
}

static void report_columns(struct pj_buf *report, const char *where, const struct pj_fixture_shape *shape,
                           const json_t *expected, const json_t *actual)
{
    for (int i = shape->nkey; i < shape->width; i++) {
        const json_t *wanted = json_object_get(expected, shape->names[i]);
        const json_t *got = json_object_get(actual, shape->names[i]);
        if ((!wanted && !got) || json_equal(wanted, got))
            continue;
        pj_buf_printf(report, "~ %s:", where);
        put_columns(report, shape, 0, shape->nkey, actual);
        pj_buf_printf(report, ": %s is ", shape->names[i]);
        put_json(report, got);
        pj_buf_puts(report, ", expected ");
        put_json(report, wanted);
        pj_buf_puts(report, "\n");
    }
}

static void report_row(struct pj_buf *report, char sign, const char *where, const struct pj_fixture_shape *shape,
                       const json_t *row)
{
    pj_buf_printf(report, "%c %s:", sign, where);
    put_columns(report, shape, 0, shape->width, row);
    pj_buf_puts(report, sign == '-' ? " was expected and did not come\n" : " came and was not expected\n");
}

static int compare_rows(struct comparison *comparison, const char *where, const struct pj_fixture_shape *shape,
                        const json_t *expected, const json_t *actual)
{
    json_t *wanted = canonical_rows(comparison, shape, expected, where);
    if (!wanted)
        return comparison->error->code;
    for (size_t i = 0; i < json_array_size(actual); i++) {
        const json_t *row = json_array_get(actual, i);
        json_t *match = take_row(shape, wanted, row);
        if (match)
            report_columns(comparison->report, where, shape, match, row);
        else
            report_row(comparison->report, '+', where, shape, row);
        json_decref(match);
    }
    for (size_t i = 0; i < json_array_size(wanted); i++)
        report_row(comparison->report, '-', where, shape, json_array_get(wanted, i));
    json_decref(wanted);
    return PJ_OK;
}

static int compare_streams(struct comparison *comparison, const json_t *expected, const json_t *actual)
{
    const struct pj_module *module = comparison->fixture.module;
    const char *known[PJ_MAX_SOURCE_COLUMNS + 1] = {0};
    for (int i = 0; i < pj_module_stream_count(module) && i < PJ_MAX_SOURCE_COLUMNS; i++)
        known[i] = module->streams[i].name;
    int code = expected ? pj_fixture_members(expected, "expect: streams", known, comparison->error) : PJ_OK;
    for (int i = 0; code == PJ_OK && i < pj_module_stream_count(module); i++) {
        struct pj_fixture_shape shape;
        const char *name = module->streams[i].name;
        char *where = pj_sprintf("stream %s", name);
        pj_fixture_stream_shape(&comparison->fixture, i, &shape);
        code = compare_rows(comparison, where, &shape, json_object_get(expected, name), json_object_get(actual, name));
        pj_free(where);
    }
    return code;
}

static int compare_keys(struct comparison *comparison, const char *member, int width, const json_t *expected,
                        const json_t *actual)
{
    struct pj_fixture_shape shape;
    pj_fixture_key_shape(&comparison->fixture, width, &shape);
    return compare_rows(comparison, member, &shape, json_object_get(expected, member), json_object_get(actual, member));
}

/* A refusal is expected by a part of its message. */
static void compare_error(struct comparison *comparison, const json_t *expected, const json_t *actual)
{
    const char *wanted = json_string_value(json_object_get(expected, "error"));
    const char *got = json_string_value(json_object_get(actual, "error"));
    if (got && !wanted)
        pj_buf_printf(comparison->report, "! apply() refused: %s\n", got);
    else if (wanted && !got)
        pj_buf_printf(comparison->report, "! apply() was expected to refuse (\"%s\") and did not\n", wanted);
    else if (wanted && !strstr(got, wanted))
        pj_buf_printf(comparison->report, "! apply() refused with other words than \"%s\": %s\n", wanted, got);
}

/* What is of another type than it must be would be taken for not expected. */
static int check_scalars(const json_t *expected, struct pj_error *error)
{
    const json_t *refusal = json_object_get(expected, "error"), *all = json_object_get(expected, "dirty_all");
    if (refusal && !json_is_string(refusal))
        return pj_error_set(error, PJ_ECONFIG, "expect: error is not a string: some words of apply()'s refusal");
    if (all && !json_is_boolean(all))
        return pj_error_set(error, PJ_ECONFIG, "expect: dirty_all is neither true nor false");
    return PJ_OK;
}

static int compare(struct comparison *comparison, const json_t *expected, const json_t *actual)
{
    static const char *const known[] = {"streams", "dirty_keys", "dirty_rows", "dirty_all", "error", NULL};
    int code = pj_fixture_members(expected, "expect", known, comparison->error);
    if (code == PJ_OK)
        code = check_scalars(expected, comparison->error);
    if (code != PJ_OK)
        return code;
    compare_error(comparison, expected, actual);
    bool wanted = json_is_true(json_object_get(expected, "dirty_all"));
    if (wanted != json_is_true(json_object_get(actual, "dirty_all")))
        pj_buf_printf(comparison->report, "~ dirty_all is %s, expected %s\n", wanted ? "false" : "true",
                      wanted ? "true" : "false");
    code = compare_streams(comparison, json_object_get(expected, "streams"), json_object_get(actual, "streams"));
    int nkey = pj_module_key_count(comparison->fixture.module);
    if (code == PJ_OK && nkey)
        code = compare_keys(comparison, "dirty_keys", 1, expected, actual);
    if (code == PJ_OK && nkey)
        code = compare_keys(comparison, "dirty_rows", nkey, expected, actual);
    return code;
}

int pj_fixture_compare(const struct pj_module *module, const json_t *test, const json_t *actual, struct pj_buf *report,
                       struct pj_error *error)
{
    struct comparison comparison = {{.module = module, .test = test}, report, error};
    const json_t *expected = json_object_get(test, "expect");
    pj_error_clear(error);
    if (!expected) {
        pj_error_set(error, PJ_ECONFIG, "the case has no \"expect\"");
        return pj_error_hint(error, "--record prints it with what came out, to be looked at and pasted");
    }
    pj_arena_init(&comparison.fixture.arena);
    int code = compare(&comparison, expected, actual);
    pj_arena_free(&comparison.fixture.arena);
    return code;
}
