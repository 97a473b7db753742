/* Comparing: targets with their definitions in one snapshot, mirrors with their sources at one and the same commit. */
#ifndef PJ_CORE_VERIFY_H
#define PJ_CORE_VERIFY_H

#include "base/log.h"
#include "core/fence.h"
#include "core/projection.h"

struct pj_difference {
    const char *kind;          /* "mirror" or "projection" */
    const char *name;          /* "public.messages", "conversation_summary" */
    const char *fault;         /* "missing", "extra", "differs" (as seen from the definition or source) */
    const char *key;           /* a JSON object of the key columns: {"id": "…"} */
    const char *const *values; /* the same as texts, one for each column of the key */
    int nvalues;
};

struct pj_verify_options {
    int sample;     /* about so many rows of each are compared, drawn at random; 0: all */
    int keys_shown; /* differing keys reported a table; all are counted */
    void (*report)(void *context, const struct pj_difference *difference);
    int keys_wanted;                                                        /* of each table so many go to `differs` */
    void (*differs)(void *context, const struct pj_difference *difference); /* may be NULL */
    /* called once for each table when it is done: rows compared, of how many (about; 0: all were) and differences
     * found */
    void (*compared)(void *context, const char *kind, const char *name, int64_t rows, int64_t of, int64_t differences);
    void *context;
};

/*
 * Under two snapshots that show one commit (sessions inside REPEATABLE READ transactions): every mirror against its
 * source, by buckets of the key with checksums computed in both databases, rows fetched only where they disagree.
 * Sets *differences (not added to what it was). The sessions may be used for more within their transactions.
 */
int pj_verify_mirrors(struct pj_session *write, struct pj_session *read, const struct pj_table *tables, int count,
                      const struct pj_verify_options *options, int64_t *differences, struct pj_error *error);

/* A target against its definition, in the read session's snapshot, as text and never by "=". Sets *differences. Rows
 * of dead letters are not counted. */
int pj_verify_projection(struct pj_session *read, const struct pj_projection *projection,
                         const struct pj_verify_options *options, int64_t *differences, struct pj_error *error);

#endif
