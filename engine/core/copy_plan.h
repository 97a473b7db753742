/* Which pieces a copy consists of: a table, a leaf, or a range of a large one's blocks. */
#ifndef PJ_CORE_COPY_PLAN_H
#define PJ_CORE_COPY_PLAN_H

#include "base/buf.h"
#include "core/copy.h"

struct pj_copy_piece {
    const struct pj_table *table; /* whose mirror receives it */
    char *relation;               /* quoted and qualified: the table or leaf it is read from */
    int64_t first, end;           /* blocks [first, end); end < 0: to wherever the relation ends */
};

struct pj_copy_plan {
    struct pj_copy_piece *pieces; /* the large relations' first */
    int count;
    int64_t rows_expected; /* by the planner's statistics; 0: unknown */
};

int pj_copy_plan_make(struct pj_session *write, const struct pj_table *tables, int count, struct pj_copy_plan *plan,
                      struct pj_error *error);
void pj_copy_plan_free(struct pj_copy_plan *plan);

/* Cuts a relation of `blocks` blocks into pieces of at least `least` blocks. Pure. */
void pj_copy_plan_cut(struct pj_copy_plan *plan, const struct pj_table *table, const char *relation, int64_t blocks,
                      int64_t least);

/* The two statements that copy a piece. */
void pj_copy_piece_out(const struct pj_copy_piece *piece, struct pj_buf *sql);
void pj_copy_piece_in(const struct pj_copy_piece *piece, struct pj_buf *sql);

#endif
