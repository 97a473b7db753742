/* See buf.h. */
#include "base/buf.h"

#include "base/mem.h"

#include <stdio.h>

void pj_buf_free(struct pj_buf *buf)
{
    pj_free(buf->data);
    *buf = (struct pj_buf){0};
}

void pj_buf_reserve(struct pj_buf *buf, size_t more)
{
    size_t wanted = buf->length + more + 1;
    if (wanted <= buf->capacity)
        return;
    size_t capacity = buf->capacity ? buf->capacity : 256;
    while (capacity < wanted)
        capacity *= 2;
    buf->data = pj_realloc(buf->data, capacity);
    buf->capacity = capacity;
}

void pj_buf_puts(struct pj_buf *buf, const char *text)
{
    pj_buf_put(buf, text, strlen(text));
}

void pj_buf_printf(struct pj_buf *buf, const char *format, ...)
{
    va_list args, again;
    va_start(args, format);
    va_copy(again, args);
    int length = vsnprintf(NULL, 0, format, args);
    va_end(args);
    pj_buf_reserve(buf, (size_t)length);
    vsnprintf(buf->data + buf->length, (size_t)length + 1, format, again);
    va_end(again);
    buf->length += (size_t)length;
}

const char *pj_buf_text(const struct pj_buf *buf)
{
    return buf->data ? buf->data : "";
}

char *pj_buf_take(struct pj_buf *buf)
{
    char *text = buf->data ? buf->data : pj_strdup("");
    *buf = (struct pj_buf){0};
    return text;
}
