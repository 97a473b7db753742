/*
 * See pgtext.h. Every reader takes the whole text or refuses it, and takes only what PostgreSQL itself writes: digits
 * where it writes digits, nothing before, nothing behind. A text that merely resembles a value means that the source's
 * settings or schema are not what we were told, and that must show.
 */
#include "wire/pgtext.h"

#include <string.h>

static bool is_digit(char c)
{
    return c >= '0' && c <= '9';
}

static void set(struct pj_value *value, const unsigned char *data, size_t length)
{
    value->data = data;
    value->length = (int32_t)length;
}

static void set_int64(struct pj_arena *arena, int64_t number, struct pj_value *value)
{
    unsigned char *bytes = pj_arena_alloc(arena, 8);
    uint64_t big = __builtin_bswap64((uint64_t)number);
    memcpy(bytes, &big, 8);
    set(value, bytes, 8);
}

static void set_int32(struct pj_arena *arena, int32_t number, struct pj_value *value)
{
    unsigned char *bytes = pj_arena_alloc(arena, 4);
    uint32_t big = __builtin_bswap32((uint32_t)number);
    memcpy(bytes, &big, 4);
    set(value, bytes, 4);
}

/* -------------------------------------------------------------------------------------------------------- integers */

/* At most 19 digits, which cannot overflow 64 bits without a sign. No leading zero, no "-0", no "+". */
static bool parse_int(const char *text, size_t length, int64_t least, int64_t most, int64_t *number)
{
    bool negative = length > 0 && text[0] == '-';
    size_t at = negative ? 1 : 0;
    size_t digits = length - at;
    if (digits == 0 || digits > 19 || (text[at] == '0' && (digits > 1 || negative)))
        return false;
    uint64_t magnitude = 0;
    for (; at < length; at++) {
        if (!is_digit(text[at]))
            return false;
        magnitude = magnitude * 10 + (uint64_t)(text[at] - '0');
    }
    if (magnitude > (uint64_t)INT64_MAX + (negative ? 1 : 0))
        return false;
    *number = negative ? (int64_t)(0 - magnitude) : (int64_t)magnitude;
    return *number >= least && *number <= most;
}

static bool read_int2(const char *text, size_t length, struct pj_arena *arena, struct pj_value *value)
{
    int64_t number;
    if (!parse_int(text, length, INT16_MIN, INT16_MAX, &number))
        return false;
    unsigned char *bytes = pj_arena_alloc(arena, 2);
    uint16_t big = __builtin_bswap16((uint16_t)number);
    memcpy(bytes, &big, 2);
    set(value, bytes, 2);
    return true;
}

static bool read_int4(const char *text, size_t length, struct pj_arena *arena, struct pj_value *value)
{
    int64_t number;
    if (!parse_int(text, length, INT32_MIN, INT32_MAX, &number))
        return false;
    set_int32(arena, (int32_t)number, value);
    return true;
}

static bool read_int8(const char *text, size_t length, struct pj_arena *arena, struct pj_value *value)
{
    int64_t number;
    if (!parse_int(text, length, INT64_MIN, INT64_MAX, &number))
        return false;
    set_int64(arena, number, value);
    return true;
}

/* --------------------------------------------------------------------------------------------------- bool and bytes */

static bool is_word(const char *text, size_t length, const char *word)
{
    return length == strlen(word) && memcmp(text, word, length) == 0;
}

static bool read_bool(const char *text, size_t length, struct pj_arena *arena, struct pj_value *value)
{
    bool yes = is_word(text, length, "t") || is_word(text, length, "true");
    if (!yes && !is_word(text, length, "f") && !is_word(text, length, "false"))
        return false;
    unsigned char *byte = pj_arena_alloc(arena, 1);
    *byte = yes ? 1 : 0;
    set(value, byte, 1);
    return true;
}

static bool read_text(const char *text, size_t length, struct pj_arena *arena, struct pj_value *value)
{
    unsigned char *copy = pj_arena_alloc(arena, length ? length : 1);
    memcpy(copy, text, length);
    set(value, copy, length);
    return true;
}

