/*
 * The wal2json decoder as one would write it for clarity: jansson parses the whole message, then the tree is read. It
 * is what the scanner is held to, by the unit tests and by the fuzzer, and what the benchmark compares it with.
 * Header-only, so that each of them is one file.
 *
 * What jansson cannot tell it does not judge (REFERENCE_CANNOT_TELL): numbers beyond 64 bits or a double, objects with
 * a key given twice, deeper nesting than the scanner follows.
 *
 * What a logical message says is not JSON, and not looked at: it is one by its action alone.
 */
#ifndef PJ_TEST_WAL2JSON_REFERENCE_H
#define PJ_TEST_WAL2JSON_REFERENCE_H

#include "wire/change.h"
#include "wire/json_scan.h"
#include "wire/pgtext.h"

#include <inttypes.h>
#include <jansson.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>

enum reference_verdict { REFERENCE_REFUSES, REFERENCE_ACCEPTS, REFERENCE_CANNOT_TELL };

static inline int reference_depth(const json_t *value)
{
    int deepest = 0;
    size_t index;
    const char *key;
    json_t *member;
    if (json_is_array(value)) {
        json_array_foreach(value, index, member)
        {
            int depth = reference_depth(member);
            deepest = depth > deepest ? depth : deepest;
        }
    } else if (json_is_object(value)) {
        json_object_foreach((json_t *)value, key, member)
        {
            int depth = reference_depth(member);
            deepest = depth > deepest ? depth : deepest;
        }
    } else {
        return 0;
    }
    return deepest + 1;
}

/* jansson gives a number, not its text: integers are written anew, reals as precisely as a double goes. */
static inline bool reference_number(const json_t *number, enum pj_type type, struct pj_arena *arena,
                                    struct pj_value *value)
{
    char text[64];
    if (json_is_integer(number))
        snprintf(text, sizeof text, "%" JSON_INTEGER_FORMAT, json_integer_value(number));
    else
        snprintf(text, sizeof text, "%.17g", json_real_value(number));
    bool numeric = type == PJ_INT2 || type == PJ_INT4 || type == PJ_INT8 || type == PJ_ANY;
    if (!numeric || (json_is_real(number) && type != PJ_ANY))
        return false;
    return pj_pgtext_to_binary(type, text, strlen(text), arena, value);
}

static inline bool reference_value(const json_t *json, enum pj_type type, struct pj_arena *arena,
                                   struct pj_value *value)
{
    switch (json_typeof(json)) {
    case JSON_NULL:
        *value = pj_make_null();
        return true;
    case JSON_STRING:
        return pj_pgtext_to_binary(type, json_string_value(json), json_string_length(json), arena, value);
    case JSON_TRUE:
    case JSON_FALSE:
        return type == PJ_BOOL && pj_pgtext_to_binary(type, json_is_true(json) ? "t" : "f", 1, arena, value);
    case JSON_INTEGER:
    case JSON_REAL:
        return reference_number(json, type, arena, value);
    default:
        return false;
    }
}

static inline struct pj_value *reference_absent(int count, struct pj_arena *arena)
{
    struct pj_value *values = pj_arena_alloc(arena, (size_t)(count ? count : 1) * sizeof *values);
    for (int i = 0; i < count; i++)
        values[i] = (struct pj_value){.data = NULL, .length = PJ_ABSENT};
    return values;
}

/* A whole row from a list of columns. */
static inline bool reference_row(const json_t *list, const struct pj_table *table, struct pj_arena *arena,
                                 struct pj_value **values)
{
    size_t i;
    json_t *member;
    if (!json_is_array(list))
        return false;
    *values = reference_absent(table->ncolumns, arena);
    json_array_foreach(list, i, member)
    {
        json_t *name = json_object_get(member, "name"), *value = json_object_get(member, "value");
        if (!json_is_string(name) || !value)
            return false;
        int column = pj_table_column_index(table, json_string_value(name), json_string_length(name));
        if (column < 0)
            continue;
        if ((*values)[column].length != PJ_ABSENT)
            return false;
        if (!reference_value(value, table->columns[column].type, arena, &(*values)[column]))
            return false;
    }
    return true;
}

