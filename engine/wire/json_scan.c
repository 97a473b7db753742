/*
 * See json_scan.h. Nearly all bytes of a message are plain ASCII inside strings, so these are passed 16 (or 8) at a
 * time; only quotes, backslashes, control characters and bytes beyond ASCII are looked at one by one.
 */
#include "wire/json_scan.h"

#include "base/text.h"

#include <stdint.h>

#ifdef __SSE2__
#include <emmintrin.h>
#endif

/* ------------------------------------------------------------------------------------------------------- strings */

static bool is_plain(char c)
{
    return (unsigned char)(c - 0x20) < 0x60 && c != '"' && c != '\\';
}

#ifdef __SSE2__

/* The first byte that is not plain, or some plain byte of the last 15. */
static const char *skip_plain_blocks(const char *at, const char *end)
{
    const __m128i quote = _mm_set1_epi8('"'), backslash = _mm_set1_epi8('\\'), space = _mm_set1_epi8(0x20);
    for (; end - at >= 16; at += 16) {
        __m128i bytes = _mm_loadu_si128((const __m128i *)(const void *)at);
        /* signed: control characters and the bytes from 0x80 are all less than a space */
        __m128i special = _mm_or_si128(_mm_or_si128(_mm_cmpeq_epi8(bytes, quote), _mm_cmpeq_epi8(bytes, backslash)),
                                       _mm_cmplt_epi8(bytes, space));
        int mask = _mm_movemask_epi8(special);
        if (mask)
            return at + __builtin_ctz((unsigned)mask);
    }
    return at;
}

#else

/* Bit 7 of each byte that is zero; exact up to the lowest such byte, which is enough to say whether there is one. */
static uint64_t zero_bytes(uint64_t bytes)
{
    return (bytes - UINT64_C(0x0101010101010101)) & ~bytes & UINT64_C(0x8080808080808080);
}

/* The start of the first 8 bytes that are not all plain, or some plain byte of the last 7. */
static const char *skip_plain_blocks(const char *at, const char *end)
{
    const uint64_t ones = UINT64_C(0x0101010101010101);
    for (; end - at >= 8; at += 8) {
        uint64_t bytes;
        memcpy(&bytes, at, 8);
        uint64_t control = (bytes - ones * 0x20) & ~bytes;
        if (((control | bytes) & ones * 0x80) | zero_bytes(bytes ^ ones * '"') | zero_bytes(bytes ^ ones * '\\'))
            return at;
    }
    return at;
}

#endif

static const char *skip_plain(const char *at, const char *end)
{
    at = skip_plain_blocks(at, end);
    while (at < end && is_plain(*at))
        at++;
    return at;
}

static int hex_digit(char c)
{
    if (c >= '0' && c <= '9')
        return c - '0';
    if (c >= 'a' && c <= 'f')
        return c - 'a' + 10;
    if (c >= 'A' && c <= 'F')
        return c - 'A' + 10;
    return -1;
}

/* The UTF-16 unit of "\uXXXX" at `at`, or -1. */
static int utf16_unit(const char *at, const char *end)
{
    if (end - at < 6 || at[0] != '\\' || at[1] != 'u')
        return -1;
    int unit = 0;
    for (int i = 2; i < 6; i++) {
        int digit = hex_digit(at[i]);
        if (digit < 0)
            return -1;
        unit = unit << 4 | digit;
    }
    return unit;
}

/* The code point of "\uXXXX", or of two of them that are a surrogate pair, and the length of both; -1 where wrong. */
static int32_t unicode_escape(const char *at, const char *end, size_t *length)
{
    int unit = utf16_unit(at, end);
    *length = 6;
    if (unit <= 0 || (unit >= 0xdc00 && unit <= 0xdfff))
        return -1;
    if (unit < 0xd800 || unit > 0xdbff)
        return unit;
    int low = utf16_unit(at + 6, end);
    *length = 12;
    if (low < 0xdc00 || low > 0xdfff)
        return -1;
    return 0x10000 + ((unit - 0xd800) << 10) + (low - 0xdc00);
}

/* The character of a two-byte escape, by the byte behind the backslash; 0 where there is none. */
static char simple_escape(char c)
{
    switch (c) {
    case '"':
    case '\\':
    case '/':
        return c;
    case 'b':
        return '\b';
    case 'f':
        return '\f';
    case 'n':
        return '\n';
    case 'r':
        return '\r';
    case 't':
        return '\t';
    default:
        return 0;
    }
}

/* The length of the escape at `at`, or 0 where it is none. */
static size_t escape_length(const char *at, const char *end)
{
    size_t length = 2;
    if (end - at < 2)
        return 0;
    if (at[1] == 'u')
        return unicode_escape(at, end, &length) < 0 ? 0 : length;
    return simple_escape(at[1]) ? 2 : 0;
}

bool pj_json_string(struct pj_json *json, struct pj_json_span *span)
{
    if (json->at == json->end || *json->at != '"')
        return false;
    const char *start = json->at + 1, *at = start;
    span->start = start;
    span->escaped = false;
    for (;;) {
        json->at = at = skip_plain(at, json->end);
        if (at == json->end)
            return false;
        if (*at == '"')
            break;
        size_t length = 0;
        if (*at == '\\') {
            length = escape_length(at, json->end);
            span->escaped = true;
        } else if ((unsigned char)*at >= 0x80) {
            length = pj_text_character(at, json->end);
        }
        if (length == 0)
            return false;
        at += length;
    }
    span->length = (size_t)(at - start);
    json->at = at + 1;
    return true;
}

