/* What the daemon says of itself. */
#include "core/state.h"

#include <criterion/criterion.h>
#include <pthread.h>
#include <stdatomic.h>
#include <string.h>

static void count(void *context)
{
    ++*(atomic_int *)context;
}

static void expect_message(const char *given, size_t size, const char *expected)
{
    struct pj_state *state = pj_state_new();
    char message[4096];
    pj_state_set(state, PJ_WAITING, given, NULL);
    pj_state_get(state, message, size, NULL, 0);
    cr_assert_str_eq(message, expected);
    pj_state_free(state);
}

Test(state, every_phase_has_its_word)
{
    cr_assert_str_eq(pj_phase_word(PJ_STARTING), "starting");
    cr_assert_str_eq(pj_phase_word(PJ_STANDBY), "standby");
    cr_assert_str_eq(pj_phase_word(PJ_SNAPSHOT), "snapshot");
    cr_assert_str_eq(pj_phase_word(PJ_STREAMING), "streaming");
    cr_assert_str_eq(pj_phase_word(PJ_WAITING), "waiting");
    cr_assert_str_eq(pj_phase_word(PJ_HALTED), "halted");
    cr_assert_str_eq(pj_phase_word(PJ_STOPPED), "stopped");
}

Test(state, gives_back_what_was_set)
{
    struct pj_state *state = pj_state_new();
    char message[100], hint[100];
    cr_assert_eq(pj_state_get(state, message, sizeof message, hint, sizeof hint), PJ_STARTING);
    cr_assert_str_empty(message);
    cr_assert_str_empty(hint);
    pj_state_set(state, PJ_HALTED, "the slot is gone", "resync");
    cr_assert_eq(pj_state_get(state, message, sizeof message, hint, sizeof hint), PJ_HALTED);
    cr_assert_str_eq(message, "the slot is gone");
    cr_assert_str_eq(hint, "resync");
    pj_state_set(state, PJ_STREAMING, NULL, NULL);
    cr_assert_eq(pj_state_get(state, message, sizeof message, hint, sizeof hint), PJ_STREAMING);
    cr_assert_str_empty(message);
    cr_assert_str_empty(hint);
    pj_state_free(state);
}

Test(state, tells_of_changes_only)
{
    struct pj_state *state = pj_state_new();
    atomic_int changes = 0;
    pj_state_on_change(state, count, &changes);
    pj_state_set(state, PJ_STARTING, "", NULL);
    cr_assert_eq(changes, 0);
    pj_state_set(state, PJ_STREAMING, "", "");
    cr_assert_eq(changes, 1);
    pj_state_set(state, PJ_STREAMING, "a", "");
    pj_state_set(state, PJ_STREAMING, "a", "b");
    cr_assert_eq(changes, 3);
    pj_state_set(state, PJ_STREAMING, "a", "b");
    cr_assert_eq(changes, 3);
    pj_state_on_change(state, NULL, NULL);
    pj_state_set(state, PJ_HALTED, "a", "b");
    cr_assert_eq(changes, 3);
    pj_state_free(state);
}

Test(state, a_message_is_cut_at_a_character)
{
    expect_message("gr\xc3\xbc\xc3\x9f", 100, "gr\xc3\xbc\xc3\x9f");
    expect_message("gr\xc3\xbc\xc3\x9f", 6, "gr\xc3\xbc");
    expect_message("gr\xc3\xbc\xc3\x9f", 4, "gr");
    expect_message("abc\xf0\x9f\x98\x80", 7, "abc");
    expect_message("abc\xf0\x9f\x98\x80", 8, "abc\xf0\x9f\x98\x80");
    expect_message("abc", 1, "");
}

Test(state, what_is_no_utf8_does_not_stay)
{
    expect_message("a\xffz", 100, "a?z");
    expect_message("a\xc3", 100, "a?");
    expect_message("\xc0\xaf", 100, "??");                         /* overlong */
    expect_message("\xe0\x80\xaf", 100, "???");                    /* overlong */
    expect_message("\xed\xa0\x80", 100, "???");                    /* a surrogate */
    expect_message("\xf4\x90\x80\x80", 100, "????");               /* beyond U+10FFFF */
    expect_message("\xe2\x80\xe2\x80\xa6", 100, "??\xe2\x80\xa6"); /* half a character before an ellipsis */
}

Test(state, a_long_message_is_cut)
{
    char longest[5000], message[5000];
    memset(longest, 'x', sizeof longest - 1);
    longest[sizeof longest - 1] = '\0';
    struct pj_state *state = pj_state_new();
    pj_state_set(state, PJ_HALTED, longest, longest);
    pj_state_get(state, message, sizeof message, NULL, 0);
    cr_assert_gt(strlen(message), 1000);
    cr_assert_lt(strlen(message), 4000);
    pj_state_free(state);
}

/* ------------------------------------------------------------------------------------------------- two threads */

enum { ROUNDS = 100000 };

static void *write_figures(void *context)
{
    for (uint64_t i = 1; i <= ROUNDS; i++) {
        struct pj_figures figures = {.transactions = i, .buffered_bytes = i};
        pj_state_set_figures(context, &figures);
    }
    return NULL;
}

Test(state, figures_are_seen_whole, .timeout = 60)
{
    struct pj_state *state = pj_state_new();
    pthread_t thread;
    cr_assert_eq(pthread_create(&thread, NULL, write_figures, state), 0);
    struct pj_figures figures = {0};
    while (figures.transactions < ROUNDS) {
        uint64_t before = figures.transactions;
        pj_state_get_figures(state, &figures);
        cr_assert_eq(figures.transactions, figures.buffered_bytes);
        cr_assert_geq(figures.transactions, before);
    }
    pthread_join(thread, NULL);
    pj_state_free(state);
}
