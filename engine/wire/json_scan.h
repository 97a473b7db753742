/*
 * A scanner over JSON text in memory: one pass, no allocation, no recursion, nothing read at or behind `end`.
 *
 * Each function stands at the first byte of what it reads and leaves `at` behind it. Where the text is not what it
 * reads it returns false, and `at` is somewhere at or before the fault. It accepts RFC 8259 and nothing else, except
 * that strings may not hold U+0000, which no PostgreSQL text can hold. Strings are checked (UTF-8, escapes, surrogate
 * pairs) while they are skipped, so that whatever was skipped can be decoded later without a check.
 */
#ifndef PJ_WIRE_JSON_SCAN_H
#define PJ_WIRE_JSON_SCAN_H

#include <stdbool.h>
#include <stddef.h>
#include <string.h>

struct pj_json {
    const char *at, *end;
};

/* A stretch of the text: a string's inside (as written, escapes included) or a number. */
struct pj_json_span {
    const char *start;
    size_t length;
    bool escaped; /* holds a backslash, so that it has to be decoded before use */
};

enum { PJ_JSON_DEPTH = 64 }; /* arrays and objects inside each other, as far as pj_json_skip follows */

bool pj_json_string(struct pj_json *json, struct pj_json_span *span); /* from quote to quote; the span without them */
bool pj_json_number(struct pj_json *json, struct pj_json_span *span);
bool pj_json_skip(struct pj_json *json); /* any value, white space before it included */

/* Writes the string's characters and returns how many bytes they are: at most span.length. Not NUL-terminated. */
size_t pj_json_decode(struct pj_json_span span, char *out);

static inline void pj_json_space(struct pj_json *json)
{
    while (json->at < json->end && (*json->at == ' ' || *json->at == '\n' || *json->at == '\r' || *json->at == '\t'))
        json->at++;
}

/* Whether the next byte but white space is `c`; if so, behind it. */
static inline bool pj_json_take(struct pj_json *json, char c)
{
    pj_json_space(json);
    if (json->at == json->end || *json->at != c)
        return false;
    json->at++;
    return true;
}

/* Whether exactly these bytes come next; if so, behind them. With a constant length this is a compare or two. */
static inline bool pj_json_literal(struct pj_json *json, const char *bytes, size_t length)
{
    if ((size_t)(json->end - json->at) < length || memcmp(json->at, bytes, length) != 0)
        return false;
    json->at += length;
    return true;
}

#endif
