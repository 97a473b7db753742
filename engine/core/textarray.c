/* See textarray.h. Every element is quoted, so nothing in it can be taken for syntax. */
#include "core/textarray.h"

void pj_textarray_begin(struct pj_buf *array)
{
    pj_buf_puts(array, "{");
}

static void separate(struct pj_buf *array)
{
    if (array->data[array->length - 1] != '{')
        pj_buf_puts(array, ",");
}

void pj_textarray_add(struct pj_buf *array, const char *element)
{
    separate(array);
    if (!element) {
        pj_buf_puts(array, "NULL");
        return;
    }
    pj_buf_puts(array, "\"");
    for (; *element; element++) {
        if (*element == '"' || *element == '\\')
            pj_buf_puts(array, "\\");
        pj_buf_put(array, element, 1);
    }
    pj_buf_puts(array, "\"");
}

void pj_textarray_add_oid(struct pj_buf *array, uint32_t oid)
{
    separate(array);
    pj_buf_printf(array, "%u", oid);
}

void pj_textarray_end(struct pj_buf *array)
{
    pj_buf_puts(array, "}");
}
