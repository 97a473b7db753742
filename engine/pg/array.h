/* One-dimensional arrays in PostgreSQL's binary format, as parameters of set-based statements. */
#ifndef PJ_PG_ARRAY_H
#define PJ_PG_ARRAY_H

#include "base/buf.h"
#include "pgprojector.h"

/* Begins an array of elements of a kind (PJ_ANY: text), emptying the buffer. */
void pj_array_begin(struct pj_buf *array, enum pj_type type);

/* Adds an element; a length below 0 is NULL. */
static inline void pj_array_put(struct pj_buf *array, struct pj_value value)
{
    if (value.length < 0) {
        pj_buf_put_int32(array, -1);
        return;
    }
    pj_buf_reserve(array, 4 + (size_t)value.length);
    pj_buf_put_int32(array, value.length);
    if (value.length)
        pj_buf_put(array, value.data, (size_t)value.length);
}

/* Completes the array: `count` elements were put. */
void pj_array_end(struct pj_buf *array, size_t count);

#endif
