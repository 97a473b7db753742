#include "base/error.h"
#include "base/text.h"

#include <criterion/criterion.h>
#include <string.h>

Test(error, reads_from_the_outside_in)
{
    struct pj_error error;
    cr_assert_eq(pj_error_set(&error, PJ_EDATA, "column %d", 7), PJ_EDATA);
    cr_assert_eq(pj_error_wrap(&error, "table %s", "t"), PJ_EDATA);
    cr_assert_eq(pj_error_wrap(&error, "batch"), PJ_EDATA);
    cr_assert_str_eq(error.message, "batch: table t: column 7");
}

Test(error, set_forgets_what_was_before)
{
    struct pj_error error;
    pj_error_set(&error, PJ_EFAIL, "first");
    pj_error_hint(&error, "do that");
    strcpy(error.sqlstate, "57P01");
    error.retryable = true;
    pj_error_set(&error, PJ_EGAP, "second");
    cr_assert_eq(error.code, PJ_EGAP);
    cr_assert_str_empty(error.hint);
    cr_assert_str_empty(error.sqlstate);
    cr_assert_not(error.retryable);
}

Test(error, may_quote_itself)
{
    struct pj_error error;
    pj_error_set(&error, PJ_EFAIL, "inner");
    pj_error_set(&error, PJ_EGAP, "outer (%s)", error.message);
    cr_assert_str_eq(error.message, "outer (inner)");
}

Test(error, marks_what_did_not_fit)
{
    struct pj_error error;
    char text[sizeof error.message + 10];
    memset(text, 'x', sizeof text - 1);
    text[sizeof text - 1] = '\0';
    pj_error_set(&error, PJ_EFAIL, "%s", text);
    cr_assert_eq(strlen(error.message), sizeof error.message - 1);
    cr_assert_str_eq(error.message + sizeof error.message - 4, "\xe2\x80\xa6");
    pj_error_wrap(&error, "context");
    cr_assert_eq(strncmp(error.message, "context: xxx", 12), 0);
    cr_assert_str_eq(error.message + sizeof error.message - 4, "\xe2\x80\xa6");
}

Test(error, keeps_code_and_hint_when_wrapped)
{
    struct pj_error error;
    pj_error_set(&error, PJ_ESCHEMA, "no such column");
    cr_assert_eq(pj_error_hint(&error, "run %s", "doctor"), PJ_ESCHEMA);
    pj_error_wrap(&error, "start");
    cr_assert_str_eq(error.hint, "run doctor");
    cr_assert_eq(error.code, PJ_ESCHEMA);
}

static struct pj_error error_of(int code, const char *sqlstate, const char *message)
{
    struct pj_error error;
    pj_error_set(&error, code, "%s", message);
    memcpy(error.sqlstate, sqlstate, strlen(sqlstate));
    return error;
}

Test(error, is_of_one_cause_by_its_sqlstate_or_its_message)
{
    struct pj_error full = error_of(PJ_EFAIL, "53100", "could not extend file 1"), none;
    struct pj_error fuller = error_of(PJ_EFAIL, "53100", "could not extend file 2");
    struct pj_error memory = error_of(PJ_EFAIL, "53200", "out of memory");
    struct pj_error down = error_of(PJ_EUNREACHABLE, "", "connection refused");
    struct pj_error gone = error_of(PJ_EUNREACHABLE, "", "no such host");
    pj_error_clear(&none);
    cr_assert(pj_error_same_cause(&full, &fuller));
    cr_assert_not(pj_error_same_cause(&full, &memory));
    cr_assert(pj_error_same_cause(&down, &down));
    cr_assert_not(pj_error_same_cause(&down, &gone));
    cr_assert_not(pj_error_same_cause(&none, &down));
    full.server = fuller.server = "read database";
    cr_assert(pj_error_same_cause(&full, &fuller));
    fuller.server = "write database";
    cr_assert_not(pj_error_same_cause(&full, &fuller), "another server's disk is another disk");
}

Test(error, codes_have_the_exit_codes_of_the_contract)
{
    cr_assert_eq(pj_code_exit(PJ_OK), 0);
    cr_assert_eq(pj_code_exit(PJ_ECONFIG), 2);
    cr_assert_eq(pj_code_exit(PJ_EUNREACHABLE), 3);
    cr_assert_eq(pj_code_exit(PJ_EUNHEALTHY), 4);
    cr_assert_eq(pj_code_exit(PJ_EDIFFERENT), 5);
    cr_assert_eq(pj_code_exit(PJ_EDEADLETTER), 6);
    cr_assert_eq(pj_code_exit(PJ_EGAP), 1);
    cr_assert_eq(pj_code_exit(-12345), 1);
}

Test(error, codes_have_names)
{
    cr_assert_str_eq(pj_code_name(PJ_EGAP), "PJ_EGAP");
    cr_assert_str_eq(pj_code_name(99), "PJ_E?");
}

/* An incomplete character would make JSON of it impossible, and a server refuse it. */
Test(error, is_cut_between_characters)
{
    for (size_t skew = 0; skew < 4; skew++) {
        struct pj_error error;
        char text[sizeof error.message + 8] = "";
        memset(text, 'x', skew);
        while (strlen(text) + 4 < sizeof text)
            strcat(text, "\xf0\x9f\x98\x80");
        pj_error_set(&error, PJ_EFAIL, "%s", text);
        size_t length = strlen(error.message);
        cr_assert_str_eq(error.message + length - 3, "\xe2\x80\xa6");
        cr_assert_eq((length - 3 - skew) % 4, 0, "skew %zu", skew);
        cr_assert_gt(length + 8, sizeof error.message);
    }
}

Test(error, clips_and_ends_texts)
{
    char whole[] = "a\xc3\xa9", parts[] = "a\xc3\xa9\xe2\x82", none[] = "", lead[] = "\xf0";
    cr_assert_eq(pj_text_clip("a\xc3\xa9", 3), 3);
    cr_assert_eq(pj_text_clip("a\xc3\xa9", 2), 1);
    cr_assert_eq(pj_text_clip("abc", 9), 3);
    cr_assert_eq(pj_text_clip("abc", 0), 0);
    pj_text_end(whole, 3);
    cr_assert_str_eq(whole, "a\xc3\xa9");
    pj_text_end(parts, 5);
    cr_assert_str_eq(parts, "a\xc3\xa9");
    pj_text_end(none, 0);
    cr_assert_str_empty(none);
    pj_text_end(lead, 1);
    cr_assert_str_empty(lead);
}

/* A host's or file's name, a message in the server's own encoding. */
Test(error, is_utf8_whatever_it_quotes)
{
    struct pj_error error;
    pj_error_set(&error, PJ_EFAIL, "socket \"/tmp/n\xff/\xc3\" gr\xc3\xbc\xc3\x9f");
    cr_assert_str_eq(error.message, "socket \"/tmp/n?/?\" gr\xc3\xbc\xc3\x9f");
    pj_error_wrap(&error, "Gr\xfc\xdf");
    pj_error_hint(&error, "\xe2\x82");
    cr_assert_str_eq(error.message, "Gr??: socket \"/tmp/n?/?\" gr\xc3\xbc\xc3\x9f");
    cr_assert_str_eq(error.hint, "??");
}
