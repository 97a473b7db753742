/* See copydata.h. Integers stand in network byte order, without alignment. */
#include "wire/copydata.h"

#include <string.h>

enum {
    XLOG_HEADER = 25,    /* 'w', start, end of WAL, server's clock */
    KEEPALIVE_BYTES = 18 /* 'k', end of WAL, server's clock, reply wanted */
};

static uint64_t get_uint64(const char *bytes)
{
    uint64_t value;
    memcpy(&value, bytes, sizeof value);
    return __builtin_bswap64(value);
}

static void put_uint64(char *bytes, uint64_t value)
{
    value = __builtin_bswap64(value);
    memcpy(bytes, &value, sizeof value);
}

static int too_short(const char *what, size_t length, struct pj_error *error)
{
    return pj_error_set(error, PJ_EDATA, "replication protocol: %s message of %zu bytes is too short", what, length);
}

int pj_copydata_parse(const char *message, size_t length, struct pj_copydata *out, struct pj_error *error)
{
    *out = (struct pj_copydata){0};
    if (length == 0)
        return pj_error_set(error, PJ_EDATA, "replication protocol: empty message");
    switch (message[0]) {
    case 'w':
        if (length < XLOG_HEADER)
            return too_short("an XLogData", length, error);
        out->kind = PJ_COPYDATA_XLOG;
        out->start = get_uint64(message + 1);
        out->sent_us = (int64_t)get_uint64(message + 17);
        out->payload = message + XLOG_HEADER;
        out->length = length - XLOG_HEADER;
        return PJ_OK;
    case 'k':
        if (length < KEEPALIVE_BYTES)
            return too_short("a keepalive", length, error);
        out->kind = PJ_COPYDATA_KEEPALIVE;
        out->start = get_uint64(message + 1);
        out->sent_us = (int64_t)get_uint64(message + 9);
        out->reply_wanted = message[17] != 0;
        return PJ_OK;
    default:
        return pj_error_set(error, PJ_EDATA, "replication protocol: message of unknown kind 0x%02x",
                            (unsigned)(unsigned char)message[0]);
    }
}

/* From microseconds since 1970 to microseconds since 2000. */
static const int64_t epoch_difference_us = INT64_C(946684800) * 1000000;

void pj_copydata_status(char out[PJ_STATUS_BYTES], pj_lsn written, pj_lsn flushed, int64_t wall_us, bool reply_wanted)
{
    out[0] = 'r';
    put_uint64(out + 1, written);
    put_uint64(out + 9, flushed);
    put_uint64(out + 17, flushed); /* applied: the flush position is only ever what has been applied durably */
    put_uint64(out + 25, (uint64_t)(wall_us - epoch_difference_us));
    out[33] = reply_wanted ? 1 : 0;
}
