/* See stall.h. */
#include "core/stall.h"

#include "base/text.h"
#include "sql.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static void say(struct pj_stall *stall, const char *what, const char *hint)
{
    size_t length = strlen(stall->message);
    snprintf(stall->message + length, sizeof stall->message - length, "%.*s",
             (int)pj_text_clip(what, sizeof stall->message - length - 1), what);
    snprintf(stall->hint, sizeof stall->hint, "%s", hint);
}

void pj_stall_describe(struct pj_stall *stall, const char *session, const char *pid, const char *kind,
                       const char *event, const char *holders)
{
    static const char by_itself[] = "; it then goes on by itself";
    char what[512], hint[256];
    bool waits = *kind != '\0';
    snprintf(stall->message, sizeof stall->message, "%.64s (pid %.16s on the read database's server) has %s for %.0f s",
             session, pid, waits ? "waited" : "been at one statement", stall->seconds);
    if (!waits) {
        say(stall, "", "a large transaction, or a statement that is slow: it does not wait for anybody");
    } else if (strcmp(kind, "Lock") == 0) {
        snprintf(what, sizeof what, " for a lock that %.300s has", *holders ? holders : "somebody");
        snprintf(hint, sizeof hint, "let that transaction end, or end it by pg_terminate_backend(pid)%s", by_itself);
        say(stall, what, hint);
    } else if (strcmp(event, "SyncRep") == 0) {
        snprintf(hint, sizeof hint, "start that standby, or take it out of synchronous_standby_names%s", by_itself);
        say(stall, " for a synchronous standby of the read database", hint);
    } else {
        snprintf(what, sizeof what, " for that server (%.64s: %.64s)", kind, event);
        snprintf(hint, sizeof hint, "look at that server, its disk and its log%s", by_itself);
        say(stall, what, hint);
    }
}

int pj_stall_look(struct pj_session *read, double from_s, struct pj_stall *stall, struct pj_error *error)
{
    char from[32];
    snprintf(from, sizeof from, "%.3f", from_s);
    const char *params[] = {from};
    PGresult *result;
    memset(stall, 0, sizeof *stall);
    int code = pj_session_query(read, &result, pj_sql_stall, 1, params, error);
    if (code == PJ_OK && PQntuples(result) == 1) {
        stall->seconds = strtod(PQgetvalue(result, 0, 2), NULL);
        pj_stall_describe(stall, PQgetvalue(result, 0, 1), PQgetvalue(result, 0, 0), PQgetvalue(result, 0, 3),
                          PQgetvalue(result, 0, 4), PQgetvalue(result, 0, 5));
    }
    PQclear(result);
    return code == PJ_OK ? PJ_OK : pj_error_wrap(error, "look what the daemon waits for");
}
