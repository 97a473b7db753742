/*
 * Rows combined by key: the memory behind a delta stream, and, with nothing but key columns, a set of keys.
 */
#ifndef PJ_HOST_ROWSET_H
#define PJ_HOST_ROWSET_H

#include "base/error.h"
#include "base/mem.h"
#include "pgprojector.h"

#include <stdbool.h>

struct pj_rowset_slot;

struct pj_rowset {
    const struct pj_stream_column *columns; /* borrowed; NULL: a set of keys */
    int width, nkey;                        /* columns in all; the first `nkey` are the key */
    size_t count;                           /* rows */
    struct pj_value *sorted;                /* by pj_rowset_sort: nsorted rows of `width` values */
    size_t nsorted;
    /* private */
    struct pj_value *rows;
    size_t capacity, sorted_capacity, nslots;
    struct pj_rowset_slot *slots;
};

void pj_rowset_init(struct pj_rowset *set, const struct pj_stream_column *columns, int width, int nkey);
void pj_rowset_free(struct pj_rowset *set);
void pj_rowset_reset(struct pj_rowset *set);

/* Adds a row, or combines it with the one of the same key. Bytes are copied into the arena, which must live until the
 * next reset. PJ_EDATA where a sum leaves bigint's range. */
int pj_rowset_add(struct pj_rowset *set, struct pj_arena *arena, const struct pj_value *row, struct pj_error *error);

bool pj_rowset_has(const struct pj_rowset *set, const struct pj_value *key);

/* Fills `sorted` with the rows in the order of their key's bytes, except those whose first value is in one of the two
 * sets (of one column; NULL: none). */
void pj_rowset_sort(struct pj_rowset *set, const struct pj_rowset *without, const struct pj_rowset *nor);

/* Leaves `sorted` empty. */
void pj_rowset_sort_none(struct pj_rowset *set);

/* What its rows take, without the arena's share; 0 after a reset. */
size_t pj_rowset_bytes(const struct pj_rowset *set);

#endif
