/*
 * See wal2json_row.h.
 *
 * The way nearly every column goes: the bytes are exactly the expected lead of the next column, {"name":"id","value":,
 * then comes the value, then "}". Anything else (further keys, another order, white space, an unknown column) is read
 * key by key. Both ways end in read_value().
 */
#include "wire/wal2json_row.h"

#include "wire/pgtext.h"

/* ---------------------------------------------------------------------------------------------------------- errors */

enum { EXCERPT = 120 };

/* The beginning of the message up to where values may stand; they belong into no log. */
static int excerpt_length(const struct pj_wal2json_reader *reader)
{
    const char *at = reader->message;
    ptrdiff_t length = reader->json.end - at < EXCERPT ? reader->json.end - at : EXCERPT;
    for (int i = 0; i < length; i++)
        if (at[i] == '[' || (unsigned char)at[i] < ' ' || (unsigned char)at[i] > '~')
            return i;
    return (int)length;
}

int pj_wal2json_malformed(struct pj_wal2json_reader *reader, const char *expected)
{
    pj_error_set(reader->error, PJ_EDATA, "wal2json message: %s expected at byte %td of %td; it begins: %.*s", expected,
                 reader->json.at - reader->message, reader->json.end - reader->message, excerpt_length(reader),
                 reader->message);
    return PJ_EDATA;
}

static const char *type_name(enum pj_type type)
{
    static const char *const names[] = {
        [PJ_ANY] = "plain value",     [PJ_BOOL] = "boolean",
        [PJ_INT2] = "smallint",       [PJ_INT4] = "integer",
        [PJ_INT8] = "bigint",         [PJ_TEXT] = "text",
        [PJ_BYTEA] = "bytea",         [PJ_DATE] = "date",
        [PJ_TIMESTAMP] = "timestamp", [PJ_TIMESTAMPTZ] = "timestamp with time zone",
        [PJ_UUID] = "uuid",
    };
    return names[type];
}

static int column_error(struct pj_wal2json_reader *reader, const struct pj_wal2json_shape *shape, int column,
                        const char *what, const char *more)
{
    const struct pj_table *table = shape->table;
    return pj_error_set(reader->error, PJ_EDATA, "wal2json message: column %s.%s.%s %s%s", table->schema, table->name,
                        table->columns[column].name, what, more);
}

static int not_of_type(struct pj_wal2json_reader *reader, const struct pj_wal2json_shape *shape, int column)
{
    return column_error(reader, shape, column, "has a value that is not a ", type_name(shape->columns[column].type));
}

/* ---------------------------------------------------------------------------------------------------------- values */

void pj_wal2json_unescape(struct pj_wal2json_reader *reader, struct pj_json_span *span)
{
    if (!span->escaped)
        return;
    char *text = pj_arena_alloc(reader->arena, span->length);
    span->length = pj_json_decode(*span, text);
    span->start = text;
    span->escaped = false;
}

/* A text with escapes is decoded straight to where it is to stay. */
static bool convert_string(struct pj_wal2json_reader *reader, enum pj_type type, struct pj_json_span *span,
                           struct pj_value *value)
{
    bool text = type == PJ_TEXT || type == PJ_ANY;
    if (!span->escaped || !text || span->length > INT32_MAX) {
        pj_wal2json_unescape(reader, span);
        return pj_pgtext_to_binary(type, span->start, span->length, reader->arena, value);
    }
    pj_wal2json_unescape(reader, span);
    value->data = (const unsigned char *)span->start;
    value->length = (int32_t)span->length;
    return true;
}

/* Numbers stand bare for the number types and their kin; in a column of any other type they are a sign of a type
 * changed on the source, however well their text would fit. */
static bool convert_number(struct pj_wal2json_reader *reader, enum pj_type type, const struct pj_json_span *span,
                           struct pj_value *value)
{
    return (type == PJ_INT2 || type == PJ_INT4 || type == PJ_INT8 || type == PJ_ANY) &&
           pj_pgtext_to_binary(type, span->start, span->length, reader->arena, value);
}

static int read_bare(struct pj_wal2json_reader *reader, const struct pj_wal2json_shape *shape, int column,
                     struct pj_value *value)
{
    enum pj_type type = shape->columns[column].type;
    struct pj_json *json = &reader->json;
    struct pj_json_span span = {.start = json->at};
    if (pj_json_literal(json, "null", 4)) {
        *value = pj_make_null();
        return PJ_OK;
    }
    if (pj_json_literal(json, "true", 4) || pj_json_literal(json, "false", 5)) {
        span.length = (size_t)(json->at - span.start);
        bool fits = type == PJ_BOOL && pj_pgtext_to_binary(type, span.start, span.length, reader->arena, value);
        return fits ? PJ_OK : not_of_type(reader, shape, column);
    }
    if (json->at < json->end && (*json->at == '{' || *json->at == '['))
        return not_of_type(reader, shape, column);
    if (!pj_json_number(json, &span))
        return pj_wal2json_malformed(reader, "a value");
    return convert_number(reader, type, &span, value) ? PJ_OK : not_of_type(reader, shape, column);
}

