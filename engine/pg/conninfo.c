/* See conninfo.h. What libpq finds wrong by itself later, when it is to connect, is told by session_open.c. */
#include "pg/conninfo.h"

#include "base/buf.h"
#include "base/mem.h"

#include <libpq-fe.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

/* Behind the scheme of a URI; NULL where it is none. */
static const char *uri_body(const char *url)
{
    static const char *const schemes[] = {"postgresql://", "postgres://"};
    for (size_t i = 0; i < sizeof schemes / sizeof *schemes; i++)
        if (strncmp(url, schemes[i], strlen(schemes[i])) == 0)
            return url + strlen(schemes[i]);
    return NULL;
}

/* The first "@" before any "/" ends the password for libpq. There is one more, behind it or behind the "/", where the
 * password has one of these unescaped. */
static bool password_unescaped(const char *url)
{
    const char *body = uri_body(url);
    if (!body)
        return false;
    const char *rest = body + strcspn(body, "@/");
    return *rest && memchr(rest + 1, '@', strcspn(rest + 1, *rest == '@' ? "/?" : "?"));
}

static bool is_port(const char *value)
{
    return value[strspn(value, "0123456789,")] == '\0';
}

char *pj_conninfo_redacted(const char *url)
{
    PQconninfoOption *options = password_unescaped(url) ? NULL : PQconninfoParse(url, NULL);
    struct pj_buf text = {0};
    for (PQconninfoOption *option = options; option && option->keyword; option++)
        if (option->val && !strchr(option->dispchar, '*') &&
            (strcmp(option->keyword, "port") != 0 || is_port(option->val)))
            pj_buf_printf(&text, "%s%s=%s", text.length ? " " : "", option->keyword, option->val);
    PQconninfoFree(options);
    return pj_buf_take(&text);
}

const char *pj_conninfo_fault(const char *url, const char **remedy)
{
    char *complaint = NULL;
    if (password_unescaped(url)) {
        *remedy = "within user and password write @ as %40, / as %2F, : as %3A";
        return "has an @ too many";
    }
    PQconninfoOption *parsed = PQconninfoParse(url, &complaint);
    bool understood = parsed != NULL;
    PQconninfoFree(parsed);
    PQfreemem(complaint); /* it may quote the string, and with it a password */
    *remedy = "give it as postgresql://user@host:5432/database or as host=… dbname=… user=…";
    return understood ? NULL : "is not a connection string that libpq understands";
}

char *pj_conninfo_options(const char *url, const char *pinned)
{
    PQconninfoOption *parsed = PQconninfoParse(url, NULL);
    const char *given = NULL;
    for (PQconninfoOption *option = parsed; option && option->keyword; option++)
        if (strcmp(option->keyword, "options") == 0)
            given = option->val;
    if (!given)
        given = getenv("PGOPTIONS");
    char *options = given && *given ? pj_sprintf("%s %s", given, pinned) : pj_strdup(pinned);
    PQconninfoFree(parsed);
    return options;
}
