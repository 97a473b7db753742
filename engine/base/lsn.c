/* See lsn.h. */
#include "base/lsn.h"

#include <ctype.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

static bool parse_half(const char **text, uint32_t *half)
{
    if (!isxdigit((unsigned char)**text))
        return false;
    char *end;
    unsigned long value = strtoul(*text, &end, 16);
    if (end - *text > 8)
        return false;
    *text = end;
    *half = (uint32_t)value;
    return true;
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
