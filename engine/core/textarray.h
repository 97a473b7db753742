/* Lists as PostgreSQL array literals, so that a list is one parameter: {"a","b \"c\""}. */
#ifndef PJ_CORE_TEXTARRAY_H
#define PJ_CORE_TEXTARRAY_H

#include "base/buf.h"

#include <stdint.h>

void pj_textarray_begin(struct pj_buf *array);
void pj_textarray_add(struct pj_buf *array, const char *element); /* NULL is an SQL NULL */
void pj_textarray_add_oid(struct pj_buf *array, uint32_t oid);
void pj_textarray_end(struct pj_buf *array);

#endif
