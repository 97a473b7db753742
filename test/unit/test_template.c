/* Placeholders: what is expanded, what is left alone, what is refused. */
#include "host/template.h"

#include <criterion/criterion.h>

/* Writes "<name|argument|argument>"; does not know "unknown". */
static int mark(void *context, const char *name, const char *const *arguments, int count, struct pj_buf *sql,
                struct pj_error *error)
{
    (void)context;
    if (strcmp(name, "unknown") == 0)
        return pj_error_set(error, PJ_ECONFIG, "{%s}: never heard of", name);
    pj_buf_printf(sql, "<%s", name);
    for (int i = 0; i < count; i++)
        pj_buf_printf(sql, "|%s", arguments[i]);
    pj_buf_puts(sql, ">");
    return PJ_OK;
}

static void expands(const char *text, const char *expected)
{
    struct pj_buf sql = {0};
    struct pj_error error;
    cr_expect_eq(pj_template_expand(text, mark, NULL, &sql, &error), PJ_OK, "%s: %s", text, error.message);
    cr_expect_str_eq(pj_buf_text(&sql), expected);
    pj_buf_free(&sql);
}

static void refuses(const char *text, const char *word)
{
    struct pj_buf sql = {0};
    struct pj_error error;
    cr_expect_eq(pj_template_expand(text, mark, NULL, &sql, &error), PJ_ECONFIG, "%s", text);
    cr_expect_not_null(strstr(error.message, word), "%s", error.message);
    pj_buf_free(&sql);
}

Test(template, expands_names_and_arguments)
{
    expands("SELECT FROM {messages} m", "SELECT FROM <messages> m");
    expands("{option:limit}{a.b}", "<option:limit><a.b>");
    expands("{keys(a, b)}", "<keys|a|b>");
    expands("{ keys ( a ) }", "<keys|a>");
    expands("", "");
}

Test(template, splits_arguments_at_the_top_level_only)
{
    expands("{keys(f(a, b), c)}", "<keys|f(a, b)|c>");
    expands("{keys(x[1, 2], ',)', \"a,)\")}", "<keys|x[1, 2]|',)'|\"a,)\">");
}

Test(template, leaves_literals_identifiers_and_comments_alone)
{
    expands("'{a}' \"{b}\" -- {c}\n{d}", "'{a}' \"{b}\" -- {c}\n<d>");
    expands("/* {a} /* {b} */ {c} */{d}", "/* {a} /* {b} */ {c} */<d>");
    expands("'it''s {a}' E'\\'{b}' {c}", "'it''s {a}' E'\\'{b}' <c>");
    expands("$${a}$$ $x${b}$$ {c}$x$ {d} $1", "$${a}$$ $x${b}$$ {c}$x$ <d> $1");
    expands("'\\' {a}", "'\\' <a>");
}

Test(template, undoubles_braces)
{
    expands("{{a}} {b}", "{a} <b>");
}

Test(template, refuses_what_is_malformed)
{
    refuses("{messages", "not closed");
    refuses("{keys(a, b", "not closed");
    refuses("{keys(a) b}", "not closed");
    refuses("{unknown}", "never heard of");
}