static inline bool reference_identity(const json_t *list, const struct pj_table *table, struct pj_arena *arena,
                                      struct pj_row_change *change)
{
    struct pj_value *row;
    if (!reference_row(list, table, arena, &row))
        return false;
    change->identity = reference_absent(table->nidentity, arena);
    for (int i = 0; i < table->nidentity; i++) {
        change->identity[i] = row[table->identity[i]];
        if (change->identity[i].length == PJ_ABSENT)
            return false;
    }
    change->old_values = table->identity_full ? row : NULL;
    return true;
}

static inline bool reference_change(const struct pj_relmap *map, const json_t *root, struct pj_arena *arena,
                                    struct pj_row_change *change)
{
    const json_t *schema = json_object_get(root, "schema"), *name = json_object_get(root, "table");
    bool known;
    if (!json_is_string(schema) || !json_is_string(name))
        return false;
    change->table = pj_relmap_get(map, json_string_value(schema), json_string_length(schema), json_string_value(name),
                                  json_string_length(name), &known);
    if (!known) {
        change->action = PJ_UNKNOWN_RELATION;
        return true;
    }
    if (!change->table)
        return true;
    if ((change->action == PJ_INSERT || change->action == PJ_UPDATE) &&
        !reference_row(json_object_get(root, "columns"), change->table, arena, &change->values))
        return false;
    if ((change->action == PJ_UPDATE || change->action == PJ_DELETE) &&
        !reference_identity(json_object_get(root, "identity"), change->table, arena, change))
        return false;
    return true;
}

/* What every message may carry: a name that is a string, an xid, a timestamp. */
static inline bool reference_common(const json_t *root, pj_lsn lsn, struct pj_arena *arena,
                                    struct pj_row_change *change)
{
    const json_t *xid = json_object_get(root, "xid"), *time = json_object_get(root, "timestamp");
    const json_t *schema = json_object_get(root, "schema"), *table = json_object_get(root, "table");
    if ((schema && !json_is_string(schema)) || (table && !json_is_string(table)))
        return false;
    if (xid && !json_is_null(xid)) {
        if (!json_is_integer(xid) || json_integer_value(xid) < 0 || json_integer_value(xid) > UINT32_MAX)
            return false;
        change->xid = (uint32_t)json_integer_value(xid);
    }
    if (time && !json_is_null(time) && !json_is_string(time))
        return false;
    if (change->action != PJ_COMMIT)
        return true;
    change->end_lsn = lsn;
    if (!json_is_string(time))
        return true;
    struct pj_value value;
    if (!reference_value(time, PJ_TIMESTAMPTZ, arena, &value))
        return false;
    change->commit_us = pj_int64(value);
    return true;
}

static inline bool reference_tree(const struct pj_relmap *map, json_t *root, pj_lsn lsn, struct pj_arena *arena,
                                  struct pj_row_change *change)
{
    static const char letters[] = "BCIUDTM";
    static const enum pj_action actions[] = {PJ_BEGIN,  PJ_COMMIT,   PJ_INSERT, PJ_UPDATE,
                                             PJ_DELETE, PJ_TRUNCATE, PJ_MESSAGE};
    const json_t *action = json_object_get(root, "action");
    if (!json_is_object(root) || !json_is_string(action) || json_string_length(action) != 1 ||
        strcmp(json_object_iter_key(json_object_iter(root)), "action") != 0)
        return false;
    const char *letter = strchr(letters, json_string_value(action)[0]);
    if (!letter || !*letter)
        return false;
    change->action = actions[letter - letters];
    if (!reference_common(root, lsn, arena, change))
        return false;
    bool row = change->action != PJ_BEGIN && change->action != PJ_COMMIT && change->action != PJ_MESSAGE;
    return !row || reference_change(map, root, arena, change);
}

