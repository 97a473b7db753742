/*
 * See array.h. The format (array_recv in PostgreSQL's arrayfuncs.c): number of dimensions, a flag for NULLs (the server
 * looks at the elements), the element type's oid, then length and lower bound of the dimension, then the elements.
 */
#include "pg/array.h"

enum { HEADER = 20 };

static int32_t element_oid(enum pj_type type)
{
    switch (type) {
    case PJ_BOOL:
        return 16;
    case PJ_BYTEA:
        return 17;
    case PJ_INT8:
        return 20;
    case PJ_INT2:
        return 21;
    case PJ_INT4:
        return 23;
    case PJ_DATE:
        return 1082;
    case PJ_TIMESTAMP:
        return 1114;
    case PJ_TIMESTAMPTZ:
        return 1184;
    case PJ_UUID:
        return 2950;
    case PJ_TEXT:
    case PJ_ANY:
        break;
    }
    return 25;
}

void pj_array_begin(struct pj_buf *array, enum pj_type type)
{
    pj_buf_clear(array);
    pj_buf_put_int32(array, 1);
    pj_buf_put_int32(array, 1);
    pj_buf_put_int32(array, element_oid(type));
    pj_buf_put_int32(array, 0);
    pj_buf_put_int32(array, 1);
}

void pj_array_end(struct pj_buf *array, size_t count)
{
    uint32_t dimensions = __builtin_bswap32(count ? 1u : 0u), length = __builtin_bswap32((uint32_t)count);
    memcpy(array->data, &dimensions, sizeof dimensions);
    memcpy(array->data + 12, &length, sizeof length);
    if (!count)
        array->length = 12; /* an empty array has no dimension at all */
}
