/*
 * See build_internal.h: swapping a table that other projections are chained on (core/chain.h).
 *
 * Before the fill: whether those downstream could live with the new table. Their SQL, which names the table that
 * serves, is held against the one beside: its text with the one name in the place of the other, run for no rows.
 *
 * In the swap's transaction: what they have is made of the former table. Which of their rows that concerns nobody
 * knows, so they are paused with "everything" noted, and whoever has swapped resumes them right afterwards, which
 * compares and mends; what that touches reaches those further down. Interrupted in between they are found by their
 * reason (PJ_CATCHES_UP).
 */
#include "core/build_internal.h"

#include "base/mem.h"
#include "core/projection_sql.h"
#include "core/roster.h"

#include <string.h>

/* The next one downstream of the projection that serves, each once; those that are built beside have no table to
 * speak of yet. */
static const struct pj_chained *next_chained(const struct pj_projection *serving, int *i)
{
    for (; serving && *i < serving->nchained; ++*i) {
        const struct pj_projection *downstream = serving->chained[*i].downstream;
        bool again = strcmp(downstream->name, downstream->module->name) != 0;
        for (int j = 0; j < *i && !again; j++)
            again = serving->chained[j].downstream == downstream;
        if (!again)
            return &serving->chained[(*i)++];
    }
    return NULL;
}

/* ---------------------------------------------------------------------------------------------------- would it fit? */

static int columns_of(struct pj_session *work, const char *relation, PGresult **columns, struct pj_error *error)
{
    char *sql = pj_sprintf("SELECT * FROM %s AS pj_shape LIMIT 0", relation);
    int code = pj_session_query(work, columns, sql, 0, NULL, error);
    pj_free(sql);
    return code;
}

static int compare_columns(const struct pj_projection *downstream, const PGresult *wanted, const PGresult *found,
                           struct pj_error *error)
{
    for (int i = 0; i < PQnfields(wanted); i++) {
        char *quoted = pj_sprintf("\"%s\"", PQfname(wanted, i));
        int column = PQfnumber(found, quoted);
        pj_free(quoted);
        if (column < 0 || PQftype(found, column) != PQftype(wanted, i))
            return pj_error_set(error, PJ_ECONFIG, "column %.60s of %s would get another type", PQfname(wanted, i),
                                downstream->target_sql);
    }
    return PJ_OK;
}

/* Whether its definition, over the new table, has the columns that its table has. */
static int check_definition(struct pj_session *work, const struct pj_projection *downstream, const char *definition,
                            struct pj_error *error)
{
    char *relation = pj_sprintf("(\n%s\n)", definition);
    PGresult *wanted = NULL, *found = NULL;
    int code = columns_of(work, relation, &wanted, error);
    if (code == PJ_OK)
        code = columns_of(work, downstream->target_sql, &found, error);
    if (code == PJ_OK)
        code = compare_columns(downstream, wanted, found, error);
    PQclear(wanted);
    PQclear(found);
    pj_free(relation);
    return code;
}

static int key_column(const struct pj_projection *projection, const char *name)
{
    for (int i = 0; i < projection->nkey; i++)
        if (strcmp(projection->module->key[i], name) == 0)
            return i;
    return -1;
}

/* What the new table tells of touched rows must be in its key, and of the kind that the downstream's key has. */
static int check_keys(const struct pj_projection *serving, const struct pj_projection *next,
                      const struct pj_projection *downstream, struct pj_error *error)
{
    for (int i = 0; i < serving->nchained; i++) {
        const struct pj_chained *chained = &serving->chained[i];
        for (int k = 0; chained->downstream == downstream && k < chained->width; k++) {
            const char *name = serving->module->key[serving->touched[chained->columns[k]]];
            int column = key_column(next, name);
            if (column < 0)
                return pj_error_set(error, PJ_ECONFIG, "column %.60s would not be in the key any more", name);
            if (next->key_kinds[column] != downstream->key_kinds[k])
                return pj_error_set(error, PJ_ECONFIG, "column %.60s would be of type %s, and its key is %s", name,
                                    next->key_types[column], downstream->key_types[k]);
        }
    }
    return PJ_OK;
}