typedef uint8_t bytes16 __attribute__((vector_size(16)));
typedef uint16_t pairs8 __attribute__((vector_size(16)));
typedef uint8_t bytes8 __attribute__((vector_size(8)));
typedef uint64_t words2 __attribute__((vector_size(16)));

static bool any_bit(bytes16 bytes)
{
    words2 halves = (words2)bytes;
    return (halves[0] | halves[1]) != 0;
}

static uint64_t load8(const char *text)
{
    uint64_t word;
    memcpy(&word, text, sizeof word);
    return word;
}

static uint64_t load4(const char *text)
{
    uint32_t word;
    memcpy(&word, text, sizeof word);
    return word;
}

/*
 * 8 bytes from 16 lower-case digits, all at once. A letter has bit 6 set; its value is its low four bits plus nine. The
 * digits are right if each value is below 16, at least 10 for the letters and for no other, and gives the digit back.
 */
static inline bool parse_16_digits(uint64_t first, uint64_t second, unsigned char *bytes)
{
    bytes16 digits = (bytes16)(words2){first, second};
    bytes16 letter = digits >> 6 & 1;
    bytes16 value = (digits & 15) + letter * 9;
    bytes16 wrong =
        value >> 4 | (((value + 6) >> 4 & 1) ^ letter) | ((value + '0' + letter * ('a' - '0' - 10)) ^ digits);
    pairs8 pairs = (pairs8)value;
    bytes8 packed = __builtin_convertvector(pairs << 4 | pairs >> 8, bytes8);
    memcpy(bytes, &packed, sizeof packed);
    return !any_bit(wrong);
}

