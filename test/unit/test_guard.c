/* What a guard hands over to the process that takes its place, and what it says. How it comes to that:
 * test_bad_modules.py. */
#include "host/guard.h"

#include <criterion/criterion.h>
#include <stdlib.h>
#include <string.h>

static struct pj_guilt guilt;

static void says(const char *handed_over, const char *projection, const char *what)
{
    cr_assert(pj_guard_read(handed_over, &guilt), "%s", handed_over);
    cr_expect_str_eq(guilt.projection, projection);
    cr_expect_str_eq(guilt.what, what);
}

Test(guard, names_the_projection_the_fault_and_the_table)
{
    says("signal 11 summary 0a1b messages", "summary",
         "its apply() crashed with signal 11 (Segmentation fault) on a change of messages");
    says("timeout 10000 summary 0a1b messages", "summary",
         "its apply() did not return within 10 s on a change of messages");
    says("timeout 250 summary.next - a b.\"c d\"", "summary.next",
         "its apply() did not return within 0.25 s on a change of a b.\"c d\"");
    says("exit 0 summary 0a1b messages", "summary", "its apply() ended the process on a change of messages");
}

Test(guard, a_text_of_another_form_is_nobodys_guilt)
{
    static const char *const texts[] = {"", "signal", "signal 11", "signal x y z", "signal 11 summary"};
    for (size_t i = 0; i < sizeof texts / sizeof *texts; i++)
        cr_expect_not(pj_guard_read(texts[i], &guilt), "%s", texts[i]);
}

Test(guard, guilt_is_told_once)
{
    cr_expect_not(pj_guard_guilty(&guilt));
    setenv("PGPROJECTOR_GUILTY", "signal 6 summary 0a1b messages", 1);
    cr_expect(pj_guard_guilty(&guilt));
    cr_expect_str_eq(guilt.mark, "0a1b");
    cr_expect_not(pj_guard_guilty(&guilt));
}

/* No guard: nothing happens. */
Test(guard, calls_may_be_marked_without_a_guard)
{
    pj_guard_about("summary", "", "messages");
    pj_guard_enter();
    pj_guard_leave();
}