static int read_value(struct pj_wal2json_reader *reader, const struct pj_wal2json_shape *shape, int column,
                      struct pj_value *value)
{
    struct pj_json_span span;
    pj_json_space(&reader->json);
    if (reader->json.at == reader->json.end || *reader->json.at != '"')
        return read_bare(reader, shape, column, value);
    if (!pj_json_string(&reader->json, &span))
        return pj_wal2json_malformed(reader, "a well-formed string");
    if (!convert_string(reader, shape->columns[column].type, &span, value))
        return not_of_type(reader, shape, column);
    return PJ_OK;
}

/* --------------------------------------------------------------------------------------------------------- columns */

/* Where a row is to go, and how far it is. */
struct row {
    const struct pj_wal2json_shape *shape;
    const int *slots;
    struct pj_value *values;
    int guess; /* the column expected next */
};

/* The column whose lead comes next, then behind it; or -1. Columns left out are passed over. */
static int match_lead(struct pj_json *json, const struct row *row)
{
    for (int column = row->guess; column < row->shape->ncolumns; column++) {
        const struct pj_wal2json_column *expected = &row->shape->columns[column];
        if (pj_json_literal(json, expected->lead, expected->lead_length))
            return column;
    }
    return -1;
}

static int store(struct pj_wal2json_reader *reader, struct row *row, int column, const struct pj_value *value)
{
    row->guess = column + 1;
    if (row->slots[column] < 0)
        return PJ_OK;
    struct pj_value *place = &row->values[row->slots[column]];
    if (place->length != PJ_ABSENT)
        return column_error(reader, row->shape, column, "stands twice in one row", "");
    place->data = value->data; /* by field: the two were written apart a moment ago */
    place->length = value->length;
    return PJ_OK;
}

/* What a column's object says: its name, and where its value begins. */
struct member {
    struct pj_json_span name;
    const char *value; /* NULL: there is none */
};

static bool is_key(struct pj_json_span key, const char *word, size_t length)
{
    return key.length == length && memcmp(key.start, word, length) == 0;
}

static int read_member_key(struct pj_wal2json_reader *reader, struct member *member)
{
    struct pj_json *json = &reader->json;
    struct pj_json_span key;
    pj_json_space(json);
    if (!pj_json_string(json, &key) || !pj_json_take(json, ':'))
        return pj_wal2json_malformed(reader, "a column's key");
    pj_wal2json_unescape(reader, &key);
    pj_json_space(json);
    if (is_key(key, "name", 4)) {
        if (member->name.start || !pj_json_string(json, &member->name))
            return pj_wal2json_malformed(reader, "one column name, a string,");
        return PJ_OK;
    }
    if (is_key(key, "value", 5)) {
        if (member->value)
            return pj_wal2json_malformed(reader, "one value");
        member->value = json->at;
    }
    return pj_json_skip(json) ? PJ_OK : pj_wal2json_malformed(reader, "a value");
}

static int read_member(struct pj_wal2json_reader *reader, struct member *member)
{
    if (!pj_json_take(&reader->json, '{'))
        return pj_wal2json_malformed(reader, "a column");
    do {
        int code = read_member_key(reader, member);
        if (code != PJ_OK)
            return code;
    } while (pj_json_take(&reader->json, ','));
    if (!pj_json_take(&reader->json, '}') || !member->name.start || !member->value)
        return pj_wal2json_malformed(reader, "a column's name and value");
    return PJ_OK;
}

/* Key by key: the value is passed over first and read when it is clear whose it is. */
static int read_column_slowly(struct pj_wal2json_reader *reader, struct row *row)
{
    struct member member = {0};
    int code = read_member(reader, &member);
    if (code != PJ_OK)
        return code;
    pj_wal2json_unescape(reader, &member.name);
    int column = pj_table_column_index(row->shape->table, member.name.start, member.name.length);
    if (column < 0)
        return PJ_OK;
    const char *behind = reader->json.at;
    struct pj_value value = {0};
    reader->json.at = member.value;
    code = read_value(reader, row->shape, column, &value);
    reader->json.at = behind;
    return code != PJ_OK ? code : store(reader, row, column, &value);
}

static int read_column(struct pj_wal2json_reader *reader, struct row *row)
{
    pj_json_space(&reader->json);
    const char *start = reader->json.at;
    int column = match_lead(&reader->json, row);
    if (column < 0)
        return read_column_slowly(reader, row);
    struct pj_value value = {0};
    int code = read_value(reader, row->shape, column, &value);
    if (code != PJ_OK)
        return code;
    if (pj_json_take(&reader->json, '}'))
        return store(reader, row, column, &value);
    reader->json.at = start;
    return read_column_slowly(reader, row);
}

int pj_wal2json_row(struct pj_wal2json_reader *reader, const struct pj_wal2json_shape *shape, const int *slots,
                    struct pj_value *values)
{
    struct row row = {.shape = shape, .slots = slots, .values = values};
    if (!pj_json_take(&reader->json, '['))
        return pj_wal2json_malformed(reader, "a list of columns");
    if (pj_json_take(&reader->json, ']'))
        return PJ_OK;
    do {
        int code = read_column(reader, &row);
        if (code != PJ_OK)
            return code;
    } while (pj_json_take(&reader->json, ','));
    return pj_json_take(&reader->json, ']') ? PJ_OK : pj_wal2json_malformed(reader, "\",\" or \"]\"");
}
