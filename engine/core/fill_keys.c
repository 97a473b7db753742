/*
 * Filling a table whose definition fails for some key (a division by zero in one row of millions, say): by chunks of
 * routing keys instead of at once, each under a savepoint, halving what fails until the guilty keys stand alone. These are
 * parked as dead letters, as the stream would park them, and all the others' rows are there.
 *
 * The keys come from the mirrors' columns that carry them. Where a source has none, nobody knows whether these are all:
 * then the table is filled at once or not at all.
 */
#include "core/fill_keys.h"

#include "base/mem.h"
#include "core/mend.h"
#include "core/projection_sql.h"

#include <stdlib.h>

enum { PAGE = 5000 };

struct filling {
    struct pj_session *read;
    const struct pj_projection *projection;
    char *insert_sql; /* $1: array of routing keys */
    int64_t rows, parked;
};

bool pj_fill_keys_can(const struct pj_projection *projection, const struct pj_error *fault)
{
    bool keyed = pj_mend_is_key_fault(fault) && !projection->halt_on_error;
    for (int i = 0; keyed && i < projection->nsources; i++)
        keyed = projection->module->sources[i].key != NULL;
    return keyed;
}

/* Each once, as text, in the key's order. */
static char *keys_sql(const struct pj_projection *projection)
{
    struct pj_buf sql = {0};
    pj_buf_puts(&sql, "DECLARE pgprojector_fill NO SCROLL CURSOR FOR SELECT pj_u.k::pg_catalog.text FROM (");
    for (int i = 0; i < projection->nsources; i++) {
        const struct pj_projection_source *source = &projection->sources[i];
        pj_buf_puts(&sql, i ? " UNION SELECT pj_s." : "SELECT pj_s.");
        pj_quote_identifier(&sql, pj_projection_routing_column(projection, i));
        pj_buf_printf(&sql, "::%s AS k FROM %s AS pj_s", projection->key_types[0],
                      source->upstream ? source->upstream->target_sql : source->table->mirror_sql);
    }
    pj_buf_puts(&sql, ") AS pj_u WHERE pj_u.k IS NOT NULL ORDER BY pj_u.k");
    return pj_buf_take(&sql);
}

static char *insert_sql(const struct pj_projection *projection)
{
    struct pj_buf sql = {0};
    pj_buf_printf(&sql, "INSERT INTO %s SELECT * FROM (\n%s\n) AS pj_f ORDER BY ", projection->target_sql,
                  projection->wanted_sql);
    for (int i = 0; i < projection->nkey; i++) {
        pj_buf_puts(&sql, i ? ", " : "");
        pj_quote_identifier(&sql, projection->module->key[i]);
    }
    return pj_buf_take(&sql);
}

/* ---------------------------------------------------------------------------------------------------------- chunks */

static int insert(struct filling *filling, const PGresult *keys, int first, int count, struct pj_error *error)
{
    char *array;
    PGresult *result;
    int code = pj_session_exec(filling->read, "SAVEPOINT pgprojector_fill", error);
    if (code != PJ_OK)
        return code;
    pj_mend_arrays(keys, first, count, 1, &array);
    const char *params[] = {array};
    code = pj_session_query(filling->read, &result, filling->insert_sql, 1, params, error);
    if (code == PJ_OK)
        filling->rows += strtoll(PQcmdTuples(result), NULL, 10);
    PQclear(result);
    pj_free(array);
    return code == PJ_OK ? pj_session_exec(filling->read, "RELEASE SAVEPOINT pgprojector_fill", error) : code;
}

static int park(struct filling *filling, const char *key, const struct pj_error *fault, struct pj_error *error)
{
    if (filling->parked++ >= PJ_PARK_AT_MOST) {
        *error = *fault;
        return pj_error_wrap(error, "more than %d keys cannot be written", PJ_PARK_AT_MOST);
    }
    return pj_mend_enter_failure(filling->read, filling->projection->name, key, fault, error);
}

static int fill_chunk(struct filling *filling, const PGresult *keys, int first, int count, struct pj_error *error)
{
    int code = insert(filling, keys, first, count, error);
    if (code == PJ_OK || !pj_mend_is_key_fault(error))
        return code;
    struct pj_error fault = *error;
    code = pj_session_exec(filling->read, "ROLLBACK TO SAVEPOINT pgprojector_fill; RELEASE SAVEPOINT pgprojector_fill",
                           error);
    if (code == PJ_OK && count == 1)
        return park(filling, PQgetvalue(keys, first, 0), &fault, error);
    if (code == PJ_OK)
        code = fill_chunk(filling, keys, first, count / 2, error);
    return code == PJ_OK ? fill_chunk(filling, keys, first + count / 2, count - count / 2, error) : code;
}

static int fill(struct filling *filling, struct pj_error *error)
{
    char *sql = keys_sql(filling->projection), *page = pj_sprintf("FETCH %d FROM pgprojector_fill", PAGE);
    int code = pj_session_exec(filling->read, sql, error);
    for (bool more = code == PJ_OK; code == PJ_OK && more;) {
        PGresult *keys;
        code = pj_session_query(filling->read, &keys, page, 0, NULL, error);
        more = code == PJ_OK && PQntuples(keys) > 0;
        if (more)
            code = fill_chunk(filling, keys, 0, PQntuples(keys), error);
        PQclear(keys);
    }
    pj_free(page);
    pj_free(sql);
    return code == PJ_OK ? pj_session_exec(filling->read, "CLOSE pgprojector_fill", error) : code;
}

int pj_fill_keys(struct pj_session *read, struct pj_projection *projection, int64_t *rows, int64_t *parked,
                 struct pj_error *error)
{
    struct filling filling = {.read = read, .projection = projection};
    int code = projection->wanted_sql ? PJ_OK : pj_projection_build_wanted(projection, error);
    if (code == PJ_OK) {
        filling.insert_sql = insert_sql(projection);
        code = fill(&filling, error);
    }
    pj_free(filling.insert_sql);
    *rows = filling.rows;
    *parked = filling.parked;
    return code == PJ_OK ? PJ_OK : pj_error_wrap(error, "filling key by key");
}
