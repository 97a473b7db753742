/*
 * Repair: the keys that a verification found to differ are looked at again, at a second fence, for they may have moved
 * on since; what still differs then is mended. See the head of repair.c.
 */
#ifndef PJ_CORE_REPAIR_H
#define PJ_CORE_REPAIR_H

#include "core/fence.h"
#include "core/setup.h"
#include "core/standing.h"
#include "core/verify.h"

enum { PJ_REPAIR_KEYS = 100000 }; /* suspects kept of each table; more are found by verifying again */

struct pj_repaired {
    int64_t rows;   /* of mirrors, that were missing, extra or changed */
    int64_t keys;   /* of projections, recomputed because they differed */
    int64_t failed; /* projections that could not take all; `fault` says of the last one what became of that, and why */
    char fault[800];
};

struct pj_repair;

/* `mark`: of before the setup was made (pj_keywork_begin_of); it outlives the repair. */
struct pj_repair *pj_repair_new(const struct pj_setup *setup, const struct pj_mark *mark);
void pj_repair_free(struct pj_repair *repair); /* NULL is fine */

/* Notes a difference; for pj_verify_options.differs. */
void pj_repair_note(struct pj_repair *repair, const struct pj_difference *difference);

/*
 * Mends all that was noted, as many keys at a time as fit into half a second, and forgets it. Apply stands still for
 * that each time; longer, up to the fence's limit, where a single key takes longer. *repaired is added to. The options'
 * `lock` is set here. What pj_fence_open says is said here; PJ_ERELOAD where the setup is out of date.
 */
int pj_repair_run(struct pj_repair *repair, const struct pj_fence_options *options, struct pj_repaired *repaired,
                  struct pj_error *error);

#endif
