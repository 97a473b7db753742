/*
 * Placeholders in SQL. One pass over the text with PostgreSQL's own idea of what is code and what is not: '…' and E'…'
 * literals, "…" identifiers, $tag$…$tag$ bodies and both kinds of comments pass through untouched.
 */
#include "host/template.h"

#include "base/mem.h"

#include <string.h>

/* ------------------------------------------------------------------------------------------------ what is quoted */

/* Identifier characters; bytes above 127 belong to UTF-8 letters. */
static bool is_word(char c)
{
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '_' || c == '$' ||
           (unsigned char)c >= 128;
}

/* Behind the closing quote; a doubled quote does not close, nor does one behind a backslash where those count. */
static const char *skip_quoted(const char *at, char quote, bool backslashes)
{
    for (at++; *at; at++) {
        if (backslashes && *at == '\\' && at[1])
            at++;
        else if (*at == quote && at[1] == quote)
            at++;
        else if (*at == quote)
            return at + 1;
    }
    return at;
}

static const char *skip_comment(const char *at)
{
    int depth = 0;
    do {
        if (at[0] == '/' && at[1] == '*') {
            depth++;
            at += 2;
        } else if (at[0] == '*' && at[1] == '/') {
            depth--;
            at += 2;
        } else {
            at++;
        }
    } while (*at && depth > 0);
    return at;
}

/* Behind $tag$…$tag$; `at` itself where it opens none ($1). */
static const char *skip_dollars(const char *at)
{
    const char *tag_end = at + 1;
    if (*tag_end >= '0' && *tag_end <= '9')
        return at;
    while (*tag_end != '$' && is_word(*tag_end))
        tag_end++;
    if (*tag_end != '$')
        return at;
    size_t length = (size_t)(tag_end - at) + 1;
    for (const char *end = tag_end + 1; *end; end++)
        if (strncmp(end, at, length) == 0)
            return end + length;
    return at + strlen(at);
}

/* Behind the literal, quoted identifier or comment that begins at `at`; `at` itself where none does. */
static const char *skip_opaque(const char *text, const char *at)
{
    bool word_before = at > text && is_word(at[-1]);
    if (at[0] == '\'') {
        bool escapes = at > text && (at[-1] == 'E' || at[-1] == 'e') && (at - text < 2 || !is_word(at[-2]));
        return skip_quoted(at, '\'', escapes);
    }
    if (at[0] == '"')
        return skip_quoted(at, '"', false);
    if (at[0] == '-' && at[1] == '-')
        return at + strcspn(at, "\n");
    if (at[0] == '/' && at[1] == '*')
        return skip_comment(at);
    if (at[0] == '$' && !word_before)
        return skip_dollars(at);
    return at;
}

/* -------------------------------------------------------------------------------------------------- placeholders */

enum { ARGUMENTS_MAX = 32 };

struct placeholder {
    char *name; /* owned, as the arguments are */
    char *arguments[ARGUMENTS_MAX];
    int count;
};

static void placeholder_free(struct placeholder *placeholder)
{
    pj_free(placeholder->name);
    for (int i = 0; i < placeholder->count; i++)
        pj_free(placeholder->arguments[i]);
}

static char *trimmed(const char *from, const char *to)
{
    static const char blanks[] = " \t\r\n";
    while (from < to && strchr(blanks, *from))
        from++;
    while (to > from && strchr(blanks, to[-1]))
        to--;
    return pj_strndup(from, (size_t)(to - from));
}

static int malformed(struct pj_error *error, const char *at, const char *what)
{
    return pj_error_set(error, PJ_ECONFIG, "placeholder %.40s…: %s", at, what);
}

/* Reads "(a, f(b, c))" at `at` into the arguments; *end is behind the closing parenthesis. */
static int read_arguments(const char *text, const char *at, struct placeholder *placeholder, const char **end,
                          struct pj_error *error)
{
    const char *from = at + 1;
    int depth = 1;
    for (at++; *at && depth > 0;) {
        const char *behind = skip_opaque(text, at);
        if (behind > at) {
            at = behind;
            continue;
        }
        depth += *at == '(' || *at == '[';
        depth -= *at == ')' || *at == ']';
        if (depth == 0 || (depth == 1 && *at == ',')) {
            if (placeholder->count == ARGUMENTS_MAX)
                return malformed(error, from, "too many arguments");
            placeholder->arguments[placeholder->count++] = trimmed(from, at);
            from = at + 1;
        }
        at++;
    }
    *end = at;
    return depth == 0 ? PJ_OK : malformed(error, from, "a parenthesis is not closed");
}

/* Reads what stands in braces at `at`; *end is behind the closing one. */
static int read_placeholder(const char *text, const char *at, struct placeholder *placeholder, const char **end,
                            struct pj_error *error)
{
    const char *behind = at + 1 + strcspn(at + 1, "(}{");
    placeholder->name = trimmed(at + 1, behind);
    int code = PJ_OK;
    if (*behind == '(')
        code = read_arguments(text, behind, placeholder, &behind, error);
    if (code == PJ_OK)
        behind += strspn(behind, " \t\r\n");
    if (code == PJ_OK && *behind != '}')
        code = malformed(error, at, "the brace is not closed (a brace that is to stay one is doubled)");
    *end = behind + 1;
    return code;
}

static int expand_placeholder(const char *text, const char **at, pj_template_fn expand, void *context,
                              struct pj_buf *sql, struct pj_error *error)
{
    struct placeholder placeholder = {0};
    int code = read_placeholder(text, *at, &placeholder, at, error);
    if (code == PJ_OK)
        code = expand(context, placeholder.name, (const char *const *)placeholder.arguments, placeholder.count, sql,
                      error);
    placeholder_free(&placeholder);
    return code;
}

int pj_template_expand(const char *text, pj_template_fn expand, void *context, struct pj_buf *sql,
                       struct pj_error *error)
{
    pj_error_clear(error);
    int code = PJ_OK;
    for (const char *at = text; code == PJ_OK && *at;) {
        const char *behind = skip_opaque(text, at);
        if (behind > at) {
            pj_buf_put(sql, at, (size_t)(behind - at));
            at = behind;
        } else if ((at[0] == '{' || at[0] == '}') && at[1] == at[0]) {
            pj_buf_put(sql, at, 1);
            at += 2;
        } else if (at[0] == '{') {
            code = expand_placeholder(text, &at, expand, context, sql, error);
        } else {
            pj_buf_put(sql, at++, 1);
        }
    }
    return code;
}
