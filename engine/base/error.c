/* See error.h. */
#include "base/error.h"

#include "base/text.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

void pj_error_clear(struct pj_error *error)
{
    memset(error, 0, sizeof *error);
}

/* Marks a text that did not fit, so that nobody takes the part for the whole. What is in it, a name of a host or a file, the
 * words of a server, need not be UTF-8, but catalog and JSON take nothing else. */
static void finish(char *text, size_t size, int wanted)
{
    static const char ellipsis[] = "\xe2\x80\xa6";
    if (wanted >= 0 && (size_t)wanted >= size) {
        pj_text_end(text, size - sizeof ellipsis);
        strcat(text, ellipsis);
    }
    pj_text_mend(text);
}

int pj_error_set(struct pj_error *error, int code, const char *format, ...)
{
    char message[sizeof error->message]; /* an argument may be the old message */
    va_list args;
    va_start(args, format);
    int wanted = vsnprintf(message, sizeof message, format, args);
    va_end(args);
    finish(message, sizeof message, wanted);
    pj_error_clear(error);
    error->code = code;
    memcpy(error->message, message, sizeof message);
    return code;
}

int pj_error_wrap(struct pj_error *error, const char *format, ...)
{
    char context[512];
    va_list args;
    va_start(args, format);
    int length = vsnprintf(context, sizeof context, format, args);
    va_end(args);
    finish(context, sizeof context, length);
    char whole[sizeof error->message];
    int wanted = snprintf(whole, sizeof whole, "%s: %s", context, error->message);
    finish(whole, sizeof whole, wanted);
    memcpy(error->message, whole, sizeof whole);
    return error->code;
}

int pj_error_hint(struct pj_error *error, const char *format, ...)
{
    va_list args;
    va_start(args, format);
    int wanted = vsnprintf(error->hint, sizeof error->hint, format, args);
    va_end(args);
    finish(error->hint, sizeof error->hint, wanted);
    return error->code;
}

bool pj_error_same_cause(const struct pj_error *a, const struct pj_error *b)
{
    if (a->code != b->code || strcmp(a->sqlstate, b->sqlstate) != 0)
        return false;
    if (!a->server != !b->server || (a->server && strcmp(a->server, b->server) != 0))
        return false;
    return a->sqlstate[0] || strcmp(a->message, b->message) == 0;
}

int pj_code_exit(int code)
{
#define PJ_CODE_EXIT(name, value, exit_code, text)                                                                     \
    case name:                                                                                                         \
        return exit_code;
    switch (code) {
        PJ_CODES(PJ_CODE_EXIT)
    default:
        return 1;
    }
#undef PJ_CODE_EXIT
}

const char *pj_code_name(int code)
{
#define PJ_CODE_NAME(name, value, exit_code, text)                                                                     \
    case name:                                                                                                         \
        return #name;
    switch (code) {
        PJ_CODES(PJ_CODE_NAME)
    default:
        return "PJ_E?";
    }
#undef PJ_CODE_NAME
}
