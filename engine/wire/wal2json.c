/*
 * The wal2json decoder. A message of format-version 2 is one JSON object:
 *
 *     {"action":"U","xid":731,"timestamp":"2026-01-31 12:34:56.789+00","schema":"public","table":"messages",
 *      "columns":[{"name":"id","value":"…"},…],"identity":[{"name":"id","value":"…"}]}
 *
 * It is read once, front to back. Only "action" must come first. Normally schema and table are known when "columns" and
 * "identity" come, and their values are converted as they are met; where they come too early they are passed over and
 * read at the end. Unknown keys are skipped. Whatever is not well-formed to the last byte, or stands twice, is an
 * error: half a message must never count as a whole one. A logical message ("M") is the exception: it means nothing here,
 * and its "content" is whatever bytes an application gave to pg_logical_emit_message, which wal2json writes as they are.
 * So nothing behind its action is looked at.
 *
 * wal2json_relation.c recognises tables and columns by the bytes wal2json writes for them, wal2json_row.c reads rows,
 * json_scan.c knows JSON, pgtext.c the values.
 */
#include "wire/wal2json.h"

#include "wire/pgtext.h"
#include "wire/wal2json_relation.h"
#include "wire/wal2json_row.h"

struct wal2json {
    struct pj_decoder decoder;
    struct pj_wal2json_relations relations;
};

/* The keys that mean something. */
enum key { KEY_ACTION, KEY_XID, KEY_TIMESTAMP, KEY_SCHEMA, KEY_TABLE, KEY_COLUMNS, KEY_IDENTITY, KEY_OTHER };

/* A message under way, beyond what its rows need. */
struct message {
    struct pj_wal2json_reader reader;
    struct pj_wal2json_relations *relations;
    struct pj_row_change *change;
    unsigned seen; /* bits of enum key */
    struct pj_json_span timestamp, schema, table;
    const char *schema_name, *table_name;        /* the same, NUL-terminated, where the relation was not recognised */
    const struct pj_wal2json_relation *relation; /* once schema and table are known, if the map knows them */
    const char *columns, *identity;              /* lists passed over because they came too early */
};

static int malformed(struct message *message, const char *expected)
{
    return pj_wal2json_malformed(&message->reader, expected);
}

static bool has(const struct message *message, enum key key)
{
    return message->seen & 1u << key;
}

/* ------------------------------------------------------------------------------------------------------------ rows */

static struct pj_value *absent_values(struct message *message, int count)
{
    struct pj_value *values = pj_arena_alloc(message->reader.arena, (size_t)(count ? count : 1) * sizeof *values);
    for (int i = 0; i < count; i++)
        values[i] = (struct pj_value){.data = NULL, .length = PJ_ABSENT};
    return values;
}

static int read_columns(struct message *message)
{
    const struct pj_wal2json_shape *shape = message->relation->shape;
    message->change->values = absent_values(message, shape->ncolumns);
    return pj_wal2json_row(&message->reader, shape, shape->row_slots, message->change->values);
}

static int check_identity(struct message *message, const struct pj_table *table)
{
    for (int i = 0; i < table->nidentity; i++)
        if (message->change->identity[i].length == PJ_ABSENT) {
            pj_error_set(message->reader.error, PJ_EDATA,
                         "wal2json message: table %s.%s: column %s is missing from the replica identity", table->schema,
                         table->name, table->columns[table->identity[i]].name);
            return pj_error_hint(
                message->reader.error,
                "the replica identity was another one then; pgprojector resync makes the mirror exact");
        }
    return PJ_OK;
}

