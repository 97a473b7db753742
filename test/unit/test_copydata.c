#include "wire/copydata.h"

#include <criterion/criterion.h>
#include <string.h>

static const char xlog[] = "w\0\0\0\x16\xb3\x74\xd8\x48\0\0\0\x16\xb3\x74\xd9\0\0\3\3\xb3\x1b\xbe\1\xbbpayload";
static const char keepalive[] = "k\0\0\0\x16\xb3\x74\xd8\x48\0\3\3\xb3\x1b\xbe\1\xbb\1";

Test(copydata, reads_xlog_data)
{
    struct pj_copydata data;
    struct pj_error error;
    cr_assert_eq(pj_copydata_parse(xlog, sizeof xlog - 1, &data, &error), PJ_OK);
    cr_assert_eq(data.kind, PJ_COPYDATA_XLOG);
    cr_assert_eq(data.start, UINT64_C(0x16B374D848));
    cr_assert_eq(data.sent_us, INT64_C(0x000303b31bbe01bb));
    cr_assert_eq(data.length, 7);
    cr_assert_eq(memcmp(data.payload, "payload", 7), 0);
}

Test(copydata, reads_keepalives)
{
    struct pj_copydata data;
    struct pj_error error;
    cr_assert_eq(pj_copydata_parse(keepalive, sizeof keepalive - 1, &data, &error), PJ_OK);
    cr_assert_eq(data.kind, PJ_COPYDATA_KEEPALIVE);
    cr_assert_eq(data.start, UINT64_C(0x16B374D848));
    cr_assert_eq(data.sent_us, INT64_C(0x000303b31bbe01bb));
    cr_assert(data.reply_wanted);
    char quiet[sizeof keepalive];
    memcpy(quiet, keepalive, sizeof quiet);
    quiet[17] = 0;
    cr_assert_eq(pj_copydata_parse(quiet, sizeof quiet - 1, &data, &error), PJ_OK);
    cr_assert_not(data.reply_wanted);
}

Test(copydata, refuses_what_is_too_short_or_unknown)
{
    struct pj_copydata data;
    struct pj_error error;
    for (size_t length = 0; length < 25; length++)
        cr_assert_eq(pj_copydata_parse(xlog, length, &data, &error), PJ_EDATA, "%zu bytes", length);
    cr_assert_eq(pj_copydata_parse(xlog, 25, &data, &error), PJ_OK);
    cr_assert_eq(data.length, 0);
    for (size_t length = 0; length < 18; length++)
        cr_assert_eq(pj_copydata_parse(keepalive, length, &data, &error), PJ_EDATA, "%zu bytes", length);
    cr_assert_eq(pj_copydata_parse("x23456789012345678901234567890", 30, &data, &error), PJ_EDATA);
    cr_assert_not_null(strstr(error.message, "0x78"));
}

Test(copydata, status_says_written_flushed_and_applied)
{
    char status[PJ_STATUS_BYTES];
    /* 2000-01-01 00:00:01 UTC in microseconds since 1970 */
    pj_copydata_status(status, UINT64_C(0x16B374D848), UINT64_C(0x1), INT64_C(946684801000000), true);
    static const char expected[] =
        "r\0\0\0\x16\xb3\x74\xd8\x48\0\0\0\0\0\0\0\1\0\0\0\0\0\0\0\1\0\0\0\0\0\x0f\x42\x40\1";
    cr_assert_eq(sizeof expected - 1, PJ_STATUS_BYTES);
    cr_assert_eq(memcmp(status, expected, PJ_STATUS_BYTES), 0);
    pj_copydata_status(status, 1, 1, 0, false);
    cr_assert_eq(status[33], 0);
}
