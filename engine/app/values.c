/* See values.h. Pure functions over text. */
#include "app/values.h"

#include "base/buf.h"
#include "base/mem.h"

#include <ctype.h>
#include <errno.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

/* ------------------------------------------------------------------------------------------------------- amounts */

struct unit {
    const char *name;
    uint64_t factor;
};

/* A number, its unit, and nothing else. An unknown unit, a sign or an overflow is false. */
static bool amount(const char *text, const struct unit *units, uint64_t *value)
{
    while (isspace((unsigned char)*text))
        text++;
    if (!isdigit((unsigned char)*text))
        return false;
    char *end;
    errno = 0;
    unsigned long long number = strtoull(text, &end, 10);
    if (errno)
        return false;
    while (isspace((unsigned char)*end))
        end++;
    for (const struct unit *unit = units; unit->name; unit++)
        if (strcasecmp(end, unit->name) == 0)
            return !__builtin_mul_overflow((uint64_t)number, unit->factor, value);
    return false;
}

bool pj_value_duration(const char *text, int *milliseconds)
{
    static const struct unit units[] = {{"ms", 1}, {"s", 1000}, {"min", 60 * 1000}, {"h", 3600 * 1000}, {NULL, 0}};
    static const struct unit none[] = {{"", 1}, {NULL, 0}};
    uint64_t value;
    if (amount(text, none, &value)) {
        *milliseconds = 0;
        return value == 0; /* a bare number could mean anything but nothing */
    }
    if (!amount(text, units, &value) || value > INT_MAX)
        return false;
    *milliseconds = (int)value;
    return true;
}

bool pj_value_bytes(const char *text, size_t *bytes)
{
    static const struct unit units[] = {{"", 1},          {"B", 1},        {"K", 1 << 10},   {"kB", 1 << 10},
                                        {"KiB", 1 << 10}, {"M", 1 << 20},  {"MB", 1 << 20},  {"MiB", 1 << 20},
                                        {"G", 1 << 30},   {"GB", 1 << 30}, {"GiB", 1 << 30}, {NULL, 0}};
    uint64_t value;
    if (!amount(text, units, &value))
        return false;
    *bytes = (size_t)value;
    return true;
}

bool pj_value_int(const char *text, int least, int most, int *number)
{
    static const struct unit none[] = {{"", 1}, {NULL, 0}};
    uint64_t value;
    if (!amount(text, none, &value) || value > INT_MAX || (int)value < least || (int)value > most)
        return false;
    *number = (int)value;
    return true;
}

bool pj_value_on_error(const char *text, bool *halt)
{
    *halt = strcmp(text, "halt") == 0;
    return *halt || strcmp(text, "park") == 0;
}

/* --------------------------------------------------------------------------------------------------------- lists */

static void skip_spaces(const char **at)
{
    while (isspace((unsigned char)**at))
        (*at)++;
}

static bool quoted_part(const char **at, struct pj_buf *part)
{
    for ((*at)++; **at; (*at)++) {
        if (**at == '"' && *++*at != '"')
            return part->length > 0;
        pj_buf_put(part, *at, 1);
    }
    return false; /* the closing quote is missing */
}

/* Bytes above 127 belong to letters of other alphabets; PostgreSQL leaves their case alone, and so does this. */
static bool bare_part(const char **at, struct pj_buf *part)
{
    for (; isalnum((unsigned char)**at) || **at == '_' || **at == '$' || (unsigned char)**at > 127; (*at)++) {
        char letter = (char)((unsigned char)**at > 127 ? **at : tolower((unsigned char)**at));
        pj_buf_put(part, &letter, 1);
    }
    return part->length > 0;
}

static char *name_part(const char **at)
{
    struct pj_buf part = {0};
    if (**at == '"' ? quoted_part(at, &part) : bare_part(at, &part))
        return pj_buf_take(&part);
    pj_buf_free(&part);
    return NULL;
}

static int whole_name(const char **at, char **schema, char **name)
{
    *name = name_part(at);
    if (*name && **at == '.') {
        (*at)++;
        *schema = *name;
        *name = name_part(at);
    }
    skip_spaces(at);
    if (*name && (**at == ',' || **at == '\0'))
        return 1;
    pj_free(*schema);
    pj_free(*name);
    *schema = *name = NULL;
    return -1;
}

int pj_value_next_name(const char **at, char **schema, char **name)
{
    *schema = *name = NULL;
    while (isspace((unsigned char)**at) || **at == ',')
        (*at)++;
    return **at ? whole_name(at, schema, name) : 0;
}

char *pj_value_next_word(const char **at)
{
    while (isspace((unsigned char)**at) || **at == ',')
        (*at)++;
    size_t length = strcspn(*at, ",");
    const char *start = *at;
    *at += length;
    while (length && isspace((unsigned char)start[length - 1]))
        length--;
    return length ? pj_strndup(start, length) : NULL;
}

/* ------------------------------------------------------------------------------------------------------- nearest */

enum { LONGEST_WORD = 64 };

static unsigned least(unsigned a, unsigned b)
{
    return a < b ? a : b;
}

/* Levenshtein's distance, a row at a time. */
static unsigned distance(const char *a, const char *b)
{
    size_t m = strlen(a), n = strlen(b);
    if (m > LONGEST_WORD || n > LONGEST_WORD)
        return UINT_MAX;
    unsigned row[LONGEST_WORD + 1];
    for (size_t j = 0; j <= n; j++)
        row[j] = (unsigned)j;
    for (size_t i = 1; i <= m; i++) {
        unsigned diagonal = row[0];
        row[0] = (unsigned)i;
        for (size_t j = 1; j <= n; j++) {
            unsigned above = row[j];
            row[j] = least(least(above, row[j - 1]) + 1, diagonal + (a[i - 1] != b[j - 1]));
            diagonal = above;
        }
    }
    return row[n];
}

const char *pj_value_nearest(const char *word, const char *const *words)
{
    const char *best = NULL;
    unsigned best_distance = UINT_MAX;
    for (; *words; words++) {
        unsigned d = distance(word, *words);
        if (d < best_distance) {
            best_distance = d;
            best = *words;
        }
    }
    return best_distance <= 1 + strlen(word) / 3 ? best : NULL;
}