static int read_identity(struct message *message)
{
    const struct pj_wal2json_shape *shape = message->relation->shape;
    const struct pj_table *table = shape->table;
    struct pj_row_change *change = message->change;
    int code;
    change->identity = absent_values(message, table->nidentity);
    if (table->identity_full) {
        change->old_values = absent_values(message, table->ncolumns);
        code = pj_wal2json_row(&message->reader, shape, shape->row_slots, change->old_values);
        for (int i = 0; i < table->nidentity; i++)
            change->identity[i] = change->old_values[table->identity[i]];
    } else {
        code = pj_wal2json_row(&message->reader, shape, shape->identity_slots, change->identity);
    }
    return code != PJ_OK ? code : check_identity(message, table);
}

static bool carries_columns(enum pj_action action)
{
    return action == PJ_INSERT || action == PJ_UPDATE;
}

static bool carries_identity(enum pj_action action)
{
    return action == PJ_UPDATE || action == PJ_DELETE;
}

/* A list at its place in the message: read if the table is known by now, else passed over and remembered. */
static int meet_list(struct message *message, bool wanted, const char **later, int (*read)(struct message *))
{
    if (wanted && message->relation && message->relation->shape)
        return read(message);
    if (wanted && !message->relation)
        *later = message->reader.json.at;
    return pj_json_skip(&message->reader.json) ? PJ_OK : malformed(message, "a value");
}

static int read_later(struct message *message, const char *list, int (*read)(struct message *))
{
    if (!list)
        return PJ_OK;
    message->reader.json.at = list;
    return read(message);
}

/* ------------------------------------------------------------------------------------------------------------ keys */

/* The keys as wal2json spells them; KEY_OTHER, and nothing consumed, for anything else. */
static enum key match_key(struct pj_json *json)
{
    if (pj_json_literal(json, "\"xid\":", 6))
        return KEY_XID;
    if (pj_json_literal(json, "\"timestamp\":", 12))
        return KEY_TIMESTAMP;
    if (pj_json_literal(json, "\"columns\":", 10))
        return KEY_COLUMNS;
    if (pj_json_literal(json, "\"identity\":", 11))
        return KEY_IDENTITY;
    if (pj_json_literal(json, "\"schema\":", 9))
        return KEY_SCHEMA;
    if (pj_json_literal(json, "\"table\":", 8))
        return KEY_TABLE;
    return KEY_OTHER;
}

static enum key key_named(const struct pj_json_span *name)
{
    static const char *const names[] = {"action", "xid", "timestamp", "schema", "table", "columns", "identity"};
    for (int i = 0; i < KEY_OTHER; i++)
        if (name->length == strlen(names[i]) && memcmp(name->start, names[i], name->length) == 0)
            return (enum key)i;
    return KEY_OTHER;
}

static int read_key(struct message *message, enum key *key)
{
    struct pj_json *json = &message->reader.json;
    struct pj_json_span name;
    pj_json_space(json);
    *key = match_key(json);
    if (*key == KEY_OTHER) {
        if (!pj_json_string(json, &name) || !pj_json_take(json, ':'))
            return malformed(message, "a key");
        pj_wal2json_unescape(&message->reader, &name);
        *key = key_named(&name);
    }
    if (*key != KEY_OTHER && has(message, *key))
        return malformed(message, "a key that did not stand before");
    message->seen |= 1u << *key;
    pj_json_space(json);
    return PJ_OK;
}

static int read_string(struct message *message, struct pj_json_span *span)
{
    if (!pj_json_string(&message->reader.json, span))
        return malformed(message, "a string");
    pj_wal2json_unescape(&message->reader, span);
    return PJ_OK;
}

/* Null stands for what is not known. */
static int read_xid(struct message *message)
{
    struct pj_json *json = &message->reader.json;
    uint64_t xid = 0;
    const char *start = json->at;
    if (pj_json_literal(json, "null", 4))
        return PJ_OK;
    while (json->at < json->end && *json->at >= '0' && *json->at <= '9' && json->at - start < 11)
        xid = xid * 10 + (uint64_t)(*json->at++ - '0');
    if (json->at == start || xid > UINT32_MAX || (*start == '0' && json->at - start > 1))
        return malformed(message, "a transaction id");
    message->change->xid = (uint32_t)xid;
    return PJ_OK;
}

