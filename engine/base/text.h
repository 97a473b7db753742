/* Texts in UTF-8, which JSON and the servers insist on: those that must be cut, so that what is left is still text, and those
 * that come from where another encoding may be in use (the system, a server that does not know yet whom it speaks to). */
#ifndef PJ_BASE_TEXT_H
#define PJ_BASE_TEXT_H

#include <stdbool.h>
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

static inline bool pj_text_continues(const char *at)
{
    return ((unsigned char)*at & 0xc0) == 0x80;
}

/* The length of the well-formed sequence of two to four bytes at `at`, which is before `end`, or 0: none that is overlong, a
 * surrogate or beyond U+10FFFF. */
static inline size_t pj_text_character(const char *at, const char *end)
{
    unsigned char first = (unsigned char)at[0];
    size_t left = (size_t)(end - at);
    if (first >= 0xc2 && first <= 0xdf)
        return left >= 2 && pj_text_continues(at + 1) ? 2 : 0;
    if (left < 3 || !pj_text_continues(at + 1) || !pj_text_continues(at + 2))
        return 0;
    unsigned char second = (unsigned char)at[1];
    if (first >= 0xe0 && first <= 0xef)
        return (first == 0xe0 && second < 0xa0) || (first == 0xed && second > 0x9f) ? 0 : 3;
    if (first < 0xf0 || first > 0xf4 || left < 4 || !pj_text_continues(at + 3))
        return 0;
    return (first == 0xf0 && second < 0x90) || (first == 0xf4 && second > 0x8f) ? 0 : 4;
}

/* Puts "?" in the place of each byte that belongs to no character. */
static inline void pj_text_mend(char *text)
{
    const char *end = text + strlen(text);
    while (text < end) {
        size_t length = (unsigned char)*text < 0x80 ? 1 : pj_text_character(text, end);
        if (!length)
            *text = '?';
        text += length ? length : 1;
    }
}

#endif
