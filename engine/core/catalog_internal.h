/* Between the files of the catalog. */
#ifndef PJ_CORE_CATALOG_INTERNAL_H
#define PJ_CORE_CATALOG_INTERNAL_H

#include "core/catalog.h"

/* Advisory locks are keyed by two ints: "pgjp" in ASCII, and what it is for. */
enum { PJ_CATALOG_LOCK = 0x70676a70, PJ_CATALOG_LOCK_DAEMON = 1, PJ_CATALOG_LOCK_INSTALL = 2 };

/* The checkpoint's row. `suffix`: what follows in its SELECT, "" or "FOR UPDATE". */
int pj_catalog_read_row(struct pj_session *read, const char *suffix, struct pj_checkpoint *checkpoint,
                        struct pj_error *error);

#endif
