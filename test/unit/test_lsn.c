#include "base/lsn.h"

#include <criterion/criterion.h>

Test(lsn, reads_and_writes_the_servers_notation)
{
    static const struct {
        const char *text;
        pj_lsn lsn;
    } cases[] = {{"0/0", 0},
                 {"0/1", 1},
                 {"16/B374D848", UINT64_C(0x16B374D848)},
                 {"1/0", UINT64_C(0x100000000)},
                 {"FFFFFFFF/FFFFFFFF", UINT64_MAX}};
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        pj_lsn lsn = 42;
        cr_assert(pj_lsn_parse(cases[i].text, &lsn), "%s", cases[i].text);
        cr_assert_eq(lsn, cases[i].lsn, "%s", cases[i].text);
        cr_assert_str_eq(PJ_LSN(cases[i].lsn), cases[i].text);
    }
}

Test(lsn, reads_lower_case_and_leading_zeros)
{
    pj_lsn lsn;
    cr_assert(pj_lsn_parse("0a/00000b", &lsn));
    cr_assert_eq(lsn, UINT64_C(0xa0000000b));
}

Test(lsn, refuses_what_is_none)
{
    static const char *const texts[] = {"",      "/",    "0/",   "/0",   "0",   "0/0 ",  " 0/0",        "0x1/0",
                                        "0/0x1", "-1/0", "0/-1", "0/+1", "G/0", "0/0/0", "123456789/0", "0/123456789"};
    for (size_t i = 0; i < sizeof texts / sizeof *texts; i++) {
        pj_lsn lsn;
        cr_assert_not(pj_lsn_parse(texts[i], &lsn), "\"%s\"", texts[i]);
    }
}
