/* See touched.h. */
#include "core/touched.h"

/* A key's column, never NULL. */
static struct pj_value value_of(const PGresult *rows, int row, int column)
{
    return (struct pj_value){(const unsigned char *)PQgetvalue(rows, row, column), PQgetlength(rows, row, column)};
}

static void mark(const struct pj_chained *chained, const PGresult *rows)
{
    struct pj_value key[PJ_MAX_SOURCE_COLUMNS];
    for (int row = 0; row < PQntuples(rows); row++) {
        for (int i = 0; i < chained->width; i++)
            key[i] = value_of(rows, row, chained->columns[i]);
        pj_deltas_mark(chained->downstream->deltas, key, chained->width);
    }
}

void pj_touched_mark(const struct pj_projection *upstream, const PGresult *rows, size_t keys_at_most)
{
    if (!PQntuples(rows))
        return;
    for (int i = 0; i < upstream->nchained; i++) {
        const struct pj_chained *chained = &upstream->chained[i];
        struct pj_deltas *deltas = chained->downstream->deltas;
        bool keys = chained->width && PQntuples(rows) <= PJ_TOUCHED_AT_MOST && !pj_deltas_all_dirty(deltas);
        if (keys)
            mark(chained, rows);
        if (!keys || pj_deltas_key_count(deltas) > keys_at_most)
            pj_deltas_keys_to_all(deltas);
    }
}

void pj_touched_mark_all(const struct pj_projection *upstream)
{
    for (int i = 0; i < upstream->nchained; i++)
        pj_deltas_keys_to_all(upstream->chained[i].downstream->deltas);
}