static int check_one(struct pj_build *build, struct pj_session *work, const struct pj_projection *serving,
                     struct pj_projection *downstream, struct pj_error *error)
{
    enum pj_roster_row row;
    int code = pj_roster_row(work, downstream, &row, error);
    if (code != PJ_OK || row != PJ_ROW_SAME) /* it is yet to be built, or was removed */
        return code;
    if (!downstream->key_kinds)
        code = pj_projection_describe_target(work, downstream, error);
    if (code == PJ_OK)
        code = check_keys(serving, build->next, downstream, error);
    if (code == PJ_OK) {
        char *sql = pj_sql_instead(downstream->definition_sql, serving->target_sql, build->next->target_sql);
        code = check_definition(work, downstream, sql, error);
        pj_free(sql);
    }
    if (code == PJ_OK || error->retryable || code == PJ_ESTOPPED)
        return code;
    error->code = PJ_ECONFIG;
    pj_error_wrap(error, "projection %s reads its table, and could not read the new one", downstream->name);
    return pj_error_hint(error,
                         "remove %s, let the new one be built, then add a version of %s that fits: "
                         "pgprojector module remove %s",
                         downstream->name, downstream->name, downstream->name);
}

/* The table has its key when it is filled; merges need it (ON CONFLICT). */
static int check_merges(struct pj_build *build, struct pj_session *work, struct pj_error *error)
{
    const char *const *key = build->next->module->key;
    struct pj_buf sql = {0};
    pj_buf_printf(&sql, "SAVEPOINT pgprojector_key; ALTER TABLE %s ADD PRIMARY KEY (", build->next->target_sql);
    for (int i = 0; i < build->next->nkey; i++) {
        pj_buf_puts(&sql, i ? ", " : "");
        pj_quote_identifier(&sql, key[i]);
    }
    pj_buf_puts(&sql, ")");
    int code = build->from_kept ? PJ_OK : pj_session_exec(work, pj_buf_text(&sql), error);
    if (code == PJ_OK)
        code = pj_projection_check_merges(work, build->next, error);
    if (code == PJ_OK && !build->from_kept)
        code = pj_session_exec(work, "ROLLBACK TO SAVEPOINT pgprojector_key; RELEASE SAVEPOINT pgprojector_key", error);
    pj_buf_free(&sql);
    return code;
}

int pj_build_check_chained(struct pj_build *build, struct pj_session *work, struct pj_error *error)
{
    const struct pj_projection *serving = pj_setup_projection(build->setup, build->name);
    const struct pj_chained *chained;
    if (!serving || !serving->nchained)
        return PJ_OK;
    int code = pj_projection_describe_target(work, build->next, error);
    if (code == PJ_OK)
        code = check_merges(build, work, error);
    for (int i = 0; code == PJ_OK && (chained = next_chained(serving, &i));)
        code = check_one(build, work, serving, chained->downstream, error);
    return code;
}

/* ------------------------------------------------------------------------------------------------------ catching up */

static int pause_one(struct pj_session *work, const char *name, const char *upstream, struct pj_error *error)
{
    static const char pause_sql[] =
        "UPDATE pgprojector.projection SET state = 'paused', since = pg_catalog.clock_timestamp(), "
        "reason = '" PJ_CATCHES_UP "the table of ' || $2::pg_catalog.text || ', which it reads, was replaced' "
        "WHERE name = $1 AND state IN ('live', 'failing')";
    static const char note_sql[] =
        "INSERT INTO pgprojector.dirty_key (projection) SELECT name FROM pgprojector.projection "
        "WHERE name IN ($1, $1 || '" PJ_NEXT_NAME "') AND state IN ('paused', 'building')";
    const char *params[] = {name, upstream};
    int code = pj_build_run(work, pause_sql, 2, params, error);
    return code == PJ_OK ? pj_build_run(work, note_sql, 1, params, error) : code;
}

int pj_build_pause_chained(const struct pj_build *build, struct pj_error *error)
{
    const struct pj_projection *serving = pj_setup_projection(build->setup, build->name);
    const struct pj_chained *chained;
    int code = PJ_OK;
    for (int i = 0; code == PJ_OK && (chained = next_chained(serving, &i));)
        code = pause_one(build->mend->work, chained->downstream->name, build->name, error);
    return code;
}

int pj_build_catching_up(struct pj_session *session, PGresult **names, struct pj_error *error)
{
    return pj_session_query(session, names,
                            "SELECT name FROM pgprojector.projection WHERE state = 'paused' "
                            "AND pg_catalog.starts_with(reason, '" PJ_CATCHES_UP "') ORDER BY name",
                            0, NULL, error);
}
