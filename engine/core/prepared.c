/*
 * See prepared.h. A set goes in one message: a round trip for each statement would be the most of a reconnect. The server keeps the
 * message with each of its statements (pg_prepared_statements); its first line is a comment with the set's digest, by
 * which it is found again. So it is the session that says what it has, whatever became of it meanwhile.
 */
#include "core/prepared.h"

#include "base/mem.h"

#include <stdio.h>

enum { LINE = 32 };

struct pj_prepared_set {
    char *what, *script;
    char line[LINE];
    struct pj_error *refusal; /* NULL: it must be had */
};

uint64_t pj_prepared_digest(uint64_t digest, const char *text)
{
    for (; *text; text++)
        digest = (digest ^ (unsigned char)*text) * 0x100000001b3;
    return digest;
}

uint64_t pj_prepared_add(struct pj_prepared *prepared, const char *what, uint64_t digest, struct pj_buf *script)
{
    prepared->sets = pj_realloc(prepared->sets, (size_t)(prepared->count + 1) * sizeof *prepared->sets);
    struct pj_prepared_set *set = &prepared->sets[prepared->count++];
    *set = (struct pj_prepared_set){.what = pj_strdup(what), .script = pj_buf_take(script)};
    digest = pj_prepared_digest(digest, set->script);
    snprintf(set->line, sizeof set->line, "-- set %016llx", (unsigned long long)digest);
    return digest;
}

void pj_prepared_let_refuse(struct pj_prepared *prepared, struct pj_error *refusal)
{
    prepared->sets[prepared->count - 1].refusal = refusal;
}

bool pj_prepared_is_refusal(const struct pj_error *error)
{
    return error->code != PJ_OK && *error->sqlstate && !error->retryable;
}

void pj_prepared_free(struct pj_prepared *prepared)
{
    for (int i = 0; i < prepared->count; i++) {
        pj_free(prepared->sets[i].what);
        pj_free(prepared->sets[i].script);
    }
    pj_free(prepared->sets);
    *prepared = (struct pj_prepared){0};
}

enum { NAME, FIRST_LINE };

static bool has(const PGresult *there, const struct pj_prepared_set *set)
{
    for (int row = 0; row < PQntuples(there); row++)
        if (strcmp(PQgetvalue(there, row, FIRST_LINE), set->line) == 0)
            return true;
    return false;
}

static bool is_wanted(const struct pj_prepared *prepared, const char *line)
{
    for (int i = 0; i < prepared->count; i++)
        if (strcmp(prepared->sets[i].line, line) == 0)
            return true;
    return false;
}

/* What is of none of the sets; with `instead`, what is of that one. */
static int deallocate(const struct pj_prepared *prepared, const struct pj_prepared_set *instead,
                      struct pj_session *session, const PGresult *there, struct pj_error *error)
{
    struct pj_buf sql = {0};
    for (int row = 0; row < PQntuples(there); row++) {
        const char *line = PQgetvalue(there, row, FIRST_LINE);
        if (instead ? strcmp(line, instead->line) == 0 : !is_wanted(prepared, line)) {
            pj_buf_puts(&sql, "DEALLOCATE ");
            pj_quote_identifier(&sql, PQgetvalue(there, row, NAME));
            pj_buf_puts(&sql, ";\n");
        }
    }
    int code = sql.length ? pj_session_exec(session, sql.data, error) : PJ_OK;
    pj_buf_free(&sql);
    return code;
}

static int look(struct pj_session *session, PGresult **there, struct pj_error *error)
{
    return pj_session_query(session, there,
                            "SELECT name, pg_catalog.split_part(statement, pg_catalog.chr(10), 1) "
                            "FROM pg_catalog.pg_prepared_statements WHERE from_sql",
                            0, NULL, error);
}

/* Half a set must not be taken for one. */
static int drop_half(const struct pj_prepared *prepared, const struct pj_prepared_set *set, struct pj_session *session,
                     struct pj_error *error)
{
    PGresult *there;
    int code = look(session, &there, error);
    if (code == PJ_OK)
        code = deallocate(prepared, set, session, there, error);
    PQclear(there);
    return code;
}

static int prepare(const struct pj_prepared *prepared, const struct pj_prepared_set *set, struct pj_session *session,
                   struct pj_error *error)
{
    char *sql = pj_sprintf("%s\n%s", set->line, set->script);
    int code = pj_session_exec(session, sql, error);
    pj_free(sql);
    if (code == PJ_OK)
        return PJ_OK;
    pj_error_wrap(error, "prepare");
    pj_error_wrap(error, "%s", set->what);
    if (set->refusal && pj_prepared_is_refusal(error)) {
        *set->refusal = *error;
        return drop_half(prepared, set, session, error);
    }
    struct pj_error ignored;
    if (PQstatus(pj_session_conn(session)) == CONNECTION_OK)
        pj_prepared_run(&(struct pj_prepared){0}, session, &ignored);
    return error->code;
}

int pj_prepared_run(const struct pj_prepared *prepared, struct pj_session *session, struct pj_error *error)
{
    PGresult *there;
    int code = look(session, &there, error);
    if (code == PJ_OK)
        code = deallocate(prepared, NULL, session, there, error);
    for (int i = 0; code == PJ_OK && i < prepared->count; i++)
        if (!has(there, &prepared->sets[i]))
            code = prepare(prepared, &prepared->sets[i], session, error);
    PQclear(there);
    return code;
}