static size_t put_utf8(int32_t point, char *out)
{
    if (point < 0x80) {
        out[0] = (char)point;
        return 1;
    }
    if (point < 0x800) {
        out[0] = (char)(0xc0 | point >> 6);
        out[1] = (char)(0x80 | (point & 0x3f));
        return 2;
    }
    if (point < 0x10000) {
        out[0] = (char)(0xe0 | point >> 12);
        out[1] = (char)(0x80 | (point >> 6 & 0x3f));
        out[2] = (char)(0x80 | (point & 0x3f));
        return 3;
    }
    out[0] = (char)(0xf0 | point >> 18);
    out[1] = (char)(0x80 | (point >> 12 & 0x3f));
    out[2] = (char)(0x80 | (point >> 6 & 0x3f));
    out[3] = (char)(0x80 | (point & 0x3f));
    return 4;
}

size_t pj_json_decode(struct pj_json_span span, char *out)
{
    const char *at = span.start, *end = span.start + span.length;
    char *start = out;
    while (at < end) {
        const char *backslash = memchr(at, '\\', (size_t)(end - at));
        size_t plain = (size_t)((backslash ? backslash : end) - at);
        memcpy(out, at, plain);
        out += plain;
        at += plain;
        if (at == end)
            break;
        size_t length = 2;
        if (at[1] == 'u')
            out += put_utf8(unicode_escape(at, end, &length), out);
        else
            *out++ = simple_escape(at[1]);
        at += length;
    }
    return (size_t)(out - start);
}

/* --------------------------------------------------------------------------------------------- numbers and the rest */

static bool skip_digits(struct pj_json *json)
{
    const char *start = json->at;
    while (json->at < json->end && *json->at >= '0' && *json->at <= '9')
        json->at++;
    return json->at > start;
}

static bool take_either(struct pj_json *json, char a, char b)
{
    if (json->at == json->end || (*json->at != a && *json->at != b))
        return false;
    json->at++;
    return true;
}

bool pj_json_number(struct pj_json *json, struct pj_json_span *span)
{
    span->start = json->at;
    span->escaped = false;
    take_either(json, '-', '-');
    if (!take_either(json, '0', '0') && !skip_digits(json))
        return false;
    if (take_either(json, '.', '.') && !skip_digits(json))
        return false;
    if (take_either(json, 'e', 'E')) {
        take_either(json, '+', '-');
        if (!skip_digits(json))
            return false;
    }
    span->length = (size_t)(json->at - span->start);
    return true;
}

static bool skip_scalar(struct pj_json *json)
{
    struct pj_json_span ignored;
    switch (*json->at) {
    case '"':
        return pj_json_string(json, &ignored);
    case 't':
        return pj_json_literal(json, "true", 4);
    case 'f':
        return pj_json_literal(json, "false", 5);
    case 'n':
        return pj_json_literal(json, "null", 4);
    default:
        return pj_json_number(json, &ignored);
    }
}

static bool skip_key(struct pj_json *json)
{
    struct pj_json_span ignored;
    pj_json_space(json);
    return pj_json_string(json, &ignored) && pj_json_take(json, ':');
}

/* The brackets that are open: bit 0 is the innermost, set for an object. */
struct nesting {
    uint64_t objects;
    int depth;
};

static char closer(const struct nesting *nesting)
{
    return nesting->objects & 1 ? '}' : ']';
}

/* Behind a value: closes what ends here, and stands at the next value or has closed all. */
static bool next_value(struct pj_json *json, struct nesting *nesting)
{
    while (nesting->depth > 0) {
        if (pj_json_take(json, ','))
            return !(nesting->objects & 1) || skip_key(json);
        if (!pj_json_take(json, closer(nesting)))
            return false;
        nesting->objects >>= 1;
        nesting->depth--;
    }
    return true;
}

/* At an opening bracket. `*inside` says whether a value comes next: not so in an empty array or object. */
static bool open_bracket(struct pj_json *json, struct nesting *nesting, bool *inside)
{
    if (nesting->depth == PJ_JSON_DEPTH)
        return false;
    bool object = *json->at++ == '{';
    nesting->objects = nesting->objects << 1 | (object ? 1 : 0);
    nesting->depth++;
    *inside = !pj_json_take(json, closer(nesting));
    if (*inside)
        return !object || skip_key(json);
    nesting->objects >>= 1;
    nesting->depth--;
    return true;
}

bool pj_json_skip(struct pj_json *json)
{
    struct nesting nesting = {0};
    do {
        pj_json_space(json);
        if (json->at == json->end)
            return false;
        if (*json->at == '{' || *json->at == '[') {
            bool inside;
            if (!open_bracket(json, &nesting, &inside))
                return false;
            if (inside)
                continue;
        } else if (!skip_scalar(json)) {
            return false;
        }
        if (!next_value(json, &nesting))
            return false;
    } while (nesting.depth > 0);
    return true;
}
