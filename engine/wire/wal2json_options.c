/*
 * The options of START_REPLICATION for wal2json. As little per row as possible is asked for: positions stand in the
 * protocol's own headers, types are known from the catalog. (With them the server takes half as long again.)
 *
 * add-tables is a list of schema.table, parted by commas and white space; a backslash takes the next character's
 * meaning away, "*" behind the period means all tables. Names therefore get a backslash before every ASCII character
 * that is neither letter, digit nor underscore. Bytes beyond ASCII mean nothing to wal2json and must stay together.
 *
 * Logical messages concern nobody here, and may be of any size: the server would turn each into JSON, six bytes for one
 * at worst, and ends where that takes more than 1 GB. There is no option to have none of them, but one to have those of
 * a list of prefixes: ours is given, under which next to nothing comes. A build that does not know it refuses all options.
 */
#include "wire/wal2json.h"

#include <string.h>

#define INVALID_PARAMETER "22023"

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

void pj_wal2json_options(struct pj_buf *sql, const char *const (*add_tables)[2], int count, bool filter_messages)
{
    pj_buf_puts(sql, "(\"format-version\" '2', \"include-xids\" 'true', \"include-timestamp\" 'true', "
                     "\"include-types\" 'false', \"include-lsn\" 'false', \"include-transaction\" 'true'");
    if (filter_messages)
        pj_buf_puts(sql, ", \"" PJ_WAL2JSON_FILTER "\" '" PJ_WAL2JSON_PREFIX "'");
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

/* The name stands in the message, whatever language the rest is in. */
bool pj_wal2json_knows_no_filter(const struct pj_error *error)
{
    return strcmp(error->sqlstate, INVALID_PARAMETER) == 0 && strstr(error->message, PJ_WAL2JSON_FILTER);
}