static int read_timestamp(struct message *message)
{
    if (pj_json_literal(&message->reader.json, "null", 4))
        return PJ_OK;
    return read_string(message, &message->timestamp);
}

static const char *name_text(struct message *message, struct pj_json_span span)
{
    char *text = pj_arena_alloc(message->reader.arena, span.length + 1);
    memcpy(text, span.start, span.length);
    text[span.length] = '\0';
    return text;
}

/* Looks the table up once both its names have been read. */
static void resolve(struct message *message)
{
    if (!has(message, KEY_SCHEMA) || !has(message, KEY_TABLE))
        return;
    message->schema_name = name_text(message, message->schema);
    message->table_name = name_text(message, message->table);
    message->relation = pj_wal2json_relations_find(message->relations, message->schema_name, message->table_name);
}

static int read_name(struct message *message, struct pj_json_span *name)
{
    int code = read_string(message, name);
    if (code == PJ_OK)
        resolve(message);
    return code;
}

/* Both names at once, if wal2json wrote them as it did in a message before. */
static bool match_relation(struct message *message)
{
    if (has(message, KEY_SCHEMA) || has(message, KEY_TABLE) || message->change->action == PJ_TRUNCATE)
        return false;
    const struct pj_wal2json_relation *relation =
        pj_wal2json_relations_match(message->relations, &message->reader.json);
    if (!relation)
        return false;
    message->relation = relation;
    message->seen |= 1u << KEY_SCHEMA | 1u << KEY_TABLE;
    return true;
}

static int read_member(struct message *message)
{
    enum key key;
    if (match_relation(message))
        return PJ_OK;
    int code = read_key(message, &key);
    if (code != PJ_OK)
        return code;
    switch (key) {
    case KEY_XID:
        return read_xid(message);
    case KEY_TIMESTAMP:
        return read_timestamp(message);
    case KEY_SCHEMA:
        return read_name(message, &message->schema);
    case KEY_TABLE:
        return read_name(message, &message->table);
    case KEY_COLUMNS:
        return meet_list(message, carries_columns(message->change->action), &message->columns, read_columns);
    case KEY_IDENTITY:
        return meet_list(message, carries_identity(message->change->action), &message->identity, read_identity);
    default:
        return pj_json_skip(&message->reader.json) ? PJ_OK : malformed(message, "a value");
    }
}

/* -------------------------------------------------------------------------------------------------------- messages */

static bool action_of(char letter, enum pj_action *action)
{
    static const struct {
        char letter;
        enum pj_action action;
    } actions[] = {{'I', PJ_INSERT}, {'U', PJ_UPDATE},   {'D', PJ_DELETE}, {'B', PJ_BEGIN},
                   {'C', PJ_COMMIT}, {'T', PJ_TRUNCATE}, {'M', PJ_MESSAGE}};
    for (size_t i = 0; i < sizeof actions / sizeof *actions; i++)
        if (actions[i].letter == letter) {
            *action = actions[i].action;
            return true;
        }
    return false;
}

/* {"action":"I" */
static int read_action(struct message *message)
{
    struct pj_json *json = &message->reader.json;
    struct pj_json_span action;
    enum key key;
    if (!pj_json_take(json, '{'))
        return malformed(message, "an object");
    int code = read_key(message, &key);
    if (code == PJ_OK && key != KEY_ACTION)
        code = malformed(message, "\"action\" as the first key");
    if (code == PJ_OK)
        code = read_string(message, &action);
    if (code == PJ_OK && (action.length != 1 || !action_of(*action.start, &message->change->action)))
        code = malformed(message, "one of the actions B, C, I, U, D, T, M");
    return code;
}

