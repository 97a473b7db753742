/* Texts that must be cut: in UTF-8, and so that what is left is still text, which JSON and the servers insist on. */
#ifndef PJ_BASE_TEXT_H
#define PJ_BASE_TEXT_H

#include <stddef.h>
#include <string.h>

/* The length in bytes of as many whole characters of `text` as fit into `most` bytes. */
static inline size_t pj_text_clip(const char *text, size_t most)
{
    size_t length = strnlen(text, most + 1);
    if (length <= most)
        return length;
    for (length = most; length && ((unsigned char)text[length] & 0xc0) == 0x80;)
        length--;
    return length;
}

/* Ends a text that was cut after `length` bytes, which are all there are of it, before a character that is not whole. */
static inline void pj_text_end(char *text, size_t length)
{
    size_t start = length;
    while (start && length - start < 4 && ((unsigned char)text[start - 1] & 0xc0) == 0x80)
        start--;
    unsigned char lead = start ? (unsigned char)text[start - 1] : 0;
    size_t whole = lead >= 0xf0 ? 4 : lead >= 0xe0 ? 3 : lead >= 0xc0 ? 2 : 1;
    text[lead >= 0xc0 && length - start + 1 < whole ? start - 1 : length] = '\0';
}

#endif
