/* A byte buffer that grows. Always followed by a NUL that is not counted, so text in it is a C string. */
#ifndef PJ_BASE_BUF_H
#define PJ_BASE_BUF_H

#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

struct pj_buf {
    char *data;      /* NULL until the first byte; owned */
    size_t length;   /* bytes used */
    size_t capacity; /* bytes allocated */
};

void pj_buf_free(struct pj_buf *buf);                 /* gives the memory back; the buffer may be used anew */
void pj_buf_reserve(struct pj_buf *buf, size_t more); /* room for `more` bytes and the NUL */
void pj_buf_puts(struct pj_buf *buf, const char *text);
void pj_buf_printf(struct pj_buf *buf, const char *format, ...) __attribute__((format(printf, 2, 3)));
const char *pj_buf_text(const struct pj_buf *buf); /* the text, "" where nothing was written; borrowed */
char *pj_buf_take(struct pj_buf *buf);             /* the text, now the caller's (pj_free); the buffer is empty */

static inline void pj_buf_clear(struct pj_buf *buf)
{
    buf->length = 0;
    if (buf->data)
        buf->data[0] = '\0';
}

static inline void pj_buf_put(struct pj_buf *buf, const void *bytes, size_t length)
{
    if (buf->length + length >= buf->capacity)
        pj_buf_reserve(buf, length);
    memcpy(buf->data + buf->length, bytes, length);
    buf->length += length;
    buf->data[buf->length] = '\0';
}

/* Integers in network byte order, as PostgreSQL's binary formats have them. */
static inline void pj_buf_put_int32(struct pj_buf *buf, int32_t value)
{
    uint32_t big = __builtin_bswap32((uint32_t)value);
    pj_buf_put(buf, &big, sizeof big);
}

#endif
