/*
 * The stage of the decoder's tests: messages that it accepts or refuses, and what it says of the last one. One for each
 * program.
 */
#ifndef PJ_TEST_WAL2JSON_STAGE_H
#define PJ_TEST_WAL2JSON_STAGE_H

#include "reference/table_fixture.h"

#include "base/buf.h"
#include "wire/wal2json.h"

#include <criterion/criterion.h>
#include <stdio.h>

static struct fixture_map fixture;
static struct pj_decoder *decoder;
static struct pj_arena arena;
static struct pj_row_change change;
static struct pj_error error;

static inline void set_up(void)
{
    fixture = fixture_map_new();
    decoder = pj_wal2json_new(fixture.map);
    pj_arena_init(&arena);
}

static inline void tear_down(void)
{
    decoder->free(decoder);
    pj_arena_free(&arena);
    fixture_map_free(&fixture);
}

TestSuite(wal2json, .init = set_up, .fini = tear_down);

/* On a copy of exact size, so that a sanitizer sees any byte read behind it, and so that nothing may point into it. */
static inline int decode_bytes(const char *bytes, size_t length)
{
    char *copy = pj_realloc(NULL, length);
    memcpy(copy, bytes, length);
    int code = decoder->decode(decoder, copy, length, 77, &arena, &change, &error);
    memset(copy, 'x', length);
    pj_free(copy);
    return code;
}

static inline int decode(const char *message)
{
    return decode_bytes(message, strlen(message));
}

static inline void accept(const char *message)
{
    cr_assert_eq(decode(message), PJ_OK, "%s: %s", message, error.message);
}

static inline void refuse(const char *message)
{
    cr_assert_eq(decode(message), PJ_EDATA, "%s", message);
    cr_assert_eq(error.code, PJ_EDATA);
}

static inline void is_bytes(struct pj_value value, const char *bytes, int length)
{
    cr_assert_eq(value.length, length, "length %d", value.length);
    cr_assert(length <= 0 || memcmp(value.data, bytes, (size_t)length) == 0);
}

static inline void is_text(struct pj_value value, const char *text)
{
    is_bytes(value, text, (int)strlen(text));
}

/* An INSERT of one column into public.all. */
static inline const char *insert(const char *column, const char *value)
{
    static char message[4096];
    snprintf(message, sizeof message,
             "{\"action\":\"I\",\"schema\":\"public\",\"table\":\"all\",\"columns\":[{\"name\":\"%s\",\"value\":%s}]}",
             column, value);
    return message;
}

#endif
