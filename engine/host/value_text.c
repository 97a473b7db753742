/* See value_text.h. */
#include "host/value_text.h"

static const int64_t day_us = INT64_C(86400000000);
enum { EPOCH_DAYS = 730425 }; /* from 0000-03-01 to 2000-01-01, proleptic Gregorian */

static bool has_width(enum pj_type type, int32_t length)
{
    return !pj_type_width(type) || pj_type_width(type) == length;
}

static void put_hex(struct pj_buf *text, struct pj_value value)
{
    pj_buf_puts(text, "\\x");
    for (int32_t i = 0; i < value.length; i++)
        pj_buf_printf(text, "%02x", value.data[i]);
}

/* The bytes that the UTF-8 sequence beginning with this one has; 0 for none. */
static int sequence_length(unsigned char first)
{
    if (first < 0x80)
        return first ? 1 : 0;
    if (first >= 0xc2 && first < 0xe0)
        return 2;
    if (first >= 0xe0 && first < 0xf0)
        return 3;
    return first >= 0xf0 && first < 0xf5 ? 4 : 0;
}

/* A longer form than needed, half of a surrogate pair, or beyond U+10FFFF: the second byte tells. */
static bool no_character(unsigned char first, unsigned char second)
{
    return (first == 0xe0 && second < 0xa0) || (first == 0xed && second >= 0xa0) || (first == 0xf0 && second < 0x90) ||
           (first == 0xf4 && second >= 0x90);
}

static bool is_utf8(struct pj_value value)
{
    for (int32_t i = 0; i < value.length;) {
        int length = sequence_length(value.data[i]);
        if (!length || i + length > value.length || (length > 1 && no_character(value.data[i], value.data[i + 1])))
            return false;
        for (int j = 1; j < length; j++)
            if ((value.data[i + j] & 0xc0) != 0x80)
                return false;
        i += length;
    }
    return true;
}

static void put_uuid(struct pj_buf *text, const unsigned char *bytes)
{
    for (int i = 0; i < 16; i++)
        pj_buf_printf(text, "%s%02x", i == 4 || i == 6 || i == 8 || i == 10 ? "-" : "", bytes[i]);
}

/* Days since 2000-01-01 to year, month and day; years before 1 are 0 and negative. Eras of 400 years, from March. */
static void civil(int64_t days, int64_t *year, int *month, int *day)
{
    days += EPOCH_DAYS;
    int64_t era = (days >= 0 ? days : days - 146096) / 146097, in_era = days - era * 146097;
    int64_t of_era = (in_era - in_era / 1460 + in_era / 36524 - in_era / 146096) / 365;
    int64_t of_year = in_era - (365 * of_era + of_era / 4 - of_era / 100);
    int64_t shifted = (5 * of_year + 2) / 153;
    *day = (int)(of_year - (153 * shifted + 2) / 5 + 1);
    *month = (int)(shifted < 10 ? shifted + 3 : shifted - 9);
    *year = of_era + era * 400 + (*month <= 2);
}

/* Writes the date; true where " BC" must follow at the end. */
static bool put_date(struct pj_buf *text, int64_t days)
{
    int64_t year;
    int month, day;
    civil(days, &year, &month, &day);
    bool bc = year <= 0;
    pj_buf_printf(text, "%04lld-%02d-%02d", (long long)(bc ? 1 - year : year), month, day);
    return bc;
}

static void put_timestamp(struct pj_buf *text, int64_t us, const char *zone)
{
    if (us == INT64_MAX || us == INT64_MIN) {
        pj_buf_puts(text, us > 0 ? "infinity" : "-infinity");
        return;
    }
    int64_t days = us / day_us - (us % day_us < 0), rest = us - days * day_us;
    bool bc = put_date(text, days);
    int seconds = (int)(rest / 1000000), fraction = (int)(rest % 1000000);
    pj_buf_printf(text, " %02d:%02d:%02d", seconds / 3600, seconds / 60 % 60, seconds % 60);
    if (fraction) {
        pj_buf_printf(text, ".%06d", fraction);
        while (text->data[text->length - 1] == '0')
            text->data[--text->length] = '\0';
    }
    pj_buf_printf(text, "%s%s", zone, bc ? " BC" : "");
}

static void put_days(struct pj_buf *text, int64_t days)
{
    if (days == INT32_MAX || days == INT32_MIN)
        pj_buf_puts(text, days > 0 ? "infinity" : "-infinity");
    else if (put_date(text, days))
        pj_buf_puts(text, " BC");
}

static void put_text(struct pj_buf *text, struct pj_value value)
{
    if (is_utf8(value))
        pj_buf_put(text, value.data, (size_t)value.length);
    else
        put_hex(text, value);
}

bool pj_value_text(enum pj_type type, struct pj_value value, struct pj_buf *text)
{
    if (value.length < 0 || !has_width(type, value.length))
        return false;
    switch (type) {
    case PJ_BOOL:
        pj_buf_puts(text, value.data[0] ? "t" : "f");
        break;
    case PJ_INT2:
    case PJ_INT4:
    case PJ_INT8:
        pj_buf_printf(text, "%lld", (long long)pj_int64(value));
        break;
    case PJ_DATE:
        put_days(text, pj_int64(value));
        break;
    case PJ_TIMESTAMP:
    case PJ_TIMESTAMPTZ:
        put_timestamp(text, pj_int64(value), type == PJ_TIMESTAMPTZ ? "+00" : "");
        break;
    case PJ_UUID:
        put_uuid(text, value.data);
        break;
    case PJ_BYTEA:
        put_hex(text, value);
        break;
    default:
        if (value.length)
            put_text(text, value);
    }
    return true;
}

/* ------------------------------------------------------------------------------------------------------- validity */

/* As the server's date_recv and timestamp_recv have it. */
static bool date_fits(int64_t days)
{
    return days == INT32_MAX || days == INT32_MIN || (days >= -2451545 && days < INT64_C(2147483494) - 2451545);
}

static bool timestamp_fits(int64_t us)
{
    return us == INT64_MAX || us == INT64_MIN ||
           (us >= INT64_C(-211813488000000000) && us < INT64_C(9223371331200000000));
}

bool pj_value_fits(enum pj_type type, struct pj_value value)
{
    if (pj_is_null(value))
        return true;
    if (value.length < 0 || !has_width(type, value.length))
        return false;
    switch (type) {
    case PJ_DATE:
        return date_fits(pj_int64(value));
    case PJ_TIMESTAMP:
    case PJ_TIMESTAMPTZ:
        return timestamp_fits(pj_int64(value));
    case PJ_TEXT:
    case PJ_ANY:
        return is_utf8(value);
    default:
        return true;
    }
}