static int hex_value(char c)
{
    if (is_digit(c))
        return c - '0';
    return c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

/* `count` bytes from twice as many digits. */
static bool parse_hex(const char *text, size_t count, unsigned char *bytes)
{
    for (; count >= 8; count -= 8, text += 16, bytes += 8)
        if (!parse_16_digits(load8(text), load8(text + 8), bytes))
            return false;
    for (; count > 0; count--, text += 2, bytes++) {
        int high = hex_value(text[0]), low = hex_value(text[1]);
        if (high < 0 || low < 0)
            return false;
        *bytes = (unsigned char)(high << 4 | low);
    }
    return true;
}

static bool read_bytea(const char *text, size_t length, struct pj_arena *arena, struct pj_value *value)
{
    if (length >= 2 && text[0] == '\\' && text[1] == 'x') {
        text += 2;
        length -= 2;
    }
    unsigned char *bytes = pj_arena_alloc(arena, length / 2 + 1);
    if (length % 2 != 0 || !parse_hex(text, length / 2, bytes))
        return false;
    set(value, bytes, length / 2);
    return true;
}

static bool read_uuid(const char *text, size_t length, struct pj_arena *arena, struct pj_value *value)
{
    if (length != 36 || text[8] != '-' || text[13] != '-' || text[18] != '-' || text[23] != '-')
        return false;
    unsigned char *bytes = pj_arena_alloc(arena, 16);
    if (!parse_16_digits(load8(text), load4(text + 9) | load4(text + 14) << 32, bytes) ||
        !parse_16_digits(load4(text + 19) | load4(text + 24) << 32, load8(text + 28), bytes + 8))
        return false;
    set(value, bytes, 16);
    return true;
}

/* -------------------------------------------------------------------------------------------------- dates and times */

/*
 * PostgreSQL's ranges. Its calendar begins with Julian day 0, which is 4714-11-24 BC, 2451545 days before 2000-01-01;
 * dates end with the year 5874897, timestamps with 294276.
 */
static const int64_t first_day = -2451545, day_limit = INT64_C(2147483494) - 2451545;
static const int64_t day_us = INT64_C(86400) * 1000000;
static const int64_t first_us = INT64_C(-211813488000000000), us_limit = INT64_C(9223371331200000000);

/* What is left of the text. */
struct rest {
    const char *at, *end;
};

static bool take(struct rest *rest, char c)
{
    if (rest->at == rest->end || *rest->at != c)
        return false;
    rest->at++;
    return true;
}

static bool take_two(struct rest *rest, int least, int most, int *number)
{
    if (rest->end - rest->at < 2 || !is_digit(rest->at[0]) || !is_digit(rest->at[1]))
        return false;
    *number = (rest->at[0] - '0') * 10 + (rest->at[1] - '0');
    rest->at += 2;
    return *number >= least && *number <= most;
}

/* Four digits, or up to seven without a leading zero. There is no year 0. */
static bool take_year(struct rest *rest, int *year)
{
    const char *start = rest->at;
    *year = 0;
    while (rest->at < rest->end && rest->at - start < 8 && is_digit(*rest->at))
        *year = *year * 10 + (*rest->at++ - '0');
    ptrdiff_t digits = rest->at - start;
    return *year > 0 && digits >= 4 && digits <= 7 && (digits == 4 || *start != '0');
}

static int month_days(int year, int month)
{
    static const unsigned char days[] = {31, 28, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31};
    bool leap = (year % 4 == 0 && year % 100 != 0) || year % 400 == 0;
    return days[month - 1] + (month == 2 && leap ? 1 : 0);
}

/* Days from 2000-01-01 in the proleptic Gregorian calendar; the year 0 is 1 BC. Counted in eras of 400 years that begin
 * in March, so that the leap day is the last of its year. */
static int64_t days_from_2000(int year, int month, int day)
{
    int64_t y = month <= 2 ? year - 1 : year;
    int64_t era = (y >= 0 ? y : y - 399) / 400;
    int64_t year_of_era = y - era * 400;
    int64_t day_of_year = (153 * (month + (month > 2 ? -3 : 9)) + 2) / 5 + day - 1;
    int64_t day_of_era = year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + day_of_year;
    return era * 146097 + day_of_era - 730425;
}

struct date {
    int year, month, day;
};

static bool take_date(struct rest *rest, struct date *date)
{
    return take_year(rest, &date->year) && take(rest, '-') && take_two(rest, 1, 12, &date->month) && take(rest, '-') &&
           take_two(rest, 1, 31, &date->day);
}

/* The end of the text, with " BC" or without, and with it the day that was meant. */
static bool finish_date(struct rest *rest, const struct date *date, int64_t *days)
{
    int year = date->year;
    if (rest->end - rest->at == 3 && memcmp(rest->at, " BC", 3) == 0)
        year = 1 - year;
    else if (rest->at != rest->end)
        return false;
    *days = days_from_2000(year, date->month, date->day);
    return date->day <= month_days(year, date->month);
}

/* ":SS", with up to six digits behind a point where the fraction is not zero; added to *us. */
static bool take_seconds(struct rest *rest, int64_t *us)
{
    int seconds;
    if (!take(rest, ':') || !take_two(rest, 0, 59, &seconds))
        return false;
    *us += (int64_t)seconds * 1000000;
    if (!take(rest, '.'))
        return true;
    int64_t unit = 100000;
    const char *start = rest->at;
    for (; rest->at < rest->end && is_digit(*rest->at) && unit > 0; unit /= 10)
        *us += (*rest->at++ - '0') * unit;
    return rest->at > start;
}

/* "+HH", "+HH:MM", "+HH:MM:SS", or with "-": local time minus UTC. */
static bool take_offset(struct rest *rest, int64_t *us)
{
    int hours, minutes = 0, seconds = 0;
    bool west = take(rest, '-');
    if ((!west && !take(rest, '+')) || !take_two(rest, 0, 99, &hours))
        return false;
    if (take(rest, ':')) {
        if (!take_two(rest, 0, 59, &minutes) || (take(rest, ':') && !take_two(rest, 0, 59, &seconds)))
            return false;
    }
    *us = ((int64_t)hours * 3600 + minutes * 60 + seconds) * (west ? -1000000 : 1000000);
    return true;
}

static bool read_date(const char *text, size_t length, struct pj_arena *arena, struct pj_value *value)
{
    struct rest rest = {text, text + length};
    struct date date;
    int64_t days;
    if (is_word(text, length, "infinity"))
        days = INT32_MAX;
    else if (is_word(text, length, "-infinity"))
        days = INT32_MIN;
    else if (!take_date(&rest, &date) || !finish_date(&rest, &date, &days) || days < first_day || days >= day_limit)
        return false;
    set_int32(arena, (int32_t)days, value);
    return true;
}

/*
 * "2026-01-31 12:34", the part before the seconds as nearly all timestamps have it, all at once: less the pattern, each
 * digit is at most 9, each separator 0. What does not fit is left to the readers that know longer years.
 */
static bool take_minutes(struct rest *rest, struct date *date, int64_t *us)
{
    static const bytes16 pattern = {'0', '0', '0', '0', '-', '0', '0', '-', '0', '0', ' ', '0', '0', ':', '0', '0'};
    static const bytes16 most = {9, 9, 9, 9, 0, 9, 9, 0, 9, 9, 0, 9, 9, 0, 9, 9};
    bytes16 digits;
    if (rest->end - rest->at < 16)
        return false;
    memcpy(&digits, rest->at, sizeof digits);
    digits -= pattern;
    if (any_bit((bytes16)(digits > most)))
        return false;
    unsigned char d[16];
    memcpy(d, &digits, sizeof d);
    int hours = d[11] * 10 + d[12], minutes = d[14] * 10 + d[15];
    date->year = d[0] * 1000 + d[1] * 100 + d[2] * 10 + d[3];
    date->month = d[5] * 10 + d[6];
    date->day = d[8] * 10 + d[9];
    if (date->year == 0 || date->month < 1 || date->month > 12 || date->day < 1 || hours > 23 || minutes > 59)
        return false;
    *us = ((int64_t)hours * 3600 + minutes * 60) * 1000000;
    rest->at += 16;
    return true;
}

static bool take_date_and_minutes(struct rest *rest, struct date *date, int64_t *us)
{
    int hours, minutes;
    if (take_minutes(rest, date, us))
        return true;
    if (!take_date(rest, date) || !take(rest, ' ') || !take_two(rest, 0, 23, &hours) || !take(rest, ':') ||
        !take_two(rest, 0, 59, &minutes))
        return false;
    *us = ((int64_t)hours * 3600 + minutes * 60) * 1000000;
    return true;
}

static bool parse_timestamp(const char *text, size_t length, bool zoned, int64_t *us)
{
    struct rest rest = {text, text + length};
    struct date date;
    int64_t days, time, offset = 0;
    if (!take_date_and_minutes(&rest, &date, &time) || !take_seconds(&rest, &time) ||
        (zoned && !take_offset(&rest, &offset)) || !finish_date(&rest, &date, &days))
        return false;
    /* the last day may lie outside by its offset alone, and a date far beyond must not overflow */
    if (days < first_day - 5 || days > us_limit / day_us + 5)
        return false;
    return !__builtin_mul_overflow(days, day_us, us) && !__builtin_add_overflow(*us, time - offset, us) &&
           *us >= first_us && *us < us_limit;
}

static bool read_timestamp(const char *text, size_t length, bool zoned, struct pj_arena *arena, struct pj_value *value)
{
    int64_t us;
    if (is_word(text, length, "infinity"))
        us = INT64_MAX;
    else if (is_word(text, length, "-infinity"))
        us = INT64_MIN;
    else if (!parse_timestamp(text, length, zoned, &us))
        return false;
    set_int64(arena, us, value);
    return true;
}

bool pj_pgtext_to_binary(enum pj_type type, const char *text, size_t length, struct pj_arena *arena,
                         struct pj_value *value)
{
    if (length > INT32_MAX)
        return false;
    switch (type) {
    case PJ_ANY:
    case PJ_TEXT:
        return read_text(text, length, arena, value);
    case PJ_BOOL:
        return read_bool(text, length, arena, value);
    case PJ_INT2:
        return read_int2(text, length, arena, value);
    case PJ_INT4:
        return read_int4(text, length, arena, value);
    case PJ_INT8:
        return read_int8(text, length, arena, value);
    case PJ_BYTEA:
        return read_bytea(text, length, arena, value);
    case PJ_DATE:
        return read_date(text, length, arena, value);
    case PJ_TIMESTAMP:
    case PJ_TIMESTAMPTZ:
        return read_timestamp(text, length, type == PJ_TIMESTAMPTZ, arena, value);
    case PJ_UUID:
        return read_uuid(text, length, arena, value);
    }
    return false;
}
