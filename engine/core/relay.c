/* See relay.h. In doubt it does not fit: then the stream is opened anew, with all its checks. */
#include "core/relay.h"

#include <string.h>

static bool same_column(const struct pj_table_column *a, const struct pj_table_column *b)
{
    return strcmp(a->name, b->name) == 0 && a->number == b->number && a->type == b->type &&
           a->type_oid == b->type_oid && strcmp(a->type_sql, b->type_sql) == 0 && a->toastable == b->toastable;
}

static bool same_columns(const struct pj_table *a, const struct pj_table *b)
{
    if (a->ncolumns != b->ncolumns)
        return false;
    for (int i = 0; i < a->ncolumns; i++)
        if (!same_column(&a->columns[i], &b->columns[i]))
            return false;
    return true;
}

static bool same_list(const int *a, int acount, const int *b, int bcount)
{
    return acount == bcount && memcmp(a, b, (size_t)acount * sizeof *a) == 0;
}

/* A partition that has come or gone is a matter for the checks before a stream is opened. */
static bool same_leaves(const struct pj_table *a, const struct pj_table *b)
{
    if (a->nleaves != b->nleaves)
        return false;
    for (int i = 0; i < a->nleaves; i++) {
        int j = 0;
        while (j < b->nleaves && b->leaves[j].oid != a->leaves[i].oid)
            j++;
        if (j == b->nleaves)
            return false;
    }
    return true;
}

static bool same_table(const struct pj_table *a, const struct pj_table *b)
{
    return strcmp(a->schema, b->schema) == 0 && strcmp(a->name, b->name) == 0 && a->oid == b->oid &&
           a->partitioned == b->partitioned && a->joining == b->joining && a->identity_full == b->identity_full &&
           same_columns(a, b) && same_list(a->key, a->nkey, b->key, b->nkey) &&
           same_list(a->identity, a->nidentity, b->identity, b->nidentity) && same_leaves(a, b);
}

static int find(const struct pj_setup *setup, const struct pj_table *table)
{
    for (int i = 0; i < setup->ntables; i++)
        if (same_table(&setup->tables[i], table))
            return i;
    return -1;
}

bool pj_relay_fits(struct pj_relay *relay, const struct pj_setup *setup)
{
    int count = setup->ntables;
    bool fits = count == relay->setup->ntables;
    int *from = pj_alloc((size_t)(count + 1) * sizeof *from);
    for (int i = 0; fits && i < count; i++) {
        from[i] = find(relay->setup, &setup->tables[i]);
        fits = from[i] >= 0;
    }
    if (fits)
        pj_batch_rehome(relay->collecting, setup->tables, from);
    if (fits && relay->again)
        pj_batch_rehome(relay->again, setup->tables, from);
    pj_free(from);
    return fits;
}

void pj_relay_free(struct pj_relay *relay)
{
    if (!relay)
        return;
    PQfinish(relay->stream);
    pj_intake_learn(&relay->intake, NULL, NULL);
    pj_batch_free(relay->collecting);
    pj_batch_free(relay->again);
    pj_free(relay);
}