static int read_members(struct message *message)
{
    int code = read_action(message);
    if (code == PJ_OK && message->change->action == PJ_MESSAGE)
        return PJ_OK;
    while (code == PJ_OK && pj_json_take(&message->reader.json, ','))
        code = read_member(message);
    if (code != PJ_OK)
        return code;
    if (!pj_json_take(&message->reader.json, '}'))
        return malformed(message, "\",\" or \"}\"");
    pj_json_space(&message->reader.json);
    return message->reader.json.at == message->reader.json.end ? PJ_OK : malformed(message, "the end");
}

static int finish_commit(struct message *message, pj_lsn lsn)
{
    struct pj_value value;
    struct pj_json_span text = message->timestamp;
    message->change->end_lsn = lsn;
    if (!text.start)
        return PJ_OK;
    if (!pj_pgtext_to_binary(PJ_TIMESTAMPTZ, text.start, text.length, message->reader.arena, &value))
        return malformed(message, "(before this) a timestamp with offset as the commit's time");
    message->change->commit_us = pj_int64(value);
    return PJ_OK;
}

static int list_missing(struct message *message, const char *list)
{
    const struct pj_table *table = message->relation->shape->table;
    return pj_error_set(message->reader.error, PJ_EDATA, "wal2json message: a row change of %s.%s has no %s",
                        table->schema, table->name, list);
}

static int identity_missing(struct message *message)
{
    const struct pj_table *table = message->relation->shape->table;
    list_missing(message, "identity");
    return pj_error_hint(message->reader.error, "no replica identity? See ALTER TABLE %s REPLICA IDENTITY",
                         table->mirror_sql); /* of the same name on the source */
}

static int finish_row(struct message *message)
{
    struct pj_row_change *change = message->change;
    if (!message->relation->shape)
        return PJ_OK;
    change->table = message->relation->shape->table;
    int code = read_later(message, message->columns, read_columns);
    if (code == PJ_OK)
        code = read_later(message, message->identity, read_identity);
    if (code != PJ_OK)
        return code;
    if (carries_columns(change->action) && !change->values)
        return list_missing(message, "columns");
    return carries_identity(change->action) && !change->identity ? identity_missing(message) : PJ_OK;
}

static int finish_change(struct message *message)
{
    struct pj_row_change *change = message->change;
    if (!has(message, KEY_SCHEMA) || !has(message, KEY_TABLE))
        return malformed(message, "(before this) \"schema\" and \"table\"");
    change->schema = message->schema_name;
    change->name = message->table_name;
    if (!message->relation) {
        change->action = PJ_UNKNOWN_RELATION;
        return PJ_OK;
    }
    return finish_row(message);
}

static int decode(struct pj_decoder *decoder, const char *bytes, size_t length, pj_lsn lsn, struct pj_arena *arena,
                  struct pj_row_change *change, struct pj_error *error)
{
    struct wal2json *wal2json = (struct wal2json *)decoder;
    struct message message = {
        .reader = {.json = {bytes, bytes + length}, .message = bytes, .arena = arena, .error = error},
        .relations = &wal2json->relations,
        .change = change,
    };
    *change = (struct pj_row_change){0};
    pj_wal2json_relations_refresh(&wal2json->relations);
    int code = read_members(&message);
    if (code != PJ_OK)
        return code;
    switch (change->action) {
    case PJ_COMMIT:
        return finish_commit(&message, lsn);
    case PJ_BEGIN:
    case PJ_MESSAGE:
        return PJ_OK;
    default:
        return finish_change(&message);
    }
}

static void free_decoder(struct pj_decoder *decoder)
{
    struct wal2json *wal2json = (struct wal2json *)decoder;
    pj_wal2json_relations_free(&wal2json->relations);
    pj_free(wal2json);
}

struct pj_decoder *pj_wal2json_new(const struct pj_relmap *map)
{
    struct wal2json *wal2json = pj_alloc(sizeof *wal2json);
    wal2json->decoder = (struct pj_decoder){.plugin = "wal2json", .decode = decode, .free = free_decoder};
    pj_wal2json_relations_init(&wal2json->relations, map);
    return &wal2json->decoder;
}
