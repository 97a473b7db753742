/* See quote.h. */
#include "pg/quote.h"

#include <string.h>

void pj_quote_identifier(struct pj_buf *sql, const char *name)
{
    pj_buf_put(sql, "\"", 1);
    for (; *name; name++) {
        if (*name == '"')
            pj_buf_put(sql, "\"", 1);
        pj_buf_put(sql, name, 1);
    }
    pj_buf_put(sql, "\"", 1);
}

void pj_quote_literal(struct pj_buf *sql, const char *text)
{
    pj_buf_puts(sql, strchr(text, '\\') ? " E'" : "'");
    for (; *text; text++) {
        if (*text == '\'' || *text == '\\')
            pj_buf_put(sql, text, 1);
        pj_buf_put(sql, text, 1);
    }
    pj_buf_put(sql, "'", 1);
}

bool pj_name_is_long(const char *name)
{
    int length = 0;
    bool quoted = false;
    for (const char *at = name; *at && length <= PJ_NAME_BYTES; at++) {
        if (*at == '.' && !quoted) {
            length = 0;
        } else if (*at == '"' && (quoted ? at[1] != '"' : length == 0)) {
            quoted = !quoted;
        } else {
            at += quoted && *at == '"'; /* a doubled quote is one */
            length++;
        }
    }
    return length > PJ_NAME_BYTES;
}