/* Whether it begins with {"action":"M": up to there, and closed, it is an object of its own. */
static inline bool reference_is_message(const char *message, size_t length)
{
    char start[256];
    int quotes = 0;
    size_t end = 0;
    for (; quotes < 4 && end < length && end < sizeof start - 1; end++) {
        start[end] = message[end];
        if (message[end] == '\\' && end + 1 < length && end + 2 < sizeof start) {
            end++;
            start[end] = message[end];
        } else if (message[end] == '"') {
            quotes++;
        }
    }
    start[end] = '}';
    json_t *root = quotes == 4 ? json_loadb(start, end + 1, 0, NULL) : NULL;
    const char *action = json_string_value(json_object_get(root, "action"));
    bool is = action && strcmp(action, "M") == 0;
    json_decref(root);
    return is;
}

static inline enum reference_verdict reference_decode(const struct pj_relmap *map, const char *message, size_t length,
                                                      pj_lsn lsn, struct pj_arena *arena, struct pj_row_change *change)
{
    json_error_t error;
    *change = (struct pj_row_change){0};
    if (reference_is_message(message, length)) {
        change->action = PJ_MESSAGE;
        return REFERENCE_ACCEPTS;
    }
    if (memchr(message, '\0', length))
        return REFERENCE_REFUSES; /* no JSON has a zero byte, but jansson 2.14 swallows one behind a number */
    json_t *root = json_loadb(message, length, JSON_REJECT_DUPLICATES, &error);
    if (!root) {
        enum json_error_code code = json_error_code(&error);
        bool unjudged = code == json_error_duplicate_key || code == json_error_numeric_overflow ||
                        code == json_error_stack_overflow;
        return unjudged ? REFERENCE_CANNOT_TELL : REFERENCE_REFUSES;
    }
    enum reference_verdict verdict = REFERENCE_CANNOT_TELL;
    if (reference_depth(root) <= PJ_JSON_DEPTH)
        verdict = reference_tree(map, root, lsn, arena, change) ? REFERENCE_ACCEPTS : REFERENCE_REFUSES;
    json_decref(root);
    return verdict;
}

/* ------------------------------------------------------------------------------------------------------- comparing */

/* Whether the number "-0" stands somewhere: jansson makes 0 of it, the scanner does not take it for an integer. */
static inline bool reference_minus_zero(const char *message, size_t length)
{
    for (size_t i = 1; i + 2 < length; i++)
        if (memcmp(message + i, "-0", 2) == 0 && strchr(": \t\r\n", message[i - 1]) && !strchr(".eE", message[i + 2]))
            return true;
    return false;
}

static inline bool reference_same_value(struct pj_value scanned, struct pj_value reference, enum pj_type type)
{
    if (pj_equal(scanned, reference))
        return true;
    if (type != PJ_ANY || scanned.length <= 0 || reference.length <= 0 || scanned.length > 4096)
        return false;
    /* a bare number, which jansson read as a double or integer */
    char text[4097], other[64];
    if (reference.length >= (int)sizeof other)
        return false;
    memcpy(text, scanned.data, (size_t)scanned.length);
    text[scanned.length] = '\0';
    memcpy(other, reference.data, (size_t)reference.length);
    other[reference.length] = '\0';
    double a = strtod(text, NULL), b = strtod(other, NULL);
    return memcmp(&a, &b, sizeof a) == 0 || (a == 0 && b == 0);
}

static inline bool reference_same_row(const struct pj_value *scanned, const struct pj_value *reference,
                                      const struct pj_table *table, const int *columns, int count)
{
    if (!scanned || !reference)
        return !scanned && !reference;
    for (int i = 0; i < count; i++)
        if (!reference_same_value(scanned[i], reference[i], table->columns[columns ? columns[i] : i].type))
            return false;
    return true;
}

/* Whether two changes say the same. */
static inline bool reference_same(const struct pj_row_change *scanned, const struct pj_row_change *reference)
{
    const struct pj_table *table = reference->table;
    if (scanned->action != reference->action || scanned->xid != reference->xid ||
        scanned->end_lsn != reference->end_lsn || scanned->commit_us != reference->commit_us || scanned->table != table)
        return false;
    return !table ||
           (reference_same_row(scanned->values, reference->values, table, NULL, table->ncolumns) &&
            reference_same_row(scanned->old_values, reference->old_values, table, NULL, table->ncolumns) &&
            reference_same_row(scanned->identity, reference->identity, table, table->identity, table->nidentity));
}

#endif
