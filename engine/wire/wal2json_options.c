/*
 * The options of START_REPLICATION for wal2json. As little per row as possible is asked for: positions stand in the
 * protocol's own headers, types are known from the catalog. (With them the server takes half as long again.)
 *
 * add-tables is a list of schema.table, parted by commas and white space; a backslash takes the next character's
 * meaning away, "*" behind the period means all tables. Names therefore get a backslash before every ASCII character
 * that is neither letter, digit nor underscore. Bytes beyond ASCII mean nothing to wal2json and must stay together.
 */
#include "wire/wal2json.h"

static bool needs_backslash(unsigned char c)
{
    return c < 0x80 && c != '_' && !(c >= '0' && c <= '9') && !(c >= 'a' && c <= 'z') && !(c >= 'A' && c <= 'Z');
}

/* One name inside the SQL literal: wal2json's escaping within, SQL's doubled quotes around it. */
static void put_name(struct pj_buf *sql, const char *name)
{
    for (; *name; name++) {
        if (needs_backslash((unsigned char)*name))
            pj_buf_puts(sql, "\\");
        if (*name == '\'')
            pj_buf_puts(sql, "'");
        pj_buf_put(sql, name, 1);
    }
}

void pj_wal2json_options(struct pj_buf *sql, const char *const (*add_tables)[2], int count)
{
    pj_buf_puts(sql, "(\"format-version\" '2', \"include-xids\" 'true', \"include-timestamp\" 'true', "
                     "\"include-types\" 'false', \"include-lsn\" 'false', \"include-transaction\" 'true'");
    for (int i = 0; i < count; i++) {
        pj_buf_puts(sql, i == 0 ? ", \"add-tables\" '" : ",");
        put_name(sql, add_tables[i][0]);
        pj_buf_puts(sql, ".");
        if (add_tables[i][1])
            put_name(sql, add_tables[i][1]);
        else
            pj_buf_puts(sql, "*");
    }
    pj_buf_puts(sql, count > 0 ? "')" : ")");
}
