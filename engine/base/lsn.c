/* See lsn.h. */
#include "base/lsn.h"

#include <ctype.h>
#include <inttypes.h>
#include <stdio.h>

/* One to eight hexadecimal digits; not strtoul(), which takes "0x1" and signs too. */
static bool parse_half(const char **text, uint32_t *half)
{
    int digits = 0;
    *half = 0;
    for (; isxdigit((unsigned char)**text); (*text)++, digits++) {
        int c = tolower((unsigned char)**text);
        *half = *half << 4 | (uint32_t)(c <= '9' ? c - '0' : c - 'a' + 10);
    }
    return digits >= 1 && digits <= 8;
}

bool pj_lsn_parse(const char *text, pj_lsn *lsn)
{
    uint32_t high, low;
    if (!parse_half(&text, &high) || *text++ != '/' || !parse_half(&text, &low) || *text)
        return false;
    *lsn = (pj_lsn)high << 32 | low;
    return true;
}

const char *pj_lsn_format(pj_lsn lsn, char text[PJ_LSN_TEXT])
{
    snprintf(text, PJ_LSN_TEXT, "%" PRIX32 "/%" PRIX32, (uint32_t)(lsn >> 32), (uint32_t)lsn);
    return text;
}
