#include "core/given.h"

void pj_given_put(struct pj_buf *sql, enum pj_given given, int parameter, const char *type)
{
    if (given == PJ_ONE)
        pj_buf_printf(sql, "$%d::%s", parameter, type);
    else
        pj_buf_printf(sql, "pg_catalog.unnest($%d::%s[])", parameter, type);
}

void pj_given_put_ordinal(struct pj_buf *sql, enum pj_given given, int parameter, const char *type)
{
    if (given == PJ_ONE)
        pj_buf_puts(sql, "1::pg_catalog.int8");
    else
        pj_buf_printf(sql, "pg_catalog.generate_subscripts($%d::%s[], 1)::pg_catalog.int8", parameter, type);
}
