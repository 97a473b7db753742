/* What went wrong, told from a result or a connection. */
#include "pg/session.h"

#include <stdio.h>
#include <string.h>

const char *pj_side_name(enum pj_side side)
{
    return side == PJ_WRITE ? "write database" : "read database";
}

/* A protocol violation that is a mere ERROR leaves the connection as it is: the server could not read a value that it was
 * sent, and will not be able to the next time. (What breaks the connection is FATAL, a pooler's word, too.) */
static bool is_unreadable(const char *state, const char *severity)
{
    return strcmp(state, "08P01") == 0 && severity && strcmp(severity, "ERROR") == 0;
}

static bool sqlstate_retryable(const char *state)
{
    static const char *const classes[] = {"08", "40", "53", "55", "57"};
    for (size_t i = 0; i < sizeof classes / sizeof *classes; i++)
        if (strncmp(state, classes[i], 2) == 0)
            return true;
    return strcmp(state, "25006") == 0; /* read-only: a standby about to be promoted, or a full disk */
}

static bool disk_is_full(const char *state)
{
    return strcmp(state, "53100") == 0;
}

/*
 * The server could not do to its files what it wanted to: nothing that was asked of it is at fault, so waiting can help. A
 * quota that is used up (XX000: no code of its own) and a file system that has become read-only (42501, as if a privilege
 * were missing) are told by the parts of the server that deal with files. The last two, of the write database, put aside
 * what is decoded; their XX000 may be anything. Not a block that cannot be read or written (58030): that stays so, and is
 * one table's, which is no reason to keep the others waiting.
 */
static bool is_storage_fault(const char *state, const char *source)
{
    static const char *const sources[] = {"md.c",   "fd.c",        "buffile.c",      "copydir.c",
                                          "slru.c", "snapbuild.c", "reorderbuffer.c"};
    size_t count = sizeof sources / sizeof *sources;
    if (disk_is_full(state))
        return true;
    if (strcmp(state, "XX000") == 0)
        count -= 2;
    else if (strcmp(state, "42501") != 0)
        return false;
    for (size_t i = 0; source && i < count; i++)
        if (strcmp(source, sources[i]) == 0)
            return true;
    return false;
}

/* The server's own words name a file; here is whose it is, and what to do. */
static void explain_storage_fault(struct pj_error *error, enum pj_side side)
{
    const char *server = pj_side_name(side);
    bool full = disk_is_full(error->sqlstate);
    char said[sizeof error->message];
    snprintf(said, sizeof said, "%s", error->message + strlen(server) + strlen(": "));
    snprintf(error->message, sizeof error->message, "%s: %s: %.1900s", server,
             full ? "its disk is full" : "it cannot write its files", said);
    pj_error_hint(
        error,
        "%s the %s's server%s. Nothing is lost: what was under way is undone; the daemon tries again by itself, "
        "a command is to be started again",
        full ? "make room on the disk of" : "see to the file system of", server,
        full ? "" : " (a quota that is used up, one that has become read-only)");
}

/* Whoever knows better which privilege it takes says so instead. */
static void explain_privilege(struct pj_error *error, enum pj_side side)
{
    if (side == PJ_READ)
        pj_error_hint(error,
                      "connect as the role that owns schema pgprojector and the tables that pgprojector made, or grant "
                      "what is missing to the role of READ_DATABASE_URL");
    else
        pj_error_hint(error, "grant what is missing to the role of WRITE_DATABASE_URL");
}

/* libpq's messages end with a newline and may have several lines; the first says what happened. */
static int first_line(const char *text)
{
    while (strncmp(text, "ERROR:  ", 8) == 0 || strncmp(text, "FATAL:  ", 8) == 0 || strncmp(text, "PANIC:  ", 8) == 0)
        text += 8;
    return (int)strcspn(text, "\n");
}

int pj_pg_error(struct pj_error *error, PGconn *conn, const PGresult *result, enum pj_side side)
{
    const char *state = result ? PQresultErrorField(result, PG_DIAG_SQLSTATE) : NULL;
    const char *primary = result ? PQresultErrorField(result, PG_DIAG_MESSAGE_PRIMARY) : NULL;
    const char *detail = result ? PQresultErrorField(result, PG_DIAG_MESSAGE_DETAIL) : NULL;
    bool lost = !conn || PQstatus(conn) == CONNECTION_BAD;
    if (state && primary) {
        /* a DETAIL may quote row values; it is shown only for classes that speak of the server or the schema */
        bool harmless = strncmp(state, "22", 2) != 0 && strncmp(state, "23", 2) != 0 && strncmp(state, "P0", 2) != 0;
        pj_error_set(error, lost ? PJ_EUNREACHABLE : PJ_EFAIL, "%s: %s%s%s (SQLSTATE %s)", pj_side_name(side), primary,
                     detail && harmless ? "; " : "", detail && harmless ? detail : "", state);
        snprintf(error->sqlstate, sizeof error->sqlstate, "%s", state);
        error->server = pj_side_name(side);
        error->storage = is_storage_fault(state, PQresultErrorField(result, PG_DIAG_SOURCE_FILE));
        error->retryable = lost || error->storage ||
                           (sqlstate_retryable(state) &&
                            !is_unreadable(state, PQresultErrorField(result, PG_DIAG_SEVERITY_NONLOCALIZED)));
        const char *hint = PQresultErrorField(result, PG_DIAG_MESSAGE_HINT);
        if (hint)
            pj_error_hint(error, "%s", hint);
        else if (strcmp(state, "42501") == 0)
            explain_privilege(error, side);
        if (error->storage)
            explain_storage_fault(error, side);
        return error->code;
    }
    const char *text = conn ? PQerrorMessage(conn) : "";
    if (!*text ||
        *text == '\n') { /* neither the server nor libpq has a word: a connection that dies under a pipeline */
        text = "connection lost";
        lost = true;
    }
    pj_error_set(error, lost ? PJ_EUNREACHABLE : PJ_EFAIL, "%s: %.*s", pj_side_name(side), first_line(text), text);
    error->retryable = lost;
    return error->code;
}
